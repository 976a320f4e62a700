"""Slices as Core ML's ML programs and neural networks both have them: bounds, strides, and masks for each dimension."""

from __future__ import annotations

from collections.abc import Sequence

from dlpack.errors import ModelError
from dlpack.exporters.builder import Shape
from dlpack.exporters.call import Nodes

FAR = 1 << 40
"""Beyond any dimension."""


def masked_slice(
    c: Nodes, x: str, shape: Shape, bounds: Sequence[Sequence[int]], masks: Sequence[Sequence[int]]
) -> str:
    """Part of `x`, which has this shape.

    `bounds`: begin, end and stride per dimension; `masks`: whether each begins and ends where the dimension does, and
    whether its one place at `begin` is taken, without the dimension. Raises ModelError where they do not fit.
    """
    rank = len(shape)
    begin, end, step = (list(v) for v in bounds)
    starts, stops, gone = masks
    if any(len(v) != rank for v in (begin, end, step, *masks)) or 0 in step:
        raise ModelError(f"its begin, end, stride or masks do not fit {rank} dimensions")
    for k in range(rank):
        if gone[k]:
            begin[k], step[k] = begin[k] % shape[k], 1
            end[k] = begin[k] + 1
            continue
        if starts[k]:
            begin[k] = 0 if step[k] > 0 else FAR
        if stops[k]:
            end[k] = FAR if step[k] > 0 else -FAR
    y = c.op_("Slice", x, *(c.g.ints(v) for v in (begin, end, list(range(rank)), step)))
    dropped = [k for k in range(rank) if gone[k]]
    return c.op_("Squeeze", y, c.g.ints(dropped)) if dropped else y
