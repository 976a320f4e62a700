"""A decoder's export that computes the scores of the last token of a block alone: no other's are asked for.

The product with the vocabulary is a fifth of the work in a small decoder, and its result the largest value.
"""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from dlpack.meaning.generation import Generation

_EACH = ("Add", "Cast", "Div", "Identity", "Mul", "Tanh")
"""What may follow the product, if it computes each row alone."""

_PRODUCTS = ("MatMul", "MatMulNBits")
_WEIGHTS = ("Cast", "DequantizeLinear", "Identity", "Transpose")
_PREFIX = "dlpack_last_"


def with_last_scores(model: ModelProto, generation: Generation, rows: int, slots: int) -> ModelProto:
    """The export for blocks of `rows` tokens after `slots` slots, which gives the scores of the last that the mask
    lets be: [1, 1, vocabulary]. The same model where these cannot be told apart, or there is one row."""
    if rows == 1:
        return model
    path = _path(model.graph, generation.logits)
    if not path:
        return model
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    product = next(n for n in graph.node if path[-1].output[0] in n.output)
    hidden, last = product.input[0], _PREFIX + "row"
    product.input[0] = _PREFIX + "hidden"
    nodes = _row(graph, generation.mask, rows, slots, last)
    nodes.append(helper.make_node("Gather", [hidden, last], [product.input[0]], name=product.input[0], axis=1))
    at = list(graph.node).index(product)
    for k, node in enumerate(nodes):
        graph.node.insert(at + k, node)
    changed = {name for node in path for name in node.output}
    for value in [v for v in graph.value_info if v.name in changed]:
        graph.value_info.remove(value)
    (scores,) = (v for v in graph.output if v.name == generation.logits)
    scores.type.tensor_type.shape.dim[1].Clear()
    scores.type.tensor_type.shape.dim[1].dim_value = 1
    return result


def _row(graph: GraphProto, mask: str, rows: int, slots: int, name: str) -> list[NodeProto]:
    """Nodes that count the tokens of a block: `name` is the number of the last, int64[1]."""

    def constant(what: str, *values: int) -> str:
        graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), _PREFIX + what))
        return _PREFIX + what

    one = constant("one", 1)
    bounds = [constant("from", slots), constant("to", slots + rows)]
    own, whole, count = (_PREFIX + what for what in ("own", "whole", "count"))
    return [
        helper.make_node("Slice", [mask, *bounds, one], [own], name=own),
        helper.make_node("Cast", [own], [whole], name=whole, to=TensorProto.INT64),
        helper.make_node("ReduceSum", [whole, one], [count], name=count, keepdims=0),
        helper.make_node("Sub", [count, one], [name], name=name),
    ]


def _path(graph: GraphProto, logits: str) -> list[NodeProto]:
    """The nodes from the logits back to the product with the vocabulary; none where there is another node or reader
    between them."""
    producers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, int] = {v.name: 1 for v in graph.output if v.name != logits}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    ranks = {t.name: len(t.dims) for t in graph.initializer}
    path: list[NodeProto] = []
    value, allowed = logits, 0
    while value in producers and readers.get(value, 0) == allowed:
        node, allowed = producers[value], 1
        path.append(node)
        if node.op_type in _PRODUCTS:
            return path if _is_matrix(node.input[1], node.op_type, producers, ranks) else []
        moving = [name for name in node.input if not _is_same_for_all(name, producers, ranks)]
        if node.op_type not in _EACH or len(moving) != 1:
            return []
        value = moving[0]
    return []


def _is_matrix(name: str, op: str, producers: dict[str, NodeProto], ranks: dict[str, int]) -> bool:
    while name in producers and producers[name].op_type in _WEIGHTS:
        name = producers[name].input[0]
    return op != "MatMul" or ranks.get(name) == 2


def _is_same_for_all(name: str, producers: dict[str, NodeProto], ranks: dict[str, int]) -> bool:
    """Whether it is a constant that does not differ from row to row."""
    node = producers.get(name)
    if node is None or node.op_type != "Constant":
        return ranks.get(name, 9) <= 1
    (value,) = node.attribute
    return not value.HasField("t") or len(value.t.dims) <= 1
