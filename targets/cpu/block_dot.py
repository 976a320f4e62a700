"""The schedules of products of rounded values (`graph/rounded.py`): of the rounding, and of the products.

A product sums in two steps. For each block of the depth a tile of int32 sums is filled by dot products, as in `dot.py`,
and then, times the scales of the block, added to a tile of float32 sums; registers hold both. Weights are packed in
blocks of as many columns as a tile of one row has, of which tiles of more rows take a part at a time:
``[blocks of columns][blocks of the depth][rows of a block / 4][columns][4]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dlpack.kernels.spec import Scheduled
from dlpack.loops.dots import DOT
from dlpack.loops.expressions import dtype_of
from dlpack.loops.layout import Block, Layout
from dlpack.loops.lower import VECTOR_REDUCE
from dlpack.targets.cpu.blocks import Access, Axis, BlockInfo
from dlpack.targets.cpu.state import State
from dlpack.targets.cpu.tiles import Tile, choose_tile

SHARE_OF_ONE_ROW = 4
"""A tile of one row takes a vector of columns for so many registers: one for int32 sums, one for float32 sums, and as
many again for weights, scales and what is multiplied."""


@dataclass(frozen=True)
class _Product:
    """A product of blocks: the blocks of its int32 sums, its float32 sums, and the stages after them; what it reads of
    weights; its axes: columns, rows if it has several, rows of a block."""

    dots: Any
    acc: Any
    after: Sequence[Any]
    info: BlockInfo
    weights: Access
    beside: Sequence[Access]
    vector: Axis
    rows: Axis | None


def block_dot(state: State) -> Scheduled | None:
    """Products of rounded values with constant codes; None for other kernels."""
    if not state.machine.rounds or state.spec.open or state.spec.tags:
        return None
    product = _match(state)
    if product is None:
        return None
    sch, info, order = state.sch, product.info, state.spec.order
    columns = _columns(state, product)
    tile = _tile(state, product, columns)
    _pack(state, product, columns)
    out = product.after[-1] if product.after else sch.cache_write(product.acc, 0, "local")
    loops = list(sch.get_loops(out))
    outer = [loops[d] for d in order[:-1]]
    parts = [columns // tile.columns] if columns > tile.columns else []
    vo, *within, vi = sch.split(loops[order[-1]], [None, *parts, tile.columns])
    if product.rows is None:
        around, others = [*outer, vo, *within], outer
        sch.reorder(*around, vi)
    else:
        r = loops[info.spatial.index(product.rows)]
        ro, ri = sch.split(r, [None, tile.rows])
        rest = [x for x in outer if x is not r]
        batch = 0 if len(rest) < 2 else 1
        around = [*rest[:batch], vo, *within, *rest[batch:], ro]
        sch.reorder(*around, ri, vi)
        sch.unroll(ri)
        others = [*rest, ro]
    sch.vectorize(vi)
    sch.compute_at(product.acc, around[-1], preserve_unit_loops=True)
    if product.after:
        sch.set_scope(product.acc, 0, "local")
    _order_sums(state, product)
    state.share([vo, *others])
    return state.finish(f"dot products by blocks, register tile {tile.rows} x {tile.columns}")


def _match(state: State) -> _Product | None:
    """The product, with the pointwise stages behind it inlined into the last one."""
    sch, order = state.sch, state.spec.order
    blocks = state.blocks()
    if len(blocks) < 2 or not order:
        return None
    dots, acc, *after = blocks
    infos = [state.info(b) for b in blocks]
    if [i.dtype for i in infos[:2]] != ["int32", "float32"] or [i.reduces for i in infos[:2]] != [True, True]:
        return None
    if any(i.reduces or i.opaque for i in infos[2:]) or len(infos[1].spatial) != len(order):
        return None
    weights = [r for r in infos[0].reads if state.is_constant(r.buffer)]
    vector = infos[1].spatial[order[-1]]
    if len(weights) != 1 or dtype_of(weights[0].buffer) not in ("int8", "uint8") or order[-1] != len(order) - 1:
        return None
    for b in after[:-1]:
        sch.compute_inline(b)
    axes = [infos[1].spatial[d] for d in reversed(order[:-1]) if infos[1].spatial[d].extent > 1]
    beside = [r for r in infos[1].reads if state.is_constant(r.buffer)]
    return _Product(dots, acc, after, infos[1], weights[0], beside, vector, axes[0] if axes else None)


def _columns(state: State, product: _Product) -> int:
    """How many columns a block of weights has: those of a tile of one row. An even number of vectors lets two share
    the bytes of four bits each."""
    machine = state.machine
    vectors = min(machine.registers // SHARE_OF_ONE_ROW, -(-product.vector.extent // machine.lanes))
    return machine.lanes * (vectors + (vectors % 2 if vectors > 1 else 0))


def _tile(state: State, product: _Product, columns: int) -> Tile:
    """As for other dot products, with half of the registers: each sum takes two. V8 keeps the float32 ones in memory,
    which only the end of a block touches."""
    if product.rows is None:
        return Tile(1, columns)
    share = 1 if state.machine.name == "wasm" else 2
    machine = replace(state.machine, broadcast_operand=False, registers=state.machine.registers // share)
    depth = product.info.extent_of_reduction * _rows_of_a_block(product) // state.machine.dot_steps
    vectors = columns // machine.lanes
    parts = [k * machine.lanes for k in range(1, vectors + 1) if vectors % k == 0 and (k % 2 == 0 or vectors == 1)]
    return choose_tile(product.rows.extent, product.vector.extent, depth, machine, True, True, widths=parts)


def _rows_of_a_block(product: _Product) -> int:
    return int(product.weights.buffer.shape[1])


def _order_sums(state: State, product: _Product) -> None:
    """The loops of the sums: blocks of the depth, and in each the steps of its dot products, then the tile."""
    sch, info, lanes_of = state.sch, product.info, [product.rows, product.vector]
    inner = list(sch.get_loops(product.acc))[-len(info.spatial) - 1 :]
    spatial, block = inner[:-1], inner[-1]
    tile = [spatial[info.spatial.index(a)] for a in lanes_of if a is not None]
    sch.reorder(*[x for x in spatial if x not in tile], block, *tile)
    sch.compute_at(product.dots, block, preserve_unit_loops=True)
    sch.set_scope(product.dots, 0, "local")
    own = list(sch.get_loops(product.dots))[-len(info.spatial) - 2 :]
    places = [info.spatial.index(a) for a in lanes_of if a is not None]
    last = len(info.spatial)  # where the block's number stands before it, the columns do
    within = [own[last if p == last - 1 else p] for p in places]
    depth = own[-1]
    steps, four = sch.split(depth, [None, state.machine.dot_steps])
    sch.reorder(*[x for x in own[:-1] if x not in within], steps, *within, four)
    for loops in (tile, within):
        for x in loops[:-1]:
            sch.unroll(x)
        sch.vectorize(loops[-1])
    sch.annotate(four, DOT, 1)
    sch.decompose_reduction(product.dots, steps)
    sch.decompose_reduction(product.acc, block)


def _pack(state: State, product: _Product, columns: int) -> None:
    """The weights in blocks of columns, and what each block of the depth has beside them, as they are read."""
    lanes, four = state.machine.lanes, state.machine.dot_steps
    room = -(-columns // lanes) * lanes
    blocks, rows, _ = (int(d) for d in product.weights.buffer.shape)
    strides = rows * room, four * room, blocks * rows * room
    layout = Layout(strides, 0, ((1, Block(four, 1, four)), (2, Block(columns, four, room))))
    found = [(product.weights, layout)]
    found += [(r, Layout((room, blocks * room), 0, ((1, Block(columns, 1, room)),))) for r in product.beside]
    for access, own in found:
        index = state.param_index[access.buffer]
        state.packed[index] = own
        state.padded.add(index)


def round_blocks(state: State) -> Scheduled | None:
    """The rounding of rows by blocks, one block after the other; None for other kernels."""
    sch, blocks = state.sch, state.blocks()
    names = [str(sch.get(b).name_hint) for b in blocks]
    if names[:4] != ["peaks", "factors", "whole", "codes"] or state.machine.lanes == 1:
        return None
    found = dict(zip(names, blocks, strict=True))
    info = state.info(found["peaks"])
    (block,) = info.reduction
    if any(r.strides.get(block.name) != 1 for r in info.reads if r.buffer != info.writes[0].buffer):
        return None
    *outer, each, _ = list(sch.get_loops(found["peaks"]))
    for name in names[1:]:
        sch.reverse_compute_at(found[name], each, preserve_unit_loops=True)
    for name in ("whole", "codes"):
        sch.vectorize(list(sch.get_loops(found[name]))[-1])
    for name in ("peaks", "sums"):
        if name in found:
            sch.decompose_reduction(found[name], list(sch.get_loops(found[name]))[-1])
            sch.annotate(list(sch.get_loops(found[name]))[-1], VECTOR_REDUCE, 1)
    for name in ("peaks", "factors", "whole", "sums"):
        if name in found:
            sch.set_scope(found[name], 0, "local")
    state.share([*outer, each])
    return state.finish("rounded by blocks")
