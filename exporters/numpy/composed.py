"""NumPy's functions that others of its functions make. Signatures are NumPy's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dlpack.exporters.numpy.array import Trace, Traced, is_known, plain
from dlpack.exporters.numpy.functions import axes_of, axis_of, function, ravel
from dlpack.exporters.numpy.math import sort
from dlpack.exporters.numpy.statistics import _real, bincount

MAX_ROWS = 32
"""Of a linear system: elimination is unrolled."""

# --- along a dimension ------------------------------------------------------------------------------------------------


@function("ediff1d")
def ediff1d(t: Trace, ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    a = ravel(t, t.array(ary))
    ends = [None if v is None else ravel(t, t.array(v)).astype(a.dtype) for v in (to_begin, to_end)]
    return np.concatenate([v for v in (ends[0], a[1:] - a[:-1], ends[1]) if v is not None])


@function("cumprod")
def cumprod(t: Trace, a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """Products over runs of 1, 2, 4 ... elements."""
    a = t.array(a) if dtype is None else t.array(a).astype(dtype)
    a = ravel(t, a) if axis is None else np.moveaxis(a, axis, -1)
    step = 1
    while step < a.shape[-1]:
        ahead = np.ones((*a.shape[:-1], step), a.dtype)
        a = a * np.concatenate([ahead, a[..., :-step]], -1)
        step *= 2
    return a if axis is None else np.moveaxis(a, -1, axis)


@function("gradient")
def gradient(t: Trace, f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """Of points at equal distances."""
    f = _real(t, f)
    axes = axes_of(axis, f.ndim)
    if edge_order != 1 or any(np.ndim(plain(v)) for v in varargs) or len(varargs) not in (0, 1, len(axes)):
        t.unsupported("np.gradient of points at other distances, or with edge_order=2")
    steps = [1.0] * len(axes) if not varargs else [*varargs] * (len(axes) // len(varargs))
    made = []
    for along, step in zip(axes, steps, strict=True):
        a = np.moveaxis(f, along, -1)
        inner = (a[..., 2:] - a[..., :-2]) / 2
        first, last = a[..., 1:2] - a[..., :1], a[..., -1:] - a[..., -2:-1]
        made.append(np.moveaxis(np.concatenate([first, inner, last], -1) / step, -1, along))
    return made[0] if len(made) == 1 else tuple(made)


@function("unwrap")
def unwrap(t: Trace, p: Any, discont: Any = None, axis: int = -1, *, period: float = 2 * math.pi) -> Any:
    a = np.moveaxis(_real(t, p), axis, -1)
    least = max(period / 2, period / 2 if discont is None else discont)
    step: Any = a[..., 1:] - a[..., :-1]
    turned = np.mod(step + period / 2, period) - period / 2
    turned = np.where((turned == -period / 2) & (step > 0), period / 2, turned)
    more = np.cumsum(np.where(np.abs(step) < least, 0, turned - step), -1)
    return np.moveaxis(np.concatenate([a[..., :1], a[..., 1:] + more], -1), -1, axis)


@function("insert")
def insert(t: Trace, arr: Any, obj: Any, values: Any, axis: Any = None) -> Any:
    """Before one index that is known."""
    a: Any = t.array(arr)
    a, axis = (ravel(t, a), 0) if axis is None else (a, axis_of(axis, a.ndim))
    if not is_known(obj) or np.ndim(plain(obj)):
        t.unsupported("np.insert at several indices, or at one that depends on the input")
    place = int(plain(obj)) % (a.shape[axis] + 1) if int(plain(obj)) >= 0 else int(plain(obj)) + a.shape[axis]
    v: Any = t.array(values).astype(a.dtype)
    v = np.expand_dims(v, axis) if v.ndim == a.ndim - 1 and v.ndim else v
    shape = [*a.shape]
    shape[axis] = v.shape[axis] if v.ndim == a.ndim else 1
    rows = np.moveaxis(a, axis, 0)
    middle = np.moveaxis(np.broadcast_to(v, shape), axis, 0)
    parts = [p for p in (rows[:place] if place else None, middle, rows[place:] if place < len(rows) else None)
             if p is not None]  # fmt: skip
    return np.moveaxis(np.concatenate(parts, 0), 0, axis)


@function("apply_along_axis")
def apply_along_axis(t: Trace, func1d: Any, axis: int, arr: Any, *args: Any, **kwargs: Any) -> Any:
    whole: Any = t.array(arr)
    a = np.moveaxis(whole, axis, -1)
    if a.ndim == 1:
        return func1d(a, *args, **kwargs)
    rows = a.reshape(-1, a.shape[-1])
    made = np.stack([t.array(func1d(rows[k], *args, **kwargs)) for k in range(rows.shape[0])])
    inner = made.shape[1:]
    made = made.reshape(*a.shape[:-1], *inner)
    place = axis_of(axis, a.ndim)
    first = a.ndim - 1
    return np.moveaxis(made, range(first, first + len(inner)), range(place, place + len(inner)))


@function("block")
def block(t: Trace, arrays: Any) -> Any:
    def depth(v: Any) -> int:
        return 1 + max(map(depth, v)) if isinstance(v, list) else 0

    levels = depth(arrays)

    def joined(v: Any, level: int) -> Any:
        if not isinstance(v, list):
            a = t.array(v)
            return a.reshape(*[1] * max(0, levels - a.ndim), *a.shape)
        return np.concatenate([joined(part, level + 1) for part in v], level - levels)

    return joined(arrays, 0)


# --- ordered ----------------------------------------------------------------------------------------------------------


@function("partition")
def partition(t: Trace, a: Any, kth: Any, axis: Any = -1, kind: str = "introselect", order: Any = None) -> Any:
    """Sorted, which is partitioned wherever it is asked."""
    return sort(t, t.array(a), axis)


@function("nanmedian")
def nanmedian(t: Trace, a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False,
              keepdims: Any = False) -> Any:  # fmt: skip
    """The middle of the numbers; NaN where there is none."""
    a = _real(t, a)
    axes = axes_of(axis, a.ndim)
    rest = [k for k in range(a.ndim) if k not in axes]
    row = np.transpose(a, [*rest, *axes]).reshape(*(a.shape[k] for k in rest), -1)
    missing: Any = np.isnan(row)
    ordered = np.sort(np.where(missing, np.float32(math.inf), row), -1)
    count = np.sum(np.logical_not(missing), axis=-1, keepdims=True)
    low, high = (np.take_along_axis(ordered, np.maximum(v, 0) // 2, -1) for v in (count - 1, count))
    high = np.take_along_axis(ordered, np.minimum(count // 2, row.shape[-1] - 1), -1)
    middle = np.where(count == 0, np.float32(math.nan), (low + high) / 2)[..., 0]
    return middle.reshape([1 if k in axes else n for k, n in enumerate(a.shape)]) if keepdims else middle


@function("histogram")
def histogram(t: Trace, a: Any, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None) -> Any:
    """With edges, or a range, that are known."""
    if not is_known(bins) or (np.ndim(plain(bins)) == 0 and range is None) or density:
        t.unsupported("np.histogram without known edges or a range, or with the argument 'density'")
    known: Any = plain(bins)
    edges = (
        np.linspace(float(range[0]), float(range[1]), int(known) + 1)
        if np.ndim(known) == 0
        else np.asarray(known, float)
    )
    a = ravel(t, _real(t, a))
    place = np.searchsorted(edges.astype(np.float32), a, side="right") - 1
    place = np.where(a == np.float32(edges[-1]), len(edges) - 2, place)
    inside = (a >= np.float32(edges[0])) & (a <= np.float32(edges[-1]))
    return bincount(t, np.where(inside, place, len(edges)), weights, len(edges) - 1), edges


# --- of one element ---------------------------------------------------------------------------------------------------


@function("sinc")
def sinc(t: Trace, x: Any) -> Any:
    x = _real(t, x)
    y = np.float32(math.pi) * np.where(x == 0, np.float32(1e-20), x)
    return np.sin(y) / y


@function("isin", "in1d")
def isin(t: Trace, element: Any, test_elements: Any, assume_unique: bool = False, invert: bool = False, *,
         kind: Any = None) -> Any:  # fmt: skip
    found = np.any(np.expand_dims(t.array(element), -1) == ravel(t, t.array(test_elements)), axis=-1)
    return np.logical_not(found) if invert else found


@function("allclose")
def allclose(t: Trace, a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    return np.all(np.isclose(t.array(a), t.array(b), rtol, atol, equal_nan))


@function("array_equal")
def array_equal(t: Trace, a1: Any, a2: Any, equal_nan: bool = False) -> Any:
    a, b = t.array(a1), t.array(a2)
    if a.shape != b.shape:
        return False
    same: Any = a == b
    return np.all(same | (np.isnan(a) & np.isnan(b)) if equal_nan else same)


@function("piecewise")
def piecewise(t: Trace, x: Any, condlist: Any, funclist: Any, *args: Any, **kw: Any) -> Any:
    x = t.array(x)
    conditions = [t.array(c) for c in (condlist if isinstance(condlist, list | tuple) else [condlist])]
    values = [f(x, *args, **kw) if callable(f) else f for f in funclist]
    made: Any = np.zeros(x.shape, x.dtype)
    if len(values) == len(conditions) + 1:
        made = np.broadcast_to(t.array(values.pop()).astype(x.dtype), x.shape)
    for condition, value in zip(conditions, values, strict=True):
        made = np.where(condition, t.array(value).astype(x.dtype), made)
    return made


@function("choose")
def choose(t: Trace, a: Any, choices: Any, out: Any = None, mode: str = "raise") -> Any:
    index: Any = t.array(a)
    if mode == "clip":
        index = np.clip(index, 0, len(choices) - 1)
    elif mode == "wrap":
        index = np.mod(index, len(choices))
    made: Any = choices[-1]
    for k in range(len(choices) - 2, -1, -1):
        made = np.where(index == k, choices[k], made)
    return made


@function("linspace")
def linspace(t: Trace, start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False,
             dtype: Any = None, axis: int = 0) -> Any:  # fmt: skip
    if retstep or dtype is not None or axis != 0:
        t.unsupported("np.linspace with the arguments 'retstep', 'dtype' or 'axis'")
    a, b = _real(t, start), _real(t, stop)
    part = np.linspace(0, 1, num, endpoint).astype(np.float32)
    return a + (b - a) * part.reshape(-1, *[1] * max(a.ndim, b.ndim))


@function("vander")
def vander(t: Trace, x: Any, N: Any = None, increasing: bool = False) -> Any:
    x = t.array(x)
    powers = range(x.shape[0] if N is None else N)
    columns = [x**k if k else np.ones(x.shape, x.dtype) for k in (powers if increasing else reversed(powers))]
    return np.stack(columns, -1)


# --- matrices ---------------------------------------------------------------------------------------------------------


@function("cov")
def cov(  # noqa: PLR0913 - NumPy's signature
    t: Trace, m: Any, y: Any = None, rowvar: bool = True, bias: bool = False, ddof: Any = None, fweights: Any = None,
    aweights: Any = None, *, dtype: Any = None,
) -> Any:  # fmt: skip
    if fweights is not None or aweights is not None:
        t.unsupported("np.cov with weights")
    a = np.atleast_2d(_real(t, m))
    parts = [a if rowvar or t.array(m).ndim == 1 else a.T]
    if y is not None:
        other = np.atleast_2d(_real(t, y))
        parts.append(other if rowvar or t.array(y).ndim == 1 else other.T)
    x = np.concatenate(parts, 0)
    x = x - np.mean(x, axis=1, keepdims=True)
    less = ddof if ddof is not None else 0 if bias else 1
    return np.squeeze(x @ x.T / np.float32(x.shape[1] - less))


@function("corrcoef")
def corrcoef(t: Trace, x: Any, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Any:
    c = cov(t, x, y, rowvar)
    if not c.ndim:
        return c / c
    spread = np.sqrt(np.diagonal(c))
    return np.clip(c / spread[:, None] / spread[None, :], -1, 1)


@function("cross")
def cross(t: Trace, a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: Any = None) -> Any:
    """Of vectors of three numbers."""
    first, second, third = (axis, axis, axis) if axis is not None else (axisa, axisb, axisc)
    left: Any = t.array(a)
    right: Any = t.array(b)
    a, b = np.moveaxis(left, first, -1), np.moveaxis(right, second, -1)
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        t.unsupported("np.cross of vectors that are not of three numbers")
    turn = [1, 2, 0]
    made = a[..., turn] * b[..., turn[1:] + turn[:1]] - a[..., turn[1:] + turn[:1]] * b[..., turn]
    return np.moveaxis(made, -1, third)


@function("linalg.matrix_power")
def matrix_power(t: Trace, a: Any, n: int) -> Any:
    a = t.array(a)
    if n < 0:
        a, n = inverse(t, a), -n
    if n > MAX_ROWS:
        t.unsupported(f"np.linalg.matrix_power with a power above {MAX_ROWS}")
    made: Any = np.eye(a.shape[-1], dtype=a.dtype)
    for k in range(n):
        made = a if not k else made @ a
    return made


def _solution(t: Trace, a: Traced, b: Traced, what: str) -> Any:
    """x with a @ x = b, for a [n, n] and b [n, m]: Gauss and Jordan's elimination with row pivots."""
    n = a.shape[-1]
    if a.ndim != 2 or n > MAX_ROWS:
        t.unsupported(f"{what} of several matrices, or of more than {MAX_ROWS} rows")
    work, rows = np.concatenate([a, b], 1), np.arange(n)
    for k in range(n):
        best = np.argmax(np.abs(work[k:, k])) + k
        order = np.where(rows == k, best, np.where(rows == best, k, rows))
        work = np.take(work, order, axis=0)
        pivot = work[k : k + 1] / work[k : k + 1, k : k + 1]
        work = np.where((rows == k)[:, None], pivot, work - work[:, k : k + 1] * pivot)
    return work[:, n:]


@function("linalg.inv")
def inverse(t: Trace, a: Any) -> Any:
    a = _real(t, a)
    return _solution(t, a, t.array(np.eye(a.shape[-1], dtype=np.float32)), "np.linalg.inv")


@function("linalg.solve")
def solve(t: Trace, a: Any, b: Any) -> Any:
    a, b = _real(t, a), _real(t, b)
    if b.ndim == 1:
        return _solution(t, a, b[:, None], "np.linalg.solve")[:, 0]
    return _solution(t, a, b, "np.linalg.solve")


@function("linalg.cholesky")
def cholesky(t: Trace, a: Any, /, *, upper: bool = False) -> Any:
    """A column at a time."""
    a = _real(t, a)
    n = a.shape[-1]
    if n > MAX_ROWS:
        t.unsupported(f"np.linalg.cholesky of more than {MAX_ROWS} rows")
    columns: list[Any] = []
    for k in range(n):
        rest = a[..., :, k]
        for column in columns:
            rest = rest - column * column[..., k : k + 1]
        columns.append(np.where(np.arange(n) < k, np.float32(0), rest / np.sqrt(rest[..., k : k + 1])))
    made = np.stack(columns, -1)
    return np.swapaxes(made, -1, -2) if upper else made
