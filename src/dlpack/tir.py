"""The one door to TVM: tensor expressions, schedules and the passes up to plain loops.

TVM's Python API moves between versions; everything the project uses of it is named here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm
from tvm import te, tirx
from tvm.s_tir import Schedule
from tvm.s_tir import transform as s_transform
from tvm.tirx import transform as transform

__all__ = ["Schedule", "lower", "new_schedule", "te", "tirx", "version"]

version: str = tvm.__version__

_PASSES = (
    s_transform.CanonicalizeLoop(),
    s_transform.LowerInitBlock(),
    s_transform.PlanAndUpdateBufferAllocationLocation(),
    s_transform.ConvertBlocksToOpaque(),
    s_transform.CompactBufferAllocation(),
    s_transform.LowerMatchBuffer(),
    transform.StmtSimplify(),
    s_transform.LowerOpaqueBlock(),
    transform.StmtSimplify(),
)


def new_schedule(tensors: Sequence[te.Tensor]) -> Schedule:
    """A schedule over the PrimFunc that computes `tensors` (placeholders first, results last)."""
    func = te.create_prim_func(list(tensors))
    return Schedule(tvm.IRModule({"main": func}))


def lower(schedule: Schedule) -> Any:
    """The scheduled function as plain loops: blocks gone, buffers still with their shapes."""
    module = schedule.mod
    for p in _PASSES:
        module = p(module)
    return module["main"]
