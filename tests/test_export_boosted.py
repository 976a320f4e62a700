"""XGBoost, LightGBM and CatBoost: the files that they save, exported, against their own predictions.

CatBoost is too large to be installed for this: data/catboost holds small models of its release 1.2.10, and what it
predicts for 24 rows; `words`, `counts` and `means` have columns of words. CatBoost trains the two kinds of tables of
`means` on GPUs alone, so it was trained with others, which were renamed in its JSON form.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnxruntime
import pytest
import xgboost
from conformance.batch import run_cases
from conformance.cases import Case
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from dlpack import exporters
from dlpack.errors import DlpackError, UnsupportedError
from dlpack.exporters import Exported, ExportOptions
from dlpack.exporters.base import set_metadata
from dlpack.meaning.cityhash import KEY, category_hashes, hashed_inputs, word_of
from dlpack.targets.cpu.machine import AVX2

DATA = Path(__file__).parent / "data/catboost"
_random = np.random.default_rng(0)
X = _random.normal(size=(300, 6)).astype(np.float32)
X[:, 4], X[:, 5] = _random.integers(0, 5, 300), _random.integers(0, 40, 300)
X[_random.random(X.shape) < 0.15] = np.nan
X[_random.random(X.shape) < 0.1] = 0.0
_score = np.nan_to_num(X[:, 0]) + np.nan_to_num(X[:, 4]) - np.nan_to_num(X[:, 5]) / 20
REAL = _score + 0.1 * _random.normal(size=300)
POSITIVE = np.exp(_score / 3)
TWO = (_score > 1).astype(int)
THREE = np.digitize(_score, [0.0, 2.0])
BOTH = np.stack([REAL, POSITIVE], axis=1)
TARGETS = {"binary": TWO, "cross_entropy": TWO, "count": POSITIVE, "poisson": POSITIVE, "gamma": POSITIVE,
           "tweedie": POSITIVE, "multi": THREE, "multiclass": THREE, "multiclassova": THREE}  # fmt: skip


def exported(path: Path, rows: int = len(X)) -> Exported:
    return exporters.export(path, None, ExportOptions(shapes={"X": (rows, X.shape[1])}))


def run(found: Exported, x: Any = X) -> dict[str, Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(found.model.SerializeToString(), options)
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, {"X": x}), strict=True))


def same(got: Any, want: Any) -> None:
    want = np.asarray(want, np.float64)
    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=2e-5, atol=2e-6)


# --- XGBoost ----------------------------------------------------------------------------------------------------------

XGBOOST: dict[str, dict[str, Any]] = {
    **{name: {"objective": name} for name in (
        "reg:squarederror", "reg:absoluteerror", "reg:logistic", "binary:logistic", "binary:logitraw", "binary:hinge",
        "count:poisson", "reg:gamma", "reg:tweedie", "multi:softmax", "multi:softprob")},
    "sets of categories": {"objective": "binary:logistic", "max_cat_to_onehot": 2, "categories": True},
    "one category each": {"objective": "multi:softprob", "max_cat_to_onehot": 99, "categories": True},
    "dart": {"objective": "binary:logistic", "booster": "dart", "rate_drop": 0.5},
    "linear": {"objective": "binary:logistic", "booster": "gblinear"},
    "linear, three classes": {"objective": "multi:softprob", "booster": "gblinear"},
    "forest": {"objective": "binary:logistic", "num_parallel_tree": 3},
    "no split": {"objective": "reg:squarederror", "min_split_loss": 1e9},
    "two targets": {"objective": "reg:squarederror", "y": BOTH},
    "two targets in a leaf": {"objective": "reg:squarederror", "y": BOTH, "multi_strategy": "multi_output_tree"},
    "quantiles": {"objective": "reg:quantileerror", "quantile_alpha": np.array([0.1, 0.5, 0.9])},
}  # fmt: skip


def xgboost_model(params: dict[str, Any]) -> tuple[Any, Any]:
    """A booster and its predictions for X."""
    params = {"max_depth": 4, "verbosity": 0, "nthread": 1, **params}
    kinds = ["q"] * 4 + ["c"] * 2 if params.pop("categories", False) else None
    family = params["objective"].partition(":")[0]
    if family == "multi":
        params["num_class"] = 3
    y = params.pop("y", TARGETS.get(family, REAL))
    if params["objective"] in ("reg:logistic", "reg:gamma", "reg:tweedie"):
        y = TWO if params["objective"] == "reg:logistic" else POSITIVE
    data = xgboost.DMatrix(X, y, feature_types=kinds, enable_categorical=kinds is not None, nthread=1)
    booster = xgboost.train(params, data, 6)
    return booster, booster.predict(data)


@pytest.mark.parametrize("suffix", ["json", "ubj"])
@pytest.mark.parametrize("name", XGBOOST)
def test_predicts_as_xgboost(name: str, suffix: str, tmp_path: Path) -> None:
    booster, want = xgboost_model(XGBOOST[name])
    booster.save_model(tmp_path / f"model.{suffix}")
    got = run(exported(tmp_path / f"model.{suffix}"))
    objective = XGBOOST[name]["objective"]
    if objective == "multi:softmax":
        same(got["label"], want)
    elif objective == "binary:logistic":
        same(got["probabilities"][:, 1], want)
        assert ((got["label"] == 1) == (want > 0.5)).all()
    else:
        same(got[list(got)[-1]], want)


def test_early_stopping_is_followed_as_its_classifier_does(tmp_path: Path) -> None:
    estimator = xgboost.XGBClassifier(n_estimators=60, early_stopping_rounds=3, max_depth=5, verbosity=0, n_jobs=1)
    estimator.fit(X[:150], THREE[:150], eval_set=[(X[150:], THREE[150:])], verbose=False)
    assert estimator.best_iteration + 1 < estimator.get_booster().num_boosted_rounds()
    estimator.save_model(tmp_path / "model.json")
    found = exported(tmp_path / "model.json")
    got = run(found)
    assert found.labels == ("0", "1", "2") and (got["label"] == estimator.predict(X)).all()
    same(got["probabilities"], estimator.predict_proba(X))


def test_what_xgboost_computes_otherwise_is_refused(tmp_path: Path) -> None:
    booster, _ = xgboost_model(XGBOOST["reg:squarederror"])
    booster.save_model(tmp_path / "model.json")
    text = (tmp_path / "model.json").read_text()
    (tmp_path / "model.json").write_text(text.replace("reg:squarederror", "my:own"))
    with pytest.raises(UnsupportedError, match="the objective 'my:own'"):
        exported(tmp_path / "model.json")


def test_categories_that_xgboost_keeps_as_words_are_an_input_of_their_own(tmp_path: Path) -> None:
    """XGBoost 3.1 and later write the categories of the table, UTF-8 as signed bytes; another word is missing."""
    codes = np.stack([X[:, 0], _random.integers(0, 4, 300), X[:, 1], _random.integers(0, 2, 300)], axis=1)
    codes[:20, 1] = np.nan
    data = xgboost.DMatrix(codes, TWO, feature_types=["float", "c", "float", "c"], enable_categorical=True)
    options = {"objective": "binary:logistic", "max_cat_to_onehot": 1, "nthread": 1}
    booster = xgboost.train(options, data, 8)
    document = json.loads(booster.save_raw("json"))
    words = ["Oslo", "", "X", "Łódź"]
    letters = np.frombuffer("".join(words).encode(), np.int8).tolist()
    ends = np.cumsum([0, *(len(w.encode()) for w in words)]).tolist()
    empty: dict[str, Any] = {"offsets": [], "values": []}
    document["learner"]["gradient_booster"]["model"]["cats"] = {
        "enc": [empty, {"offsets": ends, "values": letters}, empty, {"type": 15, "values": [2001, 2005]}]
    }
    (tmp_path / "model.json").write_text(json.dumps(document))
    found = exporters.export(tmp_path / "model.json", None, ExportOptions(shapes={"X": (300, 3)}))
    told = "the column 3 of X is the place of its value among the categories [2001, 2005]"
    assert {"the input 'text' has the columns of text: column 1", told} <= {*found.warnings}
    names = np.array([words[int(np.nan_to_num(k))] for k in codes[:, 1]], object)
    names[:20] = "Atlantis"
    session = onnxruntime.InferenceSession(found.model.SerializeToString())
    feeds = {"X": codes[:, [0, 2, 3]].astype(np.float32), "text": names[:, None]}
    same(session.run(["probabilities"], feeds)[0][:, 1], booster.predict(data))


# --- LightGBM ---------------------------------------------------------------------------------------------------------

LIGHTGBM: dict[str, dict[str, Any]] = {
    **{name: {"objective": name} for name in (
        "binary", "cross_entropy", "cross_entropy_lambda", "regression", "regression_l1", "huber", "quantile", "mape",
        "poisson", "gamma", "tweedie", "multiclass", "multiclassova")},
    "a root": {"objective": "regression", "reg_sqrt": True},
    "zero is missing": {"objective": "regression", "zero_as_missing": True},
    "nothing is missing": {"objective": "regression", "use_missing": False},
    "sets of categories": {"objective": "regression", "max_cat_to_onehot": 1, "cat_smooth": 1, "min_data_per_group": 1,
                           "categorical_feature": [4, 5]},
    "one category each": {"objective": "binary", "max_cat_to_onehot": 99, "categorical_feature": [4, 5]},
    "steeper": {"objective": "binary", "sigmoid": 0.7},
    "forest": {"objective": "binary", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
    "dart": {"objective": "regression", "boosting": "dart", "drop_rate": 0.5},
    "no split": {"objective": "regression", "min_gain_to_split": 1e9},
}  # fmt: skip


def lightgbm_model(params: dict[str, Any]) -> Any:
    params = {"verbose": -1, "num_leaves": 15, "min_data_in_leaf": 3, "num_threads": 1, **params}
    if params["objective"].startswith("multi"):
        params["num_class"] = 3
    categories = params.pop("categorical_feature", "auto")
    y = TWO if params["objective"].startswith("cross") else TARGETS.get(params["objective"], REAL)
    return lightgbm.train(params, lightgbm.Dataset(X, y, categorical_feature=categories, params=params), 8)


@pytest.mark.parametrize("name", LIGHTGBM)
def test_predicts_as_lightgbm(name: str, tmp_path: Path) -> None:
    booster = lightgbm_model(LIGHTGBM[name])
    booster.save_model(tmp_path / "model.txt")
    got, want = run(exported(tmp_path / "model.txt")), booster.predict(X)
    same(got["probabilities"][:, 1] if LIGHTGBM[name]["objective"] == "binary" else got[list(got)[-1]], want)


def test_categories_that_are_words_are_an_input_of_their_own(tmp_path: Path) -> None:
    """As pandas has numbered them, which the file says behind the trees; another word is a missing value."""
    options = {"verbose": -1, "min_data_per_group": 1, "max_cat_to_onehot": 1, "objective": "binary"}
    codes = np.stack([X[:, 0], _random.integers(0, 4, 300), X[:, 1], _random.integers(0, 2, 300)], axis=1)
    data = lightgbm.Dataset(codes, TWO, categorical_feature=[1, 3], free_raw_data=False)
    booster = lightgbm.train(options, data, 8)
    words = [["Oslo", "Rome", "X", "Łódź"], [2001, 2005]]
    text = booster.model_to_string().replace("pandas_categorical:null", f"pandas_categorical:{json.dumps(words)}")
    (tmp_path / "model.txt").write_text(text, encoding="utf-8")
    found = exporters.export(tmp_path / "model.txt", None, ExportOptions(shapes={"X": (300, 3)}))
    assert any("'text' has the columns of text: Column_1" in told for told in found.warnings)
    assert any(
        "'Column_3' of X is the place of its value among the categories [2001, 2005]" in w for w in found.warnings
    )
    names = np.array([words[0][int(k)] for k in codes[:, 1]], object)
    names[:20], codes[:20, 1] = "Atlantis", np.nan
    session = onnxruntime.InferenceSession(found.model.SerializeToString())
    feeds = {"X": codes[:, [0, 2, 3]].astype(np.float32), "text": names[:, None]}
    same(session.run(["probabilities"], feeds)[0][:, 1], booster.predict(codes))


def test_linear_leaves_are_refused(tmp_path: Path) -> None:
    booster = lightgbm_model({"objective": "regression", "linear_tree": True})
    booster.save_model(tmp_path / "model.txt")
    with pytest.raises(UnsupportedError, match="linear_tree"):
        exported(tmp_path / "model.txt")


# --- CatBoost ---------------------------------------------------------------------------------------------------------

PREDICTIONS = json.loads((DATA / "predictions.json").read_text())
ROWS = np.array(PREDICTIONS["rows"], np.float32)  # null is NaN


@pytest.mark.parametrize(
    ("name", "labels"),
    [("logloss", ("no", "yes")), ("multiclass", ("1", "4", "7")), ("poisson", None), ("rmse", None)],
)
def test_predicts_as_catboost(name: str, labels: tuple[str, ...] | None) -> None:
    """Symmetric trees and others, missing values below or above everything, classes that are text or numbers."""
    found = exporters.export(DATA / f"{name}.cbm", None, ExportOptions(shapes={"X": ROWS.shape}))
    got, want = run(found, ROWS), np.array(PREDICTIONS[name])
    assert found.labels == labels
    same(got["probabilities" if labels else "prediction"], want)
    if labels:
        values = np.array([1, 4, 7]) if name == "multiclass" else np.arange(2)
        assert (got["label"] == values[want.argmax(axis=1)]).all()


WORDS = json.loads((DATA / "words.json").read_text())
TABLE, TEXTS = np.array(WORDS["table"], np.float32), np.array(WORDS["text"], object)


def with_words(name: str, rows: int = len(TABLE)) -> Exported:
    """`words`: one word each, and tables of combinations; `counts` and `means`: tables of every kind."""
    shapes = {"X": (rows, TABLE.shape[1]), "text": (rows, TEXTS.shape[1])}
    return exporters.export(DATA / f"{name}.cbm", None, ExportOptions(shapes=shapes))


@pytest.mark.parametrize("name", ["words", "counts", "means"])
def test_words_are_looked_up_as_catboost_does(name: str) -> None:
    """By their hashes, words that training has not seen too. One has 80 bytes, others more than 32."""
    found = with_words(name)
    assert "the input 'text' has the columns of text: city, size, zip" in found.warnings
    session = onnxruntime.InferenceSession(found.model.SerializeToString())
    same(session.run(None, {"X": TABLE, "text": category_hashes(TEXTS)})[-1], WORDS[name])


def test_words_are_found_for_the_hashes_of_a_model() -> None:
    """With them a build is verified: the file does not have the words themselves."""
    (known,) = hashed_inputs({p.key: p.value for p in with_words("words").model.metadata_props}).values()
    assert len(known) == 15
    assert {*category_hashes(np.array([*set(TEXTS.reshape(-1)) - {"not seen"}], object))} <= {*known}
    assert category_hashes(np.array([word_of(number) for number in known])).tolist() == known


# --- all --------------------------------------------------------------------------------------------------------------


def hashed_cases() -> list[Case]:
    """A model with words, and texts of all the lengths that the hash distinguishes."""
    short = np.array([len(word.encode()) < 64 for word in TEXTS[:, 0]])
    model, want = with_words("words", int(short.sum())).model, np.array(WORDS["words"], np.float32)[short]
    cases = [Case("words", "", "", model, (((TABLE[short], TEXTS[short]), (None, want)),), 1e-5, 1e-6)]
    long = "z" * 191  # of all inputs the room is that of the longest known word
    known = {"keys_strings": [long], "values_int64s": [7], "default_int64": 0}
    nodes = [
        helper.make_node("Identity", ["hash"], ["same"]),
        helper.make_node("LabelEncoder", ["word"], ["place"], domain="ai.onnx.ml", **known),
    ]
    texts = np.array(
        ["", "é", "abcd", "eight888", "nine99999", *("ab" * n for n in (8, 9, 16, 17, 32, 33, 64, 65, 95))]
    )
    shapes = {"hash": (TensorProto.INT64, texts.shape), "word": (TensorProto.STRING, (1,))}
    inputs = [helper.make_tensor_value_info(name, *kind) for name, kind in shapes.items()]
    outputs = [helper.make_tensor_value_info(name, TensorProto.INT64, None) for name in ("same", "place")]
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 4)]
    made = helper.make_model(helper.make_graph(nodes, "hash", inputs, outputs), opset_imports=opsets, ir_version=10)
    set_metadata(made, KEY, json.dumps({"hash": []}))
    data = ((texts.astype(object), np.array([long], object)), (category_hashes(texts), np.array([7])))
    return [*cases, Case("lengths", "", "", made, (data,), 0, 0)]


def test_they_are_compiled_and_right(tmp_path: Path) -> None:
    cases = []
    for name in ("sets of categories", "two targets in a leaf", "no split", "linear, three classes"):
        booster, _ = xgboost_model(XGBOOST[name])
        booster.save_model(tmp_path / f"{name}.json")
        cases.append((name, exported(tmp_path / f"{name}.json"), X))
    booster = lightgbm_model(LIGHTGBM["zero is missing"])
    booster.save_model(tmp_path / "model.txt")
    cases.append(("zero is missing", exported(tmp_path / "model.txt"), X))
    multiclass = exporters.export(DATA / "multiclass.cbm", None, ExportOptions(shapes={"X": ROWS.shape}))
    cases.append(("multiclass", multiclass, ROWS))
    results = run_cases(
        [
            *(
                Case(name, "", "", found.model, (((x,), tuple(run(found, x).values())),), 1e-5, 1e-6)
                for name, found, x in cases
            ),
            *hashed_cases(),
        ],
        AVX2,
        lambda _: None,
    )
    assert {r.name: r.detail for r in results if r.outcome != "passed"} == {}


def small_files(folder: Path) -> dict[str, bytes]:
    booster, _ = xgboost_model({**XGBOOST["sets of categories"], "max_depth": 2})
    booster.save_model(folder / "model.json")
    booster.save_model(folder / "model.ubj")
    lightgbm_model({**LIGHTGBM["sets of categories"], "num_leaves": 4}).save_model(folder / "model.txt")
    paths = [*(folder / f"model.{s}" for s in ("json", "ubj", "txt")), DATA / "rmse.cbm", DATA / "words.cbm"]
    return {path.name: path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return small_files(tmp_path_factory.mktemp("files"))


def _cut(data: bytes, at: int, _: bytes) -> bytes:
    return data[: at % len(data)]


def _changed(data: bytes, at: int, new: bytes) -> bytes:
    at %= len(data)
    return data[:at] + new + data[at + len(new) :]


@given(
    name=st.sampled_from(["model.json", "model.ubj", "model.txt", "rmse.cbm", "words.cbm"]),
    damage=st.sampled_from([_cut, _changed]),
    at=st.integers(0, 1 << 20),
    new=st.binary(min_size=1, max_size=4),
)
def test_a_damaged_file_is_refused_or_exported(
    name: str, damage: Callable[[bytes, int, bytes], bytes], at: int, new: bytes, files: dict[str, bytes],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    path = tmp_path_factory.getbasetemp() / f"damaged-{name}"
    path.write_bytes(damage(files[name], at, new))
    try:
        found = exporters.export(path)
    except DlpackError as e:
        assert str(e)
    else:
        assert found.model.graph.node
