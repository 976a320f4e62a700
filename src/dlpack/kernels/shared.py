"""What the sets of input shapes of one program share: each weight once and in one layout, and kernels.

The first set chooses freely. What it has settled binds those that follow, so that they read the same weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

from dlpack.graph.ir import Array, Graph
from dlpack.loops.ir import Kernel
from dlpack.loops.layout import Layout

T = TypeVar("T")


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


class Shared:
    """The weights so far, in `blob`; what is settled of weights, by their contents, and of kernels, by their jobs."""

    def __init__(self) -> None:
        self.blob = bytearray()
        self.prepared = 0  # bytes of weights that are computed when a predictor is made
        self.places: Choices[int] = Choices()  # where bytes lie, in the blob or among the prepared weights
        self.layouts: Choices[Layout | None] = Choices()  # of a weight; None: not packed
        self.winograd: Choices[int] = Choices()  # the tile of a weight's convolution, 0: it is not Winograd's
        self.kernels: Choices[tuple[Kernel, str, Mapping[int, Layout]]] = Choices()
        self._digests: dict[int, tuple[Array, str]] = {}

    def digest(self, graph: Graph, constant: str) -> str:
        """A constant's identity: its type, shape and elements, or what it is derived from."""
        if constant in graph.derived:
            return f"{graph.types[constant].shape} derived from {self.digest(graph, graph.derived[constant])}"
        array = graph.constants[constant]
        if id(array) not in self._digests:
            digest = hashlib.sha256(f"{array.dtype.name} {array.shape} ".encode())
            digest.update(array.tobytes())
            self._digests[id(array)] = array, digest.hexdigest()
        return self._digests[id(array)][1]

    def settle(self) -> None:
        """A set is done; the next one keeps to what it chose."""
        for choices in (self.places, self.layouts, self.winograd, self.kernels):
            choices.settle()
        self._digests.clear()
