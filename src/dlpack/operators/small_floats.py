"""Floats of 8 and 4 bits to float32 and back, on their bits.

float8_e4m3fn, float8_e5m2 and their variants "fnuz" (without infinities and -0, their only NaN in its place),
float4_e2m1fn (without infinities and NaN), and float8_e8m0fnu (an exponent alone). What ml_dtypes makes of every
float32, except for a NaN's sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dlpack.loops.tir import tirx

_INFINITY = 0x7F800000


@dataclass(frozen=True)
class Format:
    """Bits of the significand, the exponent's bias, the code of the largest number, that of NaN, and the code that
    stands for what is larger."""

    digits: int
    bias: int
    largest: int
    nan: int
    beyond: int
    sign: int = 0x80
    unsigned_zero: bool = False


FORMATS = {
    "float8_e4m3fn": Format(3, 7, 0x7E, 0x7F, 0x7F),
    "float8_e4m3fnuz": Format(3, 8, 0x7F, 0x80, 0x80, unsigned_zero=True),
    "float8_e5m2": Format(2, 15, 0x7B, 0x7E, 0x7C),
    "float8_e5m2fnuz": Format(2, 16, 0x7F, 0x80, 0x80, unsigned_zero=True),
    "float4_e2m1fn": Format(1, 1, 0x7, 0x8, 0x7, sign=0x8),
}


def small_to_float(x: Any, dtype: str) -> Any:
    """The float32 of the uint8 `x`, the bits of a number of `dtype`."""
    bits = x.astype("uint32")
    if dtype == "float8_e8m0fnu":
        number = tirx.Select(_is("==", bits, 0), _u32(1 << 22), _left(bits, 23))  # 2^-127 is denormal
        return tirx.reinterpret("float32", tirx.Select(_is("==", bits, 0xFF), _u32(0x7FC00000), number))
    f = FORMATS[dtype]
    rest = _left(_and(bits, f.sign - 1), 23 - f.digits)
    scaled = tirx.reinterpret("float32", rest) * tirx.const(2.0 ** (127 - f.bias), "float32")
    number = tirx.reinterpret("uint32", scaled)
    if f.unsigned_zero:
        negative = _left(_and(bits, f.sign), 24)
        number = tirx.Select(_is("==", bits, f.nan), _u32(0x7FC00000), tirx.bitwise_or(number, negative))
        return tirx.reinterpret("float32", number)
    if dtype == "float8_e5m2":
        number = tirx.Select(_is(">=", rest, f.beyond << 21), tirx.bitwise_or(rest, _u32(_INFINITY)), number)
    elif dtype == "float8_e4m3fn":
        number = tirx.Select(_is("==", _and(bits, 0x7F), f.nan), _u32(0x7FC00000), number)
    negative = _left(_and(bits, f.sign), 28 if f.sign == 8 else 24)
    return tirx.reinterpret("float32", tirx.bitwise_or(number, negative))


def float_to_small(x: Any, dtype: str, saturate: bool) -> Any:
    """The bits, as uint8, of the float32 `x` rounded to `dtype`, halves to even.

    What is beyond the largest number becomes it if `saturate`, else infinity or NaN, whichever there is.
    """
    f = FORMATS[dtype]
    everything = tirx.reinterpret("uint32", x)
    size = _and(everything, 0x7FFFFFFF)
    negative = _and(tirx.shift_right(everything, _u32(28 if f.sign == 8 else 24)), f.sign)
    drop = 23 - f.digits
    less = (127 - f.bias) << 23
    rebiased = _plus(size, _u32((1 << 32) - less))
    even = _and(tirx.shift_right(rebiased, _u32(drop)), 1)
    normal = tirx.shift_right(_plus(rebiased, _plus(_u32((1 << (drop - 1)) - 1), even)), _u32(drop))
    # Below the normal numbers: the sum has its last bit where theirs is, and is rounded there.
    unit = 2.0 ** (1 - f.bias - f.digits + 23)
    magic = tirx.const(unit, "float32")
    shifted = tirx.reinterpret("uint32", tirx.reinterpret("float32", size) + magic)
    denormal = _plus(shifted, _u32((1 << 32) - ((127 + 24 - f.bias - f.digits) << 23)))
    number = tirx.Select(_is("<", size, less + (1 << 23)), denormal, normal)
    saturated = saturate or f.beyond == f.largest
    beyond = f.largest if saturated else f.beyond
    number = tirx.Select(_is(">", number, f.largest), _u32(beyond), number)
    too_large = ((127 - f.bias) + (f.largest >> f.digits) + 1) << 23  # twice the largest number, and more
    number = tirx.Select(_is(">=", size, too_large), _u32(beyond), number)
    number = tirx.Select(_is(">", size, _INFINITY), _u32(f.nan), number)
    if f.unsigned_zero:
        keeps = tirx.And(_is("!=", number, 0), _is("!=", number, f.nan))
        return tirx.bitwise_or(number, tirx.Select(keeps, negative, _u32(0))).astype("uint8")
    if f.sign == 8:  # NaN becomes -0
        negative = tirx.Select(_is(">", size, _INFINITY), _u32(0), negative)
    return tirx.bitwise_or(number, negative).astype("uint8")


def float_to_exponent(x: Any, saturate: bool, mode: str) -> Any:
    """The bits of float8_e8m0fnu, as uint8: the exponent of a float32, whatever its sign, rounded "up", "down" or
    "nearest"."""
    size = _and(tirx.reinterpret("uint32", x), 0x7FFFFFFF)
    exponent = tirx.shift_right(size, _u32(23))
    fraction = _and(size, 0x7FFFFF)
    step = _u32(0)
    if mode == "up":
        step = tirx.Select(_is("!=", fraction, 0), _u32(1), _u32(0))
    elif mode == "nearest":
        tie = tirx.Select(_is("!=", exponent, 0), _u32(1), _u32(0))
        at_half = tirx.Select(_is("==", fraction, 0x400000), tie, _u32(0))
        step = tirx.Select(_is(">", fraction, 0x400000), _u32(1), at_half)
    if saturate:
        step = tirx.Select(_is("==", exponent, 0xFE), _u32(0), step)
    return tirx.Select(_is("==", exponent, 0xFF), exponent, _plus(exponent, step)).astype("uint8")


def _u32(value: int) -> Any:
    return tirx.const(value & 0xFFFFFFFF, "uint32")


def _and(x: Any, mask: int) -> Any:
    return tirx.bitwise_and(x, _u32(mask))


def _left(x: Any, places: int) -> Any:
    return tirx.shift_left(x, _u32(places))


def _plus(a: Any, b: Any) -> Any:
    """A sum that wraps; TVM sees a call."""
    return tirx.call_pure_extern("uint32", "add_", a, b)


def _is(op: str, a: Any, b: int) -> Any:
    return tirx.call_pure_extern("bool", op, a, _u32(b))
