"""Caffe's layers, as in src/caffe/layers of BVLC/caffe and of the SSD, DeepLab and ShuffleNet branches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted
from dlpack.exporters.caffe.call import Layer, converts
from dlpack.exporters.caffe.files import Message
from dlpack.exporters.layers import along, check_channels, pool, pool_size, reshape, slice_axis, split

# --- layers with weights ----------------------------------------------------------------------------------------------


def _window(p: Message, key: str, rank: int, default: int | None) -> list[int]:
    """A size per spatial dimension: `kernel_size` once or for each, or `kernel_h` and `kernel_w`."""
    short = "kernel" if key == "kernel_size" else key
    if f"{short}_h" in p or f"{short}_w" in p:
        values = [p.int(f"{short}_h", default or 0), p.int(f"{short}_w", default or 0)]
    else:
        values = p.ints(key)
    if not values:
        if default is None:
            raise ModelError(f"its {key} is missing")
        values = [default]
    values = values * rank if len(values) == 1 else values
    if len(values) != rank or any(not (0 if key == "pad" else 1) <= v < 2**30 for v in values):
        raise ModelError(f"its {key} {values} does not fit {rank} spatial dimensions")
    return values


@converts("Convolution", "ConvolutionDepthwise", "DepthwiseConvolution", "Deconvolution")
def convolution(n: Layer) -> list[str]:
    p = n.p("convolution_param")
    if p.int("axis", 1) != 1:
        raise NotConverted("an axis other than 1")
    deconvolution = n.type == "Deconvolution"
    results = []
    for i, x in enumerate(n.bottoms):  # all bottoms share the weights
        channels, rank = n.shape(i)[1], n.rank(i) - 2
        kernel = _window(p, "kernel_size", rank, None)
        outputs, group = p.int("num_output"), p.int("group", 1)
        if "Depthwise" in n.type:
            group = channels
        if outputs < 1 or group < 1 or channels % group or outputs % group:
            raise ModelError(f"num_output {outputs}, group {group} do not fit {channels} channels")
        shape = (channels, outputs // group) if deconvolution else (outputs, channels // group)
        w = n.blob(0, (*shape, *kernel))
        check_channels(n.g, x, w, group, transposed=deconvolution)
        inputs = [x, w, n.blob(1, (outputs,))] if p.bool("bias_term", True) else [x, w]
        results.append(
            n.op(
                "ConvTranspose" if deconvolution else "Conv",
                *inputs,
                kernel_shape=kernel,
                strides=_window(p, "stride", rank, 1),
                dilations=_window(p, "dilation", rank, 1),
                pads=_window(p, "pad", rank, 0) * 2,
                group=group,
            )
        )
    return results


@converts("InnerProduct")
def inner_product(n: Layer) -> str:
    p = n.p("inner_product_param")
    shape, outputs = n.shape(), p.int("num_output")
    axis = n.axis(p, 1, len(shape))
    rows, inputs = math.prod(shape[:axis]), math.prod(shape[axis:])
    flipped = p.bool("transpose")
    w = n.blob(0, (inputs, outputs) if flipped else (outputs, inputs))
    x = reshape(n.g, n.x(), (rows, inputs))
    values = [x, w, n.blob(1, (outputs,))] if p.bool("bias_term", True) else [x, w]
    return reshape(n.g, n.op("Gemm", *values, transB=int(not flipped)), (*shape[:axis], outputs))


@converts("Embed")
def embed(n: Layer) -> str:
    p = n.p("embed_param")
    outputs = p.int("num_output")
    w = n.blob(0, (p.int("input_dim"), outputs))
    y = n.op("Gather", w, n.op("Cast", n.x(), to=7), axis=0)
    return n.op("Add", y, n.blob(1, (outputs,))) if p.bool("bias_term", True) else y


@converts("BatchNorm")
def batch_norm(n: Layer) -> str:
    p, shape = n.p("batch_norm_param"), n.shape()
    if not p.bool("use_global_stats", True):
        raise NotConverted("use_global_stats: false, the statistics of each batch,")
    channels = shape[1] if len(shape) > 1 else 1
    factor = float(n.array(2, (1,))[0])
    scale = 1.0 / factor if factor else 0.0
    mean, var = (n.array(i, (channels,)).astype(np.float64) * scale for i in (0, 1))
    ones, zeros = n.g.filled((channels,), 1.0), n.g.filled((channels,), 0.0)
    stats = [n.g.constant(v.astype(np.float32), f"{n.name}_{k}") for v, k in ((mean, "mean"), (var, "var"))]
    x = n.x() if len(shape) > 1 else reshape(n.g, n.x(), (shape[0], 1))
    y = n.op("BatchNormalization", x, ones, zeros, *stats, epsilon=p.float("eps", 1e-5))
    return reshape(n.g, y, shape)


def _factor(n: Layer, p: Message, blob: int) -> str:
    """The second operand of Scale and Bias, shaped to broadcast: the second bottom, or a weight."""
    rank = n.rank()
    axis = n.axis(p, 1, rank)
    if len(n.bottoms) > 1:
        return along(n.g, n.x(1), rank, axis if n.rank(1) else rank)
    axes = p.int("num_axes", 1)
    end = rank if axes == -1 else axis + axes
    if not axis <= end <= rank:
        raise ModelError(f"its num_axes {axes} does not fit an input of {rank} dimensions")
    return along(n.g, n.blob(blob, n.shape()[axis:end]), rank, axis)


@converts("Scale")
def scale(n: Layer) -> str:
    p = n.p("scale_param")
    factor = _factor(n, p, 0)
    y = n.op("Mul", n.x(), factor)
    if not p.bool("bias_term"):
        return y
    k = 0 if len(n.bottoms) > 1 else 1
    axis = n.axis(p, 1, n.rank())
    shape = (
        n.shape(1)
        if len(n.bottoms) > 1
        else n.shape()[axis : n.rank() if p.int("num_axes", 1) == -1 else axis + p.int("num_axes", 1)]
    )
    return n.op("Add", y, along(n.g, n.blob(k, shape), n.rank(), axis))


@converts("Bias")
def bias(n: Layer) -> str:
    return n.op("Add", n.x(), _factor(n, n.p("bias_param"), 0))


@converts("Axpy")
def axpy(n: Layer) -> str:
    """a (N, C or N, C, 1, 1) times x, plus y: squeeze-and-excitation networks' fused layer."""
    a = reshape(n.g, n.x(0), (*n.shape(0)[:2], *([1] * (n.rank(1) - 2))))
    return n.op("Add", n.op("Mul", a, n.x(1)), n.x(2))


@converts("LSTM")
def lstm(n: Layer) -> list[str]:
    """x (T, N, ...), cont (T, N): where cont is 0 a sequence begins. Gates i, f, o, g; unrolled, for cont is data."""
    p = n.p("recurrent_param")
    hidden, exposed = p.int("num_output"), p.bool("expose_hidden")
    steps, batch = n.shape()[:2]
    size = math.prod(n.shape()[2:])
    if len(n.bottoms) != (4 if exposed else 2):
        raise NotConverted("a static input")
    if steps > 256 or not 0 < hidden < 2**20:
        raise NotConverted(f"{steps} time steps of {hidden} values")
    w, b, r = n.blob(0, (4 * hidden, size)), n.blob(1, (4 * hidden,)), n.blob(2, (4 * hidden, hidden))
    flat = reshape(n.g, n.x(0), (steps * batch, size))
    gates = reshape(n.g, n.op("Gemm", flat, w, b, transB=1), (steps, batch, 4 * hidden))
    inputs = split(n.g, gates, 0, [1] * steps)
    conts = split(n.g, reshape(n.g, n.x(1), (steps, batch, 1)), 0, [1] * steps)
    if exposed:
        h, c = (reshape(n.g, n.x(k), (batch, hidden)) for k in (2, 3))
    else:
        h = c = n.g.filled((batch, hidden), 0.0)
    results = []
    for x, cont in zip(inputs, conts, strict=True):
        keep = reshape(n.g, cont, (batch, 1))
        z = n.op("Add", n.op("Gemm", n.op("Mul", h, keep), r, transB=1), reshape(n.g, x, (batch, 4 * hidden)))
        sigmoid, g = split(n.g, z, 1, [3 * hidden, hidden])
        i, f, o = split(n.g, n.op("Sigmoid", sigmoid), 1, [hidden] * 3)
        c = n.op("Add", n.op("Mul", f, n.op("Mul", c, keep)), n.op("Mul", i, n.op("Tanh", g)))
        h = n.op("Mul", o, n.op("Tanh", c))
        results.append(reshape(n.g, h, (1, batch, hidden)))
    y = n.op("Concat", *results, axis=0) if steps > 1 else results[0]
    return [y, *(reshape(n.g, v, (1, batch, hidden)) for v in (h, c))] if exposed else [y]


# --- windows and normalisation ----------------------------------------------------------------------------------------


@converts("Pooling")
def pooling(n: Layer) -> str:
    p, x = n.p("pooling_param"), n.x()
    method = p.choice("pool", ("MAX", "AVE", "STOCHASTIC"))
    if method not in ("MAX", "AVE"):
        raise NotConverted(f"pool: {method[:20]}")
    if n.tops > 1:
        raise NotConverted("the mask of a max pooling")
    if p.bool("global_pooling"):
        return n.op("GlobalMaxPool" if method == "MAX" else "GlobalAveragePool", x)
    sizes = n.shape()[2:]
    kernel, stride, pad = (_window(p, k, 2, d) for k, d in (("kernel_size", None), ("stride", 1), ("pad", 0)))
    ceil = p.choice("round_mode", ("CEIL", "FLOOR")) == "CEIL" and p.bool("ceil_mode", True)
    out = [pool_size(s, k, t, q, q, ceil) for s, k, t, q in zip(sizes, kernel, stride, pad, strict=True)]
    if any(pad):  # the last window has to begin inside the image or its padding before
        out = [o - int((o - 1) * t >= s + q) for o, s, t, q in zip(out, sizes, stride, pad, strict=True)]
    return pool(n.g, x, "max" if method == "MAX" else "avg", kernel, stride, pad, out)


@converts("LRN")
def lrn(n: Layer) -> str:
    p, x = n.p("lrn_param"), n.x()
    size, alpha, beta = p.int("local_size", 5), p.float("alpha", 1.0), p.float("beta", 0.75)
    if size < 1 or size % 2 == 0:
        raise ModelError(f"its local_size {size} must be odd")
    if p.choice("norm_region", ("ACROSS_CHANNELS", "WITHIN_CHANNEL")) == "ACROSS_CHANNELS":
        return n.op("LRN", x, size=size, alpha=alpha, beta=beta, bias=p.float("k", 1.0))
    mean = pool(n.g, n.op("Mul", x, x), "avg", [size] * 2, [1, 1], [(size - 1) // 2] * 2, n.shape()[2:])
    return n.op("Mul", x, n.op("Pow", n.op("Add", n.op("Mul", mean, n.scalar(alpha)), n.scalar(1.0)), n.scalar(-beta)))


@converts("MVN")
def mvn(n: Layer) -> str:
    p, x = n.p("mvn_param"), n.x()
    axes = list(range(1 if p.bool("across_channels") else 2, n.rank()))
    if not axes:
        raise ModelError(f"it has no dimensions to normalise over: {list(n.shape())}")
    y = n.op("Sub", x, n.op("ReduceMean", x, axes=axes, keepdims=1))
    if not p.bool("normalize_variance", True):
        return y
    deviation = n.op("Sqrt", n.op("ReduceMean", n.op("Mul", y, y), axes=axes, keepdims=1))
    return n.op("Div", y, n.op("Add", deviation, n.scalar(p.float("eps", 1e-9))))


@converts("Normalize")
def normalize(n: Layer) -> str:
    """SSD's: every place (or the whole image) to length 1, then a scale per channel."""
    p, x = n.p("norm_param"), n.x()
    axes = [1, 2, 3] if p.bool("across_spatial", True) else [1]
    total = n.op("ReduceSum", n.op("Mul", x, x), n.g.ints(axes), keepdims=1)
    y = n.op("Div", x, n.op("Sqrt", n.op("Add", total, n.scalar(p.float("eps", 1e-10)))))
    shared = p.bool("channel_shared", True)
    return n.op("Mul", y, along(n.g, n.blob(0, (1,) if shared else (n.shape()[1],)), n.rank(), 1))


@converts("Interp")
def interp(n: Layer) -> str:
    """DeepLab's bilinear resizing, corners aligned."""
    p, x = n.p("interp_param"), n.x()
    begin, end = p.int("pad_beg"), p.int("pad_end")
    if begin > 0 or end > 0:
        raise ModelError("its pad_beg and pad_end cut the image: they must not be positive")
    for axis in (2, 3):
        if begin or end:
            x = slice_axis(n.g, x, axis, -begin, n.g.shape(x)[axis] + end)
    sizes = n.g.shape(x)[2:]
    shrink, zoom = p.int("shrink_factor", 1), p.int("zoom_factor", 1)
    if shrink < 1 or zoom < 1:
        raise ModelError("its shrink_factor and zoom_factor must be positive")
    out = [(s - 1) // shrink + 1 for s in sizes]
    out = [s + (s - 1) * (zoom - 1) for s in out]
    if "height" in p and "width" in p:
        out = [p.int("height"), p.int("width")]
    wanted = n.g.ints([*n.shape()[:2], *out])
    return n.op("Resize", x, "", "", wanted, mode="linear", coordinate_transformation_mode="align_corners")


@converts("Upsample")
def upsample(n: Layer) -> str:
    factor = float(n.p("upsample_param").int("scale", 2))
    scales = n.g.constant(np.array([1, 1, factor, factor], np.float32))
    return n.op(
        "Resize", n.x(), "", scales, mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric"
    )


# --- element by element -----------------------------------------------------------------------------------------------


@converts("ReLU")
def relu(n: Layer) -> str:
    slope = n.p("relu_param").float("negative_slope", 0.0)
    return n.op("LeakyRelu", n.x(), alpha=slope) if slope else n.op("Relu", n.x())


@converts("PReLU")
def prelu(n: Layer) -> str:
    if n.p("prelu_param").bool("channel_shared"):
        return n.op("PRelu", n.x(), n.blob(0, (1,)))
    return n.op("PRelu", n.x(), along(n.g, n.blob(0, (n.shape()[1],)), n.rank(), 1))


@converts("ELU")
def elu(n: Layer) -> str:
    return n.op("Elu", n.x(), alpha=n.p("elu_param").float("alpha", 1.0))


@converts("ReLU6")
def relu6(n: Layer) -> str:
    return n.op("Clip", n.x(), n.scalar(0.0), n.scalar(6.0))


@converts("Clip")
def clip(n: Layer) -> str:
    p = n.p("clip_param")
    return n.op("Clip", n.x(), n.scalar(p.float("min")), n.scalar(p.float("max")))


@converts("Swish")
def swish(n: Layer) -> str:
    beta = n.p("swish_param").float("beta", 1.0)
    return n.op("Mul", n.x(), n.op("Sigmoid", n.op("Mul", n.x(), n.scalar(beta)) if beta != 1.0 else n.x()))


@converts("Sigmoid", "TanH", "AbsVal", "BNLL", "SigmoidCrossEntropyLoss")
def unary(n: Layer) -> str:
    kinds = {"TanH": "Tanh", "AbsVal": "Abs", "BNLL": "Softplus"}
    return n.op(kinds.get(n.type, "Sigmoid"), n.x())


@converts("Threshold")
def threshold(n: Layer) -> str:
    return n.op("Cast", n.op("Greater", n.x(), n.scalar(n.p("threshold_param").float("threshold", 0.0))), to=1)


def _linear(n: Layer, p: Message, x: str, factor: float = 1.0) -> str:
    """(shift + scale * x) * factor."""
    a, b = p.float("scale", 1.0) * factor, p.float("shift", 0.0) * factor
    x = n.op("Mul", x, n.scalar(a)) if a != 1.0 else x
    return n.op("Add", x, n.scalar(b)) if b else x


@converts("Power")
def power(n: Layer) -> str:
    p = n.p("power_param")
    y, exponent = _linear(n, p, n.x()), p.float("power", 1.0)
    return y if exponent == 1.0 else n.op("Pow", y, n.scalar(exponent))


def _log_base(p: Message) -> float:
    base = p.float("base", -1.0)
    if base != -1.0 and (base <= 0 or base == 1.0):
        raise ModelError(f"its base {base} must be positive and not 1")
    return 1.0 if base == -1.0 else math.log(base)


@converts("Exp")
def exp(n: Layer) -> str:
    p = n.p("exp_param")
    return n.op("Exp", _linear(n, p, n.x(), _log_base(p)))


@converts("Log")
def log(n: Layer) -> str:
    p = n.p("log_param")
    y, base = n.op("Log", _linear(n, p, n.x())), _log_base(p)
    return y if base == 1.0 else n.op("Mul", y, n.scalar(1.0 / base))


@converts("Dropout", "Split", "Silence", "EuclideanLoss")
def passed(n: Layer) -> list[str]:
    return [n.x()] * n.tops


@converts("Eltwise")
def eltwise(n: Layer) -> str:
    p, values = n.p("eltwise_param"), list(n.bottoms)
    operation = (
        p.choice("operation", ("SUM", "SUM", "MAX"))
        if "operation" not in p
        else p.choice("operation", ("PROD", "SUM", "MAX"))
    )
    coefficients = p.floats("coeff")
    if coefficients and (operation != "SUM" or len(coefficients) != len(values)):
        raise ModelError("its coeff needs one value per bottom, and the operation SUM")
    if len({n.g.shape(v) for v in values}) > 1:
        raise ModelError(f"its bottoms differ in shape: {', '.join(str(list(n.g.shape(v))) for v in values)}")
    for k, c in enumerate(coefficients):
        if c != 1.0:
            values[k] = n.op("Mul", values[k], n.scalar(c))
    if operation == "SUM":
        return n.op("Add", *values) if len(values) == 2 else n.op("Sum", *values)
    if operation == "MAX":
        return n.op("Max", *values)
    if operation != "PROD":
        raise NotConverted(f"operation: {operation[:20]}")
    y = values[0]
    for v in values[1:]:
        y = n.op("Mul", y, v)
    return y


# --- shapes -----------------------------------------------------------------------------------------------------------


@converts("Concat")
def concat(n: Layer) -> str:
    p = n.p("concat_param")
    axis = n.axis(p, 1, n.rank(), "concat_dim" if "concat_dim" in p else "axis")
    return n.op("Concat", *n.bottoms, axis=axis) if len(n.bottoms) > 1 else n.x()


@converts("Slice")
def slice_layer(n: Layer) -> list[str]:
    p = n.p("slice_param")
    axis = n.axis(p, 1, n.rank(), "slice_dim" if "slice_dim" in p else "axis")
    size, points = n.shape()[axis], p.ints("slice_point")
    if not points:
        if size % n.tops:
            raise ModelError(f"{n.tops} tops do not divide {size}")
        return split(n.g, n.x(), axis, [size // n.tops] * n.tops)
    bounds = [0, *points, size]
    if len(points) != n.tops - 1 or sorted(set(bounds)) != bounds:
        raise ModelError(f"its slice_point {points} does not cut {size} into {n.tops}")
    return split(n.g, n.x(), axis, [b - a for a, b in zip(bounds, bounds[1:], strict=False)])


@converts("Reshape")
def reshape_layer(n: Layer) -> str:
    p, shape = n.p("reshape_param"), n.shape()
    dims, axes = p.message("shape").ints("dim"), p.int("num_axes", -1)
    start = p.int("axis", 0)
    start = start + len(shape) + 1 if start < 0 else start
    end = len(shape) if axes == -1 else start + axes
    if not 0 <= start <= end <= len(shape):
        raise ModelError(f"its axis and num_axes do not fit {list(shape)}")
    out = list(shape[:start])
    for k, d in enumerate(dims):
        if d == 0 and start + k >= len(shape):
            raise ModelError(f"its shape {dims} does not fit {list(shape)}")
        out.append(shape[start + k] if d == 0 else d)
    out += shape[end:]
    if out.count(-1) == 1:
        known = math.prod(v for v in out if v != -1)
        out[out.index(-1)] = math.prod(shape) // known if known else 0
    if math.prod(out) != math.prod(shape) or any(v <= 0 for v in out):
        raise ModelError(f"{list(shape)} cannot be reshaped to {dims}")
    return reshape(n.g, n.x(), out)


@converts("Flatten")
def flatten(n: Layer) -> str:
    p, shape = n.p("flatten_param"), n.shape()
    start, end = n.axis(p, 1, len(shape)), n.axis(p, -1, len(shape), "end_axis")
    if end < start:
        raise ModelError(f"its axis {start} lies behind its end_axis {end}")
    return reshape(n.g, n.x(), (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))


@converts("Permute")
def permute(n: Layer) -> str:
    order = n.p("permute_param").ints("order")
    order += [k for k in range(n.rank()) if k not in order]
    if sorted(order) != list(range(n.rank())):
        raise ModelError(f"its order {order} does not fit an input of {n.rank()} dimensions")
    return n.op("Transpose", n.x(), perm=order)


@converts("Crop")
def crop(n: Layer) -> str:
    p, x = n.p("crop_param"), n.x()
    axis, offsets = n.axis(p, 2, n.rank()), p.ints("offset") or [0]
    count = n.rank() - axis
    offsets = offsets * count if len(offsets) == 1 else offsets
    if len(offsets) != count or n.rank(1) != n.rank():
        raise ModelError(f"its offset {offsets} does not fit {count} dimensions")
    for k, offset in enumerate(offsets, axis):
        size = n.shape(1)[k]
        if offset < 0 or offset + size > n.shape()[k]:
            raise ModelError(f"the crop of {size} at {offset} does not lie in {n.shape()[k]}")
        if size != n.shape()[k]:
            x = slice_axis(n.g, x, k, offset, offset + size)
    return x


@converts("Tile")
def tile(n: Layer) -> str:
    p = n.p("tile_param")
    reps = [1] * n.rank()
    reps[n.axis(p, 1, n.rank())] = p.int("tiles", 1)
    return n.op("Tile", n.x(), n.g.ints(reps))


@converts("ShuffleChannel")
def shuffle_channel(n: Layer) -> str:
    shape, groups = n.shape(), n.p("shuffle_channel_param").int("group", 1)
    if groups < 1 or shape[1] % groups:
        raise ModelError(f"group {groups} does not divide {shape[1]} channels")
    y = reshape(n.g, n.x(), (shape[0], groups, shape[1] // groups, math.prod(shape[2:])))
    return reshape(n.g, n.op("Transpose", y, perm=[0, 2, 1, 3]), shape)


# --- reductions and outputs -------------------------------------------------------------------------------------------


@converts("Softmax", "SoftmaxWithLoss")
def softmax(n: Layer) -> str:
    return n.op("Softmax", n.x(), axis=n.axis(n.p("softmax_param"), 1, n.rank()))


@converts("Reduction")
def reduction(n: Layer) -> str:
    p, x = n.p("reduction_param"), n.x()
    shape = n.shape()
    axis = n.axis(p, 0, n.rank())
    operation = p.choice("operation", ("SUM", "ASUM", "SUMSQ", "MEAN"), first=1)
    kinds = {"SUM": "ReduceSum", "ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean"}
    if operation not in kinds:
        raise NotConverted(f"operation: {operation[:20]}")
    axes = list(range(axis, len(shape)))
    where: dict[str, Any] = {} if operation == "SUM" else {"axes": axes}
    y = n.op(kinds[operation], x, *([n.g.ints(axes)] if operation == "SUM" else []), keepdims=0, **where)
    factor = p.float("coeff", 1.0)
    return n.op("Mul", y, n.scalar(factor)) if factor != 1.0 else y


@converts("ArgMax")
def arg_max(n: Layer) -> str:
    p, x, shape = n.p("argmax_param"), n.x(), n.shape()
    count, values = p.int("top_k", 1), p.bool("out_max_val")
    fixed = "axis" in p
    axis = n.axis(p, 1, len(shape)) if fixed else 1
    if not fixed:
        x = reshape(n.g, x, (shape[0], math.prod(shape[1:])))
    if not 0 < count <= n.g.shape(x)[axis]:
        raise ModelError(f"top_k {count} is out of range")
    best, places = n.g.op("TopK", x, n.g.ints([count]), axis=axis, outputs=2)
    places = n.op("Cast", places, to=1)
    if fixed:
        return best if values else places
    rows = [reshape(n.g, v, (shape[0], 1, count)) for v in ((places, best) if values else (places,))]
    return n.op("Concat", *rows, axis=1) if values else rows[0]
