"""Convolutions of one value that are only added up, as networks have them that were trained with several branches: they
become one convolution by the sum of their weights.

A smaller window is a larger one with zeros around it, and a batch normalisation a window of one element for each
channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dlpack.graph.ir import Array, Graph, Node, TensorType


@dataclass(frozen=True)
class _Term:
    """A convolution of `x` by `weights` [outputs, inputs of a group, kernel...] plus `bias` [outputs], in float64.

    `scales`: it is a product of each channel with a number, and goes with any groups; `weights` are those
    numbers.
    """

    x: str
    weights: Array
    bias: Array
    attrs: Mapping[str, Any]
    scales: bool = False

    @property
    def low(self) -> list[int]:
        spatial = self.weights.ndim - 2
        return list(self.attrs.get("pads") or [0] * (2 * spatial))[:spatial]

    @property
    def way(self) -> tuple[Any, ...]:
        """What terms must have in common, apart from windows and pads."""
        spatial = self.weights.ndim - 2
        ones = (1,) * spatial
        strides, dilations = (tuple(self.attrs.get(k) or ones) for k in ("strides", "dilations"))
        return self.attrs.get("group", 1), strides, dilations


def parallel_convolutions(graph: Graph) -> Graph:
    """The graph in which such convolutions are one."""
    readers = {value: len(nodes) for value, nodes in graph.consumers().items()}
    nodes: dict[str, Node] = {}
    made: dict[str, Node] = {}
    constants, types = dict(graph.constants), dict(graph.types)
    for node in graph.nodes:
        new = node
        if (
            node.op == "Add"
            and len({*node.inputs}) == 2
            and len({types[v].shape for v in (*node.inputs, *node.outputs)}) == 1
        ):
            parts = [made.get(i) for i in node.inputs if readers.get(i) == 1 and i not in graph.outputs]
            terms = [t for p in parts if p is not None and (t := _term(p, constants, types)) is not None]
            total = _sum(*terms) if len(terms) == 2 else None
            if total is not None:
                for part in filter(None, parts):
                    del nodes[part.name]
                sources = tuple(dict.fromkeys(s for n in (*filter(None, parts), node) for s in n.sources))
                new = _convolution(total, replace(node, sources=sources), constants, types)
        nodes[new.name] = new
        made.update({o: new for o in new.outputs if o})
    return replace(graph, nodes=tuple(nodes.values()), constants=constants, types=types)


def _term(node: Node, constants: Mapping[str, Array], types: Mapping[str, TensorType]) -> _Term | None:
    """What the node computes, if its weights are constants."""
    given = [constants.get(i) for i in node.inputs[1:] if i]
    known = [c.astype(np.float64) for c in given if c is not None]
    x = types[node.inputs[0]] if node.inputs else None
    if node.domain or x is None or x.dtype != "float32" or not known or len(known) < len(given):
        return None
    if node.op == "Conv":
        plain = node.attrs.get("auto_pad", "NOTSET") == "NOTSET" and not node.attrs.get("fill")
        bias = known[1] if len(known) > 1 else np.zeros(len(known[0]))
        return _Term(node.inputs[0], known[0], bias, node.attrs) if plain else None
    if node.op == "BatchNormalization" and len(known) == 4 and len([o for o in node.outputs if o]) == 1:
        scale, bias, mean, variance = known
        scale = scale / np.sqrt(variance + node.attrs.get("epsilon", 1e-5))
        return _Term(node.inputs[0], scale, bias - mean * scale, {}, scales=True)
    return None


def _sum(a: _Term, b: _Term) -> _Term | None:
    """Both as one, if one window holds the other."""
    if a.scales or (not b.scales and a.weights.size < b.weights.size):
        a, b = b, a
    if a.x != b.x or a.scales:
        return None
    if b.scales:
        b = _as_window(b, a)
    if a.way != b.way or any(d != 1 for d in a.way[2]) or a.weights.shape[:2] != b.weights.shape[:2]:
        return None
    first = [p - q for p, q in zip(a.low, b.low, strict=True)]
    spare = [m - n - f for m, n, f in zip(a.weights.shape[2:], b.weights.shape[2:], first, strict=True)]
    if min(first) < 0 or min(spare) < 0:
        return None
    around = [(0, 0), (0, 0), *zip(first, spare, strict=True)]
    return replace(a, weights=a.weights + np.pad(b.weights, around), bias=a.bias + b.bias)


def _as_window(b: _Term, like: _Term) -> _Term:
    """A product of each channel as a convolution with windows of one element, in groups as `like` has them."""
    inputs, group = like.weights.shape[1], like.attrs.get("group", 1)
    outputs = len(b.weights)
    ones = (1,) * (like.weights.ndim - 2)
    weights = np.zeros((outputs, inputs, *ones))
    weights[np.arange(outputs), np.arange(outputs) % inputs] = b.weights.reshape(outputs, *ones)
    return _Term(b.x, weights, b.bias, {"group": group})


def _convolution(total: _Term, add: Node, constants: dict[str, Array], types: dict[str, TensorType]) -> Node:
    """A node with the sum's output."""
    out = add.outputs[0]
    names = [f"{out}/weights", f"{out}/bias"]
    for name, value in zip(names, (total.weights, total.bias), strict=True):
        constants[name] = value.astype(np.float32)
        types[name] = TensorType("float32", value.shape)
    attrs = dict(total.attrs) | {"kernel_shape": list(total.weights.shape[2:])}
    return replace(add, op="Conv", inputs=(total.x, *names), attrs=attrs)
