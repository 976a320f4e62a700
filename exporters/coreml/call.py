"""The call of one MIL operation, as its converter sees it, and the table of converters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import Array, NotConverted, OnnxBuilder, Shape
from dlpack.exporters.call import Nodes, entering, from_front

Converter = Callable[["Call"], Any]
CONVERTERS: dict[str, Converter] = {}


@dataclass(frozen=True)
class Constant:
    """A constant: an array, a text, or a list of texts."""

    value: Any


@dataclass
class Call(Nodes):
    """One operation: `x` is the value of an argument, `array`, `ints` ... are those of constant ones.

    A converter returns its outputs' values: one name, or a list of them.
    """

    g: OnnxBuilder
    type: str
    arguments: dict[str, list[str | Constant]]
    outputs: int

    def __contains__(self, name: str) -> bool:
        return name in self.arguments

    def all(self, name: str) -> list[str]:
        if name not in self.arguments:
            raise ModelError(f"its argument {name} is missing")
        return [self._tensor(v) for v in self.arguments[name]]

    def x(self, name: str = "x") -> str:
        return self.all(name)[0]

    def _tensor(self, value: str | Constant) -> str:
        if isinstance(value, str):
            return value
        if not isinstance(value.value, np.ndarray):
            raise ModelError("a text stands where a tensor is needed")
        return self.g.constant(value.value)

    def shape(self, name: str = "x") -> Shape:
        return self.g.shape(self.x(name))

    def constant(self, name: str) -> Any:
        """The constant's value; None without the argument."""
        if name not in self.arguments:
            return None
        value = self.arguments[name][0]
        if isinstance(value, Constant):
            return value.value
        array = self.g.value(value)
        if array is None:
            raise NotConverted(f"a computed {name}")
        return array

    def array(self, name: str) -> Array | None:
        value = self.constant(name)
        if value is not None and not isinstance(value, np.ndarray):
            raise ModelError(f"its {name} is no array")
        return value

    def ints(self, name: str, default: list[int] | None = None) -> list[int]:
        array = self.array(name)
        if array is None:
            if default is None:
                raise ModelError(f"its argument {name} is missing")
            return default
        return [int(v) for v in array.reshape(-1)[: 1 << 16]]

    def whole(self, name: str, default: int | None = None) -> int:
        return self.ints(name, None if default is None else [default])[0]

    def number(self, name: str, default: float) -> float:
        array = self.array(name)
        return default if array is None else float(array.reshape(-1)[0])

    def text(self, name: str, default: str) -> str:
        value = self.constant(name)
        return default if value is None else str(value)

    def axes(self, name: str, default: list[int] | None = None) -> list[int]:
        rank = self.g.rank(self.x())
        return [from_front(a, rank, f"axis {a}") for a in self.ints(name, default)]


def converts(*names: str) -> Callable[[Converter], Converter]:
    """Registers a converter for MIL operations of these types."""
    return entering(CONVERTERS, names, "MIL operation")
