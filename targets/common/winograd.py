"""Schedules for Winograd's tile transforms, and the cost model that says where the algorithm pays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dlpack.targets.common.machine import Machine

if TYPE_CHECKING:
    from dlpack.spec import Scheduled
    from dlpack.targets.common.schedule import State

TILE_AXES = "dlpack.tile_axes"
TILE = "dlpack.tile"


def tile_transform(state: State) -> Scheduled | None:
    """Transforms a tile in registers: the tile's elements unrolled, the vector along the channels.

    The stages say so themselves: TILE_AXES counts the leading axes that number a tile's elements, TILE is the edge of
    the tiles that an output's rows and columns are cut into.
    """
    blocks = state.blocks()
    notes = [dict(state.sch.get(b).annotations) for b in blocks]
    if TILE_AXES not in notes[0] or state.machine.lanes == 1:
        return None
    if TILE_AXES in notes[-1]:
        return _input(state, blocks)
    return _output(state, blocks, int(next(n[TILE] for n in notes if TILE in n)))


def _input(state: State, blocks: list[Any]) -> Scheduled:
    sch = state.sch
    half, out = blocks
    i, j, n, r, s, c = sch.get_loops(out)
    co, ci = sch.split(c, [None, state.machine.lanes])
    sch.reorder(n, r, s, co, i, j, ci)
    _attach(state, half, co)
    sch.unroll(i)
    sch.unroll(j)
    sch.vectorize(ci)
    return state.finish("tile of 6 x 6 in registers")


def _output(state: State, blocks: list[Any], tile: int) -> Scheduled:
    sch = state.sch
    half, out = blocks[0], blocks[-1]
    for b in blocks[1:-1]:
        sch.compute_inline(b)
    n, o, y, x = sch.get_loops(out)
    yo, yi = sch.split(y, [None, tile])
    xo, xi = sch.split(x, [None, tile])
    oo, oi = sch.split(o, [None, state.machine.lanes])
    sch.reorder(n, yo, xo, oo, yi, xi, oi)
    _attach(state, half, oo)
    sch.unroll(yi)
    sch.unroll(xi)
    sch.vectorize(oi)
    return state.finish(f"tile of {tile} x {tile} in registers")


def _attach(state: State, half: Any, loop: Any) -> None:
    sch = state.sch
    sch.compute_at(half, loop, preserve_unit_loops=True)
    sch.set_scope(half, 0, "local")
    i, j, *_, c = list(sch.get_loops(half))[-6:]
    sch.unroll(i)
    sch.unroll(j)
    sch.vectorize(c)


def pays(machine: Machine, batch: int, inputs: int, outputs: int, height: int, width: int) -> bool:
    """Whether F(4x4, 3x3) is faster than the direct convolution, by estimated cycles.

    Direct: the FMA peak. Winograd: 36 matrix products at nine tenths of it (less where the products are thin), about 150
    vector operations per input tile and vector of channels and 110 per output tile, and the traffic of the transformed
    tensors and weights, which is L2's while they fit and the memory's beyond L3.
    """
    if machine.lanes == 1 or inputs < machine.lanes // 2 or inputs < 4 or outputs < 4:
        return False
    per_cycle = machine.lanes * machine.fma_ports
    vectors_in, vectors_out = -(-inputs // machine.lanes), -(-outputs // machine.lanes)
    direct = batch * height * width * inputs * vectors_out * machine.lanes * 9 / per_cycle
    weights_direct = 9 * inputs * outputs * 4
    tiles = batch * -(-height // 4) * -(-width // 4)
    products = 36 * tiles * inputs * vectors_out * machine.lanes / per_cycle / 0.9 + 36 * tiles * vectors_out * 4
    transforms = tiles * (vectors_in * 150 + vectors_out * 110) / 1.5
    moved = 2 * 36 * 4 * tiles * (inputs + outputs)
    weights = 36 * inputs * outputs * 4
    traffic = moved / (32 if moved < machine.l2 else 16)
    traffic += max(0, weights - weights_direct) / (32 if weights < machine.l2 else 16 if weights < machine.l3 else 5)
    return products + transforms + traffic < 0.9 * direct
