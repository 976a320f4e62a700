"""Nodes that onnxruntime refuses, computes otherwise or dies of, in a form that it computes as the standard says.

SAME padding becomes explicit pads. ONNX says that the input is padded so that as many windows fit as steps begin in it,
and that pads are not negative. So where the windows are smaller than their steps, the pads are 0 and the first window
begins at the first element, as TensorFlow defines it. onnxruntime and ONNX's reference differ there from each other and
from operator to operator: they begin later, refuse the node, or leave a window out. They also ignore or refuse
dilations.

Einsum of operands without elements becomes zeros: onnxruntime divides by their number.

GroupNormalization becomes InstanceNormalization between reshapes, as PyTorch writes it: onnxruntime has no kernel for
it, and puts a definition in its place whose variance is the difference of two means, which cancels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from dlpack.model.contrib_body import Body
from dlpack.model.fold import set_items
from dlpack.model.infer import ValueType, infer_types

_WEIGHTS: Mapping[str, int] = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
"""The input whose last dimensions are the window's size."""
_POOLS = frozenset(("AveragePool", "LpPool", "MaxPool"))


def restate(model: ModelProto) -> None:
    """Changes the nodes of `model` for which this is needed, as far as the shapes of their operands are known."""
    padded = [node for node in model.graph.node if _pads_same(node)]
    sums, norms = (_of_op(model.graph, op) for op in ("Einsum", "GroupNormalization"))
    if not padded and not sums and not norms:
        return
    types = infer_types(model)
    for node in padded:
        _state_pads(node, types)
    for node in sums:
        shapes = [types.get(name, ValueType()).shape for name in node.input]
        if any(shape is not None and 0 in shape for shape in shapes):
            _state_zeros(node, model.graph, [types.get(name, ValueType()) for name in node.input])
    stated = {node.output[0]: _stated_groups(node, types, model.graph) for node in norms}
    if stated:
        nodes = ((n, stated.get(n.output[0]) if n.output else None) for n in model.graph.node)
        set_items(model.graph.node, [new for node, instead in nodes for new in instead or [node]])


def _of_op(graph: GraphProto, op: str) -> list[NodeProto]:
    return [node for node in graph.node if node.op_type == op and not node.domain]


def _pads_same(node: NodeProto) -> bool:
    if node.domain or node.op_type not in (*_WEIGHTS, *_POOLS):
        return False
    return any(a.name == "auto_pad" and a.s.startswith(b"SAME_") for a in node.attribute)


def _state_pads(node: NodeProto, types: Mapping[str, ValueType]) -> None:
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    shape = types.get(node.input[0], ValueType()).shape
    kernel = attributes.get("kernel_shape")
    if kernel is None and node.op_type in _WEIGHTS:
        weight = types.get(node.input[_WEIGHTS[node.op_type]], ValueType()).shape
        kernel = weight[2:] if weight is not None else None
    if shape is None or kernel is None or len(kernel) != len(shape) - 2:
        return
    n = len(kernel)
    strides, dilations = (attributes.get(name) or [1] * n for name in ("strides", "dilations"))
    if len(strides) != n or len(dilations) != n or min(*strides, *dilations) < 1:
        return  # a damaged node, which is reported elsewhere
    pads = [0] * (2 * n)
    for d, (size, k, stride, dilation) in enumerate(zip(shape[2:], kernel, strides, dilations, strict=True)):
        windows = -(-size // stride)
        total = max(0, (windows - 1) * stride + (k - 1) * dilation + 1 - size)
        low = total // 2 if attributes["auto_pad"] == b"SAME_UPPER" else total - total // 2
        pads[d], pads[n + d] = low, total - low
    # With SAME, ceil_mode makes no further window.
    kept = [a for a in node.attribute if a.name not in ("auto_pad", "ceil_mode", "pads")]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute("pads", pads)])


def _state_zeros(node: NodeProto, graph: GraphProto, operands: Sequence[ValueType]) -> None:
    """Makes an Einsum a copy of zeros."""
    if not all(kind.known for kind in operands):
        return
    equation = next(a.s for a in node.attribute if a.name == "equation").decode()
    dtype = helper.tensor_dtype_to_np_dtype(operands[0].elem)
    with suppress(ValueError):  # operands that do not fit, which is reported elsewhere
        zeros = np.einsum(equation, *(np.zeros(kind.shape or (), dtype) for kind in operands))
        name = f"{node.output[0]}/zeros"
        graph.initializer.append(numpy_helper.from_array(np.asarray(zeros, dtype), name))
        node.CopyFrom(helper.make_node("Identity", [name], node.output, name=node.name))


def _stated_groups(node: NodeProto, types: Mapping[str, ValueType], graph: GraphProto) -> list[NodeProto]:
    """What computes a GroupNormalization of float32: the values of each group in one row, which is normalised. Nothing
    for one of another type, or a damaged one, which is reported elsewhere.

    Scale and bias are those of channels, or up to opset 20 of groups.
    """
    x, *factors = (types.get(name, ValueType()) for name in node.input)
    groups = next((a.i for a in node.attribute if a.name == "num_groups"), 0)
    shape = x.shape or ()
    if x.elem != TensorProto.FLOAT or len(shape) < 3 or 0 in shape or groups < 1 or shape[1] % groups:
        return []
    if len(factors) != 2 or any(f.shape not in ((groups,), (shape[1],)) for f in factors):
        return []
    body = Body(node.output[0])
    one, zero = (body.array(np.full(groups, v), np.float32) for v in (1, 0))
    kept = {a.name: a.f for a in node.attribute if a.name == "epsilon"}
    y = body.add("InstanceNormalization", body.reshape(node.input[0], 0, groups, -1), one, zero, **kept)
    y = body.reshape(y, 0, *shape[1:])
    channels = [shape[1], *[1] * (len(shape) - 2)]

    def of_channels(name: str, kind: ValueType) -> str:
        if kind.shape != (shape[1],):
            same = body.array([groups, shape[1] // groups])
            name = body.add("Expand", body.reshape(name, groups, 1), same)
        return body.reshape(name, *channels)

    y = body.add("Mul", y, of_channels(node.input[1], factors[0]))
    body.add("Add", y, of_channels(node.input[2], factors[1]))
    body.nodes[-1].output[0], body.nodes[-1].name = node.output[0], node.name
    graph.initializer.extend(body.arrays)
    return body.nodes
