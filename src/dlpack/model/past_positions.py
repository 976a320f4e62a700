"""Positions that a decoder's export counts from the slots of its past, made those of its tokens.

Many exports compare slots to know which tokens a row may see: `slot of the key > slot of the query - window`. With a
past without gaps a slot is a position; in a bundle's cache, whose new rows lie behind empty slots, it is not. Here the
slots' numbers, found by their values in two runs, become positions counted from the attention mask, wherever they are
compared or calculated with; where they look something up in the past they stay slots. See decision 39.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, ValueInfoProto
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

_KEYS, _ROWS = "keys", "rows"

Run = Callable[[ModelProto], Callable[[Mapping[str, Array]], Sequence[Array]]]
"""Makes what runs a model: of its inputs by name all outputs."""


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
        kind = counted[name][0]
        carried = any(output in counted and counted[output][0] == kind for output in node.output)
        if carried or node.op_type == "Shape" or (kind == _KEYS and node.op_type not in _COMPARED):
            continue
        if name not in replaced:
            del nodes[:]
            replaced[name] = _position(call, slots, name, *counted[name])
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


def _position(call: Call, slots: Slots, name: str, kind: str, axis: int, rank: int, elem: int) -> str:
    """The value `name` with positions along its axis, of its shape and type."""
    dims = [1] * rank
    dims[axis] = -1
    found = call.reshape(slots.keys if kind == _KEYS else slots.rows, *dims)
    if kind == _KEYS:  # it may begin elsewhere than at 0
        first = call.slice(name, axis, 0, 1)
        found = call.add("Add", call.add("Cast", first, to=7), found)
    else:
        found = call.add("Expand", found, call.add("Shape", name))
    return found if elem == 7 else call.add("Cast", found, to=elem)


def _counted(model: ModelProto, generation: Generation, run: Run) -> dict[str, tuple[str, int, int, int]]:
    """The values that number slots: what they number, along which axis, their rank and ONNX element type."""
    names = list(_static(model))
    tell = run(_telling(model, names))
    found = []
    for slots, rows in _TRIED:
        values = tell(_ones(model, generation, slots, rows))
        found.append(_found(dict(zip(names, values, strict=True)), slots, rows))
    return {name: found[0][name] for name in names if name in found[0] and found[0][name] == found[1].get(name)}


def _found(values: Mapping[str, Array], slots: int, rows: int) -> dict[str, tuple[str, int, int, int]]:
    """Those of the values of a run that number its slots."""
    found: dict[str, tuple[str, int, int, int]] = {}
    for name, value in values.items():
        if value.dtype.kind not in "if":
            continue
        for axis, extent in enumerate(value.shape):
            lines = np.moveaxis(value, axis, -1).reshape(-1, extent)
            if not value.size or (lines != lines[:1]).any():
                continue
            elem = np_dtype_to_tensor_dtype(value.dtype)
            if extent == rows and np.array_equal(lines[0], slots + np.arange(rows)):
                found[name] = _ROWS, axis, value.ndim, elem
            elif extent == slots + rows and np.array_equal(lines[0] - lines[0, 0], np.arange(extent)):
                found[name] = _KEYS, axis, value.ndim, elem
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
    shapes = generation.shapes(rows, slots, hears=bool(generation.features))
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
