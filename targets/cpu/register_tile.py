"""The rule for one reduction whose outputs are held in registers: convolution, matmul, depthwise, pooling.

The vector runs along the innermost dimension of the output; the tile's rows along the next one out. Constants that the
reduction reads across the vector are packed so that one step of the reduction reads one run of memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import gcd, prod
from typing import Any

from dlpack.kernels.spec import Scheduled
from dlpack.loops.expressions import dtype_of
from dlpack.loops.ir import HALF
from dlpack.loops.layout import Block, Layout
from dlpack.loops.prefetch import PREFETCH
from dlpack.targets.cpu.blocks import Access, Axis, BlockInfo
from dlpack.targets.cpu.machine import Machine, narrower
from dlpack.targets.cpu.prefetch import next_block_pays, prefetch_next_block
from dlpack.targets.cpu.state import PARALLEL_CYCLES, State, itemsize, points
from dlpack.targets.cpu.tiles import (
    LONG_RUN,
    TALLEST_BY_LANE,
    Tile,
    best_tile,
    choose_tile,
    for_runs,
    grouped_tile,
    open_tiles,
    tile_for_pictures,
)

GROUP = "dlpack.group"
"""Block annotation: outputs of so many neighbouring channels read the same inputs (grouped convolution)."""


def register_tile(state: State) -> Scheduled | None:
    """Schedules a kernel that sums once, into elements that vectors along memory can hold; None for any other."""
    reduction = _match(state)
    return None if reduction is None else _apply(state, reduction, _plan(state, reduction))


@dataclass(frozen=True)
class _Reduction:
    """The only sum of a kernel, with what it sums inlined, and what it reads apart from itself."""

    block: Any
    last: Any | None  # the stage that turns the sums into the output
    info: BlockInfo
    vector: Axis
    group: int  # neighbouring channels that read the same inputs; the vector's extent unless grouped
    reads: tuple[Access, ...]
    packed: tuple[Access, ...]  # those of constants that move with the vector
    broadcast: bool  # whether a step multiplies a vector by a scalar: a product, not depthwise or pooling

    @property
    def grouped(self) -> bool:
        return self.group < self.vector.extent

    @property
    def depthwise(self) -> bool:
        """Whether each channel has weights and inputs of its own."""
        return bool(self.packed) and not self.broadcast


def _match(state: State) -> _Reduction | None:
    sch, order = state.sch, state.spec.order
    blocks = state.blocks()
    reductions = [b for b in blocks if state.info(b).reduces]
    if len(reductions) != 1 or not order:
        return None
    block = reductions[0]
    info = state.info(block)
    if info.dtype not in ("float32", HALF, "int8", "uint8") or len(info.writes) != 1:
        return None
    at = blocks.index(block)
    last = blocks[-1] if block is not blocks[-1] else None
    for b in (*blocks[:at], *blocks[at + 1 : -1]):
        sch.compute_inline(b)
    info = state.info(block)
    if len(info.spatial) != len(order) or (last is not None and len(sch.get_loops(last)) != len(order)):
        return None
    vector = info.spatial[order[-1]]
    if vector.extent < 2:
        return None
    group = int(sch.get(block).annotations.get(GROUP, vector.extent))
    reads = tuple(read for read in info.reads if read.buffer != info.writes[0].buffer)
    steps = [_vector_step(read, vector, group) for read in reads]
    if any(step not in (0, 1) and not state.is_constant(r.buffer) for r, step in zip(reads, steps, strict=True)):
        return None
    packed = tuple(r for r, step in zip(reads, steps, strict=True) if step != 0 and state.is_constant(r.buffer))
    return _Reduction(block, last, info, vector, group, reads, packed, broadcast=0 in steps)


def _vector_step(read: Access, vector: Axis, group: int) -> int | None:
    """The stride of a read along the vector; a read that changes only from group to group stands still in one."""
    step = read.strides.get(vector.name)
    return 0 if step is None and group < vector.extent else step


@dataclass(frozen=True)
class _Plan:
    """How a reduction is computed: which loops, in which order, are around the tile, in it and unrolled."""

    tile: Tile
    block: int  # columns of a block of packed weights: mostly the tile's
    rows: Axis | None  # the axis of the tile's rows
    steps: tuple[Axis, ...]  # the reduction's loops
    window: tuple[Axis, ...]  # its unrolled ones, within the others
    in_memory_order: bool  # whether the output's loops are; else the vectors are around all but the batch
    vectors_first: bool  # whether threads rather take different vectors than different rows
    prefetch: bool


def _plan(state: State, found: _Reduction) -> _Plan:
    info = found.info
    if found.broadcast:
        state.machine = for_runs(state.machine, _run(found), points(info) * info.extent_of_reduction)
    rows = _row_axis(found, state.spec.order)
    height = rows.extent if rows else 1
    machine = state.machine = _vectors(state, found, height)
    opened = state.spec.may_be_less(height)  # then no tile is cut
    stays = not found.depthwise or rows is None or all(_window_stays(r, rows, info, machine) for r in found.reads)
    short = machine.by_lane and rows is not None and all(_tile_stays(r, rows, info, machine) for r in found.reads)
    blocks = _blocks(state, found, height) or _shared_blocks(state, found)
    tallest = _rows_that_stay(found, rows, machine)
    if found.grouped:
        tile = grouped_tile(height, found.group, machine)
    elif state.spec.one_row:
        pixels, limited = (state.spec.one_row, height**2), replace(machine, tallest=tallest)
        tiles = open_tiles(height, found.group, limited, blocks)
        tile = tile_for_pictures(pixels, tiles, found.group, info.extent_of_reduction, limited)
    else:
        tile = choose_tile(
            height,
            found.group,
            info.extent_of_reduction,
            replace(machine, tallest=tallest),
            found.broadcast,
            bool(found.packed) or found.broadcast,
            widths=blocks,
            kind=("open" if state.spec.open else "sized") if opened else "" if stays or short else "long",
        )
    window = _window(found, rows, machine, state.spec.reduces and bool(state.spec.tags))
    steps = tuple(a for a in info.reduction if a not in window)
    others = [r for r in found.reads if r not in found.packed]
    prefetch = bool(steps and found.packed) and _streams(state, found.packed)
    return _Plan(
        tile,
        blocks.get(tile.columns, tile.columns),
        rows,
        steps,
        window,
        in_memory_order=not stays and tile.columns < min(found.group, LONG_RUN),
        vectors_first=sum(r.size for r in found.packed) > sum(r.size for r in others),
        prefetch=prefetch and (not machine.by_lane or _tiles_beside(found, rows, tile) <= PREFETCHED_TILES),
    )


def _vectors(state: State, found: _Reduction, height: int) -> Machine:
    """The machine, with vectors of half as many lanes where it computes whole ones in halves and fewer lanes are empty
    then: 24 columns are three vectors of 8, or two of 16, whose last one is half empty."""
    machine, spec = state.machine, state.spec
    narrow = narrower(machine)
    if narrow is None or spec.open or spec.tags or any(dtype_of(r.buffer) != "float32" for r in found.reads):
        return machine
    if rooms := state.rooms(r.buffer for r in found.packed):
        return narrow if any(room % machine.lanes for room in rooms) else machine
    streamed, depth = bool(found.packed) or found.broadcast, found.info.extent_of_reduction
    whole, halves = (best_tile(height, found.group, depth, m, found.broadcast, streamed)[1] for m in (machine, narrow))
    return narrow if halves < WORTH_MORE_INSTRUCTIONS * whole else machine


WORTH_MORE_INSTRUCTIONS = 0.95
"""Vectors of half as many lanes take twice as many instructions, which the cost model of tiles does not count."""


def _blocks(state: State, found: _Reduction, height: int) -> dict[int, int]:
    """The columns that a tile may have, if not any, with those of the blocks that its weights are packed in.

    A tile may take a part of a block, or several side by side: a single row wants to be wide, and more rows want to be
    narrow, so that as many of them as possible meet a weight that is loaded once. Where more rows follow, the blocks
    are as they want them. An open dimension's columns divide it.
    """
    machine, lanes, widest = state.machine, state.machine.lanes, 8 * state.machine.lanes
    packed = sorted(state.widths(r.buffer for r in found.packed), reverse=True)
    if state.spec.open or state.spec.tags:
        most = 2 if state.spec.open else 8  # vectors: all columns of a run's last tile are computed
        parts = [lanes * k for k in range(1, most + 1) if found.group % (lanes * k) == 0 and found.group > lanes * k]
        return {width: width for width in packed or (parts if state.spec.may_be_less(found.group) else [])}
    if not found.broadcast or lanes == 1:
        return {width: width for width in packed}
    floats = all(dtype_of(r.buffer) == "float32" for r in found.packed)  # bytes stream better in wide blocks
    if not packed and floats and state.spec.taller and height == 1 and found.group > widest:
        packed = [choose_tile(TALL, found.group, found.info.extent_of_reduction, machine, True, True).columns]
    blocks = {part: width for width in packed for part in range(lanes, width, lanes) if width % part == 0}
    blocks |= {side: width for width in packed for side in range(2 * width, widest + 1, width)}
    return blocks | {width: width for width in packed}


def _shared_blocks(state: State, found: _Reduction) -> dict[int, int]:
    """The columns of a tile by which threads share a single row's product about as evenly as can be, each also as those
    of a block; none for others, which take any."""
    lanes, threads, wide = state.machine.lanes, state.machine.threads, found.group
    single = found.broadcast and lanes > 1 and wide == points(found.info)
    if threads == 1 or not single or state.cycles() < PARALLEL_CYCLES:
        return {}
    total = -(-wide // lanes)
    largest = {width: _largest_share(total, width, threads) for width in range(1, 9)}
    return {lanes * n: lanes * n for n, share in largest.items() if share <= 1.1 * min(largest.values())}


def _largest_share(total: int, width: int, threads: int) -> int:
    """The most of `total` vectors that a thread has, where it takes whole tiles of `width`."""
    trips = -(-total // width)
    ends = [min(total, trips * k // threads * width) for k in range(threads + 1)]
    return max(b - a for a, b in pairwise(ends))


TALL = 64
"""Rows for which weights are packed that are multiplied with one row now and more later."""


def _apply(state: State, found: _Reduction, plan: _Plan) -> Scheduled:
    for read in found.packed:
        _pack(state, read, found.vector, plan.block, (*plan.steps, *plan.window))
    out = found.last if found.last is not None else state.sch.cache_write(found.block, 0, "local")
    nest = _tile_output(state, out, found, plan)
    state.sch.compute_at(found.block, nest.innermost, preserve_unit_loops=True)
    if found.last is not None:
        state.sch.set_scope(found.block, 0, "local")
    _order_sums(state, found, plan, nest)
    state.share([*([] if state.spec.one_row else nest.others), *nest.vectors])  # rows are one then
    return state.finish(f"register tile {plan.tile.rows} x {plan.tile.columns}")


@dataclass(frozen=True)
class _Nest:
    """The loops around a tile: over its vectors (blocks of weights, tiles in a block), over everything else, and
    whichever of them is the innermost."""

    vectors: list[Any]
    others: list[Any]
    innermost: Any
    inside: list[Any]  # of the others, those around which a block of weights stays the same


def _tile_output(state: State, out: Any, found: _Reduction, plan: _Plan) -> _Nest:
    """Cuts the output into tiles, a tile's rows unrolled."""
    sch, order = state.sch, state.spec.order
    loops = list(sch.get_loops(out))
    outer = [loops[d] for d in order[:-1]]
    v = loops[order[-1]]
    if found.grouped:
        groups, v = sch.split(v, [None, found.group])
        outer.append(groups)
    inside = [plan.block // plan.tile.columns] if plan.block > plan.tile.columns else []
    *vo, vi = sch.split(v, [None, *inside, plan.tile.columns])  # within a block addresses are linear
    if plan.rows is None:
        sch.reorder(*outer, *vo, vi)
        nest = _Nest(vo, outer, vo[-1], [])
    else:
        r = loops[found.info.spatial.index(plan.rows)]
        ro, ri = sch.split(r, [None, plan.tile.rows])
        rest = [x for x in outer if x is not r]
        batch = 0 if len(rest) < 2 else 1
        around = [*rest, ro, *vo] if plan.in_memory_order else [*rest[:batch], *vo, *rest[batch:], ro]
        sch.reorder(*around, ri, vi)
        sch.unroll(ri)
        nest = _Nest(vo, [*rest, ro], around[-1], [] if plan.in_memory_order else [*rest[batch:], ro])
    _side_by_side(state, vi)
    return nest


def _order_sums(state: State, found: _Reduction, plan: _Plan, nest: _Nest) -> None:
    """Puts a tile's sums inside the steps of the reduction, which start from zeros of their own."""
    sch, info = state.sch, found.info
    inner = list(sch.get_loops(found.block))[-len(info.spatial) - len(info.reduction) :]
    loop_of = dict(zip((*info.spatial, *info.reduction), inner, strict=True))
    vector = loop_of[found.vector]
    tile = [loop_of[plan.rows]] if plan.rows is not None else []
    rest = [loop_of[a] for a in info.spatial if a not in (found.vector, plan.rows)]
    steps, window = [loop_of[a] for a in plan.steps], [loop_of[a] for a in plan.window]
    sch.reorder(*rest, *steps, *window, *tile, vector)
    for x in (*window, *tile):
        sch.unroll(x)
    _side_by_side(state, vector)
    if _next_block(state, found, plan, nest):
        prefetch_next_block(state, steps, nest.inside, plan.tile.columns)
    elif plan.prefetch:
        sch.annotate(
            steps[-1], PREFETCH, state.machine.ahead * state.machine.lanes * max(1, plan.block // plan.tile.columns)
        )
    sch.decompose_reduction(found.block, (steps + window)[0])


def _next_block(state: State, found: _Reduction, plan: _Plan, nest: _Nest) -> bool:
    """Whether the next block of packed weights is prefetched during all tiles of the present one."""
    plain = plan.steps and not plan.window and len(found.packed) == 1 and not found.grouped
    if not plain or not found.broadcast or plan.block != plan.tile.columns or state.spec.open or state.spec.tags:
        return False
    weights = found.packed[0]
    size = weights.size * itemsize(weights.buffer)
    tiles = prod(int(state.sch.get(loop).extent) for loop in nest.inside)
    return dtype_of(weights.buffer) in ("float32", HALF) and next_block_pays(state.machine, size, tiles)


def _side_by_side(state: State, loop: Any) -> None:
    """Makes a loop a vector, or as many scalars where the machine has no vectors."""
    (state.sch.vectorize if state.machine.lanes > 1 else state.sch.unroll)(loop)


def _streams(state: State, reads: Sequence[Access]) -> bool:
    """Whether packed weights are larger than most of L2, so that they come from beyond it: those of a loop stay there,
    and to ask for them takes time."""
    return max(r.size * itemsize(r.buffer) for r in reads) > state.machine.l2 * 3 // 4


def _tiles_beside(found: _Reduction, rows: Axis | None, tile: Tile) -> int:
    """How many tiles take the same weights."""
    around = prod(a.extent for a in found.info.spatial if a not in (found.vector, rows))
    return around * -(-(rows.extent if rows else 1) // tile.rows)


PREFETCHED_TILES = 4
"""By lane a prefetch in each tile costs more than it may save in the first: Clang pairs no loads across it."""


def _window_stays(read: Access, row: Axis, info: BlockInfo, machine: Machine) -> bool:
    """Whether the rows of pixels under a window stay in L1 until the window is a row further down.

    Pixels that lie a multiple of a large power of two apart share few of the cache's sets.
    """
    along = abs(read.strides.get(row.name) or 0)
    steps = [(a.extent, abs(read.strides.get(a.name) or 0)) for a in info.reduction]
    if not along or not any(step for _, step in steps):
        return True  # nothing that the next row reads again
    pixel = min(step for step in (along, *(step for _, step in steps)) if step)
    reach, lines = (row.extent - 1) * along, 1
    for extent, step in steps:
        if step < row.extent * along:
            reach += (extent - 1) * step
        else:
            lines *= extent
    return lines * (reach // pixel + 1) <= held_lines(machine.itemsize * pixel, machine)


def _tile_stays(read: Access, row: Axis, info: BlockInfo, machine: Machine) -> bool:
    """Whether the pixels under the windows of a tile stay in L1 until the tile of the next channels, which then finds
    the rest of their cache lines there."""
    along = abs(read.strides.get(row.name) or 0)
    *outer, last = info.reduction
    pixel = abs(read.strides.get(last.name) or 0)
    if not along or not pixel:
        return True
    pixels = prod(a.extent for a in outer) * ((TALLEST_BY_LANE - 1) * along // pixel + last.extent)
    return pixels <= held_lines(machine.itemsize * pixel, machine)


def held_lines(step: int, machine: Machine) -> int:
    """How many cache lines, `step` bytes from one to the next, L1 holds at once."""
    return CACHE_WAY // gcd(step, CACHE_WAY) * machine.l1 // CACHE_WAY


CACHE_WAY = 4096
"""Bytes of L1 in which no two lines share a set: a page, on nearly all processors."""


def _rows_that_stay(found: _Reduction, rows: Axis | None, machine: Machine) -> int:
    """The most rows of a tile of a product, each of which reads a cache line of inputs in several steps: as many as L1
    holds beside the weights. Rows that lie a multiple of a large power of two apart share few of its sets."""
    if not found.broadcast or machine.by_lane or rows is None:
        return machine.tallest
    steps = [
        machine.itemsize * abs(r.strides.get(rows.name) or 0)
        for r in found.reads
        if r not in found.packed and any(r.strides.get(a.name) == 1 for a in found.info.reduction)
    ]
    return max(1, min([machine.tallest, *(held_lines(step, machine) - WAYS_OF_WEIGHTS for step in steps if step)]))


WAYS_OF_WEIGHTS = 2
"""Of each set's lines, those through which the weights pass."""


def _row_axis(found: _Reduction, order: Sequence[int]) -> Axis | None:
    """The axis of the tile's rows: the innermost along which something that moves with the vector is used again; none
    along which data says which weights are meant."""
    axes = [found.info.spatial[d] for d in reversed(order[:-1]) if found.info.spatial[d].extent > 1]
    axes = [a for a in axes if all(r.strides.get(a.name) is not None for r in found.packed)]
    moving = [r for r in found.reads if r.strides.get(found.vector.name) != 0]
    return next((a for a in axes if any(r.strides.get(a.name) == 0 for r in moving)), axes[0] if axes else None)


def _run(found: _Reduction) -> int:
    """How many steps of the reduction lie one behind the other in what is not packed."""
    others = [r for r in found.reads if r not in found.packed]
    return max((a.extent for a in found.info.reduction for r in others if r.strides.get(a.name) == 1), default=1)


def _window(found: _Reduction, rows: Axis | None, machine: Machine, open: bool) -> tuple[Axis, ...]:
    """The reduction's steps that are unrolled, for they share loads: those of a short window along memory; not those
    of a dimension that is `open`."""
    reduction = found.info.reduction
    if not found.broadcast:  # depthwise and pooling: along the row
        return reduction[-1:] if reduction[-1].extent <= LONGEST_ROW and not open else ()
    if not machine.by_lane or rows is None or len(reduction) < 2:
        return ()
    # By lane: a window that moves over a row of memory with the tile's rows, whose scalars are then neighbours.
    for read in found.reads:
        step = read.strides.get(rows.name)
        along = [a for a in reduction if read.strides.get(a.name) == 1 and 1 < a.extent <= LONGEST_WINDOW]
        if step and along and step <= along[0].extent:
            return (along[0],)
    return ()


LONGEST_ROW, LONGEST_WINDOW = 7, 11
"""Steps of a window that are unrolled: of channels, each with its own weights, and of a product by lane."""


def _pack(state: State, read: Access, vector: Axis, columns: int, reduction: Sequence[Axis]) -> None:
    """Packs a constant: blocks of `columns` along the vector, then the reduction in loop order, then the block."""
    i = state.param_index[read.buffer]
    shape = [int(d) for d in read.buffer.shape]
    dim = read.dimension_of.get(vector.name)
    if dim is None or i in state.packed:
        return
    strides = [0] * len(shape)
    inner = [read.dimension_of[r.name] for r in reduction if r.name in read.dimension_of]
    room = -(-columns // state.machine.lanes) * state.machine.lanes
    step = room
    for d in reversed(inner):
        if d != dim and strides[d] == 0:
            strides[d] = step
            step *= shape[d]
    blocks = -(-shape[dim] // columns)
    strides[dim] = step
    step *= blocks
    for d in reversed(range(len(shape))):
        if d != dim and d not in inner:
            strides[d] = step
            step *= shape[d]
    state.packed[i] = Layout(tuple(strides), 0, ((dim, Block(columns, 1, room)),))
    state.padded.add(i)
