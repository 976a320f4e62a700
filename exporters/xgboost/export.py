"""XGBoost → ONNX, from the file that ``Booster.save_model`` or the scikit-learn wrapper writes (`.json`, `.ubj`).

The format: https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html. A node goes left where x is below its
`split_condition`, and right where x is one of its categories; a missing value goes where `default_left` says.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from dlpack.errors import ModelError, UnsupportedError, UsageError
from dlpack.exporters.base import (
    MAX_JSON_DEPTH,
    MAX_WEIGHTS_BYTES,
    Exported,
    Exporter,
    ExportOptions,
    parse_json,
    read_bytes,
    rows_of,
)
from dlpack.exporters.builder import Array
from dlpack.exporters.forest import LT, MAX_TARGETS, MEMBER, Ensemble, Link, Tree, class_labels, to_onnx
from dlpack.exporters.xgboost.ubjson import parse_ubjson

_JSON = re.compile(rb'\s*\{\s*"learner"\s*:')
_UBJSON = re.compile(rb"\{[iUIlL].{0,8}learner", re.DOTALL)
_OLD = re.compile(rb"binf|.{136,200}(binary:|reg:|multi:|count:|rank:|survival:)", re.DOTALL)

_LOGISTIC = ("reg:logistic", "binary:logistic")
_LOG = ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft")
_SAME = ("reg:squarederror", "reg:linear", "reg:squaredlogerror", "reg:pseudohubererror", "reg:absoluteerror",
         "reg:quantileerror", "reg:expectileerror", "binary:hinge", "binary:logitraw", "multi:softmax",
         "multi:softprob", "rank:pairwise", "rank:ndcg", "rank:map")  # fmt: skip
_LINKS: dict[str, Link] = {"reg:logistic": "sigmoid", "binary:logistic": "sigmoid", "binary:hinge": "above zero",
          "multi:softmax": "softmax", "multi:softprob": "softmax", **dict.fromkeys(_LOG, "exp")}  # fmt: skip


def recognises(_path: Path, start: bytes) -> bool:
    return bool(_JSON.match(start) or _UBJSON.match(start))


def advises(path: Path, start: bytes) -> str | None:
    if path.suffix in (".model", ".bin", ".deprecated") and _OLD.match(start):
        return (
            "an XGBoost model in the old binary form, which XGBoost itself no longer reads; load it with XGBoost 2 or "
            "older and save it again: booster.save_model('model.json')"
        )
    return None


def export(path: Path, params: Path | None, options: ExportOptions) -> Exported:
    if params is not None:
        raise UsageError("an XGBoost file holds the whole model; leave --params out")
    data = read_bytes(path, MAX_WEIGHTS_BYTES)
    if _UBJSON.match(data):
        document = parse_ubjson(data, MAX_JSON_DEPTH)
    else:
        document = parse_json(data.decode("utf-8", "replace"), "the model")
    try:
        ensemble = read(document)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as e:
        raise ModelError(
            f"the file is not as XGBoost writes it ({type(e).__name__}: {e}); save the model again with "
            "booster.save_model('model.json')"
        ) from e
    texts = len(ensemble.texts)
    return to_onnx(ensemble, rows_of(options, ensemble.columns - texts, texts))


def read(document: Mapping[str, Any]) -> Ensemble:
    """The ensemble of a parsed file. Other errors than a DlpackError say that it is none."""
    learner = document["learner"]
    objective, booster = learner["objective"]["name"], learner["gradient_booster"]
    if objective not in _LOGISTIC + _LOG + _SAME:
        raise UnsupportedError(f"the objective {objective!r}, whose predictions are not known here")
    param = learner["learner_model_param"]
    columns, classes = int(param["num_feature"]), int(param.get("num_class") or 0)
    targets = max(classes, int(param.get("num_target") or 1), 1)
    if targets > MAX_TARGETS:
        raise ModelError(f"{targets:,} targets; at most {MAX_TARGETS:,} are accepted")
    base = _margins(_base_score(param["base_score"]), objective, targets)
    names = None
    if objective == "binary:logistic" and targets == 1:
        names = class_labels(2)
    elif objective.startswith("multi:"):
        names = class_labels(targets)
    link: Link = _LINKS.get(objective, "identity")
    if booster["name"] == "gblinear":
        weights = np.asarray(booster["model"]["weights"], np.float32).reshape(columns + 1, targets)
        # XGBoost adds the first base score to each target of a linear model.
        margins = base[0] + weights[-1].astype(np.float64)
        return Ensemble(columns, (), margins, link, names, linear=weights[:-1], names=_features(learner))
    drop: Sequence[float] | None = None
    if booster["name"] == "dart":
        drop, booster = booster["weight_drop"], booster["gbtree"]
    names_of = _features(learner)
    texts, told = _categories(booster["model"].get("cats"), columns, names_of)
    count, warnings = _used(learner, booster["model"], len(booster["model"]["trees"]))
    trees = [
        _tree(found, int(group), 1.0 if drop is None else float(drop[k]))
        for k, (found, group) in enumerate(
            zip(booster["model"]["trees"][:count], booster["model"]["tree_info"][:count], strict=True)
        )
    ]
    return Ensemble(columns, trees, base, link, names, warnings=(*told, *warnings), names=names_of, texts=texts)


def _features(learner: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns' names, where the model was trained on a table that has them."""
    names = learner.get("feature_names")
    return tuple(names) if isinstance(names, list) and all(isinstance(n, str) for n in names) else ()


def _base_score(text: Any) -> Array:
    """A number, or from XGBoost 3.1 on one for each target, as text."""
    numbers = re.findall(r"[-+\w.]+", str(text))
    return np.array([float(n) for n in numbers], np.float64)


def _margins(score: Array, objective: str, targets: int) -> Array:
    """The base score before the objective's link."""
    if objective in _LOGISTIC:
        if not ((score > 0) & (score < 1)).all():
            raise ModelError(f"a base_score of {score.tolist()}, where a probability belongs")
        score = -np.log(1.0 / score - 1.0)
    elif objective in _LOG:
        if not (score > 0).all():
            raise ModelError(f"a base_score of {score.tolist()}, where a positive number belongs")
        score = np.log(score)
    return np.broadcast_to(score, (targets,)).astype(np.float64)


def _categories(
    cats: Mapping[str, Any] | None, columns: int, names: Sequence[str]
) -> tuple[dict[int, tuple[str, ...]], tuple[str, ...]]:
    """The columns whose categories are words, and what to say of those that are numbers: XGBoost 3.1 and later keep the
    categories of the table of the training. Words lie as UTF-8 one behind another in `values`, which are signed bytes,
    and begin at `offsets`."""
    encoders = (cats or {}).get("enc") or ()
    if not any(e["values"] or e.get("offsets") for e in encoders):
        return {}, ()
    if len(encoders) != columns:
        raise ModelError(f"the categories of {len(encoders)} columns, of {columns}; the file is damaged")
    words, told = {}, []
    for column, encoder in enumerate(encoders):
        values = [int(v) for v in encoder["values"]]
        offsets = [int(v) for v in encoder.get("offsets") or ()]
        if offsets:
            text = bytes(v & 255 for v in values)
            if offsets[0] or offsets[-1] != len(text) or offsets != sorted(offsets):
                raise ModelError(f"the words of column {column} do not fit their offsets; the file is damaged")
            words[column] = tuple(text[a:b].decode("utf-8") for a, b in pairwise(offsets))
        elif values and values != list(range(len(values))):
            name = f"'{names[column]}'" if len(names) == columns else str(column)
            told.append(f"the column {name} of X is the place of its value among the categories {values[:8]}")
    return words, tuple(told)


def _used(learner: Mapping[str, Any], model: Mapping[str, Any], trees: int) -> tuple[int, tuple[str, ...]]:
    """How many trees predictions use: after early stopping XGBClassifier and XGBRegressor stop at the best one."""
    attributes = learner.get("attributes") or {}
    if "best_iteration" not in attributes:
        return trees, ()
    best, ends = int(attributes["best_iteration"]), model.get("iteration_indptr")
    if "scikit_learn" not in attributes:
        return trees, (
            f"training stopped early, its best iteration is {best}; all iterations are used, as Booster.predict does. "
            f"To use the best alone, save booster[:{best + 1}]",
        )
    if ends is None:
        rounds = max(1, len(set(model["tree_info"]))) * int(model["gbtree_model_param"].get("num_parallel_tree") or 1)
        ends = range(0, trees + 1, rounds)
    return min(trees, int(ends[best + 1])), ()


def _tree(found: Mapping[str, Any], group: int, weight: float) -> Tree:
    """One tree, its leaves multiplied with `weight`."""
    left, right = found["left_children"], found["right_children"]
    size = int(found["tree_param"].get("size_leaf_vector") or 1)
    sets = {}
    for node, start, count in zip(
        found.get("categories_nodes", ()),
        found.get("categories_segments", ()),
        found.get("categories_sizes", ()),
        strict=True,
    ):
        sets[int(node)] = [int(c) for c in found["categories"][int(start) : int(start) + int(count)]]
    tree = Tree()
    for node, (yes, no) in enumerate(zip(left, right, strict=True)):
        value, default_left = float(found["split_conditions"][node]), bool(found["default_left"][node])
        if yes < 0:
            tree.leaf[tree.add()] = _leaf(found, node, value, group, size, weight)
        elif node in sets:  # a category of the set goes right
            tree.members[node] = sets[node]
            tree.add(MEMBER, int(found["split_indices"][node]), 0.0, int(no), int(yes), not default_left)
        else:
            if math.isnan(value):
                raise ModelError(f"the threshold of node {node} is not a number")
            tree.add(LT, int(found["split_indices"][node]), value, int(yes), int(no), default_left)
    return tree


def _leaf(
    found: Mapping[str, Any], node: int, value: float, group: int, size: int, weight: float
) -> list[tuple[int, float]]:
    """The (target, value) pairs of a leaf. One with a value for each target has them in `leaf_weights` at the place
    that its right child names, or, before XGBoost 3.1, in `base_weights` at its own."""
    if size == 1:
        return [(group, value * weight)]
    if "leaf_weights" in found:
        start, values = int(found["right_children"][node]) * size, found["leaf_weights"]
    else:
        start, values = node * size, found["base_weights"]
    if start < 0 or start + size > len(values):
        raise ModelError(f"the leaf {node} has no values")
    return [(target, float(values[start + target]) * weight) for target in range(size)]


EXPORTER = Exporter("XGBoost", "model.json or model.ubj, from save_model", recognises, export, advises)
