"""The rule for products with many rows and columns: convolutions as implicit products of matrices, and matmul.

A block computes a tile of the output. For each `depth` steps of the reduction its threads bring a tile of x and one of
w from memory to shared memory, one step ahead through registers, and each thread multiplies its rows by its columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from dlpack.kernels.spec import Scheduled
from dlpack.loops.index import Linear, Range, floordiv, floormod
from dlpack.loops.ir import (
    Array,
    Assign,
    Barrier,
    Block,
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
    Scope,
    Space,
    Stmt,
    Store,
    map_expr,
    map_stmts,
)
from dlpack.loops.lanes import LANE
from dlpack.targets.cpu.blocks import Axis
from dlpack.targets.gpu.cost import NARROWEST, Tile, choose_tile
from dlpack.targets.gpu.launch import MOST_BLOCKS
from dlpack.targets.gpu.lowering import below
from dlpack.targets.gpu.product import (
    SUMS,
    Product,
    ProductWriter,
    Read,
    V,
    all_of,
    inside,
    match_product,
    split,
    zero,
)
from dlpack.targets.gpu.split import PARTIAL, Partial
from dlpack.targets.gpu.state import GpuState

FEWEST = 8
"""Rows, columns and steps from which on a tile pays."""

TILES = "block_tiles"
"""The array of shared memory: the tile of x of each slice, then those of w."""

v = Linear.var


def gemm(state: GpuState) -> Scheduled | None:
    """Schedules a product of matrices; None for any other kernel, and for few rows, columns or steps."""
    product = match_product(state)
    if product is None:
        return None
    batch, m, n, k = product.sizes
    if min(m, n, k) < FEWEST or n > NARROWEST * MOST_BLOCKS:
        return None
    tile, seconds = choose_tile(state.gpu, batch, m, n, k)
    if tile.parts == 1:
        writer = ProductWriter(state)

        def store(index: Mapping[str, Linear], place: Place, sums: Expr) -> Block:
            body = writer.four(state, product, index, place.column, sums)
            return inside(place.row, m, writer.ranges, body)

        grid: Block = (TileWriter(product, tile, writer.ranges, store).grid(),)
        scratch, words = 0, [state.on_paper(words_for(tile), seconds)]
    else:
        ranges: dict[str, Range] = {}
        partial = Partial(tile.parts, batch, -(-m // tile.rows) * tile.rows, -(-n // tile.columns) * tile.columns)

        def leave(_: Mapping[str, Linear], place: Place, sums: Expr) -> Block:
            return (Store(PARTIAL, partial.address(v("split"), place.padded_row, place.column), sums, V),)

        second, again = partial.sum(state, product)
        grid = (partial.array, TileWriter(product, tile, ranges, leave).grid(), second)
        scratch, first = partial.nbytes, state.on_paper(words_for(tile), seconds - again)
        words = [first, state.on_paper(partial.words, again)]
    return Scheduled(Kernel(state.params(), grid, scratch), state.packed, "\n".join(words))


def words_for(tile: Tile) -> str:
    """A tile in words."""
    shape = f"{tile.rows} x {tile.columns} x {tile.depth}, {tile.high} x {tile.wide} a thread"
    slices = f", {tile.slices} slices of the reduction" if tile.slices > 1 else ""
    parts = f", {tile.parts} blocks share the reduction" if tile.parts > 1 else ""
    return f"matrix product by tiles of {shape}{slices}{parts}"


@dataclass(frozen=True)
class Place:
    """Where four sums of a thread belong: the output's `row` and first `column`; `padded_row` counts the rows of all
    batches as if each had whole tiles."""

    row: Linear
    padded_row: Linear
    column: Linear


@dataclass(frozen=True)
class _Copy:
    """How a block's threads bring a tile to shared memory: each moves `lanes` floats at a time, `moves` times.

    `bases` declare addresses that do not change from step to step, `values` are the loads by the names of the registers
    that hold them, `stores` put these into shared memory.
    """

    lanes: int
    bases: tuple[Declare, ...]
    values: tuple[tuple[str, Expr], ...]
    stores: Block


class TileWriter:
    """Writes the grid of one product with one tile. `store` stores four sums of a thread, given the axes' indices but
    for the column's, and their place."""

    def __init__(
        self,
        product: Product,
        tile: Tile,
        ranges: dict[str, Range],
        store: Callable[[Mapping[str, Linear], Place, Expr], Block],
    ) -> None:
        self.product, self.tile, self.ranges, self.store = product, tile, ranges, store
        self.batch, self.m, self.n, self.k = product.sizes
        self.blocks_m, self.blocks_n = -(-self.m // tile.rows), -(-self.n // tile.columns)
        last = product.steps[-1]
        self.whole = last.extent % tile.depth == 0
        """Whether a step stays at one place of the window."""
        chunks = self.k // last.extent * (last.extent // tile.depth) if self.whole else -(-self.k // tile.depth)
        self.chunks = chunks
        self.sharing = tile.slices * tile.parts
        """Groups of threads, of one block and of others, that take turns at the chunks of a tile."""
        self.trips = -(-chunks // self.sharing)
        self.ranges.update(
            split=(0, tile.parts - 1),
            block_m=(0, self.blocks_m * self.batch - 1),
            block_n=(0, self.blocks_n - 1),
            thread=(0, tile.threads - 1),
            trip=(0, self.trips - 1),
        )
        block_m = v("block_m") if self.blocks_m * self.batch > 1 else Linear()
        block_n = v("block_n") if self.blocks_n > 1 else Linear()
        self.padded_row = block_m * tile.rows
        self.first_row = floormod(block_m, self.blocks_m, self.ranges) * tile.rows
        self.first_column = block_n * tile.columns
        self.batch_index = split(floordiv(block_m, self.blocks_m, self.ranges), product.batch, self.ranges)
        self.member = floormod(v("thread"), tile.group, self.ranges)
        self.slice = floordiv(v("thread"), tile.group, self.ranges)
        if tile.slices > 1:
            self.ranges.update(member=(0, tile.group - 1), slice=(0, tile.slices - 1))
            self.member, self.slice = v("member"), v("slice")
        self.x_start = self.slice * (tile.rows * tile.row_pitch)
        self.w_start = self.slice * (tile.depth * tile.columns) + tile.slices * tile.rows * tile.row_pitch

    # --- indices ------------------------------------------------------------------------------------------------

    def chunk(self, trip: Linear) -> Linear:
        """The number of a trip's chunk of `depth` steps: slices take turns."""
        others = v("split") * self.tile.slices if self.tile.parts > 1 else Linear()
        return trip * self.sharing + others + self.slice

    def step_index(self, chunk: Linear, inner: Linear) -> dict[str, Linear]:
        """The axes of the reduction at step `inner` of a chunk."""
        steps, depth = self.product.steps, self.tile.depth
        if not self.whole:
            return split(chunk * depth + inner, steps, self.ranges)
        parts = steps[-1].extent // depth
        outer = split(floordiv(chunk, parts, self.ranges), steps[:-1], self.ranges)
        return {**outer, steps[-1].name: floormod(chunk, parts, self.ranges) * depth + inner}

    # --- from memory to shared memory ---------------------------------------------------------------------------

    def copy(self, read: Read, along: tuple[Axis, ...], size: int, first: Linear, bound: int, tile_of_x: bool) -> _Copy:
        """Of an operand `size` rows (of w: columns) from `first` on, of which there are `bound`, by `depth` steps."""
        depth = self.tile.depth
        last = self.product.steps[-1]
        by_step = read.strides[last.name] == 1 and read.strides[along[-1].name] != 1
        axes = (*self.product.batch, *self.product.rows, self.product.column, *self.product.steps)
        vectors = read.by_vectors(last if by_step else along[-1], axes) and by_step == tile_of_x
        lanes = V if vectors else 1
        fast = (depth if by_step else size) // lanes
        count = size * depth // lanes
        moves = -(-count // self.tile.group)
        room = -(-bound // V) * V if lanes > 1 and not by_step else bound
        bases: list[Declare] = []
        values: list[tuple[str, Expr]] = []
        stores: list[Stmt] = []
        pitch = self.tile.row_pitch
        start = self.x_start if tile_of_x else self.w_start
        for j in range(moves):
            number = self.member + j * self.tile.group
            a = floormod(number, fast, self.ranges) * lanes
            b = floordiv(number, fast, self.ranges)
            place, step = (b, a) if by_step else (a, b)
            where = split(first + place, along, self.ranges)
            index = {**self.batch_index, **where, **self.step_index(self.chunk(v("trip")), step)}
            address = read.address(index)
            fixed = Linear(address.const, tuple(t for t in address.terms if not Linear(0, (t,)).uses("trip")))
            base = Index("int32", 1, fixed)
            name = next((b.name for b in bases if b.value == base), f"{read.name}_at{len(bases)}")
            if all(b.name != name for b in bases):
                bases.append(Declare(name, "int32", 1, base, True))
            at: Expr = Ref("int32", 1, name)
            if address != fixed:
                at = Op("int32", 1, "+", (at, Index("int32", 1, address - fixed)))
            value: Expr = Gathered("float32", lanes, read.name, at, lanes)
            guards = self.guards(first + place, room, step, number, count)
            condition = all_of(guards)
            if condition is not None:
                value = Op("float32", lanes, "select", (condition, value, zero(lanes)))
            register = f"{read.name}_next{j}"
            values.append((register, value))
            target = start + (place * pitch + step if tile_of_x else step * size + place)
            store: Stmt = Store(TILES, target, Ref("float32", lanes, register), lanes)
            inside = number.bounds(self.ranges)[1] < count
            stores.append(store if inside else If(below(number, count), (store,)))
        return _Copy(lanes, tuple(bases), tuple(values), tuple(stores))

    def guards(self, place: Linear, bound: int, step: Linear, number: Linear, count: int) -> list[Expr]:
        """What must hold for an element to be there."""
        out = []
        if place.bounds(self.ranges)[1] >= bound:
            out.append(below(place, bound))
        if not self.whole and (self.k % self.tile.depth or self.chunks % self.sharing):
            out.append(below(self.chunk(v("trip")) * self.tile.depth + step, self.k))
        elif self.chunks % self.sharing:
            out.append(below(self.chunk(v("trip")), self.chunks))
        if number.bounds(self.ranges)[1] >= count:
            out.append(below(number, count))
        return out

    def fetch(self, copies: tuple[_Copy, ...], trip: Linear, declare: bool) -> Block:
        """Loads a trip's tiles into registers."""
        ranges = {**self.ranges, "trip": (0, self.trips)}

        def moved(e: Expr) -> Expr:
            if isinstance(e, Index):
                return Index(e.dtype, 1, e.form.substitute({"trip": trip}, ranges))
            nothing = isinstance(e, Op) and e.op == "+" and e.args[1] == Index("int32", 1, Linear())
            return e.args[0] if isinstance(e, Op) and nothing else e

        out: list[Stmt] = []
        for copy in copies:
            for name, value in copy.values:
                e = map_expr(value, moved)
                out.append(Declare(name, "float32", copy.lanes, e) if declare else Assign(name, e))
        return tuple(out)

    # --- the kernel ---------------------------------------------------------------------------------------------

    def grid(self) -> Stmt:
        """All blocks of the launch."""
        p, tile = self.product, self.tile
        copies = (
            self.copy(p.x, p.rows, tile.rows, self.first_row, self.m, True),
            self.copy(p.w, (p.column,), tile.columns, self.first_column, self.n, False),
        )
        body: list[Stmt] = []
        if tile.slices > 1:
            thread = v("thread")
            for name, form in (
                ("slice", floordiv(thread, tile.group, self.ranges)),
                ("member", floormod(thread, tile.group, self.ranges)),
            ):
                body.append(Declare(name, "int32", 1, Index("int32", 1, form), True))
        body += [
            Array(TILES, "float32", tile.shared_floats, Space.SHARED),
            *(base for copy in copies for base in copy.bases),
            *self.fetch(copies, Linear(), True),
            Array(SUMS, "float32", tile.high * tile.wide),
            self.unrolled("place", tile.high * tile.wide // V, (Store(SUMS, v("place") * V, zero(V), V),)),
        ]
        step: list[Stmt] = [*(s for copy in copies for s in copy.stores), Barrier()]
        if self.trips > 1:
            step.append(If(below(v("trip"), self.trips - 1), self.fetch(copies, v("trip") + 1, False)))
        step.append(self.multiply())
        if self.trips > 1 or tile.slices > 1:  # what is read is written again
            step.append(Barrier())
        body.append(For("trip", 0, self.trips, 1, tuple(step)))
        body += self.finish()
        threads = For("thread", 0, tile.threads, tile.threads, tuple(body), LoopAxis.THREAD)
        rows = For("block_m", 0, self.blocks_m * self.batch, 1, (threads,), LoopAxis.BLOCK)
        grid = For("block_n", 0, self.blocks_n, 1, (rows,), LoopAxis.BLOCK)
        return For("split", 0, tile.parts, 1, (grid,), LoopAxis.BLOCK) if tile.parts > 1 else grid

    def place(self) -> tuple[Linear, Linear]:
        """The first of the rows and the number of the columns that a thread computes: these are `wide` / 4 vectors, as
        many threads apart as are beside each other."""
        beside = self.tile.columns // self.tile.wide
        row = floordiv(self.member, beside, self.ranges) * self.tile.high
        return row, floormod(self.member, beside, self.ranges) * V

    def multiply(self) -> Stmt:
        """All products of a chunk, four steps at a time, which one vector of each row of x holds."""
        tile = self.tile
        row, column = self.place()
        vectors, beside = tile.wide // V, tile.columns // tile.wide * V
        self.ranges.update(
            row=(0, tile.high - 1), part=(0, vectors - 1), four=(0, tile.depth // V - 1), step=(0, V - 1)
        )
        x_at = self.x_start + (row + v("row")) * tile.row_pitch + v("four") * V
        w_at = self.w_start + (v("four") * V + v("step")) * tile.columns + column + v("part") * beside
        sums_at = v("row") * tile.wide + v("part") * V
        factor = Op("float32", 1, LANE, (_vector("x_row", v("row") * V), Index("int32", 1, v("step"))))
        term = Op("float32", V, "*", (factor, _vector("w_row", v("part") * V)))
        add = Store(SUMS, sums_at, Op("float32", V, "+", (_vector(SUMS, sums_at), term)), V)
        step = (
            self.unrolled("part", vectors, (Store("w_row", v("part") * V, _vector(TILES, w_at), V),)),
            self.unrolled("row", tile.high, (self.unrolled("part", vectors, (add,)),)),
        )
        body = (
            Array("x_row", "float32", tile.high * V),
            Array("w_row", "float32", tile.wide),
            self.unrolled("row", tile.high, (Store("x_row", v("row") * V, _vector(TILES, x_at), V),)),
            self.unrolled("step", V, step),
        )
        return self.unrolled("four", tile.depth // V, body)

    def finish(self) -> Block:
        """Adds up the slices' sums in the tiles' place, then the first slice writes the outputs."""
        tile = self.tile
        if tile.slices == 1:
            return self.outputs()
        count = tile.high * tile.wide // V
        self.ranges.update(place=(0, count - 1), other=(0, tile.slices - 2))
        sums, mine = v("place") * V, self.member * V + v("place") * (tile.group * V)
        left = mine + (self.slice - 1) * (count * tile.group * V)
        found = mine + v("other") * (count * tile.group * V)
        leave = self.unrolled("place", count, (Store(TILES, left, _vector(SUMS, sums), V),))
        total = Op("float32", V, "+", (_vector(SUMS, sums), _vector(TILES, found)))
        take = For("other", 0, tile.slices - 1, 1, (self.unrolled("place", count, (Store(SUMS, sums, total, V),)),))
        others = Op("bool", 1, ">", (Index("int32", 1, self.slice), Index("int32", 1, Linear())))
        return (If(others, (leave,)), Barrier(), If(below(self.slice, 1), (take, *self.outputs())))

    def outputs(self) -> Block:
        """Each of a thread's outputs, from its sum."""
        tile, p = self.tile, self.product
        row, column = self.place()
        vectors, beside = tile.wide // V, tile.columns // tile.wide * V
        self.ranges.update(row=(0, tile.high - 1), part=(0, vectors - 1))
        here = row + v("row")
        place = Place(self.first_row + here, self.padded_row + here, self.first_column + column + v("part") * beside)
        index = {**self.batch_index, **split(place.row, p.rows, self.ranges)}
        body = self.store(index, place, _vector(SUMS, v("row") * tile.wide + v("part") * V))
        return (self.unrolled("row", tile.high, (self.unrolled("part", vectors, body),)),)

    def unrolled(self, var: str, count: int, body: Block) -> Stmt:
        """``for (var = 0; var < count; ++var) body``, written out; of one trip the body alone."""
        if count > 1:
            return For(var, 0, count, 1, body, unrolled=True)

        def zeroed(form: Linear) -> Linear:
            return form.substitute({var: Linear()}, self.ranges)

        def on_expr(e: Expr) -> Expr:
            if isinstance(e, Index):
                return replace(e, form=zeroed(e.form))
            return replace(e, index=zeroed(e.index)) if isinstance(e, Load) else e

        def on_stmt(s: Stmt) -> list[Stmt]:
            return [replace(s, index=zeroed(s.index)) if isinstance(s, Store) else s]

        mapped = map_stmts(body, on_stmt, on_expr)
        return mapped[0] if len(mapped) == 1 else Scope(mapped)


def _vector(buffer: str, index: Linear) -> Load:
    return Load("float32", V, buffer, index, V)
