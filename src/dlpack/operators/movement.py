"""Data movement: views where strides allow it, copies where they do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dlpack.graph.registry import Builder, Context, NotSupported, compute, rewrite, slice_of, view
from dlpack.loops.layout import Layout
from dlpack.loops.layout import reshape as reshape_layout
from dlpack.loops.tir import te, tirx


def flat_index(index: Sequence[Any], shape: Sequence[int]) -> Any:
    out: Any = 0
    for i, n in zip(index, shape, strict=True):
        out = out * n + i
    return out


def unflatten(flat: Any, shape: Sequence[int]) -> list[Any]:
    out: list[Any] = []
    for n in reversed(shape):
        out.append(tirx.floormod(flat, n) if n != 1 else 0)
        flat = tirx.floordiv(flat, n) if n != 1 else flat
    return out[::-1]


@view("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
def reshape_view(ctx: Context, x: Layout) -> list[Layout | None]:
    return [reshape_layout(ctx.input_type(0).shape, x, ctx.output_type().shape)]


@compute("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", constant_inputs=(1,))
def reshape(ctx: Context, x: Any) -> list[Any]:
    old, new = ctx.input_type(0).shape, ctx.output_type().shape
    if old == new:
        return [te.compute(new, lambda *i: x(*i), name="out")]
    return [te.compute(new, lambda *i: x(*unflatten(flat_index(i, new), old)), name="out")]


def _perm(ctx: Context) -> list[int]:
    return list(ctx.attr("perm") or reversed(range(len(ctx.input_type(0).shape))))


@view("Transpose")
def transpose_view(ctx: Context, x: Layout) -> list[Layout | None]:
    return [Layout(tuple(x.strides[p] for p in _perm(ctx)), x.offset)]


@compute("Transpose")
def transpose(ctx: Context, x: Any) -> list[Any]:
    perm = _perm(ctx)
    place = [perm.index(d) for d in range(len(perm))]
    return [te.compute(ctx.output_type().shape, lambda *i: x(*(i[p] for p in place)), name="out")]


@compute("Concat", layout="same")
def concat(ctx: Context, *xs: Any) -> list[Any]:
    raise AssertionError("concat is settled when values are placed")


@compute("Interleave", domain="dlpack", layout="same")
def interleave(ctx: Context, *xs: Any) -> list[Any]:
    """Input i lies at ``starts[i]``, ``starts[i] + steps``, ... of the spatial dimensions."""
    raise AssertionError("what is interleaved is settled when values are placed")


@compute("Pad", domain="dlpack", layout="same")
def pad(ctx: Context, x: Any) -> list[Any]:
    """A constant pad that could not become a halo."""
    return _padded(ctx, x, lambda: tirx.const(ctx.attr("fill"), ctx.output_type().dtype))


@compute("PadWith", domain="dlpack", layout="same")
def pad_with(ctx: Context, x: Any, fill: Any) -> list[Any]:
    """A constant pad whose value only a run knows."""
    return _padded(ctx, x, lambda: fill(0))


def _padded(ctx: Context, x: Any, fill: Callable[[], Any]) -> list[Any]:
    low = ctx.attr("low")
    shape = ctx.input_type(0).shape

    def at(*i: Any) -> Any:
        inside = [c for d, n in enumerate(shape) if ctx.attr("low")[d] or ctx.attr("high")[d]
                  for c in (i[d] >= low[d], i[d] < n + low[d])]  # fmt: skip
        place = [v - p for v, p in zip(i, low, strict=True)]
        return tirx.if_then_else(tirx.all(*inside), x(*place), fill()) if inside else x(*place)

    return [te.compute(ctx.output_type().shape, at, name="out")]


def slice_parameters(ctx: Context) -> tuple[list[int], list[int]]:
    """Start and step for every dimension (ONNX Slice, both the attribute and the input form).

    Ours are of the input form, in a model of any opset.
    """
    shape = ctx.input_type(0).shape
    starts, _, axes, steps = slice_of(ctx)
    first, step = [0] * len(shape), [1] * len(shape)
    for start, axis, k in zip(starts, axes, steps, strict=True):
        n = shape[axis]
        start = start + n if start < 0 else start
        first[axis] = min(max(start, 0), n if k > 0 else n - 1)
        step[axis] = k
    return first, step


@view("Slice")
def slice_view(ctx: Context, x: Layout) -> list[Layout | None]:
    return [x.at(*slice_parameters(ctx))]


@compute("Slice", constant_inputs=(1, 2, 3, 4), layout="same")
def slice_(ctx: Context, x: Any) -> list[Any]:
    first, step = slice_parameters(ctx)
    return [
        te.compute(
            ctx.output_type().shape,
            lambda *i: x(*(v * k + f for v, k, f in zip(i, step, first, strict=True))),
            name="out",
        )
    ]


@view("Split")
def split_view(ctx: Context, x: Layout) -> list[Layout | None]:
    axis = ctx.attr("axis", 0) % len(ctx.input_type(0).shape)
    out: list[Layout | None] = []
    start = 0
    for k in range(len(ctx.node.outputs)):
        index = [0] * len(x.strides)
        index[axis] = start
        out.append(x.at(index))
        start += ctx.output_type(k).shape[axis]
    return out


@compute("Split", constant_inputs=(1,), layout="same")
def split(ctx: Context, x: Any) -> list[Any]:
    raise AssertionError("split is a view")


@view("Expand")
def expand_view(ctx: Context, x: Layout) -> list[Layout | None]:
    from dlpack.loops.layout import expand

    return [expand(x, ctx.input_type(0).shape, ctx.output_type().shape)]


@compute("Expand", constant_inputs=(1,))
def expand_(ctx: Context, x: Any) -> list[Any]:
    raise AssertionError("expand is a view")


@compute("Tile", constant_inputs=(1,))
def tile(ctx: Context, x: Any) -> list[Any]:
    old, new = ctx.input_type(0).shape, ctx.output_type().shape

    def at(*i: Any) -> Any:
        return x(*(v if n == m else tirx.floormod(v, n) for v, n, m in zip(i, old, new, strict=True)))

    return [te.compute(new, at, name="out")]


def _through(ctx: Context, b: Builder, split: Sequence[int], perm: Sequence[int]) -> None:
    """Reshape, transpose, reshape."""
    t = ctx.output_type()
    x = b.add("Reshape", [ctx.node.inputs[0], b.constant(np.array(split, np.int64), "shape")], split)
    x = b.add("Transpose", [x], [split[p] for p in perm], perm=list(perm))
    b.add("Reshape", [x, b.constant(np.array(t.shape, np.int64), "shape")], t.shape, output=ctx.node.outputs[0])


@rewrite("DepthToSpace")
def depth_to_space(ctx: Context, b: Builder) -> None:
    n, c, h, w = ctx.input_type(0).shape
    k = ctx.attr("blocksize")
    if ctx.attr("mode", "DCR") == "CRD":
        _through(ctx, b, [n, c // (k * k), k, k, h, w], [0, 1, 4, 2, 5, 3])
    else:
        _through(ctx, b, [n, k, k, c // (k * k), h, w], [0, 3, 4, 1, 5, 2])


@rewrite("SpaceToDepth")
def space_to_depth(ctx: Context, b: Builder) -> None:
    n, c, h, w = ctx.input_type(0).shape
    k = ctx.attr("blocksize")
    crd = ctx.attr("mode", "DCR") == "CRD"
    _through(ctx, b, [n, c, h // k, k, w // k, k], [0, 1, 3, 5, 2, 4] if crd else [0, 3, 5, 1, 2, 4])


@rewrite("Dropout")
def dropout(ctx: Context, b: Builder) -> None:
    """Inference: the input itself, and a mask of ones."""
    t = ctx.output_type()
    if ctx.node.opset >= 12 and ctx.has_input(2) and ctx.constant(2, "training_mode").any():
        ratio = ctx.constant(1, "ratio") if ctx.has_input(1) else np.array(0.5)
        if ratio.reshape(-1)[0] != 0:
            raise NotSupported("Dropout in training mode in the body of a branch or loop")
    b.add("Identity", [ctx.node.inputs[0]], t.shape, output=ctx.node.outputs[0])
    if len(ctx.node.outputs) > 1 and ctx.node.outputs[1]:
        mask = np.ones(t.shape, ctx.output_type(1).dtype)
        b.add("Identity", [b.constant(mask, "mask")], t.shape, output=ctx.node.outputs[1])


@rewrite("Pad")
def pad_rewrite(ctx: Context, b: Builder) -> None:
    """Pad → the internal constant pad, or an indexed copy for the reflecting modes; negative pads cut."""
    x = ctx.node.inputs[0]
    shape = list(ctx.input_type(0).shape)
    rank = len(shape)
    pads = ctx.attr("pads") if ctx.node.opset < 11 else ctx.ints(1, "pads")
    fill: Any = ctx.attr("value", 0.0)
    filled = ctx.node.opset >= 11 and ctx.has_input(2)
    if filled and (known := ctx.maybe_constant(2)) is not None:
        fill, filled = known.reshape(-1)[0].item(), False
    if ctx.has_input(3):
        axes = [a % rank for a in ctx.ints(3, "axes")]
        full = [0] * (2 * rank)
        for k, a in enumerate(axes):
            full[a], full[rank + a] = pads[k], pads[len(axes) + k]
        pads = full
    mode = ctx.attr("mode", "constant")
    mode = mode.decode() if isinstance(mode, bytes) else mode
    low, high = list(pads[:rank]), list(pads[rank:])
    if min(low + high, default=0) < 0:
        first = [max(0, -p) for p in low]
        ends = [n - max(0, -q) for n, q in zip(shape, high, strict=True)]
        shape = [e - f for f, e in zip(first, ends, strict=True)]
        x = b.add("Slice", [x, *(b.constant(np.array(v, np.int64)) for v in (first, ends, range(rank)))], shape)
        low, high = [max(0, p) for p in low], [max(0, p) for p in high]
    attrs: dict[str, Any] = {"low": tuple(low), "high": tuple(high)}
    out = ctx.output_type().shape
    if not any(low) and not any(high):
        b.add("Identity", [x], out, output=ctx.node.outputs[0])
    elif mode == "constant" and filled:
        given = b.add("Reshape", [ctx.node.inputs[2], b.constant(np.array([1], np.int64))], [1])
        b.add_internal("PadWith", [x, given], out, ctx.node.outputs[0], **attrs)
    elif mode == "constant":
        b.add_internal("Pad", [x], out, ctx.node.outputs[0], fill=fill, at_least_zero=False, **attrs)
    elif mode in ("reflect", "edge", "wrap"):
        b.add_internal("PadMirror", [x], out, ctx.node.outputs[0], mode=mode, **attrs)
    else:
        raise NotSupported(f"Pad mode {mode!r}")


@compute("PadMirror", domain="dlpack", layout="same")
def pad_mirror(ctx: Context, x: Any) -> list[Any]:
    low, mode = ctx.attr("low"), ctx.attr("mode")
    shape = ctx.input_type(0).shape

    def source(v: Any, d: int) -> Any:
        n = shape[d]
        if not ctx.attr("low")[d] and not ctx.attr("high")[d]:
            return v
        k = v - low[d]
        if mode == "edge":
            return tirx.min(tirx.max(k, 0), n - 1)
        if mode == "wrap":
            return tirx.floormod(k, n)
        if n == 1:
            return 0
        if low[d] < n and ctx.attr("high")[d] < n:
            return tirx.if_then_else(k < 0, -k, tirx.if_then_else(k < n, k, 2 * (n - 1) - k))
        k = tirx.floormod(k, 2 * (n - 1))
        return tirx.if_then_else(k < n, k, 2 * (n - 1) - k)

    return [te.compute(ctx.output_type().shape, lambda *i: x(*(source(v, d) for d, v in enumerate(i))), name="out")]
