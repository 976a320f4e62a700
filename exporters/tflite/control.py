"""TensorFlow Lite's loops and branches: unrolled where what decides them is constant, else both branches computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted, OnnxBuilder
from dlpack.exporters.layers import reshape
from dlpack.exporters.tflite.files import Operator, Subgraph, TFLiteModel

MAX_STEPS = 1024
"""Of a loop."""


class Frame:
    """A subgraph under conversion: the values of its tensors, as stored and as real numbers."""

    def __init__(self, subgraph: Subgraph) -> None:
        self.subgraph = subgraph
        self.stored: dict[int, str] = {}
        self.real: dict[int, str] = {}
        self.handles: dict[int, str] = {}  # tensor → the name of the variable that it stands for

    def handle(self, tensor: int) -> str:
        if tensor not in self.handles:
            raise NotConverted("a variable without a name of its own")
        return self.handles[tensor]


class Control(ABC):
    """What a conversion does with operators that run subgraphs."""

    model: TFLiteModel
    g: OnnxBuilder
    frame: Frame
    problems: list[str]

    @abstractmethod
    def stored(self, tensor: int) -> str: ...

    @abstractmethod
    def convert(self, frame: Frame) -> None: ...

    def _label(self, operator: Operator) -> str:
        tensors = self.frame.subgraph.tensors
        return (tensors[operator.outputs[0]].name if operator.outputs else "") or operator.kind

    def _control(self, operator: Operator) -> bool:
        label = self._label(operator)
        where = f"'{label}' ({operator.kind})"
        try:
            values = [self.stored(i) for i in operator.inputs]
            if operator.kind == "IF" and self.g.value(values[0]) is None:
                results = self._both(operator, values)
            elif operator.kind == "IF":
                chosen = self._truth(values[0], "a branch")
                results = self._call(operator.options["then" if chosen else "otherwise"], values[1:])
            else:
                results, steps = values, 0
                while self._truth(self._call(operator.options["condition"], results)[0], "a loop"):
                    results = self._call(operator.options["body"], results)
                    steps += 1
                    if steps > MAX_STEPS:
                        raise NotConverted(f"a loop of more than {MAX_STEPS} steps")
            if len(results) != len(operator.outputs):
                raise ModelError(f"{where}: it has {len(operator.outputs)} outputs, its subgraph {len(results)}")
        except NotConverted as e:
            self.problems.append(f"{where}: {e} is not supported")
            return False
        except IndexError as e:
            raise ModelError(f"{where}: it has too few inputs, or its subgraph too few outputs") from e
        for k, value in zip(operator.outputs, results, strict=True):
            self.frame.stored[k] = value
        return True

    def _both(self, operator: Operator, values: list[str]) -> list[str]:
        """What both branches compute, of which the condition chooses."""
        if self.problems:
            raise NotConverted("a branch around operators that are not supported")
        branches = [operator.options["then"], operator.options["otherwise"]]
        for index in branches:
            inside = self.model.subgraphs[index].operators if 0 < index < len(self.model.subgraphs) else ()
            if any(o.kind in ("ASSIGN_VARIABLE", "IF", "WHILE") for o in inside):
                raise NotConverted("a branch that depends on the model's inputs and assigns a variable or has another")
        results = []
        for a, b in zip(*(self._call(index, values[1:]) for index in branches), strict=True):
            kind = self.g.dtype(a)
            if self.g.shape(a) != self.g.shape(b) or kind != self.g.dtype(b):
                raise NotConverted("a branch that depends on the model's inputs, with results of other shapes or types")
            results.append(self._chosen(reshape(self.g, values[0], ()), a, b, kind))
        return results

    def _chosen(self, condition: str, a: str, b: str, kind: np.dtype[Any]) -> str:
        """a where the condition holds, else b; ONNX's runtimes choose among few types."""
        if kind in (np.float32, np.int32, np.int64, np.uint8):
            return str(self.g.op("Where", condition, a, b))
        wide = [str(self.g.op("Cast", v, to=TensorProto.INT32)) for v in (a, b)]
        made = self.g.op("Where", condition, *wide)
        return str(self.g.op("Cast", made, to=helper.np_dtype_to_tensor_dtype(kind)))

    def _truth(self, value: str, what: str) -> bool:
        known = self.g.value(value)
        if self.problems:
            raise NotConverted(f"{what} around operators that are not supported")
        if known is None or known.size != 1:
            raise NotConverted(f"{what} that depends on the model's inputs")
        return bool(known.reshape(-1)[0])

    def _call(self, index: int, values: list[str]) -> list[str]:
        """A subgraph's outputs for the given inputs."""
        if not 0 < index < len(self.model.subgraphs):
            raise ModelError("a loop or branch names a subgraph that the file does not hold")
        frame = Frame(self.model.subgraphs[index])
        if len(values) != len(frame.subgraph.inputs):
            raise ModelError("a loop or branch gives its subgraph another number of inputs than that has")
        frame.stored.update(zip(frame.subgraph.inputs, values, strict=True))
        self.convert(frame)
        if self.problems:
            raise NotConverted("a subgraph with operators that are not supported")
        before, self.frame = self.frame, frame
        results = [self.stored(k) for k in frame.subgraph.outputs]
        self.frame = before
        return results
