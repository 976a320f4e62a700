"""ATen operators that torch.onnx does not know, or whose arguments it drops, expressed in ones that it knows.

Each function has its operator's schema; NotImplemented leaves the call as it is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from dlpack.exporters.pytorch import linear_algebra, quantised, reductions, whole_numbers
from dlpack.exporters.pytorch.framework import import_torch

Decomposition = Callable[..., Any]


def table() -> dict[Any, Decomposition]:
    """Operator overload → its replacement, for ExportedProgram.run_decompositions."""
    aten = import_torch().ops.aten
    found: dict[Any, Decomposition] = quantised.table()
    every = _FUNCTIONS | linear_algebra.FUNCTIONS | reductions.FUNCTIONS | whole_numbers.FUNCTIONS
    for name, (overloads, function) in every.items():
        for overload in overloads.split():
            operator = getattr(getattr(aten, name, None), overload, None)
            if operator is not None:
                found[operator] = function
    known = import_torch().export.default_decompositions()
    for name in _OPENED:
        packet = getattr(aten, name)
        operators = [getattr(packet, overload) for overload in packet.overloads()]
        found |= {operator: known[operator] for operator in operators if operator in known}
    found[aten.median.dim] = _median_dim
    found[aten.nanmedian.dim] = reductions.nanmedian_dim
    found[aten.sort.stable] = _sort
    return found


# --- pools ------------------------------------------------------------------------------------------------------------


def _each(value: Any, rank: int) -> list[int]:
    values = [value] * rank if isinstance(value, int) else list(value)
    return values * rank if len(values) == 1 else values


def _ceil_counts(x: Any, kernel: list[int], stride: list[int], pad: list[int], dilation: list[int]) -> list[int]:
    """Windows per dimension with ceil_mode: one that would begin in the padding after the input is dropped."""
    counts = []
    for n, k, s, p, d in zip(x.shape[-len(kernel) :], kernel, stride, pad, dilation, strict=True):
        count = -(-(n + 2 * p - d * (k - 1) - 1) // s) + 1
        counts.append(count - 1 if (count - 1) * s >= n + p else count)
    return counts


def _padded(x: Any, kernel: list[int], stride: list[int], pad: list[int], dilation: list[int], fill: float) -> Any:
    """The input with its padding, up to where the last window ends."""
    counts = _ceil_counts(x, kernel, stride, pad, dilation)
    pads: list[int] = []
    for n, k, s, p, d, c in zip(x.shape[-len(kernel) :], kernel, stride, pad, dilation, counts, strict=True):
        pads = [p, (c - 1) * s + d * (k - 1) + 1 - n - p, *pads]
    return import_torch().nn.functional.pad(x, pads, value=fill)


def _max_pool(rank: int) -> Decomposition:
    def pool(
        x: Any, kernel_size: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
    ) -> Any:
        """With ceil_mode: ONNX includes windows that PyTorch drops."""
        if not ceil_mode or not x.dtype.is_floating_point:
            return NotImplemented  # torch.onnx converts these rightly
        kernel = _each(kernel_size, rank)
        steps, pad, spread = _each(stride or kernel, rank), _each(padding, rank), _each(dilation, rank)
        wide = _padded(x, kernel, steps, pad, spread, -math.inf)
        function = getattr(import_torch().nn.functional, f"max_pool{rank}d")
        return function(wide, kernel, steps, 0, spread)

    return pool


def _average_pool(rank: int) -> Decomposition:
    def pool(
        x: Any, kernel_size: Any, stride: Any = (), padding: Any = 0, ceil_mode: bool = False,
        count_include_pad: bool = True, divisor_override: int | None = None,
    ) -> Any:  # fmt: skip
        """With ceil_mode, and with divisor_override, which torch.onnx drops: sums divided by the number of elements."""
        if not ceil_mode and divisor_override is None:
            return NotImplemented  # torch.onnx converts these rightly
        torch, kernel = import_torch(), _each(kernel_size, rank)
        steps, pad = _each(stride or kernel, rank), _each(padding, rank)
        average = getattr(torch.nn.functional, f"avg_pool{rank}d")

        def sums(values: Any, pads: list[int]) -> Any:
            if ceil_mode:
                wide = _padded(values, kernel, steps, pads, [1] * rank, 0.0)
            else:
                wide = torch.nn.functional.pad(values, [p for p in pads[::-1] for _ in range(2)])
            return average(wide, kernel, steps) * float(math.prod(kernel))

        if divisor_override is not None:
            return sums(x, pad) / float(divisor_override)
        ones = torch.ones((1, 1, *x.shape[-rank:]), dtype=x.dtype)
        if count_include_pad:
            ones = torch.nn.functional.pad(ones, [p for p in pad[::-1] for _ in range(2)], value=1.0)
            size = [(c - 1) * s + k for c, s, k in zip(_ceil_counts(x, kernel, steps, pad, [1] * rank), steps, kernel,
                                                       strict=True)]  # fmt: skip
            behind = [max(0, n - m) for n, m in zip(size, ones.shape[-rank:], strict=True)]
            ones = torch.nn.functional.pad(ones, [v for n in behind[::-1] for v in (0, n)])
            counts = average(ones, kernel, steps) * float(math.prod(kernel))
        else:
            counts = sums(ones, pad)
        return sums(x, pad) / counts.reshape(counts.shape[-rank:])

    return pool


def _adaptive_max_pool(x: Any, output_size: Any) -> Any:
    """Values, and their indices in each plane or volume: a window per output."""
    torch = import_torch()
    sizes = x.shape[-len(output_size) :]
    spans = [
        [(k * n // count, -(-(k + 1) * n // count)) for k in range(count)]
        for n, count in zip(sizes, output_size, strict=True)
    ]
    values, places = [], []
    for window in itertools.product(*spans):
        held = x
        for k, (start, end) in enumerate(window):
            held = held.narrow(k - len(window), start, end - start)
        flat = held.flatten(-len(window))
        values.append(flat.amax(-1))
        inside, place, step = flat.argmax(-1), 0, 1
        for (start, end), n in zip(reversed(window), reversed(sizes), strict=True):
            place, inside, step = place + (inside % (end - start) + start) * step, inside // (end - start), step * n
        places.append(place)
    shape = (*x.shape[: -len(output_size)], *output_size)
    return torch.stack(values, -1).reshape(shape), torch.stack(places, -1).reshape(shape)


def _adaptive_average(x: Any, output_size: Sequence[int]) -> Any:
    """Of volumes, one dimension after the other: a mean of means over windows of one size."""
    torch = import_torch()
    for dim, count in zip((-3, -2, -1), output_size, strict=True):
        n = x.shape[dim]
        spans = [(k * n // count, -(-(k + 1) * n // count)) for k in range(count)]
        x = torch.cat([x.narrow(dim, a, b - a).mean(dim, keepdim=True) for a, b in spans], dim)
    return x


# --- order ------------------------------------------------------------------------------------------------------------


def _sort(x: Any, *, dim: int = -1, descending: bool = False, stable: bool | None = True) -> Any:  # noqa: ARG001 - the schema
    """ONNX's TopK, which puts the first of equal values first."""
    return import_torch().topk(x, x.shape[dim], dim=dim, largest=descending)


def _sort_dim(x: Any, dim: int = -1, descending: bool = False) -> Any:
    return _sort(x, dim=dim, descending=descending)


def _kthvalue(x: Any, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    values, places = _sort(x, dim=dim)
    picked = values.narrow(dim, k - 1, 1), places.narrow(dim, k - 1, 1)
    return picked if keepdim else tuple(v.squeeze(dim) for v in picked)


def _median_dim(x: Any, dim: int = -1, keepdim: bool = False) -> Any:
    """The median; the lower one of two."""
    return _kthvalue(x, (x.shape[dim] + 1) // 2, dim, keepdim)


def _median(x: Any) -> Any:
    return _median_dim(x.flatten(), 0)[0]


def _searchsorted(
    sorted_sequence: Any, x: Any, *, out_int32: bool = False, right: bool = False, side: str | None = None,
    sorter: Any = None,
) -> Any:  # fmt: skip
    """How many of the row are smaller, with `right` smaller or equal."""
    torch = import_torch()
    if sorter is not None:
        sorted_sequence = sorted_sequence.gather(-1, sorter.to(torch.int64))
    row = sorted_sequence.unsqueeze(-2) if sorted_sequence.dim() > 1 else sorted_sequence
    values = (x if isinstance(x, torch.Tensor) else torch.full((), x, dtype=sorted_sequence.dtype)).unsqueeze(-1)
    before = row <= values if right or side == "right" else row < values
    return before.sum(-1).to(torch.int32 if out_int32 else torch.int64)


def _bucketize(x: Any, boundaries: Any, *, out_int32: bool = False, right: bool = False) -> Any:
    return _searchsorted(boundaries, x, out_int32=out_int32, right=right)


# --- sums and products ------------------------------------------------------------------------------------------------


def _cdist(x: Any, y: Any, p: float = 2.0, compute_mode: int | None = None) -> Any:  # noqa: ARG001 - the schema
    """The p-norm of the difference of every pair of rows."""
    steps = (x.unsqueeze(-2) - y.unsqueeze(-3)).abs()
    if p == 0.0:
        return (steps != 0).to(x.dtype).sum(-1)
    if p == 1.0:
        return steps.sum(-1)
    if math.isinf(p):
        return steps.amax(-1)
    return (steps * steps).sum(-1).sqrt() if p == 2.0 else steps.pow(p).sum(-1).pow(1.0 / p)


def _cumulative(largest: bool) -> Decomposition:
    def extreme(x: Any, dim: int) -> Any:
        """The extreme so far and where it is, the last of equal ones; over runs of 1, 2, 4 ... elements."""
        torch = import_torch()
        if not x.dim():
            return x, torch.zeros((), dtype=torch.int64)
        size, step = x.shape[dim], 1
        shape = [1] * x.dim()
        shape[dim] = size
        place = torch.arange(size).reshape(shape).expand(x.shape)
        while step < size:
            before, here = x.narrow(dim, 0, size - step), x.narrow(dim, step, size - step)
            stays = here >= before if largest else here <= before
            there = torch.where(stays, place.narrow(dim, step, size - step), place.narrow(dim, 0, size - step))
            x = torch.cat([x.narrow(dim, 0, step), torch.where(stays, here, before)], dim)
            place = torch.cat([place.narrow(dim, 0, step), there], dim)
            step *= 2
        return x, place

    return extreme


def _pdist(x: Any, p: float = 2.0) -> Any:
    """Of every pair of rows, the earlier one first."""
    torch, rows = import_torch(), range(x.shape[0])
    pairs = [(k, n) for k in rows for n in rows if k < n]
    first, second = torch.tensor([k for k, _ in pairs]), torch.tensor([n for _, n in pairs])
    return _cdist(x[first].unsqueeze(-2), x[second].unsqueeze(-2), p).reshape(len(pairs))


def _hypot(x: Any, y: Any) -> Any:
    return (x * x + y * y).sqrt()


def _cumprod(x: Any, dim: int, *, dtype: Any = None) -> Any:
    """Products over runs of 1, 2, 4 ... elements."""
    torch = import_torch()
    y = x.to(dtype) if dtype is not None else x if x.dtype.is_floating_point else x.to(torch.int64)
    if not y.dim():
        return y
    step, size = 1, y.shape[dim]
    while step < size:
        ahead = torch.ones_like(y.narrow(dim, 0, step))
        y = y * torch.cat([ahead, y.narrow(dim, 0, size - step)], dim)
        step *= 2
    return y


def _logcumsumexp(x: Any, dim: int) -> Any:
    peak = x.amax(dim, keepdim=True) if x.dim() else x
    return (x - peak).exp().cumsum(dim).log() + peak


def _int_mm(x: Any, y: Any) -> Any:
    torch = import_torch()
    return x.to(torch.int32) @ y.to(torch.int32)


def _index_put(x: Any, indices: Sequence[Any], values: Any, accumulate: bool = False) -> Any:
    """x[mask] = value, for one value, of one mask; other indices as int64, which is what ScatterND takes."""
    torch = import_torch()
    given = [k for k, index in enumerate(indices) if index is not None]
    if any(indices[k].dtype in (torch.int32, torch.int16, torch.int8) for k in given):
        wide = [None if index is None else index.to(torch.int64) for index in indices]
        return torch.ops.aten.index_put(x, wide, values, accumulate)
    mask = indices[given[0]] if len(given) == 1 else None
    if mask is None or mask.dtype != torch.bool or values.numel() != 1 or accumulate:
        return NotImplemented  # no mask: torch.onnx makes a ScatterND
    behind = x.dim() - given[0] - mask.dim()
    return torch.where(mask.reshape(*mask.shape, *[1] * behind), values.reshape(()).to(x.dtype), x)


def _unsafe_index_put(x: Any, indices: Sequence[Any], values: Any, accumulate: bool = False) -> Any:
    """Which does not check the indices."""
    return import_torch().ops.aten.index_put(x, indices, values, accumulate)


def _embedding_bag(  # noqa: PLR0913 - the operator's schema
    weight: Any, indices: Any, offsets: Any, scale_grad_by_freq: bool = False, mode: int = 0,  # noqa: ARG001
    sparse: bool = False, per_sample_weights: Any = None, include_last_offset: bool = False,  # noqa: ARG001
    padding_idx: int | None = -1,
) -> Any:  # fmt: skip
    """Sum, mean or maximum of each bag's rows of `weight`; by a matrix that says which index is in which bag."""
    torch = import_torch()
    count = indices.shape[0]
    place = torch.arange(count, dtype=offsets.dtype)
    starts = offsets[:-1] if include_last_offset else offsets
    ends = (
        offsets[1:] if include_last_offset else torch.cat([offsets[1:], torch.full((1,), count, dtype=offsets.dtype)])
    )
    held = (place >= starts.unsqueeze(1)) & (place < ends.unsqueeze(1))
    if padding_idx is not None and padding_idx >= 0:
        held = held & (indices != padding_idx)
    rows = weight[indices]
    if mode == 2:
        outside = torch.full((), -math.inf, dtype=weight.dtype)
        best = torch.where(held.unsqueeze(2), rows, outside).amax(1)
        result = torch.where(held.any(1, keepdim=True), best, torch.zeros_like(best))
    else:
        if per_sample_weights is not None:
            rows = rows * per_sample_weights.unsqueeze(1)
        members = held.to(weight.dtype)
        result = members @ rows
        if mode == 1:
            result = result / members.sum(1, keepdim=True).clamp(min=1.0)
    empty = torch.zeros((0,), dtype=torch.int64)
    return result, empty, empty, empty


# --- pictures ---------------------------------------------------------------------------------------------------------


def _upsample_nearest(x: Any, _output_size: Any, scale_factors: Sequence[float] | None) -> Any:
    """For fractional factors: as in PyTorch, the pixel that each takes depends on how 1 / factor rounds to float32."""
    torch = import_torch()
    if not scale_factors or all(float(s).is_integer() for s in scale_factors):
        return NotImplemented  # nothing rounds: torch.onnx converts it rightly
    for k, scale in enumerate(scale_factors):
        dim, n = k + 2, x.shape[k + 2]
        place = torch.arange(int(n * scale), dtype=torch.float32) * torch.full((), 1.0 / scale, dtype=torch.float32)
        x = x.index_select(dim, place.to(torch.int64).clamp(max=n - 1))
    return x


def _subtracted(x: Any, other: Any, alpha: Any = 1) -> Any:
    """other - alpha * x, in the type of both: torch.onnx finds no subtraction of whole numbers from 1.0."""
    y = x.to(import_torch().result_type(x, other))
    return (y if alpha == 1 else y * alpha).neg() + other


def _from_a_number(x: Any, other: Any, alpha: Any = 1) -> Any:
    """x - alpha * other, where x is a number."""
    if isinstance(x, import_torch().Tensor):
        return NotImplemented  # torch.onnx converts these rightly
    return _subtracted(other, x, alpha)


_FUNCTIONS: dict[str, tuple[str, Decomposition]] = {
    "sub": ("Tensor Scalar", _from_a_number),
    "rsub": ("Scalar Tensor", _subtracted),
    **{f"max_pool{r}d": ("default", _max_pool(r)) for r in (1, 2, 3)},
    **{f"avg_pool{r}d": ("default", _average_pool(r)) for r in (1, 2, 3)},
    "adaptive_max_pool2d": ("default", _adaptive_max_pool),
    "_adaptive_avg_pool3d": ("default", _adaptive_average),
    "adaptive_avg_pool3d": ("default", _adaptive_average),
    "adaptive_max_pool3d": ("default", _adaptive_max_pool),
    "kthvalue": ("default", _kthvalue),
    "median": ("default", _median),
    "sort": ("default", _sort_dim),
    "searchsorted": ("Tensor Scalar", _searchsorted),
    "bucketize": ("Tensor", _bucketize),
    "cdist": ("default", _cdist),
    "_cdist_forward": ("default", _cdist),
    "cumprod": ("default", _cumprod),
    "cummax": ("default", _cumulative(True)),
    "cummin": ("default", _cumulative(False)),
    "hypot": ("default", _hypot),
    "logcumsumexp": ("default", _logcumsumexp),
    "pdist": ("default", _pdist),
    "_pdist_forward": ("default", _pdist),
    "index_put": ("default", _index_put),
    "_unsafe_index_put": ("default", _unsafe_index_put),
    "embedding_bag": ("default padding_idx", _embedding_bag),
    "_embedding_bag": ("default", _embedding_bag),
    "_embedding_bag_forward_only": ("default", _embedding_bag),
    "_int_mm": ("default", _int_mm),
    **{f"upsample_nearest{r}d": ("vec", _upsample_nearest) for r in (1, 2, 3)},
}
_OPENED = ("adaptive_max_pool1d", "istft", "unfold_backward")
"""Made of operators above; PyTorch takes composite operators apart only if the table says so."""
