"""MIL's elementwise operations, reductions, and those that only move elements."""

from __future__ import annotations

import math

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted
from dlpack.exporters.coreml.call import Call, converts
from dlpack.exporters.coreml.slices import masked_slice
from dlpack.exporters.layers import reshape, split

_UNARY = {
    "abs": "Abs", "acos": "Acos", "asin": "Asin", "atan": "Atan", "ceil": "Ceil", "cos": "Cos", "erf": "Erf",
    "exp": "Exp", "floor": "Floor", "identity": "Identity", "relu": "Relu", "round": "Round", "sigmoid": "Sigmoid",
    "sign": "Sign", "sin": "Sin", "softplus": "Softplus", "softsign": "Softsign", "sqrt": "Sqrt", "tan": "Tan",
    "tanh": "Tanh",
}  # fmt: skip
_BINARY = {"add": "Add", "sub": "Sub", "mul": "Mul", "real_div": "Div", "maximum": "Max", "minimum": "Min",
           "pow": "Pow"}  # fmt: skip
_REDUCED = {
    "reduce_mean": "ReduceMean", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin", "reduce_prod": "ReduceProd",
    "reduce_l1_norm": "ReduceL1", "reduce_l2_norm": "ReduceL2", "reduce_sum": "ReduceSum",
    "reduce_sum_square": "ReduceSumSquare", "reduce_log_sum_exp": "ReduceLogSumExp",
}  # fmt: skip


@converts(*_UNARY)
def unary(c: Call) -> str:
    return c.op_(_UNARY[c.type], c.x())


@converts(*_BINARY)
def binary(c: Call) -> str:
    return c.op_(_BINARY[c.type], c.x("x"), c.x("y"))


@converts(*_REDUCED)
def reduced(c: Call) -> str:
    axes = c.axes("axes", list(range(len(c.shape()))))
    keep = c.whole("keep_dims", 0)
    if c.type == "reduce_sum":
        return c.op_("ReduceSum", c.x(), c.g.ints(axes), keepdims=keep)
    return c.op_(_REDUCED[c.type], c.x(), axes=axes, keepdims=keep)


@converts("square")
def square(c: Call) -> str:
    return c.op_("Mul", c.x(), c.x())


@converts("rsqrt", "inverse", "log")
def shifted(c: Call) -> str:
    """With an epsilon that is added first."""
    epsilon = c.number("epsilon", {"rsqrt": 1e-12, "inverse": 1e-4, "log": 1e-45}[c.type])
    y = c.op_("Add", c.x(), c.scalar(epsilon)) if epsilon > 1e-40 else c.x()
    if c.type == "log":
        return c.op_("Log", y)
    return c.op_("Reciprocal", c.op_("Sqrt", y) if c.type == "rsqrt" else y)


@converts("relu6", "clip")
def clip(c: Call) -> str:
    low, high = (0.0, 6.0) if c.type == "relu6" else (c.number("alpha", -math.inf), c.number("beta", math.inf))
    return c.op_("Clip", c.x(), c.scalar(low), c.scalar(high))


@converts("leaky_relu", "elu", "thresholded_relu")
def with_alpha(c: Call) -> str:
    kinds = {"leaky_relu": "LeakyRelu", "elu": "Elu", "thresholded_relu": "ThresholdedRelu"}
    return c.op_(kinds[c.type], c.x(), alpha=c.number("alpha", 0.01 if c.type == "leaky_relu" else 1.0))


@converts("sigmoid_hard")
def sigmoid_hard(c: Call) -> str:
    return c.op_("HardSigmoid", c.x(), alpha=c.number("alpha", 0.2), beta=c.number("beta", 0.5))


@converts("silu")
def silu(c: Call) -> str:
    return c.op_("Mul", c.x(), c.op_("Sigmoid", c.x()))


@converts("scaled_tanh", "linear_activation")
def scaled(c: Call) -> str:
    alpha, beta = c.scalar(c.number("alpha", 1.0)), c.scalar(c.number("beta", 1.0 if c.type == "scaled_tanh" else 0.0))
    if c.type == "scaled_tanh":
        return c.op_("Mul", c.op_("Tanh", c.op_("Mul", c.x(), beta)), alpha)
    return c.op_("Add", c.op_("Mul", c.x(), alpha), beta)


@converts("gelu")
def gelu(c: Call) -> str:
    x, mode = c.x(), c.text("mode", "EXACT")
    if mode == "SIGMOID_APPROXIMATION":
        return c.op_("Mul", x, c.op_("Sigmoid", c.op_("Mul", x, c.scalar(1.702))))
    if mode == "EXACT":
        inner = c.op_("Erf", c.op_("Mul", x, c.scalar(math.sqrt(0.5))))
    elif mode == "TANH_APPROXIMATION":
        cubed = c.op_("Mul", c.op_("Mul", c.op_("Mul", x, x), x), c.scalar(0.044715))
        inner = c.op_("Tanh", c.op_("Mul", c.op_("Add", x, cubed), c.scalar(math.sqrt(2 / math.pi))))
    else:
        raise NotConverted(f"mode={mode[:20]}")
    return c.op_("Mul", c.op_("Mul", x, c.scalar(0.5)), c.op_("Add", inner, c.scalar(1.0)))


@converts("softmax")
def softmax(c: Call) -> str:
    return c.op_("Softmax", c.x(), axis=c.axes("axis", [-1])[0])


@converts("cast")
def cast(c: Call) -> str:
    kinds = {"fp16": np.float32, "fp32": np.float32, "int32": np.int32, "bool": np.bool_}
    kind = c.text("dtype", "fp32")
    if kind not in kinds:
        raise NotConverted(f"dtype={kind[:20]}")
    return c.cast(c.x(), kinds[kind])


# --- movement ---------------------------------------------------------------------------------------------------------


@converts("concat")
def concat(c: Call) -> str:
    values, rank = c.all("values"), c.g.rank(c.all("values")[0])
    if c.whole("interleave", 0):
        raise NotConverted("interleave=true")
    axis = c.whole("axis")
    if not -rank <= axis < rank:
        raise ModelError(f"its axis {axis} does not fit {rank} dimensions")
    return c.op_("Concat", *values, axis=axis % rank) if len(values) > 1 else values[0]


@converts("split")
def split_op(c: Call) -> list[str]:
    axis = c.axes("axis")[0]
    size = c.shape()[axis]
    sizes = c.ints("split_sizes", [])
    if not sizes:
        count = c.whole("num_splits")
        if count < 1 or size % count:
            raise ModelError(f"{count} parts do not divide {size}")
        sizes = [size // count] * count
    if len(sizes) != c.outputs or sum(sizes) != size or min(sizes) < 1:
        raise ModelError(f"its sizes {sizes[:8]} do not cut {size} into {c.outputs}")
    return split(c.g, c.x(), axis, sizes)


@converts("reshape")
def reshape_op(c: Call) -> str:
    shape, out = c.shape(), c.ints("shape")
    out = [shape[k] if v == 0 and k < len(shape) else v for k, v in enumerate(out)]
    total = math.prod(shape)
    if out.count(-1) == 1:
        rest = math.prod(v for v in out if v != -1)
        out[out.index(-1)] = total // rest if rest > 0 else 0
    if math.prod(out) != total or any(v < 1 for v in out):
        raise ModelError(f"{list(shape)} cannot be reshaped to {out}")
    return reshape(c.g, c.x(), out)


@converts("transpose")
def transpose(c: Call) -> str:
    perm = c.axes("perm")
    if sorted(perm) != list(range(len(c.shape()))):
        raise ModelError(f"its perm {perm} does not fit {len(c.shape())} dimensions")
    return c.op_("Transpose", c.x(), perm=perm)


@converts("expand_dims")
def expand_dims(c: Call) -> str:
    return c.op_("Unsqueeze", c.x(), c.g.ints(c.ints("axes")))


@converts("squeeze")
def squeeze(c: Call) -> str:
    shape = c.shape()
    return c.op_("Squeeze", c.x(), c.g.ints(c.axes("axes", [k for k, d in enumerate(shape) if d == 1])))


@converts("pad")
def pad(c: Call) -> str:
    given, rank, mode = c.ints("pad"), len(c.shape()), c.text("mode", "constant")
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
    if len(given) % 2 or len(given) > 2 * rank or mode not in modes or any(not 0 <= p < 1 << 20 for p in given):
        raise NotConverted(f"pad {given[:8]}, mode={mode[:20]}")
    front = [0] * (rank - len(given) // 2)
    where = c.g.ints([*front, *given[::2], *front, *given[1::2]])
    if mode == "constant":
        return c.op_("Pad", c.x(), where, c.scalar(c.number("constant_val", 0.0)))
    return c.op_("Pad", c.x(), where, mode=modes[mode])


@converts("slice_by_index")
def slice_by_index(c: Call) -> str:
    rank = len(c.shape())
    bounds = (c.ints("begin"), c.ints("end"), c.ints("stride", [1] * rank))
    masks = [c.ints(f"{k}_mask", [0] * rank) for k in ("begin", "end", "squeeze")]
    return masked_slice(c, c.x(), c.shape(), bounds, masks)


@converts("gather")
def gather(c: Call) -> str:
    if c.whole("batch_dims", 0):
        raise NotConverted("batch_dims")
    return c.op_("Gather", c.x(), c.x("indices"), axis=c.axes("axis", [0])[0])


@converts("pixel_shuffle")
def pixel_shuffle(c: Call) -> str:
    return c.op_("DepthToSpace", c.x(), blocksize=c.whole("upscale_factor"), mode="CRD")
