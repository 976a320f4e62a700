"""Mixtures of experts (MoE, QMoE). All experts are computed; those that a token does not choose count as nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlpack.model.contrib_layers import fast_gelu_of
from dlpack.model.contrib_node import Array, Call, contrib, number
from dlpack.model.contrib_weights import unpack


@dataclass(frozen=True)
class _Layer:
    """Weights [experts, outputs, inputs], and the index of the input that is the bias."""

    weights: str
    bias: int


@contrib("MoE")
def mixture(call: Call) -> None:
    _mixture(call, [_Layer(call.optional(index), index + 1) for index in (2, 4, 6)], -1)


@contrib("QMoE")
def quantised_mixture(call: Call) -> None:
    """With weights of a few bits, a scale and maybe a zero point for each row, or for each block of one."""
    if (kind := call.attr("quant_type", "int")) != "int":
        call.refuse(f"its quant_type '{kind}' is not supported")
    if call.attr("weights_prepacked", -1) > 0:
        call.refuse("its weights are packed for one machine")
    layers = []
    for layer, (index, zeros) in enumerate(((2, 11), (5, 12), (8, 13)), 1):
        layers.append(_Layer(_numbers(call, layer, index, zeros) if call.has(index) else "", index + 2))
    _mixture(call, layers, 14)


def _numbers(call: Call, layer: int, index: int, zeros: int) -> str:
    bits = call.attr(f"fc{layer}_expert_weight_bits", 0) or call.attr("expert_weight_bits", 4)
    if bits not in (2, 4, 8):
        call.refuse(f"weights of {bits} bits are not supported")
    integers = unpack(call.weight(index, f"fc{layer}_experts_weights").view(np.uint8), bits)
    experts, rows, columns = integers.shape
    scales = call.weight(index + 1, f"fc{layer}_scales").astype(np.float32).reshape(experts, rows, -1)
    blocks = scales.shape[2]
    zero: Array = np.full(scales.shape, 1 << (bits - 1), np.float32)
    if call.has(zeros):
        given = unpack(call.weight(zeros, f"fc{layer}_zero_points").view(np.uint8), bits)
        if given.ndim == 2:  # of rows, packed along them
            given = given[:, :rows, None]
        zero = given[:, :, :blocks].astype(np.float32)
    zero, scales = (np.repeat(part, columns // blocks, axis=2) for part in (zero, scales))
    return call.array((integers - zero) * scales, call.dtype(0))


def _mixture(call: Call, layers: list[_Layer], shares: int) -> None:
    """The second layer of the activated first one, and, beside it, the third; `shares` is the input that says how much
    an expert counts, if there is one.
    """
    call.require_opset(13)
    call.refuse_attributes(use_sparse_mixer=0, swiglu_limit_after_activation=0)
    shape, (tokens, experts) = call.shape(0), call.shape(1)

    def linear(layer: _Layer, x: str) -> str:
        y = call.add("MatMul", x, call.transpose(layer.weights, 0, 2, 1))
        if not call.has(layer.bias):
            return y
        return call.add("Add", y, call.reshape(call.input(layer.bias), experts, 1, -1))

    first, second, third = layers
    x = call.reshape(call.input(0), 1, tokens, shape[-1])
    y = linear(second, _activated(call, linear(first, x), linear(third, x) if third.weights else ""))
    weights = call.reshape(call.transpose(_shares(call, shares), 1, 0), experts, tokens, 1)
    call.give(0, call.reshape(call.sum(call.add("Mul", y, weights), 0), *shape))


def _shares(call: Call, given: int) -> str:
    """How much each expert counts for each token, [tokens, experts]: zero but for the `k` best. QMoE's softmax is that
    of the chosen ones.
    """
    probabilities = call.add("Softmax", call.input(1), axis=1)
    best, experts = call.add_many(2, "TopK", probabilities, call.array([call.attr("k", 1)], np.int64), axis=1)
    apart = given >= 0 and call.has(given)
    if apart:
        best = call.add("GatherElements", call.input(given), experts, axis=1)
    if call.attr("normalize_routing_weights", 0) or (call.node.op_type == "QMoE" and not apart):
        best = call.add("Div", best, call.sum(best, 1))
    return call.add("ScatterElements", call.array(np.zeros(call.shape(1)), call.dtype(1)), experts, best, axis=1)


def _activated(call: Call, h: str, beside: str) -> str:
    """The activation of `h`, times what is `beside` it. SwiGLU halves `h` where there is nothing beside it: numbers of
    both halves alternate, or the gates come first.
    """
    name, fusion = call.attr("activation_type", "relu"), call.attr("swiglu_fusion", 0)
    if name == "swiglu":
        if fusion:
            outputs = call.shape(2)[1]
            h, beside = (_part(call, h, n, outputs, fusion == 1) for n in (0, 1))
        return _swiglu(call, h, beside)
    if name == "relu":
        y = call.add("Relu", h)
    elif name == "gelu":
        y = fast_gelu_of(call, h)
    elif name == "silu":
        y = call.add("Mul", h, call.add("Sigmoid", h))
    elif name == "identity":
        y = h
    else:
        call.refuse(f"its activation '{name}' is not supported")
    return call.add("Mul", y, beside) if beside else y


def _part(call: Call, h: str, part: int, outputs: int, alternating: bool) -> str:
    if not alternating:
        return call.slice(h, 2, part * outputs // 2, (part + 1) * outputs // 2)
    bounds = (call.array([n], np.int64) for n in (part, outputs, 2, 2))
    return call.add("Slice", h, *bounds)


def _swiglu(call: Call, gate: str, up: str) -> str:
    if (limit := call.attr("swiglu_limit", np.inf)) < np.inf:
        top = number(call, limit)
        gate = call.add("Min", gate, top)
        up = call.add("Max", call.add("Min", up, top), number(call, -limit))
    inner = call.add("Sigmoid", call.add("Mul", gate, number(call, call.attr("activation_alpha", 1.0))))
    up = call.add("Add", up, number(call, call.attr("activation_beta", 0.0)))
    return call.add("Mul", call.add("Mul", gate, inner), up)
