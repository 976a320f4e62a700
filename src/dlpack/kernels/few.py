"""The kernels for small pictures, where pictures have several sizes (graph/few.py): direct convolutions, whose weights
lie in the blocks that the kernel for large ones has chosen."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Sequence
from dataclasses import replace

from dlpack.graph.few import FEW, FewPixels
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
    attrs = {"strides": (1, 1), "dilations": (1, 1), "group": 1, "macs": node.attrs["macs"], FEW: node.attrs[FEW]}
    operands = node.inputs[0], graph.derived[node.inputs[1]]
    direct = Node("Convolution", operands, node.outputs, attrs, node.name, "dlpack", 1, node.sources)
    made = {o for n in group.nodes for o in n.outputs}
    small = {v: _small(graph.types[v], node.attrs[FEW]) for v in (*group.inputs, *made)}
    x, sides = graph.types[node.inputs[0]], small[group.output].shape[2:]
    small[node.inputs[0]] = replace(x, shape=(*x.shape[:2], *(n + 2 for n in sides)))
    own = replace(placement, graph=replace(graph, types=ChainMap(small, dict(graph.types))))
    inputs = tuple(operands[1] if v == node.inputs[1] else v for v in group.inputs)
    return replace(group, nodes=(direct, *group.nodes[1:]), anchor=direct, inputs=inputs), own


def weights_layout(call: Call, graph: Graph) -> Layout | None:
    """How the weights lie that a kernel for small pictures reads, by the call for large ones; None if not in blocks."""
    node = call.group.nodes[0]
    packed = next((a.packed for a in call.arguments if FEW in node.attrs and a.buffer == node.inputs[1]), None)
    if packed is None:
        return None
    ((_, block),) = packed.blocks
    return direct_layout(graph.types[graph.derived[node.inputs[1]]].shape, block)


def direct_layout(shape: Sequence[int], block: Block) -> Layout:
    """How the weights of a convolution lie in the blocks of those that are made of them for Winograd's."""
    _, inputs, high, wide = shape
    row = wide * inputs * block.room
    return Layout((high * row, block.room, row, inputs * block.room), 0, ((0, block),))


def longest(extent: int, side: int) -> int:
    """Up to how many pixels a row or a column of a small picture has, where there is room for `extent`."""
    return min(extent // side * side, LONGEST // side * side) or extent


def _small(t: TensorType, few: FewPixels) -> TensorType:
    """The type of a small picture, of which a run has a part."""
    if not t.sizes:
        return t
    sides = zip(t.shape[2:], t.sizes[2:], (few.high, few.wide), strict=True)
    return replace(t, shape=(*t.shape[:2], *(longest(n, side) if size else n for n, size, side in sides)))
