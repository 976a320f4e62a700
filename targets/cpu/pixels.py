"""The rule for convolutions of pictures of several sizes that have few pixels (graph/few.py): a register tile takes
pixels by their number, of one row or of several."""

from __future__ import annotations

from dlpack.kernels.spec import Scheduled
from dlpack.loops.numbered import TILES, TOGETHER, as_numbered
from dlpack.loops.prefetch import PREFETCH
from dlpack.targets.cpu.machine import Machine
from dlpack.targets.cpu.state import State
from dlpack.targets.cpu.tiles import open_tiles, tile_for_pictures

FEW_PIXELS = "dlpack.few_pixels"
"""Block annotation: a run has at least and at most so many pixels."""


def pixels(state: State) -> Scheduled | None:
    """Schedules the operator PixelConvolution over weights that are packed already."""
    sch, machine = state.sch, state.machine
    sums, *others = state.blocks()
    if FEW_PIXELS not in sch.get(sums).annotations:
        return None
    *others, out = others
    for b in others:
        sch.compute_inline(b)
    info = state.info(sums)
    fewest, most = (int(n) for n in sch.get(sums).annotations[FEW_PIXELS])
    outputs, depth = info.spatial[2].extent, info.extent_of_reduction
    ((index, (layout,)),) = ((k, layouts) for k, layouts in state.spec.fixed.items() if layouts[0].blocks)
    ((_, block),) = layout.blocks
    state.packed[index] = layout
    state.padded.add(index)
    streams = _streams(machine, outputs, depth)  # then in the order in which they lie: whole blocks
    parts = [n for n in range(machine.lanes, block.size + 1, machine.lanes) if n == block.size or not streams]
    parts = [n for n in parts if block.size % n == 0]
    tiles = open_tiles(TOGETHER, outputs, machine, parts)
    tile = tile_for_pictures((fewest, most), tiles, outputs, depth, machine, lower_tiles=False)

    n, o, y, x = sch.get_loops(out)
    rows, wide = as_numbered(*(int(sch.get(loop).extent) for loop in (y, x)))
    y, high = sch.split(y, [rows, 1])
    x, one = sch.split(x, [wide, 1])
    ob, o = sch.split(o, [None, block.size])
    oo, oi = sch.split(o, [None, tile.columns])
    sch.reorder(n, ob, oo, y, x, high, one, oi)
    to, ti = sch.split(sch.fuse(y, x), [None, tile.rows])
    sch.annotate(to, TILES, [tile.rows, 1, wide])
    sch.unroll(ti)
    sch.vectorize(oi)
    sch.compute_at(sums, to, preserve_unit_loops=True)
    sch.set_scope(sums, 0, "local")
    *_, t, k, ky, kx, ic = sch.get_loops(sums)
    sch.reorder(ky, kx, ic, t, k)
    sch.unroll(t)
    sch.vectorize(k)
    if streams and not machine.by_lane:
        sch.annotate(ic, PREFETCH, machine.ahead * machine.lanes * (block.size // tile.columns))
    sch.decompose_reduction(sums, ky)
    state.share([n, ob, oo], most / info.spatial[1].extent)
    return state.finish(f"pixels by number, register tile {tile.rows} x {tile.columns}")


def _streams(machine: Machine, outputs: int, depth: int) -> bool:
    """Whether the weights come from beyond L2."""
    return machine.itemsize * outputs * depth > machine.l2 // 2
