"""Convolutions that another kernel does where a run's picture is small, among pictures of any size within bounds.

Two kinds of layers are slower in small pictures than they need be: Winograd's convolution, whose tiles reach beyond the
picture and whose transformed weights are read for few of them; and any whose many weights are read anew for each row of
pixels. A kernel for squares of pixels does both, directly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dlpack.graph.ir import HALF, Graph, Node
from dlpack.graph.winograd import ChooseTile, Layer

FEW = "few"
"""Attribute of a convolution that another kernel does for small pictures: `FewPixels`."""

MANY_WEIGHTS = 1 << 17
"""Weights that no L1 holds, so that each row of pixels takes them from beyond it."""

SMALL, SMALLEST = 25, 16
"""Up to how many pixels a layer of many weights is done in squares, if the smallest picture has so many or fewer."""

LARGEST_SIDE = 8
"""Of a picture that is done without Winograd's algorithm, where larger ones are done with it."""


@dataclass(frozen=True)
class FewPixels:
    """Pictures of at most `most` pixels have a kernel of their own; the smallest has these sides."""

    most: int
    height: int
    width: int


def with_few_pixels(graph: Graph, choose_tile: ChooseTile) -> Graph:
    """Gives convolutions the attribute `FEW` where the smallest picture is small and another kernel faster for it."""
    nodes = []
    for node in graph.nodes:
        if node.op in ("Convolution", "WinogradConvolution"):
            t = graph.types[node.outputs[0]]
            sides = zip(t.shape[2:], t.sizes[2:] or (None,) * len(t.shape[2:]), strict=True)
            smallest = [s.at(graph.smallest[s.axis]) if s else n for n, s in sides]
            most = _few(node, graph, choose_tile)
            if len(smallest) == 2 and t.sizes and smallest[0] * smallest[1] <= most:
                node = replace(node, attrs={**node.attrs, FEW: FewPixels(most, *smallest)})
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _few(node: Node, graph: Graph, choose_tile: ChooseTile) -> int:
    """Up to how many pixels another kernel may be faster for a convolution: 0 for none."""
    out = graph.types[node.outputs[0]]
    if node.op == "Convolution":
        w = graph.types[node.inputs[1]]
        plain = node.inputs[1] in graph.constants and node.attrs["group"] == 1 and out.dtype == "float32"
        return SMALL if plain and w.size >= MANY_WEIGHTS else 0
    w = graph.types[graph.derived[node.inputs[1]]]
    layer = Layer(out.shape[0], w.shape[1], w.shape[0], 1, 1, halves=out.dtype == HALF)
    direct = [not choose_tile(replace(layer, height=side, width=side)) for side in range(1, LARGEST_SIDE + 1)]
    return max((side * side for side in range(2, LARGEST_SIDE + 1) if all(direct[side - 2 : side])), default=0)
