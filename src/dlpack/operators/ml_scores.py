"""What the classifiers and regressors of ai.onnx.ml share: their input, the transforms of scores, class labels.

Where ONNX's text leaves open what a score means, these operators do as onnxruntime does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dlpack.graph.ir import Array, TensorType
from dlpack.graph.registry import Builder, Context, NotSupported

TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
"""The post_transforms, in the order of their numbers in TreeEnsemble."""


def array(ctx: Context, name: str, dtype: type = np.float32) -> Array:
    """An attribute that is a list of numbers, empty by default; float attributes have 32 bits."""
    return np.asarray(ctx.attr(name) or [], dtype).reshape(-1)


def rows_of(ctx: Context) -> tuple[int, int]:
    """(rows, features) of input 0: a tensor of one dimension is one row."""
    shape = ctx.input_type(0).shape
    if not 1 <= len(shape) <= 2:
        raise NotSupported(f"an input of {len(shape)} dimensions; a table [rows, features] is needed")
    return (1, shape[0]) if len(shape) == 1 else (shape[0], shape[1])


def table(ctx: Context, b: Builder, dtype: str = "float32") -> str:
    """Input 0 as a table [rows, features] of `dtype`."""
    x, shape = ctx.node.inputs[0], rows_of(ctx)
    if ctx.input_type(0).shape != shape:
        x = reshape(b, x, shape)
    return cast(b, x, dtype)


def reshape(b: Builder, x: str, shape: Sequence[int], output: str | None = None) -> str:
    return b.add("Reshape", [x, b.constant(np.array(shape, np.int64), "shape")], shape, output=output)


def cast(b: Builder, x: str, dtype: str, output: str | None = None) -> str:
    """`x` as `dtype`; itself where it is that, then called `output`."""
    t = b.type_of(x)
    if t.dtype == dtype:
        return x if output is None else named(b, x, output)
    return b.add("Cast", [x], t.shape, dtype, output)


def named(b: Builder, x: str, output: str) -> str:
    """Calls the value `x` `output`: that which one of the builder's nodes computes is renamed, another one copied."""
    if not any(x in node.outputs for node in b.nodes) or x in b.origin.outputs:
        return b.add("Identity", [x], b.type_of(x).shape, output=output)

    def names(values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(output if v == x else v for v in values)

    b.nodes = [replace(n, inputs=names(n.inputs), outputs=names(n.outputs)) for n in b.nodes]
    b.types[output] = b.types.pop(x)
    return output


def number(b: Builder, value: float, like: str) -> str:
    """A constant without dimensions, of the element type of the value `like`."""
    return b.constant(np.asarray(value, b.type_of(like).dtype), "number")


def with_constant(b: Builder, op: str, x: str, value: float | Array, output: str | None = None) -> str:
    """``op(x, value)`` of x's shape and element type."""
    constant = b.constant(np.asarray(value, b.type_of(x).dtype), "factor")
    return b.add(op, [x, constant], b.type_of(x).shape, output=output)


def where(b: Builder, condition: str, yes: str, no: str, output: str | None = None) -> str:
    shape = np.broadcast_shapes(*(b.type_of(v).shape for v in (condition, yes, no)))
    return b.add("Where", [condition, yes, no], shape, b.type_of(yes).dtype, output)


def greater(b: Builder, x: str, limit: float, op: str = "Greater") -> str:
    return b.add(op, [x, number(b, limit, x)], b.type_of(x).shape, "bool")


def product(b: Builder, x: str, w: Array, bias: Array | None = None, output: str | None = None) -> str:
    """``x @ w + bias``: x [rows, K], w [K, N], bias [N] or one number for all."""
    shape = (b.type_of(x).shape[0], w.shape[1])
    y = b.add("MatMul", [x, b.constant(w, "weight")], shape, output=output if bias is None else None)
    return y if bias is None else with_constant(b, "Add", y, bias, output)


def transform(b: Builder, scores: str, kind: str, output: str | None = None) -> str:
    """A post_transform of scores [rows, N]."""
    t = b.type_of(scores)
    if kind == "LOGISTIC":
        return b.add("Sigmoid", [scores], t.shape, output=output)
    if kind == "SOFTMAX":
        return b.add("Softmax", [scores], t.shape, output=output, axis=-1)
    if kind == "SOFTMAX_ZERO":
        return _softmax_zero(b, scores, t, output)
    if kind == "PROBIT":
        return _probit(b, scores, output)
    if kind != "NONE":
        raise NotSupported(f"the post_transform {kind!r}")
    return scores if output is None else named(b, scores, output)


def _softmax_zero(b: Builder, scores: str, t: TensorType, output: str | None) -> str:
    """Softmax over the scores that are not zero (1e-7 and less); the others stay nearly zero: s exp(-largest) / sum."""
    one = (t.shape[0], 1)
    largest = b.add_internal("ReduceMax", [scores], one, axes=(1,), keepdims=1, of="")
    size = b.add("Abs", [scores], t.shape)
    counts = greater(b, size, 1e-7)
    power = b.add("Exp", [b.add("Sub", [scores, largest], t.shape)], t.shape)
    rest = b.add("Mul", [scores, b.add("Exp", [b.add("Neg", [largest], one)], one)], t.shape)
    counted = where(b, counts, power, number(b, 0.0, scores))
    total = b.add_internal("ReduceSum", [counted], one, axes=(1,), keepdims=1, of="")
    return b.add("Div", [where(b, counts, power, rest), total], t.shape, output=output)


def _probit(b: Builder, scores: str, output: str | None) -> str:
    """sqrt(2) erfinv(2 s - 1), with Winitzki's approximation of erfinv (a = 0.147), as onnxruntime computes it."""
    shape = b.type_of(scores).shape
    a = 0.147
    x = with_constant(b, "Sub", with_constant(b, "Mul", scores, 2.0), 1.0)
    one = number(b, 1.0, scores)
    rest = b.add("Mul", [b.add("Sub", [one, x], shape), b.add("Add", [one, x], shape)], shape)
    log = b.add("Log", [rest], shape)
    v = with_constant(b, "Add", with_constant(b, "Mul", log, 0.5), 2 / (3.14159 * a))
    square = b.add("Sub", [b.add("Mul", [v, v], shape), with_constant(b, "Mul", log, 1 / a)], shape)
    root = b.add("Sqrt", [b.add("Sub", [b.add("Sqrt", [square], shape), v], shape)], shape)
    size = with_constant(b, "Mul", root, math.sqrt(2))
    negative = greater(b, x, 0.0, "Less")
    return where(b, negative, b.add("Neg", [size], shape), size, output)


def second_class(b: Builder, score: str, opposite: str, output: str | None = None) -> str:
    """[rows, 2] of the score [rows, 1] of a classifier of two classes: the first class has ``1 - score`` ("rest"), the
    negative score ("negative"), or both have their sigmoid ("logistic")."""
    rows = b.type_of(score).shape[0]
    if opposite == "rest":
        first = b.add("Sub", [number(b, 1.0, score), score], (rows, 1))
    else:
        first = b.add("Neg", [score], (rows, 1))
    y = b.add("Concat", [first, score], (rows, 2), output=None if opposite == "logistic" else output, axis=1)
    return y if opposite != "logistic" else b.add("Sigmoid", [y], (rows, 2), output=output)


def class_labels(ctx: Context, name: str) -> Array:
    """The labels of a classifier, whole numbers. Strings are refused: no value of a predictor can hold them."""
    if ctx.attr("classlabels_strings"):
        raise NotSupported("labels that are strings; give them as numbers (dlpack export does for scikit-learn models)")
    labels = np.asarray(ctx.attr(name) or [], np.int64)
    if not labels.size:
        raise NotSupported("a classifier without labels")
    return labels


def label(ctx: Context, b: Builder, index: str, labels: Array) -> None:
    """Output 0: ``labels[index]``, int64 [rows]; `index` is int64 of as many elements."""
    out, shape = ctx.node.outputs[0], ctx.output_type().shape
    if b.type_of(index).shape != shape:
        index = reshape(b, index, shape)
    if np.array_equal(labels, np.arange(labels.size)):
        named(b, index, out)
    else:
        b.add("Gather", [b.constant(labels, "labels"), index], shape, "int64", out, axis=0)


def largest(b: Builder, scores: str) -> str:
    """The place of the largest of each row [rows, N], the first of equal ones: int64 [rows]."""
    return b.add("ArgMax", [scores], (b.type_of(scores).shape[0],), "int64", axis=1, keepdims=0)


def decision(b: Builder, score: str, limit: float) -> str:
    """1 where a score [rows, 1] is above the limit, else 0: int64 [rows, 1]."""
    return cast(b, greater(b, score, limit), "int64")
