"""Sums of products in float16, by parts: after some steps what is summed is added to a sum in float32.

A sum of K products in float16 is off by 2e-3 of the results at K = 128 and by 1e-2 at K = 4,608; by parts of 128 steps
it is off by 1e-3 whatever K is. The sums in float32 lie in memory, since the registers hold the tile in float16.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from dlpack.loops.index import Linear
from dlpack.loops.ir import (
    HALF,
    Array,
    Assign,
    Block,
    Const,
    Declare,
    Expr,
    For,
    Kernel,
    Load,
    Op,
    Ref,
    Scope,
    Stmt,
    Store,
    children,
    map_blocks,
    map_exprs,
    walk,
)
from dlpack.loops.lanes import at_place

MOST_STEPS = 160
"""Steps of a sum between two additions in float32."""

PART_SIZES = (128, 112, 96, 80, 64)
"""Steps of the parts of a longer loop: the first that divides the loop's steps, else the first."""


def in_parts(kernel: Kernel) -> Kernel:
    """The kernel with its long sums of float16 by parts."""
    taken = {s.name for s in walk(kernel.body) if isinstance(s, Declare | Array)} | {p.name for p in kernel.params}
    return replace(kernel, body=_block(kernel.body, taken))


@dataclass(frozen=True)
class _Sums:
    """The sums of a block, by name where each lies in `buffer`, an array of float32, and its lanes."""

    buffer: str
    places: Mapping[str, tuple[int, int]]

    def added(self) -> list[Stmt]:
        """The sums in float32 with those in float16 added, and these zero again."""
        out: list[Stmt] = []
        for name, (at, lanes) in self.places.items():
            wide = Op("float32", lanes, "cast", (Ref(HALF, lanes, name),))
            total = Op("float32", lanes, "+", (self.load(name), wide))
            out += [Store(self.buffer, Linear(at), total, lanes), Assign(name, _zero(HALF, lanes))]
        return out

    def load(self, name: str) -> Load:
        at, lanes = self.places[name]
        return Load("float32", lanes, self.buffer, Linear(at), lanes)

    def steps(self, stmts: Iterable[Stmt]) -> int:
        """How often statements add to a sum."""
        counts = dict.fromkeys(self.places, 0)
        for s in stmts:
            if isinstance(s, Assign) and s.name in counts:
                counts[s.name] += 1
            elif isinstance(s, For | Scope):
                trips = (s.end - s.begin) // s.step if isinstance(s, For) else 1
                inside = trips * self.steps(s.body)
                counts = {name: n + inside for name, n in counts.items()}
        return max(counts.values(), default=0)


def _block(stmts: Block, taken: set[str]) -> Block:
    stmts = tuple(map_blocks(s, lambda block: _block(block, taken)) for s in stmts)
    zeros = [s for s in stmts if isinstance(s, Declare) and s.dtype == HALF and s.value == _zero(HALF, s.lanes)]
    sums = _Sums(
        _fresh("sums", taken), {d.name: (sum(e.lanes for e in zeros[:k]), d.lanes) for k, d in enumerate(zeros)}
    )
    if sums.steps(stmts) <= MOST_STEPS:
        return stmts
    taken.add(sums.buffer)
    size = sum(d.lanes for d in zeros)
    first = next(k for k, s in enumerate(stmts) if s in zeros)
    begun: list[Stmt] = [Array(sums.buffer, "float32", size)]
    begun += [Store(sums.buffer, Linear(at), _zero("float32", n), n) for at, n in sums.places.values()]
    last = max(k for k, s in enumerate(stmts) if sums.steps((s,)))
    summed = _parts(stmts[first : last + 1], sums)
    return (*stmts[:first], *begun, *summed, *(_from_float32(s, sums) for s in stmts[last + 1 :]))


def _parts(stmts: Sequence[Stmt], sums: _Sums) -> list[Stmt]:
    """The statements with additions in float32 among them and at the end."""
    out: list[Stmt] = []
    pending = 0
    for s in stmts:
        steps = sums.steps((s,))
        if pending and pending + steps > MOST_STEPS:
            out += sums.added()
            pending = 0
        if steps <= MOST_STEPS:
            out.append(s)
            pending += steps
        elif isinstance(s, For):
            out += _loop(s, sums)
        else:
            assert isinstance(s, Scope)
            out.append(replace(s, body=tuple(_parts(s.body, sums))))
    return [*out, *sums.added()] if pending else out


def _loop(loop: For, sums: _Sums) -> list[Stmt]:
    """A loop of too many steps."""
    extent, each = loop.end - loop.begin, sums.steps(loop.body)
    if each > MOST_STEPS:
        return [replace(loop, body=tuple(_parts(loop.body, sums)))]
    fitting = range(MOST_STEPS // each, 0, -1) if each > 1 else PART_SIZES
    size = next((n for n in fitting if extent % n == 0), PART_SIZES[0])
    trips, rest = divmod(extent, size)
    part = f"{loop.var}_part"
    body = loop.body
    if size > 1:
        place = Linear.var(loop.var) + Linear.var(part) * size + loop.begin
        body = (replace(loop, begin=0, end=size, body=tuple(at_place(loop.body, loop.var, place))),)
    out: list[Stmt] = [For(part if size > 1 else loop.var, 0, trips, 1, (*body, *sums.added()))]
    if size == 1:
        out = [replace(loop, body=(*body, *sums.added()))]
    return [*out, replace(loop, begin=loop.end - rest), *sums.added()] if rest else out


def _from_float32(s: Stmt, sums: _Sums) -> Stmt:
    """A statement behind the sums, which reads them in float32."""

    def narrow(e: Expr) -> Expr:
        if isinstance(e, Op) and e.op == "cast" and e.dtype == "float32" and is_sum(e.args[0]):
            return children(e.args[0])[0]
        if isinstance(e, Ref) and e.name in sums.places:
            return Op(HALF, e.lanes, "cast", (sums.load(e.name),))
        return e

    def is_sum(e: Expr) -> bool:
        return isinstance(e, Op) and e.op == "cast" and isinstance(e.args[0], Load) and e.args[0].buffer == sums.buffer

    return map_exprs(map_blocks(s, lambda block: tuple(_from_float32(t, sums) for t in block)), narrow)


def _zero(dtype: str, lanes: int) -> Expr:
    return Op(dtype, lanes, "splat", (Const(dtype, 1, 0.0),))


def _fresh(stem: str, taken: set[str]) -> str:
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}{number}"
    return name
