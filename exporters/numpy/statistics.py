"""NumPy's functions of samples, tables and polynomials as ONNX nodes. Signatures are NumPy's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dlpack.exporters.numpy.array import FUNCTIONS, Trace, is_known, plain
from dlpack.exporters.numpy.functions import axes_of, function, ravel, reshape, transpose
from dlpack.exporters.numpy.math import NO, sort

METHODS = {
    "linear": (1.0, 1.0), "hazen": (0.5, 0.5), "weibull": (0.0, 0.0), "median_unbiased": (1 / 3, 1 / 3),
    "normal_unbiased": (3 / 8, 3 / 8), "interpolated_inverted_cdf": (0.0, 1.0),
}  # fmt: skip
"""alpha and beta of the methods that interpolate (Hyndman and Fan)."""


def _real(t: Trace, a: Any) -> Any:
    a = t.array(a)
    return a if a.dtype.kind == "f" else a.astype(np.float32)


# --- order statistics -------------------------------------------------------------------------------------------------


def _place(q: float, n: int, method: str) -> float:
    """Where among `n` sorted numbers the quantile `q` is, from 0."""
    if method in METHODS:
        alpha, beta = METHODS[method]
        return min(max(n * q + alpha + q * (1 - alpha - beta) - 1, 0.0), n - 1.0)
    at = q * (n - 1)
    kinds = {"lower": math.floor(at), "higher": math.ceil(at), "nearest": round(at),
             "midpoint": (math.floor(at) + math.ceil(at)) / 2}  # fmt: skip
    return kinds.get(method, math.nan)


@function("quantile")
def quantile(  # noqa: PLR0913 - NumPy's signature
    t: Trace, a: Any, q: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, method: str = "linear",
    keepdims: Any = False, *, weights: Any = None,
) -> Any:  # fmt: skip
    """Of a `q` that is known at build; one element per quantile of what is sorted, or two that are mixed."""
    if weights is not None:
        t.unsupported("np.quantile with the argument 'weights'")
    if not is_known(q):
        t.unsupported("np.quantile with a 'q' that depends on the input")
    a, q = _real(t, a), np.asarray(plain(q), float)
    if ((q < 0) | (q > 1)).any():
        raise ValueError("Quantiles must be in the range [0, 1]")
    axes = axes_of(axis, a.ndim)
    kept = [k for k in range(a.ndim) if k not in axes]
    rest = [a.shape[k] for k in kept]
    ordered = sort(t, reshape(t, transpose(t, a, [*kept, *axes]), [*rest, -1]))
    size = ordered.shape[-1]
    places = [_place(float(v), size, method) for v in q.ravel()]
    if any(math.isnan(p) for p in places):
        t.unsupported(f"np.quantile with method='{method}'")
    found = []
    for place in places:
        low, part = math.floor(place), place - math.floor(place)
        value = ordered[..., low]
        found.append(value if part == 0 else value + (ordered[..., low + 1] - value) * np.float32(part))
    shape = [1 if k in axes else n for k, n in enumerate(a.shape)] if keepdims else rest
    if not q.ndim:
        return reshape(t, found[0], shape)
    return reshape(t, np.stack(found), [*q.shape, *shape])


@function("percentile")
def percentile(t: Trace, a: Any, q: Any, *args: Any, **kwargs: Any) -> Any:
    if not is_known(q):
        t.unsupported("np.percentile with a 'q' that depends on the input")
    return quantile(t, a, np.asarray(plain(q), float) / 100, *args, **kwargs)


@function("median")
def median(t: Trace, a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False,
           keepdims: Any = False) -> Any:  # fmt: skip
    return quantile(t, a, 0.5, axis, keepdims=keepdims)


# --- tables -----------------------------------------------------------------------------------------------------------


@function("searchsorted")
def searchsorted(t: Trace, a: Any, v: Any, side: str = "left", sorter: Any = None) -> Any:
    """How many of `a` are smaller, for the side "right" smaller or equal."""
    if sorter is not None:
        t.unsupported("np.searchsorted with the argument 'sorter'")
    a, v = t.array(a), t.array(v)
    compare = np.less_equal if side == "right" else np.less
    return np.sum(compare(a, np.expand_dims(v, -1)), axis=-1)


@function("digitize")
def digitize(t: Trace, x: Any, bins: Any, right: bool = False) -> Any:
    bins = t.array(bins)
    if bins.known is not None and bins.size > 1 and bins.known[0] > bins.known[-1]:
        return bins.size - searchsorted(t, bins.known[::-1].copy(), x, "left" if right else "right")
    return searchsorted(t, bins, x, "left" if right else "right")


@function("bincount")
def bincount(t: Trace, x: Any, weights: Any = None, minlength: int = 0) -> Any:
    """Of `minlength` bins: how many NumPy gives depends on the largest value, and larger ones are not counted."""
    if minlength < 1:
        t.unsupported("np.bincount without 'minlength'", "its result's length depends on the input; give minlength=N")
    hit: Any = np.equal(np.expand_dims(ravel(t, t.array(x)), 1), np.arange(minlength))
    if weights is None:
        return np.sum(hit, axis=0)
    return np.sum(np.where(hit, np.expand_dims(ravel(t, _real(t, weights)), 1), np.float32(0)), axis=0)


@function("interp")
def interp(t: Trace, x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    """Straight lines between the points; `xp` and `fp` may depend on the input."""
    if period is not None:
        t.unsupported("np.interp with the argument 'period'")
    x, xp, fp = _real(t, x), _real(t, xp), _real(t, fp)
    if xp.size < 2:
        t.unsupported("np.interp with fewer than two points")
    n = xp.size
    after = np.clip(searchsorted(t, xp, x, "right"), 1, n - 1)
    low, high = np.take(xp, after - 1), np.take(xp, after)
    start, end = np.take(fp, after - 1), np.take(fp, after)
    made = start + (end - start) * ((x - low) / (high - low))
    made = np.where(x < xp[0], fp[0] if left is None else np.float32(left), made)
    return np.where(x >= xp[-1], np.where(x > xp[-1], fp[-1] if right is None else np.float32(right), fp[-1]), made)


@function("polyval")
def polyval(t: Trace, p: Any, x: Any) -> Any:
    """By Horner's rule, as NumPy has it."""
    p, x = _real(t, p), _real(t, x)
    made = np.zeros(x.shape, np.float32) + p[0]
    for k in range(1, p.size):
        made = made * x + p[k]
    return made


@function("polynomial.polynomial.polyval")
def polyval_rising(t: Trace, x: Any, c: Any, tensor: bool = True) -> Any:
    c = t.array(c)
    if c.ndim != 1:
        t.unsupported("np.polynomial.polynomial.polyval of several polynomials")
    return polyval(t, c[::-1], x)


@function("trapezoid", "trapz")
def trapezoid(t: Trace, y: Any, x: Any = None, dx: float = 1.0, axis: int = -1) -> Any:
    y = np.moveaxis(_real(t, y), axis, -1)
    step = dx
    if x is not None:
        x = _real(t, x)
        step = np.diff(x if x.ndim == 1 else np.moveaxis(x, axis, -1))
    return np.sum((y[..., 1:] + y[..., :-1]) * step / 2.0, axis=-1)


# --- without NaN ------------------------------------------------------------------------------------------------------


def _without_nan(name: str, plain_name: str, fill: float) -> None:
    def convert(t: Trace, a: Any, *args: Any, **kwargs: Any) -> Any:
        a = t.array(a)
        a = np.where(np.isnan(a), np.asarray(fill, a.dtype), a) if a.dtype.kind == "f" else a
        return FUNCTIONS[plain_name](t, a, *args, **kwargs)

    FUNCTIONS[name] = convert


_without_nan("nansum", "sum", 0.0)
_without_nan("nanprod", "prod", 1.0)
_without_nan("nancumsum", "cumsum", 0.0)
_without_nan("nanargmax", "argmax", -math.inf)
_without_nan("nanargmin", "argmin", math.inf)


def _extreme_without_nan(name: str, plain_name: str, fill: float) -> None:
    def convert(t: Trace, a: Any, axis: Any = None, out: Any = None, keepdims: Any = NO, **kwargs: Any) -> Any:
        """NaN where there is nothing else."""
        a = t.array(a)
        if a.dtype.kind != "f":
            return FUNCTIONS[plain_name](t, a, axis, keepdims=keepdims, **kwargs)
        missing: Any = np.isnan(a)
        made = FUNCTIONS[plain_name](t, np.where(missing, np.asarray(fill, a.dtype), a), axis, keepdims=keepdims,
                                     **kwargs)  # fmt: skip
        return np.where(FUNCTIONS["all"](t, missing, axis, keepdims=keepdims), np.asarray(np.nan, a.dtype), made)

    FUNCTIONS[name] = convert


_extreme_without_nan("nanmax", "max", -math.inf)
_extreme_without_nan("nanmin", "min", math.inf)


@function("nanmean")
def nanmean(t: Trace, a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = NO) -> Any:
    a = _real(t, a)
    count = FUNCTIONS["sum"](t, np.logical_not(np.isnan(a)), axis, keepdims=keepdims)
    return FUNCTIONS["nansum"](t, a, axis, keepdims=keepdims) / t.array(count).astype(np.float32)


@function("nanvar")
def nanvar(t: Trace, a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0,
           keepdims: Any = NO) -> Any:  # fmt: skip
    a = _real(t, a)
    less = a - nanmean(t, a, axis, keepdims=True)
    count = FUNCTIONS["sum"](t, np.logical_not(np.isnan(a)), axis, keepdims=keepdims)
    return FUNCTIONS["nansum"](t, less * less, axis, keepdims=keepdims) / (t.array(count).astype(np.float32) - ddof)


@function("nanstd")
def nanstd(t: Trace, *args: Any, **kwargs: Any) -> Any:
    return np.sqrt(nanvar(t, *args, **kwargs))
