"""Scheduled TVM loops → kernel IR: unrolling, loop partition, vectors, and registers.

TVM's part ends with loops over buffers that still have shapes. The emitted C++ wants what its further passes do not
give: strided parameters, register tiles as named vectors, vector loops of any length whose last vector is partial, and
loops split where a guard changes its answer.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from dlpack.loops.dots import DOT, dot
from dlpack.loops.expressions import (
    BINARY,
    CONVERTIBLE,
    VECTOR_DTYPES,
    NotVectorisable,
    Operand,
    dtype_of,
    operands_of,
    splat,
)
from dlpack.loops.guards import GuardedLowering
from dlpack.loops.in_use import ending, trips_of_rows
from dlpack.loops.index import Linear
from dlpack.loops.ir import (
    Array,
    Assign,
    Block,
    Const,
    Declare,
    Expr,
    For,
    Gathered,
    If,
    Index,
    Kernel,
    Load,
    LoopAxis,
    Op,
    Open,
    Param,
    Ref,
    ScatteredStore,
    Scope,
    Stmt,
    Store,
    While,
    blocks,
    expressions,
    map_stmts,
)
from dlpack.loops.layout import Layout, dense
from dlpack.loops.numbered import TILES
from dlpack.loops.prefetch import PREFETCH, PREFETCH_TRIP, prefetches
from dlpack.loops.registers import allocate_registers
from dlpack.loops.sizes import Tiles

VECTOR_REDUCE = "dlpack.vector_reduce"
"""Loop annotation: the loop is a reduction into one element, to be run on vectors of partial results."""

PARALLEL = "dlpack.parallel"
"""Loop annotation: the trips are independent, and threads share them."""

_VECTORIZED, _UNROLLED = 2, 3  # TVM's `ForKind`s of loops for vectors, and of those to be written out
_REDUCE_IDENTITY = {"+": 0.0, "*": 1.0, "max": -math.inf, "min": math.inf}


def lower_kernel(
    func: Any,
    operands: Sequence[Operand],
    lanes: int,
    order: Sequence[int] = (),
    loop_names: Mapping[Any, str] | None = None,
    open: Collection[int] = (),
) -> Kernel:
    """Lowers a scheduled function (see `tir.lower`) for vectors of `lanes` 32-bit elements.

    `order` lists the output's dimensions from outermost to innermost in memory; local buffers of that rank follow it.
    `loop_names` are better names for TVM's loop variables. Loops along a multiple of some `open` elements stay loops.
    """
    lowering = Lowering(func, operands, lanes, order, loop_names or {})
    lowering.open = open
    body = lowering.stmt(func.body)
    trips = lowering.trips if _writes_in_parallel_loops(body, {p.name for p in lowering.params}) else 0
    return allocate_registers(Kernel(tuple(lowering.params), body, 0, trips), lowering.extents)


def _writes_in_parallel_loops(body: Block, params: set[str]) -> bool:
    """Whether all that a kernel writes for others is written in loops that threads share."""
    outside = [s for s in body if not (isinstance(s, For) and s.axis is LoopAxis.PARALLEL)]
    written = {s.buffer for s in outside if isinstance(s, Store | ScatteredStore)}
    inner = [c for s in outside for c in blocks(s)]
    return not written & params and all(_writes_in_parallel_loops(b, params) for b in inner)


class Lowering(GuardedLowering):
    def __init__(
        self,
        func: Any,
        operands: Sequence[Operand],
        lanes: int,
        order: Sequence[int],
        loop_names: Mapping[Any, str],
    ) -> None:
        super().__init__()
        self.lanes, self.order, self.loop_names = lanes, tuple(order), loop_names
        self.ahead = Linear(0)  # how far loops around have moved on what is prefetched
        self.params: list[Param] = []
        self.trips = 0
        self.open: Collection[int] = ()
        self.extents: dict[str, tuple[int, ...]] = {}
        for buffer, operand in zip(func.params, operands, strict=True):
            name = self.fresh(operand.name)
            self.buffers[buffer] = name
            self.operands[name] = operand
            self.dtypes[name] = dtype_of(buffer)
            self.params.append(Param(name, self.dtypes[name], operand.written))

    # --- statements ---------------------------------------------------------------------------------------------

    def stmt(self, s: Any) -> Block:
        return getattr(self, "_" + type(s).__name__)(s)  # type: ignore[no-any-return]

    def _SeqStmt(self, s: Any) -> Block:
        return tuple(t for child in s.seq for t in self.stmt(child))

    def _AttrStmt(self, s: Any) -> Block:
        return self.stmt(s.body)

    def _Evaluate(self, _: Any) -> Block:
        return ()

    def _AllocBuffer(self, s: Any) -> Block:
        buffer = s.buffer
        if buffer not in self.buffers:  # a partitioned loop comes here once per part
            name = str(buffer.name).removesuffix("_local")
            name = self.fresh("acc" if name != buffer.name and name in self.names else name)
            self.buffers[buffer] = name
            self.layouts[name], self.extents[name] = self.local_layout([int(d) for d in buffer.shape])
            size = math.prod(self.extents[name])
            self.dtypes[name] = dtype_of(buffer)
            self.locals[name] = (self.dtypes[name], size)
        return (Array(self.buffers[buffer], *self.locals[self.buffers[buffer]]),)

    def local_layout(self, shape: list[int]) -> tuple[Layout, tuple[int, ...]]:
        """Local buffers lie in the output's order, their innermost dimension filled up to whole vectors.

        Returns the layout, and the extents from the outermost dimension in memory to the innermost.
        """
        order = self.order if len(self.order) == len(shape) else tuple(range(len(shape)))
        if order:
            inner = order[-1]
            shape[inner] = -(-shape[inner] // self.lanes) * self.lanes
        return dense(shape, order), tuple(shape[d] for d in order)

    def _Bind(self, s: Any) -> Block:
        value = self.expr(s.value)
        if isinstance(value, Index):
            self.env[s.var] = value.form
            return ()
        name = self.fresh(str(s.var.name))
        self.lets[s.var] = Ref(value.dtype, value.lanes, name)
        return (Declare(name, value.dtype, value.lanes, value),)

    def _IfThenElse(self, s: Any) -> Block:
        """`condition` may shorten the vector for what is guarded; then no lane may need the other branch."""
        valid = self.valid
        truth = self.condition(s.condition)
        shorter, self.valid = self.valid, valid
        other = self.stmt(s.else_case) if s.else_case is not None and truth is not True else ()
        if truth is False:
            return other
        if (shorter != valid and s.else_case is not None) or (isinstance(truth, Expr) and truth.lanes > 1):
            raise NotVectorisable
        self.valid = shorter
        then = self.stmt(s.then_case)
        self.valid = valid
        return then if truth is True else (If(truth, then, other),)

    def _While(self, s: Any) -> Block:
        return (While(self.expr(s.condition), self.stmt(s.body)),)

    def _BufferStore(self, s: Any) -> Block:
        name = self.buffers[s.buffer]
        value = self.expr(s.value)
        return self.with_declared(self.stored(name, s.indices, value))

    def with_declared(self, s: Stmt) -> Block:
        """The statement behind the named values that it uses, whose names end with it."""
        if not self.declared:
            return (s,)
        body, self.declared = (*self.declared, s), []
        self.names.difference_update(t.name for t in body if isinstance(t, Declare))
        return (Scope(body),)

    def stored(self, name: str, indices: Any, value: Expr) -> Stmt:
        index = self.address(name, indices)
        if isinstance(index, Expr):
            if self.lane:
                raise NotVectorisable
            return ScatteredStore(name, index, value)
        if not self.lane:
            return Store(name, index, value, 1)
        if index.coefficient(self.lane) != 1 or self.dtypes[name] not in VECTOR_DTYPES | CONVERTIBLE:
            raise NotVectorisable
        if value.dtype == "bool":
            raise NotVectorisable
        valid = self.width if name in self.locals else self.valid
        index = index - Linear.var(self.lane)
        return Store(name, index, splat(value, self.width), valid)

    # --- loops --------------------------------------------------------------------------------------------------

    def _For(self, s: Any) -> Block:
        begin, extent = int(s.min), int(s.extent)
        kind = int(s.kind)
        if extent <= 0:
            return ()
        if DOT in s.annotations:
            try:
                return dot(self, s)
            except NotVectorisable:
                if self.lane:
                    raise
        if extent == 1 and kind != _VECTORIZED and TILES not in s.annotations:
            return self.with_var(s.loop_var, Linear(begin), s.body)
        if VECTOR_REDUCE in s.annotations and self.lanes > 1 and not self.lane:
            saved = dict(self.env)
            try:
                return self.reduction_loop(s, extent)
            except NotVectorisable:
                self.env, self.lane, self.declared = saved, None, []
        if kind == _VECTORIZED and self.lanes > 1 and extent > 1 and not self.lane:
            saved, names = dict(self.env), set(self.names)
            try:
                return self.vector_loop(s, extent)
            except NotVectorisable:
                self.env, self.names, self.lane, self.width, self.valid = saved, names, None, 1, 1
                self.declared = []
        if kind == _UNROLLED:
            return tuple(t for i in range(begin, begin + extent) for t in self.with_var(s.loop_var, Linear(i), s.body))
        if self.lane:
            raise NotVectorisable
        out: list[Stmt] = []
        parallel = PARALLEL in s.annotations
        if parallel:
            self.trips = begin + extent
        each, *numbering = (int(n) for n in s.annotations.get(TILES, (0,)))
        along = Open(1, each, size=Tiles(*numbering)) if each else None
        of_rows = trips_of_rows(s)
        for first, last in self.partition(s, begin, begin + extent, of_rows):
            if last - first == 1 and not parallel and not along and last > of_rows:
                trip = self.trip(s, Linear(first))
                out.extend([Scope(trip)] if any(isinstance(t, Array | Declare) for t in trip) else trip)
                continue
            var = self.fresh(self.loop_names.get(s.loop_var, str(s.loop_var.name)))
            self.ranges[var] = (first, last - 1)
            index = Linear.var(var) if last - first > 1 or along or last <= of_rows else Linear(first)
            body = self.trip(s, index)
            self.names.discard(var)
            if body and PREFETCH in s.annotations:
                body = (*prefetches(body, var, s.annotations, self.ahead, self.operands), *body)
            if body:
                axis = LoopAxis.PARALLEL if parallel else LoopAxis.SERIAL
                loop = For(var, first, last, 1, _unscoped(body), axis, open=along)
                out.append(ending(loop, s, self.param) if last <= of_rows else loop)
        return tuple(out)

    def param(self, number: int) -> str:
        """The name of an operand."""
        return self.params[number].name

    def trip(self, s: Any, index: Linear) -> Block:
        """The body of a loop in the trip `index`."""
        ahead = self.ahead
        self.ahead = ahead + index * int(s.annotations.get(PREFETCH_TRIP, 0))
        body = self.with_var(s.loop_var, index, s.body)
        self.ahead = ahead
        return body

    def with_var(self, var: Any, value: Linear, body: Any) -> Block:
        outer = self.env.get(var)
        self.env[var] = value
        out = self.stmt(body)
        if outer is None:
            del self.env[var]
        else:
            self.env[var] = outer
        return out

    def vector_loop(self, s: Any, extent: int) -> Block:
        local = self.touches_local(s.body)
        width = self.lanes if local else min(self.lanes, 1 << (extent - 1).bit_length())
        of_rows = trips_of_rows(s)
        begin = int(s.min) + of_rows
        full, rest = divmod(extent - of_rows, width)
        lane = self.fresh("lane")
        self.lane, self.width = lane, width
        self.ranges[lane] = (0, width - 1)
        out: list[Stmt] = []

        def chunk(base: Linear, valid: int) -> Block:
            self.valid = valid
            self.ranges[lane] = (0, valid - 1)  # what the other lanes would address does not matter
            return self.with_var(s.loop_var, base + Linear.var(lane), s.body)

        def trips(first: int, count: int) -> For:
            var = self.fresh(self.loop_names.get(s.loop_var, str(s.loop_var.name)))
            self.ranges[var] = (0, count - 1)
            return For(var, 0, count, 1, _unscoped(chunk(Linear.var(var) * width + first, width)))

        if of_rows:
            out.append(ending(trips(int(s.min), of_rows // width), s, self.param, width))
        parts = full + (rest > 0)
        # A loop that only copies a row would be a call of memmove to GCC.
        short = 2 if any(extent % n == 0 for n in self.open) else 16
        if parts <= 2 or (local and full <= short) or (parts <= 4 and _gathers(chunk(Linear(begin), width))):
            for k in range(full):
                out.extend(chunk(Linear(begin + k * width), width))
        elif full:
            out.append(trips(begin, full))
        if rest:
            out.extend(chunk(Linear(begin + full * width), rest))
        self.lane, self.width, self.valid = None, 1, 1
        self.names.discard(lane)
        return self.name_rows(tuple(out))

    def name_rows(self, stmts: Block) -> Block:
        """Names the part of a vector's address that is data: the row that all of them are read from."""
        rows: dict[Expr, Ref] = {}
        for g in _gathers(stmts):
            if isinstance(g.index, Op) and isinstance(g.index.args[1], Index):
                row = g.index.args[0]
                if row not in rows:
                    rows[row] = Ref(row.dtype, 1, self.fresh("row_at"))
        named = map_stmts(stmts, lambda s: [s], lambda e: rows.get(e, e))
        return (*(Declare(r.name, r.dtype, 1, e, True) for e, r in rows.items()), *named)

    def touches_local(self, s: Any) -> bool:
        """Whether a statement writes a buffer that is meant for registers."""
        kind = type(s).__name__
        if kind == "SeqStmt":
            return any(self.touches_local(c) for c in s.seq)
        if kind == "BufferStore":
            return str(s.buffer.scope()) == "local" or _reads_local(s.value)
        if kind == "IfThenElse":
            return self.touches_local(s.then_case)
        return kind in ("For", "AttrStmt") and self.touches_local(s.body)

    def reduction_loop(self, s: Any, extent: int) -> Block:
        """``acc = acc op f(i)`` over i as vectors of partial results, then a horizontal step and a scalar rest."""
        store = s.body
        if type(store).__name__ == "IfThenElse" and store.else_case is None:
            truth = self.condition(store.condition)  # of the element, as it does not know the loop's variable
            if truth is not True:
                raise NotVectorisable
            store = store.then_case
        if type(store).__name__ != "BufferStore":
            raise NotVectorisable
        op, value = self.reduction_of(store)
        target = self.buffers[store.buffer]
        dtype = self.dtypes[target]
        width = self.lanes
        full, rest = divmod(extent, width)
        if op not in _REDUCE_IDENTITY or dtype != "float32" or not full:
            raise NotVectorisable
        index = self.address(target, store.indices)
        if not isinstance(index, Linear):
            raise NotVectorisable
        several = any(extent % n == 0 for n in self.open)  # trips, of which a run may have fewer
        parts = min(4, full // 2 if several and full > 1 else full)
        lane = self.fresh("lane")
        self.ranges[lane] = (0, width - 1)
        acc = [self.fresh("part") for _ in range(parts)]
        identity = Op(dtype, width, "splat", (Const(dtype, 1, _REDUCE_IDENTITY[op]),))
        out: list[Stmt] = [Declare(a, dtype, width, identity) for a in acc]

        def step(base: Linear, a: str) -> Stmt:
            self.lane, self.width, self.valid = lane, width, width
            outer = self.env.get(s.loop_var)
            self.env[s.loop_var] = base + Linear.var(lane)
            term = splat(self.expr(value), width)
            if outer is None:
                del self.env[s.loop_var]
            self.lane, self.width, self.valid = None, 1, 1
            return Assign(a, Op(dtype, width, op, (Ref(dtype, width, a), term)))

        def run(first: int, count: int) -> list[Stmt]:
            """`count` vectors from element `first` on."""
            trips, left = divmod(count, parts)
            made: list[Stmt] = []
            if trips > 1 or first < of_rows:
                var = self.fresh(self.loop_names.get(s.loop_var, str(s.loop_var.name)))
                self.ranges[var] = (0, trips - 1)
                base = Linear.var(var) * (parts * width) + first
                body = tuple(step(base + k * width, a) for k, a in enumerate(acc))
                self.names.discard(var)
                made.append(For(var, 0, trips, 1, body))
            elif trips:
                made.extend(step(Linear(first + k * width), a) for k, a in enumerate(acc))
            made.extend(step(Linear(first + (trips * parts + k) * width), acc[k]) for k in range(left))
            return made

        of_rows = trips_of_rows(s)
        if of_rows:
            (loop,) = run(0, of_rows // width)
            out.append(ending(loop, s, self.param, parts * width))
        out += run(of_rows, full - of_rows // width)
        total: Expr = Ref(dtype, width, acc[0])
        for a in acc[1:]:
            total = Op(dtype, width, op, (total, Ref(dtype, width, a)))
        name = {"+": "hsum", "*": "hprod", "max": "hmax", "min": "hmin"}[op]
        old = Load(dtype, 1, target, index, 1)
        out.append(Store(target, index, Op(dtype, 1, op, (old, Op(dtype, 1, name, (total,)))), 1))
        for i in range(full * width, full * width + rest):
            out.extend(self.with_var(s.loop_var, Linear(i), store))
        return tuple(out)

    def reduction_of(self, store: Any) -> tuple[str, Any]:
        op = BINARY.get(type(store.value).__name__, "")
        if op in _REDUCE_IDENTITY:
            for old, value in ((store.value.a, store.value.b), (store.value.b, store.value.a)):
                if type(old).__name__ == "TensorLoad" and self.buffers.get(old.source) == self.buffers[store.buffer]:
                    return op, value
        raise NotVectorisable


def _gathers(stmts: Block) -> list[Gathered]:
    """The vectors among the loads at an address that is data."""
    return [e for e in expressions(stmts) if isinstance(e, Gathered) and e.lanes > 1 and e.index.lanes == 1]


def _unscoped(body: Block) -> Block:
    """A loop's body, which is a block as it is."""
    return body[0].body if len(body) == 1 and isinstance(body[0], Scope) else body


def _reads_local(e: Any) -> bool:
    load = type(e).__name__ == "TensorLoad"
    return str(e.source.scope()) == "local" if load else any(_reads_local(a) for a in operands_of(e))
