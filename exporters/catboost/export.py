"""CatBoost → ONNX, from the `.cbm` file that ``save_model`` writes: the bytes CBM1, a size, and a FlatBuffer.

The schema is CatBoost's catboost/libs/model/flatbuffers/model.fbs. A split is a number: the borders of all features are
counted one after the other, and x passes the split where it is above its border. A symmetric tree has one split per
level, the first of which is the lowest bit of the leaf's number; other trees are steps from node to node. Behind the
numeric features' splits are those of words (`categories.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlpack.errors import ModelError, UnsupportedError, UsageError
from dlpack.exporters.base import MAX_WEIGHTS_BYTES, Exported, Exporter, ExportOptions, parse_json, read_bytes, rows_of
from dlpack.exporters.builder import Array
from dlpack.exporters.catboost.categories import Categories, Numeric
from dlpack.exporters.flatbuffer import FlatFile, Table
from dlpack.exporters.forest import EQ, GT, MAX_COLUMNS, MAX_NODES, MAX_TARGETS, Ensemble, Link, Tree, to_onnx

_MAGIC = b"CBM1"
_MAX_DEPTH = 16
_SAME = ("RMSE", "MAE", "Quantile", "MultiQuantile", "LogLinQuantile", "MAPE", "LogCosh", "Lq", "Huber", "Expectile",
         "MultiRMSE", "MultiRMSEWithMissingValues", "YetiRank", "YetiRankPairwise", "PairLogit", "PairLogitPairwise",
         "QueryRMSE", "QuerySoftMax", "QueryCrossEntropy", "LambdaMart", "StochasticRank", "GroupQuantile")  # fmt: skip
_LINKS: dict[str, Link] = {
    **dict.fromkeys(_SAME, "identity"),
    **dict.fromkeys(("Logloss", "CrossEntropy", "MultiClassOneVsAll", "MultiLogloss", "MultiCrossEntropy"), "sigmoid"),
    **dict.fromkeys(("Poisson", "Tweedie"), "exp"),
    "MultiClass": "softmax",
}
_ONE_ANSWER = ("Logloss", "CrossEntropy", "MultiClass", "MultiClassOneVsAll")


def recognises(_path: Path, start: bytes) -> bool:
    return start.startswith(_MAGIC)


def advises(_path: Path, start: bytes) -> str | None:
    head = start.lstrip()[:64]
    if head.startswith(b"{") and (b'"oblivious_trees"' in start or b'"features_info"' in head):
        return "CatBoost's JSON; save the model as model.save_model('model.cbm'), and give that file"
    return None


def export(path: Path, params: Path | None, options: ExportOptions) -> Exported:
    if params is not None:
        raise UsageError("a .cbm file holds the whole model; leave --params out")
    ensemble, values = read(read_bytes(path, MAX_WEIGHTS_BYTES))
    texts = len(ensemble.texts)
    return to_onnx(ensemble, rows_of(options, ensemble.columns - texts, texts), values)


@dataclass(frozen=True)
class _Split:
    """x of the column is above the border, or equal to it; `missing`: NaN passes too."""

    column: int
    border: float
    missing: bool = False
    mode: int = GT


def read(data: bytes) -> tuple[Ensemble, Array | None]:
    """The ensemble of a .cbm file, and its classes where they are whole numbers. Raises DlpackErrors."""
    size = int.from_bytes(data[4:8], "little")
    if size + 8 > len(data):
        raise ModelError("the file is cut off; copy or save it again")
    root = FlatFile(data[8 : 8 + size]).root()
    trees = root.table(1)
    if trees is None:
        raise ModelError("the file has no trees; it is damaged")
    _refuse_features(trees)
    info = {pair.text(0): pair.text(1) for pair in root.tables(2)}
    targets = int(trees.number(0, "i", 1))
    if not 1 <= targets <= MAX_TARGETS:
        raise ModelError(f"{targets:,} targets; 1 to {MAX_TARGETS:,} are accepted")
    columns, splits, words = _splits(trees, data[8 + size :])
    bias = trees.vector(16, "<f8")
    base = bias.astype(np.float64) if bias.size else np.full(targets, float(trees.number(15, "d", 0.0)))
    if base.size != targets:
        raise ModelError(f"{base.size} biases for {targets} targets; the file is damaged")
    scale = float(trees.number(14, "d", 1.0))
    link, classes, values = _meaning(info, targets)
    made = (
        _steps(trees, splits, targets, scale)
        if trees.vector(10, "<u4").size
        else _symmetric(trees, splits, targets, scale)
    )
    texts = dict.fromkeys(words.texts if words else (), ())
    names = _names(trees, columns, words.names if words else {})
    return Ensemble(columns, made, base, link, classes, names=names, texts=texts, derived=words), values


def _names(trees: Table, columns: int, words: Mapping[int, str]) -> tuple[str, ...]:
    """The columns' names, where each has one that is not its number; `words`: those of columns of words."""
    names = {**words, **{int(feature.number(2, "i", -1)): feature.text(4) for feature in trees.tables(5)}}
    found = tuple(names.get(k) or str(k) for k in range(columns))
    return () if found == tuple(map(str, range(columns))) else found


def _refuse_features(trees: Table) -> None:
    for field, what in ((12, "text_features"), (13, "embedding_features or text_features")):
        if trees.tables(field):
            raise UnsupportedError(
                f"{what}, which CatBoost counts by models of its own; compute features of them before they reach the "
                "model, and train it on those"
            )


def _splits(trees: Table, tables: bytes) -> tuple[int, list[_Split], Categories | None]:
    """The number of columns, the splits in the order of their numbers, and the columns of words if there are any."""
    found, numeric = [], {}
    for feature in trees.tables(5):
        column, treatment = int(feature.number(2, "i", -1)), int(feature.number(5, "B", 0))
        numeric[int(feature.number(1, "i", -1))] = Numeric(column, treatment == 2)
        found += [_Split(column, float(border), treatment == 2) for border in feature.vector(3, "<f4")]
    words = Categories(trees, tables, numeric) if trees.tables(4) else None
    taken = [feature.column for feature in numeric.values()] + (words.texts if words else [])
    if len(set(taken)) < len(taken) or any(not 0 <= column < MAX_COLUMNS for column in taken):
        raise ModelError(f"features of the columns {sorted(taken)[:8]}; the file is damaged")
    columns = max(taken, default=-1) + 1
    if words:
        for k, (_, values) in enumerate(words.one_hot):
            found += [_Split(columns + k, float(place), mode=EQ) for place in range(len(values))]
        for k, borders in enumerate(words.borders):
            found += [_Split(columns + words.place(k), float(border)) for border in borders]
    return columns, found, words


def _meaning(info: Mapping[str, str], targets: int) -> tuple[Link, tuple[str, ...] | None, Array | None]:
    """The link, the classes' names, and the classes where they are whole numbers."""
    params = parse_json(info.get("params") or "{}", "the model's params")
    loss = str((params.get("loss_function") or {}).get("type", ""))
    if loss not in _LINKS:
        raise UnsupportedError(f"the loss function {loss!r}, whose predictions are not known here")
    names: Any = None
    if loss in _ONE_ANSWER:
        names = parse_json(info.get("class_params") or "{}", "the model's class_params").get("class_names")
    if not names and loss in ("Logloss", "CrossEntropy"):
        names = [0, 1]
    if not names:
        return _LINKS[loss], None, None
    if len(names) != (2 if targets == 1 else targets):
        raise ModelError(f"{len(names)} names of classes for {targets} scores; the file is damaged")
    whole = all(isinstance(n, int) and abs(n) < 2**62 for n in names)
    return _LINKS[loss], tuple(map(str, names)), np.array(names, np.int64) if whole else None


def _leaf(values: Array, place: int, targets: int, scale: float) -> list[tuple[int, float]]:
    if place < 0 or place + targets > values.size:
        raise ModelError("a leaf without values; the file is damaged")
    return [(k, float(v) * scale) for k, v in enumerate(values[place : place + targets])]


def _split(splits: list[_Split], number: int) -> _Split:
    if not 0 <= number < len(splits):
        raise UnsupportedError(f"the split {number} is none of a numeric feature's {len(splits)}")
    return splits[number]


def _symmetric(trees: Table, splits: list[_Split], targets: int, scale: float) -> list[Tree]:
    """Trees with one split per level: node k has the children 2k + 1 and 2k + 2, the last split is the root's."""
    numbers, depths, values = trees.ints(1), trees.ints(2), trees.vector(8, "<f8")
    if any(not 0 <= d <= _MAX_DEPTH for d in depths) or sum(2 << d for d in depths) > MAX_NODES:
        raise ModelError(f"trees of the depths {sorted(set(depths))[-3:]}; at most {_MAX_DEPTH} is accepted")
    found, start, first = [], 0, 0
    for depth in depths:
        levels = [_split(splits, n) for n in numbers[first : first + depth]]
        if len(levels) < depth:
            raise ModelError("a tree without splits; the file is damaged")
        tree = Tree()
        for level in range(depth):
            test = levels[depth - 1 - level]
            for node in range((1 << level) - 1, (2 << level) - 1):
                tree.add(test.mode, test.column, test.border, 2 * node + 2, 2 * node + 1, test.missing)
        for leaf in range(1 << depth):
            tree.leaf[tree.add()] = _leaf(values, start + leaf * targets, targets, scale)
        found.append(tree)
        start, first = start + (targets << depth), first + depth
    return found


def _steps(trees: Table, splits: list[_Split], targets: int, scale: float) -> list[Tree]:
    """Other trees: a step's two halves are how far its children are, to the left where x is not above; 0 is a leaf."""
    numbers, sizes, starts = trees.ints(1), trees.ints(2), trees.ints(3)
    values = trees.vector(8, "<f8")
    steps, places = trees.vector(10, "<u4").tolist(), trees.vector(11, "<u4").tolist()
    if not len(steps) == len(places) == len(numbers) or len(sizes) != len(starts):
        raise ModelError("trees whose parts do not fit; the file is damaged")
    found = []
    for start, size in zip(starts, sizes, strict=True):
        if start < 0 or size < 1 or start + size > len(steps):
            raise ModelError("a tree beyond the file's nodes; the file is damaged")
        tree = Tree()
        for _ in range(size):
            tree.add()
        for node in range(size):
            near, far = steps[start + node] & 0xFFFF, steps[start + node] >> 16
            if not near and not far:
                tree.leaf[node] = _leaf(values, places[start + node], targets, scale)
                continue
            test = _split(splits, numbers[start + node])
            ends = []
            for step in (near, far):
                if not step:  # the node is a leaf for this side
                    tree.leaf[tree.add()] = _leaf(values, places[start + node], targets, scale)
                ends.append(node + step if step else len(tree.mode) - 1)
            tree.mode[node], tree.column[node], tree.threshold[node] = test.mode, test.column, test.border
            tree.no[node], tree.yes[node] = ends
            tree.missing[node] = test.missing
        found.append(tree)
    return found


EXPORTER = Exporter("CatBoost", "model.cbm, from save_model", recognises, export, advises)
