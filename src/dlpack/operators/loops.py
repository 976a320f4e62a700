"""Statements for what tensor expressions cannot say: running sums, scatters, selections, as plain loops.

A body is written with these and passed to `sequential`; the schedules leave it as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dlpack.loops.tir import te, tirx


def block(*statements: Any) -> Any:
    """The statements one after the other."""
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(list(statements))


def loop(name: str, extent: int, body: Callable[[Any], Any]) -> Any:
    """``for name in range(extent): body(name)``."""
    var = tirx.Var(name, "int32")
    return tirx.For(var, 0, extent, tirx.ForKind.SERIAL, body(var))


def nest(extents: Sequence[int], body: Callable[[list[Any]], Any], name: str = "i") -> Any:
    """Loops over all of a shape."""

    def level(d: int, index: list[Any]) -> Any:
        if d == len(extents):
            return body(index)
        return loop(f"{name}{d}", extents[d], lambda v: level(d + 1, [*index, v]))

    return level(0, [])


def when(condition: Any, then: Any, otherwise: Any = None) -> Any:
    return tirx.IfThenElse(condition, then, otherwise)


def store(buffer: Any, index: Sequence[Any], value: Any) -> Any:
    return tirx.BufferStore(buffer, value, list(index))


def load(buffer: Any, index: Sequence[Any]) -> Any:
    """An element; a buffer without dimensions has one."""
    return buffer[tuple(index)] if len(index) else buffer[()]


class Local:
    """A small array of the kernel's own; `declare` must stand before its first use."""

    def __init__(self, name: str, dtype: str, size: int = 1) -> None:
        self.buffer = tirx.decl_buffer((size,), dtype, name, scope="local")
        self.declare = tirx.AllocBuffer(self.buffer)

    def __getitem__(self, i: Any) -> Any:
        return self.buffer[i]

    def set(self, value: Any, i: Any = 0) -> Any:
        return tirx.BufferStore(self.buffer, value, [i])


def sequential(
    inputs: Sequence[Any],
    outputs: Sequence[tuple[Sequence[int], str]],
    body: Callable[[Sequence[Any], Sequence[Any]], Any],
) -> list[Any]:
    """Tensors of the given shapes and dtypes that ``body(input buffers, output buffers)``, a statement, computes."""
    shapes = [tuple(s) for s, _ in outputs]
    made = te.extern(shapes, list(inputs), body, name="out", dtype=[d for _, d in outputs])
    return list(made) if isinstance(made, list | tuple) or len(shapes) > 1 else [made]
