"""The rule for attention in one launch (graph/attention.py), and where it is faster than products and a softmax.

A block takes 32 queries; a lane of each of its warps has one, with its numbers and its result in registers. Tiles of
keys and values come to shared memory, where all lanes of a warp read the same element at a time. Of each tile a warp
takes some keys: it knows the largest score so far, and makes what it has summed smaller where a larger one comes, so
that no score is kept. In the end the first warp adds up what the others have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from dlpack.kernels.backend import Attention
from dlpack.kernels.spec import Scheduled
from dlpack.loops.index import Linear, floordiv, floormod
from dlpack.loops.ir import (
    Array,
    Assign,
    Barrier,
    Block,
    Const,
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
    Stmt,
    Store,
)
from dlpack.loops.lanes import LANE
from dlpack.targets.cpu.blocks import BlockInfo
from dlpack.targets.gpu.cost import LATENCY, OVERHEAD, SCHEDULERS, WARP, choose_tile, gap, traffic_seconds
from dlpack.targets.gpu.lowering import below
from dlpack.targets.gpu.machine import Gpu
from dlpack.targets.gpu.product import Product, ProductWriter, Read, V, inside, split, zero
from dlpack.targets.gpu.state import GpuState

LOWEST = -3.4028234663852886e38
"""The largest score before there is one: not minus infinity, from which no difference could be taken."""

FEWEST_QUERIES, FEWEST_KEYS = 8, 16
"""Below which a block's lanes have nothing to do."""

TILE = "tile"
"""The array of shared memory: keys, then values; in the end what a warp has summed."""

v = Linear.var


@dataclass(frozen=True)
class _Shape:
    """A tile has `keys` keys; `warps` of a block take as many of them each."""

    keys: int
    warps: int

    @property
    def each(self) -> int:
        return self.keys // self.warps

    def shared_floats(self, a: Attention) -> int:
        sums = WARP * (a.width + 2) if self.warps > 1 else 0
        return max(self.keys * (a.size + a.width), sums)


def _registers(a: Attention, shape: _Shape) -> int:
    """Of a thread: a query, the result, and about 50 others."""
    return a.size + a.width + shape.each + 50


def _seconds(gpu: Gpu, a: Attention, shape: _Shape) -> float:
    """The estimated time; as for a tile of a product (cost.py)."""
    blocks = a.batch * -(-a.queries // WARP)
    both = a.size + a.width
    key = both * SCHEDULERS * WARP / gpu.fma + both / V + 30
    moved = shape.keys * both / V / (shape.warps * WARP)
    issue = shape.warps * (shape.each * key + a.width + 2 * moved + OVERHEAD) / SCHEDULERS
    alone = shape.each * (both * 1.25 + 30)  # a warp starts an instruction per cycle at most
    threads = shape.warps * WARP
    fits = (gpu.shared_total // (shape.shared_floats(a) * 4), gpu.resident // threads,
            gpu.registers // (threads * _registers(a, shape)))  # fmt: skip
    per_processor = -(-blocks // gpu.processors)
    together = min(max(1, min(fits)), per_processor)
    trips = -(-a.keys // shape.keys)
    cycles = per_processor / together * trips * max(issue * together, max(issue, alone) + LATENCY)
    cycles += (shape.warps - 1) * a.width + 2 * LATENCY
    return cycles / (gpu.clock * 1e6) + gap(gpu, blocks)


def _choose(gpu: Gpu, a: Attention) -> tuple[_Shape, float] | None:
    """The fastest shape by the model, and its time in seconds; None where none fits."""
    if a.size % V or a.width % V or a.queries < FEWEST_QUERIES or a.keys < FEWEST_KEYS:
        return None
    shapes = (_Shape(keys, warps) for keys in (64, 32, 16, 8) for warps in (8, 4, 2, 1))
    fits = [
        s
        for s in shapes
        if 1 <= s.each <= 8
        and s.shared_floats(a) * 4 <= gpu.shared_bytes
        and s.warps * WARP <= gpu.threads
        and _registers(a, s) <= 250
        and s.warps * WARP * _registers(a, s) <= gpu.registers
    ]
    if not fits:
        return None
    best = min(fits, key=lambda s: _seconds(gpu, a, s))
    return best, _seconds(gpu, a, best)


def fuses(gpu: Gpu, a: Attention) -> bool:
    """Whether one launch is faster by the model than three."""
    chosen = None if a.cached or a.chosen else _choose(gpu, a)
    if chosen is None:
        return False
    _, scores = choose_tile(gpu, a.batch, a.queries, a.keys, a.size)
    softmax = traffic_seconds(gpu, 8 * a.batch * a.queries * a.keys, a.batch * a.queries)
    _, sums = choose_tile(gpu, a.batch, a.queries, a.width, a.keys)
    return chosen[1] < scores + softmax + sums


def attention(state: GpuState) -> Scheduled | None:
    """Schedules FusedAttention (operators/attention.py); None for any other kernel."""
    if state.statements:
        return None
    sch = state.sch
    blocks = {str(sch.get(b).name_hint): b for b in state.blocks()}
    if "attended" not in blocks:
        return None
    infos = {name: state.info(b) for name, b in blocks.items()}
    attended = infos["attended"]
    a = Attention(
        prod((x.extent for x in attended.spatial[:-2]), start=1),
        attended.spatial[-2].extent,
        infos["total"].extent_of_reduction,
        infos["scores"].extent_of_reduction,
        attended.spatial[-1].extent,
    )
    chosen = _choose(state.gpu, a)
    if chosen is None:
        return None
    shape, seconds = chosen
    last = None if list(blocks)[-1] == "attended" else list(blocks.values())[-1]
    operands = _operands(state, infos)
    if operands is None:
        return None
    scale = _scale(sch.get(blocks["masked"]).body.value)
    writer = _Writer(state, a, shape, attended, last, operands, scale)
    words = f"attention: 32 queries a block, tiles of {shape.keys} keys, shared by {shape.warps} warps"
    return Scheduled(writer.kernel(), state.packed, state.on_paper(words, seconds))


@dataclass(frozen=True)
class _Operand:
    """An operand: its name, the address where all axes are 0, the strides of the axes in front, and those of the last
    two as the kernel sees them: of a query, a key or a value, and of its numbers (of the mask: of its keys)."""

    name: str
    start: int
    lead: tuple[int, ...]
    rows: int
    numbers: int
    aligned: bool

    @property
    def by_vectors(self) -> bool:
        """Whether four neighbouring numbers are read at once."""
        return self.aligned and self.numbers == 1 and not any(n % V for n in (self.start, self.rows, *self.lead))


def _operands(state: GpuState, infos: Mapping[str, BlockInfo]) -> list[_Operand] | None:
    """Queries, keys, values, and the mask if there is one; None where an operand is not strided."""
    out = []
    places = (("scores", 0, (-2, "n")), ("scores", 1, (-1, "n")), ("sums", 0, ("n", -1)), ("masked", 0, (-2, -1)))
    for stage, number, inner in places:
        info = infos[stage]
        reads = [r for r in info.reads if r.buffer in state.param_index]
        if stage == "masked" and not reads:
            continue
        read = reads[number]
        axes = [info.reduction[0] if axis == "n" else info.spatial[int(axis)] for axis in inner]
        strides = [read.strides[x.name] for x in (*info.spatial[:-2], *axes)]
        if any(n is None for n in strides) or str(read.buffer.dtype) != "float32":
            return None
        *lead, rows, numbers = (n or 0 for n in strides)
        operand = state.spec.operands[state.param_index[read.buffer]]
        start = state.layout(read.buffer).offset
        out.append(_Operand(operand.name, start, tuple(lead), rows, numbers, operand.aligned))
    return out


def _scale(value: Any) -> float:
    """The factor of the scores in ``scores * factor + mask``."""
    product = value.a if type(value).__name__ == "Add" else value
    return float(product.b.value) if type(product).__name__ == "Mul" else 1.0


class _Writer:
    """Writes the kernel of one attention."""

    def __init__(
        self,
        state: GpuState,
        a: Attention,
        shape: _Shape,
        attended: BlockInfo,
        last: Any,
        operands: Sequence[_Operand],
        scale: float,
    ) -> None:
        self.state, self.a, self.shape, self.scale = state, a, shape, scale
        self.q, self.k, self.v = operands[:3]
        self.mask = operands[3] if len(operands) > 3 else None
        self.out = ProductWriter(state)
        ranges = self.ranges = self.out.ranges
        self.tiles = -(-a.queries // WARP)
        self.trips = -(-a.keys // shape.keys)
        self.threads = shape.warps * WARP
        *lead, self.row_axis, column = attended.spatial
        ranges.update(
            block=(0, self.tiles * a.batch - 1),
            thread=(0, self.threads - 1),
            warp=(0, shape.warps - 1),
            trip=(0, self.trips - 1),
            key=(0, shape.each - 1),
            part=(0, max(a.size, a.width) // V - 1),
            item=(0, shape.keys * max(a.size, a.width) - 1),
            number=(0, a.size - 1),
        )
        self.block = v("block") if self.tiles * a.batch > 1 else Linear()
        self.warp = v("warp") if shape.warps > 1 else Linear()
        self.lane = floormod(v("thread"), WARP, ranges)
        self.row = floormod(self.block, self.tiles, ranges) * WARP + self.lane
        self.query = self.row if self.row.bounds(ranges)[1] < a.queries else v("query")
        ranges["query"] = (0, a.queries - 1)
        self.index = split(floordiv(self.block, self.tiles, ranges), lead, ranges)
        self.lead = [self.index[x.name] for x in lead]
        self.values_at = shape.keys * a.size
        none = Read("", {}, 0, False)
        self.product = Product(attended, (), (), column, (), none, none, attended.writes[0].buffer, last)

    # --- memory -------------------------------------------------------------------------------------------------

    def address(self, o: _Operand, row: Linear, number: Linear) -> Linear:
        form = Linear(o.start) + row * o.rows + number * o.numbers
        for index, stride in zip(self.lead, o.lead, strict=True):
            form += index * stride
        return form

    def queries(self) -> Block:
        """Brings a thread's query to registers, multiplied by the factor of the scores."""
        factor, size = Const("float32", 1, self.scale), self.a.size
        if self.q.by_vectors:
            four = _vector(self.q.name, self.address(self.q, self.query, v("part") * V))
            store: Stmt = Store("query_of", v("part") * V, Op("float32", V, "*", (factor, four)), V)
            return (Array("query_of", "float32", size), _unrolled("part", size // V, (store,)))
        one = Load("float32", 1, self.q.name, self.address(self.q, self.query, v("number")), 1)
        store = Store("query_of", v("number"), Op("float32", 1, "*", (factor, one)), 1)
        return (Array("query_of", "float32", size), _unrolled("number", size, (store,)))

    def copy(self, o: _Operand, numbers: int, start: int, item: str) -> Stmt:
        """Brings a tile of keys or values to shared memory, [key][number]."""
        lanes = V if o.by_vectors else 1
        row = numbers // lanes
        self.ranges[item] = (0, self.shape.keys * row - 1)
        if lanes == 1 and o.numbers != 1:  # keys are neighbours
            key, number = (
                floormod(v(item), self.shape.keys, self.ranges),
                floordiv(v(item), self.shape.keys, self.ranges),
            )
        else:
            key, number = floordiv(v(item), row, self.ranges), floormod(v(item), row, self.ranges) * lanes
        at = v("trip") * self.shape.keys + key
        value: Expr = Load("float32", lanes, o.name, self.address(o, at, number), lanes)
        if at.bounds(self.ranges)[1] >= self.a.keys:
            value = Op("float32", lanes, "select", (below(at, self.a.keys), value, zero(lanes)))
        store = Store(TILE, key * numbers + number + start, value, lanes)
        return For(item, 0, self.shape.keys * row, self.threads, (store,), LoopAxis.THREAD)

    # --- a tile -------------------------------------------------------------------------------------------------

    def key(self) -> Linear:
        """The number within a tile of the key in progress."""
        return self.warp * self.shape.each + v("key")

    def there(self) -> Expr | None:
        """Whether there is such a key; None where there always is."""
        at = v("trip") * self.shape.keys + self.key()
        return below(at, self.a.keys) if at.bounds(self.ranges)[1] >= self.a.keys else None

    def score(self) -> Block:
        """The score of a key, and the largest so far."""
        size = self.a.size
        terms = _vector(TILE, self.key() * size + v("part") * V)
        product = Op("float32", V, "*", (_vector("query_of", v("part") * V), terms))
        four = Ref("float32", V, "four")
        add = Assign("four", Op("float32", V, "+", (four, product)))
        lanes = [Op("float32", 1, LANE, (four, Const("int32", 1, k))) for k in range(V)]
        score: Expr = _plus(_plus(lanes[0], lanes[1]), _plus(lanes[2], lanes[3]))
        there = self.there()
        if self.mask is not None:
            at = v("trip") * self.shape.keys + self.key()
            mask = Load("float32", 1, self.mask.name, self.address(self.mask, self.query, at), 1)
            score = _plus(score, mask)
        if there is not None:
            score = Op("float32", 1, "select", (there, score, Const("float32", 1, LOWEST)))
        largest = Op("float32", 1, "max", (_score(), Ref("float32", 1, "largest")))
        return (
            Declare("four", "float32", V, zero(V)),
            _unrolled("part", size // V, (add,)),
            Store("scores", v("key"), score, 1),
            Assign("largest", largest),
        )

    def add(self) -> Block:
        """Adds a key's value by its weight."""
        weight: Expr = _exp(_minus(_score(), Ref("float32", 1, "largest")))
        there = self.there()
        if there is not None:
            weight = Op("float32", 1, "select", (there, weight, zero()))
        value = _vector(TILE, self.key() * self.a.width + v("part") * V + self.values_at)
        term = Op("float32", V, "*", (Ref("float32", 1, "weight"), value))
        more = Store("sums", v("part") * V, Op("float32", V, "+", (_vector("sums", v("part") * V), term)), V)
        return (
            Declare("weight", "float32", 1, weight, True),
            Assign("total", _plus(Ref("float32", 1, "total"), Ref("float32", 1, "weight"))),
            _unrolled("part", self.a.width // V, (more,)),
        )

    def shrink(self, by: Expr) -> Block:
        """Multiplies what is summed by what the largest score has become more."""
        less = Op("float32", V, "*", (Ref("float32", 1, "fewer"), _vector("sums", v("part") * V)))
        return (
            Declare("fewer", "float32", 1, by, True),
            Assign("total", Op("float32", 1, "*", (Ref("float32", 1, "total"), Ref("float32", 1, "fewer")))),
            _unrolled("part", self.a.width // V, (Store("sums", v("part") * V, less, V),)),
        )

    def trip(self) -> Stmt:
        """A tile of keys and values."""
        top, largest = Ref("float32", 1, "top"), Ref("float32", 1, "largest")
        body: Block = (
            self.copy(self.k, self.a.size, 0, "k_item"),
            self.copy(self.v, self.a.width, self.values_at, "v_item"),
            Barrier(),
            Array("scores", "float32", self.shape.each),
            Declare("largest", "float32", 1, top),
            _unrolled("key", self.shape.each, self.score()),
            *self.shrink(_exp(_minus(top, largest))),
            Assign("top", largest),
            _unrolled("key", self.shape.each, self.add()),
            *((Barrier(),) if self.trips > 1 or self.shape.warps > 1 else ()),
        )
        return For("trip", 0, self.trips, 1, body)

    # --- the kernel ---------------------------------------------------------------------------------------------

    def meet(self) -> Block:
        """The first warp adds up what each of the others has, which leave it in the place of the tiles in turn."""
        if self.shape.warps == 1:
            return ()
        width = self.a.width
        place = v("part") * (V * WARP) + self.lane * V
        top, total = self.lane + WARP * width, self.lane + WARP * (width + 1)
        leave: Block = (
            _unrolled("part", width // V, (Store(TILE, place, _vector("sums", v("part") * V), V),)),
            Store(TILE, top, Ref("float32", 1, "top"), 1),
            Store(TILE, total, Ref("float32", 1, "total"), 1),
        )
        other = Op("float32", V, "*", (Ref("float32", 1, "weight"), _vector(TILE, place)))
        more = Store("sums", v("part") * V, Op("float32", V, "+", (_vector("sums", v("part") * V), other)), V)
        theirs, ours = Ref("float32", 1, "theirs"), Ref("float32", 1, "top")
        largest = Ref("float32", 1, "largest")
        weighed = Op("float32", 1, "*", (Ref("float32", 1, "weight"), Load("float32", 1, TILE, total, 1)))
        take: Block = (
            Declare("theirs", "float32", 1, Load("float32", 1, TILE, top, 1), True),
            Declare("largest", "float32", 1, Op("float32", 1, "max", (theirs, ours)), True),
            *self.shrink(_exp(_minus(ours, largest))),
            Declare("weight", "float32", 1, _exp(_minus(theirs, largest)), True),
            Assign("top", largest),
            Assign("total", _plus(Ref("float32", 1, "total"), weighed)),
            _unrolled("part", width // V, (more,)),
        )
        turn = Op("bool", 1, "==", (Index("int32", 1, v("warp")), Index("int32", 1, v("other"))))
        body = (If(turn, leave), Barrier(), If(below(v("warp"), 1), take), Barrier())
        return (For("other", 1, self.shape.warps, 1, body),)

    def outputs(self) -> Block:
        """The first warp writes what it has, divided by the sum of the weights."""
        index = {**self.index, self.row_axis.name: self.row}
        part = Op("float32", V, "*", (Ref("float32", 1, "inverse"), _vector("sums", v("part") * V)))
        self.ranges["part"] = (0, self.a.width // V - 1)
        four: Block = (
            Declare("result", "float32", V, part, True),
            *self.out.four(self.state, self.product, index, v("part") * V, Ref("float32", V, "result")),
        )
        one = Const("float32", 1, 1.0)
        inverse = Op("float32", 1, "/", (one, Ref("float32", 1, "total")))
        body: Block = (
            Declare("inverse", "float32", 1, inverse, True),
            _unrolled("part", self.a.width // V, four),
        )
        body = inside(self.row, self.a.queries, self.ranges, body)
        return inside(self.warp, 1, self.ranges, body) if self.shape.warps > 1 else body

    def kernel(self) -> Kernel:
        ranges = self.ranges
        body: list[Stmt] = []
        if self.shape.warps > 1:
            warp = floordiv(v("thread"), WARP, ranges)
            body.append(Declare("warp", "int32", 1, Index("int32", 1, warp), True))
        if self.query != self.row:  # a lane without a query takes the last
            last = Index("int32", 1, Linear(self.a.queries - 1))
            nearest = Op("int32", 1, "min", (Index("int32", 1, self.row), last))
            body.append(Declare("query", "int32", 1, nearest, True))
        body += [
            Array(TILE, "float32", self.shape.shared_floats(self.a), Space.SHARED),
            *self.queries(),
            Array("sums", "float32", self.a.width),
            _unrolled("part", self.a.width // V, (Store("sums", v("part") * V, zero(V), V),)),
            Declare("top", "float32", 1, Const("float32", 1, LOWEST)),
            Declare("total", "float32", 1, zero()),
            self.trip(),
            *self.meet(),
            *self.outputs(),
        ]
        threads = For("thread", 0, self.threads, self.threads, tuple(body), LoopAxis.THREAD)
        grid = For("block", 0, self.tiles * self.a.batch, 1, (threads,), LoopAxis.BLOCK)
        return Kernel(self.state.params(), (grid,))


def _vector(buffer: str, index: Linear) -> Load:
    return Load("float32", V, buffer, index, V)


def _score() -> Expr:
    return Load("float32", 1, "scores", v("key"), 1)


def _plus(a: Expr, b: Expr) -> Expr:
    return Op("float32", 1, "+", (a, b))


def _minus(a: Expr, b: Expr) -> Expr:
    return Op("float32", 1, "-", (a, b))


def _exp(x: Expr) -> Expr:
    return Op("float32", 1, "exp_", (x,))


def _unrolled(var: str, count: int, body: Block) -> Stmt:
    return For(var, 0, count, 1, body, unrolled=True)
