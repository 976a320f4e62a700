"""Loops along a dimension that is open within bounds: how many trips they have in a run.

A kernel is made for the most elements; strides and tiles are those of that size. In a run with fewer, the loops along
the dimension end earlier, with the tile or the vector in which the last element lies: what is computed beyond it is
never read by what comes before. Only sums must not go further, so the elements that they read there are filled first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dlpack.errors import UnsupportedError
from dlpack.loops.expressions import Operand
from dlpack.loops.index import DivMod, Linear
from dlpack.loops.ir import (
    FILLED,
    Array,
    Assign,
    Block,
    Declare,
    Expr,
    For,
    Gathered,
    Index,
    Kernel,
    Load,
    LoopAxis,
    Op,
    Open,
    Prefetch,
    Stmt,
    Store,
    expressions,
    map_stmts,
    walk,
)
from dlpack.loops.sizes import Size, Tag

_IDENTITY = {"+": 0.0, "*": 1.0, "max": float("-inf"), "min": float("inf")}


@dataclass(frozen=True)
class _Dim:
    stride: int
    extent: int
    most: int = 0
    """The extent of the open dimension of which this is a multiple; 0 where it is none."""


Opens = Mapping[int, Size | None]
"""The extents of open dimensions, and what they are in a run; None for the only one of a text or a batch."""


def opened(
    kernel: Kernel,
    operands: Sequence[Operand],
    shapes: Sequence[Any],
    tags: Sequence[Sequence[Tag]],
    constant: frozenset[int],
    opens: Opens,
) -> Kernel:
    """The kernel with loops that are open where a dimension's extent is a multiple of an open one's; `shapes` are the
    operands', and `constant` numbers those that are. `tags`, if there are some, say which dimensions are open.

    Raises UnsupportedError where a loop along it is none that can end earlier.
    """
    own = tags or [()] * len(operands)
    dims = {
        p.name: _dims(o, shape, tag, opens)
        for p, o, shape, tag in zip(kernel.params, operands, shapes, own, strict=True)
    }
    arrays = {s.name for s in walk(kernel.body) if isinstance(s, Array)}
    for s in walk(kernel.body):
        if isinstance(s, Array) and (most := _of(s.size, opens)):
            dims[s.name] = [_Dim(1, s.size, most)]  # or a tile's sums, of which no loop does all
    if not any(d.most for of in dims.values() for d in of):
        return kernel
    found: dict[str, Open] = {}
    tiles: set[int] = set()
    for s in walk(kernel.body):
        if isinstance(s, For) and (trips := _trips(s, dims, arrays, opens, tiles)):
            found[s.var] = trips
    if not tiles <= {trips.by for trips in found.values()}:
        raise UnsupportedError("runs along a part of the open dimension")
    for name, index in _accesses(kernel.body):
        if name in arrays:
            continue
        _check(index, dims.get(name, []), found)
    numbers = {p.name: k for k, p in enumerate(kernel.params)}
    constants = {p.name for k, p in enumerate(kernel.params) if k in constant}
    fills: dict[int, float] = {}
    summed: set[str] = set()
    for s in walk(kernel.body):
        if isinstance(s, For) and s.var in found and not found[s.var].exact:
            for name, value in _summed(s, found[s.var], constants):
                if name not in numbers:
                    summed.add(name)
                elif fills.setdefault(numbers[name], value) != value:
                    raise UnsupportedError("reduces the open dimension in two ways")
    for s in walk(kernel.body):
        if isinstance(s, For) and s.var in found and any(isinstance(x, Store) and x.buffer in summed for x in s.body):
            found[s.var] = replace(found[s.var], filled=True)
    shared = {found.get(s.var) for s in walk(kernel.body) if isinstance(s, For) and s.axis is LoopAxis.PARALLEL}
    if len(shared) > 1:
        raise UnsupportedError("has several loops for threads")
    body = map_stmts(
        kernel.body, lambda s: [replace(s, open=found.get(s.var)) if isinstance(s, For) else s], lambda e: e
    )
    return replace(kernel, body=body, open_trips=next(iter(shared), None), fills=tuple(fills.items()))


def _of(extent: int, opens: Opens) -> int:
    """The extent of the open dimension of which another is a multiple, if there is one."""
    return next((n for n in sorted(opens, reverse=True) if extent % n == 0), 0)


def _dims(operand: Operand, shape: Sequence[Any], tags: Sequence[Tag], opens: Opens) -> list[_Dim]:
    """The dimensions that an address can tell apart."""
    packed = {d for d, _ in operand.layout.blocks}
    own = [int(n) // tag[1] if tag else 0 for n, tag in zip(shape, tags, strict=True)] if tags else None
    return [
        _Dim(stride, int(n), own[d] if own else _of(int(n), opens))
        for d, (n, stride) in enumerate(zip(shape, operand.layout.strides, strict=True))
        if d not in packed and stride and int(n) > 1
    ]


def _trips(loop: For, dims: dict[str, list[_Dim]], arrays: set[str], opens: Opens, tiles: set[int]) -> Open | None:
    """None where the loop runs along no open dimension, or within a tile, whose size then is in `tiles`."""
    found: set[Open | None] = set()
    for name, index in _accesses(loop.body):
        for atom, step in index.terms:
            if name not in dims or not (atom == loop.var or (isinstance(atom, DivMod) and atom.form.uses(loop.var))):
                continue
            along = max((d for d in dims[name] if d.stride <= abs(step)), key=lambda d: d.stride, default=None)
            if along is None or not along.most:
                found.add(None)
                continue
            if atom != loop.var:
                raise UnsupportedError("divides its index along the open dimension")
            by, rest = divmod(step, along.stride)
            less = along.extent - by * loop.end
            one_by_one = by == 1 and less <= 1  # perhaps but the first or the last
            if not rest and loop.step == 1 and (one_by_one or not (loop.begin or less)):
                found.add(Open(along.extent // along.most, by, less=less, size=opens[along.most]))
            elif name not in arrays:
                if rest or loop.begin or loop.step != 1:
                    raise UnsupportedError("runs along a part of the open dimension")
                tiles.add(by * loop.end)
                found.add(None)
    if len(found) > 1:
        raise UnsupportedError("runs along the open dimension and another at once")
    return next(iter(found), None)


def _check(index: Linear, dims: list[_Dim], found: dict[str, Open]) -> None:
    """An access has a loop along the open dimension, or takes its first element."""
    for d in dims:
        if d.most:
            steps = [abs(c) for a, c in index.terms if isinstance(a, str) and a in found]
            along = any(d.stride <= step < d.stride * d.extent for step in steps)
            if not along and index.const // d.stride % d.extent * d.most >= d.extent:
                raise UnsupportedError("takes elements of the open dimension that may not be there")


def _accesses(body: Block) -> Iterator[tuple[str, Linear]]:
    for s in walk(body):
        if isinstance(s, Store | Prefetch):
            yield s.buffer, s.index
    for e in expressions(body):
        if isinstance(e, Load):
            yield e.buffer, e.index
        elif isinstance(e, Gathered):
            for form in _forms(e.index):
                yield e.buffer, form


def _forms(e: Expr) -> Iterator[Linear]:
    """What loop variables add to an address that is data."""
    if isinstance(e, Index):
        yield e.form
    elif isinstance(e, Op):
        for a in e.args:
            yield from _forms(a)


def _summed(loop: For, trips: Open, constants: set[str]) -> Iterator[tuple[str, float]]:
    """What a loop reduces, and the value that changes nothing. Where it reduces a sum or a product, that is for the
    first operand that is not constant, and the others may have any finite number."""
    within = {s.name for s in walk(loop.body) if isinstance(s, Declare | Array)}
    for s in walk(loop.body):
        if not _accumulates(s, loop.var, within):
            continue
        value = s.value  # type: ignore[attr-defined]
        if not isinstance(value, Op) or value.op not in _IDENTITY:
            raise UnsupportedError("reduces the open dimension by an operator that has no neutral element")
        if FILLED * trips.times % trips.by:
            raise UnsupportedError("reduces too much of the open dimension at a time")
        reads = [e.buffer for e in expressions((s,)) if isinstance(e, Load) and e.index.uses(loop.var)]
        names = [r for r in dict.fromkeys(reads) if r not in within and r not in constants]
        if reads and not names:
            raise UnsupportedError("reduces a constant along the open dimension")
        for k, name in enumerate(names):
            yield name, _IDENTITY[value.op] if k == 0 else 0.0


def _accumulates(s: Stmt, var: str, within: set[str]) -> bool:
    """Whether a statement in a loop adds to what was there before the trip."""
    if isinstance(s, Assign):
        return s.name not in within
    if isinstance(s, Store):
        again = any(isinstance(e, Load) and e.buffer == s.buffer and e.index == s.index for e in expressions((s,)))
        return again and s.buffer not in within and not s.index.uses(var)
    return False
