"""Normalisation: LayerNormalization, InstanceNormalization, BatchNormalization, LRN."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dlpack.graph.registry import Builder, Context, NotSupported, anchor, pointwise, rewrite
from dlpack.loops.tir import te, tirx
from dlpack.operators.elementwise import call, const
from dlpack.operators.reduction import reduce_tensor


def _moments(x: Any, axes: list[int], dtype: str) -> tuple[Any, Any]:
    """Mean and variance over `axes`, kept as dimensions of 1; two passes, so that nothing cancels."""
    count = math.prod(int(x.shape[a]) for a in axes)
    total = reduce_tensor(x, axes, True, te.sum, "total")
    mean = te.compute(total.shape, lambda *i: total(*i) * const(1.0 / count, dtype), name="mean")

    def one(i: tuple[Any, ...]) -> list[Any]:
        return [0 if d in axes else v for d, v in enumerate(i)]

    square = te.compute(x.shape, lambda *i: (x(*i) - mean(*one(i))) * (x(*i) - mean(*one(i))), name="square")
    squares = reduce_tensor(square, axes, True, te.sum, "squares")
    variance = te.compute(total.shape, lambda *i: squares(*i) * const(1.0 / count, dtype), name="variance")
    return mean, variance


@anchor("NormalizeRows", domain="dlpack", layout="rows")
def normalize_rows(ctx: Context, x: Any) -> list[Any]:
    """(x - mean) / sqrt(variance + epsilon) over `axes`."""
    return _normalize(ctx, x)


@anchor("NormalizeSpatial", domain="dlpack", layout="spatial")
def normalize_spatial(ctx: Context, x: Any) -> list[Any]:
    """The same, where the axes are the spatial ones of a channels-last tensor."""
    return _normalize(ctx, x)


def _normalize(ctx: Context, x: Any) -> list[Any]:
    axes = list(ctx.attr("axes"))
    dtype = ctx.output_type().dtype
    centre = bool(ctx.attr("centre", 1))
    mean, variance = _moments(x, axes, dtype) if centre else (x, _mean_square(x, axes, dtype))
    epsilon = ctx.attr("epsilon")
    scale = te.compute(
        variance.shape,
        lambda *i: const(1.0, dtype) / call("sqrt_", dtype, variance(*i) + const(epsilon, dtype)),
        name="scale",
    )

    def one(i: tuple[Any, ...]) -> list[Any]:
        return [0 if d in axes else v for d, v in enumerate(i)]

    def at(*i: Any) -> Any:
        return ((x(*i) - mean(*one(i))) if centre else x(*i)) * scale(*one(i))

    return [te.compute(x.shape, at, name="out")]


def _mean_square(x: Any, axes: list[int], dtype: str) -> Any:
    count = math.prod(int(x.shape[a]) for a in axes)

    def squares(e: Any, axis: Any) -> Any:
        return te.sum(e * e, axis=axis)

    total = reduce_tensor(x, axes, True, squares, "squares")
    return te.compute(total.shape, lambda *i: total(*i) * const(1.0 / count, dtype), name="variance")


@rewrite("LayerNormalization")
def layer_normalization(ctx: Context, b: Builder) -> None:
    t, x = ctx.output_type(), ctx.node.inputs[0]
    rank = len(t.shape)
    axes = tuple(range(ctx.attr("axis", -1) % rank, rank))
    epsilon = ctx.attr("epsilon", 1e-5)
    if len([o for o in ctx.node.outputs if o]) > 1:
        y = _with_moments(ctx, b, x, axes, epsilon)
    else:
        y = b.add_internal("NormalizeRows", [x], t.shape, axes=axes, epsilon=epsilon)
    bias = ctx.has_input(2)
    y = b.add("Mul", [y, ctx.node.inputs[1]], t.shape, output=None if bias else ctx.node.outputs[0])
    if bias:
        b.add("Add", [y, ctx.node.inputs[2]], t.shape, output=ctx.node.outputs[0])


def _with_moments(ctx: Context, b: Builder, x: str, axes: tuple[int, ...], epsilon: float) -> str:
    """The normalised rows, where the mean and the inverse deviation are outputs too."""
    t = b.type_of(x)
    kept = [1 if d in axes else n for d, n in enumerate(t.shape)]
    names = [*ctx.node.outputs[1:], "", ""][:2]
    share = b.constant(np.asarray(1.0 / math.prod(t.shape[a] for a in axes), t.dtype), "share")

    def average(value: str, of: str, output: str | None) -> str:
        total = b.add_internal("ReduceSum", [value], kept, axes=axes, keepdims=1, of=of)
        return b.add("Mul", [total, share], kept, output=output)

    centred = b.add("Sub", [x, average(x, "", names[0] or None)], t.shape)
    shifted = b.add("Add", [average(centred, "square", None), b.constant(np.asarray(epsilon, t.dtype))], kept)
    power = b.constant(np.asarray(-0.5, t.dtype))
    return b.add("Mul", [centred, b.add("Pow", [shifted, power], kept, output=names[1] or None)], t.shape)


@rewrite("RMSNormalization")
def rms_normalization(ctx: Context, b: Builder) -> None:
    """x / sqrt(mean of squares + epsilon) * scale."""
    t, x = ctx.output_type(), ctx.node.inputs[0]
    rank = len(t.shape)
    axes = tuple(range(ctx.attr("axis", -1) % rank, rank))
    y = b.add_internal("NormalizeRows", [x], t.shape, axes=axes, epsilon=ctx.attr("epsilon", 1e-5), centre=0)
    b.add("Mul", [y, ctx.node.inputs[1]], t.shape, output=ctx.node.outputs[0])


@rewrite("GroupNormalization")
def group_normalization(ctx: Context, b: Builder) -> None:
    """Rows of a group's channels and places; scale and bias per channel (per group up to opset 20)."""
    t, x = ctx.output_type(), ctx.node.inputs[0]
    groups = ctx.attr("num_groups")
    rows = [t.shape[0] * groups, math.prod(t.shape[1:]) // groups]
    y = b.add("Reshape", [x, b.constant(np.array(rows, np.int64))], rows)
    y = b.add_internal("NormalizeRows", [y], rows, axes=(1,), epsilon=ctx.attr("epsilon", 1e-5))
    if ctx.node.opset >= 21:
        shape, rank = list(t.shape), len(t.shape)
    else:
        shape, rank = [t.shape[0], groups, rows[1]], 3
    y = b.add("Reshape", [y, b.constant(np.array(shape, np.int64))], shape)
    y = b.add("Mul", [y, per_channel(b, ctx.node.inputs[1], rank)], shape)
    last = ctx.node.outputs[0] if shape == list(t.shape) else None
    y = b.add("Add", [y, per_channel(b, ctx.node.inputs[2], rank)], shape, output=last)
    if last is None:
        b.add("Reshape", [y, b.constant(np.array(t.shape, np.int64))], t.shape, output=ctx.node.outputs[0])


@rewrite("LpNormalization")
def lp_normalization(ctx: Context, b: Builder) -> None:
    """x / norm along the axis; zero where the norm is zero."""
    t, x = ctx.output_type(), ctx.node.inputs[0]
    axis = ctx.attr("axis", -1) % len(t.shape)
    kept = [1 if d == axis else n for d, n in enumerate(t.shape)]
    order = ctx.attr("p", 2)
    norm = b.add_internal("ReduceSum", [x], kept, axes=(axis,), keepdims=1, of="abs" if order == 1 else "square")
    if order == 2:
        norm = b.add("Sqrt", [norm], kept)
    b.add_internal("DivideOrZero", [x, norm], t.shape, ctx.node.outputs[0])


@pointwise("DivideOrZero", domain="dlpack")
def divide_or_zero(ctx: Context, a: Any, b: Any) -> Any:
    return tirx.Select(tirx.EQ(b, const(0, b)), const(0, a), a / b)


def per_channel(b: Builder, name: str, rank: int) -> str:
    """A [C] value as [C, 1, 1 ...]: broadcast along dimension 1 of a tensor of `rank`."""
    t = b.type_of(name)
    shape = [t.shape[0]] + [1] * (rank - 2)
    constant = b.graph.constants.get(name)
    if constant is not None:
        return b.constant(constant.reshape(shape), "channel")
    return b.add("Reshape", [name, b.constant(np.array(shape, np.int64), "shape")], shape)


@rewrite("InstanceNormalization")
def instance_normalization(ctx: Context, b: Builder) -> None:
    t = ctx.output_type()
    rank = len(t.shape)
    y = b.add_internal(
        "NormalizeSpatial",
        [ctx.node.inputs[0]],
        t.shape,
        axes=tuple(range(2, rank)),
        epsilon=ctx.attr("epsilon", 1e-5),
    )
    y = b.add("Mul", [y, per_channel(b, ctx.node.inputs[1], rank)], t.shape)
    b.add("Add", [y, per_channel(b, ctx.node.inputs[2], rank)], t.shape, output=ctx.node.outputs[0])


def _batch_moments(ctx: Context, b: Builder) -> None:
    """Training mode: the batch's own mean and variance, and the running ones moved towards them."""
    t, x = ctx.output_type(), ctx.node.inputs[0]
    axes = tuple(d for d in range(len(t.shape)) if d != 1)
    kept = [n if d == 1 else 1 for d, n in enumerate(t.shape)]
    share = b.constant(np.asarray(1.0 / math.prod(t.shape[a] for a in axes), t.dtype), "share")

    def average(value: str, of: str) -> str:
        total = b.add_internal("ReduceSum", [value], kept, axes=axes, keepdims=1, of=of)
        return b.add("Mul", [total, share], kept)

    mean = average(x, "")
    centred = b.add("Sub", [x, mean], t.shape)
    variance = average(centred, "square")
    shifted = b.add("Add", [variance, b.constant(np.asarray(ctx.attr("epsilon", 1e-5), t.dtype))], kept)
    y = b.add("Mul", [centred, b.add("Pow", [shifted, b.constant(np.asarray(-0.5, t.dtype))], kept)], t.shape)
    y = b.add("Mul", [y, per_channel(b, ctx.node.inputs[1], len(t.shape))], t.shape)
    b.add("Add", [y, per_channel(b, ctx.node.inputs[2], len(t.shape))], t.shape, output=ctx.node.outputs[0])
    momentum = ctx.attr("momentum", 0.9)
    for output, old, new in zip(ctx.node.outputs[1:], ctx.node.inputs[3:5], (mean, variance), strict=False):
        if output:
            flat = b.add("Reshape", [new, b.constant(np.array([t.shape[1]], np.int64))], [t.shape[1]])
            moved = b.add("Mul", [flat, b.constant(np.asarray(1 - momentum, t.dtype))], [t.shape[1]])
            kept_part = b.add("Mul", [old, b.constant(np.asarray(momentum, t.dtype))], [t.shape[1]])
            b.add("Add", [kept_part, moved], [t.shape[1]], output=output)


def _batch_normalization_by_place(ctx: Context, b: Builder) -> None:
    """Opset 7's and 8's `spatial` = 0: scale, bias, mean and variance have the shape of the input without its batch."""
    t = ctx.output_type()
    x, scale, bias, mean, var = ctx.node.inputs
    place = t.shape[1:]
    epsilon = b.constant(np.asarray(ctx.attr("epsilon", 1e-5), t.dtype))
    deviation = b.add("Sqrt", [b.add("Add", [var, epsilon], place)], place)
    factor = b.add("Div", [scale, deviation], place)
    y = b.add("Mul", [b.add("Sub", [x, mean], t.shape), factor], t.shape)
    b.add("Add", [y, bias], t.shape, output=ctx.node.outputs[0])


@rewrite("BatchNormalization")
def batch_normalization(ctx: Context, b: Builder) -> None:
    """Inference: x * (scale / sqrt(var + epsilon)) + (bias - mean * that)."""
    t = ctx.output_type()
    rank = max(2, len(t.shape))
    if ctx.attr("training_mode", 0):
        _batch_moments(ctx, b)
        return
    if len([o for o in ctx.node.outputs if o]) > 1:
        raise NotSupported("BatchNormalization's outputs beyond the first")
    if not ctx.attr("spatial", 1):
        _batch_normalization_by_place(ctx, b)
        return
    scale, bias, mean, var = (ctx.maybe_constant(k) for k in range(1, 5))
    if scale is not None and bias is not None and mean is not None and var is not None:
        factor = scale.astype(np.float64) / np.sqrt(var.astype(np.float64) + ctx.attr("epsilon", 1e-5))
        shift = bias - mean * factor
        shape = [-1] + [1] * (rank - 2)
        y = b.add("Mul", [ctx.node.inputs[0], b.constant(factor.astype(t.dtype).reshape(shape))], t.shape)
        b.add("Add", [y, b.constant(shift.astype(t.dtype).reshape(shape))], t.shape, output=ctx.node.outputs[0])
        return
    names = [per_channel(b, ctx.node.inputs[k], rank) for k in range(1, 5)]
    channel = b.type_of(names[0]).shape
    eps = b.constant(np.asarray(ctx.attr("epsilon", 1e-5), t.dtype))
    deviation = b.add("Sqrt", [b.add("Add", [names[3], eps], channel)], channel)
    f = b.add("Div", [names[0], deviation], channel)
    y = b.add("Sub", [ctx.node.inputs[0], names[2]], t.shape)
    y = b.add("Mul", [y, f], t.shape)
    b.add("Add", [y, names[1]], t.shape, output=ctx.node.outputs[0])


@rewrite("LRN")
def lrn(ctx: Context, b: Builder) -> None:
    """x / (bias + alpha / size * sum of squares over neighbouring channels) ^ beta."""
    t, size, x = ctx.output_type(), ctx.attr("size"), ctx.node.inputs[0]
    low = [0, (size - 1) // 2, *[0] * (len(t.shape) - 2)]
    high = [0, size - 1 - low[1], *low[2:]]
    square = b.add("Mul", [x, x], t.shape)
    shape = [n + p + q for n, p, q in zip(t.shape, low, high, strict=True)]
    padded = b.add_internal("Pad", [square], shape, low=tuple(low), high=tuple(high), fill=0.0, at_least_zero=False)
    total = b.add_internal("ChannelWindowSum", [padded], t.shape, size=size)

    def number(value: float) -> str:
        return b.constant(np.asarray(value, t.dtype), "number")

    scaled = b.add("Mul", [total, number(ctx.attr("alpha", 1e-4) / size)], t.shape)
    base = b.add("Add", [scaled, number(ctx.attr("bias", 1.0))], t.shape)
    power = b.add("Pow", [base, number(-ctx.attr("beta", 0.75))], t.shape)
    b.add("Mul", [x, power], t.shape, output=ctx.node.outputs[0])


@anchor("ChannelWindowSum", domain="dlpack", layout="spatial")
def channel_window_sum(ctx: Context, x: Any) -> list[Any]:
    """Sums of `size` neighbouring channels of a tensor padded along dimension 1."""
    size = ctx.attr("size")
    k = te.reduce_axis((0, size), name="k")
    shape = [int(d) for d in x.shape]
    shape[1] -= size - 1
    return [te.compute(tuple(shape), lambda n, c, *s: te.sum(x(n, c + k, *s), axis=k), name="acc")]
