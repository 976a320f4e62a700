"""Attention in one node, where the machine computes it in one kernel: softmax(q k^T * scale + mask) v."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from dlpack.graph.ir import Graph, Node


@dataclass(frozen=True)
class Attention:
    """`batch` attentions (of all heads): `queries` and `keys` of `size` numbers each, values of `width`."""

    batch: int
    queries: int
    keys: int
    size: int
    width: int


@dataclass(frozen=True)
class _Found:
    """The nodes from the first product to the last, what they read, and the factor of the scores."""

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    scale: float


def attention(graph: Graph, fuses: Callable[[Attention], bool] | None) -> Graph:
    """Replaces the attentions for which `fuses` holds by FusedAttention: products with a softmax between them, whose
    scores nothing else reads, all of float32."""
    if fuses is None:
        return graph
    producers, consumers = graph.producers(), graph.consumers()
    gone: set[str] = set()
    fused: dict[str, Node] = {}
    for node in graph.nodes:
        found = _found(node, graph, producers, consumers) if node.op == "MatMul" else None
        sizes = _sizes(found, graph) if found is not None else None
        if found is None or sizes is None or not fuses(sizes):
            continue
        gone.update(n.name for n in found.nodes)
        sources = tuple(dict.fromkeys(s for n in found.nodes for s in n.sources))
        macs = sizes.batch * sizes.queries * sizes.keys * (sizes.size + sizes.width)
        attrs = {"scale": found.scale, "macs": macs}
        fused[node.name] = replace(
            node, op="FusedAttention", domain="dlpack", inputs=found.inputs, attrs=attrs, sources=sources
        )
    nodes = (fused.get(n.name, n) for n in graph.nodes if n.name not in gone or n.name in fused)
    return replace(graph, nodes=tuple(nodes)) if fused else graph


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
    node = maker(softmax.inputs[0])
    if node is not None and node.op == "Add":
        shape = graph.types[node.outputs[0]].shape
        of = [i for i in node.inputs if graph.types[i].shape == shape and (m := maker(i)) and m.op in _SCORES]
        if not of:
            return None
        (mask,) = [i for i in node.inputs if i != of[0]] or [""]
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
    return _Found((*nodes, node), inputs, scale)


_SCORES = ("MatMul", "Mul", "Div")


def _sizes(found: _Found, graph: Graph) -> Attention | None:
    """None where types or dimensions are not those of an attention without broadcasting."""
    types = [graph.types[i] for i in found.inputs]
    q, k, v = (t.shape for t in types[:3])
    if any(t.dtype != "float32" for t in types) or not len(q) == len(k) == len(v) > 1:
        return None
    if not q[:-2] == k[:-2] == v[:-2] or any(len(t.shape) > len(q) for t in types[3:]):
        return None
    return Attention(prod(q[:-2]), q[-2], k[-1], q[-1], v[-1])
