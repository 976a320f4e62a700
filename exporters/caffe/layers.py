"""Caffe's layers with weights or windows, normalisation and softmax.

These, and those of the other files here, are as in src/caffe/layers of BVLC/caffe and of the SSD, DeepLab and
ShuffleNet branches.
"""

from __future__ import annotations

import math

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
            n.op_(
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
    return reshape(n.g, n.op_("Gemm", *values, transB=int(not flipped)), (*shape[:axis], outputs))


@converts("Embed")
def embed(n: Layer) -> str:
    p = n.p("embed_param")
    outputs = p.int("num_output")
    w = n.blob(0, (p.int("input_dim"), outputs))
    y = n.op_("Gather", w, n.op_("Cast", n.x(), to=7), axis=0)
    return n.op_("Add", y, n.blob(1, (outputs,))) if p.bool("bias_term", True) else y


@converts("BatchNorm")
def batch_norm(n: Layer) -> str:
    p, shape = n.p("batch_norm_param"), n.shape()
    if not p.bool("use_global_stats", True):
        raise NotConverted("use_global_stats: false, the statistics of each batch,")
    channels = shape[1] if len(shape) > 1 else 1
    factor = float(n.array(2, (1,))[0])
    scale = 1.0 / factor if factor else 0.0
    mean, var = (n.array(i, (channels,)).astype(np.float64) * scale for i in (0, 1))
    if len(n.blobs) == 5 or p.bool("scale_bias") or "scale_filler" in p or "bias_filler" in p:  # NVIDIA's branch
        factors = [n.blob(i, (channels,)) for i in (3, 4)]
    else:
        factors = [n.g.filled((channels,), v) for v in (1.0, 0.0)]
    stats = [n.g.constant(v.astype(np.float32), f"{n.name}_{k}") for v, k in ((mean, "mean"), (var, "var"))]
    x = n.x() if len(shape) > 1 else reshape(n.g, n.x(), (shape[0], 1))
    y = n.op_("BatchNormalization", x, *factors, *stats, epsilon=p.float("eps", 1e-5))
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
    y = n.op_("Mul", n.x(), factor)
    if not p.bool("bias_term"):
        return y
    k = 0 if len(n.bottoms) > 1 else 1
    axis = n.axis(p, 1, n.rank())
    shape = (
        n.shape(1)
        if len(n.bottoms) > 1
        else n.shape()[axis : n.rank() if p.int("num_axes", 1) == -1 else axis + p.int("num_axes", 1)]
    )
    return n.op_("Add", y, along(n.g, n.blob(k, shape), n.rank(), axis))


@converts("Bias")
def bias(n: Layer) -> str:
    return n.op_("Add", n.x(), _factor(n, n.p("bias_param"), 0))


@converts("Axpy")
def axpy(n: Layer) -> str:
    """a (N, C or N, C, 1, 1) times x, plus y: squeeze-and-excitation networks' fused layer."""
    a = reshape(n.g, n.x(0), (*n.shape(0)[:2], *([1] * (n.rank(1) - 2))))
    return n.op_("Add", n.op_("Mul", a, n.x(1)), n.x(2))


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
    gates = reshape(n.g, n.op_("Gemm", flat, w, b, transB=1), (steps, batch, 4 * hidden))
    inputs = split(n.g, gates, 0, [1] * steps)
    conts = split(n.g, reshape(n.g, n.x(1), (steps, batch, 1)), 0, [1] * steps)
    if exposed:
        h, c = (reshape(n.g, n.x(k), (batch, hidden)) for k in (2, 3))
    else:
        h = c = n.g.filled((batch, hidden), 0.0)
    results = []
    for x, cont in zip(inputs, conts, strict=True):
        keep = reshape(n.g, cont, (batch, 1))
        z = n.op_("Add", n.op_("Gemm", n.op_("Mul", h, keep), r, transB=1), reshape(n.g, x, (batch, 4 * hidden)))
        sigmoid, g = split(n.g, z, 1, [3 * hidden, hidden])
        i, f, o = split(n.g, n.op_("Sigmoid", sigmoid), 1, [hidden] * 3)
        c = n.op_("Add", n.op_("Mul", f, n.op_("Mul", c, keep)), n.op_("Mul", i, n.op_("Tanh", g)))
        h = n.op_("Mul", o, n.op_("Tanh", c))
        results.append(reshape(n.g, h, (1, batch, hidden)))
    y = n.op_("Concat", *results, axis=0) if steps > 1 else results[0]
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
        return n.op_("GlobalMaxPool" if method == "MAX" else "GlobalAveragePool", x)
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
        return n.op_("LRN", x, size=size, alpha=alpha, beta=beta, bias=p.float("k", 1.0))
    mean = pool(n.g, n.op_("Mul", x, x), "avg", [size] * 2, [1, 1], [(size - 1) // 2] * 2, n.shape()[2:])
    return n.op_(
        "Mul", x, n.op_("Pow", n.op_("Add", n.op_("Mul", mean, n.scalar(alpha)), n.scalar(1.0)), n.scalar(-beta))
    )


@converts("MVN")
def mvn(n: Layer) -> str:
    p, x = n.p("mvn_param"), n.x()
    axes = list(range(1 if p.bool("across_channels") else 2, n.rank()))
    if not axes:
        raise ModelError(f"it has no dimensions to normalise over: {list(n.shape())}")
    y = n.op_("Sub", x, n.op_("ReduceMean", x, axes=axes, keepdims=1))
    if not p.bool("normalize_variance", True):
        return y
    deviation = n.op_("Sqrt", n.op_("ReduceMean", n.op_("Mul", y, y), axes=axes, keepdims=1))
    return n.op_("Div", y, n.op_("Add", deviation, n.scalar(p.float("eps", 1e-9))))


@converts("Normalize")
def normalize(n: Layer) -> str:
    """SSD's: every place (or the whole image) to length 1, then a scale per channel."""
    p, x = n.p("norm_param"), n.x()
    axes = [1, 2, 3] if p.bool("across_spatial", True) else [1]
    total = n.op_("ReduceSum", n.op_("Mul", x, x), n.g.ints(axes), keepdims=1)
    y = n.op_("Div", x, n.op_("Sqrt", n.op_("Add", total, n.scalar(p.float("eps", 1e-10)))))
    shared = p.bool("channel_shared", True)
    return n.op_("Mul", y, along(n.g, n.blob(0, (1,) if shared else (n.shape()[1],)), n.rank(), 1))


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
    return n.op_("Resize", x, "", "", wanted, mode="linear", coordinate_transformation_mode="align_corners")


@converts("Upsample")
def upsample(n: Layer) -> str:
    factor = float(n.p("upsample_param").int("scale", 2))
    scales = n.g.constant(np.array([1, 1, factor, factor], np.float32))
    return n.op_(
        "Resize", n.x(), "", scales, mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric"
    )


@converts("Softmax", "SoftmaxWithLoss")
def softmax(n: Layer) -> str:
    return n.op_("Softmax", n.x(), axis=n.axis(n.p("softmax_param"), 1, n.rank()))
