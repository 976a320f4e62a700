"""ncnn's layers that only move elements."""

from __future__ import annotations

import itertools
import math

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted
from dlpack.exporters.layers import reshape, slice_axis, split
from dlpack.exporters.ncnn.call import Layer, converts
from dlpack.exporters.ncnn.files import NONE


@converts("Split", "Noop")
def copies(n: Layer) -> list[str]:
    return [n.x()] * len(n.p.outputs)


@converts("MemoryData")
def memory_data(n: Layer) -> str:
    given = [n.p.int(k) for k in (2, 11, 1, 0)]
    shape = [v for v in given if v]
    if not shape or any(v < 0 for v in shape) or not n.p.int(21, 1):
        raise NotConverted(f"constants of the shape {shape}")
    return n.plain("data", (1, *shape))


@converts("Concat")
def concat(n: Layer) -> str:
    axis = n.axis(0)
    return n.op_("Concat", *n.inputs, axis=axis) if len(n.inputs) > 1 else n.x()


@converts("Slice")
def slice_layer(n: Layer) -> list[str]:
    axis, sizes, count = n.axis(1), n.p.ints(0), len(n.p.outputs)
    size = n.shape()[axis]
    if 2 in n.p:
        bounds = [0, *(v + size if v < 0 else v for v in n.p.ints(2)), size]
        sizes = [b - a for a, b in itertools.pairwise(bounds)]
    if len(sizes) != count:
        raise ModelError(f"it has {count} outputs and {len(sizes)} sizes")
    left = size
    for k, v in enumerate(sizes):
        sizes[k] = left // (count - k) if v == NONE else v
        left -= sizes[k]
    if left < 0 or min(sizes) < 1:
        raise ModelError(f"its sizes {sizes} do not cut {size}")
    return split(n.g, n.x(), axis, sizes) if not left else split(n.g, n.x(), axis, [*sizes, left])[:count]


_PERMUTE = {
    1: ("w",),
    2: ("wh", "hw"),
    3: ("whc", "hwc", "wch", "cwh", "hcw", "chw"),
    4: ("whdc", "hwdc", "wdhc", "dwhc", "hdwc", "dhwc", "whcd", "hwcd", "wchd", "cwhd", "hcwd", "chwd",
        "wdch", "dwch", "wcdh", "cwdh", "dcwh", "cdwh", "hdcw", "dhcw", "hcdw", "chdw", "dchw", "cdhw"),
}  # fmt: skip
"""Number of dimensions → for each order_type the result's dimensions from the innermost outwards."""


@converts("Permute")
def permute(n: Layer) -> str:
    orders, kind = _PERMUTE[n.dims()], n.p.int(0)
    if not 0 <= kind < len(orders):
        raise ModelError(f"order_type {kind} does not fit {n.dims()} dimensions")
    names = orders[0][::-1]
    return n.op_("Transpose", n.x(), perm=[0, *(1 + names.index(c) for c in orders[kind][::-1])])


@converts("Reshape")
def reshape_layer(n: Layer) -> str:
    shape = n.shape()[1:]
    if 6 in n.p or n.p.int(3) or n.p.int(12, 233) != 233 or n.p.int(13, 233) != 233:
        raise NotConverted("a shape that is an expression, permute=1, or a batch axis")
    have = dict(zip(_PERMUTE[len(shape)][0][::-1], shape, strict=True))
    wanted = {c: n.p.int(k, NONE) for c, k in (("c", 2), ("d", 11), ("h", 1), ("w", 0))}
    out = [have.get(c, 1) if v == 0 else v for c, v in wanted.items() if v != NONE]
    total = math.prod(shape)
    if out.count(-1) == 1:
        rest = math.prod(v for v in out if v != -1)
        out[out.index(-1)] = total // rest if rest > 0 else 0
    if not out or min(out) < 1 or math.prod(out) != total:
        raise ModelError(f"{list(shape)} cannot be reshaped to {out}")
    return reshape(n.g, n.x(), (1, *out))


@converts("Flatten")
def flatten(n: Layer) -> str:
    return reshape(n.g, n.x(), (1, math.prod(n.shape())))


@converts("ExpandDims", "Squeeze")
def dimensions(n: Layer) -> str:
    axes, shape = n.p.ints(3), n.shape()[1:]
    if not axes:
        raise NotConverted("the form without axes")
    if n.type == "ExpandDims":
        rank = len(shape) + len(axes)
        places = sorted(a + rank if a < 0 else a for a in axes)
        if rank > 4 or len(set(places)) != len(places) or not 0 <= places[0] <= places[-1] < rank:
            raise ModelError(f"its axes {axes} do not fit {list(shape)}")
        rest = iter(shape)
        return reshape(n.g, n.x(), (1, *(1 if k in places else next(rest) for k in range(rank))))
    gone = {n.place(a) - 1 for a in axes}
    kept = [d for k, d in enumerate(shape) if k not in gone or d != 1]
    return reshape(n.g, n.x(), (1, *(kept or [1])))


@converts("Crop")
def crop(n: Layer) -> str:
    shape, x = n.shape(), n.x()
    names = _PERMUTE[n.dims()][0][::-1]
    if 9 in n.p:
        starts, ends = n.p.ints(9), n.p.ints(10)
        axes = [n.place(a) for a in n.p.ints(11)] or list(range(1, len(starts) + 1))
        if not len(starts) == len(ends) == len(axes):
            raise ModelError("its starts, ends and axes differ in length")
        for axis, start, end in zip(axes, starts, ends, strict=True):
            size = shape[axis]
            begin = 0 if start == NONE else start + size if start < 0 else start
            stop = size if end == NONE else min(size, end if end > 0 else end + size)
            x = _cut(n, x, axis, begin, stop)
        return x
    offsets = {c: n.p.int(k) for c, k in (("w", 0), ("h", 1), ("d", 13), ("c", 2))}
    sizes = {c: n.p.int(k) for c, k in (("w", 3), ("h", 4), ("d", 14), ("c", 5))}
    behind = {c: n.p.int(k) for c, k in (("w", 6), ("h", 7), ("d", 15), ("c", 8))}
    like = n.shape(1) if len(n.inputs) > 1 else None
    for axis, c in enumerate(names, 1):
        begin, size = offsets[c], shape[axis]
        if begin == NONE:
            raise NotConverted("a crop of the middle")
        if like is not None:
            if len(like) != len(shape):
                raise NotConverted(f"a crop of {list(shape)} as {list(like)}")
            end = begin + like[axis]
        else:
            end = size - behind[c] if sizes[c] in (0, NONE) else begin + sizes[c]
        x = _cut(n, x, axis, begin, end)
    return x


def _cut(n: Layer, x: str, axis: int, begin: int, end: int) -> str:
    size = n.g.shape(x)[axis]
    if not 0 <= begin < end <= size:
        raise ModelError(f"the crop {begin}..{end} does not lie in {size}")
    return x if (begin, end) == (0, size) else slice_axis(n.g, x, axis, begin, end)


@converts("ShuffleChannel")
def shuffle_channel(n: Layer) -> str:
    shape, groups = n.picture(), n.p.int(0, 1)
    if groups < 1 or shape[1] % groups:
        raise ModelError(f"group {groups} does not divide {shape[1]} channels")
    rows = shape[1] // groups if n.p.int(1) else groups
    y = reshape(n.g, n.x(), (1, rows, shape[1] // rows, shape[2] * shape[3]))
    return reshape(n.g, n.op_("Transpose", y, perm=[0, 2, 1, 3]), shape)


@converts("PixelShuffle")
def pixel_shuffle(n: Layer) -> str:
    shape, factor = n.picture(), n.p.int(0, 1)
    if factor < 1 or shape[1] % (factor * factor):
        raise ModelError(f"its factor {factor} does not fit {shape[1]} channels")
    return n.op_("DepthToSpace", n.x(), blocksize=factor, mode="DCR" if n.p.int(1) else "CRD")


@converts("Reorg")
def reorg(n: Layer) -> str:
    (_, c, h, w), s = n.picture(), n.p.int(0, 1)
    if s < 1 or h % s or w % s:
        raise ModelError(f"stride {s} does not divide {h} x {w}")
    y = reshape(n.g, n.x(), (1, c, h // s, s, w // s, s))
    y = n.op_("Transpose", y, perm=[0, 3, 5, 1, 2, 4] if n.p.int(1) else [0, 1, 3, 5, 2, 4])
    return reshape(n.g, y, (1, c * s * s, h // s, w // s))
