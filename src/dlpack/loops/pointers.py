"""The part of an address that accesses in a block have in common becomes a pointer: ``x_row`` is x at row `row`.

Only for the reader: compilers find these sums themselves. A pointer never leaves its buffer, since it is made only
where its address plus something that is not negative is an access that is sure to happen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from dlpack.loops.index import Atom, Linear
from dlpack.loops.ir import (
    Array,
    Block,
    Declare,
    Expr,
    For,
    If,
    Kernel,
    Load,
    Op,
    Pointer,
    Prefetch,
    Space,
    Stmt,
    Store,
    While,
    blocks,
    children,
    exprs,
    map_blocks,
    map_exprs,
    walk,
)

_LAZY = frozenset(("select", "&&", "||"))
"""Operators that may leave operands behind the first unevaluated."""

_Terms = frozenset[tuple[Atom, int]]


@dataclass(frozen=True)
class _Base:
    """A pointer in scope: `name` is the address of `buffer` moved by `terms`."""

    buffer: str
    terms: _Terms
    name: str


@dataclass(frozen=True)
class _Access:
    """An access to a buffer; `sure` that it happens whenever the block runs."""

    buffer: str
    index: Linear
    sure: bool


def with_pointers(kernel: Kernel) -> Kernel:
    """The kernel with a pointer for each part of an address that two or more accesses of a block begin with."""
    return replace(kernel, body=_Pointers(kernel).block(kernel.body, (), ()))


class _Pointers:
    def __init__(self, kernel: Kernel) -> None:
        self.buffers = {p.name: (p.dtype, p.written) for p in kernel.params}
        self.names = {*self.buffers, "scratch", "begin", "end"}
        for s in walk(kernel.body):
            if isinstance(s, Array) and s.space is not Space.REGISTER:
                self.buffers[s.name] = s.dtype, True
            if isinstance(s, Array | Declare | Pointer):
                self.names.add(s.name)
            elif isinstance(s, For):
                self.names.add(s.var)

    def block(self, stmts: Block, loops: tuple[str, ...], bases: tuple[_Base, ...]) -> Block:
        """The block with pointers of its own, inside loops over the variables `loops` and where `bases` are known."""
        made: list[Stmt] = []
        if not (len(stmts) == 1 and isinstance(stmts[0], For)):  # else the loop within makes them
            bases, made = self.opened(stmts, loops, bases)

        def load(e: Expr) -> Expr:
            if not isinstance(e, Load):
                return e
            buffer, index = _rebased(e.buffer, e.index, bases)
            return replace(e, buffer=buffer, index=index)

        out = made
        for s in stmts:
            inner = (*loops, *_variables_of(s)) if isinstance(s, For) else loops
            s = map_exprs(map_blocks(s, partial(self.block, loops=inner, bases=bases)), load)
            if isinstance(s, Store | Prefetch):
                buffer, index = _rebased(s.buffer, s.index, bases)
                s = replace(s, buffer=buffer, index=index)
            out.append(s)
        return tuple(out)

    def opened(
        self, stmts: Block, loops: tuple[str, ...], bases: tuple[_Base, ...]
    ) -> tuple[tuple[_Base, ...], list[Stmt]]:
        """The bases known within a block, and the declarations of those that are its own."""
        inside = {s.name for s in walk(stmts) if isinstance(s, Array)}
        groups: dict[tuple[str, _Terms], list[_Access]] = {}
        for access in _accesses(stmts, True):
            if access.buffer in self.buffers and access.buffer not in inside:
                terms = frozenset((a, c) for a, c in access.index.terms if c > 0 and _variables(a) <= set(loops))
                groups.setdefault((access.buffer, terms), []).append(access)
        made: list[Stmt] = []
        for (buffer, terms), accesses in sorted(groups.items(), key=lambda group: len(group[0][1])):
            base = _nearest(buffer, terms, bases)
            rest = terms - base.terms if base else terms
            if len(accesses) < 2 or not rest or not any(a.sure for a in accesses):
                continue
            if rest == _alone(rest) and len({a.index for a in accesses}) == 1:
                continue  # ``x[row]`` is as short as ``x_row[0]``
            moved = {v for atom, _ in rest for v in _variables(atom)}
            name = self.fresh(f"{buffer}_{[v for v in loops if v in moved][-1]}", bases)
            dtype, written = self.buffers[buffer]
            made.append(Pointer(name, dtype, written, base.name if base else buffer, _linear(rest)))
            bases = (*bases, _Base(buffer, terms, name))
        return bases, made

    def fresh(self, stem: str, bases: tuple[_Base, ...]) -> str:
        taken = self.names | {b.name for b in bases}
        name, k = stem, 1
        while name in taken:
            k += 1
            name = f"{stem}_{k}"
        return name


def _accesses(stmts: Block, sure: bool) -> Iterator[_Access]:
    for s in stmts:
        if isinstance(s, Store | Prefetch):
            yield _Access(s.buffer, s.index, sure and isinstance(s, Store) and _plain(s.index))
        for e in exprs(s):
            yield from _loads(e, sure)
        for block in blocks(s):
            yield from _accesses(block, sure and not isinstance(s, If | While))


def _loads(e: Expr, sure: bool) -> Iterator[_Access]:
    if isinstance(e, Load):
        yield _Access(e.buffer, e.index, sure and _plain(e.index))
    lazy = isinstance(e, Op) and e.op in _LAZY
    for k, c in enumerate(children(e)):
        yield from _loads(c, sure and not (lazy and k))


def _plain(index: Linear) -> bool:
    """Whether every part of a sum lies between 0 and the sum."""
    return index.const >= 0 and all(c > 0 for _, c in index.terms)


def _nearest(buffer: str, terms: _Terms, bases: tuple[_Base, ...]) -> _Base | None:
    """The pointer into a buffer that has most of an address's terms, and no others."""
    found = [b for b in bases if b.buffer == buffer and b.terms <= terms]
    return max(found, key=lambda b: len(b.terms), default=None)


def _rebased(buffer: str, index: Linear, bases: tuple[_Base, ...]) -> tuple[str, Linear]:
    base = _nearest(buffer, frozenset(index.terms), bases)
    return (base.name, index - _linear(base.terms)) if base else (buffer, index)


def _linear(terms: _Terms) -> Linear:
    total = Linear()
    for atom, c in terms:
        total = total + Linear.var(atom) * c
    return total


def _alone(terms: _Terms) -> _Terms:
    """The terms that are no more than a loop's variable, of at most one term."""
    return frozenset(t for t in terms if len(terms) == 1 and isinstance(t[0], str) and t[1] == 1)


def _variables(atom: Atom) -> set[str]:
    return {atom} if isinstance(atom, str) else atom.form.variables()


def _variables_of(loop: For) -> tuple[str, ...]:
    """The integers that a loop's body knows by it."""
    return (loop.var, *(name for place in loop.open.places for name in place)) if loop.open else (loop.var,)
