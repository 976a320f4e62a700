"""The call of one TensorFlow Lite operator, as its converter sees it, and the table of converters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from onnx import TensorProto, helper

from dlpack.errors import ModelError
from dlpack.exporters.builder import Array, NotConverted, OnnxBuilder, Shape
from dlpack.exporters.call import Nodes, entering, from_front
from dlpack.exporters.tflite.files import Tensor
from dlpack.exporters.tflite.schema import ACTIVATIONS

Converter = Callable[["Call"], Any]
CONVERTERS: dict[str, Converter] = {}
MOVES: set[str] = set()
"""Operators that only move elements: between equally quantised values they work on the stored integers."""


class Values(Protocol):
    """What `tflite.Conversion` offers to calls."""

    def stored(self, tensor: int) -> str: ...
    def real(self, tensor: int) -> str: ...
    def channels_first(self, value: str) -> str: ...
    def channels_last(self, value: str) -> str: ...
    def dequantize(self, value: str, tensor: Tensor, axis: int) -> str: ...
    def begin(self, tensor: int) -> str: ...
    def keep(self, tensor: int, value: str) -> None: ...


@dataclass
class Call(Nodes):
    """One operator: `x(i)` is the value of input i, `p` its options; new nodes go to `g`.

    Quantised inputs come as real numbers; where `as_stored`, all come as the integers that are stored. A converter
    returns the name of its output, or a list of them, of the same kind.
    """

    g: OnnxBuilder
    op: str
    p: Mapping[str, Any]
    inputs: Sequence[int]
    outputs: Sequence[int]
    tensors: Sequence[Tensor]
    values: Values
    as_stored: bool = False

    def has(self, i: int) -> bool:
        return i < len(self.inputs) and self.inputs[i] >= 0

    def tensor(self, i: int) -> Tensor:
        if not self.has(i):
            raise ModelError(f"it has {len(self.inputs)} inputs; input {i} is missing")
        return self.tensors[self.inputs[i]]

    def output(self, i: int = 0) -> Tensor:
        if i >= len(self.outputs):
            raise ModelError(f"it has {len(self.outputs)} outputs; output {i} is missing")
        return self.tensors[self.outputs[i]]

    def x(self, i: int = 0) -> str:
        self.tensor(i)
        return self.values.stored(self.inputs[i]) if self.as_stored else self.values.real(self.inputs[i])

    def all(self) -> list[str]:
        return [self.x(i) for i in range(len(self.inputs))]

    def shape(self, i: int = 0) -> Shape:
        self.tensor(i)
        return self.g.shape(self.values.stored(self.inputs[i]))

    def known(self, i: int, what: str) -> Array:
        """An input that must be a constant, as it is stored."""
        value = self.value(i)
        if value is None:
            raise NotConverted(f"{what} that is computed while the model runs")
        return value

    def value(self, i: int) -> Array | None:
        """A constant input, as it is stored; None for others."""
        self.tensor(i)
        return self.g.value(self.values.stored(self.inputs[i]))

    def ints(self, i: int, what: str) -> list[int]:
        return [int(v) for v in self.known(i, what).reshape(-1)]

    def weight(self, i: int, order: Sequence[int]) -> str:
        """Input i with its dimensions in another order, as real numbers; a constant is brought into it now."""
        tensor = self.tensor(i)
        stored = self.values.stored(self.inputs[i])
        if len(order) != len(self.g.shape(stored)):
            raise ModelError(
                f"its weight has the shape {list(self.g.shape(stored))}; {len(order)} dimensions are needed"
            )
        value = self.g.value(stored)
        if value is not None:
            moved = self.g.constant(np.ascontiguousarray(value.transpose(tuple(order))), tensor.name or "weight")
        else:
            moved = self.op_("Transpose", stored, perm=list(order))
        axis = tensor.quantization.axis if tensor.quantization else 0
        return self.values.dequantize(moved, tensor, order.index(axis) if axis < len(order) else 0)

    def array(self, i: int, what: str) -> Array | None:
        """A constant input as float32 numbers; None where it is left out."""
        if not self.has(i):
            return None
        value, q = self.known(i, what), self.tensor(i).quantization
        if value.dtype.kind == "f" or q is None:
            return value.astype(np.float32)
        shape = [-1 if d == q.axis and q.scale.size > 1 else 1 for d in range(value.ndim)]
        return ((value.astype(np.float64) - q.zero.reshape(shape)) * q.scale.reshape(shape)).astype(np.float32)

    def axis(self, axis: int, rank: int) -> int:
        return from_front(axis, rank, f"dimension {axis}")

    def state(self, i: int, kept: bool) -> str:
        """The first value of a variable, as real numbers; where it is `kept` from run to run, an input of the model."""
        if not kept:
            tensor = self.tensor(i)
            if not tensor.variable or tensor.data is not None:
                return self.x(i)
            return self.g.filled(tensor.shape, 0)
        return self.values.begin(self.inputs[i])

    def keep(self, i: int, value: str) -> None:
        """Makes `value`, real numbers, what the variable holds in the next run: an output of the model."""
        self.values.keep(self.inputs[i], value)

    def activated(self, y: str) -> str:
        """`y` after the activation that is fused into the operator."""
        code = self.p.get("activation", 0)
        kind = ACTIVATIONS[code] if 0 <= code < len(ACTIVATIONS) else f"number {code}"
        return activate(self, kind, y) if kind else y


def activate(c: Call, kind: str, y: str) -> str:
    limits = {"RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0), "RELU_0_TO_1": (0.0, 1.0)}
    if kind == "RELU":
        return c.op_("Relu", y)
    if kind == "TANH":
        return c.op_("Tanh", y)
    if kind in limits:
        low, high = limits[kind]
        return c.op_("Clip", y, c.g.scalar(low, y), c.g.scalar(high, y))
    raise NotConverted(f"the activation {kind}")


def chosen(g: OnnxBuilder, condition: str, a: str, b: str) -> str:
    """a where the condition holds, else b; ONNX's runtimes choose among few types."""
    kind = g.dtype(a)
    if kind in (np.float32, np.int32, np.int64, np.uint8):
        return str(g.op("Where", condition, a, b))
    made = g.op("Where", condition, *(g.op("Cast", v, to=TensorProto.INT32) for v in (a, b)))
    return str(g.op("Cast", made, to=helper.np_dtype_to_tensor_dtype(kind)))


def converts(*names: str, moves: bool = False) -> Callable[[Converter], Converter]:
    """Registers a converter for operators with these names; `moves`: they only move elements."""
    if moves:
        MOVES.update(names)
    return entering(CONVERTERS, names, "TensorFlow Lite operator")
