"""Operators that read or write at places that are data, and those that choose elements: gather, scatter, top-k."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dlpack.graph.registry import Builder, Context, NotSupported, compute, rewrite, view
from dlpack.loops.layout import Layout
from dlpack.loops.tir import te, tirx
from dlpack.operators.elementwise import const, convert, dtype_of, plus, times
from dlpack.operators.loops import Local, block, load, loop, nest, sequential, store, when


def wrapped(k: Any, n: int) -> Any:
    """The index `k` of a dimension of `n`: from the end where negative, clamped, so that no input reads outside."""
    inside = tirx.Select(k < const(0, k), k + const(n, k), k)
    return tirx.min(tirx.max(inside, const(0, k)), const(max(0, n - 1), k)).astype("int32")


@view("Gather")
def gather_view(ctx: Context, x: Layout) -> list[Layout | None]:
    """At constant places that are evenly spaced: `x[..., 3, :]`, `x[:, [0, 2, 4]]`."""
    places = ctx.maybe_constant(1)
    shape = ctx.input_type(0).shape
    axis = ctx.attr("axis", 0) % len(shape)
    if places is None or places.ndim > 1 or places.size == 0 or shape[axis] == 0:
        return [None]
    n = shape[axis]
    flat = np.clip(np.where(places < 0, places + n, places), 0, n - 1).reshape(-1).astype(int)  # as `wrapped` does
    step = int(flat[1] - flat[0]) if flat.size > 1 else 0
    if (np.diff(flat) != step).any():
        return [None]
    strides = list(x.strides)
    strides[axis : axis + 1] = [step * x.strides[axis]] * places.ndim
    return [Layout(tuple(strides), x.offset + int(flat[0]) * x.strides[axis])]


@compute("Gather")
def gather(ctx: Context, x: Any, indices: Any) -> list[Any]:
    """numpy.take along an axis."""
    shape = ctx.input_type(0).shape
    axis = ctx.attr("axis", 0) % len(shape)
    rank = len(ctx.input_type(1).shape)

    def at(*i: Any) -> Any:
        return x(*i[:axis], wrapped(indices(*i[axis : axis + rank]), shape[axis]), *i[axis + rank :])

    return [te.compute(ctx.output_type().shape, at, name="out")]


@compute("GatherElements")
def gather_elements(ctx: Context, x: Any, indices: Any) -> list[Any]:
    """numpy.take_along_axis."""
    shape = ctx.input_type(0).shape
    axis = ctx.attr("axis", 0) % len(shape)

    def at(*i: Any) -> Any:
        return x(*i[:axis], wrapped(indices(*i), shape[axis]), *i[axis + 1 :])

    return [te.compute(ctx.output_type().shape, at, name="out")]


@compute("GatherND")
def gather_nd(ctx: Context, x: Any, indices: Any) -> list[Any]:
    """The last dimension of the indices is a place in x behind its `batch_dims` first dimensions."""
    shape, batch = ctx.input_type(0).shape, ctx.attr("batch_dims", 0)
    *lead, depth = ctx.input_type(1).shape

    def at(*i: Any) -> Any:
        place = [wrapped(indices(*i[: len(lead)], d), shape[batch + d]) for d in range(depth)]
        return x(*i[:batch], *place, *i[len(lead) :])

    return [te.compute(ctx.output_type().shape, at, name="out")]


@rewrite("Compress")
def compress(ctx: Context, b: Builder) -> None:
    """A gather at the places where the condition, which must be constant, holds."""
    x, t = ctx.node.inputs[0], ctx.output_type()
    axis = ctx.attr("axis")
    if axis is None:
        size = ctx.input_type(0).size
        x = b.add("Reshape", [x, b.constant(np.array([size], np.int64))], [size])
    places = np.flatnonzero(ctx.constant(1, "condition")).astype(np.int64)
    b.add("Gather", [x, b.constant(places, "places")], t.shape, output=ctx.node.outputs[0], axis=axis or 0)


@compute("ReverseSequence")
def reverse_sequence(ctx: Context, x: Any, lengths: Any) -> list[Any]:
    """Turns around the first ``lengths[batch]`` steps of each sequence."""
    time, batch = ctx.attr("time_axis", 0), ctx.attr("batch_axis", 1)
    n = ctx.input_type(0).shape[time]

    def at(*i: Any) -> Any:
        end = lengths(i[batch]).astype("int32")
        place = list(i)
        place[time] = wrapped(tirx.Select(i[time] < end, end - 1 - i[time], i[time]), n)
        return x(*place)

    return [te.compute(ctx.output_type().shape, at, name="out")]


@compute("TensorScatter")
def tensor_scatter(ctx: Context, cache: Any, update: Any, starts: Any = None) -> list[Any]:
    """Writes `update` into the cache along an axis, from a place that each batch has its own."""
    shape = ctx.input_type(0).shape
    axis = ctx.attr("axis", -2) % len(shape)
    n, length = shape[axis], ctx.input_type(1).shape[axis]
    circular = ctx.attr("mode", "linear") == "circular"

    def at(*i: Any) -> Any:
        k = i[axis] - (starts(i[0]).astype("int32") if starts is not None else 0)
        if circular:
            k = tirx.floormod(k, n)
        inside = tirx.all(k >= 0, k < length)
        new = update(*i[:axis], tirx.min(tirx.max(k, 0), length - 1), *i[axis + 1 :])
        return tirx.if_then_else(inside, new, cache(*i))

    return [te.compute(shape, at, name="out")]


# --- scatter ----------------------------------------------------------------------------------------------------------

_COMBINE: dict[str, Callable[..., Any]] = {
    "none": lambda _, new: new,
    "add": plus,
    "mul": times,
    "max": lambda old, new: tirx.max(old, new),
    "min": lambda old, new: tirx.min(old, new),
}


def _copied(x: Any, y: Any, shape: Sequence[int]) -> Any:
    return nest(shape, lambda i: store(y, i, load(x, i)), "c")


def _updated(ctx: Context, y: Any, place: list[Any], value: Any) -> Any:
    kind = ctx.attr("reduction", "none")
    if kind != "none" and ctx.output_type().dtype == "bool":
        raise NotSupported(f"{ctx.node.op} of bool with the reduction {kind!r}")
    return store(y, place, _COMBINE[kind](load(y, place), value))


@compute("ScatterElements", "Scatter")
def scatter_elements(ctx: Context, x: Any, indices: Any, updates: Any) -> list[Any]:
    """A copy of x in which ``y[..., indices[i], ...]`` along the axis is combined with ``updates[i]``."""
    t, places = ctx.output_type(), ctx.input_type(1).shape
    axis = ctx.attr("axis", 0) % len(t.shape)

    def body(ins: Sequence[Any], outs: Sequence[Any]) -> Any:
        source, where, values = ins
        (y,) = outs

        def one(i: list[Any]) -> Any:
            place = [*i[:axis], wrapped(load(where, i), t.shape[axis]), *i[axis + 1 :]]
            return _updated(ctx, y, place, load(values, i))

        return block(_copied(source, y, t.shape), nest(places, one))

    return sequential([x, indices, updates], [(t.shape, t.dtype)], body)


@compute("ScatterND")
def scatter_nd(ctx: Context, x: Any, indices: Any, updates: Any) -> list[Any]:
    """A copy of x in which the slices at the places in `indices` are combined with those of `updates`."""
    t = ctx.output_type()
    *lead, depth = ctx.input_type(1).shape

    def body(ins: Sequence[Any], outs: Sequence[Any]) -> Any:
        source, where, values = ins
        (y,) = outs

        def one(i: list[Any]) -> Any:
            first, rest = i[: len(lead)], i[len(lead) :]
            place = [wrapped(load(where, [*first, tirx.const(d, "int32")]), t.shape[d]) for d in range(depth)]
            return _updated(ctx, y, [*place, *rest], load(values, i))

        return block(_copied(source, y, t.shape), nest([*lead, *t.shape[depth:]], one))

    return sequential([x, indices, updates], [(t.shape, t.dtype)], body)


@compute("MaxUnpool", constant_inputs=(2,))
def max_unpool(ctx: Context, x: Any, indices: Any) -> list[Any]:
    """Zeros, but for each value of x at the place that MaxPool found it, a flat index.

    The indices refer to the tensor without pads, which `output_shape` may enlarge.
    """
    t, shape = ctx.output_type(), ctx.input_type(0).shape
    rank = len(shape) - 2
    kernel, strides = ctx.attr("kernel_shape"), ctx.attr("strides") or [1] * rank
    pads = ctx.attr("pads") or [0] * (2 * rank)
    natural = [
        *shape[:2],
        *((n - 1) * s - a - c + k for n, s, a, c, k in zip(
            shape[2:], strides, pads[:rank], pads[rank:], kernel, strict=True)),
    ]  # fmt: skip

    def body(ins: Sequence[Any], outs: Sequence[Any]) -> Any:
        values, where = ins
        (y,) = outs

        def one(i: list[Any]) -> Any:
            flat = tirx.min(
                tirx.max(load(where, i), tirx.const(0, "int64")), tirx.const(math.prod(natural) - 1, "int64")
            ).astype("int32")
            place: list[Any] = []
            for n in reversed(natural):
                place.append(tirx.floormod(flat, n))
                flat = tirx.floordiv(flat, n)
            return store(y, place[::-1], load(values, i))

        clear = nest(t.shape, lambda i: store(y, i, tirx.const(0, t.dtype)), "c")
        return block(clear, nest(shape, one))

    return sequential([x, indices], [(t.shape, t.dtype)], body)


# --- running sums and selection ---------------------------------------------------------------------------------------


@rewrite("CumSum", "CumProd")
def cumulative_rewrite(ctx: Context, b: Builder) -> None:
    """Along a constant axis; where only a run knows it, along each of them, and one is selected."""
    x, t, out = ctx.node.inputs[0], ctx.output_type(), ctx.node.outputs[0]
    attrs: dict[str, Any] = {"reverse": ctx.attr("reverse", 0), "exclusive": ctx.attr("exclusive", 0)}
    name, rank = f"Running{ctx.node.op[3:]}", len(t.shape)
    if ctx.maybe_constant(1) is not None:
        b.add_internal(name, [x], t.shape, out, axis=ctx.ints(1, "axis")[0] % rank, **attrs)
        return
    axis_type = ctx.input_type(1)
    axis = b.add("Reshape", [ctx.node.inputs[1], b.constant(np.array([], np.int64))], (), axis_type.dtype)
    found = b.add_internal(name, [x], t.shape, axis=0, **attrs)
    for d in range(1, rank):
        other = b.add_internal(name, [x], t.shape, axis=d, **attrs)
        hits = [b.add("Equal", [axis, b.constant(np.asarray(k, axis_type.dtype))], (), "bool") for k in (d, d - rank)]
        found = b.add("Where", [b.add("Or", hits, ()), other, found], t.shape, t.dtype)
    b.add("Identity", [found], t.shape, output=out)


@compute("RunningSum", "RunningProd", domain="dlpack")
def cumulative(ctx: Context, x: Any) -> list[Any]:
    """Running sums or products along an axis, optionally from the end, or without the element itself."""
    t = ctx.output_type()
    axis = ctx.attr("axis")
    n = t.shape[axis]
    turned, exclusive = bool(ctx.attr("reverse", 0)), bool(ctx.attr("exclusive", 0))
    combine: Callable[..., Any] = _COMBINE["add" if ctx.node.op == "RunningSum" else "mul"]
    start = tirx.const(0 if ctx.node.op == "RunningSum" else 1, t.dtype)

    def body(ins: Sequence[Any], outs: Sequence[Any]) -> Any:
        (source,), (y,) = ins, outs

        def place(i: list[Any], k: Any) -> list[Any]:
            return [*i[:axis], n - 1 - k if turned else k, *i[axis:]]

        def first(i: list[Any]) -> Any:
            at = place(i, tirx.const(0, "int32"))
            return store(y, at, start if exclusive else load(source, at))

        def step(k: Any) -> Any:
            def one(i: list[Any]) -> Any:
                term = load(source, place(i, k if exclusive else k + 1))
                return store(y, place(i, k + 1), combine(load(y, place(i, k)), term))

            return nest(rest, one)

        rest = [*t.shape[:axis], *t.shape[axis + 1 :]]
        return block(nest(rest, first, "f"), *([loop("k", n - 1, step)] if n > 1 else []))

    return sequential([x], [(t.shape, t.dtype)], body)


@compute("TopK", constant_inputs=(1,))
def top_k(ctx: Context, x: Any) -> list[Any]:
    """The k largest (smallest) along an axis and their places, in order; of equal ones the first.

    The chosen so far stay sorted in the output; an element that beats the last of them is moved up to its place.
    """
    shape, t = ctx.input_type(0).shape, ctx.output_type()
    axis = ctx.attr("axis", -1) % len(shape)
    n, k = shape[axis], t.shape[axis]
    larger = bool(ctx.attr("largest", 1))

    def better(a: Any, b: Any) -> Any:
        return a > b if larger else a < b

    def body(ins: Sequence[Any], outs: Sequence[Any]) -> Any:
        (source,), (values, places) = ins, outs
        value, hole = Local("value", t.dtype), Local("hole", "int32")

        def row(i: list[Any]) -> Any:
            def at(p: Any) -> list[Any]:
                return [*i[:axis], p, *i[axis:]]

            def step(j: Any) -> Any:
                up = hole[0] - 1
                move = tirx.While(
                    tirx.And(hole[0] > 0, better(value[0], load(values, at(tirx.max(up, 0))))),
                    block(
                        store(values, at(hole[0]), load(values, at(up))),
                        store(places, at(hole[0]), load(places, at(up))),
                        hole.set(up),
                    ),
                )
                insert = block(
                    hole.set(tirx.min(j, k - 1)),
                    move,
                    store(values, at(hole[0]), value[0]),
                    store(places, at(hole[0]), j.astype("int64")),
                )
                last = load(values, at(tirx.const(k - 1, "int32")))
                return block(value.set(load(source, at(j))), when(tirx.Or(j < k, better(value[0], last)), insert))

            return loop("j", n, step)

        return block(value.declare, hole.declare, nest([*shape[:axis], *shape[axis + 1 :]], row))

    return sequential([x], [(t.shape, t.dtype), (t.shape, "int64")], body)


# --- made from indices ------------------------------------------------------------------------------------------------


@compute("OneHot", constant_inputs=(1,))
def one_hot(ctx: Context, indices: Any, values: Any) -> list[Any]:
    """values[1] where the index along the new axis is the given one, else values[0]."""
    shape = ctx.output_type().shape
    axis = ctx.attr("axis", -1) % len(shape)
    n = shape[axis]

    def at(*i: Any) -> Any:
        k = convert(indices(*i[:axis], *i[axis + 1 :]), "int64")
        hit = tirx.EQ(tirx.Select(k < 0, k + n, k), i[axis].astype("int64"))
        return tirx.Select(hit, values(1), values(0))

    return [te.compute(shape, at, name="out")]


@compute("Trilu", constant_inputs=(1,))
def trilu(ctx: Context, x: Any) -> list[Any]:
    """The triangle above (`upper`) or below the k-th diagonal; zero elsewhere."""
    k = ctx.ints(1, "k")[0] if ctx.has_input(1) else 0
    shape = ctx.output_type().shape
    k = max(-shape[-2] - 1, min(k, shape[-1] + 1))
    upper = ctx.attr("upper", 1)

    def at(*i: Any) -> Any:
        row, column = i[-2], i[-1]
        keep = column - row >= k if upper else column - row <= k
        e = x(*i)
        return tirx.Select(keep, e, const(0, dtype_of(e)))

    return [te.compute(shape, at, name="out")]


def emit_constant(ctx: Context, b: Builder, value: np.ndarray[Any, Any]) -> None:
    """The node's output is known now."""
    b.add("Identity", [b.constant(value, "value")], value.shape, output=ctx.node.outputs[0])


@rewrite("EyeLike")
def eye_like(ctx: Context, b: Builder) -> None:
    t = ctx.output_type()
    emit_constant(ctx, b, np.eye(t.shape[0], t.shape[1], k=ctx.attr("k", 0)).astype(t.dtype))


@rewrite("Shape")
def shape_of(ctx: Context, b: Builder) -> None:
    shape = ctx.input_type(0).shape[ctx.attr("start", 0) : ctx.attr("end")]
    emit_constant(ctx, b, np.array(shape, np.int64))


@rewrite("Size")
def size_of(ctx: Context, b: Builder) -> None:
    emit_constant(ctx, b, np.array(ctx.input_type(0).size, np.int64))


@rewrite("ConstantOfShape")
def constant_of_shape(ctx: Context, b: Builder) -> None:
    t, value = ctx.output_type(), ctx.attr("value")
    emit_constant(ctx, b, np.full(t.shape, 0 if value is None else value.reshape(-1)[0], t.dtype))


@rewrite("Range")
def range_(ctx: Context, b: Builder) -> None:
    """start + k delta, rounded as if computed one by one."""
    start, delta = (ctx.constant(k, what).reshape(-1)[0] for k, what in ((0, "start"), (2, "delta")))
    t = ctx.output_type()
    wide = np.float64 if t.dtype.startswith("float") else np.int64
    emit_constant(ctx, b, (start.astype(wide) + np.arange(t.size).astype(wide) * delta.astype(wide)).astype(t.dtype))
