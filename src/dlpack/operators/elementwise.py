"""Pointwise operators: one output element from the input elements at the same (broadcast) place."""

from __future__ import annotations

from typing import Any

from dlpack.operators.registry import Context, pointwise
from dlpack.tir import tirx


def call(name: str, dtype: str, *args: Any) -> Any:
    """A call of a runtime function (runtime_c/maths.h)."""
    return tirx.call_pure_extern(dtype, name, *args)


def const(value: float | int | bool, like: Any) -> Any:
    return tirx.const(value, like.ty.dtype if hasattr(like, "ty") else like)


@pointwise("Copy", domain="dlpack")
def copy(ctx: Context, x: Any) -> Any:
    return x


@pointwise("Add")
def add(ctx: Context, a: Any, b: Any) -> Any:
    return a + b


@pointwise("Sub")
def sub(ctx: Context, a: Any, b: Any) -> Any:
    return a - b


@pointwise("Mul")
def mul(ctx: Context, a: Any, b: Any) -> Any:
    return a * b


@pointwise("Div")
def div(ctx: Context, a: Any, b: Any) -> Any:
    return tirx.truncdiv(a, b) if ctx.output_type().dtype.startswith(("int", "uint")) else tirx.div(a, b)


@pointwise("Relu")
def relu(ctx: Context, x: Any) -> Any:
    return tirx.max(x, const(0, x))


@pointwise("LeakyRelu")
def leaky_relu(ctx: Context, x: Any) -> Any:
    return tirx.Select(x > const(0, x), x, x * const(ctx.attr("alpha", 0.01), x))


@pointwise("Clip")
def clip(ctx: Context, x: Any, low: Any = None, high: Any = None) -> Any:
    if ctx.node.opset < 11:
        low = const(ctx.attr("min"), x) if ctx.attr("min") is not None else None
        high = const(ctx.attr("max"), x) if ctx.attr("max") is not None else None
    if low is not None:
        x = tirx.max(x, low)
    return x if high is None else tirx.min(x, high)


@pointwise("Sigmoid")
def sigmoid(ctx: Context, x: Any) -> Any:
    return call("sigmoid_", ctx.output_type().dtype, x)


@pointwise("Tanh")
def tanh(ctx: Context, x: Any) -> Any:
    return call("tanh_", ctx.output_type().dtype, x)


@pointwise("Erf")
def erf(ctx: Context, x: Any) -> Any:
    return call("erf_", ctx.output_type().dtype, x)


@pointwise("Exp")
def exp(ctx: Context, x: Any) -> Any:
    return call("exp_", ctx.output_type().dtype, x)


@pointwise("Sqrt")
def sqrt(ctx: Context, x: Any) -> Any:
    return call("sqrt_", ctx.output_type().dtype, x)
