"""What the rules for products (`gemm`, `gemv`) know of a kernel: a sum of products of two operands, and its epilogue.

A product is seen as a matrix product y[s, m, n] = epilogue(sum over k of x[s, m, k] * w[s, k, n]). Each of s, m and k
stands for any number of axes, which are numbered as one, the last one fastest: of a convolution m is batch and pixels,
k is the window and the channels below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from dlpack.loops.expressions import ExpressionLowering, dtype_of
from dlpack.loops.index import Linear, Range, floordiv, floormod
from dlpack.loops.ir import Array, Const, Declare, Expr, For, If, Index, Load, Op, Ref, Scope, Store, map_stmts
from dlpack.loops.ir import Block as Statements
from dlpack.loops.lanes import LANE
from dlpack.loops.layout import Block, Layout
from dlpack.targets.cpu.blocks import Access, Axis, BlockInfo
from dlpack.targets.gpu.lowering import below
from dlpack.targets.gpu.state import GpuState

V = 4
"""Floats that one instruction moves."""

SUMS = "acc"
"""The array that holds a thread's sums."""

FOUR = "four_out"
"""The array that holds four neighbouring elements of the output."""


@dataclass(frozen=True)
class Read:
    """An operand of the product: its name, the stride of each axis, and the address where all axes are 0.

    `aligned`: it begins at a multiple of four elements; `padded`: it has room for whole vectors of columns.
    """

    name: str
    strides: Mapping[str, int]
    start: int
    aligned: bool
    padded: bool = False

    def by_vectors(self, along: Axis, axes: Iterable[Axis]) -> bool:
        """Whether four neighbours along an axis, from a multiple of four on, are read at once, wherever the other
        `axes` are."""
        whole = self.padded or along.extent % V == 0
        rest = [self.strides[a.name] for a in axes if a != along and a.extent > 1]
        return self.aligned and whole and self.strides[along.name] == 1 and not any(n % V for n in (self.start, *rest))

    def address(self, index: Mapping[str, Linear]) -> Linear:
        out = Linear(self.start)
        for axis, form in index.items():
            out += form * self.strides[axis]
        return out


@dataclass(frozen=True)
class Product:
    """A kernel that is one sum of products: its axes, its operands, and the stage that writes the output."""

    info: BlockInfo
    batch: tuple[Axis, ...]
    rows: tuple[Axis, ...]
    column: Axis
    steps: tuple[Axis, ...]
    x: Read
    w: Read
    sums: Any  # the buffer that the sums are in
    last: Any  # the block that turns them into the output; None where they are it

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """How many s, m, n and k there are."""
        return _count(self.batch), _count(self.rows), self.column.extent, _count(self.steps)


def _count(axes: Sequence[Axis]) -> int:
    return prod((a.extent for a in axes), start=1)


def match_product(state: GpuState) -> Product | None:
    """The product that a kernel is; None for any other kernel. Stages before and after the sum are inlined."""
    sch = state.sch
    blocks = state.blocks()
    reducing = [b for b in blocks if state.info(b).reduces]
    if len(reducing) != 1 or sum(o.written for o in state.spec.operands) != 1:
        return None
    block = reducing[0]
    at = blocks.index(block)
    for b in (*blocks[:at], *blocks[at + 1 : -1]):
        if state.info(b).opaque:
            return None
        sch.compute_inline(b)
    last = blocks[-1] if block != blocks[-1] else None
    info = state.info(block)
    reads = [r for r in info.reads if info.writes and r.buffer != info.writes[0].buffer]
    if info.dtype != "float32" or len(info.writes) != 1 or len(info.spatial) != len(state.spec.order):
        return None
    if last is not None and len(state.info(last).spatial) != len(info.spatial):
        return None
    if not _multiplies(sch.get(block).body) or len(reads) != 2 or reads[0].buffer == reads[1].buffer:
        return None
    axes = (*info.spatial, *info.reduction)
    if any(r.strides.get(a.name) is None for r in reads for a in axes if a.extent > 1):
        return None
    if any(dtype_of(r.buffer) != "float32" for r in reads):
        return None
    return _arranged(state, block, last, info, reads)


def _multiplies(body: Any) -> bool:
    """Whether a statement is ``sum = sum + x[...] * w[...]``."""
    value: Any = getattr(body, "value", None)
    if type(value).__name__ != "Add":
        return False
    product = value.b if type(value.a).__name__ == "TensorLoad" else value.a
    return type(product).__name__ == "Mul" and all(type(f).__name__ == "TensorLoad" for f in (product.a, product.b))


def _arranged(state: GpuState, block: Any, last: Any, info: BlockInfo, reads: Sequence[Access]) -> Product | None:
    """Finds out which operand is x, and which axes are rows, columns and batch. The column is an axis of the operand w
    alone; where both could be w, that is the one whose column lies innermost in the output."""
    order = [info.spatial[d] for d in state.spec.order]
    moving = [a for a in order if a.extent > 1]

    def only(a: Access, b: Access) -> tuple[Axis, ...]:
        return tuple(axis for axis in moving if a.strides[axis.name] and not b.strides[axis.name])

    candidates = [(x, w) for x, w in (tuple(reads), tuple(reversed(reads))) if len(only(w, x)) == 1]
    if not candidates:
        return None
    x, w = max(candidates, key=lambda c: moving.index(only(c[1], c[0])[0]))
    (column,) = only(w, x)
    batch = tuple(a for a in moving if x.strides[a.name] and w.strides[a.name])
    rows = only(x, w)
    if len(batch) + len(rows) + 1 != len(moving):
        return None
    steps = tuple(a for a in info.reduction if a.extent > 1)
    if not steps:
        return None
    lowering = ProductWriter(state)
    starts = [_start(state, lowering, block, r) for r in (x, w)]
    if None in starts:
        return None
    names = [lowering.buffers[r.buffer] for r in (x, w)]
    first = Read(names[0], _strides(x), starts[0] or 0, _begins(state, x))
    second = _packed(state, w, names[1], column, steps) or Read(
        names[1], _strides(w), starts[1] or 0, _begins(state, w)
    )
    return Product(info, batch, rows, column, steps, first, second, info.writes[0].buffer, last)


def _begins(state: GpuState, read: Access) -> bool:
    """Whether an operand begins at a multiple of four elements."""
    return state.spec.operands[state.param_index[read.buffer]].aligned


def _strides(read: Access) -> dict[str, int]:
    return {axis: stride or 0 for axis, stride in read.strides.items()}


def _start(state: GpuState, lowering: ExpressionLowering, block: Any, read: Access) -> int | None:
    """The address that a block reads where all its axes are 0."""
    realised = state.sch.get(block)
    lowering.env = {it.var: Linear() for it in realised.iter_vars}
    value = realised.body.value
    product = value.b if type(value.a).__name__ == "TensorLoad" else value.a
    (load,) = (f for f in (product.a, product.b) if f.source == read.buffer)
    address = lowering.address(lowering.buffers[read.buffer], load.indices)
    return address.const if isinstance(address, Linear) and address.is_const else None


def _packed(state: GpuState, w: Access, name: str, column: Axis, steps: Sequence[Axis]) -> Read | None:
    """Packs constant weights [others][k][n], with room for whole vectors along n. None where they are no constant, or
    an axis does not move along a dimension of its own."""
    i = state.param_index.get(w.buffer, -1)
    shape = [int(d) for d in w.buffer.shape]
    moving = [a for a, stride in w.strides.items() if stride]
    layout = state.layout(w.buffer)
    if i not in state.spec.constant or len({w.dimension_of[a] for a in moving if a in w.dimension_of}) != len(moving):
        return None
    if any(w.strides[a] != layout.strides[w.dimension_of[a]] for a in moving):
        return None
    room = -(-column.extent // V) * V
    inner = [w.dimension_of[a.name] for a in (*steps, column) if a.name in moving]
    order = [*(d for d in range(len(shape)) if d not in inner), *inner]
    strides, step = [0] * len(shape), 1
    for d in reversed(order):
        strides[d] = step
        step *= room if d == inner[-1] else shape[d]
    n = inner[-1]
    state.packed[i] = Layout(tuple(strides), blocks=((n, Block(shape[n], 1, room)),))
    state.padded.add(i)
    return Read(name, {a: strides[w.dimension_of[a]] if a in moving else 0 for a in w.strides}, 0, True, padded=True)


class ProductWriter(ExpressionLowering):
    """Writes a product's epilogue: TVM's expression of the output, in which the sums are those of the thread."""

    def __init__(self, state: GpuState) -> None:
        super().__init__()
        self.sums: Any = None
        self.total: Expr = zero()
        for buffer, operand in zip(state.sch.mod["main"].params, state.operands(), strict=True):
            self.buffers[buffer], self.dtypes[operand.name] = operand.name, dtype_of(buffer)
            self.operands[operand.name] = operand
            self.names.add(operand.name)
        self.output = state.spec.operands[-1].name

    def _TensorLoad(self, e: Any, dtype: str) -> Expr:
        if self.sums is not None and e.source == self.sums:
            return self.total
        return super()._TensorLoad(e, dtype)

    def epilogue(self, state: GpuState, product: Product, index: Mapping[str, Linear], total: Expr) -> Statements:
        """Stores one element of the output, whose sum is `total`; `index` has its axes."""
        declared, done = self.element(state, product, index, total)
        return (Scope((*declared, done)),) if declared else (done,)

    def element(
        self, state: GpuState, product: Product, index: Mapping[str, Linear], total: Expr
    ) -> tuple[Statements, Store]:
        """The store of one element of the output, and what is declared before it."""
        self.sums, self.total = product.sums, total
        forms = [index.get(a.name, Linear()) for a in product.info.spatial]
        if product.last is None:
            address = self.operands[self.output].layout.address(forms, self.ranges)
            return (), Store(self.output, address, total, 1)
        block = state.sch.get(product.last)
        self.env = {it.var: form for it, form in zip(block.iter_vars, forms, strict=True)}
        store = block.body
        value = self.expr(store.value)
        target = self.address(self.output, store.indices)
        assert isinstance(target, Linear)
        declared, self.declared = tuple(self.declared), []
        return declared, Store(self.output, target, value, 1)

    def four(
        self, state: GpuState, product: Product, index: Mapping[str, Linear], column: Linear, sums: Expr
    ) -> Statements:
        """Stores the elements of four neighbouring columns, from `column` on, as far as the output has them; the
        vector `sums` has their sums. They and what they are made of move as vectors where their addresses are multiples
        of 16 bytes."""
        self.ranges["lane"] = (0, V - 1)
        lane = Linear.var("lane")
        total = Op("float32", 1, LANE, (sums, Index("int32", 1, lane)))
        declared, store = self.element(state, product, {**index, product.column.name: column + lane}, total)
        extent = product.column.extent
        if extent % V or not self._begins_vector(self.output, store.index) or self.dtypes[self.output] != "float32":
            body: Statements = (Scope((*declared, store)),) if declared else (store,)
            body = inside(column + lane, extent, self.ranges, body)
            return (For("lane", 0, V, 1, body, unrolled=True),)
        loads: dict[tuple[str, Linear], str] = {}

        def by_vector(e: Expr) -> Expr:
            if not isinstance(e, Load) or e.dtype != "float32" or not self._begins_vector(e.buffer, e.index):
                return e
            name = loads.setdefault((e.buffer, e.index - lane), f"{e.buffer}_four{len(loads) or ''}")
            return Op("float32", 1, LANE, (Ref("float32", V, name), Index("int32", 1, lane)))

        elements = map_stmts((*declared, Store(FOUR, lane, store.value, 1)), lambda s: [s], by_vector)
        vectors = [
            Declare(name, "float32", V, Load("float32", V, buffer, at, V), True) for (buffer, at), name in loads.items()
        ]
        if store.value == total:
            return inside(column, extent, self.ranges, (Store(self.output, store.index - lane, sums, V),))
        whole = Store(self.output, store.index - lane, Load("float32", V, FOUR, Linear(), V), V)
        each = For("lane", 0, V, 1, elements, unrolled=True)
        out: Statements = (*vectors, Array(FOUR, "float32", V), each, whole)
        guarded = inside(column, extent, self.ranges, out)
        return guarded if guarded is not out else (Scope(out),)

    def _begins_vector(self, buffer: str, index: Linear) -> bool:
        """Whether the elements of an operand over the lanes are a vector that one instruction moves."""
        first = index - Linear.var("lane")
        aligned = buffer in self.operands and self.operands[buffer].aligned and self.dtypes[buffer] == "float32"
        return (
            aligned and not first.uses("lane") and not any(c % V for c in (first.const, *(c for _, c in first.terms)))
        )


def split(form: Linear, axes: Sequence[Axis], ranges: Mapping[str, Range]) -> dict[str, Linear]:
    """The axes' indices, of their number as one axis, the last one fastest."""
    out: dict[str, Linear] = {}
    for axis in reversed(axes[1:]):
        out[axis.name] = floormod(form, axis.extent, ranges)
        form = floordiv(form, axis.extent, ranges)
    return {axes[0].name: form, **out} if axes else {}


def inside(form: Linear, bound: int, ranges: Mapping[str, Range], body: Statements) -> Statements:
    """What is done where ``form < bound``."""
    if form.bounds(ranges)[1] < bound:
        return body
    if len(body) == 1 and isinstance(body[0], If) and not body[0].otherwise:
        return (If(Op("bool", 1, "&&", (below(form, bound), body[0].condition)), body[0].then),)
    return (If(below(form, bound), body),)


def zero(lanes: int = 1) -> Expr:
    const = Const("float32", 1, 0.0)
    return const if lanes == 1 else Op("float32", lanes, "splat", (const,))


def all_of(conditions: Sequence[Expr]) -> Expr | None:
    out: Expr | None = None
    for c in conditions:
        out = c if out is None else Op("bool", 1, "&&", (out, c))
    return out
