"""Loops that change a shape from trip to trip, or fill a sequence: with a known trip count they are unrolled."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper

from dlpack.model.control import body_of, loop_types, outside_of, trips_of
from dlpack.model.fold import fresh_name, inline_graph, set_items
from dlpack.model.walk import opset_versions, subgraphs

MAX_NODES = 20_000
"""A loop that would make a model of more nodes is left as it is."""


def unroll(model: ModelProto) -> bool:
    """Unroll the first loop whose outputs' types are unknown, if possible; returns whether it was."""
    graph = model.graph
    opset = opset_versions(model).get("", 0)
    outside = outside_of(graph, opset)
    for index, node in enumerate(graph.node):
        if node.op_type != "Loop" or node.domain or loop_types(node, outside):
            continue
        trips = trips_of(node, outside)
        if not trips.count or trips.conditional:
            continue
        if len(graph.node) + trips.count * (_nodes(body_of(node)) + len(node.output)) > MAX_NODES:
            continue
        nodes = _unrolled(model, node, trips.count, opset)
        set_items(graph.node, [*graph.node[:index], *nodes, *graph.node[index + 1 :]])
        return True
    return False


def _nodes(graph: GraphProto) -> int:
    return sum(1 + sum(map(_nodes, subgraphs(node))) for node in graph.node)


def _unrolled(model: ModelProto, node: NodeProto, count: int, opset: int) -> list[NodeProto]:
    graph, body = model.graph, GraphProto()
    body.CopyFrom(body_of(node))
    taken = {name for n in graph.node for name in n.output} | {t.name for t in graph.initializer}
    taken |= {value.name for value in graph.input}

    def constant(value: object, hint: str) -> str:
        name = fresh_name(f"{node.name}/{hint}", taken)
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    shared = {}  # the weights, which all trips read
    for tensor in body.initializer:
        shared[tensor.name] = fresh_name(f"{node.name}/{tensor.name}", taken)
        graph.initializer.add().CopyFrom(tensor)
        graph.initializer[-1].name = shared[tensor.name]
    del body.initializer[:]
    shapes = [(1,) * len(value.type.tensor_type.shape.dim) for value in body.input[:2]]
    going = constant(np.ones(shapes[1], np.bool_), "going")
    axes = constant(np.array([0], np.int64), "axes") if opset >= 13 else ""
    states = list(node.input[2:])
    rows: list[list[str]] = [[] for _ in node.output[len(states) :]]
    made: list[NodeProto] = []
    for trip in range(count):
        number = constant(np.full(shapes[0], trip, np.int64), "trip")
        given = dict(zip((value.name for value in body.input), [number, going, *states], strict=True))
        nodes, _, outputs = inline_graph(body, shared | given, f"{node.name}/{trip}", taken)
        made += nodes
        states = outputs[1 : 1 + len(states)]
        for row, value in zip(rows, outputs[1 + len(states) :], strict=True):
            row.append(fresh_name(f"{value}/row", taken))
            if axes:
                made.append(helper.make_node("Unsqueeze", [value, axes], row[-1:], name=row[-1]))
            else:
                made.append(helper.make_node("Unsqueeze", [value], row[-1:], name=row[-1], axes=[0]))
    for value, output in zip(states, node.output, strict=False):
        if output:
            made.append(helper.make_node("Identity", [value], [output], name=f"{node.name}/{output}"))
    for row, output in zip(rows, node.output[len(states) :], strict=True):
        if output:
            made.append(helper.make_node("Concat", row, [output], name=f"{node.name}/{output}", axis=0))
    return made
