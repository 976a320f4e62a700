"""The steps of optimisers (domain ai.onnx.preview.training): each makes new weights and moments of the old ones."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from dlpack.model.contrib_node import Call, contrib, number

TRAINING = "ai.onnx.preview.training"


@contrib("Adagrad", domain=TRAINING)
def adagrad(call: Call) -> None:
    decay, epsilon = call.attr("decay_factor", 0.0), call.attr("epsilon", 1e-6)
    slower = call.add("Add", number(call, 1, 2), call.add("Mul", _count(call), number(call, decay, 2)))
    rate = call.add("Div", _rate(call), slower)
    for k, tensors in enumerate(_tensors(call, 3)):
        x, _, h = tensors
        g = _regularized(call, *tensors[:2])
        h = call.add("Add", h, call.add("Mul", g, g))
        step = call.add("Div", g, call.add("Add", call.add("Sqrt", h), number(call, epsilon, 2)))
        _give(call, 3, k, call.add("Sub", x, call.add("Mul", rate, step)), h)


@contrib("Adam", domain=TRAINING)
def adam(call: Call) -> None:
    alpha, beta = call.attr("alpha", 0.9), call.attr("beta", 0.999)
    epsilon, after = call.attr("epsilon", 1e-6), 1 - call.attr("norm_coefficient_post", 0.0)
    # In double: 1 - beta is some thousandths at the first step, of which float would keep five digits.
    step = call.add("Cast", call.input(1), to=TensorProto.DOUBLE)
    left = [
        call.add("Sub", call.array(1.0, np.float64), call.add("Pow", call.array(base, np.float64), step))
        for base in (beta, alpha)
    ]
    corrected = call.add("Div", call.add("Sqrt", left[0]), left[1])
    started = call.add("Greater", step, call.array(0.0, np.float64))
    corrected = call.add("Where", started, corrected, call.array(1.0, np.float64))
    rate = call.add("Mul", _rate(call), call.add("Cast", corrected, to=_elem(call)))
    for k, tensors in enumerate(_tensors(call, 4)):
        x, _, v, h = tensors
        g = _regularized(call, *tensors[:2])
        v = _mixed(call, alpha, v, g)
        h = _mixed(call, beta, h, call.add("Mul", g, g))
        step = call.add("Div", v, call.add("Add", call.add("Sqrt", h), number(call, epsilon, 2)))
        x = call.add("Sub", x, call.add("Mul", rate, step))
        _give(call, 4, k, call.add("Mul", x, number(call, after, 2)) if after != 1 else x, v, h)


@contrib("Momentum", domain=TRAINING)
def momentum(call: Call) -> None:
    alpha, mode = call.attr("alpha", 0.9), call.attr("mode", "standard")
    if mode not in ("standard", "nesterov"):
        call.refuse(f"its mode '{mode}' is not supported")
    first = call.add("Less", call.input(1), call.array(1, np.int64))  # where the gradient counts in full
    beta = call.add("Where", first, number(call, 1, 2), number(call, call.attr("beta", 1.0), 2))
    for k, (x, g, v) in enumerate(_tensors(call, 3)):
        g = _regularized(call, x, g)
        v = call.add("Add", call.add("Mul", v, number(call, alpha, 2)), call.add("Mul", beta, g))
        step = v if mode == "standard" else call.add("Add", g, call.add("Mul", v, number(call, alpha, 2)))
        _give(call, 3, k, call.add("Sub", x, call.add("Mul", _rate(call), step)), v)


def _tensors(call: Call, kinds: int) -> list[list[str]]:
    """The inputs behind the rate and the count of each tensor that is trained: itself, its gradient, its moments."""
    inputs = [call.input(k) for k in range(2, len(call.node.input))]
    count = len(inputs) // kinds
    if not count or count * kinds != len(inputs):
        call.refuse(f"it has {len(inputs)} tensors, which are no multiple of {kinds}")
    return [inputs[k::count] for k in range(count)]


def _give(call: Call, kinds: int, number_: int, *values: str) -> None:
    count = (len(call.node.input) - 2) // kinds
    for k, value in enumerate(values):
        call.give(k * count + number_, value)


def _elem(call: Call) -> int:
    return TensorProto.DOUBLE if call.dtype(2) == np.float64 else TensorProto.FLOAT


def _rate(call: Call) -> str:
    return call.add("Cast", call.input(0), to=_elem(call))


def _count(call: Call) -> str:
    return call.add("Cast", call.input(1), to=_elem(call))


def _regularized(call: Call, x: str, g: str) -> str:
    norm = call.attr("norm_coefficient", 0.0)
    return call.add("Add", call.add("Mul", x, number(call, norm, 2)), g) if norm else g


def _mixed(call: Call, share: float, old: str, new: str) -> str:
    parts = (call.add("Mul", old, number(call, share, 2)), call.add("Mul", new, number(call, 1 - share, 2)))
    return call.add("Add", *parts)
