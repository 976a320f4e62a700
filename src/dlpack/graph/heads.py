"""Attention to many keys: no pass over all of them but the products, neither to scale them nor to repeat their heads.

In grouped attention heads of queries share one of keys and values. Exports repeat these, which would be a pass over the
whole cache for each token. The queries of a group are rows of one product instead: [heads, rows, size] times keys is
[shared, group * rows, size] times those shared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dlpack.graph.ir import Array, Graph, Node
from dlpack.graph.registry import Builder
from dlpack.graph.rewrite import remove_dead


def scaled_queries(graph: Graph) -> Graph:
    """The graph in which a product's larger second operand is not scaled by a number, but the first is.

    Exports scale queries and keys alike; the keys are all that were read so far.
    """
    producers, consumers = graph.producers(), graph.consumers()
    nodes: list[Node] = []
    constants, types = dict(graph.constants), dict(graph.types)
    for node in graph.nodes:
        scale = producers.get(node.inputs[1]) if node.op == "MatMul" and not node.domain else None
        found = _scaled(scale, graph) if scale is not None and len(consumers[scale.outputs[0]]) == 1 else None
        if found is None or graph.types[node.inputs[0]].size >= graph.types[found[0]].size:
            nodes.append(node)
            continue
        b = Builder(graph, node)
        x = b.add("Mul", [node.inputs[0], b.constant(found[1])], graph.types[node.inputs[0]].shape)
        b.add("MatMul", [x, found[0]], graph.types[node.outputs[0]].shape, output=node.outputs[0])
        nodes += b.nodes
        constants |= b.constants
        types |= b.types
    return remove_dead(graph.with_nodes(nodes, constants, types)) if len(nodes) > len(graph.nodes) else graph


def _scaled(node: Node, graph: Graph) -> tuple[str, Array] | None:
    """What a product with a number of float32 multiplies, and the number."""
    if node.op != "Mul" or node.outputs[0] in graph.outputs:
        return None
    for value, number in (node.inputs, node.inputs[::-1]):
        c = graph.constants.get(number)
        same = value not in graph.constants and graph.types[value] == graph.types[node.outputs[0]]
        if c is not None and c.size == 1 and c.dtype == np.float32 and same:
            return value, c.reshape(())
    return None


@dataclass(frozen=True)
class _Repeated:
    """What is repeated, [1, shared, rows, size]; `turned`: the node that transposes it afterwards."""

    value: str
    turned: Node | None


def shared_heads(graph: Graph) -> Graph:
    """The graph in which products with repeated heads are products with those that are there.

    Not where the queries are an open dimension: a run's rows of one head do not lie behind those of another.
    """
    producers = graph.producers()
    nodes: list[Node] = []
    constants, types = dict(graph.constants), dict(graph.types)
    for node in graph.nodes:
        found = _repeated(node.inputs[1], graph, producers) if node.op == "MatMul" and not node.domain else None
        given = graph.types[node.inputs[0]].shape if found else ()
        if (
            found is None
            or len(given) != 4
            or given[0] != 1
            or given[2] == graph.open
            or (graph.opens and not graph.open)
        ):
            nodes.append(node)
            continue
        b = Builder(graph, node)
        _, shared, slots, size = graph.types[found.value].shape
        _, heads, rows, depth = given
        out = graph.types[node.outputs[0]].shape
        whole = heads // shared * rows
        queries = [1, shared, whole, depth]
        x = b.add("Reshape", [node.inputs[0], b.constant(np.array(queries, np.int64))], queries)
        keys = found.value
        if found.turned is not None:
            keys = b.add("Transpose", [keys], [1, shared, size, slots], perm=[0, 1, 3, 2])
        y = b.add("MatMul", [x, keys], [1, shared, whole, out[-1]])
        b.add("Reshape", [y, b.constant(np.array(out, np.int64))], out, output=node.outputs[0])
        nodes += b.nodes
        constants |= b.constants
        types |= b.types
    if len(nodes) == len(graph.nodes):
        return graph
    return remove_dead(graph.with_nodes(nodes, constants, types))


def _repeated(value: str, graph: Graph, producers: Mapping[str, Node]) -> _Repeated | None:
    """Where a value is a repetition of heads: Unsqueeze (or Reshape), Expand, Reshape, and perhaps Transpose."""
    turned = None
    node = producers.get(value)
    if node is not None and node.op == "Transpose" and list(node.attrs.get("perm", ())) == [0, 1, 3, 2]:
        turned, node = node, producers.get(node.inputs[0])
    if node is None or node.op != "Reshape":
        return None
    wide = producers.get(node.inputs[0])
    single = producers.get(wide.inputs[0]) if wide is not None and wide.op == "Expand" else None
    if wide is None or single is None or single.op not in ("Unsqueeze", "Reshape"):
        return None
    source = graph.types[single.inputs[0]].shape
    if len(source) != 4 or source[0] != 1:
        return None
    _, shared, rows, size = source
    group = graph.types[wide.outputs[0]].shape
    if len(group) != 5 or group[:2] != (1, shared) or group[3:] != (rows, size):
        return None
    if graph.types[single.outputs[0]].shape != (1, shared, 1, rows, size):
        return None
    if graph.types[node.outputs[0]].shape != (1, shared * group[2], rows, size):
        return None
    return _Repeated(single.inputs[0], turned)
