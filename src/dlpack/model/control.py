"""Control flow as ONNX states it: what is known of the trips of a Loop, and of the types that If, Loop and Scan give.

A body's types are believed where its outputs have a static shape: `bodies` has put it there (a file's own are dropped).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import GraphProto, NodeProto, TensorProto, TypeProto, ValueInfoProto, helper

from dlpack.errors import ModelError
from dlpack.model.counted import counted_trips
from dlpack.model.walk import describe, subgraphs

LARGEST = "dlpack.largest"
"""The attribute of a Loop that gives as many slices as it may make trips, whether it makes them or not (`sized.py`)."""

MAX_TRIPS = 1 << 24
"""A loop that is to run longer is taken for a mistake, or for one that only its condition ends."""


@dataclass(frozen=True)
class Outside:
    """What is known around a node: the constants by name, and the version of ONNX's operators."""

    constants: Mapping[str, TensorProto]
    opset: int


def outside_of(graph: GraphProto, opset: int) -> Outside:
    return Outside({tensor.name: tensor for tensor in graph.initializer}, opset)


@dataclass(frozen=True)
class Trips:
    """How often a loop's body runs: `count` times, or less where a condition that only a run knows may end it.

    Where `count` is None, `problem` says why it is not known.
    """

    count: int | None
    conditional: bool = False
    problem: str = ""


def is_control_flow(node: NodeProto) -> bool:
    return node.domain == "" and node.op_type in ("If", "Loop", "Scan")


def body_of(node: NodeProto) -> GraphProto:
    """The body of a Loop or Scan."""
    body: GraphProto = next(a.g for a in node.attribute if a.name == "body")
    return body


def check_bodies(node: NodeProto, opset: int) -> None:
    """Raises ModelError unless the bodies have the inputs and outputs, and the axes, that the operator wants."""
    inputs, outputs = len(node.input), len(node.output)
    if node.op_type == "If":
        good = all(not graph.input and len(graph.output) == outputs for graph in subgraphs(node))
    else:
        body = body_of(node)
        if node.op_type == "Loop":
            good = inputs >= 2 and len(body.input) == inputs and len(body.output) == outputs + 1 >= inputs - 1
        else:
            states, slices, results = scan_parts(node, body)
            good = len(body.input) == inputs - (opset < 9) and slices > 0 and states >= 0 and results >= 0
            good = good and len(body.output) == outputs
            sizes = {"directions": slices}
            sizes |= {f"scan_input_{what}": slices for what in ("axes", "directions")}
            sizes |= {f"scan_output_{what}": results for what in ("axes", "directions")}
            good = good and all(len(a.ints) in (0, sizes[a.name]) for a in node.attribute if a.name in sizes)
    if not good:
        raise ModelError(f"{describe(node)}: its body does not fit its inputs and outputs; export the model again")


def scan_parts(node: NodeProto, body: GraphProto) -> tuple[int, int, int]:
    """(states, sliced inputs, sliced outputs) of a Scan."""
    slices = next(a.i for a in node.attribute if a.name == "num_scan_inputs")
    states = len(body.input) - slices
    return states, slices, len(body.output) - states


def ints(node: NodeProto, name: str, count: int) -> list[int]:
    """An attribute with a number for each of `count` things, 0 by default."""
    return next((list(a.ints) for a in node.attribute if a.name == name), None) or [0] * count


# --- trips ------------------------------------------------------------------------------------------------------------


def trips_of(node: NodeProto, outside: Outside) -> Trips:
    """The trips of a Loop; conditions that do not depend on the data are evaluated here."""
    body = body_of(node)
    limit_name, condition_name = (*node.input, "", "")[:2]
    limit = _number(limit_name, outside.constants)
    if limit_name and limit is None:
        return Trips(None, problem=f"its trip count '{limit_name}' is not constant")
    start = _number(condition_name, outside.constants) if condition_name else 1
    if start == 0 or (limit is not None and limit <= 0):
        return Trips(0)
    step = _condition(body)
    if step is False:  # ends after the first trip
        return Trips(1, start is None)
    if step is True or (step is None and start is not None):
        if limit is None:
            return Trips(None, problem="it has no trip count and a condition that never ends it")
        if limit > MAX_TRIPS:
            return Trips(None, problem=f"it runs {limit} times; {MAX_TRIPS} are supported")
        return Trips(limit, start is None)
    if isinstance(step, str):
        counted = counted_trips(node, body, step, outside.constants, outside.opset, limit)
        if counted is not None:
            return Trips(counted, start is None)
    if limit is None or limit > MAX_TRIPS:
        return Trips(None, problem="only a condition that depends on the data ends it; give it a constant trip count")
    return Trips(limit, True)


def _number(name: str, constants: Mapping[str, TensorProto]) -> int | None:
    tensor = constants.get(name)
    if tensor is None:
        return None
    value = onnx.numpy_helper.to_array(tensor)
    return int(value.reshape(-1)[0]) if value.size == 1 else None


def _condition(body: GraphProto) -> bool | str | None:
    """What a trip makes of a Loop's condition: a constant, None where it hands it on, else the value's name."""
    name = body.output[0].name
    producers = {o: n for n in body.node for o in n.output}
    while name in producers and producers[name].op_type == "Identity" and producers[name].domain == "":
        name = producers[name].input[0]
    if name == body.input[1].name:
        return None
    constants = {t.name: t for t in body.initializer}
    number = _number(name, constants)
    return name if number is None else bool(number)


# --- types ------------------------------------------------------------------------------------------------------------


def static_shape(kind: TypeProto) -> tuple[int, ...] | None:
    """The shape of a tensor type where it is known and static."""
    if kind.WhichOneof("value") != "tensor_type" or not kind.tensor_type.elem_type:
        return None
    tensor = kind.tensor_type
    if not tensor.HasField("shape") or any(not d.HasField("dim_value") or d.dim_value < 0 for d in tensor.shape.dim):
        return None
    return tuple(d.dim_value for d in tensor.shape.dim)


def is_typed(graph: GraphProto) -> bool:
    """Whether a body's outputs all have static types."""
    return all(static_shape(value.type) is not None for value in graph.output)


def loop_types(node: NodeProto, outside: Outside) -> list[TypeProto]:
    """The types of a Loop's outputs, which onnx leaves open; none where they are not static (yet)."""
    body = body_of(node)
    if not is_typed(body) or problem_of(node, outside):
        return []
    count = trips_of(node, outside).count
    states = len(body.input) - 2
    kinds = [value.type for value in body.output[1 : 1 + states]]
    return [*kinds, *(_stacked(value.type, count or 0) for value in body.output[1 + states :])]


def problem_of(node: NodeProto, outside: Outside) -> str:
    """Why the outputs of a control-flow node, whose bodies are typed, are not static; "" where they are."""
    if node.op_type == "If":
        branches = {a.name: a.g for a in node.attribute}
        first, second = ([_text(v.type) for v in branches[f"{name}_branch"].output] for name in ("then", "else"))
        wrong = [(k, a, b) for k, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]
        text = "its branches give {1} and {2} for output {0}; give them the same type"
        return text.format(*wrong[0]) if wrong else ""
    body = body_of(node)
    if node.op_type == "Scan":
        states = scan_parts(node, body)[0]
        return _unsteady(body.input[:states], body.output[:states])
    states = len(body.input) - 2
    trips = trips_of(node, outside)
    if trips.problem or trips.count == 0:
        return trips.problem
    largest = any(a.name == LARGEST for a in node.attribute)
    if trips.conditional and any(node.output[states:]) and not largest:
        return "how many slices it gives depends on its condition, which only a run knows"
    return _unsteady(body.input[2:], body.output[1 : 1 + states])


def _unsteady(before: Sequence[ValueInfoProto], after: Sequence[ValueInfoProto]) -> str:
    for a, b in zip(before, after, strict=False):
        if _text(a.type) != _text(b.type):
            return f"its state '{a.name}' is {_text(a.type)} before a trip and {_text(b.type)} behind it"
    return ""


def _text(kind: TypeProto) -> str:
    elem = kind.tensor_type.elem_type
    name = TensorProto.DataType.Name(elem).lower() if elem in TensorProto.DataType.values() else f"type {elem}"
    return f"{name}{list(static_shape(kind) or ())}"


def _stacked(kind: TypeProto, count: int) -> TypeProto:
    return helper.make_tensor_type_proto(kind.tensor_type.elem_type, [count, *(static_shape(kind) or ())])
