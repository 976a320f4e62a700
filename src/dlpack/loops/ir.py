"""The kernel IR: what a lowered kernel is once TVM is done with it, and all that the emitter sees of it.

A kernel is a tree of frozen dataclasses. Values are scalars (`lanes == 1`) or vectors; addresses are `Linear`
forms in elements. Names are unique within a kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from math import gcd
from typing import Any

from dlpack.loops.index import Linear
from dlpack.loops.sizes import Size, Tiles

HALF = "half"
"""The element type of float16s that kernels compute with: values between operators (`graph/halves.py`), not borders."""

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

    A vector's `valid` lanes are the elements from there on. Where `index` is a vector, each lane has its element of a
    table of 256.
    """

    buffer: str
    index: Expr
    valid: int = 1


# --- statements ------------------------------------------------------------------------------------------------------


class LoopAxis(Enum):
    """Who runs a loop's trips: one thread in order, a CPU's threads in parts, a GPU's blocks, a block's threads."""

    SERIAL = "serial"
    PARALLEL = "parallel"
    BLOCK = "block"
    THREAD = "thread"


class Space(Enum):
    """Where an array lies: in a thread's registers or on its stack, in the kernel's scratch memory, or in the memory
    that the threads of a GPU's block share."""

    REGISTER = "register"
    SCRATCH = "scratch"
    SHARED = "shared"


@dataclass(frozen=True)
class Stmt:
    pass


Block = tuple[Stmt, ...]
"""Statements in order."""


@dataclass(frozen=True)
class TiledRows:
    """How tiles of several heights share n rows, in this order: whole ones, of `rows`; of each height in `once`, which
    fall, at the most one; and those of `low` rows, the lowest, if that is not 0.

    There are ``n // rows`` whole ones; with a remainder that has its bit in `less` one less, unless there is none, or
    else, with one that has it in `more`, one more. There is one of a height in `once` where the number of rows that are
    then left has its bit in the mask beside it.
    """

    rows: int
    low: int
    more: int
    less: int
    once: tuple[tuple[int, int], ...] = ()

    @property
    def lower(self) -> tuple[int, ...]:
        """All heights but the whole ones'."""
        return (*(height for height, _ in self.once), *((self.low,) if self.low else ()))

    @property
    def unit(self) -> int:
        """Where the lower tiles begin is a multiple of so many rows."""
        return gcd(self.rows, *self.lower)

    def shared(self, n: int) -> tuple[int, ...]:
        """How many whole tiles do `n` rows, and how many of each height in `once`."""
        whole, rest = divmod(n, self.rows)
        whole += -1 if whole and self.less >> rest & 1 else self.more >> rest & 1
        left, counts = n - whole * self.rows, [whole]
        for height, mask in self.once:
            counts.append(mask >> left & 1 if left > 0 else 0)
            left -= counts[-1] * height
        return tuple(counts)

    def counts(self, n: int) -> list[tuple[int, int]]:
        """How many tiles of which heights do `n` rows."""
        found = list(zip(self.shared(n), (self.rows, *(height for height, _ in self.once)), strict=True))
        left = n - sum(k * height for k, height in found)
        lows = -(-max(0, left) // self.low) if self.low else 0
        return [(k, height) for k, height in (*found, (lows, self.low)) if k]


@dataclass(frozen=True)
class Band:
    """The tiles of one trip of the loop over `var`: `most`, of which the last trip has what is left."""

    var: str
    most: int


@dataclass(frozen=True)
class Open:
    """The trips of a loop along a dimension that is open within bounds.

    A run has n of its elements: there are ``ceil(n * times / by)`` trips, of which the last may go beyond them.
    `filled`: n is first rounded up to a multiple of `FILLED`, which `by` divides. There are `less` trips than these.
    Where there are pictures of several sizes, n is what `size` gives, and there are at the most `most` trips. Of a
    picture's tiles the loop goes through all, or through those of the `band` that a trip of a loop around has.
    """

    times: int
    by: int
    filled: bool = False
    less: int = 0
    size: Size | Tiles | None = None
    most: int = 0
    tiles: TiledRows | None = None
    """A trip is that of a whole tile of rows, and lower ones follow."""
    band: Band | None = None
    places: tuple[tuple[str, str], ...] = ()
    """The integers that have the row ("": there is one) and the column of each of a trip's tiles; behind the last,
    its."""

    @property
    def exact(self) -> bool:
        """Whether no trip goes beyond the elements, however many there are."""
        return self.times % self.by == 0 and not self.filled


@dataclass(frozen=True)
class After:
    """A loop that goes on behind an open one over whole tiles, whose variable counts in units of rows
    (`TiledRows.unit`): over tiles of the height number `lower` of `TiledRows.lower`."""

    open: Open
    lower: int

    @property
    def tiles(self) -> TiledRows:
        assert self.open.tiles is not None
        return self.open.tiles

    @property
    def last(self) -> bool:
        """Whether it is over the lowest tiles, of which there may be several."""
        return self.lower == len(self.tiles.once)

    def range(self, n: int) -> tuple[int, int]:
        """Where it begins and ends with `n` rows, in units."""
        t = self.tiles
        ends, behind = [], 0
        for k, height in zip(t.shared(n), (t.rows, *t.lower), strict=False):
            behind += k * height // t.unit
            ends.append(behind)
        return ends[self.lower], -(-n // t.unit) if self.last else ends[self.lower + 1]


@dataclass(frozen=True)
class For(Stmt):
    """``for (var = begin; var < end; var += step)``, whose trips `axis` runs. The compiler is asked to run
    `together` trips at a time (0: never several); if `unrolled`, to write out all, so that arrays indexed by `var`
    become registers.

    Blocks of a GPU take a trip each: loops over them are around everything else, the innermost is the grid's x. The
    threads of a block share the trips of a loop of theirs, whose `step` is their number: thread t begins at begin + t.

    A loop that is `open` has its trips from 0 on, and `end` if a run has the most elements. One with `until`, an
    integer that is at the most `end`, ends there.
    """

    var: str
    begin: int
    end: int
    step: int
    body: Block
    axis: LoopAxis = LoopAxis.SERIAL
    together: int = 1
    unrolled: bool = False
    open: Open | None = None
    after: After | None = None
    until: Expr | None = None


@dataclass(frozen=True)
class If(Stmt):
    condition: Expr
    then: Block
    otherwise: Block = ()


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
    """An array of `size` elements, aligned for vectors; in scratch memory it lies `offset` bytes from its start."""

    name: str
    dtype: str
    size: int
    space: Space = Space.REGISTER
    offset: int = 0


@dataclass(frozen=True)
class Barrier(Stmt):
    """The threads of a GPU's block wait here for each other, and then see what each has written to shared memory."""


@dataclass(frozen=True)
class Scope(Stmt):
    """A block of its own: one trip taken out of a loop."""

    body: Block


@dataclass(frozen=True)
class Prefetch(Stmt):
    """Asks for the cache line at an address that will be read soon; harmless beyond the buffer's end."""

    buffer: str
    index: Linear


@dataclass(frozen=True)
class Pointer(Stmt):
    """Names the address of ``buffer[index]``; `buffer` may be a pointer too. `written`: it serves stores as well.
    `moves`: loads of two vectors from it move it on."""

    name: str
    dtype: str
    written: bool
    buffer: str
    index: Linear
    moves: bool = False


@dataclass(frozen=True)
class LoadTwo(Stmt):
    """Names the two vectors of `lanes` elements at a pointer, and moves it behind them."""

    first: str
    second: str
    dtype: str
    lanes: int
    pointer: str


@dataclass(frozen=True)
class While(Stmt):
    condition: Expr
    body: Block


# --- kernels ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Param:
    name: str
    dtype: str
    written: bool


@dataclass(frozen=True)
class Kernel:
    """`params` in calling order (inputs, then outputs); `scratch` is the bytes of arena it needs in addition.

    `trips` is how many trips threads may share, 0 where one thread does all: a call then takes a part of [0, trips),
    and each thread has a scratch of its own. `open_trips` says how many of these a run has, if that is open.

    Where a dimension is open, a call has its number of elements in a run. The parameters that are numbered in `fills`
    are to have this value beyond those elements, up to the next multiple of `FILLED`: vectors of them are reduced.
    """

    params: tuple[Param, ...]
    body: Block
    scratch: int = 0
    trips: int = 0
    open_trips: Open | None = None
    fills: tuple[tuple[int, float], ...] = ()

    @property
    def opened(self) -> int:
        """How many open dimensions it goes through, each with all of another: 0 where none is open."""
        return _opened(self.body)

    @property
    def sizes(self) -> tuple[Size, ...]:
        """What a call is told of a picture's size, in this order."""
        found = {s.open.size for s in walk(self.body) if isinstance(s, For) and s.open}
        own = {size for n in found if n for size in (n.sizes if isinstance(n, Tiles) else (n,))}
        return tuple(sorted(own, key=lambda size: size.order))

    @property
    def tiles(self) -> Tiles | None:
        """The tiles of a picture that the kernel numbers."""
        found = (s.open.size for s in walk(self.body) if isinstance(s, For) and s.open)
        return next((size for size in found if isinstance(size, Tiles)), None)


def _opened(body: Block) -> int:
    return max(
        ((isinstance(s, For) and s.open is not None) + max(map(_opened, blocks(s)), default=0) for s in body), default=0
    )


FILLED = 64
"""Four vectors of sixteen: as many elements as a trip of a sum takes at the most."""


# --- the walker ------------------------------------------------------------------------------------------------------
# A node's fields say what it is made of: expressions, and tuples of expressions (of an `Op`) or of statements.


def children(e: Expr) -> tuple[Expr, ...]:
    """The expressions that an expression is made of, in order."""
    if isinstance(e, Op):
        return e.args
    return (e.index,) if isinstance(e, Gathered) else ()


def blocks(s: Stmt) -> tuple[Block, ...]:
    """The blocks directly inside one statement."""
    return tuple(v for v in vars(s).values() if isinstance(v, tuple))


def walk(stmts: Block) -> Iterator[Stmt]:
    """All statements, each before those inside it."""
    for s in stmts:
        yield s
        for block in blocks(s):
            yield from walk(block)


def walk_expr(e: Expr) -> Iterator[Expr]:
    """An expression and all below it."""
    yield e
    for c in children(e):
        yield from walk_expr(c)


def exprs(s: Stmt) -> tuple[Expr, ...]:
    """The expressions directly inside one statement."""
    return tuple(v for v in vars(s).values() if isinstance(v, Expr))


def expressions(stmts: Iterable[Stmt]) -> Iterator[Expr]:
    """All expressions in statements and in those inside them."""
    for s in walk(tuple(stmts)):
        for top in exprs(s):
            yield from walk_expr(top)


def variables(stmts: Iterable[Stmt]) -> set[str]:
    """The names that addresses and integers are computed from, in statements and in those inside them."""
    out: set[str] = set()
    for s in walk(tuple(stmts)):
        for n in (s, *(e for top in exprs(s) for e in walk_expr(top))):
            out.update(name for form in vars(n).values() if isinstance(form, Linear) for name in form.variables())
    return out


def names(kernel: Kernel) -> set[str]:
    """The names of a kernel's parameters, variables and arrays."""
    declared = {s.name for s in walk(kernel.body) if isinstance(s, Array | Declare)}
    return {p.name for p in kernel.params} | declared | {s.var for s in walk(kernel.body) if isinstance(s, For)}


def map_expr(e: Expr, f: Callable[[Expr], Expr]) -> Expr:
    """Rebuilds `e` from the leaves up, each node passed through `f`."""
    if isinstance(e, Op):
        args = tuple(map_expr(a, f) for a in e.args)
        e = e if all(x is y for x, y in zip(args, e.args, strict=True)) else replace(e, args=args)
    elif isinstance(e, Gathered):
        e = replace(e, index=map_expr(e.index, f))
    return f(e)


def map_blocks(s: Stmt, f: Callable[[Block], Block]) -> Stmt:
    """One statement with each block directly inside it passed through `f`."""
    changed = {name: f(v) for name, v in vars(s).items() if isinstance(v, tuple)}
    return replace(s, **changed) if changed else s


def map_exprs(s: Stmt, f: Callable[[Expr], Expr]) -> Stmt:
    """One statement with each expression directly inside it rebuilt as `map_expr` does."""
    changed = {name: map_expr(v, f) for name, v in vars(s).items() if isinstance(v, Expr)}
    return replace(s, **changed) if changed else s


def map_forms(stmts: Block, f: Callable[[Linear], Linear]) -> Block:
    """Rebuilds statements with each address and each integer passed through `f`."""

    def mapped(node: Any) -> Any:
        changed = {name: f(v) for name, v in vars(node).items() if isinstance(v, Linear)}
        return replace(node, **changed) if changed else node

    return map_stmts(stmts, lambda s: [mapped(s)], mapped)


def map_stmts(stmts: Block, f: Callable[[Stmt], list[Stmt]], g: Callable[[Expr], Expr]) -> Block:
    """Rebuilds statements: expressions through `g`, then each statement through `f`, which may return several."""
    out: list[Stmt] = []
    for s in stmts:
        out.extend(f(map_exprs(map_blocks(s, lambda block: map_stmts(block, f, g)), g)))
    return tuple(out)
