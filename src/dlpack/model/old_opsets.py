"""Models of opset 1 to 6 as models of opset 7.

onnx's own converter lacks many operators of that time, and fails for weights that are no inputs. What changed until
opset 7 is little: attributes told which dimensions of two operands belong together (`broadcast`, `axis`), and some
attributes became inputs, or got another name or another type.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from dlpack.errors import UnsupportedError
from dlpack.model.walk import describe, graphs

OLDEST_OPSET = 7

_TWO_OPERANDS = frozenset(("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less"))
_DROPPED: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(_TWO_OPERANDS, ("broadcast",)),
    "BatchNormalization": ("is_test",),
    "Dropout": ("is_test",),
    "Gemm": ("broadcast",),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), ("output_sequence",)),
}


def modernise(model: ModelProto) -> None:
    """Make a model of opset 1 to 6 one of opset 7, in place. Raises UnsupportedError for a node that cannot be one."""
    for graph in graphs(model.graph):
        for node in graph.node:
            if not node.domain:
                _change(node, graph)
    for entry in model.opset_import:
        if entry.domain == "":
            entry.version = OLDEST_OPSET
    ranks = _ranks(model)
    constants = _constants(model)
    for graph in graphs(model.graph):
        nodes = list(graph.node)
        del graph.node[:]
        for node in nodes:
            if _needs_ranks(node):
                graph.node.extend(_align(node, graph, ranks, constants))
            graph.node.append(node)


# --- what a node says itself ------------------------------------------------------------------------------------------


def _change(node: NodeProto, graph: GraphProto) -> None:
    """All that does not depend on the inputs' shapes."""
    dropped = ("consumed_inputs", *_DROPPED.get(node.op_type, ()))
    kept = [a for a in node.attribute if a.name not in dropped]
    del node.attribute[:]
    node.attribute.extend(kept)
    attributes = {a.name: a for a in node.attribute}
    if node.op_type == "Cast" and attributes["to"].s:
        _state(node, "to", TensorProto.DataType.Value(attributes["to"].s.decode().upper()))
    elif node.op_type == "Pad" and "paddings" in attributes:
        attributes["paddings"].name = "pads"
    elif node.op_type in ("LpPool", "GlobalLpPool") and attributes.get("p", AttributeProto()).f:
        _state(node, "p", round(attributes["p"].f))
    elif node.op_type == "Concat" and "axis" not in attributes:
        _state(node, "axis", 1)
    elif node.op_type == "Upsample" and "width_scale" in attributes:
        height, width = (attributes[name].f for name in ("height_scale", "width_scale"))
        _drop(node, "height_scale", "width_scale")
        _state(node, "scales", [1.0, 1.0, height, width])
    elif node.op_type == "Reshape" and "shape" in attributes:
        node.input.append(_weight(graph, f"{node.output[0]}/shape", list(attributes["shape"].ints)))
        _drop(node, "shape")


def _state(node: NodeProto, name: str, value: object) -> None:
    _drop(node, name)
    node.attribute.append(onnx.helper.make_attribute(name, value))


def _drop(node: NodeProto, *names: str) -> None:
    kept = [a for a in node.attribute if a.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)


def _weight(graph: GraphProto, name: str, value: list[int]) -> str:
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.int64), name))
    return name


# --- what depends on the inputs' shapes -------------------------------------------------------------------------------


def _needs_ranks(node: NodeProto) -> bool:
    if node.domain:
        return False
    inputs = {"Tile": 3, "Split": 2, "PRelu": 2}
    if node.op_type in inputs:
        return len(node.input) == inputs[node.op_type]
    return node.op_type in _TWO_OPERANDS and any(a.name == "axis" for a in node.attribute)


def _ranks(model: ModelProto) -> dict[str, int]:
    """The rank of each value for which it is known. What is not converted yet has that of its first input."""
    copy = ModelProto()
    copy.CopyFrom(model)
    copy.ir_version = max(copy.ir_version, 4)  # from which on a weight need not be an input
    for graph in graphs(copy.graph):
        for node in graph.node:
            if _needs_ranks(node) and node.op_type != "Split":
                node.op_type = "Identity"
                del node.input[1:], node.attribute[:]
    with suppress(Exception):  # raised from C++: some shapes are not known then
        copy = onnx.shape_inference.infer_shapes(copy)
    ranks = {t.name: len(t.dims) for graph in graphs(copy.graph) for t in graph.initializer}
    for graph in graphs(copy.graph):
        for value in (*graph.input, *graph.value_info, *graph.output):
            if value.type.tensor_type.HasField("shape"):
                ranks[value.name] = len(value.type.tensor_type.shape.dim)
        ranks.update({n.output[0]: len(a.t.dims) for n in graph.node if n.op_type == "Constant" for a in n.attribute})
    return ranks


def _constants(model: ModelProto) -> dict[str, TensorProto]:
    found = {}
    for graph in graphs(model.graph):
        found.update({tensor.name: tensor for tensor in graph.initializer})
        found.update({n.output[0]: a.t for n in graph.node if n.op_type == "Constant" for a in n.attribute})
    return found


def _align(
    node: NodeProto, graph: GraphProto, ranks: Mapping[str, int], constants: Mapping[str, TensorProto]
) -> list[NodeProto]:
    """Change a node in place with the ranks of its inputs; gives the nodes that come before it."""
    rank = ranks.get(node.input[0])
    if node.op_type == "Split":
        _state(node, "split", _ints(node, 1, constants))
        del node.input[1:]
        return []
    if rank is None:
        raise _refusal(node, "the number of dimensions of its input is not known")
    if node.op_type == "Tile":
        repeats = [1] * rank
        (times,), (axis,) = _ints(node, 1, constants), _ints(node, 2, constants)
        repeats[axis] = times
        del node.input[1:]
        node.input.append(_weight(graph, f"{node.output[0]}/repeats", repeats))
        return []
    second = ranks.get(node.input[1])
    if second is None:
        raise _refusal(node, "the number of dimensions of its second input is not known")
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    _drop(node, "axis")
    # Ones behind the second operand's dimensions, the first of which belongs to `axis`.
    missing = rank - second - (axis + rank if axis < 0 else axis)
    if missing <= 0 or (node.op_type == "PRelu" and second != 1):
        return []
    name = f"{node.output[0]}/aligned"
    axes = list(range(second, second + missing))
    before = onnx.helper.make_node("Unsqueeze", [node.input[1]], [name], name=name, axes=axes)
    node.input[1] = name
    return [before]


def _ints(node: NodeProto, index: int, constants: Mapping[str, TensorProto]) -> list[int]:
    tensor = constants.get(node.input[index])
    if tensor is None:
        raise _refusal(node, f"its input {index} is not constant")
    return [int(value) for value in onnx.numpy_helper.to_array(tensor).reshape(-1)]


def _refusal(node: NodeProto, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"the model is of an opset before {OLDEST_OPSET}: {describe(node)}: {why}; "
        f"export the model again with opset {OLDEST_OPSET} or newer"
    )
