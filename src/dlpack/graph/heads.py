"""Attention to many keys: no pass over all of them but the products, neither to scale them nor to repeat their heads.

In grouped attention heads of queries share one of keys and values. Exports repeat these, which would be a pass over the
whole cache for each token. The queries of a group are rows of one product instead: [heads, rows, size] times keys is
[shared, group * rows, size] times those shared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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
    """The graph in which products, and attentions, with repeated heads are those with the heads that are there.

    Not where the queries are an open dimension: a run's rows of one head do not lie behind those of another.
    """
    if graph.opens and not graph.open:
        return graph
    producers = graph.producers()
    nodes: list[Node] = []
    constants, types = dict(graph.constants), dict(graph.types)
    for node in graph.nodes:
        b = Builder(graph, node)
        if not _on_shared(node, b, producers):
            nodes.append(node)
            continue
        nodes += b.nodes
        constants |= b.constants
        types |= b.types
    if len(nodes) == len(graph.nodes):
        return graph
    return remove_dead(graph.with_nodes(nodes, constants, types))


def _on_shared(node: Node, b: Builder, producers: Mapping[str, Node]) -> bool:
    """Writes what is a node on heads that are there; False where its operands are not repeated ones."""
    graph = b.graph
    several = {"MatMul": node.inputs[1:2], "FusedAttention": node.inputs[1:3]}.get(node.op, ())
    parts = [p for value in several if (p := _repeated(value, graph, producers))]
    given = graph.types[node.inputs[0]].shape if parts else ()
    if len(given) != 4 or given[0] != 1 or given[2] == graph.open or len(parts) < len(several):
        return False
    (shared, *differ) = {graph.types[p.value].shape[1] for p in parts}
    if differ:
        return False
    _, heads, rows, depth = given
    group, whole = heads // shared, heads // shared * rows
    x = _reshaped(node.inputs[0], [1, shared, whole, depth], b)
    operands = [_unturned(p, b) for p in parts]
    mask, *others = node.inputs[1 + len(parts) :] or ("",)
    mask = _mask_of_rows(mask, (heads, group, rows), b) if mask else mask
    t = graph.types[node.outputs[0]]
    inputs = (x, *operands, *([mask, *others] if mask or others else []))
    made = replace(node, inputs=inputs, outputs=(b.fresh("shared"),))
    (y,) = b.raw(made, [replace(t, shape=(1, shared, whole, t.shape[-1]))])
    _reshaped(y, t.shape, b, node.outputs[0])
    return True


def _unturned(part: _Repeated, b: Builder) -> str:
    """What is repeated, transposed as its repetition is."""
    _, shared, slots, size = b.type_of(part.value).shape
    shape = [1, shared, size, slots]
    return b.add("Transpose", [part.value], shape, perm=[0, 1, 3, 2]) if part.turned else part.value


def _mask_of_rows(mask: str, heads: tuple[int, int, int], b: Builder) -> str:
    """The mask of an attention, broadcast to [1, heads, rows, keys], for the rows of a group's heads behind each other;
    `heads` are all, those of a group, and the rows of one."""
    whole, group, rows = heads
    shape = (1, 1, 1, 1, *b.type_of(mask).shape)[-4:]
    _, own, of_head, keys = shape
    if own == of_head == 1:
        return mask
    full = [1, group if own == 1 else whole, rows, keys]
    x = _reshaped(mask, shape, b)
    x = b.add("Expand", [x, b.constant(np.array(full, np.int64))], full) if [*shape] != full else x
    return _reshaped(x, [1, full[1] // group, group * rows, keys], b)


def _reshaped(value: str, shape: Sequence[int], b: Builder, output: str | None = None) -> str:
    return b.add("Reshape", [value, b.constant(np.array(shape, np.int64))], shape, output=output)


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
