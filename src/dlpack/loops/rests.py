"""The last rows of an open dimension, where they do not fill a register tile: a lower tile does them.

A tile of fewer rows is the tile without what its further rows store, and without all that only these need.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from math import inf

from dlpack.loops.index import Linear
from dlpack.loops.ir import (
    After,
    Array,
    Assign,
    Block,
    Declare,
    For,
    Kernel,
    Load,
    LoopAxis,
    Prefetch,
    Ref,
    Scope,
    Space,
    Stmt,
    Store,
    TiledRows,
    expressions,
    exprs,
    map_blocks,
    map_forms,
    map_stmts,
    walk,
    walk_expr,
)
from dlpack.loops.row_loops import LONG, once_for_all_rows


@dataclass(frozen=True)
class Lower:
    """Lower tiles have up to `most` heights, of which each beyond the first must save `worth` of the excess: it is
    code."""

    most: int
    worth: float


OF_TEXTS, OF_PICTURES = Lower(2, 0.04), Lower(2, 0.3)
"""A text may be short, while a picture has many rows of pixels, and its network many kernels."""

IN_FLIGHT = 4, 8
"""Fused multiply-adds that a processor has under way, where it starts one per cycle and where it starts two: a tile of
fewer sums waits for its own."""


def with_rests(kernel: Kernel, far: bool, lower: Lower) -> Kernel:
    """The kernel with loops over lower tiles, `lower`, behind each open one over register tiles;
    `far`: its weights come from beyond L2."""
    written = {p.name for p in kernel.params if p.written}
    written |= {s.name for s in walk(kernel.body) if isinstance(s, Array) and s.space is Space.SCRATCH}
    return replace(kernel, body=_with_rests(kernel.body, written, {p.name for p in kernel.params}, (far, lower)))


def _with_rests(body: Block, written: set[str], params: set[str], kind: tuple[bool, Lower]) -> Block:
    out: list[Stmt] = []
    for s in body:
        s = map_blocks(s, lambda block: _with_rests(block, written, params, kind))
        out.extend(_split(s, written, params, kind) if isinstance(s, For) and s.open else [s])
    return tuple(out)


def _split(loop: For, written: set[str], params: set[str], kind: tuple[bool, Lower]) -> list[Stmt]:
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
    tiles = tiles_for(rows, len(stores) // rows, *kind)
    if tiles is None:
        return [loop]
    first = replace(o, tiles=tiles)
    body = once_for_all_rows(loop.body, loop.var, rows, stride, written, LONG)
    out: list[Stmt] = [replace(loop, open=first, body=body)]
    rest, end = replace(o, by=tiles.unit), loop.end * rows // tiles.unit
    for k, height in enumerate(tiles.lower):
        lower = _rows(loop.body, loop.var, stride, tiles, height, written, params)
        if lower is None:
            return [loop]
        lower = once_for_all_rows(lower, loop.var, height, stride, written)
        after, step = After(first, k), height // tiles.unit
        out.append(replace(loop, open=rest, after=after, body=lower, end=end, step=step, together=1))
    return out


@cache
def tiles_for(rows: int, vectors: int, far: bool, lower: Lower) -> TiledRows | None:
    """How tiles of `rows` by `vectors` and lower ones, `lower`, share the rows of a run in the least
    time; None where whole ones alone do."""
    best, tiles = _excess(whole_tiles(rows), vectors, far), None
    for count in range(1, lower.most + 1):
        for heights in combinations(range(min(rows, HIGHEST) - 1, 0, -1), count):
            shared = _shared(rows, heights, vectors)
            excess = _excess(shared, vectors, far) + lower.worth * (count - 1)
            if excess < best:
                best, tiles = excess, shared
    return tiles


HIGHEST = 7
"""Lower heights are below this."""


def _excess(tiles: TiledRows, vectors: int, far: bool) -> float:
    """What tiles take as a part of what tiles of just the rows that there are would: the most of it, and twice the
    mean, since each number of rows shall be fast."""
    parts = [row_cycles(tiles, vectors, n, far) / tile_cycles(n, vectors, far) for n in range(1, 2 * tiles.rows + 1)]
    return max(parts) + 2 * sum(parts) / len(parts)


def whole_tiles(rows: int) -> TiledRows:
    """Tiles of one height."""
    return TiledRows(rows, 0, (1 << rows) - 2, 0)


def _shared(rows: int, lower: Sequence[int], vectors: int) -> TiledRows:
    """The best use of whole tiles and of lower ones, whose heights fall: the last as often as need be, others once."""
    *singles, low = lower
    most = min(2 * rows, _BITS)
    # For so many rows: what the tiles from a height on take, and how many rows they do.
    plan = [(-(-n // low) * tile_cycles(low, vectors, False), -(-n // low) * low) for n in range(most)]
    once: list[tuple[int, int]] = []
    for height in reversed(singles):
        cycles, behind, mask, plan = tile_cycles(height, vectors, False), plan, 0, []
        for n in range(most):
            without, (then, done) = behind[n], behind[max(0, n - height)]
            with_one = cycles + then, height + done
            # tiles must not reach beyond the whole ones that these rows would need
            better = min((p for p in (without, with_one) if p[1] <= -(-n // rows) * rows), default=(inf, 0))
            mask |= (n > 0 and better == with_one) << n
            plan.append(better)
        once.insert(0, (height, mask))
    own = [cycles if done <= -(-n // rows) * rows else inf for n, (cycles, done) in enumerate(plan)]
    whole, more, less = tile_cycles(rows, vectors, False), 0, 0
    for rest in range(1, rows):
        more |= (whole <= own[rest]) << rest
        both = own[rest + rows] if rest + rows < most else inf
        less |= (both < whole + min(own[rest], whole)) << rest
    return TiledRows(rows, low, more, less, tuple(once))


_BITS = 32
"""Of the masks in `TiledRows`."""


def row_cycles(tiles: TiledRows, vectors: int, n: int, far: bool) -> float:
    """What tiles of so many vectors take for `n` rows. The first brings the weights nearer for the others."""
    counts = tiles.counts(n)
    cycles = sum(count * tile_cycles(height, vectors, False) for count, height in counts)
    first = counts[0][1]
    return cycles + tile_cycles(first, vectors, far) - tile_cycles(first, vectors, False)


def beyond(rows: int, height: int, vectors: int, far: bool, lower: Lower) -> float:
    """How much longer tiles take than the rows of a run need, for up to `rows` of them: the mean, where each doubling
    of the rows counts the same, and a part of the most of it."""
    tiles = tiles_for(height, vectors, far, lower) or whole_tiles(height)
    total = count = most = 0.0
    for n in range(1, min(rows, MANY) + 1):
        part = row_cycles(tiles, vectors, n, far) / vectors / max(n, FAR if far else NEAR)
        total, count, most = total + part / n, count + 1 / n, max(most, part)
    return total / count + WORST * most


WORST = 0.5
"""What the most counts beside the mean."""

MANY = 128
"""Rows from which on it hardly matters how the last ones are done."""


@cache
def tile_cycles(height: int, vectors: int, far: bool) -> float:
    """What a step of a tile takes, compared with others, in fused multiply-adds: the mean of two kinds of processor."""
    own = max(height, FAR if far else NEAR) * vectors
    return sum(max(own, n) for n in IN_FLIGHT) / len(IN_FLIGHT) + PASS * vectors


NEAR, FAR, PASS = 2.0, 3.3, 0.1
"""Fused multiply-adds in the time in which a vector of weights comes from L2, and from L3, and what a tile takes beside
its steps: measured with AVX-512 (Zen 4)."""


def _stride(loop: For, written: set[str]) -> int:
    """How far apart the rows lie that a loop over tiles writes; 0 where they are not all so."""
    assert loop.open is not None
    steps = {s.index.coefficient(loop.var) for s in walk(loop.body) if isinstance(s, Store) and s.buffer in written}
    (step,) = steps if len(steps) == 1 else (None,)
    return step // loop.open.by if step and step > 0 and step % loop.open.by == 0 else 0


def _by_rows(body: Block, var: str, rows: int, params: set[str]) -> bool:
    """Whether what a tile has in the kernel's own memory lies row by row there, and not tile by tile."""
    own: dict[str, list[Linear]] = {}
    for node in (*walk(body), *expressions(body)):
        if isinstance(node, Store | Load) and node.buffer not in params and node.index.uses(var):
            own.setdefault(node.buffer, []).append(node.index)
    for places in own.values():
        first, step = min(i.const for i in places), places[0].coefficient(var)
        if not step or step < 0 or step % rows or any(i.coefficient(var) != step for i in places):
            return False
        if not _of_each_row((i.const - first for i in places), step // rows, rows):
            return False
    return True


def _of_each_row(places: Iterable[int], stride: int, rows: int) -> bool:
    """Whether each of the rows has as many of the places; the first row begins at 0."""
    counts = Counter(place // stride for place in places)
    return counts.keys() == set(range(rows)) and len(set(counts.values())) == 1


def _rows(
    body: Block, var: str, stride: int, tiles: TiledRows, height: int, written: set[str], params: set[str]
) -> Block | None:
    """A tile's statements for its first `height` rows, of a loop that counts units of rows; None where its addresses do
    not tell the rows apart."""
    rows = tiles.rows
    stores = [s for s in walk(body) if isinstance(s, Store) and s.buffer in written]
    base = min(s.index.const for s in stores)
    if not _of_each_row((s.index.const - base for s in stores), stride, rows):
        return None

    def keep(s: Stmt) -> list[Stmt]:
        beyond = isinstance(s, Store) and s.buffer in written and (s.index.const - base) // stride >= height
        return [] if beyond or isinstance(s, Prefetch) else [s]  # weights come faster than these ask for them

    if not _by_rows(body, var, rows, params):
        return None
    lower = without_unused(map_stmts(body, keep, lambda e: e))
    times = rows // tiles.unit
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
    idle = isinstance(s, For | Scope) and all(isinstance(t, Declare) for t in s.body)
    return [] if idle else [s]


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
