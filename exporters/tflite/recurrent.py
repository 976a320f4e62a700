"""TensorFlow Lite's recurrent layers: LSTM and RNN, of one step or of a sequence, in both directions; SVDF.

Their states are variables, which keep their values from run to run. A layer over a sequence begins with zeros here, as
Keras' do and as TensorFlow Lite's after reset_all_variables: a bundle's runs are independent. A layer of one step and
SVDF are made for streams and mean nothing without their past: their states become inputs and outputs of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import Array, NotConverted
from dlpack.exporters.layers import reshape, scan, split
from dlpack.exporters.tflite.call import Call, activate, converts
from dlpack.exporters.tflite.schema import ACTIVATIONS

_WHAT = "a recurrent layer's weight"


@dataclass
class Cell:
    """An LSTM's weights: by gate i, f, c, o; None where they are left out."""

    w: list[Array | None]
    r: list[Array | None]
    peepholes: list[Array | None]
    bias: list[Array | None]
    projection: Array | None
    projection_bias: Array | None
    norm: list[Array | None]

    @property
    def hidden(self) -> int:
        return int(self._first(self.w).shape[0])

    @property
    def output(self) -> int:
        return int(self._first(self.r).shape[1])

    @staticmethod
    def _first(weights: Sequence[Array | None]) -> Array:
        if any(v is None or v.ndim != 2 for v in weights[1:]):
            raise ModelError("a weight of the LSTM is missing")
        found = weights[1]
        assert found is not None
        return found

    def gates(self, weights: Sequence[Array | None], zeros: Array) -> Array:
        """The weights of all gates that it has, one below another; i is left out where it has none."""
        used = weights if self.w[0] is not None else weights[1:]
        return np.concatenate([zeros if v is None else v for v in used])


def _cell(c: Call, at: int, peepholes: int, biases: int, projection: int, norm: int | None) -> Cell:
    """The weights; `at` is the place of the first input weight, which recurrent ones follow, and so on."""

    def arrays(first: int, count: int) -> list[Array | None]:
        return [c.array(k, _WHAT) for k in range(first, first + count)]

    found, (project, project_bias) = arrays(peepholes, 3), arrays(projection, 2)
    cell = Cell(
        arrays(at, 4), arrays(at + 4, 4), [found[0], found[1], None, found[2]], arrays(biases, 4),
        project, project_bias, arrays(norm, 4) if norm is not None else [None] * 4,
    )  # fmt: skip
    hidden, output, width = cell.hidden, cell.output, cell.w[1].shape[1]  # type: ignore[union-attr]
    for weights, shape in ((cell.w, (hidden, width)), (cell.r, (hidden, output)), (cell.peepholes, (hidden,)),
                           (cell.bias, (hidden,)), (cell.norm, (hidden,)), ([cell.projection], (output, hidden)),
                           ([cell.projection_bias], (output,))):  # fmt: skip
        if any(v is not None and v.shape != shape for v in weights):
            raise ModelError(f"a weight of the LSTM has not the shape {list(shape)}")
    if (cell.w[0] is None) != (cell.r[0] is None) or (cell.projection is None and output != hidden):
        raise ModelError("a weight of the LSTM is missing")
    return cell


def _lstm(c: Call, x: str, cell: Cell, h: str, s: str, reverse: bool = False) -> tuple[str, str, str]:
    """The outputs (T, B, O) for `x` (T, B, I) and the states (B, O) and (B, H): all steps', and the last states."""
    steps, batch, width = c.g.shape(x)
    if cell.w[1].shape[1] != width:  # type: ignore[union-attr]
        raise ModelError(f"its weights take {cell.w[1].shape[1]} values; its input has {width}")  # type: ignore[union-attr]
    if c.g.shape(h) != (batch, cell.output) or c.g.shape(s) != (batch, cell.hidden):
        raise ModelError(f"its states do not fit {batch} sequences")
    clip = float(c.p["cell_clip"])
    first = c.g.value(s)
    grown = steps + (np.inf if first is None else float(np.abs(first).max(initial=0.0)))
    plain = cell.w[0] is not None and cell.projection is None and all(v is None for v in cell.norm)
    if plain and c.p["activation"] == 4 and (clip <= 0 or grown <= clip):  # each step adds at most 1 to a cell
        return _onnx_lstm(c, x, cell, h, s, reverse)
    return _scanned_lstm(c, x, cell, h, s, reverse)


def _onnx_lstm(c: Call, x: str, cell: Cell, h: str, s: str, reverse: bool) -> tuple[str, str, str]:
    g, order, zeros = c.g, (0, 3, 1, 2), np.zeros(cell.hidden, np.float32)

    def joined(weights: Sequence[Array | None], places: Sequence[int] = order) -> Array:
        return np.concatenate([v if (v := weights[k]) is not None else zeros for k in places])[None]

    bias = np.concatenate([joined(cell.bias), np.zeros((1, 4 * cell.hidden), np.float32)], 1)
    inputs = [x, *(g.constant(v, n) for v, n in ((joined(cell.w), "W"), (joined(cell.r), "R"), (bias, "B")))]
    begun = any((v := g.value(k)) is None or v.any() for k in (h, s))
    peepholes = any(v is not None for v in cell.peepholes)
    if begun or peepholes:
        inputs += ["", *([g.op("Unsqueeze", k, g.ints([0])) for k in (h, s)] if begun else ["", ""])]
    if peepholes:
        inputs.append(g.constant(joined(cell.peepholes, (0, 3, 1)), "P"))
    attrs: dict[str, Any] = {"direction": "reverse"} if reverse else {}
    y, last, kept = g.op("LSTM", *inputs, outputs=3, hidden_size=cell.hidden, **attrs)
    steps, _, batch, size = g.shape(y)
    return reshape(g, y, (steps, batch, size)), reshape(g, last, (batch, size)), reshape(g, kept, (batch, size))


def _scanned_lstm(c: Call, x: str, cell: Cell, h: str, s: str, reverse: bool) -> tuple[str, str, str]:
    """What ONNX's LSTM has not: clipped cells, a projection, a forget gate that is the input gate too, layer
    normalisation of the gates, other activations."""
    g, hidden = c.g, cell.hidden
    zeros = np.zeros(hidden, np.float32)
    names = "ifco" if cell.w[0] is not None else "fco"
    normal = any(v is not None for v in cell.norm)
    w = g.constant(np.ascontiguousarray(cell.gates(cell.w, zeros).T), "W")
    r = g.constant(np.ascontiguousarray(cell.gates(cell.r, zeros).T), "R")
    b = g.constant(cell.gates(cell.bias, zeros), "B")
    projection = None if cell.projection is None else g.constant(np.ascontiguousarray(cell.projection.T), "projection")
    whole = c.op_("MatMul", x, w)
    whole = whole if normal else c.op_("Add", whole, b)

    def gate(name: str, value: str, state: str) -> str:
        k = "ifco".index(name)
        if (peephole := cell.peepholes[k]) is not None:
            value = c.op_("Add", value, c.op_("Mul", state, g.constant(peephole)))
        if normal:
            value = _normalised(c, value)
            value = value if cell.norm[k] is None else c.op_("Mul", value, g.constant(cell.norm[k]))
            value = value if cell.bias[k] is None else c.op_("Add", value, g.constant(cell.bias[k]))
        return _active(c, value) if name == "c" else c.op_("Sigmoid", value)

    def step(states: list[str], parts: list[str]) -> tuple[list[str], list[str]]:
        before, state = states
        pieces = split(g, c.op_("Add", parts[0], c.op_("MatMul", before, r)), 1, [hidden] * len(names))
        at = dict(zip(names, pieces, strict=True))
        forget = gate("f", at["f"], state)
        enter = gate("i", at["i"], state) if "i" in at else c.op_("Sub", g.scalar(1.0), forget)
        added = c.op_("Mul", enter, gate("c", at["c"], state))
        state = _clipped(c, c.op_("Add", c.op_("Mul", forget, state), added), c.p["cell_clip"])
        y = c.op_("Mul", gate("o", at["o"], state), _active(c, state))
        if projection is not None:
            y = c.op_("MatMul", y, projection)
            if cell.projection_bias is not None:
                y = c.op_("Add", y, g.constant(cell.projection_bias))
            y = _clipped(c, y, c.p["projection_clip"])
        return [y, state], [y]

    (last, kept), (y,) = scan(g, step, [h, s], [whole], g.shape(x)[0], reverse)
    return y, last, kept


def _normalised(c: Call, x: str) -> str:
    """Of mean 0 and variance 1 along the last dimension."""
    away = c.op_("Sub", x, c.op_("ReduceMean", x, axes=[-1]))
    spread = c.op_("ReduceMean", c.op_("Mul", away, away), axes=[-1])
    return c.op_("Div", away, c.op_("Sqrt", c.op_("Add", spread, c.g.scalar(1e-8))))


def _clipped(c: Call, x: str, limit: float) -> str:
    return c.op_("Clip", x, c.g.scalar(-limit), c.g.scalar(limit)) if limit > 0 else x


def _active(c: Call, x: str) -> str:
    code = c.p["activation"]
    kind = ACTIVATIONS[code] if 0 <= code < len(ACTIVATIONS) else f"number {code}"
    return activate(c, kind, x) if kind else x


def _steps_first(c: Call, x: str) -> str:
    """(T, B, I), whichever of both the file has first."""
    if c.g.rank(x) != 3:
        raise ModelError(f"its input has the shape {list(c.g.shape(x))}; 3 dimensions are needed")
    return x if c.p["time_major"] else c.op_("Transpose", x, perm=[1, 0, 2])


def _steps_back(c: Call, y: str) -> str:
    return y if c.p["time_major"] else c.op_("Transpose", y, perm=[1, 0, 2])


@converts("UNIDIRECTIONAL_SEQUENCE_LSTM")
def sequence_lstm(c: Call) -> str:
    """Inputs: data; weights of the gates i, f, c, o (1-4), recurrent ones (5-8), peepholes i, f, o (9-11), biases
    (12-15), a projection (16, 17), the states (18, 19), layer normalisation (20-23)."""
    x = _steps_first(c, c.x(0))
    cell = _cell(c, 1, 9, 12, 16, 20)
    return _steps_back(c, _with_states(c, x, cell))


@converts("LSTM")
def lstm(c: Call) -> list[str]:
    """One step: inputs as of the sequence's; or, of the basic kernel, data, the last output, one weight for both, its
    bias and the last state, which are values like others; its gates are i, c, f, o and its outputs four."""
    if not c.p["kernel"]:
        x = c.x(0)
        y = _with_states(c, reshape(c.g, x, (1, *c.g.shape(x))), _cell(c, 1, 9, 12, 16, 20))
        return [reshape(c.g, y, c.g.shape(y)[1:])]
    g, both = c.g, c.op_("Concat", c.x(0), c.x(1), axis=1)
    whole = c.op_("Gemm", both, c.x(2), c.x(3), transB=1)
    size = g.shape(whole)[1] // 4
    enter, fresh, forget, out = split(g, whole, 1, [size] * 4)
    added = c.op_("Mul", c.op_("Sigmoid", enter), c.op_("Tanh", fresh))
    state = c.op_("Add", c.op_("Mul", c.op_("Sigmoid", forget), c.x(4)), added)
    return [c.op_("Mul", c.op_("Sigmoid", out), c.op_("Tanh", state)), state, both, whole]


def _with_states(c: Call, x: str, cell: Cell) -> str:
    kept = c.g.shape(x)[0] == 1
    y, *last = _lstm(c, x, cell, c.state(18, kept), c.state(19, kept))
    if kept:
        for k, value in zip((18, 19), last, strict=True):
            c.keep(k, value)
    return y


@converts("BIDIRECTIONAL_SEQUENCE_LSTM")
def both_ways_lstm(c: Call) -> list[str]:
    """Inputs: data; forward as of UNIDIRECTIONAL_SEQUENCE_LSTM (1-17), backward the same (18-34), the states (35-38),
    a second input and its weights (39-47)."""
    if any(c.has(k) for k in range(39, 48)):
        raise NotConverted("a second input")
    x = _steps_first(c, c.x(0))
    ways = [
        _lstm(c, x, _cell(c, 1 + at, 9 + at, 12 + at, 16 + at, None), c.state(h, False), c.state(h + 1, False), reverse)
        for at, h, reverse in ((0, 35, False), (17, 37, True))
    ]
    return _both(c, [w[0] for w in ways])


def _both(c: Call, ways: list[str]) -> list[str]:
    """The outputs of both directions, side by side where the file wants them so."""
    if c.p["merge"]:
        return [_steps_back(c, c.op_("Concat", *ways, axis=2))]
    return [_steps_back(c, y) for y in ways]


def _rnn(c: Call, x: str, at: int, h: str, reverse: bool = False) -> tuple[str, str]:
    """The outputs (T, B, O) and the last state; the weight, the recurrent one and the bias begin at input `at`."""
    w, r, b = (c.array(k, _WHAT) for k in range(at, at + 3))
    if w is None or r is None or w.ndim != 2 or r.shape != (len(w), len(w)) or w.shape[1] != c.g.shape(x)[2]:
        raise ModelError(f"its weights do not fit the input {list(c.g.shape(x))}")
    whole = c.op_("MatMul", x, c.g.constant(np.ascontiguousarray(w.T), "W"))
    whole = whole if b is None else c.op_("Add", whole, c.g.constant(b, "B"))
    again = c.g.constant(np.ascontiguousarray(r.T), "R")

    def step(states: list[str], parts: list[str]) -> tuple[list[str], list[str]]:
        y = _active(c, c.op_("Add", parts[0], c.op_("MatMul", states[0], again)))
        return [y], [y]

    (last,), (y,) = scan(c.g, step, [h], [whole], c.g.shape(x)[0], reverse)
    return y, last


@converts("RNN", "UNIDIRECTIONAL_SEQUENCE_RNN")
def rnn(c: Call) -> str:
    """Inputs: data, weight, recurrent weight, bias, the state."""
    one = c.op == "RNN"
    x = reshape(c.g, c.x(0), (1, *c.shape(0))) if one else _steps_first(c, c.x(0))
    kept = c.g.shape(x)[0] == 1
    y, last = _rnn(c, x, 1, c.state(4, kept))
    if kept:
        c.keep(4, last)
    return reshape(c.g, y, c.g.shape(y)[1:]) if one else _steps_back(c, y)


@converts("BIDIRECTIONAL_SEQUENCE_RNN")
def both_ways_rnn(c: Call) -> list[str]:
    """Inputs: data; weight, recurrent weight, bias, state, forward (1-4) and backward (5-8); a second input (9-11)."""
    if any(c.has(k) for k in range(9, 12)):
        raise NotConverted("a second input")
    x = _steps_first(c, c.x(0))
    return _both(c, [_rnn(c, x, at, c.state(at + 3, False), at > 1)[0] for at in (1, 5)])


@converts("SVDF")
def svdf(c: Call) -> str:
    """A layer whose weight is the sum of `rank` products of one over the input and one over the last M steps.

    Inputs: data (B, I), weights (F, I) and (F, M), bias (F / rank), the state (B, F * M): what each of F filters gave
    in the last M steps, the oldest first.
    """
    g, rank, x = c.g, c.p["rank"], c.x(0)
    w, time = c.x(1), c.x(2)
    batch, (filters, memory) = g.shape(x)[0], g.shape(time)
    state = c.state(4, True)
    if rank < 1 or filters % rank or len(g.shape(state)) != 2 or g.shape(state) != (batch, filters * memory):
        raise ModelError(f"its rank {rank} and state {list(g.shape(state))} do not fit {filters} filters")
    fresh = reshape(g, c.op_("MatMul", x, c.op_("Transpose", w, perm=[1, 0])), (batch, filters, 1))
    past = reshape(g, state, (batch, filters, memory))
    if memory > 1:
        later = g.op("Slice", past, g.ints([1]), g.ints([memory]), g.ints([2]))
        past = c.op_("Concat", later, fresh, axis=2)
    else:
        past = fresh
    c.keep(4, reshape(g, past, (batch, filters * memory)))
    weighted = reshape(g, c.op_("Mul", past, time), (batch, filters // rank, rank * memory))
    y = c.op_("ReduceSum", weighted, g.ints([2]), keepdims=0)
    return c.activated(c.op_("Add", y, c.x(3)) if c.has(3) else y)
