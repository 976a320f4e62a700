"""A constant's elements in the order in which kernels read them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from dlpack.loops.layout import Layout


def pack(array: np.ndarray[Any, Any], layout: Layout) -> np.ndarray[Any, Any]:
    """A constant's elements in a layout, as a flat array; fills up blocks with zeros."""
    blocks = dict(layout.blocks)
    out = np.zeros(layout.reach(array.shape), dtype=array.dtype)
    pieces: list[list[tuple[int, int, int]]] = []  # by dimension: first element, blocks, elements of each
    for d, n in enumerate(array.shape):
        size = blocks[d].size if d in blocks else max(n, 1)
        whole = [(0, n // size, size)] if n >= size else []
        pieces.append([*whole, *([(n - n % size, 1, n % size)] if n % size else [])])
    for piece in itertools.product(*pieces):
        at, shape, strides = layout.offset, list[int](), list[int]()
        for d, (first, count, elements) in enumerate(piece):
            at += first // blocks[d].size * layout.strides[d] if d in blocks else 0
            shape += [count, elements]
            strides += [layout.strides[d], blocks[d].inner if d in blocks else layout.strides[d]]
        source = array[tuple(slice(first, first + count * elements) for first, count, elements in piece)]
        places = [s * array.itemsize for s in strides]
        np.lib.stride_tricks.as_strided(out[at:], shape, places)[...] = source.reshape(shape)
    return out
