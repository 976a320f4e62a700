"""Operators that onnxruntime's optimiser, its quantiser and its model builder write (domain com.microsoft), and those
of training (`contrib_training`), replaced by ONNX's own, so that all that follows (folding, exact integer networks,
fusion) sees what it knows.

A file per family says what replaces what; docs/operators.md lists the operators.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import onnx
from onnx import ModelProto, NodeProto, TensorProto

from dlpack.model import (  # noqa: F401
    contrib_attention,
    contrib_experts,
    contrib_group,
    contrib_layers,
    contrib_norm,
    contrib_positions,
    contrib_quantised,
    contrib_recurrent,
    contrib_same,
    contrib_state,
    contrib_training,
    contrib_vision,
    contrib_weights,
    contrib_words,
)
from dlpack.model.contrib_node import REWRITES, Call, NotKnownYet
from dlpack.model.fold import set_items
from dlpack.model.infer import ValueType, infer_types, value_type
from dlpack.model.walk import opset_versions

# Operators of the default domain that only onnxruntime has, or that it had before ONNX.
_OWN = {"SimplifiedLayerNormalization": 1 << 31, "LayerNormalization": 17}


def expand_contrib(model: ModelProto) -> bool:
    """Replace the operators of other domains whose inputs' shapes are known, in place; returns whether there was any.

    Branches and bodies are models of their own when their turn comes. Raises UnsupportedError for an option that is
    not supported.
    """
    graph, versions = model.graph, opset_versions(model)
    opset = versions.get("", 0)
    if not any(_is_contrib(node, opset) for node in graph.node):
        return False
    types = infer_types(model)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    taken = {name for node in graph.node for name in (node.name, *node.input, *node.output)} | set(types)
    nodes: list[NodeProto] = []
    changed = False
    for node in graph.node:
        new = [node]
        if _is_contrib(node, opset):
            call = Call(node, types, constants, opset, taken)
            with suppress(NotKnownYet):
                REWRITES[node.domain, node.op_type](call)
                call.finish()
                new, changed = call.nodes, True
                constants.update({tensor.name: tensor for tensor in call.weights})
                types.update({t.name: ValueType(t.data_type, tuple(t.dims)) for t in call.weights})
                graph.initializer.extend(call.weights)
        for added in new:
            _infer_outputs(added, types, constants, versions)
        nodes += new
    set_items(graph.node, nodes)
    return changed


def _is_contrib(node: NodeProto, opset: int) -> bool:
    key = (node.domain, node.op_type)
    return key in REWRITES and (bool(node.domain) or opset < _OWN[node.op_type])


def _infer_outputs(
    node: NodeProto,
    types: dict[str, ValueType],
    constants: Mapping[str, TensorProto],
    versions: Mapping[str, int],
) -> None:
    """Enter the types of the node's outputs, where they are not known and those of its inputs are."""
    if all(types.get(name, ValueType()).known for name in node.output if name):
        return
    inputs = {name: types.get(name, ValueType()) for name in node.input if name}
    if not all(kind.known for kind in inputs.values()):
        return
    with suppress(Exception):  # raised from C++: an operator that onnx does not know
        schema = onnx.defs.get_schema(node.op_type, versions.get(node.domain, 1), node.domain)
        found = onnx.shape_inference.infer_node_outputs(
            schema,
            node,
            {name: onnx.helper.make_tensor_type_proto(kind.elem, kind.shape) for name, kind in inputs.items()},
            {name: constants[name] for name in inputs if name in constants},
            opset_imports=[onnx.helper.make_opsetid(domain, version) for domain, version in versions.items()],
        )
        types.update({name: value_type(kind) for name, kind in found.items() if value_type(kind).known})
