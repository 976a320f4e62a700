"""Core ML's models of tables: trees, generalised linear models, and what pipelines put before them → ONNX.

Core ML computes these in double; here in float32, as all such models are exported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import Array, NotConverted, OnnxBuilder
from dlpack.exporters.coreml.features import labels_of
from dlpack.exporters.coreml.files import Message
from dlpack.exporters.forest import GT, GTE, LEQ, LT, MAX_NODES, Tree, below, check_trees, ensemble_attributes
from dlpack.exporters.layers import reshape

_LEAF = 6


def columns(g: OnnxBuilder, values: Sequence[str]) -> str:
    """Features side by side as float32 [1, columns]."""
    rows = []
    for value in values:
        x = g.op("Cast", value, to=1) if g.dtype(value) != np.float32 else value
        rows.append(reshape(g, x, (1, math.prod(g.shape(x)))))
    return str(g.op("Concat", *rows, axis=1)) if len(rows) > 1 else rows[0]


# --- trees ------------------------------------------------------------------------------------------------------------


def trees(message: Message) -> tuple[list[Tree], Array]:
    """TreeEnsembleParameters: the trees, and what is added to their sums for each target."""
    targets, base = message.whole(2) or 1, message.numbers(3, "<f8")
    if base.size not in (0, targets):
        raise ModelError(f"it has {base.size} base values for {targets} sums")
    groups: dict[int, list[Message]] = {}
    nodes = message.messages(1)
    if len(nodes) > MAX_NODES:
        raise ModelError(f"it has {len(nodes):,} nodes")
    for node in nodes:
        groups.setdefault(node.whole(1), []).append(node)
    found = [_tree(number, group) for number, group in groups.items()]
    return found, base if base.size else np.zeros(targets)


def _tree(number: int, nodes: list[Message]) -> Tree:
    """One tree; its root, the only node that is nobody's child, becomes node 0."""
    by_id = {node.whole(2): node for node in nodes}
    inner = [n for n in nodes if n.whole(3) != _LEAF]
    children = {child for n in inner for child in (n.whole(12), n.whole(13))}
    roots = [k for k in by_id if k not in children]
    if len(roots) != 1 or len(by_id) != len(nodes) or not children <= set(by_id):
        raise ModelError(f"tree {number} is no tree: it has {len(roots)} roots, or a child that is not there")
    order = [roots[0], *(k for k in by_id if k != roots[0])]
    place = {k: i for i, k in enumerate(order)}
    tree = Tree()
    for k in order:
        node = by_id[k]
        if node.whole(3) == _LEAF:
            leaf = tree.add()
            tree.leaf[leaf] = [(e.whole(1), e.number(2, dtype="<f8")) for e in node.messages(20)]
            continue
        mode, threshold = _test(node.whole(3), node.number(11, dtype="<f8"))
        yes, no = place[node.whole(12)], place[node.whole(13)]
        tree.add(mode, node.whole(10), threshold, yes, no, bool(node.whole(14)))
    return tree


def _test(behaviour: int, threshold: float) -> tuple[int, float]:
    """The comparison and a threshold in float32 that give for each float32 what the double threshold gives."""
    low = below(threshold)
    if behaviour in (LEQ, GT) or low == threshold:
        return behaviour, low
    if behaviour in (LT, GTE):  # no float32 lies between
        return (LEQ if behaviour == LT else GT), low
    if behaviour > GT + 2:
        raise NotConverted(f"the test {behaviour} of a tree")
    return behaviour, threshold


def forest(g: OnnxBuilder, message: Message, x: str) -> str:
    """The sums of a TreeEnsembleParameters, [1, targets]."""
    grown, base = trees(message)
    width = g.shape(x)[1]
    check_trees(grown, width, base.size)
    constant = base.astype(np.float64).copy()
    split = []
    for tree in grown:
        if tree.yes[0] >= 0:
            split.append(tree)
            continue
        for target, value in tree.leaf.get(0, ()):
            constant[target] += value
    if not split:
        return g.constant(constant.astype(np.float32)[None])
    types = [(np.float32, (1, base.size))]
    y = g.op("TreeEnsemble", x, domain="ai.onnx.ml", types=types, **ensemble_attributes(split, base.size))
    return str(g.op("Add", y, g.constant(constant.astype(np.float32)))) if constant.any() else str(y)


def tree_regressor(g: OnnxBuilder, message: Message, x: str) -> str:
    y = forest(g, message.message(1), x)
    link = message.whole(2)
    if link not in (0, 2):
        raise NotConverted(f"the transform {link} of a regressor")
    return str(g.op("Sigmoid", y)) if link == 2 else y


def tree_classifier(g: OnnxBuilder, message: Message, x: str) -> str:
    """The classes' probabilities, [1, classes]."""
    y, link, count = forest(g, message.message(1), x), message.whole(2), len(labels_of(message))
    sums = g.shape(y)[1]
    if link == 2:
        y = str(g.op("Sigmoid", y))
    if link == 3:
        y = str(g.op("Concat", g.filled((1, 1), 0.0), y, axis=1))
    if link in (1, 3) and not (link == 1 and sums == 1):
        return _checked(g, str(g.op("Softmax", y, axis=1)), count)
    if link == 1:  # of one score: the other class has 0
        return _both(g, str(g.op("Sigmoid", y)), count)
    if sums == 1:
        return _both(g, y, count)
    # without a transform each tree may add up to 1, so that the sums are the votes of the trees
    return _checked(g, str(g.op("Div", y, g.op("ReduceSum", y, g.ints([1]), keepdims=1))), count)


def _both(g: OnnxBuilder, yes: str, count: int) -> str:
    """The probabilities of two classes from the second's."""
    return _checked(g, str(g.op("Concat", g.op("Sub", g.scalar(1.0), yes), yes, axis=1)), count)


def _checked(g: OnnxBuilder, y: str, count: int) -> str:
    if g.shape(y)[1] != count:
        raise ModelError(f"it has {count} classes, and {g.shape(y)[1]} scores")
    return y


# --- generalised linear models ----------------------------------------------------------------------------------------


def _linear(g: OnnxBuilder, message: Message, x: str) -> str:
    """x @ weights + offset, [1, rows of weights]."""
    rows = [m.numbers(1, "<f8") for m in message.messages(1)]
    offset, width = message.numbers(2, "<f8"), g.shape(x)[1]
    if not rows or any(r.size != width for r in rows) or offset.size not in (0, len(rows)):
        raise ModelError(f"its weights {[r.size for r in rows][:8]} do not fit {width} columns, or its offsets these")
    y = str(g.op("MatMul", x, g.constant(np.stack(rows).astype(np.float32).T)))
    return str(g.op("Add", y, g.constant(offset.astype(np.float32)))) if offset.any() else y


def _linked(g: OnnxBuilder, y: str, probit: bool) -> str:
    if not probit:
        return str(g.op("Sigmoid", y))
    inner = g.op("Erf", g.op("Mul", y, g.scalar(math.sqrt(0.5))))
    return str(g.op("Mul", g.op("Add", inner, g.scalar(1.0)), g.scalar(0.5)))


def glm_regressor(g: OnnxBuilder, message: Message, x: str) -> str:
    y, link = _linear(g, message, x), message.whole(3)
    if link > 2:
        raise NotConverted(f"the transform {link}")
    return _linked(g, y, link == 2) if link else y


def glm_classifier(g: OnnxBuilder, message: Message, x: str) -> str:
    """The classes' probabilities: by a reference class, the first, or of each class against the rest."""
    y, count, probit = _linear(g, message, x), len(labels_of(message)), message.whole(3) == 1
    rows = g.shape(y)[1]
    if rows == 1:
        return _both(g, _linked(g, y, probit), count)
    if message.whole(4) == 1:
        each = _linked(g, y, probit)
        return _checked(g, str(g.op("Div", each, g.op("ReduceSum", each, g.ints([1]), keepdims=1))), count)
    if probit:
        raise NotConverted("probit with a reference class of several")
    return _checked(g, str(g.op("Softmax", g.op("Concat", g.filled((1, 1), 0.0), y, axis=1), axis=1)), count)


# --- what stands before them in a pipeline ----------------------------------------------------------------------------


def scaler(g: OnnxBuilder, message: Message, x: str) -> str:
    """(x + shift) * scale."""
    y, width = x, g.shape(x)[1]
    for field, kind in ((1, "Add"), (2, "Mul")):
        values = message.numbers(field, "<f8")
        if values.size not in (0, 1, width):
            raise ModelError(f"it has {values.size} values for {width} columns")
        y = str(g.op(kind, y, g.constant(values.astype(np.float32)))) if values.size else y
    return y


def imputer(g: OnnxBuilder, message: Message, x: str) -> str:
    """What is put in the place of missing values: NaN, or a number that stands for them."""
    if 1 in message:
        fill = np.array([message.number(1, dtype="<f8")])
    elif 2 in message:
        fill = np.array(message.wholes(2)[-1:], np.float64)
    elif 4 in message:
        fill = message.message(4).numbers(1, "<f8")
    elif 5 in message:
        fill = np.array(message.message(5).wholes(1), np.float64)
    else:
        raise NotConverted("an imputer of texts or dictionaries")
    if fill.size not in (1, g.shape(x)[1]):
        raise ModelError(f"it has {fill.size} values for {g.shape(x)[1]} columns")
    old = message.number(11, dtype="<f8") if 11 in message else math.nan
    if 12 in message:
        old = float(message.wholes(12)[-1])
    missing = g.op("IsNaN", x) if math.isnan(old) else g.op("Equal", x, g.scalar(old))
    return str(g.op("Where", missing, g.constant(fill.astype(np.float32)), x))


def normalizer(g: OnnxBuilder, message: Message, x: str) -> str:
    """Each row divided by its norm; a row of zeros stays."""
    kind = message.whole(1)
    if kind > 2:
        raise NotConverted(f"the norm {kind}")
    size = ("ReduceMax", "ReduceL1", "ReduceL2")[kind]
    norm = g.op(size, g.op("Abs", x) if kind == 0 else x, axes=[1], keepdims=1)
    zero = g.op("Equal", norm, g.scalar(0.0))
    return str(g.op("Div", x, g.op("Where", zero, g.scalar(1.0), norm)))


def one_hot(g: OnnxBuilder, message: Message, x: str) -> str:
    """A number among categories; an unknown one gives zeros."""
    categories = message.message(2).wholes(1)
    if not categories:
        raise NotConverted("a one-hot encoder of texts")
    if g.shape(x) != (1, 1):
        raise ModelError(f"it takes one number, not {list(g.shape(x))}")
    if any(abs(v) > 1 << 24 for v in categories):
        raise NotConverted("a category that float32 cannot hold")
    return str(g.op("Cast", g.op("Equal", x, g.constant(np.array([categories], np.float32))), to=1))


def extractor(g: OnnxBuilder, message: Message, x: str) -> str:
    index = message.wholes(1)
    if not index or any(not 0 <= k < g.shape(x)[1] for k in index):
        raise ModelError(f"it takes the columns {index[:8]} of {g.shape(x)[1]}")
    return str(g.op("Gather", x, g.ints(index), axis=1))


def same(g: OnnxBuilder, message: Message, x: str) -> str:
    del g, message
    return x


MODELS: dict[int, Callable[[OnnxBuilder, Message, str], str]] = {
    300: glm_regressor, 302: tree_regressor, 400: glm_classifier, 402: tree_classifier, 600: one_hot, 601: imputer,
    602: same, 604: scaler, 607: normalizer, 609: extractor, 900: same,
}  # fmt: skip
"""The kinds of models of tables, by their fields of Model → what they compute of float32 [1, columns]."""
