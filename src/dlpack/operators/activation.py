"""Activations: pointwise functions with parameters as attributes."""

from __future__ import annotations

import math
from typing import Any

from dlpack.graph.registry import Context, pointwise
from dlpack.loops.tir import tirx
from dlpack.operators.elementwise import call, const, dtype_of, minus, over, times


def _positive(x: Any, yes: Any, no: Any) -> Any:
    return tirx.Select(x > const(0, x), yes, no)


def _expm1(x: Any) -> Any:
    """e^x - 1 for x <= 0; 0 above, where it is not wanted and could overflow."""
    return call("expm1_", dtype_of(x), tirx.min(x, const(0, x)))


@pointwise("Relu")
def relu(ctx: Context, x: Any) -> Any:
    return tirx.max(x, const(0, x))


@pointwise("LeakyRelu")
def leaky_relu(ctx: Context, x: Any) -> Any:
    return prelu(ctx, x, const(ctx.attr("alpha", 0.01), x))


@pointwise("PRelu")
def prelu(ctx: Context, x: Any, slope: Any) -> Any:
    return tirx.Select(x < const(0, x), times(x, slope), x)


@pointwise("ThresholdedRelu")
def thresholded_relu(ctx: Context, x: Any) -> Any:
    return tirx.Select(x > const(ctx.attr("alpha", 1.0), x), x, const(0, x))


@pointwise("Elu")
def elu(ctx: Context, x: Any) -> Any:
    """x, or alpha (e^x - 1) below zero."""
    return tirx.Select(x < const(0, x), times(const(ctx.attr("alpha", 1.0), x), _expm1(x)), x)


@pointwise("Selu")
def selu(ctx: Context, x: Any) -> Any:
    """gamma x, or gamma alpha (e^x - 1) below zero."""
    alpha, gamma = ctx.attr("alpha", 1.67326319217681884765625), ctx.attr("gamma", 1.05070102214813232421875)
    return times(const(gamma, x), _positive(x, x, times(const(alpha, x), _expm1(x))))


@pointwise("Celu")
def celu(ctx: Context, x: Any) -> Any:
    """max(x, 0) + min(alpha (e^(x / alpha) - 1), 0): for a usual alpha x, or below zero the second term."""
    alpha, zero = ctx.attr("alpha", 1.0), const(0, x)
    if 0 < alpha < math.inf:
        return _positive(x, x, const(alpha, x) * _expm1(x * const(1.0 / alpha, x)))
    curve = minus(call("exp_", dtype_of(x), over(x, const(alpha, x))), const(1, x))
    return tirx.max(x, zero) + tirx.min(times(const(alpha, x), curve), zero)


@pointwise("Clip")
def clip(ctx: Context, x: Any, low: Any = None, high: Any = None) -> Any:
    if ctx.node.opset < 11:
        low = const(ctx.attr("min"), x) if ctx.attr("min") is not None else None
        high = const(ctx.attr("max"), x) if ctx.attr("max") is not None else None
    if low is not None:
        x = tirx.max(x, low)
    return x if high is None else tirx.min(x, high)


@pointwise("HardSigmoid")
def hard_sigmoid(ctx: Context, x: Any) -> Any:
    return _clamped_line(x, ctx.attr("alpha", 0.2), ctx.attr("beta", 0.5))


def _clamped_line(x: Any, slope: float, shift: float) -> Any:
    return tirx.max(tirx.min(times(x, const(slope, x)) + const(shift, x), const(1, x)), const(0, x))


@pointwise("HardSwish")
def hard_swish(ctx: Context, x: Any) -> Any:
    return x * _clamped_line(x, 1.0 / 6.0, 0.5)


@pointwise("Swish")
def swish(ctx: Context, x: Any) -> Any:
    """x sigmoid(alpha x)."""
    alpha = ctx.attr("alpha", 1.0)
    return _times_sigmoid(x, x if alpha == 1.0 else times(x, const(alpha, x)))


@pointwise("TimesSigmoid", domain="dlpack")
def times_sigmoid(ctx: Context, x: Any, y: Any) -> Any:
    return _times_sigmoid(x, y)


def _times_sigmoid(x: Any, y: Any) -> Any:
    """x sigmoid(y) as x / (1 + e^-y), which is 0 where e^-y overflows: fewer operations than the sigmoid alone takes,
    whose tail keeps its precision."""
    return x / (const(1, y) + call("exp_", dtype_of(y), -y))


@pointwise("Mish")
def mish(ctx: Context, x: Any) -> Any:
    """x tanh(log(1 + e^x)) = x n / (n + 2) with n = e^x (e^x + 2), of which 20 and more are the same."""
    power = call("exp_", dtype_of(x), tirx.min(x, const(20, x)))
    n = power * (power + const(2, x))
    return x * (n / (n + const(2, x)))


@pointwise("ErfPlusOne", domain="dlpack")
def erf_plus_one(ctx: Context, x: Any) -> Any:
    if dtype_of(x) != "float32":
        return const(1, x) + call("erf_", dtype_of(x), x)
    return call("erf_plus_one_", "float32", x)


@pointwise("TanhPlusOne", domain="dlpack")
def tanh_plus_one(ctx: Context, x: Any) -> Any:
    """1 + tanh x = 2 sigmoid(2 x)."""
    return _times_sigmoid(const(2, x), const(2, x) * x)


@pointwise("Gelu")
def gelu(ctx: Context, x: Any) -> Any:
    """x/2 (1 + erf(x / sqrt 2)), or its approximation x/2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""
    if ctx.attr("approximate", "none") == "tanh":
        return _times_sigmoid(x, const(2 * math.sqrt(2 / math.pi), x) * (x + const(0.044715, x) * x * x * x))
    return const(0.5, x) * x * erf_plus_one(ctx, x * const(math.sqrt(0.5), x))


@pointwise("Softsign")
def softsign(ctx: Context, x: Any) -> Any:
    return x / (const(1, x) + call("abs_", dtype_of(x), x))


@pointwise("Shrink")
def shrink(ctx: Context, x: Any) -> Any:
    """x + bias below -lambd, x - bias above lambd, zero between."""
    dtype = dtype_of(x)
    y = x if dtype.startswith("float") else x.astype("float32")
    lambd, bias = const(ctx.attr("lambd", 0.5), y), const(ctx.attr("bias", 0.0), y)
    zero = const(0, y)
    return tirx.Select(y < -lambd, y + bias, tirx.Select(y > lambd, y - bias, zero)).astype(dtype)
