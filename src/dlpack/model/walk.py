"""Walking ONNX's protobuf messages: nested graphs, what nodes read, how they are named in errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto

from dlpack.errors import ModelError

MAX_SUBGRAPH_DEPTH = 16


def replace_nodes(graph: GraphProto, nodes: Iterable[NodeProto]) -> None:
    """Gives a graph these nodes, which may be its own in another order."""
    copies = []
    for node in nodes:
        copy = NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    del graph.node[:]
    graph.node.extend(copies)


def graphs(graph: GraphProto, depth: int = 0) -> Iterator[GraphProto]:
    """`graph` and the graphs nested in it."""
    if depth > MAX_SUBGRAPH_DEPTH:
        raise ModelError(
            f"graphs are nested more than {MAX_SUBGRAPH_DEPTH} deep (in '{graph.name}'); the file may be damaged"
        )
    yield graph
    for node in graph.node:
        for sub in subgraphs(node):
            yield from graphs(sub, depth + 1)


def subgraphs(node: NodeProto) -> list[GraphProto]:
    """The graphs in the node's attributes: the branches of If, the bodies of Loop and Scan."""
    found = []
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH or attribute.HasField("g"):
            found.append(attribute.g)
        found.extend(attribute.graphs)
    return found


def reads(node: NodeProto) -> set[str]:
    """The values that a node reads, those that its subgraphs take from outside included."""
    names = {name for name in node.input if name}
    for sub in subgraphs(node):
        names |= free_names(sub)
    return names


def free_names(graph: GraphProto) -> set[str]:
    """The values that a subgraph takes from the graphs around it."""
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    read = {value.name for value in graph.output}
    for node in graph.node:
        own |= set(node.output)
        read |= reads(node)
    return read - own


def describe(node: NodeProto) -> str:
    """The node in words: its name, or what it computes where it has none."""
    if node.name:
        return f"node '{node.name}' ({node.op_type})"
    return f"the {node.op_type} that computes '{next(iter(node.output), '')}'"


def opset_versions(model: ModelProto) -> dict[str, int]:
    """Domain → opset version; "" is ONNX's own domain."""
    return {opset.domain: opset.version for opset in model.opset_import}


def first_line(error: BaseException) -> str:
    """The first line of a library's error text, without its code and its C++ place."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", lines[0])
    text = re.sub(r"/onnxruntime_src/\S+:\d+ .*\) (?=[A-Z])", "", text)
    return text[:300]
