"""Sparse weights of TensorFlow Lite, made dense.

A tensor's dimensions, and the blocks that some of them are cut into, are levels of a tree, in `traversal order`. A
dense level has all its places; of a sparse one, as in CSR, the file lists those that hold anything. What is stored are
the values at the leaves.
"""

from __future__ import annotations

import math

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import MAX_MADE_BYTES, Array, Shape
from dlpack.exporters.flatbuffer import Table

_INDEX_TYPES = {1: "<i4", 2: "<u2", 3: "u1"}


def densify(values: Array, shape: Shape, sparsity: Table, name: str) -> Array:
    """The tensor of this shape, from its stored values and the schema's SparsityParameters.

    Raises ModelError if they do not fit.
    """
    wrong = ModelError(f"the sparse tensor '{name}' of the shape {list(shape)} is damaged")
    order, blocks, levels = sparsity.ints(0), sparsity.ints(1), sparsity.tables(2)
    rank = len(shape)
    if any(d < 1 for d in shape) or math.prod(shape) * values.itemsize > MAX_MADE_BYTES:
        raise wrong
    fits = sorted(order) == list(range(rank + len(blocks))) and len(levels) == len(order)
    if not fits or len(set(blocks)) != len(blocks) or not all(0 <= b < rank for b in blocks):
        raise wrong
    width = [1] * rank  # of a block, by dimension
    for level, k in zip(levels, order, strict=True):
        if k >= rank:
            width[blocks[k - rank]] = level.number(1)
    sizes = [*(n // w if w > 0 else 0 for n, w in zip(shape, width, strict=True)), *(width[b] for b in blocks)]
    if any(w < 1 or n % w for n, w in zip(shape, width, strict=True)):
        raise wrong
    places = np.zeros((1, 0), np.int64)  # a row per node of the level, a column per level above and at it
    for level, k in zip(levels, order, strict=True):
        found = _below(level, len(places), sizes[k])
        if found is None:
            raise wrong
        parents, here = found
        places = np.concatenate([places[parents], here[:, None]], 1)
    if len(places) != values.size:
        raise wrong
    at = {k: places[:, column] for column, k in enumerate(order)}
    index = [at[d] for d in range(rank)]
    for k, d in enumerate(blocks):
        index[d] = index[d] * width[d] + at[rank + k]
    dense = np.zeros(shape, values.dtype)
    dense[tuple(index)] = values
    return dense


def _below(level: Table, nodes: int, size: int) -> tuple[Array, Array] | None:
    """The parents among `nodes` and the places, below `size`, of a level's nodes; None if it does not fit."""
    if not level.number(0, "b"):
        fits = level.number(1) == size
        return (np.repeat(np.arange(nodes), size), np.tile(np.arange(size), nodes)) if fits else None
    segments, here = (_indices(level, field) for field in (2, 4))
    if segments is None or here is None or segments.size != nodes + 1 or segments[0] or segments[-1] != here.size:
        return None
    counts = np.diff(segments)
    if (counts < 0).any() or (here < 0).any() or (here >= size).any():
        return None
    parents = np.repeat(np.arange(nodes), counts)
    again = (np.diff(here) <= 0) & (np.diff(parents) == 0)  # each place at most once, so that the tree stays small
    return None if again.any() else (parents, here)


def _indices(level: Table, field: int) -> Array | None:
    kind, table = _INDEX_TYPES.get(level.number(field, "B")), level.table(field + 1)
    return None if kind is None or table is None else table.vector(0, kind).astype(np.int64)
