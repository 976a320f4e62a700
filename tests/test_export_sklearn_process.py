"""What the exporter compares scikit-learn's predictions with, and the process in which they are made; ZipMap."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import skops.io
from sklearn import compose, neighbors, preprocessing, tree
from test_export_sklearn import CATEGORIES, CHECK, LINEAR, NUMBERS, VALUES, WORDS, X, words  # noqa: F401 - a fixture

from dlpack import exporters
from dlpack.errors import ModelError
from dlpack.exporters import ExportOptions
from dlpack.exporters.sklearn import export, worker


def test_rows_of_the_comparison_lie_where_the_data_was() -> None:
    """Behind a scaler, in a column's categories, around trees' thresholds."""
    far = X * [1, 10, 100, 1, 1, 1] + 40
    for model in (preprocessing.StandardScaler().fit(far), tree.DecisionTreeRegressor().fit(far, VALUES),
                  neighbors.KNeighborsRegressor(3).fit(far, VALUES)):  # fmt: skip
        rows = worker.rows_for(model, 6)
        assert rows.shape == (64, 6) and rows.dtype == np.float32
        for column, told in zip(far.T, rows.T, strict=True):
            assert (
                column.min() - 4 * column.std()
                < told.min()
                < column.mean()
                < told.max()
                < column.max() + 4 * column.std()
            )
    pick = compose.ColumnTransformer([("k", preprocessing.OneHotEncoder(), [2, 0])], remainder="drop").fit(CATEGORIES)
    rows = worker.rows_for(pick, 3)
    assert all(set(rows[:, k]) <= set(CATEGORIES[:, k].astype(np.float32)) for k in (0, 2)) and len(set(rows[:, 0])) > 2


def test_prediction_runs_in_a_process_of_its_own(words: Any, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    """A crash of scikit-learn is an error of the file, and the result is what this process would get."""
    skops.io.dump(words, tmp_path / "a.skops")
    with CHECK(tmp_path / "a.skops") as process:
        found = process.predictions()
    want = worker.predict(tmp_path / "a.skops")
    assert found.keys() == want.keys() and all(
        np.array_equal(found[k], want[k], want[k].dtype.kind == "f") for k in found
    )
    (tmp_path / "b.skops").write_bytes(b"no archive")
    with CHECK(tmp_path / "b.skops") as process, pytest.raises(ModelError, match="damaged"):
        process.predictions()


@pytest.mark.parametrize(("name", "told"), [("SEGV", r"crashed on it \(signal 11\)"), ("PROF", "does not end on it")])
def test_what_crashes_scikit_learn_is_not_loaded_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, told: str
) -> None:
    """The file is loaded first in a process of its own; its end by a signal ends in an error."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nkill -{name} $$\n")
    python.chmod(0o755)
    skops.io.dump(tree.DecisionTreeClassifier().fit([[0.0], [1.0]], [0, 1]), tmp_path / "tree.skops")
    monkeypatch.setattr(export, "Check", CHECK)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr("dlpack.exporters.sklearn.export.load", lambda _: pytest.fail("it was loaded"))
    with pytest.raises(ModelError, match=f"{told}: the file is damaged"):
        exporters.export(tmp_path / "tree.skops", None, ExportOptions())


@pytest.mark.parametrize("names", [NUMBERS, WORDS])
def test_scores_that_skl2onnx_puts_into_dicts_are_the_output(names: np.ndarray[Any, Any], tmp_path: Path) -> None:
    """ZipMap, its default: the tensor before it is the output, and its keys are the labels."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    from dlpack.model.load import load_model

    estimator = LINEAR().fit(X, names)
    made = convert_sklearn(
        estimator, initial_types=[("X", FloatTensorType([1, 6]))], target_opset={"": 18, "ai.onnx.ml": 3}
    )
    assert any(n.op_type == "ZipMap" for n in made.graph.node)
    (tmp_path / "model.onnx").write_bytes(made.SerializeToString())
    model = load_model(tmp_path / "model.onnx")
    assert json.loads({p.key: p.value for p in model.metadata_props}["dlpack.labels"]) == [
        str(c) for c in estimator.classes_
    ]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    scores = session.run(["output_probability"], {"X": X[:1]})[0]
    np.testing.assert_allclose(scores, estimator.predict_proba(X[:1]), rtol=1e-5)
