"""ncnn's elementwise layers, reductions and normalisation, as src/layer of Tencent/ncnn defines them."""

from __future__ import annotations

import math
from collections.abc import Callable

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted, Shape
from dlpack.exporters.layers import reshape
from dlpack.exporters.ncnn.call import Layer, converts, hard_swish, mish
from dlpack.exporters.ncnn.files import NONE

_LARGEST = 3.4028234663852886e38
_SIMPLE = {
    "AbsVal": "Abs", "BNLL": "Softplus", "Erf": "Erf", "Sigmoid": "Sigmoid", "Softplus": "Softplus", "TanH": "Tanh",
}  # fmt: skip


@converts(*_SIMPLE)
def simple(n: Layer) -> str:
    return n.op_(_SIMPLE[n.type], n.x())


@converts("Mish")
def mish_layer(n: Layer) -> str:
    return mish(n, n.x())


@converts("Swish")
def swish(n: Layer) -> str:
    return n.op_("Mul", n.x(), n.op_("Sigmoid", n.x()))


@converts("ReLU")
def relu(n: Layer) -> str:
    slope = n.p.float(0)
    return n.op_("LeakyRelu", n.x(), alpha=slope) if slope else n.op_("Relu", n.x())


@converts("PReLU")
def prelu(n: Layer) -> str:
    count = n.p.int(0)
    return n.op_("PRelu", n.x(), n.plain("slope", (1,)) if count == 1 else n.outer("slope", count))


@converts("ELU", "CELU", "SELU")
def elu(n: Layer) -> str:
    if n.type == "SELU":
        return n.op_("Selu", n.x(), alpha=n.p.float(0, 1.67326324), gamma=n.p.float(1, 1.050700987))
    return n.op_("Elu" if n.type == "ELU" else "Celu", n.x(), alpha=n.p.float(0, 0.1 if n.type == "ELU" else 1.0))


@converts("Clip")
def clip(n: Layer) -> str:
    return n.op_("Clip", n.x(), n.scalar(n.p.float(0, -_LARGEST)), n.scalar(n.p.float(1, _LARGEST)))


@converts("HardSigmoid", "HardSwish")
def hard(n: Layer) -> str:
    alpha, beta = n.p.float(0, 0.2), n.p.float(1, 0.5)
    if n.type == "HardSwish":
        return hard_swish(n, n.x(), alpha, beta)
    return n.op_("HardSigmoid", n.x(), alpha=alpha, beta=beta)


@converts("GELU")
def gelu(n: Layer) -> str:
    x, half = n.x(), n.op_("Mul", n.x(), n.scalar(0.5))
    if n.p.int(0):
        cubed = n.op_("Mul", n.op_("Mul", n.op_("Mul", x, x), x), n.scalar(0.044715))
        inner = n.op_("Tanh", n.op_("Mul", n.op_("Add", x, cubed), n.scalar(math.sqrt(2 / math.pi))))
    else:
        inner = n.op_("Erf", n.op_("Mul", x, n.scalar(math.sqrt(0.5))))
    return n.op_("Mul", half, n.op_("Add", inner, n.scalar(1.0)))


@converts("Power")
def power(n: Layer) -> str:
    exponent, y = n.p.float(0, 1.0), n.op_("Mul", n.x(), n.scalar(n.p.float(1, 1.0)))
    y = n.op_("Add", y, n.scalar(n.p.float(2)))
    return y if exponent == 1.0 else n.op_("Pow", y, n.scalar(exponent))


@converts("Dropout")
def dropout(n: Layer) -> str:
    scale = n.p.float(0, 1.0)
    return n.x() if scale == 1.0 else n.op_("Mul", n.x(), n.scalar(scale))


@converts("Softmax")
def softmax(n: Layer) -> str:
    return n.op_("Softmax", n.x(), axis=n.axis(0))


# --- several operands -------------------------------------------------------------------------------------------------

_BINARY = {0: "Add", 1: "Sub", 2: "Mul", 3: "Div", 4: "Max", 5: "Min", 6: "Pow", 7: "Sub", 8: "Div", 9: "Pow"}
_UNARY = {
    0: "Abs", 1: "Neg", 2: "Floor", 3: "Ceil", 5: "Sqrt", 7: "Exp", 8: "Log", 9: "Sin", 10: "Cos", 11: "Tan",
    12: "Asin", 13: "Acos", 14: "Atan", 15: "Reciprocal", 16: "Tanh", 18: "Round",
}  # fmt: skip


def broadcast(a: Shape, b: Shape) -> Shape:
    """The shape in which a blob of shape `a` meets one of more dimensions, `b`; both without the batch.

    ncnn aligns the outermost dimensions; of one dimension only, the innermost if that alone fits.
    """
    missing = len(b) - len(a)
    if len(a) == 1 and a[0] != b[0]:
        return (*([1] * missing), *a)
    return (*a, *([1] * missing))


@converts("BinaryOp")
def binary(n: Layer) -> str:
    kind = n.p.int(0)
    if kind not in _BINARY:
        raise NotConverted(f"op_type={kind}")
    if n.p.int(1):
        a, b = n.x(), n.scalar(n.p.float(2))
    else:
        a, b = n.x(0), n.x(1)
        if n.dims(0) < n.dims(1):
            a = reshape(n.g, a, (1, *broadcast(n.shape(0)[1:], n.shape(1)[1:])))
        elif n.dims(1) < n.dims(0):
            b = reshape(n.g, b, (1, *broadcast(n.shape(1)[1:], n.shape(0)[1:])))
    return n.op_(_BINARY[kind], *((b, a) if kind >= 7 else (a, b)))


@converts("UnaryOp")
def unary(n: Layer) -> str:
    kind, x = n.p.int(0), n.x()
    made: dict[int, Callable[[], str]] = {
        4: lambda: n.op_("Mul", x, x),
        6: lambda: n.op_("Reciprocal", n.op_("Sqrt", x)),
        17: lambda: n.op_("Mul", n.op_("Log", x), n.scalar(1 / math.log(10))),
        19: lambda: n.op_("Mul", n.op_("Sign", x), n.op_("Floor", n.op_("Abs", x))),
    }
    if kind in made:
        return made[kind]()
    if kind not in _UNARY:
        raise NotConverted(f"op_type={kind}")
    return n.op_(_UNARY[kind], x)


@converts("Eltwise")
def eltwise(n: Layer) -> str:
    kind, coefficients, values = n.p.int(0), n.p.floats(1), list(n.inputs)
    if kind not in (0, 1, 2) or len({n.g.shape(v) for v in values}) != 1:
        raise NotConverted(f"op_type={kind} of {len(values)} inputs of these shapes")
    if coefficients and kind == 1:
        if len(coefficients) != len(values):
            raise ModelError(f"it has {len(values)} inputs and {len(coefficients)} coefficients")
        values = [n.op_("Mul", v, n.scalar(c)) for v, c in zip(values, coefficients, strict=True)]
    y = values[0]
    for v in values[1:]:
        y = n.op_(("Mul", "Add", "Max")[kind], y, v)
    return y


@converts("Reduction")
def reduction(n: Layer) -> str:
    kinds = {0: "ReduceSum", 1: "ReduceL1", 2: "ReduceSumSquare", 3: "ReduceMean", 4: "ReduceMax", 5: "ReduceMin",
             6: "ReduceProd", 7: "ReduceL1", 8: "ReduceL2", 9: "ReduceLogSum", 10: "ReduceLogSumExp"}  # fmt: skip
    kind, every, keep, factor = n.p.int(0), n.p.int(1, 1), n.p.int(4), n.p.float(2, 1.0)
    if kind not in kinds or not (every or n.p.int(5)):
        raise NotConverted(f"operation={kind}, or a file of before 2020 (fixbug0=0)")
    axes = list(range(1, n.dims() + 1)) if every else [n.place(a) for a in n.p.ints(3)]
    if kind == 0:
        y = n.op_("ReduceSum", n.x(), n.g.ints(axes), keepdims=keep)
    else:
        y = n.op_(kinds[kind], n.x(), axes=axes, keepdims=keep)
    if n.g.rank(y) == 1:
        y = reshape(n.g, y, (1, 1))
    return y if factor == 1.0 else n.op_("Mul", y, n.scalar(factor))


# --- normalisation ----------------------------------------------------------------------------------------------------


@converts("BatchNorm")
def batch_norm(n: Layer) -> str:
    channels = n.p.int(0)
    slope, mean, var, bias = (n.plain(k, (channels,)) for k in ("slope", "mean", "var", "bias"))
    return n.op_("BatchNormalization", n.x(), slope, bias, mean, var, epsilon=n.p.float(1))


@converts("Scale")
def scale(n: Layer) -> str:
    count = n.p.int(0)
    if count == NONE:
        factor = reshape(n.g, n.x(1), (1, *broadcast(n.shape(1)[1:], n.shape()[1:])))
        count = n.shape(1)[1]
    else:
        factor = n.outer("scale", count)
    y = n.op_("Mul", n.x(), factor)
    return n.op_("Add", y, n.outer("bias", count)) if n.p.int(1) else y


@converts("Bias")
def bias(n: Layer) -> str:
    return n.op_("Add", n.x(), n.outer("bias", n.p.int(0)))


def _affine(n: Layer, y: str, shape: Shape, offset: bool = True) -> str:
    y = n.op_("Mul", y, n.plain("gamma", shape))
    return n.op_("Add", y, n.plain("beta", shape)) if offset else y


def _standard(n: Layer, x: str, axes: list[int], epsilon: float) -> str:
    """(x - mean) / sqrt(variance + epsilon) over these dimensions."""
    y = n.op_("Sub", x, n.op_("ReduceMean", x, axes=axes, keepdims=1))
    variance = n.op_("ReduceMean", n.op_("Mul", y, y), axes=axes, keepdims=1)
    return n.op_("Div", y, n.op_("Sqrt", n.op_("Add", variance, n.scalar(epsilon))))


def _inner(n: Layer, size: int) -> list[int]:
    """The innermost dimensions that have `size` elements together."""
    shape = n.shape()
    for first in range(len(shape) - 1, 0, -1):
        if math.prod(shape[first:]) == size:
            return list(range(first, len(shape)))
    raise ModelError(f"its affine_size {size} does not fit an input of {list(shape[1:])}")


@converts("LayerNorm")
def layer_norm(n: Layer) -> str:
    axes = _inner(n, n.p.int(0))
    shape = n.shape()[axes[0] :]
    if not n.p.int(2, 1):
        return _standard(n, n.x(), axes, n.p.float(1, 1e-3))
    weights = [n.plain(k, shape) for k in ("gamma", "beta")]
    return n.op_("LayerNormalization", n.x(), *weights, axis=axes[0], epsilon=n.p.float(1, 1e-3))


@converts("RMSNorm")
def rms_norm(n: Layer) -> str:
    x, axes = n.x(), _inner(n, n.p.int(0))
    mean = n.op_("ReduceMean", n.op_("Mul", x, x), axes=axes, keepdims=1)
    y = n.op_("Div", x, n.op_("Sqrt", n.op_("Add", mean, n.scalar(n.p.float(1, 1e-3)))))
    return _affine(n, y, n.shape()[axes[0] :], offset=False) if n.p.int(2, 1) else y


@converts("GroupNorm", "InstanceNorm")
def group_norm(n: Layer) -> str:
    single = n.type == "InstanceNorm"
    shape, channels = n.shape(), n.p.int(0 if single else 1)
    groups = channels if single else n.p.int(0, 1)
    epsilon, affine = n.p.float(1 if single else 2, 1e-3), n.p.int(2 if single else 3, 1)
    if channels != shape[1] or groups < 1 or channels % groups:
        raise ModelError(f"{channels} channels in {groups} groups do not fit an input of {list(shape[1:])}")
    x = reshape(n.g, n.x(), (1, groups, math.prod(shape[1:]) // groups))
    y = reshape(n.g, _standard(n, x, [2], epsilon), shape)
    return _affine(n, y, (channels, *([1] * (n.dims() - 1)))) if affine else y


@converts("Normalize")
def normalize(n: Layer) -> str:
    """To length 1 over the channels, the places, or both; then a scale."""
    x, shape = n.x(), n.picture()
    places, channels, epsilon = n.p.int(0), n.p.int(4, 1), n.p.float(2, 1e-4)
    size, mode = n.p.int(3), n.p.int(9)
    axes = ([1] if channels else []) + ([2, 3] if places else [])
    if not axes or mode not in (0, 1, 2):
        raise NotConverted(f"across neither places nor channels, or eps_mode={mode},")
    total = n.op_("ReduceSum", n.op_("Mul", x, x), n.g.ints(axes), keepdims=1)
    if mode == 0:
        length = n.op_("Sqrt", n.op_("Add", total, n.scalar(epsilon)))
    elif mode == 1:
        length = n.op_("Max", n.op_("Sqrt", total), n.scalar(epsilon))
    else:
        length = n.op_("Sqrt", n.op_("Max", total, n.scalar(epsilon)))
    y = n.op_("Div", x, length)
    if n.p.int(1) or not size:
        return n.op_("Mul", y, n.plain("scale", (1,))) if size else y
    return n.op_("Mul", y, n.plain("scale", (shape[1], 1, 1)))
