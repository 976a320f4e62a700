"""What a kernel costs on a GPU: the model that tiles are chosen by (docs/decisions/0031-gpu-kernels.md).

A launch takes ``max(issue, shared-memory wavefronts, bytes / bandwidth) + gap``. Nothing is searched on a device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from dlpack.targets.gpu.machine import Gpu

WARP = 32
SCHEDULERS = 4
"""Of a processor: each starts an instruction of one warp per cycle."""

LATENCY = 600
"""Cycles of a step of the reduction in which a block alone on its processor computes nothing: it waits for what it has
loaded, stores it to shared memory, and meets at two barriers. Other blocks compute meanwhile."""

OVERHEAD = 12
"""Instructions of each thread in a step of the reduction beside products and loads: addresses, stores, barriers."""

NARROWEST = 32
"""The fewest columns of a tile."""


@dataclass(frozen=True)
class Tile:
    """A block computes `rows` x `columns` outputs, `depth` steps of the reduction at a time; a thread computes `high` x
    `wide` of them. `slices` groups of threads take every so many steps of the reduction each, and add up in the end; so
    do `parts` blocks, whose sums a second launch adds up."""

    rows: int
    columns: int
    high: int
    wide: int
    depth: int = 16
    slices: int = 1
    parts: int = 1

    @property
    def group(self) -> int:
        """Threads that compute the whole tile, for one slice of the reduction."""
        return self.rows // self.high * (self.columns // self.wide)

    @property
    def threads(self) -> int:
        return self.group * self.slices

    @property
    def row_pitch(self) -> int:
        """Floats from one row of x to the next in shared memory: four more than are read, so that the rows of a warp's
        threads lie in different banks."""
        return self.depth + 4

    @property
    def shared_floats(self) -> int:
        """The tiles of x and w of all slices; the sums of all but one later lie in the same place."""
        tiles = self.slices * (self.rows * self.row_pitch + self.depth * self.columns)
        return max(tiles, (self.slices - 1) * self.rows * self.columns)


def tiles(gpu: Gpu, k: int) -> Iterator[Tile]:
    """The tiles that fit a GPU, for a reduction of `k` steps."""
    shapes = ((16, NARROWEST, 2, 4), (16, 64, 2, 4), (32, 32, 4, 4), (32, 64, 4, 4), (64, 64, 4, 8), (64, 64, 8, 4),
              (128, 64, 8, 8), (128, 128, 8, 8))  # fmt: skip
    for rows, columns, high, wide in shapes:
        for slices in (1, 2, 4):
            tile = Tile(rows, columns, high, wide, 16 if k > 8 else 8, slices)
            fits = tile.shared_floats * 4 <= gpu.shared_bytes and tile.threads <= max(gpu.threads, tile.group)
            if fits and (slices == 1 or slices * tile.depth < k) and tile.threads <= 512:
                yield tile


def gemm_seconds(gpu: Gpu, tile: Tile, batch: int, m: int, n: int, k: int) -> float:
    """The estimated time of ``batch`` products [m, k] x [k, n] with a tile."""
    blocks = blocks_of(tile, batch, m, n)
    warps = max(1, tile.threads // WARP)
    steps = -(-k // (tile.depth * tile.slices * tile.parts))
    # of all threads of a block, for `depth` steps of each slice
    products = tile.high * tile.wide * tile.depth
    loads = tile.depth * (tile.high + tile.wide) / 4
    moved = tile.depth * (tile.rows + tile.columns) / tile.group
    issue = warps * (products * SCHEDULERS * WARP / gpu.fma + loads + 2 * moved + OVERHEAD) / SCHEDULERS
    wavefronts = warps * loads * 128 / gpu.shared_wavefront
    busy = max(issue, wavefronts)
    resident = max(1, min(gpu.shared_total // (tile.shared_floats * 4), gpu.resident // tile.threads,
                          gpu.registers // (tile.threads * registers(tile))))  # fmt: skip
    per_processor = -(-blocks // gpu.processors)
    together = min(resident, per_processor)
    cycles = per_processor / together * steps * max(busy * together, busy + LATENCY) + 2 * LATENCY
    loaded = 4 * batch * (-(-n // tile.columns) * m * k + -(-m // tile.rows) * k * n) + 4 * batch * m * n
    unique = 4 * batch * (m * k + k * n + m * n)
    moving = max(loaded / gpu.l2, unique / gpu.memory if unique > gpu.l2_bytes else 0)
    seconds = max(cycles / (gpu.clock * 1e6), moving) + gap(gpu, blocks)
    return seconds + (sum_seconds(gpu, tile.parts, batch * m * n) if tile.parts > 1 else 0)


def blocks_of(tile: Tile, batch: int, m: int, n: int) -> int:
    """How many blocks compute ``batch`` products of m rows and n columns."""
    return batch * -(-m // tile.rows) * -(-n // tile.columns) * tile.parts


def sum_seconds(gpu: Gpu, parts: int, outputs: int) -> float:
    """The estimated time of the launch that adds up what `parts` blocks have left of each of `outputs` sums; it reads
    what the first launch has just written, so that this counts twice."""
    threads = -(-outputs // 4)
    blocks = -(-threads // threads_for(gpu, threads))
    waits = (parts // 4 + 2) * LATENCY / (gpu.clock * 1e6)
    return traffic_seconds(gpu, 4 * outputs * (2 * parts + 1), blocks) + waits


def threads_for(gpu: Gpu, items: int) -> int:
    """Threads of a block, so that few items still occupy many processors: a power of two from 32 on."""
    threads = gpu.threads
    while threads > 32 and items < threads * gpu.processors:
        threads //= 2
    return threads


def registers(tile: Tile) -> int:
    """Registers of a thread: its sums, the vectors that they are made of, and about 40 for addresses."""
    return tile.high * tile.wide + 4 * tile.high + tile.wide + 40


def gap(gpu: Gpu, blocks: int) -> float:
    """What a launch costs beside its work."""
    return gpu.launch + gpu.block * max(0, blocks - gpu.processors)


PARTS = (2, 3, 4, 6, 8, 12, 16)
"""Among how many blocks a reduction may be shared, where the tiles are fewer than a GPU's processors."""


def choose_tile(gpu: Gpu, batch: int, m: int, n: int, k: int, alone: bool = False) -> tuple[Tile, float]:
    """The fastest tile by the model, and its time in seconds; `alone`: no blocks share a reduction."""
    found = list(tiles(gpu, k))
    for tile in () if alone else tuple(found):
        few = blocks_of(tile, batch, m, n) < gpu.processors
        found += [replace(tile, parts=p) for p in PARTS if few and 2 * p * tile.slices * tile.depth <= k]
    timed = [(gemm_seconds(gpu, tile, batch, m, n, k), tile) for tile in found]
    seconds, tile = min(timed, key=lambda t: (t[0], t[1].parts, t[1].threads))
    return tile, seconds


def traffic_seconds(gpu: Gpu, nbytes: int, blocks: int) -> float:
    """The estimated time of a kernel that is bound by what it reads and writes, `nbytes` in all: from L2 where they
    fit, and from memory otherwise; few blocks have a part of the bandwidth."""
    bandwidth = gpu.l2 if nbytes <= gpu.l2_bytes else gpu.memory
    return nbytes / (bandwidth * min(1.0, blocks / gpu.processors)) + gap(gpu, blocks)
