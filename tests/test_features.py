"""The features of tables: their names and ranges, from a model's file into the manifest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import requires_module

from dlpack.errors import UsageError
from dlpack.exporters.base import ExportOptions
from dlpack.exporters.forest import Ensemble, Tree, to_onnx
from dlpack.exporters.lightgbm.export import read as read_lightgbm
from dlpack.exporters.sklearn.export import _features
from dlpack.exporters.sklearn.texts import Table
from dlpack.exporters.xgboost.export import EXPORTER as XGBOOST
from dlpack.meaning.features import from_metadata, to_metadata

TABLE = [{"name": "X", "dtype": "float32", "shape": [1, 2]}]


def test_names_and_ranges_travel_as_metadata() -> None:
    text = to_metadata(["age", "height"], [(0.0, 99.0), None])
    assert text is not None
    assert from_metadata(text, TABLE) == [{"name": "age", "range": [0.0, 99.0]}, {"name": "height"}]


def test_columns_without_names_are_numbered() -> None:
    text = to_metadata([], [(0.0, 1.0), (float("-inf"), 1.0)])
    assert text is not None and json.loads(text) == [{"name": "column 0", "range": [0.0, 1.0]}, {"name": "column 1"}]


@pytest.mark.parametrize(
    ("names", "ranges"), [([], []), ([], [None, None]), (["a"], [(0.0, 1.0), (0.0, 1.0)]), (["a" * 2000], [])]
)
def test_what_says_nothing_is_left_out(names: list[str], ranges: list[tuple[float, float] | None]) -> None:
    assert to_metadata(names, ranges) is None


@pytest.mark.parametrize(
    "text",
    [
        "{", "{}", "[]", '["a", "b"]', '[{"name": "a"}]', '[{"name": "a"}, {"name": 3}]',
        '[{"name": "a"}, {"name": "b", "range": [1, 0]}]', '[{"name": "a"}, {"name": "b", "range": [0, NaN]}]',
        '[{"name": "a"}, {"name": "b", "range": {"0": 1}}]', '[{"name": "a"}, {"name": "b", "range": [false, true]}]',
        '[{"name": "a"}, {"name": "\\u0000"}]', '[{"name": "a"}, {"name": "\\ud800"}]',
        '[{"name": "a"}, {"name": "b", "more": 1}]',
    ],
)  # fmt: skip
def test_other_metadata_is_an_error(text: str) -> None:
    with pytest.raises(UsageError, match=r"dlpack\.features"):
        from_metadata(text, TABLE)


def test_only_a_table_has_features() -> None:
    with pytest.raises(UsageError, match="the 0 columns"):
        from_metadata('[{"name": "a"}]', [{"name": "x", "dtype": "float32", "shape": [1, 1, 2, 2]}])


def test_of_trees_the_thresholds_say_where_a_column_lies() -> None:
    tree = Tree()
    tree.add(column=0, threshold=1.0, yes=1, no=2)
    tree.add(column=0, threshold=4.0, yes=3, no=4)
    for _ in range(3):
        tree.add()
    features = to_onnx(Ensemble(2, [tree], np.zeros(1)), 1).features
    assert features is not None and json.loads(features) == [
        {"name": "column 0", "range": [0.0, 5.0]},
        {"name": "column 1"},
    ]


def test_lightgbm_says_names_and_ranges() -> None:
    head = "tree\nversion=v4\nnum_tree_per_iteration=1\nmax_feature_idx=2\nobjective=regression\n"
    head += "feature_names=age kind empty\nfeature_infos=[1.5:99] 1:2:3 none\n"
    ensemble = read_lightgbm(head + "\nTree=0\nnum_leaves=1\nnum_cat=0\nleaf_value=1\nshrinkage=1\n\nend of trees\n")
    assert ensemble.names == ("age", "kind", "empty") and ensemble.ranges == ((1.5, 99.0), None, None)


def test_xgboost_says_names(tmp_path: Path) -> None:
    xgboost = requires_module("xgboost")
    x = np.arange(40, dtype=np.float32).reshape(20, 2)
    data = xgboost.DMatrix(x, x[:, 0] > 9, feature_names=["age", "hours per week"])
    xgboost.train({"objective": "binary:logistic", "max_depth": 2}, data, 2).save_model(tmp_path / "model.json")
    found = XGBOOST.run(tmp_path / "model.json", None, ExportOptions())
    metadata = {p.key: p.value for p in found.model.metadata_props}
    features = from_metadata(metadata["dlpack.features"], TABLE)
    assert [f["name"] for f in features] == ["age", "hours per week"]


def test_an_estimator_says_names() -> None:
    class Fitted:
        feature_names_in_ = np.array(["age", "height"], object)

    text = _features(Fitted(), Table(2, {}), np.array([[0.0, 1.0], [2.0, 5.0]], np.float32))
    assert text is not None
    assert from_metadata(text, TABLE) == [{"name": "age", "range": [0, 2]}, {"name": "height", "range": [1, 5]}]
