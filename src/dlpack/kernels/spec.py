"""What passes between the compiler and a target's schedules: a kernel to be scheduled, and the scheduled kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dlpack.loops.expressions import Operand
from dlpack.loops.ir import Kernel
from dlpack.loops.layout import Layout
from dlpack.loops.opened import Opens
from dlpack.loops.sizes import Tag

WIDENED = "widened"
"""What the name of a stage begins with that only makes float32 of float16: it is computed where it is read."""


@dataclass(frozen=True)
class KernelSpec:
    """A kernel to be scheduled: its te tensors (inputs, then outputs), their operands, and which are constant.

    `order` is the main output's dimensions from outermost to innermost in memory. `fixed` has, by parameter index, the
    packed layouts in which constants are stored already: one of them is to be kept to, or the weights are stored twice.
    `open`: dimensions whose extent is a multiple of one of these are open, of which a run may have less; what it has,
    where they are all pixels of a picture.
    `tags`, where there are pictures of several sizes: of each operand's dimensions what a run has of them.
    `reduces`: the kernel takes such dimensions of its inputs as a whole.
    `one_row`: a run has the rows of the picture one behind the other, as one, of at least so many pixels; else 0.
    `taller`: the same constants are multiplied with more rows in sets of shapes that follow.
    """

    tensors: Sequence[Any]
    operands: Sequence[Operand]
    constant: frozenset[int]
    order: tuple[int, ...]
    fixed: Mapping[int, tuple[Layout, ...]] = field(default_factory=dict)
    open: Opens = field(default_factory=dict)
    tags: Sequence[Sequence[Tag]] = ()
    reduces: bool = False
    taller: bool = False
    one_row: int = 0

    def may_be_less(self, extent: int) -> bool:
        """Whether a run may have less than `extent` along a dimension."""
        if self.open:
            return any(extent % n == 0 for n in self.open)
        shapes = (tuple(int(n) for n in t.shape) for t in self.tensors)
        return any(
            tag and n == extent
            for s, own in zip(shapes, self.tags, strict=False)
            for n, tag in zip(s, own, strict=True)
        )


@dataclass(frozen=True)
class Scheduled:
    """The kernel, the packed layout chosen for constants (by parameter index), and the schedule in words."""

    kernel: Kernel
    packed: Mapping[int, Layout] = field(default_factory=dict)
    description: str = ""
