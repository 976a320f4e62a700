"""Sums over an axis of two to four elements, which split attention has, as additions of its slices.

Slices are views, and additions and products are pointwise, so that a product that is summed is computed in one pass and
not stored; a reduction would read what another kernel wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np

from dlpack.graph.ir import Graph, Node
from dlpack.graph.registry import Builder

FEW = range(2, 5)
LEAST = 64
"""Elements behind the axis, below which slices are too small to be worth kernels of their own."""


def few_sums(graph: Graph) -> Graph:
    """The graph with additions in the place of such sums."""
    if graph.open or graph.opens:
        return graph
    producers, consumers = graph.producers(), graph.consumers()
    types, constants = dict(graph.types), dict(graph.constants)
    nodes: dict[str, Node] = {}
    for node in graph.nodes:
        if not _over_few(node, graph):
            nodes[node.name] = node
            continue
        b = Builder(replace(graph, constants=constants, types=types), node)
        product = _product(node, graph, producers, len(consumers[node.inputs[0]]))
        if product is not None:
            nodes.pop(product.name)
        _add(node, product, b)
        nodes.update({n.name: n for n in b.nodes})
        constants.update(b.constants)
        types.update(b.types)
    return replace(graph, nodes=tuple(nodes.values()), types=types, constants=constants)


def _over_few(node: Node, graph: Graph) -> bool:
    if (node.op, node.domain) != ("ReduceSum", "dlpack") or len(node.attrs["axes"]) != 1 or node.attrs["of"]:
        return False
    x, (axis,) = graph.types[node.inputs[0]], node.attrs["axes"]
    return x.dtype == "float32" and x.shape[axis] in FEW and prod(x.shape[axis + 1 :]) >= LEAST


def _product(node: Node, graph: Graph, producers: Mapping[str, Node], readers: int) -> Node | None:
    """The product that only this sum reads, if its operands can be sliced as their product can."""
    value = node.inputs[0]
    found = producers.get(value)
    if found is None or found.op != "Mul" or found.domain or readers > 1 or value in graph.outputs:
        return None
    rank = len(graph.types[value].shape)
    return found if all(len(graph.types[x].shape) == rank for x in found.inputs) else None


def _add(node: Node, product: Node | None, b: Builder) -> None:
    """Adds the slices, or the products of the operands' slices."""
    axis, shape = node.attrs["axes"][0], b.graph.types[node.outputs[0]].shape
    count = b.graph.types[node.inputs[0]].shape[axis]
    total = ""
    for k in range(count):
        if product is None:
            term = _slice(node.inputs[0], k, node, b)
        else:
            term = b.add("Mul", [_slice(x, k, node, b) for x in product.inputs], shape)
        total = b.add("Add", [total, term], shape, output=node.outputs[0] if k == count - 1 else None) if k else term


def _slice(x: str, k: int, node: Node, b: Builder) -> str:
    """Element k along the axis; without the axis, unless the sum keeps it."""
    axis, shape = node.attrs["axes"][0], list(b.type_of(x).shape)
    if shape[axis] > 1:
        bounds = [b.constant(np.array([v], np.int64)) for v in (k, k + 1, axis)]
        shape[axis] = 1
        x = b.add("Slice", [x, *bounds], shape)
    if node.attrs["keepdims"]:
        return x
    del shape[axis]
    return b.add("Reshape", [x, b.constant(np.array(shape, np.int64))], shape)
