"""The kernels for small pictures, where pictures have several sizes (graph/few.py): direct convolutions, whose weights
lie in the blocks that the kernel for large ones has chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dlpack.graph.few import FEW
from dlpack.graph.fuse import Group
from dlpack.graph.ir import Graph, Node
from dlpack.kernels.calls import Call
from dlpack.loops.layout import Block, Layout


def few_pixels(group: Group, graph: Graph) -> Group | None:
    """The group for small pictures; None where there is none."""
    node = group.nodes[0]
    if FEW not in node.attrs:
        return None
    weights = graph.derived[node.inputs[1]]
    operands, attrs = (node.inputs[0], weights), {"macs": node.attrs["macs"], FEW: node.attrs[FEW]}
    direct = Node("PixelConvolution", operands, node.outputs, attrs, node.name, "dlpack", 1, node.sources)
    inputs = tuple(weights if v == node.inputs[1] else v for v in group.inputs)
    return replace(group, nodes=(direct, *group.nodes[1:]), anchor=direct, inputs=inputs)


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
