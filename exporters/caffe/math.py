"""Caffe's elementwise layers and reductions."""

from __future__ import annotations

import math
from typing import Any

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted
from dlpack.exporters.caffe.call import Layer, converts
from dlpack.exporters.caffe.files import Message
from dlpack.exporters.layers import along, reshape


@converts("ReLU")
def relu(n: Layer) -> str:
    slope = n.p("relu_param").float("negative_slope", 0.0)
    return n.op_("LeakyRelu", n.x(), alpha=slope) if slope else n.op_("Relu", n.x())


@converts("PReLU")
def prelu(n: Layer) -> str:
    if n.p("prelu_param").bool("channel_shared"):
        return n.op_("PRelu", n.x(), n.blob(0, (1,)))
    return n.op_("PRelu", n.x(), along(n.g, n.blob(0, (n.shape()[1],)), n.rank(), 1))


@converts("ELU")
def elu(n: Layer) -> str:
    return n.op_("Elu", n.x(), alpha=n.p("elu_param").float("alpha", 1.0))


@converts("ReLU6")
def relu6(n: Layer) -> str:
    return n.op_("Clip", n.x(), n.scalar(0.0), n.scalar(6.0))


@converts("Clip")
def clip(n: Layer) -> str:
    p = n.p("clip_param")
    return n.op_("Clip", n.x(), n.scalar(p.float("min")), n.scalar(p.float("max")))


@converts("Swish")
def swish(n: Layer) -> str:
    beta = n.p("swish_param").float("beta", 1.0)
    return n.op_("Mul", n.x(), n.op_("Sigmoid", n.op_("Mul", n.x(), n.scalar(beta)) if beta != 1.0 else n.x()))


@converts("Sigmoid", "TanH", "AbsVal", "BNLL", "SigmoidCrossEntropyLoss")
def unary(n: Layer) -> str:
    kinds = {"TanH": "Tanh", "AbsVal": "Abs", "BNLL": "Softplus"}
    return n.op_(kinds.get(n.type, "Sigmoid"), n.x())


@converts("Threshold")
def threshold(n: Layer) -> str:
    return n.op_("Cast", n.op_("Greater", n.x(), n.scalar(n.p("threshold_param").float("threshold", 0.0))), to=1)


def _linear(n: Layer, p: Message, x: str, factor: float = 1.0) -> str:
    """(shift + scale * x) * factor."""
    a, b = p.float("scale", 1.0) * factor, p.float("shift", 0.0) * factor
    x = n.op_("Mul", x, n.scalar(a)) if a != 1.0 else x
    return n.op_("Add", x, n.scalar(b)) if b else x


@converts("Power")
def power(n: Layer) -> str:
    p = n.p("power_param")
    y, exponent = _linear(n, p, n.x()), p.float("power", 1.0)
    return y if exponent == 1.0 else n.op_("Pow", y, n.scalar(exponent))


def _log_base(p: Message) -> float:
    base = p.float("base", -1.0)
    if base != -1.0 and (base <= 0 or base == 1.0):
        raise ModelError(f"its base {base} must be positive and not 1")
    return 1.0 if base == -1.0 else math.log(base)


@converts("Exp")
def exp(n: Layer) -> str:
    p = n.p("exp_param")
    return n.op_("Exp", _linear(n, p, n.x(), _log_base(p)))


@converts("Log")
def log(n: Layer) -> str:
    p = n.p("log_param")
    y, base = n.op_("Log", _linear(n, p, n.x())), _log_base(p)
    return y if base == 1.0 else n.op_("Mul", y, n.scalar(1.0 / base))


@converts("Dropout", "Split", "Silence", "EuclideanLoss")
def passed(n: Layer) -> list[str]:
    return [n.x()] * n.tops


@converts("Eltwise")
def eltwise(n: Layer) -> str:
    p, values = n.p("eltwise_param"), list(n.bottoms)
    operation = (
        p.choice("operation", ("SUM", "SUM", "MAX"))
        if "operation" not in p
        else p.choice("operation", ("PROD", "SUM", "MAX"))
    )
    coefficients = p.floats("coeff")
    if coefficients and (operation != "SUM" or len(coefficients) != len(values)):
        raise ModelError("its coeff needs one value per bottom, and the operation SUM")
    if len({n.g.shape(v) for v in values}) > 1:
        raise ModelError(f"its bottoms differ in shape: {', '.join(str(list(n.g.shape(v))) for v in values)}")
    for k, c in enumerate(coefficients):
        if c != 1.0:
            values[k] = n.op_("Mul", values[k], n.scalar(c))
    if operation == "SUM":
        return n.op_("Add", *values) if len(values) == 2 else n.op_("Sum", *values)
    if operation == "MAX":
        return n.op_("Max", *values)
    if operation != "PROD":
        raise NotConverted(f"operation: {operation[:20]}")
    y = values[0]
    for v in values[1:]:
        y = n.op_("Mul", y, v)
    return y


@converts("Reduction")
def reduction(n: Layer) -> str:
    p, x = n.p("reduction_param"), n.x()
    shape = n.shape()
    axis = n.axis(p, 0, n.rank())
    operation = p.choice("operation", ("SUM", "ASUM", "SUMSQ", "MEAN"), first=1)
    kinds = {"SUM": "ReduceSum", "ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean"}
    if operation not in kinds:
        raise NotConverted(f"operation: {operation[:20]}")
    axes = list(range(axis, len(shape)))
    where: dict[str, Any] = {} if operation == "SUM" else {"axes": axes}
    y = n.op_(kinds[operation], x, *([n.g.ints(axes)] if operation == "SUM" else []), keepdims=0, **where)
    factor = p.float("coeff", 1.0)
    return n.op_("Mul", y, n.scalar(factor)) if factor != 1.0 else y


@converts("ArgMax")
def arg_max(n: Layer) -> str:
    p, x, shape = n.p("argmax_param"), n.x(), n.shape()
    count, values = p.int("top_k", 1), p.bool("out_max_val")
    fixed = "axis" in p
    axis = n.axis(p, 1, len(shape)) if fixed else 1
    if not fixed:
        x = reshape(n.g, x, (shape[0], math.prod(shape[1:])))
    if not 0 < count <= n.g.shape(x)[axis]:
        raise ModelError(f"top_k {count} is out of range")
    best, places = n.g.op("TopK", x, n.g.ints([count]), axis=axis, outputs=2)
    places = n.op_("Cast", places, to=1)
    if fixed:
        return best if values else places
    rows = [reshape(n.g, v, (shape[0], 1, count)) for v in ((places, best) if values else (places,))]
    return n.op_("Concat", *rows, axis=1) if values else rows[0]
