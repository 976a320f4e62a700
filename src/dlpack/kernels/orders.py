"""In which order the dimensions of some values lie in memory, the outermost first, where it is not that of ONNX."""

from __future__ import annotations

from dlpack.graph.fuse import Group
from dlpack.graph.ir import Graph

PRODUCTS = ("MatMul", "FusedAttention")


def product_orders(graph: Graph, groups: list[Group]) -> dict[str, tuple[int, ...]]:
    """Matrix products that are only transposed and then reshaped are laid out for the reshape: attention's heads."""
    consumers = graph.consumers()
    out: dict[str, tuple[int, ...]] = {}
    for group in groups:
        value, readers = group.output, consumers.get(group.output, [])
        if group.nodes[0].op not in PRODUCTS or [n.op for n in readers] != ["Transpose"]:
            continue
        after = consumers.get(readers[0].outputs[0], [])
        rank = len(graph.types[value].shape)
        order = tuple(readers[0].attrs.get("perm", ()))
        if after and all(n.op == "Reshape" for n in after) and len(order) == rank and order[-1] == rank - 1:
            out[value] = order
    return out


def opened_orders(graph: Graph) -> dict[str, tuple[int, ...]]:
    """Values with all pairs of a sequence's elements, which attention has for each head, have the open dimension as the
    outermost: a shorter sequence then takes the first part of their memory, in place of a part for each head."""
    out = {}
    for value, t in graph.types.items():
        rank = len(t.shape)
        pairs = rank > 2 and graph.open and all(n % graph.open == 0 for n in t.shape[-2:])
        if pairs and all(n % graph.open for n in t.shape[:-2]):
            out[value] = (rank - 2, *range(rank - 2), rank - 1)
    return out
