"""All pixels of a picture as one dimension, as attention and a softmax over pictures of any size have them.

Its extent is a product of open ones, and strides are those of the graph's size. So steps of a run put the pixels one
behind the other (`JoinPixels`) and back (`PartPixels`); between them the dimension is like the length of a text, whose
kernels (`loops/opened.py`) do it: what is computed of the first elements depends on none behind them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from dlpack.graph.ir import TensorType
from dlpack.graph.opened import COLUMNS, check_node, padded_extent
from dlpack.graph.picture_node import PictureNode, Witness
from dlpack.graph.registry import Builder
from dlpack.loops.sizes import Size


class Tokens:
    """The values of a model that have such a dimension.

    `types` are the model's at the first of the `witnesses`; `always`: also rows of a fixed width are put one behind the
    other, which are one dimension as they are, unless something works along it.
    """

    def __init__(self, types: Mapping[str, TensorType], witnesses: Sequence[Witness], always: bool) -> None:
        self.types, self.witnesses, self.always = types, witnesses, always
        self.extents: dict[Size, int] = {}
        self.sides: dict[Size, tuple[Size | int, Size | int]] = {}

    def type_of(self, name: str) -> TensorType:
        """A value's type, with the extents that kernels are made for."""
        own = self.types[name]
        shape = tuple(self.extents.get(s, n) if s else n for n, s in zip(own.shape, self._sizes(name), strict=True))
        return replace(own, shape=shape)

    def _sizes(self, name: str) -> list[Size | None]:
        """Which dimensions of a value are all pixels of a picture: those with their number in all known sizes."""
        rank = len(self.types[name].shape)
        seen = [(w.numbers, w.graph.types[name].shape) for w in self.witnesses if name in w.graph.types]
        return [
            next((s for s in self.extents if all(s.in_run(at) == shape[d] for at, shape in seen)), None)
            if len({shape[d] for _, shape in seen}) > 1
            else None
            for d in range(rank)
        ]

    def add(self, n: PictureNode, b: Builder) -> bool:
        """Adds what replaces a node that has such a dimension; False for all others."""
        found = {s for k in range(len(n.node.inputs)) for s in n.sizes(k) if s is not None}
        if n.node.op == "Reshape":
            return self._part(n, b) if any(s.columns is not None for s in found) else self._join(n, b)
        if not any(s.columns is not None for s in found):
            return False
        n.alone(found)
        types = {o: self.type_of(o) for o in n.node.outputs if o}
        for size in found:
            check_node(n.node, replace(n.graph, types={**n.graph.types, **types}, open=self.extents[size]))
        node = n.node
        if node.op == "Expand":
            shape = b.constant(np.array(types[node.outputs[0]].shape, np.int64), "shape")
            node = replace(node, inputs=(node.inputs[0], shape))
        b.raw(node, [types[o] if o else TensorType("float32", ()) for o in node.outputs])
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
        kept, size = sum(s is not None for s in self._sizes(y)), found[0]
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


def _place(shape: Sequence[int], before: int, extent: int, parts: int = 1) -> int | None:
    """Where dimensions of a shape, so many `parts`, have `extent` elements, and those before them `before`."""
    found = [
        k for k in range(len(shape) + 1 - parts) if prod(shape[:k]) == before and prod(shape[k : k + parts]) == extent
    ]
    return found[-1] if found and extent > 1 else None
