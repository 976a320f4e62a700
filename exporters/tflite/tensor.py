"""TensorFlow Lite's operators that move elements: shapes, slices, joins, gathers, pads; and shape operators."""

from __future__ import annotations

import math

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted, Shape
from dlpack.exporters.layers import reshape, split
from dlpack.exporters.tflite.call import Call, converts
from dlpack.exporters.tflite.places import element_at, gather_rows, slice_at, update_at
from dlpack.exporters.tflite.spectra import COMPLEX


@converts("RESHAPE", moves=True)
def to_shape(c: Call) -> str:
    wanted = c.ints(1, "a shape") if c.has(1) else list(c.p["shape"])
    size = math.prod(c.shape(0))
    if c.tensor(0).dtype == COMPLEX:
        wanted = [*wanted, 2]
    if wanted == [0] and size == 1 and not c.has(1):
        wanted = []
    rest = math.prod(d for d in wanted if d != -1)
    if wanted.count(-1) == 1 and rest > 0 and size % rest == 0:
        wanted = [size // rest if d == -1 else d for d in wanted]
    if any(d < 0 for d in wanted) or math.prod(wanted) != size:
        raise ModelError(f"its input {list(c.shape(0))} cannot take the shape {wanted}")
    return reshape(c.g, c.x(0), wanted)


@converts("DENSIFY", moves=True)
def densify(c: Call) -> str:
    """Sparse weights are made dense when the file is read."""
    return c.x()


@converts("SQUEEZE", moves=True)
def squeeze(c: Call) -> str:
    shape = c.shape(0)
    dims = {c.axis(d, len(shape)) for d in c.p["dims"]} or {k for k, d in enumerate(shape) if d == 1}
    if any(shape[d] != 1 for d in dims):
        raise ModelError(f"its dimensions {sorted(dims)} of {list(shape)} are not 1")
    return reshape(c.g, c.x(0), [d for k, d in enumerate(shape) if k not in dims])


@converts("EXPAND_DIMS", moves=True)
def expand_dims(c: Call) -> str:
    shape, axis = list(c.shape(0)), c.ints(1, "a dimension")
    shape.insert(c.axis(axis[0], len(shape) + 1), 1)
    return reshape(c.g, c.x(0), shape)


@converts("TRANSPOSE", moves=True)
def transpose(c: Call) -> str:
    rank = len(c.shape(0))
    order = [c.axis(a, rank) for a in c.ints(1, "an order of dimensions")]
    if sorted(order) != list(range(rank)):
        raise ModelError(f"its order of dimensions {order} does not fit the input {list(c.shape(0))}")
    return c.op_("Transpose", c.x(0), perm=order)


@converts("CONCATENATION", moves=True)
def concatenate(c: Call) -> str:
    values = [v for v in c.all() if 0 not in c.g.shape(v)]
    if not values:
        raise ModelError("all that it joins is empty")
    return c.activated(c.op_("Concat", *values, axis=c.axis(c.p["axis"], c.g.rank(values[0]))))


@converts("PACK", moves=True)
def pack(c: Call) -> str:
    values = c.all()
    shape = list(c.g.shape(values[0]))
    axis = c.axis(c.p["axis"], len(shape) + 1)
    shape.insert(axis, 1)
    return c.op_("Concat", *(reshape(c.g, v, shape) for v in values), axis=axis)


@converts("UNPACK", moves=True)
def unpack(c: Call) -> list[str]:
    shape = list(c.shape(0))
    axis = c.axis(c.p["axis"], len(shape))
    pieces = split(c.g, c.x(0), axis, [1] * shape[axis])
    return [reshape(c.g, p, shape[:axis] + shape[axis + 1 :]) for p in pieces]


@converts("SPLIT", moves=True)
def split_evenly(c: Call) -> list[str]:
    """Inputs: the dimension, the data."""
    shape, count = c.shape(1), c.p["count"]
    axis = c.axis(c.ints(0, "a dimension")[0], len(shape))
    if count < 1 or shape[axis] % count:
        raise ModelError(f"{shape[axis]} elements cannot be split in {count} equal parts")
    return split(c.g, c.x(1), axis, [shape[axis] // count] * count)


@converts("SPLIT_V", moves=True)
def split_by_sizes(c: Call) -> list[str]:
    """Inputs: the data, the sizes, the dimension; one size may be -1."""
    shape, sizes = c.shape(0), c.ints(1, "sizes")
    axis = c.axis(c.ints(2, "a dimension")[0], len(shape))
    if sizes.count(-1) == 1:
        sizes = [shape[axis] - sum(sizes) - 1 if s == -1 else s for s in sizes]
    if any(s < 0 for s in sizes) or sum(sizes) != shape[axis]:
        raise ModelError(f"{shape[axis]} elements cannot be split in parts of {sizes}")
    return split(c.g, c.x(0), axis, sizes)


@converts("SLICE", moves=True)
def slice_(c: Call) -> str:
    if c.value(1) is None:
        return slice_at(c)
    shape, begin, size = c.shape(0), c.ints(1, "a place"), c.ints(2, "a size")
    if not len(shape) == len(begin) == len(size):
        raise ModelError(f"its slice from {begin} of {size} does not fit the input {list(shape)}")
    end = [n if s == -1 else b + s for n, b, s in zip(shape, begin, size, strict=True)]
    if any(not 0 <= b <= e <= n for b, e, n in zip(begin, end, shape, strict=True)):
        raise ModelError(f"its slice from {begin} to {end} does not lie in the input {list(shape)}")
    if begin == [0] * len(shape) and end == list(shape):
        return c.x(0)
    if any(b == e for b, e in zip(begin, end, strict=True)):  # before the first or behind the last step of a loop
        return c.g.constant(np.zeros([e - b for b, e in zip(begin, end, strict=True)]), dtype=c.g.dtype(c.x(0)))
    return c.op_("Slice", c.x(0), c.g.ints(begin), c.g.ints(end), c.g.ints(range(len(shape))))


@converts("STRIDED_SLICE", moves=True)
def strided_slice(c: Call) -> str:
    """As Python slices; bit k of a mask is about the k-th entry of begin, end and strides."""
    if c.value(1) is None:
        return element_at(c)
    shape = c.shape(0)
    begin, end, step = (c.ints(i, "a slice's bounds") for i in (1, 2, 3))
    p = c.p
    if not len(begin) == len(end) == len(step) <= 32 or 0 in step:
        raise ModelError(f"its bounds {begin}, {end}, {step} do not fit together")

    def bit(mask: str, k: int) -> bool:
        return bool(p[mask] >> k & 1)

    named = sum(not bit("new_axis_mask", k) and not bit("ellipsis_mask", k) for k in range(len(begin)))
    starts, ends, axes, steps, out = [], [], [], [], []
    d = 0
    for k in range(len(begin)):
        if bit("ellipsis_mask", k):
            for _ in range(len(shape) - named):
                out.append(shape[d])
                d += 1
            continue
        if bit("new_axis_mask", k):
            out.append(1)
            continue
        if d >= len(shape):
            raise ModelError(f"its bounds {begin} are more than the input's dimensions {list(shape)}")
        n = shape[d]
        last = begin[k] + end[k] if p["offset"] else end[k]
        low = None if bit("begin_mask", k) else begin[k]
        if bit("shrink_axis_mask", k):
            low = begin[k]
            if not -n <= low < n:
                raise ModelError(f"its place {low} does not lie in {n} elements")
            places = range(low % n, low % n + 1)
        else:
            places = range(*slice(low, None if bit("end_mask", k) else last, step[k]).indices(n))
            out.append(len(places))
        if len(places) < 1:
            raise ModelError("its slice is empty")
        if places != range(n):
            starts.append(places.start)
            ends.append(places.stop if places.stop >= 0 else -n - 1)
            axes.append(d)
            steps.append(places.step)
        d += 1
    out += shape[d:]
    x = c.x(0)
    if axes:
        x = c.op_("Slice", x, *(c.g.ints(v) for v in (starts, ends, axes, steps)))
    return reshape(c.g, x, out)


@converts("PAD", "PADV2", moves=True)
def pad(c: Call) -> str:
    x, pads = c.x(0), _pads(c)
    if c.op == "PADV2":
        fill = reshape(c.g, c.x(2), ())
    elif c.as_stored and c.g.dtype(x).kind != "f":
        q = c.tensor(0).quantization
        fill = c.g.constant(np.array(q.zero[0] if q else 0), dtype=c.g.dtype(x))
    else:
        fill = c.g.scalar(0, x)
    after = tuple(n + sum(p) for n, p in zip(c.g.shape(x), pads, strict=True))
    c.g.check_size("its output", c.g.dtype(x), after)
    return c.op_("Pad", x, c.g.ints([p[0] for p in pads] + [p[1] for p in pads]), fill, mode="constant")


def _pads(c: Call) -> list[list[int]]:
    pads = c.known(1, "a padding")
    if pads.shape != (len(c.shape(0)), 2) or (pads < 0).any():
        raise ModelError(f"its padding {pads.tolist()} does not fit the input {list(c.shape(0))}")
    return [[int(a), int(b)] for a, b in pads]


@converts("MIRROR_PAD", moves=True)
def mirror_pad(c: Call) -> str:
    """ONNX's Pad mirrors without the edge; with it (symmetric) the elements are gathered."""
    x, pads = c.x(0), _pads(c)
    edge = 1 if c.p["symmetric"] else 0
    if any(max(p) > n - 1 + edge for p, n in zip(pads, c.g.shape(x), strict=True)):
        raise ModelError(f"its padding {pads} is larger than the input {list(c.g.shape(x))}")
    if not edge:
        return c.op_("Pad", x, c.g.ints([p[0] for p in pads] + [p[1] for p in pads]), mode="reflect")
    for axis, (before, after) in enumerate(pads):
        if before or after:
            places = np.pad(np.arange(c.g.shape(x)[axis], dtype=np.int64), (before, after), mode="symmetric")
            x = c.op_("Gather", x, c.g.constant(places), axis=axis)
    return x


@converts("GATHER", moves=True)
def gather(c: Call) -> str:
    axis, batch = c.axis(c.p["axis"], len(c.shape(0))), c.p["batch_dims"]
    batch += c.g.rank(_places(c, 1)) if batch < 0 else 0
    return gather_rows(c, _places(c, 1), batch, axis) if batch else c.op_("Gather", c.x(0), _places(c, 1), axis=axis)


@converts("EMBEDDING_LOOKUP", moves=True)
def embedding_lookup(c: Call) -> str:
    return c.op_("Gather", c.x(1), _places(c, 0), axis=0)


@converts("GATHER_ND", moves=True)
def gather_nd(c: Call) -> str:
    return c.op_("GatherND", c.x(0), c.cast(_places(c, 1), np.int64))


def _places(c: Call, i: int) -> str:
    c.tensor(i)
    x = c.values.stored(c.inputs[i])
    return x if c.g.dtype(x) in (np.int32, np.int64) else c.cast(x, np.int32)


@converts("DYNAMIC_UPDATE_SLICE", moves=True)
def dynamic_update_slice(c: Call) -> str:
    """The update in place of a part of the data, along one dimension or several; the place is clamped."""
    shape, part = c.shape(0), c.shape(1)
    if c.value(2) is None:
        return update_at(c)
    begin = c.ints(2, "a place")
    if not len(shape) == len(part) == len(begin) or any(p > n for p, n in zip(part, shape, strict=True)):
        raise ModelError(f"its update {list(part)} at {begin} does not fit {list(shape)}")
    begin = [min(max(0, b), n - p) for b, n, p in zip(begin, shape, part, strict=True)]
    axes = [k for k, (p, n) in enumerate(zip(part, shape, strict=True)) if p != n]
    if not axes:
        return c.x(1)
    if len(axes) > 1:
        raise NotConverted("an update along several dimensions")
    x, axis = c.x(0), axes[0]
    sizes = [begin[axis], part[axis], shape[axis] - begin[axis] - part[axis]]
    pieces = split(c.g, x, axis, [s for s in sizes if s])
    pieces[1 if sizes[0] else 0] = c.x(1)
    return c.op_("Concat", *pieces, axis=axis)


@converts("TILE", moves=True)
def tile(c: Call) -> str:
    counts = c.ints(1, "counts")
    if len(counts) != len(c.shape(0)):
        raise ModelError(f"its counts {counts} do not fit the input {list(c.shape(0))}")
    after = tuple(n * m for n, m in zip(c.shape(0), counts, strict=True))
    c.g.check_size("its output", np.dtype(np.float32), after)
    return c.op_("Tile", c.x(0), c.g.ints(counts))


@converts("BROADCAST_TO", moves=True)
def broadcast_to(c: Call) -> str:
    return c.op_("Expand", c.x(0), c.g.ints(c.ints(1, "a shape")))


@converts("REVERSE_V2", moves=True)
def reverse(c: Call) -> str:
    shape = c.shape(0)
    axes = [c.axis(a, len(shape)) for a in c.ints(1, "dimensions")]
    bounds = ([shape[a] - 1 for a in axes], [-shape[a] - 1 for a in axes], axes, [-1] * len(axes))
    return c.op_("Slice", c.x(0), *(c.g.ints(v) for v in bounds))


@converts("REVERSE_SEQUENCE", moves=True)
def reverse_sequence(c: Call) -> str:
    axes = {"time_axis": c.p["sequence_axis"], "batch_axis": c.p["batch_axis"]}
    return c.op_("ReverseSequence", c.x(0), c.cast(_places(c, 1), np.int64), **axes)


@converts("SPACE_TO_DEPTH", moves=True)
def space_to_depth(c: Call) -> str:
    x = _blocks(c)
    return c.values.channels_last(c.op_("SpaceToDepth", x, blocksize=c.p["block"]))


@converts("DEPTH_TO_SPACE", moves=True)
def depth_to_space(c: Call) -> str:
    x = _blocks(c)
    return c.values.channels_last(c.op_("DepthToSpace", x, blocksize=c.p["block"], mode="DCR"))


def _blocks(c: Call) -> str:
    if len(c.shape(0)) != 4 or c.p["block"] < 1:
        raise ModelError(f"its block {c.p['block']} does not fit the input {list(c.shape(0))}")
    return c.values.channels_first(c.x(0))


@converts("SPACE_TO_BATCH_ND", moves=True)
def space_to_batch(c: Call) -> str:
    """Pads, then (N, h*b, w*v, C) → (b*v*N, h, w, C)."""
    x, block, pads = c.x(0), c.ints(1, "a block"), c.known(2, "a padding")
    rank, m = c.g.rank(x), len(block)
    if pads.shape != (m, 2) or (pads < 0).any() or not 1 <= m < rank or min(block) < 1:
        raise ModelError(f"its block {block} and padding {pads.tolist()} do not fit the input {list(c.g.shape(x))}")
    if pads.any():
        around = [[0, 0], *([int(a), int(b)] for a, b in pads), *([0, 0] for _ in range(rank - 1 - m))]
        q = c.tensor(0).quantization
        stored = c.as_stored and c.g.dtype(x).kind != "f" and q is not None
        fill = c.g.constant(np.array(q.zero[0] if stored and q else 0), dtype=c.g.dtype(x))
        x = c.op_("Pad", x, c.g.ints([p[0] for p in around] + [p[1] for p in around]), fill, mode="constant")
    shape = c.g.shape(x)
    if any(n % b for n, b in zip(shape[1:], block, strict=False)):
        raise ModelError(f"its block {block} does not divide {list(shape)}")
    inner: list[int] = [shape[0]]
    for n, b in zip(shape[1:], block, strict=False):
        inner += [n // b, b]
    inner += shape[1 + m :]
    order = [*(2 + 2 * k for k in range(m)), 0, *(1 + 2 * k for k in range(m)), *range(1 + 2 * m, len(inner))]
    y = c.op_("Transpose", reshape(c.g, x, inner), perm=order)
    small = [n // b for n, b in zip(shape[1:], block, strict=False)]
    return reshape(c.g, y, [shape[0] * math.prod(block), *small, *shape[1 + m :]])


@converts("BATCH_TO_SPACE_ND", moves=True)
def batch_to_space(c: Call) -> str:
    """(b*v*N, h, w, C) → (N, h*b, w*v, C), then crops."""
    x, block, crops = c.x(0), c.ints(1, "a block"), c.known(2, "a crop")
    shape, m = c.g.shape(x), len(block)
    if crops.shape != (m, 2) or (crops < 0).any() or not 1 <= m < len(shape) or min(block) < 1:
        raise ModelError(f"its block {block} and crop {crops.tolist()} do not fit the input {list(shape)}")
    if shape[0] % math.prod(block):
        raise ModelError(f"its block {block} does not divide {shape[0]} pictures")
    batch = shape[0] // math.prod(block)
    order = [m]
    for k in range(m):
        order += [m + 1 + k, k]
    order += range(2 * m + 1, len(shape) + m)
    y = c.op_("Transpose", reshape(c.g, x, [*block, batch, *shape[1:]]), perm=order)
    large = [n * b for n, b in zip(shape[1:], block, strict=False)]
    y = reshape(c.g, y, [batch, *large, *shape[1 + m :]])
    begin, end = [int(a) for a, _ in crops], [n - int(b) for n, (_, b) in zip(large, crops, strict=True)]
    if not crops.any():
        return y
    return c.op_("Slice", y, c.g.ints(begin), c.g.ints(end), c.g.ints(range(1, m + 1)))


@converts("SELECT", "SELECT_V2", moves=True)
def select(c: Call) -> str:
    x = c.x(0)
    rank = len(c.shape(1))
    if c.op == "SELECT" and 0 < c.g.rank(x) < rank:  # a vector chooses rows
        x = reshape(c.g, x, [*c.g.shape(x), *[1] * (rank - c.g.rank(x))])
    return c.op_("Where", x, c.x(1), c.x(2))


# --- shapes and constants ---------------------------------------------------------------------------------------------


@converts("SHAPE")
def shape_of(c: Call) -> str:
    return _made(c, np.array(c.shape(0)))


@converts("RANK")
def rank_of(c: Call) -> str:
    return _made(c, np.array(len(c.shape(0))))


@converts("ZEROS_LIKE")
def zeros_like(c: Call) -> str:
    return _filled(c, c.shape(0), 0)


@converts("FILL")
def fill(c: Call) -> str:
    return _filled(c, tuple(c.ints(0, "a shape")), c.known(1, "a value").reshape(-1)[0])


@converts("RANGE")
def arange(c: Call) -> str:
    begin, end, step = (c.known(i, "a range").reshape(-1)[0] for i in range(3))
    if not step or not np.isfinite([begin, end, step]).all():
        raise ModelError(f"its range from {begin} to {end} by {step}")
    c.g.claim("its range", (max(1, math.ceil((float(end) - float(begin)) / float(step))),))
    return _made(c, np.arange(begin, end, step))


@converts("ONE_HOT")
def one_hot(c: Call) -> str:
    """Inputs: places, how many, the value at the place, the value elsewhere."""
    depth = c.ints(1, "a depth")
    if len(depth) != 1 or depth[0] < 1:
        raise ModelError(f"its depth is {depth}")
    on, off = (reshape(c.g, c.x(i), (1,)) for i in (2, 3))
    return c.op_(
        "OneHot", c.cast(c.x(0), np.int64), c.g.ints(depth), c.op_("Concat", off, on, axis=0), axis=int(c.p["axis"])
    )


def _made(c: Call, value: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> str:
    kind = np.dtype(c.output().dtype)
    return c.g.constant(value, c.output().name, dtype=np.float32 if kind.kind == "f" else kind)


def _filled(c: Call, shape: Shape, value: float) -> str:
    kind = np.dtype(c.output().dtype)
    return c.g.filled(shape, value, np.float32 if kind.kind == "f" else kind)
