"""The program: what the emitter prints. Kernels, the steps that call them, where every byte lies; nothing of TVM."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from dlpack.graph.fuse import Group, fuse
from dlpack.graph.ir import Array, Graph, TensorType
from dlpack.graph.rewrite import rewrite
from dlpack.graph.winograd import Pays, winograd
from dlpack.kernel import Kernel
from dlpack.kernels import Argument, Call, KernelBuilder, Schedule, pack
from dlpack.layout import Layout, is_dense
from dlpack.memory import ALIGNMENT, Arena, Item, plan_arena
from dlpack.place import Buffer, Placement, place


@dataclass(frozen=True)
class Tensor:
    """An input or output of the model."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return TensorType(self.dtype, self.shape).nbytes


@dataclass(frozen=True)
class Ref:
    """A pointer: byte `offset` in "arena", "weights" or "prepared", or in input or output number `index`.

    In the trip t of the loop around it, it moves on by ``t * step`` bytes.
    """

    space: str
    offset: int
    dtype: str
    index: int = 0
    step: int = 0


@dataclass(frozen=True)
class Step:
    """One thing that a run does."""


@dataclass(frozen=True)
class CallStep(Step):
    """Calls a kernel; the arguments numbered in `in_place` are read only where the output is then written."""

    kernel: str
    arguments: tuple[Ref, ...]
    sources: tuple[str, ...] = ()
    in_place: frozenset[int] = frozenset()


@dataclass(frozen=True)
class HaloStep(Step):
    """Fills the border of a padded buffer: `shape` in memory order, `low` and `high` the border's width there."""

    target: Ref
    shape: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]
    fill: float


@dataclass(frozen=True)
class CopyStep(Step):
    """Copies `nbytes` from one place to another."""

    source: Ref
    target: Ref
    nbytes: int


@dataclass(frozen=True)
class WinogradStep(Step):
    """Computes a layer's Winograd weights [6, 6, inputs, outputs] from the weights [3, 3, inputs, outputs].

    They lie in blocks of `columns` outputs with room for `room`: [6, 6, outputs / columns, inputs, room].
    """

    source: Ref
    target: Ref
    inputs: int
    outputs: int
    columns: int
    room: int


@dataclass(frozen=True)
class LoopStep(Step):
    """Runs `body` `count` times."""

    count: int
    body: tuple[Step, ...]


@dataclass(frozen=True)
class NamedKernel:
    """A kernel with its name in the file, what it computes, and how often which nodes call it."""

    name: str
    kernel: Kernel
    title: str
    schedule: str
    sources: tuple[str, ...]
    macs: int
    restrict: bool


@dataclass(frozen=True)
class Program:
    """A compiled model. `weights` are packed, in order, each at a multiple of 64 bytes of the blob.

    `threads` may share the trips of its kernels; 1 where none is worth it.
    The steps of `prepare` run once, when a predictor is made, and fill its `prepared` bytes.
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    kernels: tuple[NamedKernel, ...]
    steps: tuple[Step, ...]
    weights: bytes
    arena: Arena
    macs: int
    prepare: tuple[Step, ...] = ()
    prepared: int = 0
    threads: int = 1


def compile_graph(
    graph: Graph, name: str, schedule: Schedule, winograd_pays: Pays = lambda layer: False, threads: int = 1
) -> Program:
    """Rewrites, fuses, places, lowers and plans a graph; up to `threads` threads share the kernels' trips."""
    graph = winograd(rewrite(graph), winograd_pays)
    placement = place(graph, fuse(graph))
    return _Assembler(placement, name, schedule, threads).program()


class _Assembler:
    def __init__(self, placement: Placement, name: str, schedule: Schedule, threads: int) -> None:
        self.placement, self.name, self.threads = placement, name, threads
        self.graph = placement.graph
        self.builder = KernelBuilder(placement, schedule)
        self.loops: dict[int, Program] = {}
        self.calls: list[Call] = []
        for group in placement.groups:
            if not any(self.graph.types[o].size for o in group.outputs):
                continue
            if group.nodes[0].body is not None:
                self.loops[len(self.calls)] = self._body(group, schedule)
                self.calls.append(self._loop_call(group))
            else:
                self.calls.append(self.builder.call(group))
        self.blob = bytearray()
        self.constants: dict[tuple[str, Layout | None], int] = {}
        self.merged: dict[str, str] = {}
        self.prepare: list[Step] = []
        self.prepared = 0

    def program(self) -> Program:
        names = self._kernel_names()
        lives = self._lifetimes()
        shared = self._share_in_place(lives)
        scratch = [Item(f"scratch{k}", self._scratch(k), k, k) for k in range(len(self.calls))]
        arena = plan_arena([*self._items(lives), *scratch])
        kernels = {n: self._named(n, names[n], n not in shared) for n in range(len(self.builder.entries))}
        nested: list[NamedKernel] = []
        steps: list[Step] = []
        started: set[str] = set()
        for k, call in enumerate(self.calls):
            for a in call.arguments:
                b = self.placement.buffers[a.buffer]
                if b.kind == "arena" and a.buffer not in started:
                    started.add(a.buffer)
                    if b.halo is not None:
                        steps.append(self._halo(b, arena))
            refs = [self._ref(a.buffer, a.offset, a.packed, arena) for a in call.arguments]
            if k in self.loops:
                step, own = self._loop(k, refs, Ref("arena", arena.offsets.get(f"scratch{k}", 0), "uint8"))
                steps.append(step)
                nested.extend(own)
                continue
            if self._scratch(k):
                refs.append(Ref("arena", arena.offsets[f"scratch{k}"], "uint8"))
            equal = frozenset(i for i, a in enumerate(call.arguments) if a.in_place)
            steps.append(CallStep(names[call.kernel], tuple(refs), call.group.sources, equal))
        macs = sum(self.loops[k].macs * c.group.nodes[0].attrs["count"] if k in self.loops else self._macs(c.group)
                   for k, c in enumerate(self.calls))  # fmt: skip
        return Program(
            self.name,
            self._tensors(self.graph.inputs),
            self._tensors(self.graph.outputs),
            (*kernels.values(), *nested),
            tuple(steps),
            bytes(self.blob),
            arena,
            macs,
            tuple(self.prepare),
            self.prepared,
            self.threads if any(k.kernel.trips for k in kernels.values()) else 1,
        )

    def _tensors(self, names: Iterable[str]) -> tuple[Tensor, ...]:
        return tuple(Tensor(n, self.graph.types[n].dtype, self.graph.types[n].shape) for n in names)

    def _scratch(self, k: int) -> int:
        if k not in self.loops:
            kernel = self.builder.entries[self.calls[k].kernel].kernel
            return kernel.scratch * (self.threads if kernel.trips else 1)
        body = self.loops[k]
        return body.arena.size + sum(body.outputs[i].nbytes + ALIGNMENT for i in self._unsafe_states(k))

    def _unsafe_states(self, k: int) -> list[int]:
        states = self.calls[k].group.nodes[0].attrs["states"]
        return [i for i in range(states) if _overwritable(self.loops[k], i) is None]

    # --- loops --------------------------------------------------------------------------------------------------

    def _body(self, group: Group, schedule: Schedule) -> Program:
        body = group.nodes[0].body
        assert body is not None
        return _Assembler(place(body, fuse(body)), "body", schedule, 1).program()

    def _loop_call(self, group: Group) -> Call:
        """A loop's operands: what its body's inputs stand for, then what its outputs stand for."""
        node = group.nodes[0]
        states = node.attrs["states"]
        values = [*node.outputs[:states], *node.inputs[states:], *node.outputs]
        places = [self.placement.places[v] for v in values]
        return Call(-1, tuple(Argument(p.buffer, p.layout.offset) for p in places), group)

    def _loop(self, k: int, refs: list[Ref], arena: Ref) -> tuple[LoopStep, list[NamedKernel]]:
        """The loop's steps with the body's operands replaced by ours, and its kernels under new names."""
        node, body = self.calls[k].group.nodes[0], self.loops[k]
        states, scans, count = node.attrs["states"], node.attrs["scans"], node.attrs["count"]
        inputs, outputs = refs[: len(body.inputs)], refs[len(body.inputs) :]

        def slices(ref: Ref, t: Tensor) -> Ref:
            back = node.attrs["reverse"]
            start = ref.offset + (count - 1) * t.nbytes if back else ref.offset
            return replace(ref, offset=start, step=-t.nbytes if back else t.nbytes)

        inputs = [
            slices(r, t) if states <= i < states + scans else r
            for i, (r, t) in enumerate(zip(inputs, body.inputs, strict=True))
        ]
        outputs = [
            slices(r, t) if i >= states else r for i, (r, t) in enumerate(zip(outputs, body.outputs, strict=True))
        ]
        base = self._append(body.weights)
        late: list[Step] = []
        room = -(-(arena.offset + body.arena.size) // ALIGNMENT) * ALIGNMENT
        for i in self._unsafe_states(k):  # written elsewhere, copied at the end of the trip
            nbytes = body.outputs[i].nbytes
            outputs[i] = Ref("arena", room, body.outputs[i].dtype)
            late.append(CopyStep(outputs[i], inputs[i], nbytes))
            room += -(-nbytes // ALIGNMENT) * ALIGNMENT
        unrestricted = {n for i in range(states) for n in _overwritable(body, i) or ()}
        rename = {n.name: f"k{k:02d}_step_{n.name.split('_', 1)[1]}_{j}" for j, n in enumerate(body.kernels)}

        def bound(r: Ref) -> Ref:
            if r.space == "arena":
                return replace(r, offset=arena.offset + r.offset)
            if r.space == "weights":
                return replace(r, offset=base + r.offset)
            outer = (inputs if r.space == "input" else outputs)[r.index]
            return replace(outer, offset=outer.offset + r.offset, dtype=r.dtype)

        steps: list[Step] = []
        for s in body.steps:
            if isinstance(s, CallStep):
                steps.append(replace(s, kernel=rename[s.kernel], arguments=tuple(bound(a) for a in s.arguments)))
            else:
                assert isinstance(s, HaloStep)
                steps.append(replace(s, target=bound(s.target)))
        kernels_out = [
            replace(n, name=rename[n.name], restrict=n.restrict and n.name not in unrestricted) for n in body.kernels
        ]
        return LoopStep(count, (*steps, *late)), kernels_out

    def _append(self, data: bytes) -> int:
        self.blob.extend(b"\0" * (-len(self.blob) % ALIGNMENT))
        base = len(self.blob)
        self.blob.extend(data)
        return base

    # --- kernels ------------------------------------------------------------------------------------------------

    def _named(self, number: int, name: str, restrict: bool) -> NamedKernel:
        users = [c.group for c in self.calls if c.kernel == number]
        entry = self.builder.entries[number]
        sources = tuple(dict.fromkeys(s for g in users for s in g.sources))
        return NamedKernel(
            name, entry.kernel, self._title(users[0]), entry.description, sources, self._macs(users[0]), restrict
        )

    def _kernel_names(self) -> list[str]:
        out = []
        for number in range(len(self.builder.entries)):
            first = next(k for k, c in enumerate(self.calls) if c.kernel == number)
            words = [_word(n.op) for n in self.calls[first].group.nodes]
            out.append(f"k{first:02d}_" + "_".join(words[:4]))
        return out

    def _title(self, group: Group) -> str:
        ops = " + ".join(n.op for n in group.nodes)
        inputs = ", ".join(str(self.graph.types[i]) for i in group.inputs if i not in self.graph.constants)
        return f"{ops}: {inputs} -> {self.graph.types[group.output]}"

    def _macs(self, group: Group) -> int:
        """Multiply-adds of convolutions and matrix products (ONNX shapes)."""
        node = group.nodes[0]
        if "macs" in node.attrs:
            return int(node.attrs["macs"])
        out = self.graph.types[node.outputs[0]]
        if node.op == "Convolution":
            w = self.graph.types[node.inputs[1]].shape
            return out.size * int(np.prod(w[1:], dtype=np.int64))
        if node.op == "MatMul":
            return out.size * self.graph.types[node.inputs[0]].shape[-1]
        return 0

    # --- memory -------------------------------------------------------------------------------------------------

    def _lifetimes(self) -> dict[str, tuple[int, int]]:
        lives: dict[str, tuple[int, int]] = {}
        for k, call in enumerate(self.calls):
            for a in call.arguments:
                if self.placement.buffers[a.buffer].kind == "arena":
                    lives[a.buffer] = (lives.get(a.buffer, (k, k))[0], k)
        return lives

    def _share_in_place(self, lives: dict[str, tuple[int, int]]) -> set[int]:
        """Lets a kernel write over an operand that it reads at the same places and that nobody needs later.

        Returns the kernels for which that happens: their pointers may be equal.
        """
        kernels: set[int] = set()
        for k, call in enumerate(self.calls):
            if k in self.loops:
                continue
            *inputs, out = call.arguments
            target = self.placement.buffers[out.buffer]
            if len(call.group.outputs) != 1 or target.kind != "arena" or target.halo or lives[out.buffer][0] != k:
                continue
            for a in inputs:
                source = self.placement.buffers[a.buffer]
                if (
                    a.in_place
                    and source.kind == "arena"
                    and source.halo is None
                    and a.buffer != out.buffer
                    and a.offset == out.offset == 0
                    and lives[a.buffer][1] == k
                    and a.buffer not in [b.buffer for b in inputs if b is not a]
                    and (source.shape, source.layout, source.dtype) == (target.shape, target.layout, target.dtype)
                    and self._same_view(call.group, a.buffer, out.buffer)
                ):
                    self.merged[out.buffer] = a.buffer
                    kernels.add(call.kernel)
                    break
        return kernels

    def _same_view(self, group: Group, source: str, target: str) -> bool:
        places = self.placement.places
        layouts = {places[v].layout for v in group.inputs if v in places and places[v].buffer == source}
        return layouts == {places[group.output].layout} and is_dense(
            self.placement.buffers[source].shape, self.placement.buffers[source].layout
        )

    def _root(self, buffer: str) -> str:
        while buffer in self.merged:
            buffer = self.merged[buffer]
        return buffer

    def _items(self, lives: Mapping[str, tuple[int, int]]) -> list[Item]:
        joint: dict[str, tuple[int, int]] = {}
        for name, (first, last) in lives.items():
            root = self._root(name)
            old = joint.get(root, (first, last))
            joint[root] = (min(old[0], first), max(old[1], last))
        return [Item(n, self._bytes(self.placement.buffers[n]), *life) for n, life in joint.items()]

    def _bytes(self, b: Buffer) -> int:
        return b.elements * TensorType(b.dtype, ()).itemsize

    def _halo(self, b: Buffer, arena: Arena) -> HaloStep:
        assert b.halo is not None
        order = sorted(range(len(b.shape)), key=lambda d: -b.layout.strides[d])
        target = self._ref(b.name, 0, None, arena)
        return HaloStep(
            target,
            tuple(b.shape[d] for d in order),
            tuple(b.halo.low[d] for d in order),
            tuple(b.halo.high[d] for d in order),
            b.halo.fill,
        )

    def _ref(self, buffer: str, offset: int, packed: Layout | None, arena: Arena) -> Ref:
        b = self.placement.buffers[buffer]
        at = offset * TensorType(b.dtype, ()).itemsize
        if b.kind == "arena":
            return Ref("arena", arena.offsets.get(self._root(buffer), 0) + at, b.dtype)
        if buffer in self.graph.derived:
            assert packed is not None
            return Ref("prepared", self._derived(buffer, packed), b.dtype)
        if b.kind == "constant":
            return Ref("weights", self._constant(buffer, packed) + (0 if packed else at), b.dtype)
        index = (self.graph.inputs if b.kind == "input" else self.graph.outputs).index(buffer)
        return Ref(b.kind, at, b.dtype, index)

    def _constant(self, name: str, packed: Layout | None) -> int:
        key = (name, packed)
        if key not in self.constants:
            array: Array = self.graph.constants[name]
            flat = pack(array, packed) if packed else np.ascontiguousarray(array).reshape(-1)
            if array.dtype.name == "bool":
                flat = flat.astype(np.uint8)
            self.constants[key] = self._append(flat.tobytes())
        return self.constants[key]

    def _derived(self, name: str, packed: Layout) -> int:
        """The place of Winograd weights, which a step of `prepare` computes."""
        key = (name, packed)
        if key not in self.constants:
            *_, inputs, outputs = self.graph.types[name].shape
            ((_, block),) = packed.blocks
            w = self.graph.derived[name]
            at = self._append(np.ascontiguousarray(self.graph.constants[w].transpose(2, 3, 1, 0)).tobytes())
            self.constants[key] = self.prepared
            refs = Ref("weights", at, "float32"), Ref("prepared", self.prepared, "float32")
            self.prepare.append(WinogradStep(*refs, inputs, outputs, block.size, block.room))
            nbytes = 36 * -(-outputs // block.size) * inputs * block.room * 4
            self.prepared += -(-nbytes // ALIGNMENT) * ALIGNMENT
        return self.constants[key]


def _word(op: str) -> str:
    return {"Convolution": "conv", "PoolMax": "maxpool", "PoolSum": "avgpool", "GlobalSum": "globalpool"}.get(
        op, op.lower()
    )


def _overwritable(body: Program, state: int) -> set[str] | None:
    """Whether a body may write its output `state` over its input of that number; None where it may not.

    It may when every reader of the input runs before the output is written, or is the kernel that writes it and reads
    at the same places; such kernels are returned, since their pointers are then equal.
    """
    equal: set[str] = set()
    written = False
    for step in body.steps:
        if not isinstance(step, CallStep):
            continue
        *inputs, out = step.arguments
        places = {i for i, a in enumerate(inputs) if a.space == "input" and a.index == state}
        reads = bool(places)
        writes = out.space == "output" and out.index == state
        if written and reads:
            return None
        if reads and writes:
            if not places <= step.in_place:
                return None
            equal.add(step.kernel)
        written |= writes
    return equal
