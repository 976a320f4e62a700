"""Nodes that onnxruntime refuses, computes otherwise or dies of, in a form that it computes as the standard says.

SAME padding becomes explicit pads. ONNX says that the input is padded so that as many windows fit as steps begin in it,
and that pads are not negative. So where the windows are smaller than their steps, the pads are 0 and the first window
begins at the first element, as TensorFlow defines it. onnxruntime and ONNX's reference differ there from each other and
from operator to operator: they begin later, refuse the node, or leave a window out. They also ignore or refuse
dilations.

Einsum of operands without elements becomes zeros: onnxruntime divides by their number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from dlpack.model.infer import ValueType, infer_types

_WEIGHTS: Mapping[str, int] = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
"""The input whose last dimensions are the window's size."""
_POOLS = frozenset(("AveragePool", "LpPool", "MaxPool"))


def restate(model: ModelProto) -> None:
    """Changes the nodes of `model` for which this is needed, as far as the shapes of their operands are known."""
    padded = [node for node in model.graph.node if _pads_same(node)]
    sums = [node for node in model.graph.node if node.op_type == "Einsum" and not node.domain]
    if not padded and not sums:
        return
    types = infer_types(model)
    for node in padded:
        _state_pads(node, types)
    for node in sums:
        shapes = [types.get(name, ValueType()).shape for name in node.input]
        if any(shape is not None and 0 in shape for shape in shapes):
            _state_zeros(node, model.graph, [types.get(name, ValueType()) for name in node.input])


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
