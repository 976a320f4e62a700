"""Layers of Core ML's neural networks with weights, windows and normalisation, as NeuralNetwork.proto defines them."""

from __future__ import annotations

import math

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted
from dlpack.exporters.coreml.files import Message
from dlpack.exporters.coreml.layer import Layer, converts
from dlpack.exporters.layers import check_channels, pool, reshape

_VALID, _SAME = 50, 51


def _borders(message: Message) -> list[int]:
    """BorderAmounts as ONNX's pads: top, left, bottom, right."""
    edges = message.messages(10)
    if len(edges) not in (0, 2):
        raise ModelError(f"its border has {len(edges)} dimensions, not two")
    found = [edge.whole(k) for k in (1, 2) for edge in edges] or [0] * 4
    if any(v >= 1 << 20 for v in found):
        raise ModelError(f"its border is {found}")
    return found


def _same(layer: Layer, kernel: list[int], strides: list[int], top_left: bool) -> list[int]:
    steps = zip(layer.shape()[-2:], kernel, strides, strict=True)
    total = [max(0, (-(-n // s) - 1) * s + k - n) for n, k, s in steps]
    less, more = [t // 2 for t in total], [t - t // 2 for t in total]
    return more + less if top_left else less + more


@converts("convolution")
def convolution(c: Layer) -> str:
    kernel, strides, dilations = c.pair(20, 3), c.pair(30, 1), c.pair(40, 1)
    out, inner, groups = c.p.whole(1), c.p.whole(2), c.p.whole(10) or 1
    transposed = bool(c.p.whole(60))
    if groups < 1 or out % groups:
        raise ModelError(f"{groups} groups do not divide {out} channels")
    shape = (inner, out // groups, *kernel) if transposed else (out, inner, *kernel)
    inputs = [c.picture(), c.weight(90, shape, axis=int(transposed))]
    if c.p.whole(70):
        inputs.append(c.weight(91, (out,), "bias"))
    check_channels(c.g, inputs[0], inputs[1], groups, transposed)
    window = {"kernel_shape": kernel, "strides": strides, "group": groups}
    if transposed:
        return c.back(_deconvolution(c, inputs, kernel, strides, window))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if _SAME in c.p:
        pads = _same(c, reach, strides, bool(c.p.message(_SAME).whole(1)))
    else:
        pads = _borders(c.p.message(_VALID).message(1))
    return c.back(c.op_("Conv", *inputs, dilations=dilations, pads=pads, **window))


def _deconvolution(
    c: Layer, inputs: list[str], kernel: list[int], strides: list[int], window: dict[str, object]
) -> str:
    sizes = c.shape()[-2:]
    full = [(n - 1) * s + k for n, k, s in zip(sizes, kernel, strides, strict=True)]
    wanted = c.p.wholes(100)
    borders = _borders(c.p.message(_VALID).message(1))
    begin, end = borders[:2], borders[2:]
    if _SAME in c.p:
        wanted = wanted or [n * s for n, s in zip(sizes, strides, strict=True)]
        total = [max(0, f - w) for f, w in zip(full, wanted, strict=True)]
        begin = [t - t // 2 if c.p.message(_SAME).whole(1) else t // 2 for t in total]
    # an output shape replaces what is cut off at the ends
    if wanted:
        end = [f - b - w for f, b, w in zip(full, begin, wanted, strict=True)]
    if any(not -s < e < f for e, f, s in zip(end, full, strides, strict=True)):
        raise NotConverted(f"a deconvolution of {list(sizes)} to {wanted}")
    extra = [max(0, -e) for e in end]
    return c.op_("ConvTranspose", *inputs, pads=begin + [max(0, e) for e in end], output_padding=extra, **window)


@converts("innerProduct")
def inner_product(c: Layer) -> str:
    size, out, shape = c.p.whole(1), c.p.whole(2), c.shape()
    weight = c.g.constant(c.array(20, (out, size)).T, f"{c.name}_weight")
    lead = shape[:-3] if len(shape) > 3 else shape[:-1]
    y = c.op_("MatMul", reshape(c.g, c.x(), (math.prod(lead), math.prod(shape[len(lead) :]))), weight)
    if c.p.whole(10):
        y = c.op_("Add", y, c.weight(21, (out,), "bias"))
    return reshape(c.g, y, (*lead, out, 1, 1) if len(shape) > 3 else (*lead, out))


@converts("batchedMatmul")
def batched_matmul(c: Layer) -> str:
    operands = []
    for k, flag in zip(range(len(c.inputs)), (1, 2), strict=False):
        rank = c.rank(k)
        swap = c.p.whole(flag) and rank > 1
        perm = [*range(rank - 2), rank - 1, rank - 2]
        operands.append(c.op_("Transpose", c.x(k), perm=perm) if swap else c.x(k))
    if len(operands) == 1:
        rows, columns = c.p.whole(5), c.p.whole(6)
        # its scales are of the output's channels, the second dimension
        operands.append(c.weight(8, (rows, columns), axis=1))
        y = c.op_("MatMul", *operands)
        return c.op_("Add", y, c.weight(9, (columns,), "bias")) if c.p.whole(7) else y
    return c.op_("MatMul", *operands)


@converts("embedding", "embeddingND")
def embedding(c: Layer) -> str:
    rows, size = c.p.whole(1), c.p.whole(2)
    has_bias = c.p.whole(10 if c.type == "embedding" else 3)
    table = c.array(20, (size, rows)).T
    if has_bias:
        table = table + c.array(21, (size,))
    shape = c.shape()
    gone = 3 if c.type == "embedding" else 1
    if shape[-gone:] != (1,) * gone:
        raise ModelError(f"its input {list(shape)} does not end in {gone} dimensions of 1")
    lead = shape[:-gone]
    index = c.cast(reshape(c.g, c.x(), lead), np.int64)
    y = c.op_("Gather", c.g.constant(np.ascontiguousarray(table), f"{c.name}_weight"), index, axis=0)
    return reshape(c.g, y, (*lead, size, *([1] * (gone - 1))))


@converts("pooling")
def pooling(c: Layer) -> str:
    kind = c.p.whole(1)
    x = c.picture()
    if kind not in (0, 1, 2):
        raise NotConverted(f"pooling of the type {kind}")
    if c.p.whole(60):
        every = ("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool")[kind]
        return c.back(c.op_(every, x))
    kernel, strides, exclude = c.pair(10, 3), c.pair(20, 1), bool(c.p.whole(50))
    if 32 in c.p:
        return c.back(_including_last(c, x, kind, kernel, strides))
    if 31 in c.p:
        pads = _same(c, kernel, strides, bool(c.p.message(31).whole(1)))
    else:
        pads = _borders(c.p.message(30).message(1))
    if any(p >= kernel[k % 2] for k, p in enumerate(pads)):
        raise NotConverted(f"the kernel {kernel} with the padding {pads}")
    window = {"kernel_shape": kernel, "strides": strides, "pads": pads}
    if kind == 0:
        return c.back(c.op_("MaxPool", x, **window))
    if kind == 1:
        return c.back(c.op_("AveragePool", x, count_include_pad=int(not exclude), **window))
    return c.back(c.op_("LpPool", x, p=2, **window))


def _including_last(c: Layer, x: str, kind: int, kernel: list[int], strides: list[int]) -> str:
    """The last window contains the last pixel."""
    pad = c.p.message(32).wholes(10) or [0, 0]
    sizes = c.shape()[-2:]
    if len(pad) != 2 or kind == 2 or any(not 0 <= p < k for p, k in zip(pad, kernel, strict=True)):
        raise NotConverted(f"L2 pooling, or the kernel {kernel} with the padding {pad[:4]}, with includeLastPixel")
    out = []
    for n, k, s, p in zip(sizes, kernel, strides, pad, strict=True):
        count = -(-(n + 2 * p - k) // s) + 1
        out.append(count - 1 if any(pad) and (count - 1) * s >= n + p else count)
    return pool(c.g, x, ("max", "avg")[kind], kernel, strides, pad, out, not c.p.whole(50))


@converts("padding")
def padding(c: Layer) -> str:
    top, left, bottom, right = _borders(c.p.message(10))
    front = [0] * (c.rank() - 2)
    where = c.g.ints([*front, top, left, *front, bottom, right])
    if 2 in c.p or 3 in c.p:
        return c.op_("Pad", c.x(), where, mode="reflect" if 2 in c.p else "edge")
    return c.op_("Pad", c.x(), where, c.scalar(c.p.message(1).number(1)))


@converts("crop")
def crop(c: Layer) -> str:
    height, width = c.shape()[-2:]
    if len(c.inputs) > 1:
        top, left = c.p.wholes(5) or [0, 0]
        down, across = (a + b for a, b in zip((top, left), c.shape(1)[-2:], strict=True))
    else:
        top, left, bottom, right = _borders(c.p.message(1))
        down, across = height - bottom, width - right
    rank = c.rank()
    bounds = (c.g.ints([top, left]), c.g.ints([down, across]), c.g.ints([rank - 2, rank - 1]))
    return c.op_("Slice", c.x(), *bounds)


@converts("upsample")
def upsample(c: Layer) -> str:
    factors = [float(v) for v in c.p.numbers(7, "<f4")] or [float(v) for v in c.p.wholes(1)] or [1.0, 1.0]
    if len(factors) != 2 or not all(0 < f < 1 << 10 for f in factors):
        raise NotConverted(f"the factors {factors[:4]}")
    x = c.picture()
    if not c.p.whole(5):
        scales = c.g.constant(np.array([1, 1, *factors], np.float32))
        where = {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
        return c.back(c.op_("Resize", x, "", scales, mode="nearest", **where))
    place = ("asymmetric", "align_corners", "half_pixel")[min(c.p.whole(6), 2)]
    sizes = [int(n * f) for n, f in zip(c.shape()[-2:], factors, strict=True)]
    return c.back(_bilinear(c, x, sizes, place))


@converts("resizeBilinear")
def resize_bilinear(c: Layer) -> str:
    sizes, mode = c.pair(1, 1), c.p.message(2).whole(1)
    if mode == 3 or (mode == 1 and 1 in sizes):
        raise NotConverted("its sampling mode")
    return c.back(_bilinear(c, c.picture(), sizes, "asymmetric" if mode == 2 else "align_corners"))


def _bilinear(c: Layer, x: str, sizes: list[int], place: str) -> str:
    wanted = c.g.ints([*c.g.shape(x)[:2], *sizes])
    return c.op_("Resize", x, "", "", wanted, mode="linear", coordinate_transformation_mode=place)


# --- normalisation ----------------------------------------------------------------------------------------------------


@converts("batchnorm")
def batchnorm(c: Layer) -> str:
    channels, epsilon = c.p.whole(1), c.p.number(10, 1e-5)
    names = {15: "gamma", 16: "beta", 17: "mean", 18: "variance"}
    if c.p.whole(5):
        if not c.p.whole(6):
            raise NotConverted("a batchnorm over the batch that it gets")
        factors = [c.weight(k, (channels,), names[k]) for k in (15, 16)]
        return c.back(c.op_("InstanceNormalization", c.picture(), *factors, epsilon=epsilon))
    factors = [c.weight(k, (channels,), name) for k, name in names.items()]
    return c.back(c.op_("BatchNormalization", c.picture(), *factors, epsilon=epsilon))


@converts("mvn")
def mean_variance(c: Layer) -> str:
    axes = [-3, -2, -1] if c.p.whole(1) else [-2, -1]
    axes = c.axes(axes)
    centred = c.op_("Sub", c.x(), c.op_("ReduceMean", c.x(), axes=axes))
    if not c.p.whole(2):
        return centred
    variance = c.op_("ReduceMean", c.op_("Mul", centred, centred), axes=axes)
    return c.op_("Div", centred, c.op_("Sqrt", c.op_("Add", variance, c.scalar(c.p.number(3, 1e-6)))))


@converts("l2normalize")
def l2_normalize(c: Layer) -> str:
    total = c.op_("ReduceSumSquare", c.x(), axes=c.axes([-3, -2, -1]))
    return c.op_("Div", c.x(), c.op_("Sqrt", c.op_("Add", total, c.scalar(c.p.number(1, 1e-6)))))


@converts("lrn")
def lrn(c: Layer) -> str:
    x = c.picture()
    window = {"size": c.p.whole(3), "alpha": c.p.number(1), "beta": c.p.number(2), "bias": c.p.number(4, 1.0)}
    if not window["size"] % 2 or not 0 < window["size"] < 1 << 16:
        raise NotConverted(f"a local size of {window['size']}")
    return c.back(c.op_("LRN", x, **window))


@converts("layerNormalization")
def layer_normalization(c: Layer) -> str:
    inner = tuple(c.p.wholes(1))
    axis = c.rank() - len(inner)
    if not inner or axis < 0 or c.shape()[axis:] != inner:
        raise ModelError(f"its shape {list(inner)} does not end {list(c.shape())}")
    factors = [c.weight(3, inner, "gamma"), c.weight(4, inner, "beta")]
    return c.op_("LayerNormalization", c.x(), *factors, axis=axis, epsilon=c.p.number(2, 1e-5))
