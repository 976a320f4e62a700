"""Linear models and support vector machines of ai.onnx.ml, as matrix products and pointwise operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlpack.graph.ir import Array
from dlpack.graph.registry import Builder, Context, NotSupported, anchor, compute, rewrite
from dlpack.loops.tir import te, tirx
from dlpack.operators.loops import Local, block, load, loop, sequential, store, when
from dlpack.operators.ml_scores import (
    array,
    class_labels,
    decision,
    greater,
    label,
    largest,
    number,
    product,
    reshape,
    rows_of,
    second_class,
    table,
    transform,
    where,
    with_constant,
)

ML = "ai.onnx.ml"
MAX_COUPLED_CLASSES = 64  # a matrix of so many rows and columns lies on the stack


def matrix(name: str, values: Array, rows: int, columns: int) -> Array:
    """An attribute as a matrix of that many rows and columns."""
    if values.size != rows * columns:
        raise NotSupported(f"{values.size} {name}, where {rows} x {columns} are needed")
    return values.reshape(rows, columns)


@rewrite("LinearRegressor", domain=ML)
def linear_regressor(ctx: Context, b: Builder) -> None:
    """``transform(x @ coefficients + intercepts)``: x [rows, F] → [rows, targets]."""
    targets, features = ctx.attr("targets", 1), rows_of(ctx)[1]
    weight = matrix("coefficients", array(ctx, "coefficients"), targets, features)
    bias = array(ctx, "intercepts")
    kind = ctx.attr("post_transform", "NONE")
    y = product(b, table(ctx, b), weight.T, bias if bias.size == targets else None)
    if targets == 1 and kind != "PROBIT":  # a single score has no other transform
        kind = "NONE"
    transform(b, y, kind, ctx.node.outputs[0])


@rewrite("LinearClassifier", domain=ML)
def linear_classifier(ctx: Context, b: Builder) -> None:
    """The class of the largest of ``x @ coefficients + intercepts``, and the transformed scores [rows, classes].

    With a single score and two labels, a positive score is the second class; the scores are then (1 - score, score), or
    the sigmoids of both.
    """
    labels, bias = class_labels(ctx, "classlabels_ints"), array(ctx, "intercepts")
    if not bias.size:
        raise NotSupported("a classifier without intercepts")
    weight = matrix("coefficients", array(ctx, "coefficients"), bias.size, rows_of(ctx)[1])
    kind, out = ctx.attr("post_transform", "NONE"), ctx.node.outputs[1]
    y = product(b, table(ctx, b), weight.T, bias)
    if bias.size > 1:
        if labels.size < bias.size:
            raise NotSupported(f"{bias.size} scores, but {labels.size} labels")
        label(ctx, b, largest(b, y), labels)
        transform(b, y, kind, out)
        return
    label(ctx, b, decision(b, y, 0.0), labels if labels.size == 2 else np.array([0, 1]))
    if labels.size == 2 and kind != "PROBIT":
        second_class(b, y, "logistic" if kind == "LOGISTIC" else "rest", out)
    elif labels.size != 2:
        transform(b, y, kind if kind == "PROBIT" else "NONE", out)
    else:
        raise NotSupported("the post_transform 'PROBIT' of two classes with one score")


# --- support vector machines ------------------------------------------------------------------------------------------


@anchor("SquaredDistance", domain="dlpack", layout="rows")
def squared_distance(ctx: Context, x: Any, w: Any) -> list[Any]:
    """``sum((x[i] - w[j])**2)``: x [M, K], w [N, K] → [M, N]."""
    (m, n), depth = ctx.output_type().shape, ctx.input_type(0).shape[1]
    k = te.reduce_axis((0, depth), name="k")

    def at(i: Any, j: Any) -> Any:
        difference = x(i, k) - w(j, k)
        return te.sum(difference * difference, axis=k)

    return [te.compute((m, n), at, name="acc")]


def kernel(ctx: Context, b: Builder, x: str, vectors: Array) -> str:
    """The kernel function of each row of x [rows, F] with each support vector [V, F] → [rows, V]."""
    kind = ctx.attr("kernel_type", "LINEAR")
    gamma, offset, degree = [*(ctx.attr("kernel_params") or []), 0.0, 0.0, 0.0][:3]
    shape = (b.type_of(x).shape[0], len(vectors))
    if kind == "RBF":
        distance = b.add_internal("SquaredDistance", [x, b.constant(vectors, "vectors")], shape)
        return b.add("Exp", [with_constant(b, "Mul", distance, -gamma)], shape)
    y = product(b, x, vectors.T)
    if kind == "LINEAR":
        return y
    y = with_constant(b, "Add", with_constant(b, "Mul", y, gamma), offset)
    if kind == "SIGMOID":
        return b.add("Tanh", [y], shape)
    if kind != "POLY":
        raise NotSupported(f"the kernel_type {kind!r}")
    if degree in (2, 3):
        square = b.add("Mul", [y, y], shape)
        return square if degree == 2 else b.add("Mul", [square, y], shape)
    return with_constant(b, "Pow", y, degree)


@rewrite("SVMRegressor", domain=ML)
def svm_regressor(ctx: Context, b: Builder) -> None:
    """``kernel(x, vectors) @ coefficients + rho``, or its sign for a machine of one class: [rows, 1]."""
    count, features = ctx.attr("n_supports", 0), rows_of(ctx)[1]
    weight, rho = array(ctx, "coefficients"), array(ctx, "rho")
    if not rho.size:
        raise NotSupported("a support vector machine without rho")
    x = table(ctx, b)
    if count > 0:
        x = kernel(ctx, b, x, matrix("support_vectors", array(ctx, "support_vectors"), count, features))
    weight = matrix("coefficients", weight, count or features, 1)
    out = ctx.node.outputs[0]
    if not ctx.attr("one_class", 0):
        product(b, x, weight, rho[:1], out)
        return
    y = product(b, x, weight, rho[:1])
    where(b, greater(b, y, 0.0), number(b, 1.0, y), number(b, -1.0, y), out)


@rewrite("SVMClassifier", domain=ML)
def svm_classifier(ctx: Context, b: Builder) -> None:
    """The class with the most votes of the machines for each pair of classes, and scores [rows, S].

    The scores are the classes' probabilities where prob_a and prob_b are given (the sigmoids of the pairs' scores,
    coupled), else the pairs' scores; without support vectors it is a linear model of a score per class.
    """
    labels, features = class_labels(ctx, "classlabels_ints"), rows_of(ctx)[1]
    rho, kind, out = array(ctx, "rho"), ctx.attr("post_transform", "NONE"), ctx.node.outputs[1]
    counts = array(ctx, "vectors_per_class", np.int64)
    if (counts < 0).any() or not counts.any():
        _svm_linear(ctx, b, labels, rho)
        return
    classes, vectors = labels.size, int(counts.sum())
    pairs = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
    if counts.size != classes or rho.size < len(pairs) or classes < 2:
        raise NotSupported(f"{counts.size} vectors_per_class and {rho.size} rho for {classes} classes")
    x = kernel(ctx, b, table(ctx, b), matrix("support_vectors", array(ctx, "support_vectors"), vectors, features))
    weight = _pair_weights(array(ctx, "coefficients"), counts, pairs)
    scores = product(b, x, weight, rho[: len(pairs)])
    label(ctx, b, largest(b, _votes(b, scores, pairs, classes)), labels)
    a, c = array(ctx, "prob_a"), array(ctx, "prob_b")
    if a.size:
        if min(a.size, c.size) < len(pairs):
            raise NotSupported(f"{a.size} prob_a and {c.size} prob_b for {len(pairs)} pairs of classes")
        transform(b, _probabilities(b, scores, a[: len(pairs)], c[: len(pairs)], classes), kind, out)
    elif classes > 2:
        transform(b, scores, kind, out)
    elif kind != "PROBIT":
        second_class(b, scores, {"NONE": "negative", "LOGISTIC": "logistic"}.get(kind, "rest"), out)
    else:
        raise NotSupported("the post_transform 'PROBIT' of two classes with one score")


def _svm_linear(ctx: Context, b: Builder, labels: Array, rho: Array) -> None:
    """A score per class: ``x @ coefficients + rho``."""
    weight = array(ctx, "coefficients")
    if not rho.size:
        raise NotSupported("a support vector machine without rho")
    y = product(b, table(ctx, b), matrix("coefficients", weight, labels.size, rows_of(ctx)[1]).T, rho[:1])
    index = largest(b, y)
    if labels.size == 2 and not ctx.attr("prob_a"):  # the second class too where both scores are high enough
        positive = bool((weight >= 0).all())
        rows = b.type_of(y).shape[0]
        best = b.add_internal("ReduceMax", [y], (rows,), axes=(1,), keepdims=0, of="")
        enough = greater(b, best, 0.5, "GreaterOrEqual") if positive else greater(b, best, 0.0)
        index = where(b, enough, b.constant(np.array(1, np.int64)), index)
    label(ctx, b, index, labels)
    transform(b, y, ctx.attr("post_transform", "NONE"), ctx.node.outputs[1])


def _pair_weights(coefficients: Array, counts: Array, pairs: list[tuple[int, int]]) -> Array:
    """[vectors, pairs]: for the pair (i, j), the vectors of class i have their coefficients in row j - 1, those of j in
    row i of `coefficients` [classes - 1, vectors]; see libsvm's README, "sv_coef"."""
    vectors = int(counts.sum())
    rows = coefficients[: (counts.size - 1) * vectors]
    rows = matrix("coefficients", rows, counts.size - 1, vectors)
    ends = np.cumsum(counts)
    weight = np.zeros((vectors, len(pairs)), np.float32)
    for k, (i, j) in enumerate(pairs):
        of_i, of_j = slice(ends[i] - counts[i], ends[i]), slice(ends[j] - counts[j], ends[j])
        weight[of_i, k] = rows[j - 1, of_i]
        weight[of_j, k] = rows[i, of_j]
    return weight


def _votes(b: Builder, scores: str, pairs: list[tuple[int, int]], classes: int) -> str:
    """How many pairs each class wins: the first of a pair where its score is positive. float32 [rows, classes]"""
    change, otherwise = np.zeros((len(pairs), classes), np.float32), np.zeros(classes, np.float32)
    for k, (i, j) in enumerate(pairs):
        change[k, i], change[k, j] = 1, -1
        otherwise[j] += 1
    won = b.add("Cast", [greater(b, scores, 0.0)], b.type_of(scores).shape, "float32")
    return product(b, won, change, otherwise)


def _probabilities(b: Builder, scores: str, a: Array, c: Array, classes: int) -> str:
    """Platt's probabilities of the pairs, ``sigmoid(-(a score + c))``, coupled to probabilities of the classes."""
    if classes > MAX_COUPLED_CLASSES:
        raise NotSupported(f"probabilities of {classes} classes; up to {MAX_COUPLED_CLASSES} are")
    rows, pairs = b.type_of(scores).shape
    value = with_constant(b, "Sub", with_constant(b, "Mul", scores, -a), c)
    p = b.add("Sigmoid", [value], (rows, pairs))
    low, high = number(b, 1e-7, p), number(b, 1 - 1e-7, p)
    p = b.add("Min", [b.add("Max", [p, low], (rows, pairs)), high], (rows, pairs))
    q = b.add("Sub", [number(b, 1.0, p), p], (rows, pairs))
    both = b.add("Concat", [p, q, b.constant(np.zeros((rows, 1), np.float32))], (rows, 2 * pairs + 1), axis=1)
    place = np.full((classes, classes), 2 * pairs)
    upper = np.triu_indices(classes, 1)
    place[upper] = np.arange(pairs)
    place.T[upper] = pairs + np.arange(pairs)
    flat = b.add("Gather", [both, b.constant(place.reshape(-1))], (rows, classes**2), axis=1)
    return b.add_internal("CoupledProbabilities", [reshape(b, flat, (rows, classes, classes))], (rows, classes))


@compute("CoupledProbabilities", domain="dlpack")
def coupled_probabilities(ctx: Context, pairs: Any) -> list[Any]:
    """Probabilities of classes from those of pairs: r [rows, K, K], r[i, j] = P(i | i or j) → p [rows, K].

    The second method of Wu, Lin and Weng, "Probability Estimates for Multi-class Classification by Pairwise Coupling"
    (2004): minimises ``sum((r[j, i] p[i] - r[i, j] p[j])**2)``, in at most 100 rounds, until it is within 0.005 / K.
    """
    rows, n = ctx.output_type().shape
    one, zero = tirx.const(1.0, "float32"), tirx.const(0.0, "float32")

    def body(ins: Any, outs: Any) -> Any:
        (r,), (y,) = ins, outs
        q, qp = Local("q", "float32", n * n), Local("qp", "float32", n)
        pqp, error, step = Local("pqp", "float32"), Local("error", "float32"), Local("step", "float32")
        rounds = Local("rounds", "int32")

        def row(i: Any) -> Any:
            def matrix_row(t: Any) -> Any:
                def entry(j: Any) -> Any:
                    back, forth = load(r, [i, j, t]), load(r, [i, t, j])
                    add = q.set(q[t * n + t] + back * back, t * n + t)
                    return when(tirx.NE(j, t), block(add, q.set(-back * forth, t * n + j)))

                start = store(y, [i, t], tirx.const(1.0 / n, "float32"))
                return block(start, q.set(zero, t * n + t), loop("j", n, entry))

            def gradient(t: Any) -> Any:
                def entry(j: Any) -> Any:
                    return qp.set(qp[t] + q[t * n + j] * load(y, [i, j]), t)

                return block(qp.set(zero, t), loop("j", n, entry), pqp.set(pqp[0] + load(y, [i, t]) * qp[t]))

            def measure(t: Any) -> Any:
                difference = qp[t] - pqp[0]
                return error.set(tirx.max(error[0], tirx.max(difference, -difference)))

            def improve(t: Any) -> Any:
                square = q[t * n + t]

                def entry(j: Any) -> Any:
                    return block(
                        qp.set((qp[j] + step[0] * q[t * n + j]) / (one + step[0]), j),
                        store(y, [i, j], load(y, [i, j]) / (one + step[0])),
                    )

                return block(
                    step.set((pqp[0] - qp[t]) / square),
                    store(y, [i, t], load(y, [i, t]) + step[0]),
                    pqp.set(
                        (pqp[0] + step[0] * (step[0] * square + tirx.const(2.0, "float32") * qp[t]))
                        / (one + step[0])
                        / (one + step[0])
                    ),
                    loop("j", n, entry),
                )

            close = error[0] < tirx.const(0.005 / n, "float32")
            again = block(loop("t", n, improve), rounds.set(rounds[0] + 1))
            once = block(
                pqp.set(zero),
                loop("t", n, gradient),
                error.set(zero),
                loop("t", n, measure),
                when(close, rounds.set(tirx.const(100, "int32")), again),
            )
            count = rounds.set(tirx.const(0, "int32"))
            return block(loop("t", n, matrix_row), count, tirx.While(rounds[0] < 100, once))

        declared = [local.declare for local in (q, qp, pqp, error, step, rounds)]
        return block(*declared, loop("i", rows, row))

    return sequential([pairs], [((rows, n), "float32")], body)
