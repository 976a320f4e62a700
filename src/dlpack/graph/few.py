"""Convolutions that are done otherwise where a run's picture is small, among pictures of any size within bounds.

Winograd's convolution is slow there: its tiles reach beyond the picture, and its transformed weights are read for few
of them. Another kernel does it directly. Where a product of channels has many weights, it has the rows of the picture
one behind the other, as one row that fills its tiles.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from dlpack.graph.ir import HALF, Graph, Node
from dlpack.graph.winograd import ChooseTile, Layer

FEW = "few"
"""Attribute of a Winograd's convolution that another kernel does for small pictures: the fewest pixels, and up to how
many it does."""

ONE_ROW = "one_row"
"""Attribute of a convolution that has the rows of the picture as one, if others do not need them where they are: the
pixels of the smallest picture."""

WORTH_MOVING = 128
"""Products per element that is read or written, from which on it is worth moving them."""


def with_small_pictures(graph: Graph, choose_tile: ChooseTile) -> Graph:
    """Gives convolutions the attributes `FEW` and `ONE_ROW` where that is faster; values have their sizes."""
    nodes = []
    for node in graph.nodes:
        if node.op in ("Convolution", "WinogradConvolution") and len(graph.types[node.outputs[0]].sizes) == 4:
            if node.op == "WinogradConvolution" and (few := _few(node, graph, choose_tile)):
                node = replace(node, attrs={**node.attrs, FEW: few})
            elif node.op == "Convolution" and _has_one_row(node, graph):
                node = replace(node, attrs={**node.attrs, ONE_ROW: prod(_smallest(node, graph))})
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _few(node: Node, graph: Graph, choose_tile: ChooseTile) -> tuple[int, int] | None:
    """The pixels of the smallest picture, and up to how many the direct convolution is faster, by estimates for square
    pictures; None where those are fewer."""
    out, w = graph.types[node.outputs[0]], graph.types[graph.derived[node.inputs[1]]]
    window = w.shape[2]
    tile = graph.types[node.inputs[1]].shape[0] - window + 1

    def direct(side: int) -> bool:
        sizes = out.shape[0], w.shape[1], w.shape[0], side, side
        return not choose_tile(Layer(*sizes, halves=out.dtype == HALF, window=window, tile=tile))

    side = next(n for n in range(max(out.shape[2:]) + 1) if not direct(n + 1))
    fewest = prod(_smallest(node, graph))
    return (fewest, side**2) if side**2 >= fewest else None


def _smallest(node: Node, graph: Graph) -> list[int]:
    """Height and width of the smallest picture that a node gives."""
    out = graph.types[node.outputs[0]]
    return [s.in_run(graph.smallest) if s else n for n, s in zip(out.shape[2:], out.sizes[2:], strict=True)]


def _has_one_row(node: Node, graph: Graph) -> bool:
    out, w = graph.types[node.outputs[0]], graph.types[node.inputs[1]]
    outputs, inputs, *window = w.shape
    plain = node.attrs["group"] == 1 and prod((*window, *node.attrs["strides"])) == 1 and out.dtype == "float32"
    many = node.inputs[1] in graph.constants and inputs * outputs >= WORTH_MOVING * (inputs + outputs)
    return plain and many and all(out.sizes[2:])
