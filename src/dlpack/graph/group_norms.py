"""Group normalisation around convolutions, where values lie channels-last: sums of each channel, then of the groups.

As rows of a group's channels and places, which is what exporters write it as (InstanceNormalization between reshapes),
the values would have to be copied to another order and back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from dlpack.graph import registry
from dlpack.graph.ir import Graph, Node
from dlpack.graph.registry import Builder

SPATIAL = ("Conv", "ConvTranspose", "MaxPool", "AveragePool")
"""What computes values that lie channels-last."""

_SAME_ORDER = ("Concat", "Resize", "InstanceNormalization", "BatchNormalization", "Reshape", "Transpose")
"""Operators whose first input lies as their output does."""

FURTHEST = 40
"""Operators among which one of those is looked for."""


@dataclass(frozen=True)
class _Norm:
    """The normalisation of `x` in so many groups, without scale and bias; `nodes` compute it now, the last one the
    output."""

    x: str
    groups: int
    epsilon: float
    nodes: tuple[Node, ...]


def group_norms(graph: Graph) -> Graph:
    """The graph with group normalisations by channels where their values come from convolutions."""
    if graph.open or graph.opens:
        return graph
    producers, consumers = graph.producers(), graph.consumers()
    types, constants = dict(graph.types), dict(graph.constants)
    replaced: dict[str, list[Node]] = {}  # by the name of the last node
    gone: set[str] = set()
    for node in graph.nodes:
        norm = _found(node, graph, producers, consumers)
        if norm is None or not _by_convolutions(norm.x, graph, producers):
            continue
        b = Builder(replace(graph, constants=constants, types=types), norm.nodes[-1])
        _by_channel(norm, b)
        replaced[norm.nodes[-1].name] = b.nodes
        gone.update(n.name for n in norm.nodes[:-1])
        constants.update(b.constants)
        types.update(b.types)
    nodes = [new for n in graph.nodes if n.name not in gone for new in replaced.get(n.name, [n])]
    return replace(graph, nodes=tuple(nodes), types=types, constants=constants) if replaced else graph


def _found(
    node: Node, graph: Graph, producers: Mapping[str, Node], consumers: Mapping[str, list[Node]]
) -> _Norm | None:
    """What an InstanceNormalization between reshapes does, if it is that."""
    if node.op != "InstanceNormalization" or node.domain:
        return None
    first, after = producers.get(node.inputs[0]), consumers.get(node.outputs[0], [])
    if first is None or first.op != "Reshape" or [n.op for n in after] != ["Reshape"]:
        return None
    x, rows, out = (graph.types[v] for v in (first.inputs[0], node.inputs[0], after[0].outputs[0]))
    scale, bias = (graph.constants.get(v) for v in node.inputs[1:3])
    plain = scale is not None and bias is not None and bool((scale == 1).all()) and not bias.any()
    inside = (node.inputs[0], node.outputs[0])
    alone = len(consumers[inside[0]]) == 1 and not any(v in graph.outputs for v in inside)
    same = x.shape == out.shape and len(x.shape) > 2 and rows.shape[:1] == x.shape[:1]
    if not plain or not alone or not same or x.dtype != "float32" or x.shape[1] % rows.shape[1]:
        return None
    return _Norm(first.inputs[0], rows.shape[1], node.attrs.get("epsilon", 1e-5), (first, node, after[0]))


def _by_convolutions(value: str, graph: Graph, producers: Mapping[str, Node]) -> bool:
    """Whether it comes from a convolution through operators that keep its order in memory."""
    seen: set[str] = set()
    left = [value]
    while left and len(seen) < FURTHEST:
        node = producers.get(left.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if node.op in SPATIAL:
            return True
        operator = registry.find(node)
        shape = graph.types[node.outputs[0]].shape
        if node.op in _SAME_ORDER:
            left += node.inputs[:1]
        elif operator is not None and operator.kind == "pointwise":
            left += [i for i in node.inputs if i and graph.types[i].shape == shape]
    return False


def _by_channel(norm: _Norm, b: Builder) -> None:
    """Mean and deviation of each group, as values for each of its channels; two passes, so that nothing cancels."""
    shape = b.type_of(norm.x).shape
    count = prod(shape[1:]) // norm.groups
    channels = [*shape[:2], *[1] * (len(shape) - 2)]

    def of_groups(value: str) -> str:
        """The mean over a group of sums of channels, once for each channel."""
        split = [shape[0], norm.groups, shape[1] // norm.groups]
        value = b.add("Reshape", [value, b.constant(np.array(split, np.int64))], split)
        total = b.add_internal("ReduceSum", [value], [*split[:2], 1], axes=(2,), keepdims=1, of="")
        share = b.constant(np.full((1, 1, split[2]), 1.0 / count, np.float32), "share")
        value = b.add("Mul", [total, share], split)
        return b.add("Reshape", [value, b.constant(np.array(channels, np.int64))], channels)

    mean = of_groups(b.add_internal("GlobalSum", [norm.x], channels))
    variance = of_groups(b.add_internal("GlobalSquares", [norm.x, mean], channels))
    epsilon, one = (b.constant(np.asarray(v, np.float32)) for v in (norm.epsilon, 1.0))
    deviation = b.add("Sqrt", [b.add("Add", [variance, epsilon], channels)], channels)
    factor = b.add("Div", [one, deviation], channels)
    centred = b.add("Sub", [norm.x, mean], shape)
    b.add("Mul", [centred, factor], shape, output=norm.nodes[-1].outputs[0])
