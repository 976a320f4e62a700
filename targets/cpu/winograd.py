"""The schedule of Winograd's convolution, and the cost model that says where the algorithm pays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dlpack.kernels.backend import Layer
from dlpack.kernels.spec import Scheduled
from dlpack.loops.dots import DOT
from dlpack.loops.guards import WHOLE
from dlpack.loops.layout import Block, Layout
from dlpack.loops.numbered import TILES, TOGETHER, as_numbered
from dlpack.targets.cpu.blocks import BlockInfo
from dlpack.targets.cpu.machine import Machine
from dlpack.targets.cpu.prefetch import next_block_pays, prefetch_next_block
from dlpack.targets.cpu.state import State, points
from dlpack.targets.cpu.tiles import Tile, best_tile, bytes_per_cycle, for_runs, open_cycles, open_tiles


def winograd(state: State) -> Scheduled | None:
    """Bands of tiles that stay in the L2 cache: transform a band in, multiply, transform it out.

    The transforms hold a tile in registers, the vector along the channels; the products are register tiles of
    tiles x output channels over packed weights.
    """
    sch, machine = state.sch, state.machine
    names = {sch.get(b).name_hint: b for b in state.blocks()}
    if "winograd_out" not in names or machine.lanes == 1:
        return None
    blocks = state.blocks()
    half_in, v, m, half_out = blocks[:4]
    for b in blocks[4:-1]:
        sch.compute_inline(b)
    out = blocks[-1]
    info = state.info(m)
    edge, _, _, tiles, outputs = (axis.extent for axis in info.spatial)
    size, depth = state.info(half_out).spatial[0].extent, info.extent_of_reduction
    window = edge - size + 1
    height, width = (int(sch.get(x).extent) for x in sch.get_loops(out)[2:])
    rows, columns = -(-height // size), -(-width // size)
    numbers = as_numbered(rows, columns) if state.spec.tags else None  # where only a run knows how many there are
    layer = rows, columns, depth, outputs
    band, parts = ((1, 1), 1) if numbers else _bands(size, edge, layer, machine)
    part = -(-outputs // parts // machine.lanes) * machine.lanes if parts > 1 else outputs
    widths = state.widths(r.buffer for r in info.reads if state.is_constant(r.buffer))
    if parts > 1 and not widths:
        widths = [n for n in range(machine.lanes, part + 1, machine.lanes) if part % n == 0]
    there = rows * columns / tiles
    state.machine = machine = for_runs(machine, depth, int(points(info) * there) * depth)
    pairs = info.dtype == "int32"
    if numbers:
        count, tile = _open_band(edge, layer, machine, widths)
        told = f"{count}"
    else:
        one, steps = (for_pairs(machine), depth // 2) if pairs else (machine, depth)
        tile, _ = best_tile(band[0] * band[1], part, steps, one, True, True, _heights(machine), widths)
        told = f"{band[0]} x {band[1]}"
    part = -(-part // tile.columns) * tile.columns
    _pack(state, info, tile.columns, 2 if pairs else 1)

    local = sch.cache_write(m, 0, "local")
    if numbers:
        at, shared, whole, tiles_out = _numbered_bands(sch, out, size, numbers, count, machine.lanes)
    else:
        grid = rows, columns
        at, shared, whole, tiles_out = _bands_of_rows(sch, out, size, grid, band, min(part, outputs), machine.lanes)
    _tile_in_registers(state, half_out, *tiles_out)
    for loop in whole:
        sch.annotate(loop, WHOLE, 1)
    numbering = [size, numbers[1]] if numbers else []
    weights = edge * edge * machine.itemsize * depth * outputs
    trips = -(-(count if numbers else band[0] * band[1]) // tile.rows)
    trips = trips if next_block_pays(machine, weights, trips) else 0
    _products(state, m, local, at, tile, numbering, trips, pairs)
    _tiles_in(state, v, half_in, at, numbering)
    state.share(shared, there)
    return state.finish(
        f"Winograd F({size}x{size}, {window}x{window}), bands of {told} tiles, "
        f"register tile {tile.rows} x {tile.columns}"
    )


_Loops = tuple[Any, list[Any], list[Any], tuple[Any, Any, Any, Any]]
"""Of an output: the loop of a band, those that threads may share, those that are not cut, and those of a tile: over its
vectors, rows, columns and lanes."""


def _numbered_bands(sch: Any, out: Any, size: int, numbers: tuple[int, int], count: int, lanes: int) -> _Loops:
    """The output in bands of `count` tiles by their number (loops/numbered.py)."""
    n, o, y, x = sch.get_loops(out)
    yo, yi = sch.split(y, [numbers[0], size])
    xo, xi = sch.split(x, [numbers[1], size])
    oo, oi = sch.split(o, [None, lanes])
    sch.reorder(n, yo, xo, oo, yi, xi, oi)
    at, t = sch.split(sch.fuse(yo, xo), [None, count])
    sch.annotate(at, TILES, [count, size, numbers[1]])
    sch.annotate(t, TILES, [1, size, numbers[1]])
    return at, [n, at], [at, t], (oo, yi, xi, oi)


def _bands_of_rows(
    sch: Any, out: Any, size: int, grid: tuple[int, int], band: tuple[int, int], part: int, lanes: int
) -> _Loops:
    """The output in bands of so many rows and columns of the `grid` of tiles, and in parts of the channels."""
    n, o, y, x = sch.get_loops(out)
    ob, o = sch.split(o, [None, part])
    yb, yo, yi = sch.split(y, [None, band[0], size])
    at, xo, xi = sch.split(x, [None, band[1], size])
    oo, oi = sch.split(o, [None, lanes])
    sch.reorder(n, ob, yb, at, yo, xo, oo, yi, xi, oi)
    # Ragged edges: a test per element in place of copies of the body; ragged bands are worth copies.
    whole = [yo, xo] + [loop for loop, n, b in zip((yb, at), grid, band, strict=True) if n % b == 0]
    return at, [ob] if int(sch.get(ob).extent) > 1 else [n, yb, at], whole, (oo, yi, xi, oi)


def for_pairs(machine: Machine) -> Machine:
    """The machine as the cost model of tiles shall see products of two integers of 16 bits: a register holds two inputs
    for all lanes and, where a product is added by itself, another one that."""
    return replace(machine, broadcast_operand=False, registers=machine.registers - (machine.dot == "pairs"))


def _products(
    state: State, m: Any, local: Any, band: Any, tile: Tile, numbering: Sequence[int], trips: int, pairs: bool
) -> None:
    """The products of a band. `numbering`: of tiles whose number only a run knows. `trips`: by so many register tiles
    the next block of weights is prefetched, 0 if it is not. `pairs`: of integers, two at a time."""
    sch = state.sch
    sch.compute_at(local, band, preserve_unit_loops=True)
    i, j, b, t, k = list(sch.get_loops(local))[-5:]
    ko, ki = sch.split(k, [None, tile.columns])
    to, ti = sch.split(t, [None, tile.rows])
    sch.reorder(i, j, b, ko, to, ti, ki)
    if numbering:
        sch.annotate(to, TILES, [tile.rows, *numbering])
    sch.unroll(ti)
    sch.vectorize(ki)
    sch.compute_at(m, to, preserve_unit_loops=True)
    mt, mk, mc = list(sch.get_loops(m))[-3:]
    if pairs:
        mc, two = sch.split(mc, [None, 2])
        sch.reorder(mc, mt, mk, two)
        sch.annotate(two, DOT, 1)
    else:
        sch.reorder(mc, mt, mk)
    sch.unroll(mt)
    sch.vectorize(mk)
    if trips:
        prefetch_next_block(state, [mc], [to], tile.columns * (2 if pairs else 1), [trips])
    sch.decompose_reduction(m, mc)


def _tiles_in(state: State, v: Any, half_in: Any, band: Any, numbering: Sequence[int]) -> None:
    """The transform of a band's tiles."""
    sch = state.sch
    sch.compute_at(v, band, preserve_unit_loops=True)
    i, j, b, t, c = list(sch.get_loops(v))[-5:]
    co, ci = sch.split(c, [None, state.machine.lanes])
    sch.reorder(b, t, co, i, j, ci)
    _tile_in_registers(state, half_in, co, i, j, ci)
    if numbering:
        sch.annotate(t, TILES, [1, *numbering])


def _open_band(
    edge: int, layer: tuple[int, int, int, int], machine: Machine, widths: Sequence[int]
) -> tuple[int, Tile]:
    """How many tiles a band has, and the register tile, where runs have any number of tiles up to the layer's: those
    with the least cost of a tile, the mean over pictures of several sizes. `layer` as for `_bands`."""
    rows, columns, inputs, outputs = layer
    weights = edge * edge * machine.itemsize * inputs * outputs
    each = edge * edge * machine.itemsize * (inputs + outputs)
    counts = [-(-rows * part // PARTS) * -(-columns * part // PARTS) for part in range(1, PARTS + 1)]

    def cost(choice: tuple[int, Tile]) -> float:
        band, tile = choice
        total = 0.0
        for tiles in counts:
            bands = -(-tiles // band)
            products = (bands - 1) * open_cycles(band, tile, outputs, inputs, machine)
            products += open_cycles(tiles - (bands - 1) * band, tile, outputs, inputs, machine)
            moved = 2 * tiles * each / bytes_per_cycle(machine, band * each) + bands * weights / bytes_per_cycle(
                machine, weights
            )
            total += (edge * edge * products * _uneven(bands, machine.threads) + moved) / tiles
        return total

    return min(((n, tile) for n in OPEN_BANDS for tile in open_tiles(n, outputs, machine, widths)), key=cost)


OPEN_BANDS = tuple(n for n in range(6, 49) if TOGETHER % n == 0)
"""Numbers of tiles that bands may have, where only a run knows how many there are."""

PARTS = 4
"""Bands are chosen for pictures with one to four quarters of the largest's rows and columns."""


def _tile_in_registers(state: State, half: Any, at: Any, i: Any, j: Any, vector: Any) -> None:
    """Unrolls a transform's tile and computes its first half beside it."""
    sch = state.sch
    sch.compute_at(half, at, preserve_unit_loops=True)
    sch.set_scope(half, 0, "local")
    hi, hj, *_, hc = list(sch.get_loops(half))[-5:]
    for loop in (hi, hj, i, j):
        sch.unroll(loop)
    sch.vectorize(hc)
    sch.vectorize(vector)


def _pack(state: State, info: BlockInfo, columns: int, steps: int) -> None:
    """The transformed weights [E, E, C, O] in blocks of `columns` outputs and of `steps` inputs, one or two:
    [E, E, O / columns, C / steps, columns, steps]."""
    read = next(r for r in info.reads if state.is_constant(r.buffer))
    index = state.param_index[read.buffer]
    edge, _, inputs, outputs = (int(d) for d in read.buffer.shape)
    room = -(-columns // state.machine.lanes) * state.machine.lanes
    block = inputs * room
    matrix = -(-outputs // columns) * block
    blocks = ((2, Block(steps, 1, steps)),) if steps > 1 else ()
    strides = (edge * matrix, matrix, steps * room, block)
    state.packed[index] = Layout(strides, 0, (*blocks, (3, Block(columns, steps, room))))
    state.padded.add(index)


def _traffic(
    machine: Machine, edge: int, layer: tuple[int, int, int, int], band: tuple[int, int]
) -> tuple[float, float]:
    """Cycles to move the transformed tensors, and the weights, all of them once per band, a cache's speed each."""
    rows, columns, inputs, outputs = layer
    bands = -(-rows // band[0]) * -(-columns // band[1])
    per_tile = edge * edge * machine.itemsize * (inputs + outputs)
    weights = edge * edge * machine.itemsize * inputs * outputs
    tensors = 2 * rows * columns * per_tile / bytes_per_cycle(machine, band[0] * band[1] * per_tile)
    return tensors, bands * weights / bytes_per_cycle(machine, weights)


def _bands(size: int, edge: int, layer: tuple[int, int, int, int], machine: Machine) -> tuple[tuple[int, int], int]:
    """Tile rows and columns of a band, by least cost: a part of one row, or several whole rows; and in how many parts
    the output channels are computed. `layer`: rows and columns of tiles, input channels, output channels.

    That is one, unless the bands are too few for the threads or do not split evenly among them: then each thread
    takes a part of the channels, for which it transforms the tiles again.
    """
    rows, columns, inputs, outputs = layer
    ends = [(1, -(-columns // k)) for k in range(2, 9) if columns // k >= 8]
    whole = [(k, columns) for k in range(1, rows + 1) if rows % k == 0]
    products = edge * edge * rows * columns * inputs * outputs / machine.lanes / machine.fma_ports
    transforms = rows * columns * -(-inputs // machine.lanes) * TRANSFORM[size, edge][0]

    def cost(choice: tuple[tuple[int, int], int]) -> float:
        band, parts = choice
        pieces = parts if parts > 1 else max(-(-rows // band[0]), -(-columns // band[1]))
        traffic = sum(_traffic(machine, edge, layer, band))
        return traffic + products * (_uneven(pieces, machine.threads) - 1) + transforms * (parts - 1)

    most = min(machine.threads, -(-outputs // machine.lanes))
    return min(((band, parts) for parts in {1, most} for band in [*ends, *whole]), key=cost)


def _uneven(parts: int, threads: int) -> float:
    """How much longer the busiest thread works than if the parts were split evenly."""
    return -(-parts // threads) * threads / parts


TRANSFORM = {(2, 4): (20, 14), (4, 6): (150, 105), (6, 8): (1000, 700), (2, 6): (150, 40), (4, 8): (1000, 400)}
"""By tile of the output and of the input: cycles to transform a tile of one vector of input channels, and of output
channels (fitted for 3x3)."""

ERROR = {(2, 4): 1, (4, 6): 6, (6, 8): 12, (2, 6): 8, (4, 8): 12}
"""By tile of the output and of the input, in units of 2^-24: the bound of the error's root mean square as a part of the
result's, divided by the square root of the number of channels. (Direct, a sum in order: 1.)"""

LARGEST_ERROR = 3e-5
"""A tile is not used where its bound is larger."""

IN_HALVES = (2,)
"""The tiles in float16, whose rounding F(4x4) would multiply by six; its weights are rounded once more, too."""


def error_bound(size: int, inputs: int, window: int = 3) -> float:
    """The root mean square of F(m x m, r x r)'s rounding error over `inputs` channels, as a part of the result's."""
    return float(ERROR[size, size + window - 1] * inputs**0.5 * 2**-24)


def _heights(machine: Machine) -> str:
    """Loads in pairs, and more sums where they hide latency, are worth the code of a last tile of fewer rows."""
    return "" if machine.pairs or machine.exposed else "whole"


WORTH_A_KERNEL = 1.75
"""So many times as long takes what is worth another kernel for some sizes of a run."""


def choose_winograd(
    machine: Machine, batch: int, inputs: int, outputs: int, height: int, width: int, window: int = 3, only: int = 0
) -> int:
    """The m for which F(m x m, r x r), r the `window`, takes the fewest cycles by estimate; 0 where none is faster than
    the direct convolution. With `only`, this m, or 0 where the direct convolution is so much faster that it is worth a
    kernel besides.

    Direct: the FMA peak. Winograd: (m + r - 1)^2 matrix products for each band (`best_tile`), the transforms
    (`TRANSFORM`), and the traffic of the transformed tensors and weights.
    """
    if machine.lanes == 1 or inputs < machine.lanes // 2 or inputs < 4 or outputs < 4:
        return 0
    vectors_in, vectors_out = -(-inputs // machine.lanes), -(-outputs // machine.lanes)
    weights = window**2 * machine.itemsize * inputs * outputs
    direct = batch * height * width * inputs * vectors_out * window**2 / machine.fma_ports
    direct += weights / bytes_per_cycle(machine, weights) / 2
    one = replace(machine, threads=1)

    def cycles(size: int) -> float:
        layer = rows, columns, _, _ = -(-height // size), -(-width // size), inputs, outputs
        edge = size + window - 1
        band, _ = _bands(size, edge, layer, one)
        bands = -(-rows // band[0]) * -(-columns // band[1])
        paired = for_runs(machine, inputs, edge * edge * rows * columns * inputs * outputs)
        _, product = best_tile(band[0] * band[1], outputs, inputs, paired, True, True, "" if one.exposed else "whole")
        into, out = TRANSFORM[size, edge]
        transforms = rows * columns * (vectors_in * into + vectors_out * out)
        tensors, weights = _traffic(machine, edge, layer, band)
        if edge * edge * machine.itemsize * inputs * outputs <= machine.l2 // 2:
            weights = 0.0  # `best_tile` has counted it
        return batch * (edge * edge * bands * product + transforms + tensors + weights)

    sizes = [m for m, edge in TRANSFORM if edge == m + window - 1 and only in (0, m)]
    exact = (m for m in sizes if error_bound(m, inputs, window) <= LARGEST_ERROR)
    halves = (m for m in IN_HALVES if window == 3)
    best = min(exact if machine.itemsize == 4 else halves, key=cycles, default=0)
    return best if best and cycles(best) < (WORTH_A_KERNEL if only else 0.9) * direct else 0


def choose_integers(machine: Machine, layer: Layer) -> int:
    """4 where F(4x4, 3x3) of integers takes fewer cycles by estimate than dot products of 8 bits, else 0.

    It takes two products of 16 bits at a time, not four of 8, and a fourth of them.
    """
    if not machine.narrows_together or layer.tile not in (0, 4):
        return 0
    inputs, outputs, size, edge = layer.inputs, layer.outputs, 4, 6
    grid = rows, columns, _, _ = -(-layer.height // size), -(-layer.width // size), inputs, outputs
    vectors_in, vectors_out = -(-inputs // machine.lanes), -(-outputs // machine.lanes)
    four, two = OF_BYTES[machine.dot]
    direct = layer.height * layer.width * 9 * -(-inputs // 4) * vectors_out * four
    products = edge * edge * rows * columns * -(-inputs // 2) * vectors_out * two
    into, out = TRANSFORM[size, edge]
    transforms = rows * columns * (vectors_in * into + vectors_out * out)
    band, _ = _bands(size, edge, grid, replace(machine, threads=1))
    bands = -(-rows // band[0]) * -(-columns // band[1])
    tensors = _traffic(machine, edge, grid, band)[0] * 3 / 4  # of 16 bits on the way in, of 32 on the way out
    read = bands * _time_to_read(machine, 2 * edge * edge * inputs * outputs)
    direct += _time_to_read(machine, 9 * inputs * outputs)
    return 4 if products + transforms + tensors + read < 0.9 * direct else 0


def _time_to_read(machine: Machine, size: int) -> float:
    return size / bytes_per_cycle(machine, size)


OF_BYTES = {"vnni": (1.0, 1.0), "pairs": (3.0, 1.0)}
"""By the machine's dot product: cycles of four products of 8 bits in each lane, and of two of 16."""
