"""The types of the operators of the domain ai.onnx.ml, of which onnx's own shape inference knows few."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from onnx import NodeProto, TensorProto, helper

DOMAIN = "ai.onnx.ml"

Type = tuple[int, tuple[int, ...]]
"""ONNX element type and shape."""

_LABEL_VALUES = {"int64s": TensorProto.INT64, "floats": TensorProto.FLOAT, "strings": TensorProto.STRING}


Attributes = dict[str, Any]

_DECIDING = frozenset(
    "cats_int64s cats_strings classes_strings classlabels_int64s classlabels_ints classlabels_strings inputdimensions "
    "intercepts n_targets prob_a targets values_floats values_int64s values_strings values_tensor "
    "vectors_per_class".split()
)


@dataclass(frozen=True)
class MlNode:
    """A node of ai.onnx.ml with the attributes that decide types."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Attributes

    def output_types(self, types: Mapping[str, Type]) -> dict[str, Type]:
        """Output → its type, as the operator's specification says, from those of the inputs; nothing if not known."""
        function = _TYPES.get(self.op)
        if function is None or any(name and name not in types for name in self.inputs):
            return {}
        found = function(self.attributes, [types[name] for name in self.inputs if name])
        known = zip(self.outputs, found, strict=False)
        return {name: kind for name, kind in known if name and kind[0] != TensorProto.UNDEFINED}


def take_ml_node(node: NodeProto) -> MlNode:
    """What `MlNode` needs of a node. The node itself becomes one that onnx knows nothing of, without attributes, for
    those of a forest are as large as other models."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name in _DECIDING}
    taken = MlNode(node.op_type, tuple(node.input), tuple(node.output), attributes)
    node.op_type = "Taken"
    del node.attribute[:]
    return taken


def _rows(shape: tuple[int, ...]) -> int:
    """A tensor of one dimension is one row."""
    return 1 if len(shape) < 2 else shape[0]


def _same(_: Attributes, inputs: list[Type]) -> list[Type]:
    return [inputs[0]]


def _float(_: Attributes, inputs: list[Type]) -> list[Type]:
    return [(TensorProto.FLOAT, inputs[0][1])]


def _extracted(_: Attributes, inputs: list[Type]) -> list[Type]:
    (elem, shape), indices = inputs[0], inputs[1][1]
    lead = shape[:-1] if len(shape) > 1 else (1,)
    return [(elem, (*lead, math.prod(indices)))]


def _vectorized(attrs: Attributes, inputs: list[Type]) -> list[Type]:
    return [(TensorProto.FLOAT, (_rows(inputs[0][1]), sum(attrs.get("inputdimensions", ()))))]


def _one_hot(attrs: Attributes, inputs: list[Type]) -> list[Type]:
    categories = len(attrs.get("cats_int64s", ())) or len(attrs.get("cats_strings", ()))
    return [(TensorProto.FLOAT, (*inputs[0][1], categories))]


def _encoded(attrs: Attributes, inputs: list[Type]) -> list[Type]:
    elem, shape = inputs[0]
    if "classes_strings" in attrs:  # version 1: between strings and their indices
        return [(TensorProto.INT64 if elem == TensorProto.STRING else TensorProto.STRING, shape)]
    if "values_tensor" in attrs:
        return [(attrs["values_tensor"].data_type, shape)]
    found = [kind for name, kind in _LABEL_VALUES.items() if f"values_{name}" in attrs]
    return [(found[0] if found else TensorProto.UNDEFINED, shape)]


def _targets(name: str) -> Callable[[Attributes, list[Type]], list[Type]]:
    def types(attrs: Attributes, inputs: list[Type]) -> list[Type]:
        return [(TensorProto.FLOAT, (_rows(inputs[0][1]), attrs.get(name, 1)))]

    return types


def _svm_values(_: Attributes, inputs: list[Type]) -> list[Type]:
    return [(TensorProto.FLOAT, (_rows(inputs[0][1]), 1))]


def _forest(attrs: Attributes, inputs: list[Type]) -> list[Type]:
    return [(inputs[0][0], (_rows(inputs[0][1]), attrs.get("n_targets", 1)))]


def _classes(attrs: Attributes) -> tuple[int, int]:
    """The element type of the labels, and how many there are."""
    strings = attrs.get("classlabels_strings", ())
    if strings:
        return TensorProto.STRING, len(strings)
    return TensorProto.INT64, len(attrs.get("classlabels_int64s", ()) or attrs.get("classlabels_ints", ()))


def _tree_classes(attrs: Attributes, inputs: list[Type]) -> list[Type]:
    elem, count = _classes(attrs)
    rows = _rows(inputs[0][1])
    return [(elem, (rows,)), (TensorProto.FLOAT, (rows, count))]


def _linear_classes(attrs: Attributes, inputs: list[Type]) -> list[Type]:
    elem, count = _classes(attrs)
    rows, scores = _rows(inputs[0][1]), len(attrs.get("intercepts", ()))
    return [(elem, (rows,)), (TensorProto.FLOAT, (rows, 2 if scores == 1 and count == 2 else scores))]


def _svm_classes(attrs: Attributes, inputs: list[Type]) -> list[Type]:
    """Without probabilities, a machine with support vectors gives a score for each pair of classes."""
    elem, count = _classes(attrs)
    rows, scores = _rows(inputs[0][1]), count
    if sum(attrs.get("vectors_per_class", ())) > 0 and not attrs.get("prob_a", ()):
        scores = count * (count - 1) // 2 if count > 2 else 2
    return [(elem, (rows,)), (TensorProto.FLOAT, (rows, scores))]


_TYPES: dict[str, Callable[[Attributes, list[Type]], list[Type]]] = {
    "ArrayFeatureExtractor": _extracted,
    "Binarizer": _same,
    "FeatureVectorizer": _vectorized,
    "Imputer": _same,
    "LabelEncoder": _encoded,
    "LinearClassifier": _linear_classes,
    "LinearRegressor": _targets("targets"),
    "Normalizer": _float,
    "OneHotEncoder": _one_hot,
    "SVMClassifier": _svm_classes,
    "SVMRegressor": _svm_values,
    "Scaler": _float,
    "TreeEnsemble": _forest,
    "TreeEnsembleClassifier": _tree_classes,
    "TreeEnsembleRegressor": _targets("n_targets"),
}
