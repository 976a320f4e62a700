"""Attention in one node, where the machine computes it in one kernel: softmax(q k^T * scale + mask) v.

Of a decoder's cache the kernel need not read the rows that have no token yet. The mask hides them, so leaving them out
changes nothing: RowsInUse counts, once a run, the rows up to the last one that has one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from dlpack.graph.ir import Graph, Node, TensorType
from dlpack.loops.in_use import ROWS_AT_ONCE


@dataclass(frozen=True)
class Attention:
    """`batch` attentions (of all heads): `queries` and `keys` of `size` numbers each, values of `width`.

    `cached`: of the keys and values, rows of a decoder's cache, a run has a part. `chosen`: the mask chooses the scores
    that count, where one of numbers is added to them.
    """

    batch: int
    queries: int
    keys: int
    size: int
    width: int
    cached: bool = False
    chosen: bool = False


@dataclass(frozen=True)
class _Found:
    """The nodes from the first product to the last, what they read, and the factor of the scores.

    `attrs` has what a mask that chooses puts in place of scores, and whether it is true for these.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    scale: float
    attrs: Mapping[str, Any] = field(default_factory=dict)


def attention(graph: Graph, fuses: Callable[[Attention], bool] | None) -> Graph:
    """Replaces the attentions for which `fuses` holds by FusedAttention: products with a softmax between them, whose
    scores nothing else reads, all of float32."""
    if fuses is None:
        return graph
    producers, consumers = graph.producers(), graph.consumers()
    gone: set[str] = set()
    fused: dict[str, Node] = {}
    counts: dict[int, Node] = {}
    for node in graph.nodes:
        found = _found(node, graph, producers, consumers) if node.op == "MatMul" else None
        sizes = _sizes(found, graph) if found is not None else None
        if found is None or sizes is None:
            continue
        past = _rows_of_past(found, graph, producers)
        if not fuses(replace(sizes, cached=past > 0)):
            continue
        gone.update(n.name for n in found.nodes)
        sources = tuple(dict.fromkeys(s for n in found.nodes for s in n.sources))
        macs = sizes.batch * sizes.queries * sizes.keys * (sizes.size + sizes.width)
        attrs, inputs = {"scale": found.scale, "macs": macs, **found.attrs}, found.inputs
        if past:
            counts.setdefault(past, _rows_in_use(graph.filled, past, sources))
            attrs["past"] = past
            inputs = (*inputs, *[""] * (4 - len(inputs)), *counts[past].outputs)
        fused[node.name] = replace(
            node, op="FusedAttention", domain="dlpack", inputs=inputs, attrs=attrs, sources=sources
        )
    nodes = (fused.get(n.name, n) for n in graph.nodes if n.name not in gone or n.name in fused)
    types = {n.outputs[0]: TensorType("int32", (1,)) for n in counts.values()}
    return graph.with_nodes((*counts.values(), *nodes), types=types) if fused else graph


def _rows_in_use(filled: str, past: int, sources: tuple[str, ...]) -> Node:
    """What counts those of the first `past` rows of the caches up to the last that has a token."""
    out = f"{filled}/rows_of_{past}"
    attrs = {"past": past, "at_once": ROWS_AT_ONCE}
    return Node("RowsInUse", (filled,), (out,), attrs, out, "dlpack", 1, sources)


def _rows_of_past(found: _Found, graph: Graph, producers: Mapping[str, Node]) -> int:
    """How many rows keys and values have of a cache in which a mask tells those that have a token; 0: none. What is
    less than a multiple of `ROWS_AT_ONCE` counts as rows of the run, which are all read."""
    presents = {c.present for c in graph.caches if c.past != c.present}
    found_in = [_joined(value, presents, producers) for value in found.inputs[1:3]]
    if not graph.filled or "" in found_in:
        return 0
    rows = {graph.types[value].shape[2] - graph.types[producers[value].inputs[1]].shape[2] for value in found_in}
    mask, keys = graph.types[graph.filled].shape, graph.types[found_in[0]].shape[2]
    past = rows.pop() // ROWS_AT_ONCE * ROWS_AT_ONCE
    return past if not rows and mask == (1, keys) else 0


def _joined(value: str, presents: set[str], producers: Mapping[str, Node]) -> str:
    """The rows of a cache and a run that a value has in another order or more than once; "" for any other value."""
    while value not in presents:
        node = producers.get(value)
        if node is None or node.op not in _MOVES:
            return ""
        value = node.inputs[0]
    return value if len(producers[value].inputs) == 2 else ""


_MOVES = ("Transpose", "Reshape", "Unsqueeze", "Expand", "Identity")


def _found(
    last: Node, graph: Graph, producers: Mapping[str, Node], consumers: Mapping[str, Sequence[Node]]
) -> _Found | None:
    """The attention that ends with a product."""

    def maker(value: str) -> Node | None:
        """What computes a value that is read once."""
        alone = value not in graph.outputs and len(consumers.get(value, ())) == 1
        return producers.get(value) if alone else None

    softmax = maker(last.inputs[0])
    rank = len(graph.types[last.inputs[0]].shape)
    if softmax is None or softmax.op != "Softmax" or softmax.attrs.get("axis", -1) % rank != rank - 1:
        return None
    if softmax.opset < 13 and "axis" not in softmax.attrs:  # it was axis 1
        return None
    nodes, scale, mask = [last, softmax], 1.0, ""
    attrs: dict[str, Any] = {}
    node = maker(softmax.inputs[0])
    if node is not None and node.op in ("Add", "Where"):
        shape = graph.types[node.outputs[0]].shape
        of = [i for i in node.inputs if graph.types[i].shape == shape and (m := maker(i)) and m.op in _SCORES]
        if not of:
            return None
        if node.op == "Add":
            (mask,) = [i for i in node.inputs if i != of[0]] or [""]
        else:
            mask, *values = node.inputs
            (other,) = [i for i in values if i != of[0]] or [""]
            number = graph.constants.get(other)
            if of[0] not in values or number is None or number.size != 1:
                return None
            attrs = {"hidden": float(number.reshape(())), "hides": values[0] == other}
        nodes.append(node)
        node = maker(of[0])
    while node is not None and node.op in ("Mul", "Div"):
        numbers = [i for i in node.inputs if i in graph.constants and graph.constants[i].size == 1]
        if len(numbers) != 1 or (node.op == "Div" and numbers[0] != node.inputs[1]):
            return None
        c = float(graph.constants[numbers[0]].reshape(()))
        scale = scale * c if node.op == "Mul" else scale / c if c else 0.0
        nodes.append(node)
        node = maker(next(i for i in node.inputs if i != numbers[0]))
    if node is None or node.op != "MatMul" or not scale:
        return None
    inputs = (*node.inputs, last.inputs[1], *([mask] if mask else []))
    return _Found((*nodes, node), inputs, scale, attrs)


_SCORES = ("MatMul", "Mul", "Div")


def _sizes(found: _Found, graph: Graph) -> Attention | None:
    """None where types or dimensions are not those of an attention without broadcasting."""
    types = [graph.types[i] for i in found.inputs]
    q, k, v = (t.shape for t in types[:3])
    wanted = "bool" if found.attrs else "float32"
    if any(t.dtype != "float32" for t in types[:3]) or any(t.dtype != wanted for t in types[3:]):
        return None
    if not len(q) == len(k) == len(v) > 1:
        return None
    if not q[:-2] == k[:-2] == v[:-2] or any(len(t.shape) > len(q) for t in types[3:]):
        return None
    return Attention(prod(q[:-2]), q[-2], k[-1], q[-1], v[-1], chosen=bool(found.attrs))
