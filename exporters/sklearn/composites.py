"""Composite estimators and functions that skl2onnx does not convert, or converts wrongly."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper

from dlpack.errors import UnsupportedError
from dlpack.exporters.sklearn.container import Changed, Graph


def convert_bagging(scope: Any, operator: Any, container: Any) -> None:
    """Bagging of estimators without probabilities: the share of estimators that vote for each class."""
    from skl2onnx.common.data_types import Int64TensorType

    bagging, graph = operator.raw_operator, Graph(scope, container)
    classes, votes = len(bagging.classes_), []
    for estimator, columns in zip(bagging.estimators_, bagging.estimators_features_, strict=True):
        x = operator.inputs[0]
        picked = scope.declare_local_variable("picked", type(x.type)([None, len(columns)]))
        graph.op("Gather", x.full_name, graph.ints(*columns), output=picked.full_name, axis=1)
        label, _ = graph.estimator(estimator, [picked], [Int64TensorType(), type(x.type)()])
        column = graph.op("Reshape", label, graph.ints(-1, 1))
        votes.append(graph.op("Cast", graph.op("Equal", column, graph.ints(*range(classes))), to=TensorProto.FLOAT))
    total = graph.op("Sum", *votes) if len(votes) > 1 else votes[0]
    scores = graph.op("Div", total, graph.floats(len(votes)), output=operator.outputs[1].full_name)
    best = graph.op("ArgMax", scores, axis=1, keepdims=0)
    name_classes(graph, best, bagging.classes_, operator.outputs[0].full_name)


def name_classes(graph: Graph, index: str, classes: Any, output: str) -> None:
    """The class of each index, int64 or a string."""
    keys = {"keys_int64s": [int(k) for k in range(len(classes))]}
    if classes.dtype.kind in "iufb":
        values: dict[str, Any] = {"values_int64s": [int(c) for c in classes]}
    else:
        values = {"values_strings": [str(c) for c in classes]}
    graph.op("LabelEncoder", index, output=output, domain="ai.onnx.ml", **keys, **values)


def convert_network(scope: Any, operator: Any, container: Any) -> None:
    """A network with several labels: a probability for each; for two labels skl2onnx makes twice as many."""
    from skl2onnx.common._registration import get_converter

    estimator, output = operator.raw_operator, operator.outputs[1].full_name
    if len(estimator.classes_) != 2:
        get_converter(operator.type)(scope, operator, container)
        return
    doubled = scope.get_unique_variable_name("doubled")
    get_converter(operator.type)(scope, operator, Changed(container, {output: doubled}))
    graph = Graph(scope, container)
    graph.op("Gather", doubled, graph.ints(2, 3), output=output, axis=1)


def register() -> None:
    """Registers converters for the estimators that skl2onnx has none for."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import calculate_linear_regressor_output_shapes
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.multioutput import ClassifierChain

    update_registered_converter(
        TransformedTargetRegressor, "DlpackTransformedTarget", calculate_linear_regressor_output_shapes,
        _convert_transformed_target,
    )  # fmt: skip
    update_registered_converter(
        ClassifierChain, "DlpackClassifierChain", _chain_shapes, _convert_chain,
        options={"zipmap": [True, False, "columns"], "output_class_labels": [False, True], "nocl": [True, False]},
    )  # fmt: skip


def _chain_shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType

    count = len(operator.raw_operator.estimators_)
    for output, kind in zip(operator.outputs, (Int64TensorType, FloatTensorType), strict=True):
        output.type = kind([None, count])


def _convert_chain(scope: Any, operator: Any, container: Any) -> None:
    """A chain of binary classifiers, each of which sees the predictions of those before it."""
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType

    chain, graph, x = operator.raw_operator, Graph(scope, container), operator.inputs[0]
    if getattr(chain, "chain_method_", "predict") != "predict":
        raise UnsupportedError(f"ClassifierChain(chain_method={chain.chain_method!r}) is not supported; leave it out")
    columns, labels, scores = x.type.shape[1], [], []
    seen = x
    for k, estimator in enumerate(chain.estimators_):
        if not hasattr(estimator, "predict_proba"):
            raise UnsupportedError("a ClassifierChain of estimators without probabilities is not supported")
        scope.add_options(id(estimator), {"zipmap": False})
        container.add_options(id(estimator), {"zipmap": False})
        label, score = graph.estimator(estimator, [seen], [Int64TensorType(), FloatTensorType()])
        labels.append(graph.op("Reshape", label, graph.ints(-1, 1)))
        scores.append(graph.op("Gather", score, graph.ints(1), axis=1))
        seen = scope.declare_local_variable("seen", FloatTensorType([None, columns + k + 1]))
        said = [graph.op("Cast", v, to=TensorProto.FLOAT) for v in labels]
        graph.op("Concat", x.full_name, *said, output=seen.full_name, axis=1)
    back = graph.ints(*np.argsort(chain.order_))
    for made, output in ((labels, operator.outputs[0]), (scores, operator.outputs[1])):
        graph.op("Gather", graph.op("Concat", *made, axis=1), back, output=output.full_name, axis=1)


def _convert_transformed_target(scope: Any, operator: Any, container: Any) -> None:
    """A regressor, followed by the inverse of the transformation of its target."""
    from skl2onnx.common.data_types import FloatTensorType

    model, graph = operator.raw_operator, Graph(scope, container)
    (y,) = graph.estimator(model.regressor_, operator.inputs, [FloatTensorType()])
    y = graph.op("Reshape", y, graph.ints(-1, _width(model.transformer_)))
    transformer, kind = model.transformer_, type(model.transformer_).__name__
    if kind == "FunctionTransformer":
        y = inline(graph, transformer.inverse_func, y)
    elif kind in _LINEAR_INVERSES:
        factor, offset = _LINEAR_INVERSES[kind](transformer)
        y = graph.op("Add", graph.op("Mul", y, graph.floats(*factor)), graph.floats(*offset))
    else:
        raise UnsupportedError(
            f"TransformedTargetRegressor(transformer={kind}()) is not supported; a NumPy function and its inverse, "
            f"and {', '.join(_LINEAR_INVERSES)} are"
        )
    graph.op("Identity", y, output=operator.outputs[0].full_name)


def _width(transformer: Any) -> int:
    return int(getattr(transformer, "n_features_in_", 1))


def _affine(transformer: Any, scale: Any, offset: Any) -> tuple[Any, Any]:
    """Factor and offset for each column; None stands for 1 and 0."""
    width = _width(transformer)
    return (np.ones(width) if scale is None else scale), (np.zeros(width) if offset is None else offset)


_LINEAR_INVERSES: dict[str, Any] = {
    "StandardScaler": lambda t: _affine(t, t.scale_, t.mean_),
    "RobustScaler": lambda t: _affine(t, t.scale_, t.center_),
    "MaxAbsScaler": lambda t: _affine(t, t.scale_, None),
    "MinMaxScaler": lambda t: _affine(t, 1 / t.scale_, -t.min_ / t.scale_),
}


# --- functions --------------------------------------------------------------------------------------------------------


def convert_function(scope: Any, operator: Any, container: Any) -> None:
    """A FunctionTransformer of an elementwise NumPy function."""
    graph = Graph(scope, container)
    if operator.raw_operator.kw_args:
        raise UnsupportedError(
            "a FunctionTransformer with kw_args is not supported; functions that compute element by element are"
        )
    y = inline(graph, operator.raw_operator.func, operator.inputs[0].full_name)
    graph.op("Identity", y, output=operator.outputs[0].full_name)


def function_shapes(operator: Any) -> None:
    """The shape of a FunctionTransformer's output, which is its input's."""
    operator.outputs[0].type = type(operator.inputs[0].type)(operator.inputs[0].type.shape)


def inline(graph: Graph, function: Any, x: str) -> str:
    """The value of a NumPy ufunc at `x`, float32; `x` itself for None. Raises UnsupportedError for other functions."""
    from dlpack.exporters.base import ExportOptions
    from dlpack.exporters.numpy.export import trace

    if function is None:
        return x
    if not isinstance(function, np.ufunc) or function.nin != 1 or function.nout != 1:
        raise UnsupportedError(
            f"a FunctionTransformer of {getattr(function, '__name__', function)} is not supported; NumPy's functions "
            "of one array that compute element by element (np.log1p, np.sqrt) are"
        )
    made = trace(lambda x: function(x), "function", ExportOptions({"x": (1, 1)})).model.graph
    names = {made.input[0].name: x}
    for tensor in made.initializer:
        names[tensor.name] = graph.tensor(tensor)
    for node in made.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        names[node.output[0]] = graph.op(node.op_type, *(names[n] for n in node.input), **attributes)
    return names[made.output[0].name]
