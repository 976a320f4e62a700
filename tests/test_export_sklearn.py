"""scikit-learn: estimators in .skops files, exported, compiled and run, against scikit-learn's own predictions."""

from __future__ import annotations

import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import skops.io
from click.testing import CliRunner
from conformance.batch import run_cases
from conformance.cases import Case
from onnx import ModelProto
from sklearn import (
    calibration,
    cluster,
    compose,
    decomposition,
    discriminant_analysis,
    ensemble,
    feature_selection,
    impute,
    linear_model,
    mixture,
    model_selection,
    multiclass,
    multioutput,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    svm,
    tree,
)
from sklearn.base import BaseEstimator

import dlpack
from dlpack import exporters
from dlpack.cli import cli
from dlpack.errors import ModelError, UnsupportedError, UsageError
from dlpack.exporters import ExportOptions
from dlpack.exporters.sklearn import check, export, worker
from dlpack.targets.cpu.machine import AVX2

ROWS = 5
CHECK = check.Check
_random = np.random.default_rng(11)
X = (_random.normal(size=(240, 6)) * [1, 2, 0.5, 3, 1, 1] + [0, 1, 0, -2, 0, 0]).astype(np.float32)
TWO = (X[:, 0] + X[:, 1] * X[:, 2] > 0.3).astype(int)
THREE = TWO + (X[:, 3] > -1.5)
NUMBERS = np.array([30, 7, 12])[THREE]  # neither in order nor next to each other
WORDS = np.array(["setosa", "virginica", "Öl"])[THREE]
VALUES = (2 * X[:, 0] + np.sin(X[:, 1]) + 1).astype(np.float64)
TEST = X[100 : 100 + ROWS]
CATEGORIES = np.round(X[:, :3]) + 3
SEVERAL = np.stack([TWO, X[:, 1] > 0.5, X[:, 3] > -2], axis=1).astype(int)
CHOSEN = np.concatenate([X[:, :2], 2 * CATEGORIES[:, 1:2] + 1, X[:, 3:]], axis=1)  # whose column 2 holds categories
GAPS = np.where(_random.random(X.shape) < 0.2, np.nan, X).astype(np.float32)

Expected = dict[str, np.ndarray[Any, Any]]


def probable(model: Any, x: np.ndarray[Any, Any]) -> Expected:
    return {"label": labels(model, x), "probabilities": model.predict_proba(x)}


def scored(model: Any, x: np.ndarray[Any, Any]) -> Expected:
    scores = model.decision_function(x)
    return {"label": labels(model, x), "scores": scores if scores.ndim > 1 else np.stack([-scores, scores], axis=1)}


def labels(model: Any, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What the bundle calls the classes: numbers as they are, strings by their index."""
    found = model.predict(x)
    return found if found.dtype.kind in "iu" else np.searchsorted(model.classes_, found)


def label_only(model: Any, x: np.ndarray[Any, Any]) -> Expected:
    return {"label": labels(model, x)}


def predicted(model: Any, x: np.ndarray[Any, Any]) -> Expected:
    return {"variable": model.predict(x).reshape(len(x), -1)}


def transformed(model: Any, x: np.ndarray[Any, Any]) -> Expected:
    y = model.transform(x)
    return {"variable": y.toarray() if hasattr(y, "toarray") else y}


def outliers(model: Any, x: np.ndarray[Any, Any]) -> Expected:
    return {"label": model.predict(x)[:, None], "scores": model.decision_function(x)[:, None]}


def clusters(model: Any, x: np.ndarray[Any, Any]) -> Expected:
    return {"label": model.predict(x), "scores": model.transform(x)}


def mixed(model: Any, x: np.ndarray[Any, Any]) -> Expected:
    return {"label": model.predict(x)[:, None], "probabilities": model.predict_proba(x)}


def several(model: Any, x: np.ndarray[Any, Any]) -> Expected:
    """Of a model of several labels, each of two classes."""
    return {"label": model.predict(x).astype(int), "probabilities": model.predict_proba(x)}


def several_forests(model: Any, x: np.ndarray[Any, Any]) -> Expected:
    return {"label": model.predict(x), "probabilities": np.stack(model.predict_proba(x))}


Row = tuple[BaseEstimator, np.ndarray[Any, Any], np.ndarray[Any, Any] | None, Callable[..., Expected]]
LINEAR, BOOST = linear_model.LogisticRegression, ensemble.GradientBoostingClassifier
HIST = ensemble.HistGradientBoostingClassifier

ESTIMATORS: dict[str, Row] = {
    "logistic_2": (LINEAR(), X, TWO, probable),
    "logistic_3": (LINEAR(), X, NUMBERS, probable),
    "logistic_words": (LINEAR(), X, WORDS, probable),
    "ridge": (linear_model.Ridge(), X, np.stack([VALUES, -VALUES], axis=1), predicted),
    "ridge_classifier": (linear_model.RidgeClassifier(), X, WORDS, scored),
    "lasso": (linear_model.Lasso(0.01), X, VALUES, predicted),
    "poisson": (linear_model.PoissonRegressor(), X, np.abs(VALUES), predicted),
    "sgd": (linear_model.SGDClassifier(random_state=0), X, WORDS, scored),
    "linear_svc": (svm.LinearSVC(), X, NUMBERS, scored),
    "svc_probability": (svm.SVC(probability=True, random_state=0), X, WORDS, probable),
    "svc_2": (svm.SVC(probability=True, kernel="poly", random_state=0), X, TWO, probable),
    "svc_scores": (svm.SVC(kernel="sigmoid"), X, TWO, scored),
    "svr": (svm.SVR(), X, VALUES, predicted),
    "one_class_svm": (svm.OneClassSVM(), X, None, outliers),
    "forest_2": (ensemble.RandomForestClassifier(9, random_state=0), X, TWO, probable),
    "forest_words": (ensemble.RandomForestClassifier(20, random_state=0), X, WORDS, probable),
    "forest_values": (ensemble.RandomForestRegressor(10, random_state=0), X, VALUES, predicted),
    "forest_pairs": (ensemble.RandomForestRegressor(4, random_state=0), X, np.stack([VALUES, VALUES**2], 1), predicted),
    "extra_trees": (ensemble.ExtraTreesClassifier(12, random_state=0), X, NUMBERS, probable),
    "tree": (tree.DecisionTreeClassifier(max_depth=4), X, WORDS, probable),
    "tree_values": (tree.DecisionTreeRegressor(max_depth=6), X, VALUES, predicted),
    "boosting_2": (BOOST(n_estimators=15, random_state=0), X, TWO, probable),
    "boosting_3": (BOOST(n_estimators=7, random_state=0), X, NUMBERS, probable),
    "boosting_values": (ensemble.GradientBoostingRegressor(n_estimators=12, random_state=0), X, VALUES, predicted),
    "histogram_2": (HIST(max_iter=10), GAPS, TWO, probable),
    "histogram_words": (HIST(max_iter=5), GAPS, WORDS, probable),
    "histogram_values": (ensemble.HistGradientBoostingRegressor(max_iter=8), GAPS, VALUES, predicted),
    "ada_boost": (ensemble.AdaBoostClassifier(n_estimators=4, random_state=0), X, NUMBERS, probable),
    "bagging": (ensemble.BaggingClassifier(n_estimators=3, random_state=0), X, NUMBERS, probable),
    "voting": (ensemble.VotingClassifier([("a", LINEAR()), ("b", naive_bayes.GaussianNB())], voting="soft"), X, WORDS,
               probable),
    "isolation_forest": (ensemble.IsolationForest(n_estimators=12, random_state=0), X, None, outliers),
    "neighbors": (neighbors.KNeighborsClassifier(3), X, WORDS, probable),
    "neighbors_values": (neighbors.KNeighborsRegressor(4), X, VALUES, predicted),
    "mlp": (neural_network.MLPClassifier((12,), solver="lbfgs", max_iter=40, random_state=0), X, WORDS, probable),
    "mlp_values": (neural_network.MLPRegressor(hidden_layer_sizes=(12,), solver="lbfgs", max_iter=40, random_state=0),
                   X, VALUES, predicted),
    "gaussian_nb": (naive_bayes.GaussianNB(), X, NUMBERS, probable),
    "multinomial_nb": (naive_bayes.MultinomialNB(), CATEGORIES.clip(0), WORDS, probable),
    "lda": (discriminant_analysis.LinearDiscriminantAnalysis(), X, NUMBERS, probable),
    "one_vs_rest": (multiclass.OneVsRestClassifier(LINEAR()), X, NUMBERS, probable),
    "calibrated": (calibration.CalibratedClassifierCV(svm.LinearSVC(), cv=2), X, TWO, probable),
    "k_means": (cluster.KMeans(3, n_init=1, random_state=0), X, None, clusters),
    "mixture": (mixture.GaussianMixture(2, random_state=0), X, None, mixed),
    "pca": (decomposition.PCA(3), X, None, transformed),
    "standard_scaler": (preprocessing.StandardScaler(), X, None, transformed),
    "min_max_scaler": (preprocessing.MinMaxScaler(clip=True), X, None, transformed),
    "normalizer": (preprocessing.Normalizer("l1"), X, None, transformed),
    "normalizer_max": (preprocessing.Normalizer("max"), np.abs(X), None, transformed),
    "binarizer": (preprocessing.Binarizer(threshold=0.5), X, None, transformed),
    "one_hot": (preprocessing.OneHotEncoder(handle_unknown="ignore"), CATEGORIES, None, transformed),
    "ordinal": (preprocessing.OrdinalEncoder(), CATEGORIES, None, transformed),
    "bins": (preprocessing.KBinsDiscretizer(3, encode="ordinal", subsample=None, strategy="uniform"), X, None,
             transformed),
    "polynomial": (preprocessing.PolynomialFeatures(2), X, None, transformed),
    "imputer": (impute.SimpleImputer(), GAPS, None, transformed),
    "select": (feature_selection.SelectKBest(k=2), X, TWO, transformed),
    "forest_gaps": (ensemble.RandomForestClassifier(8, random_state=0), GAPS, WORDS, probable),
    "forest_several_gaps": (ensemble.RandomForestClassifier(4, random_state=0), GAPS, SEVERAL, several_forests),
    "extra_trees_gaps": (ensemble.ExtraTreesRegressor(8, random_state=0), GAPS, VALUES, predicted),
    "tree_gaps": (tree.DecisionTreeClassifier(random_state=0), GAPS, NUMBERS, probable),
    "tree_values_gaps": (tree.DecisionTreeRegressor(max_depth=6), GAPS, VALUES, predicted),
    "bagging_gaps": (ensemble.BaggingClassifier(tree.DecisionTreeClassifier(), n_estimators=3, random_state=0), GAPS,
                     NUMBERS, probable),
    "isolation_gaps": (ensemble.IsolationForest(n_estimators=6, random_state=0), GAPS, None, outliers),
    "isolation_columns": (ensemble.IsolationForest(n_estimators=6, max_features=0.5, random_state=0), X, None,
                          outliers),
    "bagging_votes": (ensemble.BaggingClassifier(svm.SVC(), n_estimators=4, random_state=0), X, NUMBERS, probable),
    "bagging_votes_words": (ensemble.BaggingClassifier(svm.LinearSVC(), n_estimators=3, max_features=4, random_state=0),
                            X, WORDS, probable),
    "mlp_several": (neural_network.MLPClassifier((6,), solver="lbfgs", max_iter=30, random_state=0), X, SEVERAL,
                    several),
    "mlp_two_labels": (neural_network.MLPClassifier((6,), solver="lbfgs", max_iter=30, random_state=0), X,
                       SEVERAL[:, :2], several),
    "histogram_categories": (HIST(max_iter=6, categorical_features=[2]), CHOSEN, WORDS, probable),
    "histogram_categories_gaps": (
        ensemble.HistGradientBoostingRegressor(max_iter=6, categorical_features=[2], loss="poisson"),
        np.where(np.isnan(GAPS), np.nan, CHOSEN), np.abs(VALUES), predicted),
    "voting_weights": (ensemble.VotingClassifier([("a", LINEAR()), ("b", naive_bayes.GaussianNB())], voting="soft",
                                                 weights=[1, 3]), X, WORDS, probable),
    "search": (model_selection.GridSearchCV(LINEAR(), {"C": [0.1, 1]}, cv=2), X, WORDS, probable),
    "search_as_a_step": (pipeline.make_pipeline(preprocessing.StandardScaler(), model_selection.RandomizedSearchCV(
        linear_model.Ridge(), {"alpha": [0.1, 1]}, n_iter=2, cv=2, scoring="r2")), X, VALUES, predicted),
    "logarithm_of_the_target": (compose.TransformedTargetRegressor(linear_model.Ridge(), func=np.log1p,
                                                                   inverse_func=np.expm1), X, np.abs(VALUES),
                                predicted),
    "scaled_target": (compose.TransformedTargetRegressor(
        pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.Ridge()),
        transformer=preprocessing.MinMaxScaler()), X, VALUES, predicted),
    "neighbors_imputer": (impute.KNNImputer(), GAPS, None, transformed),
    "neighbors_imputer_weights": (impute.KNNImputer(n_neighbors=3, weights="distance"), GAPS, None, transformed),
    "chain": (multioutput.ClassifierChain(LINEAR(), order=[2, 0, 1]), X, SEVERAL, several),
    "chain_of_probabilities": (multioutput.ClassifierChain(LINEAR(), chain_method="predict_proba"), X, SEVERAL,
                               several),
    "chain_of_values": (multioutput.RegressorChain(linear_model.Ridge(), order=[1, 0]), X,
                        np.stack([VALUES, X[:, 4] - VALUES], axis=1), predicted),
    "several_classifiers": (multioutput.MultiOutputClassifier(LINEAR()), X, SEVERAL, several_forests),
    "voting_values_weights": (ensemble.VotingRegressor([("a", linear_model.Ridge()),
                                                        ("b", tree.DecisionTreeRegressor(max_depth=3))],
                                                       weights=[1, 3]), X, VALUES, predicted),
    "imputer_marks": (pipeline.make_pipeline(impute.SimpleImputer(add_indicator=True), preprocessing.StandardScaler()),
                      GAPS, None, transformed),
    "neighbors_imputer_marks": (impute.KNNImputer(missing_values=-9, add_indicator=True), np.nan_to_num(GAPS, nan=-9),
                                None, transformed),
    "function_with_arguments": (preprocessing.FunctionTransformer(np.clip, kw_args={"a_min": -1, "a_max": 0.5}), X,
                                None, transformed),
    "bins_one_hot": (preprocessing.KBinsDiscretizer(3, subsample=None, strategy="uniform"), X, None, transformed),
    "functions": (pipeline.make_pipeline(preprocessing.FunctionTransformer(np.abs), preprocessing.FunctionTransformer(
        np.log1p), linear_model.Ridge()), X, VALUES, predicted),
    "pipeline": (pipeline.make_pipeline(
        compose.ColumnTransformer([
            ("scaled", preprocessing.StandardScaler(), [0, 1, 2]),
            ("bounded", preprocessing.MinMaxScaler(), [3]),
            ("kept", "passthrough", [5]),
        ]), LINEAR()), X, WORDS, probable),
    "imputed_forest": (pipeline.make_pipeline(
        impute.SimpleImputer(strategy="median"), preprocessing.RobustScaler(),
        ensemble.RandomForestClassifier(5, random_state=0)), GAPS, NUMBERS, probable),
}  # fmt: skip


def exported(estimator: Any, folder: Path, name: str = "model", rows: int = ROWS) -> ModelProto:
    file = folder / f"{name}.skops"
    skops.io.dump(estimator, file)
    shape = {"X": (rows, int(estimator.n_features_in_))}
    return exporters.export(file, options=ExportOptions(shape)).model


@pytest.fixture(scope="module")
def outcomes(_predict_here: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """All estimators in one translation unit: estimator → "" or what is wrong."""
    folder = tmp_path_factory.mktemp("skops")
    cases, found = [], {}
    for name, (estimator, x, y, expect) in ESTIMATORS.items():
        rows = x[100 : 100 + ROWS].astype(np.float32)
        with warnings.catch_warnings():  # of what scikit-learn will change
            warnings.simplefilter("ignore")
            estimator.fit(x, y)
            want = expect(estimator, rows)
        try:
            model = exported(estimator, folder, name)
        except UnsupportedError as e:
            found[name] = str(e)
            continue
        assert [v.name for v in model.graph.output] == list(want)
        kinds = [np.int64 if n == "label" else np.float32 for n in want]
        values = tuple(v.astype(k) for v, k in zip(want.values(), kinds, strict=True))
        cases.append(Case(name, "", "", model, (((rows,), values),), 1e-4, 2e-5))
    results = run_cases(cases, AVX2, lambda _: None)
    return found | {r.name: "" if r.outcome == "passed" else f"{r.outcome}: {r.detail}" for r in results}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_predicts_as_scikit_learn(name: str, outcomes: dict[str, str]) -> None:
    assert outcomes[name] == ""


class InProcess:
    """`Check` without a process of its own, which takes seconds to start; the files here are not damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def survives(self) -> None:
        pass

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def predictions(self) -> Expected:
        return worker.predict(self.path)


@pytest.fixture(scope="module", autouse=True)
def _predict_here() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "Check", InProcess)
        yield


@pytest.fixture(scope="module")
def words() -> Any:
    """A small forest whose classes are words, behind a scaler."""
    forest = ensemble.RandomForestClassifier(5, max_depth=4, random_state=1)
    return pipeline.make_pipeline(preprocessing.StandardScaler(), forest).fit(X, WORDS)


def test_build_takes_a_skops_file(words: Any, tmp_path: Path) -> None:
    """The class names become the bundle's; a label that is a word becomes its index among them."""
    skops.io.dump(words, tmp_path / "flowers.skops")
    result = CliRunner().invoke(cli, ["build", str(tmp_path / "flowers.skops"), "-o", str(tmp_path / "b")])
    assert result.exit_code == 0, result.output
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert manifest["labels"] == words.classes_.tolist()
    assert [t["shape"] for t in manifest["inputs"] + manifest["outputs"]] == [[1, 6], [1], [1, 3]]
    low, high = manifest["ranges"][0]
    assert low < X.mean() < high and high - low > 4
    predictor = dlpack.load(tmp_path / "b")
    for row in X[:40]:
        outputs = predictor.run({"X": row[None]})
        scores = np.asarray(outputs["probabilities"])[0]
        np.testing.assert_allclose(scores, words.predict_proba(row[None])[0], atol=1e-6)
        assert manifest["labels"][int(np.asarray(outputs["label"])[0])] == words.predict(row[None])[0]


def test_exported_onnx_has_no_strings_and_the_same_bytes(words: Any, tmp_path: Path) -> None:
    first, second = (exported(words, tmp_path, name, 3) for name in ("a", "b"))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)
    assert [v.type.tensor_type.elem_type for v in first.graph.output] == [7, 1]
    assert json.loads({p.key: p.value for p in first.metadata_props}["dlpack.labels"]) == words.classes_.tolist()
    onnx.checker.check_model(first)


def test_columns_by_name_are_taken_by_place(tmp_path: Path) -> None:
    chosen = compose.ColumnTransformer([("a", preprocessing.StandardScaler(), [4, 1]), ("b", "passthrough", [0])])
    chosen.fit(X)
    want = chosen.transform(TEST)
    chosen.feature_names_in_ = np.array(list("pqrstu"), object)
    chosen.transformers_ = [(n, t, [c if isinstance(c, str) else "pqrstu"[c] for c in columns])
                            for n, t, columns in chosen.transformers_ if n != "remainder"]  # fmt: skip
    model = exported(chosen, tmp_path)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"X": TEST})[0], want, rtol=1e-5)


def test_shape_sets_the_number_of_rows(words: Any, tmp_path: Path) -> None:
    model = exported(words, tmp_path, rows=9)
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [9, 6]
    file = tmp_path / "model.skops"
    for shapes, text in (({"X": (2, 5)}, "ROWSx6"), ({"X": (6,)}, "ROWSx6"), ({"data": (1, 6)}, "only input is 'X'")):
        with pytest.raises(UsageError, match=text):
            exporters.export(file, options=ExportOptions(shapes))


@pytest.mark.parametrize("suffix", [".pkl", ".joblib"])
def test_pickles_are_refused_unread(suffix: str, words: Any, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    file = tmp_path / f"model{suffix}"
    file.write_bytes(pickle.dumps((Trap(), words)))
    with pytest.raises(UsageError, match=r"skops\.io\.dump"):
        exporters.export(file)
    assert not (tmp_path / "sprung").exists()


class Custom(BaseEstimator):  # type: ignore[misc]
    """An estimator that is not scikit-learn's."""

    n_features_in_ = 2


def test_types_of_others_are_refused_by_name(tmp_path: Path) -> None:
    skops.io.dump(pipeline.make_pipeline(Custom()), tmp_path / "model.skops")
    with pytest.raises(UnsupportedError, match=r"test_export_sklearn\.Custom"):
        exporters.export(tmp_path / "model.skops")


def test_what_cannot_be_exported_says_why(tmp_path: Path) -> None:
    own = preprocessing.FunctionTransformer(np.abs, kw_args={"dtype": "float32"})
    own = pipeline.make_pipeline(own, LINEAR()).fit(X, TWO)
    target = compose.TransformedTargetRegressor(
        linear_model.Ridge(), transformer=preprocessing.QuantileTransformer(n_quantiles=9)
    )
    for name, estimator, reason in (
        ("unfitted", linear_model.Ridge(), "not fitted"),
        ("function", own, "kw_args that are no single numbers"),
        ("target", target.fit(X, VALUES), "QuantileTransformer.*MinMaxScaler"),
        ("several", ensemble.RandomForestClassifier(2).fit(X, np.stack([WORDS, WORDS], 1)), "skl2onnx"),
        ("unknown", {"weights": X}, "not an estimator"),
    ):
        skops.io.dump(estimator, tmp_path / f"{name}.skops")
        with pytest.raises(UnsupportedError, match=reason):
            exporters.export(tmp_path / f"{name}.skops")


def test_damaged_files_are_errors(words: Any, tmp_path: Path) -> None:
    data = skops.io.dumps(words)
    random = np.random.default_rng(3)
    file = tmp_path / "model.skops"
    for k in range(60):
        damaged = bytearray(data[: len(data) // 2] if k == 0 else data)
        for at in random.integers(len(damaged), size=4):
            damaged[at] ^= 1 << int(random.integers(8))
        file.write_bytes(bytes(damaged))
        try:
            exporters.export(file)
        except (ModelError, UnsupportedError, UsageError) as e:
            assert "model.skops" in str(e)


@pytest.mark.parametrize(("field", "value"), [("left_child", 10**9), ("right_child", 0), ("feature", 77)])
def test_a_tree_with_a_node_that_is_not_there_is_refused(field: str, value: int, tmp_path: Path) -> None:
    estimator = tree.DecisionTreeClassifier(max_depth=3, random_state=0).fit(X, TWO)
    state = estimator.tree_.__getstate__()
    state["nodes"][field][0] = value
    estimator.tree_.__setstate__(state)
    with pytest.raises(ModelError, match="decision tree"):
        exported(estimator, tmp_path)


@pytest.mark.parametrize("place", [0, 2])
def test_a_tree_that_claims_other_sizes_is_refused(place: int, tmp_path: Path) -> None:
    data = skops.io.dumps(tree.DecisionTreeClassifier(max_depth=3, random_state=0).fit(X, TWO))
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(tmp_path / "model.skops", "w") as new:
        schema = json.loads(old.read("schema.json"))
        arguments = schema["content"]["content"]["tree_"]["__reduce__"]["args"]["content"]
        arguments[place].update(content=str(2**32), __id__=place)  # an object of its own
        for name in old.namelist():
            new.writestr(name, json.dumps(schema) if name == "schema.json" else old.read(name))
    with pytest.raises(ModelError, match="other sizes"):
        exporters.export(tmp_path / "model.skops")


def test_an_estimator_of_a_billion_columns_is_refused(tmp_path: Path) -> None:
    estimator = preprocessing.Normalizer().fit(X)
    estimator.n_features_in_ = 2**31 - 1
    with pytest.raises(ModelError, match="2,147,483,647 columns"):
        exported(estimator, tmp_path)


def test_unpacked_size_is_looked_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlpack.exporters.sklearn.files.MAX_UNPACKED_BYTES", 1 << 20)
    with zipfile.ZipFile(tmp_path / "model.skops", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b" " * (2 << 20))
    with pytest.raises(ModelError, match="2,097,152 bytes"):
        exporters.export(tmp_path / "model.skops")


SQUEEZED = np.abs(VALUES) + 0.1


def test_what_skl2onnx_would_get_wrong_is_said_otherwise(tmp_path: Path) -> None:
    """It gives the logarithm of what such a model predicts, and divides by the largest value, not the largest size."""
    boost = ensemble.HistGradientBoostingRegressor
    models = [boost(loss=loss, max_iter=6).fit(X, SQUEEZED) for loss in ("poisson", "gamma")]
    models.append(pipeline.make_pipeline(preprocessing.Normalizer("max"), linear_model.Ridge()).fit(-X, VALUES))
    for k, model in enumerate(models):
        made = exported(model, tmp_path, f"model_{k}", ROWS)
        session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
        got = session.run(None, {"X": TEST})[0][:, 0]
        np.testing.assert_allclose(got, model.predict(TEST), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (neighbors.KNeighborsClassifier(weights="distance"),
         r"differs from scikit-learn in 'probabilities', for \d+% of 64 rows, by up to 0\.\d+ where"),
        (multiclass.OneVsRestClassifier(svm.LinearSVC()), "differs from scikit-learn in 'scores'"),
        (ensemble.GradientBoostingClassifier(n_estimators=2, init="zero"), "does not run"),
        (calibration.CalibratedClassifierCV(pipeline.make_pipeline(preprocessing.StandardScaler(), LINEAR())),
         "calibrate its last step"),
        (decomposition.FastICA(2), "no converter for sklearn.*replace it by another estimator"),
    ],
)  # fmt: skip
def test_what_skl2onnx_gets_wrong_is_refused(model: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=words):
        exported(model.fit(X, THREE), tmp_path)
