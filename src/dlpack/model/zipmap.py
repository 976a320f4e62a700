"""ZipMap, which skl2onnx, onnxmltools and CatBoost put at the end: a dict per row, made of the tensor before it."""

from __future__ import annotations

import json

from onnx import ModelProto, NodeProto, TensorProto, helper

_LABELS = "dlpack.labels"


def unzip(model: ModelProto) -> None:
    """Makes the scores before each ZipMap the output itself, in place; its keys become the model's labels.

    The labels are set where the metadata has none, and no other ZipMap has other keys.
    """
    graph = model.graph
    outputs = {value.name: value for value in graph.output}
    keys = set()
    for index, node in enumerate(graph.node):
        if node.op_type != "ZipMap" or node.domain != "ai.onnx.ml" or len(node.input) != 1 or len(node.output) != 1:
            continue
        if (value := outputs.get(node.output[0])) is None:
            continue  # read by a node: not this form
        keys.add(_keys(node))
        value.type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
        graph.node[index].CopyFrom(helper.make_node("Identity", list(node.input), list(node.output), node.name))
    if len(keys) == 1 and (labels := keys.pop()) and all(p.key != _LABELS for p in model.metadata_props):
        entry = model.metadata_props.add()
        entry.key, entry.value = _LABELS, json.dumps(labels)


def _keys(node: NodeProto) -> tuple[str, ...]:
    for attribute in node.attribute:
        if attribute.name == "classlabels_strings":
            return tuple(s.decode("utf-8", "replace") for s in attribute.strings)
        if attribute.name == "classlabels_int64s":
            return tuple(str(v) for v in attribute.ints)
    return ()
