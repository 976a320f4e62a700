"""Loops that a counter ends: their condition depends on no data, so it is evaluated here, trip by trip."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import onnx.reference
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from dlpack.model.tensors import tensor_size

MAX_TRIPS = 10_000
MAX_NODES = 32
"""A condition with more trips or nodes is left to a run."""

# Operators that a condition may depend on: they map single elements to single elements, so nothing grows here.
_SCALAR = frozenset(
    ("Abs", "Add", "And", "Cast", "Ceil", "Div", "Equal", "Floor", "Greater", "GreaterOrEqual", "Identity", "Less",
     "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Reshape", "Squeeze", "Sub", "Unsqueeze", "Where",
     "Xor")
)  # fmt: skip


def counted_trips(
    node: NodeProto,
    body: GraphProto,
    condition: str,
    constants: Mapping[str, TensorProto],
    opset: int,
    limit: int | None,
) -> int | None:
    """The trips of a Loop until the value `condition` of its body fails, `limit` at most.

    None if the condition depends on more than the counter, single constants and states that begin so and depend on
    nothing else either, or where it still holds after MAX_TRIPS.
    """
    part = _part(node, body, condition, constants)
    if part is None:
        return None
    graph, states = part
    first = [constants[node.input[k]] for k in states]
    if any(tensor_size(t) > 1 for t in (*first, *graph.initializer)):
        return None
    rank = len(body.input[0].type.tensor_type.shape.dim)
    graph.input.extend(ValueInfoProto(name=body.input[k].name) for k in (0, 1, *states))
    names = [condition, *(body.output[k - 1].name for k in states)]
    graph.output.extend(ValueInfoProto(name=name) for name in names)
    model = ModelProto(graph=graph, ir_version=8, opset_import=[helper.make_opsetid("", opset)])
    trips = _run(model.SerializeToString(), tuple(t.SerializeToString() for t in first), rank, limit or MAX_TRIPS)
    return None if trips == MAX_TRIPS and limit != MAX_TRIPS else trips


def _part(
    node: NodeProto, body: GraphProto, condition: str, constants: Mapping[str, TensorProto]
) -> tuple[GraphProto, list[int]] | None:
    """The nodes and constants that the condition depends on, and the indices of the states among its inputs."""
    producers = {name: k for k, inner in enumerate(body.node) for name in inner.output}
    inputs = {value.name: k for k, value in enumerate(body.input)}
    weights = {tensor.name: tensor for tensor in body.initializer}
    graph = GraphProto(name="condition")
    nodes: set[int] = set()
    states: list[int] = []
    todo, seen = [condition], {""}
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in weights:
            graph.initializer.append(weights[name])
        elif name in producers:
            maker = body.node[producers[name]]
            if maker.op_type not in _SCALAR or maker.domain or len(nodes) > MAX_NODES:
                return None
            nodes.add(producers[name])
            todo += maker.input
        elif name not in inputs or (inputs[name] > 1 and node.input[inputs[name]] not in constants):
            return None
        elif inputs[name] > 1:
            states.append(inputs[name])
            todo.append(body.output[inputs[name] - 1].name)
    graph.node.extend(body.node[k] for k in sorted(nodes))
    return graph, states


@lru_cache(maxsize=256)
def _run(model: bytes, first: Sequence[bytes], rank: int, limit: int) -> int | None:
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = onnx.reference.ReferenceEvaluator(onnx.load_model_from_string(model))
            names = evaluator.input_names
            states: list[Any] = [onnx.numpy_helper.to_array(TensorProto.FromString(data)) for data in first]
            going: Any = np.ones((1,) * rank, np.bool_)
            for trip in range(min(limit, MAX_TRIPS)):
                number = np.full((1,) * rank, trip, np.int64)
                going, *states = evaluator.run(None, dict(zip(names, [number, going, *states], strict=True)))
                if not np.all(going):
                    return trip + 1
    except Exception:  # noqa: BLE001 - the evaluator raises anything: the condition is left to a run
        return None
    return min(limit, MAX_TRIPS)
