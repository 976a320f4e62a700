"""A forest as flat arrays: the tree ensembles of ai.onnx.ml (versions 1, 3 and 5) in one form, for one short loop.

A step of a walk is always the same: ``node = then[node] if key(x[feature[node]]) <= threshold[node] else other[node]``.
So that this does for every ONNX mode and without a jump:

- numbers are compared by their keys, integers in the same order (`order_keys`), the same for 0.0 and -0.0;
- x has two keys per feature where NaN must go both ways: in one NaN is above everything, in the other below;
- BRANCH_LT has the key before; BRANCH_GT and BRANCH_GTE have their children exchanged;
- BRANCH_EQ, BRANCH_NEQ and BRANCH_MEMBER are a search among the ends of the intervals of keys where they hold;
- a leaf is its own child, so that trees of several depths may walk in step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dlpack.graph.ir import Array
from dlpack.graph.registry import NotSupported

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
"""The modes of inner nodes, in the order of their numbers in TreeEnsemble."""

LEQ, LT, GTE, GT, EQ, NEQ, MEMBER = range(7)
LEAF = -1
RECORD = 4
"""Integers per node: feature, threshold, the places of both children; of a leaf: 0, the leaf's number, itself twice."""


@dataclass(frozen=True)
class Nodes:
    """A tree ensemble as ONNX gives it, ids resolved: arrays over the nodes, in which leaves are nodes too.

    `mode` is LEAF or an index into MODES, `yes` and `no` are nodes, `members` the sets of BRANCH_MEMBER nodes; a weight
    belongs to a leaf (`weight_node`) and a target. `missing`: whether NaN goes to `yes`.
    """

    mode: Array
    feature: Array
    value: Array
    yes: Array
    no: Array
    missing: Array
    roots: Array
    weight_node: Array
    weight_target: Array
    weight: Array
    members: dict[int, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Forest:
    """`records` [nodes * RECORD]; `roots` [trees] and the children are places in it; `depths` [trees].

    Leaf k has the weights ``starts[k]`` to ``starts[k + 1]`` of `weights` for the targets `targets`. The last leaf has
    none, and is the last root. `two_keys`: feature F + f is feature f with NaN below everything.
    """

    records: Array
    roots: Array
    depths: Array
    starts: Array
    targets: Array
    weights: Array
    two_keys: bool
    features: int


def key_type(dtype: str) -> type:
    return np.int64 if dtype == "float64" else np.int32


def order_keys(x: Array) -> Array:
    """Integers in the order of the floats x, one for 0.0 and -0.0; NaN becomes the least integer."""
    integer = key_type(x.dtype.name)
    bits: Array = (x + np.zeros(1, x.dtype)).view(integer)  # -0.0 + 0.0 is 0.0
    keys = bits ^ ((bits >> (8 * x.dtype.itemsize - 1)) & np.iinfo(integer).max)
    return np.where(np.isnan(x), np.iinfo(integer).min, keys)


def build_forest(nodes: Nodes, features: int) -> Forest:
    """The forest of a table of `features` columns; `nodes.value` is of the type that x is compared in.

    Raises NotSupported for what is no forest: a feature outside the table, nodes with several parents, cycles.
    """
    inner = nodes.mode != LEAF
    if features < 1 or (inner & ((nodes.feature < 0) | (nodes.feature >= features))).any():
        raise NotSupported(f"a node of a feature outside of the input's {features}")
    records, extra = _records(nodes, features)
    depths = _depths(nodes, extra)
    used = bool((records[:, 0] >= features).any())
    leaves = np.flatnonzero(~inner)
    number = np.zeros(len(nodes.mode), np.int64)
    number[leaves] = np.arange(len(leaves))
    records[leaves] = np.stack([0 * leaves, number[leaves], leaves * RECORD, leaves * RECORD], axis=1)
    end = len(records)
    records = np.concatenate([records, [[0, len(leaves), end * RECORD, end * RECORD]]])
    if records.size > np.iinfo(np.int32).max:
        raise NotSupported(f"{len(records)} nodes")
    of_leaf = np.flatnonzero(~inner[nodes.weight_node])  # others are never reached
    leaf = number[nodes.weight_node[of_leaf]]
    order = of_leaf[np.argsort(leaf, kind="stable")]
    counts = np.bincount(leaf, minlength=len(leaves))
    return Forest(
        records.reshape(-1).astype(key_type(nodes.value.dtype.name)),
        np.append(nodes.roots, end).astype(np.int32) * np.int32(RECORD),
        np.append(depths, 0).astype(np.int32),
        np.concatenate([[0], np.cumsum(counts), [len(order)]]).astype(np.int32),
        nodes.weight_target[order].astype(np.int32),
        nodes.weight[order],
        used,
        features,
    )


def _records(nodes: Nodes, features: int) -> tuple[Array, Array]:
    """[nodes, RECORD] with sets as searches behind the nodes, and how many more steps than one each node takes."""
    limits = np.iinfo(key_type(nodes.value.dtype.name))
    mode, nan = nodes.mode, np.isnan(nodes.value)
    turned = (mode == GTE) | (mode == GT)
    threshold = order_keys(nodes.value).astype(np.int64) - ((mode == LT) | (mode == GTE))
    threshold[nan] = np.where(turned[nan], limits.max - 1, limits.min)  # a comparison with NaN does not hold
    below = nodes.missing != turned  # NaN goes to the first child
    first, second = np.where(turned, nodes.no, nodes.yes), np.where(turned, nodes.yes, nodes.no)
    feature = nodes.feature + features * below
    records = np.stack([feature, threshold, first * RECORD, second * RECORD], axis=1)
    extra = np.zeros(len(mode), np.int64)
    added: list[list[int]] = []
    for at in np.flatnonzero(mode >= EQ).tolist():
        members = nodes.members[at] if mode[at] == MEMBER else nodes.value[at : at + 1]
        yes, no = int(nodes.yes[at]), int(nodes.no[at])
        missing = bool(nodes.missing[at])
        if mode[at] == NEQ:
            yes, no, missing = no, yes, False
        keys = order_keys(members[~np.isnan(members)])
        if not keys.size:  # no number is in the set: no threshold is below the least
            nowhere = yes if missing else no
            records[at] = [nodes.feature[at] + features * missing, limits.min, nowhere * RECORD, no * RECORD]
            continue
        search = _Search(keys, len(mode), added, int(nodes.feature[at]), features)
        records[at], steps = search.build(yes, no, missing)
        extra[at] = steps - 1
    if added:
        records = np.concatenate([records, np.array(added, np.int64)])
    return records, extra


class _Search:
    """A set of keys as a binary search among the ends of its intervals.

    Its nodes are appended to `added`, which lies behind `base` others.
    """

    def __init__(self, members: Array, base: int, added: list[list[int]], feature: int, features: int) -> None:
        keys = np.unique(members).astype(np.int64)
        starts = keys[np.diff(keys, prepend=np.iinfo(np.int64).min) != 1]
        ends = keys[np.diff(keys, append=np.iinfo(np.int64).max) != 1]
        self.bounds = np.sort(np.concatenate([starts - 1, ends])).tolist()  # outside, inside, outside ...
        self.base, self.added, self.feature, self.features = base, added, feature, features

    def build(self, yes: int, no: int, missing: bool) -> tuple[list[int], int]:
        """The record of the search's first node, and the number of steps. NaN goes to `yes` where it is `missing`."""
        self.children = (no, yes)
        self.nan = 1 if missing else 0  # the interval that NaN goes to
        return self._between(0, len(self.bounds))

    def _between(self, low: int, high: int) -> tuple[list[int], int]:
        """Decides among the intervals low to high, by the bounds between them."""
        middle = (low + high - 1) // 2
        left, steps_left = self._child(low, middle)
        right, steps_right = self._child(middle + 1, high)
        feature = self.feature + (self.features if self.nan <= middle else 0)
        return [feature, self.bounds[middle], left, right], 1 + max(steps_left, steps_right)

    def _child(self, low: int, high: int) -> tuple[int, int]:
        if low == high:
            return self.children[low % 2] * RECORD, 0
        record, steps = self._between(low, high)
        self.added.append(record)
        return (self.base + len(self.added) - 1) * RECORD, steps


def _depths(nodes: Nodes, extra: Array) -> Array:
    """The number of steps to the deepest leaf of each tree. Checks that they are trees; leaves may be shared."""
    inner = nodes.mode != LEAF
    seen = np.zeros(len(nodes.mode), bool)
    depths = np.zeros(len(nodes.roots), np.int64)
    at, tree = nodes.roots, np.arange(len(nodes.roots))
    steps = np.zeros(len(at), np.int64)
    while True:
        branches = inner[at]
        at, tree, steps = at[branches], tree[branches], steps[branches]
        if not at.size:
            return depths
        if seen[at].any() or np.unique(at).size < at.size:
            raise NotSupported("a node with several parents: not a tree")
        seen[at] = True
        steps = steps + 1 + extra[at]
        np.maximum.at(depths, tree, steps)
        at = np.concatenate([nodes.yes[at], nodes.no[at]])
        tree, steps = np.tile(tree, 2), np.tile(steps, 2)


# --- from ONNX's attributes -------------------------------------------------------------------------------------------


def resolve_ids(
    trees: Array, ids: Array, modes: Sequence[str], yes: Array, no: Array, weight_trees: Array, weight_ids: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """From (tree, node) ids of versions 1 and 3 to nodes: (mode, yes, no, roots, weight_node).

    The first node of a tree is its root.
    """
    if not ids.size or any(a.size != ids.size for a in (trees, yes, no)) or len(modes) != ids.size:
        raise NotSupported("attributes of nodes of different lengths, or no nodes")
    numbers = {name: k for k, name in enumerate(MODES[:MEMBER])} | {"LEAF": LEAF}
    unknown = sorted(set(modes) - set(numbers))
    if unknown:
        raise NotSupported(f"the mode {unknown[0]!r}")
    mode = np.array([numbers[m] for m in modes], np.int64)
    tree_names, tree = np.unique(trees, return_inverse=True)
    node_names, node = np.unique(ids, return_inverse=True)
    order = np.argsort(tree * node_names.size + node, kind="stable")
    places = (tree * node_names.size + node)[order]
    if (places[1:] == places[:-1]).any():
        raise NotSupported("two nodes of the same id in one tree")

    def find(wanted_tree: Array, wanted: Array, what: str) -> Array:
        t = np.minimum(np.searchsorted(tree_names, wanted_tree), tree_names.size - 1)
        n = np.minimum(np.searchsorted(node_names, wanted), node_names.size - 1)
        at = np.minimum(np.searchsorted(places, t * node_names.size + n), places.size - 1)
        good = (tree_names[t] == wanted_tree) & (node_names[n] == wanted) & (places[at] == t * node_names.size + n)
        if not good.all():
            raise NotSupported(f"{what} a node that is not there")
        return order[at]

    inner = mode != LEAF
    children = [np.arange(ids.size), np.arange(ids.size)]
    for child, named in zip(children, (yes, no), strict=True):
        child[inner] = find(trees[inner], named[inner], "a child that is")
    roots = np.flatnonzero(np.concatenate([[True], tree[1:] != tree[:-1]]))
    return mode, children[0], children[1], roots, find(weight_trees, weight_ids, "weights of")


def split_sets(mode: Array, values: Array) -> dict[int, Array]:
    """The sets of the BRANCH_MEMBER nodes in order, each ended by a NaN in `values`."""
    at = np.flatnonzero(mode == MEMBER)
    ends = np.flatnonzero(np.isnan(values))
    if ends.size < at.size:
        raise NotSupported(f"{at.size} nodes of the mode BRANCH_MEMBER, but {ends.size} sets")
    starts = np.concatenate([[0], ends + 1])
    return {int(n): values[starts[k] : ends[k]] for k, n in enumerate(at)}
