"""The shapes of nodes that onnx infers otherwise than onnxruntime computes them: these are asked of onnxruntime.

They are poolings with `ceil_mode` whose last window lies in the padding alone (it is left out, which onnx's inference
does from opset 22 on), Resize and Upsample by a factor whose product with a size is whole in float32 and not in double,
and ConvTranspose with `auto_pad` SAME and `output_padding`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import onnx
import onnxruntime
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

Type = tuple[int, tuple[int, ...]]
"""ONNX element type and shape."""

DOMAIN = "dlpack.judged"
"""That of the nodes that onnx's inference sees in their place, and leaves alone."""

_POOLS = ("AveragePool", "LpPool", "MaxPool")
_OTHER_FLOATS = (TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_LARGEST = 1 << 22
"""Elements of an operand up to which a node is run; for larger ones onnx's inference stands."""


@dataclass(frozen=True)
class Judged:
    """A node whose output types onnxruntime infers; `constants`: those of its inputs that are known, by name."""

    node: NodeProto
    constants: Mapping[str, TensorProto]
    opset: int

    def output_types(self, types: Mapping[str, Type]) -> dict[str, Type]:
        """Output → its type, from those of the inputs; nothing if it is not known."""
        names = [name for name in self.node.input if name]
        if any(name not in types for name in names):
            return {}
        shapes = {name: self._run_shape(name, types[name][1]) for name in names if name not in self.constants}
        if any(math.prod(shape) > _LARGEST for shape in shapes.values()):
            return _inferred(self._model({name: types[name] for name in shapes}))
        model = self._model({name: (types[name][0], shape) for name, shape in shapes.items()})
        found = (
            _seen(model.SerializeToString(deterministic=True)) or self._in_float32(types, shapes) or _inferred(model)
        )
        first = types[self.node.input[0]][1]
        kept = self._kept(len(first))
        return {
            name: (elem, (*first[:kept], *shape[kept:]))
            for name, (elem, shape) in found.items()
            if len(shape) == len(first)
        }

    def _in_float32(self, types: Mapping[str, Type], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Type]:
        """The output types of a node of an element type that onnxruntime has no kernel for, by the one of float32."""
        elem = types[self.node.input[0]][0]
        if elem not in _OTHER_FLOATS or any(tensor.data_type == elem for tensor in self.constants.values()):
            return {}

        def kind(given: int) -> int:
            return TensorProto.FLOAT if given == elem else given

        model = self._model({name: (kind(types[name][0]), shape) for name, shape in shapes.items()})
        found = _seen(model.SerializeToString(deterministic=True))
        return {name: (elem if made == TensorProto.FLOAT else made, shape) for name, (made, shape) in found.items()}

    def _kept(self, rank: int) -> int:
        """How many of the first dimensions the node leaves as they are; it is run with 1 in their place."""
        if self.node.op_type in _POOLS:
            return min(2, rank)
        return 1 if self.node.op_type == "ConvTranspose" else 0

    def _run_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        kept = self._kept(len(shape)) if name == self.node.input[0] else 0
        return (*(1,) * kept, *shape[kept:])

    def _model(self, inputs: Mapping[str, Type]) -> onnx.ModelProto:
        graph = helper.make_graph(
            [self.node],
            "node",
            [helper.make_tensor_value_info(name, elem, shape) for name, (elem, shape) in inputs.items()],
            [ValueInfoProto(name=name) for name in self.node.output if name],
            list(self.constants.values()),
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def take_judged(node: NodeProto, constants: Mapping[str, TensorProto], opset: int) -> Judged | None:
    """The node, if its shape is to be asked of onnxruntime; in the graph it becomes one that onnx knows nothing of."""
    if node.domain != "" or not _is_doubtful(node, constants, opset):
        return None
    copy = NodeProto()
    copy.CopyFrom(node)
    node.domain, node.op_type = DOMAIN, "Taken"
    del node.attribute[:]
    return Judged(copy, {name: constants[name] for name in copy.input if name in constants}, opset)


def _is_doubtful(node: NodeProto, constants: Mapping[str, TensorProto], opset: int) -> bool:
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type in _POOLS:
        return bool(attributes.get("ceil_mode", 0)) and opset < 22
    if node.op_type == "ConvTranspose":
        return attributes.get("auto_pad", b"").startswith(b"SAME") and any(attributes.get("output_padding", ()))
    if node.op_type == "Resize" or (node.op_type == "Upsample" and opset < 10):
        if node.op_type == "Upsample" and opset < 9:
            return any(scale != round(scale) for scale in attributes.get("scales", ()) if math.isfinite(scale))
        place = 1 if node.op_type == "Upsample" or opset < 11 else 2
        name = node.input[place] if place < len(node.input) else ""
        if not name or name not in constants or any(n and n not in constants for n in node.input[1:]):
            return False
        try:
            scales = numpy_helper.to_array(constants[name])
        except (TypeError, ValueError):  # a damaged tensor, which is reported elsewhere
            return False
        return scales.dtype == np.float32 and bool((np.isfinite(scales) & (scales != np.round(scales))).any())
    return False


def _inferred(model: onnx.ModelProto) -> dict[str, Type]:
    """What onnx infers of a model of one node."""
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except Exception:  # noqa: BLE001 - raised from C++
        return {}
    kinds = {value.name: value.type.tensor_type for value in graph.output}
    return {
        name: (kind.elem_type, tuple(d.dim_value for d in kind.shape.dim))
        for name, kind in kinds.items()
        if kind.elem_type and kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim)
    }


@lru_cache(256)
def _seen(data: bytes) -> dict[str, Type]:
    """The types of a model's outputs in one run on zeros; nothing where onnxruntime does not take it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    graph = onnx.ModelProto.FromString(data).graph
    feeds = {}
    for value in graph.input:
        kind = value.type.tensor_type
        shape = [dim.dim_value for dim in kind.shape.dim]
        feeds[value.name] = np.zeros(shape, helper.tensor_dtype_to_np_dtype(kind.elem_type))
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        results = session.run(None, feeds)
    except Exception:  # noqa: BLE001 - onnxruntime raises many kinds
        return {}
    return {
        value.name: (helper.np_dtype_to_tensor_dtype(array.dtype), tuple(array.shape))
        for value, array in zip(graph.output, results, strict=True)
    }
