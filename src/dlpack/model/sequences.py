"""Sequences and optionals: where it is known what is in them, their elements are named and nothing of them is left."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

MAX_ELEMENTS = 4096

Known = Callable[[str], TensorProto | None]
Fresh = Callable[[str], str]
Shape = tuple[int, ...]
Shapes = Callable[[str], Shape | None]


class Sequences:
    """Follows the sequences of a graph, whose nodes are visited in order; `lists` has their elements' names."""

    def __init__(self, constant: Known, shape: Shapes, fresh: Fresh, opset: int) -> None:
        """`constant(name)` is a value that is known, `shape(name)` one's static shape, `fresh(hint)` a free name."""
        self.lists: dict[str, list[str]] = {}
        self.constant, self.shape, self.fresh, self.opset = constant, shape, fresh, opset

    def visit(self, node: NodeProto, shape: Shape | None) -> list[NodeProto] | None:
        """The nodes that replace this one, None where it stays; `shape` is that of its first input where it has one.

        Constants among them are Constant nodes.
        """
        op, output = node.op_type, node.output[0]
        attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if op == "SplitToSequence":
            return self._split(node, shape, attrs.get("axis", 0), attrs.get("keepdims", 1))
        if op == "SequenceConstruct":
            self.lists[output] = list(node.input)
        elif op == "SequenceEmpty":
            self.lists[output] = []
        elif op in (
            "Identity",
            "SequenceInsert",
            "SequenceErase",
            "SequenceAt",
            "SequenceLength",
            "ConcatFromSequence",
        ):
            items = self.lists.get(node.input[0])
            return None if items is None else self._of_list(node, items, attrs)
        return None

    def _of_list(self, node: NodeProto, items: list[str], attrs: dict[str, int]) -> list[NodeProto] | None:
        op, output = node.op_type, node.output[0]
        if op == "Identity":
            self.lists[output] = items
        elif op == "SequenceLength":
            return [_constant(np.array(len(items), np.int64), output)]
        elif op == "ConcatFromSequence":
            return self._concat(node, items, attrs["axis"], bool(attrs.get("new_axis", 0)))
        elif op == "SequenceInsert":
            place = self._place(node, 2, len(items), len(items))
            if place is not None and 0 <= place <= len(items) < MAX_ELEMENTS:
                self.lists[output] = [*items[:place], node.input[1], *items[place:]]
        else:
            place = self._place(node, 1, len(items), len(items) - 1)
            if place is None and op == "SequenceAt":
                return self._at_run_time(node, items)
            if place is None or not 0 <= place < len(items):
                return None
            if op == "SequenceAt":
                return [helper.make_node("Identity", [items[place]], [output], name=node.name)]
            self.lists[output] = items[:place] + items[place + 1 :]
        return None

    def _at_run_time(self, node: NodeProto, items: list[str]) -> list[NodeProto] | None:
        """One of several elements of one shape: all of them in one tensor, of which that one is gathered."""
        shapes = {self.shape(item) for item in items}
        if len(shapes) != 1 or None in shapes:
            return None
        stacked = self.fresh(f"{node.output[0]}/all")
        joined = helper.make_node("ConcatFromSequence", [node.input[0]], [stacked], name=f"{node.name}/all")
        made = self._concat(joined, items, 0, stacked=True)
        gathered = helper.make_node("Gather", [stacked, node.input[1]], [node.output[0]], name=node.name, axis=0)
        return None if made is None else [*made, gathered]

    def _place(self, node: NodeProto, index: int, count: int, default: int) -> int | None:
        """The position that input `index` gives, counted from the start; None where it is not known."""
        if len(node.input) <= index or not node.input[index]:
            return default
        tensor = self.constant(node.input[index])
        if tensor is None:
            return None
        place = int(onnx.numpy_helper.to_array(tensor).reshape(-1)[0])
        return place + count if place < 0 else place

    def _concat(self, node: NodeProto, items: list[str], axis: int, stacked: bool) -> list[NodeProto] | None:
        if not items:
            return None
        made: list[NodeProto] = []
        if stacked:
            parts = [self.fresh(f"{name}/part") for name in items]
            for item, part in zip(items, parts, strict=True):
                made += self._with_axes("Unsqueeze", item, part, axis, node.name)
            items = parts
        return [*made, helper.make_node("Concat", items, [node.output[0]], name=node.name, axis=axis)]

    def _with_axes(self, op: str, value: str, output: str, axis: int, name: str) -> list[NodeProto]:
        if self.opset < 13:
            return [helper.make_node(op, [value], [output], name=f"{name}/{op}", axes=[axis])]
        axes = self.fresh(f"{output}/axes")
        return [
            _constant(np.array([axis], np.int64), axes),
            helper.make_node(op, [value, axes], [output], name=f"{name}/{op}"),
        ]

    def _split(self, node: NodeProto, shape: Shape | None, axis: int, keep: int) -> list[NodeProto] | None:
        """A Split, and the sequence of what it gives."""
        if shape is None or not -len(shape) <= axis < len(shape):
            return None
        size = shape[axis]
        given = node.input[1] if len(node.input) > 1 else ""
        sizes = [1] * size
        if given:
            tensor = self.constant(given)
            if tensor is None:
                return None
            value = onnx.numpy_helper.to_array(tensor)
            sizes = [int(n) for n in value.reshape(-1)]
            if value.ndim == 0:
                step = max(sizes[0], 1)
                sizes = [min(step, size - k) for k in range(0, size, step)] if size / step <= MAX_ELEMENTS else []
        if not 0 < len(sizes) <= MAX_ELEMENTS or math.fsum(sizes) != size:
            return None
        parts = [self.fresh(f"{node.output[0]}/{k}") for k in range(len(sizes))]
        made: list[NodeProto] = []
        if self.opset < 13:
            made.append(helper.make_node("Split", [node.input[0]], parts, name=node.name, axis=axis, split=sizes))
        else:
            lengths = self.fresh(f"{node.output[0]}/sizes")
            made.append(_constant(np.array(sizes, np.int64), lengths))
            made.append(helper.make_node("Split", [node.input[0], lengths], parts, name=node.name, axis=axis))
        if not given and not keep:
            whole, parts = parts, [self.fresh(f"{part}/element") for part in parts]
            for value_, part in zip(whole, parts, strict=True):
                made += self._with_axes("Squeeze", value_, part, axis, node.name)
        return [*made, helper.make_node("SequenceConstruct", parts, [node.output[0]], name=f"{node.name}/sequence")]


def _constant(value: np.ndarray[tuple[int, ...], np.dtype[np.int64]], name: str) -> NodeProto:
    return helper.make_node("Constant", [], [name], name=name, value=onnx.numpy_helper.from_array(value))
