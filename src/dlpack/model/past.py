"""The past of a decoder's export: without it, for the reference, and as caches of the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper
from onnx.helper import tensor_dtype_to_np_dtype

from dlpack.errors import UnsupportedError
from dlpack.graph.ir import Cache, Graph, Node, TensorType
from dlpack.graph.rewrite import remove_dead
from dlpack.meaning.generation import Generation
from dlpack.model.last_scores import with_last_scores

_CARRIED = ("Identity", "Cast")


def without_encoder(model: ModelProto, generation: Generation) -> ModelProto:
    """The model as it reads all tokens but the first: what its encoder has given are inputs, not outputs."""
    needed = {v.name for v in model.graph.output if v.name not in generation.cross}
    nodes = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output) and not generation.cross.keys() & {*node.output}:
            nodes.append(node)
            needed.update(node.input)
            needed.update(name for a in node.attribute for inner in a.g.node for name in inner.input)
    result = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    graph, own = result.graph, model.graph
    graph.name = own.name
    graph.node.extend(reversed(nodes))
    graph.initializer.extend(t for t in own.initializer if t.name in needed)
    graph.input.extend(v for v in own.input if v.name not in {t.name for t in own.initializer})
    graph.input.extend(v for v in own.output if v.name in generation.cross)
    graph.output.extend(v for v in own.output if v.name not in generation.cross)
    for value in graph.input:
        if value.name == generation.features:
            value.type.tensor_type.shape.dim[len(generation.heard) - 1].dim_value = 1
    return result


def part_of(model: ModelProto, generation: Generation, size: tuple[int, int], heard: int) -> ModelProto:
    """What a set of shapes computes of a decoder's export: scores of the last token alone, and the encoder only where
    something is `heard`. `size`: its tokens and slots."""
    part = without_encoder(model, generation) if generation.features and not heard else model
    return with_last_scores(part, generation, *size)


def without_past(model: ModelProto, generation: Generation) -> ModelProto:
    """The cleaned model as a new predictor computes it: each past is zeros, no present is an output, and scores are not
    rounded to 16 bits at the end.

    Raises UnsupportedError where they are not float32 before.
    """
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    kept = {*generation.caches, *generation.cross}
    for value in [v for v in graph.input if v.name in kept]:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        zeros = np.zeros(shape, tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        graph.initializer.append(numpy_helper.from_array(zeros, value.name))
        graph.input.remove(value)
    for output in [v for v in graph.output if v.name in {*generation.caches.values(), *generation.cross}]:
        graph.output.remove(output)
    (scores,) = graph.output
    if scores.type.tensor_type.elem_type != TensorProto.FLOAT:
        (last,) = (n for n in graph.node if scores.name in n.output)
        if last.op_type != "Cast":
            raise UnsupportedError(f"the output '{scores.name}' is not float32, and not made of float32")
        last.op_type = "Identity"
        del last.attribute[:]
        scores.type.tensor_type.elem_type = TensorProto.FLOAT
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
    nodes, types = _scores_in_float32(graph, generation.logits)
    nodes, types = _kept(nodes, types, generation)
    heard = generation.cross_shapes().items()
    caches += [Cache(name, name, shape[2], name.endswith("key")) for name, shape in heard]
    hidden = {*generation.caches, *generation.caches.values(), *generation.cross}
    started = {c.past for c in caches if c.past != c.present}
    return remove_dead(
        replace(
            graph,
            nodes=tuple(n for n in nodes if not started.intersection(n.outputs)),
            types=types,
            inputs=tuple(i for i in graph.inputs if i not in hidden),
            outputs=tuple(o for o in graph.outputs if o not in hidden),
            caches=tuple(caches),
            filled=generation.mask,
        )
    )


def _scores_in_float32(graph: Graph, name: str) -> tuple[tuple[Node, ...], Mapping[str, TensorType]]:
    """Nodes and types where the scores are not rounded to 16 bits at the end."""
    last = graph.producers()[name]
    if graph.types[name].dtype == "float32" or last.op != "Cast":
        return graph.nodes, graph.types
    plain = replace(last, op="Identity", attrs={})
    types = {**graph.types, name: graph.types[last.inputs[0]]}
    return tuple(plain if n is last else n for n in graph.nodes), types


def _kept(
    nodes: tuple[Node, ...], types: Mapping[str, TensorType], generation: Generation
) -> tuple[tuple[Node, ...], Mapping[str, TensorType]]:
    """The nodes where what is heard is copied to its place in the predictor, as it may be a view of something else."""
    made = {o for n in nodes for o in n.outputs} & generation.cross.keys()
    inner = {name: f"{name}/value" for name in made}
    out: list[Node] = []
    for node in nodes:
        out.append(replace(node, outputs=tuple(inner.get(o, o) for o in node.outputs)))
        for name in made.intersection(node.outputs):
            out.append(Node("Copy", (inner[name],), (name,), {}, f"{name}/copy", "dlpack", 1, node.sources))
    return tuple(out), {**types, **{inner[name]: types[name] for name in made}}


def _carried(node: Node) -> bool:
    """Whether a node only copies, or changes the type: exports in 16 bits are computed in 32."""
    return node.op in _CARRIED or (node.op == "Concat" and len(node.inputs) == 1)


def _carried_back(value: str, producers: dict[str, Node]) -> str:
    while value in producers and _carried(producers[value]):
        value = producers[value].inputs[0]
    return value


def _carried_on(value: str, consumers: dict[str, list[Node]]) -> str:
    while len(readers := consumers.get(value, [])) == 1 and _carried(readers[0]):
        value = readers[0].outputs[0]
    return value
