"""What a schedule rule needs to know of a TVM block: its axes, and the stride of every access along each axis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dlpack.loops.expressions import dtype_of, operands_of
from dlpack.loops.index import Linear, Range, arithmetic
from dlpack.loops.layout import Layout

_DATA_PARALLEL, _REDUCTION = 0, 2
"""What TVM's `IterVar` calls a block's axes: those of its output, and those that it sums over."""


@dataclass(frozen=True)
class Axis:
    name: str
    extent: int


@dataclass(frozen=True)
class Access:
    """`strides[axis]` in elements (None: not linear there); `dimension_of[axis]`: the dimension it moves along."""

    buffer: Any
    strides: dict[str, int | None]
    dimension_of: dict[str, int]
    size: int


@dataclass(frozen=True)
class BlockInfo:
    spatial: tuple[Axis, ...]
    reduction: tuple[Axis, ...]
    reads: tuple[Access, ...]
    writes: tuple[Access, ...]
    dtype: str
    opaque: bool

    @property
    def reduces(self) -> bool:
        return bool(self.reduction)

    @property
    def extent_of_reduction(self) -> int:
        n = 1
        for a in self.reduction:
            n *= a.extent
        return n


def examine(block: Any, layout_of: Callable[[Any], Layout]) -> BlockInfo:
    spatial: list[Axis] = []
    reduction: list[Axis] = []
    env: dict[Any, Linear] = {}
    ranges: dict[str, Range] = {}
    opaque = False
    for it in block.iter_vars:
        axis = Axis(str(it.var.name), int(it.dom.extent))
        kind = int(it.iter_type)
        opaque |= kind not in (_DATA_PARALLEL, _REDUCTION)
        (reduction if kind == _REDUCTION else spatial).append(axis)
        env[it.var] = Linear.var(axis.name)
        ranges[axis.name] = (0, axis.extent - 1)
    loads: list[Any] = []
    stores: list[Any] = []
    _collect(block.body, loads, stores)
    if len(stores) != 1 or not block.iter_vars:
        opaque = opaque or len(stores) != len(block.writes)

    def access(buffer: Any, indices: Any) -> Access:
        layout = layout_of(buffer)
        forms = [_linear(i, env, ranges) for i in indices]
        size = 1
        for d in buffer.shape:
            size *= int(d)
        dims = {a: d for d, f in enumerate(forms) if f is not None for a in f.variables()}
        strides: dict[str, int | None]
        if any(f is None for f in forms):
            strides = {a: None for a in ranges}
            known = [(f, s) for f, s in zip(forms, layout.strides, strict=True) if f is not None]
            used = {a for i, f in zip(indices, forms, strict=True) if f is None for a in _names(i, env)}
            for a in ranges:
                if a not in used:
                    strides[a] = _sum([f.coefficient(a) for f, _ in known], [s for _, s in known])
        else:
            address = layout.address([f for f in forms if f is not None], ranges)
            strides = {a: address.coefficient(a) for a in ranges}
        return Access(buffer, strides, dims, size)

    return BlockInfo(
        tuple(spatial),
        tuple(reduction),
        tuple(access(x.source, x.indices) for x in loads),
        tuple(access(x.buffer, x.indices) for x in stores),
        dtype_of(stores[0].buffer) if stores else "",
        opaque,
    )


def _sum(coefficients: list[int | None], strides: list[int]) -> int | None:
    total = 0
    for c, s in zip(coefficients, strides, strict=True):
        if c is None:
            return None
        total += c * s
    return total


def _names(e: Any, env: dict[Any, Linear]) -> set[str]:
    out: set[str] = set()
    for n in _nodes(e):
        if type(n).__name__ == "Var" and n in env:
            out |= env[n].variables()
    return out


def _collect(s: Any, loads: list[Any], stores: list[Any]) -> None:
    for n in _nodes(s):
        kind = type(n).__name__
        if kind == "TensorLoad":
            loads.append(n)
        elif kind == "BufferStore":
            stores.append(n)


def _nodes(n: Any) -> Any:
    """All nodes below `n`, statements and expressions."""
    yield n
    kind = type(n).__name__
    if kind in ("SeqStmt",):
        children = list(n.seq)
    elif kind in ("For", "AttrStmt", "While"):
        children = [n.body]
    elif kind == "IfThenElse":
        children = [n.condition, n.then_case] + ([n.else_case] if n.else_case is not None else [])
    elif kind == "BufferStore":
        children = [n.value, *n.indices]
    elif kind == "Bind" or kind == "Evaluate":
        children = [n.value]
    else:
        children = operands_of(n)
    for c in children:
        yield from _nodes(c)


def _linear(e: Any, env: dict[Any, Linear], ranges: dict[str, Range]) -> Linear | None:
    kind = type(e).__name__
    if kind == "IntImm":
        return Linear(int(e.value))
    if kind == "Var":
        return env.get(e)
    if kind == "Cast":
        return _linear(e.value, env, ranges) if str(e.value.ty.dtype).startswith("int") else None
    if kind in ("Add", "Sub", "Mul", "FloorDiv", "FloorMod"):
        a, b = _linear(e.a, env, ranges), _linear(e.b, env, ranges)
        return None if a is None or b is None else arithmetic(kind, a, b, ranges)
    return None
