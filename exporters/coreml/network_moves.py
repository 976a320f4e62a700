"""Layers of Core ML's neural networks that only move elements, and constants."""

from __future__ import annotations

import math

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted
from dlpack.exporters.coreml.layer import Layer, converts
from dlpack.exporters.coreml.slices import masked_slice
from dlpack.exporters.layers import reshape, split


@converts("flatten")
def flatten(c: Layer) -> str:
    x, shape = c.x(), c.shape()
    if c.p.whole(1):
        x = c.op_("Transpose", x, perm=[*range(len(shape) - 3), *c.axes([-2, -1, -3])])
    return reshape(c.g, x, (*shape[:-3], math.prod(shape[-3:]), 1, 1))


@converts("reshape")
def reshape_layer(c: Layer) -> str:
    """Of four dimensions; the target has them, or the last three."""
    x, target = c.picture(), c.p.wholes(1)
    if len(target) not in (3, 4) or math.prod(target[-3:]) <= 0:
        raise ModelError(f"its target shape is {target[:8]}")
    lead = target[0] if len(target) == 4 else math.prod(c.g.shape(x)) // math.prod(target[-3:])
    channels, height, width = target[-3:]
    if math.prod(c.g.shape(x)) != lead * math.prod(target[-3:]) or lead < 1:
        raise ModelError(f"{list(c.shape())} cannot be reshaped to {target}")
    if not c.p.whole(2):
        return reshape(c.g, x, (lead, channels, height, width))
    last = c.op_("Transpose", x, perm=[0, 2, 3, 1])
    return c.op_("Transpose", reshape(c.g, last, (lead, height, width, channels)), perm=[0, 3, 1, 2])


@converts("permute", "transpose")
def permute(c: Layer) -> str:
    perm = c.p.wholes(1)
    if c.type == "permute":
        perm = perm or [0, 1, 2, 3]
    if sorted(perm) != list(range(c.rank())):
        raise ModelError(f"its order {perm[:8]} does not fit {c.rank()} dimensions")
    return c.op_("Transpose", c.x(), perm=perm)


@converts("concat", "concatND")
def concat(c: Layer) -> str:
    if c.type == "concat":
        axis = 0 if c.p.whole(100) else c.axes([-3])[0]
    else:
        axis = c.axis(1)
        if c.p.whole(2):
            raise NotConverted("interleave")
    return c.op_("Concat", *c.inputs, axis=axis) if len(c.inputs) > 1 else c.x()


@converts("stack")
def stack(c: Layer) -> str:
    axis = c.axes([c.signed(1)], c.rank() + 1)[0]
    parts = [c.op_("Unsqueeze", v, c.g.ints([axis])) for v in c.inputs]
    return c.op_("Concat", *parts, axis=axis)


@converts("split", "splitND")
def split_layer(c: Layer) -> list[str]:
    axis = c.axes([-3])[0] if c.type == "split" else c.axis(1)
    size = c.shape()[axis]
    sizes = c.p.wholes(3) if c.type == "splitND" else []
    sizes = sizes or [size // c.outputs] * c.outputs
    if len(sizes) != c.outputs or sum(sizes) != size or min(sizes) < 1:
        raise ModelError(f"its sizes {sizes[:8]} do not cut {size} into {c.outputs}")
    return split(c.g, c.x(), axis, sizes)


@converts("sequenceRepeat")
def sequence_repeat(c: Layer) -> str:
    return c.op_("Tile", c.x(), c.g.ints([c.p.whole(1) or 1, *([1] * (c.rank() - 1))]))


@converts("tile")
def tile(c: Layer) -> str:
    return c.op_("Tile", c.x(), c.g.ints(c.p.wholes(1)))


@converts("reorganizeData")
def reorganize(c: Layer) -> str:
    mode, block, x = c.p.whole(1), c.p.whole(2), c.picture()
    if mode == 0:
        return c.back(c.op_("SpaceToDepth", x, blocksize=block))
    if mode > 2:
        raise NotConverted(f"the mode {mode}")
    return c.back(c.op_("DepthToSpace", x, blocksize=block, mode="DCR" if mode == 1 else "CRD"))


@converts("slice")
def slice_layer(c: Layer) -> str:
    axis, begin, end = c.p.whole(4), c.signed(1), c.signed(2)
    if axis > 2:
        raise ModelError(f"it slices the axis {axis}")
    bounds = ([begin], [end], c.axes([axis - 3]), [c.p.whole(3) or 1])
    return c.op_("Slice", c.x(), *(c.g.ints(v) for v in bounds))


@converts("sliceStatic")
def slice_static(c: Layer) -> str:
    rank = c.rank()
    bounds = (c.p.wholes(1), c.p.wholes(3), c.p.wholes(5) or [1] * rank)
    return masked_slice(c, c.x(), c.shape(), bounds, [c.p.wholes(k) or [0] * rank for k in (2, 4, 6)])


@converts("reverse")
def reverse(c: Layer) -> str:
    axes = [k for k, turned in enumerate(c.p.wholes(1)) if turned]
    bounds = ([-1] * len(axes), [-(1 << 40)] * len(axes), axes, [-1] * len(axes))
    return c.op_("Slice", c.x(), *(c.g.ints(v) for v in bounds)) if axes else c.x()


@converts("expandDims")
def expand_dims(c: Layer) -> str:
    return c.op_("Unsqueeze", c.x(), c.g.ints(c.p.wholes(1)))


@converts("squeeze")
def squeeze(c: Layer) -> str:
    axes = c.axes(c.p.wholes(1)) or [k for k, d in enumerate(c.shape()) if d == 1]
    return c.op_("Squeeze", c.x(), c.g.ints(axes)) if axes else c.x()


@converts("reshapeStatic", "rankPreservingReshape")
def reshape_static(c: Layer) -> str:
    shape, out = c.shape(), c.p.wholes(1)
    if c.type == "rankPreservingReshape":
        out = [shape[k] if v == 0 and k < len(shape) else v for k, v in enumerate(out)]
    if out.count(-1) == 1:
        rest = math.prod(v for v in out if v != -1)
        out[out.index(-1)] = math.prod(shape) // rest if rest > 0 else 0
    if math.prod(out) != math.prod(shape) or any(v < 1 for v in out):
        raise ModelError(f"{list(shape)} cannot be reshaped to {out[:8]}")
    return reshape(c.g, c.x(), out)


@converts("flattenTo2D")
def flatten_2d(c: Layer) -> str:
    return c.op_("Flatten", c.x(), axis=c.axes([c.signed(1)], c.rank() + 1)[0])


@converts("gather", "gatherAlongAxis")
def gather(c: Layer) -> str:
    kind = "Gather" if c.type == "gather" else "GatherElements"
    return c.op_(kind, c.x(0), c.cast(c.x(1), np.int64), axis=c.axis(1))


@converts("broadcastToStatic")
def broadcast(c: Layer) -> str:
    return c.op_("Expand", c.x(), c.g.ints(c.p.wholes(1)))


@converts("constantPad")
def constant_pad(c: Layer) -> str:
    amounts, rank = c.p.wholes(2), c.rank()
    if c.p.whole(3) or len(amounts) != 2 * rank or any(not 0 <= p < 1 << 20 for p in amounts):
        raise NotConverted(f"the padding {amounts[:8]} of {rank} dimensions")
    return c.op_("Pad", c.x(), c.g.ints([*amounts[::2], *amounts[1::2]]), c.scalar(c.p.number(1)))


@converts("loadConstant", "loadConstantND")
def load_constant(c: Layer) -> str:
    shape = tuple(c.p.wholes(1))
    if c.type == "loadConstant":
        shape = (1, *shape)
    return c.weight(2, shape)


@converts("fillStatic")
def fill_static(c: Layer) -> str:
    return c.g.filled(c.p.wholes(2), c.p.number(1))
