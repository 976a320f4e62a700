"""DynamicQuantizeLSTM: an LSTM with weights of 8 bits, whose inputs and states are quantised as they come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, TensorProto

from dlpack.model.contrib_body import Body
from dlpack.model.contrib_node import Call, contrib

_ORDINARY = ["Sigmoid", "Tanh", "Tanh"]


@dataclass(frozen=True)
class _Sizes:
    steps: int
    batch: int
    inputs: int
    hidden: int


@contrib("DynamicQuantizeLSTM")
def dynamic_quantize_lstm(call: Call) -> None:
    """ONNX's LSTM, the weights being [directions, inputs, 4 hidden]; a product quantises all that it multiplies."""
    call.require_opset(13)
    call.refuse_inputs(4, 7)
    call.refuse_attributes(input_forget=0, clip=0.0)
    activations = [name.decode() for name in call.attr("activations", [])]
    if [name.capitalize() for name in activations] not in ([], _ORDINARY, 2 * _ORDINARY):
        call.refuse(f"its activations {activations} are not supported")
    steps, batch, inputs = call.shape(0)
    s = _Sizes(steps, batch, inputs, call.shape(2)[1])
    direction = call.attr("direction", "forward")
    reverse = {"forward": [0], "reverse": [1], "bidirectional": [0, 1]}[direction]
    parts = [_direction(call, s, index, backwards) for index, backwards in enumerate(reverse)]
    for index, (axis, shape) in enumerate(
        ((1, (steps, 1, batch, s.hidden)), (0, (1, batch, s.hidden)), (0, (1, batch, s.hidden)))
    ):
        each = [call.reshape(part[index], *shape) for part in parts]
        call.give(index, call.add("Concat", *each, axis=axis) if len(each) > 1 else each[0])


def _part(call: Call, index: int, direction: int, *shape: int) -> str:
    """What an input holds for a direction."""
    return call.reshape(call.slice(call.input(index), 0, direction, direction + 1), *shape)


def _per_tensor_or_column(call: Call, index: int, direction: int, s: _Sizes) -> str:
    return _part(call, index, direction, *((4 * s.hidden,) if len(call.shape(index)) == 2 else ()))


def _direction(call: Call, s: _Sizes, direction: int, backwards: int) -> tuple[str, str, str]:
    """The hidden states of all steps, the last one and the last cell."""
    columns = 4 * s.hidden
    x, scale, zero = call.add_many(3, "DynamicQuantizeLinear", call.input(0))
    w, r = (_part(call, 1, direction, s.inputs, columns), _part(call, 2, direction, s.hidden, columns))
    (ws, wz, rs, rz) = (_per_tensor_or_column(call, index, direction, s) for index in (8, 9, 10, 11))
    gates = call.add("Cast", call.add("MatMulInteger", x, w, zero, wz), to=1)
    gates = call.add("Mul", gates, call.add("Mul", scale, ws))
    if call.has(3):
        bias = _part(call, 3, direction, 2, columns)
        bias = call.reshape(call.sum(bias, 0), columns)
        gates = call.add("Add", gates, bias)
    zeros = np.zeros((s.batch, s.hidden), np.float32)
    states = [
        _part(call, index, direction, s.batch, s.hidden) if call.has(index) else call.array(zeros) for index in (5, 6)
    ]
    h, c, each = call.add_many(
        3,
        "Scan",
        *states,
        gates,
        body=_step(f"{call.node.name}/{direction}", s, r, rs, rz),
        num_scan_inputs=1,
        scan_input_directions=[backwards],
        scan_output_directions=[backwards],
    )
    return each, h, c


def _step(prefix: str, s: _Sizes, r: str, scale: str, zero: str) -> GraphProto:
    """One step: (h, c, gates of the input) to (h, c, h)."""
    b = Body(prefix)
    h, c = (b.input(name, TensorProto.FLOAT, [s.batch, s.hidden]) for name in "hc")
    x = b.input("x", TensorProto.FLOAT, [s.batch, 4 * s.hidden])
    q, qs, qz = b.add_many(3, "DynamicQuantizeLinear", h)
    y = b.add("Cast", b.add("MatMulInteger", q, r, qz, zero), to=1)
    y = b.add("Add", b.add("Mul", y, b.add("Mul", qs, scale)), x)
    i, o, f, g = b.add_many(4, "Split", y, b.array([s.hidden] * 4), axis=1)
    i, o, f = (b.add("Sigmoid", gate) for gate in (i, o, f))
    cell = b.add("Add", b.add("Mul", f, c), b.add("Mul", i, b.add("Tanh", g)))
    hidden = b.add("Mul", o, b.add("Tanh", cell))
    outputs = (hidden, cell, b.add("Identity", hidden))
    return b.graph(*((name, TensorProto.FLOAT, [s.batch, s.hidden]) for name in outputs))
