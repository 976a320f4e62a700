"""Rewrites what skl2onnx does not accept, or converts wrongly, and has converters of our own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dlpack.errors import UnsupportedError
from dlpack.exporters.sklearn.composites import (
    convert_bagging,
    convert_function,
    convert_network,
    convert_several,
    function_shapes,
    several_shapes,
)
from dlpack.exporters.sklearn.container import Graph
from dlpack.exporters.sklearn.dictionaries import convert_dictionaries, dictionary_shapes
from dlpack.exporters.sklearn.encoders import (
    convert_one_hot,
    convert_text_imputer,
    encodes_text,
    fills_text,
    one_hot_shapes,
    text_imputer_shapes,
)
from dlpack.exporters.sklearn.neighbors import convert_imputer, convert_simple_imputer, imputer_shapes
from dlpack.exporters.sklearn.trees import convert_forest, convert_histogram, plain_node

_WITH_TREES = ("DecisionTree", "ExtraTree", "RandomForest", "IsolationForest")


def prepare(part: Any) -> None:
    """Rewrites a part of an estimator in place. Raises UnsupportedError for an option that cannot be rewritten."""
    kind = type(part).__name__
    if kind == "ColumnTransformer" and hasattr(part, "feature_names_in_"):  # columns by name: by their place
        places = {name: k for k, name in enumerate(part.feature_names_in_.tolist())}
        part.transformers_ = [(n, t, _by_place(columns, places)) for n, t, columns in part.transformers_]
    elif kind == "VotingClassifier":
        part.flatten_transform = False  # of transform(), which is not exported
    elif kind == "KBinsDiscretizer" and part.encode == "onehot":
        part.encode = "onehot-dense"  # the same numbers
    elif kind == "_CalibratedClassifier" and hasattr(part.estimator, "steps"):
        raise UnsupportedError(
            "a CalibratedClassifierCV over a pipeline is not supported; calibrate its last step: "
            "make_pipeline(StandardScaler(), CalibratedClassifierCV(LinearSVC()))"
        )
    elif kind == "TreePredictor":
        part.plain = [plain_node(node) for node in part.nodes]
    if kind.startswith("Voting"):
        part.weights = None if part.weights is None else np.asarray(part.weights, float)
    if (shapes := _shapes(part, kind)) is not None:
        part.onnx_shape_calculator = lambda: shapes
    if (convert := _converter(part, kind)) is not None:
        part.onnx_converter = lambda: convert


def _shapes(part: Any, kind: str) -> Callable[[Any], None] | None:
    """What calculates the shapes of our converter's outputs; None if skl2onnx's does."""
    if kind == "OneHotEncoder" and encodes_text(part):
        return one_hot_shapes
    if kind == "SimpleImputer" and fills_text(part):
        return text_imputer_shapes
    return None if kind == "SimpleImputer" and not part.add_indicator else _SHAPES.get(kind)


def _converter(part: Any, kind: str) -> Callable[[Any, Any, Any], None] | None:
    """Our converter for this kind of estimator; None if skl2onnx's is right."""
    if kind == "Normalizer" and part.norm == "max":
        return _convert_largest_norm
    if kind.startswith("HistGradientBoosting"):
        return convert_histogram
    if kind.startswith(_WITH_TREES) and not kind.endswith("Embedding"):
        return convert_forest
    if kind == "BaggingClassifier" and not hasattr(part.estimators_[0], "predict_proba"):
        return convert_bagging
    if kind == "MLPClassifier" and part._label_binarizer.y_type_ == "multilabel-indicator":
        return convert_network
    if kind == "OneHotEncoder" and encodes_text(part):
        return convert_one_hot
    if kind == "SimpleImputer" and fills_text(part):
        return convert_text_imputer
    if kind == "SimpleImputer" and part.add_indicator:
        return convert_simple_imputer
    return _OURS.get(kind)


_OURS = {
    "DictVectorizer": convert_dictionaries,
    "KNNImputer": convert_imputer,
    "FunctionTransformer": convert_function,
    "MultiOutputClassifier": convert_several,
}
_SHAPES = {"FunctionTransformer": function_shapes, "MultiOutputClassifier": several_shapes,
           "DictVectorizer": dictionary_shapes, "KNNImputer": imputer_shapes,
           "SimpleImputer": imputer_shapes}  # fmt: skip


def _by_place(columns: Any, places: dict[str, int]) -> Any:
    if isinstance(columns, str):
        return [places[columns]]
    if isinstance(columns, slice):
        return columns
    return [places[c] if isinstance(c, str) else c for c in list(columns)]


def _convert_largest_norm(scope: Any, operator: Any, container: Any) -> None:
    """Rows divided by their largest absolute value; skl2onnx uses the largest value."""
    (x,), (y,), graph = operator.input_full_names, operator.output_full_names, Graph(scope, container)
    norm = graph.op("ReduceMax", graph.op("Abs", x), graph.ints(1))
    zero = graph.op("Equal", norm, graph.floats(0.0))
    graph.op("Div", x, graph.op("Where", zero, graph.floats(1.0), norm), output=y)
