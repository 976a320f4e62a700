"""ncnn's layers with weights or windows, as src/layer of Tencent/ncnn defines them."""

from __future__ import annotations

import math

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import Array, NotConverted, Shape
from dlpack.exporters.layers import reshape
from dlpack.exporters.ncnn.call import Layer, converts
from dlpack.exporters.ncnn.files import NONE

_LOWER = -234
"""Padding as TensorFlow's SAME, the odd element before; -233 has it behind."""
_LOWEST = float(np.finfo(np.float32).min)


def _pair(n: Layer, w: int, h: int, default: int, low: int = 1) -> tuple[int, int]:
    """A size for height and width; the parameter of the height is that of the width if it is missing."""
    wide = n.p.int(w, default)
    pair = n.p.int(h, wide), wide
    if not all(low <= v < 1 << 20 for v in pair):
        raise ModelError(f"its sizes {list(pair)} (parameters {h} and {w}) are out of range")
    return pair


def _pads(n: Layer, left: int, top: int, right: int, bottom: int) -> list[int]:
    """top, left, bottom, right."""
    west = n.p.int(left)
    north = n.p.int(top, west)
    return [north, west, n.p.int(bottom, north), n.p.int(right, west)]


def _same(sizes: Shape, extent: list[int], strides: tuple[int, ...], lower: bool) -> list[int]:
    """The padding with which ceil(size / stride) windows fit."""
    total = [max(0, (-(-s // t) - 1) * t + e - s) for s, e, t in zip(sizes, extent, strides, strict=True)]
    less, more = [t // 2 for t in total], [t - t // 2 for t in total]
    return more + less if lower else less + more


# --- convolution ------------------------------------------------------------------------------------------------------


def _weights(n: Layer, shape: Shape, biased: bool, inputs: str) -> tuple[str, str, list[str]]:
    """The input, the weights and the bias; with int8_scale_term what makes both exact multiples of their scales.

    ncnn then rounds the input to -127..127 times 1 / scale, and has weights of int8 with a scale per output (per group
    where the layer has groups).
    """
    term = n.p.int(8)
    array = n.weights.tagged(math.prod(shape)).reshape(shape)
    bias = [n.plain("bias", (shape[0],))] if biased else []
    if not term:
        if array.dtype != np.float32:
            raise ModelError("its weights are int8 without a scale")
        return inputs, n.known("weight", array), bias
    grouped = n.type == "ConvolutionDepthWise"
    groups = n.p.int(7, 1) if grouped else shape[0]
    count = 1 if grouped and term % 100 == 2 else groups
    scales, scale = n.weights.plain(count), float(n.weights.plain(1)[0])
    if term > 100:
        n.weights.plain(1)  # the scale with which the next layer rounds: it has the same as its own
    if shape[0] % count or not (np.isfinite(scales).all() and np.isfinite(scale) and scale > 0 and (scales > 0).all()):
        raise ModelError("its scales are not positive, or do not fit its outputs")
    each = np.repeat(scales, shape[0] // count)
    if array.dtype == np.float32:  # rounded when ncnn loads the file
        factor = each.reshape(-1, *([1] * (len(shape) - 1)))
        array = np.clip(np.trunc(array * factor + np.copysign(0.5, array)), -127, 127).astype(np.int8)
    zeros = n.g.constant(np.zeros(shape[0], np.int8))
    weight = n.op_(
        "DequantizeLinear", n.known("weight", array), n.g.constant((1 / each).astype(np.float32)), zeros, axis=0
    )
    step, zero = n.scalar(1 / scale), n.g.constant(np.array(0, np.int8))
    inputs = n.op_("Clip", inputs, n.scalar(-127 / scale), n.scalar(127 / scale))
    return n.op_("DequantizeLinear", n.op_("QuantizeLinear", inputs, step, zero), step, zero), weight, bias


@converts("Convolution", "ConvolutionDepthWise", "Convolution1D", "ConvolutionDepthWise1D")
def convolution(n: Layer) -> str:
    if n.p.int(19):
        raise NotConverted("dynamic_weight=1")
    shape, rank = n.shape(), 1 if n.type.endswith("1D") else 2
    x = n.x()
    if len(shape) == 2 and rank == 2:  # numbers without places
        x = reshape(n.g, x, (1, shape[1], 1, 1))
    if n.g.rank(x) != rank + 2:
        raise NotConverted(f"an input of {len(shape) - 1} dimensions")
    channels, sizes = n.g.shape(x)[1], n.g.shape(x)[2:]
    outputs, group = n.p.int(0), n.p.int(7, 1) if "DepthWise" in n.type else 1
    if outputs < 1 or group < 1 or outputs % group or channels % group:
        raise ModelError(f"num_output {outputs} and group {group} do not fit {channels} channels")
    windows = (_pair(n, 1, 11, 0), _pair(n, 2, 12, 1), _pair(n, 3, 13, 1))
    kernel, dilation, stride = (pair[2 - rank :] for pair in windows)
    pads, value = _pads(n, 4, 14, 15, 16), n.p.float(18)
    if rank == 1:
        pads = [pads[1], pads[3]]
    weight_shape = (outputs, channels // group, *kernel)
    if math.prod(weight_shape) != n.p.int(6):
        raise ModelError(f"it has {n.p.int(6)} weights, and {list(weight_shape)} are needed for {channels} channels")
    x, weight, bias = _weights(n, weight_shape, bool(n.p.int(5)), x)
    if all(p in (NONE, _LOWER) for p in pads):
        extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        pads = _same(sizes, extent, stride, pads[0] == _LOWER)
    if any(not 0 <= p < 1 << 20 for p in pads):
        raise ModelError(f"its padding {pads} is out of range")
    if value and any(pads):
        x = n.op_("Pad", x, n.g.ints([0, 0, *pads[:rank], 0, 0, *pads[rank:]]), n.scalar(value))
        pads = [0] * (2 * rank)
    window = {"kernel_shape": list(kernel), "strides": list(stride), "dilations": list(dilation)}
    y = n.activated(n.op_("Conv", x, weight, *bias, pads=pads, group=group, **window))
    return reshape(n.g, y, (1, outputs)) if len(shape) == 2 else y


@converts("Deconvolution", "DeconvolutionDepthWise")
def deconvolution(n: Layer) -> str:
    channels = n.picture()[1]
    outputs, group = n.p.int(0), n.p.int(7, 1) if "DepthWise" in n.type else 1
    if n.p.int(20) or n.p.int(21) or n.p.int(28):
        raise NotConverted("output_w, output_h or dynamic_weight")
    if outputs < 1 or group < 1 or outputs % group or channels % group:
        raise ModelError(f"num_output {outputs} and group {group} do not fit {channels} channels")
    kernel, pads, extra = _pair(n, 1, 11, 0), _pads(n, 4, 14, 15, 16), _pair(n, 18, 19, 0, low=0)
    if any(not 0 <= p < 1 << 20 for p in pads):
        raise NotConverted(f"the padding {pads}")
    part = (outputs // group, channels // group)
    if math.prod((group, *part, *kernel)) != n.p.int(6):
        raise ModelError(f"it has {n.p.int(6)} weights, which do not fit {channels} channels")
    array = n.weights.tagged(n.p.int(6))
    if array.dtype != np.float32:
        raise NotConverted("int8 weights")
    # ncnn: group, output, input; ONNX: group, input, output
    array = array.reshape(group, *part, *kernel).swapaxes(1, 2).reshape(channels, part[0], *kernel)
    bias = [n.plain("bias", (outputs,))] if n.p.int(5) else []
    y = n.op_(
        "ConvTranspose",
        n.x(),
        n.known("weight", np.ascontiguousarray(array)),
        *bias,
        kernel_shape=list(kernel),
        strides=list(_pair(n, 3, 13, 1)),
        dilations=list(_pair(n, 2, 12, 1)),
        pads=pads,
        output_padding=list(extra),
        group=group,
    )
    return n.activated(y)


@converts("InnerProduct")
def inner_product(n: Layer) -> str:
    outputs, size = n.p.int(0), n.p.int(2)
    if outputs < 1 or size % outputs:
        raise ModelError(f"{size} weights do not fit num_output {outputs}")
    inputs, shape = size // outputs, n.shape()
    by_rows = n.dims() == 2 and shape[2] == inputs
    if not by_rows and math.prod(shape) != inputs:
        raise ModelError(f"its weights are for {inputs} inputs, and its input is {list(shape[1:])}")
    rows = shape[1] if by_rows else 1
    x, weight, bias = _weights(n, (outputs, inputs), bool(n.p.int(1)), reshape(n.g, n.x(), (rows, inputs)))
    y = n.op_("Gemm", x, weight, *bias, transB=1)
    return n.activated(reshape(n.g, y, (1, rows, outputs)) if by_rows else y)


@converts("MatMul")
def matmul(n: Layer) -> str:
    b = n.x(1)
    if min(n.dims(0), n.dims(1)) < 2:
        raise NotConverted("a product with a vector")
    if n.p.int(0):
        b = n.op_("Transpose", b, perm=[*range(n.dims(1) - 1), n.dims(1), n.dims(1) - 1])
    return n.op_("MatMul", n.x(0), b)


@converts("Gemm")
def gemm(n: Layer) -> str:
    """alpha * (A B + beta * C); A, B and C may be weights. The result is a matrix."""
    m, columns, k = n.p.int(7), n.p.int(8), n.p.int(9)
    if n.p.int(18) or n.p.int(11) or n.p.int(14):
        raise NotConverted("int8_scale_term, output_N1M or output_transpose")
    flipped = n.p.int(2), n.p.int(3, 0)
    given = list(n.inputs)

    def operand(key: int, part: str, shape: Shape) -> str:
        if n.p.int(key):
            return n.tagged(part, shape)
        if not given:
            raise ModelError(f"its operand {part} is missing")
        x = given.pop(0)
        if n.g.rank(x) != 3:
            raise NotConverted(f"an operand of {n.g.rank(x) - 1} dimensions")
        return reshape(n.g, x, n.g.shape(x)[1:])

    a = operand(4, "A", (k, m) if flipped[0] else (m, k))
    b = operand(5, "B", (columns, k) if flipped[1] else (k, columns))
    c: list[str] = []
    if n.p.int(6):
        shapes: dict[int, Shape] = {0: (1,), 1: (m, 1), 2: (m, 1), 3: (m, columns), 4: (1, columns)}
        kind = n.p.int(10, -1)
        if kind in shapes:
            c = [n.tagged("C", shapes[kind])]
        elif kind != -1:
            raise NotConverted(f"constant_broadcast_type_C={kind}")
    elif given:
        c = [given.pop(0)]
        rank = n.g.rank(c[0])
        c = [reshape(n.g, c[0], n.g.shape(c[0])[1:] if rank > 2 else (n.g.shape(c[0])[1], 1))]
    alpha = n.p.float(0, 1.0)
    factors = {"alpha": alpha, "beta": alpha * n.p.float(1, 1.0)}
    y = n.op_("Gemm", a, b, *c, transA=int(bool(flipped[0])), transB=int(bool(flipped[1])), **factors)
    return reshape(n.g, y, (1, *n.g.shape(y)))


# --- windows ----------------------------------------------------------------------------------------------------------


@converts("Pooling")
def pooling(n: Layer) -> str:
    average = n.p.int(0)
    shape, x = n.picture(), n.x()
    if average not in (0, 1):
        raise NotConverted(f"pooling_type={average}")
    if n.p.int(4):
        y = n.op_("GlobalAveragePool" if average else "GlobalMaxPool", x)
        return reshape(n.g, y, (1, shape[1]))
    if n.p.int(7):
        return _adaptive(n, bool(average))
    kernel, stride, pads = _pair(n, 1, 11, 0), _pair(n, 2, 12, 1), _pads(n, 3, 13, 14, 15)
    mode = n.p.int(5)
    if mode in (2, 3):
        pads = _same(shape[2:], list(kernel), stride, mode == 3)
    elif mode == 0:  # as many windows as begin inside: the last may go beyond the padding
        for k in (0, 1):
            room = shape[2 + k] + pads[k] + pads[2 + k] - kernel[k]
            pads[2 + k] += -room % stride[k]
    elif mode != 1:
        raise NotConverted(f"pad_mode={mode}")
    if any(not 0 <= p < kernel[k % 2] for k, p in enumerate(pads)):
        raise NotConverted(f"the kernel {list(kernel)} with the padding {pads}")
    if not average:
        return n.op_("MaxPool", x, kernel_shape=list(kernel), strides=list(stride), pads=pads)
    counted = int(mode in (2, 3) or n.p.int(6) != 0)
    return n.op_(
        "AveragePool", x, kernel_shape=list(kernel), strides=list(stride), pads=pads, count_include_pad=counted
    )


def _adaptive(n: Layer, average: bool) -> str:
    """As many windows as wanted, from floor(k * size / count) up to ceil((k + 1) * size / count)."""
    shape = n.shape()
    wide = n.p.int(8)
    wanted = [shape[2 + k] if v == NONE else v for k, v in enumerate((n.p.int(18, wide), wide))]
    if any(not 1 <= v <= s for v, s in zip(wanted, shape[2:], strict=True)):
        raise NotConverted(f"adaptive pooling of {list(shape[2:])} to {wanted}")
    if all(s % v == 0 for v, s in zip(wanted, shape[2:], strict=True)):
        kernel = [s // v for v, s in zip(wanted, shape[2:], strict=True)]
        return n.op_("AveragePool" if average else "MaxPool", n.x(), kernel_shape=kernel, strides=kernel)
    if not average:
        raise NotConverted(f"adaptive maxima of {list(shape[2:])} to {wanted}")
    rows, columns = (_shares(s, v) for s, v in zip(shape[2:], wanted, strict=True))
    y = n.op_("MatMul", n.x(), n.g.constant(columns.T))
    return n.op_("MatMul", n.g.constant(rows), y)


def _shares(size: int, count: int) -> Array:
    """[count, size]: the part that each element has in each window's average."""
    if count * size > 1 << 24:
        raise NotConverted(f"adaptive pooling of {size} to {count}")
    table = np.zeros((count, size), np.float32)
    for k in range(count):
        begin, end = k * size // count, -(-(k + 1) * size // count)
        table[k, begin:end] = 1 / (end - begin)
    return table


@converts("Padding")
def padding(n: Layer) -> str:
    top, bottom, left, right = (n.p.int(k) for k in range(4))
    kind, value, front, behind = n.p.int(4), n.p.float(5), n.p.int(7), n.p.int(8)
    if n.p.int(6) or kind not in (0, 1, 2) or n.dims() > 3:
        raise NotConverted(f"a value per channel, type={kind}, or {n.dims()} dimensions")
    before, after = [front, top, left][3 - n.dims() :], [behind, bottom, right][3 - n.dims() :]
    if any(not 0 <= v < 1 << 20 for v in (*before, *after)):
        raise NotConverted(f"the padding {[*before, *after]}")
    where = n.g.ints([0, *before, 0, *after])
    if kind == 0:
        return n.op_("Pad", n.x(), where, n.scalar(value))
    return n.op_("Pad", n.x(), where, mode=("edge", "reflect")[kind - 1])


@converts("Interp")
def interp(n: Layer) -> str:
    kind, aligned = n.p.int(0), n.p.int(6)
    height_scale, width_scale = n.p.float(1, 1.0), n.p.float(2, 1.0)
    height, width = n.p.int(3), n.p.int(4)
    if n.p.int(5) or len(n.inputs) > 1:
        height, width = n.picture(1)[2:]
    x = n.x()
    if n.dims() == 1:
        x = reshape(n.g, x, (1, n.shape()[1], 1, 1))
    if n.g.rank(x) != 4:
        raise NotConverted(f"an input of {n.dims()} dimensions")
    shape = n.g.shape(x)
    sized = bool(height and width)
    if not sized:
        if not (0 < height_scale < 1 << 10 and 0 < width_scale < 1 << 10):
            raise ModelError(f"its scales {height_scale} and {width_scale} are out of range")
        height, width = int(shape[2] * height_scale), int(shape[3] * width_scale)
    if n.dims() == 1:
        return n.op_("Expand", x, n.g.ints([1, shape[1], height, width]))
    if kind not in (1, 2, 3) or min(height, width) < 1:
        raise NotConverted(f"resize_type={kind} to {height} x {width}")
    if (height, width) == shape[2:]:
        return x
    if kind == 1:
        rows = _source(shape[2], height, 0 if sized else height_scale)
        columns = _source(shape[3], width, 0 if sized else width_scale)
        return n.op_("Gather", n.op_("Gather", x, n.g.constant(rows), axis=2), n.g.constant(columns), axis=3)
    mode = {"mode": "linear"} if kind == 2 else {"mode": "cubic", "cubic_coeff_a": -0.75}
    place = "align_corners" if aligned else "half_pixel"
    return n.op_(
        "Resize", x, "", "", n.g.ints([*shape[:2], height, width]), coordinate_transformation_mode=place, **mode
    )


def _source(size: int, count: int, scale: float) -> Array:
    """The nearest element for each of `count` places; ncnn multiplies with a float32."""
    if count > 1 << 24:
        raise NotConverted(f"resizing to {count}")
    step = np.float32(1) / np.float32(scale) if scale else np.float32(size) / np.float32(count)
    places = (np.arange(count, dtype=np.float32) * step).astype(np.int64)
    return np.minimum(places, size - 1)


@converts("LSTM")
def lstm(n: Layer) -> str:
    """Over the rows of a matrix; gates i, f, o, g."""
    outputs, size, direction, hidden = n.p.int(0), n.p.int(1), n.p.int(2), n.p.int(3, n.p.int(0))
    if n.dims() != 2 or len(n.inputs) > 1 or len(n.p.outputs) > 1 or hidden != outputs or n.p.int(8):
        raise NotConverted("states as inputs or outputs, a projection, or int8 weights")
    steps, width = n.shape()[1:]
    count = 2 if direction == 2 else 1
    if not 0 <= direction <= 2 or outputs < 1 or size != count * 4 * hidden * width:
        raise ModelError(f"{size} weights do not fit {hidden} outputs and rows of {width}")
    arrays = [
        n.weights.tagged(math.prod(shape)).reshape(shape)
        for shape in ((count, 4, hidden, width), (count, 4, hidden), (count, 4, hidden, hidden))
    ]
    if any(a.dtype != np.float32 for a in arrays):
        raise ModelError("its weights are int8 without a scale")
    order = [0, 2, 1, 3]  # ONNX: i, o, f, g
    w, b, r = (a[:, order].reshape(count, 4 * hidden, *a.shape[3:]) for a in arrays)
    b = np.concatenate([b, np.zeros_like(b)], 1)
    x = reshape(n.g, n.x(), (steps, 1, width))
    names = [n.known(k, np.ascontiguousarray(a)) for k, a in (("W", w), ("R", r), ("B", b))]
    way = ("forward", "reverse", "bidirectional")[direction]
    y = n.g.op("LSTM", x, *names, outputs=3, hidden_size=hidden, direction=way)[0]  # steps, count, 1, hidden
    return reshape(n.g, y, (1, steps, count * hidden))
