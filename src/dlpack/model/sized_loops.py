"""Loop and Scan where only a run knows the trips, or sizes within a body (`sized.py`).

A body with such sizes is written as a model is: with the largest shapes, in which its states and slices have to be
static. What exceeds a stated maximum in a trip is a further state of the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from dlpack.model.control import (
    LARGEST,
    MAX_TRIPS,
    body_of,
    ints,
    is_typed,
    outside_of,
    problem_of,
    scan_parts,
    static_shape,
    trips_of,
)
from dlpack.model.fold import fresh_name, set_items
from dlpack.model.infer import infer_types
from dlpack.model.sized_numbers import UNKNOWN, Number, element, minimum, whole
from dlpack.model.sized_work import DOMAIN, Refused, Sizing, Type, ends_early, is_limited, rule
from dlpack.model.walk import free_names


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


@dataclass
class _Body:
    """A body that is written: its graph, and what to add to a loop for it.

    `before` and `after` name a state of the body, bool[1]: whether a trip exceeded a stated maximum; "" if none can.
    """

    graph: GraphProto
    before: str = ""
    after: str = ""


def _written(s: Sizing, node: NodeProto, given: Sequence[Type], states: range, trips: int = 0) -> _Body | None:
    """The body with the largest shapes. None where a problem is told.

    `given`: the types of its inputs; `states`: those of its inputs that are states, which keep the size that they have
    outside; `trips`: how many a Loop makes at most.
    """
    graph = GraphProto.FromString(body_of(node).SerializeToString())
    outside = node.input[len(node.input) - len(given) :]
    plain = s.sizes.keys().isdisjoint((*outside, *free_names(graph)))
    plain = plain and not any(is_limited(n, s.maxima) for n in graph.node)
    if is_typed(graph) and plain:
        return _Body(graph)
    for value, kind in zip(graph.input, given, strict=True):
        value.CopyFrom(helper.make_tensor_value_info(value.name, *kind))
    for index, inner in enumerate(graph.node):
        inner.name = inner.name or f"{node.name}/{inner.op_type}_{index}"
    sized = {graph.input[k].name: s.sizes[outside[k]] for k in states if outside[k] in s.sizes}
    work = _inside(s, graph, sized)
    if trips:
        work.numbers[graph.input[0].name] = [element(graph.input[0].name, 0, 0, trips - 1)]
    for inner in graph.node:
        work.visit(inner)
    made = _Body(graph)
    if len(work.problems) > 0:
        s.problems += work.problems
        return None
    _check_outputs(work, node, graph, [sized.get(graph.input[k].name, {}) for k in states])
    if work.excesses:
        work.node = NodeProto(output=[graph.output[0].name], name=node.name)
        made.before, made.after = work.fresh("before"), work.fresh("exceeded")
        work.types[made.before] = (TensorProto.BOOL, (1,))
        work.emit("Identity", [work.over(made.before)], [1], output=made.after)
    names: set[str] = set()
    for inner in work.nodes:  # the body's types are inferred again, by onnx: names are unique, our types stated
        inner.name = fresh_name(inner.name, names)
        if inner.domain == DOMAIN:
            for k, name in enumerate(inner.output):
                elem, shape = work.types[name]
                inner.attribute.append(helper.make_attribute(f"elem{k}", elem))
                inner.attribute.append(helper.make_attribute(f"shape{k}", shape, attr_type=AttributeProto.INTS))
    set_items(graph.node, work.nodes)
    graph.initializer.extend(work.made)
    s.names |= work.names
    return made


def _check_outputs(work: Sizing, node: NodeProto, graph: GraphProto, states: Sequence[dict[int, Number]]) -> None:
    """States the types of a body's outputs. Raises Refused unless states have the sizes that they began with, `states`,
    and slices have none."""
    before: list[dict[int, Number]] = [{}] * (node.op_type == "Loop") + list(states)
    for k, value in enumerate(graph.output):
        found, wanted = work.sizes.get(value.name, {}), before[k] if k < len(before) else {}
        if {d: n.key for d, n in found.items()} != {d: n.key for d, n in wanted.items()}:
            raise Refused(
                f"its body gives '{value.name}' of another size in each trip; states and slices have to keep theirs"
            )
        value.type.CopyFrom(helper.make_tensor_type_proto(*work.types[value.name]))


def _inside(s: Sizing, graph: GraphProto, sized: Mapping[str, dict[int, Number]]) -> Sizing:
    """What writes the nodes of a body, which may read all that is known outside. `sized`: sizes of its states."""
    probe = ModelProto(ir_version=s.model.ir_version, graph=graph)
    probe.opset_import.extend(s.model.opset_import)
    seen = ModelProto.FromString(probe.SerializeToString())
    for value in seen.graph.input:
        if value.name in sized:
            value.type.tensor_type.ClearField("shape")
    for name in sorted(free_names(graph)):
        if name in s.constants and s.small(name):
            seen.graph.initializer.append(s.constants[name])
        elif name in s.types:
            elem, shape = s.types[name]
            seen.graph.input.append(helper.make_tensor_value_info(name, elem, None if name in s.sizes else shape))
    work = Sizing(probe, infer_types(seen), s.maxima)
    work.constants = {**s.constants, **work.constants}
    work.types = {**s.types, **work.types}
    for value in graph.input:
        work.types[value.name] = (value.type.tensor_type.elem_type, static_shape(value.type) or ())
    work.sizes, work.numbers, work.cache = {**s.sizes, **sized}, dict(s.numbers), dict(s.cache)
    work.names |= s.names
    work.used, work.limits, work.origins, work.guards = s.used, s.limits, s.origins, s.guards
    return work


def _keep_excess(s: Sizing, body: _Body, made: NodeProto, place: int) -> str:
    """Adds the state of a body that says whether a trip exceeded a stated maximum; gives the loop's output for it.

    `place`: how many states and conditions are before it, among the body's outputs; the body's inputs end with states
    or, of a Scan, have as many before it.
    """
    own, scans = body_of(made), made.op_type == "Scan"
    flag, result = helper.make_tensor_value_info(body.before, TensorProto.BOOL, [1]), s.fresh("exceeded")
    own.output.insert(place, helper.make_tensor_value_info(body.after, TensorProto.BOOL, [1]))
    if scans:
        own.input.insert(place, flag)
        made.input.insert(place, s.constant([False], np.bool_))
    else:
        own.input.append(flag)
        made.input.append(s.constant([False], np.bool_))
    s.types[result] = (TensorProto.BOOL, (1,))
    s.excesses[f"{result}>0"] = (element(result, 0, 0, 1), 0)
    return result


@rule("Scan")
def scan(s: Sizing, node: NodeProto) -> None:
    """Over as many slices as there are; what is in its body may have sizes that only a run knows."""
    outside = outside_of(s.model.graph, s.opset)
    states, slices, results = scan_parts(node, body_of(node))
    if sized := [name for name in node.input[states:] if name in s.sizes]:
        raise Refused(f"it reads '{sized[0]}', {s.told(sized[0])}")
    if s.opset < 9:
        raise Refused(problem_of(node, outside) or "the shapes of its body's outputs are not known")
    given, axes, count = [], ints(node, "scan_input_axes", slices), 0
    for k, name in enumerate(node.input):
        elem, shape = s.types[name]
        if k >= states:
            axis = axes[k - states] % len(shape)
            count, shape = shape[axis], (*shape[:axis], *shape[axis + 1 :])
        given.append((elem, shape))
    body = _written(s, node, given, range(states))
    if body is None:
        s.refused.update(node.output)
        return
    made = NodeProto.FromString(node.SerializeToString())
    body_of(made).CopyFrom(body.graph)
    if problem := problem_of(made, outside):
        raise Refused(problem)
    for k, (name, value) in enumerate(zip(node.output, body.graph.output, strict=True)):
        shape = static_shape(value.type) or ()
        if k >= states:
            axis = ints(node, "scan_output_axes", results)[k - states] % (len(shape) + 1)
            shape = (*shape[:axis], count, *shape[axis:])
        if name:
            s.types[name] = (value.type.tensor_type.elem_type, shape)
            s.give({name: s.sizes.get(node.input[k], {}) if k < states else {}})
    if body.before:
        excess = _keep_excess(s, body, made, states)
        made.output.insert(states, excess)
    s.nodes.append(made)


@rule("Loop")
def loop(s: Sizing, node: NodeProto) -> None:
    """As many trips as there may be; those that a run does not make leave the states as they are."""
    states = len(node.input) - 2
    last = s.fresh("going")  # whether the condition holds after the last trip
    count = _trips(s, node, element(last, 0, 0, 1))
    flags = [(1,) * len(value.type.tensor_type.shape.dim) for value in body_of(node).input[:2]]
    own_types = [(TensorProto.INT64, flags[0]), (TensorProto.BOOL, flags[1])]
    kinds = [*own_types, *(s.types[name] for name in node.input[2:])]
    written = _written(s, node, kinds, range(2, 2 + states), count.high)
    if written is None:
        s.refused.update(node.output)
        return
    body = written.graph
    made = NodeProto.FromString(node.SerializeToString())
    own = body_of(made)
    own.CopyFrom(body)
    made.input[0] = s.constant(count.high)
    made.attribute.append(helper.make_attribute(LARGEST, 1))
    taken = {n for inner in own.node for n in (*inner.input, *inner.output)}
    taken |= {v.name for v in (*own.input, *own.output)} | s.names

    def fresh(hint: str) -> str:
        name = f"{node.name or node.output[0]}/{hint}"
        while name in taken:
            name += "_"
        taken.add(name)
        return name

    one, following, done = (fresh(hint) for hint in ("one", "number", "trips"))
    own.initializer.append(numpy_helper.from_array(np.ones([1], np.int64), one))
    # The trips made so far are a state of [1]: where a loop has ended, states stay as they are.
    own.input.append(helper.make_tensor_value_info(done, TensorProto.INT64, [1]))
    own.output.insert(1 + states, helper.make_tensor_value_info(following, TensorProto.INT64, [1]))
    own.node.append(helper.make_node("Add", [done, one], [following]))
    if not count.known:
        _end_at(s, made, own, s.scalar(count), following, fresh)
    made.input.append(s.constant([0]))
    trips_made = s.fresh("trips")
    outputs = [*node.output, *[""] * (len(body.output) - 1 - len(node.output))]
    added = [trips_made]
    if ends_early(node, s.maxima):
        _keep_condition(s, made, own, states, last, fresh)
        added.append(last)
    if written.before:
        added.append(_keep_excess(s, written, made, 1 + states + len(added)))
    made.output[:] = [*outputs[:states], *added, *outputs[states:]]
    s.nodes.append(made)
    size = element(trips_made, 0, 0, count.high)
    s.types[trips_made] = (TensorProto.INT64, (1,))
    for k, (name, value) in enumerate(zip(outputs, body.output[1:], strict=True)):
        shape_ = static_shape(value.type) or ()
        if k < states and shape_ != static_shape(body.input[2 + k].type):
            raise Refused(
                f"its state '{body.input[2 + k].name}' changes its shape from trip to trip; pad it to a fixed one"
            )
        if name:
            s.types[name] = (value.type.tensor_type.elem_type, shape_ if k < states else (count.high, *shape_))
            s.give({name: s.sizes.get(node.input[2 + k], {}) if k < states else {0: size}})


def _end_at(
    s: Sizing, made: NodeProto, own: GraphProto, limit: str, following: str, fresh: Callable[[str], str]
) -> None:
    """Ends a loop before trip `following` + 1 where the limit, int64[1] outside of it, is no larger."""
    most, more, shape, met, going = (fresh(hint) for hint in ("limit", "more", "shape", "met", "going"))
    flag = len(own.output[0].type.tensor_type.shape.dim)
    own.node.append(helper.make_node("Identity", [limit], [most]))
    own.node.append(helper.make_node("Less", [following, most], [more]))
    own.initializer.append(numpy_helper.from_array(np.ones([flag], np.int64), shape))
    own.node.append(helper.make_node("Reshape", [more, shape], [met]))
    own.node.append(helper.make_node("And", [met, own.output[0].name], [going]))
    own.output[0].name = going
    entered = s.emit("Less", [s.constant([0]), limit], [1], TensorProto.BOOL)
    if made.input[1]:
        given = s.emit("Reshape", [made.input[1], s.constant([1])], [1], TensorProto.BOOL)
        entered = s.emit("And", [entered, given], [1])
    made.input[1] = s.emit("Reshape", [entered, s.constant([1] * flag)], [1] * flag, TensorProto.BOOL)


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
