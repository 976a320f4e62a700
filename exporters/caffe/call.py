"""The call of one Caffe layer, as its converter sees it, and the table of converters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import Array, OnnxBuilder, Shape
from dlpack.exporters.caffe.files import Message
from dlpack.exporters.call import Nodes, entering, from_front

Converter = Callable[["Layer"], Any]
CONVERTERS: dict[str, Converter] = {}


@dataclass
class Layer(Nodes):
    """One layer: `x(i)` is the value of bottom i, `p(name)` a parameter block, `blob(i)` a weight.

    A converter returns its tops' values: one name, or a list of them.
    """

    g: OnnxBuilder
    name: str
    type: str
    message: Message
    bottoms: list[str]
    tops: int
    blobs: list[Array]
    read: set[int] = field(default_factory=set)
    """The weights that the converter has asked for."""

    def x(self, i: int = 0) -> str:
        if i >= len(self.bottoms):
            raise ModelError(f"it has {len(self.bottoms)} bottoms; bottom {i} is missing")
        return self.bottoms[i]

    def p(self, name: str) -> Message:
        return self.message.message(name)

    def shape(self, i: int = 0) -> Shape:
        return self.g.shape(self.x(i))

    def rank(self, i: int = 0) -> int:
        return len(self.shape(i))

    def blob(self, i: int, shape: Shape | None = None) -> str:
        """Weight i, reshaped: old files store every blob with four dimensions."""
        return self.g.constant(self.array(i, shape), f"{self.name}_{('weight', 'bias')[i] if i < 2 else f'blob{i}'}")

    def array(self, i: int, shape: Shape | None = None) -> Array:
        if i >= len(self.blobs):
            raise ModelError(f"the weights' file has {len(self.blobs)} blobs for it; it needs {i + 1}")
        self.read.add(i)
        array = self.blobs[i]
        if not array.size:
            raise ModelError(f"its weight {i} is empty")
        if shape is None:
            return array
        if int(np.prod(shape)) != array.size:
            raise ModelError(f"its weight {i} has the shape {list(array.shape)}, not {list(shape)}")
        return array.reshape(shape)

    def check_all_read(self) -> None:
        """Raises ModelError for superfluous weights, as Caffe does: ignoring them would change the result."""
        if surplus := sorted(set(range(len(self.blobs))) - self.read):
            shape = list(self.blobs[surplus[0]].shape)
            raise ModelError(
                f"the weights' file has {len(self.blobs)} blobs for it, and a layer with these parameters has "
                f"{len(self.read)}: blob {surplus[0]}, of the shape {shape}, would not be used; is the prototxt that "
                "of these weights?"
            )

    def axis(self, message: Message, default: int, rank: int, key: str = "axis") -> int:
        axis = message.int(key, default)
        return from_front(axis, rank, f"axis {axis}")


def converts(*names: str) -> Callable[[Converter], Converter]:
    """Registers a converter for Caffe layers of these types."""
    return entering(CONVERTERS, names, "Caffe layer")
