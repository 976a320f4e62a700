"""The schedule of attention as one kernel: the scores of some queries stay in the caches until they are used up."""

from __future__ import annotations

from typing import Any

from dlpack.kernels.backend import Attention
from dlpack.kernels.spec import Scheduled
from dlpack.loops.in_use import IN_USE, PAST, ROWS_AT_ONCE
from dlpack.loops.lower import VECTOR_REDUCE
from dlpack.targets.cpu.machine import Machine
from dlpack.targets.cpu.state import State
from dlpack.targets.cpu.tiles import Tile, best_tile

STAGES = ("scores", "masked", "top", "power", "total", "sums", "attended")
"""The blocks of `operators/attention.py`."""

MOST_QUERIES = 64
"""Queries of a block: more share no more of the keys and values, which L2 holds."""


def attention(state: State) -> Scheduled | None:
    """A block of queries at a time: its scores as a product in register tiles, their softmax by rows, the values' sums
    as a product again. Of a cache only the rows in use are read."""
    sch, machine, order = state.sch, state.machine, state.spec.order
    names = {sch.get(b).name_hint: b for b in state.blocks()}
    if "power" not in names or "attended" not in names or machine.lanes == 1:
        return None
    scores, out = names["scores"], names["attended"]
    rank = len(order)
    if not order or order[-1] != rank - 1:
        return None
    info = state.info(scores)
    queries, keys, size = info.spatial[-2].extent, info.spatial[-1].extent, info.extent_of_reduction
    width = state.info(out).spatial[-1].extent
    rows = block_of_queries(queries, keys, machine)
    cache = _Cache(state, names["masked"])
    widths = [n for n in range(machine.lanes, ROWS_AT_ONCE + 1, machine.lanes) if ROWS_AT_ONCE % n == 0]
    whole = widths if cache.rows else []
    first, _ = best_tile(rows, keys, size, machine, True, True, heights="whole", widths=whole)
    last, _ = best_tile(rows, width, keys, machine, True, True, heights="whole")

    loops = list(sch.get_loops(out))
    blocks, inside = sch.split(loops[rank - 2], [None, rows])
    lead = [loops[d] for d in order if d < rank - 2]
    sch.reorder(*lead, blocks, inside, loops[rank - 1])
    _, innermost = _tile(state, [inside, loops[rank - 1]], last)
    cache.marks(_sum(state, names["sums"], innermost))
    for name in ("total", "power", "top", "masked"):
        sch.compute_at(names[name], blocks, preserve_unit_loops=True)
    sch.set_scope(names["masked"], 0, "local")
    columns, innermost = _tile(state, list(sch.get_loops(names["masked"]))[-2:], first)
    cache.marks(columns, first.columns)
    _sum(state, scores, innermost)
    for name in ("top", "total"):
        sch.decompose_reduction(names[name], list(sch.get_loops(names[name]))[-1])
        loop = list(sch.get_loops(names[name]))[-1]
        sch.annotate(loop, VECTOR_REDUCE, 1)
        cache.marks(loop)
    along = list(sch.get_loops(names["power"]))[-1]
    cache.marks(along)
    sch.vectorize(along)
    state.share([*lead, blocks])
    return state.finish(
        f"attention, {rows} queries at a time, register tiles {first.rows} x {first.columns} "
        f"and {last.rows} x {last.columns}" + (f", of {cache.rows} rows those in use" if cache.rows else "")
    )


class _Cache:
    """The first `rows` of the keys, of which a run reads as many as the operand `number` says; 0: it reads all."""

    def __init__(self, state: State, block: Any) -> None:
        self.sch = state.sch
        self.rows = int(state.sch.get(block).annotations.get(PAST, 0))
        operands = [(str(t.dtype), [int(n) for n in t.shape]) for t in state.spec.tensors]
        self.number = operands.index(("int32", [1])) if self.rows else -1

    def marks(self, loop: Any, each: int = 1) -> None:
        """Ends a loop over keys, of which a trip takes `each`, with the rows in use."""
        if self.rows:
            self.sch.annotate(loop, IN_USE, [self.number, self.rows, each])


def _tile(state: State, loops: list[Any], tile: Tile) -> tuple[Any, Any]:
    """Cuts a matrix's loops over rows and columns into tiles; returns the loops around them, over columns and rows."""
    sch = state.sch
    rows, columns = loops
    ro, ri = sch.split(rows, [None, tile.rows])
    co, ci = sch.split(columns, [None, tile.columns])
    sch.reorder(co, ro, ri, ci)
    sch.unroll(ri)
    sch.vectorize(ci)
    return co, ro


def _sum(state: State, block: Any, at: Any) -> Any:
    """Computes a product's sums in registers, for the tile in the loop `at`; returns the loop over its steps."""
    sch = state.sch
    sch.compute_at(block, at, preserve_unit_loops=True)
    sch.set_scope(block, 0, "local")
    *_, row, column, step = list(sch.get_loops(block))
    sch.reorder(step, row, column)
    sch.unroll(row)
    sch.vectorize(column)
    sch.decompose_reduction(block, step)
    return step


def block_of_queries(queries: int, keys: int, machine: Machine) -> int:
    """How many queries' scores, and their powers, take a quarter of L2; blocks as even as can be."""
    most = max(8, min(MOST_QUERIES, queries, machine.l2 // 4 // (8 * keys)))
    return -(-queries // -(-queries // most))


def fuses(found: Attention, machine: Machine) -> bool:
    """Whether one kernel is faster than three: where it reads a part of a cache, or where the scores leave L2, or in
    WebAssembly, whose processor is not known, what an L2 may be at most."""
    if found.cached:
        return machine.lanes > 1
    cache = machine.l3 if machine.fma_call else machine.l2
    return machine.lanes > 1 and 8 * found.batch * found.queries * found.keys > cache
