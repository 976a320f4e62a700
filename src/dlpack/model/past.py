"""The past of a decoder's export: without it, for the reference, and as caches of the graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from onnx import ModelProto, numpy_helper

from dlpack.errors import UnsupportedError
from dlpack.graph.ir import Cache, Graph, Node
from dlpack.meaning.generation import Generation
from onnx.helper import tensor_dtype_to_np_dtype

_CARRIED = ("Identity", "Cast")


def without_past(model: ModelProto, generation: Generation) -> ModelProto:
    """The cleaned model as a new predictor computes it: each past is zeros, and no present is an output."""
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    for value in [v for v in graph.input if v.name in generation.caches]:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        zeros = np.zeros(shape, tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        graph.initializer.append(numpy_helper.from_array(zeros, value.name))
        graph.input.remove(value)
    for output in [v for v in graph.output if v.name in generation.caches.values()]:
        graph.output.remove(output)
    return result


def with_caches(graph: Graph, generation: Generation) -> Graph:
    """The graph of the cleaned model, in which the rows of past and present lie in caches.

    Raises UnsupportedError where a present is not its past with further rows behind it.
    """
    producers, consumers = graph.producers(), graph.consumers()
    caches = []
    for past, present in generation.caches.items():
        joined, start = _carried_back(present, producers), _carried_on(past, consumers)
        node = producers.get(joined)
        rank = len(graph.types[joined].shape)
        if node is None or node.op != "Concat" or node.attrs["axis"] % rank != rank - 2 or node.inputs[0] != start:
            raise UnsupportedError(
                f"the output '{present}' is not '{past}' with the rows of the new tokens behind it (a Concat), so the "
                "cache cannot be kept in place: give each input its --shape to build the model as it is"
            )
        caches.append(Cache(start, joined, generation.room))
    hidden = {*generation.caches, *generation.caches.values()}
    return _live(
        replace(
            graph,
            inputs=tuple(i for i in graph.inputs if i not in hidden),
            outputs=tuple(o for o in graph.outputs if o not in hidden),
            caches=tuple(caches),
        )
    )


def _carried_back(value: str, producers: dict[str, Node]) -> str:
    """The value that another is a copy of, or the same in another type: exports in 16 bits are computed in 32."""
    while value in producers and producers[value].op in _CARRIED:
        value = producers[value].inputs[0]
    return value


def _carried_on(value: str, consumers: dict[str, list[Node]]) -> str:
    while len(readers := consumers.get(value, [])) == 1 and readers[0].op in _CARRIED:
        value = readers[0].outputs[0]
    return value


def _live(graph: Graph) -> Graph:
    """The graph without what only a present or a past was there for."""
    needed = {*graph.outputs, *(c.present for c in graph.caches)}
    started = {c.past for c in graph.caches}
    nodes = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs) and not started.intersection(node.outputs):
            nodes.append(node)
            needed.update(node.inputs)
    return replace(graph, nodes=tuple(reversed(nodes)))
