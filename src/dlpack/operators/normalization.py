"""Normalisation: LayerNormalization, InstanceNormalization, BatchNormalization, LRN."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dlpack.operators.elementwise import call, const
from dlpack.operators.reduction import reduce_tensor
from dlpack.operators.registry import Builder, Context, NotSupported, anchor, rewrite
from dlpack.tir import te


def _moments(x: Any, axes: list[int], dtype: str) -> tuple[Any, Any]:
    """Mean and variance over `axes`, kept as dimensions of 1; two passes, so that nothing cancels."""
    count = math.prod(int(x.shape[a]) for a in axes)
    total = reduce_tensor(x, axes, True, te.sum, "total")
    mean = te.compute(total.shape, lambda *i: total(*i) * const(1.0 / count, dtype), name="mean")

    def one(i: tuple[Any, ...]) -> list[Any]:
        return [0 if d in axes else v for d, v in enumerate(i)]

    square = te.compute(
        x.shape, lambda *i: (x(*i) - mean(*one(i))) * (x(*i) - mean(*one(i))), name="square"
    )
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
    mean, variance = _moments(x, axes, dtype)
    epsilon = ctx.attr("epsilon")
    scale = te.compute(
        mean.shape,
        lambda *i: const(1.0, dtype) / call("sqrt_", dtype, variance(*i) + const(epsilon, dtype)),
        name="scale",
    )

    def one(i: tuple[Any, ...]) -> list[Any]:
        return [0 if d in axes else v for d, v in enumerate(i)]

    return [te.compute(x.shape, lambda *i: (x(*i) - mean(*one(i))) * scale(*one(i)), name="out")]


@rewrite("LayerNormalization")
def layer_normalization(ctx: Context, b: Builder) -> None:
    if len([o for o in ctx.node.outputs if o]) > 1:
        raise NotSupported("LayerNormalization's outputs Mean and InvStdDev")
    t = ctx.output_type()
    rank = len(t.shape)
    axes = tuple(range(ctx.attr("axis", -1) % rank, rank))
    y = b.add_internal(
        "NormalizeRows", [ctx.node.inputs[0]], t.shape, axes=axes, epsilon=ctx.attr("epsilon", 1e-5)
    )
    bias = ctx.has_input(2)
    y = b.add("Mul", [y, ctx.node.inputs[1]], t.shape, output=None if bias else ctx.node.outputs[0])
    if bias:
        b.add("Add", [y, ctx.node.inputs[2]], t.shape, output=ctx.node.outputs[0])


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


@rewrite("BatchNormalization")
def batch_normalization(ctx: Context, b: Builder) -> None:
    """Inference: x * (scale / sqrt(var + epsilon)) + (bias - mean * that)."""
    if ctx.attr("training_mode", 0) or len([o for o in ctx.node.outputs if o]) > 1:
        raise NotSupported("BatchNormalization in training mode")
    t = ctx.output_type()
    rank = max(2, len(t.shape))
    scale, bias, mean, var = (ctx.maybe_constant(k) for k in range(1, 5))
    if scale is not None and bias is not None and mean is not None and var is not None:
        factor = scale.astype(np.float64) / np.sqrt(var.astype(np.float64) + ctx.attr("epsilon", 1e-5))
        shift = bias - mean * factor
        shape = [-1] + [1] * (rank - 2)
        y = b.add("Mul", [ctx.node.inputs[0], b.constant(factor.astype(t.dtype).reshape(shape))], t.shape)
        b.add("Add", [y, b.constant(shift.astype(t.dtype).reshape(shape))], t.shape, output=ctx.node.outputs[0])
        return
    names = [per_channel(b, ctx.node.inputs[k], rank) for k in range(1, 5)]
    shape = b.type_of(names[0]).shape
    eps = b.constant(np.asarray(ctx.attr("epsilon", 1e-5), t.dtype))
    deviation = b.add("Sqrt", [b.add("Add", [names[3], eps], shape)], shape)
    f = b.add("Div", [names[0], deviation], shape)
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
    padded = b.add_internal(
        "Pad", [square], shape, low=tuple(low), high=tuple(high), fill=0.0, at_least_zero=False
    )
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

