"""MIL's operations with weights, windows and normalisation, as coremltools' documentation defines them."""

from __future__ import annotations

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted
from dlpack.exporters.coreml.call import Call, converts
from dlpack.exporters.layers import along, check_channels


def _pads(c: Call, kernel: list[int], strides: list[int], dilations: list[int]) -> list[int]:
    """ONNX's pads: all begins, then all ends."""
    kind, rank = c.text("pad_type", "valid"), len(kernel)
    if kind == "valid":
        return [0] * (2 * rank)
    if kind == "custom":
        given = c.ints("pad", [0] * (2 * rank))
        if len(given) != 2 * rank or any(not 0 <= p < 1 << 20 for p in given):
            raise ModelError(f"its pad {given} does not fit {rank} dimensions")
        return given[::2] + given[1::2]
    if kind not in ("same", "same_lower"):
        raise NotConverted(f"pad_type={kind[:20]}")
    sizes = c.shape()[2:]
    steps = zip(sizes, kernel, strides, dilations, strict=True)
    total = [max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n) for n, k, s, d in steps]
    less, more = [t // 2 for t in total], [t - t // 2 for t in total]
    return less + more if kind == "same" else more + less


def _window(c: Call, kernel: list[int]) -> tuple[list[int], list[int]]:
    """Strides and dilations."""
    rank = c.g.rank(c.x()) - 2
    strides, dilations = c.ints("strides", [1] * rank), c.ints("dilations", [1] * rank)
    if not rank == len(kernel) == len(strides) == len(dilations) or min(*kernel, *strides, *dilations, 1) < 1:
        raise ModelError(f"its kernel {kernel}, strides {strides} and dilations {dilations} do not fit its input")
    return strides, dilations


@converts("conv")
def conv(c: Call) -> str:
    weight, groups = c.x("weight"), c.whole("groups", 1)
    kernel = list(c.g.shape(weight)[2:])
    strides, dilations = _window(c, kernel)
    check_channels(c.g, c.x(), weight, groups)
    inputs = [c.x(), weight, *(c.all("bias") if "bias" in c else [])]
    pads = _pads(c, kernel, strides, dilations)
    return c.op_("Conv", *inputs, kernel_shape=kernel, strides=strides, dilations=dilations, pads=pads, group=groups)


@converts("conv_transpose")
def conv_transpose(c: Call) -> str:
    weight, groups = c.x("weight"), c.whole("groups", 1)
    kernel = list(c.g.shape(weight)[2:])
    strides, dilations = _window(c, kernel)
    check_channels(c.g, c.x(), weight, groups, transposed=True)
    if c.text("pad_type", "valid") not in ("valid", "custom"):
        raise NotConverted("pad_type=same")
    pads = _pads(c, kernel, strides, dilations)
    rank, extra = len(kernel), [0] * len(kernel)
    if "output_shape" in c:
        wanted, sizes = c.ints("output_shape")[-rank:], c.shape()[2:]
        plain = [
            (n - 1) * s + (k - 1) * d + 1 - pads[i] - pads[rank + i]
            for i, (n, k, s, d) in enumerate(zip(sizes, kernel, strides, dilations, strict=True))
        ]
        extra = [w - p for w, p in zip(wanted, plain, strict=True)]
        if any(not 0 <= e < max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
            raise NotConverted(f"output_shape {wanted}")
    inputs = [c.x(), weight, *(c.all("bias") if "bias" in c else [])]
    return c.op_(
        "ConvTranspose", *inputs, kernel_shape=kernel, strides=strides, dilations=dilations, pads=pads, group=groups,
        output_padding=extra,
    )  # fmt: skip


@converts("linear")
def linear(c: Call) -> str:
    weight = c.op_("Transpose", c.x("weight"), perm=[1, 0])
    y = c.op_("MatMul", c.x(), weight)
    return c.op_("Add", y, c.x("bias")) if "bias" in c else y


@converts("matmul")
def matmul(c: Call) -> str:
    operands = []
    for name in ("x", "y"):
        value, rank = c.x(name), len(c.shape(name))
        if c.whole(f"transpose_{name}", 0):
            if rank < 2:
                raise NotConverted("a transposed vector")
            value = c.op_("Transpose", value, perm=[*range(rank - 2), rank - 1, rank - 2])
        operands.append(value)
    return c.op_("MatMul", *operands)


@converts("max_pool", "avg_pool")
def pool(c: Call) -> str:
    kernel = c.ints("kernel_sizes")
    strides, ones = _window(c, kernel)
    pads, rank = _pads(c, kernel, strides, ones), len(kernel)
    average, counted = c.type == "avg_pool", not c.whole("exclude_padding_from_average", 0)
    if c.whole("ceil_mode", 0):
        for k, (n, size, step) in enumerate(zip(c.shape()[2:], kernel, strides, strict=True)):
            more = -(n + pads[k] + pads[rank + k] - size) % step
            last = (n + pads[k] + pads[rank + k] - size + more) // step * step
            more = more if last < n + pads[k] else 0  # the last window begins inside
            if more and average and counted:
                raise NotConverted("an average with ceil_mode that counts the padding")
            pads[rank + k] += more
    if any(p >= kernel[k % rank] for k, p in enumerate(pads)):
        raise NotConverted(f"the kernel {kernel} with the padding {pads}")
    if not average:
        return c.op_("MaxPool", c.x(), kernel_shape=kernel, strides=strides, pads=pads)
    return c.op_("AveragePool", c.x(), kernel_shape=kernel, strides=strides, pads=pads, count_include_pad=int(counted))


@converts("batch_norm")
def batch_norm(c: Call) -> str:
    channels = c.shape()[1]
    factors = [c.x(k) if k in c else c.g.filled((channels,), v) for k, v in (("gamma", 1.0), ("beta", 0.0))]
    return c.op_("BatchNormalization", c.x(), *factors, c.x("mean"), c.x("variance"), epsilon=c.number("epsilon", 1e-5))


@converts("instance_norm")
def instance_norm(c: Call) -> str:
    channels = c.shape()[1]
    factors = [c.x(k) if k in c else c.g.filled((channels,), v) for k, v in (("gamma", 1.0), ("beta", 0.0))]
    return c.op_("InstanceNormalization", c.x(), *factors, epsilon=c.number("epsilon", 1e-5))


@converts("layer_norm")
def layer_norm(c: Call) -> str:
    shape = c.shape()
    axes = sorted(c.axes("axes", list(range(len(shape)))))
    if axes != list(range(axes[0], len(shape))):
        raise NotConverted(f"the axes {axes}")
    inner = shape[axes[0] :]
    gamma = c.x("gamma") if "gamma" in c else c.g.filled(inner, 1.0)
    beta = c.all("beta") if "beta" in c else []
    return c.op_("LayerNormalization", c.x(), gamma, *beta, axis=axes[0], epsilon=c.number("epsilon", 1e-5))


@converts("prelu")
def prelu(c: Call) -> str:
    return c.op_("PRelu", c.x(), along(c.g, c.x("alpha"), len(c.shape()), 1))


@converts("upsample_nearest_neighbor", "upsample_bilinear")
def upsample(c: Call) -> str:
    shape = c.shape()
    factors = [c.number(f"scale_factor_{k}", 1.0) for k in ("height", "width")]
    if len(shape) != 4 or not all(0 < f < 1 << 10 for f in factors):
        raise NotConverted(f"the factors {factors} for {list(shape)}")
    if c.type == "upsample_nearest_neighbor":
        scales = c.g.constant(np.array([1, 1, *factors], np.float32))
        where = {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
        return c.op_("Resize", c.x(), "", scales, mode="nearest", **where)
    sizes = c.g.ints([*shape[:2], *(int(n * f) for n, f in zip(shape[2:], factors, strict=True))])
    place = "align_corners" if c.whole("align_corners", 1) else "half_pixel"
    return c.op_("Resize", c.x(), "", "", sizes, mode="linear", coordinate_transformation_mode=place)
