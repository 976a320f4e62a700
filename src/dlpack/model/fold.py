"""Folding constants: every node whose inputs are all known at build time, to a fixed point; then dead nodes go."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnx.reference
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from dlpack.model.infer import (
    ValueType,
    infer_types,
    to_numpy,
    value_type,
)
from dlpack.model.pictures import decoded
from dlpack.model.sequences import Sequences
from dlpack.model.tensors import MAX_RANK, TENSOR_BITS, tensor_bytes, tensor_size
from dlpack.model.walk import free_names, opset_versions, subgraphs

MAX_FOLDED_BYTES = 64 << 20  # of a value computed here; anything larger is left to run

MAX_ROUNDS = 64

_RANDOM = frozenset(
    ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
)

# Never evaluated here: random, slow in Python, or left to the compiler (a dequantised weight is four times larger).
_NOT_FOLDED = _RANDOM | {
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "DeformConv",
    "DequantizeLinear",
    "GRU",
    "If",
    "LSTM",
    "Loop",
    "QLinearConv",
    "QLinearMatMul",
    "RNN",
    "Scan",
    "SequenceMap",
}

# Operators that may leave out an output; elsewhere the number of outputs means something.
_OPTIONAL_OUTPUTS = frozenset(
    ("Attention", "BatchNormalization", "Dropout", "GRU", "LSTM", "LayerNormalization", "MaxPool", "RNN")
)


class Room:
    """The memory that folded constants may take, each of them and together: a few numbers may ask for any amount.

    `held`: the bytes of the model as the file holds it; its own weights may be transposed, cast and so on.
    """

    def __init__(self, held: int) -> None:
        self.each = max(MAX_FOLDED_BYTES, 4 * held)
        self.left = max(8 * MAX_FOLDED_BYTES, 8 * held)

    def take(self, sizes: Sequence[int]) -> bool:
        """Whether there is room for values of these sizes; then it is taken."""
        if max(sizes, default=0) > self.each or sum(sizes) > self.left:
            return False
        self.left -= sum(sizes)
        return True


def fresh_name(name: str, taken: set[str]) -> str:
    """`name`, or it with a number, not in `taken`; adds it there."""
    unique, copy = name, 0
    while unique in taken:
        copy += 1
        unique = f"{name}_{copy}"
    taken.add(unique)
    return unique


def set_items(field: Any, items: Iterable[Any]) -> None:
    """Set a repeated message field to some of its own items, or to others."""
    copies = [type(item).FromString(item.SerializeToString()) for item in items]
    del field[:]
    field.extend(copies)


def constants_to_initializers(graph: GraphProto) -> None:
    """Turn Constant nodes into weights."""
    kept = []
    for node in graph.node:
        tensor = _constant_tensor(node)
        if tensor is None:
            kept.append(node)
        else:
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
    if len(kept) < len(graph.node):
        set_items(graph.node, kept)


def _constant_tensor(node: NodeProto) -> TensorProto | None:
    if node.op_type != "Constant" or node.domain != "" or len(node.attribute) != 1:
        return None
    attribute = node.attribute[0]
    if attribute.name == "value":
        tensor = TensorProto()
        tensor.CopyFrom(attribute.t)
        return tensor
    if attribute.name == "sparse_value":
        values = attribute.sparse_tensor.values
        if math.prod(attribute.sparse_tensor.dims) * 16 > MAX_FOLDED_BYTES or values.data_type == TensorProto.STRING:
            return None
        dense = np.zeros(math.prod(attribute.sparse_tensor.dims), onnx.numpy_helper.to_array(values).dtype)
        indices = to_numpy(attribute.sparse_tensor.indices)
        shape = tuple(attribute.sparse_tensor.dims)
        if indices.ndim == 2:
            indices = np.ravel_multi_index(tuple(indices.T), shape)
        dense[indices] = onnx.numpy_helper.to_array(values)
        return onnx.numpy_helper.from_array(dense.reshape(shape))
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.name in ("value_float", "value_floats"):
        return onnx.numpy_helper.from_array(np.array(value, np.float32))
    if attribute.name in ("value_int", "value_ints"):
        return onnx.numpy_helper.from_array(np.array(value, np.int64))
    return None


class _Folder:
    """One pass over a graph: each node is kept, replaced by a constant, or by another name for its input."""

    def __init__(self, model: ModelProto, room: Room) -> None:
        self.model, self.room = model, room
        self.graph = model.graph
        self.versions = opset_versions(model)
        self.types = infer_types(model)
        self.weights = {tensor.name: tensor for tensor in self.graph.initializer}
        self.outputs = {value.name for value in self.graph.output}
        self.pinned = self.outputs | {
            name for node in self.graph.node for sub in subgraphs(node) for name in free_names(sub)
        }
        self.new: dict[str, TensorProto] = {}
        self.alias: dict[str, str] = {}
        self.taken = set(self.types) | {name for node in self.graph.node for name in node.output}
        self.changed = False
        self.optionals: dict[str, str] = {}
        """Optionals, and the element of each, "" where it has none."""
        self.sequences = Sequences(
            self.constant,
            lambda name: self.type(name).shape,
            lambda hint: fresh_name(hint, self.taken),
            self.versions.get("", 0),
        )

    def run(self) -> bool:
        kept: list[NodeProto] = []
        for node in self.graph.node:
            for index, name in enumerate(node.input):
                if name in self.alias:
                    node.input[index] = self.alias[name]
            kept.extend(self.visit(node))
        if self.changed:
            self.graph.initializer.extend(self.new.values())
            set_items(self.graph.node, kept)
        return self.changed

    def constant(self, name: str) -> TensorProto | None:
        return self.new.get(name) or self.weights.get(name)

    def type(self, name: str) -> ValueType:
        return self.types.get(name, ValueType())

    def visit(self, node: NodeProto) -> list[NodeProto]:
        if node.domain != "":
            return [node]
        op = node.op_type
        if op == "If":
            branch = self.branch(node)
            if branch is not None:
                self.changed = True
                return branch
        if op.startswith("Optional"):
            if self.optional(node):
                return []
            op = node.op_type
        elif op == "Identity" and self.optionals.get(node.input[0]) == "":
            self.optionals[node.output[0]] = ""
        replaced = self.sequences.visit(node, self.type(node.input[0]).shape if node.input else None)
        if replaced is not None:
            self.changed = True
            return replaced
        if op == "CastLike" and self.type(node.input[1]).elem:
            node.op_type = op = "Cast"
            node.attribute.append(onnx.helper.make_attribute("to", self.type(node.input[1]).elem))
            del node.input[1:]
            self.changed = True
        if op in ("Identity", "Dropout", "Cast") and self.is_copy(node):
            source, name = node.input[0], node.output[0]
            if len(node.output) > 1 and node.output[1]:
                mask = self.mask(node)
                if mask is None:
                    return [node]
                self.new[node.output[1]] = mask
                del node.output[1:]
                self.changed = True
            if name not in self.pinned:
                self.alias[name] = source
                self.changed = True
                return []
            if op != "Identity":
                node.op_type = "Identity"
                del node.attribute[:], node.input[1:], node.output[1:]
                self.changed = True
            return [node]
        values = self.evaluate(node)
        if values is None or not self.room.take([tensor_bytes(value) for value in values.values()]):
            return [node]
        self.changed = True
        for name, value in values.items():
            value.name = name
            self.new[name] = value
        return []

    def optional(self, node: NodeProto) -> bool:
        """Of a tensor, a known sequence or nothing, it is known whether it is there; and what is there is its own
        element. Returns whether the node is dropped."""
        given = node.input[0] if node.input else ""
        known = not given or given in self.optionals
        given = self.optionals.get(given, given)
        there = self.type(given).elem or given in self.sequences.lists
        if node.op_type == "Optional":
            self.optionals[node.output[0]] = given
            if there and node.output[0] in self.pinned:
                node.op_type = "Identity"
            elif given and node.output[0] not in self.pinned:
                self.alias[node.output[0]] = given
                self.changed = True
                return True
        elif node.op_type == "OptionalHasElement" and (known or there):
            node.op_type = "Constant"
            value = onnx.numpy_helper.from_array(np.array(bool(given)))
            node.attribute.append(onnx.helper.make_attribute("value", value))
            del node.input[:]
        elif node.op_type == "OptionalGetElement" and there:
            node.op_type, node.input[0] = "Identity", given
        return False

    def is_copy(self, node: NodeProto) -> bool:
        """Whether the node's first output is its first input."""
        if node.op_type == "Identity":
            return self.type(node.input[0]).kind == "tensor"
        if node.op_type == "Dropout":
            if len(node.input) < 3 or not node.input[2]:
                return True
            training = self.constant(node.input[2])
            return training is not None and not to_numpy(training).any()
        source, result = self.type(node.input[0]), self.type(node.output[0])
        return source.elem != 0 and source.elem == result.elem

    def mask(self, node: NodeProto) -> TensorProto | None:
        """The mask that Dropout gives in inference: all ones."""
        kind = self.type(node.input[0])
        if kind.shape is None or math.prod(kind.shape) > MAX_FOLDED_BYTES:
            return None
        elem = TensorProto.BOOL if self.versions[""] >= 10 else kind.elem
        ones = np.ones(kind.shape, onnx.helper.tensor_dtype_to_np_dtype(elem))
        return onnx.numpy_helper.from_array(ones, node.output[1])

    def branch(self, node: NodeProto) -> list[NodeProto] | None:
        """The nodes of the branch that an If with a constant condition takes, its inner values renamed."""
        condition = self.constant(node.input[0])
        if condition is None or tensor_size(condition) != 1:
            return None
        wanted = "then_branch" if to_numpy(condition).any() else "else_branch"
        graph = next(attribute.g for attribute in node.attribute if attribute.name == wanted)
        body, tensors, outputs = inline_graph(graph, {}, node.name, self.taken)
        self.new.update({tensor.name: tensor for tensor in tensors})
        for source, name in zip(outputs, node.output, strict=False):
            if name:
                body.append(onnx.helper.make_node("Identity", [source], [name], name=f"{node.name}/{name}"))
        return body

    def evaluate(self, node: NodeProto) -> dict[str, TensorProto] | None:
        """The node's outputs if they are known now."""
        op, outputs = node.op_type, [name for name in node.output if name]
        if op in ("Shape", "Size") and len(outputs) == 1:
            shape = self.type(node.input[0]).shape
            if shape is None:
                return None
            if op == "Size":
                return {outputs[0]: onnx.numpy_helper.from_array(np.array(math.prod(shape), np.int64))}
            bounds = {attribute.name: attribute.i for attribute in node.attribute}
            part = shape[bounds.get("start", 0) : bounds.get("end", len(shape))]
            return {outputs[0]: onnx.numpy_helper.from_array(np.array(part, np.int64))}
        if op == "Constant":
            tensor = _constant_tensor(node)
            return None if tensor is None else {outputs[0]: tensor}
        inputs = {name: value for name in node.input if name and (value := self.constant(name)) is not None}
        if op in _NOT_FOLDED or subgraphs(node) or not inputs or any(n and n not in inputs for n in node.input):
            return None
        if op == "Gemm" and to_numpy(inputs[node.input[0]]).dtype.kind != "f":
            return None  # the reference multiplies integers by its float alpha, which has not the bits for them
        if op in ("ConstantOfShape", "Range"):
            made = _generate(node, [to_numpy(inputs[name]) for name in node.input if name])
            return None if made is None else {outputs[0]: onnx.numpy_helper.from_array(made)}
        if op == "ImageDecoder":
            form = next((a.s.decode() for a in node.attribute), "RGB")
            pixels = decoded(to_numpy(inputs[node.input[0]]).tobytes(), form, MAX_FOLDED_BYTES)
            return None if pixels is None else {outputs[0]: onnx.numpy_helper.from_array(pixels)}
        return self.compute(node, inputs, outputs)

    def compute(
        self, node: NodeProto, inputs: dict[str, TensorProto], outputs: list[str]
    ) -> dict[str, TensorProto] | None:
        """Run one node on constants, if its outputs are known beforehand to be small."""
        opsets = list(self.model.opset_import)
        try:
            schema = onnx.defs.get_schema(node.op_type, self.versions[""], "")
            result_types = onnx.shape_inference.infer_node_outputs(
                schema,
                node,
                {n: onnx.helper.make_tensor_type_proto(v.data_type, list(v.dims)) for n, v in inputs.items()},
                {n: v for n, v in inputs.items() if tensor_size(v) <= 1024},
                opset_imports=opsets,
            )
            for name in outputs:
                kind = value_type(result_types[name])
                if kind.kind != "tensor" or kind.elem == TensorProto.STRING:
                    return None
                if kind.shape is None:
                    if node.op_type not in ("NonZero", "Compress", "Unique"):  # not larger than eight times the input
                        return None
                elif math.prod(kind.shape) * 8 > MAX_FOLDED_BYTES:
                    return None
            value_infos = [onnx.helper.make_value_info(name, result_types[name]) for name in outputs]
            graph = onnx.helper.make_graph([node], "fold", [], value_infos, list(inputs.values()))
            model = onnx.helper.make_model(graph, opset_imports=opsets)
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                results = onnx.reference.ReferenceEvaluator(model).run(outputs, {})
            tensors = {}
            for name, result in zip(outputs, results, strict=True):
                tensor = onnx.numpy_helper.from_array(np.ascontiguousarray(result).reshape(np.shape(result)))
                if tensor.data_type != value_type(result_types[name]).elem:
                    return None
                tensors[name] = tensor
        except Exception:  # noqa: BLE001 - the reference evaluator raises many kinds: leave the node to the compiler
            return None
        return tensors


def _generate(node: NodeProto, inputs: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any] | None:
    """ConstantOfShape or Range, whose few numbers may ask for any amount of memory; None if it is too much."""
    if node.op_type == "ConstantOfShape":
        shape = tuple(int(size) for size in inputs[0].ravel())
        value = next((to_numpy(attribute.t) for attribute in node.attribute), np.zeros(1, np.float32))
        if len(shape) > MAX_RANK or any(size < 0 for size in shape) or value.size != 1:
            return None
        if math.prod(shape) * value.itemsize > MAX_FOLDED_BYTES:
            return None
        return np.full(shape, value.ravel()[0])
    if len(inputs) != 3 or any(value.size != 1 for value in inputs):
        return None
    wide = np.int64 if inputs[0].dtype.kind in "iu" else np.float64
    start, limit, delta = (value.astype(wide).item() for value in inputs)
    if delta == 0 or not math.isfinite((limit - start) / delta):
        return None
    count = max(math.ceil((limit - start) / delta), 0)
    if count * 8 > MAX_FOLDED_BYTES:
        return None
    made: np.ndarray[Any, Any] = start + np.arange(count).astype(wide) * delta
    return made.astype(inputs[0].dtype)


def inline_graph(
    graph: GraphProto, given: Mapping[str, str], prefix: str, taken: set[str]
) -> tuple[list[NodeProto], list[TensorProto], list[str]]:
    """The nodes and weights of a body under new names, and the names of its outputs; `given` names its inputs."""
    inner = [*(tensor.name for tensor in graph.initializer), *(name for node in graph.node for name in node.output)]
    names = {**given, **{name: fresh_name(f"{prefix}/{name}", taken) for name in inner if name}}
    tensors = [TensorProto.FromString(tensor.SerializeToString()) for tensor in graph.initializer]
    for tensor in tensors:
        tensor.name = names[tensor.name]
    nodes = []
    for index, node in enumerate(graph.node):
        copied = NodeProto()
        copied.CopyFrom(node)
        rename_values(copied, names)
        copied.name = f"{prefix}/{node.name or f'{node.op_type}_{index}'}"
        nodes.append(copied)
    return nodes, tensors, [names.get(value.name, value.name) for value in graph.output]


def rename_values(node: NodeProto, names: Mapping[str, str]) -> None:
    """Rename values in a node and in what its subgraphs take from outside."""
    for index, name in enumerate(node.input):
        node.input[index] = names.get(name, name)
    for index, name in enumerate(node.output):
        node.output[index] = names.get(name, name)
    for sub in subgraphs(node):
        own = {value.name for value in sub.input} | {tensor.name for tensor in sub.initializer}
        own |= {name for inner in sub.node for name in inner.output}
        outer = {old: new for old, new in names.items() if old not in own}
        for inner in sub.node:
            rename_values(inner, outer)
        for value in sub.output:
            value.name = outer.get(value.name, value.name)


def fold(model: ModelProto, room: Room) -> None:
    """Fold constants and drop copies and dead nodes, until nothing changes."""
    for _ in range(MAX_ROUNDS):
        drop_dead(model.graph)
        if not _Folder(model, room).run():
            return


def foldable_sizes(graph: GraphProto, types: Mapping[str, ValueType]) -> list[int]:
    """The bytes of each value that nodes compute from constants alone."""
    constants, sizes = {tensor.name for tensor in graph.initializer}, []
    for node in graph.node:
        if node.op_type in _RANDOM or subgraphs(node) or not constants.issuperset(filter(None, node.input)):
            continue
        for name in filter(None, node.output):
            constants.add(name)
            kind = types.get(name, ValueType())
            sizes.append(math.prod(kind.shape or ()) * TENSOR_BITS.get(kind.elem, 0) // 8)
    return sizes


def _trains(node: NodeProto) -> bool:
    """Whether it is a BatchNormalization that takes the batch's own moments: it has three outputs, used or not."""
    return any(a.name == "training_mode" and a.i for a in node.attribute)


def drop_dead(graph: GraphProto) -> None:
    """Drop the nodes and weights that no output needs."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if not needed.intersection(node.output):
            continue
        needed.update(name for name in node.input if name)
        for sub in subgraphs(node):
            needed |= free_names(sub)
        if node.op_type in _OPTIONAL_OUTPUTS and not _trains(node):
            for index, name in enumerate(node.output):
                if index and name not in needed:
                    node.output[index] = ""
            while not node.output[-1]:
                del node.output[-1]
        kept.append(node)
    if len(kept) < len(graph.node):
        set_items(graph.node, reversed(kept))
    unused = [index for index, tensor in enumerate(graph.initializer) if tensor.name not in needed]
    for index in reversed(unused):
        del graph.initializer[index]
