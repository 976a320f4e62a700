"""The arena planner: an offset for every buffer, so that buffers alive at the same time do not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ALIGNMENT = 64
REPAIRED_ITEMS = 1000
REPAIRS = 100
"""A plan of so many items at most is repaired, in so many rounds, when it is not at the lower bound."""


@dataclass(frozen=True)
class Item:
    """A block of `size` bytes that is alive from step `first` to step `last`, both included."""

    name: str
    size: int
    first: int
    last: int


@dataclass(frozen=True)
class Arena:
    """`offsets` by name; `size` bytes in all, beside the lower bound (most bytes alive at once) and the naive sum.
    `items` are what lies in it."""

    offsets: dict[str, int]
    size: int
    lower_bound: int
    naive: int
    strategy: str
    items: tuple[Item, ...] = ()


def plan_arena(items: Sequence[Item]) -> Arena:
    """Tries several strategies and keeps the smallest arena. Sizes are rounded up to 64 bytes."""
    items = [Item(i.name, -(-i.size // ALIGNMENT) * ALIGNMENT, i.first, i.last) for i in items if i.size]
    if not items:
        return Arena({}, 0, 0, 0, "empty")
    bound = lower_bound(items)
    best: tuple[int, str, dict[str, int]] | None = None
    orders = {
        "largest first": sorted(items, key=lambda i: (-i.size, i.first)),
        "longest-lived first": sorted(items, key=lambda i: (i.first - i.last, -i.size)),
        "in order of use": sorted(items, key=lambda i: (i.first, -i.size)),
        "largest in bytes and steps first": sorted(items, key=lambda i: (-i.size * (i.last - i.first + 1), i.first)),
    }
    for name, order in orders.items():
        offsets, size = _first_fit(order)
        if best is None or size < best[0]:
            best = (size, name, offsets)
        if best[0] == bound:
            break
    assert best is not None
    if best[0] > bound and len(items) <= REPAIRED_ITEMS:
        best = min(best, _repair(items, orders[best[1]], best, bound), key=lambda b: b[0])
    return Arena(best[2], best[0], bound, sum(i.size for i in items), best[1], tuple(items))


def _repair(
    items: Sequence[Item], order: Sequence[Item], best: tuple[int, str, dict[str, int]], bound: int
) -> tuple[int, str, dict[str, int]]:
    """Places again and again, each time with the item at the arena's top put first, and keeps the best plan seen."""
    now = list(order)
    offsets = best[2]
    for _ in range(REPAIRS):
        top = max(items, key=lambda i: (offsets[i.name] + i.size, i.name))
        now.remove(top)
        now.insert(0, top)
        offsets, size = _first_fit(now)
        if size < best[0]:
            best = (size, f"{best[1].removesuffix(', repaired')}, repaired", offsets)
        if size == bound:
            break
    return best


def lower_bound(items: Sequence[Item]) -> int:
    """The largest sum of bytes alive at one step: no plan can be smaller."""
    steps = max(i.last for i in items) + 2
    change = np.zeros(steps, dtype=np.int64)
    np.add.at(change, [i.first for i in items], [i.size for i in items])
    np.add.at(change, [i.last + 1 for i in items], [-i.size for i in items])
    return int(np.cumsum(change).max())


def _first_fit(order: Sequence[Item]) -> tuple[dict[str, int], int]:
    """Puts each item, in turn, at the lowest offset that is free for as long as it lives."""
    n = len(order)
    first, last = np.zeros(n, np.int64), np.zeros(n, np.int64)
    start, end = np.zeros(n, np.int64), np.zeros(n, np.int64)
    offsets: dict[str, int] = {}
    for k, item in enumerate(order):
        alive = np.flatnonzero((first[:k] <= item.last) & (last[:k] >= item.first))
        place = 0
        if alive.size:
            by_start = alive[np.argsort(start[alive], kind="stable")]
            starts, reach = start[by_start], np.maximum.accumulate(end[by_start])
            before = np.concatenate(([0], reach))
            after = np.concatenate((starts, [np.iinfo(np.int64).max]))
            place = int(before[np.argmax(after - before >= item.size)])
        first[k], last[k], start[k], end[k] = item.first, item.last, place, place + item.size
        offsets[item.name] = place
    return offsets, int(end.max())
