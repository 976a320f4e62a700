"""Kernels of several launches: one after the other, each a kernel and a step of its own.

A GPU's blocks cannot wait for each other. Where a kernel's loops over blocks stand one after the other, the later ones
read what the earlier ones have left in scratch memory, and so are launched when these are done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from dlpack.loops.ir import Array, Block, For, Kernel, LoopAxis, Space, Stmt, expressions, walk
from dlpack.plan.program import CallStep, LoopStep, NamedKernel, Place, Program, ShapeSet, Step


@dataclass(frozen=True)
class _Part:
    """One launch: its kernel, and which of the whole kernel's arguments it takes."""

    kernel: NamedKernel
    arguments: tuple[int, ...]


def in_launches(program: Program) -> Program:
    """The program with each kernel of several launches cut into so many kernels. `NamedKernel.schedule` has a line for
    each; the multiply-adds are the middle one's, or of two the first one's."""
    parts = {k.name: _parts(k) for k in program.kernels if len(_grids(k.kernel)) > 1}
    if not parts:
        return program
    kernels = tuple(p.kernel for k in program.kernels for p in parts.get(k.name, [_Part(k, ())]))
    return replace(program, kernels=kernels, shape_sets=tuple(_set(s, parts) for s in program.shape_sets))


def _grids(kernel: Kernel) -> list[For]:
    """The outermost loops over blocks."""
    return [s for s in kernel.body if isinstance(s, For) and s.axis is LoopAxis.BLOCK]


def _parts(k: NamedKernel) -> list[_Part]:
    grids = _grids(k.kernel)
    schedules = k.schedule.split("\n")
    shared: Block = tuple(s for s in k.kernel.body if s not in grids)
    out = []
    for i, grid in enumerate(grids):
        used = _buffers((grid,))
        arrays = tuple(s for s in shared if isinstance(s, Array) and s.name in used)
        scratch = k.kernel.scratch if any(a.space is Space.SCRATCH for a in arrays) else 0
        numbers = [n for n, p in enumerate(k.kernel.params) if p.name in used]
        body = Kernel(tuple(k.kernel.params[n] for n in numbers), (*arrays, grid), scratch)
        macs = k.macs if i == _main(len(grids)) else 0
        title = f"{k.title} ({i + 1} of {len(grids)})"
        named = replace(k, name=f"{k.name}_{i + 1}", kernel=body, title=title, schedule=schedules[i], macs=macs)
        out.append(_Part(named, (*numbers, *([len(k.kernel.params)] if scratch else []))))
    return out


def _main(count: int) -> int:
    """Which of so many launches does most of the work."""
    return (count - 1) // 2


def _buffers(stmts: Block) -> set[str]:
    """The buffers that statements read or write."""
    touched: list[Stmt | object] = [*walk(stmts), *expressions(stmts)]
    return {buffer for node in touched if isinstance(buffer := getattr(node, "buffer", None), str)}


def _set(shapes: ShapeSet, parts: Mapping[str, Sequence[_Part]]) -> ShapeSet:
    steps = [_step(s, parts) for s in shapes.steps]
    ends = list(accumulate(len(s) for s in steps))

    def moved(p: Place) -> Place:
        """Places say by which steps they are used first and last."""
        return replace(p, first=ends[p.first] - len(steps[p.first]), last=ends[p.last] - 1)

    def named(name: str) -> str:
        return parts[name][_main(len(parts[name]))].kernel.name if name in parts else name

    blocks = tuple(replace(b, kernel=named(b.kernel)) for b in shapes.blocks)
    flat = tuple(s for inner in steps for s in inner)
    return replace(shapes, steps=flat, places=tuple(moved(p) for p in shapes.places), blocks=blocks)


def _step(step: Step, parts: Mapping[str, Sequence[_Part]]) -> list[Step]:
    if isinstance(step, LoopStep):
        return [replace(step, body=tuple(s for inner in step.body for s in _step(inner, parts)))]
    if not isinstance(step, CallStep) or step.kernel not in parts:
        return [step]
    return [
        replace(
            step,
            kernel=p.kernel.name,
            arguments=tuple(step.arguments[n] for n in p.arguments),
            in_place=frozenset(i for i, n in enumerate(p.arguments) if n in step.in_place),
        )
        for p in parts[step.kernel]
    ]
