"""Tree ensembles of ai.onnx.ml: their attributes, what is done to the trees' weights, the classes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dlpack.graph.ir import Array
from dlpack.graph.registry import Builder, Context, NotSupported, rewrite
from dlpack.operators.ml_forest import (
    LEAF,
    MEMBER,
    Nodes,
    build_forest,
    resolve_ids,
    split_sets,
)
from dlpack.operators.ml_linear import ML
from dlpack.operators.ml_scores import (
    TRANSFORMS,
    array,
    cast,
    class_labels,
    decision,
    greater,
    label,
    largest,
    number,
    rows_of,
    second_class,
    table,
    transform,
    where,
    with_constant,
)
from dlpack.operators.ml_walk import START, keys_of, walk

AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
"""In the order of their numbers in TreeEnsemble."""


# --- the operators ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Ensemble:
    """What the three operators have in common: the nodes, how trees are combined, and what follows."""

    nodes: Nodes
    targets: int
    aggregate: str
    base: Array
    post_transform: str
    dtype: str


def _input_dtype(ctx: Context) -> str:
    """What x is compared in: whole numbers as float32."""
    return "float64" if ctx.input_type(0).dtype == "float64" else "float32"


def _numbers(ctx: Context, name: str, dtype: str) -> Array:
    """A list of floats, or the tensor that version 3 has in its place."""
    tensor = ctx.attr(f"{name}_as_tensor")
    return (array(ctx, name) if tensor is None else tensor.reshape(-1)).astype(dtype)


def _read(ctx: Context, what: str, targets: int) -> _Ensemble:
    """A TreeEnsembleClassifier ("class") or TreeEnsembleRegressor ("target")."""
    dtype = _input_dtype(ctx)

    def ints(name: str) -> Array:
        return array(ctx, name, np.int64)

    trees, values = ints("nodes_treeids"), _numbers(ctx, "nodes_values", dtype)
    weight_target, weight = ints(f"{what}_ids"), _numbers(ctx, f"{what}_weights", dtype)
    mode, yes, no, roots, weight_node = resolve_ids(
        trees,
        ints("nodes_nodeids"),
        ctx.attr("nodes_modes") or [],
        ints("nodes_truenodeids"),
        ints("nodes_falsenodeids"),
        ints(f"{what}_treeids"),
        ints(f"{what}_nodeids"),
    )
    feature, missing = ints("nodes_featureids"), ints("nodes_missing_value_tracks_true") == 1
    if not missing.size:
        missing = np.zeros(trees.size, bool)
    if len({trees.size, values.size, feature.size, missing.size}) > 1 or weight_target.size != weight.size:
        raise NotSupported("attributes of nodes or weights of different lengths")
    nodes = Nodes(mode, feature, values, yes, no, missing, roots, weight_node, weight_target, weight)
    aggregate = str(ctx.attr("aggregate_function", "SUM"))
    base = _numbers(ctx, "base_values", dtype)
    return _Ensemble(nodes, targets, aggregate, base, str(ctx.attr("post_transform", "NONE")), dtype)


def _read_v5(ctx: Context) -> _Ensemble:
    """A TreeEnsemble: leaves are numbered apart from the inner nodes, and each has one weight."""
    dtype, inner = _input_dtype(ctx), array(ctx, "nodes_featureids", np.int64).size

    def ints(name: str) -> Array:
        return array(ctx, name, np.int64)

    def tensor(name: str, kind: str = dtype) -> Array:
        given = ctx.attr(name)
        return np.zeros(0, kind) if given is None else np.asarray(given, kind).reshape(-1)

    mode, values = tensor("nodes_modes", "int64"), tensor("nodes_splits")
    target, weight = ints("leaf_targetids"), tensor("leaf_weights")
    yes, no = (ints(f"nodes_{side}nodeids") for side in ("true", "false"))
    to_leaf = [ints(f"nodes_{side}leafs") != 0 for side in ("true", "false")]
    missing = ints("nodes_missing_value_tracks_true") == 1
    if not missing.size:
        missing = np.zeros(inner, bool)
    leaves, roots = target.size, ints("tree_roots")
    if any(a.size != inner for a in (mode, values, yes, no, *to_leaf, missing)) or weight.size != leaves:
        raise NotSupported("attributes of nodes or leaves of different lengths")
    for child, is_leaf in ((yes, to_leaf[0]), (no, to_leaf[1])):
        if ((child < 0) | (child >= np.where(is_leaf, leaves, inner))).any():
            raise NotSupported("a child that is not there")
    if ((roots < 0) | (roots >= inner)).any() or not roots.size or ((mode < 0) | (mode > MEMBER)).any():
        raise NotSupported("a root or a mode that is not there")
    alone = (to_leaf[0] & to_leaf[1] & (yes == no))[roots]
    if (yes[roots[alone]] != roots[alone]).any():  # onnxruntime and onnx's evaluator take the leaf of the root's number
        raise NotSupported("a tree of one leaf whose number is not that of the root")

    def both(inner_values: Array, fill: float, dtype: Any = np.int64) -> Array:
        return np.concatenate([inner_values, np.full(leaves, fill)]).astype(dtype)

    own = np.arange(inner, inner + leaves)
    modes = both(mode, LEAF)
    nodes = Nodes(
        modes,
        both(ints("nodes_featureids"), 0),
        both(values, 0, dtype),
        np.concatenate([yes + inner * to_leaf[0], own]),
        np.concatenate([no + inner * to_leaf[1], own]),
        both(missing, 0, bool),
        roots,
        own,
        target,
        weight,
        split_sets(modes, tensor("membership_values")),
    )
    aggregate, post = int(ctx.attr("aggregate_function", 1)), int(ctx.attr("post_transform", 0))
    if not 0 <= aggregate < len(AGGREGATES) or not 0 <= post < len(TRANSFORMS):
        raise NotSupported(f"the aggregate_function {aggregate} with the post_transform {post}")
    targets = ctx.attr("n_targets", 1)
    if targets > 1 and TRANSFORMS[post] in ("SOFTMAX", "LOGISTIC"):
        raise NotSupported(
            f"the post_transform {post}: ONNX says that 1 is softmax and 2 logistic, onnxruntime has it the other way "
            "round; leave it at 0 and put a Softmax or Sigmoid behind"
        )
    return _Ensemble(nodes, targets, AGGREGATES[aggregate], np.zeros(0, dtype), TRANSFORMS[post], dtype)


def _aggregate(ctx: Context, b: Builder, e: _Ensemble) -> str:
    """The trees' weights combined for each target, [rows, targets] of `e.dtype`: zero where no leaf has any."""
    if e.aggregate not in AGGREGATES:
        raise NotSupported(f"the aggregate_function {e.aggregate!r}")
    if e.targets < 1 or ((e.nodes.weight_target < 0) | (e.nodes.weight_target >= e.targets)).any():
        raise NotSupported(f"a weight of a target or class that is not among the {e.targets}")
    rows, features = rows_of(ctx)
    made = build_forest(e.nodes, features)
    keys = keys_of(b, table(ctx, b, e.dtype), made.two_keys)
    y = walk(b, keys, made, e.targets, e.aggregate, e.dtype)
    if e.aggregate == "AVERAGE":
        y = with_constant(b, "Div", y, len(e.nodes.roots))
    if e.aggregate in ("MIN", "MAX"):
        start = b.constant(np.asarray(START[e.aggregate], e.dtype), "none")
        none = b.add("Equal", [y, start], (rows, e.targets), "bool")
        y = where(b, none, number(b, 0.0, y), y)
    return y


@rewrite("TreeEnsemble", domain=ML)
def tree_ensemble(ctx: Context, b: Builder) -> None:
    """[rows, n_targets] of x's element type."""
    e = _read_v5(ctx)
    _finish_values(b, _aggregate(ctx, b, e), e, ctx.node.outputs[0], ctx.output_type().dtype)


@rewrite("TreeEnsembleRegressor", domain=ML)
def tree_ensemble_regressor(ctx: Context, b: Builder) -> None:
    """[rows, n_targets] of float32. Of several targets, one that no leaf has a weight for is zero, despite its base."""
    e = _read(ctx, "target", ctx.attr("n_targets", 1))
    y = _aggregate(ctx, b, e)
    if e.base.size == e.targets:
        based = with_constant(b, "Add", y, e.base)
        unsure = e.targets > 1 and not _always_scored(e).all()
        y = where(b, _scored(ctx, b, e), based, number(b, 0.0, y)) if unsure else based
    _finish_values(b, y, e, ctx.node.outputs[0], "float32")


def _finish_values(b: Builder, y: str, e: _Ensemble, output: str, dtype: str) -> None:
    """The post_transform; a single target has no other than PROBIT."""
    kind = e.post_transform if e.targets > 1 or e.post_transform == "PROBIT" else "NONE"
    cast(b, transform(b, y, kind), dtype, output)


@rewrite("TreeEnsembleClassifier", domain=ML)
def tree_ensemble_classifier(ctx: Context, b: Builder) -> None:
    """The class of the largest score, int64 [rows], and the transformed scores, float32 [rows, classes]."""
    labels = class_labels(ctx, "classlabels_int64s")
    e = _read(ctx, "class", labels.size)
    if e.aggregate != "SUM":
        raise NotSupported(f"the aggregate_function {e.aggregate!r}")
    if labels.size <= 2:
        _two_classes(ctx, b, e, labels)
        return
    y = _aggregate(ctx, b, e)
    candidates = y
    if e.base.size == labels.size:
        candidates = y = with_constant(b, "Add", y, e.base)
    elif not _always_scored(e).all():  # the class is one that some leaf has a weight for
        candidates = where(b, _scored(ctx, b, e), y, number(b, -math.inf, y))
    label(ctx, b, largest(b, candidates), labels)
    cast(b, transform(b, y, e.post_transform), "float32", ctx.node.outputs[1])


def _always_scored(e: _Ensemble) -> Array:
    """For each target or class, whether some tree has a weight for it in every leaf: bool [targets]."""
    n, tree = e.nodes, _tree_of(e.nodes)
    leaves = np.bincount(tree[n.mode == LEAF], minlength=len(n.roots))
    of_leaf = np.flatnonzero(n.mode[n.weight_node] == LEAF)
    node, target = np.unique(np.stack([n.weight_node[of_leaf], n.weight_target[of_leaf]]), axis=1)
    pairs, counts = np.unique(tree[node] * e.targets + target, return_counts=True)
    always = np.zeros(e.targets, bool)
    always[pairs[counts == leaves[pairs // e.targets]] % e.targets] = True
    return always


def _tree_of(n: Nodes) -> Array:
    """The number of each node's tree; nodes of a tree follow each other in versions 1 and 3."""
    first = np.zeros(len(n.mode), np.int64)
    first[n.roots] = 1
    return np.cumsum(first) - 1


def _scored(ctx: Context, b: Builder, e: _Ensemble) -> str:
    """Whether a target or class has got a weight, bool [rows, targets]: the number of weights is above zero."""
    ones = replace(e.nodes, weight=np.ones_like(e.nodes.weight))
    return greater(b, _aggregate(ctx, b, replace(e, nodes=ones, aggregate="SUM")), 0.0)


def _two_classes(ctx: Context, b: Builder, e: _Ensemble, labels: Array) -> None:
    """One or two labels, as onnxruntime has it: what a score means depends on which classes the weights are for.

    Weights for one class only are scores of the second: it is chosen above 0.5 where no weight is negative, else above
    zero. Weights for both: the second is chosen where its score is positive, and the labels are then 1 and 0. A base
    value for each class counts for the second only, where the leaves have weights for it; a class without weights has
    the score zero.
    """
    out, kind, base = ctx.node.outputs[1], e.post_transform, e.base
    if base.size > labels.size:
        raise NotSupported(f"{base.size} base_values for {labels.size} labels")
    if labels.size == 1:
        y = _aggregate(ctx, b, e)
        y = with_constant(b, "Add", y, base) if base.size else y
        label(ctx, b, decision(b, y, 0.0), np.array([0, 1]))
        cast(b, transform(b, y, kind if kind == "PROBIT" else "NONE"), "float32", out)
        return
    classes, always = np.unique(e.nodes.weight_target), _always_scored(e)
    if not always[classes].all():
        raise NotSupported("two classes, of which one has weights in some of the leaves only")
    second, one_class, positive = bool(always[1]), classes.size == 1, not (e.nodes.weight < 0).any()
    y = _aggregate(ctx, b, e)
    first, decisive = _column(b, y, 0), _column(b, y, int(second))
    none = b.constant(np.zeros((b.type_of(y).shape[0], 1), e.dtype), "none")
    pair = []
    if base.size == 2 and second:
        decisive = with_constant(b, "Add", first, base[1])
        pair = [b.add("Neg", [decisive], b.type_of(decisive).shape), decisive]
    elif base.size and not second:
        decisive = with_constant(b, "Add", first, base[0])
        pair = [decisive, none] if base.size == 2 else []
    elif second:
        pair = [with_constant(b, "Add", first, base[0]) if base.size else first, decisive]
    if pair and not always[0]:
        pair[0] = none
    limit = 0.5 if one_class and positive else 0.0
    label(ctx, b, decision(b, decisive, limit), labels if one_class else np.array([0, 1]))
    if pair:
        scores = b.add("Concat", pair, b.type_of(y).shape, axis=1)
        cast(b, transform(b, scores, kind), "float32", out)
    elif kind == "PROBIT":
        raise NotSupported("the post_transform 'PROBIT' of two classes with one score")
    else:
        opposite = "logistic" if kind == "LOGISTIC" else "rest" if positive else "negative"
        cast(b, second_class(b, decisive, opposite), "float32", out)


def _column(b: Builder, x: str, k: int) -> str:
    """Column k of x [rows, columns]: [rows, 1]."""
    ends = [b.constant(np.array([v], np.int64)) for v in (k, k + 1, 1)]
    return b.add("Slice", [x, *ends], (b.type_of(x).shape[0], 1))
