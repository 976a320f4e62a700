"""What the printers of GPU kernels have in common, whatever the language: whose trips a loop's are, and which arrays
hold vectors."""

from __future__ import annotations

from collections.abc import Sequence

from dlpack.amalgamate.printer import Printer
from dlpack.loops.index import Linear
from dlpack.loops.ir import (
    Array,
    For,
    Gathered,
    Kernel,
    Load,
    LoopAxis,
    ScatteredStore,
    Space,
    Stmt,
    Store,
    expressions,
    walk,
)

LANES = 4
"""Floats of a vector."""

OVER_BLOCK = ("block_sum", "block_product", "block_max", "block_min")
"""Operations on a value of each of a block's threads, whose result all of them get."""


class GpuPrinter(Printer):
    """Prints kernels for GPUs. Every address is written out: threads have few registers for pointers, and the device
    compiler finds what addresses have in common.

    A dialect says what `thread` is its number in the block, and how `constant` integers are declared.
    """

    POINTERS = False
    THREAD = "thread"

    def __init__(self) -> None:
        super().__init__()
        self.vectors: set[str] = set()
        """The kernel's arrays in registers whose elements are vectors."""
        self.mixed: set[str] = set()
        """Those that are read by vectors and have other elements."""

    def kernel(self, kernel: Kernel, name: str, restrict: bool = True) -> str:
        self.vectors = arrays_of_vectors(kernel)
        wide = {e.buffer for e in expressions(kernel.body) if isinstance(e, Load) and e.lanes == LANES}
        self.mixed = wide - self.vectors
        return super().kernel(kernel, name, restrict)

    # --- what a dialect says ------------------------------------------------------------------------------------

    def block_index(self, dimension: int) -> str:
        """The number of a block in one of the grid's dimensions; 0 is the innermost."""
        raise self.lacks("blocks")

    def constant(self, name: str, value: str) -> str:
        """The declaration of an integer."""
        raise self.lacks("integers")

    def guarded(self, s: For, pad: str) -> list[str]:
        """The lines that begin what only the first `s.end` - `s.begin` threads do, each its trip."""
        raise self.lacks("conditions")

    # --- loops --------------------------------------------------------------------------------------------------

    def block(self, stmts: Sequence[Stmt], depth: int) -> list[str]:
        """A trip for each thread at the end of a block needs no scope of its own."""
        last = stmts[-1] if stmts else None
        if not isinstance(last, For) or last.axis is not LoopAxis.THREAD or last.end - last.begin != last.step:
            return super().block(stmts, depth)
        pad = "    " * depth
        named = last.step == 1 or self.first(last) == last.var
        index = [] if named else [f"{pad}{self.constant(last.var, self.first(last))};"]
        return [*super().block(stmts[:-1], depth), *index, *self.block(last.body, depth)]

    def _For(self, s: For, depth: int) -> list[str]:
        """A loop over blocks, or over no more trips than there are threads, is none: each has its own trip."""
        pad = "    " * depth
        trips = s.end - s.begin
        if s.axis is LoopAxis.BLOCK:
            return self._grid(s, pad, depth)
        if s.axis is not LoopAxis.THREAD or trips > s.step:
            return super()._For(s, depth)
        if trips == s.step:
            return [f"{pad}{{", *self.block((s,), depth + 1), f"{pad}}}"]
        if trips == 1 and not s.begin:
            return [f"{pad}if ({self.THREAD} == 0) {{", *self.block(s.body, depth + 1), f"{pad}}}"]
        return [*self.guarded(s, pad), *self.block(s.body, depth + 1), f"{pad}}}"]

    def _grid(self, s: For, pad: str, depth: int) -> list[str]:
        inner = s.body[0] if len(s.body) == 1 else None
        outer = 0
        while isinstance(inner, For) and inner.axis is LoopAxis.BLOCK:
            outer += 1
            inner = inner.body[0] if len(inner.body) == 1 else None
        index = [f"{pad}{self.constant(s.var, self.block_index(outer))};"] if s.end > 1 else []
        return [*index, *self.block(s.body, depth)]

    def first(self, s: For) -> str:
        """The first trip of a thread."""
        return f"{s.begin} + {self.THREAD}" if s.begin else self.THREAD


def arrays_of_vectors(kernel: Kernel, space: Space = Space.REGISTER) -> set[str]:
    """The arrays in registers, or in another space, that are only accessed by whole vectors."""
    arrays = {s.name for s in walk(kernel.body) if isinstance(s, Array) and s.space is space}
    return arrays - accessed_singly(kernel)


def accessed_singly(kernel: Kernel) -> set[str]:
    """The buffers some of whose accesses are not of whole vectors."""
    stored = {s.buffer for s in walk(kernel.body) if isinstance(s, Store) and s.value.lanes != LANES}
    stored |= {s.buffer for s in walk(kernel.body) if isinstance(s, ScatteredStore)}
    return stored | {e.buffer for e in expressions(kernel.body) if isinstance(e, Load | Gathered) and e.lanes != LANES}


def in_vectors(index: Linear) -> Linear:
    """The number of a vector, of its first element's."""
    return Linear(index.const // LANES, tuple((atom, c // LANES) for atom, c in index.terms))
