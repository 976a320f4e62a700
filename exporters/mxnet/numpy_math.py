"""MXNet's mx.np: arithmetic and reductions with NumPy's types and shapes, as in src/operator/numpy.

Comparisons give bool, whole reductions a value without dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from dlpack.exporters.builder import NotConverted
from dlpack.exporters.layers import reshape, slice_axis
from dlpack.exporters.mxnet import math as classic
from dlpack.exporters.mxnet.call import CONVERTERS, Call, converts

# --- operators of the older interface under other names ---------------------------------------------------------------

_SAME = {
    **{f"_npi_{name}": name for name in (
        "absolute", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctanh", "cbrt", "ceil", "cos", "cosh",
        "degrees", "exp", "expm1", "fix", "floor", "log", "log10", "log1p", "log2", "negative", "radians", "reciprocal",
        "rint", "sign", "sin", "sinh", "sqrt", "square", "tan", "tanh", "trunc",
    )},
    "_npi_absolute": "abs", "_npx_relu": "relu", "_npx_sigmoid": "sigmoid", "_npi_stack": "stack",
    "_npi_ones": "_ones", "_npi_zeros": "_zeros", "_npi_arange": "_arange", "_npi_flip": "reverse",
    "_npi_clip": "clip", "_npi_cast": "Cast", "_npi_tile": "tile", "_npi_take": "take", "_npi_slice": "slice",
    "_npi_swapaxes": "SwapAxis", "_npi_expand_dims": "expand_dims", "_npi_full": "_full", "_np_repeat": "repeat",
    "_npi_split": "_split_v2", "_npi_copy": "_copy", "_np_copy": "_copy",
}  # fmt: skip


def under(name: str) -> Callable[[Call], object]:
    """A converter of an operator that is `name` under another name."""
    return lambda c: CONVERTERS[name](replace(c, op=name))


for _new, _old in _SAME.items():
    converts(_new)(under(_old))


@converts("_npi_around")
def around(c: Call) -> str:
    """Halves go to the even number."""
    x, decimals = c.floating(c.x(0)), c.p.int("decimals", 0)
    if not decimals:
        return c.op_("Round", x)
    scale = c.g.scalar(10.0**decimals)
    return c.op_("Div", c.op_("Round", c.op_("Mul", x, scale)), scale)


_INFINITE = {"_npi_isinf": (1, 1), "_npi_isposinf": (0, 1), "_npi_isneginf": (1, 0)}


@converts("_npi_isnan", "_npi_isfinite", "_npi_logical_not", *_INFINITE)
def kind_of_number(c: Call) -> str:
    x = c.floating(c.x(0))
    if c.op == "_npi_logical_not":
        return c.op_("Equal", x, c.g.scalar(0.0))
    if c.op == "_npi_isnan":
        return c.op_("IsNaN", x)
    if c.op == "_npi_isfinite":
        return c.op_("Not", c.op_("Or", c.op_("IsNaN", x), c.op_("IsInf", x)))
    negative, positive = _INFINITE[c.op]
    return c.op_("IsInf", x, detect_negative=negative, detect_positive=positive)


@converts("_npi_nan_to_num")
def nan_to_num(c: Call) -> str:
    x, far = c.floating(c.x(0)), float(np.finfo(np.float32).max)
    y = c.op_("Where", c.op_("IsNaN", x), c.g.scalar(c.p.float("nan", 0.0)), x)
    for key, name, value in (("posinf", "_npi_isposinf", far), ("neginf", "_npi_isneginf", -far)):
        negative, positive = _INFINITE[name]
        hit = c.op_("IsInf", x, detect_negative=negative, detect_positive=positive)
        y = c.op_("Where", hit, c.g.scalar(c.p.float(key, value)), y)
    return y


# --- two operands -----------------------------------------------------------------------------------------------------


def _arctan2(c: Call, y: str, x: str) -> str:
    """The angle of (x, y); of a zero x, and on the negative half of the axis, as C's atan2 for positive zeros."""
    s, zero = c.g.scalar, c.g.scalar(0.0)
    safe = c.op_("Where", c.op_("Equal", x, zero), s(1.0), x)
    near = c.op_("Atan", c.op_("Div", y, safe))
    turn = c.op_("Where", c.op_("Less", y, zero), s(-math.pi), s(math.pi))
    angle = c.op_("Where", c.op_("Less", x, zero), c.op_("Add", near, turn), near)
    upright = c.op_("Mul", c.op_("Sign", y), s(math.pi / 2))
    return c.op_("Where", c.op_("Equal", x, zero), upright, angle)


def _copysign(c: Call, a: str, b: str) -> str:
    size = c.op_("Abs", a)
    return c.op_("Where", c.op_("Less", b, c.g.scalar(0.0)), c.op_("Neg", size), size)


def _ldexp(c: Call, a: str, b: str) -> str:
    return c.op_("Mul", a, c.op_("Pow", c.g.scalar(2.0), b))


def _hypot(c: Call, a: str, b: str) -> str:
    return c.op_("Sqrt", c.op_("Add", c.op_("Mul", a, a), c.op_("Mul", b, b)))


def _differ(c: Call, a: str, b: str) -> str:
    return c.op_("Not", c.op_("Equal", a, b))


_Binary = str | Callable[[Call, str, str], str]
_COMPARE: dict[str, _Binary] = {
    "equal": "Equal", "not_equal": _differ, "greater": "Greater", "greater_equal": "GreaterOrEqual", "less": "Less",
    "less_equal": "LessOrEqual",
}  # fmt: skip
_WHOLE: dict[str, _Binary] = {"add": "Add", "subtract": "Sub", "multiply": "Mul", "maximum": "Max", "minimum": "Min"}
_FLOATING: dict[str, _Binary] = {
    "true_divide": "Div", "power": "Pow", "mod": classic.modulo, "hypot": _hypot, "arctan2": _arctan2,
    "copysign": _copysign, "ldexp": _ldexp,
}  # fmt: skip
_BINARY = _COMPARE | _WHOLE | _FLOATING
_PLAIN = {f"_npi_{name}": name for name in _BINARY}
_SCALAR = {f"_npi_{name}_scalar": name for name in _BINARY}
_REVERSED = {f"_npi_r{name}_scalar": name for name in ("subtract", *_FLOATING)}


def _apply(c: Call, name: str, a: str, b: str) -> str:
    how = _BINARY[name]
    a, b, kind = c.same(a, b)
    if kind == np.bool_ and name in ("add", "multiply"):  # NumPy's or and and
        return c.op_("Or" if name == "add" else "And", a, b)
    if (name in _FLOATING and np.dtype(kind).kind != "f") or (kind == np.bool_ and name not in ("equal", "not_equal")):
        a, b = c.cast(a, np.float32), c.cast(b, np.float32)
    return c.op_(how, a, b) if isinstance(how, str) else how(c, a, b)


@converts(*_PLAIN)
def binary(c: Call) -> str:
    return _apply(c, _PLAIN[c.op], c.x(0), c.x(1))


def scalar_and_value(c: Call) -> tuple[str, str]:
    """The input, and the parameter `scalar` in its type, which is a floating one unless both are whole."""
    x, value = c.x(0), c.p.float("scalar", 1.0)
    if c.g.dtype(x).kind not in "iu" or not c.p.bool("is_int", True) or value != math.floor(value):
        x = x if c.g.dtype(x).kind == "f" else c.cast(x, np.float32)
    return x, c.g.scalar(value, like=x)


@converts(*_SCALAR, *_REVERSED)
def with_scalar(c: Call) -> str:
    x, other = scalar_and_value(c)
    if c.op in _REVERSED:
        return _apply(c, _REVERSED[c.op], other, x)
    return _apply(c, _SCALAR[c.op], x, other)


@converts("_npi_where", "_npi_where_lscalar", "_npi_where_rscalar", "_npi_where_scalar2")
def where(c: Call) -> str:
    """A choice between values, of which one or both may be numbers; all broadcast."""
    condition = c.cast(c.x(0), np.bool_)
    if c.op == "_npi_where_scalar2":
        return c.op_("Where", condition, c.g.scalar(c.p.float("x")), c.g.scalar(c.p.float("y")))
    if c.op == "_npi_where":
        a, b, _ = c.same(c.x(1), c.x(2))
        return c.op_("Where", condition, a, b)
    x = c.floating(c.x(1))
    number = c.g.scalar(c.p.float("scalar"))
    return c.op_("Where", condition, *((number, x) if c.op.endswith("lscalar") else (x, number)))


# --- reductions -------------------------------------------------------------------------------------------------------

_REDUCE = {"_np_sum": "ReduceSum", "_np_max": "ReduceMax", "_np_min": "ReduceMin", "_np_prod": "ReduceProd",
           "_npi_mean": "ReduceMean", "_np_any": "ReduceMax", "_np_all": "ReduceMin"}  # fmt: skip


def _axes(c: Call, rank: int) -> list[int]:
    return sorted({c.norm(a, rank) for a in c.p.ints("axis")}) if "axis" in c.p else list(range(rank))


def _reduce(c: Call, kind: str, x: str, axes: list[int], keep: bool) -> str:
    if not axes:
        return x
    if kind == "ReduceSum":
        return c.op_(kind, x, c.g.ints(axes), keepdims=int(keep))
    return c.op_(kind, x, axes=axes, keepdims=int(keep))


@converts(*_REDUCE)
def reduction(c: Call) -> str:
    x, kind = c.x(0), _REDUCE[c.op]
    if "initial" in c.p:
        raise NotConverted("its parameter initial")
    truth = c.op in ("_np_any", "_np_all")
    if truth:
        x = c.cast(c.cast(x, np.bool_), np.float32)
    elif kind == "ReduceMean" or c.g.dtype(x).kind == "b":
        x = c.floating(x)
    if "dtype" in c.p:
        x = c.cast(x, c.p.dtype("dtype"))
    y = _reduce(c, kind, x, _axes(c, c.g.rank(x)), c.p.bool("keepdims"))
    return c.cast(y, np.bool_) if truth else y


@converts("_npi_var", "_npi_std")
def spread(c: Call) -> str:
    x = c.floating(c.x(0))
    shape, axes = c.g.shape(x), _axes(c, c.g.rank(x))
    count, less = math.prod(shape[a] for a in axes), c.p.int("ddof", 0)
    step = c.op_("Sub", x, _reduce(c, "ReduceMean", x, axes, True))
    y = _reduce(c, "ReduceMean", c.op_("Mul", step, step), axes, c.p.bool("keepdims"))
    if less:
        y = c.op_("Mul", y, c.g.scalar(count / (count - less) if count > less else math.nan))
    return c.op_("Sqrt", y) if c.op == "_npi_std" else y


@converts("_npi_average")
def average(c: Call) -> str:
    x = c.floating(c.x(0))
    axes, rank = _axes(c, c.g.rank(x)), c.g.rank(x)
    if c.p.bool("returned"):
        raise NotConverted("the sum of the weights as an output")
    if len(c.inputs) < 2:
        return _reduce(c, "ReduceMean", x, axes, False)
    weights = c.floating(c.x(1))
    if c.g.rank(weights) == 1 and rank > 1:
        weights = reshape(c.g, weights, [-1 if k == axes[0] else 1 for k in range(rank)])
        weights = c.op_("Expand", weights, c.g.ints(c.g.shape(x)))
    total = _reduce(c, "ReduceSum", c.op_("Mul", x, weights), axes, False)
    return c.op_("Div", total, _reduce(c, "ReduceSum", weights, axes, False))


@converts("_npi_argmax", "_npi_argmin")
def arg_reduction(c: Call) -> str:
    x, keep, none = c.floating(c.x(0)), c.p.bool("keepdims"), "axis" not in c.p
    rank = c.g.rank(x)
    axis = 0 if none else c.axis(rank, 0)
    if none:
        x = reshape(c.g, x, (math.prod(c.g.shape(x)),))
    kind = "ArgMin" if c.op == "_npi_argmin" else "ArgMax"
    y = c.op_(kind, x, axis=axis, keepdims=int(keep and not none))
    return reshape(c.g, y, [1] * rank) if keep and none else y


@converts("_npi_norm")
def norm(c: Call) -> str:
    x = c.floating(c.x(0))
    axes, order = _axes(c, c.g.rank(x)), c.p.float("ord", 2.0)
    vector = "axis" not in c.p and c.p.int("flag", -2) == -2  # of all elements, whatever the rank
    if not (vector and order == 2.0) and not (len(axes) == 1 and order in (1.0, 2.0, math.inf, -math.inf)):
        raise NotConverted("a norm of matrices")
    keep = c.p.bool("keepdims")
    if math.isinf(order):
        return _reduce(c, "ReduceMax" if order > 0 else "ReduceMin", c.op_("Abs", x), axes, keep)
    return _reduce(c, f"ReduceL{int(order)}", x, axes, keep)


@converts("_npi_percentile")
def percentile(c: Call) -> str:
    """Of one number or several that are known, by sorting."""
    x = c.floating(c.x(0))
    ranks = np.array(c.p.float("q_scalar")) if "q_scalar" in c.p else c.g.value(c.x(1))
    if ranks is None:
        raise NotConverted("percentiles that are not known")
    axes, rank, keep = _axes(c, c.g.rank(x)), c.g.rank(x), c.p.bool("keepdims")
    rest = [k for k in range(rank) if k not in axes]
    size = math.prod(c.g.shape(x)[a] for a in axes)
    left = [c.g.shape(x)[k] for k in rest]
    row = reshape(c.g, c.op_("Transpose", x, perm=[*rest, *axes]), [*left, size])
    row, _ = c.g.op("TopK", row, c.g.ints([size]), axis=len(left), largest=0, outputs=2)
    place = np.asarray(ranks, np.float64).reshape(-1) / 100 * (size - 1)
    below, above = np.floor(place), np.ceil(place)
    how = c.p.text("interpolation", "linear")
    parts = {"lower": np.zeros_like(place), "higher": above - below, "nearest": np.rint(place) - below,
             "midpoint": (above - below) / 2, "linear": place - below}  # fmt: skip
    if how not in parts:
        raise NotConverted(f"interpolation={how[:40]!r}")
    low, high = (c.op_("Gather", row, c.g.ints([int(v) for v in at]), axis=len(left)) for at in (below, above))
    part = c.g.constant(parts[how].astype(np.float32))
    y = c.op_("Add", low, c.op_("Mul", c.op_("Sub", high, low), part))
    y = c.op_("Transpose", y, perm=[len(left), *range(len(left))])
    kept = [1 if k in axes else n for k, n in enumerate(c.g.shape(x))] if keep else left
    return reshape(c.g, y, [*np.shape(ranks), *kept])


@converts("_npi_diff", "_npi_ediff1d")
def difference(c: Call) -> str:
    x = c.x(0)
    if c.op == "_npi_ediff1d":
        if any(key in c.p for key in ("to_begin_scalar", "to_end_scalar")) or len(c.inputs) > 1:
            raise NotConverted("values at the ends")
        x = reshape(c.g, x, (math.prod(c.g.shape(x)),))
    axis = c.axis(c.g.rank(x), -1)
    for _ in range(c.p.int("n", 1)):
        size = c.g.shape(x)[axis]
        x = c.op_("Sub", slice_axis(c.g, x, axis, 1, size), slice_axis(c.g, x, axis, 0, size - 1))
    return x


@converts("_npi_polyval")
def polynomial(c: Call) -> str:
    """Of coefficients, the highest power first; by Horner's rule."""
    p, x = c.floating(c.x(0)), c.floating(c.x(1))
    y = c.g.filled(c.g.shape(x), 0.0)
    for k in range(c.g.shape(p)[0]):
        y = c.op_("Add", c.op_("Mul", y, x), slice_axis(c.g, p, 0, k, k + 1))
    return y
