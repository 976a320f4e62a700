"""The kernels for small pictures, where pictures have several sizes (graph/few.py): direct convolutions, whose weights
lie in the blocks that the kernel for large ones has chosen."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Sequence
from dataclasses import replace

from dlpack.graph.few import FEW
from dlpack.graph.fuse import Group
from dlpack.graph.ir import Graph, Node, TensorType
from dlpack.kernels.calls import Call
from dlpack.kernels.place import Placement
from dlpack.loops.layout import Block, Layout

LONGEST = 12
"""Pixels of a row or a column of a small picture, at the most."""


def few_pixels(group: Group, placement: Placement) -> tuple[Group, Placement] | None:
    """The group for small pictures, and its values as a kernel for them sees them; None where there is none."""
    node, graph = group.nodes[0], placement.graph
    if FEW not in node.attrs:
        return None
    if node.op == "Convolution":
        direct = node
    else:
        attrs = {"strides": (1, 1), "dilations": (1, 1), "group": 1, "macs": node.attrs["macs"], FEW: node.attrs[FEW]}
        operands = node.inputs[0], graph.derived[node.inputs[1]]
        direct = Node("Convolution", operands, node.outputs, attrs, node.name, "dlpack", 1, node.sources)
    x, w = (graph.types[v] for v in direct.inputs)
    made = {o for n in group.nodes for o in n.outputs}
    small = {v: _small(graph.types[v], direct) for v in (*group.inputs, *made)}
    steps = zip(small[group.output].shape[2:], w.shape[2:], *(direct.attrs[a] for a in _WINDOW), strict=True)
    reach = ((n - 1) * stride + (k - 1) * dilation + 1 for n, k, stride, dilation in steps)
    small[direct.inputs[0]] = replace(x, shape=(*x.shape[:2], *reach))
    own = replace(placement, graph=replace(graph, types=ChainMap(small, dict(graph.types))))
    swap = {node.inputs[1]: direct.inputs[1]}
    inputs = tuple(swap.get(v, v) for v in group.inputs)
    return replace(group, nodes=(direct, *group.nodes[1:]), anchor=direct, inputs=inputs), own


_WINDOW = ("strides", "dilations")


def weights_layout(call: Call, graph: Graph) -> Layout | None:
    """How the weights lie that a kernel for small pictures reads, by the call for large ones; None if not in blocks."""
    node = call.group.nodes[0]
    packed = next((a.packed for a in call.arguments if FEW in node.attrs and a.buffer == node.inputs[1]), None)
    if packed is None or node.op == "Convolution":
        return packed
    ((_, block),) = packed.blocks
    return direct_layout(graph.types[graph.derived[node.inputs[1]]].shape, block)


def direct_layout(shape: Sequence[int], block: Block) -> Layout:
    """How the weights of a convolution lie in the blocks of those that are made of them for Winograd's."""
    _, inputs, high, wide = shape
    row = wide * inputs * block.room
    return Layout((high * row, block.room, row, inputs * block.room), 0, ((0, block),))


def squares(node: Node) -> tuple[int, int]:
    """Rows and columns of the squares of pixels that a kernel for small pictures does at a time."""
    few = node.attrs[FEW]
    return _side(few.height, (1, 2, 3, 2)), _side(few.width, (1, 2, 3, 4))


def _side(smallest: int, sides: Sequence[int]) -> int:
    return sides[smallest - 1] if smallest <= len(sides) else 3


def longest(extent: int, side: int) -> int:
    """Up to how many pixels a row or a column of a small picture has, where there is room for `extent`."""
    return min(extent // side * side, LONGEST // side * side) or extent


def _small(t: TensorType, direct: Node) -> TensorType:
    """The type of a small picture, of which a run has a part."""
    if not t.sizes:
        return t
    sides = zip(t.shape[2:], t.sizes[2:], squares(direct), strict=True)
    return replace(t, shape=(*t.shape[:2], *(longest(n, side) if size else n for n, size, side in sides)))
