"""What follows the sums of a register tile, written once for all of its rows: the sums go through an array.

Written out, an activation is there as often as a tile has vectors, and again in each lower tile (loops/rests.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

from dlpack.loops.index import Linear
from dlpack.loops.ir import (
    Array,
    Block,
    Declare,
    Expr,
    For,
    Load,
    Op,
    Ref,
    Scope,
    Store,
    expressions,
    map_forms,
    map_stmts,
    walk,
)

LONG = 8
"""Operations behind each sum from which on they are written once in whole tiles, too; a call of the runtime counts as
so many."""


def once_for_all_rows(body: Block, name: str, rows: int, stride: int, written: set[str], least: int = 0) -> Block:
    """A tile's statements, of which the last store `rows` rows that lie `stride` apart in `written` buffers; `name`
    begins new names. They stay as they are where the rows differ in more than their addresses and sums, where there
    are fewer than `least` operations behind a sum, and where a loop would be as long as two rows."""
    first = next((k for k, s in enumerate(body) if _stores((s,), written)), len(body))
    head, tail = body[:first], body[first:]
    if rows < 3 or not tail or any(len(_stores((s,), written)) != 1 or not isinstance(s, Scope | Store) for s in tail):
        return body
    if sum(_work(e) for e in expressions(tail)) < least * len(tail):
        return body
    declared = {s.name: s for s in head if isinstance(s, Declare)}
    places = [_stores((s,), written)[0].index.const for s in tail]
    at = [(place - min(places)) // stride for place in places]
    parts = [tuple(s for s, row in zip(tail, at, strict=True) if row == r) for r in range(rows)]
    told = [_row(part, set(declared)) for part in parts]
    if any(row.shape != told[0].shape for row in told):
        return body
    steps = [b - a for a, b in zip(told[0].places, told[1].places, strict=True)]
    even = all([b - a for a, b in zip(x.places, y.places, strict=True)] == steps for x, y in pairwise(told))
    columns = zip(*(row.refs for row in told), strict=True)
    sums = list(dict.fromkeys(names for names in columns if len(set(names)) > 1))
    kinds = {(declared[n].dtype, declared[n].lanes) for names in sums for n in names}
    if not even or len({n for names in sums for n in names}) != rows * len(sums) or len(kinds) != 1:
        return body
    ((dtype, lanes),) = kinds
    array, row, each = f"{name}_sums", f"{name}_row", len(sums) * lanes
    stores = tuple(
        Store(array, Linear(r * each + k * lanes), Ref(dtype, lanes, names[r]), lanes)
        for r in range(rows)
        for k, names in enumerate(sums)
    )
    slots = {names[0]: k for k, names in enumerate(sums)}
    left = iter(steps)

    def from_array(e: Expr) -> Expr:
        if not isinstance(e, Ref) or e.name not in slots:
            return e
        return Load(dtype, lanes, array, Linear.var(row) * each + slots[e.name] * lanes, lanes)

    again = map_forms(parts[0], lambda form: form + Linear.var(row) * next(left))
    loop = For(row, 0, rows, 1, map_stmts(again, lambda s: [s], from_array), together=0)
    return (*head, Array(array, dtype, rows * each), *stores, loop)


@dataclass(frozen=True)
class _Row:
    """What stores a row: the statements without the constants of their addresses, and without the names of variables
    from outside, each in order."""

    shape: Block
    places: tuple[int, ...]
    refs: tuple[str, ...]


def _row(part: Block, outside: set[str]) -> _Row:
    places: list[int] = []
    refs: list[str] = []

    def form(index: Linear) -> Linear:
        places.append(index.const)
        return Linear(0, index.terms)

    def ref(e: Expr) -> Expr:
        if not isinstance(e, Ref) or e.name not in outside:
            return e
        refs.append(e.name)
        return replace(e, name="")

    shape = map_stmts(map_forms(part, form), lambda s: [s], ref)
    return _Row(shape, tuple(places), tuple(refs))


def _work(e: Expr) -> int:
    return 0 if not isinstance(e, Op) else LONG if e.op.isidentifier() and e.op not in SHORT else 1


SHORT = ("select", "cast", "max", "min", "fabs", "sqrt")
"""Operations with names that are one instruction or two."""


def _stores(body: Block, written: set[str]) -> list[Store]:
    return [s for s in walk(body) if isinstance(s, Store) and s.buffer in written]
