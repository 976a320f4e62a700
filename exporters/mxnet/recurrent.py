"""MXNet's fused recurrent layers, as in src/operator/rnn-inl.h."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted, Shape
from dlpack.exporters.layers import reshape, split
from dlpack.exporters.mxnet.call import Call, converts


@converts("_rnn_param_concat")
def rnn_parameters(c: Call) -> str:
    values = c.all()
    arrays = [c.g.value(v) for v in values]
    if any(a is None for a in arrays):
        return c.op_("Concat", *values, axis=0)
    return c.g.constant(np.concatenate([a.reshape(-1) for a in arrays if a is not None]))


_GATES = {
    "lstm": ([0, 3, 1, 2], "LSTM", 4),
    "gru": ([1, 0, 2], "GRU", 3),
    "rnn_relu": ([0], "RNN", 1),
    "rnn_tanh": ([0], "RNN", 1),
}


@converts("RNN")
def rnn(c: Call) -> list[str]:
    """MXNet's fused RNN: all weights in one vector, in cuDNN's order (gates i, f, g, o and r, z, n)."""
    x, mode = c.floating(c.x(0)), c.p.text("mode")
    if mode not in _GATES:
        raise NotConverted(f"mode={mode[:40]!r}")
    if "projection_size" in c.p or c.p.bool("use_sequence_length"):
        raise NotConverted("projection_size or use_sequence_length")
    order, kind, gates = _GATES[mode]
    hidden, layers = c.p.int("state_size"), c.p.int("num_layers")
    ways = 2 if c.p.bool("bidirectional") else 1
    steps, batch, features = c.g.shape(x)
    if not 0 < hidden <= 2**20 or not 0 < layers <= 1024:
        raise ModelError(f"state_size={hidden}, num_layers={layers} are out of range")
    vector = c.g.value(c.weight(1, "parameters"))
    if vector is None:
        raise NotConverted("weights that are computed")
    weights = _rnn_weights(vector.reshape(-1), features, hidden, layers, ways, gates)
    state_shape = (layers * ways, batch, hidden)
    states = [_state(c, k, state_shape) for k in ((2, 3) if mode == "lstm" else (2,))]
    pieces = [split(c.g, s, 0, [ways] * layers) for s in states]
    finals: list[list[str]] = [[] for _ in states]
    for layer in range(layers):
        w, r, b = (np.stack([part[t] for part in weights[layer]]) for t in range(3))
        rows = np.concatenate([np.arange(hidden) + g * hidden for g in order])
        bias_rows = np.concatenate([rows, rows + gates * hidden])
        attrs: dict[str, Any] = {"hidden_size": hidden, "direction": "bidirectional" if ways == 2 else "forward"}
        if kind == "GRU":
            attrs["linear_before_reset"] = 1
        if mode == "rnn_relu":
            attrs["activations"] = ["Relu"] * ways
        constants = [c.g.constant(v.astype(np.float32), f"{c.name}_l{layer}_{n}") for v, n in
                     ((w[:, rows], "w"), (r[:, rows], "r"), (b[:, bias_rows], "b"))]  # fmt: skip
        outputs = c.g.op(kind, x, *constants, "", *(p[layer] for p in pieces), outputs=1 + len(states), **attrs)
        y = c.op_("Transpose", outputs[0], perm=[0, 2, 1, 3])
        x = reshape(c.g, y, (steps, batch, ways * hidden))
        for k, final in enumerate(outputs[1:]):
            finals[k].append(final)
    if not c.p.bool("state_outputs"):
        return [x]
    return [x, *(c.op_("Concat", *f, axis=0) if layers > 1 else f[0] for f in finals)]


def _rnn_weights(vector: Any, features: int, hidden: int, layers: int, ways: int, gates: int) -> list[Any]:
    """Per layer and direction (W, R, bias of both): first every matrix, then every bias."""
    rows, pos = gates * hidden, 0
    sizes = [features] + [hidden * ways] * (layers - 1)
    if vector.size != sum(ways * rows * (n + hidden + 2) for n in sizes):
        raise ModelError(f"its parameters have {vector.size:,} values, which do not fit its sizes")
    matrices: list[Any] = []
    for n in sizes:
        parts = []
        for _ in range(ways):
            w = vector[pos : pos + rows * n].reshape(rows, n)
            r = vector[pos + rows * n : pos + rows * (n + hidden)].reshape(rows, hidden)
            parts.append((w, r))
            pos += rows * (n + hidden)
        matrices.append(parts)
    result = []
    for parts in matrices:
        full = []
        for w, r in parts:
            full.append((w, r, vector[pos : pos + 2 * rows]))
            pos += 2 * rows
        result.append(full)
    return result


def _state(c: Call, i: int, shape: Shape) -> str:
    if i in c.states:
        return c.states[i](shape)
    value = c.floating(c.x(i))
    return value if c.g.shape(value) == shape else c.op_("Expand", value, c.g.ints(shape))
