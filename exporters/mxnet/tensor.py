"""MXNet's operators that move data, create constants, index and multiply, as in src/operator/tensor."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted, Shape
from dlpack.exporters.layers import reshape, slice_axis, split
from dlpack.exporters.mxnet.call import Call, converts
from dlpack.exporters.mxnet.math import modulo

# --- shapes -----------------------------------------------------------------------------------------------------------


def reshape_codes(shape: Shape, codes: tuple[int, ...], reverse: bool = False) -> Shape:
    """MXNet's Reshape: 0 copies, -1 infers, -2 copies the rest, -3 merges two, -4 splits one into the next two."""
    if reverse:
        return reshape_codes(shape[::-1], codes[::-1])[::-1]
    out: list[int] = []
    place, k = 0, 0
    while k < len(codes):
        code = codes[k]
        if code == -2:
            out += shape[place:]
            place = len(shape)
        elif code == -3:
            if place + 2 > len(shape):
                raise ModelError(f"its shape {codes} merges more dimensions than {list(shape)} has")
            out.append(shape[place] * shape[place + 1])
            place += 2
        elif code == -4:
            if k + 2 >= len(codes) or place >= len(shape):
                raise ModelError(f"its shape {codes} does not fit {list(shape)}")
            first, second = codes[k + 1 : k + 3]
            whole = shape[place]
            first = whole // second if first == -1 and second > 0 else first
            second = whole // first if second == -1 and first > 0 else second
            if first <= 0 or first * second != whole:
                raise ModelError(f"its shape {codes} splits {whole} into {first} times {second}")
            out += [first, second]
            place += 1
            k += 2
        elif code == 0:
            if place >= len(shape):
                raise ModelError(f"its shape {codes} does not fit {list(shape)}")
            out.append(shape[place])
            place += 1
        elif code >= -1:
            out.append(code)
            place += 1
        else:
            raise ModelError(f"its shape {codes} holds {code}, which means nothing")
        k += 1
    if out.count(-1) > 1 or len(out) > 32:
        raise ModelError(f"its shape {codes} does not fit {list(shape)}")
    total, known = math.prod(shape), math.prod(v for v in out if v != -1)
    if -1 in out:
        out[out.index(-1)] = total // known if known else 0
    if math.prod(out) != total or any(v <= 0 for v in out):
        raise ModelError(f"{list(shape)} cannot be reshaped to {codes}")
    return tuple(out)


@converts("Reshape", "reshape", "_np_reshape")
def reshape_node(c: Call) -> str:
    x = c.x(0)
    shape = c.g.shape(x)
    codes = c.p.ints("shape") or c.p.ints("newshape")
    if not codes:  # the oldest dialect
        codes = c.p.ints("target_shape")
        if c.p.bool("keep_highest") and codes:
            codes = (shape[0], *codes[1:])
        zeros = [k for k, v in enumerate(codes) if v == 0]
        codes = tuple(-1 if k in zeros[:1] else v for k, v in enumerate(codes))
        if not codes or len(zeros) > 1:
            raise ModelError("its parameter shape is missing")
    return reshape(c.g, x, reshape_codes(shape, codes, c.p.bool("reverse")))


@converts("Flatten", "flatten")
def flatten(c: Call) -> str:
    x = c.x(0)
    shape = c.g.shape(x)
    return reshape(c.g, x, (shape[0], math.prod(shape[1:])))


@converts("reshape_like")
def reshape_like(c: Call) -> str:
    if "lhs_begin" in c.p or "lhs_end" in c.p or "rhs_begin" in c.p or "rhs_end" in c.p:
        raise NotConverted("reshape_like of a part of the dimensions")
    return reshape(c.g, c.x(0), c.g.shape(c.x(1)))


@converts("transpose", "_np_transpose")
def transpose(c: Call) -> str:
    x = c.x(0)
    rank = c.g.rank(x)
    axes = [c.norm(a, rank, "axes") for a in c.p.ints("axes")] or list(range(rank))[::-1]
    if sorted(axes) != list(range(rank)):
        raise ModelError(f"its parameter axes={axes} does not fit an input of {rank} dimensions")
    return c.op_("Transpose", x, perm=axes)


@converts("SwapAxis", "swapaxes")
def swap_axis(c: Call) -> str:
    x = c.x(0)
    rank = c.g.rank(x)
    perm = list(range(rank))
    a, b = c.axis(rank, 0, "dim1"), c.axis(rank, 0, "dim2")
    perm[a], perm[b] = b, a
    return c.op_("Transpose", x, perm=perm)


@converts("expand_dims")
def expand_dims(c: Call) -> str:
    x = c.x(0)
    shape = list(c.g.shape(x))
    shape.insert(c.norm(c.p.int("axis"), len(shape) + 1), 1)
    return reshape(c.g, x, shape)


@converts("squeeze", "_np_squeeze")
def squeeze(c: Call) -> str:
    x = c.x(0)
    shape = c.g.shape(x)
    axes = [c.norm(a, len(shape)) for a in c.p.ints("axis")] or [k for k, n in enumerate(shape) if n == 1]
    if any(shape[a] != 1 for a in axes):
        raise ModelError(f"dimensions {axes} of {list(shape)} are not all 1")
    return reshape(c.g, x, tuple(n for k, n in enumerate(shape) if k not in axes) or (1,))


@converts("Concat", "concat", "_rnn_concat")
def concat(c: Call) -> str:
    values = c.all()
    if len({c.g.dtype(v) for v in values}) > 1:
        values = [c.cast(v, np.float32) for v in values]
    return values[0] if len(values) == 1 else c.op_("Concat", *values, axis=c.axis(c.g.rank(values[0]), 1, "dim"))


@converts("stack")
def stack(c: Call) -> str:
    values = c.all()
    shape = list(c.g.shape(values[0]))
    axis = c.axis(len(shape) + 1, 0)
    shape.insert(axis, 1)
    return c.op_("Concat", *(reshape(c.g, v, shape) for v in values), axis=axis)


@converts("slice_axis")
def slice_axis_node(c: Call) -> str:
    x = c.x(0)
    axis = c.axis(c.g.rank(x), 0)
    size = c.g.shape(x)[axis]
    begin, end = c.p.int("begin", 0), c.p.int("end", size)
    begin, end = (v + size if v < 0 else v for v in (begin, end))
    return x if (begin, end) == (0, size) else slice_axis(c.g, x, axis, begin, end)


@converts("slice", "crop", "_slice")
def slice_node(c: Call) -> str:
    x = c.x(0)
    begin, end, step = (c.p.optional_ints(k) for k in ("begin", "end", "step"))
    if len(begin) != len(end) or len(begin) > c.g.rank(x) or (step and len(step) != len(begin)):
        raise ModelError(f"its begin {begin} and end {end} do not fit an input of shape {list(c.g.shape(x))}")
    steps = [s or 1 for s in step] or [1] * len(begin)
    far = 2**31 - 1
    begins = [b if b is not None else (0 if s > 0 else far) for b, s in zip(begin, steps, strict=True)]
    ends = [e if e is not None else (far if s > 0 else -far) for e, s in zip(end, steps, strict=True)]
    return c.op_("Slice", x, c.g.ints(begins), c.g.ints(ends), c.g.ints(list(range(len(begins)))), c.g.ints(steps))


@converts("slice_like")
def slice_like(c: Call) -> str:
    x = c.x(0)
    like = c.g.shape(c.x(1))
    axes = [c.norm(a, c.g.rank(x)) for a in c.p.ints("axes")] or range(min(len(like), c.g.rank(x)))
    for axis in axes:
        if axis >= len(like):
            raise ModelError(f"its parameter axes does not fit the shape {list(like)}")
        if c.g.shape(x)[axis] != like[axis]:
            x = slice_axis(c.g, x, axis, 0, like[axis])
    return x


@converts("_split_v2")
def split_v2(c: Call) -> list[str]:
    x = c.x(0)
    axis = c.axis(c.g.rank(x), 0)
    size = c.g.shape(x)[axis]
    sections = c.p.int("sections", 0)
    if sections > size:
        raise ModelError(f"sections={sections} does not fit {size} elements")
    points = [size // sections * k for k in range(sections)] if sections > 0 else list(c.p.ints("indices"))
    bounds = [*points, size]
    pieces = [slice_axis(c.g, x, axis, a, b) for a, b in itertools.pairwise(bounds)]
    return [c.op_("Squeeze", v, c.g.ints([axis])) for v in pieces] if c.p.bool("squeeze_axis") else pieces


@converts("reverse", "flip")
def reverse(c: Call) -> str:
    x = c.x(0)
    for axis in c.p.ints("axis"):
        x = slice_axis(c.g, x, c.norm(axis, c.g.rank(x)), -1, -(2**31 - 1), -1)
    return x


@converts("Pad", "pad")
def pad(c: Call) -> str:
    x, mode = c.floating(c.x(0)), c.p.text("mode", "constant")
    widths = c.p.ints("pad_width")
    if mode not in ("constant", "edge", "reflect") or len(widths) != 2 * c.g.rank(x):
        raise NotConverted(f"mode={mode[:40]!r} with pad_width={widths}")
    if any(not 0 <= w < 2**31 for w in widths):
        raise ModelError(f"its parameter pad_width={widths} is out of range")
    return c.op_(
        "Pad", x, c.g.ints(widths[::2] + widths[1::2]), c.g.scalar(c.p.float("constant_value", 0.0)), mode=mode
    )


@converts("tile")
def tile(c: Call) -> str:
    x, reps = c.x(0), c.p.ints("reps")
    rank = max(len(reps), c.g.rank(x))
    x = reshape(c.g, x, (*([1] * (rank - c.g.rank(x))), *c.g.shape(x)))
    return c.op_("Tile", x, c.g.ints([*([1] * (rank - len(reps))), *reps]))


@converts("repeat")
def repeat(c: Call) -> str:
    x, count = c.x(0), c.p.int("repeats")
    if "axis" not in c.p:
        x, axis = reshape(c.g, x, (math.prod(c.g.shape(x)),)), 0
    else:
        axis = c.axis(c.g.rank(x), 0)
    shape = c.g.shape(x)
    if not 0 < count < 2**31:
        raise ModelError(f"repeats={count} is out of range")
    y = reshape(c.g, x, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
    y = c.op_("Expand", y, c.g.ints([*shape[: axis + 1], count, *shape[axis + 1 :]]))
    return reshape(c.g, y, (*shape[:axis], shape[axis] * count, *shape[axis + 1 :]))


@converts("broadcast_to", "broadcast_axis", "broadcast_axes", "broadcast_like")
def broadcast(c: Call) -> str:
    x = c.x(0)
    shape = list(c.g.shape(x))
    if c.op == "broadcast_to":
        wanted = c.p.ints("shape")
        if len(wanted) != len(shape):
            raise ModelError(f"{shape} cannot be broadcast to {list(wanted)}")
        shape = [w or n for w, n in zip(wanted, shape, strict=True)]
    elif c.op == "broadcast_like":
        if "lhs_axes" in c.p or "rhs_axes" in c.p:
            raise NotConverted("lhs_axes")
        shape = list(c.g.shape(c.x(1)))
    else:
        for axis, size in zip(c.p.ints("axis"), c.p.ints("size"), strict=True):
            shape[c.norm(axis, len(shape))] = size
    if any(n <= 0 or n >= 2**31 for n in shape):
        raise ModelError(f"{list(c.g.shape(x))} cannot be broadcast to {shape}")
    return x if tuple(shape) == c.g.shape(x) else c.op_("Expand", x, c.g.ints(shape))


@converts("depth_to_space", "space_to_depth")
def depth_to_space(c: Call) -> str:
    size = c.p.int("block_size")
    if c.op == "depth_to_space":
        return c.op_("DepthToSpace", c.x(0), blocksize=size)
    return c.op_("SpaceToDepth", c.x(0), blocksize=size)


@converts("SliceChannel", "split")
def slice_channel(c: Call) -> list[str]:
    x, count = c.x(0), c.p.int("num_outputs")
    axis = c.axis(c.g.rank(x), 1)
    size = c.g.shape(x)[axis]
    if not 0 < count <= size or size % count:
        raise ModelError(f"num_outputs={count} does not divide dimension {axis} of {list(c.g.shape(x))}")
    pieces = split(c.g, x, axis, [size // count] * count)
    if c.p.bool("squeeze_axis"):
        pieces = [c.op_("Squeeze", v, c.g.ints([axis])) for v in pieces]
    return pieces


@converts("Crop")
def crop(c: Call) -> str:
    x = c.x(0)
    h, w = c.g.shape(x)[2:]
    like = c.p.int("num_args", len(c.inputs)) > 1 and len(c.inputs) > 1
    size = c.g.shape(c.x(1))[2:] if like else c.p.ints("h_w", (0, 0))
    offset = c.p.ints("offset", (0, 0))
    if c.p.bool("center_crop"):
        offset = ((h - size[0]) // 2, (w - size[1]) // 2)
    if any(o < 0 or o + n > have for o, n, have in zip(offset, size, (h, w), strict=True)):
        raise ModelError(f"the crop of {list(size)} at {list(offset)} does not lie in {[h, w]}")
    y = slice_axis(c.g, x, 2, offset[0], offset[0] + size[0])
    return slice_axis(c.g, y, 3, offset[1], offset[1] + size[1])


# --- making constants -------------------------------------------------------------------------------------------------


@converts("_zeros", "zeros", "_ones", "ones", "_full", "full", "_np_zeros", "_np_ones", "_zeros_without_dtype")
def filled(c: Call) -> str:
    """A constant; a dimension of 0 is open in MXNet (an unknown batch size) and becomes 1, which broadcasts."""
    value = c.number("value", 0.0) if "full" in c.op else float("ones" in c.op)
    return c.g.filled(tuple(n or 1 for n in c.p.ints("shape")), value, c.p.dtype("dtype"))


@converts("_arange", "arange", "_contrib_arange_like")
def arange(c: Call) -> str:
    start, step, repeats = c.p.float("start", 0.0), c.p.float("step", 1.0), c.p.int("repeat", 1)
    if c.op == "_contrib_arange_like":
        shape = c.g.shape(c.x(0))
        shape = (shape[c.axis(len(shape), 0)],) if "axis" in c.p else shape
        count = math.prod(shape)
    else:
        stop = c.p.float("stop") if "stop" in c.p else start
        start = start if "stop" in c.p else 0.0
        if not step or not math.isfinite((stop - start) / step):
            raise ModelError("its start, stop and step give no range")
        count = max(0, math.ceil((stop - start) / step)) * repeats
        shape = (count,)
    c.g.claim("a range", (count,), np.float64)
    if not 0 < repeats <= count:
        raise ModelError(f"repeat={repeats} is out of range")
    values = start + step * (np.arange(count) // repeats)
    return c.g.constant(values.astype(c.p.dtype("dtype")).reshape(shape))


# --- indexing and products --------------------------------------------------------------------------------------------


def _indices(c: Call, x: str, size: int, mode: str) -> str:
    """Indices as int64, clipped to 0..size-1 or wrapped round."""
    if mode == "wrap":
        n = c.g.scalar(float(size))
        return c.cast(modulo(c, c.floating(x), n), np.int64)
    if mode not in ("clip", "raise"):
        raise NotConverted(f"mode={mode[:40]!r}")
    if mode == "clip":
        x = c.op_("Clip", c.floating(x), c.g.scalar(0.0), c.g.scalar(float(size - 1)))
    return c.cast(x, np.int64)


@converts("Embedding", "_contrib_SparseEmbedding")
def embedding(c: Call) -> str:
    w = c.weight(1, "weight")
    return c.op_("Gather", w, _indices(c, c.x(0), c.g.shape(w)[0], "clip"), axis=0)


@converts("take")
def take(c: Call) -> str:
    x = c.x(0)
    axis = c.axis(c.g.rank(x), 0)
    return c.op_("Gather", x, _indices(c, c.x(1), c.g.shape(x)[axis], c.p.text("mode", "clip")), axis=axis)


@converts("batch_take")
def batch_take(c: Call) -> str:
    x, places = c.x(0), c.x(1)
    rows, size = c.g.shape(x)
    index = reshape(c.g, _indices(c, places, size, "clip"), (rows, 1))
    return reshape(c.g, c.op_("GatherElements", x, index, axis=1), c.g.shape(places))


@converts("pick")
def pick(c: Call) -> str:
    x, places = c.x(0), c.x(1)
    axis = c.axis(c.g.rank(x), -1)
    shape = list(c.g.shape(x))
    index = _indices(c, places, shape[axis], c.p.text("mode", "clip"))
    index = reshape(c.g, index, [*shape[:axis], 1, *shape[axis + 1 :]])
    y = c.op_("GatherElements", x, index, axis=axis)
    return y if c.p.bool("keepdims") else reshape(c.g, y, shape[:axis] + shape[axis + 1 :] or [1])


@converts("gather_nd")
def gather_nd(c: Call) -> str:
    index = c.cast(c.x(1), np.int64)
    rank = c.g.rank(index)
    return c.op_("GatherND", c.x(0), c.op_("Transpose", index, perm=[*range(1, rank), 0]))


@converts("one_hot")
def one_hot(c: Call) -> str:
    depth, kind = c.p.int("depth"), c.p.dtype("dtype")
    if not 0 < depth < 2**31:
        raise ModelError(f"depth={depth} is out of range")
    index = c.cast(c.x(0), np.int64)
    c.g.claim("the classes", (depth,), np.int64)
    classes = c.g.constant(np.arange(depth, dtype=np.int64))
    hit = c.op_("Equal", reshape(c.g, index, (*c.g.shape(index), 1)), classes)
    on, off = (c.g.constant(np.array(c.p.float(k, d), kind)) for k, d in (("on_value", 1.0), ("off_value", 0.0)))
    return c.op_("Where", hit, on, off)


@converts("dot")
def dot(c: Call) -> str:
    """The last axis of the first with the first axis of the second, whatever their ranks."""
    a, b = c.floating(c.x(0)), c.floating(c.x(1))
    if c.p.bool("transpose_a"):
        a = c.op_("Transpose", a, perm=[*range(1, c.g.rank(a)), 0])
    if c.p.bool("transpose_b"):
        b = c.op_("Transpose", b, perm=[c.g.rank(b) - 1, *range(c.g.rank(b) - 1)])
    left, right = c.g.shape(a), c.g.shape(b)
    if left[-1] != right[0]:
        raise ModelError(f"the shapes {list(left)} and {list(right)} do not fit")
    rows, columns = math.prod(left[:-1]), math.prod(right[1:])
    y = c.op_("MatMul", reshape(c.g, a, (rows, left[-1])), reshape(c.g, b, (right[0], columns)))
    return reshape(c.g, y, (*left[:-1], *right[1:]) or (1,))


@converts("batch_dot", "_linalg_gemm2", "linalg_gemm2")
def batch_dot(c: Call) -> str:
    a, b = c.floating(c.x(0)), c.floating(c.x(1))
    rank = c.g.rank(a)
    if rank < 2 or c.g.rank(b) < 2:
        raise ModelError("its inputs need two dimensions at least")
    swap: dict[str, Any] = {"perm": [*range(rank - 2), rank - 1, rank - 2]}
    a = c.op_("Transpose", a, **swap) if c.p.bool("transpose_a") else a
    b = c.op_("Transpose", b, **swap) if c.p.bool("transpose_b") else b
    y = c.op_("MatMul", a, b)
    alpha = c.p.float("alpha", 1.0)
    return y if alpha == 1.0 else c.op_("Mul", y, c.g.scalar(alpha))
