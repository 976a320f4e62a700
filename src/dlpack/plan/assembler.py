"""The assembler: the calls, memory and weights of one graph, put together to a program."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial

import numpy as np

from dlpack.graph.fuse import Group, fuse
from dlpack.graph.ir import HALF, Array, TensorType
from dlpack.kernels.backend import Backend
from dlpack.kernels.build import KernelBuilder
from dlpack.kernels.calls import Argument, Call
from dlpack.kernels.few import direct_layout
from dlpack.kernels.packing import pack
from dlpack.kernels.place import Buffer, Placement, place
from dlpack.kernels.settled import Settled, Weight, Weights
from dlpack.loops.layout import Layout, dense, is_dense, order_of
from dlpack.plan.caches import stored_caches
from dlpack.plan.halves import narrowed, stored_type
from dlpack.plan.memory import ALIGNMENT, Arena, Item, plan_arena
from dlpack.plan.pictures import A_STEP, BY_STEPS, STEP_NAMES, Borders, few_step, in_one_row, step_call, step_of
from dlpack.plan.program import (
    Address,
    CallStep,
    CopyStep,
    FillStep,
    LoopStep,
    NamedKernel,
    Place,
    Program,
    ShapeSet,
    Step,
    Tensor,
)
from dlpack.plan.trips import fills_borders, overwritable, rebound
from dlpack.plan.weight_steps import RepackStep, WinogradStep
from dlpack.plan.weights import dequantize_step, macs_of, operator_word, packed_dims, place_of, sum_step


class Assembler:
    def __init__(
        self, placement: Placement, name: str, backend: Backend, threads: int, settled: Settled, body: bool = False
    ) -> None:
        self.placement, self.name, self.threads, self.settled = placement, name, threads, settled
        self.widens = backend.layouts.widens
        self.graph = placement.graph
        self.builder = KernelBuilder(placement, backend.schedule, settled, backend.layouts.alignment, body)
        self.loops: dict[int, Program] = {}
        self.loop_parts: dict[int, dict[int, tuple[Weight, Place]]] = {}
        self.calls: list[Call] = []
        for group in placement.groups:
            if not any(self.graph.types[o].size for o in group.outputs):
                continue
            if group.nodes[0].body is not None:
                self._body(group, backend)
                self.calls.append(self._loop_call(group))
            elif group.nodes[0].op in BY_STEPS and group.nodes[0].domain == "dlpack":
                self.calls.append(step_call(group, placement))
            else:
                self.calls.append(self.builder.call(group))
        self.keeps_borders = backend.layouts.keeps_borders
        self.borders = Borders(placement)
        self.own_weights: Weights | None = None
        self.own_parts: dict[int, tuple[Weight, Place]] = {}
        self.weight_places: dict[int, Place] = {}
        self.prepared_places: dict[int, Place] = {}
        self.inner_places: list[Place] = []
        self.constants: dict[tuple[str, Layout | None, bool], Address] = {}
        self.merged: dict[str, str] = {}
        self.prepare: list[Step] = []
        self.caches = {c.name: c for c in stored_caches(placement)}

    def program(self, body: bool = False) -> Program:
        """The program, its weights among the shared ones; those of a loop's body are its own."""
        self.own_weights = Weights() if body else None
        names = self._kernel_names()
        lives = self._lifetimes()
        in_place = self._write_in_place(lives)
        scratch = [self._scratch_item(k) for k in range(len(self.calls))]
        arena = plan_arena([*self._items(lives), *scratch])
        kernels = {n: self._named(n, names[n], n not in in_place) for n in range(len(self.builder.entries))}
        nested: list[NamedKernel] = []
        steps: list[Step] = []
        started: set[str] = set()
        spans: list[tuple[int, int]] = []  # of each call: its first step and its last
        for k, call in enumerate(self.calls):
            before = len(steps)
            steps += [self._border(b, arena) for b in self.borders.due(call)]
            for a in call.arguments:
                b = self.placement.buffers[a.buffer]
                if b.kind == "arena" and a.buffer not in started:
                    started.add(a.buffer)
                    if b.halo is not None and a.buffer not in self.borders.sizes:
                        steps.append(self._border(b, arena))
            addresses = [self._argument(arena, a) for a in call.arguments]
            if k in self.loops:
                step, own = self._loop(k, addresses, Address("arena", arena.offsets.get(f"scratch{k}", 0), "uint8"))
                steps.append(step)
                nested.extend(own)
                spans.append((before, len(steps) - 1))
                continue
            if call.kernel == A_STEP:
                steps.append(step_of(call.group.nodes[0], addresses, placement=self.placement))
                spans.append((before, len(steps) - 1))
                continue
            if self._scratch(k):
                addresses.append(Address("arena", arena.offsets[f"scratch{k}"], "uint8", place=f"scratch{k}"))
            steps += [FillStep(addresses[f.argument], f.rows, f.value, f.size) for f in call.fills]
            equal = frozenset(i for i, a in enumerate(call.arguments) if a.in_place)
            few = few_step(call.few, self.placement, names, partial(self._argument, arena)) if call.few else None
            called = CallStep(names[call.kernel], tuple(addresses), call.group.sources, equal, few)
            last = lives.get(call.arguments[0].buffer, (0, -1))[1] == k
            steps += in_one_row(called, call, self.placement, self.builder.entries[call.kernel].kernel, last)
            spans.append((before, len(steps) - 1))
        macs = sum(macs_of(c.group, self.graph) if k not in self.loops
                   else self.loops[k].macs * c.group.nodes[0].attrs["count"]
                   for k, c in enumerate(self.calls))  # fmt: skip
        inputs, outputs = self._tensors(self.graph.inputs), self._tensors(self.graph.outputs)
        return Program(
            self.name,
            (ShapeSet(inputs, outputs, tuple(steps), arena, macs, self._places(arena, lives, spans, names)),),
            (*kernels.values(), *nested),
            bytes(self.own_weights.blob) if self.own_weights else b"",
            tuple(self.prepare),
            self.settled.prepared,
            self.threads if any(k.kernel.trips for k in (*kernels.values(), *nested)) else 1,
            tuple(self.weight_places.values()),
            tuple(self.prepared_places.values()),
            caches=tuple(self.caches.values()),
        )

    def _tensors(self, names: Iterable[str]) -> tuple[Tensor, ...]:
        g, most = self.graph, {self.graph.exceeded: tuple(self.graph.limits.items())}
        own = [(n, g.border(n)) for n in names]
        return tuple(
            Tensor(n, t.dtype, t.shape, true_shape=g.sizes.get(n, ""), limits=most.get(n, ()), sizes=t.sizes)
            for n, t in own
        )

    def _scratch(self, k: int) -> int:
        if self.calls[k].kernel == A_STEP:
            return 0
        if k not in self.loops:
            kernel = self.builder.entries[self.calls[k].kernel].kernel
            return kernel.scratch * (self.threads if kernel.trips else 1)
        body = self.loops[k]
        return body.arena.size + sum(body.outputs[i].nbytes + ALIGNMENT for i in self._unsafe_states(k))

    def _unsafe_states(self, k: int) -> list[int]:
        states = self.calls[k].group.nodes[0].attrs["states"]
        return [i for i in range(states) if overwritable(self.loops[k], i) is None]

    # --- loops --------------------------------------------------------------------------------------------------

    def _body(self, group: Group, backend: Backend) -> None:
        body = group.nodes[0].body
        assert body is not None
        placement = place(body, fuse(body), backend.layouts, body=True)
        inner = Assembler(placement, "body", backend, 1, self.settled, body=True)
        self.loops[len(self.calls)], self.loop_parts[len(self.calls)] = inner.program(body=True), inner.own_parts

    def _loop_call(self, group: Group) -> Call:
        """A loop's operands: what its body's inputs stand for, then what its outputs stand for."""
        node = group.nodes[0]
        states = node.attrs["states"]
        values = [*node.outputs[:states], *node.inputs[states:], *node.outputs]
        places = [self.placement.places[v] for v in values]
        return Call(-1, tuple(Argument(p.buffer, p.layout.offset) for p in places), group)

    def _loop(self, k: int, addresses: list[Address], arena: Address) -> tuple[LoopStep, list[NamedKernel]]:
        """The loop's steps with the body's operands replaced by ours, and its kernels under new names.

        Along an open dimension a loop from the last slice counts its trips backwards, since a run has another last one.
        """
        node, body = self.calls[k].group.nodes[0], self.loops[k]
        states, scans, count = node.attrs["states"], node.attrs["scans"], node.attrs["count"]
        inputs, outputs = addresses[: len(body.inputs)], addresses[len(body.inputs) :]
        back = node.attrs["reverse"]  # of each sliced input, then of each sliced output
        scanned = (*node.inputs[states : states + scans], *node.outputs[states:])
        sizes = [s for v in scanned for s in self.graph.types[v].sizes[:1] if s]
        opened = count == self.graph.open or bool(sizes)
        backwards = opened and all(back)

        def slices(address: Address, t: Tensor, back: bool) -> Address:
            if not back or backwards:
                return replace(address, steps=(t.nbytes,))
            return replace(address, offset=address.offset + (count - 1) * t.nbytes, steps=(-t.nbytes,))

        inputs = [
            slices(a, t, back[i - states]) if states <= i < states + scans else a
            for i, (a, t) in enumerate(zip(inputs, body.inputs, strict=True))
        ]
        outputs = [
            slices(a, t, back[i - states + scans]) if i >= states else a
            for i, (a, t) in enumerate(zip(outputs, body.outputs, strict=True))
        ]
        moved = {  # the body's weights among ours
            at: self._weight(weight, place.name, lambda place=place: body.weights[place.offset :][: place.nbytes])  # type: ignore[misc]
            for at, (weight, place) in self.loop_parts[k].items()
        }
        starts = sorted(moved)
        self.inner_places += [
            replace(p, key=f"{k}/{p.key}", offset=arena.offset + p.offset, first=k, last=k, loop=k)
            for p in body.shape_sets[0].places
        ]
        late: list[Step] = []
        room = -(-(arena.offset + body.arena.size) // ALIGNMENT) * ALIGNMENT
        for i in self._unsafe_states(k):  # written elsewhere, copied at the end of the trip
            nbytes = body.outputs[i].nbytes
            t = body.outputs[i]
            self.inner_places.append(
                Place(f"{k}/late{i}", t.name, room, nbytes, (t.name,), t.dtype, t.shape, tuple(range(len(t.shape))),
                      first=k, last=k, loop=k)
            )  # fmt: skip
            outputs[i] = Address("arena", room, t.dtype, place=f"{k}/late{i}")
            late.append(CopyStep(outputs[i], inputs[i], nbytes))
            room += -(-nbytes // ALIGNMENT) * ALIGNMENT
        unrestricted = {n for i in range(states) for n in overwritable(body, i) or ()}
        rename = {n.name: f"k{k:02d}_step_{n.name.split('_', 1)[1]}_{j}" for j, n in enumerate(body.kernels)}

        def bound(a: Address) -> Address:
            if a.space == "arena":
                place = f"{k}/{a.place}" if a.place else ""
                return replace(a, offset=arena.offset + a.offset, steps=(0, *a.steps), place=place)
            if a.space == "weights":
                start = starts[bisect_right(starts, a.offset) - 1]
                at = moved[start]
                return replace(a, space=at.space, offset=at.offset + a.offset - start, steps=(0, *a.steps))
            outer = (inputs if a.space == "input" else outputs)[a.index]
            steps = (*(outer.steps or (0,)), *a.steps)
            return replace(outer, offset=outer.offset + a.offset, dtype=a.dtype, steps=steps)

        kernels_out = [
            replace(n, name=rename[n.name], restrict=n.restrict and n.name not in unrestricted) for n in body.kernels
        ]
        trips = next(iter(sizes), self.graph.length) if opened else count
        return LoopStep(trips, (*(rebound(s, rename, bound) for s in body.steps), *late), backwards), kernels_out

    def _weight(self, weight: Weight, name: str, data: Callable[[], bytes], as_stored: bool = False) -> Address:
        """Where a weight lies: stored, or repacked or widened from where it is stored, or `as_stored`, in 16 bits."""
        nbytes = TensorType(weight.dtype, ()).itemsize * weight.layout.reach(weight.shape)
        if self.own_weights is not None:
            at = self.own_weights.place(weight, data)
            self.own_parts[at] = weight, place_of(weight, name, at, nbytes)
            return Address("weights", at, weight.dtype)
        if weight.dtype == HALF:  # stored as the others' float16s, whose bits they read
            return replace(self._stored(replace(weight, dtype="float16"), name, data), dtype=HALF)
        if weight.digest in self.settled.packed and self.widens:
            return self._dequantized(weight, name, nbytes)
        stored = self.settled.weights.in_other_layout(weight) or self._narrow(weight, data)
        if stored == weight:
            return self._stored(weight, name, data)
        bits = self._stored(stored, name, lambda: narrowed(data(), stored.dtype))
        if as_stored and stored.layout == weight.layout:
            return bits
        target, new = self._prepared(weight, name, nbytes)
        if new:
            read = TensorType(stored.dtype, ()).itemsize * stored.layout.reach(stored.shape)
            places = tuple(zip(packed_dims(stored), packed_dims(weight), strict=True))
            self.prepare.append(RepackStep(bits, target, weight.shape, places, read, nbytes))
        return target

    def _prepared(self, weight: Weight, name: str, nbytes: int) -> tuple[Address, bool]:
        """Where a weight lies that a step of `prepare` makes, and whether that step is still to be added."""
        at, new = self.settled.prepare(weight, nbytes)
        if new:
            self.prepared_places[at] = place_of(weight, name, at, nbytes)
        return Address("prepared", at, weight.dtype), new

    def _dequantized(self, weight: Weight, name: str, nbytes: int) -> Address:
        """Where a weight lies that a step of `prepare` makes of its stored integers."""
        target, new = self._prepared(weight, name, nbytes)
        if new:

            def store(array: Array, what: str) -> Address:
                return self._stored(Settled.plain(array), f"{name} {what}", array.tobytes)

            self.prepare.append(dequantize_step(self.settled.packed[weight.digest], weight, target, nbytes, store))
        return target

    def _narrow(self, weight: Weight, data: Callable[[], bytes]) -> Weight:
        """The weight with the type in which it is stored."""
        if weight.dtype != "float32" or not self.widens:
            return weight
        return replace(weight, dtype=self.settled.stored_type(weight, lambda: stored_type(data())))

    def _stored(self, weight: Weight, name: str, data: Callable[[], bytes]) -> Address:
        """Where a weight lies among those of all programs."""
        at = self.settled.weights.place(weight, data)
        nbytes = TensorType(weight.dtype, ()).itemsize * weight.layout.reach(weight.shape)
        self.weight_places.setdefault(at, place_of(weight, name, at, nbytes))
        return Address("weights", at, weight.dtype)

    # --- kernels ------------------------------------------------------------------------------------------------

    def _named(self, number: int, name: str, restrict: bool) -> NamedKernel:
        users = [c.group for call in self.calls for c in call.each if c.kernel == number]
        entry = self.builder.entries[number]
        sources = tuple(dict.fromkeys(s for g in users for s in g.sources))
        title, macs = self._title(users[0]), macs_of(users[0], self.graph)
        return NamedKernel(name, entry.kernel, title, entry.description, sources, macs, restrict)

    def _kernel_names(self) -> list[str]:
        out = []
        for number in range(len(self.builder.entries)):
            first, call = next((k, c) for k, of in enumerate(self.calls) for c in of.each if c.kernel == number)
            words = [operator_word(n.op) for n in call.group.nodes]
            few = "_few" if call is self.calls[first].few else ""
            out.append(f"k{first:02d}_" + "_".join(words[:4]) + few)
        return out

    def kernels_by_node(self) -> dict[str, str]:
        names = self._kernel_names()
        return {
            n.name: names[c.kernel] if c.kernel >= 0 else STEP_NAMES.get(n.op, "loop")
            for c in self.calls
            for n in c.group.nodes
        }

    def _title(self, group: Group) -> str:
        ops = " + ".join(n.op for n in group.nodes)
        inputs = ", ".join(str(self.graph.types[i]) for i in group.inputs if i not in self.graph.constants)
        return f"{ops}: {inputs} -> {self.graph.types[group.output]}"

    # --- memory -------------------------------------------------------------------------------------------------

    def _lifetimes(self) -> dict[str, tuple[int, int]]:
        lives: dict[str, tuple[int, int]] = {}
        for k, call in enumerate(self.calls):
            for a in call.arguments:
                if self.placement.buffers[a.buffer].kind == "arena":
                    lives[a.buffer] = (lives.get(a.buffer, (k, k))[0], k)
        if self.keeps_borders:
            lives |= {name: (0, len(self.calls) - 1) for name in lives if self.placement.buffers[name].halo}
        return lives

    def _scratch_item(self, k: int) -> Item:
        """The scratch memory of a call; that of a loop with borders to keep lives as long as they."""
        keeps = self.keeps_borders and k in self.loops and fills_borders(self.loops[k].steps)
        return Item(f"scratch{k}", self._scratch(k), *((0, len(self.calls) - 1) if keeps else (k, k)))

    def _write_in_place(self, lives: dict[str, tuple[int, int]]) -> set[int]:
        """Lets a kernel write over an operand that it reads at the same places and that nobody needs later.

        Returns the kernels for which that happens: their pointers may be equal.
        """
        kernels: set[int] = set()
        for k, call in enumerate(self.calls):
            if k in self.loops or call.kernel == A_STEP:
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
                    and self._same_view(call.group, a.buffer)
                ):
                    self.merged[out.buffer] = a.buffer
                    kernels.add(call.kernel)
                    break
        return kernels

    def _same_view(self, group: Group, source: str) -> bool:
        places = self.placement.places
        layouts = {places[v].layout for v in group.inputs if v in places and places[v].buffer == source}
        return layouts == {places[group.output].layout} and is_dense(
            self.placement.buffers[source].shape, self.placement.buffers[source].layout
        )

    def _root(self, buffer: str) -> str:
        while buffer in self.merged:
            buffer = self.merged[buffer]
        return buffer

    def _joint(self, lives: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
        """The lives of blocks of memory, each of a buffer and those that share it."""
        joint: dict[str, tuple[int, int]] = {}
        for name, (first, last) in lives.items():
            root = self._root(name)
            old = joint.get(root, (first, last))
            joint[root] = (min(old[0], first), max(old[1], last))
        return joint

    def _items(self, lives: Mapping[str, tuple[int, int]]) -> list[Item]:
        return [Item(n, self._bytes(self.placement.buffers[n]), *life) for n, life in self._joint(lives).items()]

    def _places(
        self,
        arena: Arena,
        lives: Mapping[str, tuple[int, int]],
        spans: Sequence[tuple[int, int]],
        kernels: Sequence[str],
    ) -> tuple[Place, ...]:
        """What lies in the arena; `spans` are the first and the last step of each call, `lives` are in calls."""
        values: dict[str, list[str]] = {}
        for value, at in self.placement.places.items():
            values.setdefault(self._root(at.buffer), []).append(value)
        out = []
        for root, (first, last) in self._joint(lives).items():
            if root in arena.offsets:
                b = self.placement.buffers[root]
                order = order_of(b.shape, b.layout)
                names = tuple(values.get(root, ()))
                out.append(Place(root, root, arena.offsets[root], self._bytes(b), names, b.dtype, b.shape, order,
                                 first=spans[first][0], last=spans[last][1]))  # fmt: skip
        for k, call in enumerate(self.calls):
            if k not in self.loops and self._scratch(k):
                key, name = f"scratch{k}", f"scratch_{kernels[call.kernel]}"
                out.append(Place(key, name, arena.offsets[key], self._scratch(k), first=spans[k][1], last=spans[k][1]))
        inner = [replace(p, first=spans[p.first][1], last=spans[p.last][1]) for p in self.inner_places]
        return (*out, *inner)

    def _bytes(self, b: Buffer) -> int:
        return b.elements * TensorType(b.dtype, ()).itemsize

    def _border(self, b: Buffer, arena: Arena) -> Step:
        return self.borders.step(b, self._address(b.name, 0, None, arena))

    def _argument(self, arena: Arena, a: Argument) -> Address:
        return self._address(a.buffer, a.offset, a.packed, arena)

    def _address(self, buffer: str, offset: int, packed: Layout | None, arena: Arena) -> Address:
        b = self.placement.buffers[buffer]
        at = offset * TensorType(b.dtype, ()).itemsize
        if b.kind == "arena":
            root = self._root(buffer)
            known = root in arena.offsets
            return Address("arena", arena.offsets[root] + at if known else at, b.dtype, place=root if known else "")
        if buffer in self.graph.derived:
            assert packed is not None
            return self._derived(buffer, packed)
        if buffer in self.graph.sums:
            return self._sum(buffer, packed)
        if b.kind == "cache":
            return Address("cache", self.caches[buffer].offset + at, b.dtype)
        if b.kind == "constant":
            base = self._constant(buffer, packed)
            return replace(base, offset=base.offset + (0 if packed else at))
        index = (self.graph.inputs if b.kind == "input" else self.graph.outputs).index(buffer)
        return Address(b.kind, at, b.dtype, index)

    def _constant(self, name: str, packed: Layout | None, as_stored: bool = False) -> Address:
        key = (name, packed, as_stored)
        if key not in self.constants:
            array: Array = self.graph.constants[name]

            @cache
            def data() -> bytes:
                flat = pack(array, packed) if packed else np.ascontiguousarray(array).reshape(-1)
                return (flat.astype(np.uint8) if array.dtype.name == "bool" else flat).tobytes()

            self.constants[key] = self._weight(self.settled.weight(self.graph, name, packed), name, data, as_stored)
        return self.constants[key]

    def _derived(self, name: str, packed: Layout) -> Address:
        """The place of Winograd weights, which a step of `prepare` computes."""
        edge, _, inputs, outputs = self.graph.types[name].shape
        block = dict(packed.blocks)[3]
        dtype = self.graph.types[name].dtype
        nbytes = edge * edge * -(-outputs // block.size) * inputs * block.room * TensorType(dtype, ()).itemsize
        weight = self.settled.weight(self.graph, name, packed)
        target, new = self._prepared(weight, name, nbytes)
        if new:
            origin = self.graph.derived[name]
            blocks = any(call.few for call in self.calls)  # which small pictures read as they are
            shape = self.graph.types[origin].shape
            layout = direct_layout(shape, block) if blocks else dense(shape, (2, 3, 1, 0))
            source = self._constant(origin, layout, as_stored=True)
            sizes = edge, shape[3], inputs, outputs, block.size, block.room
            self.prepare.append(WinogradStep(source, target, *sizes, blocks))
        return target

    def _sum(self, name: str, packed: Layout | None) -> Address:
        """The place of weights that are sums of others, which a step of `prepare` computes."""
        weight = self.settled.weight(self.graph, name, packed)
        count = weight.layout.reach(weight.shape)
        target, new = self._prepared(weight, name, TensorType(weight.dtype, ()).itemsize * count)
        if new:
            parts = [(self._constant(part, packed), sign) for part, sign in self.graph.sums[name]]
            self.prepare.append(sum_step(parts, target, count))
        return target
