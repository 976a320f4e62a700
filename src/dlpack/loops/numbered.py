"""Loops over a picture's tiles or pixels, where pictures have several sizes: they are numbered row by row in each run.

A schedule numbers them as if a row had more than any picture's. Then a number divides by that one only where a row and
a column are computed, which in a run are those by the number that its rows have. So bands of tiles are always full, but
for the last, and a register tile takes tiles or pixels of several rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import reduce

from dlpack.loops.expressions import Operand
from dlpack.loops.index import DivMod, Linear, Range
from dlpack.loops.ir import (
    Band,
    Block,
    Const,
    Expr,
    For,
    If,
    Index,
    Kernel,
    Load,
    Op,
    Ref,
    Stmt,
    Store,
    expressions,
    map_blocks,
    map_forms,
    walk,
)
from dlpack.loops.sizes import Size, Tiles

TILES = "dlpack.tiles"
"""Loop annotation: the loop goes along the tiles of the picture that a kernel writes. Their number in each trip, the
pixels of a side (1: a tile is a pixel), and how many make a row in the schedule."""

TOGETHER = 5040
"""Tiles that are computed together are so many that they divide this number."""


def as_numbered(rows: int, columns: int) -> tuple[int, int]:
    """How many rows and columns of tiles there are in a schedule, where the largest picture has so many: at least two
    rows, and columns that are a multiple of `TOGETHER`, over four times as many as in the picture, so that no row in
    memory is as long."""
    return max(2, rows), TOGETHER * (4 * columns // TOGETHER + 1)


def numbered(kernel: Kernel, operands: Sequence[Operand], shape: Sequence[int], sizes: Sequence[Size | None]) -> Kernel:
    """The kernel with tiles that are numbered in a run; the picture that it writes has `shape`, and `sizes` in a run.

    Where loops over tiles are nested, the outer one goes along bands of them, those within along the tiles of a band.
    """
    found = kernel.tiles
    if found is None:
        return kernel
    height, width = (s or n for n, s in zip(shape[2:], sizes[2:], strict=True))
    tiles = replace(found, height=height, width=width)
    grid = -(-shape[2] // tiles.side), -(-shape[3] // tiles.side)
    return replace(kernel, body=_Numbering(tiles, grid, {o.name for o in operands}).block(kernel.body, None))


class _Numbering:
    """`tiles` of a picture, of which the largest has so many rows and columns, `grid`, written and read by kernels with
    the parameters `outside`."""

    def __init__(self, tiles: Tiles, grid: tuple[int, int], outside: set[str]) -> None:
        self.tiles, self.grid, self.outside = tiles, grid, outside

    def block(self, body: Block, band: Band | None) -> Block:
        return tuple(t for s in body for t in self.statements(s, band))

    def statements(self, s: Stmt, band: Band | None) -> Block:
        if not isinstance(s, For) or not _along_tiles(s):
            return (map_blocks(s, lambda block: self.block(block, band)),)
        assert s.open is not None
        loop = replace(s, open=replace(s.open, size=self.tiles, band=band))
        if any(map(_along_tiles, walk(s.body))):
            return (replace(loop, body=self.block(s.body, Band(s.var, s.open.by))),)
        if not any(i.uses(s.var) for _, i in self.accesses(s.body)):
            return (loop,)  # along tiles that lie one behind the other, in memory of the kernel's own
        return (self.one_by_one(loop) if s.open.by == 1 else self.together(loop),)

    def accesses(self, body: Block) -> Iterator[tuple[Stmt | Expr, Linear]]:
        """Those outside of the kernel's own memory."""
        for node in (*walk(body), *expressions(body)):
            if isinstance(node, Store | Load) and node.buffer in self.outside:
                yield node, node.index

    def one_by_one(self, loop: For) -> For:
        """A loop whose trips know their tile's row and column."""
        o = loop.open
        assert o is not None
        t = Linear.var(loop.var)
        body = self.placed(loop.body, o.band.var, o.band.most, t) if o.band else self.placed(loop.body, loop.var, 1)
        return replace(loop, open=replace(o, places=self.named(PLACE)), body=body)

    def together(self, loop: For) -> For:
        """A loop whose trips do several tiles at once. Behind the last tile of a picture, it is computed again, and not
        written."""
        o = loop.open
        assert o is not None and o.band is None

        def tile_of(s: Stmt) -> int | None:
            """Which of its trip's tiles a statement writes."""
            stores = [t for t in walk((s,)) if isinstance(t, Store) and t.buffer in self.outside]
            found = {self.tile_in(t.index, loop.var, o.by) for t in stores}
            return found.pop() if len(found) == 1 else None

        def guarded(body: Block) -> Block:
            out: list[Stmt] = []
            for s in body:
                tile = tile_of(s)
                if not tile:
                    out.append(map_blocks(s, guarded) if tile is None else s)
                    continue
                there = Op("bool", 1, "<", (Index("int32", 1, Linear.var(loop.var) * o.by + tile), COUNT))
                before = out[-1] if out else None
                if isinstance(before, If) and before.condition == there:
                    out[-1] = replace(before, then=(*before.then, s))
                else:
                    out.append(If(there, (s,)))
            return tuple(out)

        places = tuple((f"row{k}", f"column{k}") for k in range(o.by))
        return replace(
            loop, open=replace(o, places=self.named(places)), body=self.placed(guarded(loop.body), loop.var, o.by)
        )

    def tile_in(self, index: Linear, var: str, by: int) -> int:
        """Which of its trip's tiles an address is of: trips go along columns."""
        step = dict(index.terms)[self.column(index, var, by)] // by
        return index.const // step

    def named(self, places: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        """Places by row and column; of one row, whose number nothing needs, without a name for it."""
        return tuple(("", column) for _, column in places) if self.grid[0] == 1 else places

    def column(self, index: Linear, var: str, by: int) -> DivMod | str:
        """How an address names the column of its trip: of one row, TVM may have seen that it is the trip itself."""
        one_row = self.grid[0] == 1 and var in dict(index.terms)
        return var if one_row else DivMod("%", Linear.var(var), self.tiles.wide // by)

    def placed(self, body: Block, var: str, by: int, within: Linear | None = None) -> Block:
        """Statements that know their tile's row and column. In the schedule, a row has a whole number of trips of the
        loop over `var`, with `by` tiles each, of which a statement is for the one `within`, or for one of several."""
        row = DivMod("/", Linear.var(var), self.tiles.wide // by)

        def form(index: Linear) -> Linear:
            terms = dict(index.terms)
            along = terms.pop(self.column(index, var, by), 0)
            if not along and row not in terms:
                return index
            step, rest = divmod(along, by)
            assert not rest
            tile = 0 if within or not step else self.tile_in(index, var, by)
            names = PLACE[0] if within or by == 1 else (f"row{tile}", f"column{tile}")
            down = terms.pop(row, 0)
            out = Linear(index.const, tuple(terms.items())) - (within or Linear(tile)) * step
            out += Linear.var(names[1]) * step
            return out if self.grid[0] == 1 else out + Linear.var(names[0]) * down

        def of_trips(e: Expr) -> bool:
            """Whether a condition is one of whole trips: in a run, none begins beyond the picture."""
            forms = filter(None, map(_form, e.args)) if isinstance(e, Op) else ()
            along = [dict(i.terms).get(self.column(i, var, by), 0) for i in forms]
            return any(step % by for step in along)

        body = map_forms(_without(body, of_trips), form)
        ranges = {
            f"{name}{k}": (0, n - 1) for name, n in zip(PLACE[0], self.grid, strict=True) for k in ("", *range(by))
        }
        body = _without(body, lambda e: _holds(e, ranges))
        moved = {var, *(within.variables() if within else ())}
        assert not any(i.variables() & moved for _, i in self.accesses(body)), "addresses go by row and column"
        return body


PLACE = (("row", "column"),)
COUNT = Ref("int32", 1, "tile_count")


def _along_tiles(s: Stmt) -> bool:
    return isinstance(s, For) and s.open is not None and isinstance(s.open.size, Tiles)


def _without(body: Block, holds: Callable[[Expr], bool]) -> Block:
    """Statements without conditions that always hold."""
    out: list[Stmt] = []
    for s in body:
        s = map_blocks(s, lambda block: _without(block, holds))
        if not isinstance(s, If) or s.otherwise:
            out.append(s)
            continue
        left = [e for e in _all_of(s.condition) if not holds(e)]
        if left:
            out.append(replace(s, condition=reduce(lambda a, b: Op("bool", 1, "&&", (a, b)), left)))
        else:
            out += s.then
    return tuple(out)


def _all_of(e: Expr) -> Iterator[Expr]:
    """The conditions that must all hold."""
    if isinstance(e, Op) and e.op == "&&":
        for a in e.args:
            yield from _all_of(a)
    else:
        yield e


def _holds(e: Expr, ranges: dict[str, Range]) -> bool:
    if not isinstance(e, Op) or e.op not in ("<", "<="):
        return False
    a, b = map(_form, e.args)
    return a is not None and b is not None and (b - a).bounds(ranges)[0] >= (e.op == "<")


def _form(e: Expr) -> Linear | None:
    if isinstance(e, Index):
        return e.form
    return Linear(e.value) if isinstance(e, Const) and isinstance(e.value, int) else None
