"""TensorFlow Lite's slices, updates and gathers whose places are computed while the model runs, as gathers."""

from __future__ import annotations

import math

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted
from dlpack.exporters.layers import reshape
from dlpack.exporters.tflite.call import Call, chosen


def gather_rows(c: Call, places: str, batch: int, axis: int) -> str:
    """A gather of which each element of the first dimensions has places of its own: the data as rows, one gather."""
    shape, places = c.shape(0), c.cast(places, np.int64)
    wanted = c.g.shape(places)
    if not 0 < batch <= axis or shape[:batch] != wanted[:batch]:
        raise ModelError(f"its inputs {list(shape)} and {list(wanted)} do not fit its {batch} batch dimensions")
    order = [*range(batch), axis, *range(batch, axis), *range(axis + 1, len(shape))]
    x = c.op_("Transpose", c.x(0), perm=order) if order != sorted(order) else c.x(0)
    rest = [shape[k] for k in order[batch + 1 :]]
    rows = math.prod(shape[:batch])
    x = reshape(c.g, x, (rows * shape[axis], *rest))
    places = reshape(c.g, places, (rows, math.prod(wanted[batch:])))
    first = np.arange(rows, dtype=np.int64)[:, None] * shape[axis]
    y = c.op_("Gather", x, c.op_("Add", places, c.g.constant(first)), axis=0)
    y = reshape(c.g, y, (*wanted, *rest))
    back = [*range(batch), *range(len(wanted), len(wanted) + axis - batch), *range(batch, len(wanted))]
    back += range(len(back), c.g.rank(y))
    return c.op_("Transpose", y, perm=back) if back != sorted(back) else y


def _start(c: Call, i: int, k: int, most: int) -> str:
    """Entry k of input i, a scalar from 0 to `most`: the places of a loop that has ended may lie outside."""
    begin = c.cast(c.values.stored(c.inputs[i]), np.int64)
    at = c.op_("Gather", begin, c.g.scalar_int(k), axis=0)
    return c.op_("Max", c.op_("Min", at, c.g.scalar_int(most)), c.g.scalar_int(0))


def slice_at(c: Call) -> str:
    """SLICE from a computed place, of a size that is known."""
    shape, size, x = c.shape(0), c.ints(2, "a size"), c.x(0)
    if len(shape) != len(size) or any(s > n for s, n in zip(size, shape, strict=True)):
        raise ModelError(f"its slice of {size} does not fit the input {list(shape)}")
    if any(s < 0 for s in size):
        raise NotConverted("a slice up to the end from a place that is computed while the model runs")
    for axis, (count, n) in enumerate(zip(size, shape, strict=True)):
        if count < n:
            numbers = c.g.constant(np.arange(count, dtype=np.int64))
            x = c.op_("Gather", x, c.op_("Add", _start(c, 1, axis, n - count), numbers), axis=axis)
    return x


def element_at(c: Call) -> str:
    """STRIDED_SLICE as x[:, i]: an element of some dimensions, all of the others."""
    p, x, axis = c.p, c.x(0), 0
    if p["new_axis_mask"] or p["ellipsis_mask"]:
        raise NotConverted("a slice with new dimensions whose bounds are computed while the model runs")
    for k in range(c.shape(1)[0]):
        if p["shrink_axis_mask"] >> k & 1:
            n = c.g.shape(x)[axis]
            at = c.op_("Gather", c.cast(c.values.stored(c.inputs[1]), np.int64), c.g.scalar_int(k), axis=0)
            at = c.op_("Where", c.op_("Less", at, c.g.scalar_int(0)), c.op_("Add", at, c.g.scalar_int(n)), at)
            at = c.op_("Max", c.op_("Min", at, c.g.scalar_int(n - 1)), c.g.scalar_int(0))
            x = c.op_("Gather", x, at, axis=axis)
        elif p["begin_mask"] >> k & 1 and p["end_mask"] >> k & 1 and c.ints(3, "a step")[k] == 1:
            axis += 1
        else:
            raise NotConverted("a slice whose bounds are computed while the model runs")
    return x


def update_at(c: Call) -> str:
    """DYNAMIC_UPDATE_SLICE at a computed place, along one dimension."""
    shape, part = c.shape(0), c.shape(1)
    if len(shape) != len(part) or any(p > n for p, n in zip(part, shape, strict=True)):
        raise ModelError(f"its update {list(part)} does not fit {list(shape)}")
    axes = [k for k, (p, n) in enumerate(zip(part, shape, strict=True)) if p != n]
    if not axes:
        return c.x(1)
    if len(axes) > 1:
        raise NotConverted("an update along several dimensions")
    axis, g = axes[0], c.g
    count, n = part[axis], shape[axis]
    here = c.op_("Sub", g.constant(np.arange(n, dtype=np.int64)), _start(c, 2, axis, n - count))
    inside = c.op_("And", c.op_("GreaterOrEqual", here, g.scalar_int(0)), c.op_("Less", here, g.scalar_int(count)))
    place = c.op_("Max", c.op_("Min", here, g.scalar_int(count - 1)), g.scalar_int(0))
    spread = c.op_("Gather", c.x(1), place, axis=axis)
    return chosen(g, reshape(g, inside, (n, *([1] * (len(shape) - axis - 1)))), spread, c.x(0))
