"""float16 and bfloat16 to float32 and back, on their bits: every machine has the operations, most have no others.

Rounding is to the nearest, ties to even; denormals, infinities and NaN are kept (a NaN becomes a quiet one).
"""

from __future__ import annotations

from typing import Any

from dlpack.loops.tir import tirx

_INFINITY = 0x7F800000


def half_to_float(x: Any, dtype: str) -> Any:
    """The float32 of the uint16 `x`, the bits of a number of `dtype`, "float16" or "bfloat16"."""
    bits = x.astype("uint32")
    if dtype == "bfloat16":
        return tirx.reinterpret("float32", _left(bits, 16))
    rest = _left(_and(bits, 0x7FFF), 13)
    # The exponent's bias is 127 in place of 15: a product, which also makes denormals normal.
    scaled = tirx.reinterpret("float32", rest) * tirx.const(2.0**112, "float32")
    finite = tirx.reinterpret("uint32", scaled)
    special = tirx.bitwise_or(rest, _u32(_INFINITY))
    number = tirx.Select(_compared(">=", rest, 0x7C00 << 13), special, finite)
    return tirx.reinterpret("float32", tirx.bitwise_or(number, _left(_and(bits, 0x8000), 16)))


def float_to_half(x: Any, dtype: str) -> Any:
    """The bits, as uint16, of a number rounded to `dtype`, "float16" or "bfloat16"."""
    all_bits = tirx.reinterpret("uint32", as_float(x))
    bits = _and(all_bits, 0x7FFFFFFF)
    sign = tirx.shift_right(_and(all_bits, 0x80000000), _u32(16))
    if dtype == "bfloat16":
        number = tirx.shift_right(_plus(bits, _plus(_u32(0x7FFF), _odd(bits, 16))), _u32(16))
        number = tirx.Select(_compared(">", bits, _INFINITY), _u32(0x7FC0), number)
        return tirx.bitwise_or(number, sign).astype("uint16")
    # 112 less in the exponent; what is carried over into it is right, up to infinity.
    rebiased = _plus(bits, _u32((0x100000000 - (112 << 23)) & 0xFFFFFFFF))
    normal = tirx.shift_right(_plus(rebiased, _plus(_u32(0xFFF), _odd(bits, 13))), _u32(13))
    # Denormals: the sum with 0.5 has its last bit where theirs is, and is rounded there.
    shifted = tirx.reinterpret("uint32", tirx.reinterpret("float32", bits) + tirx.const(0.5, "float32"))
    denormal = _plus(shifted, _u32(0x100000000 - 0x3F000000))
    number = tirx.Select(_compared("<", bits, 113 << 23), denormal, normal)
    special = tirx.Select(_compared(">", bits, _INFINITY), _u32(0x7E00), _u32(0x7C00))
    number = tirx.Select(_compared(">=", bits, 143 << 23), special, number)
    return tirx.bitwise_or(number, sign).astype("uint16")


def as_float(x: Any) -> Any:
    """A number as float32; a double as one that rounds to fewer digits as the double does."""
    if str(x.ty.dtype) == "float64":
        return _nearly_float(x)
    if str(x.ty.dtype) == "bool":
        return tirx.Select(x, tirx.const(1.0, "float32"), tirx.const(0.0, "float32"))
    return x if str(x.ty.dtype) == "float32" else x.astype("float32")


def _nearly_float(x: Any) -> Any:
    """A double as a float32 that rounds to fewer digits as the double does: cut off, and odd where it is not exact."""
    near = x.astype("float32")
    bits = tirx.reinterpret("uint32", near)
    size, limit = tirx.call_pure_extern("float64", "abs_", x), tirx.call_pure_extern("float32", "abs_", near)
    beyond = tirx.call_pure_extern("bool", ">", limit.astype("float64"), size)
    inexact = tirx.call_pure_extern("bool", "!=", near.astype("float64"), x)
    cut = tirx.Select(beyond, tirx.call_pure_extern("uint32", "sub_", bits, _u32(1)), bits)
    odd = tirx.Select(inexact, tirx.bitwise_or(cut, _u32(1)), cut)
    special = tirx.call_pure_extern("bool", ">=", _and(bits, 0x7FFFFFFF), _u32(_INFINITY))
    return tirx.Select(special, near, tirx.reinterpret("float32", odd))


def _u32(value: int) -> Any:
    return tirx.const(value, "uint32")


def _and(x: Any, mask: int) -> Any:
    return tirx.bitwise_and(x, _u32(mask))


def _left(x: Any, places: int) -> Any:
    return tirx.shift_left(x, _u32(places))


def _odd(x: Any, place: int) -> Any:
    """The bit that becomes the last one."""
    return _and(tirx.shift_right(x, _u32(place)), 1)


def _plus(a: Any, b: Any) -> Any:
    """A sum that wraps; TVM sees a call."""
    return tirx.call_pure_extern("uint32", "add_", a, b)


def _compared(op: str, a: Any, b: int) -> Any:
    return tirx.call_pure_extern("bool", op, a, _u32(b))
