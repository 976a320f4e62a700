"""The rule for products with few rows: a matrix times a vector, whose time is that of reading the matrix.

A block computes 32 columns of one row. Its warps take every so many steps of the reduction each, so that the lanes of
a warp read neighbouring weights, and add up in shared memory.
"""

from __future__ import annotations

from math import prod

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
    Param,
    Ref,
    Space,
    Store,
)
from dlpack.targets.gpu.cost import WARP, traffic_seconds
from dlpack.targets.gpu.launch import launch_of
from dlpack.targets.gpu.lowering import below
from dlpack.targets.gpu.product import SUMS, Product, ProductWriter, match_product, split, zero
from dlpack.targets.gpu.state import GpuState

FEWEST_STEPS = 32
"""Steps of the reduction from which on warps share it."""

PARTS = "parts"
v = Linear.var


def gemv(state: GpuState) -> Scheduled | None:
    """Schedules a product whose rows are few; None for any other kernel, and where neighbouring columns of w are not
    neighbours in memory."""
    product = match_product(state)
    if product is None:
        return None
    _, _, n, k = product.sizes
    if product.w.strides[product.column.name] != 1 or k < FEWEST_STEPS or n < WARP // 2:
        return None
    slices = 2
    while slices * WARP < state.gpu.threads and k >= slices * 16:
        slices *= 2
    kernel = _kernel(state, product, slices)
    seconds = traffic_seconds(state.gpu, state.nbytes, prod(launch_of(kernel).grid))
    description = state.on_paper(f"a warp per 32 columns, {slices} share the sums", seconds)
    return Scheduled(kernel, state.packed, description)


def _kernel(state: GpuState, p: Product, slices: int) -> Kernel:
    batch, m, n, k = p.sizes
    out = ProductWriter(state)
    ranges = out.ranges
    blocks, threads = -(-n // WARP), slices * WARP
    trips = -(-k // slices)
    ranges.update(block=(0, blocks - 1), row=(0, batch * m - 1), thread=(0, threads - 1), turn=(0, trips - 1))
    ranges.update(warp=(0, slices - 1), column=(0, blocks * WARP - 1), step=(0, trips * slices - 1))
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
    if trips * slices > k:
        add = (If(below(v("step"), k), add),)
    step = Declare("step", "int32", 1, Index("int32", 1, v("turn") * slices + warp), True)
    sums: Block = (For("turn", 0, trips, 1, (step, *add)),)
    inside = blocks * WARP <= n
    lane = floormod(v("thread"), WARP, ranges)
    total: Expr = Ref("float32", 1, SUMS)
    for other in range(1, slices):
        total = Op("float32", 1, "+", (total, Load("float32", 1, PARTS, lane + (other - 1) * WARP, 1)))
    first: Block = out.epilogue(state, p, where, Ref("float32", 1, "total"))
    first = (Declare("total", "float32", 1, total, True), *first)
    others = Op("bool", 1, ">", (Index("int32", 1, warp), Index("int32", 1, Linear())))
    mine = below(warp, 1) if inside else Op("bool", 1, "&&", (below(warp, 1), below(column, n)))
    body: Block = (
        Declare("warp", "int32", 1, Index("int32", 1, floordiv(v("thread"), WARP, ranges)), True),
        Declare("column", "int32", 1, Index("int32", 1, start + lane), True),
        Array(PARTS, "float32", (slices - 1) * WARP, Space.SHARED),
        Declare(SUMS, "float32", 1, zero()),
        *(sums if inside else (If(below(column, n), sums),)),
        If(others, (Store(PARTS, warp * WARP + lane - WARP, Ref("float32", 1, SUMS), 1),)),
        Barrier(),
        If(mine, first),
    )
    each = For("thread", 0, threads, threads, body, LoopAxis.THREAD)
    columns = For("block", 0, blocks, 1, (each,), LoopAxis.BLOCK)
    grid = For("row", 0, batch * m, 1, (columns,), LoopAxis.BLOCK)
    spec = state.spec
    params = tuple(Param(o.name, str(t.dtype), o.written) for o, t in zip(spec.operands, spec.tensors, strict=True))
    return Kernel(params, (grid,))
