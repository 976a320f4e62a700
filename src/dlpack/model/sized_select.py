"""Operators that select as many elements as the data says: their selection, and how many it has."""

from __future__ import annotations

import math

import numpy as np
from onnx import NodeProto, TensorProto, helper

from dlpack.model.sized_moves import flat, moved_range, of_attribute, optional_input, same_size
from dlpack.model.sized_numbers import Number, element, minimum, whole
from dlpack.model.sized_work import DOMAIN, Refused, Sizing, rule


def _count(s: Sizing, node: NodeProto, high: int, what: str) -> Number:
    """What the node itself counts: `high` at most, or what the user states."""
    name = s.fresh("count")
    return s.bound(node, minimum(element(name, 0, 0, high), whole(high)), what)


def _name(count: Number) -> str:
    """The value that a count of `_count` is."""
    atom = count.terms[0][0]
    while atom.op != "element":
        atom = next(n.terms[0][0] for n in atom.arguments if n.terms)
    return str(atom.arguments[0])


def _kept(s: Sizing, node: NodeProto, holds: str, what: str) -> tuple[str, Number]:
    """The places of a bool vector that hold, in order, and how many they are."""
    most = s.shape(holds)[0]
    if not most:
        return s.constant([]), whole(0)
    count = _count(s, node, most, what)
    places = s.fresh("places")
    outputs = [(places, TensorProto.INT64, [count.high]), (_name(count), TensorProto.INT64, [1])]
    s.raw("Kept", [holds], outputs, DOMAIN, {})
    s.give({places: {0: count}})
    return places, count


@rule("NonZero")
def non_zero(s: Sizing, node: NodeProto) -> None:
    x = node.input[0]
    shape, elem = s.shape(x), s.elem(x)
    if elem != TensorProto.BOOL:
        zero = s.constant(0, helper.tensor_dtype_to_np_dtype(elem))
        equal = s.emit("Equal", [x, zero], shape, TensorProto.BOOL)
        holds = s.emit("Not", [equal], shape)
    else:
        holds = x
    s.give({holds: s.sizes.get(x, {})})
    holds = s.masked(holds, range(len(shape)), False)
    size = math.prod(shape)
    if len(shape) != 1:
        holds = s.emit("Reshape", [holds, s.constant([size])], [size], TensorProto.BOOL)
    places, count = _kept(s, node, holds, "elements that are not zero")
    n, rank = count.high, max(1, len(shape))
    rows = []
    rest = places
    for d in reversed(shape):
        by = s.constant([max(1, d)])
        rows.append(s.emit("Reshape", [s.emit("Mod", [rest, by], [n]), s.constant([1, n])], [1, n]))
        rest = s.emit("Div", [rest, by], [n])
    rows = rows[::-1] or [s.emit("Reshape", [places, s.constant([1, n])], [1, n])]
    s.emit("Concat", rows, [rank, n], TensorProto.INT64, node.output[0], axis=0)
    s.give({node.output[0]: {1: count}})


@rule("Compress")
def compress(s: Sizing, node: NodeProto) -> None:
    x, holds = node.input
    axis = of_attribute(node, "axis", None)
    if axis is None:
        x, axis = flat(s, x), 0
    axis %= len(s.shape(x))
    size, length = s.dims(x)[axis], s.dims(holds)[0]
    holds = s.masked(holds, [0], False)
    holds = s.masked_by(holds, size) if not size.known and size.key != length.key else holds
    if s.shape(holds)[0] > s.shape(x)[axis]:
        holds = moved_range(s, holds, 0, whole(0), whole(s.shape(x)[axis]), 1)
    places, count = _kept(s, node, holds, "elements that it keeps")
    shape = [count.high if d == axis else n for d, n in enumerate(s.shape(x))]
    s.emit("Gather", [x, places], shape, s.elem(x), node.output[0], axis=axis)
    s.give({node.output[0]: {**s.sizes.get(x, {}), axis: count}})


@rule("Unique")
def unique(s: Sizing, node: NodeProto) -> None:
    x = node.input[0]
    axis = of_attribute(node, "axis", None)
    if axis is None:
        x, axis = flat(s, x), 0
    rank = len(s.shape(x))
    axis %= rank
    dims, elem = s.dims(x), s.elem(x)
    most = s.shape(x)[axis]
    order = [axis, *(d for d in range(rank) if d != axis)]
    rows = x
    if order != list(range(rank)):
        rows = s.emit("Transpose", [x], [s.shape(x)[d] for d in order], perm=order)
        s.give({rows: {k: dims[d] for k, d in enumerate(order) if not dims[d].known}})
    rows = s.masked(rows, range(1, rank), 0)
    width = math.prod(s.shape(rows)[1:])
    rows = s.emit("Reshape", [rows, s.constant([most, width])], [most, width])
    count = _count(s, node, most, "different elements")
    n = count.high
    firsts, inverse, times = (s.fresh(hint) for hint in ("firsts", "inverse", "times"))
    outputs = [
        (firsts, TensorProto.INT64, [n]),
        (inverse, TensorProto.INT64, [most]),
        (times, TensorProto.INT64, [n]),
        (_name(count), TensorProto.INT64, [1]),
    ]
    s.raw("Unique", [rows, s.scalar(dims[axis])], outputs, DOMAIN, {"sorted": of_attribute(node, "sorted", 1)})
    names = [*node.output, "", "", ""]
    if names[0]:
        shape = [n if d == axis else m for d, m in enumerate(s.shape(x))]
        s.emit("Gather", [x, firsts], shape, elem, names[0], axis=axis)
        s.give({names[0]: {**s.sizes.get(x, {}), axis: count}})
    for name, source, size in ((names[1], firsts, count), (names[2], inverse, dims[axis]), (names[3], times, count)):
        if name:
            s.emit("Identity", [source], s.shape(source), output=name)
            s.give({name: {0: size}})


@rule("NonMaxSuppression")
def non_max_suppression(s: Sizing, node: NodeProto) -> None:
    boxes, scores = node.input[:2]
    first, second = s.dims(boxes), s.dims(scores)
    if not (first[0].known and second[1].known):
        raise Refused("how many batches or classes there are is known to a run alone")
    size = same_size([(boxes, first[1]), (scores, second[2])], 1)
    pairs, places = first[0].constant * second[1].constant, s.shape(boxes)[1]
    each = minimum(s.content(node.input[2])[0], whole(places)) if optional_input(node, 2) else whole(0)
    most = pairs * max(0, min(each.high, places))
    if not most:
        s.emit("Identity", [s.constant(np.zeros((0, 3)))], [0, 3], output=node.output[0])
        return
    count = _count(s, node, most, "boxes that it selects")
    limits = [node.input[k] if optional_input(node, k) else s.constant(0.0, np.float32) for k in (3, 4)]
    out, alive = node.output[0], s.fresh("alive")
    outputs = [
        (out, TensorProto.INT64, [count.high, 3]),
        (_name(count), TensorProto.INT64, [1]),
        (alive, TensorProto.INT32, [places]),
    ]
    limits = [s.emit("Reshape", [name, s.constant([1])], [1], TensorProto.FLOAT) for name in limits]
    inputs = [boxes, scores, s.scalar(each), *limits, s.scalar(size)]
    attributes = {"center": of_attribute(node, "center_point_box", 0), "all": int(not optional_input(node, 4))}
    s.raw("NonMaxSuppression", inputs, outputs, DOMAIN, attributes)
    s.give({out: {0: count}})


@rule("SequenceMap", "ImageDecoder", "StringSplit")
def control(_: Sizing, node: NodeProto) -> None:
    if node.op_type == "ImageDecoder":
        raise Refused(
            "pictures that come at run time are not decoded; make an input of its output, and give it the pixels"
        )
    raise Refused("the shape of its output depends on the data")
