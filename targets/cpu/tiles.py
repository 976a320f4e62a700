"""The register tile: how many rows and columns of a matrix product are kept in registers, by a cost model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from math import isqrt

from dlpack.loops.lanes import PAIRED_STEPS
from dlpack.loops.rests import OF_PICTURES, OF_TEXTS, beyond, tiles_for, whole_tiles
from dlpack.targets.cpu.machine import Machine


@dataclass(frozen=True)
class Tile:
    rows: int
    columns: int


LOWER = {"open": OF_TEXTS, "sized": OF_PICTURES}
"""The lower tiles of the last rows, by the kind of what is open."""


def choose_tile(
    rows: int,
    columns: int,
    depth: int,
    machine: Machine,
    broadcast: bool,
    streamed: bool,
    widths: Collection[int] = (),
    kind: str = "",
) -> Tile:
    """The tile with the least estimated cycles for a `rows x columns` result over `depth` steps: see `best_tile`.

    `kind` "long": memory shall come in long runs, for what is read comes from beyond L1 each time; "open" or
    "sized" (pictures): a run may have less rows, and `rows` is a multiple of the tile's height.
    """
    whole = columns <= WIDEST_ALONE * machine.lanes  # then any tile reads all of a pixel, and so one long run
    if kind == "long" and not widths and not whole and (run := _long_tile(rows, columns, machine)):
        return run
    heights = kind if kind in LOWER else ""
    return best_tile(rows, columns, depth, machine, broadcast, streamed, heights, widths)[0]


def best_tile(
    rows: int,
    columns: int,
    depth: int,
    machine: Machine,
    broadcast: bool,
    streamed: bool,
    heights: str = "",
    widths: Collection[int] = (),
) -> tuple[Tile, float]:
    """The tile with the least estimated cycles for a `rows x columns` result over `depth` steps, and the cycles.

    `broadcast`: each row brings one scalar per step (a product), not a vector (depthwise, pooling).
    `streamed`: each column vector brings one load per step (packed weights).
    `heights`: "whole", and the tile's height divides the rows, if one of at least 4 does; "open" or "sized", and it
    does, while a run may have less rows, where what the last tile does beyond them counts.
    `widths`: the columns that a tile may have, those of weights that are packed already; by default any.
    """
    best: tuple[float, int, int, int, int] | None = None
    whole = bool(heights) and any(rows % h == 0 for h in range(min(4, rows), min(rows, machine.tallest) + 1))
    vectors_total = -(-columns // machine.lanes)
    widest, tallest = 8, machine.tallest
    if not broadcast:  # without a product there is little to share: keep the code small
        widest, tallest = WIDEST_ALONE, TALLEST_BY_LANE if machine.by_lane else 6
    for vectors in range(1, min(widest, vectors_total) + 1):
        if widths and vectors * machine.lanes not in widths:
            continue
        for height in range(1, min(rows, tallest) + 1):
            if whole and rows % height:
                continue
            if not fits(height, vectors, machine, broadcast, streamed):
                continue
            cycles = _cycles(rows, height, vectors_total, vectors, depth, machine, broadcast, streamed)
            if heights in LOWER:
                cycles *= beyond(rows, height, vectors, are_far(columns * depth, machine), LOWER[heights])
            last = 0 if broadcast else rows % height or height  # of equal ones the most even: 4 + 3 rows, not 6 + 1
            padding = -vectors_total % vectors if streamed else 0  # of the weights' last block
            key = (cycles, -last, padding, -height * vectors, vectors)
            if best is None or key < best:
                best = key
                tile = Tile(height, vectors * machine.lanes)
    if best is None:
        return best_tile(rows, columns, depth, machine, broadcast, streamed, heights)
    return tile, best[0]


def open_cycles(rows: int, tile: Tile, columns: int, depth: int, machine: Machine, lower_tiles: bool = True) -> float:
    """Estimated cycles of a product where a run has `rows`, which whole tiles do, and `lower_tiles` the last of them
    where they are faster (loops/rests.py). L1 holds two blocks of weights, of which one is prefetched; larger ones come
    from beyond it for each tile."""
    vectors, total = tile.columns // machine.lanes, -(-columns // machine.lanes)
    half = replace(machine, l1=machine.l1 // 2)
    far = are_far(columns * depth, machine)
    parts = ((lower_tiles and tiles_for(tile.rows, vectors, far, OF_PICTURES)) or whole_tiles(tile.rows)).counts(rows)
    cycles = sum(_cycles(n * h, h, total, vectors, depth, half, True, True) for n, h in parts)
    block, weights = (machine.itemsize * depth * n for n in (tile.columns, columns))
    if block <= half.l1 // 2:
        return cycles
    return max(cycles, sum(n for n, _ in parts) * weights / bytes_per_cycle(machine, block))


def bytes_per_cycle(machine: Machine, size: int) -> float:
    """From the cache that holds `size` bytes beside what else is in use."""
    if size <= machine.l2 // 2:
        return machine.l2_rate
    return machine.l3_rate if size < machine.l3 else machine.memory_rate


def open_tiles(most: int, columns: int, machine: Machine, widths: Collection[int] = ()) -> list[Tile]:
    """The tiles of products that `open_cycles` may be asked for: their heights divide `most` rows, their columns are
    among `widths`, by default any; or any too, where none fits."""
    tiles = [
        Tile(h, v * machine.lanes)
        for h in range(1, machine.tallest + 1)
        for v in range(1, min(8, -(-columns // machine.lanes)) + 1)
        if most % h == 0 and fits(h, v, machine, True, True)
    ]
    return [tile for tile in tiles if tile.columns in widths] or tiles


def tile_for_pictures(
    pixels: tuple[int, int],
    tiles: Sequence[Tile],
    columns: int,
    depth: int,
    machine: Machine,
    lower_tiles: bool = True,
) -> Tile:
    """Of some tiles that with the least cycles of a pixel, the mean over square pictures with at least and at most so
    many `pixels`; see `open_cycles`."""
    sides = range(max(1, isqrt(pixels[0])), isqrt(pixels[1]) + 1)

    def cost(tile: Tile) -> float:
        return sum(open_cycles(side**2, tile, columns, depth, machine, lower_tiles) / side**2 for side in sides)

    return min(tiles, key=cost)


def grouped_tile(rows: int, group: int, machine: Machine) -> Tile:
    """The tile within a group of channels: as many columns as divide the group and leave registers for some rows."""
    divisors = [d for d in range(1, group + 1) if group % d == 0 and -(-d // machine.lanes) <= 4]
    columns = divisors[-1]
    vectors = -(-columns // machine.lanes)
    return Tile(max(1, min(rows, 14, (machine.registers - 2 - vectors) // vectors)), columns)


def _long_tile(rows: int, columns: int, machine: Machine) -> Tile | None:
    """Two rows of as many columns as fit; None where the registers leave no run of two cache lines."""
    height = min(rows, 2)
    widest = max(v for v in range(1, 9) if fits(height, v, machine, False, True)) * machine.lanes
    if widest < min(columns, LONG_RUN):
        return None
    return Tile(height, min(widest, -(-columns // machine.lanes) * machine.lanes))


def fits(height: int, vectors: int, machine: Machine, broadcast: bool, streamed: bool) -> bool:
    """Whether a tile's sums and what they are computed from fit the registers with one left free.

    By lane, that is a vector of inputs for each row beside the weights, and two are left free: with one (7 x 12 of 32)
    clang loads some inputs twice. A core that works in order needs one more, for what is loaded ahead.
    """
    weights = vectors if streamed else 1
    if machine.by_lane and broadcast:
        return height * (vectors + machine.registers_by_lane) + weights <= room(machine)
    others = weights + (0 if machine.broadcast_operand and broadcast else 1)
    return height * vectors + others < machine.registers


def room(machine: Machine) -> int:
    """By lane, the registers that a tile's sums and what they are computed from may take."""
    return machine.registers - (3 if machine.in_order else 2)


def for_runs(machine: Machine, steps: int, products: int) -> Machine:
    """The machine for so many products, whose inputs lie in runs of so many steps: whether it loads them in pairs.

    Not of float16: the inputs of a tile's rows share the first 16 registers there.
    """
    paired = machine.by_lane and machine.itemsize == 4
    return replace(machine, pairs=paired and steps >= PAIRED_STEPS and products >= PAIRED_PRODUCTS)


PAIRED_PRODUCTS = 1 << 23
"""Fewer are not worth the code: loops of paired loads run more steps at a time."""


def _cycles(
    rows: int,
    height: int,
    vectors_total: int,
    vectors: int,
    depth: int,
    machine: Machine,
    broadcast: bool,
    streamed: bool,
) -> float:
    """Sum over full and partial tiles of the slowest of FMA issue, loads and FMA latency, what shows of the latency all
    the same, and a cost per tile.

    By cache lines count the weights that come from L2 and the sums after the first 12, which are not all written while
    the next tile begins.
    """
    total = 0.0
    lines = machine.lanes * machine.itemsize / (4 * LINE)
    by_lane = machine.by_lane and broadcast
    from_l2 = streamed and machine.itemsize * machine.lanes * vectors * depth > machine.l1 // 2
    from_l2 |= by_lane and rows <= height  # nothing is read twice
    for n, h in ((rows // height, height), (1, rows % height)):
        for m, v in ((vectors_total // vectors, vectors), (1, vectors_total % vectors)):
            if not (n and h and m and v):
                continue
            inputs = h / machine.lanes if by_lane else h
            loads = (v if streamed else 0) + (inputs if broadcast else h * v)
            paired = machine.pairs and fits(h, v, replace(machine, registers_by_lane=2), broadcast, streamed)
            own = LOOP_OF_PAIRS if paired else 1
            step = machine.beside * (inputs / (2 if paired else 1) + -(-v // 2) + own) if broadcast else 0
            reading = loads / machine.load_ports * (UNEVEN_LOADS if machine.exposed and broadcast and h > 1 else 1)
            step += max(h * v / machine.fma_ports, reading, machine.fma_latency if h * v else 0)
            hidden = h * v / machine.fma_ports / machine.fma_latency
            step += machine.exposed * machine.fma_latency / max(1, hidden) ** 3
            step += L2_CYCLES * v * lines if from_l2 else 0
            total += n * m * (step * depth + 8 + 2 * h * v + max(0, h * v - 12) * lines)
    return total


def are_far(weights: int, machine: Machine) -> bool:
    """Whether so many weights come from beyond L2, which those of other kernels fill as well."""
    return machine.itemsize * weights > machine.l2 // 2


LOOP_OF_PAIRS = 0.25
"""Of instructions of the loop itself, a step's part where a trip is 8 steps, of which the compiler takes two at a time;
else a trip is 4 steps and moves more addresses: 1."""

LINE = 16
"""Elements of a cache line."""

LONG_RUN = 2 * LINE

WIDEST_ALONE = 2
"""Vectors of a depthwise tile, at most, but of those that are long."""

TALLEST_BY_LANE = 7
"""Rows of a depthwise tile: they divide 7, 14, 28, 56 and 112, and its two vectors' sums leave registers for a window's
pixels."""

UNEVEN_LOADS = 1.12
"""Where a late load holds sums up, as many loads as can start in a step's cycles take longer than these: with AVX2 on
Zen 4, a step of 13 x 8 takes 8 cycles for its 14 loads, one of 5 x 16 takes 5.75 for ten sums."""

L2_CYCLES = 0.2
"""What is seen of a line's way from L2, which is known long before."""
