"""Convolution: Conv."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dlpack.graph.registry import Builder, Context, NotSupported, anchor, rewrite
from dlpack.loops.numbered import as_numbered
from dlpack.loops.tir import te, tirx
from dlpack.operators.elementwise import sum_over, times


def strides_and_dilations(ctx: Context, n: int) -> tuple[list[int], list[int]]:
    """Those of a window operator over `n` dimensions; 1 in each where the node has none."""
    return list(ctx.attr("strides") or [1] * n), list(ctx.attr("dilations") or [1] * n)


def window_pads(ctx: Context, n: int) -> list[int]:
    """The pads of a window operator over `n` dimensions, low ones first (SAME: `model/restated.py`)."""
    return list(ctx.attr("pads") or [0] * (2 * n)) if ctx.attr("auto_pad", "NOTSET") == "NOTSET" else [0] * (2 * n)


def add_pad(
    b: Builder, x: str, low: Sequence[int], high: Sequence[int], fill: float, at_least_zero: bool = False
) -> str:
    """A pad of the spatial dimensions; it becomes a halo where that is possible."""
    if not any(low) and not any(high):
        return x
    t = b.type_of(x)
    lead = [0] * (len(t.shape) - len(low))
    low, high = [*lead, *low], [*lead, *high]
    shape = [n + p + q for n, p, q in zip(t.shape, low, high, strict=True)]
    return b.add_internal("Pad", [x], shape, low=tuple(low), high=tuple(high), fill=fill, at_least_zero=at_least_zero)


@rewrite("Conv")
def conv(ctx: Context, b: Builder) -> None:
    """Conv → a pad, a convolution without pads, and the bias as a pointwise addition."""
    n = len(ctx.input_type(0).shape) - 2
    strides, dilations = strides_and_dilations(ctx, n)
    pads = window_pads(ctx, n)
    data = ctx.node.inputs[0]
    if min(pads, default=0) < 0:
        raise NotSupported("negative pads")
    data = add_pad(b, data, pads[:n], pads[n:], ctx.attr("fill", 0.0))
    out = ctx.output_type().shape
    bias = ctx.has_input(2)
    window = {"strides": tuple(strides), "dilations": tuple(dilations)}
    y = add_convolution(ctx, b, data, ctx.node.inputs[1], out, window, None if bias else ctx.node.outputs[0])
    if bias:
        add_bias(ctx, b, y, ctx.node.inputs[2], len(out), 1, ctx.node.outputs[0])


SPLIT_GROUPS, SPLIT_CHANNELS = 16, 8
"""Of a convolution by weights that a run computes: at most so many groups, each with at least so many outputs, become
convolutions of their own, for which the weights are packed."""


def add_convolution(
    ctx: Context,
    b: Builder,
    x: str,
    w: str,
    out: Sequence[int],
    window: Mapping[str, tuple[int, ...]],
    name: str | None,
) -> str:
    """A convolution without pads and bias, of the node's groups; `window`: its strides and dilations."""
    group, dtype = ctx.attr("group", 1), ctx.output_type().dtype
    each = out[1] // group
    if w in b.graph.constants or w in b.constants or not 1 < group <= SPLIT_GROUPS or each < SPLIT_CHANNELS:
        return b.add_internal("Convolution", [x, w], out, name, dtype, group=group, **window)

    def part(value: str, axis: int, size: int, k: int) -> str:
        shape = list(b.type_of(value).shape)
        shape[axis] = size
        bounds = [b.constant(np.array([v], np.int64)) for v in (k * size, (k + 1) * size, axis)]
        return b.add("Slice", [value, *bounds], shape)

    parts, inputs = [], b.type_of(w).shape[1]
    for k in range(group):
        operands = [part(x, 1, inputs, k), part(w, 0, each, k)]
        shape = [out[0], each, *out[2:]]
        parts.append(b.add_internal("Convolution", operands, shape, None, dtype, group=1, **window))
    return b.add("Concat", parts, out, dtype, name, axis=1)


def add_bias(ctx: Context, b: Builder, y: str, bias: str, rank: int, axis: int, output: str | None) -> str:
    """``y + bias`` along `axis`; a constant bias is reshaped at build time. Returns the sum's name."""
    t = b.type_of(bias)
    shape = [1] * rank
    shape[axis] = t.shape[0]
    constant = b.graph.constants.get(bias)
    if constant is not None:
        bias = b.constant(np.ascontiguousarray(constant.reshape(shape)), "bias")
    else:
        bias = b.add("Reshape", [bias, b.constant(np.array(shape, np.int64), "shape")], shape)
    return b.add("Add", [y, bias], b.type_of(y).shape, output=output)


def axis_names(spatial: int) -> list[str]:
    """Names for the axes N, C and the spatial ones: they become the loops' names in the emitted code."""
    known = ["plane", "row", "column"]
    return ["n", "c", *(known[3 - spatial :] if spatial <= 3 else map("s{}".format, range(spatial)))]


def _is_pixelwise(ctx: Context) -> bool:
    kernel = ctx.input_type(1).shape[2:]
    return all(k == 1 for k in (*kernel, *ctx.attr("strides")))


@anchor("Convolution", domain="dlpack", layout="spatial", flattens=_is_pixelwise)
def convolution(ctx: Context, x: Any, w: Any) -> list[Any]:
    """Direct convolution without pads: x [N, C, spatial...], w [O, C/group, kernel...] → [N, O, spatial...].

    Products have the output's type. Integer weights, and an 8-bit x, become that one by one: they stay small in memory.
    """
    dtype = ctx.output_type().dtype

    def product(x: Any, w: Any) -> Any:
        return times(x.astype(dtype), w.astype(dtype))

    strides, dilations, group = ctx.attr("strides"), ctx.attr("dilations"), ctx.attr("group")
    xs, ws = [int(d) for d in x.shape], [int(d) for d in w.shape]
    n = len(xs) - 2
    out = [(xs[2 + d] - (ws[2 + d] - 1) * dilations[d] - 1) // strides[d] + 1 for d in range(n)]
    kernel = [te.reduce_axis((0, ws[2 + d]), name=f"k{'zyx'[3 - n + d] if n <= 3 else d}") for d in range(n)]
    per_group, channels = ws[0] // group, ws[1]
    ic = te.reduce_axis((0, channels), name="ic")

    def at(*index: Any) -> Any:
        i, o, *s = index
        place = [s[d] * strides[d] + kernel[d] * dilations[d] for d in range(n)]
        if channels == 1:
            source = o if per_group == 1 else o // per_group
            return sum_over(product(x(i, source, *place), w(o, 0, *kernel)), axis=kernel)
        source = ic if group == 1 else o // per_group * channels + ic
        return sum_over(product(x(i, source, *place), w(o, ic, *kernel)), axis=[*kernel, ic])

    grouped = {"dlpack.group": per_group} if group > 1 and per_group > 1 else None
    return [te.compute((xs[0], ws[0], *out), at, name="acc", varargs_names=axis_names(n), attrs=grouped)]


@anchor("PixelConvolution", domain="dlpack", layout="spatial")
def pixel_convolution(ctx: Context, x: Any, w: Any) -> list[Any]:
    """Convolution without pads, strides and dilations, of pictures of several sizes: x [N, C, H + KH - 1, W + KW - 1],
    w [O, C, KH, KW] → [N, O, H, W].

    Pixels are numbered as if a row had more than any picture's (loops/numbered.py).
    """
    n, o, high, wide = ctx.output_type().shape
    rows, columns = as_numbered(high, wide)
    ic, ky, kx = (te.reduce_axis((0, int(w.shape[d])), name=name) for d, name in ((1, "ic"), (2, "ky"), (3, "kx")))

    def pixel(b: Any, t: Any, k: Any) -> Any:
        row, column = tirx.floordiv(t, columns), tirx.floormod(t, columns)
        return sum_over(times(x(b, ic, row + ky, column + kx), w(k, ic, ky, kx)), axis=[ky, kx, ic])

    few = {"dlpack.few_pixels": list(ctx.attr("few"))}
    sums = te.compute((n, rows * columns, o), pixel, name="pixels", attrs=few)
    return [te.compute((n, o, high, wide), lambda b, k, y, xx: sums(b, y * columns + xx, k), name="few_pixels")]
