"""SAME padding of windows as explicit pads.

ONNX says that the input is padded so that there are as many windows as steps begin in it, and that pads are not
negative. So where the windows are smaller than their steps, the pads are 0 and the first window begins at the first
element, as TensorFlow defines it. onnxruntime and ONNX's reference differ there from each other and from operator to
operator: they begin later, refuse the node, or leave a window out. They also ignore or refuse dilations. With explicit
pads, all of them compute the same.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnx import ModelProto, NodeProto, helper

from dlpack.model.infer import ValueType, infer_types

_WEIGHTS: Mapping[str, int] = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
"""The input whose last dimensions are the window's size."""
_POOLS = frozenset(("AveragePool", "LpPool", "MaxPool"))


def state_padding(model: ModelProto) -> None:
    """Gives convolutions and poolings with `auto_pad` SAME the pads that it stands for, where their sizes are known."""
    nodes = [node for node in model.graph.node if _pads_same(node)]
    if not nodes:
        return
    types = infer_types(model)
    for node in nodes:
        _state(node, types)


def _pads_same(node: NodeProto) -> bool:
    if node.domain or node.op_type not in (*_WEIGHTS, *_POOLS):
        return False
    return any(a.name == "auto_pad" and a.s.startswith(b"SAME_") for a in node.attribute)


def _state(node: NodeProto, types: Mapping[str, ValueType]) -> None:
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
