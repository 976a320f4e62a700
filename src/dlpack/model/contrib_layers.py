"""onnxruntime's activations, and its convolutions and products with an activation or a scale in them."""

from __future__ import annotations

import math

from dlpack.model.contrib_node import Call, contrib, number

# --- GELU -------------------------------------------------------------------------------------------------------------


def _gelu(call: Call, x: str) -> str:
    """x / 2 * (1 + erf(x / sqrt 2))."""
    error = call.add("Erf", call.add("Mul", x, number(call, math.sqrt(0.5))))
    return call.add("Mul", call.add("Mul", x, number(call, 0.5)), call.add("Add", error, number(call, 1.0)))


@contrib("Gelu")
def gelu(call: Call) -> None:
    call.give(0, _gelu(call, call.input(0)))


@contrib("BiasGelu")
def bias_gelu(call: Call) -> None:
    call.give(0, _gelu(call, call.add("Add", call.input(0), call.input(1))))


def fast_gelu_of(call: Call, x: str) -> str:
    """x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))."""
    cube = call.add("Mul", call.add("Mul", x, x), number(call, 0.044715 * math.sqrt(2 / math.pi)))
    inner = call.add("Mul", x, call.add("Add", cube, number(call, math.sqrt(2 / math.pi))))
    tanh = call.add("Add", call.add("Tanh", inner), number(call, 1.0))
    return call.add("Mul", call.add("Mul", x, number(call, 0.5)), tanh)


@contrib("FastGelu")
def fast_gelu(call: Call) -> None:
    """Behind a bias, if there is one."""
    x = call.input(0)
    call.give(0, fast_gelu_of(call, call.add("Add", x, call.input(1)) if call.has(1) else x))


@contrib("QuickGelu")
def quick_gelu(call: Call) -> None:
    """x * sigmoid(alpha x)."""
    x = call.input(0)
    scaled = call.add("Mul", x, number(call, call.attr("alpha", 1.702)))
    call.give(0, call.add("Mul", x, call.add("Sigmoid", scaled)))


@contrib("BiasSplitGelu")
def bias_split_gelu(call: Call) -> None:
    """The left half of the last dimension times the GELU of the right one, behind a bias."""
    shape = call.shape(0)
    if not shape or shape[-1] % 2:
        call.refuse("its last dimension is not even")
    axis, half = len(shape) - 1, shape[-1] // 2
    x = call.add("Add", call.input(0), call.input(1))
    left, right = (call.slice(x, axis, k * half, (k + 1) * half) for k in (0, 1))
    call.give(0, call.add("Mul", left, _gelu(call, right)))


# --- convolutions and products ----------------------------------------------------------------------------------------


def activation_of(call: Call, x: str, parameters: list[float]) -> str:
    """The activation that the attribute names; its parameters are those of ONNX's operators."""
    name = call.attr("activation", "")
    if not name:
        return x
    if name in ("Relu", "Sigmoid", "Tanh"):
        return call.add(name, x)
    a, b = [*parameters, None, None][:2]
    if name == "LeakyRelu":
        return call.add("LeakyRelu", x, alpha=0.01 if a is None else a)
    if name == "HardSigmoid":
        return call.add("HardSigmoid", x, alpha=0.2 if a is None else a, beta=0.5 if b is None else b)
    if name == "Clip" and a is not None and b is not None:
        if call.opset < 11:
            return call.add("Clip", x, min=a, max=b)
        return call.add("Clip", x, number(call, a), number(call, b))
    call.refuse(f"its activation '{name}' is not supported")
    return x


@contrib("FusedConv")
def fused_conv(call: Call) -> None:
    """activation(conv(X, W) + B + Z)."""
    attrs = call.attributes("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    y = call.add("Conv", *(call.input(k) for k in range(3 if call.has(2) else 2)), **attrs)
    if call.has(3):
        y = call.add("Add", y, call.input(3))
    call.give(0, activation_of(call, y, list(call.attr("activation_params", []))))


@contrib("FusedGemm")
def fused_gemm(call: Call) -> None:
    attrs = call.attributes("alpha", "beta", "transA", "transB")
    y = call.add("Gemm", *(call.input(k) for k in range(3 if call.has(2) else 2)), **attrs)
    names = ("activation_alpha", "activation_beta")
    parameters = [call.attr(name, None) for name in names]
    call.give(0, activation_of(call, y, parameters))


@contrib("FusedMatMul", "TransposeMatMul")
def fused_matmul(call: Call) -> None:
    """alpha * A' B', where A' and B' are A and B with dimensions moved.

    `transBatchA` moves the second dimension from the end to the front, `transA` exchanges the last two after that.
    """
    operands = []
    for index, name in enumerate("AB"):
        rank = len(call.shape(index))
        perm = list(range(rank))
        if call.attr(f"transBatch{name}", 0) and rank > 2:
            perm = [*perm[1:-1], 0, perm[-1]]
        if call.attr(f"trans{name}", 0) and rank > 1:
            perm[-2:] = perm[:-3:-1]
        same = perm == list(range(rank))
        operands.append(call.input(index) if same else call.transpose(call.input(index), *perm))
    y = call.add("MatMul", *operands)
    alpha = call.attr("alpha", 1.0)
    call.give(0, y if alpha == 1.0 else call.add("Mul", y, number(call, alpha)))


@contrib("NhwcMaxPool")
def nhwc_max_pool(call: Call) -> None:
    """MaxPool of a tensor whose channels are its last dimension."""
    rank = len(call.shape(0))
    attrs = call.attributes("auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides")
    x = call.transpose(call.input(0), 0, rank - 1, *range(1, rank - 1))
    call.give(0, call.transpose(call.add("MaxPool", x, **attrs), 0, *range(2, rank), 1))
