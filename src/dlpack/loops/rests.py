"""The last rows of an open dimension, where they do not fill a register tile: a lower tile does them.

A tile of fewer rows is the tile without what its further rows store, and without all that only these need.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from dlpack.loops.index import Linear
from dlpack.loops.ir import (
    After,
    Array,
    Assign,
    Block,
    Declare,
    For,
    Kernel,
    LoopAxis,
    Ref,
    Scope,
    Space,
    Stmt,
    Store,
    expressions,
    exprs,
    map_blocks,
    map_forms,
    map_stmts,
    walk,
    walk_expr,
)

IN_FLIGHT = 8
"""Fused multiply-adds that a processor has under way: a tile of fewer sums waits for its own."""


def with_rests(kernel: Kernel) -> Kernel:
    """The kernel with a second loop behind each open one over register tiles, for rows that are fewer than a tile's."""
    written = {p.name for p in kernel.params if p.written}
    written |= {s.name for s in walk(kernel.body) if isinstance(s, Array) and s.space is Space.SCRATCH}
    return replace(kernel, body=_with_rests(kernel.body, written))


def _with_rests(body: Block, written: set[str]) -> Block:
    out: list[Stmt] = []
    for s in body:
        s = map_blocks(s, lambda block: _with_rests(block, written))
        out.extend(_split(s, written) if isinstance(s, For) and s.open else [s])
    return tuple(out)


def _split(loop: For, written: set[str]) -> list[Stmt]:
    """The loop, whose last trip is left out where few rows remain, and one of lower tiles for these."""
    o = loop.open
    assert o is not None
    rows = o.by
    if (
        loop.axis is not LoopAxis.SERIAL
        or o.exact
        or o.filled
        or o.less
        or o.most
        or o.times != 1
        or rows < 2
        or loop.begin
    ):
        return [loop]
    stride = _stride(loop, written)
    stores = [s for s in walk(loop.body) if isinstance(s, Store) and s.buffer in written]
    if not stride or len(stores) % rows:
        return [loop]
    found = lower_tile(rows, len(stores) // rows)
    if found is None:
        return [loop]
    height, most = found
    lower = _rows(loop.body, loop.var, stride, rows, height, written)
    if lower is None:
        return [loop]
    first = replace(o, short=most)
    rest = replace(o, by=height)
    behind = replace(loop, open=rest, after=After(first, rows // height), body=lower, end=loop.end * rows // height)
    return [replace(loop, open=first), behind]


def lower_tile(rows: int, vectors: int) -> tuple[int, int] | None:
    """The height of the lower tile, and up to how many rows it is faster than a whole tile of `rows` by `vectors`."""

    def cycles(height: int) -> int:
        return tile_cycles(height, vectors)

    best: tuple[int, int, int] | None = None
    for height in range(1, rows // 2 + 1):
        if rows % height:
            continue
        most = max((k * height for k in range(1, rows // height) if k * cycles(height) < cycles(rows)), default=0)
        gain = sum(cycles(rows) - -(-n // height) * cycles(height) for n in range(1, most + 1))
        if gain and (best is None or gain > best[0]):
            best = gain, height, most
    return best and best[1:]


def tile_cycles(height: int, vectors: int) -> int:
    """What a step of a tile takes, compared with others."""
    return max(height * vectors, IN_FLIGHT)


def _stride(loop: For, written: set[str]) -> int:
    """How far apart the rows lie that a loop over tiles writes; 0 where they are not all so."""
    assert loop.open is not None
    steps = {s.index.coefficient(loop.var) for s in walk(loop.body) if isinstance(s, Store) and s.buffer in written}
    (step,) = steps if len(steps) == 1 else (None,)
    return step // loop.open.by if step and step > 0 and step % loop.open.by == 0 else 0


def _rows(body: Block, var: str, stride: int, rows: int, height: int, written: set[str]) -> Block | None:
    """A tile's statements for its first `height` rows; None where its addresses do not tell the rows apart."""
    stores = [s for s in walk(body) if isinstance(s, Store) and s.buffer in written]
    base = min(s.index.const for s in stores)
    if Counter((s.index.const - base) // stride for s in stores) != dict.fromkeys(range(rows), len(stores) // rows):
        return None

    def keep(s: Stmt) -> list[Stmt]:
        beyond = isinstance(s, Store) and s.buffer in written and (s.index.const - base) // stride >= height
        return [] if beyond else [s]

    lower = without_unused(map_stmts(body, keep, lambda e: e))
    times = rows // height
    if any(form.uses(var) and (form.coefficient(var) or 1) % times for form in _forms(lower)):
        return None
    return _slower(lower, var, times)


def _forms(body: Block) -> Iterator[Linear]:
    """All addresses and integers."""
    for node in (*walk(body), *expressions(body)):
        yield from (v for v in vars(node).values() if isinstance(v, Linear))


def without_unused(body: Block) -> Block:
    """Without the variables that nothing but their own assignments reads, and without loops that then do nothing."""
    while True:
        used = set(_reads(body))
        dead = {s.name for s in walk(body) if isinstance(s, Declare)} - used
        smaller = map_stmts(body, lambda s: _alive(s, dead), lambda e: e)  # noqa: B023 - used at once
        if smaller == body:
            return body
        body = smaller


def _alive(s: Stmt, dead: set[str]) -> list[Stmt]:
    if isinstance(s, Declare | Assign) and s.name in dead:
        return []
    empty = isinstance(s, For | Scope) and not s.body
    return [] if empty else [s]


def _reads(body: Block) -> Iterator[str]:
    """The variables that are read, but for those that a statement reads to compute them anew."""
    for s in walk(body):
        own = s.name if isinstance(s, Assign) else ""
        for top in exprs(s):
            yield from (e.name for e in walk_expr(top) if isinstance(e, Ref) and e.name != own)


def _slower(body: Block, var: str, times: int) -> Block:
    """Statements of a loop whose trips go `times` as short a way."""

    def form(index: Linear) -> Linear:
        return Linear(index.const, tuple((a, c // times if a == var else c) for a, c in index.terms))

    return map_forms(body, form)
