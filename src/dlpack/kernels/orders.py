"""In which order the dimensions of some values lie in memory, the outermost first, where it is not that of ONNX."""

from __future__ import annotations

from dlpack.graph.fuse import Group
from dlpack.graph.ir import Graph, Node

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


def concat_orders(graph: Graph, groups: list[Group]) -> dict[str, tuple[int, ...]]:
    """What joins a picture's pixels with other tokens and is only transposed, so that channels are innermost, lies as
    the transpose reads it, and as a convolution has computed the pixels."""
    consumers, producers = graph.consumers(), graph.producers()
    pictures = {g.output for g in groups if g.nodes[0].op in ("Convolution", "WinogradConvolution")}

    def of_a_picture(value: str) -> bool:
        node = producers.get(value)
        while value not in pictures and node is not None and node.op in ("Reshape", "Flatten"):
            value = node.inputs[0]
            node = producers.get(value)
        return value in pictures

    out: dict[str, tuple[int, ...]] = {}
    for node in graph.nodes:
        value = node.outputs[0]
        readers = consumers.get(value, [])
        if node.op != "Concat" or value in graph.outputs or not all(n.op == "Transpose" for n in readers):
            continue
        perms = {tuple(n.attrs.get("perm", ())) for n in readers}
        if len(perms) == 1 and (order := perms.pop())[-1:] == (1,) and any(of_a_picture(i) for i in node.inputs):
            out[value] = order
    return out


def opened_orders(graph: Graph) -> dict[str, tuple[int, ...]]:
    """Values with all pairs of a sequence's elements, which attention has for each head, have the open dimension as the
    outermost: a shorter sequence then takes the first part of their memory, in place of a part for each head."""
    out = {}
    for value, t in graph.types.items():
        rank = len(t.shape)
        pixels = [bool(s and s.columns is not None) for s in t.sizes] or [False] * rank
        opened = [n % graph.open == 0 if graph.open else own for n, own in zip(t.shape, pixels, strict=True)]
        if rank > 2 and all(opened[-2:]) and not any(opened[:-2]):
            out[value] = (rank - 2, *range(rank - 2), rank - 1)
    return out


def joined_orders(graph: Graph) -> dict[str, tuple[int, ...]]:
    """All pixels of a picture as one dimension, whose channels are read one after the other, as queries and values are,
    have the channels innermost, as the picture has."""
    consumers = graph.consumers()

    def turned(value: str) -> bool:
        return any(
            turned(n.outputs[0]) if n.op in ("Reshape", "Unsqueeze", "Squeeze", "Identity") else _turns_last(n)
            for n in consumers.get(value, [])
        )

    joined = (n for n in graph.nodes if n.op == "JoinPixels" and turned(n.outputs[0]))
    out = {}
    for n in joined:
        rank, d = len(graph.types[n.outputs[0]].shape), n.attrs["axis"]
        if d == rank - 1:
            out[n.outputs[0]] = (0, d, *range(1, d))
    return out


def _turns_last(node: Node) -> bool:
    """Whether a node transposes the last dimension away from there."""
    perm = node.attrs.get("perm", ())
    return node.op == "Transpose" and bool(perm) and perm[-1] != len(perm) - 1
