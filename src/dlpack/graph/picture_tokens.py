"""All pixels of a picture as one dimension, as attention and a softmax over pictures of any size have them.

Its extent is a product of open ones, and strides are those of the graph's size. So steps of a run put the pixels one
behind the other (`JoinPixels`) and back (`PartPixels`); between them the dimension is like the length of a text, whose
kernels (`loops/opened.py`) do it: what is computed of the first elements depends on none behind them.

One side alone, as a sound has it behind windows with strides, becomes such a dimension in the same way where something
needs it, attention or a recurrent layer, and a side again where windows follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from dlpack.graph.ir import Array, Node, Sizes, TensorType
from dlpack.graph.opened import COLUMNS, check_node, is_data, made_anew, padded_extent
from dlpack.graph.opened_node import OpenNode
from dlpack.graph.opened_numbers import Seen, first_part, of_a_run, padded
from dlpack.graph.picture_node import PictureNode, Witness, is_open
from dlpack.graph.registry import Builder
from dlpack.loops.sizes import Size


@dataclass
class Form:
    """A way to compute a node: with its inputs `as_lengths`, or not, those that are otherwise turned into such.

    `turned` has what was turned so far, and what is turned for this node, by name.
    """

    as_lengths: bool | None
    turned: dict[tuple[str, bool], str] = field(default_factory=dict)


class Tokens:
    """The values of a model that have such a dimension.

    `types` are the model's at the first of the `witnesses`; `always`: also rows of a fixed width are put one behind the
    other, which are one dimension as they are, unless something works along it.
    """

    def __init__(self, types: Mapping[str, TensorType], witnesses: Sequence[Witness], always: bool) -> None:
        self.types, self.witnesses, self.always = types, witnesses, always
        self.extents: dict[Size, int] = {}
        self.sides: dict[Size, tuple[Size | int, Size | int]] = {}
        self.turned: dict[tuple[str, bool], str] = {}

    @property
    def sizes(self) -> dict[int, Size]:
        """What a run has of these dimensions, by the extent that kernels are made for."""
        return {n: size for size, n in self.extents.items()}

    def type_of(self, name: str, as_lengths: bool = False) -> TensorType:
        """A value's type, with the extents that kernels are made for; `as_lengths`: sides are such dimensions."""
        own = self.types[name]
        sizes = self._sizes(name, as_lengths)
        return replace(own, shape=tuple(self.extents[s] if s else n for n, s in zip(own.shape, sizes, strict=True)))

    def _sizes(self, name: str, as_lengths: bool) -> list[Size | None]:
        """Which dimensions of a value are all pixels of a picture: those with their number in all known sizes."""
        rank = len(self.types[name].shape)
        seen = [(w.numbers, w.graph.types[name].shape) for w in self.witnesses if name in w.graph.types]
        known = [s for s in self.extents if as_lengths or s.columns != 1]
        return [
            next((s for s in known if all(s.in_run(at) == shape[d] for at, shape in seen)), None)
            if len({shape[d] for _, shape in seen}) > 1
            else None
            for d in range(rank)
        ]

    # --- one side as a length -----------------------------------------------------------------------------------------

    def forms(self, node: Node, sizes: Mapping[str, Sizes]) -> Iterator[Form]:
        """The ways to compute a node, the best first."""
        opened = [[s for s in sizes[i] if s is not None] for i in node.inputs if is_open(sizes.get(i, ()))]
        sides = [len(own) == 1 and own[0].columns is None for own in opened]
        lengths = [any(s.columns == 1 for s in own) for own in opened]
        some = any(lengths)
        all_lengths = bool(opened) and all(a or b for a, b in zip(sides, lengths, strict=True))
        if not some or not all_lengths:
            yield Form(None, dict(self.turned))
        if all_lengths:
            yield Form(True, dict(self.turned))
        if some and all(len(own) == 1 for own in opened):
            yield Form(False, dict(self.turned))

    def turn(self, form: Form, node: Node, sizes: Mapping[str, Sizes], b: Builder) -> tuple[Node, dict[str, Sizes]]:
        """The node with inputs as a form has them, and what a run has of these; adds what turns them."""
        known: dict[str, Sizes] = {}
        inputs = []
        for i in node.inputs:
            own = sizes.get(i, ())
            d, size = next(((d, s) for d, s in enumerate(own) if s is not None), (0, None))
            if form.as_lengths is None or size is None or (size.columns == 1) == form.as_lengths:
                inputs.append(i)
                continue
            made = form.turned.get((i, form.as_lengths), "")
            if made not in sizes and made not in known:
                shape = list(b.type_of(i).shape)
                if form.as_lengths:
                    op, side = "JoinPixels", size
                    size, shape[d] = self._size(size, 1)
                else:
                    op, size = "PartPixels", replace(size, columns=None)
                    side, shape[d] = size, size.in_run(self.witnesses[0].numbers)
                made = b.add_internal(op, [i], shape, axis=d, sides=(side,), size=size)
                form.turned |= {(i, form.as_lengths): made, (made, not form.as_lengths): i}
                known[made] = tuple(size if k == d else s for k, s in enumerate(own))
            inputs.append(made)
        return replace(node, inputs=tuple(inputs)), known

    def _constants(self, n: PictureNode, size: Size, b: Builder) -> Node:
        """The node with constants that are others in each size as a run has them. Raises UnsupportedError."""
        node, inputs = n.node, list(n.node.inputs)
        for k, i in enumerate(node.inputs):
            known = {size.in_run(w.numbers): w.graph.constants[i] for w in self.witnesses if i in w.graph.constants}
            seen = [Seen(*at) for at in sorted(known.items(), key=lambda at: at[0])]
            if i not in n.graph.constants or len(seen) < 2 or all(_same(at.value, seen[0].value) for at in seen):
                continue
            made = self._table(i, seen, size, b) if is_data(node, k) else self._number(seen, size, b)
            if made is None:
                raise n.fail(f"has a constant, '{i}', computed from the open dimension")
            inputs[k] = made
        return replace(node, inputs=tuple(inputs))

    def _table(self, name: str, seen: Sequence[Seen], size: Size, b: Builder) -> str | None:
        most, shape = seen[-1].value, self.type_of(name, True).shape
        if len(shape) != most.ndim or any(at.value.ndim != most.ndim for at in seen):
            return None
        if all(_same(first_part(most, at.value.shape), at.value) for at in seen):
            return b.constant(padded(most, shape), "table")
        return of_a_run(seen, shape, replace(size, columns=None), b)

    def _number(self, seen: Sequence[Seen], size: Size, b: Builder) -> str | None:
        """Of a constant that says what a node does: the extent where it is the size."""
        first, last = seen[0].value, seen[-1].value
        if any(at.value.shape != last.shape or at.value.dtype.kind not in "iu" for at in seen):
            return None
        differ = first != last
        if any((at.value[differ] != at.size).any() or (at.value != last)[~differ].any() for at in seen):
            return None
        return b.constant(np.where(differ, self.extents[size], last).astype(last.dtype), "sizes")

    # --- what has such a dimension ------------------------------------------------------------------------------------

    def add(self, n: PictureNode, b: Builder) -> bool:
        """Adds what replaces a node that has such a dimension; False for all others."""
        found = {s for k in range(len(n.node.inputs)) for s in n.sizes(k) if s is not None}
        length = any(s.columns == 1 for s in found)
        if n.node.op == "Reshape" and not length:
            return self._part(n, b) if any(s.columns is not None for s in found) else self._join(n, b)
        if not any(s.columns is not None for s in found):
            return False
        n.alone(found)
        types = {o: self.type_of(o, length) for o in n.node.outputs if o}
        graph = replace(n.graph, types={**n.graph.types, **types})
        if length:
            return self._of_length(PictureNode(n.node, graph, n.known, n.witnesses), found, b)
        for size in found:
            check_node(n.node, replace(graph, open=self.extents[size]))
        node = n.node
        if node.op == "Expand":
            shape = b.constant(np.array(types[node.outputs[0]].shape, np.int64), "shape")
            node = replace(node, inputs=(node.inputs[0], shape))
        b.raw(node, [types[o] if o else TensorType("float32", ()) for o in node.outputs])
        return True

    def _of_length(self, n: PictureNode, found: set[Size], b: Builder) -> bool:
        """Of nodes with one side as a length."""
        node, types = n.node, n.graph.types
        if len(found) > 1:
            raise n.fail("computes with two lengths at once")
        (size,) = found
        if node.op in ("Expand", "Reshape"):
            shape = b.constant(np.array(types[node.outputs[0]].shape, np.int64), "shape")
            node = replace(node, inputs=(node.inputs[0], shape))
        node = self._constants(PictureNode(node, n.graph, n.known, n.witnesses), size, b)
        smallest = min(size.in_run(w.numbers) for w in self.witnesses)
        graph = replace(n.graph, types={**types, **b.types}, constants={**n.graph.constants, **b.constants})
        graph = replace(graph, open=self.extents[size])
        own = OpenNode(node, graph, smallest=smallest, size=replace(size, columns=None))
        done = node.op != "Conv" and made_anew(own, b)
        if not done:
            b.raw(node, [types[o] if o else TensorType("float32", ()) for o in node.outputs])
        graph = replace(graph, types={**graph.types, **b.types}, constants={**graph.constants, **b.constants})
        for made in b.nodes:
            if made.domain != "dlpack":
                check_node(made, graph, smallest)
        return True

    def _join(self, n: PictureNode, b: Builder) -> bool:
        """Rows one behind the other, then what a reshape makes of the other dimensions."""
        x, y = n.node.inputs[0], n.node.outputs[0]
        old, new, sizes = self.types[x].shape, self.types[y].shape, n.sizes()
        for d in range(len(old) - 1):
            opened = [k for k in (d, d + 1) if sizes[k]]
            picture = len(old) - d == 2 or (len(old), d) == (4, 1)
            e = _place(new, prod(old[:d]), old[d] * old[d + 1])
            others = any(s for k, s in enumerate(sizes) if k not in (d, d + 1))
            if e is None or others or not (len(opened) == 2 or (opened and self.always and picture)):
                continue
            size, extent = self._size(sizes[d] or old[d], sizes[d + 1] or old[d + 1])
            joined = (*old[:d], extent, *old[d + 2 :])
            whole = (*new[:e], extent, *new[e + 1 :])
            made = b.add_internal(
                "JoinPixels", [x], joined, y if joined == whole else None, axis=d, sides=self.sides[size], size=size
            )
            if joined != whole:
                b.add("Reshape", [made, b.constant(np.array(whole, np.int64), "shape")], whole, output=y)
            return True
        return False

    def _part(self, n: PictureNode, b: Builder) -> bool:
        """A reshape that keeps the pixels as one dimension, or makes rows of them again."""
        x, y = n.node.inputs[0], n.node.outputs[0]
        found = [s for s in n.sizes() if s is not None]
        n.alone(found)
        kept, size = sum(s is not None for s in self._sizes(y, False)), found[0]
        if kept == len(found):
            whole = self.type_of(y).shape
            b.add("Reshape", [x, b.constant(np.array(whole, np.int64), "shape")], whole, output=y)
            return True
        d = n.sizes().index(size)
        old, new = self.types[x].shape, self.types[y].shape
        e = _place(new, prod(old[:d]), old[d], parts=2)
        if kept or e is None or len(found) > 1:
            raise n.fail("makes other dimensions of all pixels of a picture than its rows and columns")
        apart = (*new[:e], self.extents[size], *new[e + 2 :])
        if apart != n.input_type(0).shape:
            x = b.add("Reshape", [x, b.constant(np.array(apart, np.int64), "shape")], apart)
        b.add_internal("PartPixels", [x], new, y, axis=e, sides=self.sides[size])
        return True

    def _size(self, rows: Size | int, columns: Size | int) -> tuple[Size, int]:
        """How many pixels a picture has in a run, and the extent of the dimension: a multiple of vectors and tiles, not
        of another picture's, and no dimension is one of it."""
        own, other = (rows, columns) if isinstance(rows, Size) else (columns, rows)
        assert isinstance(own, Size)
        size = replace(own, columns=other)
        if size not in self.extents:
            apart = self.extents.values()
            others = {d for t in self.types.values() for d in t.shape} | set(apart)
            most = max(COLUMNS + 1, size.in_run(self.witnesses[0].numbers))  # or all others were multiples of it
            self.extents[size] = padded_extent(most, others, True, apart)
            self.sides[size] = rows, columns
        return size, self.extents[size]


def _same(a: Array, b: Array) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _place(shape: Sequence[int], before: int, extent: int, parts: int = 1) -> int | None:
    """Where dimensions of a shape, so many `parts`, have `extent` elements, and those before them `before`."""
    found = [
        k for k in range(len(shape) + 1 - parts) if prod(shape[:k]) == before and prod(shape[k : k + parts]) == extent
    ]
    return found[-1] if found and extent > 1 else None
