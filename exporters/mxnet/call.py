"""The call of one MXNet operator, as its converter sees it, and the table of converters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import OnnxBuilder, Shape
from dlpack.exporters.call import Nodes, entering, from_front
from dlpack.exporters.mxnet.files import Attributes

Converter = Callable[["Call"], Any]
CONVERTERS: dict[str, Converter] = {}


@dataclass
class Call(Nodes):
    """One node: `x(i)` is the value of input i, `p` its parameters; new nodes go to `g`.

    A converter returns the name of its output, or a list of them.
    """

    g: OnnxBuilder
    name: str
    op: str
    p: Attributes
    inputs: list[Callable[[], str]]
    parameter: Callable[[str], str | None]
    version: int
    states: dict[int, Callable[[Shape], str]] = field(default_factory=dict)
    """Inputs whose shape is open, and the function that fixes it."""

    def x(self, i: int = 0) -> str:
        if i >= len(self.inputs):
            raise ModelError(f"it has {len(self.inputs)} inputs; input {i} is missing")
        return self.inputs[i]()

    def weight(self, i: int, argument: str) -> str:
        """Input i; old files leave a parameter out, then it is the array NAME_ARGUMENT."""
        if i < len(self.inputs):
            return self.inputs[i]()
        value = self.parameter(f"{self.name}_{argument}")
        if value is None:
            raise ModelError(f"its input '{argument}' is missing, and the weights have no '{self.name}_{argument}'")
        return value

    def all(self) -> list[str]:
        return [get() for get in self.inputs]

    def shape(self, value: str) -> Shape:
        return self.g.shape(value)

    def axis(self, rank: int, default: int, key: str = "axis") -> int:
        """A parameter that names a dimension, counted from the front."""
        return self.norm(self.p.int(key, default), rank, key)

    def norm(self, axis: int, rank: int, key: str = "axis") -> int:
        return from_front(axis, rank, f"parameter {key}={axis}")

    def number(self, key: str, default: float | None = None) -> float:
        """A parameter that MXNet 2 keeps by its type: `KEY_int`, `KEY_uint` or `KEY_double`."""
        if "value_type" in self.p:
            kind = ("int", "uint", "double")[min(2, max(0, self.p.int("value_type")))]
            key = next((k for k in (f"{key}_{kind}", f"{kind}_{key}") if k in self.p), key)
        return self.p.float(key, default)

    def floating(self, x: str) -> str:
        return x if self.g.dtype(x).kind == "f" else self.cast(x, np.float32)

    def same(self, a: str, b: str) -> tuple[str, str, Any]:
        """Both in one element type, which comes last."""
        kind: Any = np.result_type(self.g.dtype(a), self.g.dtype(b))
        if self.g.dtype(a) != self.g.dtype(b) and "f" in (self.g.dtype(a).kind, self.g.dtype(b).kind):
            kind = np.dtype(np.float32)
        return self.cast(a, kind), self.cast(b, kind), kind


def converts(*names: str) -> Callable[[Converter], Converter]:
    """Enters a converter for MXNet operators of these names."""
    return entering(CONVERTERS, names, "MXNet operator")
