"""What the steps of a run are made of: their addresses, and the calls of kernels in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

from dlpack.plan.program import (
    Address,
    CallStep,
    CopyStep,
    CountStep,
    FewCall,
    FillStep,
    HaloStep,
    LoopStep,
    PixelsStep,
    RowsStep,
    ShareStep,
    SpreadStep,
    Step,
    TapsStep,
)


def operands(step: Step) -> tuple[Address, ...]:
    """All that a step of a run reads or writes."""
    if isinstance(step, CallStep):
        return (*step.arguments, *(step.few.arguments if step.few else ()))
    if isinstance(step, LoopStep):
        return tuple(a for inner in step.body for a in operands(inner))
    if isinstance(step, CopyStep | SpreadStep | PixelsStep):
        return step.source, step.target
    if isinstance(step, TapsStep):
        return (step.places, *([step.weights] if step.weights else []))
    assert isinstance(step, HaloStep | FillStep | ShareStep | CountStep | RowsStep)
    return (step.target,)


def calls(step: Step) -> Iterator[CallStep | FewCall]:
    """The calls of kernels in a step: also that for a small picture, and of a loop those of its body."""
    if isinstance(step, CallStep):
        yield from (step, step.few) if step.few else (step,)
    elif isinstance(step, LoopStep):
        for inner in step.body:
            yield from calls(inner)


def with_addresses(value: Any, f: Callable[[Address], Address]) -> Any:
    """A step, or a part of one, with each address in it passed through `f`."""
    if isinstance(value, Address):
        return f(value)
    if isinstance(value, tuple):
        return tuple(with_addresses(v, f) for v in value)
    if isinstance(value, Step | FewCall):
        return replace(value, **{x.name: with_addresses(getattr(value, x.name), f) for x in fields(value)})
    return value
