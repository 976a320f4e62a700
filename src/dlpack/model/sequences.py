"""Sequences and optionals: where it is known what is in them, their elements are named and nothing of them is left.

An index may come at run time where all elements have one shape. A sequence that is an output becomes an output for each
element, NAME.0, NAME.1 ...; one that is an input, of which `--max NAME=n` says how many it has, becomes as many inputs.
An optional input is there, unless `--max NAME=0` says that it is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto, helper

from dlpack.errors import UsageError

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
            return self._made(node, items)
        elif op == "SequenceLength":
            return [_constant(np.array(len(items), np.int64), output)]
        elif op == "ConcatFromSequence":
            return self._concat(node, items, attrs["axis"], bool(attrs.get("new_axis", 0)))
        elif op == "SequenceInsert":
            place = self._place(node, 2, len(items), len(items))
            if place is None:
                return self._moved(node, items, node.input[2], node.input[1])
            if 0 <= place <= len(items) < MAX_ELEMENTS:
                return self._made(node, [*items[:place], node.input[1], *items[place:]])
        else:
            place = self._place(node, 1, len(items), len(items) - 1)
            if place is None:
                return self._at(node, items) if op == "SequenceAt" else self._moved(node, items, node.input[1], "")
            if not 0 <= place < len(items):
                return None
            if op == "SequenceAt":
                return [helper.make_node("Identity", [items[place]], [output], name=node.name)]
            return self._made(node, items[:place] + items[place + 1 :])
        return None

    def _made(self, node: NodeProto, items: list[str]) -> list[NodeProto] | None:
        """The sequence of these elements."""
        self.lists[node.output[0]] = items
        return [helper.make_node("SequenceConstruct", items, node.output[:1], name=node.name)] if items else None

    def _of_one_shape(self, items: list[str]) -> bool:
        shapes = {self.shape(name) for name in items}
        return len(shapes) == 1 and None not in shapes

    def _at(self, node: NodeProto, items: list[str]) -> list[NodeProto] | None:
        """The element at a place that only a run knows."""
        if not self._of_one_shape(items):
            return None
        every = self.fresh(f"{node.output[0]}/all")
        made = self._concat(helper.make_node("Concat", [], [every], name=node.name), items, 0, True) or []
        return [*made, helper.make_node("Gather", [every, node.input[1]], node.output[:1], name=node.name, axis=0)]

    def _moved(self, node: NodeProto, items: list[str], at: str, added: str) -> list[NodeProto] | None:
        """The sequence with an element more, or ("") one less, at a place that only a run knows."""
        if not self._of_one_shape([*items, *([added] if added else [])]) or self.opset < 9:
            return None
        made: list[NodeProto] = []

        def add(op: str, *inputs: str) -> str:
            made.append(helper.make_node(op, inputs, [self.fresh(f"{node.output[0]}/{op}")], name=node.name))
            return str(made[-1].output[0])

        def number(value: int) -> str:
            made.append(_constant(np.array(value, np.int64), self.fresh(f"{node.output[0]}/number")))
            return str(made[-1].output[0])

        place = self.fresh(f"{node.output[0]}/place")
        made.append(helper.make_node("Cast", [at], [place], name=node.name, to=TensorProto.INT64))
        place = add("Where", add("Less", place, number(0)), add("Add", place, number(len(items))), place)
        found = []
        for k in range(len(items) + (1 if added else -1)):
            before, after = items[min(k, len(items) - 1)], items[k - 1 if added else k + 1]
            if added:
                after = add("Where", add("Equal", number(k), place), added, after) if k else added
            kept = k < len(items)
            found.append(add("Where", add("Less", number(k), place), before, after) if kept else after)
        return [*made, *(self._made(node, found) or [])]

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


def plain_borders(model: ModelProto, maxima: Mapping[str, int]) -> tuple[ModelProto, dict[str, int]]:
    """The model whose inputs are tensors, and the maxima that are not about its sequences and optionals.

    A maximum says how many elements a sequence has; 0 says of an optional tensor that it is absent. Raises UsageError
    for a sequence of which nothing is said, and for a 0 that is about something else. `model` comes back as it is where
    there is nothing to do.
    """
    counted = {v.name for v in model.graph.input if v.type.WhichOneof("value") in _CONTAINERS}
    others = {name: most for name, most in maxima.items() if name not in counted}
    for name in (name for name, most in others.items() if most == 0):
        raise UsageError(f"--max {name}=0: '{name}' is no sequence and no optional; its maximum is 1 or more")
    odd = [v for v in (*model.graph.input, *model.graph.output) if v.type.WhichOneof("value") in _CONTAINERS]
    if not odd:
        return model, others
    made = ModelProto()
    made.CopyFrom(model)
    inputs: list[ValueInfoProto] = []
    nodes: list[NodeProto] = []
    for value in made.graph.input:
        kind = _held(value.type)
        if kind.WhichOneof("value") == "sequence_type":
            names = _element_names(value.name, maxima)
            inputs += [_element(name, kind) for name in names]
            op = "SequenceConstruct" if names else "SequenceEmpty"
            nodes.append(helper.make_node(op, names, [value.name], name=f"{value.name}.all"))
            if not names:
                nodes[-1].attribute.append(
                    helper.make_attribute("dtype", _element("", kind).type.tensor_type.elem_type)
                )
        elif value.type.WhichOneof("value") == "optional_type" and maxima.get(value.name) == 0:
            nodes.append(helper.make_node("Optional", [], [value.name], name=f"{value.name}.absent", type=kind))
        else:
            inputs.append(ValueInfoProto(name=value.name, type=kind))
    for value in made.graph.output:
        value.type.CopyFrom(_held(value.type))
    del made.graph.input[:]
    made.graph.input.extend(inputs)
    for node in reversed(nodes):
        made.graph.node.insert(0, node)
    return made, others


_CONTAINERS = ("optional_type", "sequence_type")


def _held(kind: TypeProto) -> TypeProto:
    """What an optional holds; of anything else the type itself."""
    return kind.optional_type.elem_type if kind.WhichOneof("value") == "optional_type" else kind


def _element_names(name: str, maxima: Mapping[str, int]) -> list[str]:
    if name not in maxima:
        raise UsageError(
            f"the input '{name}' is a sequence: say how many tensors it has with --max {name}=4; they become the "
            f"inputs {name}.0, {name}.1 ..."
        )
    return [f"{name}.{k}" for k in range(maxima[name])]


def _element(name: str, kind: TypeProto) -> ValueInfoProto:
    """An element of a sequence; a dimension that the type only names may be another one in each."""
    made = ValueInfoProto(name=name, type=kind.sequence_type.elem_type)
    if made.type.WhichOneof("value") == "tensor_type":
        for dim in made.type.tensor_type.shape.dim:
            dim.ClearField("dim_param")
    return made


def open_outputs(graph: GraphProto) -> None:
    """Makes an output for each element of the sequences that are outputs, where their elements are known."""
    built = {n.output[0]: n for n in graph.node if n.op_type in ("SequenceConstruct", "SequenceEmpty")}
    outputs = list(graph.output)
    if not any(value.name in built for value in outputs):
        return
    del graph.output[:]
    for value in outputs:
        if value.name not in built:
            graph.output.append(value)
            continue
        for k, item in enumerate(built[value.name].input):
            name = f"{value.name}.{k}"
            graph.node.append(helper.make_node("Identity", [item], [name], name=name))
            graph.output.append(_element(name, value.type))


def open_branches(graph: GraphProto, node: NodeProto, fresh: Fresh) -> bool:
    """Where both branches of an If give a sequence of as many elements, it gives these, and the sequence is made behind
    it; returns whether there was one."""
    bodies = [a.g for a in node.attribute if a.name in ("then_branch", "else_branch")]
    built = [{n.output[0]: n for n in body.node if n.op_type == "SequenceConstruct"} for body in bodies]
    changed = False
    for k in reversed(range(len(node.output))):
        made = [known.get(body.output[k].name) for known, body in zip(built, bodies, strict=True)]
        items = [list(n.input) for n in made if n is not None]
        if len(items) != len(bodies) or len({len(names) for names in items}) != 1:
            continue
        given = [fresh(f"{node.output[k]}/{number}") for number in range(len(items[0]))]
        for body, names in zip(bodies, items, strict=True):
            own = [fresh(f"{name}/out") for name in names]
            body.node.extend(helper.make_node("Identity", [a], [b], name=b) for a, b in zip(names, own, strict=True))
            kept = [*body.output[:k], *(ValueInfoProto(name=name) for name in own), *body.output[k + 1 :]]
            del body.output[:]
            body.output.extend(kept)
        sequence = helper.make_node("SequenceConstruct", given, [node.output[k]], name=f"{node.name}/sequence")
        node.output[k : k + 1] = given
        graph.node.insert(next(i for i, n in enumerate(graph.node) if n is node) + 1, sequence)
        changed = True
    return changed


def _constant(value: np.ndarray[tuple[int, ...], np.dtype[np.int64]], name: str) -> NodeProto:
    return helper.make_node("Constant", [], [name], name=name, value=onnx.numpy_helper.from_array(value))
