"""Pointwise operators: arithmetic, elementary functions, comparisons, bits, casts.

One output element comes from the input elements at the same (broadcast) place.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from dlpack.graph.ir import BITS, HALVES, SMALL_INTEGERS
from dlpack.graph.registry import Builder, Context, NotSupported, pointwise, rewrite
from dlpack.loops.tir import te, tirx
from dlpack.operators.half import as_float, float_to_half, half_to_float
from dlpack.operators.small_floats import float_to_exponent, float_to_small, small_to_float


def call(name: str, dtype: str, *args: Any) -> Any:
    """A call of a runtime function (runtime_c/maths.h)."""
    return tirx.call_pure_extern(dtype, name, *args)


def dtype_of(x: Any) -> str:
    return str(x.ty.dtype)


def const(value: float | int | bool, like: Any) -> Any:
    """A constant of the dtype of the expression `like`, or of the dtype that `like` names."""
    return tirx.const(value, like.ty.dtype if hasattr(like, "ty") else like)


def is_float(dtype: str) -> bool:
    return dtype.startswith("float")


def plus(a: Any, b: Any) -> Any:
    """``a + b``; integers wrap. TVM takes what does not fit for impossible and simplifies by it, so it sees a call."""
    return a + b if is_float(dtype_of(a)) else call("add_", dtype_of(a), a, b)


def minus(a: Any, b: Any) -> Any:
    """``a - b``; integers wrap. Of floats, TVM would take a + b - b for a, and a - a for 0, so it sees a call."""
    return call("sub_", dtype_of(a), a, b)


def times(a: Any, b: Any) -> Any:
    """``a * b``; integers wrap."""
    return _held(a) * _held(b) if is_float(dtype_of(a)) else call("mul_", dtype_of(a), a, b)


def over(a: Any, b: Any) -> Any:
    """``a / b`` of floats."""
    return tirx.div(_held(a), _held(b))


def _held(x: Any) -> Any:
    """The float, a constant zero as a product: TVM takes 0 times anything for 0, which infinity and NaN disprove, and
    refuses to divide by it."""
    zero = isinstance(x, tirx.FloatImm) and x.value == 0
    return call("mul_", dtype_of(x), x, const(1, x)) if zero else x


_sum_of_integers = te.comm_reducer(plus, lambda t: tirx.const(0, t), name="sum")


def sum_over(e: Any, axis: Any) -> Any:
    """The sum of `e` over reduction axes; integers wrap."""
    return (te.sum if is_float(dtype_of(e)) else _sum_of_integers)(e, axis=axis)


@pointwise("Copy", domain="dlpack")
def copy(ctx: Context, x: Any) -> Any:
    return x


# --- arithmetic -------------------------------------------------------------------------------------------------------


@pointwise("Add")
def add(ctx: Context, a: Any, b: Any) -> Any:
    return plus(a, b)


@pointwise("Sub")
def sub(ctx: Context, a: Any, b: Any) -> Any:
    return minus(a, b)


@pointwise("Mul")
def mul(ctx: Context, a: Any, b: Any) -> Any:
    return times(a, b)


@pointwise("Div")
def div(ctx: Context, a: Any, b: Any) -> Any:
    """Integers are divided towards zero; a division by zero gives zero, so that no input can stop the program."""
    return over(a, b) if is_float(dtype_of(a)) else call("truncdiv_", dtype_of(a), a, b)


@pointwise("Mod")
def mod(ctx: Context, a: Any, b: Any) -> Any:
    """The remainder with the sign of the divisor, or with that of the dividend where `fmod` is set.

    Of integers divided by zero it is zero.
    """
    if not is_float(dtype_of(a)):
        return call("truncmod_" if ctx.attr("fmod", 0) else "floormod_", dtype_of(a), a, b)
    rest = call("fmod_", dtype_of(a), a, b)
    if ctx.attr("fmod", 0):
        return rest
    zero = const(0, a)
    turned = tirx.Or(tirx.And(rest < zero, b > zero), tirx.And(rest > zero, b < zero))
    return tirx.Select(turned, rest + b, rest)


@pointwise("Neg")
def neg(ctx: Context, x: Any) -> Any:
    return const(-1, x) * x if is_float(dtype_of(x)) else minus(const(0, x), x)


@pointwise("Abs")
def abs_(ctx: Context, x: Any) -> Any:
    return magnitude(x)


def magnitude(x: Any) -> Any:
    """|x|; of the least integer it is the least integer."""
    return x if dtype_of(x).startswith("uint") else call("abs_", dtype_of(x), x)


@pointwise("Sign")
def sign(ctx: Context, x: Any) -> Any:
    one, zero = const(1, x), const(0, x)
    if dtype_of(x).startswith("uint"):
        return tirx.Select(x > zero, one, zero)
    return tirx.Select(x > zero, one, tirx.Select(x < zero, const(-1, x), x))


@pointwise("Reciprocal")
def reciprocal(ctx: Context, x: Any) -> Any:
    return over(const(1, x), x)


def _is_number(x: Any) -> bool:
    return isinstance(getattr(x, "value", None), int | float)


def _larger(a: Any, b: Any) -> Any:
    """The larger; of two constants computed here, since TVM's own folding loses a NaN."""
    if _is_number(a) and _is_number(b):
        return const(np.maximum(a.value, b.value).item(), a)
    return tirx.max(a, b)


def _smaller(a: Any, b: Any) -> Any:
    if _is_number(a) and _is_number(b):
        return const(np.minimum(a.value, b.value).item(), a)
    return tirx.min(a, b)


@pointwise("Max")
def max_(ctx: Context, *xs: Any) -> Any:
    return reduce(_larger, xs)


@pointwise("Min")
def min_(ctx: Context, *xs: Any) -> Any:
    return reduce(_smaller, xs)


@pointwise("Sum")
def sum_(ctx: Context, *xs: Any) -> Any:
    return reduce(plus, xs)


@pointwise("Mean")
def mean(ctx: Context, *xs: Any) -> Any:
    return reduce(lambda a, b: a + b, xs) * const(1.0 / len(xs), xs[0])


def round_half_even(x: Any) -> Any:
    return call("round_", dtype_of(x), x)


def power(base: Any, exponent: float, dtype: str) -> Any:
    """``base ** exponent`` for a known exponent: products and roots where they do."""
    small: dict[float, Callable[[Any], Any]] = {
        0.0: lambda _: const(1, dtype),
        0.5: lambda x: call("sqrt_", dtype, x),
        1.0: lambda x: x,
        2.0: lambda x: times(x, x),
        3.0: lambda x: times(times(x, x), x),
        -1.0: lambda x: const(1, dtype) / x,
        -0.5: lambda x: const(1, dtype) / call("sqrt_", dtype, x),
        -2.0: lambda x: const(1, dtype) / (x * x),
        -0.75: lambda x: const(1, dtype) / (call("sqrt_", dtype, x) * call("sqrt_", dtype, call("sqrt_", dtype, x))),
    }
    if exponent in small:
        return small[exponent](base)
    return call("pow_", dtype, base, const(exponent, dtype))


@pointwise("Pow")
def pow_(ctx: Context, a: Any, b: Any) -> Any:
    """``a ** b`` of the dtype of `a`; integers wrap. An integer to the power of a float goes by way of double."""
    dtype = dtype_of(a)
    constant = ctx.maybe_constant(1)
    exponent = float(constant.reshape(-1)[0]) if constant is not None and constant.size == 1 else None
    if exponent is not None and (is_float(dtype) or exponent in (0, 1, 2, 3)):
        return power(a, exponent, dtype)
    if not is_float(dtype) and not is_float(dtype_of(b)):
        return call("integer_pow_", dtype, a, b)
    if is_float(dtype):
        if is_float(dtype_of(b)) and dtype_of(b) != dtype:
            return call("pow_", "float64", a.astype("float64"), b.astype("float64")).astype(dtype)
        return call("pow_", dtype, a, b.astype(dtype))
    return float_to(call("pow_", "float64", a.astype("float64"), b.astype("float64")), dtype)


# --- elementary functions ---------------------------------------------------------------------------------------------


def _function(op: str, name: str) -> None:
    @pointwise(op)
    def function(ctx: Context, x: Any) -> Any:
        return call(name, dtype_of(x), x)


for _op in (
    "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor", "Log", "Round",
    "Sigmoid", "Sin", "Sinh", "Softplus", "Sqrt", "Tan", "Tanh",
):  # fmt: skip
    _function(_op, f"{_op.lower()}_")


# --- comparisons and logic --------------------------------------------------------------------------------------------


def _number(x: Any) -> Any:
    """A bool as a number: TVM neither orders nor compares bools."""
    return x.astype("int32") if dtype_of(x) == "bool" else x


def compared(op: str, a: Any, b: Any) -> Any:
    """``a op b``, as a call, since TVM compares by differences: for it no int32 equals the least one."""
    return call(op, "bool", a, b)


@pointwise("Equal")
def equal(ctx: Context, a: Any, b: Any) -> Any:
    return compared("==", _number(a), _number(b))


@pointwise("Less")
def less(ctx: Context, a: Any, b: Any) -> Any:
    return compared("<", a, b)


@pointwise("LessOrEqual")
def less_or_equal(ctx: Context, a: Any, b: Any) -> Any:
    return compared("<=", a, b)


@pointwise("Greater")
def greater(ctx: Context, a: Any, b: Any) -> Any:
    return compared(">", a, b)


@pointwise("GreaterOrEqual")
def greater_or_equal(ctx: Context, a: Any, b: Any) -> Any:
    return compared(">=", a, b)


@pointwise("And")
def and_(ctx: Context, a: Any, b: Any) -> Any:
    return tirx.And(a, b)


@pointwise("Or")
def or_(ctx: Context, a: Any, b: Any) -> Any:
    return tirx.Or(a, b)


@pointwise("Xor")
def xor(ctx: Context, a: Any, b: Any) -> Any:
    return tirx.NE(_number(a), _number(b))


@pointwise("Not")
def not_(ctx: Context, x: Any) -> Any:
    return tirx.Not(x)


@pointwise("IsNaN")
def is_nan(ctx: Context, x: Any) -> Any:
    """``x != x``, as a call, since TVM would simplify the comparison away."""
    return call("!=", "bool", x, x)


@pointwise("IsInf")
def is_inf(ctx: Context, x: Any) -> Any:
    largest = float(np.finfo(dtype_of(x)).max)
    sides = []
    if ctx.attr("detect_positive", 1):
        sides.append(x > const(largest, x))
    if ctx.attr("detect_negative", 1):
        sides.append(x < const(-largest, x))
    return tirx.any(*sides) if sides else const(False, "bool")


@pointwise("Where")
def where(ctx: Context, condition: Any, a: Any, b: Any) -> Any:
    return tirx.Select(condition, a, b)


# --- bits -------------------------------------------------------------------------------------------------------------


@pointwise("BitwiseAnd")
def bitwise_and(ctx: Context, a: Any, b: Any) -> Any:
    return tirx.bitwise_and(a, b)


@pointwise("BitwiseOr")
def bitwise_or(ctx: Context, a: Any, b: Any) -> Any:
    return tirx.bitwise_or(a, b)


@pointwise("BitwiseXor")
def bitwise_xor(ctx: Context, a: Any, b: Any) -> Any:
    return tirx.bitwise_xor(a, b)


@pointwise("BitwiseNot")
def bitwise_not(ctx: Context, x: Any) -> Any:
    return tirx.bitwise_not(x)


@pointwise("BitShift")
def bit_shift(ctx: Context, a: Any, b: Any) -> Any:
    """A shift by the width or more, or to the left by a negative number, gives zero; to the right, the sign."""
    dtype = dtype_of(a)
    bits = np.iinfo(dtype).bits
    outside = tirx.Or(b < const(0, b), b >= const(bits, b)) if dtype.startswith("int") else b >= const(bits, b)
    amount = tirx.bitwise_and(b, const(bits - 1, b))
    if ctx.attr("direction") == "LEFT":
        unsigned = "u" + dtype.removeprefix("u")
        shifted = tirx.shift_left(a.astype(unsigned), amount.astype(unsigned)).astype(dtype)
        return tirx.Select(outside, const(0, a), shifted)
    rest = tirx.Select(a < const(0, a), const(-1, a), const(0, a)) if dtype.startswith("int") else const(0, a)
    return tirx.Select(outside, rest, tirx.shift_right(a, amount))


# --- types ------------------------------------------------------------------------------------------------------------


def float_to(x: Any, dtype: str) -> Any:
    """A float as an integer, towards zero; what does not fit is clamped, NaN becomes the least value."""
    info = np.iinfo(dtype if dtype in ("int64", "uint64", "uint32") else "int32")
    kind = np.dtype(dtype_of(x)).type
    high = kind(info.max)
    if float(high) > float(info.max) or int(high) > info.max:
        high = np.nextafter(high, kind(0))
    clamped = tirx.min(tirx.max(x, const(float(info.min), x)), const(float(high), x))
    return clamped.astype(info.dtype.name).astype(dtype)


def convert(x: Any, dtype: str) -> Any:
    """`x` as `dtype` (ONNX Cast): to bool is "not zero", from float to integer is towards zero."""
    old = dtype_of(x)
    if old == dtype:
        return x
    if dtype == "bool":
        return tirx.NE(x, const(0, x))
    if old == "bool":
        return tirx.Select(x, const(1, dtype), const(0, dtype))
    if is_float(old) and not is_float(dtype):
        return float_to(x, dtype)
    return x.astype(dtype)


@pointwise("Cast")
def cast(ctx: Context, x: Any) -> Any:
    old, new = ctx.input_type(0).dtype, ctx.output_type().dtype
    if old == new:
        return x
    if old in HALVES:
        x = half_to_float(x, old)
    elif old in BITS:
        x = small_to_float(x, old)
    elif old in SMALL_INTEGERS:
        x = low_bits(x.astype("int32"), old)
    if new in HALVES:
        return float_to_half(x, new)
    if new in BITS:
        saturate = bool(ctx.attr("saturate", 1))
        x = as_float(x)
        if new == "float8_e8m0fnu":
            return float_to_exponent(x, saturate, ctx.attr("round_mode", "up"))
        return float_to_small(x, new, saturate)
    return low_bits(convert(x, "int32"), new) if new in SMALL_INTEGERS else convert(x, new)


def low_bits(x: Any, dtype: str) -> Any:
    """An int32 as an integer of 4 or 2 bits, in the type that stands for it: the bits above are dropped.

    NumPy's arrays of such integers may have anything in these.
    """
    unused = tirx.const(32 - int(dtype[-1]), "uint32")
    raised = tirx.shift_left(x.astype("uint32"), unused)
    if dtype.startswith("u"):
        return tirx.shift_right(raised, unused).astype("uint8")
    return tirx.shift_right(raised.astype("int32"), unused.astype("int32")).astype("int8")


@rewrite("CastLike")
def cast_like(ctx: Context, b: Builder) -> None:
    t = ctx.output_type()
    b.add("Cast", [ctx.node.inputs[0]], t.shape, t.dtype, ctx.node.outputs[0], **ctx.node.attrs)


@pointwise("BitCast")
def bit_cast(ctx: Context, x: Any) -> Any:
    new = ctx.output_type()
    if np.dtype(new.dtype).itemsize != np.dtype(dtype_of(x)).itemsize:
        raise NotSupported("BitCast to a type of another size")
    if "bool" in (new.dtype, dtype_of(x)):
        return convert(x, new.dtype)
    if is_float(new.dtype) == is_float(dtype_of(x)):
        return x.astype(new.dtype)
    return tirx.reinterpret(new.dtype, x)
