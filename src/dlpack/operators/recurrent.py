"""Recurrent operators: LSTM, GRU and RNN as loops over time.

Each becomes one matrix product for all steps' inputs and an internal "Scan", whose body is a graph of plain
operators that every other stage treats like any graph. The internal Scan (domain "dlpack"):

    inputs    `states` initial states, then `scans` tensors that are sliced along axis 0, then values that stay
    outputs   the final states, then tensors whose slices along axis 0 the body computes
    attrs     count, states, scans, reverse (for each sliced input, then for each sliced output, whether it is walked
              from the last slice to the first)
    body      graph: states, slices, values that stay → new states, output slices
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dlpack.graph.ir import Array, Graph, Node, TensorType
from dlpack.graph.registry import Builder, Context, NotSupported, compute, rewrite


@compute("Scan", domain="dlpack")
def scan(ctx: Context, *inputs: Any) -> list[Any]:
    raise AssertionError("a loop is assembled from its body's kernels")


class _Body(Builder):
    """Writes a body graph, with the same calls as a builder."""

    def __init__(self, outer: Builder, inputs: Sequence[tuple[str, TensorType]]) -> None:
        graph = Graph("body", tuple(n for n, _ in inputs), (), (), {}, dict(inputs))
        super().__init__(graph, outer.origin)
        self._outer = outer

    def fresh(self, hint: str) -> str:
        return self._outer.fresh(f"body/{hint}")

    def finish(self, outputs: Sequence[str]) -> Graph:
        return Graph(
            "body",
            self.graph.inputs,
            tuple(outputs),
            tuple(self.nodes),
            self.constants,
            {**self.graph.types, **self.types},
        )

    def op(self, name: str, *inputs: str, shape: Sequence[int] | None = None, **attrs: Any) -> str:
        """A pointwise node; by default with the shape of the first input."""
        return self.add(name, list(inputs), shape or self.type_of(inputs[0]).shape, **attrs)

    def number(self, value: float) -> str:
        """A scalar of the states' element type."""
        kinds = (self.type_of(name).dtype for name in self.graph.inputs)
        dtype = next(kind for kind in kinds if kind.startswith("float"))
        return self.constant(np.asarray(value, dtype), "number")


def _activation(name: str, alpha: float | None, beta: float | None) -> Callable[[_Body, str], str]:
    """An activation as ONNX's recurrent operators name them; the defaults are those of the operator specification."""
    plain = {"Sigmoid", "Tanh", "Relu", "Softsign", "Softplus"}
    if name in plain:
        return lambda b, x: b.op(name, x)
    one = {"LeakyRelu": 0.01, "ThresholdedRelu": 1.0, "Elu": 1.0}
    if name in one:
        return lambda b, x: b.op(name, x, alpha=one[name] if alpha is None else alpha)
    if name == "HardSigmoid":
        a, c = 0.2 if alpha is None else alpha, 0.5 if beta is None else beta
        return lambda b, x: b.op("HardSigmoid", x, alpha=a, beta=c)
    if name == "Affine":
        a, c = 1.0 if alpha is None else alpha, 0.0 if beta is None else beta
        return lambda b, x: b.op("Add", b.op("Mul", x, b.number(a)), b.number(c))
    if name == "ScaledTanh":
        a, c = 1.0 if alpha is None else alpha, 1.0 if beta is None else beta
        return lambda b, x: b.op("Mul", b.op("Tanh", b.op("Mul", x, b.number(c))), b.number(a))
    raise NotSupported(f"activation {name!r}")


_TAKES_ALPHA = {"LeakyRelu", "ThresholdedRelu", "Elu", "HardSigmoid", "Affine", "ScaledTanh"}
_TAKES_BETA = {"HardSigmoid", "Affine", "ScaledTanh"}


def _activations(ctx: Context, defaults: Sequence[str], directions: int) -> list[list[Callable[[_Body, str], str]]]:
    names = [n.decode() if isinstance(n, bytes) else n for n in ctx.attr("activations") or [*defaults] * directions]
    canonical = {n.lower(): n for n in ("Sigmoid", "Tanh", "Relu", "Softsign", "Softplus", *sorted(_TAKES_ALPHA))}
    alphas, betas = list(ctx.attr("activation_alpha") or []), list(ctx.attr("activation_beta") or [])
    made = []
    for name in names:
        name = canonical.get(name.lower(), name)
        alpha = alphas.pop(0) if name in _TAKES_ALPHA and alphas else None
        beta = betas.pop(0) if name in _TAKES_BETA and betas else None
        made.append(_activation(name, alpha, beta))
    n = len(defaults)
    return [made[d * n : d * n + n] for d in range(directions)]


class _Recurrence:
    """What the three operators share: directions, initial states, the input product, the loop, the outputs."""

    def __init__(self, ctx: Context, b: Builder, gates: int, states: int) -> None:
        self.ctx, self.b, self.gates, self.states = ctx, b, gates, states
        self.batchwise = bool(ctx.attr("layout", 0))
        x = ctx.input_type(0).shape
        self.steps, self.batch = (x[1], x[0]) if self.batchwise else (x[0], x[1])
        self.features = x[2]
        self.weights = ctx.constant(1, "weight W")
        self.recurrent = ctx.constant(2, "weight R")
        self.directions = self.weights.shape[0]
        self.hidden = self.recurrent.shape[2]
        direction = ctx.attr("direction", "forward")
        self.direction = direction.decode() if isinstance(direction, bytes) else direction
        bias = ctx.constant(3, "bias B") if ctx.has_input(3) else None
        n = gates * self.hidden
        self.bias = bias if bias is not None else np.zeros((self.directions, 2 * n), self.weights.dtype)
        lengths = ctx.maybe_constant(4)
        self.lengths = ctx.node.inputs[4] if ctx.has_input(4) else ""
        if lengths is not None and (lengths == self.steps).all():
            self.lengths = ""
        clip = ctx.attr("clip")
        self.clip = float(clip) if clip else 0.0

    def is_reverse(self, d: int) -> bool:
        return self.direction == "reverse" or d == 1

    def slice_input(self, i: int, d: int, shape: Sequence[int]) -> str:
        """Direction d of an initial state [D, B, H] ([B, D, H] batchwise), zeros where it is absent."""
        b = self.b
        if not self.ctx.has_input(i):
            return b.constant(np.zeros(tuple(shape), self.weights.dtype), "zeros")
        name = self.ctx.node.inputs[i]
        axis = 1 if self.batchwise else 0
        t = b.type_of(name)
        if t.shape[axis] > 1:
            part = [1 if k == axis else n for k, n in enumerate(t.shape)]
            args = [b.constant(np.array([v], np.int64)) for v in (d, d + 1, axis)]
            name = b.add("Slice", [name, *args], part)
        return b.add("Reshape", [name, b.constant(np.array(shape, np.int64))], shape)

    def limited(self, body: _Body, x: str) -> str:
        if not self.clip:
            return x
        low, high = body.number(-self.clip), body.number(self.clip)
        return body.op("Clip", x, low, high)

    def product(self, d: int, fold_recurrent_bias: Sequence[bool]) -> str:
        """X W^T + bias for all steps: [T, B, gates * H]. The recurrent bias of the marked gates goes in with it."""
        b, n, h = self.b, self.gates * self.hidden, self.hidden
        x = self.ctx.node.inputs[0]
        if self.batchwise:
            x = b.add("Transpose", [x], [self.steps, self.batch, self.features], perm=[1, 0, 2])
        rows = self.steps * self.batch
        flat = b.add("Reshape", [x, b.constant(np.array([rows, self.features], np.int64))], [rows, self.features])
        w = b.constant(np.ascontiguousarray(self.weights[d].T), "weight")
        bias = self.bias[d][:n].copy()
        for g, fold in enumerate(fold_recurrent_bias):
            if fold:
                bias[g * h : (g + 1) * h] += self.bias[d][n + g * h : n + (g + 1) * h]
        y = b.add("MatMul", [flat, w], [rows, n])
        y = b.add("Add", [y, b.constant(bias, "bias")], [rows, n])
        shape = [self.steps, self.batch, n]
        return b.add("Reshape", [y, b.constant(np.array(shape, np.int64))], shape)

    def loop(
        self,
        d: int,
        initial: Sequence[str],
        product: str,
        step: Callable[[_Body, list[str], str], list[str]],
    ) -> list[str]:
        """Runs `step` over time; returns the final states and all hidden states [T, B, H]."""
        b, dtype = self.b, self.weights.dtype.name
        state = TensorType(dtype, (self.batch, self.hidden))
        slice_type = TensorType(dtype, (self.batch, self.gates * self.hidden))
        names = [b.fresh(f"body/state{k}") for k in range(len(initial))]
        x = b.fresh("body/x")
        inputs = [*((n, state) for n in names), (x, slice_type)]
        extra: list[str] = []
        if self.lengths:
            clock, lengths = b.fresh("body/clock"), b.fresh("body/lengths")
            inputs += [(clock, TensorType("int32", (1, 1))), (lengths, TensorType("int32", (self.batch, 1)))]
            times = b.constant(np.arange(self.steps, dtype=np.int32).reshape(self.steps, 1, 1), "times")
            column = b.constant(np.array([self.batch, 1], np.int64))
            extra = [times, b.add("Reshape", [self.lengths, column], [self.batch, 1])]
        body = _Body(b, inputs)
        new = step(body, names, x)
        shown = body.op("Identity", new[0])
        if self.lengths:
            alive = body.add("Less", [clock, lengths], [self.batch, 1], "bool")
            new = [body.add("Where", [alive, n, o], state.shape, dtype) for n, o in zip(new, names, strict=True)]
            shown = body.add("Where", [alive, shown, body.number(0.0)], state.shape, dtype)
        graph = body.finish([*new, shown])
        outputs = [b.fresh(f"state{k}") for k in range(len(initial))] + [b.fresh("steps")]
        all_steps = TensorType(dtype, (self.steps, self.batch, self.hidden))
        node = Node(
            "Scan",
            (*initial, product, *extra),
            tuple(outputs),
            {
                "count": self.steps,
                "states": len(initial),
                "scans": 2 if self.lengths else 1,
                "reverse": (self.is_reverse(d),) * (3 if self.lengths else 2),
            },
            outputs[-1],
            "dlpack",
            self.ctx.node.opset,
            self.ctx.node.sources,
            graph,
        )
        b.raw(node, [*[state] * len(initial), all_steps])
        return outputs

    def finish(self, results: Sequence[Sequence[str]]) -> None:
        """Writes Y, Y_h (and Y_c) from each direction's final states and hidden states."""
        out = (*self.ctx.node.outputs, "", "", "")
        t, n, h, directions = self.steps, self.batch, self.hidden, self.directions
        if out[0]:
            parts = [self._reshape(r[-1], [t, 1, n, h]) for r in results]
            y = self._join(parts, 1, [t, directions, n, h])
            self._name(y, [t, directions, n, h], [2, 0, 1, 3], out[0])
        for k in range(self.states):
            if out[1 + k]:
                parts = [self._reshape(r[k], [1, n, h]) for r in results]
                y = self._join(parts, 0, [directions, n, h])
                self._name(y, [directions, n, h], [1, 0, 2], out[1 + k])

    def _reshape(self, x: str, shape: list[int]) -> str:
        return self.b.add("Reshape", [x, self.b.constant(np.array(shape, np.int64))], shape)

    def _join(self, parts: list[str], axis: int, shape: list[int]) -> str:
        return parts[0] if len(parts) == 1 else self.b.add("Concat", parts, shape, axis=axis)

    def _name(self, y: str, shape: list[int], perm: list[int], output: str) -> None:
        if self.batchwise:
            self.b.add("Transpose", [y], [shape[p] for p in perm], output=output, perm=perm)
        else:
            self.b.add("Identity", [y], shape, output=output)

    def recurrent_product(self, body: _Body, h: str, d: int, gates: slice = slice(None)) -> str:
        """h R^T for a run of gates."""
        r = self.recurrent[d].reshape(self.gates, self.hidden, self.hidden)[gates]
        w = np.ascontiguousarray(r.reshape(-1, self.hidden).T)
        return body.add("MatMul", [h, body.constant(w, "recurrent")], [self.batch, w.shape[1]])

    def split(self, body: _Body, x: str, parts: int) -> list[str]:
        outs = [body.fresh("gate") for _ in range(parts)]
        t = TensorType(body.type_of(x).dtype, (self.batch, self.hidden))
        node = Node("Split", (x,), tuple(outs), {"axis": 1}, outs[0], "", self.ctx.node.opset, self.ctx.node.sources)
        body.raw(node, [t] * parts)
        return outs


Step = Callable[[_Body, list[str], str], list[str]]
Activation = Callable[[_Body, str], str]


@rewrite("LSTM")
def lstm(ctx: Context, b: Builder) -> None:
    """it = f(Xt Wi + H Ri + Pi C + b), ft alike, Ct = ft C + it g(Xt Wc + H Rc + b), Ht = ot h(Ct); gates i o f c.

    `clip` limits what an activation is given, peepholes included. With `input_forget` ft is 1 - it.
    """
    r = _Recurrence(ctx, b, gates=4, states=2)
    activations = _activations(ctx, ("Sigmoid", "Tanh", "Tanh"), r.directions)
    peepholes = ctx.constant(7, "peepholes P") if ctx.has_input(7) else None
    results = []
    for d in range(r.directions):
        p = peepholes[d].reshape(3, r.hidden) if peepholes is not None and peepholes[d].any() else None
        shape = [r.batch, r.hidden]
        initial = [r.slice_input(5, d, shape), r.slice_input(6, d, shape)]
        step = _lstm_step(r, d, activations[d], p)
        results.append(r.loop(d, initial, r.product(d, [True] * 4), step))
    r.finish(results)


def _lstm_step(r: _Recurrence, d: int, activations: Sequence[Activation], p: Array | None) -> Step:
    f, g, h = activations

    def peep(body: _Body, gate: str, k: int, cell: str) -> str:
        if p is None:
            return gate
        return r.limited(body, body.op("Add", gate, body.op("Mul", cell, body.constant(p[k], "peephole"))))

    def step(body: _Body, state: list[str], x: str) -> list[str]:
        hidden, cell = state
        total = body.op("Add", r.recurrent_product(body, hidden, d), x)
        if p is None:
            total = r.limited(body, total)
        gi, go, gf, gc = r.split(body, total, 4)
        enter = f(body, peep(body, gi, 0, cell))
        if r.ctx.attr("input_forget", 0):
            forget = body.op("Sub", body.number(1.0), enter, shape=body.type_of(enter).shape)
        else:
            forget = f(body, peep(body, gf, 2, cell))
        gc = gc if p is None else r.limited(body, gc)
        new = body.op("Add", body.op("Mul", forget, cell), body.op("Mul", enter, g(body, gc)))
        return [body.op("Mul", f(body, peep(body, go, 1, new)), h(body, new)), new]

    return step


@rewrite("GRU")
def gru(ctx: Context, b: Builder) -> None:
    """Ht = (1 - zt) ht + zt H; gates z r h; linear_before_reset applies r behind the recurrent product."""
    r = _Recurrence(ctx, b, gates=3, states=1)
    activations = _activations(ctx, ("Sigmoid", "Tanh"), r.directions)
    linear = bool(ctx.attr("linear_before_reset", 0))
    results = []
    for d in range(r.directions):
        initial = [r.slice_input(5, d, [r.batch, r.hidden])]
        step = _gru_step(r, d, activations[d], linear)
        results.append(r.loop(d, initial, r.product(d, [True, True, not linear]), step))
    r.finish(results)


def _gru_step(r: _Recurrence, d: int, activations: Sequence[Activation], linear: bool) -> Step:
    f, g = activations
    late_bias = r.bias[d][5 * r.hidden :]

    def step(body: _Body, state: list[str], x: str) -> list[str]:
        (hidden,) = state
        xz, xr, xh = r.split(body, x, 3)
        gates = r.recurrent_product(body, hidden, d, slice(0, 2))
        hz, hr = r.split(body, gates, 2)
        z = f(body, r.limited(body, body.op("Add", hz, xz)))
        reset = f(body, r.limited(body, body.op("Add", hr, xr)))
        if linear:
            inner = r.recurrent_product(body, hidden, d, slice(2, 3))
            inner = body.op("Mul", reset, body.op("Add", inner, body.constant(late_bias, "bias")))
        else:
            inner = r.recurrent_product(body, body.op("Mul", reset, hidden), d, slice(2, 3))
        new = g(body, r.limited(body, body.op("Add", inner, xh)))
        rest = body.op("Sub", body.number(1.0), z, shape=[r.batch, r.hidden])
        return [body.op("Add", body.op("Mul", rest, new), body.op("Mul", z, hidden))]

    return step


@rewrite("RNN")
def rnn(ctx: Context, b: Builder) -> None:
    """Ht = f(Xt W^T + H R^T + b)."""
    r = _Recurrence(ctx, b, gates=1, states=1)
    activations = _activations(ctx, ("Tanh",), r.directions)
    results = []
    for d in range(r.directions):
        initial = [r.slice_input(5, d, [r.batch, r.hidden])]
        step = _rnn_step(r, d, activations[d])
        results.append(r.loop(d, initial, r.product(d, [True]), step))
    r.finish(results)


def _rnn_step(r: _Recurrence, d: int, activations: Sequence[Activation]) -> Step:
    (f,) = activations

    def step(body: _Body, state: list[str], x: str) -> list[str]:
        total = body.op("Add", r.recurrent_product(body, state[0], d), x)
        return [f(body, r.limited(body, total))]

    return step
