"""TensorFlow Lite's convolutions, poolings and resizing; pictures have channels last there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import Array, NotConverted
from dlpack.exporters.layers import check_channels
from dlpack.exporters.tflite.call import Call, converts


def _window(c: Call, sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> dict[str, Any]:  # fmt: skip
    """ONNX's attributes of a window; SAME pads so that out = ceil(in / stride), the odd element at the end."""
    if any(v <= 0 for v in (*kernel, *stride, *dilation)):
        raise ModelError(f"its window {list(kernel)} with stride {list(stride)} and dilation {list(dilation)}")
    before, after = [], []
    for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
        total = 0 if c.p["valid"] else max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n)
        before.append(total // 2)
        after.append(total - total // 2)
    return {"kernel_shape": list(kernel), "strides": list(stride), "pads": [*before, *after]}


def _check_rank(c: Call, x: str, rank: int) -> None:
    if c.g.rank(x) != rank:
        raise ModelError(f"its input has the shape {list(c.g.shape(x))}; {rank} dimensions are needed")


def _convolve(c: Call, order: Sequence[int], dims: str, groups: int | None) -> str:
    _check_rank(c, c.x(0), len(dims) + 2)
    x, w = c.values.channels_first(c.x(0)), c.weight(1, order)
    shape = c.g.shape(w)
    stride, dilation = ([c.p[f"{what}_{d}"] for d in dims] for what in ("stride", "dilation"))
    window = _window(c, c.g.shape(x)[2:], shape[2:], stride, dilation)
    groups = groups or max(1, c.g.shape(x)[1] // shape[1])  # fewer input channels than the data has: groups
    check_channels(c.g, x, w, groups)
    bias = [c.x(2)] if c.has(2) else []
    y = c.op_("Conv", x, w, *bias, dilations=dilation, group=groups, **window)
    return c.values.channels_last(c.activated(y))


@converts("CONV_2D")
def conv_2d(c: Call) -> str:
    return _convolve(c, (0, 3, 1, 2), "hw", None)


@converts("CONV_3D")
def conv_3d(c: Call) -> str:
    return _convolve(c, (4, 3, 0, 1, 2), "dhw", None)


@converts("DEPTHWISE_CONV_2D")
def depthwise_conv_2d(c: Call) -> str:
    _check_rank(c, c.x(0), 4)
    return _convolve(c, (3, 0, 1, 2), "hw", c.shape(0)[3])


@converts("TRANSPOSE_CONV")
def transpose_conv(c: Call) -> str:
    """Inputs: the output's shape, weight (O, H, W, I), data, bias."""
    return _transposed(c, (3, 0, 1, 2), "hw")


@converts("CONV_3D_TRANSPOSE")
def transpose_conv_3d(c: Call) -> str:
    """Inputs: the output's shape, weight (D, H, W, O, I), data, bias."""
    if any(c.p[f"dilation_{d}"] != 1 for d in "dhw"):
        raise NotConverted("a dilated transposed convolution")
    return _transposed(c, (4, 3, 0, 1, 2), "dhw")


def _transposed(c: Call, order: Sequence[int], dims: str) -> str:
    _check_rank(c, c.x(2), len(order))
    size = c.ints(0, "an output shape")
    x, w = c.values.channels_first(c.x(2)), c.weight(1, order)
    check_channels(c.g, x, w, 1, transposed=True)
    if len(size) != len(order):
        raise ModelError(f"its output shape {size} has not {len(order)} dimensions")
    stride = [c.p[f"stride_{d}"] for d in dims]
    kernel = c.g.shape(w)[2:]
    before, after, extra = [], [], []
    for n, out, k, s in zip(c.g.shape(x)[2:], size[1:-1], kernel, stride, strict=True):
        total = (n - 1) * s + k - out
        if s <= 0 or -total >= s or total >= 2 * k:
            raise ModelError(f"its output shape {size} does not fit the input {list(c.g.shape(x))}")
        before.append(max(0, total) // 2)
        after.append(max(0, total) - max(0, total) // 2)
        extra.append(max(0, -total))
    bias = [c.x(3)] if c.has(3) else []
    attrs: dict[str, Any] = {"strides": stride, "pads": [*before, *after], "kernel_shape": list(kernel)}
    y = c.op_("ConvTranspose", x, w, *bias, output_padding=extra, **attrs)
    return c.values.channels_last(c.activated(y))


@converts("MAX_POOL_2D", moves=True)
def max_pool(c: Call) -> str:
    return _pool(c, "MaxPool")


@converts("AVERAGE_POOL_2D", moves=True)
def average_pool(c: Call) -> str:
    """Padding is not counted. Integers are averaged unscaled: their sums are exact, so a mean that lies between two
    integers, as every other one of four values does, is rounded alike by every program."""
    if c.g.dtype(c.x()).kind == "f":
        return _pool(c, "AveragePool")
    first = c.values.channels_first(c.x())
    one, zero = c.g.scalar(1.0), c.g.constant(np.array(0), dtype=c.g.dtype(first))
    y = _window_of(c, "AveragePool", c.op_("DequantizeLinear", first, one, zero))
    return c.values.channels_last(c.op_("QuantizeLinear", y, one, zero))


@converts("L2_POOL_2D")
def l2_pool(c: Call) -> str:
    """The root of the mean of squares."""
    x = c.values.channels_first(c.x())
    y = c.op_("Sqrt", _window_of(c, "AveragePool", c.op_("Mul", x, x)))
    return c.values.channels_last(c.activated(y))


def _pool(c: Call, kind: str) -> str:
    return c.values.channels_last(c.activated(_window_of(c, kind, c.values.channels_first(c.x()))))


def _window_of(c: Call, kind: str, x: str) -> str:
    """ONNX's pooling of `x`, channels first."""
    _check_rank(c, x, 4)
    kernel, stride = [c.p["filter_h"], c.p["filter_w"]], [c.p["stride_h"], c.p["stride_w"]]
    window = _window(c, c.g.shape(x)[2:], kernel, stride, (1, 1))
    if any(p >= k for p, k in zip(window["pads"], [*kernel, *kernel], strict=True)) or max(kernel) > 2**20:
        raise ModelError(f"its window {kernel} does not fit the input {list(c.g.shape(x))}")
    return c.op_(kind, x, **window)


@converts("LOCAL_RESPONSE_NORMALIZATION")
def lrn(c: Call) -> str:
    """x / (bias + alpha * sum of squares of 2 * radius + 1 channels) ^ beta; ONNX divides alpha by their number."""
    _check_rank(c, c.x(), 4)
    size = 2 * c.p["radius"] + 1
    if size < 1:
        raise ModelError("its radius is negative")
    attrs = {"alpha": c.p["alpha"] * size, "beta": c.p["beta"], "bias": c.p["bias"], "size": size}
    return c.values.channels_last(c.op_("LRN", c.values.channels_first(c.x()), **attrs))


@converts("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", moves=True)
def resize(c: Call) -> str:
    _check_rank(c, c.x(), 4)
    x, size = c.values.channels_first(c.x()), c.ints(1, "a size")
    if len(size) != 2 or min(size) < 1:
        raise ModelError(f"its size {size} is not two positive numbers")
    mode = "align_corners" if c.p["align_corners"] else "half_pixel" if c.p["half_pixel"] else "asymmetric"
    attrs: dict[str, Any] = {"mode": "linear"}
    sizes = (*c.g.shape(x)[:2], *size)
    if c.op == "RESIZE_NEAREST_NEIGHBOR":
        attrs = {"mode": "nearest", "nearest_mode": "floor" if mode == "asymmetric" else "round_prefer_ceil"}
    elif c.g.dtype(x).kind != "f":
        c.g.check_size("its output", np.dtype(np.int32), sizes)
        return c.values.channels_last(_blend(c, x, size))
    c.g.check_size("its output", c.g.dtype(x), sizes)
    y = c.op_("Resize", x, "", "", c.g.ints(sizes), coordinate_transformation_mode=mode, **attrs)
    return c.values.channels_last(y)


def _blend(c: Call, x: str, size: Sequence[int]) -> str:
    """Integers (N, C, H, W) blended linearly to (N, C, *size) as TensorFlow Lite's reference does it: the weights are
    multiples of 1/1024 and a half is rounded away from zero, all in integers."""
    kind, y = c.g.dtype(x), c.cast(x, np.int32)
    for axis, out in zip((2, 3), size, strict=True):
        low, high, part = _neighbours(c, c.g.shape(x)[axis], out)
        c.g.claim("its weights", (4 * out,), np.int64)
        weights = part.reshape(-1, *[1] * (3 - axis)).astype(np.int32)
        ends = [
            c.op_("Mul", c.op_("Gather", y, c.g.constant(places), axis=axis), c.g.constant(w))
            for places, w in ((low, 1024 - weights), (high, weights))
        ]
        y = c.op_("Add", *ends)
    half = c.op_("Where", c.op_("Less", y, _int32(c, 0)), _int32(c, -(1 << 19)), _int32(c, 1 << 19))
    return c.cast(c.op_("Div", c.op_("Add", y, half), _int32(c, 1 << 20)), kind)


def _int32(c: Call, value: int) -> str:
    return c.g.constant(np.array(value, np.int32))


def _neighbours(c: Call, size: int, out: int) -> tuple[Array, Array, Array]:
    """For each of `out` places: the one before and the one behind it among `size`, and 1024 times its distance from
    the first."""
    if c.p["align_corners"] and out > 1:
        step = ((size - 1) * 1024 + (out - 1) // 2) // (out - 1)
    else:
        step = (size * 1024 + out // 2) // out
    place = np.arange(out, dtype=np.int64) * step + (step // 2 - 512 if c.p["half_pixel"] else 0)
    low = np.clip(place // 1024, 0, size - 1)
    return low, np.clip(-(-place // 1024), 0, size - 1), place - 1024 * low
