"""Places every value: in which buffer it lies, and how. Views, concats and halos are settled here, before lowering.

- A view operator's output shares its input's buffer.
- A concat's inputs are computed straight into the concat's buffer, and so is what is interleaved.
- A constant pad around a computed value becomes a halo: the buffer is larger, the producer writes its inside.
- Values around convolutions and pooling lie channels-last.
- A cache's rows lie in one buffer, those of earlier runs first; keys that are read transposed lie transposed.
What cannot be shared becomes a copy kernel; the result is right either way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from dlpack.graph import registry
from dlpack.graph.fuse import Group
from dlpack.graph.ir import HALF, Cache, Graph, Node, TensorType
from dlpack.graph.registry import Context
from dlpack.kernels.backend import LayoutPreferences
from dlpack.kernels.borders import Halo, nonnegative, wider_rows
from dlpack.kernels.channels_last import channels_last_values
from dlpack.kernels.orders import PRODUCTS, concat_orders, joined_orders, opened_orders, product_orders
from dlpack.loops.layout import Layout, channels_last, dense, is_dense, order_of


@dataclass(frozen=True)
class Buffer:
    """A block of memory: `kind` is "input", "output", "constant", "cache" or "arena"; `elements` of `dtype`."""

    name: str
    kind: str
    dtype: str
    elements: int
    shape: tuple[int, ...]
    layout: Layout
    halo: Halo | None = None


@dataclass(frozen=True)
class _Part:
    """Where an input of a joining operator lies in `whole`: from `start` on, every ``steps[d]``-th element."""

    whole: str
    start: tuple[int, ...]
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """A value's buffer and its layout there."""

    buffer: str
    layout: Layout


@dataclass
class Placement:
    """Every value's place, the buffers, and the groups that remain to be computed, copies among them."""

    graph: Graph
    groups: list[Group]
    places: dict[str, Place] = field(default_factory=dict)
    buffers: dict[str, Buffer] = field(default_factory=dict)


def place(graph: Graph, groups: list[Group], prefer: LayoutPreferences, body: bool = False) -> Placement:
    """Assigns places; adds "Copy" groups where a value must move. `body`: the graph is that of a loop's trip."""
    graph, groups = _separate_outputs(graph, groups, prefer, body)
    placer = _Placer(graph, groups, prefer)
    for group in groups:
        placer.add(group)
    return replace(placer.out, graph=replace(graph, types=placer.types))


class _Placer:
    """A placement in the making: what is decided of the whole graph, and the groups so far."""

    def __init__(self, graph: Graph, groups: list[Group], prefer: LayoutPreferences) -> None:
        self.graph, self.prefer = graph, prefer
        self.parents, self.halos, self.shared_pads = _destinations(graph, groups)
        self.wider = wider_rows(graph, self.halos)
        self.last = channels_last_values(graph, groups, prefer)
        joins = {**joined_orders(graph), **concat_orders(graph, groups)}
        self.orders = {**opened_orders(graph), **joins, **product_orders(graph, groups)}
        self.types = dict(graph.types)
        self.out = Placement(graph, [])
        for name in graph.inputs:
            self.give_buffer(name, "input")
        for name, array in graph.constants.items():
            known = graph.types.get(name)
            t = known if known and known.dtype == HALF else TensorType(array.dtype.name, array.shape)
            self.out.buffers[name] = Buffer(name, "constant", t.dtype, max(t.size, 1), t.shape, dense(t.shape))
            self.out.places[name] = Place(name, dense(t.shape))
        for cache in graph.caches:
            self.give_cache(cache)

    def give_cache(self, cache: Cache) -> None:
        """A buffer of `room` rows, in which rows of earlier runs and this run's are one value."""
        t = self.graph.types[cache.present]
        batch, heads, _, size = t.shape
        shape = batch, heads, cache.room, size
        turned = _read_transposed(cache.present, self.graph) if cache.turned is None else cache.turned
        layout = dense(shape, (0, 1, 3, 2) if turned else None)
        self.out.buffers[cache.past] = Buffer(cache.past, "cache", t.dtype, int(np.prod(shape)), shape, layout)
        self.out.places[cache.past] = self.out.places[cache.present] = Place(cache.past, layout)

    def add(self, group: Group) -> None:
        """Places what a group computes, and adds it unless its outputs are there by that."""
        node, out = group.nodes[0], self.out
        if _joins(node) and len(group.nodes) == 1:
            self.settle(node.outputs[0])
            out.groups.extend(_part_copies(node, self.graph, self.parents, out, self.types))
            return
        if node.op == "Pad" and node.outputs[0] in self.shared_pads:
            x, low = self.shared_pads[node.outputs[0]]
            where = out.places[x]
            out.places[node.outputs[0]] = Place(where.buffer, where.layout.at([-p for p in low]))
            return
        if node.op == "Pad" and any(self.types[node.outputs[0]].sizes):
            node = (group := self.inside(node)).nodes[0]
        if _is_view(group):
            if self.view(node):
                return
            self.keep_order(node)
        for o in group.outputs:
            self.settle(o)
        group = _with_straight_inputs(group, self.graph, out, self.types, self.prefer)
        if node.op == "Scan":
            out.groups.extend(_initial_states(node, out, self.types))
        out.groups.append(group)

    def inside(self, node: Node) -> Group:
        """What copies a pad's input into a buffer with a border, whose place only a run knows, which fills it."""
        x, y, low = node.inputs[0], node.outputs[0], tuple(node.attrs["low"])
        self.halos[value := f"{y}/inside"] = Halo(low, tuple(node.attrs["high"]), float(node.attrs["fill"]))
        self.types[value] = self.graph.types[x]
        self.graph = replace(self.graph, types={**self.graph.types, value: self.types[x]})
        self.last |= {value} if y in self.last else set()
        self.settle(value)
        self.out.places[y] = Place(value, self.out.places[value].layout.at([-p for p in low]))
        return _copy_group(x, value, node)

    def view(self, node: Node) -> bool:
        """Places a node's outputs in its input's buffer; False where they cannot lie there as the input does."""
        operator, source = registry.find(node), self.out.places[node.inputs[0]]
        assert operator is not None and operator.view is not None
        layouts = operator.view(Context(node, self.graph), source.layout)
        views = {o: layout for o, layout in zip(node.outputs, layouts, strict=True) if o}
        places = {o: Place(source.buffer, layout) for o, layout in views.items() if layout is not None}
        if places and len(places) < len(views):
            raise AssertionError(f"{node.op}: all outputs are views, or none is")
        self.out.places.update(places)
        return len(places) == len(views)

    def keep_order(self, node: Node) -> None:
        """A copy for want of a border alone lies as the view of a value without one would: runs stay runs."""
        x, out = node.inputs[0], node.outputs[0]
        shape, new = self.types[x].shape, self.types[out].shape
        operator = registry.find(node)
        assert operator is not None and operator.view is not None
        if len(node.outputs) > 1 or self.graph.open or any(self.types[x].sizes) or 0 in shape:
            return
        plain = dense(shape, order_of(shape, self.out.places[x].layout))
        (layout,) = operator.view(Context(node, self.graph), plain)
        if layout is not None and is_dense(new, layout):
            self.orders.setdefault(out, order_of(new, layout))

    def settle(self, value: str) -> None:
        """Gives a computed value its place, its parent's first."""
        if value in self.out.places:
            return
        if value in self.parents:
            part = self.parents[value]
            self.settle(part.whole)
            where = self.out.places[part.whole]
            self.out.places[value] = Place(where.buffer, where.layout.at(part.start, part.steps))
        else:
            self.give_buffer(value, "output" if value in self.graph.outputs else "arena")

    def give_buffer(self, value: str, kind: str) -> None:
        """A buffer of the value's own, with the border that it needs."""
        t, halo = self.graph.types[value], self.halos.get(value)
        shape = t.shape
        if halo:
            shape = tuple(n + a + b for n, a, b in zip(t.shape, halo.low, halo.high, strict=True))
        if kind == "arena" and t.sizes and t.sizes[-1]:
            shape = (*shape[:-1], max(shape[-1], t.shape[-1] + self.wider.get(t.shape, 0)))
        order = channels_last(len(shape)) if value in self.last else self.orders.get(value)
        layout = dense(shape, order if kind == "arena" else None)
        size = int(np.prod(shape, dtype=np.int64)) if shape else 1
        self.out.buffers[value] = Buffer(value, kind, t.dtype, max(size, 1), shape, layout, halo)
        self.out.places[value] = Place(value, layout.at(halo.low) if halo else layout)


def _is_view(group: Group) -> bool:
    operator = registry.find(group.nodes[0])
    return len(group.nodes) == 1 and operator is not None and operator.view is not None


def _read_transposed(value: str, graph: Graph) -> bool:
    """Whether a value's rows become columns before they are computed with, as keys do."""
    readers = graph.consumers().get(value, [])
    while len(readers) == 1 and readers[0].op in ("Unsqueeze", "Expand", "Reshape", "Identity"):
        readers = graph.consumers().get(readers[0].outputs[0], [])
    return any(n.op == "Transpose" and n.attrs["perm"][-1] == len(n.attrs["perm"]) - 2 for n in readers)


def _joins(node: Node) -> bool:
    """Whether a node only puts its inputs together."""
    return (node.op, node.domain) in (("Concat", ""), ("Concat", "ai.onnx"), ("Interleave", "dlpack"))


def _parts(node: Node, graph: Graph) -> list[_Part]:
    """Where the inputs of a joining node lie in its output."""
    whole = node.outputs[0]
    rank = len(graph.types[whole].shape)
    if node.op == "Interleave":
        steps = (1, 1, *node.attrs["steps"])
        return [_Part(whole, (0, 0, *start), steps) for start in node.attrs["starts"]]
    axis = Context(node, graph).attr("axis", 0) % rank
    parts, at = [], 0
    for i in node.inputs:
        parts.append(_Part(whole, tuple(at if d == axis else 0 for d in range(rank)), (1,) * rank))
        at += graph.types[i].shape[axis]
    return parts


def copy_node(source: str, target: str, like: Node) -> Node:
    return Node("Copy", (source,), (target,), {}, target, "dlpack", 1, like.sources)


def _copy_group(source: str, target: str, like: Node) -> Group:
    return Group((copy_node(source, target, like),), None, (source,), (target,))


def _separate_outputs(
    graph: Graph, groups: list[Group], prefer: LayoutPreferences, body: bool
) -> tuple[Graph, list[Group]]:
    """A graph output that is a view, an input, a constant, or would not lie row-major gets a buffer by a copy.

    The copy comes right after what computes the value, so that the arena holds it no longer than others need it; in a
    loop's body it comes last, when the states that its outputs replace are no longer read.
    """
    last = channels_last_values(graph, groups, prefer)
    producers = {o: g for g in groups for o in g.outputs}
    consumers = {i for g in groups for i in g.inputs}
    renames: dict[str, str] = {}
    copies: dict[str, Group] = {}
    types, constants = dict(graph.types), dict(graph.constants)
    inputs = set(graph.inputs)
    for name in dict.fromkeys(graph.outputs):
        g = producers.get(name)
        t = graph.types[name]
        spread = name in last and len([d for d in t.shape[2:] if d != 1]) > 0 and t.shape[1] != 1
        if (
            g is not None
            and not _is_view(g)
            and not spread
            and not (g.nodes[0].op == "Pad" or (name in consumers and _joins(g.nodes[0])))
        ):
            continue
        inner = f"{name}/value"
        types[inner] = t
        if name in constants:
            constants[inner] = constants.pop(name)
        if name in inputs:
            raise AssertionError("an input that is an output is renamed when the graph is read")
        renames[name] = inner
        like = g.nodes[0] if g else Node("Constant", (), (name,), sources=(name,))
        copies[name] = _copy_group(inner, name, like)

    def rename_node(n: Node) -> Node:
        return replace(
            n,
            inputs=tuple(renames.get(i, i) for i in n.inputs),
            outputs=tuple(renames.get(o, o) for o in n.outputs),
        )

    if not renames:
        return graph, groups
    ordered = []
    for g in groups:
        own = tuple(rename_node(n) for n in g.nodes)
        reads = tuple(renames.get(v, v) for v in g.inputs)
        writes = tuple(renames.get(v, v) for v in g.outputs)
        ordered.append(Group(own, own[0] if g.anchor else None, reads, writes))
        if not body:
            ordered += [copies.pop(o) for o in g.outputs if o in copies]
    ordered += copies.values()
    nodes = tuple(n for g in ordered for n in g.nodes)
    return replace(graph, nodes=nodes, types=types, constants=constants), ordered


def _destinations(
    graph: Graph, groups: list[Group]
) -> tuple[dict[str, _Part], dict[str, Halo], dict[str, tuple[str, tuple[int, ...]]]]:
    """Which values are computed inside another's buffer, which get a halo, and which pads are free by that."""
    parents: dict[str, _Part] = {}
    halos: dict[str, Halo] = {}
    free: dict[str, tuple[str, tuple[int, ...]]] = {}
    computed = {o: g for g in groups if not _is_view(g) for o in g.outputs}
    producers = {o: g for g in groups for o in g.outputs}
    never_below = nonnegative(graph)
    for group in groups:
        node = group.nodes[0]
        if _joins(node) and len(group.nodes) == 1:
            for i, part in zip(node.inputs, _parts(node, graph), strict=True):
                g = computed.get(i)
                inside = g is not None and g.nodes[0].op != "Pad" and g.nodes[0].op != "Scan"
                if inside and i not in parents and i not in graph.outputs and i not in halos:
                    parents[i] = part
    for group in groups:
        node = group.nodes[0]
        if node.op != "Pad" or node.domain != "dlpack":
            continue
        x = node.inputs[0]
        low, high, fill = node.attrs["low"], node.attrs["high"], float(node.attrs["fill"])
        if node.attrs.get("at_least_zero") and x in never_below:
            fill = 0.0
        g = computed.get(x)
        writable = (g is not None and g.nodes[0].op not in ("Pad", "Scan")) or (
            x in producers and _joins(producers[x].nodes[0])
        )
        old = halos.get(x)
        if (
            not writable
            or x in parents
            or x in graph.outputs
            or min(*low, *high, 0) < 0
            or node.outputs[0] in graph.outputs
        ):
            continue
        if old is not None and old.fill != fill:
            continue
        halos[x] = Halo(
            tuple(max(a, b) for a, b in zip(low, old.low if old else low, strict=True)),
            tuple(max(a, b) for a, b in zip(high, old.high if old else high, strict=True)),
            fill,
        )
        free[node.outputs[0]] = (x, tuple(low))
    return parents, halos, free


def _part_copies(
    node: Node, graph: Graph, parents: Mapping[str, _Part], out: Placement, types: dict[str, TensorType]
) -> list[Group]:
    """Copies of the inputs of a joining node that are not computed in place."""
    where = out.places[node.outputs[0]]
    copies: list[Group] = []
    seen: set[str] = set()
    for k, (i, part) in enumerate(zip(node.inputs, _parts(node, graph), strict=True)):
        if i not in seen and parents.get(i) == part:
            seen.add(i)
            continue
        if graph.types[i].size == 0:
            continue
        if out.places.get(i) == Place(where.buffer, where.layout.at(part.start, part.steps)):
            continue  # the rows of a cache
        name = f"{node.outputs[0]}/part{k}"
        types[name] = graph.types[i]
        out.places[name] = Place(where.buffer, where.layout.at(part.start, part.steps))
        copies.append(_copy_group(i, name, node))
    return copies


def _initial_states(node: Node, out: Placement, types: dict[str, TensorType]) -> list[Group]:
    """A loop's states live where its outputs do: the initial ones are copied there first."""
    copies = []
    for initial, final in zip(node.inputs[: node.attrs["states"]], node.outputs, strict=False):
        start = f"{final}/start"
        types[start] = types[final]
        out.places[start] = out.places[final]
        copies.append(_copy_group(initial, start, node))
    return copies


def _vector_is_spatial(group: Group, graph: Graph, out: Placement) -> bool:
    """Whether a convolution's output is contiguous along a row of pixels: few channels, or an output of the model."""
    node = group.nodes[0]
    if node.attrs["strides"][-1] != 1 or graph.types[node.inputs[0]].dtype != "float32":
        return False
    shape = graph.types[group.output].shape
    return order_of(shape, out.places[group.output].layout)[-1] == len(shape) - 1


def _readable(op: str, shape: tuple[int, ...], layout: Layout, prefer: LayoutPreferences) -> bool:
    """Whether an operator reads an operand as it lies; a copy where it is contiguous is faster, or needed, else."""
    if op in PRODUCTS:
        return len(shape) < 2 or min(shape[-2:]) < prefer.wide_rows or layout.strides[-1] == 1
    if op == "Convolution" and (shape[1] == 1 or layout.strides[-1] == 1):
        return True
    return all(n == 1 or a == b for n, a, b in zip(shape, layout.strides, dense(shape).strides, strict=True))


def _with_straight_inputs(
    group: Group, graph: Graph, out: Placement, types: dict[str, TensorType], prefer: LayoutPreferences
) -> Group:
    """Copies the inputs that must lie otherwise than they do: a matrix's rows for MatMul, a loop's slices, weights of a
    convolution that a run computes, which are read across its outputs."""
    anchor = group.anchor
    if anchor is None or anchor.op not in (*PRODUCTS, "Scan", "Convolution"):
        return group
    orders: dict[str, tuple[int, ...]] = {}
    if anchor.op != "Convolution":
        candidates = anchor.inputs[1:3] if anchor.op in PRODUCTS else anchor.inputs[anchor.attrs["states"] :]
    elif _vector_is_spatial(group, graph, out):
        candidates = anchor.inputs[:1]
    else:
        candidates = anchor.inputs[1:2] if anchor.attrs["group"] == 1 else ()
        orders = {value: (*range(2, len(graph.types[value].shape)), 1, 0) for value in candidates}
    swap: dict[str, str] = {}
    for value in candidates:
        shape, layout = graph.types[value].shape, out.places[value].layout
        readable = layout.strides[0] == 1 if value in orders else _readable(anchor.op, shape, layout, prefer)
        if value in graph.constants or readable:
            continue
        name = f"{value}/{'across' if value in orders else 'rows'}"
        swap[value] = name
        if name not in out.places:
            types[name] = graph.types[value]
            straight = dense(shape, orders.get(value))
            out.buffers[name] = Buffer(name, "arena", types[name].dtype, types[name].size, shape, straight)
            out.places[name] = Place(name, straight)
            out.groups.append(_copy_group(value, name, anchor))
    if not swap:
        return group
    swapped = replace(anchor, inputs=tuple(swap.get(i, i) for i in anchor.inputs))
    nodes = tuple(swapped if n is anchor else n for n in group.nodes)
    made = {o for n in nodes for o in n.outputs}
    inputs = tuple(dict.fromkeys(i for n in nodes for i in n.inputs if i and i not in made))
    return Group(nodes, swapped, inputs, group.outputs)
