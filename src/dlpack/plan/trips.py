"""What the steps of a loop's body read and write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from dlpack.plan.program import Address, CallStep, CopyStep, HaloStep, LoopStep, Program, Step
from dlpack.plan.steps import operands


def overwritable(body: Program, state: int) -> set[str] | None:
    """Whether a body may write its output `state` over its input of that number; None where it may not.

    It may when every reader of the input runs before the output is written, or is the kernel that writes it and reads
    at the same places; such kernels are returned, since their pointers are then equal. The output is written where a
    step first names it. A loop within the body counts as one step.
    """
    equal: set[str] = set()
    written = False
    for step in body.steps:
        arguments = operands(step)
        reads = {i for i, a in enumerate(arguments) if a.space == "input" and a.index == state}
        names = any(a.space == "output" and a.index == state for a in arguments)
        if reads and (written or names):
            if written or not isinstance(step, CallStep) or not reads <= step.in_place:
                return None
            equal.add(step.kernel)
        written |= names
    return equal


def fills_borders(steps: Iterable[Step]) -> bool:
    return any(isinstance(s, HaloStep) or (isinstance(s, LoopStep) and fills_borders(s.body)) for s in steps)


def rebound(step: Step, kernels: Mapping[str, str], bound: Callable[[Address], Address]) -> Step:
    """A body's step with the loop's operands and names of kernels."""
    if isinstance(step, CallStep):
        return replace(step, kernel=kernels[step.kernel], arguments=tuple(bound(a) for a in step.arguments))
    if isinstance(step, HaloStep):
        return replace(step, target=bound(step.target))
    if isinstance(step, CopyStep):
        return replace(step, source=bound(step.source), target=bound(step.target))
    assert isinstance(step, LoopStep)
    return replace(step, body=tuple(rebound(s, kernels, bound) for s in step.body))
