"""Operators of onnxruntime that ONNX has too, or nearly, and its fused forms of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlpack.model.contrib_layers import fast_gelu_of
from dlpack.model.contrib_node import Call, contrib, number, product
from dlpack.model.contrib_norm import simplified


@contrib("Trilu", "GatherND", "MatMulInteger16")
def same(call: Call) -> None:
    """As ONNX's operator of the name. The product of 16-bit integers is one of 32-bit integers."""
    if call.node.op_type == "MatMulInteger16":
        call.give(0, call.add("MatMul", *(call.add("Cast", call.input(n), to=6) for n in (0, 1))))
        return
    call.give(0, call.add(call.node.op_type, *filter(None, call.node.input), **call.attributes("upper")))


@contrib("SampleOp", "TorchEmbedding")
def plain(call: Call) -> None:
    """The input itself, and the rows of a table."""
    embedding = call.node.op_type == "TorchEmbedding"
    call.give(
        0, call.add("Gather" if embedding else "Identity", *(call.input(k) for k in range(2 if embedding else 1)))
    )


@contrib("Range")
def counted(call: Call) -> None:
    """As ONNX's, which has had it since opset 11, with a step of 1 where none is given."""
    call.require_opset(11)
    step = call.input(2) if call.has(2) else number(call, 1)
    call.give(0, call.add("Range", call.input(0), call.input(1), step))


@contrib("Unique")
def unique(call: Call) -> None:
    """In the order in which they come first; the place of each element among them; how often each is there."""
    call.require_opset(11)
    y, _, places, counts = call.add_many(4, "Unique", call.input(0), sorted=0)
    for index, value in enumerate((y, places, counts)):
        call.give(index, value)


@contrib("ComplexMul", "ComplexMulConj")
def complex_product(call: Call) -> None:
    """Of pairs of a real and an imaginary part, the second operand conjugated or not."""
    (a, b), (c, d) = ([call.slice(call.input(k), len(call.shape(k)) - 1, n, n + 1) for n in (0, 1)] for k in (0, 1))
    ac, bd, ad, bc = (call.add("Mul", *pair) for pair in ((a, c), (b, d), (a, d), (b, c)))
    conjugated = call.node.op_type == "ComplexMulConj"
    real = call.add("Add" if conjugated else "Sub", ac, bd)
    imaginary = call.add("Sub", bc, ad) if conjugated else call.add("Add", ad, bc)
    call.give(0, call.add("Concat", real, imaginary, axis=-1))


@contrib("MulInteger")
def product_of_integers(call: Call) -> None:
    """(A - its zero point) (B - its zero point), in 32 bits."""
    factors = []
    for index in (0, 2):
        x = call.add("Cast", call.input(index), to=6)
        if call.has(index + 1):
            x = call.add("Sub", x, call.add("Cast", call.input(index + 1), to=6))
        factors.append(x)
    call.give(0, call.add("Mul", *factors))


@contrib("ReduceSumInteger")
def sum_of_integers(call: Call) -> None:
    """In 32 bits."""
    shape = call.shape(0)
    axes = sorted({axis % len(shape) for axis in call.attr("axes", range(len(shape)))})
    y = call.add("Cast", call.input(0), to=12 if call.dtype(0) == np.uint8 else 6)
    for axis in axes:
        y = call.sum(y, axis)
    kept = call.attr("keepdims", 1)
    call.give(0, y if kept else call.reshape(y, *(n for axis, n in enumerate(shape) if axis not in axes)))


@contrib("BiasDropout")
def bias_dropout(call: Call) -> None:
    """data + bias + residual, where nothing is trained."""
    if call.has(4) and call.weight(4, "training_mode").any():
        call.refuse("it is in training mode")
    y = call.add("Add", call.input(0), call.input(1))
    call.give(0, call.add("Add", y, call.input(2)) if call.has(2) else y)


@contrib("GridSample")
def grid_sample(call: Call) -> None:
    attrs = call.attributes("align_corners", "padding_mode")
    mode = call.attr("mode", "bilinear")
    if call.opset >= 20:
        mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    call.give(0, call.add("GridSample", call.input(0), call.input(1), mode=mode, **attrs))


@contrib("Pad")
def pad(call: Call) -> None:
    """With the padding in an input, as ONNX has it since opset 11."""
    call.require_opset(11)
    value = [call.reshape(call.input(2))] if call.has(2) else []
    pads = call.reshape(call.input(1), -1)
    call.give(0, call.add("Pad", call.input(0), pads, *value, mode=call.attr("mode", "constant")))


@contrib("ExpandDims")
def expand_dims(call: Call) -> None:
    shape = list(call.shape(0))
    axis = int(call.weight(1, "axis").reshape(()))
    shape.insert(axis + len(shape) + 1 if axis < 0 else axis, 1)
    call.give(0, call.reshape(call.input(0), *shape))


@contrib("CDist")
def distances(call: Call) -> None:
    """Between the rows of A and those of B."""
    metric = call.attr("metric", "sqeuclidean")
    if metric not in ("sqeuclidean", "euclidean"):
        call.refuse(f"its metric '{metric}' is not supported")
    (m, n), (k, _) = call.shape(0), call.shape(1)
    difference = call.add("Sub", call.reshape(call.input(0), m, 1, n), call.reshape(call.input(1), 1, k, n))
    squares = call.sum(call.add("Mul", difference, difference), 2)
    y = call.reshape(squares, m, k)
    call.give(0, call.add("Sqrt", y) if metric == "euclidean" else y)


@contrib("GemmFastGelu")
def gemm_fast_gelu(call: Call) -> None:
    y = call.add("MatMul", call.input(0), call.input(1))
    call.give(0, fast_gelu_of(call, call.add("Add", y, call.input(2)) if call.has(2) else y))


@contrib("BiasAdd")
def bias_add(call: Call) -> None:
    call.give(0, call.add("Add", call.add("Add", call.input(0), call.input(1)), call.input(2)))


@contrib("BiasSoftmax")
def bias_softmax(call: Call) -> None:
    """Of all dimensions from the axis on taken together. A bias that dimensions inside of the batch share has fewer."""
    shape, bias = call.shape(0), call.shape(1)
    axis = call.attr("axis", 1) % len(shape)
    inner = call.attr("is_inner_broadcast", 1)
    if inner and len(bias) == len(shape):
        x = call.add("Add", call.input(0), call.input(1))
    else:
        missing = len(shape) - len(bias)
        spread = [*bias[: axis - missing], *[1] * missing, *bias[axis - missing :]] if inner else bias
        x = call.add("Add", call.input(0), call.reshape(call.input(1), *spread))
    flat = call.reshape(x, product(shape[:axis]), product(shape[axis:]))
    call.give(0, call.reshape(call.add("Softmax", flat, axis=1), *shape))


@contrib("GroupNorm", "SkipGroupNorm")
def group_norm(call: Call) -> None:
    """Over groups of channels, which are the last dimension by default; a skip and a bias are added before it."""
    shape = call.shape(0)
    x = call.input(0)
    if call.node.op_type == "SkipGroupNorm":
        skip = call.input(3)
        if len(call.shape(3)) == 2:
            skip = call.reshape(skip, shape[0], 1, 1, shape[3])
        x = call.add("Add", x, skip)
        if call.has(4):
            x = call.add("Add", x, call.input(4))
        call.give(1, x)
    last = call.attr("channels_last", 1)
    channels = shape[-1] if last else shape[1]
    groups = call.attr("groups", 1)
    if last:
        x = call.transpose(x, 0, 3, 1, 2)
    flat = call.reshape(x, shape[0], groups, product(shape[1:]) // groups)
    one, zero = (call.array(np.full(groups, v), np.float32) for v in (1, 0))
    flat = call.add("InstanceNormalization", flat, one, zero, epsilon=call.attr("epsilon", 1e-5))
    y = call.reshape(flat, shape[0], channels, *(shape[1:3] if last else shape[2:]))
    y = call.add("Mul", y, call.reshape(call.input(1), channels, 1, 1))
    y = call.add("Add", y, call.reshape(call.input(2), channels, 1, 1))
    if last:
        y = call.transpose(y, 0, 2, 3, 1)
    call.give(0, call.add("Mul", y, call.add("Sigmoid", y)) if call.attr("activation", 0) else y)


# --- of language models -----------------------------------------------------------------------------------------------


def _silu(call: Call, x: str, alpha: float = 1.0) -> str:
    inner = x if alpha == 1.0 else call.add("Mul", x, number(call, alpha))
    return call.add("Mul", x, call.add("Sigmoid", inner))


@contrib("ScaledSiLU")
def scaled_silu(call: Call) -> None:
    scale = call.reshape(call.input(1)) if call.has(1) else number(call, call.attr("alpha", 1.0))
    call.give(0, _silu(call, call.add("Mul", call.input(0), scale)))


@contrib("GatedAdd")
def gated_add(call: Call) -> None:
    """X + Y gate, the gate being a sigmoid of a projection where there are weights for it."""
    gate = call.input(2)
    if call.has(3):
        gate = call.add("Sigmoid", call.add("MatMul", gate, call.input(3)))
    call.give(0, call.add("Add", call.input(0), call.add("Mul", call.input(1), gate)))


@contrib("SwiGLU")
def swiglu(call: Call) -> None:
    """gate sigmoid(alpha gate) (up + beta), of the two halves of the last dimension if there is one input."""
    call.refuse_attributes(round_activation=0)
    shape = call.shape(0)
    axis = len(shape) - 1
    if call.has(1):
        gate, up = call.input(0), call.input(1)
    else:
        gate, up = (call.slice(call.input(0), axis, n, n + shape[-1] // 2) for n in (0, shape[-1] // 2))
    if (limit := call.attr("limit", 0.0)) > 0:
        top, bottom = number(call, limit), number(call, -limit)
        gate = call.add("Min", gate, top)
        up = call.add("Max", call.add("Min", up, top), bottom)
    if beta := call.attr("activation_beta", 0.0):
        up = call.add("Add", up, number(call, beta))
    call.give(0, call.add("Mul", _silu(call, gate, call.attr("activation_alpha", 1.0)), up))


def _grouped(call: Call, x: str, shape: tuple[int, ...], size: int, epsilon: float, scale: str) -> str:
    """RMS normalisation of every `size` numbers of the last dimension."""
    y = simplified(call, call.reshape(x, *shape[:-1], shape[-1] // size, size), epsilon, 0)
    return call.reshape(call.add("Mul", y, scale) if scale else y, *shape)


@contrib("GatedRMSNorm")
def gated_rms_norm(call: Call) -> None:
    (size,) = call.shape(1)
    y = _grouped(call, call.input(0), call.shape(0), size, call.attr("epsilon", 1e-5), call.input(1))
    gate = call.input(2)
    gate = call.add("Sigmoid", gate) if call.attr("activation", "silu") == "sigmoid" else _silu(call, gate)
    call.give(0, call.add("Mul", y, gate))


@contrib("BranchwiseRMSNorm")
def branchwise_rms_norm(call: Call) -> None:
    shape = call.shape(0)
    branches = call.attr("num_branches", 0)
    size = shape[-1] // branches if branches else shape[-1]
    count = branches or shape[-2]
    scale = ""
    if call.has(1):
        rows = product(call.shape(1)) // size
        whole: Any = (rows, size) if branches else (rows, 1, size)
        if not branches and rows not in (1, count):
            call.refuse(f"its scale of the shape {list(call.shape(1))} is not supported")
        scale = call.reshape(call.input(1), *whole)
    call.give(0, _grouped(call, call.input(0), shape, size, call.attr("epsilon", 1e-6), scale))


@contrib("HyperConnectionPostMix")
def mix_streams(call: Call) -> None:
    """Streams, mixed by a matrix if there is one, and a share of what a block gave for each of them."""
    shape, block = call.shape(0), call.shape(1)
    count = call.attr("num_branches", 0) or shape[-2]
    whole = [*block[:-1], count, block[-1]]
    x = call.reshape(call.input(0), *whole)
    shares = call.reshape(call.input(2), *whole[:-1], product(call.shape(2)) // product(whole[:-1]))
    if call.has(3):
        mix = call.reshape(call.input(3), *whole[:-1], count)
        rank = len(whole)
        x = call.add("MatMul", call.transpose(mix, *range(rank - 2), rank - 1, rank - 2), x)
    added = call.add("Mul", shares, call.reshape(call.input(1), *block[:-1], 1, block[-1]))
    call.give(0, call.reshape(call.add("Add", x, added), *shape))


# --- Fourier transforms -----------------------------------------------------------------------------------------------


def _plain_fourier(call: Call) -> None:
    call.refuse_attributes(signal_ndim=1, normalized=0, onesided=1)


@contrib("Rfft")
def rfft(call: Call) -> None:
    """Of the last dimension: n real numbers become n / 2 + 1 pairs of a real and an imaginary part."""
    _plain_fourier(call)
    *rest, n = call.shape(0)
    angles = 2 * np.pi * np.outer(np.arange(n), np.arange(n // 2 + 1)) / n
    basis = np.stack((np.cos(angles), -np.sin(angles)), -1).reshape(n, -1)
    y = call.add("MatMul", call.input(0), call.array(basis, call.dtype(0)))
    call.give(0, call.reshape(y, *rest, n // 2 + 1, 2))


@contrib("Irfft")
def irfft(call: Call) -> None:
    """The inverse of Rfft: m pairs become 2 (m - 1) real numbers."""
    _plain_fourier(call)
    *rest, m, _ = call.shape(0)
    n = 2 * (m - 1)
    angles = 2 * np.pi * np.outer(np.arange(m), np.arange(n)) / n
    weight = np.full((m, 1), 2.0)
    weight[0] = weight[-1] = 1  # all others stand also for their mirror image
    basis = np.stack((np.cos(angles) * weight, -np.sin(angles) * weight), 1).reshape(2 * m, n) / n
    x = call.reshape(call.input(0), *rest, 2 * m)
    call.give(0, call.add("MatMul", x, call.array(basis, call.dtype(0))))
