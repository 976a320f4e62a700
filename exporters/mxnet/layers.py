"""MXNet's layers with weights, normalisation, pooling and softmax, as in src/operator/nn and src/operator."""

from __future__ import annotations

import math

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted
from dlpack.exporters.layers import along, check_channels, pool, pool_size, reshape
from dlpack.exporters.mxnet.call import Call, converts
from dlpack.exporters.mxnet.sequences import masked_softmax


def _window(c: Call, key: str, rank: int, default: int) -> list[int]:
    values = list(c.p.ints(key)) or [default] * rank
    if len(values) != rank:
        raise ModelError(f"its parameter {key}={tuple(values)} does not fit {rank} spatial dimensions")
    if any(v < (0 if key in ("pad", "adj") else 1) for v in values) or max(values) > 2**30:
        raise ModelError(f"its parameter {key}={tuple(values)} is out of range")
    return values


def _channels_first(c: Call, x: str) -> tuple[str, bool]:
    """`x` with channels second, and whether its layout had them last."""
    layout = c.p.text("layout", "None")
    if layout in ("None", "") or layout.startswith("NC"):
        return x, False
    if layout not in ("NWC", "NHWC", "NDHWC"):
        raise NotConverted(f"the layout {layout[:20]}")
    rank = c.g.rank(x)
    return c.op_("Transpose", x, perm=[0, rank - 1, *range(1, rank - 1)]), True


def _channels_back(c: Call, y: str, moved: bool) -> str:
    rank = c.g.rank(y)
    return c.op_("Transpose", y, perm=[0, *range(2, rank), 1]) if moved else y


def _check_outputs(c: Call, w: str, key: str) -> None:
    shape = c.g.shape(w)
    if shape[:1] != (c.p.int(key, shape[0] if shape else 0),):
        raise ModelError(f"its weight has the shape {list(shape)}, which does not fit {key}={c.p.int(key)}")


@converts("Convolution", "Convolution_v1", "_contrib_Convolution")
def convolution(c: Call) -> str:
    x, moved = _channels_first(c, c.floating(c.x(0)))
    kernel = list(c.p.ints("kernel"))
    rank = len(kernel)
    w = c.weight(1, "weight")
    if moved:  # the weight is (O, spatial, I)
        w = c.op_("Transpose", w, perm=[0, rank + 1, *range(1, rank + 1)])
    if c.g.shape(w)[2:] != tuple(kernel):
        raise ModelError(f"its weight has the shape {list(c.g.shape(w))}, which does not fit the kernel {kernel}")
    check_channels(c.g, x, w, c.p.int("num_group", 1))
    _check_outputs(c, w, "num_filter")
    inputs = [x, w] if c.p.bool("no_bias") else [x, w, c.weight(2, "bias")]
    pad = _window(c, "pad", rank, 0)
    y = c.op_(
        "Conv",
        *inputs,
        kernel_shape=kernel,
        strides=_window(c, "stride", rank, 1),
        dilations=_window(c, "dilate", rank, 1),
        pads=pad + pad,
        group=c.p.int("num_group", 1),
    )
    return _channels_back(c, y, moved)


@converts("Deconvolution")
def deconvolution(c: Call) -> str:
    x, moved = _channels_first(c, c.floating(c.x(0)))
    if moved:
        raise NotConverted("the channels-last layout")
    kernel = list(c.p.ints("kernel"))
    rank = len(kernel)
    stride, dilate = _window(c, "stride", rank, 1), _window(c, "dilate", rank, 1)
    pad, adj = _window(c, "pad", rank, 0), _window(c, "adj", rank, 0)
    target = c.p.ints("target_shape")
    if target and any(target):
        if len(target) != rank:
            raise ModelError(f"its parameter target_shape={target} does not fit {rank} spatial dimensions")
        for k, size in enumerate(c.g.shape(x)[2:]):
            extra = stride[k] * (size - 1) + dilate[k] * (kernel[k] - 1) + 1 - target[k]
            if extra < 0:
                raise ModelError(f"its parameter target_shape={target} is larger than what it computes")
            pad[k], adj[k] = (extra + 1) // 2, extra % 2
    w = c.weight(1, "weight")
    check_channels(c.g, x, w, c.p.int("num_group", 1), transposed=True)
    inputs = [x, w] if c.p.bool("no_bias", True) else [x, w, c.weight(2, "bias")]
    return c.op_(
        "ConvTranspose",
        *inputs,
        kernel_shape=kernel,
        strides=stride,
        dilations=dilate,
        pads=pad + pad,
        output_padding=adj,
        group=c.p.int("num_group", 1),
    )


@converts("FullyConnected")
def fully_connected(c: Call) -> str:
    x, w = c.floating(c.x(0)), c.weight(1, "weight")
    _check_outputs(c, w, "num_hidden")
    shape = c.g.shape(x)
    bias = None if c.p.bool("no_bias") else c.weight(2, "bias")
    if c.p.bool("flatten", True) or len(shape) == 2:
        x = reshape(c.g, x, (shape[0], math.prod(shape[1:])))
        return c.op_("Gemm", *([x, w] if bias is None else [x, w, bias]), transB=1)
    y = c.op_("MatMul", x, c.op_("Transpose", w, perm=[1, 0]))
    return y if bias is None else c.op_("Add", y, bias)


@converts("Activation")
def activation(c: Call) -> str:
    kinds = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softrelu": "Softplus", "softsign": "Softsign"}
    kind, x = c.p.text("act_type"), c.floating(c.x(0))
    if kind == "log_sigmoid":
        return c.op_("Neg", c.op_("Softplus", c.op_("Neg", x)))
    if kind == "mish":
        return c.op_("Mul", x, c.op_("Tanh", c.op_("Softplus", x)))
    if kind not in kinds:
        raise NotConverted(f"act_type={kind[:40]!r}")
    return c.op_(kinds[kind], x)


@converts("LeakyReLU", "LeakyReLU_v1")
def leaky_relu(c: Call) -> str:
    kind, x = c.p.text("act_type", "leaky"), c.floating(c.x(0))
    slope = c.p.float("slope", 0.25)
    if kind == "leaky":
        return c.op_("LeakyRelu", x, alpha=slope)
    if kind == "rrelu":
        return c.op_("LeakyRelu", x, alpha=(c.p.float("lower_bound", 0.125) + c.p.float("upper_bound", 0.334)) / 2)
    if kind == "elu":
        return c.op_("Elu", x, alpha=slope)
    if kind == "selu":
        return c.op_("Selu", x)
    if kind == "gelu":
        half = c.op_("Mul", x, c.g.scalar(0.5))
        return c.op_("Mul", half, c.op_("Add", c.op_("Erf", c.op_("Mul", x, c.g.scalar(0.5**0.5))), c.g.scalar(1.0)))
    if kind == "prelu":
        gamma = c.weight(1, "gamma")
        if len(c.g.shape(gamma)) == 1 and c.g.rank(x) > 1:
            gamma = along(c.g, gamma, c.g.rank(x), 1)
        return c.op_("PRelu", x, gamma)
    raise NotConverted(f"act_type={kind[:40]!r}")


@converts("BatchNorm", "BatchNorm_v1", "CuDNNBatchNorm", "_contrib_SyncBatchNorm", "_npx_batch_norm")
def batch_norm(c: Call) -> list[str]:
    x = c.floating(c.x(0))
    axis = c.axis(c.g.rank(x), 1)
    gamma, beta = c.weight(1, "gamma"), c.weight(2, "beta")
    mean, var = c.weight(3, "moving_mean"), c.weight(4, "moving_var")
    if c.p.bool("fix_gamma", c.op != "_npx_batch_norm"):
        gamma = c.g.constant(np.ones(c.g.shape(gamma), np.float32), f"{c.name}_gamma_fixed")
    last = c.g.rank(x) - 1
    order = [k for k in range(last + 1) if k != axis]
    order.insert(1, axis)
    if axis != 1:
        x = c.op_("Transpose", x, perm=order)
    y = c.op_("BatchNormalization", x, gamma, beta, mean, var, epsilon=c.p.float("eps", 1e-3))
    if axis != 1:
        y = c.op_("Transpose", y, perm=list(np.argsort(order)))
    if not c.p.bool("output_mean_var"):
        return [y]
    return [y, mean, c.op_("Reciprocal", c.op_("Sqrt", c.op_("Add", var, c.g.scalar(c.p.float("eps", 1e-3)))))]


@converts("InstanceNorm")
def instance_norm(c: Call) -> str:
    inputs = c.floating(c.x(0)), c.weight(1, "gamma"), c.weight(2, "beta")
    return c.op_("InstanceNormalization", *inputs, epsilon=c.p.float("eps", 1e-3))


@converts("LayerNorm")
def layer_norm(c: Call) -> str:
    x = c.floating(c.x(0))
    rank = c.g.rank(x)
    axis = c.axis(rank, -1)
    order = [k for k in range(rank) if k != axis] + [axis]
    if axis != rank - 1:
        x = c.op_("Transpose", x, perm=order)
    eps = c.p.float("eps", 1e-5)
    y = c.op_("LayerNormalization", x, c.weight(1, "gamma"), c.weight(2, "beta"), axis=-1, epsilon=eps)
    return c.op_("Transpose", y, perm=list(np.argsort(order))) if axis != rank - 1 else y


@converts("GroupNorm")
def group_norm(c: Call) -> str:
    x, gamma, beta = c.floating(c.x(0)), c.weight(1, "gamma"), c.weight(2, "beta")
    shape, groups = c.g.shape(x), c.p.int("num_groups", 1)
    if groups < 1 or len(shape) < 3 or shape[1] % groups:
        raise ModelError(f"num_groups={groups} does not fit an input of shape {list(shape)}")
    ones, zeros = c.g.filled((groups,), 1.0), c.g.filled((groups,), 0.0)
    y = reshape(c.g, x, (shape[0], groups, math.prod(shape[1:]) // groups))
    y = c.op_("InstanceNormalization", y, ones, zeros, epsilon=c.p.float("eps", 1e-5))
    if c.g.shape(gamma) == (groups,) and groups != shape[1]:
        y = c.op_("Add", c.op_("Mul", y, along(c.g, gamma, 3, 1)), along(c.g, beta, 3, 1))
        return reshape(c.g, y, shape)
    y = reshape(c.g, y, shape)
    return c.op_("Add", c.op_("Mul", y, along(c.g, gamma, len(shape), 1)), along(c.g, beta, len(shape), 1))


@converts("LRN")
def lrn(c: Call) -> str:
    return c.op_(
        "LRN",
        c.floating(c.x(0)),
        size=c.p.int("nsize"),
        alpha=c.p.float("alpha", 1e-4),
        beta=c.p.float("beta", 0.75),
        bias=c.p.float("knorm", 2.0),
    )


@converts("L2Normalization")
def l2_normalization(c: Call) -> str:
    x, mode = c.floating(c.x(0)), c.p.text("mode", "instance")
    rank = c.g.rank(x)
    axes = {"instance": range(1, rank), "channel": [1], "spatial": range(2, rank)}.get(mode)
    if axes is None:
        raise NotConverted(f"mode={mode[:40]!r}")
    total = c.op_("ReduceSum", c.op_("Mul", x, x), c.g.ints(list(axes)), keepdims=1)
    return c.op_("Div", x, c.op_("Sqrt", c.op_("Add", total, c.g.scalar(c.p.float("eps", 1e-10)))))


@converts("Pooling", "Pooling_v1")
def pooling(c: Call) -> str:
    x, moved = _channels_first(c, c.floating(c.x(0)))
    kind = c.p.text("pool_type", "max")
    sizes = c.g.shape(x)[2:]
    if kind not in ("max", "avg", "sum", "lp"):
        raise NotConverted(f"pool_type={kind[:40]!r}")
    power = c.p.int("p_value", 2) if kind == "lp" else 1
    if kind == "lp":  # the p-th root of a sum of x^p, without absolute values
        if power not in (1, 2, 3):
            raise NotConverted(f"p_value={power}")
        x = c.op_("Pow", x, c.g.scalar(float(power))) if power > 1 else x
    if c.p.bool("global_pool"):
        name = {"max": "GlobalMaxPool", "avg": "GlobalAveragePool"}.get(kind)
        axes = c.g.ints(list(range(2, 2 + len(sizes))))
        y = c.op_(name, x) if name else c.op_("ReduceSum", x, axes, keepdims=1)
    else:
        rank = len(c.p.ints("kernel"))
        if rank != len(sizes):
            raise ModelError(f"its kernel {c.p.ints('kernel')} does not fit an input of shape {list(c.g.shape(x))}")
        kernel, stride, pad = (_window(c, k, rank, d) for k, d in (("kernel", 1), ("stride", 1), ("pad", 0)))
        convention = c.p.text("pooling_convention", "valid")
        ends = list(pad)
        if convention == "same":
            out = [-(-n // s) for n, s in zip(sizes, stride, strict=True)]
            totals = [max(0, (o - 1) * s + k - n) for o, s, k, n in zip(out, stride, kernel, sizes, strict=True)]
            pad = [t // 2 for t in totals]
            if any(pad) or kind != "max":
                raise NotConverted("pooling_convention=same for this kernel")
        elif convention in ("valid", "full"):
            windows = zip(sizes, kernel, stride, pad, ends, strict=True)
            out = [pool_size(n, k, s, p, e, convention == "full") for n, k, s, p, e in windows]
        else:
            raise NotConverted(f"pooling_convention={convention[:40]!r}")
        name = "sum" if kind == "lp" else kind
        y = pool(c.g, x, name, kernel, stride, pad, out, c.p.bool("count_include_pad", True))
    if kind == "lp" and power > 1:
        root = c.op_("Pow", c.op_("Abs", y), c.g.scalar(1.0 / power))
        y = c.op_("Mul", c.op_("Sign", y), root) if power == 3 else root
    return _channels_back(c, y, moved)


@converts("_contrib_AdaptiveAvgPooling2D")
def adaptive_average(c: Call) -> str:
    x = c.floating(c.x(0))
    size = list(c.p.ints("output_size", (1,)))
    wanted = (size * 2)[:2] if len(size) == 1 else size
    if wanted == [1, 1]:
        return c.op_("GlobalAveragePool", x)
    y = x
    for k, out in enumerate(wanted):  # a matrix of averages per dimension
        n = c.g.shape(x)[2 + k]
        if not 0 < out <= 4096:
            raise ModelError(f"output_size={wanted} is out of range")
        matrix = np.zeros((n, out), np.float32)
        for j in range(out):
            start, end = j * n // out, -(-(j + 1) * n // out)
            matrix[start:end, j] = 1.0 / (end - start)
        y = c.op_("MatMul", c.op_("Transpose", y, perm=[0, 1, 3, 2]) if k == 0 else y, c.g.constant(matrix))
        y = c.op_("Transpose", y, perm=[0, 1, 3, 2]) if k == 0 else y
    return y


@converts("UpSampling")
def up_sampling(c: Call) -> str:
    scale, kind = c.p.int("scale"), c.p.text("sample_type", "nearest")
    if not 0 < scale <= 1024:
        raise ModelError(f"scale={scale} is out of range")
    if kind == "bilinear":
        x, w = c.floating(c.x(0)), c.weight(1, "weight")
        k, pad = 2 * scale - scale % 2, math.ceil((scale - 1) / 2)
        return c.op_(
            "ConvTranspose", x, w, kernel_shape=[k, k], strides=[scale] * 2, pads=[pad] * 4, group=c.g.shape(x)[1]
        )
    if kind != "nearest":
        raise NotConverted(f"sample_type={kind[:40]!r}")
    values = [c.floating(x) for x in c.all()]
    height = c.g.shape(values[0])[2] * scale
    results = []
    for x in values:
        factor = float(height // c.g.shape(x)[2])
        results.append(_resize(c, x, (1.0, 1.0, factor, factor), mode="nearest"))
    if len(results) == 1:
        return results[0]
    if c.p.text("multi_input_mode", "concat") == "sum":
        return c.op_("Sum", *results)
    return c.op_("Concat", *results, axis=1)


def _resize(c: Call, x: str, scales: tuple[float, ...], mode: str) -> str:
    return c.op_(
        "Resize",
        x,
        "",
        c.g.constant(np.array(scales, np.float32)),
        mode=mode,
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )


@converts("_contrib_BilinearResize2D")
def bilinear_resize(c: Call) -> str:
    x = c.floating(c.x(0))
    h, w = c.g.shape(x)[2:]
    mode = c.p.text("mode", "size")
    if mode == "size" and "scale_height" in c.p:
        out = (int(h * c.p.float("scale_height")), int(w * c.p.float("scale_width", c.p.float("scale_height"))))
    elif mode == "size":
        out = (c.p.int("height", 1), c.p.int("width", 1))
    elif mode == "like":
        h, w = c.g.shape(c.x(1))[2:]
        out = (h, w)
    else:
        raise NotConverted(f"mode={mode[:40]!r}")
    how = "align_corners" if c.p.bool("align_corners", True) else "half_pixel"
    sizes = c.g.ints([*c.g.shape(x)[:2], *out])
    return c.op_("Resize", x, "", "", sizes, mode="linear", coordinate_transformation_mode=how)


@converts("Dropout", "Dropout_v1")
def dropout(c: Call) -> str:
    return c.x(0)  # nothing at inference


# --- softmax and outputs ----------------------------------------------------------------------------------------------


def _flat_softmax(c: Call, x: str) -> str:
    shape = c.g.shape(x)
    y = c.op_("Softmax", reshape(c.g, x, (shape[0], math.prod(shape[1:]))), axis=1)
    return reshape(c.g, y, shape)


@converts("SoftmaxOutput", "Softmax")
def softmax_output(c: Call) -> str:
    x = c.floating(c.x(0))
    if c.p.bool("multi_output"):
        return c.op_("Softmax", x, axis=1)
    return c.op_("Softmax", x, axis=-1) if c.p.bool("preserve_shape") else _flat_softmax(c, x)


@converts("SoftmaxActivation")
def softmax_activation(c: Call) -> str:
    x = c.floating(c.x(0))
    return c.op_("Softmax", x, axis=1) if c.p.text("mode", "instance") == "channel" else _flat_softmax(c, x)


@converts("softmax", "log_softmax", "softmin")
def softmax(c: Call) -> str:
    x = c.floating(c.x(0))
    if c.op == "softmin":
        x = c.op_("Neg", x)
    if "temperature" in c.p:
        x = c.op_("Div", x, c.g.scalar(c.p.float("temperature")))
    axis = c.axis(c.g.rank(x), -1)
    if c.p.bool("use_length"):
        return masked_softmax(c, x, axis, c.op == "log_softmax")
    return c.op_("LogSoftmax" if c.op == "log_softmax" else "Softmax", x, axis=axis)


@converts("LinearRegressionOutput", "MAERegressionOutput", "SVMOutput", "MakeLoss", "make_loss")
def identity_output(c: Call) -> str:
    return c.x(0)


@converts("LogisticRegressionOutput")
def logistic_output(c: Call) -> str:
    return c.op_("Sigmoid", c.floating(c.x(0)))


@converts("IdentityAttachKLSparseReg")
def identity_regularised(c: Call) -> str:
    return c.x(0)
