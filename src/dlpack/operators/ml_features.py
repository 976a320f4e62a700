"""Operators of ai.onnx.ml that prepare features: scaling, normalising, imputing, encoding, choosing columns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dlpack.graph.ir import Array
from dlpack.graph.registry import Builder, Context, NotSupported, compute, rewrite
from dlpack.loops.tir import tirx
from dlpack.operators.loops import Local, block, load, nest, sequential, store, when
from dlpack.operators.ml_linear import ML
from dlpack.operators.ml_scores import array, cast, greater, number, reshape, rows_of, where, with_constant


@rewrite("Scaler", domain=ML)
def scaler(ctx: Context, b: Builder) -> None:
    """``(x - offset) * scale``, each one number or one per column; float32 whatever x is."""
    x, out = ctx.node.inputs[0], ctx.node.outputs[0]
    offset, scale = array(ctx, "offset"), array(ctx, "scale")
    if not scale.size or offset.size not in (0, scale.size):
        raise NotSupported(f"{scale.size} scales and {offset.size} offsets")
    if ctx.input_type(0).dtype != "float64":
        x = cast(b, x, "float32")
    if offset.any():
        x = with_constant(b, "Sub", x, _per_column(ctx, offset, "offsets"))
    cast(b, with_constant(b, "Mul", x, _per_column(ctx, scale, "scales")), "float32", out)


def _per_column(ctx: Context, values: Array, what: str) -> Array:
    """One number, or one for each column of input 0."""
    shape = ctx.input_type(0).shape
    if values.size == 1:
        return values.reshape(())
    if len(shape) > 2 or not shape or values.size != shape[-1]:
        raise NotSupported(f"{values.size} {what} for an input of the shape {list(shape)}")
    return values


@rewrite("Normalizer", domain=ML)
def normalizer(ctx: Context, b: Builder) -> None:
    """Each row over its largest value ("MAX"), its sum of magnitudes ("L1") or its length ("L2"), where not zero."""
    rows_of(ctx)  # refuses other shapes
    norm, t = ctx.attr("norm", "MAX"), ctx.output_type()
    if norm not in ("MAX", "L1", "L2"):
        raise NotSupported(f"the norm {norm!r}")
    x = cast(b, ctx.node.inputs[0], "float32")
    axis, one = len(t.shape) - 1, (*t.shape[:-1], 1)
    of = {"MAX": "", "L1": "abs", "L2": "square"}[norm]
    kind = "ReduceMax" if norm == "MAX" else "ReduceSum"
    size = b.add_internal(kind, [x], one, axes=(axis,), keepdims=1, of=of)
    if norm == "L2":
        size = b.add("Sqrt", [size], one)
    zero = b.add("Equal", [size, number(b, 0.0, size)], one, "bool")
    b.add("Div", [x, where(b, zero, number(b, 1.0, size), size)], t.shape, output=ctx.node.outputs[0])


@rewrite("Binarizer", domain=ML)
def binarizer(ctx: Context, b: Builder) -> None:
    """1 where x is above the threshold, else 0, in x's element type."""
    x = ctx.node.inputs[0]
    wide = cast(b, x, "float32") if not ctx.input_type(0).dtype.startswith("float") else x
    cast(b, greater(b, wide, ctx.attr("threshold", 0.0)), ctx.output_type().dtype, ctx.node.outputs[0])


@rewrite("Imputer", domain=ML)
def imputer(ctx: Context, b: Builder) -> None:
    """Another value where x is the one to be replaced, which may be NaN: one for all, or one per column."""
    x, t = ctx.node.inputs[0], ctx.input_type(0)
    whole = not t.dtype.startswith("float")
    suffix, kind = ("int64s", np.int64) if whole else ("floats", np.float32)
    values = array(ctx, f"imputed_value_{suffix}", kind)
    if not values.size:
        raise NotSupported(f"an Imputer of {t.dtype} without imputed_value_{suffix}")
    if len(t.shape) > 2 or not t.shape or values.size != t.shape[-1]:
        values = values[0]
    replaced = ctx.attr("replaced_value_int64" if whole else "replaced_value_float", 0)
    if math.isnan(replaced):
        missing = b.add("IsNaN", [x], t.shape, "bool")
    else:
        missing = b.add("Equal", [x, b.constant(np.asarray(replaced, t.dtype), "replaced")], t.shape, "bool")
    imputed = b.constant(np.asarray(values, t.dtype), "imputed")
    b.add("Where", [missing, imputed, x], t.shape, t.dtype, ctx.node.outputs[0])


@rewrite("OneHotEncoder", domain=ML)
def one_hot_encoder(ctx: Context, b: Builder) -> None:
    """A new last dimension, 1 at the place of x's category. A category that is not listed has only zeros.

    Numbers are taken as whole numbers, rounded towards zero. `zeros` = 0 asks for an error at a foreign category, which
    a predictor does not give.
    """
    categories, t = array(ctx, "cats_int64s", np.int64), ctx.output_type()
    if not categories.size:
        raise NotSupported("categories that are strings")
    x = cast(b, ctx.node.inputs[0], "int64")
    x = reshape(b, x, (*t.shape[:-1], 1))
    hit = b.add("Equal", [x, b.constant(categories, "categories")], t.shape, "bool")
    last = {int(c): k for k, c in enumerate(categories)}
    if len(last) < categories.size:  # of equal categories the last one counts
        counts = np.isin(np.arange(categories.size), list(last.values()))
        hit = b.add("And", [hit, b.constant(counts, "counts")], t.shape, "bool")
    cast(b, hit, "float32", ctx.node.outputs[0])


@rewrite("LabelEncoder", domain=ML)
def label_encoder(ctx: Context, b: Builder) -> None:
    """The value of x's key, or the default, by a search among the sorted keys; from version 4 on NaN may be a key."""
    t, out = ctx.input_type(0), ctx.output_type()
    keys, values = _listed(ctx, "keys", t.dtype), _listed(ctx, "values", out.dtype)
    if not keys.size or keys.size != values.size:
        raise NotSupported(f"{keys.size} keys and {values.size} values that are numbers")
    default = _default(ctx, out.dtype)
    unique, first = np.unique(keys, return_index=True)  # the first of equal keys counts; NaN comes last
    count = int((unique == unique).sum())
    of_nan = values[first[count]] if count < unique.size and ctx.node.opset >= 4 else default
    if not count:
        unique, values, first, count = np.zeros(1, keys.dtype), np.array([default]), np.zeros(1, np.int64), 1
    found = np.array([*values[first[:count]], default, of_nan], out.dtype)
    x = ctx.node.inputs[0]
    sorted_keys = b.constant(unique[:count], "keys")
    place = b.add_internal("SortedSearch", [x, sorted_keys], t.shape, dtype="int64")
    if t.dtype.startswith("float"):
        nan = b.add("IsNaN", [x], t.shape, "bool")
        place = where(b, nan, b.constant(np.array(count + 1), "nan"), place)
    b.add("Gather", [b.constant(found, "values"), place], t.shape, out.dtype, ctx.node.outputs[0], axis=0)


_LISTS = {"float32": "floats", "int64": "int64s"}


def _listed(ctx: Context, what: str, dtype: str) -> Array:
    """The keys or values: a list attribute of that element type, or a tensor."""
    tensor = ctx.attr(f"{what}_tensor")
    if tensor is not None:
        return np.asarray(tensor, dtype).reshape(-1)
    return np.asarray(ctx.attr(f"{what}_{_LISTS.get(dtype, '')}") or [], dtype).reshape(-1)


def _default(ctx: Context, dtype: str) -> float | int:
    """For keys that are not listed; without an attribute 0.0 in place of a float, -1 in place of a whole number."""
    tensor = ctx.attr("default_tensor")
    if tensor is not None and tensor.size:
        return np.asarray(tensor, dtype).reshape(-1)[0].item()  # type: ignore[no-any-return]
    if dtype.startswith("float"):
        return float(ctx.attr("default_float", 0.0))
    return int(ctx.attr("default_int64", -1))


@compute("SortedSearch", domain="dlpack")
def sorted_search(ctx: Context, x: Any, keys: Any) -> list[Any]:
    """The place of each element of x among the sorted keys [K], K where it is none of them: int64 of x's shape."""
    shape, (count,) = ctx.input_type(0).shape, ctx.input_type(1).shape

    def body(ins: Any, outs: Any) -> Any:
        (source, table), (y,) = ins, outs
        low, high = Local("low", "int32"), Local("high", "int32")

        def one(i: list[Any]) -> Any:
            middle = (low[0] + high[0]) // 2
            step = when(load(table, [middle]) < load(source, i), low.set(middle + 1), high.set(middle))
            place = tirx.min(low[0], tirx.const(count - 1, "int32"))
            hit = tirx.EQ(load(table, [place]), load(source, i))
            found = tirx.Select(hit, place, tirx.const(count, "int32")).astype("int64")
            begin = block(low.set(tirx.const(0, "int32")), high.set(tirx.const(count, "int32")))
            return block(begin, tirx.While(low[0] < high[0], step), store(y, i, found))

        return block(low.declare, high.declare, nest(shape, one))

    return sequential([x, keys], [(shape, "int64")], body)


@rewrite("ArrayFeatureExtractor", domain=ML)
def array_feature_extractor(ctx: Context, b: Builder) -> None:
    """Columns of x: the places along the last dimension that y lists; a single dimension becomes one row."""
    x, y = ctx.node.inputs
    shape, out = ctx.input_type(0).shape, ctx.output_type()
    if not shape:
        raise NotSupported("an input without dimensions")
    if len(shape) == 1:
        x = reshape(b, x, (1, *shape))
    constant = ctx.maybe_constant(1)
    if constant is not None:
        y = b.constant(constant.reshape(-1), "columns")
    elif len(b.type_of(y).shape) != 1:
        y = reshape(b, y, (b.type_of(y).size,))
    b.add("Gather", [x, y], out.shape, output=ctx.node.outputs[0], axis=len(out.shape) - 1)


@rewrite("FeatureVectorizer", domain=ML)
def feature_vectorizer(ctx: Context, b: Builder) -> None:
    """The rows of all inputs side by side in float32, each cut or filled up with zeros to its `inputdimensions`."""
    widths, out = ctx.attr("inputdimensions") or [], ctx.output_type()
    if len(widths) != len(ctx.node.inputs):
        raise NotSupported(f"{len(widths)} inputdimensions for {len(ctx.node.inputs)} inputs")
    parts = []
    for k, (name, width) in enumerate(zip(ctx.node.inputs, widths, strict=True)):
        t = ctx.input_type(k)
        rows = 1 if len(t.shape) < 2 else t.shape[0]
        if rows != out.shape[0] or width < 0:
            raise NotSupported(f"input {k} has {rows} rows, where input 0 has {out.shape[0]}")
        have = t.size // rows
        x = cast(b, reshape(b, name, (rows, have)), "float32")
        if have > width:
            ends = [b.constant(np.array([n], np.int64)) for n in (0, width, 1)]
            x = b.add("Slice", [x, *ends], (rows, width))
        parts.append(x)
        if have < width:
            parts.append(b.constant(np.zeros((rows, width - have), np.float32), "zeros"))
    b.add("Concat", parts, out.shape, output=ctx.node.outputs[0], axis=1)
