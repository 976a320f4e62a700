"""The rule for loops that an operator wrote itself (operators/loops.py): sums along an axis, scatters, the largest of a
row, walks through trees.

Of the loops around a statement, those are independent whose trips write and read different elements of all that the
statement writes: a thread takes such a trip each, and does what is left of the loops. What has none is one thread's. A
statement that the threads share, and what stands between two such, is a launch of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from dlpack.kernels.spec import Scheduled
from dlpack.loops.expressions import operands_of
from dlpack.loops.tir import loop_names, lower, tirx
from dlpack.targets.gpu.cost import threads_for, traffic_seconds
from dlpack.targets.gpu.lowering import GRID, SHARE, lower_gpu_kernel
from dlpack.targets.gpu.state import GpuState

FEWEST_TRIPS = 32
"""Independent trips from which on threads share them."""

MOST_LAUNCHES = 4
"""Beyond which one thread does it all in one."""


def as_written(state: GpuState) -> Scheduled | None:
    """Schedules loops that an operator wrote itself; None for any other kernel."""
    if not state.statements:
        return None
    func = lower(state.sch)
    launches = _launches(func.body)
    if launches is None:
        return state.done("as written, one thread", 1)
    items = max(n.items for n in launches)
    threads = threads_for(state.gpu, items)
    body = tirx.SeqStmt([n.statement() for n in launches]) if len(launches) > 1 else launches[0].statement()
    shared = _Function(func.params, body)
    kernel = lower_gpu_kernel(shared, state.operands(), state.spec.order, loop_names(state.sch), threads, 0)
    words = [
        state.on_paper(n.words, traffic_seconds(state.gpu, state.nbytes, -(-n.items // threads))) for n in launches
    ]
    return Scheduled(kernel, state.packed, "\n".join(words))


@dataclass(frozen=True)
class _Function:
    """As `lower_gpu_kernel` sees a function of TVM's."""

    params: Any
    body: Any


@dataclass
class _Launch:
    """What one launch does: the `independent` loops around all of it, and what they are around."""

    independent: tuple[Any, ...]
    inside: list[Any]
    locals: dict[Any, Any] = field(default_factory=dict)
    """By buffer, the declarations of the small arrays that it uses."""

    @property
    def items(self) -> int:
        return prod((int(loop.extent) for loop in self.independent), start=1)

    @property
    def words(self) -> str:
        return "as written, a thread per independent trip" if self.independent else "as written, one thread"

    def statement(self) -> Any:
        statements = [*self.locals.values(), *self.inside]
        body = tirx.SeqStmt(statements) if len(statements) > 1 else statements[0]
        if not self.independent:
            return tirx.For(tirx.Var("one", "int32"), 0, 1, tirx.ForKind.SERIAL, body, annotations={SHARE: GRID})
        for loop in reversed(self.independent):
            body = _around(loop, body, {SHARE: GRID})
        return body


def _around(loop: Any, body: Any, annotations: Mapping[str, Any] | None = None) -> Any:
    return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body, annotations=dict(annotations or {}))


def _launches(body: Any) -> list[_Launch] | None:
    """The launches that do what `body` says; None where one thread is to do it all."""
    statements = list(body.seq) if type(body).__name__ == "SeqStmt" else [body]
    kinds = [type(s).__name__ for s in statements]
    if "Bind" in kinds:
        return None
    declared = {s.buffer: s for s, kind in zip(statements, kinds, strict=True) if kind == "AllocBuffer"}
    if any(str(buffer.scope()) != "local" for buffer in declared):
        return None
    out: list[_Launch] = []
    for s in (s for s, kind in zip(statements, kinds, strict=True) if kind != "AllocBuffer"):
        split = _independent(s, declared)
        if split is not None:
            out.append(split)
        elif out and not out[-1].independent:
            out[-1].inside.append(s)
        else:
            out.append(_Launch((), [s]))
    if len(out) > MOST_LAUNCHES or all(not n.independent for n in out):
        return None
    users = {buffer: [n for n in out if _uses(n.inside, buffer)] for buffer in declared}
    for buffer, those in users.items():
        if len(those) > 1 and not all(_begins_anew(n.inside, buffer) for n in those):
            return None
        for n in those:
            n.locals[buffer] = declared[buffer]
    return out


def _independent(s: Any, declared: Mapping[Any, Any]) -> _Launch | None:
    """A statement as a launch, its independent loops outside of the others; None where these are too few."""
    loops = []
    while type(s).__name__ == "For":
        loops.append(s)
        s = s.body
    written = {a.buffer for a in _accesses(s) if a.stores and a.buffer not in declared and not _is_local(a.buffer)}
    free = tuple(loop for loop in loops if all(_apart(s, buffer, loop.loop_var) for buffer in written))
    body = s
    for loop in reversed([loop for loop in loops if loop not in free]):
        body = _around(loop, body)
    launch = _Launch(free, [body])
    if launch.items < FEWEST_TRIPS or not all(_begins_anew([body], b) for b in declared if _uses([body], b)):
        return None
    return launch


@dataclass(frozen=True)
class _Access:
    """A load or store. `sure`: under no condition."""

    buffer: Any
    indices: tuple[Any, ...]
    stores: bool
    sure: bool


def _accesses(s: Any, sure: bool = True) -> Iterator[_Access]:
    kind = type(s).__name__
    if kind == "SeqStmt":
        for child in s.seq:
            yield from _accesses(child, sure)
    elif kind in ("For", "AttrStmt"):
        yield from _accesses(s.body, sure)
    elif kind == "While":
        yield from _loads(s.condition, sure)
        yield from _accesses(s.body, False)
    elif kind == "IfThenElse":
        yield from _loads(s.condition, sure)
        for child in (s.then_case, s.else_case):
            if child is not None:
                yield from _accesses(child, False)
    elif kind == "BufferStore":
        for e in (s.value, *s.indices):
            yield from _loads(e, sure)
        yield _Access(s.buffer, tuple(s.indices), True, sure)
    elif kind in ("Bind", "Evaluate"):
        yield from _loads(s.value, sure)


def _loads(e: Any, sure: bool = True) -> Iterator[_Access]:
    for child in operands_of(e):
        yield from _loads(child, sure)
    if type(e).__name__ == "TensorLoad":
        yield _Access(e.source, tuple(e.indices), False, sure)


def _is_local(buffer: Any) -> bool:
    return str(buffer.scope()) == "local"


def _uses(statements: Sequence[Any], buffer: Any) -> bool:
    return any(a.buffer == buffer for s in statements for a in _accesses(s))


def _apart(s: Any, buffer: Any, var: Any) -> bool:
    """Whether a statement accesses only elements of a buffer that have the loop's variable as one of their indices, the
    same for all: then no trip accesses what another does."""
    found = [a.indices for a in _accesses(s) if a.buffer == buffer]
    return any(all(indices[d].same_as(var) for indices in found) for d in range(len(found[0])))


def _begins_anew(statements: Sequence[Any], buffer: Any) -> bool:
    """Whether statements read nothing of a small array that they have not written."""
    known = False
    for s in statements:
        after = _known(s, buffer, known)
        if after is None:
            return False
        known = after
    return True


def _known(s: Any, buffer: Any, known: bool) -> bool | None:
    """Whether all of a small array is written when a statement is done, if it was `known` to be before; None where the
    statement may read what is not."""
    kind = type(s).__name__
    if kind == "SeqStmt":
        for child in s.seq:
            after = _known(child, buffer, known)
            if after is None:
                return None
            known = after
        return known
    if kind == "AttrStmt":
        return _known(s.body, buffer, known)
    conditions = [s.condition] if kind in ("While", "IfThenElse") else []
    read = [*conditions, *([s.value] if hasattr(s, "value") else []), *(s.indices if kind == "BufferStore" else [])]
    if not known and any(a.buffer == buffer for e in read for a in _loads(e)):
        return None
    if kind == "BufferStore":
        return known or (s.buffer == buffer and int(buffer.shape[0]) == 1)
    if kind == "IfThenElse":
        other = known if s.else_case is None else _known(s.else_case, buffer, known)
        then = _known(s.then_case, buffer, known)
        return None if then is None or other is None else then and other
    if kind == "While":
        return None if _known(s.body, buffer, known) is None else known
    if kind == "For":
        after = _known(s.body, buffer, known)
        return None if after is None else (after and int(s.extent) > 0) or known or _fills(s, buffer)
    return known


def _fills(loop: Any, buffer: Any) -> bool:
    """Whether a loop writes an element of a small array in each trip, the one with its number, and so all of it."""
    every = int(loop.extent) == int(buffer.shape[0])
    stores = [a for a in _accesses(loop.body) if a.buffer == buffer and a.stores and a.sure]
    return every and any(a.indices[0].same_as(loop.loop_var) for a in stores)
