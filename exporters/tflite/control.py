"""TensorFlow Lite's loops and branches.

Loops whose end is constant are unrolled, others become ONNX's Loop. A branch that is constant is taken; of others both
are computed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from onnx import helper

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted, OnnxBuilder
from dlpack.exporters.layers import reshape
from dlpack.exporters.tflite.call import chosen
from dlpack.exporters.tflite.files import Operator, Subgraph, TFLiteModel

MAX_STEPS = 1024
"""Of a loop that is unrolled."""
_STATEFUL = frozenset({"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE"})


class Inside(NotConverted):
    """Something in a subgraph is not supported, which `problems` says."""


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
    turned: dict[str, str]
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
                results = self._repeat(operator, values)
            if len(results) != len(operator.outputs):
                raise ModelError(f"{where}: it has {len(operator.outputs)} outputs, its subgraph {len(results)}")
        except Inside:
            return False
        except NotConverted as e:
            self.problems.append(f"{where}: {e} is not supported")
            return False
        except IndexError as e:
            raise ModelError(f"{where}: it has too few inputs, or its subgraph too few outputs") from e
        for k, value in zip(operator.outputs, results, strict=True):
            self.frame.stored[k] = value
        return True

    def _repeat(self, operator: Operator, values: list[str]) -> list[str]:
        """What a loop makes of the values."""
        condition, body = operator.options["condition"], operator.options["body"]
        results, start, label = values, len(self.g.nodes), self._label(operator)
        for _ in range(MAX_STEPS):
            going = self._call(condition, results)[0]
            if self.g.value(going) is None:
                return self._loop(label, condition, body, results, going)
            if not self._truth(going, "a loop"):
                return results
            results = self._call(body, results)
        del self.g.nodes[start:]
        return self._loop(label, condition, body, values, self._call(condition, values)[0])

    def _loop(self, label: str, condition: int, body: int, values: list[str], going: str) -> list[str]:
        """ONNX's Loop from these values on; `going`: whether it makes a first trip."""
        g = self.g
        for index in (condition, body):
            if any(o.kind in _STATEFUL for o in self._subgraph(index).operators):
                raise NotConverted("a loop that depends on the model's inputs and reads or assigns a variable")
        turned = dict(self.turned)
        with g.body() as nodes:
            inputs = [g.argument("trip", (), np.int64), g.argument("going", (), np.bool_)]
            inputs += [g.argument("state", g.shape(v), g.dtype(v)) for v in values]
            after = self._call(body, inputs[2:])
            for a, b in zip(values, after, strict=True):
                if g.shape(a) != g.shape(b) or g.dtype(a) != g.dtype(b):
                    raise NotConverted("a loop that depends on the model's inputs, whose values change their shape")
            outputs: list[str] = []
            for value in (reshape(g, self._call(condition, after)[0], ()), *after):
                made = any(value in n.output for n in nodes) and value not in outputs
                outputs.append(value if made else str(g.op("Identity", value)))
            graph = helper.make_graph(nodes, "body", [g.info(n) for n in inputs], [g.info(n) for n in outputs])
        self.turned = turned  # what was made inside is not known outside
        types = [(g.dtype(v), g.shape(v)) for v in values]
        with g.scope(label):
            made = g.op("Loop", "", reshape(g, going, ()), *values, outputs=len(types), types=types, body=graph)
        return [made] if len(types) == 1 else list(made)

    def _both(self, operator: Operator, values: list[str]) -> list[str]:
        """What both branches compute, of which the condition chooses."""
        if self.problems:
            raise Inside
        branches = [operator.options["then"], operator.options["otherwise"]]
        for index in branches:
            inside = self._subgraph(index).operators
            if any(o.kind in ("ASSIGN_VARIABLE", "IF", "WHILE") for o in inside):
                raise NotConverted("a branch that depends on the model's inputs and assigns a variable or has another")
        results = []
        for a, b in zip(*(self._call(index, values[1:]) for index in branches), strict=True):
            kind = self.g.dtype(a)
            if self.g.shape(a) != self.g.shape(b) or kind != self.g.dtype(b):
                raise NotConverted("a branch that depends on the model's inputs, with results of other shapes or types")
            results.append(chosen(self.g, reshape(self.g, values[0], ()), a, b))
        return results

    def _truth(self, value: str, what: str) -> bool:
        known = self.g.value(value)
        if self.problems:
            raise Inside
        if known is None or known.size != 1:
            raise NotConverted(f"{what} that depends on the model's inputs")
        return bool(known.reshape(-1)[0])

    def _subgraph(self, index: int) -> Subgraph:
        if not 0 < index < len(self.model.subgraphs):
            raise ModelError("a loop or branch names a subgraph that the file does not hold")
        return self.model.subgraphs[index]

    def _call(self, index: int, values: list[str]) -> list[str]:
        """A subgraph's outputs for the given inputs."""
        frame = Frame(self._subgraph(index))
        if len(values) != len(frame.subgraph.inputs):
            raise ModelError("a loop or branch gives its subgraph another number of inputs than that has")
        frame.stored.update(zip(frame.subgraph.inputs, values, strict=True))
        self.convert(frame)
        if self.problems:
            raise Inside
        before, self.frame = self.frame, frame
        results = [self.stored(k) for k in frame.subgraph.outputs]
        self.frame = before
        return results
