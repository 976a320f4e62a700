"""Control flow: If, Loop and Scan.

A Loop or a Scan becomes the internal Scan of `recurrent`. Both branches of an If are computed and one is selected:
operators have no effects and none can stop the program, so that only time is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dlpack.graph.ir import Graph, Node, TensorType
from dlpack.graph.registry import Builder, Context, NotSupported, rewrite


@dataclass(frozen=True)
class _Part:
    """A value outside of a loop ("" if nothing reads it) and what it is in the body, an input or an output."""

    outside: str
    inside: str
    backwards: bool = False  # for slices: from the last to the first


def _parts(outside: Sequence[str], inside: Sequence[str]) -> list[_Part]:
    return [_Part(a, b) for a, b in zip(outside, inside, strict=True)]


@dataclass
class _Loop:
    """A loop in the making: its states before and behind it, and what is sliced, gathered and the same in each trip."""

    body: Graph
    count: int
    states: list[_Part] = field(default_factory=list)
    results: list[_Part] = field(default_factory=list)
    slices: list[_Part] = field(default_factory=list)
    gathered: list[_Part] = field(default_factory=list)
    stays: list[_Part] = field(default_factory=list)

    def drop_unchanged_states(self, b: Builder) -> None:
        """What each trip hands on as it is, is no state: it is the same in each trip."""
        producers = self.body.producers()
        for state, result in list(zip(self.states, self.results, strict=True)):
            name = result.inside
            while name in producers and producers[name].op == "Identity":
                name = producers[name].inputs[0]
            if name == state.inside:
                self.states.remove(state)
                self.results.remove(result)
                self.stays.append(state)
                _name(b, state.outside, result.outside)

    def emit(self, ctx: Context, b: Builder) -> None:
        """Writes the internal Scan or, where there is no trip, the values as they were."""
        types = self.body.types
        if not self.count:
            for state, result in zip(self.states, self.results, strict=True):
                _name(b, state.outside, result.outside)
            for part in self.gathered:
                t = types[part.inside]
                _name(b, b.constant(np.zeros((0, *t.shape), t.dtype), "none"), part.outside)
            return
        results = [replace(part, outside=part.outside or b.fresh("state")) for part in self.results]
        gathered = [part for part in self.gathered if part.outside]
        inputs, outputs = [*self.states, *self.slices, *self.stays], [*results, *gathered]
        if not outputs:
            return
        node = Node(
            "Scan",
            tuple(part.outside for part in inputs),
            tuple(part.outside for part in outputs),
            {
                "count": self.count,
                "states": len(self.states),
                "scans": len(self.slices),
                "reverse": tuple(part.backwards for part in (*self.slices, *gathered)),
            },
            outputs[0].outside,
            "dlpack",
            ctx.node.opset,
            ctx.node.sources,
            replace(
                self.body,
                inputs=tuple(part.inside for part in inputs),
                outputs=tuple(part.inside for part in outputs),
            ),
        )
        made = [types[part.inside] for part in results]
        made += [TensorType(t.dtype, (self.count, *t.shape)) for t in (types[part.inside] for part in gathered)]
        b.raw(node, made)


def _name(b: Builder, value: str, output: str) -> None:
    if output:
        b.add("Identity", [value], b.type_of(value).shape, output=output)


def _moved(b: Builder, value: str, axis: int, to: int, output: str | None = None) -> str:
    """`value` with one axis moved to another place."""
    shape = b.type_of(value).shape
    perm = [d for d in range(len(shape)) if d != axis]
    perm.insert(to, axis)
    return b.add("Transpose", [value], [shape[p] for p in perm], output=output, perm=perm)


@rewrite("Scan")
def scan(ctx: Context, b: Builder) -> None:
    """Walks over slices of tensors, with states."""
    if ctx.node.opset < 9:
        return _batched_scan(ctx, b)
    node, body, captures = ctx.node, ctx.attr("body"), ctx.attr("captures")
    count = ctx.attr("num_scan_inputs")
    states = len(body.inputs) - captures - count
    given, made = _parts(node.inputs, body.inputs), _parts(node.outputs, body.outputs)
    loop = _Loop(body, 0, given[:states], made[:states], stays=given[states + count :])

    loop.drop_unchanged_states(b)

    def numbers(name: str, n: int) -> list[int]:
        return ctx.attr(name) or [0] * n

    axes, backwards = numbers("scan_input_axes", count), numbers("scan_input_directions", count)
    for part, axis, back in zip(given[states : states + count], axes, backwards, strict=True):
        shape = b.type_of(part.outside).shape
        loop.count = shape[axis]
        value = _moved(b, part.outside, axis % len(shape), 0) if axis % len(shape) else part.outside
        loop.slices.append(_Part(value, part.inside, bool(back)))
    results = len(made) - states
    axes, backwards = numbers("scan_output_axes", results), numbers("scan_output_directions", results)
    moves: list[tuple[str, int, str]] = []
    for part, axis, back in zip(made[states:], axes, backwards, strict=True):
        axis %= len(body.types[part.inside].shape) + 1
        value = part.outside
        if value and axis:
            value = b.fresh("slices")
            moves.append((value, axis, part.outside))
        loop.gathered.append(_Part(value, part.inside, bool(back)))
    loop.emit(ctx, b)
    for value, axis, output in moves:
        _moved(b, value, 0, axis, output)
    return None


def _batched_scan(ctx: Context, b: Builder) -> None:
    """Scan of opset 8: over the batch, the first axis of everything, a scan of today over the next axis."""
    node, body, captures = ctx.node, ctx.attr("body"), ctx.attr("captures")
    count = ctx.attr("num_scan_inputs")
    lengths, *values = node.inputs
    longest = ctx.input_type(len(values) - captures).shape[1]
    if lengths and (ctx.constant(0, "sequence_lens") != longest).any():
        raise NotSupported("sequences that are shorter than the longest")
    own = len(values) - captures
    names = [b.fresh("body/in") for _ in values]
    outputs = [b.fresh("body/out") for _ in node.outputs]
    types = {n: b.type_of(v) for n, v in zip(names, values, strict=True)}
    types |= {o: b.type_of(v) for o, v in zip(outputs, node.outputs, strict=True)}
    batch = b.type_of(values[0]).shape[0]
    for name in (*names[:own], *outputs):
        types[name] = TensorType(types[name].dtype, types[name].shape[1:])
    attrs = {"body": body, "captures": captures, "num_scan_inputs": count}
    attrs["scan_input_directions"] = ctx.attr("directions") or [0] * count
    one = replace(node, inputs=tuple(names), outputs=tuple(outputs), attrs=attrs, opset=9)
    loop = _Loop(Graph("body", tuple(names), tuple(outputs), (one,), {}, types), batch)
    loop.slices, loop.stays = _parts(values[:own], names[:own]), _parts(values[own:], names[own:])
    loop.gathered = _parts(node.outputs, outputs)
    loop.emit(ctx, b)


@rewrite("Loop")
def loop_(ctx: Context, b: Builder) -> None:
    """Runs its body a known number of times, or until its condition fails, which freezes the states from then on."""
    node, body = ctx.node, ctx.attr("body")
    count = len(node.inputs) - ctx.attr("captures")
    given, made = _parts(node.inputs, body.inputs), _parts(node.outputs, body.outputs[1:])
    number, entered, *states = given[:count]
    loop = _Loop(body, ctx.attr("trips"), states, made[: len(states)], gathered=made[len(states) :])
    loop.stays = given[count:]
    loop.drop_unchanged_states(b)
    inner = Builder(body, replace(node, outputs=(b.fresh("body"),)))
    if any(number.inside in n.inputs for n in body.nodes):
        t = body.types[number.inside]
        following = inner.add("Add", [number.inside, inner.constant(np.ones(t.shape, t.dtype))], t.shape)
        loop.states.append(_Part(b.constant(np.zeros(t.shape, t.dtype), "zero"), number.inside))
        loop.results.append(_Part("", following))
    t = body.types[entered.inside]
    if ctx.attr("conditional"):
        loop.results = [
            replace(part, inside=_selected(inner, entered.inside, part.inside, state.inside))
            for state, part in zip(loop.states, loop.results, strict=True)
        ]
        going = inner.add("Reshape", [body.outputs[0], inner.constant(np.array(t.shape, np.int64))], t.shape)
        start = entered.outside or b.constant(np.ones(t.shape, np.bool_), "true")
        start = b.add("Reshape", [start, b.constant(np.array(t.shape, np.int64))], t.shape)
        loop.states.append(_Part(start, entered.inside))
        loop.results.append(_Part("", inner.add("And", [entered.inside, going], t.shape)))
    else:
        inner.constants[entered.inside] = np.ones(t.shape, np.bool_)
    loop.body = body.with_nodes((*body.nodes, *inner.nodes), inner.constants, inner.types)
    loop.emit(ctx, b)


def _selected(b: Builder, condition: str, yes: str, no: str, output: str | None = None) -> str:
    t = b.type_of(yes)
    return b.add("Where", [condition, yes, no], t.shape, t.dtype, output)


@rewrite("If")
def if_(ctx: Context, b: Builder) -> None:
    """Both branches, and a selection; the branch that is not taken costs its time and nothing else."""
    node = ctx.node
    condition = b.add("Reshape", [node.inputs[0], b.constant(np.array([], np.int64))], ())
    chosen = [_inlined(ctx.attr(f"{name}_branch"), node.inputs[1:], b) for name in ("then", "else")]
    for output, yes, no in zip(node.outputs, *chosen, strict=True):
        if output:
            _selected(b, condition, yes, no, output)


def _inlined(branch: Graph, inputs: Sequence[str], b: Builder) -> list[str]:
    """Writes the nodes of a branch; returns the names of its outputs."""
    names = dict(zip(branch.inputs, inputs, strict=True))
    for name, value in branch.constants.items():
        names[name] = b.constant(value, name)
    for node in branch.nodes:
        names.update((o, b.fresh(o)) for o in node.outputs if o)
        renamed = tuple(names[o] if o else "" for o in node.outputs)
        b.raw(
            replace(node, inputs=tuple(names.get(i, "") for i in node.inputs), outputs=renamed, name=renamed[0]),
            [branch.types[o] if o else TensorType("float32", ()) for o in node.outputs],
        )
    return [names[o] for o in branch.outputs]
