"""ATen's functions of whole numbers, and of how often values occur, for `decompositions.py`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from dlpack.errors import UnsupportedError
from dlpack.exporters.pytorch.framework import import_torch

_MAX_PAIRS = 1 << 24


def gcd(x: Any, y: Any) -> Any:
    """Euclid's algorithm, unrolled as far as the largest numbers of the type need it: those of Fibonacci's."""
    torch = import_torch()
    a, b = torch.broadcast_tensors(x, y)
    kind = torch.result_type(a, b)
    wide = kind if kind in (torch.int32, torch.int64) else torch.int32  # onnxruntime has few operators for others
    a, b = a.to(wide).abs(), b.to(wide).abs()
    golden = (1 + math.sqrt(5)) / 2
    for _ in range(math.ceil(math.log(torch.iinfo(kind).max * math.sqrt(5), golden))):
        done = b == 0
        rest = torch.fmod(a, torch.where(done, torch.ones_like(b), b))
        a, b = torch.where(done, a, b), torch.where(done, b, rest)
    return a.to(kind)


def lcm(x: Any, y: Any) -> Any:
    torch = import_torch()
    kind = torch.result_type(x, y)
    x, y = (v.to(torch.int64) for v in torch.broadcast_tensors(x, y))
    common = gcd(x, y)
    divisor = torch.where(common == 0, torch.ones_like(common), common)
    return (torch.div(x, divisor, rounding_mode="trunc") * y).abs().to(kind)


def bincount(x: Any, weights: Any = None, minlength: int = 0) -> Any:
    """Of the numbers below `minlength`, which must be given: else the result's size would depend on the data."""
    torch = import_torch()
    if minlength < 1:
        raise UnsupportedError("torch.bincount without minlength: its result's length depends on the input; give it")
    if x.shape[0] * minlength > _MAX_PAIRS:
        raise UnsupportedError(f"torch.bincount of {x.shape[0]:,} values into {minlength:,} places; at most "
                               f"{_MAX_PAIRS:,} pairs are compared")  # fmt: skip
    same = x.unsqueeze(0) == torch.arange(minlength, dtype=x.dtype).unsqueeze(1)
    if weights is None:
        return same.to(torch.int64).sum(1)
    kind = weights.dtype if weights.dtype.is_floating_point else torch.float64
    return torch.where(same, weights.to(kind).unsqueeze(0), torch.zeros((), dtype=kind)).sum(1)


def mode(x: Any, dim: int = -1, keepdim: bool = False) -> Any:
    """The most frequent value, the smallest of several, and the last place that has it."""
    torch = import_torch()
    moved = x.movedim(dim, -1) if x.dim() else x.reshape(1)
    size = moved.shape[-1]
    counts = (moved.unsqueeze(-1) == moved.unsqueeze(-2)).to(torch.int64).sum(-1)
    frequent = counts == counts.amax(-1, keepdim=True)
    largest = math.inf if x.dtype.is_floating_point else torch.iinfo(x.dtype).max
    value = torch.where(frequent, moved, torch.full_like(moved, largest)).amin(-1, keepdim=True)
    place = torch.where(moved == value, torch.arange(size), torch.full((), -1)).amax(-1, keepdim=True)
    if not x.dim():
        return value.reshape(()), place.reshape(())
    if keepdim:
        return value.movedim(-1, dim), place.movedim(-1, dim)
    return value.squeeze(-1), place.squeeze(-1)


FUNCTIONS: dict[str, tuple[str, Callable[..., Any]]] = {
    "gcd": ("default", gcd),
    "lcm": ("default", lcm),
    "bincount": ("default", bincount),
    "mode": ("default", mode),
}
