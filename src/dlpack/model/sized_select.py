"""Operators that select as many elements as the data says: their selection, and how many it has."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from dlpack.model.control import MAX_TRIPS, body_of, is_typed, outside_of, problem_of, static_shape, trips_of
from dlpack.model.sized_moves import flat, moved_range, of_attribute, optional_input, same_size
from dlpack.model.sized_numbers import UNKNOWN, Number, element, minimum, whole
from dlpack.model.sized_work import DOMAIN, Refused, Sizing, ends_early, rule
from dlpack.model.walk import free_names


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


def _trips(s: Sizing, node: NodeProto, going: Number) -> Number:
    """The trips that a Loop makes, unless its condition ends it; `going`: 1 if that holds after the last, else 0."""
    trips = trips_of(node, outside_of(s.model.graph, s.opset))
    asked = s.content(node.input[0])[0] if node.input[0] else whole(UNKNOWN)
    try:
        count = s.bound(node, asked, "trips", going)
    except Refused as e:
        raise Refused(f"{trips.problem}; {str(e).partition('; ')[2]}") from None
    if count.high > MAX_TRIPS:
        raise Refused(trips.problem or f"it runs up to {count.high} times; {MAX_TRIPS} are supported")
    if trips.count is not None:
        count = minimum(count, whole(trips.count))
    return count


@rule("Loop")
def loop(s: Sizing, node: NodeProto) -> None:
    """As many trips as there may be; those that a run does not make leave the states as they are."""
    outside = outside_of(s.model.graph, s.opset)
    body = body_of(node)
    if not is_typed(body):
        raise Refused(problem_of(node, outside) or "the shapes of its body's outputs are not known")
    if any(name in s.sizes for name in (*node.input, *(n for n in free_names(body)))):
        raise Refused("it reads a value whose size only a run knows")
    states = len(body.input) - 2
    last = s.fresh("going")  # whether the condition holds after the last trip
    count = _trips(s, node, element(last, 0, 0, 1))
    made = NodeProto.FromString(node.SerializeToString())
    own = body_of(made)
    made.input[0] = s.constant(count.high)
    taken = {n for inner in own.node for n in (*inner.input, *inner.output)}
    taken |= {v.name for v in (*own.input, *own.output)} | s.names

    def fresh(hint: str) -> str:
        name = f"{node.name or node.output[0]}/{hint}"
        while name in taken:
            name += "_"
        taken.add(name)
        return name

    one, following, done, going = (fresh(hint) for hint in ("one", "number", "trips", "going"))
    flag = len(own.output[0].type.tensor_type.shape.dim)
    own.initializer.append(numpy_helper.from_array(np.ones([1], np.int64), one))
    # The trips made so far are a state of [1]: where a loop has ended, states stay as they are.
    own.input.append(helper.make_tensor_value_info(done, TensorProto.INT64, [1]))
    own.output.insert(1 + states, helper.make_tensor_value_info(following, TensorProto.INT64, [1]))
    own.node.append(helper.make_node("Add", [done, one], [following]))
    if not count.known:
        limit, more, shape, met = (fresh(hint) for hint in ("limit", "more", "shape", "met"))
        outer = s.scalar(count)
        own.node.append(helper.make_node("Identity", [outer], [limit]))
        own.node.append(helper.make_node("Less", [following, limit], [more]))
        own.initializer.append(numpy_helper.from_array(np.ones([flag], np.int64), shape))
        own.node.append(helper.make_node("Reshape", [more, shape], [met]))
        own.node.append(helper.make_node("And", [met, own.output[0].name], [going]))
        own.output[0].name = going
        entered = s.emit("Less", [s.constant([0]), outer], [1], TensorProto.BOOL)
        if node.input[1]:
            given = s.emit("Reshape", [node.input[1], s.constant([1])], [1], TensorProto.BOOL)
            entered = s.emit("And", [entered, given], [1])
        made.input[1] = s.emit("Reshape", [entered, s.constant([1] * flag)], [1] * flag, TensorProto.BOOL)
    made.input.append(s.constant([0]))
    trips_made = s.fresh("trips")
    outputs = [*node.output, *[""] * (len(body.output) - 1 - len(node.output))]
    added = [trips_made]
    if ends_early(node, s.maxima):
        _keep_condition(s, made, own, states, last, fresh)
        added.append(last)
    made.output[:] = [*outputs[:states], *added, *outputs[states:]]
    s.nodes.append(made)
    size = element(trips_made, 0, 0, count.high)
    s.types[trips_made] = (TensorProto.INT64, (1,))
    for k, (name, value) in enumerate(zip(outputs, body.output[1:], strict=True)):
        shape_ = static_shape(value.type) or ()
        if k < states and shape_ != static_shape(body.input[2 + k].type):
            raise Refused(problem_of(node, outside) or "the shape of a state changes from trip to trip")
        if name:
            s.types[name] = (value.type.tensor_type.elem_type, shape_ if k < states else (count.high, *shape_))
            s.give({name: {} if k < states else {0: size}})


def _keep_condition(
    s: Sizing, made: NodeProto, own: GraphProto, states: int, last: str, fresh: Callable[[str], str]
) -> None:
    """Adds a state to a loop and its body: whether the body's own condition held after the last trip, bool[1]."""
    before, after, shape = (fresh(hint) for hint in ("before", "after", "one_flag"))
    own.initializer.append(numpy_helper.from_array(np.ones([1], np.int64), shape))
    own.input.append(helper.make_tensor_value_info(before, TensorProto.BOOL, [1]))
    own.output.insert(2 + states, helper.make_tensor_value_info(after, TensorProto.BOOL, [1]))
    own.node.append(helper.make_node("Reshape", [body_of(s.node).output[0].name, shape], [after]))
    held = s.constant([True], np.bool_)
    if s.node.input[1]:
        held = s.emit("Reshape", [s.node.input[1], s.constant([1])], [1], TensorProto.BOOL)
    made.input.append(held)
    s.types[last] = (TensorProto.BOOL, (1,))


@rule("Scan", "SequenceMap", "ImageDecoder", "StringSplit")
def control(s: Sizing, node: NodeProto) -> None:
    reason = ""
    if node.op_type == "Scan":
        reason = problem_of(node, outside_of(s.model.graph, s.opset))
    elif node.op_type == "ImageDecoder":
        reason = "pictures that come at run time are not decoded; make an input of its output, and give it the pixels"
    raise Refused(reason or "the shape of its output depends on the data")
