"""Builds an ONNX graph node by node; every value's type is inferred at once, so that converters see static shapes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, helper, numpy_helper

from dlpack.errors import ModelError

OPSET = 17
BITWISE_OPSET = 18
"""That of models with bitwise operators, which came with it."""
ML_OPSET = 5
MAX_VALUE_BYTES = 2**31 - 1
MAX_MADE_BYTES = 512 << 20
MAX_RANK = 16

Array = NDArray[Any]
Shape = tuple[int, ...]


class NotConverted(Exception):
    """Raised by a converter for what cannot be expressed; collected, so that the user sees all problems at once."""


class OnnxBuilder:
    """An ONNX graph under construction. Values are named by strings; `shape` and `dtype` know their static types."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[NodeProto] = []
        self.inputs: list[str] = []
        self.constants: dict[str, Array] = {}
        self._types: dict[str, tuple[np.dtype[Any], Shape]] = {}
        self._names: set[str] = set()
        self._node_names: set[str] = set()
        self._next: dict[str, int] = {}
        self._scope = ""
        self._scope_start = 0
        self._schemas: dict[str, Any] = {}
        self._made = 0
        self._shared: dict[tuple[Any, ...], str] = {}

    # --- values

    def shape(self, value: str) -> Shape:
        return self._types[value][1]

    def rank(self, value: str) -> int:
        return len(self._types[value][1])

    def dtype(self, value: str) -> np.dtype[Any]:
        return self._types[value][0]

    def value(self, name: str) -> Array | None:
        """The constant's value; None for other values."""
        return self.constants.get(name)

    def unique(self, name: str, taken: set[str] | None = None) -> str:
        """`name`, with a number appended if it is taken (by default among the values)."""
        taken = self._names if taken is None else taken
        result, k = name, 1
        while result in taken:
            k = self._next.get(name, k)
            result = f"{name}_{k}"
            self._next[name] = k + 1
        taken.add(result)
        return result

    def input(self, name: str, shape: Sequence[int], dtype: Any = np.float32) -> str:
        if any(d <= 0 for d in shape) or len(shape) > MAX_RANK:
            raise ModelError(f"input '{name}' has the shape {list(shape)}; its dimensions must be positive numbers")
        name = self.unique(name)
        self.inputs.append(name)
        self._set(name, np.dtype(dtype), tuple(shape))
        return name

    def constant(self, value: Any, name: str = "", dtype: Any = None) -> str:
        """A constant; small unnamed ones are shared."""
        array = np.asarray(value, dtype)
        if array.dtype in (np.float16, np.float64):
            array = array.astype(np.float32)
        key = (array.dtype.str, array.shape, array.tobytes()) if not name and array.size <= 16 else None
        if key is not None and key in self._shared:
            return self._shared[key]
        made = self.unique(name or (f"{self._scope}/const" if self._scope else "const"))
        self.constants[made] = array
        self._types[made] = (array.dtype, array.shape)
        if key is not None:
            self._shared[key] = made
        return made

    def ints(self, values: Sequence[int]) -> str:
        return self.constant(np.array(list(values), np.int64))

    def scalar(self, value: float, like: str | None = None) -> str:
        """A 0-d constant of the type of `like` (float32 without it)."""
        return self.constant(np.array(value, self.dtype(like) if like else np.float32))

    def scalar_int(self, value: int) -> str:
        """A 0-d int64 constant."""
        return self.constant(np.array(value, np.int64))

    def filled(self, shape: Sequence[int], value: float, dtype: Any = np.float32) -> str:
        """A constant of one value; its size is checked first."""
        self.claim("a constant", shape, dtype)
        return self.constant(np.full(tuple(shape), value, dtype))

    # --- nodes

    def op(
        self, kind: str, *inputs: str, outputs: int = 1, types: Sequence[tuple[Any, Shape]] = (), **attrs: Any
    ) -> Any:
        """Adds a node; returns its output's name, or a list of names for several. `types` replaces inference."""
        stem = f"{self._scope}/{kind}" if self._scope else kind
        names = [self.unique(stem) for _ in range(outputs)]
        node = helper.make_node(kind, list(inputs), names, name=self.unique(stem, self._node_names), **attrs)
        found = list(types) or self._infer(node)
        for name, (dtype, shape) in zip(names, found, strict=True):
            self._set(name, np.dtype(dtype), tuple(shape))
        self.nodes.append(node)
        return names[0] if outputs == 1 else names

    def _infer(self, node: NodeProto) -> list[tuple[np.dtype[Any], Shape]]:
        schema = self._schemas.get(node.op_type)
        if schema is None:
            opset = BITWISE_OPSET if node.op_type.startswith("Bitwise") else OPSET
            schema = self._schemas[node.op_type] = onnx.defs.get_schema(node.op_type, opset)
        types, data = {}, {}
        for name in node.input:
            if name:
                dtype, shape = self._types[name]
                types[name] = helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(dtype), shape)
                array = self.constants.get(name)
                if array is not None and array.size <= 256:
                    data[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        try:
            found = onnx.shape_inference.infer_node_outputs(
                schema, node, types, data, opset_imports=[helper.make_opsetid("", OPSET)]
            )
        except Exception as e:  # onnx raises its own and pybind's kinds
            lines = str(e).strip().splitlines()
            shapes = ", ".join(str(list(self._types[n][1])) for n in node.input if n)
            raise ModelError(
                f"{node.op_type} does not fit its inputs' shapes {shapes}: {lines[-1] if lines else ''}"
            ) from e
        return [_static(node, found.get(name)) for name in node.output]

    def _set(self, name: str, dtype: np.dtype[Any], shape: Shape) -> None:
        self.check_size(f"value '{name}'", dtype, shape)
        self._types[name] = (dtype, shape)

    def check_size(self, what: str, dtype: np.dtype[Any], shape: Shape) -> None:
        """Raises ModelError for a shape that is not positive or too large to hold."""
        if any(d <= 0 for d in shape):
            raise ModelError(f"{what} would have the shape {list(shape)}: a window or a slice is larger than its input")
        if len(shape) > MAX_RANK or math.prod(shape) * dtype.itemsize > MAX_VALUE_BYTES:
            raise ModelError(f"{what} would have the shape {list(shape)}, more than 2 GiB or {MAX_RANK} dimensions")

    def claim(self, what: str, shape: Sequence[int], dtype: Any = np.float32) -> None:
        """Call this before creating a constant that is not in the file: their total size is limited."""
        self.check_size(what, np.dtype(dtype), tuple(shape))
        self._made += math.prod(shape) * np.dtype(dtype).itemsize
        if self._made > MAX_MADE_BYTES:
            raise ModelError(
                f"{what} of the shape {list(shape)}: the constants that it asks for exceed {MAX_MADE_BYTES:,} bytes"
            )

    @contextmanager
    def scope(self, layer: str) -> Iterator[None]:
        """Nodes and values created inside are named after `layer`."""
        before = self._scope, self._scope_start
        self._scope, self._scope_start = layer or "layer", len(self.nodes)
        try:
            yield
        finally:
            self._scope, self._scope_start = before

    @contextmanager
    def body(self) -> Iterator[list[NodeProto]]:
        """Nodes created inside go to the list that it gives, for the body of a loop, not to the graph.

        Names are the graph's, so that a body may use its values; constants made inside are the graph's as well.
        """
        before, self.nodes = self.nodes, []
        try:
            yield self.nodes
        finally:
            self.nodes = before

    def argument(self, name: str, shape: Sequence[int], dtype: Any = np.float32) -> str:
        """An input of a body."""
        name = self.unique(f"{self._scope}/{name}" if self._scope else name)
        self._set(name, np.dtype(dtype), tuple(shape))
        return name

    def info(self, name: str) -> onnx.ValueInfoProto:
        dtype, shape = self._types[name]
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), shape)

    def publish(self, values: Sequence[str], names: Sequence[str], layer: str) -> list[str]:
        """Gives the current scope's results their names in the source; the last node gets the layer's name.

        A value from outside the scope (a pass-through) keeps its name.
        """
        made = self.nodes[self._scope_start :]
        rename: dict[str, str] = {}
        for value, name in zip(values, names, strict=True):
            if value not in rename and any(value in node.output for node in made):
                rename[value] = self.unique(name)
        for old, new in rename.items():
            self._types[new] = self._types.pop(old)
            self._names.discard(old)
        for node in made:
            for k, name in enumerate(node.input):
                node.input[k] = rename.get(name, name)
            for k, name in enumerate(node.output):
                node.output[k] = rename.get(name, name)
        if made:
            made[-1].name = self.unique(layer, self._node_names)
        return [rename.get(v, v) for v in values]

    def build(self, outputs: Sequence[tuple[str, str]]) -> ModelProto:
        """The model with the given outputs (value, wanted name); nodes that no output needs are dropped."""
        results = []
        for value, wanted in outputs:
            made = any(value in node.output for node in self.nodes)
            if not made or value in results:
                with self.scope(wanted):
                    value = self.publish([self.op("Identity", value)], [wanted], wanted)[0]
            results.append(value)
        needed, kept = set(results), []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(n for inner in with_bodies([node]) for n in inner.input)
        graph = helper.make_graph(
            kept[::-1],
            self.name or "model",
            [self.info(n) for n in self.inputs if n in needed],
            [self.info(n) for n in results],
            [numpy_helper.from_array(np.asarray(a, order="C"), n) for n, a in self.constants.items() if n in needed],
            value_info=[
                self.info(n) for node in kept[::-1] for n in node.output if n in self._types and n not in results
            ],
        )
        bitwise = any(node.op_type.startswith("Bitwise") for node in kept)
        if bitwise:
            _with_axes_as_inputs(graph)
        opsets, ir_version = [helper.make_opsetid("", BITWISE_OPSET if bitwise else OPSET)], 8
        if any(node.domain == "ai.onnx.ml" for node in kept):
            opsets, ir_version = [*opsets, helper.make_opsetid("ai.onnx.ml", ML_OPSET)], 10
        model = helper.make_model(graph, opset_imports=opsets, producer_name="dlpack")
        model.ir_version = ir_version
        return model


def with_bodies(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """The nodes, and those of the bodies of loops and branches."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from with_bodies(attribute.g.node)


def _with_axes_as_inputs(graph: GraphProto) -> None:
    """Rewrites what opset 18 has otherwise than 17, in place: the axes of reductions, the number of a Split's parts."""
    for node in graph.node:
        axes = next((a for a in node.attribute if a.name == "axes" and node.op_type.startswith("Reduce")), None)
        if axes is not None:
            name = f"{node.output[0]}/axes"
            graph.initializer.append(numpy_helper.from_array(np.array(axes.ints, np.int64), name))
            node.attribute.remove(axes)
            node.input.append(name)
        elif node.op_type == "Split" and len(node.input) < 2:
            node.attribute.append(helper.make_attribute("num_outputs", len(node.output)))


def _static(node: NodeProto, found: TypeProto | None) -> tuple[np.dtype[Any], Shape]:
    if found is None or not found.HasField("tensor_type") or not found.tensor_type.HasField("shape"):
        raise NotConverted(f"the shape of its {node.op_type} is not static")
    tensor = found.tensor_type
    if tensor.elem_type == TensorProto.UNDEFINED or any(not d.HasField("dim_value") for d in tensor.shape.dim):
        raise NotConverted(f"the shape of its {node.op_type} is not static")
    return helper.tensor_dtype_to_np_dtype(tensor.elem_type), tuple(d.dim_value for d in tensor.shape.dim)
