"""Plans of the arena for smaller sizes than the largest, where dimensions are open within bounds.

Kernels have one set of strides, so in a smaller run a block's last elements are never touched. Where the open dimension
is its outermost in memory, it takes as much less as the run has fewer rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from dlpack.loops.sizes import EXTENT
from dlpack.meaning.open_batch import OpenBatch
from dlpack.plan.memory import ALIGNMENT, Arena, plan_arena
from dlpack.plan.program import Program, Stage
from dlpack.plan.reach import Sizes, reaches

SIXTEENTHS = (1, 2, 4, 6, 8, 10, 12, 14, 16)
"""Of the largest size: up to where a plan may be made."""

WORTH = 16
"""A plan is kept if it saves a sixteenth of the next larger one."""


def with_stages(programs: Mapping[str, Program], opened: OpenBatch) -> dict[str, Program]:
    """The programs, one for each machine, with plans for smaller sizes: for the same sets of shapes in all of them."""
    made = {machine: list(_stages(program, opened)) for machine, program in programs.items()}
    kept: list[int] = []
    larger = 0
    for k, same in reversed(list(enumerate(zip(*made.values(), strict=True)))):
        size = stage_arena(same) + sum(-(-room // ALIGNMENT) * ALIGNMENT for room in stage_rooms(same))
        if not kept or size <= larger - max(larger // WORTH, ALIGNMENT):
            kept.insert(0, k)
            larger = size
    return {
        machine: replace(program, stages=tuple(made[machine][k] for k in kept)) for machine, program in programs.items()
    }


def stage_arena(same: Sequence[Stage]) -> int:
    """Bytes of the arena in a stage of the programs for several machines."""
    return max(stage.arena.size for stage in same)


def stage_rooms(same: Sequence[Stage]) -> list[int]:
    """Bytes of inputs and outputs in a stage of the programs for several machines."""
    return [max(rooms) for rooms in zip(*(stage.rooms for stage in same), strict=True)]


def _stages(program: Program, opened: OpenBatch) -> Iterator[Stage]:
    """A plan for each part of the largest size; of several sizes, of the first."""
    first, units = opened.bounds[0], [b.unit for b in program.bounds] or [1]
    inner = opened.count // len(first.sizes)
    numbers = {sum(n <= first.largest * part // SIXTEENTHS[-1] for n in first.sizes) for part in SIXTEENTHS}
    for number in sorted(n for n in numbers if n):
        last = number * inner - 1
        if number == len(first.sizes):
            yield Stage(last, program.arena, program.rooms)
            continue
        sizes = opened.sizes(last)
        axes = [b.axis for b in program.bounds] or [EXTENT]
        at = {axis: n // unit for axis, n, unit in zip(axes, sizes, units, strict=True)}
        yield _planned(program, last, at)


def _planned(program: Program, last: int, sizes: Sizes) -> Stage:
    steps, arena = program.shape_sets[0].steps, program.arena
    starts = {p.key: p.offset for p in program.shape_sets[0].places if p.loop < 0}
    needed: dict[str, int] = {}
    largest = program.shape_sets[last]
    rooms = [t.nbytes for t in (*largest.inputs, *largest.outputs)] if program.rooms else []
    for address, size in reaches(steps, {k.name: k.kernel for k in program.kernels}, sizes):
        if address.space == "arena" and address.place in starts:
            end = address.offset - starts[address.place] + size
            needed[address.place] = max(needed.get(address.place, 0), end)
        elif address.space in ("input", "output") and rooms:
            k = address.index + (len(program.inputs) if address.space == "output" else 0)
            rooms[k] = max(rooms[k], address.offset + size)
    items = [replace(i, size=min(i.size, needed.get(i.name, i.size))) for i in arena.items]
    own = [min(room, most) for room, most in zip(rooms, program.rooms, strict=True)]
    return Stage(last, _no_larger(plan_arena(items), arena), tuple(own))


def _no_larger(plan: Arena, whole: Arena) -> Arena:
    return plan if plan.size <= whole.size else replace(whole, items=plan.items)


def offsets(program: Program, stage: Stage, keys: Sequence[str]) -> list[int]:
    """Where the places of these keys lie in a stage's arena. Those of a loop's body lie in that loop's memory."""
    whole = program.arena.offsets
    places = {p.key: p for p in program.shape_sets[0].places}
    out = []
    for key in keys:
        p = places[key]
        item = f"scratch{p.loop}" if p.loop >= 0 else key
        out.append(stage.arena.offsets[item] + p.offset - whole[item])
    return out
