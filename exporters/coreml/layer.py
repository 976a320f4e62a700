"""The call of one layer of a Core ML neural network, as its converter sees it, and the table of converters.

The layers of the first versions see five dimensions, [sequence, batch, channel, height, width]. Here they see four, the
first two as one: all of them treat both alike but the recurrent ones, for which one of the two must be 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dlpack.errors import ModelError
from dlpack.exporters.builder import Array, OnnxBuilder, Shape
from dlpack.exporters.call import Inputs, entering, from_front
from dlpack.exporters.coreml.files import Message
from dlpack.exporters.coreml.weights import weights
from dlpack.exporters.layers import reshape

Converter = Callable[["Layer"], Any]
CONVERTERS: dict[str, Converter] = {}


@dataclass
class Layer(Inputs):
    """One layer: `x(i)` is the value of input i, `p` its parameters' message.

    A converter returns its outputs' values: one name, or a list of them.
    """

    g: OnnxBuilder
    name: str
    type: str
    p: Message
    inputs: list[str]
    outputs: int

    def picture(self, i: int = 0) -> str:
        """Input i as [batch, channel, height, width]; the dimensions before these become the batch."""
        shape = self.shape(i)
        if len(shape) < 3:
            raise ModelError(f"its input {list(shape)} has no channel, height and width")
        lead = 1
        for d in shape[:-3]:
            lead *= d
        return reshape(self.g, self.x(i), (lead, *shape[-3:]))

    def back(self, y: str, i: int = 0) -> str:
        """A result for `picture(i)` with the dimensions before the channel as input i has them."""
        return reshape(self.g, y, (*self.shape(i)[:-3], *self.g.shape(y)[1:]))

    def array(self, field: int, shape: Shape, axis: int = 0) -> Array:
        return weights(self.p.message(field), shape, axis)

    def weight(self, field: int, shape: Shape, label: str = "weight", axis: int = 0) -> str:
        return self.g.constant(self.array(field, shape, axis), f"{self.name}_{label}")

    def per_channel(self, message: Message) -> str:
        """Weights of one value or one for each channel, shaped to broadcast over the input."""
        shape = self.shape()
        if len(shape) < 3:
            raise ModelError(f"its input {list(shape)} has no channels")
        count = 1 if message.numbers(1, "<f4").size == 1 else shape[-3]
        return self.g.constant(weights(message, (count,)).reshape(count, 1, 1))

    def pair(self, field: int, default: int) -> list[int]:
        """Two positive numbers, for height and width."""
        found = self.p.wholes(field) or [default, default]
        if len(found) != 2 or any(not 0 < v < 1 << 20 for v in found):
            raise ModelError(f"{found[:8]} are no two sizes, for height and width")
        return found

    def axes(self, found: Sequence[int], rank: int | None = None) -> list[int]:
        rank = self.rank() if rank is None else rank
        return [from_front(a, rank, f"axis {a}") for a in found]

    def axis(self, field: int) -> int:
        return self.axes([self.signed(field)])[0]

    def signed(self, field: int) -> int:
        return (self.p.wholes(field) or [0])[-1]


def converts(*names: str) -> Callable[[Converter], Converter]:
    """Registers a converter for layers of these types."""
    return entering(CONVERTERS, names, "Core ML layer")
