"""What follows a register tile's sums, written once for all of its rows (loops/row_loops.py)."""

from __future__ import annotations

from dlpack.loops.index import Linear
from dlpack.loops.ir import Array, Block, Const, Declare, For, Load, Op, Ref, Scope, Store, expressions, walk
from dlpack.loops.row_loops import LONG, once_for_all_rows

LANES, STRIDE = 16, 100


def tile(rows: int, vectors: int = 2, shift: int = 0) -> Block:
    """Sums, each of which is stored with an addend of its column and one of its place; the last row's is `shift`
    elements elsewhere."""
    sums = [(r, v, f"acc{r}_{v}") for r in range(rows) for v in range(vectors)]
    zero = Const("float32", LANES, 0.0)
    declared = tuple(Declare(name, "float32", LANES, zero) for _, _, name in sums)
    scopes = []
    for r, v, name in sums:
        place = Linear(r * STRIDE + v * LANES)
        bias = Load("float32", LANES, "b", Linear(v * LANES), LANES)
        other = Load("float32", LANES, "x", place + (shift if r == rows - 1 else 0), LANES)
        added = Op("float32", LANES, "+", (Op("float32", LANES, "+", (Ref("float32", LANES, name), bias)), other))
        declare = Declare("add", "float32", LANES, added, constant=True)
        scopes.append(Scope((declare, Store("y", place, Ref("float32", LANES, "add"), LANES))))
    return (*declared, *scopes)


def test_rows_become_a_loop() -> None:
    """Each sum goes to its place in an array; the loop goes a row further in each trip, but for what all rows share."""
    body = once_for_all_rows(tile(3), "t", 3, STRIDE, {"y"})
    array, loop = next(s for s in body if isinstance(s, Array)), body[-1]
    assert isinstance(loop, For) and loop.end == 3 and loop.together == 0 and array.size == 3 * 2 * LANES
    kept = {s.value.name: s.index.const for s in body if isinstance(s, Store) and isinstance(s.value, Ref)}
    assert kept == {f"acc{r}_{v}": (2 * r + v) * LANES for r in range(3) for v in range(2)}
    reached = {(e.buffer, e.index.const, e.index.coefficient(loop.var)) for e in expressions(loop.body) if
               isinstance(e, Load)}  # fmt: skip
    assert reached == {
        (name, v * LANES, step) for v in range(2) for name, step in (("b", 0), ("x", STRIDE), (array.name, 2 * LANES))
    }
    stored = [s.index.coefficient(loop.var) for s in walk(loop.body) if isinstance(s, Store)]
    assert stored == [STRIDE, STRIDE]


def test_rows_stay_where_a_loop_is_no_gain() -> None:
    """Two rows, rows that differ in their distance, and whole tiles where little follows."""
    for body, rows, least in ((tile(2), 2, 0), (tile(4, shift=7), 4, 0), (tile(4), 4, LONG)):
        assert once_for_all_rows(body, "t", rows, STRIDE, {"y"}, least) is body
    assert isinstance(once_for_all_rows(tile(4), "t", 4, STRIDE, {"y"}, 2)[-1], For)
