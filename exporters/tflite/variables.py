"""Variables of TensorFlow Lite, which keep their values from run to run: an input and an output of the ONNX model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import Array, NotConverted, OnnxBuilder
from dlpack.exporters.tflite.files import Tensor

VARIABLES = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE")


@dataclass
class State:
    """A variable that is read: the model's input, what it holds now, its output once there is one."""

    tensor: Tensor
    input: str
    value: str
    output: str = ""


class Variables:
    """The variables of a file by name. The model begins with zeros; other first values are refused."""

    def __init__(self, g: OnnxBuilder) -> None:
        self.g = g
        self._states: dict[str, State] = {}
        self._written: dict[str, str] = {}  # before they are read
        self._first: dict[str, Array] = {}
        self._beginning = False

    @contextmanager
    def beginning(self) -> Iterator[None]:
        """What is assigned inside are first values."""
        self._beginning = True
        try:
            yield
        finally:
            self._beginning = False

    def read(self, name: str, tensor: Tensor, dtype: np.dtype[Any]) -> str:
        """The value, which is stored as `tensor` is."""
        if name in self._written:
            return self._written[name]
        if name not in self._states:
            first, q = self._first.get(name), tensor.quantization
            if first is not None and (first != (q.zero[0] if q is not None and first.dtype.kind != "f" else 0)).any():
                raise NotConverted("a variable that begins with other values than zeros")
            made = self.g.input(name, tensor.shape, dtype)
            self._states[name] = State(tensor, made, made)
        state = self._states[name]
        if state.tensor.shape != tensor.shape or self.g.dtype(state.input) != dtype:
            raise ModelError(f"the variable '{name}' is read in two shapes or types")
        return state.value

    def assign(self, name: str, value: str) -> None:
        if self._beginning:
            known = self.g.value(value)
            if known is None:
                raise NotConverted("a computed first value of a variable")
            self._first[name] = known
        elif name in self._states:
            state = self._states[name]
            if self.g.shape(value) != self.g.shape(state.input) or self.g.dtype(value) != self.g.dtype(state.input):
                raise ModelError(f"the variable '{name}' is assigned a value of another shape or type")
            state.value = value
        else:
            self._written[name] = value

    def outputs(self) -> list[str]:
        """The outputs NAME_next, of all that are assigned, after the last operator."""
        for state in self._states.values():
            if state.value != state.input:
                name = f"{state.input}_next"
                with self.g.scope(name):
                    (state.output,) = self.g.publish([self.g.op("Identity", state.value)], [name], name)
        return [state.output for state in self._states.values() if state.output]

    def named(self) -> list[tuple[Tensor, str]]:
        """All inputs and outputs, and what they are stored as."""
        return [(s.tensor, name) for s in self._states.values() for name in (s.input, s.output) if name]
