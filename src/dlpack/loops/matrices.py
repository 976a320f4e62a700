"""Products of 2 x 8 by 8 x 2 bytes (Arm's SMMLA), made of dot products of eight: two rows of a tile share them.

Two rows of four sums lie in two registers. While their products are summed, one has both rows' first two sums and the
other their last two, each a 2 x 2 block: ``low_halves_`` and ``high_halves_`` of the two turn one form into the other,
either way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeGuard

from dlpack.loops.ir import (
    Assign,
    Block,
    Const,
    Declare,
    Expr,
    Kernel,
    Load,
    Op,
    Ref,
    Stmt,
    expressions,
    map_blocks,
    walk,
)
from dlpack.loops.lanes import BYTES, LANE

STEPS = BYTES // 2
"""Bytes of a row in one product."""

SUMS = 4
"""In a register."""

_ZEROS = Op("int32", SUMS, "splat", (Const("int32", 1, 0),))


@dataclass(frozen=True)
class _Dot:
    """``sums = dot_(sums, x, w)``."""

    sums: str
    x: Expr
    w: Expr


def pairs_of_rows(kernel: Kernel) -> Kernel:
    """The kernel with its dot products of eight computed for two rows at a time."""
    taken = {s.name for s in walk(kernel.body) if isinstance(s, Declare)} | {p.name for p in kernel.params}
    return replace(kernel, body=_block(kernel.body, taken))


def _block(stmts: Block, taken: set[str]) -> Block:
    """Puts the sums into blocks around the statements that only add products to them, as far out as there are any."""
    out: list[Stmt] = []
    run: list[Stmt] = []

    def flush() -> None:
        if any(_dots((s,)) for s in run):
            assigned = {s.name for s in walk(tuple(out)) if isinstance(s, Assign)}
            zeros = {s.name for s in out if isinstance(s, Declare) and s.value == _ZEROS} - assigned
            out.extend(_paired(tuple(run), zeros, taken))
        else:
            out.extend(run)
        run.clear()

    for s in stmts:
        if _only_adds(s) or (run and isinstance(s, Declare) and s.constant):
            run.append(s)
        else:
            flush()
            out.append(map_blocks(s, lambda block: _block(block, taken)))
    flush()
    return tuple(out)


def _is_dot(s: Stmt) -> TypeGuard[Assign]:
    e = s.value if isinstance(s, Assign) else None
    return isinstance(e, Op) and e.op == "dot_" and e.lanes > 1 and e.args[1].lanes == STEPS


def _dots(stmts: Block) -> list[Assign]:
    return [s for s in walk(stmts) if _is_dot(s)]


def _only_adds(s: Stmt) -> bool:
    """Whether a statement has dot products, and does nothing with their sums but add to them."""
    dots = _dots((s,))
    sums = {d.name for d in dots}
    assigned = [t for t in walk((s,)) if isinstance(t, Assign | Declare) and t.name in sums]
    uses = sum(isinstance(e, Ref) and e.name in sums for e in expressions((s,)))
    return bool(dots) and len(assigned) == len(dots) == uses


def _paired(run: Block, zeros: set[str], taken: set[str]) -> Iterator[Stmt]:
    """The run with its sums in blocks; those in `zeros` are zero before it, in either form."""
    rows = _rows(run)
    for second in {n for pair in rows.values() for n in pair} - {d.name for d in _dots(run)}:
        zeros.add(second)
        yield Declare(second, "int32", SUMS, _ZEROS)
    together = list(dict.fromkeys(rows.values()))
    yield from _exchanged([pair for pair in together if not zeros.issuperset(pair)], taken)
    yield from _products(run, rows, taken)
    yield from _exchanged(together, taken)


def _rows(run: Block) -> dict[str, tuple[str, str]]:
    """By sums the two rows that they are one of; a row that has no other gets one of zeros."""
    best: list[list[str]] = []
    for block in _blocks_of_dots(run):
        columns: dict[Expr, list[str]] = {}
        for d in _read(block):
            columns.setdefault(d.w, []).append(d.sums)
        found = list(columns.values())
        if sum(map(len, found)) > sum(map(len, best)):
            best = found
    rows: dict[str, tuple[str, str]] = {}
    for names in [*best, *([d.name] for d in _dots(run))]:
        left = [n for n in names if n not in rows]
        for first, second in [(left[i], left[i + 1]) for i in range(0, len(left) - 1, 2)]:
            rows[first] = rows[second] = first, second
        if len(left) % 2:
            rows[left[-1]] = left[-1], f"{left[-1]}_beside"
    return rows


def _blocks_of_dots(stmts: Block) -> Iterator[Block]:
    """The blocks that have dot products directly inside them."""
    if any(_is_dot(s) for s in stmts):
        yield stmts
    for s in stmts:
        for v in vars(s).values():
            if isinstance(v, tuple):
                yield from _blocks_of_dots(v)


def _read(block: Block) -> Iterator[_Dot]:
    """The dot products of a block, with what they read in place of its name."""
    named = {s.name: s.value for s in block if isinstance(s, Declare) and isinstance(s.value, Load)}
    for s in block:
        if _is_dot(s):
            assert isinstance(s.value, Op)
            x, w = (named.get(e.name, e) if isinstance(e, Ref) else e for e in s.value.args[1:])
            yield _Dot(s.name, x, w)


def _exchanged(pairs: Sequence[tuple[str, str]], taken: set[str]) -> Iterator[Stmt]:
    """Two rows to blocks, or blocks to two rows."""
    for first, second in pairs:
        a, b = (Ref("int32", SUMS, n) for n in (first, second))
        name = _fresh(f"{first}_low", taken)
        yield Declare(name, "int32", SUMS, Op("int32", SUMS, "low_halves_", (a, b)), True)
        yield Assign(second, Op("int32", SUMS, "high_halves_", (a, b)))
        yield Assign(first, Ref("int32", SUMS, name))


def _products(stmts: Block, rows: dict[str, tuple[str, str]], taken: set[str]) -> Block:
    """The statements with products of matrices in place of dot products."""
    if not any(_is_dot(s) for s in stmts):
        return tuple(map_blocks(s, lambda block: _products(block, rows, taken)) for s in stmts)
    dots = list(_read(stmts))
    x_of = {(d.sums, d.w): d.x for d in dots}
    out: list[Stmt] = []
    weights: dict[Expr, tuple[Expr, ...]] = {}
    inputs: dict[Expr, Ref] = {}
    read = {e.name for s in stmts if not _is_dot(s) for e in expressions((s,)) if isinstance(e, Ref)}
    done: set[tuple[str, Expr]] = set()
    waiting = iter(dots)
    for s in stmts:
        if isinstance(s, Declare) and isinstance(s.value, Load) and s.name not in read and _is_operand(s.value, dots):
            if s.value.lanes > BYTES:
                halves = tuple(_halves(s.value))
                names = [_fresh(f"{s.name}_{i}", taken) for i in (0, 1)]
                out += [Declare(n, h.dtype, h.lanes, h, True) for n, h in zip(names, halves, strict=True)]
                weights[s.value] = tuple(Ref(h.dtype, h.lanes, n) for n, h in zip(names, halves, strict=True))
            continue
        if not _is_dot(s):
            out.append(map_blocks(s, lambda block: _products(block, rows, taken)))
            continue
        d = next(waiting)
        first, second = rows[d.sums]
        if (first, d.w) in done:
            continue
        done.add((first, d.w))
        x = _two_rows(x_of.get((first, d.w)), x_of.get((second, d.w)))
        if x not in inputs:
            inputs[x] = Ref(x.dtype, x.lanes, _fresh("rows", taken))
            out.append(Declare(inputs[x].name, x.dtype, x.lanes, x, True))
        assert isinstance(d.w, Load)
        for name, w in zip((first, second), weights.get(d.w) or tuple(_halves(d.w)), strict=True):
            sums = Ref("int32", SUMS, name)
            out.append(Assign(name, Op("int32", SUMS, "mmla_", (sums, inputs[x], w))))
    return tuple(out)


def _is_operand(e: Load, dots: Iterable[_Dot]) -> bool:
    return any(e in (d.x, d.w) for d in dots)


def _halves(e: Load) -> Iterator[Load]:
    """A load of 32 bytes as two."""
    for at in range(0, e.lanes, BYTES):
        yield replace(e, index=e.index + at, lanes=BYTES, valid=BYTES)


def _two_rows(a: Expr | None, b: Expr | None) -> Expr:
    """Eight bytes of each of two rows, zeros for one that is not there."""
    lanes = [e for e in (a, b) if isinstance(e, Op) and e.op == LANE]
    if not lanes:
        return Op("int8", BYTES, "joined_", (a or _zero("int8", STEPS), b or _zero("int8", STEPS)))
    number = lanes[0].args[1]
    assert isinstance(number, Const)

    def vector(e: Expr | None) -> Expr:
        if isinstance(e, Op) and e.op == LANE and e.args[1] == number:
            return e.args[0]
        return Op("int8", BYTES, "joined_", (e, e)) if e is not None else _zero("int8", BYTES)

    return Op("int8", BYTES, "high_halves_" if number.value else "low_halves_", (vector(a), vector(b)))


def _zero(dtype: str, lanes: int) -> Op:
    return Op(dtype, lanes, "splat", (Const(dtype, 1, 0),))


def _fresh(stem: str, taken: set[str]) -> str:
    name, number = stem, 0
    while name in taken:
        number += 1
        name = f"{stem}{number}"
    taken.add(name)
    return name
