"""MXNet's operators on sequences of several lengths, as in src/operator/sequence_*-inl.h and nn/softmax-inl.h."""

from __future__ import annotations

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted
from dlpack.exporters.layers import reshape, slice_axis
from dlpack.exporters.mxnet.call import Call, converts


def _axes(c: Call, rank: int) -> tuple[int, int]:
    """The dimensions of the steps (`axis`) and of the sequences."""
    axis = c.p.int("axis", 0)
    if axis not in (0, 1) or rank < 2:
        raise ModelError(f"its parameter axis={axis} does not fit an input of {rank} dimensions")
    return axis, 1 - axis


def inside(c: Call, lengths: str, rank: int, axis: int, batch: tuple[int, ...], steps: int) -> str:
    """Whether a step belongs to its sequence: bool, of `steps` along `axis`, of the lengths along `batch`."""
    shape = [1] * rank
    for d, size in zip(batch, c.g.shape(lengths), strict=True):
        shape[d] = size
    along = [1] * rank
    along[axis] = steps
    places = c.g.constant(np.arange(steps, dtype=np.float32).reshape(along))
    return c.op_("Less", places, reshape(c.g, c.cast(lengths, np.float32), tuple(shape)))


def _lengths(c: Call, batch: int) -> str:
    lengths = c.x(1)
    if c.g.shape(lengths) != (batch,):
        raise ModelError(f"its lengths have the shape {list(c.g.shape(lengths))}, not [{batch}]")
    return lengths


@converts("SequenceMask")
def sequence_mask(c: Call) -> str:
    x = c.x(0)
    if not c.p.bool("use_sequence_length"):
        return x
    shape = c.g.shape(x)
    steps, batch = _axes(c, len(shape))
    kept = inside(c, _lengths(c, shape[batch]), len(shape), steps, (batch,), shape[steps])
    return c.op_("Where", kept, x, c.g.scalar(c.p.float("value", 0.0), x))


@converts("SequenceLast")
def sequence_last(c: Call) -> str:
    x = c.x(0)
    shape = c.g.shape(x)
    steps, batch = _axes(c, len(shape))
    rest = tuple(n for d, n in enumerate(shape) if d != steps)
    if not c.p.bool("use_sequence_length"):
        return reshape(c.g, slice_axis(c.g, x, steps, shape[steps] - 1, shape[steps]), rest)
    last = c.op_("Sub", c.cast(_lengths(c, shape[batch]), np.int64), c.g.scalar_int(1))
    wide = [1] * len(shape)
    wide[batch] = shape[batch]
    one = tuple(1 if d == steps else n for d, n in enumerate(shape))
    places = c.op_("Expand", reshape(c.g, last, tuple(wide)), c.g.ints(one))
    return reshape(c.g, c.op_("GatherElements", x, places, axis=steps), rest)


@converts("SequenceReverse")
def sequence_reverse(c: Call) -> str:
    x = c.x(0)
    shape = c.g.shape(x)
    steps, batch = _axes(c, len(shape))
    if not c.p.bool("use_sequence_length"):
        return slice_axis(c.g, x, steps, -1, -(2**31 - 1), -1)
    if steps != 0:
        raise NotConverted("lengths of sequences along axis=1")
    lengths = c.cast(_lengths(c, shape[batch]), np.int64)
    return c.op_("ReverseSequence", x, lengths, time_axis=0, batch_axis=1)


def masked_softmax(c: Call, x: str, axis: int, logarithm: bool) -> str:
    """Softmax over the first elements of each row, as many as the second input says; the others become 0."""
    shape = c.g.shape(x)
    others = tuple(d for d in range(len(shape)) if d != axis)
    lengths = c.x(1)
    if c.g.shape(lengths) != tuple(shape[d] for d in others):
        raise ModelError(f"its lengths have the shape {list(c.g.shape(lengths))}, which does not fit {list(shape)}")
    kept = inside(c, lengths, len(shape), axis, others, shape[axis])
    low = c.g.scalar(float(np.finfo(np.float32).min), x)
    y = c.op_("LogSoftmax" if logarithm else "Softmax", c.op_("Where", kept, x, low), axis=axis)
    return c.op_("Where", kept, y, c.g.scalar(0.0, x))
