"""Reads the estimator of a `.skops` file, if all its types are known to be safe.

It can crash on a damaged file, since an array of it could make scikit-learn's compiled code read outside of it.
"""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dlpack.errors import DlpackError, ModelError, UnsupportedError
from dlpack.exporters.sklearn.composites import ELEMENTWISE

MAX_UNPACKED_BYTES = 4 << 30
MAX_COLUMNS = 1 << 20
_SEARCHES = ("GridSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV", "RandomizedSearchCV")

# What a fitted search over parameters holds besides its best estimator: how it scored and split.
_CLASSIFICATION_SCORES = ("accuracy_score", "balanced_accuracy_score", "f1_score", "fbeta_score", "jaccard_score",
                          "log_loss", "matthews_corrcoef", "precision_score", "recall_score")  # fmt: skip
_REGRESSION_SCORES = ("explained_variance_score", "max_error", "mean_absolute_error",
                      "mean_absolute_percentage_error", "mean_squared_error", "mean_squared_log_error",
                      "median_absolute_error", "r2_score", "root_mean_squared_error")  # fmt: skip
_SPLITS = ("GroupKFold", "KFold", "LeaveOneOut", "RepeatedKFold", "RepeatedStratifiedKFold", "ShuffleSplit",
           "StratifiedGroupKFold", "StratifiedKFold", "StratifiedShuffleSplit", "TimeSeriesSplit")  # fmt: skip

# What estimators hold besides the types that skops trusts by itself. They hold numbers, and run nothing when made.
_TRUSTED = frozenset(
    (
        "functools.partial",
        *(f"numpy.{name}" for name in ELEMENTWISE),
        "numpy.dtype",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.feature_selection._univariate_selection.chi2",
        "sklearn.feature_selection._univariate_selection.f_classif",
        "sklearn.feature_selection._univariate_selection.f_regression",
        *(f"sklearn.gaussian_process.kernels.{k}" for k in ("ConstantKernel", "Product", "RBF", "Sum", "WhiteKernel")),
        *(f"sklearn.metrics._classification.{name}" for name in _CLASSIFICATION_SCORES),
        *(f"sklearn.metrics._regression.{name}" for name in _REGRESSION_SCORES),
        "sklearn.metrics._ranking.average_precision_score",
        "sklearn.metrics._ranking.roc_auc_score",
        *(f"sklearn.metrics._scorer.{k}" for k in ("_MultimetricScorer", "_PassthroughScorer", "_Scorer")),
        *(f"sklearn.model_selection._split.{k}" for k in _SPLITS),
        *(f"sklearn.metrics._dist_metrics.{k}Distance64" for k in ("Euclidean", "Manhattan", "Minkowski")),
        *(f"sklearn.model_selection._search_successive_halving.{k}" for k in _SEARCHES if k.startswith("Halving")),
        "sklearn.model_selection._search_successive_halving._SubsampleMetaSplitter",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
        "sklearn.utils._bunch.Bunch",
        "sklearn.utils.validation.check_array",
    )
)


def load(path: Path) -> Any:
    """The estimator in a .skops file. Raises UnsupportedError for a type that is not known to be safe."""
    from skops.io import get_untrusted_types
    from skops.io import load as load_skops

    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_UNPACKED_BYTES:
            raise ModelError(f"unpacked it has {size:,} bytes, more than the {MAX_UNPACKED_BYTES:,} that are accepted")
        found = get_untrusted_types(file=path)
        unknown = sorted(set(found) - _TRUSTED)
        if unknown:
            raise UnsupportedError(
                "it holds types that are not scikit-learn's or NumPy's known ones, so it is not loaded; of a search "
                "over parameters save the best estimator alone, skops.io.dump(search.best_estimator_, 'model.skops'):",
                tuple(unknown),
            )
        with _checked_sizes():
            estimator = load_skops(path, trusted=sorted(set(found)))
    except (DlpackError, MemoryError, RecursionError):
        raise
    except Exception as e:  # a damaged file makes skops, NumPy and scikit-learn raise anything
        raise ModelError(f"it is not a .skops file that can be read: {first_line(e)}") from e
    if not hasattr(estimator, "get_params"):
        raise UnsupportedError(f"it holds a {type(estimator).__name__}, not an estimator or a pipeline")
    estimator = _without_search(estimator)
    for part in parts(estimator):
        if type(part).__name__ == "Tree":
            _check_tree(part)
    return estimator


def _without_search(estimator: Any) -> Any:
    """Replaces a fitted parameter search, also as a step of a pipeline, by the estimator that it predicts with.

    Raises UnsupportedError if the search was not refitted.
    """
    if hasattr(estimator, "steps"):
        estimator.steps = [(name, _without_search(step)) for name, step in estimator.steps]
    if type(estimator).__name__ not in _SEARCHES:
        return estimator
    if not hasattr(estimator, "best_estimator_"):
        raise UnsupportedError(f"the {type(estimator).__name__} has no best_estimator_: fit it, with refit=True")
    return _without_search(estimator.best_estimator_)


@contextlib.contextmanager
def _checked_sizes() -> Iterator[None]:
    """While it lasts, Tree(n_features, n_classes, n_outputs) raises ModelError in place of leaving its array n_classes.

    The file's description alone does not show the sizes: skops may refer to an earlier object by number.
    """
    from sklearn.tree import _tree

    make = _tree.Tree

    def checked(n_features: Any, n_classes: Any, n_outputs: Any) -> Any:
        if not 1 <= n_features <= MAX_COLUMNS or n_outputs != n_classes.size:
            raise ModelError("a decision tree in it is damaged: it claims other sizes than it has")
        return make(n_features, n_classes, n_outputs)

    _tree.Tree = checked
    try:
        yield
    finally:
        _tree.Tree = make


def _check_tree(tree: Any) -> None:
    """Raises ModelError for a decision tree on which scikit-learn's compiled code would leave its arrays, or not end.

    The fields are those of scikit-learn's `Node`; children follow their parent in every tree that it builds.
    """
    nodes = tree.__getstate__()["nodes"]
    places = np.arange(len(nodes))
    inner = nodes["left_child"] != -1
    good = 1 <= tree.n_features <= MAX_COLUMNS and len(nodes) > 0
    for child in ("left_child", "right_child"):
        good = good and bool(np.all((nodes[child] > places) & (nodes[child] < len(nodes)), where=inner))
    good = good and bool(np.all((nodes["feature"] >= 0) & (nodes["feature"] < tree.n_features), where=inner))
    if not good:
        raise ModelError("a decision tree in it is damaged: a node names another or a feature that is not there")


def first_line(error: BaseException) -> str:
    """The first line of another library's error, truncated."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def parts(estimator: Any) -> Iterator[Any]:
    """The estimator and all scikit-learn objects in it, each once."""
    seen: set[int] = set()
    todo = [estimator]
    while todo:
        at = todo.pop()
        if id(at) in seen:
            continue
        seen.add(id(at))
        if isinstance(at, np.ndarray):
            todo.extend(at.reshape(-1) if at.dtype == object else ())
        elif isinstance(at, dict):
            todo.extend(at.values())
        elif isinstance(at, list | tuple):
            todo.extend(at)
        elif type(at).__module__.startswith("sklearn."):
            yield at
            todo.extend(vars(at).values() if hasattr(at, "__dict__") else ())
