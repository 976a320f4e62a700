"""Sampling at places that are data, and windows laid over images: GridSample, RoiAlign, DeformConv, Col2Im."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np

from dlpack.graph.registry import Builder, Context, NotSupported, compute, rewrite
from dlpack.loops.tir import te, tirx
from dlpack.operators.convolution import add_bias, strides_and_dilations, window_pads
from dlpack.operators.elementwise import call, const


def _floor(x: Any, dtype: str) -> Any:
    return call("floor_", dtype, x)


def _whole(x: Any, dtype: str) -> Any:
    """A whole float as int32; what lies far outside any image, or is NaN, is brought near."""
    limit = const(float(1 << 24), dtype)
    return tirx.min(tirx.max(x, const(0.0, dtype) - limit), limit).astype("int32")


def _within(k: Any, n: int) -> Any:
    return tirx.min(tirx.max(k, 0), n - 1)


def _inside(place: Sequence[Any], shape: Sequence[int]) -> Any:
    return tirx.all(*(c for k, n in zip(place, shape, strict=True) for c in (k >= 0, k < n)))


# --- GridSample -------------------------------------------------------------------------------------------------------

_MODES = {"bilinear": "linear", "bicubic": "cubic"}


@compute("GridSample", layout="rows")
def grid_sample(ctx: Context, x: Any, grid: Any) -> list[Any]:
    """x [N, C, spatial...] sampled at the places of grid [N, out..., rank], which are -1 to 1, the last axis first."""
    shape, out = ctx.input_type(0).shape, ctx.output_type()
    spatial = shape[2:]
    rank, dtype = len(spatial), out.dtype
    if not dtype.startswith("float"):
        raise NotSupported(f"GridSample of {dtype}")
    mode = ctx.attr("mode", "linear")
    mode = _MODES.get(mode, mode)
    border = ctx.attr("padding_mode", "zeros")
    corners = bool(ctx.attr("align_corners", 0))

    def coordinate(n: Any, *s: Any) -> Any:
        *place, d = s
        value: Any = None
        for axis in reversed(range(rank)):
            g = grid(n, *place, rank - 1 - axis)
            one = _place_in_image(g, spatial[axis], corners, dtype)
            if mode != "cubic":
                one = _brought_in(one, spatial[axis], border, corners, dtype)
            value = one if value is None else tirx.Select(tirx.EQ(d, axis), one, value)
        return value

    at = te.compute((shape[0], *out.shape[2:], rank), coordinate, name="place")
    base: Callable[..., Any]
    weight: Callable[..., Any]
    if mode == "nearest":
        taps, base, weight = 1, lambda v: call("round_", dtype, v), lambda *_: None
    elif mode == "linear":
        taps, base, weight = 2, lambda v: _floor(v, dtype), lambda v, k: _linear_weight(v, k, dtype)
    else:
        taps, base, weight = 4, lambda v: _floor(v, dtype) - const(1.0, dtype), lambda v, k: _cubic_weight(v, k, dtype)

    def sample(n: Any, c: Any, *s: Any) -> Any:
        total: Any = None
        for offsets in product(range(taps), repeat=rank):
            where, factor = [], None
            for d, k in enumerate(offsets):
                v = at(n, *s, d)
                place = base(v) + const(float(k), dtype)
                if mode == "cubic" and border == "reflection":
                    place = _brought_in(place, spatial[d], border, corners, dtype)
                where.append(_whole(place, dtype))
                w = weight(v - _floor(v, dtype), k)
                factor = w if factor is None else factor if w is None else factor * w
            value = x(n, c, *(_within(k, m) for k, m in zip(where, spatial, strict=True)))
            if border == "zeros":
                value = tirx.Select(_inside(where, spatial), value, const(0.0, dtype))
            term = value if factor is None else value * factor
            total = term if total is None else total + term
        return total

    return [te.compute(out.shape, sample, name="out")]


def _place_in_image(g: Any, n: int, corners: bool, dtype: str) -> Any:
    """-1 to 1 → 0 to n - 1 (the centres of the corner pixels), or -1/2 to n - 1/2 (their edges)."""
    if corners:
        return (g + const(1.0, dtype)) * const((n - 1) / 2, dtype)
    return ((g + const(1.0, dtype)) * const(float(n), dtype) - const(1.0, dtype)) * const(0.5, dtype)


def _brought_in(x: Any, n: int, border: str, corners: bool, dtype: str) -> Any:
    """A coordinate outside the image moved to its border, or reflected there."""
    if border == "border":
        return tirx.min(tirx.max(x, const(0.0, dtype)), const(float(n - 1), dtype))
    if border != "reflection":
        return x
    low, high = (0.0, float(n - 1)) if corners else (-0.5, n - 0.5)
    span = high - low
    if span <= 0:
        return const(0.0, dtype)
    d = call("abs_", dtype, x - const(low, dtype))
    turns = _floor(d / const(span, dtype), dtype)
    rest = d - turns * const(span, dtype)
    half = turns * const(0.5, dtype)
    even = tirx.EQ(_floor(half, dtype), half)
    y = tirx.Select(even, rest + const(low, dtype), const(high, dtype) - rest)
    return tirx.min(tirx.max(y, const(0.0, dtype)), const(float(n - 1), dtype))


def _linear_weight(f: Any, k: int, dtype: str) -> Any:
    return f if k else const(1.0, dtype) - f


def _cubic_weight(f: Any, k: int, dtype: str) -> Any:
    """Keys' kernel with a = -3/4 at the distance of tap k, which lies at k - 1, from the fraction f."""
    a = -0.75
    d = (f + const(1.0, dtype), f, const(1.0, dtype) - f, const(2.0, dtype) - f)[k]

    def c(v: float) -> Any:
        return const(v, dtype)

    if k in (1, 2):
        return (c(a + 2) * d - c(a + 3)) * d * d + c(1.0)
    return ((c(a) * d - c(5 * a)) * d + c(8 * a)) * d - c(4 * a)


# --- AffineGrid -------------------------------------------------------------------------------------------------------


@rewrite("AffineGrid")
def affine_grid(ctx: Context, b: Builder) -> None:
    """theta [N, 2, 3] or [N, 3, 4] times the places of all pixels in [-1, 1], x first: [N, H, W, 2] or [N, D, H, W, 3].

    ONNX's definition by other operators squeezes a batch of one away.
    """
    t = ctx.output_type()
    batch, _, *spatial = ctx.ints(1, "size")
    corners = bool(ctx.attr("align_corners", 0))
    lines = [_pixel_centres(n, corners) for n in spatial]
    places = [axis.reshape(-1) for axis in np.meshgrid(*lines, indexing="ij")][::-1]
    homogeneous = np.stack([*places, np.ones_like(places[0])]).astype(t.dtype)
    rows, count = len(spatial), homogeneous.shape[1]
    grid = b.add("MatMul", [ctx.node.inputs[0], b.constant(homogeneous, "places")], [batch, rows, count])
    grid = b.add("Transpose", [grid], [batch, count, rows], perm=[0, 2, 1])
    shape = b.constant(np.array(t.shape, np.int64), "shape")
    b.add("Reshape", [grid, shape], t.shape, output=ctx.node.outputs[0])


def _pixel_centres(n: int, corners: bool) -> Any:
    """Where `n` pixels lie in [-1, 1]: the outer ones at its ends, or half a pixel from them."""
    if corners:
        return np.linspace(-1.0, 1.0, n) if n > 1 else np.array([-1.0])
    return (2 * np.arange(n) + 1) / n - 1


# --- RoiAlign ---------------------------------------------------------------------------------------------------------


def _bins(ctx: Context, rois: Any) -> Any:
    """Of each region, [regions, 6]: where its first bin starts, a bin's size and its samples, for y and then for x."""
    t = ctx.output_type()
    count, _, rows, columns = t.shape
    dtype, ratio, scale = t.dtype, ctx.attr("sampling_ratio", 0), ctx.attr("spatial_scale", 1.0)
    aligned = ctx.attr("coordinate_transformation_mode", "half_pixel" if ctx.node.opset >= 16 else "") == "half_pixel"

    def bin_of(r: Any, axis: int, bins: int) -> tuple[Any, Any, Any]:
        shift = const(0.5 if aligned else 0.0, dtype)
        first = rois(r, axis) * const(scale, dtype) - shift
        size = rois(r, axis + 2) * const(scale, dtype) - shift - first
        step = (size if aligned else tirx.max(size, const(1.0, dtype))) / const(float(bins), dtype)
        if ratio > 0:
            return first, step, const(float(ratio), dtype)
        return first, step, tirx.max(call("ceil_", dtype, step), const(0.0, dtype))

    def parameter(r: Any, k: Any) -> Any:
        values = [*bin_of(r, 1, rows), *bin_of(r, 0, columns)]
        out = values[-1]
        for j in reversed(range(5)):
            out = tirx.Select(tirx.EQ(k, j), values[j], out)
        return out

    return te.compute((count, 6), parameter, name="region")


def _weighted_corners(x: Any, n: Any, ch: Any, row: Any, column: Any, dtype: str) -> list[Any]:
    """The four pixels around a place of x[n, ch], each times its share in the bilinear value; the edge goes on."""
    height, width = (int(d) for d in x.shape[2:])
    zero, one = const(0.0, dtype), const(1.0, dtype)
    last_row, last_column = const(height - 1.0, dtype), const(width - 1.0, dtype)
    y0, x0 = tirx.max(row, zero), tirx.max(column, zero)
    ly, lx = tirx.min(_floor(y0, dtype), last_row), tirx.min(_floor(x0, dtype), last_column)
    fy = tirx.Select(ly >= last_row, zero, y0 - ly)
    fx = tirx.Select(lx >= last_column, zero, x0 - lx)
    out = []
    for dy, dx in product((0, 1), (0, 1)):
        value = x(n, ch, _within(_whole(ly, dtype) + dy, height), _within(_whole(lx, dtype) + dx, width))
        out.append(value * (fy if dy else one - fy) * (fx if dx else one - fx))
    return out


@compute("RoiAlign", layout="rows")
def roi_align(ctx: Context, x: Any, rois: Any, batches: Any) -> list[Any]:
    """Averages (or maxima) of bilinear samples on a grid in every bin of every region.

    With sampling_ratio 0 the grid is as fine as the region's pixels: the loops go up to the finest that can occur.
    """
    t = ctx.output_type()
    _, _, rows, columns = t.shape
    batch, _, height, width = ctx.input_type(0).shape
    dtype, ratio, use_max = t.dtype, ctx.attr("sampling_ratio", 0), ctx.attr("mode", "avg") == "max"
    zero, one = const(0.0, dtype), const(1.0, dtype)
    region = _bins(ctx, rois)
    if ratio > 0:
        limit = (ratio, ratio)
    else:
        limit = (-(-height // rows) + 1, -(-width // columns) + 1)
    iy, ix = te.reduce_axis((0, limit[0]), name="iy"), te.reduce_axis((0, limit[1]), name="ix")

    def place(r: Any, base: int, p: Any, i: Any) -> Any:
        fraction = (i.var.astype(dtype) + const(0.5, dtype)) / tirx.max(region(r, base + 2), one)
        return region(r, base) + (p.astype(dtype) + fraction) * region(r, base + 1)

    def at(r: Any, ch: Any, py: Any, px: Any) -> Any:
        y, xx = place(r, 0, py, iy), place(r, 3, px, ix)
        used = tirx.all(iy.var.astype(dtype) < region(r, 2), ix.var.astype(dtype) < region(r, 5))
        low, high, wide = const(-1.0, dtype), const(float(height), dtype), const(float(width), dtype)
        valid = tirx.all(y >= low, y <= high, xx >= low, xx <= wide)
        parts = _weighted_corners(x, _within(batches(r).astype("int32"), batch), ch, y, xx, dtype)
        if use_max:
            top = tirx.max(tirx.max(parts[0], parts[1]), tirx.max(parts[2], parts[3]))
            value = tirx.Select(valid, top, zero)
            return te.max(tirx.Select(used, value, const(float(np.finfo(dtype).min), dtype)), axis=[iy, ix])
        total = parts[0] + parts[1] + parts[2] + parts[3]
        return te.sum(tirx.Select(tirx.all(used, valid), total, zero), axis=[iy, ix])

    acc = te.compute(t.shape, at, name="acc")

    def finish(r: Any, ch: Any, py: Any, px: Any) -> Any:
        if use_max:
            return acc(r, ch, py, px)
        return acc(r, ch, py, px) / tirx.max(region(r, 2) * region(r, 5), one)

    return [te.compute(t.shape, finish, name="out")]


# --- MaxRoiPool -------------------------------------------------------------------------------------------------------


@compute("MaxRoiPool", layout="rows")
def max_roi_pool(ctx: Context, x: Any, rois: Any) -> list[Any]:
    """The maximum of every bin of every region [image, x1, y1, x2, y2], whose corners are rounded to pixels.

    A bin outside of the image is zero. The maxima of rows come first, since both loops go over the whole image.
    """
    t = ctx.output_type()
    count, channels, rows, columns = t.shape
    batch, _, height, width = ctx.input_type(0).shape
    dtype, scale = t.dtype, const(ctx.attr("spatial_scale", 1.0), t.dtype)
    zero, half, one = (const(value, dtype) for value in (0.0, 0.5, 1.0))
    lowest = const(float(np.finfo(dtype).min), dtype)

    def edges(axis: int, bins: int, size: int) -> Any:
        """The first pixel of every bin of every region and the one behind its last, [regions, bins, 2]."""

        def edge(r: Any, p: Any, k: Any) -> Any:
            first, last = (_floor(rois(r, axis + n) * scale + half, dtype) for n in (0, 2))
            step = tirx.max(last - first + one, one) / const(float(bins), dtype)
            low = _floor(p.astype(dtype) * step, dtype)
            high = call("ceil_", dtype, (p + 1).astype(dtype) * step)
            place = first + tirx.Select(tirx.EQ(k, 0), low, high)
            return _whole(tirx.min(tirx.max(place, zero), const(float(size), dtype)), dtype)

        return te.compute((count, bins, 2), edge, name="edges")

    across, down = edges(1, columns, width), edges(2, rows, height)
    iy, ix = te.reduce_axis((0, height), name="iy"), te.reduce_axis((0, width), name="ix")

    def of_column(r: Any, ch: Any, py: Any, column: Any) -> Any:
        image = _within(_whole(rois(r, 0), dtype), batch)
        inside = tirx.all(iy.var >= down(r, py, 0), iy.var < down(r, py, 1))
        return te.max(tirx.Select(inside, x(image, ch, iy.var, column), lowest), axis=[iy])

    tall = te.compute((count, channels, rows, width), of_column, name="tall")

    def of_bin(r: Any, ch: Any, py: Any, px: Any) -> Any:
        inside = tirx.all(ix.var >= across(r, px, 0), ix.var < across(r, px, 1))
        return te.max(tirx.Select(inside, tall(r, ch, py, ix.var), lowest), axis=[ix])

    acc = te.compute(t.shape, of_bin, name="acc")

    def finish(r: Any, ch: Any, py: Any, px: Any) -> Any:
        empty = tirx.any(down(r, py, 1) <= down(r, py, 0), across(r, px, 1) <= across(r, px, 0))
        return tirx.Select(empty, zero, acc(r, ch, py, px))

    return [te.compute(t.shape, finish, name="out")]


# --- DeformConv -------------------------------------------------------------------------------------------------------


@rewrite("DeformConv")
def deform_conv(ctx: Context, b: Builder) -> None:
    """Samples every tap at its displaced place, then multiplies with the weights as a convolution with 1 x 1 taps."""
    x, w, t = ctx.input_type(0), ctx.input_type(1), ctx.output_type()
    if len(x.shape) != 4:
        raise NotSupported("DeformConv other than two-dimensional")
    kernel = list(w.shape[2:])
    strides, dilations = strides_and_dilations(ctx, 2)
    pads = window_pads(ctx, 2)
    taps, channels = math.prod(kernel), x.shape[1]
    inputs = [ctx.node.inputs[0], ctx.node.inputs[2]] + ([ctx.node.inputs[4]] if ctx.has_input(4) else [])
    shape = [x.shape[0], channels * taps, *t.shape[2:]]
    samples = b.add_internal(
        "DeformedTaps", inputs, shape, kernel=tuple(kernel), strides=tuple(strides), dilations=tuple(dilations),
        low=tuple(pads[:2]), groups=ctx.attr("offset_group", 1),
    )  # fmt: skip
    flat = [w.shape[0], w.shape[1] * taps, 1, 1]
    weights = b.add("Reshape", [ctx.node.inputs[1], b.constant(np.array(flat, np.int64))], flat)
    if ctx.maybe_constant(1) is not None:
        weights = b.constant(np.ascontiguousarray(ctx.constant(1, "weight").reshape(flat)), "weight")
    bias = ctx.has_input(3)
    y = b.add_internal(
        "Convolution", [samples, weights], t.shape, output=None if bias else ctx.node.outputs[0],
        strides=(1, 1), dilations=(1, 1), group=ctx.attr("group", 1),
    )  # fmt: skip
    if bias:
        add_bias(ctx, b, y, ctx.node.inputs[3], 4, 1, ctx.node.outputs[0])


@compute("DeformedTaps", domain="dlpack", layout="rows")
def deformed_taps(ctx: Context, x: Any, offset: Any, mask: Any = None) -> list[Any]:
    """[N, C * taps, H', W']: bilinear samples of x at the window's places moved by `offset`, times `mask`."""
    kernel, strides, dilations, low = (ctx.attr(k) for k in ("kernel", "strides", "dilations", "low"))
    _, channels, height, width = ctx.input_type(0).shape
    t = ctx.output_type()
    dtype, taps = t.dtype, math.prod(kernel)
    per_group = channels // ctx.attr("groups")
    sizes = (height, width)

    def at(n: Any, ck: Any, *s: Any) -> Any:
        channel, tap = tirx.floordiv(ck, taps), tirx.floormod(ck, taps)
        group = tirx.floordiv(channel, per_group)
        steps = (tirx.floordiv(tap, kernel[1]), tirx.floormod(tap, kernel[1]))
        place = []
        for d in range(2):
            fixed = s[d] * strides[d] + steps[d] * dilations[d] - low[d]
            place.append(fixed.astype(dtype) + offset(n, (group * taps + tap) * 2 + d, *s))
        first = [_floor(p, dtype) for p in place]
        total: Any = None
        for corner in product((0, 1), (0, 1)):
            where = [_whole(f, dtype) + k for f, k in zip(first, corner, strict=True)]
            value = x(n, channel, *(_within(k, m) for k, m in zip(where, sizes, strict=True)))
            value = tirx.Select(_inside(where, sizes), value, const(0.0, dtype))
            for p, f, k in zip(place, first, corner, strict=True):
                value = value * _linear_weight(p - f, k, dtype)
            total = value if total is None else total + value
        return total if mask is None else total * mask(n, group * taps + tap, *s)

    return [te.compute(t.shape, at, name="out")]


# --- Col2Im -----------------------------------------------------------------------------------------------------------


@compute("Col2Im", constant_inputs=(1, 2), layout="rows")
def col2im(ctx: Context, x: Any) -> list[Any]:
    """Sums up blocks laid out as columns, x [N, C * taps, blocks], where they overlap in the image."""
    t, block = ctx.output_type(), ctx.ints(2, "block_shape")
    image = t.shape[2:]
    n = len(image)
    strides, dilations = strides_and_dilations(ctx, n)
    pads = ctx.attr("pads") or [0] * (2 * n)
    counts = [
        (image[d] + pads[d] + pads[n + d] - dilations[d] * (block[d] - 1) - 1) // strides[d] + 1 for d in range(n)
    ]
    taps = [te.reduce_axis((0, k), name=f"k{d}") for d, k in enumerate(block)]

    def at(*i: Any) -> Any:
        tap: Any = 0
        column: Any = 0
        fits = []
        for d in range(n):
            reach = i[2 + d] + pads[d] - taps[d] * dilations[d]
            k = tirx.floordiv(reach, strides[d])
            fits += [tirx.EQ(tirx.floormod(reach, strides[d]), 0), reach >= 0, k < counts[d]]
            tap = tap * block[d] + taps[d]
            column = column * counts[d] + _within(k, counts[d])
        value = x(i[0], i[1] * math.prod(block) + tap, column)
        return te.sum(tirx.Select(tirx.all(*fits), value, const(0, t.dtype)), axis=taps)

    return [te.compute(t.shape, at, name="out")]
