"""The schedule of products of 8-bit integers, on machines that sum four of them at once (`Machine.dot`).

A tile of int32 sums is held in registers, as in the schedule of float32 products. A step of the reduction takes four
channels: for each row four neighbours in memory, for each vector of outputs the packed weights
``[blocks of columns][window][channels / 4][columns][4]``. Channels left over meet zeros. Of a convolution of each
channel by itself the four are neighbours in a row of its window, and each lane has its own (`Machine.dot_each`). If a
dot product gives one sum (`Machine.dot_alone`), the tile is one of scalars; with 16 products at once (Cortex-M55) the
four is 16. For products of matrices of 2 x 8 bytes the four is 8, and rows are computed in pairs (loops/matrices.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from dlpack.kernels.spec import Scheduled
from dlpack.loops.dots import DOT
from dlpack.loops.expressions import dtype_of
from dlpack.loops.layout import Block, Layout
from dlpack.targets.cpu.blocks import Access, Axis, BlockInfo
from dlpack.targets.cpu.machine import Machine
from dlpack.targets.cpu.prefetch import next_block_pays, prefetch_next_block
from dlpack.targets.cpu.state import State
from dlpack.targets.cpu.tiles import Tile, choose_tile, grouped_tile

GROUP = "dlpack.group"
"""Block annotation: outputs of so many neighbouring channels read the same inputs (grouped convolution)."""


@dataclass(frozen=True)
class _Product:
    """A product of 8-bit integers: its sums' block and stages after it, what it reads, and its axes.

    The vector runs along `vector`, of whose outputs `group` at a time read the same of `x`; the rows of a tile along
    `rows`; `Machine.dot_steps` steps at a time along `depth`. `each`: an output reads its own channel of `x` alone.
    """

    acc: Any
    after: Sequence[Any]
    info: BlockInfo
    x: Access
    w: Access
    vector: Axis
    rows: Axis | None
    depth: Axis
    group: int
    each: bool = False


def dot(state: State) -> Scheduled | None:
    """Products of 8-bit integers with constant ones: matmul and convolution, grouped too, but not depthwise."""
    if not state.machine.dot:
        return None
    product = _match(state)
    if product is None:
        return None
    sch, info, machine = state.sch, product.info, state.machine
    tile = _tile(state, product)
    _pack(state, product, tile.columns)
    out = product.after[-1] if product.after else sch.cache_write(product.acc, 0, "local")
    order = state.spec.order
    loops = list(sch.get_loops(out))
    outer, v = [loops[d] for d in order[:-1]], loops[order[-1]]
    if product.group < product.vector.extent:
        vg, v = sch.split(v, [None, product.group])
        outer.append(vg)
    vo, vi = sch.split(v, [None, tile.columns])
    if product.rows is not None:
        r = loops[info.spatial.index(product.rows)]
        ro, ri = sch.split(r, [None, tile.rows])
        rest = [x for x in outer if x is not r]
        nest = [*rest[:1], vo, *rest[1:], ro] if len(rest) > 1 else [vo, *rest, ro]
        nest = [*rest, ro, vo] if product.each else nest
        inside = nest[nest.index(vo) + 1 :]
        sch.reorder(*nest, ri, vi)
        sch.unroll(ri)
        around = [*rest, ro]
    else:
        nest = [*outer, vo]
        sch.reorder(*nest, vi)
        around, inside = outer, []
    _side_by_side(state, vi)
    sch.compute_at(product.acc, nest[-1], preserve_unit_loops=True)
    if product.after:
        sch.set_scope(product.acc, 0, "local")
    steps = _order_sums(state, product)
    tiles = prod(int(sch.get(loop).extent) for loop in inside)
    whole = product.group == product.vector.extent and not (product.each or state.spec.open or state.spec.tags)
    if whole and not machine.dot_alone and next_block_pays(machine, product.w.size, tiles):
        room = -(-tile.columns // machine.lanes) * machine.lanes
        prefetch_next_block(state, steps, inside, room * machine.dot_steps)
    heavy = product.w.size > product.x.size
    state.share([vo, *around] if heavy else [*around, vo])
    state.machine = replace(machine, lanes=machine.lanes_of_bytes(tile.columns))
    return state.finish(f"dot products, register tile {tile.rows} x {tile.columns}")


def _order_sums(state: State, product: _Product) -> list[Any]:
    """The loops of the sums: the window, the channels by four, the tile, and in a vector the four products. Returns
    those over the weights' steps, the innermost last."""
    sch, info = state.sch, product.info
    inner = list(sch.get_loops(product.acc))[-len(info.spatial) - len(info.reduction) :]
    spatial, reduction = inner[: len(info.spatial)], inner[len(info.spatial) :]
    vloop = spatial[info.spatial.index(product.vector)]
    tile_loops = [spatial[info.spatial.index(product.rows)]] if product.rows is not None else []
    around = [x for x in spatial if x is not vloop and x not in tile_loops]
    depth = reduction.pop(info.reduction.index(product.depth))
    steps, four = sch.split(depth, [None, state.machine.dot_steps])
    sch.reorder(*around, *reduction, steps, *tile_loops, vloop, four)
    for x in tile_loops:
        sch.unroll(x)
    _side_by_side(state, vloop)
    sch.annotate(four, DOT, 1)
    sch.decompose_reduction(product.acc, [*reduction, steps][0])
    return [*reduction, steps]


def _side_by_side(state: State, loop: Any) -> None:
    """Makes a loop over columns a vector, or as many single sums."""
    (state.sch.unroll if state.machine.dot_alone else state.sch.vectorize)(loop)


def _match(state: State) -> _Product | None:
    """The product, with the pointwise stages behind it inlined into the last one; None for other kernels."""
    sch, order = state.sch, state.spec.order
    blocks = state.blocks()
    if not order or not state.info(blocks[0]).reduces or any(state.info(b).reduces for b in blocks[1:]):
        return None
    acc, *after = blocks
    info = state.info(acc)
    reads = [r for r in info.reads if r.buffer != info.writes[0].buffer] if info.writes else []
    if info.dtype != "int32" or len(reads) != 2 or len(info.spatial) != len(order):
        return None
    x, w = sorted(reads, key=lambda r: state.is_constant(r.buffer))
    kinds = dtype_of(x.buffer), dtype_of(w.buffer)
    if state.is_constant(x.buffer) or not state.is_constant(w.buffer) or kinds != (state.machine.dot_operand, "int8"):
        return None
    vector = info.spatial[order[-1]]
    group = int(sch.get(acc).annotations.get(GROUP, vector.extent))
    step = x.strides.get(vector.name)
    each = state.machine.dot_each and step == 1
    along = (a for a in reversed(info.reduction) if each or x.strides.get(a.name) == 1)
    depth = next(along, None)
    if depth is None or vector.extent < 2 or vector.name not in w.dimension_of or depth.name not in w.dimension_of:
        return None
    if step != 0 and not each and not (step is None and group < vector.extent):
        return None
    for b in after[:-1]:
        sch.compute_inline(b)
    axes = [info.spatial[d] for d in reversed(order[:-1]) if info.spatial[d].extent > 1]
    rows = next((a for a in axes if w.strides.get(a.name) == 0), axes[0] if axes else None)
    return _Product(acc, after, state.info(acc), x, w, vector, rows, depth, group, each)


def _tile(state: State, product: _Product) -> Tile:
    """As for products of floats, over a fourth of the depth; what holds four inputs for all lanes takes a register."""
    machine = for_dots(state.machine)
    height = product.rows.extent if product.rows else 1
    if product.each:
        return Tile(min(height, ROWS_OF_EACH), machine.byte_lanes)
    if product.group < product.vector.extent:
        return grouped_tile(height, product.group, replace(machine, lanes=state.machine.lanes))
    depth = (
        product.info.extent_of_reduction // product.depth.extent * -(-product.depth.extent // state.machine.dot_steps)
    )
    fixed = state.spec.fixed.get(state.param_index[product.w.buffer], ())
    along = product.w.dimension_of[product.vector.name]
    widths = [block.size for layout in fixed for d, block in layout.blocks if d == along]
    if not widths and machine.byte_lanes:
        widths = _widths_of_bytes(product.group, machine)
    if state.machine.dot != "smmla":
        return choose_tile(height, product.group, depth, machine, True, True, widths=widths)
    pairs = choose_tile(-(-height // 2), product.group, depth, machine, True, True, widths=widths or MATRIX_WIDTHS)
    return Tile(min(height, 2 * pairs.rows), pairs.columns)


ROWS_OF_EACH = 2
"""Rows of a tile of windows of each channel: their sums, the weights and the pixels fill 16 registers."""


def _widths_of_bytes(columns: int, machine: Machine) -> list[int]:
    """Columns of a tile that are rounded to whole registers of bytes, or to halves where no more are left over; none
    where there are fewer columns."""
    half = machine.byte_lanes // 2
    halves = 0 < columns % machine.byte_lanes <= half and columns < 4 * machine.byte_lanes
    step = half if halves else machine.byte_lanes
    return list(range(step, 8 * machine.lanes + 1, step)) if columns >= half else []


MATRIX_WIDTHS = (4, 8, 12, 16)
"""Columns of a tile of matrix products, in whole vectors of sums."""


_ALONE: Mapping[str, Mapping[str, Any]] = {
    "smlad": {"registers": 8, "beside": 1.5},
    "vmladav": {"registers": 10, "beside": 1},
    "plain": {"beside": 1},
}
"""Of 13 integer registers those for sums and operands (for smlad an operand is taken apart and takes two), and what it
costs to load an operand, in dot products."""


def for_dots(machine: Machine) -> Machine:
    """The machine as the cost model of tiles shall see it.

    Where 16-bit integers are multiplied a dot product takes four instructions, the halves of its operands take two more
    for each of them, and four registers. A product of matrices gives two columns of a pair of rows, whose bytes of two
    steps lie in as many registers.
    """
    if machine.dot == "smmla":
        return replace(machine, lanes=2, registers_by_lane=2, beside=0.3)
    if machine.dot == "sdot":
        return machine
    machine = replace(machine, broadcast_operand=False, by_lane=False)
    if machine.dot_alone:
        return replace(machine, lanes=1, **_ALONE[machine.dot])
    if machine.dot != "pairs":
        return machine
    if machine.name == "wasm":  # V8 spills what it widens, which costs less than to widen it for fewer sums
        return replace(machine, registers=2 * machine.registers, fma_ports=1, fma_latency=2, beside=1)
    return replace(machine, registers=machine.registers - 4, fma_ports=1, fma_latency=2, beside=1)


def _pack(state: State, product: _Product, columns: int) -> None:
    """The weights in blocks of `columns` outputs, each the window, the channels by four, the columns, the four."""
    w, info = product.w, product.info
    shape = [int(d) for d in w.buffer.shape]
    across, along = w.dimension_of[product.vector.name], w.dimension_of[product.depth.name]
    four = state.machine.dot_steps
    room = columns if state.machine.dot_alone else -(-columns // state.machine.lanes) * state.machine.lanes
    strides = [0] * len(shape)
    strides[along] = step = four * room
    step *= -(-shape[along] // four)
    window = [w.dimension_of[a.name] for a in info.reduction if a != product.depth and a.name in w.dimension_of]
    others = [d for d in range(len(shape)) if d not in (*window, across, along)]
    for d in reversed([*others, across, *dict.fromkeys(window)]):
        strides[d] = step
        step *= -(-shape[d] // columns) if d == across else shape[d]
    blocks = {across: Block(columns, four, room), along: Block(four, 1, four)}
    index = state.param_index[w.buffer]
    state.packed[index] = Layout(tuple(strides), 0, tuple(sorted(blocks.items())))
    state.padded.add(index)
