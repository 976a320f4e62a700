"""Resize and Upsample: the weights of every output place are computed at build time, one axis after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dlpack.graph.registry import Builder, Context, NotSupported, compute, rewrite
from dlpack.loops.tir import te, tirx

Floats = np.ndarray[Any, Any]

_ROUND: dict[str, Callable[[Floats], Floats]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _positions(mode: str, n: int, out: int, scale: float, roi: tuple[float, float]) -> Floats:
    """Where each output place lies in the input (ONNX `coordinate_transformation_mode`)."""
    x = np.arange(out, dtype=np.float64)
    if mode == "asymmetric":
        return x / scale
    whole = scale * n
    if mode == "align_corners":  # the last place is the input's last, also where scale * n is no whole number
        return x * (n - 1) / (out - 1) if out != 1 else np.zeros(out)
    if mode == "half_pixel":
        return (x + 0.5) / scale - 0.5
    if mode == "pytorch_half_pixel":
        return (x + 0.5) / scale - 0.5 if out > 1 else np.zeros(out)
    if mode == "half_pixel_symmetric":
        return n / 2 * (1 - out / whole) + (x + 0.5) / scale - 0.5
    if mode == "tf_crop_and_resize":
        first, last = roi
        if out != 1:
            return first * (n - 1) + x * (last - first) * (n - 1) / (out - 1)
        return np.full(out, 0.5 * (first + last) * (n - 1))
    if mode == "tf_half_pixel_for_nn":
        return (x + 0.5) / scale
    raise NotSupported(f"Resize with coordinate_transformation_mode {mode!r}")


def _linear(d: Floats) -> Floats:
    return np.maximum(0.0, 1.0 - np.abs(d))


def _cubic(a: float) -> Callable[[Floats], Floats]:
    """Keys' kernel with the coefficient `a`."""

    def kernel(d: Floats) -> Floats:
        d = np.abs(d)
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return np.where(d <= 1, near, np.where(d < 2, far, 0.0))

    return kernel


def _taps(ctx: Context, n: int, positions: Floats, scale: float) -> tuple[Floats, Floats]:
    """For every output place the input places and their weights, each [out, taps]."""
    mode = ctx.attr("mode", "nearest")
    if mode == "nearest":
        old = ctx.node.op == "Upsample" or ctx.node.opset < 11
        nearest = _ROUND["floor" if old else ctx.attr("nearest_mode", "round_prefer_floor")]
        places = nearest(np.round(positions, 9)).astype(np.int64)
        return np.clip(places, 0, n - 1)[:, None], np.ones((len(places), 1))
    reach, kernel = (1.0, _linear) if mode == "linear" else (2.0, _cubic(ctx.attr("cubic_coeff_a", -0.75)))
    shrink = min(scale, 1.0) if ctx.attr("antialias", 0) else 1.0
    start = int(np.floor(-reach / shrink)) + 1
    places = (np.ceil(positions).astype(np.int64) - 1)[:, None] + np.arange(start, 2 - start)
    weights = kernel((places - positions[:, None]) * shrink)
    exclude = bool(ctx.attr("exclude_outside", 0))
    if exclude:
        weights = np.where((places < 0) | (places >= n), 0.0, weights)
    if exclude or shrink < 1:
        total = weights.sum(axis=1, keepdims=True)
        weights = weights / np.where(total == 0, 1.0, total)  # 0 where a crop is wholly outside
    return np.clip(places, 0, n - 1), weights


@rewrite("Resize", "Upsample")
def resize(ctx: Context, b: Builder) -> None:
    x, t = ctx.node.inputs[0], ctx.output_type()
    shape = list(ctx.input_type(0).shape)
    rank = len(shape)
    scales, roi, axes = _parameters(ctx, shape, t.shape)
    old = ctx.node.op == "Upsample" or ctx.node.opset < 11
    mode = ctx.attr("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
    work = t.dtype if t.dtype.startswith("float") or ctx.attr("mode", "nearest") == "nearest" else "float32"
    if work != t.dtype:
        x = b.add("Cast", [x], shape, work)
    outside = np.zeros([1] * rank, bool)
    done: list[tuple[int, Floats, Floats]] = []
    for axis in axes:
        n, out = shape[axis], t.shape[axis]
        if n == out and scales[axis] == 1.0 and mode != "tf_crop_and_resize":
            continue
        positions = _positions(mode, n, out, scales[axis], (roi[axis], roi[rank + axis]))
        if mode == "tf_crop_and_resize":
            beyond = (positions < 0) | (positions > n - 1)
            outside = outside | beyond.reshape([-1 if d == axis else 1 for d in range(rank)])
        done.append((axis, *_taps(ctx, n, positions, scales[axis])))
    for axis, places, weights in sorted(done, key=lambda a: t.shape[a[0]] / shape[a[0]]):
        shape[axis] = t.shape[axis]
        x = _interpolate(b, x, shape, axis, places, weights, work)
    if work != t.dtype:
        x = b.add("Cast", [b.add("Round", [x], shape)], shape, t.dtype)
    if outside.any():
        value = b.constant(np.asarray(ctx.attr("extrapolation_value", 0.0), t.dtype), "outside")
        b.add("Where", [b.constant(outside, "beyond"), value, x], t.shape, t.dtype, ctx.node.outputs[0])
    else:
        b.add("Identity", [x], t.shape, output=ctx.node.outputs[0])


def _parameters(ctx: Context, shape: list[int], out: tuple[int, ...]) -> tuple[list[float], list[float], list[int]]:
    """Scale per dimension, region of interest (starts, then ends, per dimension), and the axes resized."""
    rank = len(shape)
    axes = [a % rank for a in ctx.attr("axes") or range(rank)]
    scales, roi = [1.0] * rank, [0.0] * rank + [1.0] * rank
    if ctx.node.op == "Upsample" and ctx.node.opset < 9:
        given: Any = np.array(ctx.attr("scales"))
    else:
        given = ctx.maybe_constant(1 if ctx.node.op == "Upsample" or ctx.node.opset < 11 else 2)
    if given is not None and given.size:
        for a, s in zip(axes, given.reshape(-1), strict=True):
            scales[a] = float(s)
    else:
        for a in axes:
            scales[a] = out[a] / shape[a]
        if ctx.attr("keep_aspect_ratio_policy", "stretch") != "stretch":
            sizes = ctx.ints(3, "sizes")
            choose = min if ctx.attr("keep_aspect_ratio_policy") == "not_larger" else max
            common = choose(s / shape[a] for a, s in zip(axes, sizes, strict=True))
            for a in axes:
                scales[a] = common
    if ctx.attr("coordinate_transformation_mode") == "tf_crop_and_resize":
        region = ctx.constant(1, "roi").reshape(-1)
        for k, a in enumerate(axes):
            roi[a], roi[rank + a] = float(region[k]), float(region[len(axes) + k])
    return scales, roi, axes


def _interpolate(b: Builder, x: str, shape: list[int], axis: int, places: Floats, weights: Floats, dtype: str) -> str:
    """One axis: ``y[i] = sum over t of weights[i, t] * x[places[i, t]]``."""
    if places.shape[1] == 1 and np.all(weights == 1):
        n = b.type_of(x).shape[axis]
        factor = len(places) // n if n else 0
        if factor and np.array_equal(places[:, 0], np.arange(len(places)) // factor):
            return b.add_internal("Repeat", [x], shape, axis=axis, factor=factor)
        return b.add("Gather", [x, b.constant(places[:, 0].astype(np.int64), "places")], shape, axis=axis)
    tables = [b.constant(places.astype(np.int32), "places"), b.constant(weights.astype(dtype), "weights")]
    return b.add_internal("Interpolate", [x, *tables], shape, axis=axis)


@compute("Repeat", domain="dlpack", layout="same")
def repeat(ctx: Context, x: Any) -> list[Any]:
    """Every element `factor` times along an axis."""
    axis, factor = ctx.attr("axis"), ctx.attr("factor")
    return [
        te.compute(
            ctx.output_type().shape,
            lambda *i: x(*i[:axis], tirx.floordiv(i[axis], factor), *i[axis + 1 :]),
            name="out",
        )
    ]


@compute("Interpolate", domain="dlpack", layout="same")
def interpolate(ctx: Context, x: Any, places: Any, weights: Any) -> list[Any]:
    axis = ctx.attr("axis")
    k = te.reduce_axis((0, int(places.shape[1])), name="k")

    def at(*i: Any) -> Any:
        return te.sum(x(*i[:axis], places(i[axis], k), *i[axis + 1 :]) * weights(i[axis], k), axis=k)

    return [te.compute(ctx.output_type().shape, at, name="out")]
