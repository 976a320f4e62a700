"""Operators that move strings, written as the same on bytes (`strings.py`): the bytes are one more dimension."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper

from dlpack.model.infer import to_numpy
from dlpack.model.strings import Refused, Writing, rule

ML = "ai.onnx.ml"


def _axis(s: Writing, default: int, rank: int) -> int:
    axis = s.attrs().get("axis", default)
    if not -rank <= axis < rank:
        raise Refused(f"its axis {axis} is none of {rank} dimensions")
    return int(axis) % rank


def keep(s: Writing, node: NodeProto, inputs: Sequence[str], **attrs: Any) -> None:
    """The node with other inputs and attributes; those that are None go."""
    copy = NodeProto.FromString(node.SerializeToString())
    copy.input[:] = inputs
    kept = [a for a in node.attribute if a.name not in attrs]
    del copy.attribute[:]
    copy.attribute.extend([*kept, *(helper.make_attribute(k, v) for k, v in attrs.items() if v is not None)])
    s.nodes.append(copy)


@rule("Identity", "Dropout")
def same(s: Writing, node: NodeProto) -> None:
    name, text = s.source(0)
    keep(s, node, [name])
    s.give(node.output[0], text.shape, text.width)


def reshaped(s: Writing, name: str, shape: Sequence[int], output: str = "") -> str:
    text = s.text[name]
    made = s.add("Reshape", name, s.array([*shape, text.width], np.int64), output=output)
    return s.give(made, tuple(shape), text.width)


@rule("Reshape")
def reshape(s: Writing, node: NodeProto) -> None:
    name, text = s.source(0)
    wanted = [int(n) for n in (s.value(1, "shape") if len(node.input) > 1 else s.attrs()["shape"])]
    shape = list(wanted)
    if not s.attrs().get("allowzero", 0):
        shape = [text.shape[k] if n == 0 else n for k, n in enumerate(shape)]
    if -1 in shape:
        rest = math.prod(n for n in shape if n != -1)
        shape[shape.index(-1)] = math.prod(text.shape) // max(rest, 1)
    s.add("Reshape", name, s.array([*wanted, text.width], np.int64), output=node.output[0])
    s.give(node.output[0], tuple(shape), text.width)


@rule("Flatten")
def flatten(s: Writing, node: NodeProto) -> None:
    name, text = s.source(0)
    axis = s.attrs().get("axis", 1)
    axis += len(text.shape) if axis < 0 else 0
    reshaped(s, name, [math.prod(text.shape[:axis]), math.prod(text.shape[axis:])], node.output[0])


@rule("Squeeze", "Unsqueeze")
def one_dimension(s: Writing, node: NodeProto) -> None:
    name, text = s.source(0)
    shape, squeeze = list(text.shape), node.op_type == "Squeeze"
    given = s.value(1, "axes").tolist() if len(node.input) > 1 and node.input[1] else s.attrs().get("axes")
    if given is None:
        given = [k for k, n in enumerate(shape) if n == 1]
    rank = len(shape) + (0 if squeeze else len(given))
    axes = sorted(int(a) % rank for a in given)
    for axis in reversed(axes) if squeeze else axes:
        if squeeze:
            shape.pop(axis)
        else:
            shape.insert(axis, 1)
    if any(n == 1 for n in text.shape) or not squeeze:
        reshaped(s, name, shape, node.output[0])
    else:
        s.give(s.add("Identity", name, output=node.output[0]), tuple(shape), text.width)


@rule("Transpose")
def transpose(s: Writing, node: NodeProto) -> None:
    name, text = s.source(0)
    rank = len(text.shape)
    perm = s.attrs().get("perm") or list(range(rank))[::-1]
    keep(s, node, [name], perm=[*perm, rank])
    s.give(node.output[0], tuple(text.shape[p] for p in perm), text.width)


@rule("Gather")
def gather(s: Writing, node: NodeProto) -> None:
    name, text = s.source(0)
    axis = _axis(s, 0, len(text.shape))
    keep(s, node, [name, node.input[1]], axis=axis)
    shape = (*text.shape[:axis], *s.shape(node.input[1]), *text.shape[axis + 1 :])
    s.give(node.output[0], shape, text.width)


@rule("GatherND")
def gather_nd(s: Writing, node: NodeProto) -> None:
    name, text = s.source(0)
    *lead, depth = s.shape(node.input[1])
    keep(s, node, [name, node.input[1]])
    s.give(node.output[0], (*lead, *text.shape[s.attrs().get("batch_dims", 0) + depth :]), text.width)


@rule("ArrayFeatureExtractor", domain=ML)
def columns(s: Writing, node: NodeProto) -> None:
    name, text = s.source(0)
    if len(text.shape) == 1:
        name = reshaped(s, name, [1, *text.shape])
    *lead, _ = s.text[name].shape
    count = math.prod(s.shape(node.input[1]))
    places = s.add("Reshape", node.input[1], s.array([count], np.int64))
    s.add("Gather", name, places, output=node.output[0], axis=len(lead))
    s.give(node.output[0], (*lead, count), text.width)


@rule("Concat")
def concat(s: Writing, node: NodeProto) -> None:
    parts = [s.source(k) for k in range(len(node.input))]
    width = max(text.width for _, text in parts)
    shape = list(parts[0][1].shape)
    axis = _axis(s, 1, len(shape))
    shape[axis] = sum(text.shape[axis] for _, text in parts)
    keep(s, node, [s.fitted(name, width) for name, _ in parts], axis=axis)
    s.give(node.output[0], tuple(shape), width)


@rule("Slice")
def part(s: Writing, node: NodeProto) -> None:
    name, text = s.source(0)
    rank, attrs = len(text.shape), s.attrs()
    inputs = [name, *node.input[1:]]
    shape = list(text.shape)
    if len(node.input) == 1:  # before opset 10
        axes = [int(a) % rank for a in attrs.get("axes", range(len(attrs["starts"])))]
        bounds: list[Any] = [attrs["starts"], attrs["ends"], [1] * len(axes)]
        keep(s, node, inputs, axes=axes)
    else:
        given = len(node.input) > 3 and node.input[3]
        axes = [int(a) % rank for a in (s.value(3, "axes") if given else range(s.shape(node.input[1])[0]))]
        bounds = [s.constants.get(n) for n in node.input[1:3]]
        steps = s.constants.get(node.input[4]) if len(node.input) > 4 and node.input[4] else None
        bounds = [None if b is None else to_numpy(b) for b in bounds]
        bounds.append(np.ones(len(axes), int) if steps is None else to_numpy(steps))
        places = s.array(axes, np.int64 if s.elem(node.input[1]) != TensorProto.INT32 else np.int32)
        keep(s, node, [*inputs[:3], places, *inputs[4:]])
    for k, axis in enumerate(axes):
        if all(b is not None for b in bounds):
            shape[axis] = len(range(*slice(*(int(b[k]) for b in bounds)).indices(shape[axis])))
    s.give(node.output[0], tuple(shape), text.width)


@rule("Split")
def split_value(s: Writing, node: NodeProto) -> None:
    name, text = s.source(0)
    axis = _axis(s, 0, len(text.shape))
    sizes = s.attrs().get("split")
    if len(node.input) > 1 and node.input[1]:
        sizes = s.value(1, "split").tolist()
    count, whole = len(node.output), text.shape[axis]
    each = -(-whole // count)
    sizes = sizes or [*[each] * (count - 1), whole - each * (count - 1)]
    keep(s, node, [name, *node.input[1:]], axis=axis)
    for output, size in zip(node.output, sizes, strict=True):
        s.give(output, (*text.shape[:axis], int(size), *text.shape[axis + 1 :]), text.width)


@rule("Expand")
def expand(s: Writing, node: NodeProto) -> None:
    name, text = s.source(0)
    wanted = [int(n) for n in s.value(1, "shape")]
    shape = np.broadcast_shapes(tuple(wanted), text.shape)
    s.add("Expand", reshaped(s, name, [1] * (len(shape) - len(text.shape)) + list(text.shape)),
          s.array([*shape, text.width], np.int64), output=node.output[0])  # fmt: skip
    s.give(node.output[0], tuple(shape), text.width)


@rule("Tile")
def tile(s: Writing, node: NodeProto) -> None:
    name, text = s.source(0)
    times = [int(n) for n in s.value(1, "repeats")]
    s.add("Tile", name, s.array([*times, 1], np.int64), output=node.output[0])
    s.give(node.output[0], tuple(n * t for n, t in zip(text.shape, times, strict=True)), text.width)


@rule("Where")
def where(s: Writing, node: NodeProto) -> None:
    (a, left), (b, right) = s.source(1), s.source(2)
    width = max(left.width, right.width)
    chosen = s.shape(node.input[0])
    shape = np.broadcast_shapes(chosen, left.shape, right.shape)
    condition = s.add("Reshape", node.input[0], s.array([*chosen, 1], np.int64))
    s.add("Where", condition, s.fitted(a, width), s.fitted(b, width), output=node.output[0])
    s.give(node.output[0], tuple(shape), width)


@rule("Shape", "Size")
def shape_of(s: Writing, node: NodeProto) -> None:
    name, _ = s.source(0)
    start, end = s.attrs().get("start", 0), s.attrs().get("end", None)
    rank = len(s.text[name].shape)
    begin, stop, _ = slice(start, end).indices(rank)
    if node.op_type == "Size" or s.opset < 15:
        every = s.add("Shape", name)
        first = [s.array([n], np.int64) for n in (0, rank)]
        dims = s.add("Slice", every, *first, output="" if node.op_type == "Size" else node.output[0])
        if node.op_type == "Size":
            s.add("ReduceProd", dims, keepdims=0, output=node.output[0])
    else:
        keep(s, node, [name], start=begin, end=stop)


@rule("Compress")
def compress(s: Writing, node: NodeProto) -> None:
    name, text = s.source(0)
    axis = s.attrs().get("axis")
    if axis is None:
        name, axis = reshaped(s, name, [math.prod(text.shape)]), 0
    axis = int(axis) % len(text.shape)
    keep(s, node, [name, node.input[1]], axis=axis)
    s.give(node.output[0], s.text[name].shape, text.width)
