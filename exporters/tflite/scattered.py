"""TensorFlow Lite's scatters and sums of segments, and a few functions of two values."""

from __future__ import annotations

import math

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted
from dlpack.exporters.layers import reshape
from dlpack.exporters.tflite.call import Call, converts

_MAX_SHIFT = 63
_REDUCTIONS = {"SUM": "ReduceSum", "MAX": "ReduceMax", "MIN": "ReduceMin", "PROD": "ReduceProd"}


@converts("SCATTER_ND")
def scatter_nd(c: Call) -> str:
    """Inputs: places, values, the output's shape. Values for one place are added."""
    shape = c.ints(2, "a shape")
    values = c.x(1)
    zeros = c.g.filled(shape, 0, c.g.dtype(values))
    return c.op_("ScatterND", zeros, c.cast(c.x(0), np.int64), values, reduction="add")


def _segments(c: Call, kind: str, count: int) -> str:
    """Of the rows whose number is k, for each k below `count`; where there is none, what changes no result."""
    x, ids = c.x(0), c.x(1)
    have, lead = c.g.shape(x), c.g.rank(ids)
    rows = math.prod(have[:lead])
    if count < 1 or c.g.shape(ids) != have[:lead]:
        raise ModelError(f"its segments {list(c.g.shape(ids))} do not fit the input {list(have)}")
    rest = have[lead:]
    dtype = c.g.dtype(x)
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    neutral = {"SUM": 0, "PROD": 1, "MAX": limits.min, "MIN": limits.max}[kind]
    numbers = reshape(c.g, c.cast(ids, np.int64), (1, rows, *[1] * len(rest)))
    wanted = c.g.constant(np.arange(count).reshape(count, 1, *[1] * len(rest)))
    c.g.check_size("its rows by segment", dtype, (count, rows, *rest))
    same = c.op_("Equal", numbers, wanted)
    each = c.op_("Where", same, reshape(c.g, x, (1, rows, *rest)), c.g.constant(np.array(neutral, dtype)))
    if kind == "SUM":
        return c.op_("ReduceSum", each, c.g.ints([1]), keepdims=0)
    return c.op_(_REDUCTIONS[kind], each, axes=[1], keepdims=0)


@converts("SEGMENT_SUM")
def segment_sum(c: Call) -> str:
    return _segments(c, "SUM", max(c.ints(1, "numbers of segments"), default=-1) + 1)


@converts(*(f"UNSORTED_SEGMENT_{kind}" for kind in _REDUCTIONS))
def unsorted_segments(c: Call) -> str:
    (count,) = c.ints(2, "a number of segments")
    return _segments(c, c.op.rpartition("_")[2], count)


@converts("BITWISE_XOR")
def bitwise_xor(c: Call) -> str:
    a, b = c.x(0), c.x(1)
    return c.op_("Xor" if c.g.dtype(a) == np.bool_ else "BitwiseXor", a, b)


@converts("RIGHT_SHIFT")
def right_shift(c: Call) -> str:
    """Divided by a power of two and rounded down; a shift of too many bits is one of all but one."""
    x, kind = c.x(0), c.g.dtype(c.x(0))
    if kind == np.uint64:
        raise NotConverted("a shift of uint64")
    most = min(8 * kind.itemsize - 1, _MAX_SHIFT - 1)
    by = c.op_("Clip", c.cast(c.x(1), np.int64), c.g.scalar_int(0), c.g.scalar_int(most))
    power = c.op_("Gather", c.g.constant(2 ** np.arange(most + 1)), by)
    wide = c.cast(x, np.int64)
    return c.cast(c.op_("Div", c.op_("Sub", wide, c.op_("Mod", wide, power)), power), kind)


@converts("ATAN2")
def atan2(c: Call) -> str:
    y, x, g = c.x(0), c.x(1), c.g
    zero = g.scalar(0.0)
    upright = c.op_("Equal", x, zero)
    near = c.op_("Atan", c.op_("Div", y, c.op_("Where", upright, g.scalar(1.0), x)))
    half_turn = c.op_("Where", c.op_("Less", y, zero), g.scalar(-math.pi), g.scalar(math.pi))
    turned = c.op_("Where", c.op_("Less", x, zero), c.op_("Add", near, half_turn), near)
    return c.op_("Where", upright, c.op_("Mul", c.op_("Sign", y), g.scalar(math.pi / 2)), turned)
