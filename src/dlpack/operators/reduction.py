"""Reductions: ReduceSum, ReduceMean, ReduceMax, ReduceMin, ReduceProd and those built on them; Softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dlpack.operators.elementwise import call
from dlpack.operators.registry import Builder, Context, anchor, rewrite
from dlpack.tir import te


def reduced_axes(ctx: Context) -> list[int]:
    """The axes to reduce: the attribute (old opsets) or input 1; none means all, unless noop_with_empty_axes."""
    rank = len(ctx.input_type(0).shape)
    axes = ctx.attr("axes")
    if axes is None and ctx.has_input(1):
        axes = ctx.ints(1, "axes")
    if not axes:
        return [] if ctx.attr("noop_with_empty_axes", 0) else list(range(rank))
    return sorted({a % rank for a in axes})


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


def _reduce(combine: Callable[..., Any]) -> Callable[[Context, Any], list[Any]]:
    def function(ctx: Context, x: Any) -> list[Any]:
        return [reduce_tensor(x, list(ctx.attr("axes")), bool(ctx.attr("keepdims")), combine)]

    return function


for _name, _combine in (("Sum", te.sum), ("Max", te.max), ("Min", te.min)):
    anchor(f"Reduce{_name}", domain="dlpack", layout="rows")(_reduce(_combine))


def emit_reduce(ctx: Context, b: Builder, op: str, x: str, output: str | None) -> str:
    """An internal reduction ("Sum", "Max", "Min", "Prod") over the node's axes."""
    axes = reduced_axes(ctx)
    keepdims = bool(ctx.attr("keepdims", 1))
    t = b.type_of(x)
    shape = [1 if d in axes else n for d, n in enumerate(t.shape) if keepdims or d not in axes]
    if not axes:
        return b.add("Identity", [x], t.shape, output=output)
    return b.add_internal(f"Reduce{op}", [x], shape, output, axes=tuple(axes), keepdims=int(keepdims))


@rewrite("ReduceSum")
def reduce_sum(ctx: Context, b: Builder) -> None:
    emit_reduce(ctx, b, "Sum", ctx.node.inputs[0], ctx.node.outputs[0])


@rewrite("ReduceMean")
def reduce_mean(ctx: Context, b: Builder) -> None:
    t = ctx.output_type()
    total = emit_reduce(ctx, b, "Sum", ctx.node.inputs[0], None)
    count = int(np.prod([ctx.input_type(0).shape[a] for a in reduced_axes(ctx)])) or 1
    if t.dtype.startswith("float"):
        b.add("Mul", [total, b.constant(np.asarray(1.0 / count, t.dtype))], t.shape, output=ctx.node.outputs[0])
    else:
        b.add("Div", [total, b.constant(np.asarray(count, t.dtype))], t.shape, output=ctx.node.outputs[0])


@anchor("Softmax", layout="rows")
def softmax(ctx: Context, x: Any) -> list[Any]:
    """exp(x - max) / sum along the axis; up to opset 12 along all dimensions from the axis on."""
    return [te.compute(x.shape, softmax_stages(ctx, x)[0], name="out")]


def softmax_stages(ctx: Context, x: Any) -> tuple[Any, Any, Any]:
    rank = len(x.shape)
    if ctx.node.opset < 13:
        axes = list(range(ctx.attr("axis", 1) % rank, rank))
    else:
        axes = [ctx.attr("axis", -1) % rank]
    dtype = ctx.output_type().dtype
    top = reduce_tensor(x, axes, True, te.max, "top")

    def one(i: tuple[Any, ...]) -> list[Any]:
        return [0 if d in axes else v for d, v in enumerate(i)]

    powers = te.compute(x.shape, lambda *i: call("exp_", dtype, x(*i) - top(*one(i))), name="power")
    total = reduce_tensor(powers, axes, True, te.sum, "total")
    return (lambda *i: powers(*i) / total(*one(i))), top, total
