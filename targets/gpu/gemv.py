"""The rule for products with few rows: a matrix times a vector, whose time is that of reading the matrix.

A block computes 32 columns of one row. Its warps take every so many steps of the reduction each, so that the lanes of
a warp read neighbouring weights, and add up in shared memory. Where the columns are too few to occupy the GPU, several
blocks share the reduction.
"""

from __future__ import annotations

from dataclasses import replace

from dlpack.kernels.spec import Scheduled
from dlpack.loops.index import Linear, floordiv, floormod
from dlpack.loops.ir import (
    Array,
    Assign,
    Barrier,
    Block,
    Declare,
    Expr,
    For,
    If,
    Index,
    Kernel,
    Load,
    LoopAxis,
    Op,
    Ref,
    Space,
    Store,
)
from dlpack.targets.gpu.cost import PARTS, WARP, sum_seconds, traffic_seconds
from dlpack.targets.gpu.launch import MOST_BLOCKS
from dlpack.targets.gpu.lowering import below
from dlpack.targets.gpu.product import SUMS, Product, ProductWriter, match_product, split, zero
from dlpack.targets.gpu.split import PARTIAL, Partial
from dlpack.targets.gpu.state import GpuState

FEWEST_STEPS = 32
"""Steps of the reduction from which on warps share it."""

FEWEST_TURNS = 8
"""Steps of a warp from which on blocks share a reduction."""

OTHERS = "parts"
v = Linear.var


def gemv(state: GpuState) -> Scheduled | None:
    """Schedules a product whose rows are few; None for any other kernel, and where neighbouring columns of w are not
    neighbours in memory."""
    product = match_product(state)
    if product is None:
        return None
    batch, m, n, k = product.sizes
    if product.w.strides[product.column.name] != 1 or k < FEWEST_STEPS or n < WARP // 2:
        return None
    if batch * m > MOST_BLOCKS:
        return None
    slices = 2
    while slices * WARP < state.gpu.threads and k >= slices * 16:
        slices *= 2
    blocks = batch * m * -(-n // WARP)
    fits = [p for p in (1, *PARTS) if p == 1 or k >= p * slices * FEWEST_TURNS]
    parts = min(fits, key=lambda p: _seconds(state, blocks * p, p, batch * m * n))
    kernel = _kernel(state, product, slices, parts)
    first = traffic_seconds(state.gpu, state.nbytes, blocks * parts)
    shared = f", {parts} blocks share the reduction" if parts > 1 else ""
    words = state.on_paper(f"a warp per 32 columns, {slices} share the sums{shared}", first)
    if parts > 1:
        partial = _partial(product, parts)
        second, seconds = partial.sum(state, product)
        kernel = replace(kernel, body=(partial.array, *kernel.body, second), scratch=partial.nbytes)
        words += "\n" + state.on_paper(partial.words, seconds)
    return Scheduled(kernel, state.packed, words)


def _seconds(state: GpuState, blocks: int, parts: int, outputs: int) -> float:
    """The estimated time with so many blocks in all, of which `parts` share a reduction."""
    again = sum_seconds(state.gpu, parts, outputs) if parts > 1 else 0
    return traffic_seconds(state.gpu, state.nbytes, blocks) + again


def _partial(p: Product, parts: int) -> Partial:
    batch, m, n, _ = p.sizes
    return Partial(parts, batch, m, -(-n // WARP) * WARP)


def _kernel(state: GpuState, p: Product, slices: int, parts: int) -> Kernel:
    batch, m, n, k = p.sizes
    out = ProductWriter(state)
    ranges = out.ranges
    blocks, threads = -(-n // WARP), slices * WARP
    sharing = slices * parts
    trips = -(-k // sharing)
    ranges.update(block=(0, blocks - 1), row=(0, batch * m - 1), thread=(0, threads - 1), turn=(0, trips - 1))
    ranges.update(
        warp=(0, slices - 1), column=(0, blocks * WARP - 1), step=(0, trips * sharing - 1), split=(0, parts - 1)
    )
    row = v("row") if batch * m > 1 else Linear()
    start = v("block") * WARP if blocks > 1 else Linear()
    column, warp = v("column"), v("warp")
    where = {
        **split(floordiv(row, m, ranges), p.batch, ranges),
        **split(floormod(row, m, ranges), p.rows, ranges),
        p.column.name: column,
    }
    index = {**where, **split(v("step"), p.steps, ranges)}
    product = Op(
        "float32",
        1,
        "*",
        tuple(Load("float32", 1, r.name, r.address(index), 1) for r in (p.x, p.w)),
    )
    add: Block = (Assign(SUMS, Op("float32", 1, "+", (Ref("float32", 1, SUMS), product))),)
    if trips * sharing > k:
        add = (If(below(v("step"), k), add),)
    number = v("turn") * sharing + warp + (v("split") * slices if parts > 1 else Linear())
    step = Declare("step", "int32", 1, Index("int32", 1, number), True)
    sums: Block = (For("turn", 0, trips, 1, (step, *add)),)
    inside = blocks * WARP <= n
    lane = floormod(v("thread"), WARP, ranges)
    total: Expr = Ref("float32", 1, SUMS)
    for other in range(1, slices):
        total = Op("float32", 1, "+", (total, Load("float32", 1, OTHERS, lane + (other - 1) * WARP, 1)))
    result = Ref("float32", 1, "total")
    first: Block = out.epilogue(state, p, where, result)
    if parts > 1:
        first = (Store(PARTIAL, _partial(p, parts).address(v("split"), row, column), result, 1),)
    first = (Declare("total", "float32", 1, total, True), *first)
    others = Op("bool", 1, ">", (Index("int32", 1, warp), Index("int32", 1, Linear())))
    mine = below(warp, 1) if inside else Op("bool", 1, "&&", (below(warp, 1), below(column, n)))
    body: Block = (
        Declare("warp", "int32", 1, Index("int32", 1, floordiv(v("thread"), WARP, ranges)), True),
        Declare("column", "int32", 1, Index("int32", 1, start + lane), True),
        Array(OTHERS, "float32", (slices - 1) * WARP, Space.SHARED),
        Declare(SUMS, "float32", 1, zero()),
        *(sums if inside else (If(below(column, n), sums),)),
        If(others, (Store(OTHERS, warp * WARP + lane - WARP, Ref("float32", 1, SUMS), 1),)),
        Barrier(),
        If(mine, first),
    )
    each = For("thread", 0, threads, threads, body, LoopAxis.THREAD)
    columns = For("block", 0, blocks, 1, (each,), LoopAxis.BLOCK)
    grid = For("row", 0, batch * m, 1, (columns,), LoopAxis.BLOCK)
    if parts > 1:
        grid = For("split", 0, parts, 1, (grid,), LoopAxis.BLOCK)
    return Kernel(state.params(), (grid,))
