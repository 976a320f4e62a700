"""The schedule of attention as one kernel: the scores of some queries stay in the caches until they are used up."""

from __future__ import annotations

from typing import Any

from dlpack.kernels.backend import Attention
from dlpack.kernels.spec import Scheduled
from dlpack.loops.lower import VECTOR_REDUCE
from dlpack.targets.cpu.machine import Machine
from dlpack.targets.cpu.state import State
from dlpack.targets.cpu.tiles import Tile, best_tile

STAGES = ("scores", "masked", "top", "power", "total", "sums", "attended")
"""The blocks of `operators/attention.py`; `masked` may be missing, as TVM inlines what only copies."""

MOST_QUERIES = 64
"""Queries of a block: more share no more of the keys and values, which L2 holds."""


def attention(state: State) -> Scheduled | None:
    """A block of queries at a time: its scores as a product in register tiles, their softmax by rows, the values' sums
    as a product again."""
    sch, machine, order = state.sch, state.machine, state.spec.order
    names = {sch.get(b).name_hint: b for b in state.blocks()}
    if "power" not in names or "attended" not in names or machine.lanes == 1:
        return None
    scores, out = names["scores"], names["attended"]
    rank = len(order)
    if not order or order[-1] != rank - 1:
        return None
    sch.compute_inline(names["masked"])
    info = state.info(scores)
    queries, keys, size = info.spatial[-2].extent, info.spatial[-1].extent, info.extent_of_reduction
    width = state.info(out).spatial[-1].extent
    rows = block_of_queries(queries, keys, machine)
    first, _ = best_tile(rows, keys, size, machine, True, True, heights="whole")
    last, _ = best_tile(rows, width, keys, machine, True, True, heights="whole")

    local = sch.cache_write(scores, 0, "local")
    loops = list(sch.get_loops(out))
    blocks, inside = sch.split(loops[rank - 2], [None, rows])
    lead = [loops[d] for d in order if d < rank - 2]
    sch.reorder(*lead, blocks, inside, loops[rank - 1])
    innermost = _tile(state, [inside, loops[rank - 1]], last)
    _sum(state, names["sums"], innermost)
    for name in ("total", "power", "top"):
        sch.compute_at(names[name], blocks, preserve_unit_loops=True)
    sch.compute_at(local, blocks, preserve_unit_loops=True)
    _sum(state, scores, _tile(state, list(sch.get_loops(local))[-2:], first))
    for name in ("top", "total"):
        sch.decompose_reduction(names[name], list(sch.get_loops(names[name]))[-1])
        sch.annotate(list(sch.get_loops(names[name]))[-1], VECTOR_REDUCE, 1)
    sch.vectorize(list(sch.get_loops(names["power"]))[-1])
    state.share([*lead, blocks])
    return state.finish(
        f"attention, {rows} queries at a time, register tiles {first.rows} x {first.columns} "
        f"and {last.rows} x {last.columns}"
    )


def _tile(state: State, loops: list[Any], tile: Tile) -> Any:
    """Cuts a matrix's loops over rows and columns into tiles; returns the loop around a tile."""
    sch = state.sch
    rows, columns = loops
    ro, ri = sch.split(rows, [None, tile.rows])
    co, ci = sch.split(columns, [None, tile.columns])
    sch.reorder(co, ro, ri, ci)
    sch.unroll(ri)
    sch.vectorize(ci)
    return ro


def _sum(state: State, block: Any, at: Any) -> None:
    """Computes a product's sums in registers, for the tile in the loop `at`."""
    sch = state.sch
    sch.compute_at(block, at, preserve_unit_loops=True)
    sch.set_scope(block, 0, "local")
    *_, row, column, step = list(sch.get_loops(block))
    sch.reorder(step, row, column)
    sch.unroll(row)
    sch.vectorize(column)
    sch.decompose_reduction(block, step)


def block_of_queries(queries: int, keys: int, machine: Machine) -> int:
    """How many queries' scores, and their powers, take a quarter of L2; blocks as even as can be."""
    most = max(8, min(MOST_QUERIES, queries, machine.l2 // 4 // (8 * keys)))
    return -(-queries // -(-queries // most))


def fuses(found: Attention, machine: Machine) -> bool:
    """Whether one kernel is faster than three: where the scores leave L2, or in WebAssembly, whose processor is not
    known, what an L2 may be at most."""
    cache = machine.l3 if machine.fma_call else machine.l2
    return machine.lanes > 1 and 8 * found.batch * found.queries * found.keys > cache
