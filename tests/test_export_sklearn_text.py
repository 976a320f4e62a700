"""scikit-learn: columns of text in a table, which become an input of their own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import skops.io
from sklearn import compose, impute, pipeline, preprocessing
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

import dlpack
from dlpack import exporters
from dlpack.errors import UnsupportedError


def test_columns_of_text(tmp_path: Path) -> None:
    """An input of their own, in the table's order; rare, unseen and missing words, columns in any order."""
    rng = np.random.default_rng(5)
    rows = 200
    table = np.empty((rows, 5), object)
    table[:, [0, 2]] = rng.normal(size=(rows, 2))
    table[:, 1] = rng.choice(["Rome", "Oslo", "Łódź", "New York"], rows, p=[0.4, 0.3, 0.25, 0.05])
    table[:, 3], table[:, 4] = rng.choice(["S", "M", "L"], rows), rng.choice(["a b", "b c"], rows)
    target = np.where((table[:, 0] + (table[:, 1] == "Rome") - (table[:, 3] == "L")).astype(float) > 0, "yes", "no")
    hot = preprocessing.OneHotEncoder(min_frequency=20, drop="first", handle_unknown="infrequent_if_exist")
    filled = pipeline.make_pipeline(impute.SimpleImputer(strategy="most_frequent"), preprocessing.OrdinalEncoder())
    columns = [
        ("hot", hot, [3, 1]),
        ("filled", filled, [3]),
        ("words", TfidfVectorizer(token_pattern="[a-z]+"), 4),
    ]
    parts = compose.ColumnTransformer(columns, remainder="passthrough")
    model = pipeline.make_pipeline(parts, LogisticRegression()).fit(table, target)
    skops.io.dump(model, tmp_path / "net.skops")
    build = dlpack.build(tmp_path / "net.skops", tmp_path / "net")
    manifest = json.loads((build / "manifest.json").read_text())
    assert [(v["name"], v["shape"]) for v in manifest["inputs"]] == [("X", [1, 2]), ("text", [1, 3])]
    assert manifest["labels"] == ["no", "yes"]
    with dlpack.load(build) as net:
        for row in table[:20]:
            feeds = {"X": row[None, [0, 2]].astype(np.float32), "text": row[None, [1, 3, 4]]}
            want = model.predict_proba(row[None])
            np.testing.assert_allclose(net.run(feeds)["probabilities"], want, atol=1e-5)
        missing = {"X": feeds["X"], "text": np.array([["Atlantis", "", "b c"]])}
        assert np.isfinite(net.run(missing)["probabilities"]).all()
    named = [{"a": 1.0, "b": "x"}, {"a": 2.0, "b": "y"}]
    pairs = pipeline.make_pipeline(DictVectorizer(), LogisticRegression()).fit(named, [0, 1])
    with pytest.raises(UnsupportedError, match="DictVectorizer reads dictionaries, and a bundle's input is a table"):
        skops.io.dump(pairs, tmp_path / "pairs.skops")
        exporters.export(tmp_path / "pairs.skops")
    mixed = preprocessing.OneHotEncoder().fit(table[:, [1, 0]])
    with pytest.raises(UnsupportedError, match="one OneHotEncoder encodes columns of text and columns of numbers"):
        skops.io.dump(mixed, tmp_path / "mixed.skops")
        exporters.export(tmp_path / "mixed.skops")
