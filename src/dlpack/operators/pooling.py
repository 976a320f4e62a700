"""Pooling: MaxPool, AveragePool, GlobalAveragePool, GlobalMaxPool."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dlpack.graph.registry import Builder, Context, anchor, compute, rewrite
from dlpack.loops.tir import te, tirx
from dlpack.operators.convolution import add_pad, axis_names, strides_and_dilations, window_pads
from dlpack.operators.reduction import greatest


def _window(ctx: Context) -> tuple[list[int], list[int], list[int], list[int], list[int]]:
    """kernel, strides, dilations, low and high pads; the high ones reach as far as the last window does."""
    x, out = ctx.input_type(0).shape, ctx.output_type().shape
    kernel = list(ctx.attr("kernel_shape"))
    n = len(kernel)
    strides, dilations = strides_and_dilations(ctx, n)
    low = window_pads(ctx, n)[:n]
    high = [
        max(0, (out[2 + d] - 1) * strides[d] + (kernel[d] - 1) * dilations[d] + 1 - x[2 + d] - low[d]) for d in range(n)
    ]
    return kernel, strides, dilations, low, high


@rewrite("MaxPool")
def max_pool(ctx: Context, b: Builder) -> None:
    dtype = ctx.input_type(0).dtype
    lowest = -math.inf if dtype.startswith("float") else float(np.iinfo(dtype).min)
    kernel, strides, dilations, low, high = _window(ctx)
    window: dict[str, Any] = {"kernel": tuple(kernel), "strides": tuple(strides), "dilations": tuple(dilations)}
    x = add_pad(b, ctx.node.inputs[0], low, high, lowest, at_least_zero=True)
    y = b.add_internal("PoolMax", [x], ctx.output_type().shape, output=ctx.node.outputs[0], **window)
    if len(ctx.node.outputs) > 1 and ctx.node.outputs[1]:
        by_columns = int(ctx.attr("storage_order", 0))
        b.add_internal(
            "PoolPlace", [ctx.node.inputs[0], y], ctx.output_type().shape, ctx.node.outputs[1],
            low=tuple(low), by_columns=by_columns, **window,
        )  # fmt: skip
        b.types[ctx.node.outputs[1]] = ctx.output_type(1)


@compute("PoolPlace", domain="dlpack", layout="rows")
def pool_place(ctx: Context, x: Any, top: Any) -> list[Any]:
    """The flat index of the first element in each window that equals its maximum."""
    kernel, strides, dilations, low = (ctx.attr(k) for k in ("kernel", "strides", "dilations", "low"))
    shape = ctx.input_type(0).shape
    spatial = shape[2:]
    axes = [te.reduce_axis((0, k), name=f"k{d}") for d, k in enumerate(kernel)]

    def at(*i: Any) -> Any:
        place = [i[2 + d] * strides[d] + axes[d] * dilations[d] - low[d] for d in range(len(kernel))]
        inside = [c for v, n in zip(place, spatial, strict=True) for c in (v >= 0, v < n)]
        safe = [tirx.min(tirx.max(v, 0), n - 1) for v, n in zip(place, spatial, strict=True)]
        order = list(zip(place, spatial, strict=True))
        flat: Any = 0
        for v, n in reversed(order) if ctx.attr("by_columns") else order:
            flat = flat * n + v
        flat = flat + (i[0] * shape[1] + i[1]) * math.prod(spatial)
        here = tirx.all(*inside, tirx.EQ(x(*i[:2], *safe), top(*i)))
        return te.min(tirx.Select(here, flat, tirx.const(math.prod(shape), "int32")), axis=axes)

    first = te.compute(ctx.output_type().shape, at, name="place")
    return [te.compute(ctx.output_type().shape, lambda *i: first(*i).astype("int64"), name="out")]


@rewrite("LpPool")
def lp_pool(ctx: Context, b: Builder) -> None:
    """(sum of |x|^p)^(1/p) over windows."""
    kernel, strides, dilations, low, high = _window(ctx)
    t, order = ctx.output_type(), ctx.attr("p", 2)
    x = _power(b, b.add("Abs", [ctx.node.inputs[0]], ctx.input_type(0).shape), order)
    total = b.add_internal(
        "PoolSum", [add_pad(b, x, low, high, 0.0)], t.shape,
        kernel=tuple(kernel), strides=tuple(strides), dilations=tuple(dilations),
    )  # fmt: skip
    _power(b, total, 1.0 / order, ctx.node.outputs[0])


def _power(b: Builder, x: str, exponent: float, output: str | None = None) -> str:
    t = b.type_of(x)
    return b.add("Pow", [x, b.constant(np.asarray(exponent, t.dtype), "exponent")], t.shape, output=output)


@rewrite("GlobalLpPool")
def global_lp_pool(ctx: Context, b: Builder) -> None:
    t, order = ctx.output_type(), ctx.attr("p", 2)
    x = _power(b, b.add("Abs", [ctx.node.inputs[0]], ctx.input_type(0).shape), order)
    _power(b, b.add_internal("GlobalSum", [x], t.shape), 1.0 / order, ctx.node.outputs[0])


@rewrite("AveragePool")
def average_pool(ctx: Context, b: Builder) -> None:
    """AveragePool → a sum of windows over zero pads, then a factor, which differs at the border."""
    kernel, strides, dilations, low, high = _window(ctx)
    x = add_pad(b, ctx.node.inputs[0], low, high, 0.0)
    t = ctx.output_type()
    total = b.add_internal(
        "PoolSum", [x], t.shape, kernel=tuple(kernel), strides=tuple(strides), dilations=tuple(dilations)
    )
    counted = ctx.attr("count_include_pad", 0)
    n = len(kernel)
    declared = window_pads(ctx, n)
    counts = np.ones(t.shape[2:])
    for d in range(n):
        size, count = ctx.input_type(0).shape[2 + d], np.zeros(t.shape[2 + d])
        first, last = (0, size + low[d] + declared[n + d]) if counted else (low[d], low[d] + size)
        for o in range(t.shape[2 + d]):
            taps = o * strides[d] + np.arange(kernel[d]) * dilations[d]
            count[o] = max(1, int(((taps >= first) & (taps < last)).sum()))
        counts *= count.reshape([-1 if e == d else 1 for e in range(n)])
    factor = (1.0 / counts).astype(t.dtype)
    if np.all(factor == factor.reshape(-1)[0]):
        factor = factor.reshape(-1)[:1].reshape(())
    b.add("Mul", [total, b.constant(factor, "factor")], t.shape, output=ctx.node.outputs[0])


def _pool(ctx: Context, x: Any, reduce: Any) -> list[Any]:
    kernel, strides, dilations = ctx.attr("kernel"), ctx.attr("strides"), ctx.attr("dilations")
    shape = [int(d) for d in x.shape]
    n = len(kernel)
    axes = [te.reduce_axis((0, k), name=f"k{'zyx'[3 - n + d] if n <= 3 else d}") for d, k in enumerate(kernel)]
    out = [(shape[2 + d] - (kernel[d] - 1) * dilations[d] - 1) // strides[d] + 1 for d in range(n)]
    return [
        te.compute(
            (*shape[:2], *out),
            lambda *i: reduce(
                x(*i[:2], *(i[2 + d] * strides[d] + axes[d] * dilations[d] for d in range(n))), axis=axes
            ),
            name="pool",
            varargs_names=axis_names(n),
        )
    ]


@anchor("PoolMax", domain="dlpack", layout="spatial")
def pool_max(ctx: Context, x: Any) -> list[Any]:
    return _pool(ctx, x, greatest)


@anchor("PoolSum", domain="dlpack", layout="spatial")
def pool_sum(ctx: Context, x: Any) -> list[Any]:
    return _pool(ctx, x, te.sum)


@rewrite("GlobalAveragePool")
def global_average_pool(ctx: Context, b: Builder) -> None:
    x, t = ctx.input_type(0), ctx.output_type()
    total = b.add_internal("GlobalSum", [ctx.node.inputs[0]], t.shape)
    factor = np.asarray(1.0 / max(1, int(np.prod(x.shape[2:]))), t.dtype)
    b.add("Mul", [total, b.constant(factor, "factor")], t.shape, output=ctx.node.outputs[0])


def _global(ctx: Context, x: Any, reduce: Any) -> list[Any]:
    shape = [int(d) for d in x.shape]
    axes = [te.reduce_axis((0, n), name=f"k{d}") for d, n in enumerate(shape[2:])]
    return [te.compute((*shape[:2], *([1] * len(axes))), lambda *i: reduce(x(*i[:2], *axes), axis=axes), name="pool")]


@anchor("GlobalSum", domain="dlpack", layout="spatial")
def global_sum(ctx: Context, x: Any) -> list[Any]:
    return _global(ctx, x, te.sum)


@anchor("GlobalSquares", domain="dlpack", layout="spatial")
def global_squares(ctx: Context, x: Any, mean: Any) -> list[Any]:
    """The sums of squared distances from `mean` [N, C, 1 ...], a channel each."""
    ones = [0] * (len(x.shape) - 2)

    def squares(n: Any, c: Any, *place: Any) -> Any:
        return (x(n, c, *place) - mean(n, c, *ones)) * (x(n, c, *place) - mean(n, c, *ones))

    return _global(ctx, te.compute(x.shape, squares, name="squares"), te.sum)


@anchor("GlobalMaxPool", layout="spatial")
def global_max_pool(ctx: Context, x: Any) -> list[Any]:
    return _global(ctx, x, greatest)
