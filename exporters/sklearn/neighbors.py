"""Missing values from the nearest neighbours (KNNImputer): skl2onnx converts it to untyped functions."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper

from dlpack.errors import UnsupportedError
from dlpack.exporters.sklearn.container import Graph


def convert_imputer(scope: Any, operator: Any, container: Any) -> None:
    """Replaces each missing value by the mean of its column in the nearest rows.

    Distances are those of sklearn.metrics.pairwise.nan_euclidean_distances: over the columns that both rows have,
    scaled up by the share of the columns that they lack.
    """
    imputer, graph, x = operator.raw_operator, Graph(scope, container), operator.inputs[0].full_name
    rows = np.asarray(imputer._fit_X, np.float32)
    gap = imputer.missing_values
    if imputer.weights not in ("uniform", "distance") or imputer.add_indicator or not np.isnan(gap):
        raise UnsupportedError("KNNImputer with other weights, an indicator, or missing values that are not NaN")
    missing = graph.op("IsNaN", x)
    distances = _distances(graph, x, missing, rows)
    known, columns = ~np.isnan(rows), []
    for column in np.flatnonzero(imputer._valid_mask | imputer.keep_empty_features):
        own = graph.op("Gather", x, graph.ints(int(column)), axis=1)
        donors = np.flatnonzero(known[:, column])
        if donors.size:
            guess = _mean_of_nearest(graph, imputer, distances, donors, rows[donors, column])
        else:
            guess = graph.floats(0.0)
        columns.append(graph.op("Where", graph.op("Gather", missing, graph.ints(int(column)), axis=1), guess, own))
    graph.op("Concat", *columns, output=operator.outputs[0].full_name, axis=1)


def _distances(graph: Graph, x: str, missing: str, rows: Any) -> str:
    """float32 [rows of x, rows]; infinite where two rows have no column in common."""
    known = ~np.isnan(rows)
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
