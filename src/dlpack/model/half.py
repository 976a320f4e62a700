"""float16 and bfloat16 in a model: kept at its inputs, outputs and explicit casts, computed as float32 in between."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto

from dlpack.errors import UnsupportedError
from dlpack.model.fold import fresh_name, rename_values
from dlpack.model.infer import infer_types, to_numpy
from dlpack.model.walk import describe, replace_nodes, subgraphs

HALVES = frozenset((TensorProto.FLOAT16, TensorProto.BFLOAT16))

_TYPE_ATTRIBUTES = frozenset(("to", "dtype", "output_dtype", "output_datatype", "stash_type", "softmax_precision"))
_EXACT = frozenset((TensorProto.UNDEFINED, TensorProto.BOOL, TensorProto.INT8, TensorProto.UINT8))


def widen(model: ModelProto) -> None:
    """Makes float32 of all that is float16 or bfloat16 inside of `model`.

    Inputs and outputs keep their types: a Cast stands behind each input and before each output. A Cast to 16 bits from
    a wider type stays and is followed by one to float32, since a model that asks for the rounding may depend on it.
    Weights become float32.
    Raises UnsupportedError for a BitCast of 16-bit floats.
    """
    if not _has_half(model.graph):
        return
    types = infer_types(model)
    elems = {name: t.elem for name, t in types.items()}
    names = _names(model.graph)
    _state_casts(model.graph, elems)
    _widen_graph(model.graph, names, elems)
    _cast_borders(model.graph, names)


def with_wide_borders(model: ModelProto) -> ModelProto:
    """A widened model with float32 inputs and outputs instead of bfloat16 ones, which numpy has not for onnxruntime."""
    changed = [v for v in (*model.graph.input, *model.graph.output) if _elem(v.type) == TensorProto.BFLOAT16]
    if not changed:
        return model
    wide = ModelProto()
    wide.CopyFrom(model)
    outputs = set()
    for value in (*wide.graph.input, *wide.graph.output):
        if _elem(value.type) == TensorProto.BFLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
            outputs.add(value.name)
    for node in wide.graph.node:
        if node.op_type == "Cast" and node.output[0] in outputs:
            for attribute in node.attribute:
                if attribute.name == "to":
                    attribute.i = TensorProto.FLOAT
    return wide


def _elem(kind: TypeProto) -> int:
    return int(kind.tensor_type.elem_type) if kind.WhichOneof("value") == "tensor_type" else 0


def _has_half(graph: GraphProto) -> bool:
    if any(t.data_type in HALVES for t in graph.initializer):
        return True
    if any(_elem(v.type) in HALVES for v in (*graph.input, *graph.output)):
        return True
    for node in graph.node:
        for a in node.attribute:
            if a.name in _TYPE_ATTRIBUTES and a.type == AttributeProto.INT and a.i in HALVES and a.name != "stash_type":
                return True
            if a.t.data_type in HALVES or any(t.data_type in HALVES for t in a.tensors):
                return True
    return any(_has_half(sub) for node in graph.node for sub in subgraphs(node))


def _names(graph: GraphProto) -> set[str]:
    names = {v.name for v in (*graph.input, *graph.output)} | {t.name for t in graph.initializer}
    for node in graph.node:
        names |= {node.name, *node.input, *node.output}
        for sub in subgraphs(node):
            names |= _names(sub)
    return names


def _state_casts(graph: GraphProto, elems: Mapping[str, int]) -> None:
    """Casts with the type of an operand become plain ones, where that type is 16 bits and would be lost."""
    for node in graph.node:
        if node.op_type == "CastLike" and node.domain == "" and elems.get(node.input[1], 0) in HALVES:
            node.attribute.append(onnx.helper.make_attribute("to", elems[node.input[1]]))
            node.op_type = "Cast"
            del node.input[1]
        for sub in subgraphs(node):
            _state_casts(sub, elems)


def _widen_graph(graph: GraphProto, names: set[str], elems: Mapping[str, int]) -> None:
    """Widens weights, attributes and stated types, those of the bodies of branches and loops included."""
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    del graph.value_info[:]
    nodes = []
    for node in graph.node:
        if node.op_type == "BitCast" and elems.get(node.input[0], 0) in HALVES:
            raise UnsupportedError(
                "the model cannot be compiled:", (f"{describe(node)}: the bits of 16-bit floats are not kept",)
            )
        rounds = _rounds(node, elems)
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                _widen_tensor(attribute.t)
            for tensor in attribute.tensors:
                _widen_tensor(tensor)
            if attribute.name in _TYPE_ATTRIBUTES and attribute.i in HALVES and not rounds:
                attribute.i = TensorProto.FLOAT
        for sub in subgraphs(node):
            for value in (*sub.input, *sub.output):
                _widen_type(value.type)
            _widen_graph(sub, names, elems)
        nodes.append(node)
        if rounds:
            output = node.output[0]
            node.output[0] = fresh_name(f"{output}/rounded", names)
            nodes.append(_cast(node.output[0], output, TensorProto.FLOAT, names))
    replace_nodes(graph, nodes)


def _rounds(node: NodeProto, elems: Mapping[str, int]) -> bool:
    """Whether the node is a Cast that makes 16 bits of a type with more digits."""
    if node.op_type != "Cast" or node.domain != "":
        return False
    to = next((a.i for a in node.attribute if a.name == "to"), 0)
    kind = elems.get(node.input[0], TensorProto.UNDEFINED)
    return to in HALVES and kind != to and kind not in _EXACT


def _cast_borders(graph: GraphProto, names: set[str]) -> None:
    """A Cast behind each 16-bit input and before each 16-bit output."""
    first, last, renamed = [], [], {}
    for value in graph.input:
        if _elem(value.type) in HALVES:
            renamed[value.name] = fresh_name(f"{value.name}/float32", names)
            first.append(_cast(value.name, renamed[value.name], TensorProto.FLOAT, names))
    for value in graph.output:
        elem = _elem(value.type)
        if elem in HALVES and value.name not in renamed:
            renamed[value.name] = fresh_name(f"{value.name}/float32", names)
            last.append(_cast(renamed[value.name], value.name, elem, names))
    for node in graph.node:
        rename_values(node, renamed)
    for tensor in graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    replace_nodes(graph, [*first, *graph.node, *last])


def _cast(source: str, target: str, to: int, names: set[str]) -> NodeProto:
    return onnx.helper.make_node("Cast", [source], [target], name=fresh_name(f"{target}/Cast", names), to=to)


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type in HALVES:
        tensor.CopyFrom(onnx.numpy_helper.from_array(to_numpy(tensor).astype(np.float32), tensor.name))


def _widen_type(kind: TypeProto) -> None:
    """Also the type of what a sequence or an optional holds."""
    which = kind.WhichOneof("value")
    if which == "tensor_type" and kind.tensor_type.elem_type in HALVES:
        kind.tensor_type.elem_type = TensorProto.FLOAT
    elif which == "sequence_type":
        _widen_type(kind.sequence_type.elem_type)
    elif which == "optional_type":
        _widen_type(kind.optional_type.elem_type)
