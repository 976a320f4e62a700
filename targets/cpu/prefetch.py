"""Packed weights that are prefetched a block ahead, while the present block is used."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from dlpack.loops.prefetch import PREFETCH, PREFETCH_STEP, PREFETCH_TRIP
from dlpack.targets.cpu.machine import Machine
from dlpack.targets.cpu.state import State

MOST_TILES = 64
"""Tiles that share a block of weights, at most: for more of them its way to L2 does not count."""


def next_block_pays(machine: Machine, size: int, tiles: int) -> bool:
    """Whether the next block of `size` bytes of weights shall be fetched during the present one's `tiles`.

    A run of a network finds no weights in L1 and L2 but those of its last layers. Then the first tile of a block waits
    for memory, and the others leave it idle. By lane, a prefetch keeps Clang from pairing loads.
    """
    return not machine.by_lane and machine.lanes > 1 and size > machine.l1 and 1 < tiles <= MOST_TILES


def prefetch_next_block(
    state: State, steps: Sequence[Any], around: Sequence[Any], columns: int, trips: Sequence[int] = ()
) -> None:
    """Lets each trip of the loops `around` a tile's sums, the outermost first, prefetch its part of the next block.

    `steps` are the loops over the block, in the order in which it is packed, `columns` elements for each step. `trips`:
    those of the loops around, if these say it otherwise.
    """
    extents = list(trips) or [int(state.sch.get(loop).extent) for loop in around]
    lengths = [int(state.sch.get(loop).extent) for loop in steps]
    part = -(-columns // prod(extents))
    state.sch.annotate(steps[-1], PREFETCH, prod(lengths) * columns)
    state.sch.annotate(steps[-1], PREFETCH_STEP, part)
    for k, loop in enumerate(steps[:-1]):  # whose trips have moved by whole steps already
        state.sch.annotate(loop, PREFETCH_TRIP, prod(lengths[k + 1 :]) * (part - columns))
    for k, loop in enumerate(around):
        state.sch.annotate(loop, PREFETCH_TRIP, prod([*extents[k + 1 :], *lengths]) * part)
