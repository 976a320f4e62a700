"""The rule for kernels whose stages go over the same rows: softmax, normalisation, sums and maxima of rows.

A block takes a row. Its threads share the elements of each stage, and a reduction's result is known to all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from dlpack.kernels.spec import Scheduled
from dlpack.targets.cpu.blocks import BlockInfo
from dlpack.targets.cpu.schedule import inline_single_use
from dlpack.targets.cpu.state import points
from dlpack.targets.gpu.cost import threads_for
from dlpack.targets.gpu.lowering import BLOCKS, GRID, SHARE, THREADS, TOGETHER, TooMuchShared
from dlpack.targets.gpu.state import GpuState

SHORT = 16
"""Elements of a row up to which a thread per row is faster than a block."""


def rows(state: GpuState) -> Scheduled | None:
    """Schedules stages over the same rows; None where a short row is all there is, or one sum of short rows. What is
    computed from a row and does not fit shared memory is computed again wherever it is read."""
    found = _match(state)
    if found is None:
        return None
    if found.longest <= SHORT:
        return _by_threads(state, found) if found.outer and len(found.stages) > 1 else None
    try:
        return _apply(state, found)
    except TooMuchShared:
        again = GpuState(state.spec, state.gpu)
        shorter = _match(again, stored=False)
        return None if shorter is None else _apply(again, shorter)


@dataclass(frozen=True)
class _Rows:
    """The stages in order; `outer` numbers the output's dimensions that all of them share, the rows."""

    stages: tuple[tuple[Any, BlockInfo], ...]
    outer: tuple[int, ...]

    @property
    def longest(self) -> int:
        """Elements of the longest row that is reduced."""
        return max(i.extent_of_reduction for _, i in self.stages if i.reduces)


def _match(state: GpuState, stored: bool = True) -> _Rows | None:
    order = state.spec.order
    if state.statements or not order:
        return None
    inline_single_use(state)
    for b in [] if stored else state.blocks()[:-1]:
        if not state.info(b).reduces and not state.info(b).opaque:
            state.sch.compute_inline(b)
    stages = tuple((b, state.info(b)) for b in state.blocks())
    reducing = [i for _, i in stages if i.reduces]
    last = stages[-1][1]
    if not reducing or any(i.opaque or len(i.writes) != 1 for _, i in stages) or len(last.spatial) != len(order):
        return None
    if last.reduces and len(stages) > 1:
        return None
    shared = min(sum(a.extent > 1 for a in i.spatial) for i in reducing)
    outer = tuple([d for d in order if last.spatial[d].extent > 1][:shared])
    found = _Rows(stages, outer)
    alike = all(_kept(i, last, outer) for i in reducing)
    plain = all(i.dtype in ("float32", "float64", "int32", "int64", "uint32", "uint64") for i in reducing)
    if not alike or not plain or _many_side_by_side(state, found):
        return None
    return found


def _many_side_by_side(state: GpuState, found: _Rows) -> bool:
    """Whether a single sum has so many results that a thread for each fills the GPU, and neighbouring threads read
    neighbouring elements: a window over channels that are innermost."""
    reducing = [i for _, i in found.stages if i.reduces]
    if len(reducing) > 1 or rows_of(found) < state.gpu.processors * state.gpu.threads:
        return False
    moving = [a for a in reducing[0].spatial if a.extent > 1]
    along = {a.name for a in moving if any(w.strides.get(a.name) == 1 for w in reducing[0].writes)}
    written = {w.buffer for w in reducing[0].writes}
    return all(r.strides.get(a) in (0, 1) for r in reducing[0].reads if r.buffer not in written for a in along)


def _kept(info: BlockInfo, last: BlockInfo, outer: tuple[int, ...]) -> bool:
    """Whether a reduction has one result per row."""
    kept = sorted(a.extent for a in info.spatial if a.extent > 1)
    return kept == sorted(last.spatial[d].extent for d in outer)


def _share_rows(state: GpuState, found: _Rows, whose: str) -> list[Any]:
    """Gives the rows to blocks, or to threads, and computes all stages of a row together; returns the rows' loops."""
    sch = state.sch
    *before, (out, _) = found.stages
    loops = list(sch.get_loops(out))[: len(state.spec.order)]
    sch.reorder(*[loops[d] for d in state.spec.order])
    row = [loops[d] for d in found.outer]
    for loop in row:
        sch.annotate(loop, SHARE, whose)
    if row:
        for b, _ in reversed(before):
            sch.compute_at(b, row[-1], preserve_unit_loops=True)
    return row


def _by_threads(state: GpuState, found: _Rows) -> Scheduled:
    """A thread per row."""
    sch = state.sch
    _share_rows(state, found, GRID)
    for b, i in found.stages[:-1]:
        sch.set_scope(b, 0, "local")
        if i.reduces:
            sch.decompose_reduction(b, list(sch.get_loops(b))[-len(i.reduction)])
    return state.done("a thread per row", threads_for(state.gpu, rows_of(found)))


def rows_of(found: _Rows) -> int:
    """How many rows there are."""
    last = found.stages[-1][1]
    return prod((last.spatial[d].extent for d in found.outer), start=1)


def _apply(state: GpuState, found: _Rows) -> Scheduled:
    sch = state.sch
    _share_rows(state, found, BLOCKS)
    out = found.stages[-1][0]
    for b, i in found.stages:
        own = list(sch.get_loops(b))[-len(i.spatial) - len(i.reduction) :]
        if b != out and (i.reduces or points(i) == rows_of(found)):
            sch.set_scope(b, 0, "local")  # one value of a row: each thread has it
        if i.reduces:
            steps = own[len(i.spatial) :]
            whole = sch.fuse(*steps) if len(steps) > 1 else steps[0]
            sch.decompose_reduction(b, whole)
            sch.annotate(list(sch.get_loops(b))[-1], TOGETHER, 1)
        elif b != out or points(i) > rows_of(found):
            mine = [x for x in own if int(sch.get(x).extent) > 1 and SHARE not in sch.get(x).annotations]
            for loop in mine:
                sch.annotate(loop, SHARE, THREADS)
    threads = 32
    while threads * 4 < found.longest and threads < state.gpu.threads:
        threads *= 2
    return state.done("a block per row", threads)
