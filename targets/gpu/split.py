"""Reductions that several blocks share: each leaves its sums in scratch memory, and a second launch adds them up.

The order of the additions is fixed, so that equal inputs give equal outputs, bit by bit.
"""

from __future__ import annotations

from dataclasses import dataclass

from dlpack.loops.index import Linear, floordiv, floormod
from dlpack.loops.ir import Array, Assign, Block, Declare, For, Index, Load, LoopAxis, Op, Ref, Space, Stmt
from dlpack.targets.gpu.cost import sum_seconds, threads_for
from dlpack.targets.gpu.product import Product, ProductWriter, V, inside, split
from dlpack.targets.gpu.state import GpuState

PARTIAL = "partial"
"""The array in scratch memory that the sums of all blocks are left in."""

v = Linear.var


@dataclass(frozen=True)
class Partial:
    """The sums of `parts` blocks: of each `batch` products of `rows` rows, which begin `pitch` floats apart, a multiple
    of four."""

    parts: int
    batch: int
    rows: int
    pitch: int

    @property
    def array(self) -> Array:
        return Array(PARTIAL, "float32", self.nbytes // 4, Space.SCRATCH)

    @property
    def nbytes(self) -> int:
        return self.parts * self.batch * self.rows * self.pitch * 4

    @property
    def words(self) -> str:
        return f"four outputs per thread, from {self.parts} sums each"

    def address(self, part: Linear, row: Linear, column: Linear) -> Linear:
        """`row` counts those of all batches."""
        return (part * (self.batch * self.rows) + row) * self.pitch + column

    def sum(self, state: GpuState, product: Product) -> tuple[Stmt, float]:
        """The launch that adds up, and computes the outputs from the sums; and its estimated time in seconds."""
        batch, m, n, _ = product.sizes
        out = ProductWriter(state)
        ranges = out.ranges
        fours = -(-n // V)
        items = batch * m * fours
        threads = threads_for(state.gpu, items)
        blocks = -(-items // threads)
        ranges.update(block=(0, blocks - 1), thread=(0, threads - 1), item=(0, blocks * threads - 1))
        number = v("block") * threads + v("thread") if blocks > 1 else v("thread")
        if blocks * threads > items:
            ranges["item"] = (0, items - 1)  # where the guard lets it pass
        four, rest = floormod(v("item"), fours, ranges), floordiv(v("item"), fours, ranges)
        row, which = floormod(rest, m, ranges), floordiv(rest, m, ranges)
        where = {**split(which, product.batch, ranges), **split(row, product.rows, ranges)}

        def partial(part: Linear) -> Load:
            return Load("float32", V, PARTIAL, self.address(part, which * self.rows + row, four * V), V)

        total = Ref("float32", V, "total")
        more = Op("float32", V, "+", (total, partial(v("part"))))
        ranges["part"] = (1, self.parts - 1)
        body: Block = (
            Declare("total", "float32", V, partial(Linear())),
            For("part", 1, self.parts, 1, (Assign("total", more),)),
            *out.four(state, product, where, four * V, total),
        )
        ranges["item"] = (0, blocks * threads - 1)
        declared = Declare("item", "int32", 1, Index("int32", 1, number), True)
        each = (declared, *inside(v("item"), items, ranges, body))
        inner = For("thread", 0, threads, threads, each, LoopAxis.THREAD)
        return For("block", 0, blocks, 1, (inner,), LoopAxis.BLOCK), sum_seconds(state.gpu, self.parts, batch * m * n)
