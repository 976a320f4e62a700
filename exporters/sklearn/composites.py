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
    from sklearn.multioutput import ClassifierChain, RegressorChain

    update_registered_converter(
        TransformedTargetRegressor, "DlpackTransformedTarget", calculate_linear_regressor_output_shapes,
        _convert_transformed_target,
    )  # fmt: skip
    update_registered_converter(
        ClassifierChain, "DlpackClassifierChain", _chain_shapes, _convert_chain,
        options={"zipmap": [True, False, "columns"], "output_class_labels": [False, True], "nocl": [True, False]},
    )  # fmt: skip
    update_registered_converter(
        RegressorChain, "DlpackRegressorChain", _regressor_chain_shapes, _convert_regressor_chain
    )


def _chain_shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType

    count = len(operator.raw_operator.estimators_)
    for output, kind in zip(operator.outputs, (Int64TensorType, FloatTensorType), strict=False):
        output.type = kind([None, count])


def _regressor_chain_shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import FloatTensorType

    operator.outputs[0].type = FloatTensorType([None, len(operator.raw_operator.estimators_)])


def _classify(graph: Graph, estimator: Any, x: Any) -> list[str]:
    """An inner classifier's labels and probabilities, of the variable `x`."""
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType

    for place in (graph.scope, graph.container):
        place.add_options(id(estimator), {"zipmap": False})
    return graph.estimator(estimator, [x], [Int64TensorType(), FloatTensorType()])


def _convert_chain(scope: Any, operator: Any, container: Any) -> None:
    """A chain of binary classifiers, each of which sees what those before it predict."""
    from skl2onnx.common.data_types import FloatTensorType

    chain, graph, x = operator.raw_operator, Graph(scope, container), operator.inputs[0]
    method = getattr(chain, "chain_method_", "predict")
    if method not in ("predict", "predict_proba"):
        raise UnsupportedError(f"ClassifierChain(chain_method={method!r}) is not supported; 'predict_proba' is")
    columns, labels, scores = x.type.shape[1], [], []
    seen = x
    for k, estimator in enumerate(chain.estimators_):
        if not hasattr(estimator, "predict_proba"):
            raise UnsupportedError(
                f"a ClassifierChain of {type(estimator).__name__}, which has no probabilities, is not supported; put "
                "CalibratedClassifierCV around it"
            )
        label, score = _classify(graph, estimator, seen)
        labels.append(graph.op("Reshape", label, graph.ints(-1, 1)))
        scores.append(graph.op("Gather", score, graph.ints(1), axis=1))
        seen = scope.declare_local_variable("seen", FloatTensorType([None, columns + k + 1]))
        said = [graph.op("Cast", v, to=TensorProto.FLOAT) for v in (labels if method == "predict" else scores)]
        graph.op("Concat", x.full_name, *said, output=seen.full_name, axis=1)
    back = graph.ints(*np.argsort(chain.order_))
    for made, output in ((labels, operator.outputs[0]), (scores, operator.outputs[1])):
        graph.op("Gather", graph.op("Concat", *made, axis=1), back, output=output.full_name, axis=1)


def _convert_regressor_chain(scope: Any, operator: Any, container: Any) -> None:
    """A chain of regressors, each of which sees what those before it predict."""
    from skl2onnx.common.data_types import FloatTensorType

    chain, graph, x = operator.raw_operator, Graph(scope, container), operator.inputs[0]
    columns, made = x.type.shape[1], list[str]()
    seen = x
    for k, estimator in enumerate(chain.estimators_):
        (value,) = graph.estimator(estimator, [seen], [FloatTensorType()])
        made.append(graph.op("Reshape", value, graph.ints(-1, 1)))
        seen = scope.declare_local_variable("seen", FloatTensorType([None, columns + k + 1]))
        graph.op("Concat", x.full_name, *made, output=seen.full_name, axis=1)
    back = graph.ints(*np.argsort(chain.order_))
    graph.op("Gather", graph.op("Concat", *made, axis=1), back, output=operator.outputs[0].full_name, axis=1)


def convert_several(scope: Any, operator: Any, container: Any) -> None:
    """A classifier per label: labels [rows, labels], probabilities [labels, rows, classes]."""
    graph, parts = Graph(scope, container), operator.raw_operator.estimators_
    if len({len(part.classes_) for part in parts}) > 1 or not all(hasattr(part, "predict_proba") for part in parts):
        raise UnsupportedError(
            "a MultiOutputClassifier whose labels differ in their number of classes, or whose estimators have no "
            "probabilities, is not supported; save its estimators_ one by one"
        )
    made = [_classify(graph, part, operator.inputs[0]) for part in parts]
    labels = [graph.op("Reshape", label, graph.ints(-1, 1)) for label, _ in made]
    scores = [graph.op("Unsqueeze", score, graph.ints(0)) for _, score in made]
    graph.op("Concat", *labels, output=operator.outputs[0].full_name, axis=1)
    graph.op("Concat", *scores, output=operator.outputs[1].full_name, axis=0)


def several_shapes(operator: Any) -> None:
    """The types of a MultiOutputClassifier's outputs."""
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType

    count = len(operator.raw_operator.estimators_)
    operator.outputs[0].type = Int64TensorType([None, count])
    operator.outputs[1].type = FloatTensorType([count, None, None])


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
    graph, part = Graph(scope, container), operator.raw_operator
    y = inline(graph, part.func, operator.inputs[0].full_name, part.kw_args)
    graph.op("Identity", y, output=operator.outputs[0].full_name)


def function_shapes(operator: Any) -> None:
    """The shape of a FunctionTransformer's output, which is its input's."""
    operator.outputs[0].type = type(operator.inputs[0].type)(operator.inputs[0].type.shape)


ELEMENTWISE = ("around", "clip", "nan_to_num", "round", "sinc")
"""NumPy's functions that compute element by element and are no ufuncs."""


def inline(graph: Graph, function: Any, x: str, arguments: Any = None) -> str:
    """The value of a NumPy function of single elements at `x`, float32; `x` itself for None.

    Raises UnsupportedError for other functions.
    """
    from dlpack.exporters.base import ExportOptions
    from dlpack.exporters.numpy.export import trace

    if function is None:
        return x
    plain = function in [getattr(np, name) for name in ELEMENTWISE]
    if not plain and (not isinstance(function, np.ufunc) or function.nin != 1 or function.nout != 1):
        raise UnsupportedError(
            f"a FunctionTransformer of {getattr(function, '__name__', function)} is not supported; NumPy's functions "
            f"of one array that compute element by element (np.log1p, np.sqrt, np.{', np.'.join(ELEMENTWISE)}) are"
        )
    known = arguments or {}
    if not all(v is None or isinstance(v, bool | int | float) for v in known.values()):
        raise UnsupportedError(f"a FunctionTransformer of {function.__name__} with kw_args that are no single numbers")
    made = trace(lambda x: function(x, **known), "function", ExportOptions({"x": (1, 1)})).model.graph
    names = {made.input[0].name: x}
    for tensor in made.initializer:
        names[tensor.name] = graph.tensor(tensor)
    for node in made.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        names[node.output[0]] = graph.op(node.op_type, *(names[n] if n else "" for n in node.input), **attributes)
    return names[made.output[0].name]
