"""MXNet's arithmetic and reductions, as in src/operator/tensor."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted
from dlpack.exporters.layers import along, reshape
from dlpack.exporters.mxnet.call import Call, converts

# --- element by element -----------------------------------------------------------------------------------------------

_UNARY: dict[str, str] = {
    "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "abs": "Abs",
    "negative": "Neg", "sin": "Sin", "cos": "Cos", "tan": "Tan", "arcsin": "Asin", "arccos": "Acos", "arctan": "Atan",
    "sinh": "Sinh", "cosh": "Cosh", "arcsinh": "Asinh", "arccosh": "Acosh", "arctanh": "Atanh", "floor": "Floor",
    "ceil": "Ceil", "sign": "Sign", "erf": "Erf", "softsign": "Softsign", "reciprocal": "Reciprocal",
}  # fmt: skip


@converts(*_UNARY)
def unary(c: Call) -> str:
    return c.op_(_UNARY[c.op], c.floating(c.x(0)))


@converts("identity", "_copy", "BlockGrad", "stop_gradient", "_identity_with_attr_like_rhs")
def identity(c: Call) -> str:
    return c.x(0)


@converts("shape_array", "size_array", "zeros_like", "ones_like")
def of_shape(c: Call) -> str:
    """Constants that depend on the input's shape alone."""
    source = c.x(0)
    shape = c.g.shape(source)
    if c.op == "shape_array":
        return c.g.constant(np.array(shape, np.int64))
    if c.op == "size_array":
        return c.g.constant(np.array([math.prod(shape)], np.int64))
    return c.g.filled(shape, float(c.op == "ones_like"), c.g.dtype(source))


def _cube_root(c: Call, x: str) -> str:
    return c.op_("Mul", c.op_("Sign", x), c.op_("Pow", c.op_("Abs", x), c.g.scalar(1 / 3)))


def _round(c: Call, x: str) -> str:
    """Rounds halves away from zero."""
    return c.op_("Mul", c.op_("Sign", x), c.op_("Floor", c.op_("Add", c.op_("Abs", x), c.g.scalar(0.5))))


def _smooth_l1(c: Call, x: str) -> str:
    sigma2, s = c.p.float("scalar", 1.0) ** 2, c.g.scalar
    size = c.op_("Abs", x)
    near = c.op_("Mul", c.op_("Mul", x, x), s(0.5 * sigma2))
    return c.op_("Where", c.op_("Less", size, s(1 / sigma2)), near, c.op_("Sub", size, s(0.5 / sigma2)))


_COMPOSED: dict[str, Callable[[Call, str], str]] = {
    "square": lambda c, x: c.op_("Mul", x, x),
    "rsqrt": lambda c, x: c.op_("Reciprocal", c.op_("Sqrt", x)),
    "cbrt": _cube_root,
    "rcbrt": lambda c, x: c.op_("Reciprocal", _cube_root(c, x)),
    "log2": lambda c, x: c.op_("Mul", c.op_("Log", x), c.g.scalar(1 / math.log(2))),
    "log10": lambda c, x: c.op_("Mul", c.op_("Log", x), c.g.scalar(1 / math.log(10))),
    "log1p": lambda c, x: c.op_("Log", c.op_("Add", x, c.g.scalar(1.0))),
    "expm1": lambda c, x: c.op_("Sub", c.op_("Exp", x), c.g.scalar(1.0)),
    "round": _round,
    "rint": lambda c, x: c.op_("Ceil", c.op_("Sub", x, c.g.scalar(0.5))),  # halves down
    "fix": lambda c, x: c.op_("Mul", c.op_("Sign", x), c.op_("Floor", c.op_("Abs", x))),
    "degrees": lambda c, x: c.op_("Mul", x, c.g.scalar(180 / math.pi)),
    "radians": lambda c, x: c.op_("Mul", x, c.g.scalar(math.pi / 180)),
    "logical_not": lambda c, x: c.cast(c.op_("Equal", x, c.g.scalar(0.0)), np.float32),
    "hard_sigmoid": lambda c, x: c.op_("HardSigmoid", x, alpha=c.p.float("alpha", 0.2), beta=c.p.float("beta", 0.5)),
    "smooth_l1": _smooth_l1,
    "_contrib_div_sqrt_dim": lambda c, x: c.op_("Mul", x, c.g.scalar(c.g.shape(x)[-1] ** -0.5)),
}
_COMPOSED["trunc"] = _COMPOSED["fix"]


@converts(*_COMPOSED)
def composed(c: Call) -> str:
    """Functions of one input without an ONNX operator of their own."""
    return _COMPOSED[c.op](c, c.floating(c.x(0)))


def modulo(c: Call, a: str, b: str) -> str:
    """The remainder with the sign of `b`; 0 where `b` is 0, as in MXNet."""
    quotient = c.op_("Floor", c.op_("Div", a, b))
    rest = c.op_("Sub", a, c.op_("Mul", quotient, b))
    zero = c.g.scalar(0.0)
    return c.op_("Where", c.op_("Equal", b, zero), zero, rest)


def _hypot(c: Call, a: str, b: str) -> str:
    return c.op_("Sqrt", c.op_("Add", c.op_("Mul", a, a), c.op_("Mul", b, b)))


def _logical(kind: str) -> Callable[[Call, str, str], str]:
    def make(c: Call, a: str, b: str) -> str:
        return c.op_(kind, c.cast(a, np.bool_), c.cast(b, np.bool_))

    return make


def _not_equal(c: Call, a: str, b: str) -> str:
    return c.op_("Not", c.op_("Equal", a, b))


_BINARY: dict[str, str | Callable[[Call, str, str], str]] = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "power": "Pow", "maximum": "Max", "minimum": "Min",
    "mod": modulo, "hypot": _hypot, "equal": "Equal", "not_equal": _not_equal, "greater": "Greater",
    "greater_equal": "GreaterOrEqual", "lesser": "Less", "lesser_equal": "LessOrEqual",
    "logical_and": _logical("And"), "logical_or": _logical("Or"), "logical_xor": _logical("Xor"),
}  # fmt: skip
_BINARY_NAMES: dict[str, str] = {
    "_plus": "add", "_Plus": "add", "_minus": "sub", "_Minus": "sub", "_Mul": "mul", "_Div": "div", "_Power": "power",
    "_Maximum": "maximum", "_Minimum": "minimum", "_grad_add": "add", "broadcast_plus": "add", "broadcast_minus": "sub",
    "_Mod": "mod", "_Hypot": "hypot", "_rdiv": "div",
}  # fmt: skip
for _name in _BINARY:
    _BINARY_NAMES |= {f"_{_name}": _name, f"elemwise_{_name}": _name, f"broadcast_{_name}": _name}
_SCALAR_NAMES: dict[str, tuple[str, bool]] = {}  # name → operation, whether the scalar stands first
for _op in _BINARY:  # add → _plus_scalar and _PlusScalar, not_equal → _not_equal_scalar and _NotEqualScalar
    _new = {"add": "plus", "sub": "minus"}.get(_op, _op)
    _old = _new.title().replace("_", "")
    _SCALAR_NAMES |= {f"_{_new}_scalar": (_op, False), f"_{_old}Scalar": (_op, False)}
    if _op in ("sub", "div", "mod", "power"):
        _SCALAR_NAMES |= {f"_r{_new}_scalar": (_op, True), f"_R{_old}Scalar": (_op, True)}
_SCALAR_NAMES["_scatter_plus_scalar"] = ("add", False)


def _apply(c: Call, name: str, a: str, b: str) -> str:
    """The operation; comparisons give 0 or 1 in the inputs' element type."""
    a, b, kind = c.same(a, b)
    if name in ("div", "mod", "power", "hypot") and np.dtype(kind).kind != "f":
        a, b = c.cast(a, np.float32), c.cast(b, np.float32)
    how = _BINARY[name]
    y = c.op_(how, a, b) if isinstance(how, str) else how(c, a, b)
    return c.cast(y, kind if np.dtype(kind).kind != "b" else np.float32) if c.g.dtype(y).kind == "b" else y


@converts(*_BINARY_NAMES)
def binary(c: Call) -> str:
    a, b = c.x(0), c.x(1)
    return _apply(c, _BINARY_NAMES[c.op], b, a) if c.op == "_rdiv" else _apply(c, _BINARY_NAMES[c.op], a, b)


@converts(*_SCALAR_NAMES)
def with_scalar(c: Call) -> str:
    name, first = _SCALAR_NAMES[c.op]
    x, value = c.x(0), c.p.float("scalar", 1.0)
    if c.g.dtype(x).kind != "f" and value != int(value if math.isfinite(value) else 0):
        x = c.cast(x, np.float32)
    other = c.g.scalar(value, like=x)
    return _apply(c, name, other, x) if first or c.p.bool("reverse") else _apply(c, name, x, other)


@converts("ElementWiseSum", "add_n")
def add_n(c: Call) -> str:
    values = c.all()
    return values[0] if len(values) == 1 else c.op_("Sum", *values)


@converts("clip")
def clip(c: Call) -> str:
    x = c.x(0)
    low, high = c.g.scalar(c.p.float("a_min"), like=x), c.g.scalar(c.p.float("a_max"), like=x)
    return c.op_("Clip", x, low, high)


@converts("Cast", "cast", "amp_cast")
def cast(c: Call) -> str:
    x, kind = c.x(0), np.dtype(c.p.dtype("dtype"))
    return c.cast(x, kind)


@converts("amp_multicast")
def multicast(c: Call) -> list[str]:
    return c.all()


@converts("where")
def where(c: Call) -> str:
    condition, a, b = c.x(0), c.x(1), c.x(2)
    a, b, _ = c.same(a, b)
    if c.g.rank(condition) == 1 and c.g.rank(a) > 1:  # one condition per row
        condition = along(c.g, condition, c.g.rank(a), 0)
    return c.op_("Where", c.cast(condition, np.bool_), a, b)


# --- reductions -------------------------------------------------------------------------------------------------------

_REDUCE = {"sum": "ReduceSum", "mean": "ReduceMean", "max": "ReduceMax", "min": "ReduceMin", "prod": "ReduceProd",
           "sum_axis": "ReduceSum", "max_axis": "ReduceMax", "min_axis": "ReduceMin"}  # fmt: skip


def _reduced_axes(c: Call, rank: int) -> list[int]:
    axes = [c.norm(a, rank) for a in c.p.ints("axis")] or list(range(rank))
    if c.p.bool("exclude") and "axis" in c.p:
        axes = [k for k in range(rank) if k not in axes]
    return sorted(set(axes))


def _reduce(c: Call, kind: str, x: str, axes: list[int], keep: bool) -> str:
    if not axes:
        return x
    scalar = not keep and len(axes) == c.g.rank(x)
    if kind == "ReduceSum":
        y = c.op_(kind, x, c.g.ints(axes), keepdims=int(keep))
    else:
        y = c.op_(kind, x, axes=axes, keepdims=int(keep))
    return reshape(c.g, y, (1,)) if scalar else y  # MXNet's classic arrays have at least one dimension


@converts(*_REDUCE)
def reduction(c: Call) -> str:
    x = c.x(0)
    return _reduce(c, _REDUCE[c.op], x, _reduced_axes(c, c.g.rank(x)), c.p.bool("keepdims"))


@converts("norm")
def norm(c: Call) -> str:
    x, order = c.floating(c.x(0)), c.p.int("ord", 2)
    if order not in (1, 2):
        raise NotConverted(f"ord={order}")
    return _reduce(c, f"ReduceL{order}", x, _reduced_axes(c, c.g.rank(x)), c.p.bool("keepdims"))


@converts("argmax", "argmin", "argmax_channel")
def arg_reduction(c: Call) -> str:
    x = c.x(0)
    keep = c.p.bool("keepdims")
    none = "axis" not in c.p or (c.version < 905 and c.p.text("axis") == "-1")  # -1 once meant: all
    if c.op == "argmax_channel":
        axis = 1
    elif none:
        x, axis, keep = reshape(c.g, x, (math.prod(c.g.shape(x)),)), 0, True
    else:
        axis = c.axis(c.g.rank(x), 0)
    y = c.op_("ArgMin" if c.op == "argmin" else "ArgMax", x, axis=axis, keepdims=int(keep))
    y = c.cast(y, np.float32)
    return reshape(c.g, y, (1,)) if c.g.shape(y) == () else y


@converts("topk")
def topk(c: Call) -> str | list[str]:
    x, kind = c.floating(c.x(0)), c.p.text("ret_typ", "indices")
    if "axis" not in c.p and c.p.text("axis") == "None":
        x, axis = reshape(c.g, x, (math.prod(c.g.shape(x)),)), 0
    else:
        axis = c.axis(c.g.rank(x), -1)
    size = c.g.shape(x)[axis]
    k = c.p.int("k", 1)
    if not 0 <= k <= size:
        raise ModelError(f"k={k} is more than the {size} elements")
    largest = int(not c.p.bool("is_ascend"))
    values, places = c.g.op("TopK", x, c.g.ints([k or size]), axis=axis, largest=largest, outputs=2)
    places = c.cast(places, c.p.dtype("dtype"))
    if kind not in ("indices", "value", "both"):
        raise NotConverted(f"ret_typ={kind[:40]!r}")
    if kind == "both":
        return [values, places]
    return str(values if kind == "value" else places)


@converts("sort", "argsort")
def sort(c: Call) -> str:
    x = c.floating(c.x(0))
    axis = c.axis(c.g.rank(x), -1)
    size, largest = c.g.shape(x)[axis], int(not c.p.bool("is_ascend", c.p.bool("is_ascend_s", True)))
    values, places = c.g.op("TopK", x, c.g.ints([size]), axis=axis, largest=largest, outputs=2)
    return values if c.op == "sort" else c.cast(places, c.p.dtype("dtype"))


@converts("cumsum", "_np_cumsum")
def cumsum(c: Call) -> str:
    x = c.x(0)
    if "axis" not in c.p:
        return c.op_("CumSum", reshape(c.g, x, (math.prod(c.g.shape(x)),)), c.g.scalar_int(0))
    return c.op_("CumSum", x, c.g.scalar_int(c.axis(c.g.rank(x), 0)))
