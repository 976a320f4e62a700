"""A model whose products with weights of few bits round what they multiply, written out in ONNX's own operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

LARGEST = 127.0
SMALLEST = 1e-30
"""Blocks whose magnitudes are all smaller are zero."""


def round_operands(model: onnx.ModelProto, blocks: Mapping[str, int]) -> onnx.ModelProto:
    """The cleaned model with the first operands of these nodes, by name or first output, rounded in blocks of so many
    elements along their last dimension: to the nearest multiple, halves to even, of the largest magnitude / 127."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    opset = next((o.version for o in result.opset_import if o.domain in ("", "ai.onnx")), 1)
    made: dict[tuple[str, int], str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in result.graph.node:
        block = blocks.get(node.name or node.output[0])
        if block and node.op_type in ("MatMul", "Gemm"):
            key = node.input[0], block
            if key not in made:
                written = _Rounding(*key, opset)
                nodes += written.nodes
                result.graph.initializer.extend(written.constants)
                made[key] = written.value
            node.input[0] = made[key]
        nodes.append(node)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return result


class _Rounding:
    """The nodes that round a value; `value` is the name of what they give."""

    def __init__(self, x: str, block: int, opset: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._stem = f"{x}/rounded{block}"
        old = opset < 18  # axes were an attribute
        axes = {"axes": [1]} if old else {}
        shape = self._node("Shape", [x])
        rows = self._node("Reshape", [x, self._constant(np.array([-1, block], np.int64))])
        most = [self._node("Abs", [rows]), *([] if old else [self._constant(np.array([1], np.int64))])]
        step = self._node("Div", [self._node("ReduceMax", most, **axes), self._float(LARGEST)])
        whole = self._node("Round", [self._node("Div", [rows, self._node("Max", [step, self._float(SMALLEST)])])])
        self.value = self._node("Reshape", [self._node("Mul", [whole, step]), shape])

    def _node(self, op: str, inputs: list[str], **attrs: Any) -> str:
        name = f"{self._stem}/{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attrs))
        return name

    def _float(self, value: float) -> str:
        return self._constant(np.array(value, np.float32))

    def _constant(self, value: np.ndarray[Any, Any]) -> str:
        name = f"{self._stem}/constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name
