"""Caffe's layers that only move elements."""

from __future__ import annotations

import itertools
import math

from dlpack.errors import ModelError
from dlpack.exporters.caffe.call import Layer, converts
from dlpack.exporters.layers import reshape, slice_axis, split


@converts("Concat")
def concat(n: Layer) -> str:
    p = n.p("concat_param")
    axis = n.axis(p, 1, n.rank(), "concat_dim" if "concat_dim" in p else "axis")
    return n.op_("Concat", *n.bottoms, axis=axis) if len(n.bottoms) > 1 else n.x()


@converts("Slice")
def slice_layer(n: Layer) -> list[str]:
    p = n.p("slice_param")
    axis = n.axis(p, 1, n.rank(), "slice_dim" if "slice_dim" in p else "axis")
    size, points = n.shape()[axis], p.ints("slice_point")
    if not points:
        if size % n.tops:
            raise ModelError(f"{n.tops} tops do not divide {size}")
        return split(n.g, n.x(), axis, [size // n.tops] * n.tops)
    bounds = [0, *points, size]
    if len(points) != n.tops - 1 or sorted(set(bounds)) != bounds:
        raise ModelError(f"its slice_point {points} does not cut {size} into {n.tops}")
    return split(n.g, n.x(), axis, [b - a for a, b in itertools.pairwise(bounds)])


@converts("Reshape")
def reshape_layer(n: Layer) -> str:
    p, shape = n.p("reshape_param"), n.shape()
    dims, axes = p.message("shape").ints("dim"), p.int("num_axes", -1)
    start = p.int("axis", 0)
    start = start + len(shape) + 1 if start < 0 else start
    end = len(shape) if axes == -1 else start + axes
    if not 0 <= start <= end <= len(shape):
        raise ModelError(f"its axis and num_axes do not fit {list(shape)}")
    out = list(shape[:start])
    for k, d in enumerate(dims):
        if d == 0 and start + k >= len(shape):
            raise ModelError(f"its shape {dims} does not fit {list(shape)}")
        out.append(shape[start + k] if d == 0 else d)
    out += shape[end:]
    if out.count(-1) == 1:
        known = math.prod(v for v in out if v != -1)
        out[out.index(-1)] = math.prod(shape) // known if known else 0
    if math.prod(out) != math.prod(shape) or any(v <= 0 for v in out):
        raise ModelError(f"{list(shape)} cannot be reshaped to {dims}")
    return reshape(n.g, n.x(), out)


@converts("Flatten")
def flatten(n: Layer) -> str:
    p, shape = n.p("flatten_param"), n.shape()
    start, end = n.axis(p, 1, len(shape)), n.axis(p, -1, len(shape), "end_axis")
    if end < start:
        raise ModelError(f"its axis {start} lies behind its end_axis {end}")
    return reshape(n.g, n.x(), (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))


@converts("Permute")
def permute(n: Layer) -> str:
    order = n.p("permute_param").ints("order")
    order += [k for k in range(n.rank()) if k not in order]
    if sorted(order) != list(range(n.rank())):
        raise ModelError(f"its order {order} does not fit an input of {n.rank()} dimensions")
    return n.op_("Transpose", n.x(), perm=order)


@converts("Crop")
def crop(n: Layer) -> str:
    p, x = n.p("crop_param"), n.x()
    axis, offsets = n.axis(p, 2, n.rank()), p.ints("offset") or [0]
    count = n.rank() - axis
    offsets = offsets * count if len(offsets) == 1 else offsets
    if len(offsets) != count or n.rank(1) != n.rank():
        raise ModelError(f"its offset {offsets} does not fit {count} dimensions")
    for k, offset in enumerate(offsets, axis):
        size = n.shape(1)[k]
        if offset < 0 or offset + size > n.shape()[k]:
            raise ModelError(f"the crop of {size} at {offset} does not lie in {n.shape()[k]}")
        if size != n.shape()[k]:
            x = slice_axis(n.g, x, k, offset, offset + size)
    return x


@converts("Tile")
def tile(n: Layer) -> str:
    p = n.p("tile_param")
    reps = [1] * n.rank()
    reps[n.axis(p, 1, n.rank())] = p.int("tiles", 1)
    return n.op_("Tile", n.x(), n.g.ints(reps))


@converts("ShuffleChannel")
def shuffle_channel(n: Layer) -> str:
    shape, groups = n.shape(), n.p("shuffle_channel_param").int("group", 1)
    if groups < 1 or shape[1] % groups:
        raise ModelError(f"group {groups} does not divide {shape[1]} channels")
    y = reshape(n.g, n.x(), (shape[0], groups, shape[1] // groups, math.prod(shape[2:])))
    return reshape(n.g, n.op_("Transpose", y, perm=[0, 2, 1, 3]), shape)
