"""Groups → kernels: builds each group's tensor expression over placed operands and has the target schedule it."""

from __future__ import annotations

import itertools
import math
from collections import ChainMap, Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dlpack.errors import UnsupportedError
from dlpack.graph import registry
from dlpack.graph.few import ONE_ROW
from dlpack.graph.fuse import Group
from dlpack.graph.halves import computes_in_half
from dlpack.graph.ir import HALF, STORED, Array, Graph, Node, TensorType
from dlpack.graph.registry import Context, NotSupported
from dlpack.graph.rewrite import describe
from dlpack.kernels.calls import Argument, Call, Fill, KernelEntry
from dlpack.kernels.few import few_pixels, weights_layout
from dlpack.kernels.place import Place, Placement
from dlpack.kernels.settled import Settled
from dlpack.kernels.spec import WIDENED, KernelSpec, Scheduled
from dlpack.loops.expressions import NAMED, WITH_NAMES, Operand, leaves, number_of
from dlpack.loops.ir import Kernel
from dlpack.loops.layout import Layout, dense, expand, merge_dims, order_of
from dlpack.loops.opened import Opens
from dlpack.loops.sized import merged_tags
from dlpack.loops.sizes import Size, Tag
from dlpack.loops.tir import te, tirx

Schedule = Callable[[KernelSpec], Scheduled]
_Stored = Mapping[int, tuple[Layout | None, ...]]


NAMED_LEAVES = 6
"""Loads and constants, all written out, from which on an expression gets a name rather than being written twice."""


class KernelBuilder:
    """Builds kernels; equal ones are lowered once, and those of earlier sets of shapes are taken where they fit."""

    def __init__(
        self, placement: Placement, schedule: Schedule, settled: Settled, alignment: int = 1, body: bool = False
    ) -> None:
        """`alignment` as in `LayoutPreferences`; a loop's `body` has inputs and outputs that may begin anywhere."""
        self.placement, self.schedule, self.settled = placement, schedule, settled
        self.alignment, self.body = alignment, body
        self.graph: Graph = placement.graph
        self.entries: list[KernelEntry] = []
        self._known: dict[Any, tuple[int, dict[int, Layout]]] = {}

    def call(self, group: Group) -> Call:
        made = self._call(group)
        small, layout = few_pixels(group, self.graph), weights_layout(made, self.graph)
        return replace(made, few=self._call(small, layout)) if small and layout else made

    def _call(self, group: Group, weights: Layout | None = None) -> Call:
        """Builds the call; `weights`: how those of a convolution are stored."""
        job = _Job(group, self.placement, self._aligned)
        constants = {i: self.settled.digest(self.graph, o.value) for i, o in enumerate(job.inputs) if o.constant}
        stored = {i: tuple(self.settled.layouts.earlier(digest)) for i, digest in constants.items()}
        if weights:
            stored[job.slots[group.nodes[0].inputs[1], True]] = (weights,)
        key = job.key, tuple(stored.items())
        if key not in self._known:
            kernel, description, packed = self._earlier(key[0], stored) or self._build(job, stored)
            self.settled.kernels.add(key[0], (kernel, description, packed))
            self._known[key] = (len(self.entries), dict(packed))
            self.entries.append(KernelEntry(kernel, description, len(job.inputs)))
        number, packed = self._known[key]
        for i, digest in constants.items():
            self.settled.layouts.add(digest, packed.get(i))
        arguments = [
            Argument(o.buffer, o.layout.offset, packed.get(i, o.stored), o.epilogue and o.full)
            for i, o in enumerate([*job.inputs, *job.outputs])
        ]
        return Call(number, tuple(arguments), group, self._fills(job, self.entries[number].kernel))

    def _fills(self, job: _Job, kernel: Kernel) -> tuple[Fill, ...]:
        out = []
        for number, value in kernel.fills:
            operand = job.inputs[number]
            whole = {self.graph.open: self.graph.length} if self.graph.open else {}
            dims = [
                (tag[0] if tag and tag[1] == 1 else whole.get(n, n), s)
                for n, s, tag in zip(operand.shape, operand.layout.strides, operand.tags, strict=True)
                if n > 1 and s
            ]
            size = next((n for n, s in dims if s == 1), None)
            if not isinstance(size, Size):
                node = describe(job.group.nodes[0], self.graph)
                raise UnsupportedError(f"{node}: reduces the open dimension with gaps between elements")
            if math.isinf(value) and operand.dtype.startswith(("int", "uint")):
                info = np.iinfo(operand.dtype)
                value = int(info.max if value > 0 else info.min)
            out.append(Fill(number, tuple((n, s) for n, s in dims if s != 1), value, size))
        return tuple(out)

    def _aligned(self, place: Place) -> bool:
        """Whether what lies there is known to begin at a multiple of the alignment."""
        kind = self.placement.buffers[place.buffer].kind
        within = not self.body or kind not in ("input", "output")
        return self.alignment > 1 and within and place.layout.offset % self.alignment == 0

    def _earlier(self, key: Any, stored: _Stored) -> tuple[Kernel, str, Mapping[int, Layout]] | None:
        """An earlier set's kernel that reads the constants as they are stored."""
        for made in self.settled.kernels.earlier(key):
            if all(not layouts or made[2].get(i) in layouts for i, layouts in stored.items()):
                return made
        return None

    def _build(self, job: _Job, stored: _Stored) -> tuple[Kernel, str, Mapping[int, Layout]]:
        try:
            job.build()
        except NotSupported as e:
            raise UnsupportedError(f"{describe(job.group.nodes[0], self.graph)}: {e}") from e
        fixed = {i: packed for i, layouts in stored.items() if (packed := tuple(x for x in layouts if x is not None))}
        try:
            done = self.schedule(replace(job.spec(), fixed=fixed))
        except UnsupportedError as e:
            e.args = (f"{describe(job.group.nodes[0], self.graph)}: {e}",)
            raise
        return done.kernel, done.description, done.packed


@dataclass(frozen=True)
class _Operand:
    """A parameter in the making: the value, its shape and layout as the kernel sees them."""

    value: str
    buffer: str
    shape: tuple[int, ...]
    layout: Layout
    dtype: str
    constant: bool
    epilogue: bool
    full: bool
    aligned: bool
    stored: Layout | None = None
    """How a constant is stored where not row-major: an epilogue's, in the order of the output."""
    tags: tuple[Tag, ...] = ()
    """What a run has of each dimension, where it may be less."""


class _Job:
    """One group on its way to a `KernelSpec`."""

    def __init__(self, group: Group, placement: Placement, aligned: Callable[[Place], bool]) -> None:
        self.group, self.placement, self.aligned = group, placement, aligned
        self.graph = placement.graph
        self.inputs: list[_Operand] = []
        self.outputs: list[_Operand] = []
        self.scalars: dict[str, Array] = {}
        self.slots: dict[tuple[str, bool], int] = {}
        self.places: list[Any] = []  # te's placeholders of the inputs
        self.tensors: list[Any] = []
        self.numbers = _numbers(group, placement.graph)
        self._gather()

    # --- which operands, in which shape -------------------------------------------------------------------------

    def _gather(self) -> None:
        out_type = self.graph.types[self.group.output]
        full = out_type.shape
        anchor = self.group.anchor
        made = {o for n in self.group.nodes for o in n.outputs}
        for node in self.group.nodes:
            operator = registry.find(node)
            assert operator is not None
            is_anchor = node is anchor
            for k, value in enumerate(node.inputs):
                if not value or value in made or k in operator.constant_inputs:
                    continue
                constant = self.graph.constants.get(value)
                if constant is not None and constant.size == 1 and not is_anchor:
                    self.scalars[value] = constant
                    continue
                whole = is_anchor or k in operator.tables
                if (value, whole) not in self.slots:
                    self.slots[value, whole] = len(self.inputs)
                    self.inputs.append(self._operand(value, None if whole else full))
        for value in self.group.outputs:
            self.outputs.append(self._operand(value, None))
        if anchor is None:
            self._merge(order_of(full, self.outputs[0].layout))
        else:
            self._flatten(anchor)
        order = order_of(self.outputs[0].shape, self.outputs[0].layout)
        self.order = order

    def _operand(self, value: str, full: Sequence[int] | None) -> _Operand:
        t = self.graph.types[value]
        where = self.placement.places[value]
        layout, shape = where.layout, t.shape
        tags: tuple[Tag, ...] = tuple((s, 1) if s else None for s in t.sizes or (None,) * len(shape))
        constant = value in self.graph.constants
        same = full is not None and tuple(full) == shape
        stored = None
        if full is not None:
            if constant and same and len(shape) > 1:
                layout = dense(shape, order_of(shape, self.placement.places[self.group.output].layout))
                stored = layout if layout != dense(shape) else None
            layout, shape, tags = expand(layout, shape, full), tuple(full), (*(None,) * (len(full) - len(tags)), *tags)
        return _Operand(
            value,
            where.buffer,
            shape,
            layout,
            _kernel_dtype(t),
            constant,
            full is not None,
            same and not constant,
            self.aligned(where),
            stored,
            tags,
        )

    def _merge(self, order: Sequence[int]) -> None:
        """Pointwise: as few loops as the operands' strides allow, in memory order."""
        operands = [*(o for o in self.inputs if o.epilogue), *self.outputs]
        full, own = self.outputs[0].shape, self.outputs[0].tags
        opened = [d for d, tag in enumerate(own) if tag]
        shape, layouts = merge_dims(full, [o.layout for o in operands], order, self.graph.open, opened)
        tags = merged_tags(full, own, order, shape)
        merged = {
            id(o): replace(o, shape=tuple(shape), layout=m, tags=tags) for o, m in zip(operands, layouts, strict=True)
        }
        self.inputs = [merged.get(id(o), o) for o in self.inputs]
        self.outputs = [merged[id(o)] for o in self.outputs]

    def _flatten(self, anchor: Node) -> None:
        """Takes the spatial dimensions as one where the operator allows it and no operand has gaps there."""
        operator = registry.find(anchor)
        if operator is None or operator.flattens is None or not operator.flattens(Context(anchor, self.graph)):
            return
        operands = [*self.inputs, *self.outputs]
        spatial = [o for o in operands if len(o.shape) == len(self.outputs[0].shape) and o.value != anchor.inputs[1]]
        flat: dict[int, _Operand] = {}
        for o in spatial:
            size, stride = 1, None
            for n, s in reversed(list(zip(o.shape[2:], o.layout.strides[2:], strict=True))):
                if n != 1:
                    if stride is None:
                        stride = s
                    elif s != stride * size:
                        return
                    size *= n
            ones = (1,) * (len(o.shape) - 3)
            layout = replace(o.layout, strides=(*o.layout.strides[:2], *((0,) * len(ones)), stride or 0))
            first, *within = o.tags[2:] or (None,)
            if any(within) or (first and not any(size % rows == 0 for rows in (4, 6))):
                return  # rows of a run have gaps between them, or tiles of several rows would be cut
            tag = first and (first[0], size // o.shape[2])
            tags = (*o.tags[:2], *((None,) * len(ones)), tag)
            flat[id(o)] = replace(o, shape=(*o.shape[:2], *ones, size), layout=layout, tags=tags)
        self.inputs = [flat.get(id(o), o) for o in self.inputs]
        self.outputs = [flat.get(id(o), o) for o in self.outputs]

    @property
    def key(self) -> Any:
        def shape(o: _Operand) -> Any:
            layout = replace(o.layout, offset=0)
            if any(o.tags):  # where there is one picture, none is found by its stride
                strides = (0 if n == 1 else s for n, s in zip(o.shape, layout.strides, strict=True))
                layout = replace(layout, strides=tuple(strides))
            return o.shape, layout, o.dtype, o.constant, o.aligned, o.tags

        names: dict[str, int] = {}

        def number(v: str) -> Any:
            if v in self.scalars:
                c = self.scalars[v]
                return ("scalar", c.dtype.name, c.tobytes())
            return names.setdefault(v, len(names)) if v else None

        def constants(n: Node) -> Any:
            operator = registry.find(n)
            assert operator is not None
            found = [self.graph.constants.get(n.inputs[k]) for k in operator.constant_inputs if k < len(n.inputs)]
            return tuple(c.tobytes() if c is not None else None for c in found)

        nodes = tuple(
            (
                n.op,
                n.domain,
                n.opset,
                repr(sorted(n.attrs.items(), key=lambda kv: kv[0])),
                tuple(number(i) for i in n.inputs),
                tuple(number(o) for o in n.outputs),
                tuple(str(self.graph.types[v]) for v in (*n.inputs, *n.outputs) if v),
                constants(n),
            )
            for n in self.group.nodes
        )
        return nodes, tuple(shape(o) for o in self.inputs), tuple(shape(o) for o in self.outputs)

    # --- the tensor expression ----------------------------------------------------------------------------------

    def build(self) -> None:
        names = _names(self.inputs, self.group)
        places = [te.placeholder(o.shape, dtype=o.dtype, name=n) for o, n in zip(self.inputs, names, strict=True)]
        self.places = places
        computed: dict[str, Callable[..., Any]] = {}
        anchor = self.group.anchor
        results: list[Any] = []
        if anchor is not None:
            operator = registry.find(anchor)
            assert operator is not None
            operands = [
                (places[self.slots[v, True]] if v else None)
                for k, v in enumerate(anchor.inputs)
                if k not in operator.constant_inputs
            ]
            if self.numbers[anchor.name] == "float32":
                operands = [_widened(x) for x in operands]
            results = operator.function(self._context(anchor), *operands)
            if len(results) != len([o for o in anchor.outputs if o]):
                raise NotSupported("an optional output")
            computed.update(zip((o for o in anchor.outputs if o), results, strict=True))
        chain = [n for n in self.group.nodes if n is not anchor]
        if chain or (len(results) == 1 and str(results[0].dtype) != self.outputs[0].dtype):
            shape = self.outputs[0].shape

            def operand(value: str, index: tuple[Any, ...]) -> Any:
                if value in self.scalars:
                    c = self.scalars[value]
                    return tirx.const(c.reshape(-1)[0].item(), c.dtype.name)
                if value in computed:
                    return computed[value](*index)
                return places[self.slots[value, False]](*index)

            axes = [str(a.var.name) for a in results[0].op.axis] if results else None
            out = te.compute(shape, lambda *i: self._chain(chain, operand, i), name="out", varargs_names=axes)
            results = [out]
        self.tensors = [*places, *results]

    def _inner(self, node: Node) -> str:
        """The type of an operator's result within the kernel."""
        dtype = _kernel_dtype(self.graph.types[node.outputs[0]])
        return self.numbers[node.name] or dtype if dtype in ("float16", "float32") else dtype

    def _context(self, node: Node) -> Context:
        """What an operator's function sees: all its numbers are of the type that it computes in."""
        kind, types = self.numbers[node.name], self.graph.types
        if not kind:
            return Context(node, self.graph)
        named = [v for v in (*node.inputs, *node.outputs) if v]
        own = {v: replace(types[v], dtype=kind) for v in named if types[v].dtype in ("float32", HALF)}
        return Context(node, replace(self.graph, types=ChainMap(own, types)))  # type: ignore[arg-type]

    def _chain(self, nodes: Sequence[Node], operand: Callable[[str, tuple[Any, ...]], Any], index: Any) -> Any:
        """The last node's element at `index`, of the output's type.

        A large expression that is used several times is computed once, by name.

        Where each use is written out, a chain of ``a = a + a`` doubles with each step.
        """
        names = [tirx.call_pure_extern(self._inner(n), NAMED, tirx.const(k, "int32")) for k, n in enumerate(nodes)]
        terms: dict[str, Any] = {n.outputs[0]: name for n, name in zip(nodes, names, strict=True)}
        uses: Counter[int] = Counter()
        written: dict[int | None, int] = {}
        for k, node in enumerate(nodes):  # as if each had a name, to count
            found = [number_of(e) for e in leaves(self._pointwise(node, terms, operand, index))]
            uses.update(n for n in found if n is not None)
            written[k] = sum(written.get(n, 1) for n in found)
        bound: list[Any] = []
        for k, node in enumerate(nodes):
            terms[node.outputs[0]] = term = self._pointwise(node, terms, operand, index)
            if uses[k] > 1 and written[k] >= NAMED_LEAVES:
                bound += [node.op.lower(), names[k], term]
                terms[node.outputs[0]] = names[k]
        result = terms[nodes[-1].outputs[0]] if nodes else operand(self.group.output, index)
        if str(result.ty.dtype) != self.outputs[0].dtype:
            result = result.astype(self.outputs[0].dtype)
        return tirx.call_pure_extern(str(result.ty.dtype), WITH_NAMES, *bound, result) if bound else result

    def _pointwise(
        self, node: Node, terms: Mapping[str, Any], operand: Callable[[str, tuple[Any, ...]], Any], index: Any
    ) -> Any:
        operator = registry.find(node)
        assert operator is not None
        dtype = self._inner(node)
        inputs = [
            self.places[self.slots[v, True]]
            if k in operator.tables
            else (terms[v] if v in terms else operand(v, index))
            if v
            else None
            for k, v in enumerate(node.inputs)
            if k not in operator.constant_inputs
        ]
        if kind := self.numbers[node.name]:
            inputs = [_as(x, kind) for x in inputs]
        result = operator.function(self._context(node), *inputs)
        return result if str(result.ty.dtype) == dtype else result.astype(dtype)

    def spec(self) -> KernelSpec:
        names = _names(self.inputs, self.group)
        outs = ["y"] if len(self.outputs) == 1 else [f"y{k}" for k in range(len(self.outputs))]
        operands = [
            Operand(n, replace(o.layout, offset=0), k >= len(self.inputs), aligned=o.aligned)
            for k, (n, o) in enumerate(zip([*names, *outs], [*self.inputs, *self.outputs], strict=True))
        ]
        constant = frozenset(k for k, o in enumerate(self.inputs) if o.constant)
        own = [*self.inputs, *self.outputs]
        tags = [o.tags for o in own] if any(tag for o in own for tag in o.tags) else []
        return KernelSpec(
            self.tensors,
            operands,
            constant,
            self.order,
            open=self._opens(),
            tags=tags,
            reduces=any(n.op.startswith(("Global", "Reduce")) for n in self.group.nodes),
            taller=bool(self.graph.caches),  # a decoder reads single tokens, then blocks of them
            one_row=self.group.nodes[0].attrs.get(ONE_ROW, 0),
        )

    def _opens(self) -> Opens:
        """The extents of the dimensions that are as the length of a text."""
        if self.graph.open:
            return {self.graph.open: self.graph.length if self.graph.opens else None}
        types = [self.graph.types[v] for v in (*self.group.inputs, *self.group.outputs)]
        dims = ((s, n) for t in types for s, n in zip(t.sizes, t.shape, strict=False))
        return {n: s for s, n in dims if s and s.columns is not None}


def _names(inputs: Sequence[_Operand], group: Group) -> list[str]:
    """Parameter names: x, w for the anchor's operands as ONNX names them, a, b, c ... for the epilogue's."""
    out: list[str] = []
    letters = itertools.cycle("bcdefghijklmnopqrstuvz")
    for o in inputs:
        if not o.epilogue:
            out.append("w" if o.constant else "x" if "x" not in out else f"x{len(out)}")
        else:
            out.append("a" if "a" not in out and group.anchor is None else next(letters))
    return [n if out.index(n) == k else f"{n}{k}" for k, n in enumerate(out)]


def _numbers(group: Group, graph: Graph) -> dict[str, str]:
    """By node the type that it computes in, where values of it are of float16; else nothing.

    What follows an operator in float32 within the kernel goes on in that, and is rounded once, at the end.
    """
    numbers: dict[str, str] = {}
    wide: set[str] = set()
    for node in group.nodes:
        halves = any(v and graph.types[v].dtype == HALF for v in (*node.inputs, *node.outputs))
        exact = halves and (bool(wide.intersection(node.inputs)) or not computes_in_half(node, graph))
        numbers[node.name] = ("float32" if exact else "float16") if halves else ""
        wide.update(node.outputs if exact else ())
    return numbers


def _as(x: Any, kind: str) -> Any:
    """An element, if it is a float, as one of type `kind`, "float16" or "float32"."""
    if x is None or str(x.ty.dtype) not in ("float16", "float32"):
        return x
    return tirx.const(x.value, kind) if type(x).__name__ == "FloatImm" else x.astype(kind)


def _widened(x: Any) -> Any:
    """A tensor of float16 as one of float32, in a stage that schedules inline."""
    if x is None or str(x.dtype) != "float16":
        return x
    return te.compute(x.shape, lambda *i: x(*i).astype("float32"), name=WIDENED)


def _kernel_dtype(t: TensorType) -> str:
    """The element type that kernels compute with, as TVM calls it."""
    return "float16" if t.dtype == HALF else STORED.get(t.dtype, t.dtype)
