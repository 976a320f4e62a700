"""The call of one ncnn layer, as its converter sees it, the table of converters, and fused activations.

ncnn's blobs have one to four dimensions: w; h, w; c, h, w; c, d, h, w. Here each has a batch of 1 before them, so that
ncnn's axis k is dimension k + 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dlpack.errors import ModelError
from dlpack.exporters.builder import Array, NotConverted, OnnxBuilder, Shape
from dlpack.exporters.call import Inputs, Nodes, entering, from_front
from dlpack.exporters.ncnn.files import Line, Weights

Converter = Callable[["Layer"], Any]
CONVERTERS: dict[str, Converter] = {}


@dataclass
class Layer(Inputs):
    """One layer: `x(i)` is the value of input i, `p` its parameters.

    A converter returns its outputs' values: one name, or a list of them.
    """

    g: OnnxBuilder
    p: Line
    inputs: list[str]
    weights: Weights

    @property
    def type(self) -> str:
        return self.p.type

    def dims(self, i: int = 0) -> int:
        """How many dimensions ncnn's blob has."""
        return len(self.shape(i)) - 1

    def picture(self, i: int = 0) -> Shape:
        """The input's shape, which must be 1, C, H, W."""
        shape = self.shape(i)
        if len(shape) != 4:
            raise NotConverted(f"an input of {len(shape) - 1} dimensions")
        return shape

    def axis(self, key: int, default: int = 0, i: int = 0) -> int:
        return self.place(self.p.int(key, default), i)

    def place(self, axis: int, i: int = 0) -> int:
        """The dimension here of ncnn's axis."""
        return from_front(axis, self.dims(i), f"axis {axis}") + 1

    def known(self, part: str, values: Array) -> str:
        return self.g.constant(values, f"{self.p.name}_{part}")

    def plain(self, part: str, shape: Shape) -> str:
        """Weights that the .bin stores as float32s."""
        return self.known(part, self.weights.plain(math.prod(shape)).reshape(shape))

    def tagged(self, part: str, shape: Shape) -> str:
        """Weights that the .bin stores behind a tag, as float32."""
        array = self.weights.tagged(math.prod(shape))
        if array.dtype != "float32":
            raise ModelError("its weights are int8 without a scale")
        return self.known(part, array.reshape(shape))

    def outer(self, part: str, count: int) -> str:
        """Plain weights, one for each place of the outermost dimension."""
        if count != self.shape()[1]:
            raise ModelError(f"its {count} weights do not fit an input of {list(self.shape()[1:])}")
        return self.plain(part, (count, *([1] * (self.dims() - 1))))

    def activated(self, y: str) -> str:
        """The activation of a convolution or product: parameters 9 and 10."""
        kind, given = self.p.int(9), self.p.floats(10)
        if kind == 0:
            return y
        if kind not in _FUSED or len(given) < _FUSED[kind]:
            raise NotConverted(f"activation_type={kind} with {len(given)} parameters")
        if kind == 1:
            return self.op_("Relu", y)
        if kind == 2:
            return self.op_("LeakyRelu", y, alpha=given[0])
        if kind == 3:
            return self.op_("Clip", y, self.scalar(given[0]), self.scalar(given[1]))
        if kind == 4:
            return self.op_("Sigmoid", y)
        return mish(self, y) if kind == 5 else hard_swish(self, y, given[0], given[1])


_FUSED = {1: 0, 2: 1, 3: 2, 4: 0, 5: 0, 6: 2}
"""Kind of activation → how many parameters it has."""


def converts(*names: str) -> Callable[[Converter], Converter]:
    """Registers a converter for ncnn layers of these types."""
    return entering(CONVERTERS, names, "ncnn layer")


def mish(n: Nodes, x: str) -> str:
    return n.op_("Mul", x, n.op_("Tanh", n.op_("Softplus", x)))


def hard_swish(n: Nodes, x: str, alpha: float, beta: float) -> str:
    return n.op_("Mul", x, n.op_("HardSigmoid", x, alpha=alpha, beta=beta))
