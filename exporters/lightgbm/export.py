"""LightGBM → ONNX, from the text that ``Booster.save_model`` writes.

The format is that of LightGBM's GBDT::SaveModelToString and Tree::ToString (versions v2 to v4): ``name=values`` lines,
a block for each tree. A child that is not negative is a node, another one the leaf ``~child``. A node's `decision_type`
has bit 0 for categories, bit 1 for a missing value that goes left, and from bit 2 on what is missing: nothing (NaN is
zero then), zeros, or NaN.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dlpack.errors import ModelError, UnsupportedError, UsageError
from dlpack.exporters.base import MAX_WEIGHTS_BYTES, Exported, Exporter, ExportOptions, parse_json, read_bytes, rows_of
from dlpack.exporters.forest import (
    LEQ,
    MAX_COLUMNS,
    MAX_TARGETS,
    MEMBER,
    Ensemble,
    Link,
    Tree,
    below,
    class_labels,
    to_onnx,
)
from dlpack.meaning.features import Range

_HEAD = re.compile(rb"tree\r?\n(.*\n)?version=")
_CATEGORY, _LEFT = 1, 2
_NO_MISSING, _ZERO_MISSING, _NAN_MISSING = range(3)
_LINKS: dict[str, Link] = {
    **dict.fromkeys(
        ("binary", "cross_entropy", "xentropy", "multiclassova", "multiclass_ova", "ova", "ovr"), "sigmoid"
    ),
    **dict.fromkeys(("multiclass", "softmax"), "softmax"),
    **dict.fromkeys(("poisson", "gamma", "tweedie"), "exp"),
    **dict.fromkeys(("cross_entropy_lambda", "xentlambda"), "softplus"),
}
_SAME = ("regression", "regression_l2", "l2", "mean_squared_error", "mse", "l2_root", "rmse", "regression_l1", "l1",
         "mae", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg", "custom", "none", "")  # fmt: skip


def recognises(_path: Path, start: bytes) -> bool:
    return bool(_HEAD.match(start))


def export(path: Path, params: Path | None, options: ExportOptions) -> Exported:
    if params is not None:
        raise UsageError("a LightGBM file holds the whole model; leave --params out")
    text = read_bytes(path, MAX_WEIGHTS_BYTES).decode("utf-8", "replace")
    try:
        ensemble = read(text)
    except (KeyError, ValueError, IndexError, OverflowError) as e:
        raise ModelError(
            f"the file is not as LightGBM writes it ({type(e).__name__}: {e}); save the model again with "
            "booster.save_model('model.txt')"
        ) from e
    texts = len(ensemble.texts)
    return to_onnx(ensemble, rows_of(options, ensemble.columns - texts, texts))


def read(text: str) -> Ensemble:
    """The ensemble of a file's text. Other errors than a DlpackError say that it is none."""
    body, end, _ = text.partition("\nend of trees")
    if not end:
        raise ModelError("the file ends before 'end of trees'; copy or save it again")
    head, *blocks = re.split(r"\nTree=\d+\r?\n", body)
    fields = _fields(head)
    columns, rounds = int(fields["max_feature_idx"]) + 1, int(fields["num_tree_per_iteration"])
    if not 1 <= columns <= MAX_COLUMNS or not 1 <= rounds <= MAX_TARGETS:
        raise ModelError(f"{columns:,} columns and {rounds:,} trees per iteration")
    kind, *options = fields.get("objective", "").split() or [""]
    if kind not in _LINKS and kind not in _SAME:
        raise UnsupportedError(f"the objective {kind!r}, whose predictions are not known here")
    link: Link = _LINKS.get(kind, "identity")
    if kind in ("regression", "l2", "regression_l2") and "sqrt" in options:
        link = "signed square"
    trees_of = [_fields(block) for block in blocks]
    zero = sorted({c for tree in trees_of for c in _zero_columns(tree)})
    extra = {column: columns + k for k, column in enumerate(zero)}
    iterations = max(1, len(trees_of) // rounds)
    mean = 1.0 / iterations if re.search(r"^average_output\r?$", head, re.MULTILINE) else 1.0
    trees = [_tree(fields, k % rounds, mean, extra) for k, fields in enumerate(trees_of)]
    names = tuple(fields.get("feature_names", "").split())
    texts, warnings = _texts(text, columns, names)
    classes = None
    if kind == "binary":
        classes = class_labels(2)
    elif rounds > 1 and link in ("softmax", "sigmoid"):
        classes = class_labels(rounds)
    sigmoid = next((float(o.removeprefix("sigmoid:")) for o in options if o.startswith("sigmoid:")), 1.0)
    spans = tuple(_span(told) for told in fields.get("feature_infos", "").split())
    return Ensemble(
        columns, trees, np.zeros(rounds), link, classes, sigmoid, tuple(zero),
        warnings=warnings, names=names, ranges=spans if len(spans) == columns else (), texts=texts,
    )  # fmt: skip


def _texts(text: str, columns: int, names: Sequence[str]) -> tuple[dict[int, tuple[str, ...]], tuple[str, ...]]:
    """The columns whose categories are words, which pandas has numbered, and what to say of those that are numbers."""
    numbered = re.search(r"^pandas_categorical:(\[.*\])\r?$", text, re.MULTILINE)
    known = parse_json(numbered[1], "pandas_categorical") if numbered else []
    stated = re.search(r"^\[categorical_(?:feature|column): ?([\d, ]*)\]", text, re.MULTILINE)
    places = [int(v) for v in (stated[1] if stated else "").replace(",", " ").split()]
    if not known or len(places) != len(known) or any(k >= columns for k in places):
        return {}, ()
    words, told = {}, []
    for place, values in zip(places, known, strict=True):
        if values and all(isinstance(v, str) for v in values):
            words[place] = tuple(values)
        elif values != list(range(len(values))):
            name = f"'{names[place]}'" if len(names) == columns else str(place)
            told.append(f"the column {name} of X is the place of its value among the categories {values[:8]}")
    return words, tuple(told)


def _span(told: str) -> Range:
    """The range of a column in training: `[low:high]`, where others have `none` or their categories."""
    match = re.fullmatch(r"\[([^:\]]+):([^:\]]+)\]", told)
    try:
        return (float(match[1]), float(match[2])) if match else None
    except ValueError:
        return None


def _fields(block: str) -> dict[str, str]:
    return {name: value for name, mark, value in (line.strip().partition("=") for line in block.split("\n")) if mark}


def _ints(fields: dict[str, str], name: str) -> list[int]:
    return [int(v) for v in fields.get(name, "").split()]


def _missing(decision: int) -> int:
    return decision >> 2 & 3


def _zero_columns(fields: dict[str, str]) -> Iterator[int]:
    """The columns in which zeros are missing values to some node."""
    for column, decision in zip(_ints(fields, "split_feature"), _ints(fields, "decision_type"), strict=True):
        if not decision & _CATEGORY and _missing(decision) == _ZERO_MISSING:
            yield column


def _tree(fields: dict[str, str], target: int, factor: float, extra: dict[int, int]) -> Tree:
    """One tree: its inner nodes in the file's order, then its leaves, multiplied with `factor`."""
    if fields.get("is_linear", "0").strip() == "1":
        raise UnsupportedError("linear models in the leaves (linear_tree); train without them")
    columns, decisions = _ints(fields, "split_feature"), _ints(fields, "decision_type")
    thresholds = [float(v) for v in fields.get("threshold", "").split()]
    left, right = _ints(fields, "left_child"), _ints(fields, "right_child")
    values = [float(v) for v in fields["leaf_value"].split()]
    inner = len(columns)
    if not len(values) == inner + 1 == int(fields["num_leaves"]):
        raise ModelError("a tree whose nodes and leaves do not fit; the file is damaged")

    def node_of(child: int) -> int:
        return child if child >= 0 else inner + ~child

    tree = Tree()
    for k, (column, decision, threshold, yes, no) in enumerate(
        zip(columns, decisions, thresholds, left, right, strict=True)
    ):
        children = (node_of(yes), node_of(no))
        if decision & _CATEGORY:  # a missing value is in no set
            tree.members[k] = _categories(fields, int(threshold))
            tree.add(MEMBER, column, 0.0, *children)
            continue
        kind, go_left = _missing(decision), bool(decision & _LEFT)
        if kind == _NO_MISSING:
            go_left = threshold >= 0  # NaN is zero
        tree.add(LEQ, extra[column] if kind == _ZERO_MISSING else column, below(threshold), *children, go_left)
    for value in values:
        tree.leaf[tree.add()] = [(target, value * factor)]
    return tree


def _categories(fields: dict[str, str], number: int) -> Sequence[int]:
    """The set of a node with categories: bits in words of 32."""
    bounds, words = _ints(fields, "cat_boundaries"), _ints(fields, "cat_threshold")
    if not 0 <= number < len(bounds) - 1 or not 0 <= bounds[number] <= bounds[number + 1] <= len(words):
        raise ModelError("a node whose categories are not there; the file is damaged")
    found = words[bounds[number] : bounds[number + 1]]
    return [32 * k + bit for k, word in enumerate(found) for bit in range(32) if word >> bit & 1]


EXPORTER = Exporter("LightGBM", "model.txt, from save_model", recognises, export)
