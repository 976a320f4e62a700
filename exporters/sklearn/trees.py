"""Decision trees and forests with missing values and categories, which skl2onnx ignores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper

from dlpack.exporters.sklearn.container import Attributes, Changed, Graph

_MISSING = "nodes_missing_value_tracks_true"


def convert_forest(scope: Any, operator: Any, container: Any) -> None:
    """Trees as skl2onnx makes them, except that missing values go to the same side as in scikit-learn."""
    from skl2onnx.common._registration import get_converter

    estimator = operator.raw_operator
    held = np.array(getattr(estimator, "estimators_", [estimator]), object).reshape(-1)
    trees = [part.tree_ for part in held.tolist()]
    if type(estimator).__name__ == "IsolationForest":  # its converter takes any columns, but refuses some
        estimator._max_features = operator.inputs[0].type.shape[1]

    def complete(attributes: Attributes) -> None:
        for start, end in _runs(attributes["nodes_treeids"]):
            tree = _take(trees, end - start)
            attributes[_MISSING][start:end] = [int(v) for v in _goes_left(tree)]

    get_converter(operator.type)(scope, operator, Changed(container, trees=complete))


def _take(trees: list[Any], nodes: int) -> Any:
    """The next tree, skipping those with a single leaf, which have no ensemble."""
    while trees[0].node_count != nodes:
        trees.pop(0)
    return trees.pop(0)


def _goes_left(tree: Any) -> Any:
    """For each node whether a missing value goes to its left child."""
    return tree.missing_go_to_left.astype(bool) & (tree.children_left >= 0)


def _runs(ids: list[int]) -> Iterator[tuple[int, int]]:
    """Where each tree's nodes lie."""
    start = 0
    for k in range(1, len(ids) + 1):
        if k == len(ids) or ids[k] != ids[start]:
            yield start, k
            start = k


# --- histogram gradient boosting --------------------------------------------------------------------------------------


def plain_node(node: Any) -> dict[str, Any]:
    """A node of a histogram gradient boosting tree, with a threshold that skl2onnx accepts.

    It is the largest float32 that is not above the node's: for an x of float32 the comparison stays the same.
    """
    made = {name: node[name] for name in node.dtype.names}
    near = np.float32(made["num_threshold"])
    made["threshold"] = np.nextafter(near, np.float32(-np.inf)) if near > made["num_threshold"] else near
    return made


def convert_histogram(scope: Any, operator: Any, container: Any) -> None:
    """Histogram gradient boosting; a loss with a logarithmic link is followed by an exponential."""
    from skl2onnx.common._registration import get_converter

    estimator, graph = operator.raw_operator, Graph(scope, container)
    for predictor in (p for several in estimator._predictors for p in several):
        predictor.nodes = predictor.plain
    renamed = {}
    if getattr(estimator, "_preprocessor", None) is not None:
        x = operator.inputs[0].full_name
        renamed[x] = _columns_by_category(graph, estimator, x)
    exponential = getattr(estimator, "loss", "") in ("poisson", "gamma")
    result = operator.outputs[0].full_name
    if exponential:
        renamed[result] = scope.get_unique_variable_name("raw")
    get_converter(operator.type)(scope, operator, Changed(container, renamed))
    if exponential:
        graph.op("Exp", renamed[result], output=result)


def _columns_by_category(graph: Graph, estimator: Any, x: str) -> str:
    """The columns that the trees compare, followed by one for each set of categories that a node tests.

    Such a column is 0 in the set, 1 outside, and missing where the category is: the node tests whether it is below 0.5.
    Trees see the columns of categories first, as scikit-learn's preprocessing has them.
    """
    encoder = estimator._preprocessor.named_transformers_["encoder"]
    chosen, rest = np.flatnonzero(estimator.is_categorical_), np.flatnonzero(~estimator.is_categorical_)
    sets: list[list[Any]] = [[] for _ in chosen]
    asking = []
    for predictor in (p for several in estimator._predictors for p in several):
        for node in predictor.nodes:
            if not node["is_leaf"] and node["is_categorical"]:
                column = int(node["feature_idx"])
                asking.append((node, column, len(sets[column])))
                sets[column].append(_members(predictor.raw_left_cat_bitsets[node["bitset_idx"]]))
    places = np.cumsum([len(rest), *map(len, sets)])
    columns = [graph.op("Gather", x, graph.ints(*rest), axis=1)] if rest.size else []
    for column, names, wanted in zip(chosen.tolist(), encoder.categories_, sets, strict=True):
        known = [float(v) for v in names if not np.isnan(v)]
        if wanted:
            picked = graph.op("Reshape", graph.op("Gather", x, graph.ints(column), axis=1), graph.ints(-1))
            numbers: Attributes = {
                "values_floats": list(map(float, range(len(known)))),
                "default_float": float(len(known)),
            }
            number = graph.op("LabelEncoder", picked, domain="ai.onnx.ml", keys_floats=known, **numbers)
            table = np.full((len(known) + 1, len(wanted)), np.nan, np.float32)
            table[:-1] = ~np.stack(wanted, axis=1)[: len(known)]
            index = graph.op("Cast", number, to=TensorProto.INT64)
            columns.append(graph.op("Gather", graph.tensor(numpy_helper.from_array(table)), index, axis=0))
    for predictor in (p for several in estimator._predictors for p in several):
        for node in predictor.nodes:
            if not node["is_leaf"] and not node["is_categorical"]:
                node["feature_idx"] = int(node["feature_idx"]) - len(chosen)
    for node, column, k in asking:
        node["feature_idx"], node["threshold"] = int(places[column]) + k, 0.5
    return graph.op("Concat", *columns, axis=1)


def _members(bits: Any) -> Any:
    """Whether each of 256 categories' bits is set, from an array of uint32."""
    return np.unpackbits(np.asarray(bits, "<u4").view(np.uint8), bitorder="little").astype(bool)
