"""Inner values that become outputs: `--keep-internals NAME`, behind the model's own outputs."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence

from onnx import ModelProto, NodeProto, helper

from dlpack.errors import UsageError
from dlpack.model.infer import ValueType, infer_types
from dlpack.model.walk import reads

ALL = "all"
"""In place of a name: every inner value."""

_LAYER = re.compile(r"_output\d*$")
"""How the values end that MXNet itself has; an exported layer may consist of several nodes."""


def keep_internals(model: ModelProto, names: Sequence[str]) -> None:
    """Adds inner values to the outputs of `model` itself, in the order in which the model computes them.

    A name is that of a value, with or without MXNet's suffix "_output", or of a node, which means its first output.
    `ALL` stands for every tensor that is computed from an input; of a model from MXNet, for the outputs of its layers.
    Names of the model's outputs change nothing. Raises UsageError for a name that the model does not have.
    """
    graph = model.graph
    types = infer_types(model)
    inner = [v for node in graph.node for v in node.output if v and types.get(v, ValueType()).kind == "tensor"]
    wanted: set[str] = set()
    for name in names:
        wanted |= set(_all(model, inner)) if name == ALL else {_value(model, inner, name)}
    for value in inner:
        if value in wanted - {v.name for v in graph.output}:
            graph.output.append(helper.make_tensor_value_info(value, types[value].elem, types[value].shape))


def _value(model: ModelProto, inner: Sequence[str], name: str) -> str:
    nodes: dict[str, NodeProto] = {node.name: node for node in model.graph.node}
    for value in (name, f"{name}_output", nodes[name].output[0] if name in nodes else ""):
        if value in inner:
            return value
    if any(value.name == name for value in model.graph.input):
        raise UsageError(f"--keep-internals {name}: this is an input of the model")
    close = difflib.get_close_matches(name, [*inner, *filter(None, nodes)], 5)
    told = f"; it has {', '.join(close)}" if close else ""
    raise UsageError(f"--keep-internals {name}: the model has no inner value and no node of this name{told}")


def _all(model: ModelProto, inner: Sequence[str]) -> Iterator[str]:
    constants = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if reads(node) <= constants and not node.op_type.startswith("Random"):
            constants |= set(node.output)
    layers = any(entry.key == "dlpack.source" and entry.value == "MXNet" for entry in model.metadata_props)
    for value in inner:
        if value not in constants and (not layers or _LAYER.search(value)):
            yield value
