"""NumPy's ufuncs as ONNX nodes. Inputs are cast to the types that NumPy's own loop for them has."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dlpack.exporters.numpy.array import UFUNCS, Trace, Traced, onnx_dtype

Function = Callable[..., Any]


def _loop(t: Trace, ufunc: np.ufunc, inputs: tuple[Any, ...]) -> tuple[list[Traced], np.dtype[Any]]:
    """The inputs in the types of NumPy's loop, and its result's type."""
    types: list[Any] = []
    for x in inputs:
        kind = type(x)
        types.append(kind if kind in (int, float, complex) else t.array(x).dtype)
    loop = ufunc.resolve_dtypes((*types, *[None] * ufunc.nout))
    arrays = [_cast(t, x, onnx_dtype(d)) for x, d in zip(inputs, loop, strict=False)]
    return arrays, onnx_dtype(loop[ufunc.nin])


def _cast(t: Trace, x: Any, dtype: np.dtype[Any]) -> Traced:
    array = t.array(x)
    if array.dtype == dtype or array.dtype.kind == dtype.kind == "f":
        return array  # the builder narrows a constant of float64, and it keeps its name
    made: Traced = array.astype(dtype)
    return made


def _wide(t: Trace, arrays: list[Traced]) -> list[Traced]:
    """Small and unsigned integers in a type that every runtime supports."""
    dtype = arrays[0].dtype
    if dtype.kind in "iu" and dtype not in (np.int32, np.int64):
        work = np.dtype(np.int32 if dtype.itemsize < 4 else np.int64)
        return [_cast(t, a, work) for a in arrays]
    return arrays


def _narrow(result: Traced, dtype: np.dtype[Any]) -> Traced:
    made: Traced = result if result.dtype == dtype else result.astype(dtype)
    return made


def ufunc(*names: str) -> Callable[[Function], Function]:
    """The decorated function computes these from operands of the loop's type: (trace, *arrays) → Traced."""

    def enter(function: Function) -> Function:
        def convert(t: Trace, ufunc: np.ufunc, *inputs: Any) -> Any:
            arrays, dtype = _loop(t, ufunc, inputs)
            return _narrow(function(t, *_wide(t, arrays)), dtype)

        for name in names:
            UFUNCS[name] = convert
        return function

    return enter


def _simple(kinds: dict[str, str], booleans: dict[str, str]) -> None:
    for name, kind in kinds.items():

        def make(name: str, kind: str) -> None:
            def compute(t: Trace, *a: Traced) -> Traced:
                return t.op(booleans[name] if a[0].dtype == np.bool_ and name in booleans else kind, *a)

            ufunc(name)(compute)

        make(name, kind)


_simple(
    {
        "add": "Add", "subtract": "Sub", "multiply": "Mul", "maximum": "Max", "minimum": "Min", "fmax": "Max",
        "fmin": "Min", "divide": "Div", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "negative": "Neg",
        "absolute": "Abs", "fabs": "Abs", "sign": "Sign", "floor": "Floor", "ceil": "Ceil", "rint": "Round",
        "sin": "Sin", "cos": "Cos", "tan": "Tan", "arcsin": "Asin", "arccos": "Acos", "arctan": "Atan",
        "sinh": "Sinh", "cosh": "Cosh", "tanh": "Tanh", "arcsinh": "Asinh", "arccosh": "Acosh", "arctanh": "Atanh",
        "matmul": "MatMul", "less": "Less", "less_equal": "LessOrEqual", "greater": "Greater",
        "greater_equal": "GreaterOrEqual", "equal": "Equal", "isnan": "IsNaN", "isinf": "IsInf", "erf": "Erf",
        "expit": "Sigmoid",
    },
    {"add": "Or", "multiply": "And", "maximum": "Or", "minimum": "And"},
)  # fmt: skip


def _logical(name: str, kind: str) -> None:
    def convert(t: Trace, ufunc: np.ufunc, *inputs: Any) -> Traced:
        return t.op(kind, *(_truth(t, x) for x in inputs))

    UFUNCS[name] = convert


def _truth(t: Trace, x: Any) -> Traced:
    array = t.array(x)
    if array.dtype == np.bool_:
        return array
    made: Any = np.not_equal(array, 0)
    return t.array(made)


for _name, _kind in (("logical_and", "And"), ("logical_or", "Or"), ("logical_xor", "Xor"), ("logical_not", "Not")):
    _logical(_name, _kind)


def _bitwise(name: str, kind: str) -> None:
    @ufunc(name)
    def compute(t: Trace, a: Traced, b: Traced) -> Traced:
        return t.op(kind if a.dtype == np.bool_ else f"Bitwise{kind}", a, b)


for _name, _kind in (("bitwise_and", "And"), ("bitwise_or", "Or"), ("bitwise_xor", "Xor")):
    _bitwise(_name, _kind)


@ufunc("invert")
def invert(t: Trace, x: Traced) -> Traced:
    return t.op("Not" if x.dtype == np.bool_ else "BitwiseNot", x)


def _powers(t: Trace, by: Traced) -> tuple[Any, Any]:
    """Two powers of two whose product is 2 ** by, for 0 <= by < 64: int64 has neither 2 ** 63 nor 2 ** 62 * 2."""
    half: Any = np.minimum(by, 31)
    table = t.array(2 ** np.arange(33))
    return np.take(table, half), np.take(table, np.clip(by - half, 0, 32))


@ufunc("left_shift")
def left_shift(t: Trace, x: Traced, by: Traced) -> Any:
    near, far = _powers(t, by)
    return x.astype(np.int64) * near * far


@ufunc("right_shift")
def right_shift(t: Trace, x: Traced, by: Traced) -> Any:
    """Divided and rounded down, which is what a shift of signed numbers is."""
    near, far = _powers(t, by)
    return np.floor_divide(np.floor_divide(x.astype(np.int64), near), far)


def _scalar(value: float, like: Traced) -> np.ndarray[Any, Any]:
    return np.asarray(value, like.dtype)


@ufunc("positive", "conjugate")
def positive(t: Trace, x: Traced) -> Traced:
    return x.copy()


@ufunc("not_equal")
def not_equal(t: Trace, a: Traced, b: Traced) -> Traced:
    return t.op("Not", t.op("Equal", a, b))


@ufunc("square")
def square(t: Trace, x: Traced) -> Traced:
    return t.op("Mul", x, x)


@ufunc("reciprocal")
def reciprocal(t: Trace, x: Traced) -> Traced:
    return t.op("Div", _scalar(1, x), x)


@ufunc("power", "float_power")
def power(t: Trace, x: Traced, y: Traced) -> Traced:
    if y.known is not None and y.known.size == 1 and y.known.ndim <= x.ndim:
        exponent = float(y.known.reshape(-1)[0])
        if exponent == 2:
            return t.op("Mul", x, x)
        if exponent == 0.5 and x.dtype.kind == "f":
            return t.op("Sqrt", x)
    return t.op("Pow", x, y)


@ufunc("floor_divide")
def floor_divide(t: Trace, a: Traced, b: Traced) -> Traced:
    quotient = t.op("Div", a, b)
    if a.dtype.kind == "f":
        return t.op("Floor", quotient)
    rest = t.op("Sub", a, t.op("Mul", quotient, b))  # ONNX cuts off towards zero
    zero = _scalar(0, a)
    below = t.op(
        "And", t.op("Not", t.op("Equal", rest, zero)), t.op("Xor", t.op("Less", rest, zero), t.op("Less", b, zero))
    )
    return t.op("Sub", quotient, _cast(t, below, a.dtype))


@ufunc("remainder")
def remainder(t: Trace, a: Traced, b: Traced) -> Traced:
    if a.dtype.kind != "f":
        return t.op("Mod", a, b)
    return t.op("Sub", a, t.op("Mul", t.op("Floor", t.op("Div", a, b)), b))


@ufunc("fmod")
def fmod(t: Trace, a: Traced, b: Traced) -> Traced:
    return t.op("Mod", a, b, fmod=1)


def _divmod(t: Trace, ufunc: np.ufunc, a: Any, b: Any) -> tuple[Any, Any]:
    return np.floor_divide(a, b), np.remainder(a, b)


UFUNCS["divmod"] = _divmod


def _modf(t: Trace, ufunc: np.ufunc, x: Any) -> tuple[Any, Any]:
    whole = np.trunc(x)
    return np.subtract(x, whole), whole


UFUNCS["modf"] = _modf


@ufunc("trunc")
def trunc(t: Trace, x: Traced) -> Traced:
    return t.op("Mul", t.op("Sign", x), t.op("Floor", t.op("Abs", x))) if x.dtype.kind == "f" else x


@ufunc("exp2")
def exp2(t: Trace, x: Traced) -> Traced:
    return t.op("Exp", t.op("Mul", x, _scalar(math.log(2), x)))


@ufunc("expm1")
def expm1(t: Trace, x: Traced) -> Traced:
    """tanh(x / 2) (exp(x) + 1), which keeps the digits of small x."""
    half = t.op("Tanh", t.op("Mul", x, _scalar(0.5, x)))
    return t.op("Mul", half, t.op("Add", t.op("Exp", x), _scalar(1, x)))


@ufunc("log1p")
def log1p(t: Trace, x: Traced) -> Traced:
    """x log(u) / (u - 1) with u = 1 + x rounded (Goldberg 1991, theorem 4), which keeps the digits of small x."""
    one = _scalar(1, x)
    u = t.op("Add", x, one)
    less = t.op("Sub", u, one)
    same = t.op("Equal", less, _scalar(0, x))
    ratio = t.op("Div", t.op("Log", u), t.op("Where", same, one, less))
    return t.op("Where", same, x, t.op("Mul", x, ratio))


@ufunc("log2")
def log2(t: Trace, x: Traced) -> Traced:
    return t.op("Mul", t.op("Log", x), _scalar(1 / math.log(2), x))


@ufunc("log10")
def log10(t: Trace, x: Traced) -> Traced:
    return t.op("Mul", t.op("Log", x), _scalar(1 / math.log(10), x))


@ufunc("cbrt")
def cbrt(t: Trace, x: Traced) -> Traced:
    return t.op("Mul", t.op("Sign", x), t.op("Pow", t.op("Abs", x), _scalar(1 / 3, x)))


@ufunc("hypot")
def hypot(t: Trace, a: Traced, b: Traced) -> Traced:
    return t.op("Sqrt", t.op("Add", t.op("Mul", a, a), t.op("Mul", b, b)))


@ufunc("arctan2")
def arctan2(t: Trace, y: Traced, x: Traced) -> Traced:
    zero = _scalar(0, x)
    flat = t.op("Equal", x, zero)
    angle = t.op("Atan", t.op("Div", y, t.op("Where", flat, _scalar(1, x), x)))
    half_turn = t.op("Where", t.op("Less", y, zero), _scalar(-math.pi, x), _scalar(math.pi, x))
    angle = t.op("Where", t.op("Less", x, zero), t.op("Add", angle, half_turn), angle)
    return t.op("Where", flat, t.op("Mul", t.op("Sign", y), _scalar(math.pi / 2, x)), angle)


@ufunc("logaddexp")
def logaddexp(t: Trace, a: Traced, b: Traced) -> Traced:
    rest = t.op("Exp", t.op("Neg", t.op("Abs", t.op("Sub", a, b))))
    return t.op("Add", t.op("Max", a, b), log1p(t, rest))


@ufunc("heaviside")
def heaviside(t: Trace, x: Traced, at_zero: Traced) -> Traced:
    zero = _scalar(0, x)
    return t.op("Where", t.op("Equal", x, zero), at_zero, _cast(t, t.op("Greater", x, zero), x.dtype))


@ufunc("copysign")
def copysign(t: Trace, a: Traced, b: Traced) -> Traced:
    return t.op("Where", t.op("Less", b, _scalar(0, b)), t.op("Neg", t.op("Abs", a)), t.op("Abs", a))


@ufunc("signbit")
def signbit(t: Trace, x: Traced) -> Traced:
    return t.op("Less", x, _scalar(0, x))


@ufunc("isfinite")
def isfinite(t: Trace, x: Traced) -> Traced:
    return t.op("Not", t.op("Or", t.op("IsNaN", x), t.op("IsInf", x)))


@ufunc("deg2rad", "radians")
def radians(t: Trace, x: Traced) -> Traced:
    return t.op("Mul", x, _scalar(math.pi / 180, x))


@ufunc("rad2deg", "degrees")
def degrees(t: Trace, x: Traced) -> Traced:
    return t.op("Mul", x, _scalar(180 / math.pi, x))


@ufunc("erfc")
def erfc(t: Trace, x: Traced) -> Traced:
    return t.op("Sub", _scalar(1, x), t.op("Erf", x))


@ufunc("vecdot")
def vecdot(t: Trace, a: Traced, b: Traced) -> Traced:
    return t.wrap(t.g.op("ReduceSum", t.op("Mul", a, b).value(), t.g.ints([-1]), keepdims=0))


@ufunc("matvec")
def matvec(t: Trace, a: Traced, b: Traced) -> Any:
    return t.op("MatMul", a, b[..., None])[..., 0]


@ufunc("vecmat")
def vecmat(t: Trace, a: Traced, b: Traced) -> Any:
    return t.op("MatMul", a[..., None, :], b)[..., 0, :]
