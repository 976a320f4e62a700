"""The bodies of If, Loop and Scan as models of their own, so that whatever is done to a model is done to them.

A lifted body has the inputs of the body and then the values that it takes from outside; what is constant outside is
constant in it. Once cleaned it is put back, and its inputs and outputs then say their static types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from dlpack.model.control import check_bodies, ints, is_control_flow, is_typed, scan_parts
from dlpack.model.fold import constants_to_initializers, fresh_name, rename_values
from dlpack.model.infer import SMALL_WEIGHT_BYTES, ValueType, dynamic_values, infer_types
from dlpack.model.sequences import open_branches
from dlpack.model.tensors import tensor_bytes
from dlpack.model.walk import free_names, graphs, subgraphs

Types = Mapping[str, ValueType]


def forget_types(graph: GraphProto, opset: int) -> None:
    """Drop the types that the bodies in a graph state. The rank of a Loop's counter and condition is kept.

    Raises ModelError for bodies that do not fit their nodes.
    """
    for node in graph.node:
        if is_control_flow(node):
            check_bodies(node, opset)
        for body in subgraphs(node):
            constants_to_initializers(body)
            del body.value_info[:]
            for value in body.output:
                value.ClearField("type")
            for index, value in enumerate(body.input):
                if node.op_type != "Loop" or index > 1:
                    value.ClearField("type")
            forget_types(body, opset)


def clean_bodies(model: ModelProto, clean: Callable[[ModelProto], ModelProto]) -> bool:
    """Clean each body that has not been cleaned and whose inputs have static types; returns whether there was one."""
    todo = [n for n in model.graph.node if is_control_flow(n) and not all(is_typed(g) for g in subgraphs(n))]
    if not todo:
        return False
    types = infer_types(model)
    taken = set(types) | {name for part in graphs(model.graph) for n in part.node for name in n.output}
    changed = False
    for node in todo:
        for body in subgraphs(node):
            lifted = None if is_typed(body) else lift(model, node, body, types)
            if lifted is not None:
                inputs = len(body.input)
                _put_back(model, clean(lifted), node, body, inputs)
                changed |= is_typed(body)
        if node.op_type == "If":
            changed |= open_branches(model.graph, node, lambda hint: fresh_name(hint, taken))
    return changed


def captured(node: NodeProto, constants: Iterable[str]) -> list[str]:
    """The values that the bodies of a node take from outside, those that are constant left out."""
    names = {name for graph in subgraphs(node) for name in free_names(graph)}
    return sorted(names - set(constants))


def lift(model: ModelProto, node: NodeProto, body: GraphProto, types: Types) -> ModelProto | None:
    """A body as a model; None where the type of one of its inputs is not known.

    Its inputs are those of the body and then the `captured` values of the node, those that only another body takes
    among them. Each output is the only one of its name and computed by a node.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    outside, read = captured(node, weights), free_names(body)
    kinds = [*_input_types(model, node, body, types), *(types.get(name, ValueType()) for name in outside)]
    if any(kind is None or not kind.known for kind in kinds):
        return None
    lifted = ModelProto(ir_version=model.ir_version)
    lifted.opset_import.extend(model.opset_import)
    graph = lifted.graph
    graph.CopyFrom(body)
    del graph.input[:], graph.output[:], graph.value_info[:]
    taken = {value.name for value in body.input} | {tensor.name for tensor in graph.initializer} | read
    taken |= {name for inner in graph.node for name in inner.output}
    given = [value.name for value in body.input] + [n if n in read else fresh_name(n, taken) for n in outside]
    for name, kind in zip(given, kinds, strict=True):
        assert kind is not None
        graph.input.append(helper.make_tensor_value_info(name, kind.elem, kind.shape))
    inner = _copy_weights(graph, weights, read, node.name, taken)
    names = {n.name for n in graph.node if n.name}
    for index, n in enumerate(graph.node):
        n.name = n.name or fresh_name(f"{node.name}/{n.op_type}_{index}", names)
    computed = {name for n in graph.node for name in n.output}
    for value in body.output:
        source = output = inner.get(value.name, value.name)
        if source in computed:
            computed.remove(source)
        else:  # an input, a constant, or an output already
            output = fresh_name(f"{source}/out", taken)
            graph.node.append(helper.make_node("Identity", [source], [output], name=fresh_name(output, names)))
        graph.output.append(onnx.ValueInfoProto(name=output))
    return lifted


def _copy_weights(
    graph: GraphProto, weights: Mapping[str, TensorProto], read: Iterable[str], prefix: str, taken: set[str]
) -> dict[str, str]:
    """Give a body copies of the constants that it reads outside, under new names; old name → new name."""
    inner = {name: fresh_name(f"{prefix}/{name}", taken) for name in sorted(read) if name in weights}
    for n in graph.node:
        rename_values(n, inner)
    for name, new in inner.items():
        tensor = graph.initializer.add()
        tensor.CopyFrom(weights[name])
        tensor.name = new
    return inner


def _input_types(model: ModelProto, node: NodeProto, body: GraphProto, types: Types) -> list[ValueType | None]:
    def outside(name: str) -> ValueType:
        return types.get(name, ValueType())

    if node.op_type == "Loop":
        own = [
            ValueType(elem, (1,) if len(value.type.tensor_type.shape.dim) == 1 else ())
            for elem, value in zip((TensorProto.INT64, TensorProto.BOOL), body.input, strict=False)
        ]
        return [*own, *(outside(name) for name in node.input[2:])]
    if node.op_type != "Scan":
        return []
    states, slices, _ = scan_parts(node, body)
    old = next(entry.version for entry in model.opset_import if entry.domain == "") < 9
    kinds = [outside(name) for name in (node.input[1:] if old else node.input)]
    if not all(kind.known for kind in kinds):
        return [None]
    if old:  # every value has the batch in front, and the slices lie along the next axis
        return [ValueType(k.elem, (k.shape or ())[1 if i < states else 2 :]) for i, k in enumerate(kinds)]
    axes = [None] * states + ints(node, "scan_input_axes", slices)
    return [kind if axis is None else _without(kind, axis) for kind, axis in zip(kinds, axes, strict=True)]


def _without(kind: ValueType, axis: int) -> ValueType:
    shape = list(kind.shape or ())
    if not -len(shape) <= axis < len(shape):
        return ValueType()
    del shape[axis]
    return ValueType(kind.elem, tuple(shape))


def _put_back(model: ModelProto, lifted: ModelProto, node: NodeProto, body: GraphProto, inputs: int) -> None:
    """Make a cleaned body that of its node again. Its outputs get their types, unless one inside changes with the data:
    onnx then takes the other operand's shape for that of a sum. Large weights move out, so that they are copied rarely.
    """
    types = infer_types(lifted)
    moving = [name for name in dynamic_values(lifted) if not types.get(name, ValueType()).known]
    graph = lifted.graph
    taken = {name for part in (model.graph, graph) for n in part.node for name in n.output}
    taken |= {value.name for part in (model.graph, graph) for value in (*part.input, *part.initializer)}
    outer: dict[str, str] = {}
    del body.value_info[:], body.node[:], body.initializer[:], body.input[:], body.output[:]
    for tensor in graph.initializer:
        if tensor_bytes(tensor) > SMALL_WEIGHT_BYTES:
            outer[tensor.name] = fresh_name(f"{node.name}/{tensor.name}", taken)
            tensor.name = outer[tensor.name]
            model.graph.initializer.append(tensor)
        else:
            body.initializer.append(tensor)
    for inner in graph.node:
        rename_values(inner, outer)
    body.node.extend(graph.node)
    body.input.extend(graph.input[:inputs])
    body.output.extend(graph.output)
    for value in body.output:
        kind = types.get(value.name, ValueType())
        if kind.known and not moving:
            value.type.CopyFrom(helper.make_tensor_type_proto(kind.elem, kind.shape))
