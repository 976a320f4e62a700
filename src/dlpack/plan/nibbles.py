"""Weights of four bits that stay packed in memory: where all kernels that read them can take them apart."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from dlpack.loops.ir import Kernel
from dlpack.loops.nibbles import RANGES, with_nibbles
from dlpack.plan.memory import ALIGNMENT
from dlpack.plan.program import Address, Place, Program, Step
from dlpack.plan.steps import calls, with_addresses
from dlpack.plan.weight_steps import DequantizeStep


def in_nibbles(program: Program, floats: int, dots: int = 0) -> Program:
    """The program with such weights two to a byte, in pairs of vectors: of `floats` where they become that, of four
    times `dots` where so many dot products are computed at once. 0: they stay bytes. A machine that has dot products of
    numbers with a sign makes no floats of them.

    A weight stays bytes where any kernel that reads it cannot change, or reads another weight in its place that cannot.
    """
    lanes = {"int8": floats or 4 * dots, "uint8": 4 * dots}
    made = {
        s.target.offset: s
        for s in program.prepare
        if isinstance(s, DequantizeStep) and lanes.get(s.target.dtype) and _in_range(s, program.weights)
    }
    kept = {at for at, s in made.items() if s.written % (2 * lanes[s.target.dtype]) == 0}
    if not kept:
        return program
    starts = sorted(p.offset for p in program.prepared_places)
    readers: dict[tuple[str, int], set[int]] = defaultdict(set)
    for call in (c for s in program.shape_sets for step in s.steps for c in calls(step)):
        for number, a in enumerate(call.arguments):
            if a.space == "prepared":
                start = starts[bisect_right(starts, a.offset) - 1]
                readers[call.kernel, number].add(start if start == a.offset and not any(a.steps) else -1)
    kernels = {k.name: k.kernel for k in program.kernels}
    while True:
        changed: dict[str, Kernel] = {}
        lost: set[int] = set()
        for (name, number), weights in readers.items():
            if not weights & kept:
                continue
            before = changed.get(name, kernels[name])
            kernel = with_nibbles(before, number, lanes[before.params[number].dtype]) if weights <= kept else None
            if kernel is None:
                lost |= weights & kept
            else:
                changed[name] = kernel
        if not lost:
            break
        kept -= lost
    return _with(program, kept, changed, lanes) if kept else program


def _in_range(step: DequantizeStep, weights: bytes) -> bool:
    """Whether four bits hold all of a weight's numbers."""
    if step.zeros is not None:
        return False
    table, (lowest, highest) = (
        np.frombuffer(weights, np.float32, 1 << step.bits, step.table.offset),
        RANGES[step.target.dtype],
    )
    return bool(table.min() >= lowest and table.max() <= highest)


def _with(program: Program, packed: set[int], kernels: dict[str, Kernel], lanes: Mapping[str, int]) -> Program:
    """The program with the weights at these places packed, and the prepared weights behind them moved up."""
    places: list[Place] = []
    moved: dict[int, int] = {}
    end = 0
    for p in sorted(program.prepared_places, key=lambda p: p.offset):
        moved[p.offset] = end
        p = replace(p, nbytes=p.nbytes // 2, dtype="int4") if p.offset in packed else p
        places.append(replace(p, offset=end))
        end += -(-places[-1].nbytes // ALIGNMENT) * ALIGNMENT
    starts = sorted(moved)

    def address(a: Address) -> Address:
        if a.space != "prepared":
            return a
        start = starts[bisect_right(starts, a.offset) - 1]
        return replace(a, offset=moved[start] + a.offset - start, dtype="uint8" if start in packed else a.dtype)

    def prepared(s: Step) -> Step:
        if isinstance(s, DequantizeStep) and s.target.offset in packed:
            s = replace(s, written=s.written // 2, pairs=lanes[s.target.dtype])
        moved_up: Step = with_addresses(s, address)
        return moved_up

    return replace(
        program,
        shape_sets=tuple(
            replace(s, steps=tuple(with_addresses(t, address) for t in s.steps)) for s in program.shape_sets
        ),
        kernels=tuple(replace(k, kernel=kernels.get(k.name, k.kernel)) for k in program.kernels),
        prepare=tuple(prepared(s) for s in program.prepare),
        prepared=end,
        prepared_places=tuple(places),
    )
