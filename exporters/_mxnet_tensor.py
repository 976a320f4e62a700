"""MXNet's tensor operators: arithmetic, reductions, shapes, indexing, as in src/operator/tensor."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters._builder import NotConverted, Shape
from dlpack.exporters._layers import along, reshape, slice_axis
from dlpack.exporters._mxnet_call import Call, converts

# --- element by element -----------------------------------------------------------------------------------------------

_UNARY: dict[str, str] = {
    "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "abs": "Abs",
    "negative": "Neg", "sin": "Sin", "cos": "Cos", "tan": "Tan", "arcsin": "Asin", "arccos": "Acos", "arctan": "Atan",
    "sinh": "Sinh", "cosh": "Cosh", "arcsinh": "Asinh", "arccosh": "Acosh", "arctanh": "Atanh", "floor": "Floor",
    "ceil": "Ceil", "sign": "Sign", "erf": "Erf", "softsign": "Softsign", "reciprocal": "Reciprocal", "_np_relu": "Relu",
}  # fmt: skip


@converts(*_UNARY)
def unary(c: Call) -> str:
    return c.op_(_UNARY[c.op], c.floating(c.x(0)))


@converts("identity", "_copy", "BlockGrad", "stop_gradient", "_identity_with_attr_like_rhs")
def identity(c: Call) -> str:
    return c.x(0)


@converts("square", "rsqrt", "cbrt", "rcbrt", "log2", "log10", "log1p", "expm1", "round", "rint", "fix", "trunc",
          "degrees", "radians", "logical_not", "zeros_like", "ones_like", "hard_sigmoid", "smooth_l1",
          "_contrib_div_sqrt_dim", "shape_array", "size_array")  # fmt: skip
def composed(c: Call) -> str:
    """Functions of one input that ONNX has no single operator for."""
    source = c.x(0)
    if c.op == "shape_array":
        return c.g.constant(np.array(c.g.shape(source), np.int64))
    if c.op == "size_array":
        return c.g.constant(np.array([math.prod(c.g.shape(source))], np.int64))
    if c.op in ("zeros_like", "ones_like"):
        return c.g.filled(c.g.shape(source), float(c.op == "ones_like"), c.g.dtype(source))
    x, s = c.floating(source), c.g.scalar
    if c.op == "square":
        return c.op_("Mul", x, x)
    if c.op == "rsqrt":
        return c.op_("Reciprocal", c.op_("Sqrt", x))
    if c.op in ("cbrt", "rcbrt"):
        y = c.op_("Mul", c.op_("Sign", x), c.op_("Pow", c.op_("Abs", x), s(1 / 3)))
        return y if c.op == "cbrt" else c.op_("Reciprocal", y)
    if c.op in ("log2", "log10"):
        return c.op_("Mul", c.op_("Log", x), s(1 / math.log(2 if c.op == "log2" else 10)))
    if c.op == "log1p":
        return c.op_("Log", c.op_("Add", x, s(1.0)))
    if c.op == "expm1":
        return c.op_("Sub", c.op_("Exp", x), s(1.0))
    if c.op == "round":  # halves away from zero
        return c.op_("Mul", c.op_("Sign", x), c.op_("Floor", c.op_("Add", c.op_("Abs", x), s(0.5))))
    if c.op == "rint":  # halves down
        return c.op_("Ceil", c.op_("Sub", x, s(0.5)))
    if c.op in ("fix", "trunc"):
        return c.op_("Mul", c.op_("Sign", x), c.op_("Floor", c.op_("Abs", x)))
    if c.op in ("degrees", "radians"):
        return c.op_("Mul", x, s(180 / math.pi if c.op == "degrees" else math.pi / 180))
    if c.op == "logical_not":
        return c.cast(c.op_("Equal", x, s(0.0)), np.float32)
    if c.op == "hard_sigmoid":
        return c.op_("HardSigmoid", x, alpha=c.p.float("alpha", 0.2), beta=c.p.float("beta", 0.5))
    if c.op == "_contrib_div_sqrt_dim":
        return c.op_("Mul", x, s(c.g.shape(x)[-1] ** -0.5))
    sigma2 = c.p.float("scalar", 1.0) ** 2  # smooth_l1
    size = c.op_("Abs", x)
    near = c.op_("Mul", c.op_("Mul", x, x), s(0.5 * sigma2))
    return c.op_("Where", c.op_("Less", size, s(1 / sigma2)), near, c.op_("Sub", size, s(0.5 / sigma2)))


def _mod(c: Call, a: str, b: str) -> str:
    """Of the sign of `b`; 0 where `b` is 0, as MXNet defines it."""
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
    "mod": _mod, "hypot": _hypot, "equal": "Equal", "not_equal": _not_equal, "greater": "Greater",
    "greater_equal": "GreaterOrEqual", "lesser": "Less", "lesser_equal": "LessOrEqual",
    "logical_and": _logical("And"), "logical_or": _logical("Or"), "logical_xor": _logical("Xor"),
}  # fmt: skip
_BINARY_NAMES: dict[str, str] = {"_plus": "add", "_Plus": "add", "_minus": "sub", "_Minus": "sub", "_Mul": "mul", "_Div": "div",
                                 "_Power": "power", "_Maximum": "maximum", "_Minimum": "minimum", "_grad_add": "add",
                                 "broadcast_plus": "add", "broadcast_minus": "sub", "_Mod": "mod", "_Hypot": "hypot",
                                 "_rdiv": "div"}  # fmt: skip
for _name in _BINARY:
    _BINARY_NAMES |= {f"_{_name}": _name, f"elemwise_{_name}": _name, f"broadcast_{_name}": _name}
_SCALAR_NAMES: dict[str, tuple[str, bool]] = {}  # name → operation, whether the scalar stands first
for _new, _old, _op in (("plus", "Plus", "add"), ("minus", "Minus", "sub"), ("mul", "Mul", "mul"), ("div", "Div", "div"),
                        ("mod", "Mod", "mod"), ("power", "Power", "power"), ("maximum", "Maximum", "maximum"),
                        ("minimum", "Minimum", "minimum"), ("hypot", "Hypot", "hypot"), ("equal", "Equal", "equal"),
                        ("not_equal", "NotEqual", "not_equal"), ("greater", "Greater", "greater"),
                        ("greater_equal", "GreaterEqual", "greater_equal"), ("lesser", "Lesser", "lesser"),
                        ("lesser_equal", "LesserEqual", "lesser_equal"), ("logical_and", "LogicalAnd", "logical_and"),
                        ("logical_or", "LogicalOr", "logical_or"), ("logical_xor", "LogicalXor", "logical_xor")):  # fmt: skip
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
    return {"indices": places, "value": values, "both": [values, places]}[kind]


@converts("sort", "argsort")
def sort(c: Call) -> str:
    x = c.floating(c.x(0))
    axis = c.axis(c.g.rank(x), -1)
    size, largest = c.g.shape(x)[axis], int(not c.p.bool("is_ascend", True))
    values, places = c.g.op("TopK", x, c.g.ints([size]), axis=axis, largest=largest, outputs=2)
    return values if c.op == "sort" else c.cast(places, c.p.dtype("dtype"))


@converts("cumsum", "_np_cumsum")
def cumsum(c: Call) -> str:
    x = c.x(0)
    if "axis" not in c.p:
        return c.op_("CumSum", reshape(c.g, x, (math.prod(c.g.shape(x)),)), c.g.scalar_int(0))
    return c.op_("CumSum", x, c.g.scalar_int(c.axis(c.g.rank(x), 0)))


# --- shapes -----------------------------------------------------------------------------------------------------------


def reshape_codes(shape: Shape, codes: tuple[int, ...], reverse: bool = False) -> Shape:
    """MXNet's Reshape: 0 copies, -1 infers, -2 copies the rest, -3 merges two, -4 splits one into the next two."""
    if reverse:
        return reshape_codes(shape[::-1], codes[::-1])[::-1]
    out: list[int] = []
    place, k = 0, 0
    while k < len(codes):
        code = codes[k]
        if code == -2:
            out += shape[place:]
            place = len(shape)
        elif code == -3:
            if place + 2 > len(shape):
                raise ModelError(f"its shape {codes} merges more dimensions than {list(shape)} has")
            out.append(shape[place] * shape[place + 1])
            place += 2
        elif code == -4:
            if k + 2 >= len(codes) or place >= len(shape):
                raise ModelError(f"its shape {codes} does not fit {list(shape)}")
            first, second = codes[k + 1 : k + 3]
            whole = shape[place]
            first = whole // second if first == -1 and second > 0 else first
            second = whole // first if second == -1 and first > 0 else second
            if first <= 0 or first * second != whole:
                raise ModelError(f"its shape {codes} splits {whole} into {first} times {second}")
            out += [first, second]
            place += 1
            k += 2
        elif code == 0:
            if place >= len(shape):
                raise ModelError(f"its shape {codes} does not fit {list(shape)}")
            out.append(shape[place])
            place += 1
        elif code >= -1:
            out.append(code)
            place += 1
        else:
            raise ModelError(f"its shape {codes} holds {code}, which means nothing")
        k += 1
    if out.count(-1) > 1 or len(out) > 32:
        raise ModelError(f"its shape {codes} does not fit {list(shape)}")
    total, known = math.prod(shape), math.prod(v for v in out if v != -1)
    if -1 in out:
        out[out.index(-1)] = total // known if known else 0
    if math.prod(out) != total or any(v <= 0 for v in out):
        raise ModelError(f"{list(shape)} cannot be reshaped to {codes}")
    return tuple(out)


@converts("Reshape", "reshape", "_np_reshape")
def reshape_node(c: Call) -> str:
    x = c.x(0)
    shape = c.g.shape(x)
    codes = c.p.ints("shape") or c.p.ints("newshape")
    if not codes:  # the oldest dialect
        codes = c.p.ints("target_shape")
        if c.p.bool("keep_highest") and codes:
            codes = (shape[0], *codes[1:])
        zeros = [k for k, v in enumerate(codes) if v == 0]
        codes = tuple(-1 if k in zeros[:1] else v for k, v in enumerate(codes))
        if not codes or len(zeros) > 1:
            raise ModelError("its parameter shape is missing")
    return reshape(c.g, x, reshape_codes(shape, codes, c.p.bool("reverse")))


@converts("Flatten", "flatten")
def flatten(c: Call) -> str:
    x = c.x(0)
    shape = c.g.shape(x)
    return reshape(c.g, x, (shape[0], math.prod(shape[1:])))


@converts("reshape_like")
def reshape_like(c: Call) -> str:
    if "lhs_begin" in c.p or "lhs_end" in c.p or "rhs_begin" in c.p or "rhs_end" in c.p:
        raise NotConverted("reshape_like of a part of the dimensions")
    return reshape(c.g, c.x(0), c.g.shape(c.x(1)))


@converts("transpose", "_np_transpose")
def transpose(c: Call) -> str:
    x = c.x(0)
    rank = c.g.rank(x)
    axes = [c.norm(a, rank, "axes") for a in c.p.ints("axes")] or list(range(rank))[::-1]
    if sorted(axes) != list(range(rank)):
        raise ModelError(f"its parameter axes={axes} does not fit an input of {rank} dimensions")
    return c.op_("Transpose", x, perm=axes)


@converts("SwapAxis", "swapaxes")
def swap_axis(c: Call) -> str:
    x = c.x(0)
    rank = c.g.rank(x)
    perm = list(range(rank))
    a, b = c.axis(rank, 0, "dim1"), c.axis(rank, 0, "dim2")
    perm[a], perm[b] = b, a
    return c.op_("Transpose", x, perm=perm)


@converts("expand_dims")
def expand_dims(c: Call) -> str:
    x = c.x(0)
    shape = list(c.g.shape(x))
    shape.insert(c.norm(c.p.int("axis"), len(shape) + 1), 1)
    return reshape(c.g, x, shape)


@converts("squeeze", "_np_squeeze")
def squeeze(c: Call) -> str:
    x = c.x(0)
    shape = c.g.shape(x)
    axes = [c.norm(a, len(shape)) for a in c.p.ints("axis")] or [k for k, n in enumerate(shape) if n == 1]
    if any(shape[a] != 1 for a in axes):
        raise ModelError(f"dimensions {axes} of {list(shape)} are not all 1")
    return reshape(c.g, x, tuple(n for k, n in enumerate(shape) if k not in axes) or (1,))


@converts("Concat", "concat", "_rnn_concat")
def concat(c: Call) -> str:
    values = c.all()
    if len({c.g.dtype(v) for v in values}) > 1:
        values = [c.cast(v, np.float32) for v in values]
    return values[0] if len(values) == 1 else c.op_("Concat", *values, axis=c.axis(c.g.rank(values[0]), 1, "dim"))


@converts("stack")
def stack(c: Call) -> str:
    values = c.all()
    shape = list(c.g.shape(values[0]))
    axis = c.axis(len(shape) + 1, 0)
    shape.insert(axis, 1)
    return c.op_("Concat", *(reshape(c.g, v, shape) for v in values), axis=axis)


@converts("slice_axis")
def slice_axis_node(c: Call) -> str:
    x = c.x(0)
    axis = c.axis(c.g.rank(x), 0)
    size = c.g.shape(x)[axis]
    begin, end = c.p.int("begin", 0), c.p.int("end", size)
    begin, end = (v + size if v < 0 else v for v in (begin, end))
    return x if (begin, end) == (0, size) else slice_axis(c.g, x, axis, begin, end)


@converts("slice", "crop", "_slice")
def slice_node(c: Call) -> str:
    x = c.x(0)
    begin, end, step = (c.p.optional_ints(k) for k in ("begin", "end", "step"))
    if len(begin) != len(end) or len(begin) > c.g.rank(x) or (step and len(step) != len(begin)):
        raise ModelError(f"its begin {begin} and end {end} do not fit an input of shape {list(c.g.shape(x))}")
    steps = [s or 1 for s in step] or [1] * len(begin)
    far = 2**31 - 1
    begins = [b if b is not None else (0 if s > 0 else far) for b, s in zip(begin, steps, strict=True)]
    ends = [e if e is not None else (far if s > 0 else -far) for e, s in zip(end, steps, strict=True)]
    return c.op_("Slice", x, c.g.ints(begins), c.g.ints(ends), c.g.ints(list(range(len(begins)))), c.g.ints(steps))


@converts("slice_like")
def slice_like(c: Call) -> str:
    x = c.x(0)
    like = c.g.shape(c.x(1))
    axes = [c.norm(a, c.g.rank(x)) for a in c.p.ints("axes")] or range(min(len(like), c.g.rank(x)))
    for axis in axes:
        if axis >= len(like):
            raise ModelError(f"its parameter axes does not fit the shape {list(like)}")
        if c.g.shape(x)[axis] != like[axis]:
            x = slice_axis(c.g, x, axis, 0, like[axis])
    return x


@converts("_split_v2")
def split_v2(c: Call) -> list[str]:
    x = c.x(0)
    axis = c.axis(c.g.rank(x), 0)
    size = c.g.shape(x)[axis]
    sections = c.p.int("sections", 0)
    if sections > size:
        raise ModelError(f"sections={sections} does not fit {size} elements")
    points = [size // sections * k for k in range(sections)] if sections > 0 else list(c.p.ints("indices"))
    bounds = [*points, size]
    pieces = [slice_axis(c.g, x, axis, a, b) for a, b in zip(bounds, bounds[1:], strict=False)]
    return [c.op_("Squeeze", v, c.g.ints([axis])) for v in pieces] if c.p.bool("squeeze_axis") else pieces


@converts("reverse", "flip")
def reverse(c: Call) -> str:
    x = c.x(0)
    for axis in c.p.ints("axis"):
        x = slice_axis(c.g, x, c.norm(axis, c.g.rank(x)), -1, -(2**31 - 1), -1)
    return x


@converts("Pad", "pad")
def pad(c: Call) -> str:
    x, mode = c.floating(c.x(0)), c.p.text("mode", "constant")
    widths = c.p.ints("pad_width")
    if mode not in ("constant", "edge", "reflect") or len(widths) != 2 * c.g.rank(x):
        raise NotConverted(f"mode={mode[:40]!r} with pad_width={widths}")
    if any(not 0 <= w < 2**31 for w in widths):
        raise ModelError(f"its parameter pad_width={widths} is out of range")
    return c.op_(
        "Pad", x, c.g.ints(widths[::2] + widths[1::2]), c.g.scalar(c.p.float("constant_value", 0.0)), mode=mode
    )


@converts("tile")
def tile(c: Call) -> str:
    x, reps = c.x(0), c.p.ints("reps")
    rank = max(len(reps), c.g.rank(x))
    x = reshape(c.g, x, (*([1] * (rank - c.g.rank(x))), *c.g.shape(x)))
    return c.op_("Tile", x, c.g.ints([*([1] * (rank - len(reps))), *reps]))


@converts("repeat")
def repeat(c: Call) -> str:
    x, count = c.x(0), c.p.int("repeats")
    if "axis" not in c.p:
        x, axis = reshape(c.g, x, (math.prod(c.g.shape(x)),)), 0
    else:
        axis = c.axis(c.g.rank(x), 0)
    shape = c.g.shape(x)
    if not 0 < count < 2**31:
        raise ModelError(f"repeats={count} is out of range")
    y = reshape(c.g, x, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
    y = c.op_("Expand", y, c.g.ints([*shape[: axis + 1], count, *shape[axis + 1 :]]))
    return reshape(c.g, y, (*shape[:axis], shape[axis] * count, *shape[axis + 1 :]))


@converts("broadcast_to", "broadcast_axis", "broadcast_axes", "broadcast_like")
def broadcast(c: Call) -> str:
    x = c.x(0)
    shape = list(c.g.shape(x))
    if c.op == "broadcast_to":
        wanted = c.p.ints("shape")
        if len(wanted) != len(shape):
            raise ModelError(f"{shape} cannot be broadcast to {list(wanted)}")
        shape = [w or n for w, n in zip(wanted, shape, strict=True)]
    elif c.op == "broadcast_like":
        if "lhs_axes" in c.p or "rhs_axes" in c.p:
            raise NotConverted("lhs_axes")
        shape = list(c.g.shape(c.x(1)))
    else:
        for axis, size in zip(c.p.ints("axis"), c.p.ints("size"), strict=True):
            shape[c.norm(axis, len(shape))] = size
    if any(n <= 0 or n >= 2**31 for n in shape):
        raise ModelError(f"{list(c.g.shape(x))} cannot be broadcast to {shape}")
    return x if tuple(shape) == c.g.shape(x) else c.op_("Expand", x, c.g.ints(shape))


@converts("depth_to_space", "space_to_depth")
def depth_to_space(c: Call) -> str:
    size = c.p.int("block_size")
    if c.op == "depth_to_space":
        return c.op_("DepthToSpace", c.x(0), blocksize=size)
    return c.op_("SpaceToDepth", c.x(0), blocksize=size)


# --- making constants -------------------------------------------------------------------------------------------------


@converts("_zeros", "zeros", "_ones", "ones", "_full", "full", "_np_zeros", "_np_ones", "_zeros_without_dtype")
def filled(c: Call) -> str:
    """A constant; a dimension of 0 is open in MXNet (an unknown batch size) and becomes 1, which broadcasts."""
    value = c.p.float("value", 0.0) if "full" in c.op else float("ones" in c.op)
    return c.g.filled(tuple(n or 1 for n in c.p.ints("shape")), value, c.p.dtype("dtype"))


@converts("_arange", "arange", "_contrib_arange_like")
def arange(c: Call) -> str:
    start, step, repeats = c.p.float("start", 0.0), c.p.float("step", 1.0), c.p.int("repeat", 1)
    if c.op == "_contrib_arange_like":
        shape = c.g.shape(c.x(0))
        shape = (shape[c.axis(len(shape), 0)],) if "axis" in c.p else shape
        count = math.prod(shape)
    else:
        stop = c.p.float("stop") if "stop" in c.p else start
        start = start if "stop" in c.p else 0.0
        if not step or not math.isfinite((stop - start) / step):
            raise ModelError("its start, stop and step give no range")
        count = max(0, math.ceil((stop - start) / step)) * repeats
        shape = (count,)
    c.g.claim("a range", (count,), np.float64)
    if not 0 < repeats <= count:
        raise ModelError(f"repeat={repeats} is out of range")
    values = start + step * (np.arange(count) // repeats)
    return c.g.constant(values.astype(c.p.dtype("dtype")).reshape(shape))


# --- indexing and products --------------------------------------------------------------------------------------------


def _indices(c: Call, x: str, size: int, mode: str) -> str:
    """Indices as int64, clipped to 0..size-1 or wrapped round."""
    if mode == "wrap":
        n = c.g.scalar(float(size))
        return c.cast(_mod(c, c.floating(x), n), np.int64)
    if mode not in ("clip", "raise"):
        raise NotConverted(f"mode={mode[:40]!r}")
    if mode == "clip":
        x = c.op_("Clip", c.floating(x), c.g.scalar(0.0), c.g.scalar(float(size - 1)))
    return c.cast(x, np.int64)


@converts("Embedding", "_contrib_SparseEmbedding")
def embedding(c: Call) -> str:
    w = c.weight(1, "weight")
    return c.op_("Gather", w, _indices(c, c.x(0), c.g.shape(w)[0], "clip"), axis=0)


@converts("take")
def take(c: Call) -> str:
    x = c.x(0)
    axis = c.axis(c.g.rank(x), 0)
    return c.op_("Gather", x, _indices(c, c.x(1), c.g.shape(x)[axis], c.p.text("mode", "clip")), axis=axis)


@converts("batch_take")
def batch_take(c: Call) -> str:
    x, places = c.x(0), c.x(1)
    rows, size = c.g.shape(x)
    index = reshape(c.g, _indices(c, places, size, "clip"), (rows, 1))
    return reshape(c.g, c.op_("GatherElements", x, index, axis=1), c.g.shape(places))


@converts("pick")
def pick(c: Call) -> str:
    x, places = c.x(0), c.x(1)
    axis = c.axis(c.g.rank(x), -1)
    shape = list(c.g.shape(x))
    index = _indices(c, places, shape[axis], c.p.text("mode", "clip"))
    index = reshape(c.g, index, [*shape[:axis], 1, *shape[axis + 1 :]])
    y = c.op_("GatherElements", x, index, axis=axis)
    return y if c.p.bool("keepdims") else reshape(c.g, y, shape[:axis] + shape[axis + 1 :] or [1])


@converts("gather_nd")
def gather_nd(c: Call) -> str:
    index = c.cast(c.x(1), np.int64)
    rank = c.g.rank(index)
    return c.op_("GatherND", c.x(0), c.op_("Transpose", index, perm=[*range(1, rank), 0]))


@converts("one_hot")
def one_hot(c: Call) -> str:
    depth, kind = c.p.int("depth"), c.p.dtype("dtype")
    if not 0 < depth < 2**31:
        raise ModelError(f"depth={depth} is out of range")
    index = c.cast(c.x(0), np.int64)
    c.g.claim("the classes", (depth,), np.int64)
    classes = c.g.constant(np.arange(depth, dtype=np.int64))
    hit = c.op_("Equal", reshape(c.g, index, (*c.g.shape(index), 1)), classes)
    on, off = (c.g.constant(np.array(c.p.float(k, d), kind)) for k, d in (("on_value", 1.0), ("off_value", 0.0)))
    return c.op_("Where", hit, on, off)


@converts("dot")
def dot(c: Call) -> str:
    """The last axis of the first with the first axis of the second, whatever their ranks."""
    a, b = c.floating(c.x(0)), c.floating(c.x(1))
    if c.p.bool("transpose_a"):
        a = c.op_("Transpose", a, perm=[*range(1, c.g.rank(a)), 0])
    if c.p.bool("transpose_b"):
        b = c.op_("Transpose", b, perm=[c.g.rank(b) - 1, *range(c.g.rank(b) - 1)])
    left, right = c.g.shape(a), c.g.shape(b)
    if left[-1] != right[0]:
        raise ModelError(f"the shapes {list(left)} and {list(right)} do not fit")
    rows, columns = math.prod(left[:-1]), math.prod(right[1:])
    y = c.op_("MatMul", reshape(c.g, a, (rows, left[-1])), reshape(c.g, b, (right[0], columns)))
    return reshape(c.g, y, (*left[:-1], *right[1:]) or (1,))


@converts("batch_dot", "_linalg_gemm2", "linalg_gemm2")
def batch_dot(c: Call) -> str:
    a, b = c.floating(c.x(0)), c.floating(c.x(1))
    rank = c.g.rank(a)
    if rank < 2 or c.g.rank(b) < 2:
        raise ModelError("its inputs need two dimensions at least")
    swap: dict[str, Any] = {"perm": [*range(rank - 2), rank - 1, rank - 2]}
    a = c.op_("Transpose", a, **swap) if c.p.bool("transpose_a") else a
    b = c.op_("Transpose", b, **swap) if c.p.bool("transpose_b") else b
    y = c.op_("MatMul", a, b)
    alpha = c.p.float("alpha", 1.0)
    return y if alpha == 1.0 else c.op_("Mul", y, c.g.scalar(alpha))


@converts("SequenceReverse", "SequenceLast", "SequenceMask")
def sequence(c: Call) -> str:
    if c.p.bool("use_sequence_length"):
        raise NotConverted("use_sequence_length=True")
    x = c.x(0)
    axis = c.axis(c.g.rank(x), 0)
    if c.op == "SequenceMask":
        return x
    if c.op == "SequenceReverse":
        return slice_axis(c.g, x, axis, -1, -(2**31 - 1), -1)
    shape = c.g.shape(x)
    y = slice_axis(c.g, x, axis, shape[axis] - 1, shape[axis])
    return reshape(c.g, y, shape[:axis] + shape[axis + 1 :])
