"""Cleaning an ONNX model before it is read: shapes fixed, functions inlined, constants folded, dead nodes gone.

Most of it is done by others: onnx's inliner and onnxruntime's basic optimisation. What these leave is folded by `fold`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import onnx
import onnx.inliner
import onnx.reference
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto

from dlpack.errors import UnsupportedError, UsageError, did_you_mean
from dlpack.model.bodies import clean_bodies, forget_types
from dlpack.model.contrib import expand_contrib
from dlpack.model.fold import (
    MAX_ROUNDS,
    Room,
    constants_to_initializers,
    drop_dead,
    fold,
    foldable_sizes,
    fresh_name,
    rename_values,
    set_items,
)
from dlpack.model.half import widen
from dlpack.model.infer import (
    ValueType,
    infer_types,
    lighten,
    restore,
    value_type,
)
from dlpack.model.optimize import optimize
from dlpack.model.random import seed_random
from dlpack.model.restated import restate
from dlpack.model.sequences import open_outputs
from dlpack.model.tensors import MAX_MODEL_BYTES, MAX_RANK, TENSOR_BITS, tensor_bytes
from dlpack.model.unroll import unroll
from dlpack.model.walk import describe, first_line, free_names, opset_versions, subgraphs

# The definition of Range is a loop with a trip for each element, that of Bernoulli has the wrong sign.
_NOT_INLINED = frozenset((("", "Range"), ("", "Bernoulli")))

MAX_BODIES = 1000  # of branches and loops, one in the other counted again

_DEFINITIONS = "dlpack.definitions"  # domain of the functions that stand for a node while it is inlined

Shapes = Mapping[str, tuple[int, ...]]
InlineOps = Callable[[str, str], bool]


def clean(model: ModelProto, shapes: Shapes | None = None, inline_ops: InlineOps | None = None) -> ModelProto:
    """The model with static input shapes, without functions, and with all that is constant computed.

    `shapes` fixes the inputs' open dimensions. `inline_ops(op, domain)` says which operators to replace by the
    definition that ONNX gives for them. Every output of the result is computed by a node. `model` is not changed.
    Raises UsageError for shapes that do not fit or that are still missing.
    """
    result = ModelProto()
    result.CopyFrom(model)
    _name_nodes(result.graph)
    _drop_constant_inputs(result)
    copy_inputs_given_back(result)
    _fix_shapes(result.graph, shapes or {})
    opset = opset_versions(result).get("", 0)
    forget_types(result.graph, opset)
    _check_sizes(result, infer_types(result, follow_values=False))
    result = _inline_functions(result)
    forget_types(result.graph, opset)
    widen(result)
    light, heavy = lighten(result)
    room = Room(light.ByteSize() + sum(map(tensor_bytes, heavy)))
    result = _simplify(result, inline_ops, room)
    open_outputs(result.graph)
    if seed_random(result):
        result = _simplify(result, inline_ops, room)
    types = infer_types(result)
    _check_sizes(result, types)
    result = optimize(result, room.take(foldable_sizes(result.graph, types)))
    forget_types(result.graph, opset)
    result = _simplify(result, inline_ops, room)
    _finish(result)
    return result


def _simplify(model: ModelProto, inline_ops: InlineOps | None, room: Room) -> ModelProto:
    """Fold constants and inline operators, in the model and in the bodies of its branches and loops."""
    bodies = 0

    def everywhere(part: ModelProto) -> ModelProto:
        constants_to_initializers(part.graph)
        restate(part)  # before the fold computes constants by onnxruntime
        part = _inline_operators(part, inline_ops, room)
        while expand_contrib(part):
            part = _inline_operators(part, inline_ops, room)
        while clean_bodies(part, clean_body) or unroll(part):
            part = _inline_operators(part, inline_ops, room)
        restate(part)
        return part

    def clean_body(body: ModelProto) -> ModelProto:
        nonlocal bodies
        bodies += 1
        if bodies > MAX_BODIES:
            raise UnsupportedError(f"the model's branches and loops have more than {MAX_BODIES} bodies")
        body = everywhere(body)
        _check_sizes(body, infer_types(body))
        _finish(body)
        return body

    return everywhere(model)


# --- names and inputs -------------------------------------------------------------------------------------------------


def _name_nodes(graph: GraphProto) -> None:
    """Name the unnamed nodes after their operator and place, before anything moves."""
    names = {node.name for node in graph.node}
    for index, node in enumerate(graph.node):
        if not node.name:
            node.name = fresh_name(f"{node.op_type}_{index}", names)


def _drop_constant_inputs(model: ModelProto) -> None:
    """Before IR version 4 every weight was also an input; here a weight is a constant."""
    graph = model.graph
    model.ir_version = max(model.ir_version, 4)  # onnx's inference knows no weights otherwise
    weights = {tensor.name for tensor in graph.initializer}
    set_items(graph.input, [value for value in graph.input if value.name not in weights])


def copy_inputs_given_back(model: ModelProto) -> dict[str, str]:
    """Gives outputs that are inputs, under the same name, names of their own, in place: input → output."""
    graph = model.graph
    outputs = {value.name for value in graph.output}
    taken = outputs | {name for node in graph.node for name in (*node.input, *node.output)}
    given = {v.name: fresh_name(f"{v.name}_out", taken) for v in graph.input if v.name in outputs}
    for value in graph.output:
        if value.name in given:
            name, value.name = value.name, given[value.name]
            graph.node.append(onnx.helper.make_node("Identity", [name], [value.name], name=value.name))
    return given


def _fix_shapes(graph: GraphProto, shapes: Shapes) -> None:
    """Give each open dimension of the inputs its size from `shapes`, a symbol the same size everywhere."""
    inputs = {value.name: value for value in graph.input}
    for name in shapes:
        if name not in inputs:
            known = f"{_quoted(inputs)}{did_you_mean(name, inputs)}"
            raise UsageError(f"--shape {name}=...: the model has no input '{name}'; it has {known}")
    bound: dict[str, tuple[int, str]] = {}
    for name, shape in shapes.items():
        option = f"--shape {name}={'x'.join(map(str, shape))}"
        if inputs[name].type.WhichOneof("value") != "tensor_type":
            raise UsageError(f"{option}: the input '{name}' is not a tensor")
        tensor = inputs[name].type.tensor_type
        if any(size < 1 for size in shape):
            raise UsageError(f"{option}: sizes must be 1 or more")
        if not tensor.HasField("shape"):
            tensor.shape.SetInParent()
            for _ in shape:
                tensor.shape.dim.add()
        dims, stated = tensor.shape.dim, _dims(inputs[name])
        if len(dims) != len(shape):
            raise UsageError(f"{option}: the input '{name}' has {len(dims)} dimensions: {stated}")
        for dim, size in zip(dims, shape, strict=True):
            if dim.dim_param:
                other, where = bound.setdefault(dim.dim_param, (size, option))
                if other != size:
                    raise UsageError(f"{option}: makes '{dim.dim_param}' {size}, but {where} makes it {other}")
            elif dim.HasField("dim_value") and dim.dim_value >= 0 and dim.dim_value != size:
                raise UsageError(f"{option}: the model fixes that input to {stated}; export it with open sizes")
            dim.dim_value = size
    open_inputs = []
    for value in graph.input:
        if value.type.WhichOneof("value") != "tensor_type":
            continue  # refused when the graph is read, with all else that is not supported
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in bound:
                dim.dim_value = bound[dim.dim_param][0]
        if value_type(value.type).shape is None:
            open_inputs.append(value)
    if open_inputs:
        raise UsageError(_open_message(open_inputs))
    # What the file says of inner values may be stale, wrong or hostile: it is inferred anew.
    del graph.value_info[:]
    for value in graph.output:
        if value.type.WhichOneof("value") == "tensor_type":
            value.type.tensor_type.ClearField("shape")


def _open_message(values: list[Any]) -> str:
    lines = ["the model leaves input dimensions open; give each input its shape:"]
    options = []
    symbols: dict[str, None] = {}
    for value in values:
        if not value.type.tensor_type.HasField("shape"):
            lines.append(f"  - input '{value.name}': its number of dimensions and all of them")
            options.append(f"--shape {value.name}=AxBx...")
            continue
        names = []
        proposal = []
        for index, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value >= 0:
                proposal.append(str(dim.dim_value))
                continue
            names.append(f"'{dim.dim_param}'" if dim.dim_param else f"dimension {index} (unnamed)")
            batch = index == 0 and len(value.type.tensor_type.shape.dim) > 1 and _is_batch(dim.dim_param)
            symbol = (dim.dim_param or f"D{index}").replace(" ", "")
            proposal.append("1" if batch else symbol)
            symbols.update({} if batch else {symbol: None})
        lines.append(f"  - input '{value.name}' {_dims(value)}: {', '.join(names)}")
        options.append(f"--shape {value.name}={'x'.join(proposal)}")
    numbers = f", with a number for {', '.join(symbols)}, or bounds such as 1..512" if symbols else ""
    return "\n".join([*lines, f"for example{numbers}: {' '.join(options)}"])


def _is_batch(symbol: str) -> bool:
    return symbol.lower() in ("", "?", "b", "n", "none") or symbol.lower().startswith(("batch", "unk"))


def _dims(value: Any) -> str:
    dims = value.type.tensor_type.shape.dim
    shown = [
        str(dim.dim_value) if dim.HasField("dim_value") and dim.dim_value >= 0 else dim.dim_param or "?" for dim in dims
    ]
    return f"[{', '.join(shown)}]"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"


# --- functions --------------------------------------------------------------------------------------------------------


def _inline_functions(model: ModelProto) -> ModelProto:
    """Replace the calls of the model's own functions by their bodies."""
    if not model.functions:
        return model
    before = [(node.name, list(node.output)) for node in model.graph.node]
    light, heavy = lighten(model)
    try:
        light = onnx.inliner.inline_local_functions(light, convert_version=True)
    except Exception as error:  # noqa: BLE001 - raised from C++
        raise UnsupportedError(f"the model's functions cannot be inlined: {first_line(error)}") from None
    _name_inlined(light.graph, before)
    return restore(light, heavy)


def _inline_operators(model: ModelProto, inline_ops: InlineOps | None, room: Room) -> ModelProto:
    """Replace the chosen operators by ONNX's own definition of them, again and again until none is left."""
    inline_ops = inline_ops or (lambda *_: False)
    stuck = set(_NOT_INLINED)
    for _ in range(MAX_ROUNDS):
        fold(model, room)
        version = opset_versions(model)
        chosen = {
            (node.domain, node.op_type)
            for node in model.graph.node
            if (node.domain, node.op_type) not in stuck
            and inline_ops(node.op_type, node.domain)
            and _has_definition(node, version)
        }
        if not chosen:
            break
        before = [(node.name, list(node.output)) for node in model.graph.node]
        count = Counter((node.domain, node.op_type) for node in model.graph.node)
        light, heavy = lighten(model)
        for node in light.graph.node:
            if (node.domain, node.op_type) in chosen:
                _state_defaults(node, version)
        try:
            light = onnx.shape_inference.infer_shapes(light, data_prop=True)
            _state_constants(light.graph)
            if _state_definitions(light, chosen, version):
                light = onnx.inliner.inline_local_functions(light)
            light = onnx.inliner.inline_selected_functions(light, sorted(chosen), inline_schema_functions=True)
        except Exception:  # noqa: BLE001 - raised from C++: leave them, to be reported as not supported
            break
        del light.graph.value_info[:]
        _name_inlined(light.graph, before)
        model = restore(light, heavy)
        constants_to_initializers(model.graph)
        after = Counter((node.domain, node.op_type) for node in model.graph.node)
        stuck |= {key for key in chosen if after[key] >= count[key]}
    return model


def _state_constants(graph: GraphProto) -> None:
    """Tell the types of the weights: the inliner looks for operands' types among inputs and inner values alone."""
    known = {value.name for value in (*graph.input, *graph.value_info)}
    for tensor in graph.initializer:
        if tensor.name not in known:
            graph.value_info.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )


def _state_definitions(model: ModelProto, chosen: set[tuple[str, str]], versions: Mapping[str, int]) -> bool:
    """Make the definitions of nodes that leave out an input functions of the model: onnx's inliner fails there."""
    types = {value.name: value.type for value in (*model.graph.input, *model.graph.value_info, *model.graph.output)}
    for tensor in model.graph.initializer:
        types[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
    for node in model.graph.node:
        if (node.domain, node.op_type) not in chosen or "" not in node.input:
            continue
        schema: Any = onnx.defs.get_schema(node.op_type, versions.get(node.domain, 1), node.domain)
        if not schema.has_context_dependent_function:
            continue
        inputs = [types[name].SerializeToString() if name else b"" for name in node.input]
        function = onnx.FunctionProto.FromString(
            schema.get_context_dependent_function(node.SerializeToString(), inputs)
        )
        function.domain, function.name = _DEFINITIONS, f"{node.op_type}_{len(model.functions)}"
        for entry in function.opset_import:
            entry.version = versions.get(entry.domain, entry.version)
        node.domain, node.op_type = function.domain, function.name
        model.functions.append(function)
    if not model.functions:
        return False
    model.opset_import.append(onnx.helper.make_opsetid(_DEFINITIONS, 1))
    return True


def _state_defaults(node: NodeProto, versions: Mapping[str, int]) -> None:
    """Write out the attributes left at their defaults, which the inliner forgets."""
    schema = onnx.defs.get_schema(node.op_type, versions.get(node.domain, 1), node.domain)
    stated = {attribute.name for attribute in node.attribute}
    for name, attribute in schema.attributes.items():
        if name not in stated and attribute.default_value.type != AttributeProto.UNDEFINED:
            node.attribute.append(attribute.default_value)


def _has_definition(node: NodeProto, versions: Mapping[str, int]) -> bool:
    try:
        schema = onnx.defs.get_schema(node.op_type, versions.get(node.domain, 1), node.domain)
    except onnx.defs.SchemaError:
        return False
    # onnx's type stubs lack both.
    return bool(getattr(schema, "has_function", False) or getattr(schema, "has_context_dependent_function", False))


def _name_inlined(graph: GraphProto, before: list[tuple[str, list[str]]]) -> None:
    """Name the nodes of an inlined body after the node they replace, which computed the body's last value."""
    owner = {name: node for node, outputs in before for name in outputs if name}
    names = {node.name for node in graph.node if node.name}
    current = ""
    for node in reversed(graph.node):
        current = next((owner[name] for name in node.output if name in owner), current)
        if not node.name:
            node.name = fresh_name(f"{current}/{node.op_type}", names)


def _check_sizes(model: ModelProto, types: Mapping[str, ValueType]) -> None:
    """Refuse values that no memory should be taken for, before anything is computed."""
    places = [(f"input '{value.name}'", value.name) for value in model.graph.input]
    places += [(f"{describe(node)}: its output '{name}'", name) for node in model.graph.node for name in node.output]
    large = []
    for where, name in places:
        kind = types.get(name, ValueType())
        size = math.prod(kind.shape or ()) * TENSOR_BITS.get(kind.elem, 0) // 8
        if len(kind.shape or ()) > MAX_RANK:
            large.append(f"{where} has {len(kind.shape or ())} dimensions")
        elif size > MAX_MODEL_BYTES:
            large.append(f"{where} has the shape {list(kind.shape or ())}, {size} bytes")
    if large:
        raise UnsupportedError(f"values of more than 2 GiB or {MAX_RANK} dimensions are not supported:", tuple(large))


# --- folding ----------------------------------------------------------------------------------------------------------


def _finish(model: ModelProto) -> None:
    """Let a node compute every output: Identity where it is constant, the node itself where it was copied."""
    graph = model.graph
    _rename_outputs(graph)
    taken = {name for node in graph.node for name in node.output} | {value.name for value in graph.input}
    taken |= {tensor.name for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    for tensor in graph.initializer:
        if tensor.name not in outputs:
            continue
        name = tensor.name
        tensor.name = fresh_name(f"{name}/value", taken)
        for node in graph.node:
            rename_values(node, {name: tensor.name})
        graph.node.append(onnx.helper.make_node("Identity", [tensor.name], [name], name=name))
    drop_dead(graph)


def _rename_outputs(graph: GraphProto) -> None:
    """Where an Identity only names an output, let the node before it compute that output."""
    outputs = {value.name for value in graph.output}
    producers = {name: node for node in graph.node for name in node.output if name}
    inner = {name for node in graph.node for sub in subgraphs(node) for name in free_names(sub)}
    names: dict[str, str] = {}
    kept = []
    for node in graph.node:
        if node.op_type == "Identity" and node.domain == "":
            source = node.input[0]
            if source in producers and source not in outputs and source not in inner and source not in names:
                names[source] = node.output[0]
                continue
        kept.append(node)
    if not names:
        return
    for node in kept:
        for index, name in enumerate(node.input):
            node.input[index] = names.get(name, name)
        for index, name in enumerate(node.output):
            node.output[index] = names.get(name, name)
    set_items(graph.node, kept)
