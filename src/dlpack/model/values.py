"""Inputs that become constants: `--value INPUT=VALUE`, and which inputs of a model ask for it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import ModelProto, ValueInfoProto

from dlpack.errors import UsageError, did_you_mean
from dlpack.model.infer import element_type_name, shape_inputs, value_type
from dlpack.model.walk import free_names, opset_versions, subgraphs

Values = Mapping[str, tuple[str, ...]]
"""Input → its elements as they stand on the command line."""

_MOST = 16
"""An input of more elements is data, and nobody is advised to fix it."""

_WORDS = {"true": "1", "false": "0"}


def fix_values(model: ModelProto, values: Values) -> None:
    """Makes weights of these inputs, in `model` itself.

    A single element stands for all where the input's shape is known; else it is the only one, as in an input of batch
    1. Raises UsageError for an input that there is not, and for elements that do not fit.
    """
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = {value.name: value for value in graph.input if value.name not in weights}
    for name, elements in values.items():
        option = f"--value {name}={','.join(elements)}"
        if name not in inputs:
            told = ", ".join(f"'{n}'" for n in inputs) or "none"
            raise UsageError(f"{option}: the model has no input '{name}'; it has {told}{did_you_mean(name, inputs)}")
        graph.initializer.append(onnx.numpy_helper.from_array(_array(option, inputs[name], elements), name))
        graph.input.remove(inputs[name])


def _array(option: str, value: ValueInfoProto, elements: tuple[str, ...]) -> np.ndarray:
    tensor = value.type.tensor_type
    dtype = element_type_name(tensor.elem_type) if value.type.WhichOneof("value") == "tensor_type" else None
    if dtype is None or dtype == "bfloat16" or dtype.startswith("complex"):
        raise UsageError(f"{option}: the input '{value.name}' is no tensor of numbers")
    kind = np.dtype(dtype)
    try:
        words = [_WORDS.get(word.lower(), word) for word in elements]
        numbers = [float(word) if kind.kind == "f" else int(word, 0) for word in words]
        array = np.array(numbers).astype(kind) if kind.kind == "f" else np.array(numbers, object).astype(kind)
        if kind.kind != "f" and [int(v) for v in array] != numbers:
            raise OverflowError
    except (ValueError, OverflowError) as e:
        raise UsageError(f"{option}: the input '{value.name}' is {dtype}") from e
    dims = tensor.shape.dim
    known = [d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else None for d in dims]
    whole = [1 if d is None else d for d in known]
    if len(array) == 1:
        return np.full(whole, array[0], kind)
    if known.count(None) == 1:
        rest = int(np.prod([d for d in known if d is not None], dtype=np.int64))
        whole = [len(array) // max(rest, 1) if d is None else d for d in known]
    if int(np.prod(whole, dtype=np.int64)) != len(array):
        shape = "x".join("?" if d is None else str(d) for d in known) or "a scalar"
        raise UsageError(f"{option}: the input '{value.name}' is {shape}, which is not {len(array)} elements")
    return array.reshape(whole)


def advice(model: ModelProto) -> str:
    """What to say of inputs whose values decide which branch runs, how often or in which shape; "" for none."""
    found = sorted(_deciding(model))
    if not found:
        return ""
    options = " ".join(f"--value {name}=..." for name in found)
    names = ", ".join(f"'{name}'" for name in found)
    return f"what the model does depends on the value of {names}: make a constant of it with {options}"


def _deciding(model: ModelProto) -> set[str]:
    """The small inputs from which conditions, numbers of trips and shapes are computed."""
    small = set()
    for value in model.graph.input:
        shape = value_type(value.type).shape
        if shape is not None and int(np.prod(shape, dtype=np.int64)) <= _MOST:
            small.add(value.name)
    opset = opset_versions(model).get("", 0)
    deciding: set[str] = set()
    for node in reversed(model.graph.node):
        if node.op_type in ("Shape", "Size") and node.domain == "":
            continue
        deciding.update(node.input[index] for index in shape_inputs(node, opset))
        if node.op_type in ("If", "Loop") and node.domain == "":
            deciding.update(filter(None, node.input[: 1 if node.op_type == "If" else 2]))
        if not deciding.isdisjoint(node.output):
            deciding.update(filter(None, node.input))
            for sub in subgraphs(node):
                deciding |= free_names(sub)
    return deciding & small
