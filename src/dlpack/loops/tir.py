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
    """A name for each loop variable: that of the block axis it runs along, of the axis' tile, or of its band."""
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
            factors = dict(sorted(_factors(value), key=lambda term: term[1]))
            outer = [var for var, factor in factors.items() if factor > 1]
            for var in factors:
                end = "" if var not in outer else "_tile" if var is outer[0] else "_band"
                names.setdefault(var, name + end)
        _name_loops(s.block.body, names)
    elif hasattr(s, "body"):
        _name_loops(s.body, names)


def _factors(e: Any, factor: int = 1) -> list[tuple[Any, int]]:
    """The variables of a sum, each with what it is multiplied by."""
    kind = type(e).__name__
    if kind == "Var":
        return [(e, factor)]
    if kind == "Add":
        return _factors(e.a, factor) + _factors(e.b, factor)
    if kind == "Mul" and type(e.b).__name__ == "IntImm":
        return _factors(e.a, factor * int(e.b.value))
    return []


def lower(schedule: Schedule) -> Any:
    """The scheduled function as plain loops: blocks gone, buffers still with their shapes."""
    module = schedule.mod
    for p in _PASSES:
        module = p(module)
    return module["main"]
