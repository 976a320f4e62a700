"""The arena planner: buffers alive together never overlap, the plan is tight, and planning is fast."""

from __future__ import annotations

import random
import time

import pytest

from dlpack.plan.memory import ALIGNMENT, Item, lower_bound, plan_arena


def check(items: list[Item]) -> None:
    arena = plan_arena(items)
    placed = [(arena.offsets[i.name], arena.offsets[i.name] + i.size, i) for i in items]
    for start, end, item in placed:
        assert start % ALIGNMENT == 0 and end <= arena.size
        for start2, end2, other in placed:
            together = item.first <= other.last and other.first <= item.last
            assert item is other or not together or end <= start2 or end2 <= start, (item, other)
    assert arena.lower_bound <= arena.size <= arena.naive


@pytest.mark.parametrize("seed", range(5))
def test_buffers_alive_together_do_not_overlap(seed: int) -> None:
    rng = random.Random(seed)
    items = []
    for k in range(80):
        first = rng.randrange(60)
        items.append(Item(f"b{k}", rng.randrange(1, 5000), first, first + rng.randrange(8)))
    check(items)


def test_a_chain_needs_two_buffers() -> None:
    """Each step reads the last one's output: the arena is the largest neighbouring pair."""
    items = [Item(f"b{k}", 64 * (k % 7 + 1), k, k + 1) for k in range(100)]
    arena = plan_arena(items)
    assert arena.size == arena.lower_bound == 64 * (6 + 7)
    check(items)


def test_no_buffers_need_no_arena() -> None:
    assert plan_arena([]).size == 0


def test_lower_bound_is_the_largest_live_sum() -> None:
    assert lower_bound([Item("a", 64, 0, 2), Item("b", 128, 1, 1), Item("c", 64, 2, 3)]) == 192


def test_residual_chain_reaches_the_lower_bound() -> None:
    """The shape of a residual network: every second buffer lives on past two others."""
    items = [Item(f"b{k}", 4096 if k % 3 else 8192, k, k + (3 if k % 3 == 0 else 1)) for k in range(60)]
    arena = plan_arena(items)
    check(items)
    assert arena.size <= 1.1 * arena.lower_bound


def test_ten_thousand_operators_are_planned_in_seconds() -> None:
    """The cost is near linear: measured, about a second. The limit here only catches a quadratic planner."""
    rng = random.Random(1)
    items = [Item(f"b{k}", rng.randrange(1, 1 << 20), k, k + rng.randrange(1, 6)) for k in range(10_000)]
    began = time.process_time()
    arena = plan_arena(items)
    assert arena.size < arena.naive
    assert time.process_time() - began < 30
