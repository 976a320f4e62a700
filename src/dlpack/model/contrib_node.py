"""One node of com.microsoft while it is replaced by ONNX's operators, and the table of what replaces which operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto

from dlpack.errors import UnsupportedError
from dlpack.model.fold import fresh_name, rename_values
from dlpack.model.infer import ValueType, to_numpy
from dlpack.model.walk import describe

Array = np.ndarray[Any, Any]

DOMAIN = "com.microsoft"


class NotKnownYet(Exception):
    """An input's shape or value is not known; another pass of folding may find it."""


class Call:
    """The node, what is known of its inputs, and the nodes and weights that take its place so far.

    `types` and `constants` are those of the graph's values. Nodes are added with `add`; `give` says which value is
    the node's output. Attributes not stated have the value that the rewrite names as their default.
    """

    def __init__(
        self,
        node: NodeProto,
        types: Mapping[str, ValueType],
        constants: Mapping[str, TensorProto],
        opset: int,
        taken: set[str],
    ) -> None:
        self.node, self.opset = node, opset
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self._types, self._constants, self._taken = types, constants, taken
        self._given: dict[int, str] = {}
        self._attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}

    # --- what the node has -------------------------------------------------------------------------------------------

    def has(self, index: int) -> bool:
        return index < len(self.node.input) and bool(self.node.input[index])

    def input(self, index: int) -> str:
        """The name of an input that must be there."""
        if not self.has(index):
            self.refuse(f"its input {index} is absent")
        return str(self.node.input[index])

    def optional(self, index: int) -> str:
        """The name of an input, "" if it is absent."""
        return self.node.input[index] if index < len(self.node.input) else ""

    def wants(self, index: int) -> bool:
        return index < len(self.node.output) and bool(self.node.output[index])

    def shape(self, index: int) -> tuple[int, ...]:
        kind = self._types.get(self.input(index))
        if kind is None or kind.shape is None:
            raise NotKnownYet
        return kind.shape

    def dtype(self, index: int) -> np.dtype[Any]:
        kind = self._types.get(self.input(index))
        if kind is None or not kind.elem:
            raise NotKnownYet
        return onnx.helper.tensor_dtype_to_np_dtype(kind.elem)

    def constant(self, index: int) -> Array | None:
        """The value of an input, None if it is not a constant."""
        tensor = self._constants.get(self.input(index))
        return None if tensor is None else to_numpy(tensor)

    def weight(self, index: int, name: str) -> Array:
        """The value of an input that has to be constant."""
        value = self.constant(index)
        if value is None:
            self.refuse(f"its input '{name}' is not constant")
            raise AssertionError("refused")
        return value

    def attr(self, name: str, default: Any) -> Any:
        value = self._attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def attributes(self, *names: str) -> dict[str, Any]:
        """Those of the attributes that the node states, for a node that has them too."""
        return {name: self._attributes[name] for name in names if name in self._attributes}

    def refuse(self, why: str) -> Any:
        raise UnsupportedError("the model cannot be compiled:", (f"{describe(self.node)}: {why}",))

    def refuse_inputs(self, *indices: int) -> None:
        for index in indices:
            if self.has(index):
                self.refuse(f"its input {index} ('{self.node.input[index]}') is not supported")

    def refuse_attributes(self, **expected: Any) -> None:
        """Refuse attributes that have other values than these."""
        for name, value in expected.items():
            if (given := self.attr(name, value)) != value:
                self.refuse(f"its attribute {name} = {given} is not supported")

    # --- what takes its place ----------------------------------------------------------------------------------------

    def add(self, op: str, *inputs: str, **attrs: Any) -> str:
        """A node of ONNX's own domain; gives the name of its first output."""
        return self.add_many(1, op, *inputs, **attrs)[0]

    def add_many(self, outputs: int, op: str, *inputs: str, **attrs: Any) -> list[str]:
        names = [fresh_name(f"{self.node.name}/{op}", self._taken) for _ in range(outputs)]
        self.nodes.append(onnx.helper.make_node(op, list(inputs), names, name=names[0], **attrs))
        return names

    def array(self, value: Any, dtype: Any = None) -> str:
        """A weight with this value."""
        name = fresh_name(f"{self.node.name}/constant", self._taken)
        self.weights.append(
            onnx.numpy_helper.from_array(np.ascontiguousarray(value, dtype).reshape(np.shape(value)), name)
        )
        return name

    def reshape(self, x: str, *shape: int) -> str:
        return self.add("Reshape", x, self.array(shape, np.int64))

    def require_opset(self, version: int) -> None:
        if self.opset < version:
            self.refuse(
                f"it is not supported in opset {self.opset}; export the model with opset {max(version, 11)} or newer"
            )

    def slice(self, x: str, axis: int, start: int, stop: int) -> str:
        self.require_opset(10)
        return self.add("Slice", x, *(self.array([n], np.int64) for n in (start, stop, axis)))

    def transpose(self, x: str, *perm: int) -> str:
        return self.add("Transpose", x, perm=list(perm))

    def mean(self, x: str, axis: int) -> str:
        """The mean along an axis, which is kept."""
        if self.opset >= 18:
            return self.add("ReduceMean", x, self.array([axis], np.int64), keepdims=1)
        return self.add("ReduceMean", x, axes=[axis], keepdims=1)

    def sum(self, x: str, axis: int) -> str:
        """The sum along an axis, which is kept."""
        if self.opset >= 13:
            return self.add("ReduceSum", x, self.array([axis], np.int64), keepdims=1)
        return self.add("ReduceSum", x, axes=[axis], keepdims=1)

    def give(self, index: int, value: str) -> None:
        """`value` is the node's output `index`."""
        self._given[index] = value

    def finish(self) -> None:
        """Let the new nodes compute the values that the node did. Raises UnsupportedError for one that none gives."""
        names: dict[str, str] = {}
        made = {name for node in self.nodes for name in node.output}
        for index, output in enumerate(self.node.output):
            if not output:
                continue
            if index not in self._given:
                self.refuse(f"its output {index} ('{output}') is not supported")
            value = self._given[index]
            if value in made and value not in names:
                names[value] = output
            else:
                self.nodes.append(
                    onnx.helper.make_node("Identity", [value], [output], name=f"{self.node.name}/{index}")
                )
        for node in self.nodes:
            rename_values(node, names)
            for index, name in enumerate(node.output):
                node.output[index] = names.get(name, name)


Rewrite = Callable[[Call], None]
REWRITES: dict[tuple[str, str], Rewrite] = {}


def contrib(*ops: str, domain: str = DOMAIN) -> Callable[[Rewrite], Rewrite]:
    """Enters what replaces the operators into the table."""

    def enter(function: Rewrite) -> Rewrite:
        REWRITES.update({(domain, op): function for op in ops})
        return function

    return enter


def number(call: Call, value: float, like: int = 0) -> str:
    """A scalar of the element type of the input `like`."""
    return call.array(np.asarray(value, call.dtype(like)))


def product(sizes: Sequence[int]) -> int:
    return int(np.prod(sizes, dtype=np.int64))
