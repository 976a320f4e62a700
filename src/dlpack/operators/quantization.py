"""Quantised operators: QuantizeLinear, DequantizeLinear, and products of integers with 32-bit sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dlpack.graph.ir import BITS, SMALL_INTEGERS, STORED
from dlpack.graph.registry import Builder, Context, NotSupported, pointwise, rewrite
from dlpack.loops.tir import tirx
from dlpack.operators.elementwise import call, const, low_bits, round_half_even
from dlpack.operators.small_floats import FORMATS, float_to_small, small_to_float


@pointwise("Quantize", domain="dlpack")
def quantize(ctx: Context, x: Any, scale: Any, zero: Any = None) -> Any:
    """round(x / scale) + zero, halves to even, clamped to what the output's dtype holds."""
    dtype = ctx.output_type().dtype
    y = x.astype("float32") / scale.astype("float32")
    if dtype in FORMATS:
        if zero is not None and dtype == "float4_e2m1fn":  # that of 8 bits has to be zero
            y = y + small_to_float(zero, dtype)
        return float_to_small(y, dtype, bool(ctx.attr("saturate", 1)))
    low, high = limits(dtype)
    y = round_half_even(y)
    if zero is not None:
        y = y + _widened(zero, dtype).astype("float32")
    y = tirx.min(tirx.max(y, const(float(low), y)), const(float(high), y))
    return y.astype("int32").astype(STORED.get(dtype, dtype))


def limits(dtype: str) -> tuple[int, int]:
    """The least and the largest integer of a type, ml_dtypes' included."""
    if dtype in SMALL_INTEGERS:
        bits = int(dtype[-1])
        return (0, (1 << bits) - 1) if dtype.startswith("u") else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


@pointwise("Dequantize", domain="dlpack")
def dequantize(ctx: Context, x: Any, scale: Any, zero: Any = None) -> Any:
    """(x - zero) * scale."""
    dtype = ctx.input_type(0).dtype
    if dtype in FORMATS:
        return small_to_float(x, dtype) * scale
    wide = _widened(x, dtype)
    if zero is not None:
        wide = wide - _widened(zero, dtype)
    return wide.astype("float32") * scale


def _widened(x: Any, dtype: str) -> Any:
    """An integer of `dtype` as int32."""
    return low_bits(x.astype("int32"), dtype).astype("int32") if dtype in SMALL_INTEGERS else x.astype("int32")


@pointwise("Centre", domain="dlpack")
def centre(ctx: Context, x: Any) -> Any:
    """An 8-bit integer less the attribute `zero`, as float32, which holds it exactly."""
    return x.astype("int32").astype("float32") - const(float(ctx.attr("zero")), "float32")


@pointwise("Narrow", domain="dlpack")
def narrow(ctx: Context, x: Any) -> Any:
    """A float32 integer plus the attribute `zero`, as the output's type, which holds it."""
    return (x + const(float(ctx.attr("zero")), x)).astype("int32").astype(ctx.output_type().dtype)


@pointwise("LookUp", domain="dlpack", tables=(1,))
def look_up(ctx: Context, x: Any, table: Any) -> Any:
    """The element of a table of 256 that an 8-bit integer numbers, from its type's least on."""
    return table(x.astype("int32") + 128 if ctx.input_type(0).dtype == "int8" else x.astype("int32"))


@pointwise("Rescale", domain="dlpack")
def rescale(ctx: Context, *terms: Any) -> Any:
    """The sum of ``x * (high + low)`` over the inputs x, high, low, x, ...; the nearest float32."""
    return call("rescaled_", "float32", *terms)


@pointwise("Requantize", domain="dlpack")
def requantize(ctx: Context, *terms: Any) -> Any:
    """That sum rounded to an integer, halves to even, and clamped to the attributes `low` and `high`; float32.

    `small`: these are within -512 to 512, and each x * (high + low) of several is within -1024 to 1024.
    """
    function = "requantized_small_" if ctx.attr("small", 0) else "requantized_"
    low, high = (const(float(ctx.attr(end)), "float32") for end in ("low", "high"))
    return call("within_", "float32", call(function, "float32", *terms), low, high)


@pointwise("RequantizeByte", domain="dlpack")
def requantize_byte(ctx: Context, *terms: Any) -> Any:
    """Requantize of one product, and Narrow: the output's type holds the integer plus the attribute `zero`."""
    ends = [const(float(ctx.attr(name)), "float32") for name in ("low", "high", "zero")]
    return call("requantized_byte_", "int32", *terms, *ends).astype(ctx.output_type().dtype)


def _along(ctx: Context, b: Builder, name: str, shape: Sequence[int]) -> str:
    """A scale or zero point made broadcastable to `shape`: one for all, one per place of an axis, or one per block."""
    t = b.type_of(name)
    if t.size == 1:
        return reshaped(b, name, [1]) if t.shape != (1,) else name
    axis = ctx.attr("axis", 1) % len(shape)
    if len(t.shape) == 1:
        return reshaped(b, name, [t.shape[0] if d == axis else 1 for d in range(len(shape))])
    if t.shape == tuple(shape):
        return name
    block = ctx.attr("block_size", 0)
    if not block or t.shape[axis] * block != shape[axis]:
        raise NotSupported(f"{ctx.node.op} with blocks that do not divide the axis")
    split = [*t.shape[: axis + 1], 1, *t.shape[axis + 1 :]]
    full = [*t.shape[: axis + 1], block, *t.shape[axis + 1 :]]
    constant = b.graph.constants.get(name)
    if constant is not None:
        return b.constant(np.repeat(constant, block, axis=axis), "scale")
    wide = b.add("Expand", [reshaped(b, name, split), b.constant(np.array(full, np.int64))], full)
    return reshaped(b, wide, shape)


def reshaped(b: Builder, name: str, shape: Sequence[int]) -> str:
    """The value under another shape; a constant is reshaped now."""
    constant = b.graph.constants.get(name)
    if constant is not None:
        return b.constant(np.ascontiguousarray(constant.reshape(shape)), "reshaped")
    return b.add("Reshape", [name, b.constant(np.array(shape, np.int64), "shape")], shape)


@rewrite("QuantizeLinear", "DequantizeLinear")
def quantize_linear(ctx: Context, b: Builder) -> None:
    t = ctx.output_type()
    op = "Quantize" if ctx.node.op == "QuantizeLinear" else "Dequantize"
    inputs = [ctx.node.inputs[0]]
    inputs += [_along(ctx, b, ctx.node.inputs[k], t.shape) for k in (1, 2) if ctx.has_input(k)]
    saturate = {"saturate": ctx.attr("saturate", 1)} if t.dtype in BITS else {}
    b.add_internal(op, inputs, t.shape, ctx.node.outputs[0], **saturate)
    b.types[ctx.node.outputs[0]] = t


def _centred(b: Builder, x: str, zero: str, shape_of_zero: Sequence[int] | None = None) -> str:
    """``int32(x) - int32(zero)``; a constant one is computed now."""
    t = b.type_of(x)
    known, offset = b.graph.constants.get(x), b.graph.constants.get(zero) if zero else np.int32(0)
    if known is not None and offset is not None:
        offset = offset.astype(np.int32)
        if zero and shape_of_zero is not None:
            offset = offset.reshape(shape_of_zero)
        return b.constant(known.astype(np.int32) - offset, "centred")
    wide = b.add("Cast", [x], t.shape, "int32")
    if not zero:
        return wide
    shift = b.add("Cast", [zero], b.type_of(zero).shape, "int32")
    if shape_of_zero is not None:
        shift = b.add("Reshape", [shift, b.constant(np.array(shape_of_zero, np.int64))], shape_of_zero)
    return b.add("Sub", [wide, shift], t.shape)


def _per_row(b: Builder, name: str, rank: int) -> list[int] | None:
    """The shape that lets a value per row of a matrix broadcast; None if it does as it is."""
    shape = b.type_of(name).shape if name else ()
    return [shape[0], 1] if len(shape) == 1 and shape[0] > 1 and rank > 1 else None


def _input(ctx: Context, k: int) -> str:
    return ctx.node.inputs[k] if ctx.has_input(k) else ""


def _integer_matmul(ctx: Context, b: Builder, a: int, w: int, a_zero: int, w_zero: int, output: str | None) -> str:
    left, right = ctx.node.inputs[a], ctx.node.inputs[w]
    rank = len(b.type_of(left).shape)
    x = _centred(b, left, _input(ctx, a_zero), _per_row(b, _input(ctx, a_zero), rank))
    y = _centred(b, right, _input(ctx, w_zero))
    return b.add("MatMul", [x, y], ctx.output_type().shape, "int32", output)


@rewrite("MatMulInteger")
def matmul_integer(ctx: Context, b: Builder) -> None:
    _integer_matmul(ctx, b, 0, 1, 2, 3, ctx.node.outputs[0])


@rewrite("QLinearMatMul")
def qlinear_matmul(ctx: Context, b: Builder) -> None:
    """The integer product times both scales, quantised again."""
    t = ctx.output_type()
    total = b.add("Cast", [_integer_matmul(ctx, b, 0, 3, 2, 5, None)], t.shape, "float32")
    scale = ctx.node.inputs[1]
    rows = _per_row(b, scale, len(b.type_of(ctx.node.inputs[0]).shape))
    total = b.add("Mul", [total, reshaped(b, scale, rows) if rows else scale], t.shape)
    total = b.add("Mul", [total, ctx.node.inputs[4]], t.shape)
    zero = ctx.node.inputs[7]
    rows = _per_row(b, ctx.node.inputs[6], len(t.shape))
    out = [reshaped(b, v, rows) if rows else v for v in (ctx.node.inputs[6], zero)]
    b.add_internal("Quantize", [total, *out], t.shape, ctx.node.outputs[0])
    b.types[ctx.node.outputs[0]] = t


def _integer_conv(ctx: Context, b: Builder, ins: Sequence[int], bias: str, output: str | None) -> str:
    """`ins`: the places of x, w and their zero points among the node's inputs."""
    x, w, x_zero, w_zero = (_input(ctx, k) for k in ins)
    ones = [1] * (len(b.type_of(w).shape) - 1)
    per_channel = [b.type_of(w_zero).shape[0], *ones] if w_zero and b.type_of(w_zero).size > 1 else None
    left = _centred(b, x, x_zero, [1] if x_zero else None)
    right = _centred(b, w, w_zero, per_channel or ([1] if w_zero else None))
    inputs = [left, right, bias] if bias else [left, right]
    return b.add("Conv", inputs, ctx.output_type().shape, "int32", output, **dict(ctx.node.attrs))


@rewrite("ConvInteger")
def conv_integer(ctx: Context, b: Builder) -> None:
    _integer_conv(ctx, b, (0, 1, 2, 3), "", ctx.node.outputs[0])


@rewrite("QLinearConv")
def qlinear_conv(ctx: Context, b: Builder) -> None:
    """The integer convolution and bias, times both scales, quantised again."""
    t = ctx.output_type()
    total = b.add("Cast", [_integer_conv(ctx, b, (0, 3, 2, 5), _input(ctx, 8), None)], t.shape, "float32")
    total = b.add("Mul", [total, ctx.node.inputs[1]], t.shape)
    scale = ctx.node.inputs[4]
    if b.type_of(scale).size > 1:
        scale = reshaped(b, scale, [b.type_of(scale).size] + [1] * (len(t.shape) - 2))
    total = b.add("Mul", [total, scale], t.shape)
    b.add_internal("Quantize", [total, ctx.node.inputs[6], ctx.node.inputs[7]], t.shape, ctx.node.outputs[0])
    b.types[ctx.node.outputs[0]] = t
