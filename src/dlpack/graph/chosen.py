"""Products with matrices that a run chooses from a table, as mixtures of experts have them.

Exports gather each token's matrices, which copies them, and multiply the copies; ChosenMatMul reads them where they
lie.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dlpack.graph.ir import Graph, Node
from dlpack.graph.registry import Builder


@dataclass(frozen=True)
class _Found:
    """A product `x` [S, M, K] times `table` [E, K, N] at `places` [S]; `turned`: the model has the table's matrices on
    the left, transposed, and x is [S, K, 1]."""

    gather: Node
    x: str
    turned: bool


def chosen_products(graph: Graph, packed: Callable[[str], bool]) -> Graph:
    """The graph in which such products read the table; those along open dimensions stay.

    A table that is `packed` is not turned: it would be stored as float32.
    """
    if graph.open or graph.opens:
        return graph
    producers, consumers = graph.producers(), graph.consumers()
    types, constants = dict(graph.types), dict(graph.constants)
    nodes: dict[str, Node] = {}
    turned: dict[str, str] = {}
    for node in graph.nodes:
        nodes[node.name] = node
        found = _found(node, graph, producers, consumers) if node.op == "MatMul" else None
        if found is None or (found.turned and packed(found.gather.inputs[0])):
            continue
        del nodes[node.name], nodes[found.gather.name]
        sources = tuple(dict.fromkeys((*found.gather.sources, *node.sources)))
        b = Builder(replace(graph, constants=constants, types=types), replace(node, sources=sources))
        _multiply(node, found, b, turned)
        nodes.update({n.name: n for n in b.nodes})
        constants.update(b.constants)
        types.update(b.types)
    return replace(graph, nodes=tuple(nodes.values()), types=types, constants=constants)


def _found(
    node: Node, graph: Graph, producers: Mapping[str, Node], consumers: Mapping[str, Sequence[Node]]
) -> _Found | None:
    for side, value in enumerate(node.inputs):
        gather, shape = producers.get(value), graph.types[node.inputs[1 - side]].shape
        alone = len(consumers.get(value, ())) == 1 and value not in graph.outputs
        if gather is None or not alone or not _chooses(gather, graph) or len(shape) != 3:
            continue
        turned = side == 0
        if shape[0] == graph.types[value].shape[0] and (not turned or shape[2] == 1):
            return _Found(gather, node.inputs[1 - side], turned)
    return None


def _chooses(gather: Node, graph: Graph) -> bool:
    """Whether a run chooses matrices of a constant by it, one for each place."""
    if (gather.op, gather.domain) != ("Gather", "") or gather.attrs.get("axis", 0) != 0:
        return False
    (table, places), known = gather.inputs, graph.constants
    of, at = graph.types[table], graph.types[places]
    return table in known and places not in known and of.dtype == "float32" and (len(of.shape), len(at.shape)) == (3, 1)


def _multiply(node: Node, found: _Found, b: Builder, turned: dict[str, str]) -> None:
    """Writes the product; a table that is transposed is so once for all products."""
    table, places = found.gather.inputs
    shape = b.type_of(node.outputs[0]).shape
    if not found.turned:
        b.add_internal("ChosenMatMul", [found.x, table, places], shape, node.outputs[0])
        return
    if table not in turned:
        turned[table] = b.constant(np.ascontiguousarray(b.graph.constants[table].transpose(0, 2, 1)), "turned")
    _, size, columns = b.type_of(turned[table]).shape
    row = (shape[0], 1, size)
    x = b.add("Reshape", [found.x, b.constant(np.array(row, np.int64))], row)
    product = (shape[0], 1, columns)
    y = b.add_internal("ChosenMatMul", [x, turned[table], places], product)
    b.add("Reshape", [y, b.constant(np.array(shape, np.int64))], shape, output=node.outputs[0])
