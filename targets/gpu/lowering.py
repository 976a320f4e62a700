"""Scheduled TVM loops → kernel IR for a GPU: which loops its blocks and threads share, and what these share in memory.

TVM binds no threads here. A rule annotates loops; `GpuLowering` gives their trips to blocks and threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dlpack.loops.expressions import BINARY, NotVectorisable, Operand
from dlpack.loops.index import Linear, Range, floordiv, floormod
from dlpack.loops.ir import (
    Array,
    Assign,
    Barrier,
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
    Ref,
    ScatteredStore,
    Space,
    Stmt,
    Store,
    expressions,
    walk,
)
from dlpack.loops.layout import dense
from dlpack.loops.lower import Lowering
from dlpack.loops.registers import allocate_registers
from dlpack.targets.gpu.launch import ITEMSIZE

SHARE = "dlpack.gpu.share"
"""Annotation of nested loops, the outermost first, whose trips are numbered as one loop's and given to those that the
value names: GRID (all threads of all blocks), BLOCKS (a block each) or THREADS (those of a block)."""

GRID, BLOCKS, THREADS = "grid", "blocks", "threads"

WRITTEN = "dlpack.gpu.written"
"""Annotation of the outermost loop of a stage that the rule writes itself."""

TOGETHER = "dlpack.gpu.together"
"""Annotation of the only loop of a reduction into one element: the threads of a block share its trips, and then their
partial results. All of them get the result."""

_IDENTITY = {"+": 0, "*": 1, "max": -math.inf, "min": math.inf}
_OVER_BLOCK = {"+": "block_sum", "*": "block_product", "max": "block_max", "min": "block_min"}
_NO_STACK_LIMIT = 1 << 40


class TooMuchShared(Exception):
    """The arrays that a block's threads share do not fit its shared memory."""


def lower_gpu_kernel(
    func: Any,
    operands: Sequence[Operand],
    order: Sequence[int],
    loop_names: Mapping[Any, str],
    threads: int,
    shared_bytes: int,
    written: Callable[[], Block] | None = None,
) -> Kernel:
    """Lowers a scheduled function (see `tir.lower`) whose blocks have `threads` threads.

    `order` and `loop_names` are those of `lower_kernel`. What several threads use is in shared memory as far as
    `shared_bytes` reach; beyond it is scratch memory if there is one block, or one launch after the other, and else
    TooMuchShared is raised. `written` gives the launch that stands for the stage that is annotated as WRITTEN.
    """
    lowering = GpuLowering(func, operands, order, loop_names, threads, shared_bytes, written)
    body = lowering.stmt(func.body)
    launches = sum(isinstance(s, For) and s.axis is LoopAxis.BLOCK for s in body)
    if launches > 1:
        kernel = allocate_registers(Kernel(tuple(lowering.params), body), lowering.extents, _NO_STACK_LIMIT)
        return replace(kernel, scratch=lowering.scratch)
    body = with_barriers(body) if threads > 1 else body
    if not launches:
        body = (For(lowering.fresh("block"), 0, 1, 1, body, LoopAxis.BLOCK),)
    elif lowering.scratch:
        raise TooMuchShared
    if not any(isinstance(s, For) and s.axis is LoopAxis.THREAD for s in walk(body)):
        (grid,) = body
        assert isinstance(grid, For)
        body = (replace(grid, body=(For(lowering.fresh("thread"), 0, 1, threads, grid.body, LoopAxis.THREAD),)),)
    kernel = allocate_registers(Kernel(tuple(lowering.params), body), lowering.extents, _NO_STACK_LIMIT)
    return replace(kernel, scratch=lowering.scratch)


class GpuLowering(Lowering):
    """The lowering of plain loops, which here are not cut at guards: that would be for all threads what some need."""

    def __init__(
        self,
        func: Any,
        operands: Sequence[Operand],
        order: Sequence[int],
        loop_names: Mapping[Any, str],
        threads: int,
        shared_bytes: int,
        written: Callable[[], Block] | None = None,
    ) -> None:
        super().__init__(func, operands, 1, order, loop_names)
        self.threads, self.shared_left, self.written = threads, shared_bytes, written
        self.scratch = 0
        self.depth = 0
        """How many loops of threads are around the statement in progress."""

    def partition(self, s: Any, begin: int, end: int, cut: int = 0) -> list[Range]:  # noqa: ARG002 - none is cut
        return [(begin, end)]

    def _For(self, s: Any) -> Block:
        if WRITTEN in s.annotations and self.written is not None:
            return self.written()
        if TOGETHER in s.annotations and self.threads > 1:
            return self.together(s)
        if SHARE not in s.annotations:
            return super()._For(s)
        whose = str(s.annotations[SHARE])
        loops, body = [s], s.body
        while type(body).__name__ == "For" and str(body.annotations.get(SHARE, "")) == whose:
            loops, body = [*loops, body], body.body
        total = math.prod(int(loop.extent) for loop in loops)
        if total == 0:
            return ()
        if whose == BLOCKS:
            block = self.fresh("block")
            return (For(block, 0, total, 1, self.numbered(block, total, loops, body), LoopAxis.BLOCK),)
        self.depth += 1
        try:
            return self.over_grid(total, loops, body) if whose == GRID else self.over_threads(total, loops, body)
        finally:
            self.depth -= 1

    def over_threads(self, total: int, loops: Sequence[Any], body: Any) -> Block:
        item = self.fresh("item")
        inside = self.numbered(item, total, loops, body)
        self.names.discard(item)
        return (For(item, 0, total, self.threads, inside, LoopAxis.THREAD),)

    def over_grid(self, total: int, loops: Sequence[Any], body: Any) -> Block:
        """A thread per trip: the last block's may find none."""
        blocks = -(-total // self.threads)
        block, thread, item = self.fresh("block"), self.fresh("thread"), self.fresh("item")
        self.ranges.update({block: (0, blocks - 1), thread: (0, self.threads - 1)})
        number = Linear.var(block) * self.threads + Linear.var(thread)
        inside: Block = self.numbered(item, total, loops, body)
        if blocks == 1:
            return (For(block, 0, 1, 1, (For(item, 0, total, self.threads, inside, LoopAxis.THREAD),), LoopAxis.BLOCK),)
        if total % self.threads:
            inside = (If(below(Linear.var(item), total), inside),)
        declared = Declare(item, "int32", 1, Index("int32", 1, number), True)
        shared = For(thread, 0, self.threads, self.threads, (declared, *inside), LoopAxis.THREAD)
        return (For(block, 0, blocks, 1, (shared,), LoopAxis.BLOCK),)

    def numbered(self, item: str, total: int, loops: Sequence[Any], body: Any) -> Block:
        """The innermost body for trip number `item`, behind the names of the loops' variables."""
        self.ranges[item] = (0, total - 1)
        rest, forms = Linear.var(item), {}
        for loop in reversed(loops):
            extent = int(loop.extent)
            forms[loop.loop_var] = floormod(rest, extent, self.ranges) + int(loop.min)
            rest = floordiv(rest, extent, self.ranges)
        declared: list[Stmt] = []
        names = []
        for loop in loops:
            var, form = loop.loop_var, forms[loop.loop_var]
            if not form.is_const and form != Linear.var(item):
                name = self.fresh(self.loop_names.get(var, str(var.name)))
                names.append(name)
                declared.append(Declare(name, "int32", 1, Index("int32", 1, form), True))
                self.ranges[name] = (int(loop.min), int(loop.min) + int(loop.extent) - 1)
                form = Linear.var(name)
            self.env[var] = form
        out = (*declared, *self.stmt(body))
        for loop in loops:
            del self.env[loop.loop_var]
        self.names.difference_update(names)
        return out

    def together(self, s: Any) -> Block:
        """``acc = acc op f(i)``: a partial result of each thread, then one of them all."""
        store = s.body
        if type(store).__name__ != "BufferStore":
            raise NotVectorisable
        op, value = self.operator_of(store)
        target, dtype = self.buffers[store.buffer], self.dtypes[self.buffers[store.buffer]]
        index = self.address(target, store.indices)
        assert isinstance(index, Linear)
        part, whole, item = self.fresh("part"), self.fresh("whole"), self.fresh("i")
        begin, end = int(s.min), int(s.min) + int(s.extent)
        self.ranges[item] = (begin, end - 1)
        self.env[s.loop_var] = Linear.var(item)
        self.depth += 1
        term = self.expr(value)
        step = self.with_declared(Assign(part, Op(dtype, 1, op, (Ref(dtype, 1, part), term))))
        self.depth -= 1
        del self.env[s.loop_var]
        self.names.discard(item)
        reduced = Op(dtype, 1, _OVER_BLOCK[op], (Ref(dtype, 1, part), Const("int32", 1, self.threads)))
        if target in self.locals:
            result = Store(target, index, Op(dtype, 1, op, (Load(dtype, 1, target, index, 1), Ref(dtype, 1, whole))), 1)
            final: Stmt = result
        else:
            old = Load(dtype, 1, target, index, 1)
            result = Store(target, index, Op(dtype, 1, op, (old, Ref(dtype, 1, whole))), 1)
            final = For(self.fresh("first"), 0, 1, self.threads, (result,), LoopAxis.THREAD)
        return (
            Declare(part, dtype, 1, Const(dtype, 1, _IDENTITY[op])),
            For(item, begin, end, self.threads, step, LoopAxis.THREAD),
            Declare(whole, dtype, 1, reduced, True),
            final,
        )

    def operator_of(self, store: Any) -> tuple[str, Any]:
        """The operator of ``acc = acc op value``, and the value."""
        op = BINARY.get(type(store.value).__name__, "")
        if op in _IDENTITY:
            for old, value in ((store.value.a, store.value.b), (store.value.b, store.value.a)):
                if type(old).__name__ == "TensorLoad" and self.buffers.get(old.source) == self.buffers[store.buffer]:
                    return op, value
        raise NotVectorisable

    def _BufferStore(self, s: Any) -> Block:
        """A store outside the loops of threads is one thread's, unless each of them has the buffer."""
        out = super()._BufferStore(s)
        if self.depth or self.threads == 1 or self.buffers[s.buffer] in self.locals:
            return out
        return (For(self.fresh("first"), 0, 1, self.threads, out, LoopAxis.THREAD),)

    def _AllocBuffer(self, s: Any) -> Block:
        """A buffer inside the loops of threads, or of scope "local", is each thread's own; others are shared."""
        out = super()._AllocBuffer(s)
        if self.depth or self.threads == 1 or str(s.buffer.scope()) == "local":
            return out
        (array,) = out
        assert isinstance(array, Array)
        shape = [int(d) for d in s.buffer.shape]
        self.locals.pop(array.name, None)
        self.extents.pop(array.name, None)
        self.layouts[array.name], size = dense(shape), math.prod(shape)
        nbytes = -(-size * ITEMSIZE.get(array.dtype, 4) // 16) * 16
        if nbytes <= self.shared_left:
            self.shared_left -= nbytes
            return (Array(array.name, array.dtype, size, Space.SHARED),)
        place = self.scratch
        self.scratch += -(-nbytes // 64) * 64
        return (Array(array.name, array.dtype, size, Space.SCRATCH, place),)


def below(form: Linear, bound: int) -> Expr:
    """``form < bound``."""
    return Op("bool", 1, "<", (Index("int32", 1, form), Index("int32", 1, Linear(bound))))


def with_barriers(stmts: Block) -> Block:
    """A barrier before each statement that reads what other threads may have written since the last one, or writes
    what they may have written or may still read: elements of memory that threads share."""
    out: list[Stmt] = []
    read: _Accesses = {}
    written: _Accesses = {}
    own = {s.name for s in walk(stmts) if isinstance(s, Array) and s.space is Space.REGISTER}
    for s in stmts:
        if isinstance(s, For) and s.axis is not LoopAxis.THREAD:
            s = replace(s, body=with_barriers(s.body))
            if s.axis is LoopAxis.SERIAL and _accesses(s, own)[1]:
                s = replace(s, body=(*s.body, Barrier()))
        reads, writes = _accesses(s, own)
        if _meet(reads, written) or _meet(writes, read) or _meet(writes, written):
            out.append(Barrier())
            read, written = {}, {}
        out.append(s)
        for known, new in ((read, reads), (written, writes)):
            for buffer, places in new.items():
                known[buffer] = known.get(buffer, frozenset()) | places
    return tuple(out)


_Accesses = dict[str, frozenset[tuple[int, int, Linear] | None]]
"""By buffer, which elements the threads access: those of a form of a thread's trips (the first, the step, the form), so
that each element is the same thread's; None where it may be another's."""


def _accesses(s: Stmt, own: set[str]) -> tuple[_Accesses, _Accesses]:
    """The elements that a statement reads, and those that it writes, but for the threads' `own` arrays."""

    def place(index: Linear) -> tuple[int, int, Linear] | None:
        if not isinstance(s, For) or s.axis is not LoopAxis.THREAD or index.variables() != {s.var}:
            return None
        return (s.begin, s.step, index.substitute({s.var: Linear.var("")}, {})) if index.coefficient(s.var) else None

    read: _Accesses = {}
    written: _Accesses = {}
    for e in expressions((s,)):
        if isinstance(e, Load | Gathered) and e.buffer not in own:
            where = place(e.index) if isinstance(e, Load) else None
            read[e.buffer] = read.get(e.buffer, frozenset()) | {where}
    for t in walk((s,)):
        if isinstance(t, Store | ScatteredStore) and t.buffer not in own:
            where = place(t.index) if isinstance(t, Store) else None
            written[t.buffer] = written.get(t.buffer, frozenset()) | {where}
    return read, written


def _meet(a: _Accesses, b: _Accesses) -> bool:
    """Whether an element may be accessed by one thread in `a` and by another in `b`."""
    return any(a[k] != b[k] or len(a[k]) > 1 or None in a[k] for k in a.keys() & b.keys())
