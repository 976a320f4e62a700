"""Schedule rules for CPUs: a rule takes a kernel's blocks and schedules them, or returns None; the first match wins.

The tiles are computed from the machine description; nothing is searched. All rules leave loops that
`dlpack.loops.lower` understands: vector loops of any length, unrolled register tiles, local accumulators.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import gcd
from typing import Any

from dlpack.kernels.backend import Layer, LayoutPreferences
from dlpack.kernels.spec import KernelSpec, Scheduled
from dlpack.loops.expressions import dtype_of
from dlpack.loops.layout import Block, Layout
from dlpack.loops.lower import PREFETCH, VECTOR_REDUCE
from dlpack.targets.cpu.blocks import Access, Axis, BlockInfo
from dlpack.targets.cpu.dot import dot
from dlpack.targets.cpu.machine import Machine
from dlpack.targets.cpu.state import State, points
from dlpack.targets.cpu.tiles import LONG_RUN, choose_tile, grouped_tile
from dlpack.targets.cpu.winograd import choose_winograd, winograd

GROUP = "dlpack.group"
"""Block annotation: outputs of so many neighbouring channels read the same inputs (grouped convolution)."""


SHARED_RUN = 4096
"""Elements that a thread takes at a time where there is but one loop."""


class CpuBackend:
    """A processor core as `dlpack.kernels.backend.Backend`."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.name = machine, machine.name
        self.layouts = LayoutPreferences(dots=machine.dot_operand)

    def schedule(self, spec: KernelSpec) -> Scheduled:
        return schedule(spec, self.machine)

    def winograd_tile(self, layer: Layer) -> int:
        return choose_winograd(self.machine, layer.batch, layer.inputs, layer.outputs, layer.height, layer.width)


def schedule(spec: KernelSpec, machine: Machine) -> Scheduled:
    """Schedules and lowers one kernel."""
    for rule in RULES:
        result = rule(State(spec, machine))
        if result is not None:
            return result
    raise AssertionError("the last rule takes every kernel")


def register_tile(state: State) -> Scheduled | None:
    """One reduction over a tile of outputs held in registers: convolution, matmul, depthwise, pooling.

    The vector runs along the innermost dimension of the output; the tile's rows along the next one out. Constants that
    the reduction reads across the vector are packed so that one step of the reduction reads one run of memory.
    """
    sch, machine = state.sch, state.machine
    side_by_side = sch.vectorize if machine.lanes > 1 else sch.unroll
    blocks = state.blocks()
    reductions = [b for b in blocks if state.info(b).reduces]
    if len(reductions) != 1 or len(state.spec.order) == 0:
        return None
    acc = reductions[0]
    info = state.info(acc)
    if info.dtype != "float32" or len(info.writes) != 1:
        return None
    before, after = blocks[: blocks.index(acc)], blocks[blocks.index(acc) + 1 :]
    if len(after) > 1 and any(not _is_chain(state, b) for b in after[:-1]):
        return None
    for b in before:
        sch.compute_inline(b)
    for b in after[:-1]:
        sch.compute_inline(b)
    info = state.info(acc)
    order = state.spec.order
    if len(info.spatial) != len(order):
        return None
    vector = info.spatial[order[-1]]
    if vector.extent < 2:
        return None
    group = int(sch.get(acc).annotations.get(GROUP, vector.extent))
    shared: list[Access] = []  # reads that move with the vector
    for read in info.reads:
        step = _vector_step(read, vector, group)
        if read.buffer == info.writes[0].buffer or step == 0:
            continue
        if state.is_constant(read.buffer):
            shared.append(read)
        elif step != 1:
            return None
    rows = _row_axis(info, vector, order)
    others = [read for read in info.reads if read.buffer != info.writes[0].buffer]
    broadcast = any(_vector_step(read, vector, group) == 0 for read in others)
    height = rows.extent if rows else 1
    widths = state.widths(r.buffer for r in shared)
    depthwise = bool(shared) and not broadcast  # each channel for itself
    stays = not depthwise or rows is None or all(_window_stays(r, rows, info, machine) for r in others)
    if group < vector.extent:
        tile = grouped_tile(height, group, machine)
    else:
        streamed = bool(shared) or broadcast
        tile = choose_tile(
            height, group, info.extent_of_reduction, machine, broadcast, streamed, widths=widths, long=not stays
        )
    window = _window_along_rows(info, rows, others) if broadcast and machine.by_lane else None
    order_of_axes = [a for a in info.reduction if a is not window] + ([window] if window else [])
    for read in shared:
        _pack(state, read, vector, tile.columns, order_of_axes)
    if after:
        out = after[-1]
    else:
        acc_local = sch.cache_write(acc, 0, "local")
        out = acc_local
    loops = list(sch.get_loops(out))
    if len(loops) != len(order):
        return None
    outer = [loops[d] for d in order[:-1]]
    v = loops[order[-1]]
    if group < vector.extent:
        vg, v = sch.split(v, [None, group])
        outer.append(vg)
    vo, vi = sch.split(v, [None, tile.columns])
    if rows is not None:
        r = loops[info.spatial.index(rows)]
        ro, ri = sch.split(r, [None, tile.rows])
        rest = [x for x in outer if x is not r]
        around = [*rest, ro]
        in_memory_order = not stays and tile.columns < min(group, LONG_RUN)
        nest = [*rest, ro, vo] if in_memory_order else _outer_order(state, rest, vo, ro)
        sch.reorder(*nest, ri, vi)
        sch.unroll(ri)
        at = nest[-1]
    else:
        sch.reorder(*outer, vo, vi)
        around = outer
        at = vo
    side_by_side(vi)
    sch.compute_at(acc, at, preserve_unit_loops=True)
    if after:
        sch.set_scope(acc, 0, "local")
    inner = list(sch.get_loops(acc))[-len(info.spatial) - len(info.reduction) :]
    spatial, reduction = inner[: len(info.spatial)], inner[len(info.spatial) :]
    vloop = spatial[order[-1]]
    tile_loops = [spatial[info.spatial.index(rows)]] if rows is not None else []
    rest_of_tile = [x for x in spatial if x is not vloop and x not in tile_loops]
    unrolled: list[Any] = []
    order_of_reduction = [reduction[info.reduction.index(a)] for a in order_of_axes]
    if window:
        unrolled = [order_of_reduction.pop()]
    elif not broadcast:  # depthwise and pooling: the window's steps along the row share their loads
        extents = [int(sch.get(x).extent) for x in reduction]
        if extents and extents[-1] <= 7:
            unrolled = [order_of_reduction.pop()]
    sch.reorder(*rest_of_tile, *order_of_reduction, *unrolled, *tile_loops, vloop)
    for x in [*unrolled, *tile_loops]:
        sch.unroll(x)
    side_by_side(vloop)
    if shared and _streams(state, shared):
        sch.annotate(order_of_reduction[-1], PREFETCH, PREFETCH_VECTORS * machine.lanes)
    first = (order_of_reduction + unrolled)[0]
    sch.decompose_reduction(acc, first)
    heavy = sum(r.size for r in shared) > sum(r.size for r in others if r not in shared)
    state.share([vo, *around] if heavy else [*around, vo])
    return state.finish(f"register tile {tile.rows} x {tile.columns}")


PREFETCH_VECTORS = 32
"""How many vectors ahead packed weights are prefetched: hardware stops at each page of 4 KiB."""


def _streams(state: State, reads: Sequence[Access]) -> bool:
    """Whether packed weights are larger than half of L2, so that they come from beyond it."""
    return max(r.size * (1 if dtype_of(r.buffer).endswith("int8") else 4) for r in reads) > state.machine.l2 // 2


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
    places = CACHE_WAY // gcd(4 * pixel, CACHE_WAY)
    return lines * (reach // pixel + 1) <= places * machine.l1 // CACHE_WAY


CACHE_WAY = 4096
"""Bytes of L1 in which no two lines share a set: a page, on nearly all processors."""


def _vector_step(read: Access, vector: Axis, group: int) -> int | None:
    """The stride of a read along the vector; a read that changes only from group to group stands still in one."""
    step = read.strides.get(vector.name)
    return 0 if step is None and group < vector.extent else step


def _row_axis(info: BlockInfo, vector: Axis, order: Sequence[int]) -> Axis | None:
    """The axis of the tile's rows: the innermost along which something that moves with the vector is used again."""
    axes = [info.spatial[d] for d in reversed(order[:-1]) if info.spatial[d].extent > 1]
    moving = [r for r in info.reads if r.strides.get(vector.name) != 0 and r.buffer != info.writes[0].buffer]
    return next((a for a in axes if any(r.strides.get(a.name) == 0 for r in moving)), axes[0] if axes else None)


def _window_along_rows(info: BlockInfo, rows: Axis | None, reads: Sequence[Access]) -> Axis | None:
    """The axis of a short window that moves over a row of memory with the tile's rows: their scalars are neighbours."""
    if rows is None or len(info.reduction) < 2:
        return None
    for read in reads:
        step = read.strides.get(rows.name)
        along = [a for a in info.reduction if read.strides.get(a.name) == 1 and 1 < a.extent <= LONGEST_WINDOW]
        if step and along and step <= along[0].extent:
            return along[0]
    return None


LONGEST_WINDOW = 11
"""Steps of a window that are unrolled."""


def _outer_order(state: State, rest: Sequence[Any], vo: Any, ro: Any) -> list[Any]:
    batch = list(rest[:1]) if len(rest) > 1 else []
    return [*batch, vo, *rest[len(batch) :], ro]


def _is_chain(state: State, block: Any) -> bool:
    return not state.info(block).reduces


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


def rows(state: State) -> Scheduled | None:
    """Several stages over the same rows (softmax, normalisation, a reduction of rows): one pass per row."""
    sch, order = state.sch, state.spec.order
    if not order:
        return None
    _inline_single_use(state)
    blocks = state.blocks()
    infos = [state.info(b) for b in blocks]
    reducing = [i for i in infos if i.reduces]
    if not reducing or any(i.opaque for i in infos) or len(infos[-1].spatial) != len(order):
        return None
    if infos[-1].reduces and len(blocks) > 1:
        return None
    for i in reducing:  # the reduced dimensions must be the contiguous ones
        last = i.reduction[-1].name
        moving = [r for r in i.reads if r.strides.get(last) != 0 and r.buffer != i.writes[0].buffer]
        if not moving or any(r.strides.get(last) != 1 for r in moving):
            return None
    out, info = blocks[-1], infos[-1]
    loops = list(sch.get_loops(out))[: len(order)]
    sch.reorder(*[loops[d] for d in order])
    # The outer dimensions that every stage shares: those of the output that the reductions keep.
    shared = min(sum(a.extent > 1 for a in i.spatial) for i in reducing)
    outer = [d for d in order if info.spatial[d].extent > 1][:shared]
    if len(blocks) > 1 and outer:
        for b in reversed(blocks[:-1]):
            sch.compute_at(b, loops[outer[-1]], preserve_unit_loops=True)
            sch.set_scope(b, 0, "local")
    state.share([loops[d] for d in outer])
    for b, i in zip(blocks[:-1], infos, strict=False):
        _vectorise_stage(state, b, i, None)
    if info.reduces:
        _vectorise_stage(state, out, info, None)
    elif info.spatial[order[-1]].extent > 1 and order[-1] not in outer:
        sch.vectorize(loops[order[-1]])
    return state.finish("rows")


def _inline_single_use(state: State) -> None:
    """Inlines the pointwise stages that are as large as the output and read once."""
    sch = state.sch
    blocks = state.blocks()
    size = max(points(state.info(b)) for b in blocks)
    for b in blocks[:-1]:
        i = state.info(b)
        if not i.reduces and not i.opaque and points(i) == size and len(sch.get_consumers(b)) == 1:
            sch.compute_inline(b)


def generic(state: State) -> Scheduled | None:
    """Every stage on its own: loops in memory order, vectors along the contiguous dimension."""
    _inline_single_use(state)
    blocks = state.blocks()
    for b in blocks:
        info = state.info(b)
        if info.opaque:
            continue
        order = state.spec.order if len(info.spatial) == len(state.spec.order) else None
        if len(blocks) == 1:
            loops = list(state.sch.get_loops(b))
            if len(loops) == 1 and state.machine.threads > 1:
                loops = list(state.sch.split(loops[0], [None, SHARED_RUN]))
            state.share(loops[: len(loops) - len(info.reduction)][:-1])
        _vectorise_stage(state, b, info, order)
    return state.finish("loops")


def _vectorise_stage(state: State, block: Any, info: BlockInfo, order: Sequence[int] | None) -> None:
    """Puts the loop that walks memory with stride 1 innermost and marks it for vectors."""
    sch = state.sch
    loops = list(sch.get_loops(block))
    own = (
        loops[len(loops) - len(info.spatial) - len(info.reduction) :]
        if len(loops) >= len(info.spatial) + len(info.reduction)
        else None
    )
    if own is None:
        return
    spatial, reduction = own[: len(info.spatial)], own[len(info.spatial) :]
    if not info.reduces:
        if not spatial:
            return
        inner = order[-1] if order is not None else _unit_axis(info, info.spatial)
        if order is not None and len(order) == len(spatial):
            sch.reorder(*[spatial[d] for d in order])
        elif inner is not None and inner != len(spatial) - 1:
            sch.reorder(*[x for k, x in enumerate(spatial) if k != inner], spatial[inner])
        if inner is not None:
            sch.vectorize(spatial[inner])
        return
    if len(info.writes) != 1 or info.dtype != "float32":
        return
    last = info.reduction[-1]
    others = [r for r in info.reads if r.buffer != info.writes[0].buffer]
    if any(r.strides.get(last.name) == 1 for r in others) and all(r.strides.get(last.name) in (0, 1) for r in others):
        sch.decompose_reduction(block, reduction[0])
        sch.annotate(sch.get_loops(block)[-1], VECTOR_REDUCE, 1)
        return
    inner = _unit_axis(info, info.spatial)
    if inner is None:
        return
    v = spatial[inner]
    vo, vi = sch.split(v, [None, state.machine.lanes * 4])
    sch.reorder(*[x for k, x in enumerate(spatial) if k != inner], vo, *reduction, vi)
    sch.vectorize(vi)
    sch.decompose_reduction(block, reduction[0])


def _unit_axis(info: BlockInfo, axes: Sequence[Any]) -> int | None:
    """The axis along which the write, and as many reads as can be, have stride 1."""
    write = info.writes[0]
    best = [k for k, a in enumerate(axes) if a.extent > 1 and write.strides.get(a.name) == 1]
    return best[-1] if best else None


def as_written(state: State) -> Scheduled | None:
    """Loops that the operator wrote itself (operators/loops.py)."""
    return state.finish("as written") if state.statements else None


RULES: tuple[Callable[[State], Scheduled | None], ...] = (as_written, winograd, dot, register_tile, rows, generic)
