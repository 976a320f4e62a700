"""What the numbers of inputs and outputs mean: the real numbers that integers stand for, and which are probabilities.

Both follow from operators that later stages rewrite: QuantizeLinear makes the integers of an output, DequantizeLinear
reads those of an input. Between these and the model's edge may lie operators that only move or select elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto

from dlpack.graph.ir import Array, Graph, Node
from dlpack.meaning.quantization import METADATA_KEY, Meaning, Quantization, from_metadata
from dlpack.model.infer import to_numpy

_OF_FIRST = frozenset(
    "Clip Compress DepthToSpace Expand Flatten Gather GatherElements GatherND Identity MaxPool Pad ReduceMax ReduceMin "
    "Relu Reshape Slice SpaceToDepth Split Squeeze Tile TopK Transpose Unsqueeze".split()
)
"""Operators whose first output (of Split all) holds elements of the first input, and bounds or fillings like them."""

_OF_ALL = frozenset(("Concat", "Max", "Min"))
"""Operators whose output holds elements of all inputs."""

_WRITES = {"QuantizeLinear": (1, 2), "QLinearConv": (6, 7), "QLinearMatMul": (6, 7)}
"""Operators with a quantised output: which operands are its scale and zero point."""

_READS = {
    "DequantizeLinear": ((0, 1, 2),),
    "QLinearConv": ((0, 1, 2),),
    "QLinearMatMul": ((0, 1, 2), (3, 4, 5)),
}
"""Operators with quantised inputs: which operands are an input, its scale and its zero point."""

_PROBABILITIES = frozenset(("Softmax", "Sigmoid"))
_SAME_NUMBERS = frozenset(("QuantizeLinear", "DequantizeLinear", "Cast"))
_INTEGERS = frozenset(("int8", "uint8", "int16", "uint16", "int32"))
_LARGEST = 1 << 16
"""Elements of a scale or a zero point that are looked at."""


def meanings(graph: Graph, metadata: Mapping[str, str]) -> dict[str, Meaning]:
    """Of each input and output. For quantisation, metadata takes precedence over operators."""
    dtypes = {name: graph.types[name].dtype for name in (*graph.inputs, *graph.outputs)}
    return _Edges(graph.nodes, graph.inputs, graph.outputs, graph.constants.get).meanings(dtypes, metadata)


def meanings_of_model(model: ModelProto, dtypes: Mapping[str, str]) -> dict[str, Meaning]:
    """The same of a model that is not cleaned yet; `dtypes` are those of inputs and outputs."""
    weights = {t.name: t for t in model.graph.initializer}
    inputs = [v.name for v in model.graph.input if v.name not in weights]
    for node in model.graph.node:
        if node.op_type == "Constant":
            weights.update((name, a.t) for name in node.output for a in node.attribute if a.name == "value")

    def constant(name: str) -> Array | None:
        t = weights.get(name)
        inside = t is not None and t.data_location != TensorProto.EXTERNAL and math.prod(t.dims) <= _LARGEST
        return to_numpy(t) if t is not None and inside else None

    nodes = [Node(n.op_type, tuple(n.input), tuple(n.output), domain=n.domain) for n in model.graph.node]
    edges = _Edges(nodes, inputs, [v.name for v in model.graph.output], constant)
    return edges.meanings(dtypes, {p.key: p.value for p in model.metadata_props})


def tell_quantization(model: ModelProto, tensors: Sequence[dict[str, Any]]) -> None:
    """Adds `quantization`, as a manifest has it, to inputs and outputs (name, dtype, shape) that are quantised."""
    found = meanings_of_model(model, {t["name"]: t["dtype"] for t in tensors})
    for tensor in tensors:
        meaning = found.get(tensor["name"])
        if meaning and meaning.quantization:
            tensor["quantization"] = meaning.quantization.to_json()


class _Edges:
    """Follows values from the inputs on and from the outputs back, through operators that only move elements."""

    def __init__(
        self,
        nodes: Sequence[Node],
        inputs: Sequence[str],
        outputs: Sequence[str],
        constant: Callable[[str], Array | None],
    ) -> None:
        self.inputs, self.outputs, self.constant = inputs, outputs, constant
        self.producers: dict[str, Node] = {}
        self.consumers: dict[str, list[Node]] = {}
        for node in nodes:
            if node.domain not in ("", "ai.onnx"):
                continue
            self.producers |= {name: node for name in node.outputs if name}
            for name in dict.fromkeys(node.inputs):
                self.consumers.setdefault(name, []).append(node)

    def meanings(self, dtypes: Mapping[str, str], metadata: Mapping[str, str]) -> dict[str, Meaning]:
        told = from_metadata(metadata[METADATA_KEY]) if METADATA_KEY in metadata else {}
        quantised: dict[str, Quantization | None] = {}
        for name in (*self.inputs, *self.outputs):
            if dtypes.get(name) in _INTEGERS:
                found = self.of_input(name) if name in self.inputs else self.of_output(name, quantised)
                quantised[name] = told.get(name, found)
        real = [n for n in self.outputs if quantised.get(n) or dtypes.get(n, "").startswith("float")]
        sure = {name for name in real if self.are_probabilities(name)}
        return {name: Meaning(quantised.get(name), name in sure) for name in (*self.inputs, *self.outputs)}

    def of_input(self, name: str) -> Quantization | None:
        """The one quantisation with which all that read the input's elements as real numbers read them."""
        found: set[Quantization | None] = set()
        for value in _reached(name, self.moved_to):
            for node in self.consumers.get(value, ()):
                for place, scale, zero in _READS.get(node.op, ()):
                    if node.inputs[place : place + 1] == (value,):
                        found.add(self.scaling(node, scale, zero))
        return found.pop() if len(found) == 1 else None

    def of_output(self, name: str, inputs: Mapping[str, Quantization | None]) -> Quantization | None:
        """The one quantisation of all elements that the output can have."""
        found: set[Quantization | None] = set()
        for value in _reached(name, self.moved_from):
            node = self.producers.get(value)
            if node is None:
                if value in self.inputs or self.constant(value) is None:
                    found.add(inputs.get(value))
            elif node.op in _WRITES:
                found.add(self.scaling(node, *_WRITES[node.op]))
            elif not self.moved_from(value):
                found.add(None)
        return found.pop() if len(found) == 1 else None

    def are_probabilities(self, name: str) -> bool:
        def back(value: str) -> Sequence[str]:
            node = self.producers.get(value)
            return node.inputs[:1] if node is not None and node.op in _SAME_NUMBERS else self.moved_from(value)

        values = [v for v in _reached(name, back) if not back(v) and self.constant(v) is None]
        ends = [self.producers.get(v) for v in values]
        return bool(ends) and all(node is not None and node.op in _PROBABILITIES for node in ends)

    def moved_from(self, value: str) -> Sequence[str]:
        """The values that hold the elements of this one, where nothing but a move makes it."""
        node = self.producers.get(value)
        if node is None:
            return ()
        if node.op in _OF_ALL:
            return node.inputs
        return node.inputs[:1] if node.op in _OF_FIRST and value in _moved(node) else ()

    def moved_to(self, value: str) -> Sequence[str]:
        """The values that hold elements of this one."""
        out: list[str] = []
        for node in self.consumers.get(value, ()):
            if node.op in _OF_ALL or (node.op in _OF_FIRST and node.inputs[0] == value):
                out += _moved(node)
        return out

    def scaling(self, node: Node, scale: int, zero: int) -> Quantization | None:
        """From a node's operands of these numbers; None where they are not constant, or not one for all elements."""
        names = [node.inputs[k] if k < len(node.inputs) else "" for k in (scale, zero)]
        s, z = self.constant(names[0]), self.constant(names[1]) if names[1] else np.zeros(1, np.int32)
        if (
            s is None
            or z is None
            or not 0 < s.size <= _LARGEST
            or not 0 < z.size <= _LARGEST
            or z.dtype.kind not in "iu"
        ):
            return None
        step, start = float(s.reshape(-1)[0]), int(z.reshape(-1)[0])
        whole = bool((s == s.reshape(-1)[0]).all() and (z == start).all())
        return Quantization(step, start) if whole and 0 < step < math.inf else None


def _moved(node: Node) -> Sequence[str]:
    return node.outputs if node.op == "Split" else node.outputs[:1]


def _reached(name: str, following: Callable[[str], Sequence[str]]) -> Iterator[str]:
    """The value and all that are reached from it, each once."""
    seen, todo = {name}, [name]
    while todo:
        value = todo.pop()
        yield value
        new = [v for v in following(value) if v and v not in seen]
        seen.update(new)
        todo += new
