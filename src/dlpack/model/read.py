"""ONNX to the graph IR: a cleaned model with static shapes becomes an `ir.Graph`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import onnx
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto

from dlpack.errors import UnsupportedError
from dlpack.graph.ir import BITS, STORED, Array, Graph, Node, TensorType
from dlpack.model import strings_moves, strings_rules  # noqa: F401 - what it enters
from dlpack.model.bodies import captured, lift
from dlpack.model.contrib_absent import advice
from dlpack.model.control import Outside, is_control_flow, trips_of
from dlpack.model.infer import (
    ValueType,
    dynamic_values,
    element_type_name,
    infer_types,
    run_types,
    to_numpy,
)
from dlpack.model.sized import Sized, check_maxima, has_rule, with_sizes
from dlpack.model.sized_work import is_limited
from dlpack.model.strings import without_strings
from dlpack.model.walk import describe, first_line, opset_versions

MAX_VALUE_BYTES = 2**31 - 1


def read_graph(
    model: ModelProto,
    supports: Callable[[str, str], bool] | None = None,
    maxima: Mapping[str, int] | None = None,
) -> Graph:
    """The model as a graph in which every value has a static type.

    A value whose size only a run knows has its largest size, which `maxima` may state by the name of a value or a node.
    The true shape of such an output is a further output (`sized.py`).

    Every output is computed by a node: one that is constant, or an input itself, comes from an Identity.
    A branch or a loop's body is an attribute of its node, a Graph. The values that it takes from outside are the last
    inputs of the node and of the body; the attribute `captures` counts them.
    `supports(op, domain)` says what can be compiled. Raises UnsupportedError that lists every node that cannot,
    and every value without a static type.
    """
    known = infer_types(model)
    maxima = maxima or {}
    strings = without_strings(model, known, maxima)
    if strings:
        model, known = strings.model, infer_types(strings.model)
        maxima = {name: most for name, most in maxima.items() if name not in strings.words}
    sized = _sized(model, known, maxima, supports, strings.widths if strings else {})
    if sized:
        model, known = sized.model, sized.types
    problems = _unsupported_nodes(model, supports)
    types = _value_types(model, dict(known), problems)
    bodies = _bodies(model, supports, known, problems)
    if problems:
        raise UnsupportedError("the model cannot be compiled:", tuple(dict.fromkeys(problems)))

    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    constants: dict[str, Array] = {name: _elements(tensor) for name, tensor in weights.items()}
    versions = opset_versions(model)
    names: set[str] = set()
    nodes = []
    for index, proto in enumerate(model.graph.node):
        source = proto.name or f"{proto.op_type}_{index}"
        name, copy = source, 1
        while name in names:
            name, copy = f"{source}_{copy}", copy + 1
        names.add(name)
        inputs = tuple(proto.input)
        attrs: dict[str, Any] = dict(bodies.get(index, {}))
        attrs |= {a.name: attribute_value(a, proto) for a in proto.attribute if a.name not in attrs}
        if is_control_flow(proto):
            outside = captured(proto, weights)
            inputs += tuple(outside)
            attrs["captures"] = len(outside)
        if index in bodies and proto.op_type == "Loop":
            trips = trips_of(proto, Outside(weights, versions.get("", 0)))
            attrs |= {"trips": trips.count, "conditional": trips.conditional}
        nodes.append(
            Node(
                op=proto.op_type,
                inputs=inputs,
                outputs=tuple(proto.output),
                attrs=attrs,
                name=name,
                domain=proto.domain,
                opset=versions.get(proto.domain, 0),
                sources=(source,),
            )
        )
    return Graph(
        name=model.graph.name,
        inputs=tuple(value.name for value in model.graph.input),
        outputs=tuple(value.name for value in model.graph.output),
        nodes=tuple(nodes),
        constants=constants,
        types=types,
        sizes=sized.shapes if sized else {},
        limits=sized.limits if sized else {},
        exceeded=sized.exceeded if sized else "",
        strings=strings.widths if strings else {},
        words=strings.words if strings else {},
    )


def _sized(
    model: ModelProto,
    known: dict[str, ValueType],
    maxima: Mapping[str, int],
    supports: Callable[[str, str], bool] | None,
    strings: Mapping[str, int],
) -> Sized | None:
    """The model with sizes, if there are values whose size only a run knows.

    Raises UnsupportedError with what cannot be computed with sizes, and all else that is not supported.
    """
    unknown = [name for node in model.graph.node for name in node.output if name and not _known(known, name)]
    dynamic = dynamic_values(model) if unknown else {}
    sized = any(name in dynamic for name in unknown) or any(is_limited(node, maxima) for node in model.graph.node)
    if not sized or any(not _known(known, v.name) for v in model.graph.input):
        check_maxima(maxima, model, set())
        return None
    rest = [name for name in unknown if name not in dynamic]
    if rest:
        with suppress(Exception):  # what onnxruntime raises; it is reported where the graph is read
            known = {**known, **run_types(model, rest, known)}
    try:
        return with_sizes(model, known, maxima, strings)
    except UnsupportedError as error:
        said = _unsupported_nodes(model, supports, has_rule)
        nodes = tuple(text.partition("): ")[0] for text in said)
        more = [p for p in error.problems if not p.startswith(nodes)]
        raise UnsupportedError("the model cannot be compiled:", (*said, *more)) from None


def _known(types: Mapping[str, ValueType], name: str) -> bool:
    return types.get(name, ValueType()).known


def _elements(tensor: TensorProto) -> Array:
    """A weight's elements as kernels see them (`STORED`): floats of 16 bits and less as their bits."""
    array = to_numpy(tensor)
    kind = STORED.get(array.dtype.name)
    if kind is None:
        return array
    return array.view(kind) if array.dtype.name in BITS else array.astype(kind)


def _bodies(
    model: ModelProto,
    supports: Callable[[str, str], bool] | None,
    types: Mapping[str, ValueType],
    problems: list[str],
) -> dict[int, dict[str, Graph]]:
    """Node index → attribute name → body, for all branches and loops. What cannot be compiled goes to `problems`."""
    found: dict[int, dict[str, Graph]] = {}
    for index, node in enumerate(model.graph.node):
        if not is_control_flow(node):
            continue
        for attribute in node.attribute:
            if attribute.type != AttributeProto.GRAPH:
                continue
            lifted = lift(model, node, attribute.g, types)
            if lifted is None:
                if not problems:
                    problems.append(f"{describe(node)}: the shape of a value that it reads is not known")
                continue
            try:
                body = read_graph(lifted, supports)
                if body.sizes:
                    names = ", ".join(f"'{name}'" for name in body.sizes)
                    problems.append(f"{describe(node)}: only a run knows the size of {names}, which its body gives")
                found.setdefault(index, {})[attribute.name] = body
            except UnsupportedError as error:
                problems.extend(error.problems)
    return found


def attribute_value(attribute: AttributeProto, node: NodeProto) -> Any:
    """A plain Python value: int, float, str, a list of these, a numpy array; a subgraph stays a GraphProto."""
    kind = attribute.type
    if kind == AttributeProto.FLOAT:
        return attribute.f
    if kind == AttributeProto.INT:
        return attribute.i
    if kind == AttributeProto.STRING:
        return attribute.s.decode("utf-8", "replace")
    if kind == AttributeProto.TENSOR:
        return to_numpy(attribute.t)
    if kind == AttributeProto.GRAPH:
        return attribute.g
    if kind == AttributeProto.FLOATS:
        return list(attribute.floats)
    if kind == AttributeProto.INTS:
        return list(attribute.ints)
    if kind == AttributeProto.STRINGS:
        return [text.decode("utf-8", "replace") for text in attribute.strings]
    if kind == AttributeProto.TENSORS:
        return [to_numpy(tensor) for tensor in attribute.tensors]
    if kind == AttributeProto.GRAPHS:
        return list(attribute.graphs)
    names = {number: text.lower() for text, number in AttributeProto.AttributeType.items()}
    name = names.get(kind, f"value of the unknown kind {kind}")
    problem = f"{describe(node)}: its attribute '{attribute.name}' is a {name}, which is not supported"
    raise UnsupportedError("the model cannot be compiled:", (problem,))


def _unsupported_nodes(
    model: ModelProto,
    supports: Callable[[str, str], bool] | None,
    but: Callable[[NodeProto], bool] = lambda _: False,
) -> list[str]:
    versions = opset_versions(model)
    problems = []
    for node in model.graph.node:
        if but(node):
            continue
        if supports is not None:
            good = supports(node.op_type, node.domain)
        else:
            good = onnx.defs.has(node.op_type, node.domain) or node.domain == "com.microsoft"
        if not good:
            name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            version = versions.get(node.domain)
            instead = advice(node.op_type, node.domain)
            problems.append(
                f"{describe(node)}: the operator {name}{f' (opset {version})' if version else ''} is not supported"
                f"{f'; {instead}' if instead else ''}"
            )
    return problems


def _value_types(model: ModelProto, types: dict[str, ValueType], problems: list[str]) -> dict[str, TensorType]:
    """The static type of each value, from what is inferred. What has none is added to `problems`, each cause once."""
    graph = model.graph
    for value in graph.input:
        if types[value.name].kind == "tensor" and not types[value.name].known:
            problems.append(f"input '{value.name}': its shape is open; fix it with --shape")
    produced = [(node, name) for node in graph.node for name in node.output if name]
    unknown = [name for _, name in produced if not types.get(name, ValueType()).known]
    dynamic = dynamic_values(model)
    problems.extend(dynamic[name] for name in unknown if name in dynamic)
    owners = {name: describe(node) for node, name in produced}
    for name, kind in types.items():
        _check_type(f"{owners[name]}: its output '{name}'" if name in owners else f"'{name}'", kind, problems)
    rest = [name for name in unknown if name not in dynamic]
    if problems:
        return {}
    if rest:
        try:
            found = run_types(model, rest, types)
        except Exception as error:  # noqa: BLE001 - onnxruntime raises many kinds
            problems.append(f"{owners[rest[0]]}: the shape of '{rest[0]}' cannot be found: {first_line(error)}")
            return {}
        for name, kind in found.items():
            _check_type(f"{owners[name]}: its output '{name}'", kind, problems)
        types.update(found)
    problems.extend(
        f"output '{value.name}' is a weight itself: give it an Identity"
        for value in graph.output
        if value.name not in owners
    )
    if problems:
        return {}
    return {
        name: TensorType(element_type_name(kind.elem) or "", kind.shape)
        for name, kind in types.items()
        if kind.shape is not None
    }


def _check_type(where: str, kind: ValueType, problems: list[str]) -> None:
    """Add what cannot be compiled about a value's type to `problems`; what is not known yet is no problem."""
    if kind.kind != "tensor":
        problems.append(f"{where} is of the kind {kind.kind}, which is not supported")
        return
    if kind.elem == TensorProto.UNDEFINED:
        return
    name = element_type_name(kind.elem)
    if name is None:
        names = {number: text.lower() for text, number in TensorProto.DataType.items()}
        element = names.get(kind.elem, str(kind.elem))
        problems.append(f"{where} has the element type {element}, which is not supported")
    elif kind.shape is not None and TensorType(name, kind.shape).nbytes > MAX_VALUE_BYTES:
        size = TensorType(name, kind.shape).nbytes
        problems.append(f"{where} has the shape {list(kind.shape)}, {size} bytes; more than 2 GiB is not supported")
