"""The process in which scikit-learn first loads a file, and predicts, for the comparison with what skl2onnx makes.

``python -m dlpack.exporters.sklearn.worker FILE.skops RESULT.npz``, started by `check.py` alone: an array of a
damaged file can make scikit-learn's compiled code read outside of it, on loading or later, which must end this
process and no other. RESULT.npz gets groups of rows, ``GROUP/x``, and ``GROUP/by:METHOD``, what each
method gives for them; of columns of text there are also ``text/GROUP``.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from dlpack.exporters.process import limit
from dlpack.exporters.sklearn.files import load
from dlpack.exporters.sklearn.texts import Table, columns_of, first_part, table_of

ROWS = 64
CPU_S, CPU_BYTES_PER_S = 8.0, 100_000
"""The CPU time that loading and predicting may take: seconds, and bytes of the file for each second more."""
GROUPS = ("near", "missing", "far")
"""Rows as the estimator was trained with; those with a third of the values missing; those far outside."""
FAR = np.float32(50.0)
_METHODS = ("predict", "predict_proba", "decision_function", "score_samples", "transform")


def rows_for(estimator: Any, columns: int) -> Any:
    """Seeded rows, float32 [ROWS, columns], where the estimator's values change."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1.5, 1.5, (ROWS, columns))
    try:
        _place(x, estimator, rng, 0)
    except Exception:  # noqa: BLE001 - an attribute that is something else here: the rows stay where they are
        return x.astype(np.float32)
    return x.astype(np.float32)


def _place(x: Any, part: Any, rng: Any, depth: int) -> None:
    """Moves the columns of `x`, uniform in [-1.5, 1.5), to where `part`'s data was."""
    inner = first_part(part)
    if depth > 8:
        return
    if hasattr(part, "transformers_"):
        for _, transformer, given in part.transformers_:
            columns = columns_of(part, given)
            taken = x[:, columns]
            _place(taken, transformer, rng, depth + 1)
            x[:, columns] = taken
    elif getattr(part, "_preprocessor", None) is not None:  # histogram gradient boosting with categories
        _place(x, part._preprocessor, rng, depth + 1)
    elif inner is not None:
        _place(x, inner, rng, depth + 1)
    elif len(getattr(part, "categories_", ())) == x.shape[1]:
        for k, names in enumerate(part.categories_):
            known = np.asarray(names)
            if known.dtype.kind in "iufb" and np.isfinite(known).any():
                x[:, k] = rng.choice(known[np.isfinite(known)], len(x))
    else:
        low, high = _span(part, x.shape[1])
        x *= (high - low) / 2
        x += (high + low) / 2


def _span(part: Any, columns: int) -> tuple[Any, Any]:
    """Each column's smallest and largest value known to the estimator."""
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


def _predict(estimator: Any, table: Table, x: Any, texts: Any) -> dict[str, Any]:
    """Each method's result for the rows; methods that it lacks, or that reject them, are left out."""
    found = {"x": x}
    voting = type(estimator).__name__.startswith("Voting")  # its transform() gives the votes, which are not exported
    for name in _METHODS[:-1] if voting else _METHODS:
        try:
            y = _call(getattr(estimator, name), table, x, texts)
        except Exception:  # noqa: BLE001 - a method that does not exist, or rows that the estimator refuses
            continue
        y = y.toarray() if hasattr(y, "toarray") else np.asarray(y)
        if y.dtype.kind == "O":
            y = y.astype(str)
        if y.dtype.kind in "iufbUS":
            found[f"by:{name}"] = y.astype(np.int64) if y.dtype.kind == "b" else y
    return found


def _call(method: Any, table: Table, x: Any, texts: Any) -> Any:
    """The method's result for float64, or for float32, which estimators trained with it may require."""
    try:
        return method(table.joined(x.astype(np.float64), texts))
    except ValueError:
        return method(table.joined(x, texts))


def predict(path: Path) -> dict[str, Any]:
    """The rows, ``GROUP/x``, and the results of each method of the estimator in a .skops file.

    Groups are those of ``GROUPS``; one that the estimator rejects, as most reject missing values, has only ``x``. Far
    outside, a third of the texts are ones that the estimator has not seen.
    """
    estimator = load(path)
    columns = int(getattr(estimator, "n_features_in_", 0))
    table = table_of(estimator, columns)
    rng = np.random.default_rng(3)
    texts = np.array([rng.choice(table.words[k], ROWS) for k in table.texts]).T
    x = rows_for(estimator, columns or table.columns)[:, table.numbers]
    found = _predict(estimator, table, x, texts)
    if len(found) == 1:
        x = np.abs(x)  # counts, for instance
        found = _predict(estimator, table, x, texts)
    gaps = np.where(np.random.default_rng(1).random(x.shape) < 0.3, np.float32(np.nan), x)
    unseen = np.where(rng.random(texts.shape) < 0.3, "not seen", texts) if table.words else texts
    given = ((x, texts), (gaps, texts), (x * FAR, unseen))
    groups = [found, *(_predict(estimator, table, *rows) for rows in given[1:])]
    made = {f"{name}/{key}": v for name, of in zip(GROUPS, groups, strict=True) for key, v in of.items()}
    if table.words:
        made |= {f"text/{name}": rows for name, (_, rows) in zip(GROUPS, given, strict=True)}
    return made


def main(path: Path, result: Path) -> None:
    limit(CPU_S + path.stat().st_size / CPU_BYTES_PER_S)
    warnings.simplefilter("ignore")
    np.savez(result, **predict(path))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
