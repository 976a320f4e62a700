"""The writing of models whose values have sizes that only a run knows (`sized.py`): values, their sizes, rules."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from dlpack.model.infer import ValueType, to_numpy, value_type
from dlpack.model.infer_windows import take_judged
from dlpack.model.sized_numbers import Number, element, maximum, minimum, mul, whole
from dlpack.model.sized_values import followed
from dlpack.model.tensors import tensor_size
from dlpack.model.walk import describe, free_names, opset_versions, subgraphs

DOMAIN = "dlpack"
MAX_NUMBERS = 64
"""Elements of integer values that are followed one by one."""

Type = tuple[int, tuple[int, ...]]
Maxima = Mapping[str, int]
_INTEGERS = (TensorProto.INT64, TensorProto.INT32)


class Refused(Exception):
    """A node that cannot be computed; the text is for the user, without the node."""


Rule = Callable[["Sizing", NodeProto], None]
_RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Enters what writes the nodes of operators where a size is not known; it raises Refused for what it cannot do."""

    def enter(function: Rule) -> Rule:
        _RULES.update(dict.fromkeys(names, function))
        return function

    return enter


def has_rule(node: NodeProto) -> bool:
    """Whether the node can be computed on values whose size only a run knows."""
    return _rule_of(node) is not None


def ends_early(node: NodeProto, maxima: Maxima) -> bool:
    """Whether the node is a Loop for whose trips the user states a maximum."""
    return node.op_type == "Loop" and not maxima.keys().isdisjoint((node.name, *node.output))


def is_limited(node: NodeProto, maxima: Maxima) -> bool:
    """Whether the node, or one of its bodies, is a Loop for whose trips the user states a maximum."""
    return ends_early(node, maxima) or any(is_limited(n, maxima) for body in subgraphs(node) for n in body.node)


def _rule_of(node: NodeProto) -> Rule | None:
    return _RULES.get(f"{node.domain}.{node.op_type}" if node.domain else node.op_type)


@dataclass
class Sizing:
    """The model in the making."""

    model: ModelProto
    known: Mapping[str, ValueType]
    maxima: dict[str, int]
    nodes: list[NodeProto] = field(default_factory=list)
    sizes: dict[str, dict[int, Number]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    limits: dict[str, int] = field(default_factory=dict)
    """The stated maxima that the data may exceed."""
    excesses: dict[str, tuple[Number, int]] = field(default_factory=dict)
    """By its key, what exceeds a stated maximum where it is larger than this."""
    origins: dict[str, str] = field(default_factory=dict)
    """What the model calls nodes and values of branches, whose names are new."""
    guards: list[Number] = field(default_factory=list)
    """Whether a run takes the branches that are being written: each is 0 or 1."""

    def __post_init__(self) -> None:
        self.maxima = dict(self.maxima)
        graph = self.model.graph
        self.opset = opset_versions(self.model).get("", 0)
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.made: list[TensorProto] = []
        known = self.known
        self.types: dict[str, Type] = {
            name: (kind.elem, kind.shape) for name, kind in known.items() if kind.known and kind.shape is not None
        }
        self.numbers: dict[str, list[Number]] = {}
        self.refused: set[str] = set()
        self.names = set(known) | {name for node in graph.node for name in node.output}
        self.cache: dict[tuple[Any, ...], str] = {}
        self.node = NodeProto()

    def visit(self, node: NodeProto) -> None:
        """Write one node of the model."""
        node = self.node = self.settled(node)
        reads = [n for n in node.input if n]
        for body in subgraphs(node):
            reads += free_names(body)
        if not self.refused.isdisjoint(reads):
            self.refused.update(node.output)  # told already
            return
        sized = any(name in self.sizes for name in reads)
        unknown = any(name and name not in self.types for name in node.output)
        try:
            if not sized and (not unknown or self.inferable(node)) and not is_limited(node, self.maxima):
                self.keep(node, {})
                return
            rule = _rule_of(node)
            if rule is None:
                name = next((n for n in reads if n in self.sizes), "")
                raise Refused(
                    f"it cannot be computed on '{name}', {self.told(name)}; compute it behind the model, on the output"
                    if name
                    else "the shape of its output depends on the data"
                )
            for name in node.output:
                self.types.pop(name, None)
            rule(self, node)
        except Refused as e:
            self.problems.append(f"{describe(node)}: {e}")
            self.refused.update(node.output)

    def settled(self, node: NodeProto) -> NodeProto:
        """The node with constants in place of integers that turned out to be known."""
        found = {
            k: array
            for k, n in enumerate(node.input)
            if n in self.numbers and n not in self.constants and (array := self.array(n)) is not None
        }
        if not found:
            return node
        node = NodeProto.FromString(node.SerializeToString())
        self.node = node
        for k, array in found.items():
            dtype = helper.tensor_dtype_to_np_dtype(self.elem(node.input[k]))
            node.input[k] = self.constant(array, dtype)
        return node

    def inferable(self, node: NodeProto) -> bool:
        """Whether the types of the node's outputs follow from those of its inputs."""
        if node.domain != "" or subgraphs(node):
            return False
        try:
            found = self.infer(node)
        except Refused:
            return False
        return all(name in found for name in node.output if name)

    def told(self, name: str) -> str:
        """A value's sizes in words."""
        dims = self.sizes[name]
        return "of which only a run knows the size (" + ", ".join(
            f"dimension {d}: at most {n.high}" for d, n in dims.items()
        ) + ")"  # fmt: skip

    # --- what is known ----------------------------------------------------------------------------------------------

    def elem(self, name: str) -> int:
        return self.types[name][0]

    def shape(self, name: str) -> tuple[int, ...]:
        """The largest."""
        return self.types[name][1]

    def dims(self, name: str) -> list[Number]:
        """The true shape."""
        sizes = self.sizes.get(name, {})
        return [sizes.get(d, whole(n)) for d, n in enumerate(self.shape(name))]

    def array(self, name: str) -> np.ndarray[Any, Any] | None:
        """A value that is known."""
        if name in self.constants:
            return to_numpy(self.constants[name])
        numbers = self.numbers.get(name)
        if numbers is not None and all(n.known for n in numbers):
            return np.array([n.constant for n in numbers], np.int64).reshape(self.shape(name))
        return None

    def content(self, name: str) -> list[Number]:
        """The elements of an integer value, flat. Raises Refused for what is too large or no integer."""
        if name in self.numbers:
            return self.numbers[name]
        elem, shape = self.types.get(name, (0, ()))
        if elem not in _INTEGERS or math.prod(shape) > MAX_NUMBERS or name in self.sizes:
            raise Refused(f"its input '{name}' is not a small vector of integers")
        tensor = self.constants.get(name)
        if tensor is not None:
            return [whole(v) for v in to_numpy(tensor).reshape(-1).tolist()]
        high = self.maxima.get(name)
        found = [element(name, i) for i in range(math.prod(shape))]
        if high is not None:
            found = [self.limited(n, name) for n in found]
        self.numbers[name] = found
        return found

    def follow(self, node: NodeProto) -> None:
        """Know the elements of the node's output, if they are few integers made of such."""
        out = node.output[0]
        elem, shape = self.types.get(out, (0, ()))
        if out in self.sizes or elem not in _INTEGERS or math.prod(shape) > MAX_NUMBERS or node.domain:
            return
        made = self._followed(node)
        if made is not None and len(made) == math.prod(shape):
            self.numbers[out] = made

    def _followed(self, node: NodeProto) -> list[Number] | None:
        names = [n for n in node.input if n]
        try:
            contents = [self.content(n) for n in names]
        except Refused:
            return None
        return followed(node, contents, [self.shape(n) for n in names], self.shape(node.output[0]))

    def limited(self, number: Number, name: str, counts: Number | None = None) -> Number:
        """The number, at most what the user states for `name`. `counts`, a number that is 0 or 1, says whether it
        matters in a run that it is larger."""
        most, said = self.maxima[name], self.origins.get(name, name)
        self.used.add(said)
        smaller = minimum(number, whole(most))
        if smaller != number:
            self.limits[said] = most
            for guard in self.guards:
                counts = guard if counts is None else mul(counts, guard)
            excess = (number, most) if counts is None else (mul(minimum(number, whole(most + 1)), counts), most)
            self.excesses[f"{excess[0].key}>{most}"] = excess
        return smaller

    def bound(self, node: NodeProto, number: Number, what: str, counts: Number | None = None) -> Number:
        """The number, at least 0, and at most what the user states for the node. Raises Refused where it has no bound.

        `what` is counted, as in "boxes that it selects"; `counts` as for `limited`.
        """
        number = maximum(number, whole(0))
        for name in (node.name, *node.output):
            if name in self.maxima:
                number = self.limited(number, name, counts)
        if not number.bounded:
            inputs = {value.name for value in self.model.graph.input}
            name = next((n for n in _elements_of(number) if n in inputs), node.output[0] or node.name)
            raise Refused(f"nothing bounds the {what}; state the most there may be: --max {name}=100")
        return number

    def renamed(self, name: str, new: str) -> None:
        """A node or value of a branch has a new name; what the user states for it holds for that."""
        if name in self.maxima:
            self.maxima[new] = self.maxima[name]
            self.origins[new] = self.origins.get(name, name)

    def over(self, exceeded: str = "") -> str:
        """Whether the data exceeds a stated maximum, or the bool[1] `exceeded` says so: bool[1]."""
        for number, most in self.excesses.values():
            one = self.emit("Greater", [self.scalar(number), self.constant([most])], [1], TensorProto.BOOL)
            exceeded = self.emit("Or", [exceeded, one], [1], TensorProto.BOOL) if exceeded else one
        return exceeded

    # --- writing ----------------------------------------------------------------------------------------------------

    def fresh(self, hint: str) -> str:
        base = f"{self.node.output[0] or self.node.name}/{hint}"
        name, k = base, 0
        while name in self.names:
            k += 1
            name = f"{base}_{k}"
        self.names.add(name)
        return name

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        array = np.asarray(value, dtype)
        key = ("constant", array.dtype.str, array.shape, array.tobytes())
        if key not in self.cache:
            name = self.fresh("const")
            tensor = numpy_helper.from_array(array, name)
            self.constants[name] = tensor
            self.made.append(tensor)
            self.types[name] = (tensor.data_type, array.shape)
            self.cache[key] = name
        return self.cache[key]

    def emit(
        self,
        op: str,
        inputs: Sequence[str],
        shape: Sequence[int],
        elem: int | None = None,
        output: str = "",
        **attributes: Any,
    ) -> str:
        """A node of one output of this largest shape; an equal one that is there already unless a name is given."""
        key = (op, tuple(inputs), tuple(shape), elem, tuple(sorted((k, str(v)) for k, v in attributes.items())))
        if not output and key in self.cache:
            return self.cache[key]
        out = output or self.fresh(op.lower())
        self.raw(op, inputs, [(out, elem or self.elem(inputs[0]), shape)], "", attributes)
        self.cache.setdefault(key, out)
        return out

    def raw(
        self,
        op: str,
        inputs: Sequence[str],
        outputs: Sequence[tuple[str, int, Sequence[int]]],
        domain: str,
        attributes: Mapping[str, Any],
    ) -> None:
        """A node of any outputs: their names, element types and largest shapes."""
        node = helper.make_node(op, list(inputs), [o for o, _, _ in outputs], name=self.node.name, domain=domain)
        node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
        self.nodes.append(node)
        self.types.update({o: (elem, tuple(shape)) for o, elem, shape in outputs if o})

    def keep(self, node: NodeProto, sizes: Mapping[str, Mapping[int, Number]]) -> None:
        """The node as it is, on the largest shapes; `sizes` of its outputs."""
        self.nodes.append(node)
        if any(name and name not in self.types for name in node.output):
            self.types.update(self.infer(node))
        missing = [name for name in node.output if name and name not in self.types]
        if missing:
            raise Refused(f"the shape of its output '{missing[0]}' cannot be found")
        self.give(sizes)
        self.follow(node)

    def give(self, sizes: Mapping[str, Mapping[int, Number]]) -> None:
        """State the sizes of values."""
        for name, dims in sizes.items():
            open_dims = {d: n for d, n in dims.items() if not n.known}
            if name and open_dims:
                self.sizes[name] = open_dims

    def infer(self, node: NodeProto) -> dict[str, Type]:
        """The types of a node's outputs, on the largest shapes."""
        copy = NodeProto.FromString(node.SerializeToString())
        judged = take_judged(copy, self.constants, self.opset)
        if judged is not None:
            return dict(judged.output_types(self.types))
        try:
            found = onnx.shape_inference.infer_node_outputs(
                onnx.defs.get_schema(node.op_type, self.opset, ""),
                node,
                {n: helper.make_tensor_type_proto(*self.types[n]) for n in node.input if n},
                {n: self.constants[n] for n in node.input if n in self.constants and self.small(n)},
                opset_imports=[helper.make_opsetid("", self.opset)],
            )
        except Exception as e:  # noqa: BLE001 - raised from C++
            raise Refused(f"its operands do not fit on the largest sizes: {str(e).splitlines()[0]}") from None
        kinds = {name: value_type(kind) for name, kind in found.items()}
        return {n: (kind.elem, kind.shape) for n, kind in kinds.items() if kind.known and kind.shape is not None}

    def small(self, name: str) -> bool:
        return tensor_size(self.constants[name]) <= 1024

    # --- sizes at run time ------------------------------------------------------------------------------------------

    def scalar(self, number: Number) -> str:
        """The number as an int64 tensor of one element."""
        total = ""
        for atom, factor in number.terms:
            name = self._atom(atom)
            if factor != 1:
                name = self.emit("Mul", [name, self.constant([factor])], [1])
            total = self.emit("Add", [total, name], [1]) if total else name
        if not total:
            return self.constant([number.constant])
        return self.emit("Add", [total, self.constant([number.constant])], [1]) if number.constant else total

    def _atom(self, atom: Any) -> str:
        if atom.op != "element":
            inputs = [self.scalar(n) for n in atom.arguments]
            if atom.op == "Wrap":
                negative = self.emit("Less", [inputs[0], self.constant([0])], [1], TensorProto.BOOL)
                back = self.emit("Add", inputs, [1])
                return self.emit("Where", [negative, back, inputs[0]], [1], TensorProto.INT64)
            if atom.op == "Div":  # rounds towards zero; what is divided here is not negative, or clipped at 0 later
                inputs[1] = self.emit("Max", [inputs[1], self.constant([1])], [1])
            return self.emit(atom.op, inputs, [1])
        name, index = atom.arguments
        count = math.prod(self.shape(name))
        flat = name if self.shape(name) == (count,) else self.emit("Reshape", [name, self.constant([count])], [count])
        if self.elem(name) != TensorProto.INT64:
            flat = self.emit("Cast", [flat], [count], TensorProto.INT64, to=TensorProto.INT64)
        return flat if count == 1 else self.emit("Gather", [flat, self.constant([index])], [1], axis=0)

    def vector(self, numbers: Sequence[Number], output: str = "") -> str:
        """The numbers as an int64 vector."""
        parts = [self.scalar(n) for n in numbers]
        if not parts:
            return self.emit("Identity", [self.constant([])], [0], output=output)
        return self.emit("Concat", parts, [len(parts)], TensorProto.INT64, output, axis=0)

    def inside(self, size: Number, largest: int, axis: int, rank: int) -> str:
        """Where a dimension's index is below its size: a bool value that broadcasts along that axis."""
        shape = [1] * rank
        shape[axis] = largest
        places = self.constant(np.arange(largest).reshape(shape))
        return self.emit("Less", [places, self.scalar(size)], shape, TensorProto.BOOL)

    def masked(self, name: str, axes: Sequence[int], fill: Any) -> str:
        """A value whose padding along these axes is `fill`."""
        shape, elem = self.shape(name), self.elem(name)
        dtype = helper.tensor_dtype_to_np_dtype(elem)
        for axis in axes:
            size = self.sizes.get(name, {}).get(axis)
            if size is None:
                continue
            mask = self.inside(size, shape[axis], axis, len(shape))
            before = name
            name = self.emit("Where", [mask, name, self.constant(fill, dtype)], shape, elem)
            self.give({name: self.sizes[before]})
        return name

    def masked_by(self, name: str, size: Number) -> str:
        """A bool vector, False from `size` on."""
        (length,) = self.shape(name)
        return self.emit("And", [name, self.inside(size, length, 0, 1)], [length])


def _elements_of(number: Number) -> list[str]:
    """The values that a number without a bound is made of."""
    names = []
    for atom, _ in number.terms:
        if atom.op == "element":
            names.append(atom.arguments[0])
        else:
            names += [name for n in atom.arguments for name in _elements_of(n)]
    return names
