"""Sums of products of integers in float32, cut into parts along the input channels so that each stays exact."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlpack.graph.dots import EXACT
from dlpack.graph.ir import Array, Node
from dlpack.graph.registry import Builder


def cuts_of(reach: Array, splits: bool) -> list[tuple[int, int]] | None:
    """Runs [first, last) of input channels whose sums stay exact in float32, given the most each can add to a sum."""
    if reach.sum(axis=0).max() <= EXACT:
        return [(0, len(reach))]
    if not splits or reach.max() > EXACT:
        return None
    cuts, first, total = [], 0, np.zeros(reach.shape[1])
    for channel, more in enumerate(reach):
        if (total + more).max() > EXACT:
            cuts.append((first, channel))
            first, total = channel, np.zeros(reach.shape[1])
        total = total + more
    return [*cuts, (first, len(reach))]


def sum_of_parts(node: Node, b: Builder, x: str, integers: Array, cuts: Sequence[tuple[int, int]], dtype: str) -> str:
    """The sum over each part of the input channels, in float32, and their sum in `dtype`."""
    shape, t = b.type_of(node.outputs[0]).shape, b.type_of(x)
    conv = node.op in ("Conv", "ConvTranspose")
    along = 1 if conv else len(t.shape) - 1
    lowest, highest = integers.min(), integers.max()
    fits = -128 <= lowest <= highest <= 127
    integers = integers.astype(np.int8 if fits else np.int16)
    total = ""
    for first, last in cuts:
        part = integers
        if len(cuts) > 1:
            part = integers[:, first:last] if conv else integers[first:last]
        source = x
        if len(cuts) > 1:
            bounds = [b.constant(np.array([v], np.int64)) for v in (first, last, along)]
            size = [last - first if d == along else n for d, n in enumerate(t.shape)]
            source = b.add("Slice", [x, *bounds], size)
        weights = b.constant(np.ascontiguousarray(part), "weights")
        attrs = dict(node.attrs) if conv else {}
        y = b.add(node.op if conv else "MatMul", [source, weights], shape, "float32", **attrs)
        y = y if dtype == "float32" else b.add("Cast", [y], shape, dtype)
        total = b.add("Add", [total, y], shape) if total else y
    return total
