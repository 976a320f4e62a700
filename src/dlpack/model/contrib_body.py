"""The body of a Scan or Loop that stands for an operator of onnxruntime, made node by node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx.helper
import onnx.numpy_helper
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto


class Body:
    """A graph whose names begin with `prefix`. `add` and the like return the names of what they make."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[NodeProto] = []
        self.inputs: list[ValueInfoProto] = []
        self.arrays: list[TensorProto] = []

    def input(self, name: str, elem: int, shape: Sequence[int]) -> str:
        """The next input, of ONNX's element type `elem`."""
        self.inputs.append(onnx.helper.make_tensor_value_info(f"{self.prefix}/{name}", elem, shape))
        return str(self.inputs[-1].name)

    def add(self, op: str, *inputs: str, **attrs: Any) -> str:
        return self.add_many(1, op, *inputs, **attrs)[0]

    def add_many(self, count: int, op: str, *inputs: str, **attrs: Any) -> list[str]:
        """A node with so many outputs."""
        names = [f"{self.prefix}/{op}_{len(self.nodes)}_{n}" for n in range(count)]
        self.nodes.append(onnx.helper.make_node(op, list(inputs), names, name=names[0], **attrs))
        return names

    def array(self, value: Any, dtype: Any = np.int64) -> str:
        name = f"{self.prefix}/constant_{len(self.arrays)}"
        self.arrays.append(onnx.numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def reshape(self, x: str, *to: int) -> str:
        return self.add("Reshape", x, self.array(to))

    def graph(self, *outputs: tuple[str, int, Sequence[int]]) -> GraphProto:
        """With these outputs: name, element type and shape of each."""
        values = [onnx.helper.make_tensor_value_info(*output) for output in outputs]
        return onnx.helper.make_graph(self.nodes, self.prefix, self.inputs, values, self.arrays)
