"""Positions that a decoder's export counts from the slots of its past, made those of its tokens.

Many exports compare slots to know which tokens a row may see: `slot of the key > slot of the query - window`. With a
past without gaps a slot is a position; in a bundle's cache, whose new rows lie behind empty slots, it is not. Here the
slots' numbers, found by their values in two runs, become positions counted from the attention mask, wherever they are
compared or calculated with; where they look something up in the past they stay slots. Older exports cut the rows and
columns of these slots out of a constant table, which says for all positions who sees whom; there rows and columns of
the positions take their place. See decision 39.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, ValueInfoProto, numpy_helper
from onnx.helper import np_dtype_to_tensor_dtype, tensor_dtype_to_np_dtype

from dlpack.graph.ir import Array
from dlpack.meaning.generation import Generation
from dlpack.model.contrib_node import Call
from dlpack.model.past_group import Slots
from dlpack.model.walk import opset_versions, reads

_TRIED = ((7, 3), (11, 2))
"""Slots of the past and new rows of the two runs."""

_COMPARED = frozenset(
    ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "Add", "Sub", "Mul", "Div", "Neg", "Abs", "Cast",
     "Min", "Max", "Where")
)  # fmt: skip
"""What may be made of a key's position; other readers take the slot's number."""

_KEYS, _ROWS, _TABLE = "keys", "rows", "table"
_CUT = frozenset(("Cast", "Gather", "Identity", "Slice"))
"""What cuts the rows and columns of slots out of a table."""

Run = Callable[[ModelProto], Callable[[Mapping[str, Array]], Sequence[Array]]]
"""Makes what runs a model: of its inputs by name all outputs."""


@dataclass(frozen=True)
class _Counted:
    """What a value numbers, along which axis; its rank and ONNX type. `table`: what it is cut out of, a constant that
    knows positions up to `last`."""

    kind: str
    axis: int
    rank: int
    elem: int
    table: str = ""
    last: int = 0


def in_positions(model: ModelProto, generation: Generation, run: Run) -> ModelProto | None:
    """The export with positions in place of numbers of slots; None where it counts none, or is older than opset 13.

    `run` makes what computes a model. Whether the result is right for slots with gaps is for `check_slots` to find out.
    """
    opset = opset_versions(model).get("", 0)
    counted = _counted(model, generation, run) if opset >= 13 else {}
    if not counted:
        return None
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    taken = {name for n in graph.node for name in (n.name, *n.input, *n.output)}
    taken.update(v.name for v in (*graph.input, *graph.initializer))
    call = Call(NodeProto(name="positions"), {}, {}, opset, taken)
    slots = Slots(call, generation)
    nodes, after = call.nodes, call.nodes[:]
    readers = [(node, name) for node in graph.node for name in counted.keys() & reads(node)]
    replaced: dict[str, str] = {}
    for node, name in readers:
        kind = counted[name].kind
        carried = any(output in counted and counted[output].kind == kind for output in node.output)
        if carried or node.op_type == "Shape" or (kind == _KEYS and node.op_type not in _COMPARED):
            continue
        if name not in replaced:
            del nodes[:]
            replaced[name] = _position(call, slots, name, counted[name])
            _insert(graph, name, nodes)
        node.input[:] = [replaced[name] if i == name else i for i in node.input]
    if not replaced:
        return None
    for k, node in enumerate(after):
        graph.node.insert(k, node)
    graph.initializer.extend(call.weights)
    return result


def _insert(graph: Any, value: str, nodes: list[NodeProto]) -> None:
    """Puts nodes behind the one that makes `value`."""
    at = next(k for k, node in enumerate(graph.node) if value in node.output) + 1
    for k, node in enumerate(nodes):
        graph.node.insert(at + k, node)


def _position(call: Call, slots: Slots, name: str, counted: _Counted) -> str:
    """The value `name` with positions along its axis, of its shape and type."""
    elem = counted.elem
    if counted.kind == _TABLE:
        last = call.array(counted.last, np.int64)  # slots behind it have no token
        found = call.add("Gather", counted.table, call.reshape(slots.rows, -1), axis=counted.rank - 2)
        keys = call.add("Min", call.reshape(slots.keys, -1), last)
        found = call.add("Gather", found, keys, axis=counted.rank - 1)
        return call.add("Cast", found, to=elem)
    dims = [1] * counted.rank
    dims[counted.axis] = -1
    found = call.reshape(slots.keys if counted.kind == _KEYS else slots.rows, *dims)
    if counted.kind == _KEYS:  # it may begin elsewhere than at 0
        first = call.slice(name, counted.axis, 0, 1)
        found = call.add("Add", call.add("Cast", first, to=7), found)
    else:
        found = call.add("Expand", found, call.add("Shape", name))
    return found if elem == 7 else call.add("Cast", found, to=elem)


def _counted(model: ModelProto, generation: Generation, run: Run) -> dict[str, _Counted]:
    """The values that number slots."""
    names, tables = list(_static(model)), _tables(model)
    tell = run(_telling(model, names))
    found = []
    for slots, rows in _TRIED:
        values = tell(_ones(model, generation, slots, rows))
        known = dict(zip(names, values, strict=True))
        found.append({**_cut(known, tables, slots, rows), **_found(known, slots, rows)})
    return {name: found[0][name] for name in names if name in found[0] and found[0][name] == found[1].get(name)}


def _tables(model: ModelProto) -> dict[str, tuple[str, Array]]:
    """The values that are cut out of a constant whose last two sizes are equal: its name, and the constant."""
    square = {
        t.name: numpy_helper.to_array(t)
        for t in (*model.graph.initializer, *_constants(model))
        if len(t.dims) > 1 and t.dims[-1] == t.dims[-2] >= max(map(sum, _TRIED))
    }
    found = {name: (name, value) for name, value in square.items()}
    for node in model.graph.node:
        if node.op_type in _CUT and node.domain == "" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return {name: known for name, known in found.items() if name not in square}


def _constants(model: ModelProto) -> Iterator[Any]:
    """The tensors of the graph's Constant nodes, each with the name of its value."""
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                tensor = type(attribute.t)()
                tensor.CopyFrom(attribute.t)
                tensor.name = node.output[0]
                yield tensor


def _cut(
    values: Mapping[str, Array], tables: Mapping[str, tuple[str, Array]], slots: int, rows: int
) -> dict[str, _Counted]:
    """Those of the values of a run that are the rows and columns of its slots in a table."""
    found: dict[str, _Counted] = {}
    for name, (table, whole) in tables.items():
        value = values.get(name)
        part = whole[..., slots : slots + rows, : slots + rows]
        if value is not None and value.shape == part.shape and (value == part).all():
            elem = np_dtype_to_tensor_dtype(value.dtype)
            found[name] = _Counted(_TABLE, -1, value.ndim, elem, table, whole.shape[-1] - 1)
    return found


def _found(values: Mapping[str, Array], slots: int, rows: int) -> dict[str, _Counted]:
    """Those of the values of a run that number its slots."""
    found: dict[str, _Counted] = {}
    for name, value in values.items():
        if value.dtype.kind not in "if":
            continue
        for axis, extent in enumerate(value.shape):
            lines = np.moveaxis(value, axis, -1).reshape(-1, extent)
            if not value.size or (lines != lines[:1]).any():
                continue
            elem = np_dtype_to_tensor_dtype(value.dtype)
            if extent == rows and np.array_equal(lines[0], slots + np.arange(rows)):
                found[name] = _Counted(_ROWS, axis, value.ndim, elem)
            elif extent == slots + rows and np.array_equal(lines[0] - lines[0, 0], np.arange(extent)):
                found[name] = _Counted(_KEYS, axis, value.ndim, elem)
    return found


def _telling(model: ModelProto, names: Sequence[str]) -> ModelProto:
    """The model with these values as its outputs."""
    probe = ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(ValueInfoProto(name=name) for name in names)
    return probe


def _ones(model: ModelProto, generation: Generation, slots: int, rows: int) -> dict[str, Array]:
    """Inputs for so many new rows after so many slots."""
    shapes = generation.shapes(rows, slots, generation.heard_by(len(generation.lengths) - 1))
    types = {v.name: tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type) for v in model.graph.input}
    return {name: np.ones(shape, types[name]) for name, shape in shapes.items()}


def _static(model: ModelProto) -> Iterator[str]:
    """The values of the graph that depend on the shapes of its inputs alone, but for constants."""
    known: Mapping[str, bool] = {t.name: False for t in model.graph.initializer}
    depends = dict(known)
    for node in model.graph.node:
        sources = reads(node)
        shape = node.op_type == "Shape" and node.domain == ""
        if shape or all(name in depends for name in sources):
            moves = shape or any(depends[name] for name in sources)
            depends.update((name, moves) for name in node.output if name)
            if moves:
                yield from filter(None, node.output)
