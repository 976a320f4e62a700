"""ATen's functions that scatter, select and order, and a few of one element, for `decompositions.py`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from dlpack.exporters.pytorch.framework import import_torch

# --- scattered --------------------------------------------------------------------------------------------------------


def _neutral(reduce: str, dtype: Any) -> float:
    """What changes no result of `reduce`."""
    torch = import_torch()
    if reduce in ("sum", "mean"):
        return 0
    if reduce == "prod":
        return 1
    if dtype.is_floating_point:
        return -math.inf if reduce == "amax" else math.inf
    limits = torch.iinfo(dtype)
    return float(limits.min if reduce == "amax" else limits.max)


def scatter_reduce(x: Any, dim: int, index: Any, src: Any, reduce: str, *, include_self: bool = True) -> Any:
    """With the mean, or without x's own values where others come: torch.onnx takes both for something else."""
    torch = import_torch()
    if include_self and reduce != "mean":
        return NotImplemented  # torch.onnx makes a ScatterElements
    if reduce == "mean" and not x.dtype.is_floating_point:
        return NotImplemented  # a mean of integers rounds, which the sums below would not
    came = torch.zeros_like(x, dtype=torch.float32).scatter_add(dim, index, torch.ones_like(src, dtype=torch.float32))
    touched = came > 0
    start = x if include_self else torch.where(touched, torch.full_like(x, _neutral(reduce, x.dtype)), x)
    if reduce != "mean":
        return start.scatter_reduce(dim, index, src, reduce)
    count = came + 1 if include_self else came
    return torch.where(touched, start.scatter_add(dim, index, src) / count.clamp(min=1).to(x.dtype), x)


def index_reduce(x: Any, dim: int, index: Any, source: Any, reduce: str, *, include_self: bool = True) -> Any:
    shape = [1] * source.dim()
    shape[dim] = index.shape[0]
    wide = index.to(import_torch().int64).reshape(shape).expand(source.shape)
    return x.scatter_reduce(dim, wide, source, reduce, include_self=include_self)


# --- ordered ----------------------------------------------------------------------------------------------------------


def nanmedian_dim(x: Any, dim: int = -1, keepdim: bool = False) -> Any:
    """The median of the numbers, the lower one of two, and its place; NaN where there is none."""
    torch = import_torch()
    missing = x.isnan()
    values, places = torch.sort(torch.where(missing, torch.full_like(x, math.inf), x), dim=dim)
    count = missing.logical_not().sum(dim, keepdim=True)
    middle = torch.div((count - 1).clamp(min=0), 2, rounding_mode="floor")
    value, place = values.gather(dim, middle), places.gather(dim, middle)
    value = torch.where(count > 0, value, torch.full_like(value, math.nan))
    return (value, place) if keepdim else (value.squeeze(dim), place.squeeze(dim))


def nanmedian(x: Any) -> Any:
    return nanmedian_dim(x.flatten(), 0)[0]


# --- of one element ---------------------------------------------------------------------------------------------------


def log_sigmoid(x: Any) -> Any:
    """Without the overflow of log(sigmoid(x)) below -88, which torch.onnx writes."""
    torch = import_torch()
    return torch.minimum(x, torch.zeros_like(x)) - torch.log1p(torch.exp(-x.abs()))


def log_sigmoid_forward(x: Any) -> Any:
    """With the buffer of the gradient, which is empty."""
    return log_sigmoid(x), x.new_zeros((0,))


def cross_entropy_of_two(x: Any, target: Any, weight: Any = None, pos_weight: Any = None, reduction: int = 1) -> Any:
    """aten::binary_cross_entropy_with_logits."""
    size = 1 if pos_weight is None else (pos_weight - 1) * target + 1
    loss = (1 - target) * x - size * log_sigmoid(x)
    loss = loss if weight is None else loss * weight
    return loss.mean() if reduction == 1 else loss.sum() if reduction == 2 else loss


def atan2(y: Any, x: Any) -> Any:
    """The angle of (x, y). torch.onnx makes -pi of the negative half of the axis, and NaN where x is 0."""
    torch = import_torch()
    near = torch.atan(y / torch.where(x == 0, torch.ones_like(x), x))
    turned = near + torch.where(y < 0, torch.full_like(near, -math.pi), torch.full_like(near, math.pi))
    upright = torch.sign(y) * (math.pi / 2)
    return torch.where(x == 0, upright, torch.where(x < 0, turned, near))


def larger_number(x: Any, y: Any) -> Any:
    """aten::fmax: NaN counts for nothing beside a number."""
    torch = import_torch()
    return torch.where(x.isnan(), y, torch.where(y.isnan(), x, torch.maximum(x, y)))


def smaller_number(x: Any, y: Any) -> Any:
    """aten::fmin."""
    torch = import_torch()
    return torch.where(x.isnan(), y, torch.where(y.isnan(), x, torch.minimum(x, y)))


def copysign(x: Any, y: Any) -> Any:
    """With the sign of y, of its zeros too."""
    torch = import_torch()
    negative = (y < 0) | ((y == 0) & (1 / y < 0))
    return torch.where(negative, -x.abs(), x.abs())


def angle(x: Any) -> Any:
    """Of complex numbers. An imaginary part that is nothing beside the real one counts as a positive zero.

    On the negative half of the axis its sign decides between pi and -pi, and rounding decides its sign.
    """
    torch = import_torch()
    if not x.is_complex():
        return NotImplemented  # of real numbers: left to torch.onnx
    parts = torch.view_as_real(x)
    real, imaginary = parts[..., 0], parts[..., 1]
    nothing = imaginary.abs() <= 2e-5 * real.abs()
    return torch.atan2(torch.where(nothing, torch.zeros_like(imaginary), imaginary), real)


def rrelu(
    x: Any,
    lower: float = 0.125,
    upper: float = 1 / 3,
    training: bool = False,
    generator: Any = None,  # noqa: ARG001
) -> Any:
    """At inference: a leaky ReLU of the middle slope."""
    if training:
        return NotImplemented  # the slope is random, which ONNX has no operator for: torch.onnx refuses it
    return import_torch().nn.functional.leaky_relu(x, (lower + upper) / 2)


def rrelu_with_noise(x: Any, noise: Any, *options: Any) -> Any:  # noqa: ARG001 - the schema
    return rrelu(x, *options)


def scatter_and_reduce(x: Any, dim: int, index: Any, src: Any, *, reduce: str) -> Any:
    """aten::scatter.reduce, whose names for sum and product are others; `src` may have more elements than `index`."""
    for k, n in enumerate(index.shape):
        src = src.narrow(k, 0, n)
    return x.scatter_reduce(dim, index, src, {"add": "sum", "multiply": "prod"}[reduce])


def trilinear(
    a: Any, b: Any, c: Any, expand1: Any, expand2: Any, expand3: Any, sumdim: Any, unroll_dim: int = 1,  # noqa: ARG001
) -> Any:  # fmt: skip
    """What nn.Bilinear computes: the sums of products of three arrays with new dimensions."""
    for dims, index in ((expand1, 0), (expand2, 1), (expand3, 2)):
        for dim in dims:
            a, b, c = (v.unsqueeze(dim) if k == index else v for k, v in enumerate((a, b, c)))
    return (a * b * c).sum(list(sumdim))


FUNCTIONS: dict[str, tuple[str, Callable[..., Any]]] = {
    "scatter": ("reduce", scatter_and_reduce),
    "_trilinear": ("default", trilinear),
    "scatter_reduce": ("two", scatter_reduce),
    "index_reduce": ("default", index_reduce),
    "nanmedian": ("default", nanmedian),
    "log_sigmoid": ("default", log_sigmoid),
    "log_sigmoid_forward": ("default", log_sigmoid_forward),
    "angle": ("default", angle),
    "fmax": ("default", larger_number),
    "fmin": ("default", smaller_number),
    "copysign": ("Tensor", copysign),
    "atan2": ("default", atan2),
    "arctan2": ("default", atan2),
    "binary_cross_entropy_with_logits": ("default", cross_entropy_of_two),
    "rrelu": ("default", rrelu),
    "rrelu_with_noise": ("default", rrelu_with_noise),
}
