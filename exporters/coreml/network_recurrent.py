"""Recurrent layers of Core ML's neural networks as ONNX's."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import Array, NotConverted
from dlpack.exporters.coreml.files import Message
from dlpack.exporters.coreml.layer import Layer, converts
from dlpack.exporters.coreml.weights import weights
from dlpack.exporters.layers import reshape

_LIMIT = 50.0
"""Sums before an activation, and by default the cell, are clipped to this: nothing changes behind a sigmoid or tanh."""


def _activation(message: Message) -> tuple[str, float, float]:
    """ONNX's name of an activation, its alpha and beta; without them those that Core ML supports."""
    plain = {40: "Sigmoid", 30: "Tanh"}
    for number in message.fields:
        params = message.message(number)
        if number in plain:
            return plain[number], 0.0, 0.0
        if number == 31:
            return "ScaledTanh", params.number(1, 1.7159), params.number(2, 2 / 3)
        if number == 41:
            return "HardSigmoid", params.number(1, 0.2), params.number(2, 0.5)
    raise NotConverted("a recurrent layer with another activation than sigmoid, tanh, scaled tanh and hard sigmoid")


def _activations(messages: list[Message], wanted: int) -> dict[str, Any]:
    found = [_activation(m) for m in messages]
    if len(found) != wanted:
        raise ModelError(f"it has {len(found)} activations, not {wanted}")
    names = [f[0] for f in found]
    result: dict[str, Any] = {"activations": names}
    if set(names) - {"Sigmoid", "Tanh"}:
        with_values = [f for f in found if f[0] not in ("Sigmoid", "Tanh")]
        result |= {"activation_alpha": [f[1] for f in with_values], "activation_beta": [f[2] for f in with_values]}
    return result


def _sequence(c: Layer) -> str:
    """The input as [sequence, batch, size]."""
    shape = c.shape()
    if len(shape) == 5:
        return reshape(c.g, c.x(), (shape[0], shape[1], int(np.prod(shape[2:]))))
    if len(shape) != 4:
        raise NotConverted(f"a recurrent layer over {list(shape)}")
    return reshape(c.g, c.x(), (shape[0], 1, int(np.prod(shape[1:]))))


def _stacked(params: Message, fields: tuple[int, ...], rows: int, columns: int) -> Array:
    shape = (rows, columns) if columns else (rows,)
    return np.concatenate([weights(params.message(k), shape) for k in fields])


def _result(
    c: Layer, kind: str, inputs: list[str], states: int, ways: int, every: bool, attrs: dict[str, Any]
) -> list[str]:
    """The layer's outputs: all steps or the last, and the last states, shaped as the input is."""
    x = inputs[0]
    steps, batch, _ = c.g.shape(x)
    size = attrs["hidden_size"]
    made = list(c.g.op(kind, *inputs, outputs=1 + states, **attrs))

    def shaped(value: str, lead: int, width: int) -> str:
        return reshape(c.g, value, (lead, batch, width, 1, 1) if c.rank() == 5 else (lead * batch, width, 1, 1))

    # [steps, ways, batch, size] and [ways, batch, size]: the ways become one dimension with the size
    joined = c.op_("Transpose", made[0], perm=[0, 2, 1, 3]) if ways > 1 else made[0]
    last = c.op_("Transpose", made[1], perm=[1, 0, 2]) if ways > 1 else made[1]
    y = shaped(joined, steps, ways * size) if every else shaped(last, 1, ways * size)
    if c.outputs == 1:
        return [y]
    finals: list[str] = []
    for way in range(ways):
        for state in made[1:]:
            one = c.op_("Slice", state, c.g.ints([way]), c.g.ints([way + 1]), c.g.ints([0])) if ways > 1 else state
            finals.append(shaped(one, 1, size))
    return [y, *finals][: c.outputs]


def _states(c: Layer, states: int, ways: int, batch: int, size: int) -> list[str]:
    """The initial states that are inputs, each [ways, batch, size]; none: zeros."""
    given = c.inputs[1:]
    if not given:
        return []
    if len(given) != states * ways:
        raise ModelError(f"it has {len(given)} states, not {states * ways}")
    found = []
    for k in range(states):
        parts = [reshape(c.g, given[way * states + k], (1, batch, size)) for way in range(ways)]
        found.append(c.op_("Concat", *parts, axis=0) if ways > 1 else parts[0])
    return found


def _check_reverse(c: Layer, every: int) -> None:
    if c.p.whole(100) and every:
        raise NotConverted("reverseInput with the outputs of all steps")


@converts("simpleRecurrent", "gru")
def simple_or_gru(c: Layer) -> list[str]:
    wide, size = c.p.whole(1), c.p.whole(2)
    gru = c.type == "gru"
    _check_reverse(c, c.p.whole(15))
    w, r, b = ((30, 31, 32), (50, 51, 52), (70, 71, 72)) if gru else ((30,), (31,), (32,))
    x = _sequence(c)
    gates = len(w)
    inputs = [
        x,
        c.g.constant(_stacked(c.p, w, size, wide)[None], f"{c.name}_w"),
        c.g.constant(_stacked(c.p, r, size, size)[None], f"{c.name}_r"),
    ]
    bias = _stacked(c.p, b, size, 0) if c.p.whole(20) else np.zeros(gates * size, np.float32)
    inputs += [c.g.constant(np.concatenate([bias, np.zeros_like(bias)])[None], f"{c.name}_b"), ""]
    inputs += _states(c, 1, 1, c.g.shape(x)[1], size)
    attrs: dict[str, Any] = {"hidden_size": size, "direction": "reverse" if c.p.whole(100) else "forward"}
    attrs |= _activations(c.p.messages(10), 2 if gru else 1)
    return _result(c, "GRU" if gru else "RNN", inputs, 1, 1, bool(c.p.whole(15)), attrs)


@converts("uniDirectionalLSTM", "biDirectionalLSTM")
def lstm(c: Layer) -> list[str]:
    wide, size, params = c.p.whole(1), c.p.whole(2), c.p.message(15)
    both = c.type == "biDirectionalLSTM"
    ways = c.p.messages(20)
    x = _sequence(c)
    if len(ways) != 1 + both:
        raise ModelError(f"it has {len(ways)} sets of weights, not {1 + both}")
    _check_reverse(c, params.whole(10))
    if params.whole(50):
        raise NotConverted("coupledInputAndForgetGate")
    if params.number(60, _LIMIT) < c.g.shape(x)[0] and params.number(60, _LIMIT) != _LIMIT:
        raise NotConverted(f"cellClipThreshold={params.number(60):g}")
    # ONNX's order of gates is i, o, f, c
    parts: list[list[Array]] = [[], [], [], []]
    for way in ways:
        parts[0].append(_stacked(way, (1, 4, 2, 3), size, wide))
        parts[1].append(_stacked(way, (20, 23, 21, 22), size, size))
        bias = _stacked(way, (40, 43, 41, 42), size, 0) if params.whole(20) else np.zeros(4 * size, np.float32)
        bias = bias + np.repeat(np.array([0, 0, params.whole(30), 0], np.float32), size)
        parts[2].append(np.concatenate([bias, np.zeros_like(bias)]))
        if params.whole(40):
            parts[3].append(_stacked(way, (60, 62, 61), size, 0))
    named = [c.g.constant(np.stack(p), f"{c.name}_{n}") if p else "" for p, n in zip(parts, "wrbp", strict=True)]
    batch = c.g.shape(x)[1]
    states = _states(c, 2, len(ways), batch, size)
    inputs = [x, *named[:3], "", *(states or ["", ""]), named[3]]
    while not inputs[-1]:
        inputs.pop()
    direction = "bidirectional" if both else "reverse" if c.p.whole(100) else "forward"
    attrs: dict[str, Any] = {"hidden_size": size, "direction": direction}
    attrs |= _activations([*c.p.messages(10), *(c.p.messages(11) if both else [])], 3 * len(ways))
    return _result(c, "LSTM", inputs, 2, len(ways), bool(params.whole(10)), attrs)
