"""Imputers: of the nearest neighbours, which skl2onnx converts to untyped functions; those that mark missing values."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper

from dlpack.errors import UnsupportedError
from dlpack.exporters.sklearn.container import Changed, Graph


def convert_imputer(scope: Any, operator: Any, container: Any) -> None:
    """Replaces each missing value by the mean of its column in the nearest rows.

    Distances are those of sklearn.metrics.pairwise.nan_euclidean_distances: over the columns that both rows have,
    scaled up by the share of the columns that they lack.
    """
    imputer, graph, x = operator.raw_operator, Graph(scope, container), operator.inputs[0].full_name
    rows = np.asarray(imputer._fit_X, np.float32)
    if imputer.weights not in ("uniform", "distance"):
        raise UnsupportedError("KNNImputer with a function for weights is not supported; 'uniform' and 'distance' are")
    missing = _missing(graph, imputer, x)
    known, columns = ~np.asarray(imputer._mask_fit_X, bool), []
    distances = _distances(graph, x, missing, rows, known)
    for column in np.flatnonzero(imputer._valid_mask | imputer.keep_empty_features):
        own = graph.op("Gather", x, graph.ints(int(column)), axis=1)
        donors = np.flatnonzero(known[:, column])
        if donors.size:
            guess = _mean_of_nearest(graph, imputer, distances, donors, rows[donors, column])
        else:
            guess = graph.floats(0.0)
        columns.append(graph.op("Where", graph.op("Gather", missing, graph.ints(int(column)), axis=1), guess, own))
    columns += _indicators(graph, imputer, missing)
    graph.op("Concat", *columns, output=operator.outputs[0].full_name, axis=1)


def convert_simple_imputer(scope: Any, operator: Any, container: Any) -> None:
    """A SimpleImputer whose result is followed by 1 for each value that was missing, else 0."""
    from skl2onnx.common._registration import get_converter

    imputer, graph = operator.raw_operator, Graph(scope, container)
    x, y = operator.inputs[0].full_name, operator.outputs[0].full_name
    filled = scope.get_unique_variable_name("filled")
    get_converter(operator.type)(scope, operator, Changed(container, {y: filled}))
    graph.op("Concat", filled, *_indicators(graph, imputer, _missing(graph, imputer, x)), output=y, axis=1)


def imputer_shapes(operator: Any) -> None:
    """The type of an imputer's output."""
    imputer = operator.raw_operator
    columns = len(imputer.get_feature_names_out([f"x{k}" for k in range(imputer.n_features_in_)]))
    operator.outputs[0].type = type(operator.inputs[0].type)([None, columns])


def _missing(graph: Graph, imputer: Any, x: str) -> str:
    """Whether each value of `x` is missing."""
    gap = imputer.missing_values
    return graph.op("IsNaN", x) if gap is None or np.isnan(gap) else graph.op("Equal", x, graph.floats(gap))


def _indicators(graph: Graph, imputer: Any, missing: str) -> list[str]:
    """The columns that say what was missing; none without that option."""
    if not imputer.add_indicator or not len(imputer.indicator_.features_):
        return []
    chosen = graph.op("Gather", missing, graph.ints(*imputer.indicator_.features_), axis=1)
    return [graph.op("Cast", chosen, to=TensorProto.FLOAT)]


def _distances(graph: Graph, x: str, missing: str, rows: Any, known: Any) -> str:
    """float32 [rows of x, rows]; infinite where two rows have no column in common."""
    theirs = graph.tensor(numpy_helper.from_array(np.where(known, rows, np.float32(0))[None]))
    both = graph.op(
        "And",
        graph.op("Unsqueeze", graph.op("Not", missing), graph.ints(1)),
        graph.tensor(numpy_helper.from_array(known[None])),
    )
    none, shared = graph.floats(0.0), graph.op("Cast", both, to=TensorProto.FLOAT)
    step = graph.op("Where", both, graph.op("Sub", graph.op("Unsqueeze", x, graph.ints(1)), theirs), none)
    squares = graph.op("ReduceSum", graph.op("Mul", step, step), graph.ints(2), keepdims=0)
    count = graph.op("ReduceSum", shared, graph.ints(2), keepdims=0)
    scaled = graph.op("Div", graph.op("Mul", squares, graph.floats(rows.shape[1])), count)
    return graph.op("Sqrt", graph.op("Where", graph.op("Equal", count, none), graph.floats(np.inf), scaled))


def _mean_of_nearest(graph: Graph, imputer: Any, distances: str, donors: Any, values: Any) -> str:
    """float32 [rows of x, 1]; the column's mean for a row without any neighbour."""
    near = graph.op("Gather", distances, graph.ints(*donors.tolist()), axis=1)
    count = graph.ints(min(imputer.n_neighbors, len(donors)))
    far, which = graph.ops("TopK", 2, near, count, axis=1, largest=0)
    held = graph.op("Gather", graph.floats(*values), which, axis=0)
    alone = graph.op("Equal", graph.op("Gather", far, graph.ints(0), axis=1), graph.floats(np.inf))
    if imputer.weights == "uniform":
        mean = graph.op("ReduceMean", held, graph.ints(1), keepdims=1)
    else:
        zero = graph.op("Cast", graph.op("Equal", far, graph.floats(0.0)), to=TensorProto.FLOAT)
        some = graph.op("Greater", graph.op("ReduceMax", zero, graph.ints(1), keepdims=1), graph.floats(0.0))
        weights = graph.op("Where", some, zero, graph.op("Reciprocal", far))
        total = graph.op("ReduceSum", graph.op("Mul", held, weights), graph.ints(1), keepdims=1)
        mean = graph.op("Div", total, graph.op("ReduceSum", weights, graph.ints(1), keepdims=1))
    return graph.op("Where", alone, graph.floats(values.mean(dtype=np.float64)), mean)
