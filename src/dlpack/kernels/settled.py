"""What the programs of a bundle share, and what the sets of input shapes of one program do.

Programs, one for each machine, share the weights' file: each weight is stored once, as the first program reads it, and
the others repack it when a predictor is made. The sets of shapes of one program share the weights in one layout, and
kernels: the first set chooses freely, and what it has settled binds those that follow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from dlpack.graph.ir import HALF, Array, Graph
from dlpack.graph.packed import Packed
from dlpack.loops.ir import Kernel
from dlpack.loops.layout import Layout, dense

T = TypeVar("T")


def _digest(array: Array) -> str:
    digest = hashlib.sha256(f"{array.dtype.name} {array.shape} ".encode())
    digest.update(array.tobytes())
    return digest.hexdigest()


ALIGNMENT = 64
"""Bytes of which each weight's offset is a multiple."""


@dataclass(frozen=True)
class Weight:
    """A constant as kernels read it: what it is (`Settled.digest`), its shape and type, and where its elements lie."""

    digest: str
    shape: tuple[int, ...]
    dtype: str
    layout: Layout


class Weights:
    """The bytes of all weights of a bundle, each at a multiple of 64; equal ones are stored once."""

    def __init__(self) -> None:
        self.blob = bytearray()
        self._places: dict[Weight, int] = {}
        self._earlier: dict[str, Weight] = {}

    def place(self, weight: Weight, data: Callable[[], bytes]) -> int:
        """The offset of a weight, which is appended where it is not there in that layout."""
        if weight not in self._places:
            self.blob.extend(b"\0" * (-len(self.blob) % ALIGNMENT))
            self._places[weight] = len(self.blob)
            self.blob.extend(data())
        return self._places[weight]

    def in_other_layout(self, weight: Weight) -> Weight | None:
        """The same constant as an earlier program has stored it, where that is another layout."""
        return None if weight in self._places else self._earlier.get(weight.digest)

    def settle(self) -> None:
        """A program is done; those that follow repack what it has stored."""
        for weight in self._places:
            self._earlier.setdefault(weight.digest, weight)


class Choices(Generic[T]):
    """What was chosen under a key: by earlier sets, which binds, and by the present one, which does not yet."""

    def __init__(self) -> None:
        self._earlier: dict[Hashable, list[T]] = {}
        self._now: list[tuple[Hashable, T]] = []

    def earlier(self, key: Hashable) -> list[T]:
        """What earlier sets have chosen; nothing for the first."""
        return self._earlier.get(key, [])

    def add(self, key: Hashable, value: T) -> None:
        self._now.append((key, value))

    def settle(self) -> None:
        """The present set is done."""
        for key, value in self._now:
            self._earlier.setdefault(key, []).append(value)
        self._now.clear()


class Settled:
    """What is settled of weights, by their contents, and of kernels, by their jobs; and the weights' bytes."""

    def __init__(self, weights: Weights | None = None) -> None:
        self.weights = weights or Weights()
        self.prepared = 0  # bytes of weights that are computed when a predictor is made
        self.prepared_places: dict[Weight, int] = {}
        self.layouts: Choices[Layout | None] = Choices()  # of a weight; None: not packed
        self.winograd: Choices[int] = Choices()  # the tile of a weight's convolution, 0: it is not Winograd's
        self.kernels: Choices[tuple[Kernel, str, Mapping[int, Layout]]] = Choices()
        self._stored_types: dict[Weight, str] = {}
        self.packed: dict[str, Packed] = {}  # by the digest of the float32 numbers
        self._digests: dict[int, tuple[Array, str]] = {}

    def digest(self, graph: Graph, constant: str) -> str:
        """A constant's identity: its type, shape and elements, or what it is derived from."""
        if constant in graph.derived:
            return f"{graph.types[constant].shape} derived from {self.digest(graph, graph.derived[constant])}"
        if constant in graph.sums:
            return f"{graph.types[constant].shape} sum " + " ".join(
                f"{sign:+}*{self.digest(graph, part)}" for part, sign in graph.sums[constant]
            )
        array = graph.constants[constant]
        if id(array) not in self._digests:
            half = graph.types[constant].dtype == HALF  # the same constant as in float32, if its numbers are the same
            self._digests[id(array)] = array, _digest(array.astype(np.float32) if half else array)
        return self._digests[id(array)][1]

    def stored_type(self, weight: Weight, find: Callable[[], str]) -> str:
        """The type in which a weight of float32 is stored; `find` says so where no set has asked."""
        if weight not in self._stored_types:
            self._stored_types[weight] = find()
        return self._stored_types[weight]

    def pack(self, graph: Graph, packed: Mapping[str, Packed]) -> None:
        """Notes how weights are stored; later stages may have transposed them."""
        for name, how in packed.items():
            self.packed.setdefault(self.digest(graph, name), how)
            if how.codes.ndim == 2:
                self.packed.setdefault(_digest(np.ascontiguousarray(graph.constants[name].T)), how.transposed())

    def packed_of(self, graph: Graph, constant: str) -> Packed | None:
        """How a constant is stored, where that is in few bits."""
        return self.packed.get(self.digest(graph, constant)) if graph.constants[constant].dtype == np.float32 else None

    @staticmethod
    def plain(array: Array) -> Weight:
        """What is stored row-major, and is no operand of a kernel."""
        return Weight(_digest(array), array.shape, array.dtype.name, dense(array.shape))

    def weight(self, graph: Graph, constant: str, layout: Layout | None) -> Weight:
        """A constant in a layout; None: row-major."""
        t = graph.types[constant]
        return Weight(self.digest(graph, constant), t.shape, t.dtype, layout or dense(t.shape))

    def prepare(self, weight: Weight, nbytes: int) -> tuple[int, bool]:
        """Where a weight that is computed when a predictor is made lies among these, and whether it is new there."""
        new = weight not in self.prepared_places
        if new:
            self.prepared_places[weight] = self.prepared
            self.prepared += -(-nbytes // ALIGNMENT) * ALIGNMENT
        return self.prepared_places[weight], new

    def settle(self) -> None:
        """A set is done; the next one keeps to what it chose."""
        for choices in (self.layouts, self.winograd, self.kernels):
            choices.settle()
        self._digests.clear()
