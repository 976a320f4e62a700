"""TensorFlow Lite's convolutions, poolings, resizing and recurrent layers; pictures have channels last there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted
from dlpack.exporters.layers import check_channels, reshape
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
    _check_rank(c, c.x(2), 4)
    size = c.ints(0, "an output shape")
    x, w = c.values.channels_first(c.x(2)), c.weight(1, (3, 0, 1, 2))
    check_channels(c.g, x, w, 1, transposed=True)
    if len(size) != 4:
        raise ModelError(f"its output shape {size} has not four dimensions")
    stride = [c.p["stride_h"], c.p["stride_w"]]
    kernel = c.g.shape(w)[2:]
    before, after, extra = [], [], []
    for n, out, k, s in zip(c.g.shape(x)[2:], size[1:3], kernel, stride, strict=True):
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


@converts("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
def resize(c: Call) -> str:
    _check_rank(c, c.x(), 4)
    x, size = c.values.channels_first(c.x()), c.ints(1, "a size")
    if len(size) != 2:
        raise ModelError(f"its size {size} has not two dimensions")
    mode = "align_corners" if c.p["align_corners"] else "half_pixel" if c.p["half_pixel"] else "asymmetric"
    attrs: dict[str, Any] = {"mode": "linear"}
    if c.op == "RESIZE_NEAREST_NEIGHBOR":
        attrs = {"mode": "nearest", "nearest_mode": "floor" if mode == "asymmetric" else "round_prefer_ceil"}
    sizes = c.g.ints([*c.g.shape(x)[:2], *size])
    c.g.check_size("its output", c.g.dtype(x), (*c.g.shape(x)[:2], *size))
    return c.values.channels_last(c.op_("Resize", x, "", "", sizes, coordinate_transformation_mode=mode, **attrs))


@converts("UNIDIRECTIONAL_SEQUENCE_LSTM")
def lstm(c: Call) -> str:
    """Inputs: data; weights of the gates i, f, c, o (1-4), recurrent ones (5-8), peepholes i, f, o (9-11), biases
    (12-15), a projection (16, 17), the states (18, 19), layer normalisation (20-23). ONNX's order is i, o, f, c."""
    for first, last, what in ((16, 18, "a projection"), (20, 24, "layer normalisation")):
        if any(c.has(k) for k in range(first, last)):
            raise NotConverted(f"an LSTM with {what}")
    x = c.x(0)
    _check_rank(c, x, 3)
    gates = [(1, 5, 12), (4, 8, 15), (2, 6, 13), (3, 7, 14)]
    if not c.has(1):
        raise NotConverted("an LSTM without an input gate")
    parts = [[c.array(k, "an LSTM's weight") for k in gate] for gate in gates]
    if any(v is None for part in parts for v in part[:2]):
        raise ModelError("a weight of the LSTM is missing")
    hidden = parts[0][0].shape[0]  # type: ignore[union-attr]
    zeros = np.zeros(hidden, np.float32)
    w, r = (np.concatenate([p[k] for p in parts])[None] for k in (0, 1))
    b = np.concatenate([*(p[2] if p[2] is not None else zeros for p in parts), *[zeros] * 4])[None]
    peepholes = [c.array(k, "an LSTM's weight") for k in (9, 11, 10)]
    if not c.p["time_major"]:
        x = c.op_("Transpose", x, perm=[1, 0, 2])
    names = ["LSTM", x, c.g.constant(w, "W"), c.g.constant(r, "R"), c.g.constant(b, "B")]
    if any(p is not None for p in peepholes):
        p = np.concatenate([v if v is not None else zeros for v in peepholes])[None]
        names += ["", "", "", c.g.constant(p, "P")]
    attrs: dict[str, Any] = {"hidden_size": hidden}
    if c.p["cell_clip"]:
        raise NotConverted("an LSTM that clips its cells")
    if c.p["activation"] != 4:
        raise NotConverted("an LSTM with another activation than tanh")
    for k in (18, 19):
        state = c.tensor(k)
        if not state.variable and (state.data is None or state.data.any()):
            raise NotConverted("an LSTM whose first state is not zero")
    y, _, _ = c.g.op(*names, outputs=3, **attrs)
    steps, _, batch, size = c.g.shape(y)
    y = reshape(c.g, y, (steps, batch, size))
    return y if c.p["time_major"] else c.op_("Transpose", y, perm=[1, 0, 2])
