"""NumPy's functions that reshape, join and split, as ONNX nodes. Signatures are NumPy's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dlpack.exporters.numpy.array import FUNCTIONS, Trace, Traced, is_known, onnx_dtype, plain

Function = Callable[..., Any]


def function(*names: str) -> Callable[[Function], Function]:
    def enter(f: Function) -> Function:
        for name in names:
            FUNCTIONS[name] = f
        return f

    return enter


def axis_of(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise np.exceptions.AxisError(axis, rank)
    return int(axis) % rank


def axes_of(axis: Any, rank: int) -> list[int]:
    if axis is None:
        return list(range(rank))
    return sorted({axis_of(a, rank) for a in (axis if isinstance(axis, tuple | list) else (axis,))})


def same_type(t: Trace, arrays: Sequence[Any], dtype: Any = None) -> list[Traced]:
    lifted = [t.array(a) for a in arrays]
    common = onnx_dtype(dtype or np.result_type(*(a.dtype for a in lifted)))
    return [a if onnx_dtype(a.dtype) == common else a.astype(common) for a in lifted]


# --- shapes -----------------------------------------------------------------------------------------------------------


@function("reshape")
def reshape(t: Trace, a: Any, shape: Any = None, order: str = "C", newshape: Any = None, copy: Any = None) -> Any:
    a, shape = t.array(a), plain(newshape if shape is None else shape)
    target = np.broadcast_to(np.int8(0), a.shape).reshape(shape).shape  # NumPy checks it
    if order == "F":
        return np.transpose(reshape(t, np.transpose(a), target[::-1]))
    if order not in ("C", "A", "K"):
        t.unsupported(f"np.reshape with order='{order}'")
    return a if target == a.shape else t.op("Reshape", a, t.g.ints(target))


@function("ravel")
def ravel(t: Trace, a: Any, order: str = "C") -> Any:
    return reshape(t, a, (-1,), order)


@function("transpose", "permute_dims")
def transpose(t: Trace, a: Any, axes: Any = None) -> Any:
    a = t.array(a)
    order = [*range(a.ndim)][::-1] if axes is None else [axis_of(k, a.ndim) for k in plain(axes)]
    if sorted(order) != list(range(a.ndim)):
        raise ValueError("axes don't match array")
    return a if order == list(range(a.ndim)) else t.op("Transpose", a, perm=order)


@function("swapaxes")
def swapaxes(t: Trace, a: Any, axis1: int, axis2: int) -> Any:
    order = list(range(t.array(a).ndim))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return transpose(t, a, order)


@function("matrix_transpose", "linalg.matrix_transpose")
def matrix_transpose(t: Trace, x: Any) -> Any:
    return swapaxes(t, x, -1, -2)


@function("moveaxis")
def moveaxis(t: Trace, a: Any, source: Any, destination: Any) -> Any:
    a = t.array(a)
    moved = np.moveaxis(np.broadcast_to(np.int8(0), range(2, a.ndim + 2)), source, destination).shape
    return transpose(t, a, [d - 2 for d in moved])


@function("rollaxis")
def rollaxis(t: Trace, a: Any, axis: int, start: int = 0) -> Any:
    a = t.array(a)
    moved = np.rollaxis(np.broadcast_to(np.int8(0), range(2, a.ndim + 2)), axis, start).shape
    return transpose(t, a, [d - 2 for d in moved])


@function("squeeze")
def squeeze(t: Trace, a: Any, axis: Any = None) -> Any:
    a = t.array(a)
    return reshape(t, a, np.squeeze(np.broadcast_to(np.int8(0), a.shape), axis).shape)


@function("expand_dims")
def expand_dims(t: Trace, a: Any, axis: Any) -> Any:
    a = t.array(a)
    return reshape(t, a, np.expand_dims(np.broadcast_to(np.int8(0), a.shape), axis).shape)


def _at_least(n: int) -> None:
    original = getattr(np, f"atleast_{n}d")

    def convert(t: Trace, *arrays: Any) -> Any:
        made = [reshape(t, a, original(np.broadcast_to(np.int8(0), t.array(a).shape)).shape) for a in arrays]
        return made[0] if len(made) == 1 else tuple(made)

    FUNCTIONS[f"atleast_{n}d"] = convert


for _n in (1, 2, 3):
    _at_least(_n)


@function("broadcast_to")
def broadcast_to(t: Trace, array: Any, shape: Any, subok: bool = False) -> Any:
    a = t.array(array)
    target = np.broadcast_to(np.broadcast_to(np.int8(0), a.shape), shape).shape
    if a.known is not None and is_known(a):
        return t.array(np.broadcast_to(a.known, target))
    return a if target == a.shape else t.op("Expand", a, t.g.ints(target))


@function("broadcast_arrays")
def broadcast_arrays(t: Trace, *args: Any, subok: bool = False) -> Any:
    shape = np.broadcast_shapes(*(t.array(a).shape for a in args))
    return tuple(broadcast_to(t, a, shape) for a in args)


@function("shape")
def shape_of(t: Trace, a: Any) -> Any:
    return t.array(a).shape


@function("ndim")
def ndim(t: Trace, a: Any) -> int:
    return t.array(a).ndim


@function("size")
def size(t: Trace, a: Any, axis: Any = None) -> int:
    a = t.array(a)
    return a.size if axis is None else math.prod(a.shape[k] for k in axes_of(axis, a.ndim))


@function("copy")
def copy(t: Trace, a: Any, order: str = "K", subok: bool = False) -> Any:
    return t.array(a).copy()


@function("astype")
def astype(t: Trace, x: Any, dtype: Any, copy: bool = True, device: Any = None) -> Any:
    return t.array(x).astype(dtype)


@function("real")
def real(t: Trace, val: Any) -> Any:
    return t.array(val)


def _like(name: str, value: float) -> None:
    def convert(t: Trace, a: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None,
                device: Any = None) -> Any:  # fmt: skip
        a = t.array(a)
        return t.array(np.full(a.shape if shape is None else shape, value, dtype or a.dtype))

    FUNCTIONS[name] = convert


for _name, _value in (("zeros_like", 0), ("ones_like", 1), ("empty_like", 0)):
    _like(_name, _value)


@function("full_like")
def full_like(t: Trace, a: Any, fill_value: Any, dtype: Any = None, order: str = "K", subok: bool = True,
              shape: Any = None, device: Any = None) -> Any:  # fmt: skip
    a = t.array(a)
    target = a.shape if shape is None else shape
    if is_known(fill_value):
        return t.array(np.full(target, plain(fill_value), dtype or a.dtype))
    return broadcast_to(t, t.array(fill_value).astype(dtype or a.dtype), target)


# --- joining and cutting ----------------------------------------------------------------------------------------------


@function("concatenate")
def concatenate(t: Trace, arrays: Any, axis: Any = 0, dtype: Any = None, casting: str = "same_kind") -> Any:
    parts = same_type(t, list(arrays), dtype)
    if axis is None:
        parts, axis = [ravel(t, p) for p in parts], 0
    parts = [p for p in parts if p.shape[axis_of(axis, p.ndim)]]
    if len(parts) == 1:
        return parts[0].copy()
    return t.op("Concat", *parts, axis=axis_of(axis, parts[0].ndim))


@function("stack")
def stack(t: Trace, arrays: Any, axis: int = 0, dtype: Any = None, casting: str = "same_kind") -> Any:
    parts = same_type(t, list(arrays), dtype)
    if len({p.shape for p in parts}) > 1:
        raise ValueError("all input arrays must have the same shape")
    where = axis_of(axis, parts[0].ndim + 1)
    return concatenate(t, [expand_dims(t, p, where) for p in parts], where)


@function("vstack", "row_stack")
def vstack(t: Trace, tup: Any, dtype: Any = None, casting: str = "same_kind") -> Any:
    return concatenate(t, [FUNCTIONS["atleast_2d"](t, a) for a in tup], 0, dtype)


@function("hstack")
def hstack(t: Trace, tup: Any, dtype: Any = None, casting: str = "same_kind") -> Any:
    parts = [FUNCTIONS["atleast_1d"](t, a) for a in tup]
    return concatenate(t, parts, 0 if parts[0].ndim == 1 else 1, dtype)


@function("dstack")
def dstack(t: Trace, tup: Any) -> Any:
    return concatenate(t, [FUNCTIONS["atleast_3d"](t, a) for a in tup], 2)


@function("column_stack")
def column_stack(t: Trace, tup: Any) -> Any:
    parts = [t.array(a) for a in tup]
    return concatenate(t, [reshape(t, p, (-1, 1)) if p.ndim < 2 else p for p in parts], 1)


@function("append")
def append(t: Trace, arr: Any, values: Any, axis: Any = None) -> Any:
    return concatenate(t, [arr, values], axis)


def _cut(t: Trace, a: Traced, axis: int, start: int, stop: int) -> Any:
    return a[(*[slice(None)] * axis, slice(start, stop))]


@function("split", "array_split")
def split(t: Trace, ary: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    a = t.array(ary)
    axis = axis_of(axis, a.ndim)
    sections = plain(indices_or_sections)
    bounds = [p.tolist() for p in np.array_split(np.arange(a.shape[axis]), sections)]
    if any(not b for b in bounds):
        raise ValueError("array split leaves a part without elements")
    return [_cut(t, a, axis, b[0], b[-1] + 1) for b in bounds]


def _split_along(name: str, axis: int) -> None:
    def convert(t: Trace, ary: Any, indices_or_sections: Any) -> Any:
        along = 0 if name == "hsplit" and t.array(ary).ndim == 1 else axis
        return split(t, ary, indices_or_sections, along)

    FUNCTIONS[name] = convert


for _name, _along in (("vsplit", 0), ("hsplit", 1), ("dsplit", 2)):
    _split_along(_name, _along)


@function("unstack")
def unstack(t: Trace, x: Any, axis: int = 0) -> Any:
    return tuple(moveaxis(t, x, axis, 0))
