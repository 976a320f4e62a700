"""The process in which scikit-learn first loads a file, and predicts, for the comparison with what skl2onnx makes.

``python -m dlpack.exporters.sklearn.check FILE.skops RESULT.npz``, started by `export.py` alone: an array of a
damaged file can make scikit-learn's compiled code read outside of it, on loading or later, which shall end this
process and no other. RESULT.npz gets the rows, ``x``, and ``by:METHOD``, what each method gives for them.
"""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from dlpack.errors import ModelError, UnsupportedError

ROWS = 64
TIMEOUT_S = 60
MEMORY_BYTES = 4 << 30
CPU_S, CPU_BYTES_PER_S = 8.0, 100_000
"""The CPU time that loading and predicting may take: seconds, and bytes of the file for each second more."""
TOLERANCE = 1e-3
"""Of an output's largest absolute value."""
ACCEPTED = 0.1
"""The part of the rows that may differ: in float32 a value can fall on the other side of a threshold."""
_METHODS = ("predict", "predict_proba", "decision_function", "score_samples", "transform")


class Check:
    """scikit-learn's predictions; whether a file can be loaded without a crash."""

    def __init__(self, path: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="dlpack-")
        self._result = Path(self._folder.name) / "result.npz"
        command = [sys.executable, "-m", "dlpack.exporters.sklearn.check", str(path.resolve()), str(self._result)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self) -> Check:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def survives(self) -> None:
        """Raises ModelError where the file made scikit-learn crash, or not end. An error has another message later."""
        status = self._status()
        if status == -signal.SIGPROF:
            raise ModelError("scikit-learn does not end on it: the file is damaged")
        if status < 0:
            raise ModelError(f"scikit-learn crashed on it (signal {-status}): the file is damaged")

    def _status(self) -> int:
        try:
            return self._process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise ModelError(f"scikit-learn has not predicted {ROWS} rows in {TIMEOUT_S} s") from None

    def predictions(self) -> dict[str, Any]:
        """What RESULT.npz holds; `x` alone where scikit-learn takes no row. Raises ModelError where it ended before."""
        status = self._status()
        if status or not self._result.is_file():
            raise ModelError(f"scikit-learn ended while it predicted (status {status}): the file is damaged")
        with np.load(self._result) as file:
            return dict(file)


def compare(model: ModelProto, found: dict[str, Any], classes: tuple[str, ...] | None, what: str) -> None:
    """Raises UnsupportedError where the model computes other values than scikit-learn, or does not run.

    `found` is of `Check.predictions`, `classes` are the names whose index the model gives for a label that is text.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    free = ModelProto.FromString(model.SerializeToString())
    free.graph.input[0].type.tensor_type.shape.dim[0].ClearField("dim_value")
    for value in free.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        session = onnxruntime.InferenceSession(free.SerializeToString(), options, providers=["CPUExecutionProvider"])
        outputs = session.run(None, {free.graph.input[0].name: found["x"]})
    except Exception as e:  # onnxruntime raises many kinds
        raise UnsupportedError(f"what skl2onnx makes of this {what} does not run: {str(e)[:300]}") from e
    for value, got in zip(free.graph.output, outputs, strict=True):
        parts = [_differing(got, want) for want in _references(found, got, classes)]
        if parts and min(parts) > ACCEPTED:
            raise UnsupportedError(
                f"what skl2onnx makes of this {what} differs from scikit-learn in '{value.name}', for {min(parts):.0%} "
                f"of {len(got)} rows; build it of other parts, or leave out the options that are not its defaults"
            )


def _references(found: dict[str, Any], got: Any, classes: tuple[str, ...] | None) -> Iterator[Any]:
    """What the output may be, as an array of rows: skl2onnx's names do not tell it."""
    for key, want in found.items():
        if key == "x" or (got.dtype.kind in "iu") != (key == "by:predict" and want.dtype.kind not in "f"):
            continue
        if want.dtype.kind in "US":
            order = {name: k for k, name in enumerate(classes or ())}
            want = np.array([order.get(str(v), -1) for v in want.reshape(-1)])
        if want.dtype.kind == "f" and want.ndim == 1 and got.size == 2 * want.size:
            want = np.stack([-want, want], axis=1)  # a score for each of two classes
        if want.size == got.size and len(want) == len(got) == len(found["x"]):
            yield want


def _differing(got: Any, want: Any) -> float:
    """The part of the rows that differ."""
    a, b = (np.asarray(v, np.float64).reshape(len(got), -1) for v in (got, want))
    finite = np.isfinite(b)
    span = float(np.abs(b[finite]).max()) if finite.any() else 0.0
    with np.errstate(invalid="ignore"):
        same = (a == b) | (np.abs(a - b) <= TOLERANCE * span) | (np.isnan(a) & np.isnan(b))
    return float(np.mean(~same.all(axis=1))) if same.size else 0.0


# --- the process ------------------------------------------------------------------------------------------------------


def rows_for(estimator: Any, columns: int) -> Any:
    """Seeded rows, float32 [ROWS, columns], where the estimator's values change."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1.5, 1.5, (ROWS, columns))
    try:
        _place(x, estimator, rng, 0)
    except Exception:  # an attribute that is something else here: the rows stay where they are
        return x.astype(np.float32)
    return x.astype(np.float32)


def _place(x: Any, part: Any, rng: Any, depth: int) -> None:
    """Moves the columns of `x`, uniform in [-1.5, 1.5), to where `part`'s data was."""
    inner = _first_part(part)
    if depth > 8:
        return
    if hasattr(part, "transformers_"):
        names = list(getattr(part, "feature_names_in_", ()))
        for _, transformer, columns in part.transformers_:
            if not isinstance(columns, slice):
                columns = [names.index(c) if isinstance(c, str) else c for c in np.atleast_1d(columns).tolist()]
            taken = x[:, columns].reshape(len(x), -1)
            _place(taken, transformer, rng, depth + 1)
            x[:, columns] = taken.reshape(x[:, columns].shape)
    elif inner is not None:
        _place(x, inner, rng, depth + 1)
    elif len(getattr(part, "categories_", ())) == x.shape[1]:
        for k, names in enumerate(part.categories_):
            if np.asarray(names).dtype.kind in "iufb" and len(names):
                x[:, k] = rng.choice(names, len(x))
    else:
        low, high = _span(part, x.shape[1])
        x *= (high - low) / 2
        x += (high + low) / 2


def _first_part(part: Any) -> Any:
    """What sees the input first of a pipeline or of an estimator made of others."""
    for name in ("steps", "transformer_list"):
        if made := [step[1] for step in getattr(part, name, ()) if not isinstance(step[1], str)]:
            return made[0]
    for name in ("calibrated_classifiers_", "estimators_", "_predictors"):
        held = np.array(getattr(part, name, ()), object).reshape(-1)
        if held.size and not hasattr(part, "estimators_features_"):
            return held[0]
    parts = (getattr(part, name, None) for name in ("estimator_", "estimator", "best_estimator_"))
    return next((p for p in parts if p is not None), None)


def _span(part: Any, columns: int) -> tuple[Any, Any]:
    """The least and the largest value of each column that the estimator knows of."""
    low, high = np.full(columns, -1.0), np.full(columns, 1.0)
    tree = getattr(part, "tree_", None)
    rows = getattr(part, "_fit_X", getattr(part, "support_vectors_", getattr(part, "cluster_centers_", None)))
    edges = getattr(part, "bin_edges_", None)
    center = next((c for n in ("mean_", "center_", "statistics_") if (c := getattr(part, n, None)) is not None), None)
    if tree is not None:
        for k in range(columns):
            cuts = tree.threshold[tree.feature == k]
            if cuts.size:
                low[k], high[k] = cuts.min() - 1e-3, cuts.max() + 1e-3
    elif isinstance(rows, np.ndarray) and rows.ndim == 2:
        low, high = rows.min(axis=0), rows.max(axis=0)
    elif edges is not None:
        low, high = np.array([e[0] for e in edges]), np.array([e[-1] for e in edges])
    elif hasattr(part, "data_min_"):
        low, high = part.data_min_, part.data_max_
    elif hasattr(part, "theta_"):
        spread = 2 * np.sqrt(part.var_).max(axis=0)
        low, high = part.theta_.min(axis=0) - spread, part.theta_.max(axis=0) + spread
    elif center is not None:
        scale = getattr(part, "scale_", None)
        spread = 2 * np.asarray(scale) if scale is not None else np.abs(center) + 1
        low, high = center - spread, center + spread
    good = np.isfinite(low) & np.isfinite(high) & (low < high)
    return np.where(good, low, -1.0), np.where(good, high, 1.0)


def _predict(estimator: Any, x: Any) -> dict[str, Any]:
    """What each method gives for the rows; those that it does not have, or that refuse them, are left out."""
    found = {"x": x}
    voting = type(estimator).__name__.startswith("Voting")  # its transform() tells the votes, which are not exported
    for name in _METHODS[:-1] if voting else _METHODS:
        try:
            y = getattr(estimator, name)(x.astype(np.float64))
        except Exception:  # a method that does not exist, or rows that the estimator does not take
            continue
        y = y.toarray() if hasattr(y, "toarray") else np.asarray(y)
        if y.dtype.kind == "O":
            y = y.astype(str)
        if y.dtype.kind in "iufbUS":
            found[f"by:{name}"] = y.astype(np.int64) if y.dtype.kind == "b" else y
    return found


def predict(path: Path) -> dict[str, Any]:
    """The rows, `x`, and what each method of the estimator in a .skops file gives for them."""
    from dlpack.exporters.sklearn.export import load

    estimator = load(path)
    x = rows_for(estimator, int(estimator.n_features_in_))
    found = _predict(estimator, x)
    return found if len(found) > 1 else _predict(estimator, np.abs(x))  # counts, for instance


def main(path: Path, result: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if limit == resource.RLIM_INFINITY or limit > MEMORY_BYTES:
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, limit))
    signal.setitimer(signal.ITIMER_PROF, CPU_S + path.stat().st_size / CPU_BYTES_PER_S)  # its signal ends the process
    warnings.simplefilter("ignore")
    np.savez(result, **predict(path))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
