"""Darknet's layers, as src/*_layer.c of pjreddie/darknet and AlexeyAB/darknet define them."""

from __future__ import annotations

import math

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted
from dlpack.exporters.darknet.call import Layer, converts
from dlpack.exporters.layers import reshape, slice_axis

EPSILON = 1e-5
"""What batch normalisation adds to the variance."""


def _strides(n: Layer, default: int = 1) -> tuple[int, int]:
    stride = n.p.int("stride", default)
    y, x = n.p.int("stride_y", stride), n.p.int("stride_x", stride)
    if min(x, y) < 1:
        raise ModelError(f"its stride {y}, {x} must be positive")
    return y, x


def _whole(n: Layer, key: str, default: int = 1) -> int:
    value = n.p.int(key, default)
    if value < 1:
        raise ModelError(f"its {key} {value} must be positive")
    return value


def _normalised(n: Layer, y: str, biases: str, channels: int) -> str:
    """Batch normalisation: the file has scales, means and variances behind the biases."""
    scales, mean, variance = (n.array(k, (channels,)) for k in ("scales", "mean", "variance"))
    return n.op_("BatchNormalization", y, scales, biases, mean, variance, epsilon=EPSILON)


@converts("convolutional", "conv")
def convolutional(n: Layer) -> str:
    channels = n.picture()[1]
    filters, size, groups = _whole(n, "filters"), _whole(n, "size"), _whole(n, "groups")
    dilation = _whole(n, "dilation") if size > 1 else 1
    padding = size // 2 if n.p.int("pad") else n.p.int("padding")
    if channels % groups or filters % groups or not 0 <= padding * dilation < 1 << 20:
        raise ModelError(f"groups {groups}, filters {filters}, padding {padding} do not fit {channels} channels")
    if (what := n.p.refuse("antialiasing", "binary", "xnor", "share_index", "deform", "dontloadscales")) is not None:
        raise NotConverted(what)
    normalised = bool(n.p.int("batch_normalize"))
    biases = n.array("biases", (filters,))
    # The file has the scales, means and variances before the weights.
    factors = [n.array(k, (filters,)) for k in ("scales", "mean", "variance")] if normalised else []
    shape = (filters, channels // groups, size, size)
    if n.p.int("flipped"):
        array = n.weights.take((math.prod(shape[1:]), filters)).T.reshape(shape)
        weights = n.known("weights", np.ascontiguousarray(array))
    else:
        weights = n.array("weights", shape)
    y = n.op_(
        "Conv",
        *([n.x, weights] if normalised else [n.x, weights, biases]),
        kernel_shape=[size, size],
        strides=list(_strides(n)),
        dilations=[dilation] * 2,
        pads=[padding * dilation] * 4,
        group=groups,
    )
    if normalised:
        scales, mean, variance = factors
        y = n.op_("BatchNormalization", y, scales, biases, mean, variance, epsilon=EPSILON)
    return n.activated(y, "logistic")


@converts("connected", "conn")
def connected(n: Layer) -> str:
    batch, inputs, outputs = n.shape()[0], math.prod(n.shape()[1:]), _whole(n, "output")
    if (what := n.p.refuse("dontloadscales")) is not None:
        raise NotConverted(what)
    biases = n.array("biases", (outputs,))
    flat = n.weights.transposed
    weights = n.array("weights", (inputs, outputs) if flat else (outputs, inputs))
    x, normalised = reshape(n.g, n.x, (batch, inputs)), n.p.int("batch_normalize")
    y = n.op_("Gemm", *([x, weights] if normalised else [x, weights, biases]), transB=int(not flat))
    return n.activated(_normalised(n, y, biases, outputs) if normalised else y, "logistic")


@converts("maxpool", "max")
def maxpool(n: Layer) -> str:
    n.picture()
    if (what := n.p.refuse("antialiasing", "maxpool_depth")) is not None:
        raise NotConverted(what)
    strides = _strides(n)
    size = _whole(n, "size", n.p.int("stride", 1))
    padding = n.p.int("padding", size - 1)
    if not 0 <= padding < 2 * size or size > 1 << 12:
        raise ModelError(f"its padding {padding} does not fit its size {size}")
    before = padding // 2
    pads = [before, before, padding - before, padding - before]
    return n.op_("MaxPool", n.x, kernel_shape=[size, size], strides=list(strides), pads=pads)


@converts("avgpool", "avg")
def avgpool(n: Layer) -> str:
    n.picture()
    return n.op_("GlobalAveragePool", n.x)


@converts("route")
def route(n: Layer) -> str:
    numbers, groups, part = n.p.ints("layers"), _whole(n, "groups"), n.p.int("group_id")
    if not numbers:
        raise ModelError("its layers are missing")
    values = [n.value(number) for number in numbers]
    if groups > 1:
        for k, value in enumerate(values):
            size, rest = divmod(n.g.shape(value)[1], groups)
            if rest or not 0 <= part < groups:
                raise ModelError(f"groups {groups}, group_id {part} do not fit {n.g.shape(value)[1]} channels")
            values[k] = slice_axis(n.g, value, 1, part * size, (part + 1) * size)
    return n.op_("Concat", *values, axis=1) if len(values) > 1 else values[0]


@converts("shortcut")
def shortcut(n: Layer) -> str:
    """The sum of the layers; of one with more channels than the input the first are taken, fewer leave the rest."""
    if (what := n.p.refuse("weights_type")) is not None:
        raise NotConverted(what)
    sources, shape, y = n.p.ints("from"), n.shape(), n.x
    if not sources:
        raise ModelError("its from is missing")
    for number in sources:
        other = n.value(number)
        have = n.g.shape(other)
        if len(have) != len(shape) or have[2:] != shape[2:]:
            raise NotConverted(f"the sum of {list(shape)} and {list(have)}")
        if have[1] > shape[1]:
            other = slice_axis(n.g, other, 1, 0, shape[1])
        elif have[1] < shape[1]:
            behind = [0] * len(shape) + [0, shape[1] - have[1]] + [0] * (len(shape) - 2)
            other = n.op_("Pad", other, n.g.ints(behind))
        y = n.op_("Add", y, other)
    return n.activated(y)


@converts("scale_channels")
def scale_channels(n: Layer) -> str:
    """The layer `from`, each channel multiplied with the input's number of it (squeeze and excitation)."""
    if (what := n.p.refuse("scale_wh")) is not None:
        raise NotConverted(what)
    return n.activated(n.op_("Mul", n.value(n.p.int("from")), n.x))


@converts("sam")
def sam(n: Layer) -> str:
    """The layer `from` times the input (spatial attention)."""
    other = n.value(n.p.int("from"))
    if n.g.shape(other) != n.shape():
        raise ModelError(f"its inputs {list(n.shape())} and {list(n.g.shape(other))} differ")
    return n.activated(n.op_("Mul", other, n.x))


@converts("upsample")
def upsample(n: Layer) -> str:
    n.picture()
    stride, scale = n.p.int("stride", 2), n.p.float("scale", 1.0)
    if not 1 <= stride <= 64:
        raise NotConverted(f"stride={stride}")
    scales = n.g.constant(np.array([1, 1, stride, stride], np.float32))
    y = n.op_(
        "Resize", n.x, "", scales, mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric"
    )
    return y if scale == 1.0 else n.op_("Mul", y, n.g.scalar(scale))


@converts("reorg")
def reorg(n: Layer) -> str:
    """As Darknet computes it: the input's memory is taken for C/s² x Hs x Ws, and places of s x s become channels."""
    batch, c, h, w = n.picture()
    s = _whole(n, "stride")
    if (what := n.p.refuse("reverse", "flatten", "extra")) is not None:
        raise NotConverted(what)
    if c % (s * s) or h % s or w % s:
        raise ModelError(f"stride {s} does not divide its input {[c, h, w]}")
    y = reshape(n.g, n.x, (batch, c // (s * s), h, s, w, s))
    y = n.op_("Transpose", y, perm=[0, 3, 5, 1, 2, 4])
    return reshape(n.g, y, (batch, c * s * s, h // s, w // s))


@converts("softmax", "soft")
def softmax(n: Layer) -> str:
    shape, groups, temperature = n.shape(), _whole(n, "groups"), n.p.float("temperature", 1.0)
    if (what := n.p.refuse("tree")) is not None:
        raise NotConverted(what)
    x = n.x if temperature == 1.0 else n.op_("Mul", n.x, n.g.scalar(1.0 / temperature))
    if n.p.int("spatial"):
        return n.op_("Softmax", x, axis=1)
    inputs = math.prod(shape[1:])
    if inputs % groups:
        raise ModelError(f"groups {groups} do not divide {inputs}")
    y = n.op_("Softmax", reshape(n.g, x, (shape[0], groups, inputs // groups)), axis=2)
    return reshape(n.g, y, (shape[0], inputs))


@converts("crop")
def crop(n: Layer) -> str:
    """The middle of the picture, its values 0..1 stretched to -1..1."""
    _, _, h, w = n.picture()
    height, width = _whole(n, "crop_height"), _whole(n, "crop_width")
    if height > h or width > w:
        raise ModelError(f"the crop of {height} x {width} does not lie in {h} x {w}")
    y = n.x
    for axis, have, want in ((2, h, height), (3, w, width)):
        if have != want:
            y = slice_axis(n.g, y, axis, (have - want) // 2, (have - want) // 2 + want)
    return y if n.p.int("noadjust") else n.op_("Sub", n.op_("Mul", y, n.g.scalar(2.0)), n.g.scalar(1.0))


@converts("activation", "dropout", "cost", "logistic")
def activation(n: Layer) -> str:
    if n.p.kind == "logistic":
        return n.op_("Sigmoid", n.x)
    return n.activated(n.x) if n.p.kind == "activation" else n.x
