"""Operators on words, which are integers here: counts of n-grams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dlpack.graph.registry import Builder, Context, NotSupported, rewrite


@rewrite("TfIdfVectorizer")
def tf_idf_vectorizer(ctx: Context, b: Builder) -> None:
    """How often each n-gram of the pool occurs in each row of x, [C] or [N, C] integers, weighted; float32.

    The words of an n-gram may be up to `max_skip_count` words apart, all equally far.
    """
    t, made = ctx.input_type(0), ctx.output_type()
    if ctx.attr("pool_strings"):
        raise NotSupported("TfIdfVectorizer of strings; map the words to integers before the model")
    rows, length = (1, *t.shape)[-2:] if t.shape else (1, 1)
    x = b.add("Reshape", [ctx.node.inputs[0], _ints(b, [rows, length])], (rows, length))
    parts, places = [], []
    for grams, indexes in _pool(ctx):
        size = grams.shape[1]
        for apart in range(1, 2 if size == 1 else 2 + ctx.attr("max_skip_count", 0)):
            starts = length - apart * (size - 1)
            if starts > 0:
                parts.append(_counts(b, x, grams.astype(t.dtype), apart, starts, (rows, length)))
                places.append(indexes)
    width = made.shape[-1]
    if not parts:
        total = b.constant(np.zeros((rows, width), np.float32), "counts")
    else:
        found = np.concatenate(places)
        counts = parts[0] if len(parts) == 1 else b.add("Concat", parts, (rows, len(found)), axis=1)
        spread = np.zeros((len(found), width), np.float32)
        spread[np.arange(len(found)), found] = 1
        total = b.add("MatMul", [counts, b.constant(spread, "places")], (rows, width))
    weights = np.array(ctx.attr("weights", None) or np.ones(width), np.float32)
    if ctx.attr("mode", "TF") == "IDF":
        total = b.add("Min", [total, b.constant(np.ones(1, np.float32), "one")], (rows, width))
    if ctx.attr("mode", "TF") != "TF":
        total = b.add("Mul", [total, b.constant(weights.reshape(1, -1), "weights")], (rows, width))
    b.add("Reshape", [total, _ints(b, made.shape)], made.shape, "float32", ctx.node.outputs[0])


def _pool(ctx: Context) -> list[tuple[Any, Any]]:
    """Of each size that counts: the n-grams [many, size], and their places in the output."""
    words, starts = np.array(ctx.attr("pool_int64s"), np.int64), [*ctx.attr("ngram_counts")]
    indexes, out, first = np.array(ctx.attr("ngram_indexes"), np.int64), [], 0
    for size, (begin, end) in enumerate(zip(starts, [*starts[1:], len(words)], strict=True), 1):
        many = (end - begin) // size
        if many and ctx.attr("min_gram_length") <= size <= ctx.attr("max_gram_length"):
            out.append((words[begin : begin + many * size].reshape(many, size), indexes[first : first + many]))
        first += many
    return out


def _counts(b: Builder, x: str, grams: Any, apart: int, starts: int, shape: tuple[int, int]) -> str:
    """How often each n-gram [many, size] stands in each row with its words `apart`: float32 [rows, many]."""
    rows, many = shape[0], len(grams)
    hits = ""
    for k in range(grams.shape[1]):
        first = k * apart
        part = [_ints(b, [first]), _ints(b, [first + starts]), _ints(b, [1])]  # and as attributes, before opset 10
        word = b.add("Slice", [x, *part], (rows, starts), starts=[first], ends=[first + starts], axes=[1])
        word = b.add("Reshape", [word, _ints(b, [rows, 1, starts])], (rows, 1, starts))
        wanted = b.constant(np.ascontiguousarray(grams[:, k].reshape(1, many, 1)), "words")
        same = b.add("Equal", [word, wanted], (rows, many, starts), "bool")
        hits = b.add("And", [hits, same], (rows, many, starts), "bool") if hits else same
    counted = b.add("Cast", [hits], (rows, many, starts), "float32")
    counted = b.add("ReduceSum", [counted, _ints(b, [2])], (rows, many, 1), axes=[2])
    return b.add("Reshape", [counted, _ints(b, [rows, many])], (rows, many))


def _ints(b: Builder, values: Sequence[int]) -> str:
    return b.constant(np.array(values, np.int64))
