"""onnxruntime's operators on quantised tensors: DequantizeLinear, ONNX's operator, QuantizeLinear."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dlpack.model.contrib_node import Call, contrib, number, product


def _real(call: Call, index: int, **attrs: Any) -> str:
    """The input `index` as numbers; its scale and its zero point are the next two inputs."""
    zero = [call.input(index + 2)] if call.has(index + 2) else []
    return call.add("DequantizeLinear", call.input(index), call.input(index + 1), *zero, **attrs)


def _give(call: Call, y: str, index: int, like: int) -> None:
    """`y` as integers of the type of the input `like`, scale and zero point are inputs from `index` on."""
    zero = call.input(index + 1) if call.has(index + 1) else call.array(np.zeros((), call.dtype(like)))
    call.give(0, call.add("QuantizeLinear", y, call.input(index), zero))


@contrib("QuantizeLinear", "DequantizeLinear")
def linear(call: Call) -> None:
    """The same as ONNX's, which had 8-bit integers only up to opset 20."""
    attrs = call.attributes("axis")
    call.give(0, call.add(call.node.op_type, *filter(None, call.node.input), **attrs))


@contrib("QLinearAdd", "QLinearMul")
def two_operands(call: Call) -> None:
    y = call.add(call.node.op_type.removeprefix("QLinear"), _real(call, 0), _real(call, 3))
    _give(call, y, 6, 0)


def _one_operand(name: str, function: Callable[[Call, str], str]) -> None:
    @contrib(name)
    def rewrite(call: Call) -> None:
        _give(call, function(call, _real(call, 0)), 3, 0)


def _channels_first(call: Call, x: str, function: Callable[[str], str]) -> str:
    """`function` of a tensor whose channels are its last dimension where the attribute `channels_last` says so."""
    if not call.attr("channels_last", 0):
        return function(x)
    rank = len(call.shape(0))
    y = function(call.transpose(x, 0, rank - 1, *range(1, rank - 1)))
    return call.transpose(y, 0, *range(2, rank), 1)


def _average_pool(call: Call, x: str) -> str:
    attrs = call.attributes("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")
    return _channels_first(call, x, lambda x: call.add("AveragePool", x, **attrs))


def _softmax(call: Call, x: str) -> str:
    """Up to opset 12, of all dimensions from the axis on taken together."""
    shape = call.shape(0)
    old = call.attr("opset", 13) < 13
    axis = call.attr("axis", 1 if old else -1) % len(shape)
    if old:
        rows = product(shape[:axis])
        flat = call.reshape(x, rows, product(shape[axis:]))
        return call.reshape(call.add("Softmax", flat, axis=1), *shape)
    if axis == len(shape) - 1 or call.opset >= 13:
        return call.add("Softmax", x, axis=axis)
    perm = [*(d for d in range(len(shape)) if d != axis), axis]
    y = call.add("Softmax", call.transpose(x, *perm), axis=len(shape) - 1)
    return call.transpose(y, *(perm.index(d) for d in range(len(shape))))


_one_operand("QLinearSigmoid", lambda call, x: call.add("Sigmoid", x))
_one_operand("QLinearLeakyRelu", lambda call, x: call.add("LeakyRelu", x, alpha=call.attr("alpha", 0.01)))
_one_operand(
    "QLinearGlobalAveragePool",
    lambda call, x: _channels_first(call, x, lambda x: call.add("GlobalAveragePool", x)),
)
_one_operand("QLinearAveragePool", _average_pool)
_one_operand("QLinearSoftmax", _softmax)


@contrib("QLinearConv")
def convolution(call: Call) -> None:
    """ONNX's, or with the channels in the last dimension; the weights are as ONNX has them in both."""
    attrs = call.attributes("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    rest = [call.input(n) for n in range(1, 9 if call.has(8) else 8)]
    call.give(0, _channels_first(call, call.input(0), lambda x: call.add("QLinearConv", x, *rest, **attrs)))


@contrib("QLinearWhere")
def where(call: Call) -> None:
    _give(call, call.add("Where", call.input(0), _real(call, 1), _real(call, 4)), 7, 1)


@contrib("QLinearReduceMean")
def reduce_mean(call: Call) -> None:
    """Over the axes of the attribute, all of them by default."""
    rank = len(call.shape(0))
    axes = [axis % rank for axis in call.attr("axes", range(rank))]
    y = _real(call, 0)
    for axis in axes:
        y = call.mean(y, axis)
    if not call.attr("keepdims", 1):
        y = call.reshape(y, *(size for n, size in enumerate(call.shape(0)) if n not in axes))
    _give(call, y, 3, 0)


@contrib("QLinearConcat")
def concat(call: Call) -> None:
    """Its inputs are the scale and zero point of the output, then tensor, scale and zero point of each operand."""
    parts = [_real(call, index) for index in range(2, len(call.node.input), 3)]
    _give(call, call.add("Concat", *parts, axis=call.attr("axis", None)), 0, 2)


@contrib("QGemm")
def gemm(call: Call) -> None:
    """alpha * A' B' + C; C's integers have the scale alpha * a_scale * b_scale. Numbers where there is no y_scale."""
    columns = {} if product(call.shape(4)) == 1 else {"axis": 0 if call.attr("transB", 0) else 1}
    alpha = call.attr("alpha", 1.0)
    operands = [_real(call, 0), _real(call, 3, **columns)]
    if call.has(6):
        a, b = call.constant(1), call.constant(4)
        if a is None or b is None:
            call.refuse("its scales are not constant")
        scale = np.float32(alpha) * (np.asarray(a).reshape(()) * b)
        vector = product(scale.shape) > 1
        if vector and len(call.shape(6)) != 1:
            bias = call.add("Mul", call.add("Cast", call.input(6), to=1), call.array(scale, np.float32))
        else:
            scale = call.array(scale if vector else scale.reshape(()), np.float32)
            bias = call.add("DequantizeLinear", call.input(6), scale, **({"axis": 0} if vector else {}))
        operands.append(bias)
    y = call.add("Gemm", *operands, alpha=alpha, **call.attributes("transA", "transB"))
    if call.has(7):
        _give(call, y, 7, 0)
    else:
        call.give(0, y)


# --- products of integers with results in floats ----------------------------------------------------------------------


def product_of_integers(call: Call, a: str, b: int, zeros: tuple[str, str], scales: tuple[str, str]) -> str:
    """(a - its zero) (b - its zero), times both scales; `b` is the index of an input."""
    y = call.add("MatMulInteger", a, call.input(b), *zeros)
    return call.add("Mul", call.add("Cast", y, to=1), call.add("Mul", *scales))


def _give_product(call: Call, y: str, bias: int) -> None:
    call.give(0, call.add("Add", y, call.input(bias)) if call.has(bias) else y)


def zero_point(call: Call, index: int, like: int) -> str:
    return call.input(index) if call.has(index) else number(call, 0, like)


@contrib("DynamicQuantizeMatMul")
def dynamic_matmul(call: Call) -> None:
    a, scale, zero = call.add_many(3, "DynamicQuantizeLinear", call.input(0))
    y = product_of_integers(call, a, 1, (zero, zero_point(call, 3, 1)), (scale, call.input(2)))
    _give_product(call, y, 4)


@contrib("MatMulIntegerToFloat")
def matmul_to_float(call: Call) -> None:
    zeros = (zero_point(call, 4, 0), zero_point(call, 5, 1))
    _give_product(call, product_of_integers(call, call.input(0), 1, zeros, (call.input(2), call.input(3))), 6)
