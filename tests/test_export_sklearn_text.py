"""scikit-learn: columns of text in a table, which become an input of their own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import skops.io
from sklearn import compose, impute, pipeline, preprocessing
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

import dlpack
from dlpack import exporters
from dlpack.errors import UnsupportedError
from dlpack.exporters import ExportOptions
from dlpack.exporters.sklearn.dictionaries import keys_of


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
    mixed = preprocessing.OneHotEncoder().fit(table[:, [1, 0]])
    with pytest.raises(UnsupportedError, match="one OneHotEncoder encodes columns of text and columns of numbers"):
        skops.io.dump(mixed, tmp_path / "mixed.skops")
        exporters.export(tmp_path / "mixed.skops")


def test_dictionaries_are_a_table_with_a_column_for_each_key(tmp_path: Path) -> None:
    """In the order of the vectoriser's features, words among the text; the export is compared with dictionaries."""
    rng = np.random.default_rng(6)
    towns = rng.choice(["Rome", "Oslo", "New York"], 90).tolist()
    named = [{"town": town, "age": age, "b": age > 1} for town, age in zip(towns, range(90), strict=True)]
    named[0] = {"b": False}
    parts = DictVectorizer(), preprocessing.MaxAbsScaler(), LogisticRegression()
    model = pipeline.make_pipeline(*parts).fit(named, [int(k % 3 == 0) for k in range(90)])
    skops.io.dump(model, tmp_path / "net.skops")
    shapes = {"X": (2, 2), "text": (2, 1)}
    found = exporters.export(tmp_path / "net.skops", None, ExportOptions(shapes=shapes))
    assert found.warnings == ("the input 'text' has the columns of text: town; 'X' the others: age, b",)
    session = onnxruntime.InferenceSession(found.model.SerializeToString())
    feeds = {"X": np.array([[7, 1], [0, 0]], np.float32), "text": np.array([["Oslo"], [""]], object)}
    want = model.predict_proba([{"age": 7, "b": True, "town": "Oslo"}, {}])
    np.testing.assert_allclose(session.run(["probabilities"], feeds)[0], want, atol=1e-6)


def test_a_key_with_numbers_and_words_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="numbers and words for the key 'a'; give one of them another key"):
        keys_of(DictVectorizer().fit([{"a": 1.0}, {"a": "x"}]))
