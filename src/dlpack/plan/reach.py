"""How far into a block of memory the steps of a run go, where open dimensions have no more than so many elements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from dlpack.graph.ir import TensorType
from dlpack.loops.index import Linear, Range
from dlpack.loops.ir import (
    FILLED,
    Block,
    Expr,
    For,
    Gathered,
    Kernel,
    Load,
    LoadTwo,
    Open,
    Pointer,
    ScatteredStore,
    Stmt,
    Store,
    exprs,
    walk_expr,
)
from dlpack.loops.ir import blocks as inner_blocks
from dlpack.loops.sizes import EXTENT, Size, Tiles
from dlpack.plan.program import (
    Address,
    CallStep,
    CopyStep,
    CountStep,
    FillStep,
    HaloStep,
    LoopStep,
    PixelsStep,
    RowsStep,
    ShareStep,
    SpreadStep,
    Step,
    TapsStep,
)
from dlpack.plan.steps import calls, operands

ALL = 1 << 60
"""Of an operand of which nothing is known: as many bytes as it has."""

TALLEST = 64
"""More pixels than a tile has: so many may be computed behind the last one of a picture in one row."""

Sizes = Mapping[int, int]
"""By the number of an open dimension, as `Size.axis` has it, its elements in a run."""


def reaches(steps: Sequence[Step], kernels: Mapping[str, Kernel], sizes: Sizes) -> Iterator[tuple[Address, int]]:
    """Each operand of the steps, and how many bytes from its address on a run of up to these sizes reads or writes."""
    known: dict[str, dict[str, int]] = {}
    for step in steps:
        if isinstance(step, CallStep):
            for call in calls(step):
                kernel = kernels[call.kernel]
                if call.kernel not in known:
                    known[call.kernel] = kernel_reaches(kernel, sizes)
                own = known[call.kernel]
                yield from zip(call.arguments, (own[p.name] for p in kernel.params), strict=False)
                if kernel.scratch:
                    yield call.arguments[-1], ALL  # of each thread
        else:
            yield from _of_step(step, sizes)


def _of_step(step: Step, sizes: Sizes) -> Iterator[tuple[Address, int]]:
    def count(n: int | Size) -> int:
        return n if isinstance(n, int) else n.in_run(sizes)

    def elements(address: Address, number: int) -> tuple[Address, int]:
        return address, number * TensorType(address.dtype, ()).itemsize

    if isinstance(step, HaloStep) and step.used:
        last = 0
        whole = zip(step.shape, step.low, step.used, step.high, strict=True)
        for n, low, used, high in whole:
            last = last * n + (n if used is None else low + count(used) + high) - 1
        yield elements(step.target, last + 1)
    elif isinstance(step, FillStep):
        extent = count(step.size)
        last = sum((count(n) - 1) * stride for n, stride in step.rows)
        yield elements(step.target, last + -(-extent // FILLED) * FILLED)
    elif isinstance(step, SpreadStep):
        strided = 1 + sum((count(n) - 1) * stride for n, stride in step.dims)
        dense = prod(count(n) for n, _ in step.dims)
        yield elements(step.source, strided if step.back else dense)
        yield elements(step.target, dense if step.back else strided)
    elif isinstance(step, PixelsStep):
        for side, address in enumerate((step.source, step.target)):
            last = 0
            for number, *strides in step.dims:
                s = strides[side]
                last += (count(number) - 1) * (s if isinstance(s, int) else count(s[0]) * s[1])
            yield elements(address, last + 1)
    elif isinstance(step, RowsStep):
        rows, columns = count(step.rows), count(step.columns)
        apart = (rows - 1) * step.row + columns * step.pixel
        yield elements(step.target, max(apart, (rows * columns + TALLEST) * step.pixel))
    elif isinstance(step, ShareStep | CountStep):
        yield elements(step.target, 1)
    else:
        assert isinstance(step, HaloStep | CopyStep | LoopStep | TapsStep)
        for address in operands(step):
            yield address, ALL


def elements_at(o: Open, sizes: Sizes) -> int:
    """How many elements an open loop goes along in a run."""
    if isinstance(o.size, Tiles):
        n = prod(o.size.grid(sizes))
        return min(n, o.band.most) if o.band else n
    return o.size.in_run(sizes) if o.size else sizes[EXTENT]


def trips_at(o: Open, sizes: Sizes) -> int:
    """How many trips an open loop has in a run."""
    n = elements_at(o, sizes)
    if o.filled:
        return -(-n // FILLED) * (FILLED * o.times // o.by)
    if o.tiles:
        return o.tiles.shared(n)[0]
    if o.less and o.most:
        return o.most if n * o.times > o.less else 0
    trips = -(-n * o.times // o.by) - o.less
    return min(trips, o.most) if o.most else trips


@dataclass(frozen=True)
class _Place:
    """Where a pointer is: a parameter, and how many elements behind its beginning at the most."""

    buffer: str
    ahead: int


@dataclass
class _Reach:
    sizes: Sizes
    bytes_: dict[str, int]
    items: dict[str, int]
    pointers: dict[str, _Place] = field(default_factory=dict)

    def block(self, stmts: Block, ranges: Mapping[str, Range]) -> None:
        for s in stmts:
            inner = ranges
            if isinstance(s, For):
                begin, end = s.begin, trips_at(s.open, self.sizes) if s.open else s.end
                if s.after:
                    begin, end = s.after.range(elements_at(s.after.open, self.sizes))
                if end <= begin:
                    continue
                inner = {**ranges, s.var: (begin, begin + (end - begin - 1) // s.step * s.step)}
                if s.open and isinstance(s.open.size, Tiles):
                    grid = s.open.size.grid(self.sizes)
                    inner |= {v: (0, n - 1) for place in s.open.places for v, n in zip(place, grid, strict=True)}
            self.statement(s, ranges)
            for block in inner_blocks(s):
                self.block(block, inner)

    def statement(self, s: Stmt, ranges: Mapping[str, Range]) -> None:
        if isinstance(s, Pointer):
            place = self.pointers.get(s.buffer, _Place(s.buffer, 0))
            self.pointers[s.name] = _Place(place.buffer, place.ahead + _most(s.index, ranges))
            if s.moves:
                self.all_of(s.name)
        elif isinstance(s, LoadTwo):
            self.all_of(s.pointer)
        elif isinstance(s, Store):
            self.access(s.buffer, s.index, s.valid, ranges)
        elif isinstance(s, ScatteredStore):
            self.all_of(s.buffer)
        for top in exprs(s):
            for e in walk_expr(top):
                self.expression(e, ranges)

    def expression(self, e: Expr, ranges: Mapping[str, Range]) -> None:
        if isinstance(e, Load):
            self.access(e.buffer, e.index, e.valid, ranges)
        elif isinstance(e, Gathered):
            self.all_of(e.buffer)

    def access(self, buffer: str, index: Linear, count: int, ranges: Mapping[str, Range]) -> None:
        place = self.pointers.get(buffer, _Place(buffer, 0))
        if place.buffer in self.bytes_:
            end = (place.ahead + _most(index, ranges) + count) * self.items[place.buffer]
            self.bytes_[place.buffer] = max(self.bytes_[place.buffer], min(end, ALL))

    def all_of(self, buffer: str) -> None:
        name = self.pointers[buffer].buffer if buffer in self.pointers else buffer
        if name in self.bytes_:
            self.bytes_[name] = ALL


def kernel_reaches(kernel: Kernel, sizes: Sizes) -> dict[str, int]:
    """How many bytes of each parameter a call reads or writes."""
    items = {p.name: TensorType(p.dtype, ()).itemsize for p in kernel.params}
    reach = _Reach(sizes, dict.fromkeys(items, 0), items)
    reach.block(kernel.body, {})
    return reach.bytes_


def _most(index: Linear, ranges: Mapping[str, Range]) -> int:
    """The largest value of an index, 0 where all are negative."""
    return max(0, index.bounds(ranges)[1])
