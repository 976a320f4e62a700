"""NumPy's indexing and its functions that move or choose elements, as ONNX nodes. Signatures are NumPy's.

Functions that only move elements and have no ONNX operator are run by NumPy on the elements' indices, which index the
value: the result is right by construction.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dlpack.exporters.numpy.array import FUNCTIONS, Trace, Traced, is_known, onnx_dtype, plain
from dlpack.exporters.numpy.functions import axis_of, broadcast_arrays, broadcast_to, function, ravel, reshape, stack

# --- indexing ---------------------------------------------------------------------------------------------------------


def gather(t: Trace, a: Traced, places: np.ndarray[Any, Any]) -> Any:
    """The elements of `a` at `places`, indices into its row-major order."""
    t.g.claim("an index", places.shape, np.int64)
    return t.op("Gather", reshape(t, a, (-1,)), t.array(places.astype(np.int64)), axis=0)


def _numbers(t: Trace, a: Traced) -> np.ndarray[Any, Any]:
    t.g.claim("an index", a.shape, np.int64)
    return np.arange(a.size).reshape(a.shape)


@function("getitem")
def getitem(t: Trace, a: Traced, key: Any) -> Any:
    keys = list(key) if isinstance(key, tuple) else [key]
    if any(isinstance(k, Traced) and not is_known(k) for k in keys):
        return _dynamic(t, a, keys)
    keys = [np.asarray(plain(k)) if isinstance(k, list | Traced | np.ndarray) else k for k in keys]
    keys = [k.item() if isinstance(k, np.ndarray) and k.ndim == 0 and k.dtype.kind in "iu" else k for k in keys]
    if any(isinstance(k, slice) and not is_known([k.start, k.stop, k.step]) for k in keys):
        t.unsupported("a slice whose bounds depend on the input")
    arrays = [k for k in keys if isinstance(k, np.ndarray)]
    if arrays:
        whole = [k for k in keys if not (isinstance(k, slice) and k == slice(None))]
        if len(whole) == 1 and arrays[0].dtype.kind in "iu" and whole[0] is arrays[0]:
            axis = next(i for i, k in enumerate(keys) if k is arrays[0])
            _ = np.broadcast_to(np.int8(0), a.shape)[tuple(keys)]  # NumPy checks the bounds
            return t.op("Gather", a, t.array(arrays[0] % a.shape[axis]), axis=axis)
        return gather(t, a, _numbers(t, a)[tuple(keys)])
    return _slice(t, a, keys)


def _slice(t: Trace, a: Traced, keys: list[Any]) -> Any:
    """Integers, slices, None and an ellipsis."""
    target = np.broadcast_to(np.int8(0), a.shape)[tuple(keys)].shape
    keys = [k for k in keys if k is not None]
    at = next((i for i, k in enumerate(keys) if k is Ellipsis), len(keys))
    rest = keys[at + 1 :]
    keys = [*keys[:at], *[slice(None)] * (a.ndim - at - len(rest)), *rest]
    starts, ends, axes, steps = [], [], [], []
    for axis, (k, n) in enumerate(zip(keys, a.shape, strict=True)):
        if isinstance(k, slice):
            start, stop, step = k.indices(n)
        else:
            start = int(k) % n
            stop, step = start + 1, 1
        if (start, stop, step) != (0, n, 1):
            starts.append(start)
            ends.append(stop if stop >= 0 else -(2**31))
            axes.append(axis)
            steps.append(step)
    if axes:
        a = t.op("Slice", a, *(t.g.ints(v) for v in (starts, ends, axes, steps)))
    return reshape(t, a, target)


def _dynamic(t: Trace, a: Traced, keys: list[Any]) -> Any:
    """Integer indices that depend on the input: along one axis, or along the first ones together."""
    for k in keys:
        if isinstance(k, Traced) and k.dtype.kind not in "iu":
            t.unsupported(
                "indexing with a mask that depends on the input", "use np.where(mask, x, 0)"
            ) if k.dtype == np.bool_ else t.unsupported(f"indexing with {k.dtype}", "use x.astype(np.int64)")
    full = [isinstance(k, slice) and k == slice(None) for k in keys]
    if sum(not f for f in full) == 1:
        axis = full.index(False)
        return t.op("Gather", a, keys[axis].astype(np.int64), axis=axis)
    while full and full[-1]:
        full.pop()
        keys = keys[: len(full)]
    if any(not isinstance(k, Traced | np.ndarray | int | np.integer | list) for k in keys):
        t.unsupported("indexing with the input in several places")
    parts = broadcast_arrays(t, *(t.array(k).astype(np.int64) for k in keys))
    return t.op("GatherND", a, stack(t, parts, -1))


@function("setitem")
def setitem(t: Trace, a: Traced, key: Any, new: Traced) -> Any:
    places = _numbers(t, a)[key]
    if places.size == a.size and np.array_equal(places.reshape(-1), np.arange(a.size)):
        return reshape(t, broadcast_to(t, new.astype(a.dtype), places.shape), a.shape)
    updates = ravel(t, broadcast_to(t, new.astype(a.dtype), places.shape))
    flat = t.op("ScatterElements", ravel(t, a), t.array(places.reshape(-1)), updates, axis=0)
    return reshape(t, flat, a.shape)


@function("take")
def take(t: Trace, a: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Any:
    a = t.array(a)
    if mode != "raise":
        t.unsupported(f"np.take with mode='{mode}'")
    if axis is None:
        a, axis = ravel(t, a), 0
    keys = [slice(None)] * axis_of(axis, a.ndim)
    return getitem(t, a, (*keys, t.array(indices)))


@function("take_along_axis")
def take_along_axis(t: Trace, arr: Any, indices: Any, axis: Any = -1) -> Any:
    arr, indices = t.array(arr), t.array(indices).astype(np.int64)
    if axis is None:
        return t.op("GatherElements", ravel(t, arr), indices, axis=0)
    axis = axis_of(axis, arr.ndim)
    target = list(np.broadcast_shapes(
        *((*s[:axis], 1, *s[axis + 1 :]) for s in (arr.shape, indices.shape))))  # fmt: skip
    arr = broadcast_to(t, arr, [*target[:axis], arr.shape[axis], *target[axis + 1 :]])
    indices = broadcast_to(t, indices, [*target[:axis], indices.shape[axis], *target[axis + 1 :]])
    return t.op("GatherElements", arr, indices, axis=axis)


def _mover(name: str) -> None:
    original: Any = np
    for part in name.split("."):
        original = getattr(original, part)

    def convert(t: Trace, a: Any, *args: Any, **kwargs: Any) -> Any:
        a = t.array(a)
        if not is_known([*args]) or any(not is_known(v) for v in (*args, *kwargs.values())):
            t.unsupported(f"np.{name} with an argument that depends on the input")
        return gather(t, a, original(_numbers(t, a), *plain(list(args)), **plain(kwargs)))

    FUNCTIONS[name] = convert


for _name in ("flip", "fliplr", "flipud", "roll", "rot90", "repeat", "tile", "diagonal", "resize", "delete",
              "lib.stride_tricks.sliding_window_view"):  # fmt: skip
    _mover(_name)


@function("diag")
def diag(t: Trace, v: Any, k: int = 0) -> Any:
    v = t.array(v)
    if v.ndim == 2:
        return gather(t, v, np.diag(_numbers(t, v), k))
    n = v.shape[0] + abs(k)
    places = np.diag(np.arange(1, v.shape[0] + 1), k)
    return where(t, places > 0, gather(t, v, np.maximum(places - 1, 0)), np.zeros((n, n), v.dtype))


def _triangle(name: str) -> None:
    def convert(t: Trace, m: Any, k: int = 0) -> Any:
        m = t.array(m)
        mask = getattr(np, name)(np.ones(m.shape[-2:], np.bool_), k)
        return where(t, mask, m, np.zeros((), m.dtype))

    FUNCTIONS[name] = convert


for _name in ("tril", "triu"):
    _triangle(_name)


@function("trace", "linalg.trace")
def trace_of(t: Trace, a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    diagonal: Any = np.diagonal(t.array(a), offset, axis1, axis2)
    return np.sum(diagonal, axis=-1)


@function("pad")
def pad(t: Trace, array: Any, pad_width: Any, mode: Any = "constant", **kwargs: Any) -> Any:
    a = t.array(array)
    if mode in ("edge", "reflect", "symmetric", "wrap"):
        return gather(t, a, np.pad(_numbers(t, a), pad_width, mode, **kwargs))
    if mode != "constant":
        t.unsupported(f"np.pad with mode={mode!r}")
    value = plain(kwargs.get("constant_values", 0))
    if np.ndim(value) and np.unique(value).size > 1:
        t.unsupported("np.pad with several constant_values")
    value = np.asarray(np.asarray(value).reshape(-1)[0], a.dtype)
    if isinstance(pad_width, dict):
        pad_width = [pad_width.get(k, pad_width.get(k - a.ndim, (0, 0))) for k in range(a.ndim)]
        pad_width = [(w, w) if isinstance(w, int) else w for w in pad_width]
    widths = np.broadcast_to(np.asarray(plain(pad_width)), (a.ndim, 2))
    return t.op("Pad", a, t.g.ints([*widths[:, 0].tolist(), *widths[:, 1].tolist()]), value)


@function("meshgrid")
def meshgrid(t: Trace, *xi: Any, indexing: Any = "xy", sparse: bool = False, copy: bool = True) -> Any:
    arrays = [t.array(x) for x in xi]
    made = []
    sizes = [a.size for a in arrays]
    numbers: list[Any] = [np.arange(n) for n in sizes]
    grid = np.meshgrid(*numbers, indexing=indexing, sparse=sparse)
    for a, places in zip(arrays, grid, strict=True):
        made.append(gather(t, a, places))
    return tuple(made)


# --- choosing ---------------------------------------------------------------------------------------------------------


@function("where")
def where(t: Trace, condition: Any, x: Any = None, y: Any = None) -> Any:
    if x is None or y is None:
        t.unsupported("np.where with one argument", "its result's shape depends on the input's values")
    scalars = [v for v in (x, y) if type(v) in (int, float)]
    arrays = [v for v in (x, y) if type(v) not in (int, float)]
    kinds = [t.array(v).dtype for v in arrays]
    common = onnx_dtype(np.result_type(*kinds, *scalars))
    mask: Any = t.array(condition)
    mask = mask if mask.dtype == np.bool_ else np.not_equal(mask, 0)
    x, y = (t.array(v) for v in (x, y))
    return t.op("Where", mask, *(v if onnx_dtype(v.dtype) == common else v.astype(common) for v in (x, y)))


@function("select")
def select(t: Trace, condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    result = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        result = where(t, condition, choice, result)
    return result


@function("clip")
def clip(
    t: Trace, a: Any, a_min: Any = None, a_max: Any = None, min: Any = None, max: Any = None, dtype: Any = None
) -> Any:
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    result = t.array(a)
    if low is not None:
        result = np.maximum(result, low)
    if high is not None:
        result = np.minimum(result, high)
    return result if dtype is None else result.astype(dtype)


@function("round", "around")
def round_(t: Trace, a: Any, decimals: int = 0) -> Any:
    a = t.array(a)
    if a.dtype.kind != "f":
        return a
    scale = 10.0**decimals
    return t.op("Round", a) if decimals == 0 else np.rint(a * scale) / scale


@function("fix")
def fix(t: Trace, x: Any) -> Any:
    return np.trunc(t.array(x))


@function("nan_to_num")
def nan_to_num(t: Trace, x: Any, copy: bool = True, nan: float = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    x = t.array(x)
    most = float(np.finfo(np.float32).max)
    x = where(t, np.isnan(x), nan, x)
    low, high = -most if neginf is None else neginf, most if posinf is None else posinf
    return where(t, np.isinf(x), where(t, x > 0, float(high), float(low)), x)


@function("isclose")
def isclose(t: Trace, a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    return np.abs(t.array(a) - b) <= atol + rtol * np.abs(t.array(b))
