"""TensorFlow Lite's arithmetic: element by element, activations, reductions, products."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted
from dlpack.exporters.layers import reshape
from dlpack.exporters.tflite.call import Call, activate, converts

_UNARY = {"ABS": "Abs", "NEG": "Neg", "SQRT": "Sqrt", "EXP": "Exp", "LOG": "Log", "SIN": "Sin", "COS": "Cos",
          "FLOOR": "Floor", "CEIL": "Ceil", "ROUND": "Round", "SIGN": "Sign", "LOGISTIC": "Sigmoid", "TANH": "Tanh",
          "ELU": "Elu", "LOGICAL_NOT": "Not", "HARD_SWISH": "HardSwish"}  # fmt: skip
_BINARY = {"ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div", "POW": "Pow"}
_MANY = {"MAXIMUM": "Max", "MINIMUM": "Min", "ADD_N": "Sum"}
_LOGIC = {"LESS": "Less", "GREATER": "Greater", "GREATER_EQUAL": "GreaterOrEqual", "LESS_EQUAL": "LessOrEqual",
          "EQUAL": "Equal", "LOGICAL_OR": "Or", "LOGICAL_AND": "And"}  # fmt: skip
_REDUCE = {"MEAN": "ReduceMean", "SUM": "ReduceSum", "REDUCE_MAX": "ReduceMax", "REDUCE_MIN": "ReduceMin",
           "REDUCE_PROD": "ReduceProd", "REDUCE_ANY": "ReduceMax", "REDUCE_ALL": "ReduceMin"}  # fmt: skip


@converts(*_UNARY)
def unary(c: Call) -> str:
    return c.op_(_UNARY[c.op], c.x())


@converts("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1")
def relu(c: Call) -> str:
    return activate(c, c.op, c.x())


@converts("RSQRT")
def rsqrt(c: Call) -> str:
    return c.op_("Reciprocal", c.op_("Sqrt", c.x()))


@converts("SQUARE")
def square(c: Call) -> str:
    return c.op_("Mul", c.x(), c.x())


@converts("LEAKY_RELU")
def leaky_relu(c: Call) -> str:
    return c.op_("LeakyRelu", c.x(), alpha=float(c.p["alpha"]))


@converts("PRELU")
def prelu(c: Call) -> str:
    return c.op_("PRelu", c.x(0), c.x(1))


@converts("GELU")
def gelu(c: Call) -> str:
    """x Φ(x); approximately x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2."""
    x, g = c.x(), c.g
    if c.p["approximate"]:
        cube = c.op_("Mul", c.op_("Mul", c.op_("Mul", x, x), x), g.scalar(0.044715))
        bend = c.op_("Tanh", c.op_("Mul", c.op_("Add", x, cube), g.scalar(math.sqrt(2 / math.pi))))
    else:
        bend = c.op_("Erf", c.op_("Mul", x, g.scalar(math.sqrt(0.5))))
    return c.op_("Mul", c.op_("Mul", x, g.scalar(0.5)), c.op_("Add", bend, g.scalar(1.0)))


@converts("SOFTMAX")
def softmax(c: Call) -> str:
    x, beta = c.x(), float(c.p["beta"])
    return c.op_("Softmax", x if beta == 1 else c.op_("Mul", x, c.g.scalar(beta)), axis=-1)


@converts("LOG_SOFTMAX")
def log_softmax(c: Call) -> str:
    return c.op_("LogSoftmax", c.x(), axis=-1)


@converts(*_BINARY)
def binary(c: Call) -> str:
    return c.activated(c.op_(_BINARY[c.op], c.x(0), c.x(1)))


@converts(*_MANY)
def many(c: Call) -> str:
    return c.op_(_MANY[c.op], *c.all())


@converts("SQUARED_DIFFERENCE")
def squared_difference(c: Call) -> str:
    d = c.op_("Sub", c.x(0), c.x(1))
    return c.op_("Mul", d, d)


@converts("FLOOR_DIV")
def floor_div(c: Call) -> str:
    """Rounded towards minus infinity, of floats the quotient in double: 6 / 0.1f is below 60 and is rounded to it.

    ONNX's Div rounds integers towards zero.
    """
    a, b = c.x(0), c.x(1)
    if (kind := c.g.dtype(a)).kind == "f":
        quotient = c.op_("Div", c.cast(a, np.float64), c.cast(b, np.float64))
        return c.cast(c.op_("Floor", quotient), kind)
    return c.op_("Div", c.op_("Sub", a, c.op_("Mod", a, b)), b)


@converts("FLOOR_MOD")
def floor_mod(c: Call) -> str:
    """The remainder of the divisor's sign, which is ONNX's Mod for integers; exact for floats, as fmod is."""
    a, b = c.x(0), c.x(1)
    if c.g.dtype(a).kind != "f":
        return c.op_("Mod", a, b)
    rest, zero = c.op_("Mod", a, b, fmod=1), c.g.scalar(0.0)
    other_sign = c.op_("Less", c.op_("Mul", c.op_("Sign", rest), c.op_("Sign", b)), zero)
    return c.op_("Where", other_sign, c.op_("Add", rest, b), rest)


@converts(*_LOGIC)
def logic(c: Call) -> str:
    return c.op_(_LOGIC[c.op], c.x(0), c.x(1))


@converts("NOT_EQUAL")
def not_equal(c: Call) -> str:
    return c.op_("Not", c.op_("Equal", c.x(0), c.x(1)))


@converts("QUANTIZE", "DEQUANTIZE")
def requantize(c: Call) -> str:
    return c.x()


@converts("CAST")
def cast(c: Call) -> str:
    kind = c.output().dtype
    if kind == "string" or kind.startswith("type "):
        raise NotConverted(f"a cast to {kind}")
    return c.cast(c.x(), np.float32 if np.dtype(kind).kind == "f" else kind)


@converts(*_REDUCE)
def reduce(c: Call) -> str:
    x, kind = c.x(), _REDUCE[c.op]
    rank = c.g.rank(x)
    axes = sorted({c.axis(a, rank) for a in c.ints(1, "dimensions")})
    keep = int(bool(c.p["keep_dims"]))
    if not axes:
        return x
    if kind == "ReduceSum":
        return c.op_(kind, x, c.g.ints(axes), keepdims=keep)
    whole = c.g.dtype(x) == np.bool_  # opset 17 reduces no truth values
    y = c.op_(kind, c.cast(x, np.int32) if whole else x, axes=axes, keepdims=keep)
    return c.cast(y, np.bool_) if whole else y


@converts("ARG_MAX", "ARG_MIN")
def arg(c: Call) -> str:
    x = c.x()
    axes = c.ints(1, "a dimension")
    if len(axes) != 1:
        raise ModelError(f"it has {len(axes)} dimensions to search along; one is needed")
    y = c.op_("ArgMax" if c.op == "ARG_MAX" else "ArgMin", x, axis=c.axis(axes[0], c.g.rank(x)), keepdims=0)
    return y


@converts("TOPK_V2")
def topk(c: Call) -> list[str]:
    x, k = c.x(), c.ints(1, "a count")
    if len(k) != 1 or not 1 <= k[0] <= c.g.shape(x)[-1]:
        raise ModelError(f"it selects {k} of {c.g.shape(x)[-1]} elements")
    return list(c.g.op("TopK", x, c.g.ints(k), axis=-1, outputs=2))


@converts("CUMSUM")
def cumsum(c: Call) -> str:
    axis = c.ints(1, "a dimension")
    flags: dict[str, Any] = {"exclusive": int(c.p["exclusive"]), "reverse": int(c.p["reverse"])}
    return c.op_("CumSum", c.x(), c.g.scalar_int(c.axis(axis[0], c.g.rank(c.x()))), **flags)


@converts("L2_NORMALIZATION")
def l2_normalization(c: Call) -> str:
    """Along the last dimension; a sum of squares below 1e-6 counts as that."""
    x = c.x()
    total = c.op_("ReduceSum", c.op_("Mul", x, x), c.g.ints([c.g.rank(x) - 1]), keepdims=1)
    return c.activated(c.op_("Div", x, c.op_("Sqrt", c.op_("Max", total, c.g.scalar(1e-6)))))


@converts("BATCH_MATMUL")
def batch_matmul(c: Call) -> str:
    sides = []
    for i, key in enumerate(("adj_x", "adj_y")):
        x = c.x(i)
        rank = c.g.rank(x)
        if c.p[key] and rank >= 2:
            x = c.op_("Transpose", x, perm=[*range(rank - 2), rank - 1, rank - 2])
        sides.append(x)
    return c.op_("MatMul", *sides)


@converts("FULLY_CONNECTED")
def fully_connected(c: Call) -> str:
    """x (..., I) with w (O, I); without `keep_dims` the result is (N, O)."""
    if c.p["format"]:
        raise NotConverted("shuffled weights")
    x, w = c.x(0), c.x(1)
    shape, have = c.g.shape(w), c.g.shape(x)
    if len(shape) != 2 or math.prod(have) % shape[1]:
        raise ModelError(f"its weight {list(shape)} does not fit the input {list(have)}")
    flat = reshape(c.g, x, (math.prod(have) // shape[1], shape[1]))
    bias = [c.x(2)] if c.has(2) else []
    y = c.op_("Gemm", flat, w, *bias, transB=1)
    if c.p["keep_dims"]:
        y = reshape(c.g, y, (*have[:-1], shape[0]))
    return c.activated(y)
