"""What converters of several frameworks share: creating nodes for a call, and a table of converters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from onnx import helper

from dlpack.errors import ModelError
from dlpack.exporters.builder import OnnxBuilder, Shape

Converter = TypeVar("Converter", bound=Callable[..., Any])


class Nodes:
    """Base class of a framework's call: creates nodes with one output in its graph `g`."""

    g: OnnxBuilder

    def op_(self, kind: str, *inputs: str, **attrs: Any) -> str:
        return str(self.g.op(kind, *inputs, **attrs))

    def scalar(self, value: float) -> str:
        return self.g.scalar(value)

    def cast(self, x: str, dtype: Any) -> str:
        if self.g.dtype(x) == np.dtype(dtype):
            return x
        return self.op_("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


class Inputs(Nodes):
    """Base class of a call whose inputs have numbers: `x(i)` is the value of input i."""

    inputs: list[str]

    def x(self, i: int = 0) -> str:
        if i >= len(self.inputs):
            raise ModelError(f"it has {len(self.inputs)} inputs; input {i} is missing")
        return self.inputs[i]

    def shape(self, i: int = 0) -> Shape:
        return self.g.shape(self.x(i))

    def rank(self, i: int = 0) -> int:
        return len(self.shape(i))


def from_front(axis: int, rank: int, what: str) -> int:
    """The dimension `axis`, counted from the front. Raises ModelError, which calls it `what`, if there is none."""
    if not -rank <= axis < rank:
        raise ModelError(f"its {what} does not fit an input of {rank} dimensions")
    return axis % rank


def entering(table: dict[str, Converter], names: tuple[str, ...], what: str) -> Callable[[Converter], Converter]:
    """A decorator that registers a converter in `table` under these names, which must be unused."""

    def enter(function: Converter) -> Converter:
        for name in names:
            if name in table:
                raise ValueError(f"{what} {name} is entered twice")
            table[name] = function
        return function

    return enter
