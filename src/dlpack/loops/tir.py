"""The one door to TVM: tensor expressions, schedules and the passes up to plain loops.

TVM's Python API moves between versions; everything the project uses of it is named here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def _without_torch() -> Iterator[None]:
    """While TVM is imported: its FFI imports an installed PyTorch, which takes seconds and serves us nothing."""
    if "torch" in sys.modules:
        yield
        return
    modules: dict[str, Any] = sys.modules
    modules["torch"] = None  # what Python takes for a module that cannot be imported
    try:
        yield
    finally:
        del modules["torch"]


with _without_torch():
    import tvm
    from tvm import te, tirx
    from tvm.s_tir import Schedule
    from tvm.s_tir import transform as s_transform
    from tvm.tirx import transform as transform

__all__ = ["Schedule", "loop_names", "lower", "new_schedule", "te", "tirx", "version"]

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


def loop_names(schedule: Schedule) -> dict[Any, str]:
    """A name for each loop variable: that of the block axis it runs along, or the axis' tile."""
    names: dict[Any, str] = {}
    _name_loops(schedule.mod["main"].body, names)
    return names


def _name_loops(s: Any, names: dict[Any, str]) -> None:
    kind = type(s).__name__
    if kind == "SeqStmt":
        for child in s.seq:
            _name_loops(child, names)
    elif kind == "SBlockRealize":
        for value, axis in zip(s.iter_values, s.block.iter_vars, strict=True):
            name = str(axis.var.name).removeprefix("v_")
            parts = [value.a, value.b] if type(value).__name__ == "Add" else [value]
            for part in parts:
                if type(part).__name__ == "Var":
                    names.setdefault(part, name)
                elif type(part).__name__ == "Mul" and type(part.a).__name__ == "Var":
                    names.setdefault(part.a, f"{name}_tile")
        _name_loops(s.block.body, names)
    elif hasattr(s, "body"):
        _name_loops(s.body, names)


def lower(schedule: Schedule) -> Any:
    """The scheduled function as plain loops: blocks gone, buffers still with their shapes."""
    module = schedule.mod
    for p in _PASSES:
        module = p(module)
    return module["main"]
