"""Reductions along axes: ReduceSum and similar, ArgMax and ArgMin, Softmax, LogSoftmax, Hardmax."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dlpack.graph.registry import Builder, Context, NotSupported, anchor, rewrite
from dlpack.loops.tir import te, tirx
from dlpack.operators.elementwise import call, const, dtype_of, is_float, is_nan, magnitude, sum_over, times


def reduced_axes(ctx: Context) -> list[int]:
    """The axes to reduce: the attribute (old opsets) or input 1; none means all, unless noop_with_empty_axes."""
    rank = len(ctx.input_type(0).shape)
    axes = ctx.attr("axes")
    if axes is None and ctx.has_input(1):
        axes = ctx.ints(1, "axes")
    if not axes:
        return [] if ctx.attr("noop_with_empty_axes", 0) else list(range(rank))
    return sorted({a % rank for a in axes})


def _product(e: Any, axis: Any) -> Any:
    reducer = te.comm_reducer(times, lambda t: tirx.const(1, t), name="prod")
    return reducer(e, axis=axis)


def _extreme_reducer(combine: Callable[[Any, Any], Any], side: int) -> Callable[..., Any]:
    """A maximum or minimum that begins at an infinity; TVM's begins at the largest finite number."""
    reducer = te.comm_reducer(combine, lambda t: tirx.const(_extreme(str(t), side), t))
    return lambda e, axis: reducer(e, axis=axis)


greatest = _extreme_reducer(lambda a, b: tirx.max(a, b), -1)
"""The maximum over `axis`, minus infinity where there is nothing else."""


def reduce_tensor(x: Any, axes: list[int], keepdims: bool, combine: Callable[..., Any], name: str = "acc") -> Any:
    shape = [int(d) for d in x.shape]
    iters = {d: te.reduce_axis((0, shape[d]), name=f"r{d}") for d in axes}
    out = [1 if d in iters else n for d, n in enumerate(shape) if keepdims or d not in iters]

    def at(*i: Any) -> Any:
        rest = list(i)
        place = []
        for d in range(len(shape)):
            if d in iters:
                place.append(iters[d])
                if keepdims:
                    rest.pop(0)
            else:
                place.append(rest.pop(0))
        return combine(x(*place), axis=list(iters.values()))

    return te.compute(tuple(out), at, name=name)


_TERMS: dict[str, Callable[[Any], Any]] = {
    "": lambda v: v,
    "abs": magnitude,
    "square": lambda v: times(v, v),
}


def _reduce(combine: Callable[..., Any]) -> Callable[[Context, Any], list[Any]]:
    def function(ctx: Context, x: Any) -> list[Any]:
        """``combine`` of the terms ``of(x)``."""
        term = _TERMS[ctx.attr("of", "")]

        def of(e: Any, axis: Any) -> Any:
            return combine(term(e), axis=axis)

        return [reduce_tensor(x, list(ctx.attr("axes")), bool(ctx.attr("keepdims")), of)]

    return function


_COMBINE = {
    "Sum": sum_over,
    "Max": greatest,
    "Min": _extreme_reducer(lambda a, b: tirx.min(a, b), 1),
    "Prod": _product,
}
for _name, _combine in _COMBINE.items():
    anchor(f"Reduce{_name}", domain="dlpack", layout="rows")(_reduce(_combine))

# What a reduction of nothing gives.
_OF_NOTHING: dict[str, Callable[[str], float | int]] = {
    "Sum": lambda _: 0,
    "Prod": lambda _: 1,
    "Max": lambda t: _extreme(t, -1),
    "Min": lambda t: _extreme(t, 1),
}


def _extreme(dtype: str, side: int) -> float | int:
    if dtype == "bool":
        return int(side > 0)
    if dtype.startswith("float"):
        return side * math.inf
    info = np.iinfo(dtype)
    return info.max if side > 0 else info.min


def emit_reduce(ctx: Context, b: Builder, op: str, x: str, output: str | None, of: str = "") -> str:
    """An internal reduction ("Sum", "Max", "Min", "Prod") over the node's axes, of the values, squares, magnitudes."""
    axes = reduced_axes(ctx)
    keepdims = ctx.attr("keepdims", 1) == 1
    t = b.type_of(x)
    shape = [1 if d in axes else n for d, n in enumerate(t.shape) if keepdims or d not in axes]
    if not axes:
        if of == "square":
            return b.add("Mul", [x, x], t.shape, output=output)
        return b.add("Abs" if of else "Identity", [x], t.shape, output=output)
    if t.size == 0:
        value = b.constant(np.full(shape, _OF_NOTHING[op](t.dtype), t.dtype), "nothing")
        return b.add("Identity", [value], shape, output=output)
    attrs: dict[str, Any] = {"axes": tuple(axes), "keepdims": int(keepdims), "of": of}
    if t.dtype != "bool":
        return b.add_internal(f"Reduce{op}", [x], shape, output, **attrs)
    wide = b.add("Cast", [x], t.shape, "uint8")
    return b.add("Cast", [b.add_internal(f"Reduce{op}", [wide], shape, **attrs)], shape, "bool", output)


def _plain(op: str) -> None:
    @rewrite(f"Reduce{op}")
    def function(ctx: Context, b: Builder) -> None:
        emit_reduce(ctx, b, op, ctx.node.inputs[0], ctx.node.outputs[0])


for _name in ("Sum", "Max", "Min", "Prod"):
    _plain(_name)


@rewrite("ReduceL1")
def reduce_l1(ctx: Context, b: Builder) -> None:
    emit_reduce(ctx, b, "Sum", ctx.node.inputs[0], ctx.node.outputs[0], "abs")


@rewrite("ReduceSumSquare")
def reduce_sum_square(ctx: Context, b: Builder) -> None:
    emit_reduce(ctx, b, "Sum", ctx.node.inputs[0], ctx.node.outputs[0], "square")


@rewrite("ReduceL2")
def reduce_l2(ctx: Context, b: Builder) -> None:
    squares = emit_reduce(ctx, b, "Sum", ctx.node.inputs[0], None, "square")
    _float_function(ctx, b, "Sqrt", squares)


@rewrite("ReduceLogSum")
def reduce_log_sum(ctx: Context, b: Builder) -> None:
    _float_function(ctx, b, "Log", emit_reduce(ctx, b, "Sum", ctx.node.inputs[0], None))


def _float_function(ctx: Context, b: Builder, op: str, x: str) -> None:
    """The node's output as a function of `x`, by way of double where that is an integer."""
    t = ctx.output_type()
    if t.dtype.startswith("float"):
        b.add(op, [x], t.shape, output=ctx.node.outputs[0])
    else:
        wide = b.add(op, [b.add("Cast", [x], t.shape, "float64")], t.shape)
        b.add("Cast", [wide], t.shape, t.dtype, ctx.node.outputs[0])


@rewrite("ReduceLogSumExp")
def reduce_log_sum_exp(ctx: Context, b: Builder) -> None:
    """log(sum(e^(x - max))) + max."""
    t, x = ctx.output_type(), ctx.node.inputs[0]
    axes = reduced_axes(ctx)
    if not t.dtype.startswith("float"):
        raise NotSupported("ReduceLogSumExp of integers")
    if not axes:
        b.add("Identity", [x], t.shape, output=ctx.node.outputs[0])
    elif ctx.input_type(0).size == 0:
        b.add("Identity", [b.constant(np.full(t.shape, -np.inf, t.dtype))], t.shape, output=ctx.node.outputs[0])
    else:
        attrs: dict[str, Any] = {"axes": tuple(axes), "keepdims": int(ctx.attr("keepdims", 1) == 1)}
        b.add_internal("LogSumExp", [x], t.shape, ctx.node.outputs[0], **attrs)


@anchor("LogSumExp", domain="dlpack", layout="rows")
def log_sum_exp(ctx: Context, x: Any) -> list[Any]:
    axes, keepdims, dtype = list(ctx.attr("axes")), bool(ctx.attr("keepdims")), dtype_of(x(*[0] * len(x.shape)))
    top = reduce_tensor(x, axes, True, te.max, "top")
    largest = const(float(np.finfo(dtype).max), dtype)

    def finite(*i: Any) -> Any:
        """The maximum: infinity less itself would be NaN."""
        return tirx.min(top(*i), largest)

    powers = te.compute(x.shape, lambda *i: call("exp_", dtype, x(*i) - finite(*_kept(i, axes))), name="power")
    total = reduce_tensor(powers, axes, True, te.sum, "total")
    rank = len(x.shape)

    def at(*i: Any) -> Any:
        rest = list(i)
        place = i if keepdims else tuple(0 if d in axes else rest.pop(0) for d in range(rank))
        return call("log_", dtype, total(*place)) + finite(*place)

    return [te.compute(ctx.output_type().shape, at, name="out")]


def _kept(i: tuple[Any, ...], axes: list[int]) -> list[Any]:
    """The place of a reduction that keeps its dimensions."""
    return [0 if d in axes else v for d, v in enumerate(i)]


_NARROW = ("int8", "uint8", "int16", "uint16", "int32", "uint32")


@rewrite("ReduceMean")
def reduce_mean(ctx: Context, b: Builder) -> None:
    t, x = ctx.output_type(), ctx.node.inputs[0]
    if t.dtype in _NARROW:  # the mean fits where the sum does not
        x = b.add("Cast", [x], ctx.input_type(0).shape, "int64")
    total = emit_reduce(ctx, b, "Sum", x, None)
    count = math.prod(ctx.input_type(0).shape[a] for a in reduced_axes(ctx))
    if t.dtype.startswith("float"):
        factor = np.asarray(1.0 / count if count else math.nan, t.dtype)
        b.add("Mul", [total, b.constant(factor)], t.shape, output=ctx.node.outputs[0])
        return
    wide = b.type_of(x).dtype
    mean = b.add("Div", [total, b.constant(np.asarray(max(1, count), wide))], t.shape)
    b.add("Cast", [mean], t.shape, t.dtype, ctx.node.outputs[0])


# --- where the extreme is ---------------------------------------------------------------------------------------------


@anchor("ArgMax", "ArgMin", layout="rows")
def arg_extreme(ctx: Context, x: Any) -> list[Any]:
    """The place of the extreme along an axis: the first one of those that equal it, or the last. NaN is the extreme."""
    rank = len(x.shape)
    axis = ctx.attr("axis", 0) % rank
    n = int(x.shape[axis])
    last, keepdims = bool(ctx.attr("select_last_index", 0)), ctx.attr("keepdims", 1) == 1
    largest = ctx.node.op == "ArgMax"
    top = reduce_tensor(x, [axis], True, te.max if largest else te.min, "top")
    k = te.reduce_axis((0, n), name="k")

    def at(*i: Any) -> Any:
        place = list(i) if keepdims else [*i[:axis], 0, *i[axis:]]
        one = [*place[:axis], 0, *place[axis + 1 :]]
        value = x(*place[:axis], k, *place[axis + 1 :])
        here = tirx.EQ(value, top(*one))
        if is_float(dtype := dtype_of(value)):  # the reduction begins with the least finite number, or the largest one
            bound = const(float(np.finfo(dtype).min if largest else np.finfo(dtype).max), dtype)
            held = (tirx.max if largest else tirx.min)(value, bound)
            here = tirx.Or(tirx.EQ(held, top(*one)), is_nan(ctx, value))
        missed = tirx.const(-1 if last else n, "int32")
        return (te.max if last else te.min)(tirx.Select(here, k, missed), axis=k)

    shape = ctx.output_type().shape
    place = te.compute(shape, at, name="place")
    low = tirx.const(0, "int32")
    high = tirx.const(n - 1, "int32")
    return [te.compute(shape, lambda *i: tirx.max(tirx.min(place(*i), high), low).astype("int64"), name="out")]


# --- softmax ----------------------------------------------------------------------------------------------------------


def _softmax_axes(ctx: Context) -> list[int]:
    """The axis; up to opset 12 all dimensions from the axis on."""
    rank = len(ctx.input_type(0).shape)
    if ctx.node.opset < 13:
        return list(range(ctx.attr("axis", 1) % rank, rank))
    return [ctx.attr("axis", -1) % rank]


@anchor("Softmax", layout="rows")
def softmax(ctx: Context, x: Any) -> list[Any]:
    """exp(x - max) / sum along the axis."""
    axes, dtype = _softmax_axes(ctx), ctx.output_type().dtype
    powers, total, _ = _softmax_stages(ctx, x, axes)

    def at(*i: Any) -> Any:
        """The inverse of a row's sum is computed once: a vector's division takes as long as ten products."""
        return powers(*i) * (const(1, dtype) / total(*_kept(i, axes)))

    return [te.compute(x.shape, at, name="out")]


def _softmax_stages(ctx: Context, x: Any, axes: list[int]) -> tuple[Any, Any, Any]:
    """exp(x - max), its sum, and the maximum."""
    dtype = ctx.output_type().dtype
    top = reduce_tensor(x, axes, True, te.max, "top")
    powers = te.compute(x.shape, lambda *i: call("exp_", dtype, x(*i) - top(*_kept(i, axes))), name="power")
    return powers, reduce_tensor(powers, axes, True, te.sum, "total"), top


@anchor("LogSoftmax", layout="rows")
def log_softmax(ctx: Context, x: Any) -> list[Any]:
    """x - max - log(sum(exp(x - max)))."""
    axes, dtype = _softmax_axes(ctx), ctx.output_type().dtype
    _, total, top = _softmax_stages(ctx, x, axes)
    shift = te.compute(top.shape, lambda *i: top(*i) + call("log_", dtype, total(*i)), name="shift")
    return [te.compute(x.shape, lambda *i: x(*i) - shift(*_kept(i, axes)), name="out")]


@rewrite("Hardmax")
def hardmax(ctx: Context, b: Builder) -> None:
    """1 at the first maximum along the axis, else 0."""
    t, axes = ctx.output_type(), _softmax_axes(ctx)
    x, output = ctx.node.inputs[0], ctx.node.outputs[0]
    if len(axes) == 1:
        _hardmax(b, x, t.shape, axes[0], output)
        return
    flat = (math.prod(t.shape[: axes[0]]), math.prod(t.shape[axes[0] :]))
    rows = b.add("Reshape", [x, b.constant(np.array(flat, np.int64))], flat)
    hard = _hardmax(b, rows, flat, 1, None)
    b.add("Reshape", [hard, b.constant(np.array(t.shape, np.int64))], t.shape, output=output)


def _hardmax(b: Builder, x: str, shape: tuple[int, ...], axis: int, output: str | None) -> str:
    kept = [1 if d == axis else n for d, n in enumerate(shape)]
    place = b.add("ArgMax", [x], kept, "int64", axis=axis, keepdims=1)
    steps = np.arange(shape[axis], dtype=np.int64).reshape([-1 if d == axis else 1 for d in range(len(shape))])
    hit = b.add("Equal", [place, b.constant(steps, "steps")], shape, "bool")
    return b.add("Cast", [hit], shape, b.type_of(x).dtype, output)
