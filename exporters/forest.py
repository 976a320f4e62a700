"""Boosted trees as ONNX: what the readers of XGBoost's, LightGBM's and CatBoost's files share.

A model is an ``Ensemble``: trees, whose leaves are added for each target, and a link behind the sums. It becomes one
TreeEnsemble of ai.onnx.ml 5 on a table X, float32 [rows, columns], in which NaN is a missing value. Columns of text are
an input of their own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from dlpack.errors import ModelError, UnsupportedError
from dlpack.exporters.base import TABLE, TEXT, Exported, set_metadata
from dlpack.exporters.builder import Array
from dlpack.meaning.cityhash import KEY as HASHES
from dlpack.meaning.features import Range, to_metadata

LEQ, LT, GTE, GT, EQ, NEQ, MEMBER = range(7)
"""How an inner node compares x with its threshold, as TreeEnsemble numbers it; MEMBER: x is in its set."""
_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")

Link = Literal["identity", "sigmoid", "softmax", "exp", "softplus", "signed square", "above zero"]
"""`softplus`: log(1 + exp(x)); `signed square`: x * |x|; `above zero`: 1 where x > 0, else 0."""

MAX_COLUMNS = 1 << 20
MAX_NODES = 1 << 26
MAX_TARGETS = 1 << 16
_EXACT = 1 << 24
"""Whole numbers up to this are float32s."""
_OPSET = 21


@dataclass
class Tree:
    """One tree as lists over its nodes, node 0 its root.

    `mode`, `column` and `threshold` are an inner node's test; the node goes on in `yes` where x passes it, else in
    `no`; `missing` says whether NaN goes to `yes`. At a leaf `yes` is -1, and `leaf` has its (target, value) pairs.
    A MEMBER node has the whole numbers of its set in `members`.
    """

    mode: list[int] = field(default_factory=list)
    column: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    yes: list[int] = field(default_factory=list)
    no: list[int] = field(default_factory=list)
    missing: list[bool] = field(default_factory=list)
    leaf: dict[int, Sequence[tuple[int, float]]] = field(default_factory=dict)
    members: dict[int, Sequence[int]] = field(default_factory=dict)

    def add(
        self,
        mode: int = LEQ,
        column: int = 0,
        threshold: float = 0.0,
        yes: int = -1,
        no: int = -1,
        missing: bool = False,
    ) -> int:
        """Adds a node, a leaf by default; returns its number."""
        self.mode.append(mode)
        self.column.append(column)
        self.threshold.append(threshold)
        self.yes.append(yes)
        self.no.append(no)
        self.missing.append(missing)
        return len(self.mode) - 1


class Derived(Protocol):
    """Features that are computed of the table and of its texts, which are hashed (`dlpack.meaning.cityhash`)."""

    @property
    def size(self) -> int:
        """How many there are."""

    def known(self) -> list[int]:
        """Some hashes of words of the training data."""

    def columns(self, graph: Graph, table: str, texts: str) -> str:
        """The features, float32 [rows, size], of the table and of the hashes, int64 [rows, columns of text]."""


@dataclass(frozen=True)
class Ensemble:
    """A model: ``link(base + sum of trees)``; `base` has a number per target.

    With `classes`, their names, the model is a classifier, and gives probabilities and the most probable class.
    `zero_missing` are columns in which zero is a missing value too; trees read the k-th of them as column
    ``columns + k``. `linear`, [columns, targets], is added as ``x @ linear``, where NaN counts as zero.
    """

    columns: int
    trees: Sequence[Tree]
    base: Array
    link: Link = "identity"
    classes: tuple[str, ...] | None = None
    factor: float = 1.0
    """What the sums are multiplied with before the link."""
    zero_missing: tuple[int, ...] = ()
    linear: Array | None = None
    warnings: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """The columns' names, where the file has one for each."""
    ranges: tuple[Range, ...] = ()
    """Where the columns' values were, where the file says so; else it is taken from the thresholds."""
    texts: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """Columns of text, and the words whose places are the categories; another word is a missing value. They are an
    input of their own, `text`, strings [rows, columns of text]; X has the others."""
    derived: Derived | None = None
    """Features of the texts' hashes; trees read the k-th of them behind all other columns."""


def below(threshold: float) -> float:
    """The largest float32 that is at most `threshold`: for an x of float32, ``x <= threshold`` stays the same."""
    with np.errstate(over="ignore"):
        near = np.float32(threshold)
    return float(np.nextafter(near, np.float32(-np.inf)) if near > threshold else near)


def to_onnx(ensemble: Ensemble, rows: int, values: Array | None = None) -> Exported:
    """The ensemble as ONNX for `rows` rows.

    A classifier's outputs are `label`, int64 [rows], the class of `values` [classes] or its index, and
    `probabilities`, float32 [rows, classes]; other models have one, `prediction`, float32 [rows, targets].
    Raises ModelError for what is no forest, UnsupportedError for what float32 cannot hold.
    """
    _check(ensemble)
    graph = Graph(ensemble, rows)
    outputs = graph.outputs(graph.link(graph.sums()), values)
    made = helper.make_graph(
        graph.nodes,
        "model",
        [helper.make_tensor_value_info(*given) for given in graph.inputs()],
        outputs,
        graph.constants,
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", graph.ml_opset)]
    model = helper.make_model(made, opset_imports=opsets, producer_name="dlpack")
    model.ir_version = 10
    if ensemble.derived:
        set_metadata(model, HASHES, json.dumps({TEXT: ensemble.derived.known()}))
    told = (*ensemble.warnings, *_told(ensemble))
    if len(ensemble.texts) == ensemble.columns:
        return Exported(model, ensemble.classes, warnings=told)
    set_metadata(model, "dlpack.ranges", json.dumps({TABLE: _range(ensemble)}))
    numbers = [k for k in range(ensemble.columns) if k not in ensemble.texts]
    names, ranges = _names(ensemble), ensemble.ranges or _spans(ensemble)
    features = to_metadata([names[k] for k in numbers] if names else [], [ranges[k] for k in numbers])
    return Exported(model, ensemble.classes, warnings=told, features=features)


def _told(ensemble: Ensemble) -> list[str]:
    """Which columns the input of text has."""
    if not ensemble.texts:
        return []
    names = _names(ensemble) or tuple(f"column {k}" for k in range(ensemble.columns))
    return [f"the input '{TEXT}' has the columns of text: {', '.join(names[k] for k in sorted(ensemble.texts))}"]


def _check(ensemble: Ensemble) -> None:
    targets, total = ensemble.base.size, sum(len(tree.mode) for tree in ensemble.trees)
    if not 1 <= ensemble.columns <= MAX_COLUMNS or not 1 <= targets <= MAX_TARGETS or total > MAX_NODES:
        raise ModelError(
            f"{ensemble.columns:,} columns, {targets:,} targets and {total:,} nodes; 1 to {MAX_COLUMNS:,}, 1 to "
            f"{MAX_TARGETS:,} and at most {MAX_NODES:,} are accepted"
        )
    derived = ensemble.derived.size if ensemble.derived else 0
    check_trees(ensemble.trees, ensemble.columns + len(ensemble.zero_missing) + derived, targets)
    for tree in ensemble.trees:
        for members in tree.members.values():
            if any(abs(m) > _EXACT for m in members):
                raise UnsupportedError(f"a category above {_EXACT:,}, which float32 cannot hold")


def check_trees(trees: Sequence[Tree], width: int, targets: int) -> None:
    """Raises ModelError unless each is a tree over `width` columns with leaves for `targets` targets."""
    for number, tree in enumerate(trees):
        count = len(tree.mode)
        seen = np.zeros(max(count, 1), np.int64)
        for node in range(count):
            if tree.yes[node] < 0:
                if any(not 0 <= target < targets for target, _ in tree.leaf.get(node, ())):
                    raise ModelError(f"tree {number}: a leaf of a target that is not among the {targets}")
                continue
            children = (tree.yes[node], tree.no[node])
            if not all(0 < c < count for c in children) or not 0 <= tree.column[node] < width:
                raise ModelError(f"tree {number}: node {node} has a child or a column that is not there")
            seen[list(children)] += 1
        if not count or (seen[1:] > 1).any() or seen[0]:
            raise ModelError(f"tree {number} is no tree: a node has several parents, or it has no node")


def _range(ensemble: Ensemble) -> tuple[float, float]:
    """Where the input's values matter: around the thresholds and categories. The build is verified on such."""
    low, high = -1.0, 1.0
    for tree in ensemble.trees:
        inner = [k for k, yes in enumerate(tree.yes) if yes >= 0 and k not in tree.members]
        values = [tree.threshold[k] for k in inner] + [m for members in tree.members.values() for m in members]
        finite = [v for v in values if np.isfinite(v)]
        if finite:
            low, high = min(low, min(finite) * 1.1), max(high, max(finite) * 1.1)
    return low, high


def _names(ensemble: Ensemble) -> tuple[str, ...]:
    return ensemble.names if len(ensemble.names) == ensemble.columns else ()


def _spans(ensemble: Ensemble) -> list[Range]:
    """For each column, a third beyond its smallest and largest threshold; None for one with less than two."""
    found: dict[int, set[float]] = {}
    for tree in ensemble.trees:
        for node, yes in enumerate(tree.yes):
            if yes >= 0 and node not in tree.members and np.isfinite(tree.threshold[node]):
                found.setdefault(tree.column[node], set()).add(tree.threshold[node])
    spans: list[Range] = []
    for column in range(ensemble.columns):
        low, high = min(found.get(column, {0.0})), max(found.get(column, {0.0}))
        spans.append((low - (high - low) / 3, high + (high - low) / 3) if low < high else None)
    return spans


class Graph:
    """The nodes and constants of an ensemble."""

    def __init__(self, ensemble: Ensemble, rows: int) -> None:
        self.ensemble, self.rows, self.targets = ensemble, rows, ensemble.base.size
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.ml_opset = 5
        self._given = ""

    def op(self, kind: str, *inputs: str, name: str = "", domain: str = "", **attributes: Any) -> str:
        name = name or f"{kind}_{len(self.nodes)}"
        node = helper.make_node(kind, list(inputs), [name], name, domain=domain, **attributes)
        self.nodes.append(node)
        return name

    def constant(self, value: object, dtype: type = np.float32) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def sums(self) -> str:
        """base + trees + x @ linear, [rows, targets]."""
        e = self.ensemble
        alone = [tree for tree in e.trees if tree.yes[0] < 0]
        base = e.base.astype(np.float64).copy()
        for tree in alone:
            for target, value in tree.leaf.get(0, ()):
                base[target] += value
        grown = [tree for tree in e.trees if tree.yes[0] >= 0]
        parts = []
        if grown:
            parts.append(self.forest(grown))
        if e.linear is not None:
            x = self.given()
            present = self.op("Where", self.op("IsNaN", x), self.constant(0.0), x)
            parts.append(self.op("MatMul", present, self.constant(e.linear)))
        if not parts:  # no tree has a split
            return self.constant(np.tile(base * e.factor, (self.rows, 1)))
        y = parts[0]
        for part in parts[1:]:
            y = self.op("Add", y, part)
        if np.any(base):
            y = self.op("Add", y, self.constant(base))
        return y if e.factor == 1.0 else self.op("Mul", y, self.constant(e.factor))

    def forest(self, trees: Sequence[Tree]) -> str:
        """The sums of the trees' leaves. Leaves of several targets are not repeated where no node has a set."""
        several = any(len(pairs) > 1 for tree in trees for pairs in tree.leaf.values())
        if not several or any(tree.members for tree in trees):
            attributes = ensemble_attributes(trees, self.targets)
            return self.op("TreeEnsemble", self.table(), domain="ai.onnx.ml", **attributes)
        self.ml_opset = 3
        return self.op("TreeEnsembleRegressor", self.table(), domain="ai.onnx.ml", **_regressor(trees, self.targets))

    def inputs(self) -> list[tuple[str, int, tuple[int, int]]]:
        """The graph's inputs: name, element type and shape."""
        texts = len(self.ensemble.texts)
        words = TensorProto.INT64 if self.ensemble.derived else TensorProto.STRING
        found = ((TABLE, TensorProto.FLOAT, self.ensemble.columns - texts), (TEXT, words, texts))
        return [(name, kind, (self.rows, columns)) for name, kind, columns in found if columns]

    def given(self) -> str:
        """All columns, float32 [rows, columns]: of text the number of each word."""
        texts = self.ensemble.texts
        if not texts:
            return TABLE
        if self.ensemble.derived and not self._given:  # no tree reads the hashes themselves
            columns = range(self.ensemble.columns)
            numbers = [k for k in columns if k not in texts]
            places = [numbers.index(k) if k in numbers else 0 for k in columns]
            rest = self.constant(np.zeros((self.rows, len(places))))
            self._given = self.op("Gather", TABLE, self.constant(places, np.int64), axis=1) if numbers else rest
        if not self._given:
            parts, at = [], 0
            for column in range(self.ensemble.columns):
                name, place = (TEXT, sorted(texts).index(column)) if column in texts else (TABLE, at)
                part = self.op("Gather", name, self.constant([place], np.int64), axis=1)
                if column in texts:
                    words = list(texts[column])
                    part = self.op(
                        "LabelEncoder",
                        part,
                        domain="ai.onnx.ml",
                        keys_strings=words,
                        values_floats=[float(k) for k in range(len(words))],
                        default_float=float("nan"),
                    )
                at += column not in texts
                parts.append(part)
            self._given = self.op("Concat", *parts, axis=1)
        return self._given

    def table(self) -> str:
        """X, behind it the columns of `zero_missing` with NaN in the place of zeros, and what is derived."""
        columns, x = self.ensemble.zero_missing, self.given()
        if self.ensemble.derived and self.ensemble.derived.size:
            return self.op("Concat", x, self.ensemble.derived.columns(self, x, TEXT), axis=1)
        if not columns:
            return x
        part = self.op("Gather", x, self.constant(columns, np.int64), axis=1)
        zero = self.op("LessOrEqual", self.op("Abs", part), self.constant(ZERO))
        return self.op("Concat", x, self.op("Where", zero, self.constant(np.nan), part), axis=1)

    def link(self, y: str) -> str:
        link = self.ensemble.link
        if link == "sigmoid":
            y = self.probability(y)
        elif link == "softmax":
            y = self.op("Softmax", y, axis=1)
        elif link == "exp":
            y = self.op("Exp", y)
        elif link == "softplus":
            y = self.op("Softplus", y)
        elif link == "signed square":
            y = self.op("Mul", y, self.op("Abs", y))
        elif link == "above zero":
            y = self.op("Cast", self.op("Greater", y, self.constant(0.0)), to=TensorProto.FLOAT)
        return y

    def probability(self, y: str) -> str:
        """The sigmoid; for two classes of one score the probabilities of both."""
        yes = self.op("Sigmoid", y)
        if not self.ensemble.classes or self.targets > 1:
            return yes
        return self.op("Concat", self.op("Sigmoid", self.op("Neg", y)), yes, axis=1)

    def outputs(self, y: str, values: Array | None) -> list[ValueInfoProto]:
        classes = self.ensemble.classes
        if not classes:
            self.op("Identity", y, name="prediction")
            return [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, (self.rows, self.targets))]
        if values is None:
            self.op("ArgMax", y, name="label", axis=1, keepdims=0)
        else:
            self.op("Gather", self.constant(values, np.int64), self.op("ArgMax", y, axis=1, keepdims=0), name="label")
        self.op("Identity", y, name="probabilities")
        return [
            helper.make_tensor_value_info("label", TensorProto.INT64, (self.rows,)),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, (self.rows, len(classes))),
        ]


ZERO = 1e-35
"""Numbers up to this are zero for LightGBM."""


def ensemble_attributes(trees: Sequence[Tree], targets: int) -> Mapping[str, Any]:
    """The trees as TreeEnsemble has them: leaves are numbered apart from the inner nodes, one for each weight.

    A leaf with several targets is repeated by trees that are the same but for their leaves' targets.
    """
    copies = max((len(pairs) for tree in trees for pairs in tree.leaf.values()), default=1)
    nodes: dict[str, list[float]] = {key: [] for key in ("mode", "column", "split", "yes", "no", "yl", "nl", "missing")}
    leaves: list[tuple[int, float]] = []
    members: list[float] = []
    roots: list[int] = []
    for tree in trees:
        for copy in range(max(1, min(copies, max((len(p) for p in tree.leaf.values()), default=1)))):
            roots.append(len(nodes["mode"]))
            _append(tree, copy, nodes, leaves, members)

    def tensor(values: Sequence[float], dtype: type) -> TensorProto:
        return numpy_helper.from_array(np.asarray(values, dtype))

    attributes: dict[str, Any] = {
        "n_targets": targets,
        "aggregate_function": 1,
        "post_transform": 0,
        "tree_roots": roots,
        "nodes_modes": tensor(nodes["mode"], np.uint8),
        "nodes_splits": tensor(nodes["split"], np.float32),
        "leaf_targetids": [target for target, _ in leaves],
        "leaf_weights": tensor([value for _, value in leaves], np.float32),
    }
    for name, key in (
        ("nodes_featureids", "column"),
        ("nodes_truenodeids", "yes"),
        ("nodes_falsenodeids", "no"),
        ("nodes_trueleafs", "yl"),
        ("nodes_falseleafs", "nl"),
        ("nodes_missing_value_tracks_true", "missing"),
    ):
        attributes[name] = [int(v) for v in nodes[key]]
    if members:
        attributes["membership_values"] = tensor(members, np.float32)
    return attributes


def _regressor(trees: Sequence[Tree], targets: int) -> Mapping[str, Any]:
    """The trees as TreeEnsembleRegressor has them: a leaf has any number of weights, but there are no sets."""
    nodes: dict[str, list[object]] = {}
    for number, tree in enumerate(trees):
        count = len(tree.mode)
        inner = [yes >= 0 for yes in tree.yes]
        for key, values in (
            ("nodes_treeids", [number] * count),
            ("nodes_nodeids", range(count)),
            ("nodes_modes", [_MODES[m] if i else "LEAF" for m, i in zip(tree.mode, inner, strict=True)]),
            ("nodes_featureids", tree.column),
            ("nodes_values", tree.threshold),
            ("nodes_truenodeids", [max(y, 0) for y in tree.yes]),
            ("nodes_falsenodeids", [max(n, 0) for n in tree.no]),
            ("nodes_missing_value_tracks_true", map(int, tree.missing)),
        ):
            nodes.setdefault(key, []).extend(values)
        for node, pairs in tree.leaf.items():
            for target, weight in pairs:
                for key, value in (("treeids", number), ("nodeids", node), ("ids", target), ("weights", weight)):
                    nodes.setdefault(f"target_{key}", []).append(value)
    return {"n_targets": targets, **nodes}


def _append(
    tree: Tree, copy: int, nodes: dict[str, list[float]], leaves: list[tuple[int, float]], members: list[float]
) -> None:
    """Appends a tree's inner nodes and its leaves' `copy`-th pairs."""
    start = len(nodes["mode"])
    inner: dict[int, int] = {}
    place: dict[int, int] = {}
    for node, yes in enumerate(tree.yes):
        if yes >= 0:
            inner[node] = start + len(inner)
        else:
            place[node] = len(leaves)
            pairs = tree.leaf.get(node, ())
            leaves.append(pairs[copy] if copy < len(pairs) else (0, 0.0))
    for node in inner:
        yes, no = tree.yes[node], tree.no[node]
        for key, value in (
            ("mode", tree.mode[node]),
            ("column", tree.column[node]),
            ("split", tree.threshold[node]),
            ("yes", inner.get(yes, place.get(yes, 0))),
            ("no", inner.get(no, place.get(no, 0))),
            ("yl", yes in place),
            ("nl", no in place),
            ("missing", tree.missing[node]),
        ):
            nodes[key].append(value)
        if tree.mode[node] == MEMBER:
            members += [*(float(m) for m in tree.members[node]), np.nan]


def class_labels(count: int) -> tuple[str, ...]:
    """The names of classes that a file only counts."""
    return tuple(map(str, range(count)))
