"""The kernel IR: what a lowered kernel is once TVM is done with it, and all that the emitter sees of it.

A kernel is a tree of frozen dataclasses. Values are scalars (`lanes == 1`) or vectors; addresses are `Linear`
forms in elements. Names are unique within a kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from dlpack.loops.index import Linear

# --- expressions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Expr:
    dtype: str
    lanes: int


@dataclass(frozen=True)
class Const(Expr):
    value: float | int | bool


@dataclass(frozen=True)
class Index(Expr):
    """An integer computed from loop variables."""

    form: Linear


@dataclass(frozen=True)
class Ref(Expr):
    """A named local variable."""

    name: str


@dataclass(frozen=True)
class Load(Expr):
    """`lanes` consecutive elements of `buffer` from `index` on; only the first `valid` are read, the rest are 0."""

    buffer: str
    index: Linear
    valid: int


@dataclass(frozen=True)
class Op(Expr):
    """`op` is a C operator ("+", "<", "&&"), "select", "cast" or the name of a runtime function ("exp")."""

    op: str
    args: tuple[Expr, ...]


@dataclass(frozen=True)
class Gathered(Expr):
    """A load at an address that is data: `buffer[index]` with a computed scalar `index`.

    A vector's `valid` lanes are the elements from there on.
    """

    buffer: str
    index: Expr
    valid: int = 1


# --- statements ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stmt:
    pass


@dataclass(frozen=True)
class For(Stmt):
    """``for (var = begin; var < end; var += step)``; `shared` marks the loop whose trips threads share, in parts."""

    var: str
    begin: int
    end: int
    step: int
    body: tuple[Stmt, ...]
    shared: bool = False


@dataclass(frozen=True)
class If(Stmt):
    condition: Expr
    then: tuple[Stmt, ...]
    otherwise: tuple[Stmt, ...] = ()


@dataclass(frozen=True)
class Store(Stmt):
    buffer: str
    index: Linear
    value: Expr
    valid: int


@dataclass(frozen=True)
class ScatteredStore(Stmt):
    buffer: str
    index: Expr
    value: Expr


@dataclass(frozen=True)
class Declare(Stmt):
    """Declares a local variable and gives it its first value (None: left open until assigned)."""

    name: str
    dtype: str
    lanes: int
    value: Expr | None
    constant: bool = False


@dataclass(frozen=True)
class Assign(Stmt):
    name: str
    value: Expr


@dataclass(frozen=True)
class Array(Stmt):
    """A small array on the stack, aligned for vectors."""

    name: str
    dtype: str
    size: int


@dataclass(frozen=True)
class ScratchArray(Stmt):
    """An array in the kernel's scratch memory, `offset` bytes from its start (the last parameter, "scratch")."""

    name: str
    dtype: str
    offset: int


@dataclass(frozen=True)
class Scope(Stmt):
    """A block of its own: one trip taken out of a loop."""

    body: tuple[Stmt, ...]


@dataclass(frozen=True)
class Prefetch(Stmt):
    """Asks for the cache line at an address that will be read soon; harmless beyond the buffer's end."""

    buffer: str
    index: Linear


@dataclass(frozen=True)
class While(Stmt):
    condition: Expr
    body: tuple[Stmt, ...]


# --- kernels ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Param:
    name: str
    dtype: str
    written: bool


@dataclass(frozen=True)
class Kernel:
    """`params` in calling order (inputs, then outputs); `scratch` is the bytes of arena it needs in addition.

    `trips` is how many trips threads may share, 0 where one thread does all: a call then takes a part of
    [0, trips), and each thread has a scratch of its own.
    """

    params: tuple[Param, ...]
    body: tuple[Stmt, ...]
    scratch: int = 0
    trips: int = 0


def children(e: Expr) -> tuple[Expr, ...]:
    if isinstance(e, Op):
        return e.args
    return (e.index,) if isinstance(e, Gathered) else ()


def walk_expr(e: Expr) -> Iterator[Expr]:
    yield e
    for c in children(e):
        yield from walk_expr(c)


def exprs(s: Stmt) -> tuple[Expr, ...]:
    """The expressions directly inside one statement."""
    if isinstance(s, Store | Assign):
        return (s.value,)
    if isinstance(s, ScatteredStore):
        return (s.index, s.value)
    if isinstance(s, Declare):
        return (s.value,) if s.value else ()
    return (s.condition,) if isinstance(s, If | While) else ()


def walk(stmts: tuple[Stmt, ...]) -> Iterator[Stmt]:
    for s in stmts:
        yield s
        if isinstance(s, For | While | Scope):
            yield from walk(s.body)
        elif isinstance(s, If):
            yield from walk(s.then)
            yield from walk(s.otherwise)


def map_expr(e: Expr, f: Callable[[Expr], Expr]) -> Expr:
    """Rebuilds `e` from the leaves up, each node passed through `f`."""
    if isinstance(e, Op):
        args = tuple(map_expr(a, f) for a in e.args)
        e = e if all(x is y for x, y in zip(args, e.args, strict=True)) else replace(e, args=args)
    elif isinstance(e, Gathered):
        e = replace(e, index=map_expr(e.index, f))
    return f(e)


def map_stmts(stmts: tuple[Stmt, ...], f: Callable[[Stmt], list[Stmt]], g: Callable[[Expr], Expr]) -> tuple[Stmt, ...]:
    """Rebuilds statements: expressions through `g`, then each statement through `f`, which may return several."""
    out: list[Stmt] = []
    for s in stmts:
        if isinstance(s, For | While | Scope):
            s = replace(s, body=map_stmts(s.body, f, g))
        if isinstance(s, If):
            s = If(map_expr(s.condition, g), map_stmts(s.then, f, g), map_stmts(s.otherwise, f, g))
        elif isinstance(s, While):
            s = replace(s, condition=map_expr(s.condition, g))
        elif isinstance(s, Store | Assign):
            s = replace(s, value=map_expr(s.value, g))
        elif isinstance(s, ScatteredStore):
            s = replace(s, index=map_expr(s.index, g), value=map_expr(s.value, g))
        elif isinstance(s, Declare) and s.value is not None:
            s = replace(s, value=map_expr(s.value, g))
        out.extend(f(s))
    return tuple(out)
