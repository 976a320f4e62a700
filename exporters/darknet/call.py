"""The call of one Darknet layer, as its converter sees it, the table of converters, and the activations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from dlpack.errors import ModelError
from dlpack.exporters.builder import Array, NotConverted, OnnxBuilder, Shape
from dlpack.exporters.call import Nodes, entering
from dlpack.exporters.darknet.files import Section, Weights

Converter = Callable[["Layer"], str]
CONVERTERS: dict[str, Converter] = {}


@dataclass
class Layer(Nodes):
    """One layer: `x` is the value of the layer before it, `value(i)` that of another one, `p` its options."""

    g: OnnxBuilder
    name: str
    p: Section
    x: str
    values: list[str]
    """Of all layers before."""
    weights: Weights
    net: Shape
    """The network's input."""
    heads: list[tuple[str, str]]
    """What detection layers have found: boxes and scores."""

    @property
    def index(self) -> int:
        return len(self.values)

    def shape(self, value: str | None = None) -> Shape:
        return self.g.shape(value or self.x)

    def picture(self) -> Shape:
        """The input's shape, which must be that of a picture: N, C, H, W."""
        shape = self.shape()
        if len(shape) != 4:
            raise ModelError(f"its input {list(shape)} is not a picture")
        return shape

    def value(self, number: int) -> str:
        """The value of layer `number`, counted from this one backwards if negative."""
        at = self.index + number if number < 0 else number
        if not 0 <= at < self.index:
            raise ModelError(f"layer {number} is not an earlier one")
        return self.values[at]

    def array(self, part: str, shape: Shape) -> str:
        return self.g.constant(self.weights.take(shape), f"{self.name}_{part}")

    def known(self, part: str, values: Array) -> str:
        return self.g.constant(values, f"{self.name}_{part}")

    def activated(self, x: str, default: str = "linear") -> str:
        return activate(self, x, self.p.text("activation", default))


def converts(*names: str) -> Callable[[Converter], Converter]:
    """Registers a converter for Darknet layers of these kinds."""
    return entering(CONVERTERS, names, "Darknet layer")


def activate(n: Nodes, x: str, kind: str) -> str:
    """Darknet's activation of this name."""
    if kind == "linear":
        return x
    if kind in _UNARY:
        return n.op_(_UNARY[kind], x)
    if kind in ("leaky", "relie"):
        return n.op_("LeakyRelu", x, alpha=0.1 if kind == "leaky" else 0.01)
    if kind in _MADE:
        return _MADE[kind](n, x)
    raise NotConverted(f"activation={kind[:20]}")


def _times(n: Nodes, x: str, factor: float) -> str:
    return n.op_("Mul", x, n.g.scalar(factor))


def _clip(n: Nodes, x: str, low: float, high: float) -> str:
    return n.op_("Clip", x, n.g.scalar(low), n.g.scalar(high))


def _gelu(n: Nodes, x: str) -> str:
    cubed = n.op_("Mul", n.op_("Mul", x, x), x)
    inner = n.op_("Add", _times(n, x, math.sqrt(2 / math.pi)), _times(n, cubed, 0.044715 * math.sqrt(2 / math.pi)))
    return n.op_("Mul", _times(n, x, 0.5), n.op_("Add", n.op_("Tanh", inner), n.g.scalar(1.0)))


def _hard_mish(n: Nodes, x: str) -> str:
    """x above 0, x * (x + 2) / 2 down to -2, else 0."""
    return _times(n, n.op_("Mul", x, _clip(n, n.op_("Add", x, n.g.scalar(2.0)), 0.0, 2.0)), 0.5)


_UNARY = {"relu": "Relu", "logistic": "Sigmoid", "tanh": "Tanh", "elu": "Elu", "selu": "Selu"}
_MADE: dict[str, Callable[[Nodes, str], str]] = {
    "mish": lambda n, x: n.op_("Mul", x, n.op_("Tanh", n.op_("Softplus", x))),
    "swish": lambda n, x: n.op_("Mul", x, n.op_("Sigmoid", x)),
    "relu6": lambda n, x: _clip(n, x, 0.0, 6.0),
    "hardtan": lambda n, x: _clip(n, x, -1.0, 1.0),
    "loggy": lambda n, x: n.op_("Sub", _times(n, n.op_("Sigmoid", x), 2.0), n.g.scalar(1.0)),
    "ramp": lambda n, x: n.op_("Add", n.op_("Relu", x), _times(n, x, 0.1)),
    "gelu": _gelu,
    "hard_mish": _hard_mish,
}
