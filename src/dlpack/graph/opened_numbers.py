"""Constants that are others in each size of an open dimension: what a model computes of the size alone.

Where elements grow with the size, they are computed in a run from its number of elements, which a step writes
(`Count`). Where a table ends alike in all sizes, a run takes its last rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlpack.graph.ir import Array
from dlpack.graph.registry import Builder
from dlpack.loops.sizes import Size


@dataclass(frozen=True)
class Seen:
    """A constant of the model at a size of the open dimension."""

    size: int
    value: Array


def padded(value: Array, shape: Sequence[int]) -> Array:
    """Filled up with zeros to a shape."""
    added = [(0, n - old) for n, old in zip(shape, value.shape, strict=True)]
    return np.pad(value, added) if any(n for _, n in added) else value


def first_part(value: Array, shape: Sequence[int]) -> Array:
    """The first elements along each dimension."""
    return value[tuple(slice(0, n) for n in shape)]


def of_a_run(seen: Sequence[Seen], shape: Sequence[int], size: Size, b: Builder) -> str | None:
    """The name of a constant in a run, of a shape for the most elements; None where it is no function that is known.

    `seen` has it at some sizes, the largest last; a run has `size`.
    """
    most = seen[-1].value
    if most.dtype.name not in ("int32", "int64", "float32"):
        return None
    return _growing(seen, shape, size, b) or _last_rows(seen, shape, size, b)


def affine(base: Array, slope: Array, size: Size, b: Builder) -> str:
    """``base + slope * n``, where a run has n elements, its `size`.

    Both have one shape but for dimensions in which the slope has one element.
    """
    shape, dtype = base.shape, base.dtype
    if base.size == 1 and (slope == 1).all() and base == int(base.item()):
        return b.count(size + int(base.item()), base.ndim, dtype.name)
    n = b.count(size, base.ndim, dtype.name)
    grown = n if (slope == 1).all() else b.add("Mul", [n, b.constant(slope.astype(dtype), "slope")], slope.shape)
    return b.add("Add", [b.constant(base, "base"), grown], shape)


def _growing(seen: Sequence[Seen], shape: Sequence[int], size: Size, b: Builder) -> str | None:
    """Where the elements of each size are those of another plus as much for all along the open dimensions."""
    some, most = seen[-2], seen[-1]
    opened = tuple(d for d, (a, c) in enumerate(zip(some.value.shape, most.value.shape, strict=True)) if a != c)
    wide = np.int64 if most.value.dtype.kind == "i" else np.float64
    differ = first_part(most.value, some.value.shape).astype(wide) - some.value.astype(wide)
    steps = most.size - some.size
    least = differ.min(opened, keepdims=True) if opened else differ
    if (differ != least).any() or (wide is np.int64 and (least % steps).any()):
        return None
    slope = least // steps if wide is np.int64 else least / steps
    base = (most.value.astype(wide) - slope * most.size).astype(most.value.dtype)
    for at in seen:
        told = first_part(base, at.value.shape) + slope * at.size
        if at.value.shape != told.shape or (told.astype(base.dtype) != at.value).any():
            return None
    return affine(padded(base, shape), slope, size, b)


def _last_rows(seen: Sequence[Seen], shape: Sequence[int], size: Size, b: Builder) -> str | None:
    """Where a table's rows are the last ones of one for the most elements."""
    most = seen[-1]
    opened = [d for d, (a, c) in enumerate(zip(seen[-2].value.shape, most.value.shape, strict=True)) if a != c]
    if len(opened) != 1:
        return None
    (axis,) = opened
    for at in seen:
        last = np.moveaxis(np.moveaxis(most.value, axis, 0)[most.size - at.size :], 0, axis)
        if not np.array_equal(last, at.value):
            return None
    extent = shape[axis]
    room = [extent + 1 if d == axis else n for d, n in enumerate(shape)]  # so the table is not open
    places = affine(np.arange(extent, dtype=np.int64) + most.size, np.array([-1], np.int64), size, b)
    table = b.constant(padded(most.value, room), "rows")
    return b.add("Gather", [table, places], shape, axis=axis)
