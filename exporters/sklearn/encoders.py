"""Encoders of text: skl2onnx's lacks rare categories, and the empty text for a missing one."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from dlpack.errors import UnsupportedError
from dlpack.exporters.sklearn.container import Graph

MISSING = ""
"""The text that stands for a missing one."""


def encodes_text(part: Any) -> bool:
    return any(isinstance(v, str) for values in getattr(part, "categories_", ()) for v in values)


def fills_text(part: Any) -> bool:
    """Whether an imputer's columns are text."""
    return any(isinstance(v, str) for v in np.asarray(getattr(part, "statistics_", ()), object).reshape(-1))


def convert_one_hot(scope: Any, operator: Any, container: Any) -> None:
    """A OneHotEncoder of text: each column's word gives a place among its outputs, or none."""
    encoder, graph = operator.raw_operator, Graph(scope, container)
    x = _joined(graph, operator.inputs)
    found = []
    for column, outputs in enumerate(encoder._n_features_outs):
        words = [v if isinstance(v, str) else MISSING for v in encoder.categories_[column]]
        places = [_place(encoder, column, k) for k in range(len(words))]
        rare = getattr(encoder, "_default_to_infrequent_mappings", None)
        unknown = -1
        if encoder.handle_unknown == "infrequent_if_exist" and rare is not None and rare[column] is not None:
            unknown = _after_drop(encoder, column, int(rare[column].max()))
        index = graph.op(
            "LabelEncoder",
            graph.op("Gather", x, graph.ints(column), axis=1),
            domain="ai.onnx.ml",
            keys_strings=words,
            values_int64s=places,
            default_int64=unknown,
        )
        hot = graph.op("Equal", index, graph.ints(*range(outputs)))
        found.append(graph.op("Cast", hot, to=TensorProto.FLOAT))
    graph.op("Concat", *found, output=operator.outputs[0].full_name, axis=1)


def one_hot_shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import FloatTensorType

    operator.outputs[0].type = FloatTensorType([None, int(sum(operator.raw_operator._n_features_outs))])


def _place(encoder: Any, column: int, category: int) -> int:
    """The output of a category, -1 for one that has none."""
    rare = getattr(encoder, "_default_to_infrequent_mappings", None)
    grouped = category if rare is None or rare[column] is None else int(rare[column][category])
    return _after_drop(encoder, column, grouped)


def _after_drop(encoder: Any, column: int, grouped: int) -> int:
    dropped = None if encoder.drop_idx_ is None else encoder._drop_idx_after_grouping[column]
    if dropped is None or grouped < dropped:
        return grouped
    return -1 if grouped == dropped else grouped - 1


def convert_text_imputer(scope: Any, operator: Any, container: Any) -> None:
    """A SimpleImputer of text, in which the empty text is missing unless the imputer names another."""
    imputer, graph = operator.raw_operator, Graph(scope, container)
    if imputer.add_indicator:
        raise UnsupportedError("a SimpleImputer of text with add_indicator is not supported; leave the option out")
    gap = imputer.missing_values if isinstance(imputer.missing_values, str) else MISSING
    x = _joined(graph, operator.inputs)
    missing = graph.op("LabelEncoder", x, domain="ai.onnx.ml", keys_strings=[gap], values_int64s=[1], default_int64=0)
    words = [str(v) for v in imputer.statistics_]
    fill = graph.strings(*words)
    graph.op("Where", graph.op("Cast", missing, to=TensorProto.BOOL), fill, x, output=operator.outputs[0].full_name)


def text_imputer_shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import StringTensorType

    operator.outputs[0].type = StringTensorType([None, len(operator.raw_operator.statistics_)])


def _joined(graph: Graph, inputs: Any) -> str:
    """The inputs' columns side by side."""
    names = [value.full_name for value in inputs]
    return graph.op("Concat", *names, axis=1) if len(names) > 1 else str(names[0])
