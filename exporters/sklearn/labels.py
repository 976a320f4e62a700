"""The class labels of a scikit-learn classifier, and a graph without strings.

A predictor's values are numbers. So a label that is a string becomes its index among the classes, wherever
the graph makes, moves or compares labels; the names themselves become the model's labels. Labels that are whole numbers
stay what they are, and their names are the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from dlpack.errors import UnsupportedError

_AS_NUMBERS = {  # attributes that list strings → those that list numbers in their place
    "LinearClassifier": {"classlabels_strings": "classlabels_ints"},
    "SVMClassifier": {"classlabels_strings": "classlabels_ints"},
    "TreeEnsembleClassifier": {"classlabels_strings": "classlabels_int64s"},
    "LabelEncoder": {"keys_strings": "keys_int64s", "values_strings": "values_int64s"},
}
_DEFAULTS = ("default_string",)


def class_names(estimator: Any) -> tuple[str, ...] | None:
    """The names of the classes in the order of the scores; None for no classifier, and for one of several outputs."""
    try:
        classes = getattr(estimator, "classes_", None)
    except Exception:  # noqa: BLE001 - a pipeline asks its last step
        return None
    if not isinstance(classes, np.ndarray) or classes.ndim != 1:
        return None
    return tuple(str(int(c)) if isinstance(c, float) and c.is_integer() else str(c) for c in classes.tolist())


def number_strings(model: ModelProto, labels: Sequence[str] | None, text: str) -> None:
    """Replaces the strings of a graph by their index among the labels, in place; those of the input `text` stay.

    Raises UnsupportedError for other strings that are no class labels, such as the labels of several outputs.
    """
    index = {name: k for k, name in enumerate(labels or ())}
    graph = model.graph
    own, plain = _of_text(model, text)
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.STRING and tensor.name not in own:
            tensor.CopyFrom(_numbered(tensor, index))
    for node in plain:
        _number_attributes(node, index)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.STRING and value.name not in own:
            value.type.tensor_type.elem_type = TensorProto.INT64


_MOVES = ("ArrayFeatureExtractor", "Cast", "Concat", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split",
          "Squeeze", "StringNormalizer", "Tokenizer", "Transpose", "Unsqueeze", "Where")  # fmt: skip


def _of_text(model: ModelProto, text: str) -> tuple[set[str], list[NodeProto]]:
    """The strings that come from the input `text` and what they are joined with, and the nodes that read none."""
    own, plain = {text}, []
    for node in model.graph.node:
        if own.isdisjoint(node.input):
            plain.append(node)
            continue
        own.update(node.input)
        if node.op_type in _MOVES:
            own.update(node.output)
    return own, plain


def _number(text: bytes | str, index: dict[str, int]) -> int:
    name = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    if name not in index:
        raise UnsupportedError(
            f"the model compares with the string {name!r}, which is not one of its classes; encode the labels of "
            "several outputs as numbers"
        )
    return index[name]


def _numbered(tensor: TensorProto, index: dict[str, int]) -> TensorProto:
    numbers = np.array([_number(s, index) for s in tensor.string_data], np.int64)
    return numpy_helper.from_array(numbers.reshape(tuple(tensor.dims)), tensor.name)


def _number_attributes(node: NodeProto, index: dict[str, int]) -> None:
    renamed = _AS_NUMBERS.get(node.op_type, {}) if node.domain == "ai.onnx.ml" else {}
    made = []
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR and attribute.t.data_type == TensorProto.STRING:
            attribute.t.CopyFrom(_numbered(attribute.t, index))
        elif attribute.name in renamed and attribute.strings:
            made.append(helper.make_attribute(renamed[attribute.name], [_number(s, index) for s in attribute.strings]))
        elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.STRING:
            attribute.i = TensorProto.INT64
        elif node.domain == "ai.onnx.ml" and attribute.name.startswith("cats_strings"):
            _number(attribute.strings[0], {})
    if made:
        kept = [a for a in node.attribute if a.name not in renamed and a.name not in _DEFAULTS]
        copies = [AttributeProto.FromString(a.SerializeToString()) for a in (*kept, *made)]
        del node.attribute[:]
        node.attribute.extend(copies)
