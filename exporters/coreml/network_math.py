"""Layers of Core ML's neural networks that compute element by element, and reductions."""

from __future__ import annotations

import math

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted
from dlpack.exporters.coreml.files import Message
from dlpack.exporters.coreml.layer import Layer, converts
from dlpack.exporters.coreml.weights import weights

_UNARY = {
    "ceil": "Ceil", "floor": "Floor", "sign": "Sign", "round": "Round", "sin": "Sin", "cos": "Cos", "tan": "Tan",
    "asin": "Asin", "acos": "Acos", "atan": "Atan", "sinh": "Sinh", "cosh": "Cosh", "tanh": "Tanh", "asinh": "Asinh",
    "acosh": "Acosh", "atanh": "Atanh", "erf": "Erf", "copy": "Identity",
}  # fmt: skip
_BINARY = {
    "minBroadcastable": "Min", "maxBroadcastable": "Max", "addBroadcastable": "Add", "powBroadcastable": "Pow",
    "divideBroadcastable": "Div", "multiplyBroadcastable": "Mul", "subtractBroadcastable": "Sub",
}  # fmt: skip
_COMPARED = {
    "equal": "Equal", "notEqual": "Equal", "lessThan": "Less", "lessEqual": "LessOrEqual", "greaterThan": "Greater",
    "greaterEqual": "GreaterOrEqual",
}  # fmt: skip
_REDUCED = {
    "reduceL1": "ReduceL1", "reduceL2": "ReduceL2", "reduceMax": "ReduceMax", "reduceMin": "ReduceMin",
    "reduceSum": "ReduceSum", "reduceProd": "ReduceProd", "reduceMean": "ReduceMean", "reduceLogSum": "ReduceLogSum",
    "reduceSumSquare": "ReduceSumSquare", "reduceLogSumExp": "ReduceLogSumExp",
}  # fmt: skip
_OLD_REDUCED = ("ReduceSum", "ReduceMean", "ReduceProd", "", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceMax",
                "ReduceMin")  # fmt: skip
_OLD_AXES = ([-3, -2, -1], [-2, -1], [-3], [-2], [-1])


@converts(*_UNARY)
def simple(c: Layer) -> str:
    return c.op_(_UNARY[c.type], c.x())


@converts(*_BINARY)
def binary(c: Layer) -> str:
    return c.op_(_BINARY[c.type], c.x(0), c.x(1))


@converts("floorDivBroadcastable", "modBroadcastable")
def floor_division(c: Layer) -> str:
    if c.type == "floorDivBroadcastable":
        return c.op_("Floor", c.op_("Div", c.x(0), c.x(1)))
    below = c.op_("Mul", c.op_("Floor", c.op_("Div", c.x(0), c.x(1))), c.x(1))
    return c.op_("Sub", c.x(0), below)


@converts(*_COMPARED)
def compared(c: Layer) -> str:
    alpha = c.p.number(1 if c.type in ("equal", "notEqual") else 2)
    y = c.op_(_COMPARED[c.type], c.x(0), c.x(1) if len(c.inputs) > 1 else c.scalar(alpha))
    return c.cast(c.op_("Not", y) if c.type == "notEqual" else y, np.float32)


@converts("logicalOr", "logicalXor", "logicalNot", "logicalAnd")
def logical(c: Layer) -> str:
    truths = [c.cast(v, np.bool_) for v in c.inputs]
    return c.cast(c.op_(c.type.removeprefix("logical"), *truths), np.float32)


@converts("whereBroadcastable")
def where(c: Layer) -> str:
    return c.op_("Where", c.cast(c.x(0), np.bool_), c.x(1), c.x(2))


@converts("exp2")
def exp2(c: Layer) -> str:
    return c.op_("Exp", c.op_("Mul", c.x(), c.scalar(math.log(2))))


@converts("clip", "clampedReLU")
def clip(c: Layer) -> str:
    first, second = c.p.number(1), c.p.number(2)
    if c.type == "clip":
        return c.op_("Clip", c.x(), c.scalar(first), c.scalar(second))
    return c.op_("Min", c.op_("LeakyRelu", c.x(), alpha=first), c.scalar(second))


@converts("gelu")
def gelu(c: Layer) -> str:
    x, mode = c.x(), c.p.whole(1)
    if mode == 2:
        return c.op_("Mul", x, c.op_("Sigmoid", c.op_("Mul", x, c.scalar(1.702))))
    if mode == 1:
        cubed = c.op_("Mul", c.op_("Mul", c.op_("Mul", x, x), x), c.scalar(0.044715))
        inner = c.op_("Tanh", c.op_("Mul", c.op_("Add", x, cubed), c.scalar(math.sqrt(2 / math.pi))))
    else:
        inner = c.op_("Erf", c.op_("Mul", x, c.scalar(math.sqrt(0.5))))
    return c.op_("Mul", c.op_("Mul", x, c.scalar(0.5)), c.op_("Add", inner, c.scalar(1.0)))


@converts("activation")
def activation(c: Layer) -> str:
    kinds = {10: "Relu", 30: "Tanh", 40: "Sigmoid", 60: "Softsign", 70: "Softplus"}
    number = next((k for k in c.p.fields if k in (*kinds, 5, 15, 20, 25, 31, 41, 50, 71)), None)
    if number is None:
        raise NotConverted("this activation")
    if number in kinds:
        return c.op_(kinds[number], c.x())
    params = c.p.message(number)
    if number in (25, 71):
        return _per_channel(c, params, number)
    alpha, beta = params.number(1), params.number(2)
    if number == 15:
        return c.op_("LeakyRelu", c.x(), alpha=alpha)
    if number == 41:
        return c.op_("HardSigmoid", c.x(), alpha=alpha, beta=beta)
    if number == 50:
        return c.op_("Elu", c.x(), alpha=alpha)
    if number == 20:
        kept = c.op_("GreaterOrEqual", c.x(), c.scalar(alpha))
        return c.op_("Where", kept, c.x(), c.scalar(0.0))
    if number == 31:
        return c.op_("Mul", c.op_("Tanh", c.op_("Mul", c.x(), c.scalar(beta))), c.scalar(alpha))
    return c.op_("Add", c.op_("Mul", c.x(), c.scalar(alpha)), c.scalar(beta))


def _per_channel(c: Layer, params: Message, number: int) -> str:
    alpha = c.per_channel(params.message(1))
    if number == 25:
        return c.op_("PRelu", c.x(), alpha)
    scaled = c.op_("Mul", c.x(), c.per_channel(params.message(2)))
    return c.op_("Mul", c.op_("Softplus", scaled), alpha)


@converts("unary")
def unary(c: Layer) -> str:
    x, kind = c.x(), c.p.whole(1)
    alpha, epsilon, shift, scale = c.p.number(2), c.p.number(3, 1e-6), c.p.number(4), c.p.number(5, 1.0)
    if scale != 1.0:
        x = c.op_("Mul", x, c.scalar(scale))
    if shift:
        x = c.op_("Add", x, c.scalar(shift))
    plain = {0: "Sqrt", 4: "Exp", 5: "Log", 6: "Abs"}
    if kind in plain:
        return c.op_(plain[kind], x)
    if kind in (1, 2):
        x = c.op_("Add", x, c.scalar(epsilon))
        return c.op_("Reciprocal", c.op_("Sqrt", x) if kind == 1 else x)
    if kind in (3, 7):
        return c.op_("Pow" if kind == 3 else "Max", x, c.scalar(alpha))
    raise NotConverted(f"the function {kind}")


@converts("add", "multiply", "max", "min", "average")
def several(c: Layer) -> str:
    kind = {"add": "Add", "multiply": "Mul", "max": "Max", "min": "Min", "average": "Add"}[c.type]
    if len(c.inputs) == 1:
        return c.op_(kind, c.x(), c.scalar(c.p.number(1))) if kind in ("Add", "Mul") and c.type != "average" else c.x()
    y = c.x()
    for other in c.inputs[1:]:
        y = c.op_(kind, y, other)
    return c.op_("Mul", y, c.scalar(1 / len(c.inputs))) if c.type == "average" else y


@converts("bias", "scale")
def affine(c: Layer) -> str:
    """Weights of the shape [1], [C], [1, H, W] or [C, H, W]."""

    def constant(shape_field: int, field: int, label: str) -> str:
        shape = tuple(c.p.wholes(shape_field))
        if len(shape) not in (1, 3) or not all(0 < d < 1 << 24 for d in shape):
            raise ModelError(f"its {label} has the shape {list(shape)}")
        array = weights(c.p.message(field), shape)
        return c.g.constant(array.reshape(-1, 1, 1) if len(shape) == 1 else array, f"{c.name}_{label}")

    if c.type == "bias":
        return c.op_("Add", c.x(), constant(1, 2, "bias"))
    y = c.op_("Mul", c.x(), constant(1, 2, "scale"))
    return c.op_("Add", y, constant(4, 5, "bias")) if c.p.whole(3) else y


@converts("dot")
def dot(c: Layer) -> str:
    axes = c.axes([-3, -2, -1])
    y = c.op_("ReduceSum", c.op_("Mul", c.x(0), c.x(1)), c.g.ints(axes))
    if not c.p.whole(1):
        return y
    lengths = [c.op_("ReduceL2", c.x(k), axes=axes) for k in (0, 1)]
    return c.op_("Div", y, c.op_("Mul", *lengths))


@converts("softmax", "softmaxND")
def softmax(c: Layer) -> str:
    axis = c.axes([-3])[0] if c.type == "softmax" else c.axis(1)
    return c.op_("Softmax", c.x(), axis=axis)


@converts("reduce")
def reduce(c: Layer) -> str:
    mode, axis = c.p.whole(1), c.p.whole(3)
    if mode > 9 or axis > 4:
        raise NotConverted(f"the reduction {mode} over {axis}")
    axes = c.axes(_OLD_AXES[axis])
    if mode == 9:
        if len(axes) > 1:
            raise NotConverted("an argmax over several dimensions")
        return c.cast(c.op_("ArgMax", c.x(), axis=axes[0], keepdims=1), np.float32)
    if mode == 3:
        logs = c.op_("Log", c.op_("Add", c.x(), c.scalar(c.p.number(2, 1e-6))))
        return c.op_("ReduceSum", logs, c.g.ints(axes))
    if mode == 0:
        return c.op_("ReduceSum", c.x(), c.g.ints(axes))
    return c.op_(_OLD_REDUCED[mode], c.x(), axes=axes)


@converts(*_REDUCED)
def reduced(c: Layer) -> str:
    axes, keep = c.p.wholes(1), c.p.whole(2)
    axes = list(range(c.rank())) if c.p.whole(3) or not axes else c.axes(axes)
    if c.type == "reduceSum":
        return c.op_("ReduceSum", c.x(), c.g.ints(axes), keepdims=keep)
    return c.op_(_REDUCED[c.type], c.x(), axes=axes, keepdims=keep)


@converts("argMax", "argMin")
def arg(c: Layer) -> str:
    kind = "ArgMax" if c.type == "argMax" else "ArgMin"
    return c.cast(c.op_(kind, c.x(), axis=c.axis(1), keepdims=int(not c.p.whole(2))), np.float32)


@converts("cumSum")
def cumulative(c: Layer) -> str:
    axis = c.g.scalar_int(c.axis(1))
    return c.op_("CumSum", c.x(), axis, exclusive=c.p.whole(2), reverse=c.p.whole(3))
