"""By lane: a vector of a product's scalars is loaded once, and its lanes are used one after the other.

Arm multiplies a vector by one lane of another in one instruction (``fmla v0.4s, v1.4s, v2.s[3]``). So where a reduction
walks along memory, as many steps as a vector has lanes share one load per row in place of a load and a broadcast each;
and where the rows of a tile lie side by side (a window that moves over a row of pixels), they share loads among them.
A longer reduction takes two vectors of each row at a time, by one instruction that also moves the row's address
(``ldp q0, q1, [x0], #32``). Each pair is loaded where it is first used: loaded together, they would push sums out of
the registers.

Dot products take four bytes of a row at a time (``sdot v0.4s, v1.16b, v2.4b[3]``), and matrix products eight: a vector
then holds 4 or 2 steps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeGuard

from dlpack.loops.index import Linear
from dlpack.loops.ir import (
    HALF,
    Assign,
    Const,
    Declare,
    Expr,
    For,
    If,
    Kernel,
    Load,
    LoadTwo,
    LoopAxis,
    Op,
    Pointer,
    Prefetch,
    Ref,
    Scope,
    Stmt,
    While,
    exprs,
    map_expr,
    walk,
    walk_expr,
)

LANE = "lane"
"""The operation ``lane(vector, constant)``: one lane of a vector, which C++ writes as ``vector[constant]``; of bytes as
many as the operation has lanes."""

BYTES = 16
"""Of a vector that holds inputs of dot products."""


LINE = 16
"""Elements of a cache line."""


PAIRED_STEPS = 32
"""Steps of a reduction from which on a trip takes two vectors of each row: fewer do not pay for the rows' addresses."""


@dataclass(frozen=True)
class _Registers:
    """`lanes` floats lie in each of `number` registers; `taken` are the names in use. Loops along dimensions of these
    extents, `opens`, may end earlier, after any step."""

    lanes: int
    number: int
    taken: set[str]
    opens: tuple[int, ...]


def by_lane(kernel: Kernel, lanes: int, registers: int, opens: tuple[int, ...] = ()) -> Kernel:
    """The kernel with the loops of its products unrolled by `lanes` where a step's scalars follow the last one's, or by
    twice as many where `registers` hold the vectors of a trip (0: nowhere). Sums along open dimensions, whose extents
    divide by one of `opens`, stay: they end with a run's last element."""
    taken = {s.name for s in walk(kernel.body) if isinstance(s, Declare)} | {p.name for p in kernel.params}
    return replace(kernel, body=_block(kernel.body, _Registers(lanes, registers, taken, opens)))


def _block(stmts: tuple[Stmt, ...], registers: _Registers) -> tuple[Stmt, ...]:
    out: list[Stmt] = []
    for s in stmts:
        if isinstance(s, For):
            steps = _steps(s, registers)
            if steps is None:
                body = _neighbours(s.body, registers) if _is_plain(s) else None
                steps = [replace(s, body=_block(s.body, registers) if body is None else body)]
            out.extend(steps)
            continue
        if isinstance(s, While | Scope):
            s = replace(s, body=_block(s.body, registers))
        elif isinstance(s, If):
            s = replace(s, then=_block(s.then, registers), otherwise=_block(s.otherwise, registers))
        out.append(s)
    return tuple(out)


@dataclass
class _Step:
    """One step of a product: the statements without the scalars that are read from memory, and those by name; of dot
    products the bytes of a step are what a scalar is else."""

    rest: list[Stmt] = field(default_factory=list)
    scalars: dict[str, Load] = field(default_factory=dict)

    def registers(self, vectors: int) -> int:
        """How many it takes with so many vectors of each row."""
        sums = {s.name for s in self.rest if isinstance(s, Assign)}
        weights = {e for e in _expressions(self.rest) if isinstance(e, Load) and e.lanes > 1}
        return len(sums) + len(weights) + vectors * len(self.scalars)


def _steps(loop: For, registers: _Registers) -> list[Stmt] | None:
    """The loop by a vector's steps at a time, and then the steps that are left; None where nothing is gained."""
    if loop.step != 1 or loop.axis is not LoopAxis.SERIAL or not _is_plain(loop):
        return None
    bytes_of = _inputs_of_dots(loop.body)
    together = {e.lanes for e in bytes_of}
    lanes = BYTES // together.pop() if len(together) == 1 else registers.lanes
    extent = loop.end - loop.begin
    if any(extent % n == 0 for n in registers.opens):
        return None
    step = _take_scalars(loop, bytes_of, registers.taken) if extent >= lanes else _Step()
    if not step.scalars:
        return None
    several = len(step.scalars) > 1  # one row's loads are few beside those of the weights
    paired = several and not bytes_of and extent >= PAIRED_STEPS and step.registers(2) <= registers.number
    rows = _pairs(step, loop, registers) if paired else _vectors(step, lanes)
    steps = [list(_moved(step, loop.var, u, rows)) for u in range(2 * lanes if paired else lanes)]
    trips = extent // len(steps)
    kept = _prefetched_lines(steps)
    steps = [[s for s in one if not isinstance(s, Prefetch) or s in kept] for one in steps]
    body = [*rows.loads]
    if paired:
        body += _loaded_where_used(steps.pop(0), rows, registers.taken)
    body += [Scope(tuple(one)) for one in steps]
    middle, at_once = loop.begin + trips * rows.steps, 1 if bytes_of else _trips_together(trips)
    out: list[Stmt] = [*rows.addresses, replace(loop, end=middle, step=rows.steps, body=tuple(body), together=at_once)]
    if trips == 1:
        out = [Scope(tuple(at_place(body, loop.var, Linear(loop.begin))))]
    if loop.end - middle == 1:
        out.append(Scope(tuple(at_place(loop.body, loop.var, Linear(middle)))))
    elif loop.end > middle:
        rest = replace(loop, begin=middle)
        out += (paired and _steps(rest, registers)) or [rest]
    return out


def _trips_together(trips: int) -> int:
    """How many of a reduction's trips the compiler shall run at a time: each saves the loop's own instructions (an
    addition for each row's address, unless its loads move it), and takes code."""
    if trips >= MANY_TRIPS and trips % 4 == 0:
        return 4
    return 2 if trips > 3 and trips % 2 == 0 else 1


MANY_TRIPS = 128


@dataclass(frozen=True)
class _Rows:
    """The vectors that hold the scalars of a trip's steps, `lanes` steps each: their names by the scalar's, in order.
    They are loaded by `loads` at the trip's begin, or those of a scalar by its `pair`, where it is first used, from an
    address that one of `addresses` declares before the loop."""

    lanes: int
    names: Mapping[str, tuple[str, ...]]
    loads: Sequence[Stmt] = ()
    pairs: Mapping[str, LoadTwo] = field(default_factory=dict)
    addresses: Sequence[Pointer] = ()

    @property
    def steps(self) -> int:
        """In a trip."""
        return self.lanes * max(len(names) for names in self.names.values())


def _vectors(step: _Step, lanes: int) -> _Rows:
    """A vector for each row."""
    loads = [
        Declare(name, e.dtype, lanes * e.lanes, replace(e, lanes=lanes * e.lanes, valid=lanes * e.lanes), True)
        for name, e in step.scalars.items()
    ]
    return _Rows(lanes, {name: (name,) for name in step.scalars}, loads)


def _pairs(step: _Step, loop: For, registers: _Registers) -> _Rows:
    """Two vectors for each row, from an address of its own, which moves with the trips."""
    names: dict[str, tuple[str, ...]] = {}
    pairs: dict[str, LoadTwo] = {}
    addresses: list[Pointer] = []
    for name, e in step.scalars.items():
        row = _fresh(f"{e.buffer}_row", registers.taken)
        start = e.index + (Linear(loop.begin) - Linear.var(loop.var))
        addresses.append(Pointer(row, e.dtype, False, e.buffer, start, moves=True))
        second = _fresh(f"{e.buffer}_by_lane", registers.taken)
        names[name] = (name, second)
        pairs[name] = LoadTwo(name, second, e.dtype, registers.lanes, row)
    return _Rows(registers.lanes, names, pairs=pairs, addresses=addresses)


def _loaded_where_used(first: Iterable[Stmt], rows: _Rows, taken: set[str]) -> Iterator[Stmt]:
    """A trip's first step with the pairs of vectors, each before the first statement that uses it. The other steps are
    scopes within the trip, so what this one names for itself gets other names."""
    waiting = {load.first: load for load in rows.pairs.values()}
    renamed: dict[str, str] = {}

    def on_expr(e: Expr) -> Expr:
        return replace(e, name=renamed.get(e.name, e.name)) if isinstance(e, Ref) else e

    for s in first:
        for e in _expressions((s,)):
            if isinstance(e, Ref) and e.name in waiting:
                yield waiting.pop(e.name)
        s = _mapped(s, on_expr)
        if isinstance(s, Declare):
            stem = s.value.buffer if isinstance(s.value, Load) else s.name
            renamed[s.name] = _fresh(f"{stem}_first", taken)
            s = replace(s, name=renamed[s.name])
        yield s


def _neighbours(stmts: tuple[Stmt, ...], registers: _Registers) -> tuple[Stmt, ...] | None:
    """A product's steps with vectors for those scalars that lie side by side; None where nothing is gained."""
    named = {s.name: s.value for s in stmts if isinstance(s, Declare)}
    lanes = registers.lanes
    vectors = _vectors_over({e for e in _expressions(stmts) if _is_scalar(e)}, lanes, registers.taken)
    if not vectors:
        return None

    def on_expr(e: Expr) -> Expr:
        load = named.get(e.name) if isinstance(e, Ref) else e
        if not isinstance(load, Load) or load not in vectors:
            return e
        name, start = vectors[load]
        return _lane(Ref(load.dtype, lanes, name), load.index.const - start.index.const)

    loads = [Declare(name, v.dtype, lanes, v, True) for name, v in dict.fromkeys(vectors.values())]
    rest = [_mapped(s, on_expr) for s in stmts if not (isinstance(s, Declare) and s.value in vectors)]
    return (*loads, *_where_used(rest))


def _vectors_over(scalars: Collection[Load], lanes: int, taken: set[str]) -> dict[Load, tuple[str, Load]]:
    """For scalars at constant distances the named vectors that hold them, where those are at most half as many."""
    runs: dict[tuple[str, Linear], list[Load]] = {}
    for e in sorted(scalars, key=lambda e: (e.buffer, e.index.const)):
        runs.setdefault((e.buffer, e.index - e.index.const), []).append(e)
    held: dict[Load, tuple[str, Load]] = {}
    for (buffer, base), run in runs.items():
        first, last = run[0].index.const, run[-1].index.const - lanes + 1
        starts = sorted({min(start, last) for start in range(first, last + lanes, lanes)})
        if last < first or 2 * len(starts) > len(run):
            continue
        for start in starts:
            inside = [e for e in run if 0 <= e.index.const - start < lanes and e not in held]
            vector = (_fresh(f"{buffer}_by_lane", taken), replace(run[0], index=base + start, lanes=lanes, valid=lanes))
            held.update(dict.fromkeys(inside, vector))
    return held


def _where_used(stmts: list[Stmt]) -> Iterator[Stmt]:
    """The statements, each named value before the first one that uses it."""
    waiting = {s.name: s for s in stmts if isinstance(s, Declare)}
    for s in stmts:
        if isinstance(s, Declare):
            continue
        for e in _expressions((s,)):
            if isinstance(e, Ref) and e.name in waiting:
                yield waiting.pop(e.name)
        yield s


def _fresh(stem: str, taken: set[str]) -> str:
    number = 0
    while f"{stem}{number}" in taken:
        number += 1
    name = f"{stem}{number}"
    taken.add(name)
    return name


def _is_plain(loop: For) -> bool:
    """Whether the body is one run of loads and updates of vectors, at addresses linear in the loop's variable."""
    for s in loop.body:
        update = isinstance(s, Assign) and s.value.lanes > 1
        if not (update or isinstance(s, Prefetch) or (isinstance(s, Declare) and s.constant)):
            return False
    expressions = list(_expressions(loop.body))
    places = [x.index for x in (*loop.body, *expressions) if isinstance(x, Load | Prefetch)]
    return (
        any(isinstance(s, Assign) for s in loop.body)
        and all(isinstance(e, Load | Op | Ref | Const) for e in expressions)
        and all(place.coefficient(loop.var) is not None for place in places)
    )


def _is_scalar(e: Expr | None) -> TypeGuard[Load]:
    return isinstance(e, Load) and e.lanes == 1 and e.dtype in ("float32", HALF)


def _inputs_of_dots(stmts: Iterable[Stmt]) -> set[Load]:
    """What the dot products in a loop's body read of rows."""
    named = {s.name: s.value for s in stmts if isinstance(s, Declare)}
    operands = [e.args[1] for e in _expressions(stmts) if isinstance(e, Op) and e.op == "dot_" and e.lanes > 1]
    values = [named.get(e.name) if isinstance(e, Ref) else e for e in operands]
    return {e for e in values if isinstance(e, Load) and e.valid == e.lanes}


def _lane(vector: Expr, number: int, lanes: int = 1) -> Op:
    return Op(vector.dtype, lanes, LANE, (vector, Const("int32", 1, number)))


def _expressions(stmts: Iterable[Stmt]) -> Iterator[Expr]:
    """All expressions in statements that hold no others."""
    for s in stmts:
        for top in exprs(s):
            yield from walk_expr(top)


def _take_scalars(loop: For, bytes_of: Collection[Load], taken: set[str]) -> _Step:
    """Names the scalars (or bytes) whose next ones lie behind them, and takes their loads out of the body."""
    step = _Step()
    names: dict[Expr, str] = {}

    def follows(e: Expr | None) -> TypeGuard[Load]:
        return isinstance(e, Load) and (e in bytes_of or _is_scalar(e)) and e.index.coefficient(loop.var) == e.lanes

    def name(e: Load) -> str:
        if e not in names:
            names[e] = _fresh(f"{e.buffer}_by_lane", taken)
            step.scalars[names[e]] = e
        return names[e]

    def on_expr(e: Expr) -> Expr:
        return Ref(e.dtype, e.lanes, name(e)) if follows(e) else e

    for s in loop.body:
        if isinstance(s, Declare) and follows(s.value):
            names[s.value] = s.name
            step.scalars[s.name] = s.value
        else:
            step.rest.append(_mapped(s, on_expr))
    return step


def _prefetched_lines(steps: Iterable[Iterable[Stmt]]) -> set[Prefetch]:
    """Of the prefetches in `steps` one for each cache line."""
    found = {s for step in steps for s in step if isinstance(s, Prefetch)}
    last: dict[tuple[str, Linear], int] = {}
    kept: set[Prefetch] = set()
    for p in sorted(found, key=lambda p: (p.buffer, p.index.const)):
        place = (p.buffer, p.index - p.index.const)
        if place not in last or p.index.const - last[place] >= LINE:
            last[place] = p.index.const
            kept.add(p)
    return kept


def _moved(step: _Step, var: str, by: int, rows: _Rows) -> Iterator[Stmt]:
    """The step's statements `by` steps on, each scalar being a lane of its vector."""
    number, lane = divmod(by, rows.lanes)

    def on_expr(e: Expr) -> Expr:
        if isinstance(e, Ref) and e.name in rows.names:
            return _lane(replace(e, name=rows.names[e.name][number], lanes=rows.lanes * e.lanes), lane, e.lanes)
        return e

    for s in at_place(step.rest, var, Linear.var(var) + by):
        yield _mapped(s, on_expr)


def at_place(stmts: Iterable[Stmt], var: str, place: Linear) -> Iterator[Stmt]:
    """The statements with `place` for the loop's variable."""

    def moved(index: Linear) -> Linear:
        return index + (place - Linear.var(var)) * (index.coefficient(var) or 0)

    for s in stmts:
        if isinstance(s, For | Scope):
            yield replace(s, body=tuple(at_place(s.body, var, place)))
        elif isinstance(s, Prefetch):
            yield replace(s, index=moved(s.index))
        else:
            yield _mapped(s, lambda e: replace(e, index=moved(e.index)) if isinstance(e, Load) else e)


def _mapped(s: Stmt, f: Callable[[Expr], Expr]) -> Stmt:
    if isinstance(s, Assign | Declare) and s.value is not None:
        return replace(s, value=map_expr(s.value, f))
    return s
