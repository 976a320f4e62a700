"""Whether an ONNX model's graphs, functions and nodes hold together; nodes are brought into topological order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from dlpack.errors import ModelError
from dlpack.model.walk import (
    MAX_SUBGRAPH_DEPTH,
    describe,
    first_line,
    graphs,
    opset_versions,
    reads,
    replace_nodes,
    subgraphs,
)

MAX_INLINED_NODES = 1_000_000


def check_graph(graph: GraphProto, outer: set[str], depth: int) -> None:
    """Check that each value is produced exactly once and that nothing waits for itself; sort the nodes."""
    if depth > MAX_SUBGRAPH_DEPTH:
        raise ModelError(f"graphs are nested more than {MAX_SUBGRAPH_DEPTH} deep (in '{graph.name}')")
    inputs: set[str] = set()
    for value in graph.input:
        if not value.name:
            raise ModelError(f"an input of the graph '{graph.name}' has no name")
        if not depth:
            _check_input_type(value)
        if value.name in inputs:
            raise ModelError(f"two inputs of the graph are named '{value.name}'; rename one")
        inputs.add(value.name)
    known = set(inputs)
    constants: set[str] = set()
    for tensor in graph.initializer:
        if tensor.name in constants:
            raise ModelError(f"two weights are named '{tensor.name}'; rename one")
        constants.add(tensor.name)
    known |= constants
    producers: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        if not node.op_type:
            raise ModelError(f"{describe(node)} names no operator")
        if node.domain == "ai.onnx":
            node.domain = ""
        for name in filter(None, node.output):
            if name in producers:
                raise ModelError(
                    f"the value '{name}' is computed twice: by {describe(graph.node[producers[name]])} and "
                    f"by {describe(node)}; each value needs its own name"
                )
            if name in known:
                kind = "an input" if name in inputs else "a weight"
                raise ModelError(f"{describe(node)} computes '{name}', which is {kind} already; rename one")
            producers[name] = index
    known |= outer
    needs = [sorted(reads(node)) for node in graph.node]
    for node, names in zip(graph.node, needs, strict=True):
        for name in names:
            if name not in known and name not in producers:
                raise ModelError(
                    f"{describe(node)} reads '{name}', which no node, input or weight gives; export the model again"
                )
    _sort(graph, [[producers[name] for name in names if name in producers] for names in needs])
    if not graph.output:
        raise ModelError(f"the graph '{graph.name}' has no outputs, so that nothing is to be computed")
    outputs: set[str] = set()
    for value in graph.output:
        if value.name in outputs:
            raise ModelError(f"two outputs of the graph are named '{value.name}'")
        outputs.add(value.name)
        if value.name not in known and value.name not in producers:
            raise ModelError(f"the output '{value.name}' is computed by no node; export the model again")
    visible = known | set(producers)
    for node in graph.node:
        for sub in subgraphs(node):
            check_graph(sub, visible, depth + 1)


def _check_input_type(value: ValueInfoProto) -> None:
    kind = value.type.WhichOneof("value")
    elem = value.type.tensor_type.elem_type
    if kind is None or (kind == "tensor_type" and not elem):
        raise ModelError(f"the input '{value.name}' has no type; export the model again")
    if kind == "tensor_type" and elem not in TensorProto.DataType.values():
        raise ModelError(f"the input '{value.name}' has the unknown element type {elem}")


def _sort(graph: GraphProto, needs: list[list[int]]) -> None:
    """Bring the nodes into topological order; a graph in order stays as it is. `needs`: node → producers' indices."""
    if all(need < index for index, indices in enumerate(needs) for need in indices):
        return
    order: list[int] = []
    waiting = [len(set(indices)) for indices in needs]
    readers: list[list[int]] = [[] for _ in needs]
    for index, indices in enumerate(needs):
        for need in set(indices):
            readers[need].append(index)
    ready = [index for index, count in enumerate(waiting) if not count][::-1]
    while ready:
        index = ready.pop()
        order.append(index)
        for reader in sorted(readers[index], reverse=True):
            waiting[reader] -= 1
            if not waiting[reader]:
                ready.append(reader)
    if len(order) < len(needs):
        stuck = [index for index, count in enumerate(waiting) if count]
        cycle = _cycle(stuck[0], needs, set(stuck))
        names = " -> ".join(describe(graph.node[index]) for index in cycle[:6])
        raise ModelError(f"the nodes wait for each other in a cycle: {names}{' -> ...' if len(cycle) > 6 else ''}")
    replace_nodes(graph, [graph.node[index] for index in order])


def _cycle(start: int, needs: list[list[int]], stuck: set[int]) -> list[int]:
    path: list[int] = []
    place: dict[int, int] = {}
    index = start
    while index not in place:
        place[index] = len(path)
        path.append(index)
        index = next(need for need in needs[index] if need in stuck)
    return [*path[place[index] :], index][::-1]


def check_functions(model: ModelProto) -> None:
    """Refuse functions that call themselves or that blow up when inlined."""
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    if len(functions) < len(model.functions):
        raise ModelError("two functions of the model have the same domain and name; rename one")
    sizes: dict[tuple[str, str, str], int] = {}

    def size(nodes: Iterable[NodeProto], active: tuple[tuple[str, str, str], ...], depth: int) -> int:
        if depth > MAX_SUBGRAPH_DEPTH * 4:
            raise ModelError("functions and graphs are nested too deeply; the file may be damaged")
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type, node.overload)
            total += 1
            for sub in subgraphs(node):
                total += size(sub.node, active, depth + 1)
            if key not in functions:
                continue
            if key in active:
                raise ModelError(f"the function '{node.op_type}' calls itself, which ONNX does not allow")
            if key not in sizes:
                sizes[key] = size(functions[key].node, (*active, key), depth + 1)
            total += sizes[key]
        return total

    if functions and size(model.graph.node, (), 0) > MAX_INLINED_NODES:
        raise ModelError(f"the model has more than {MAX_INLINED_NODES} nodes once its functions are inlined")


def check_nodes(model: ModelProto) -> None:
    """Check each node of a known operator against its schema: attributes there and of the right type, input counts."""
    versions = opset_versions(model)
    context = onnx.checker.DEFAULT_CONTEXT.__class__()
    context.ir_version = model.ir_version
    context.opset_imports = versions
    functions = {(function.domain, function.name) for function in model.functions}
    problems = []
    for graph in graphs(model.graph):
        for node in graph.node:
            if (node.domain, node.op_type) in functions or node.domain not in versions:
                continue
            if not onnx.defs.has(node.op_type, node.domain):
                continue
            try:
                schema = onnx.defs.get_schema(node.op_type, versions[node.domain], node.domain)
            except onnx.defs.SchemaError:
                if node.op_type == "LayerNormalization":  # onnxruntime's optimiser writes it into any opset
                    continue
                problems.append(f"{describe(node)} is not in opset {versions[node.domain]}")
                continue
            if schema.deprecated and node.op_type == "GroupNormalization" and node.domain == "":
                # Opset 21 took the place of the one of opset 18, which models have and which is compiled.
                schema = onnx.defs.get_schema(node.op_type, 21)
                context.opset_imports = {**versions, "": 21}
            if schema.deprecated:
                problems.append(f"{describe(node)} was removed before opset {versions[node.domain]}")
                continue
            try:
                onnx.checker.check_node(_without_bodies(node), context)
            except Exception as error:  # noqa: BLE001 - ValidationError, and what C++ throws
                problems.append(f"{describe(node)}: {first_line(error)}")
                continue
            finally:
                context.opset_imports = versions
            problems.extend(f"{describe(node)}: {problem}" for problem in _unchecked(node, schema))
    if problems:
        raise ModelError("\n- ".join(["the model breaks the ONNX specification; export it again:", *problems]))


def _unchecked(node: NodeProto, schema: onnx.defs.OpSchema) -> Iterator[str]:
    """What onnx's checker lets pass, though onnx or onnxruntime crash on it."""
    for index, name in enumerate(node.input):
        formal = schema.inputs[min(index, len(schema.inputs) - 1)]
        if not name and formal.option != onnx.defs.OpSchema.FormalParameterOption.Optional:
            yield f"its input {index} ('{formal.name}') is absent"
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            yield f"its attribute '{attribute.name}' refers to one of a function, and it is in none"
        if node.op_type == "Split" and attribute.name == "num_outputs" and attribute.i != len(node.output):
            yield f"its attribute num_outputs is {attribute.i}, and it has {len(node.output)} outputs"


def _without_bodies(node: NodeProto) -> NodeProto:
    """The node with empty subgraphs: the checker does not know the values around them."""
    if not subgraphs(node):
        return node
    hollow = NodeProto()
    hollow.CopyFrom(node)
    for sub in subgraphs(hollow):
        sub.CopyFrom(GraphProto(name="body"))
    return hollow
