"""Cleaning an ONNX model before it is read: shapes fixed, functions inlined, constants folded, dead nodes gone.

Most of it is done by others: onnx's inliner and onnxruntime's basic optimisation. What these leave is folded here.
Over 500 lines: the folding, in the last part, wants a file of its own once it grows.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnx.reference
import onnxruntime
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from dlpack.errors import UnsupportedError, UsageError
from dlpack.graph.infer import (
    ValueType,
    for_onnxruntime,
    infer_types,
    lighten,
    restore,
    session_options,
    set_opset,
    to_numpy,
    value_type,
)
from dlpack.graph.load import (
    MAX_MODEL_BYTES,
    MAX_RANK,
    TENSOR_BITS,
    describe,
    first_line,
    free_names,
    opset_versions,
    subgraphs,
    tensor_size,
)

MAX_FOLDED_BYTES = 64 << 20  # of a value computed here; anything larger is left to run
MAX_GENERATED_BYTES = 1 << 30  # of a constant that a node makes from a few numbers, such as ConstantOfShape
MAX_ROUNDS = 64

# Transformers of onnxruntime that make operators of its own, that suit only the machine that runs them, or that put
# reshapes and foreign names around a product (MatMulAddFusion).
_DISABLED_TRANSFORMERS = (
    "MatMulAddFusion",
    "Avx2WeightS8ToU8Transformer",
    "QDQS8ToU8Transformer",
    "DQMatMulNBitsFusion",
    "LabelEncoderFusion",
)

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

# Their definitions are loops, whose shapes nobody knows.
_NOT_INLINED = frozenset((("", "Range"), ("", "SequenceMap")))

_DEFINITIONS = "dlpack.definitions"  # domain of the functions that stand for a node while it is inlined

Shapes = Mapping[str, tuple[int, ...]]
InlineOps = Callable[[str, str], bool]


def clean(model: ModelProto, shapes: Shapes | None = None, inline_ops: InlineOps | None = None) -> ModelProto:
    """The model with static input shapes, without functions, and with all that is constant computed.

    `shapes` fixes the inputs' open dimensions. `inline_ops(op, domain)` says which operators to replace by the
    definition that ONNX gives for them. Every output of the result is computed by a node. `model` is not changed.
    Raises UsageError for shapes that do not fit or that are still missing.
    """
    result = ModelProto()
    result.CopyFrom(model)
    _name_nodes(result.graph)
    _drop_constant_inputs(result.graph)
    _fix_shapes(result.graph, shapes or {})
    _check_sizes(result, infer_types(result, follow_values=False))
    result = _inline_functions(result)
    _constants_to_initializers(result.graph)
    result = _inline_operators(result, inline_ops)
    _check_sizes(result, infer_types(result))
    result = _optimize(result)
    result = _inline_operators(result, inline_ops)
    _finish(result)
    return result


# --- names and inputs -------------------------------------------------------------------------------------------------


def _name_nodes(graph: GraphProto) -> None:
    """Name the unnamed nodes after their operator and place, before anything moves."""
    names = {node.name for node in graph.node}
    for index, node in enumerate(graph.node):
        if not node.name:
            node.name = _fresh(f"{node.op_type}_{index}", names)


def _fresh(name: str, taken: set[str]) -> str:
    """`name`, or it with a number, not in `taken`; adds it there."""
    unique, copy = name, 0
    while unique in taken:
        copy += 1
        unique = f"{name}_{copy}"
    taken.add(unique)
    return unique


def _drop_constant_inputs(graph: GraphProto) -> None:
    """Before IR version 4 every weight was also an input; here a weight is a constant."""
    weights = {tensor.name for tensor in graph.initializer}
    _replace(graph.input, [value for value in graph.input if value.name not in weights])


def _replace(field: Any, items: Iterable[Any]) -> None:
    """Set a repeated message field to some of its own items, or to others."""
    copies = [type(item).FromString(item.SerializeToString()) for item in items]
    del field[:]
    field.extend(copies)


def _fix_shapes(graph: GraphProto, shapes: Shapes) -> None:
    """Give each open dimension of the inputs its size from `shapes`, a symbol the same size everywhere."""
    inputs = {value.name: value for value in graph.input}
    for name in shapes:
        if name not in inputs:
            raise UsageError(f"--shape {name}=...: the model has no input '{name}'; it has {_quoted(inputs)}")
    bound: dict[str, tuple[int, str]] = {}
    for name, shape in shapes.items():
        option = f"--shape {name}={'x'.join(map(str, shape))}"
        if inputs[name].type.WhichOneof("value") != "tensor_type":
            raise UsageError(f"{option}: the input '{name}' is not a tensor")
        tensor = inputs[name].type.tensor_type
        if any(size < 1 for size in shape):
            raise UsageError(f"{option}: sizes must be 1 or more")
        if not tensor.HasField("shape"):
            tensor.shape.SetInParent()
            for _ in shape:
                tensor.shape.dim.add()
        dims, stated = tensor.shape.dim, _dims(inputs[name])
        if len(dims) != len(shape):
            raise UsageError(f"{option}: the input '{name}' has {len(dims)} dimensions: {stated}")
        for dim, size in zip(dims, shape, strict=True):
            if dim.dim_param:
                other, where = bound.setdefault(dim.dim_param, (size, option))
                if other != size:
                    raise UsageError(f"{option}: makes '{dim.dim_param}' {size}, but {where} makes it {other}")
            elif dim.HasField("dim_value") and dim.dim_value >= 0 and dim.dim_value != size:
                raise UsageError(f"{option}: the model fixes that input to {stated}")
            dim.dim_value = size
    open_inputs = []
    for value in graph.input:
        if value.type.WhichOneof("value") != "tensor_type":
            continue  # refused when the graph is read, with all else that is not supported
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in bound:
                dim.dim_value = bound[dim.dim_param][0]
        if value_type(value.type).shape is None:
            open_inputs.append(value)
    if open_inputs:
        raise UsageError(_open_message(open_inputs))
    # What the file says of inner values may be stale, wrong or hostile: it is inferred anew.
    del graph.value_info[:]
    for value in graph.output:
        if value.type.WhichOneof("value") == "tensor_type":
            value.type.tensor_type.ClearField("shape")


def _open_message(values: list[Any]) -> str:
    lines = ["the model leaves input dimensions open; give each input its shape:"]
    options = []
    for value in values:
        if not value.type.tensor_type.HasField("shape"):
            lines.append(f"  - input '{value.name}': its number of dimensions and all of them")
            options.append(f"--shape {value.name}=AxBx...")
            continue
        names = []
        proposal = []
        for index, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value >= 0:
                proposal.append(str(dim.dim_value))
                continue
            names.append(f"'{dim.dim_param}'" if dim.dim_param else f"dimension {index} (unnamed)")
            batch = index == 0 and len(value.type.tensor_type.shape.dim) > 1 and _is_batch(dim.dim_param)
            proposal.append("1" if batch else (dim.dim_param or f"D{index}").replace(" ", ""))
        lines.append(f"  - input '{value.name}' {_dims(value)}: {', '.join(names)}")
        options.append(f"--shape {value.name}={'x'.join(proposal)}")
    return "\n".join([*lines, f"for example: {' '.join(options)}"])


def _is_batch(symbol: str) -> bool:
    return symbol.lower() in ("", "?", "b", "n", "none") or symbol.lower().startswith(("batch", "unk"))


def _dims(value: Any) -> str:
    dims = value.type.tensor_type.shape.dim
    shown = [
        str(dim.dim_value) if dim.HasField("dim_value") and dim.dim_value >= 0 else dim.dim_param or "?" for dim in dims
    ]
    return f"[{', '.join(shown)}]"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"


# --- functions --------------------------------------------------------------------------------------------------------


def _inline_functions(model: ModelProto) -> ModelProto:
    """Replace the calls of the model's own functions by their bodies."""
    if not model.functions:
        return model
    before = [(node.name, list(node.output)) for node in model.graph.node]
    light, heavy = lighten(model)
    try:
        light = onnx.inliner.inline_local_functions(light, convert_version=True)
    except Exception as error:  # raised from C++
        raise UnsupportedError(f"the model's functions cannot be inlined: {first_line(error)}") from None
    _name_inlined(light.graph, before)
    return restore(light, heavy)


def _inline_operators(model: ModelProto, inline_ops: InlineOps | None) -> ModelProto:
    """Replace the chosen operators by ONNX's own definition of them, again and again until none is left."""
    inline_ops = inline_ops or (lambda op, domain: False)
    stuck = set(_NOT_INLINED)
    for _ in range(MAX_ROUNDS):
        _fold(model)
        version = opset_versions(model)
        chosen = {
            (node.domain, node.op_type)
            for node in model.graph.node
            if (node.domain, node.op_type) not in stuck
            and inline_ops(node.op_type, node.domain)
            and _has_definition(node, version)
        }
        if not chosen:
            break
        before = [(node.name, list(node.output)) for node in model.graph.node]
        count = Counter((node.domain, node.op_type) for node in model.graph.node)
        light, heavy = lighten(model)
        for node in light.graph.node:
            if (node.domain, node.op_type) in chosen:
                _state_defaults(node, version)
        try:
            light = onnx.shape_inference.infer_shapes(light, data_prop=True)
            if _state_definitions(light, chosen, version):
                light = onnx.inliner.inline_local_functions(light)
            light = onnx.inliner.inline_selected_functions(light, sorted(chosen), inline_schema_functions=True)
        except Exception:  # raised from C++: leave them, to be reported as not supported
            break
        del light.graph.value_info[:]
        _name_inlined(light.graph, before)
        model = restore(light, heavy)
        _constants_to_initializers(model.graph)
        after = Counter((node.domain, node.op_type) for node in model.graph.node)
        stuck |= {key for key in chosen if after[key] >= count[key]}
    return model


def _state_definitions(model: ModelProto, chosen: set[tuple[str, str]], versions: Mapping[str, int]) -> bool:
    """Make the definitions of nodes that leave out an input functions of the model: onnx's inliner fails there."""
    types = {value.name: value.type for value in (*model.graph.input, *model.graph.value_info, *model.graph.output)}
    for tensor in model.graph.initializer:
        types[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
    for node in model.graph.node:
        if (node.domain, node.op_type) not in chosen or "" not in node.input:
            continue
        schema: Any = onnx.defs.get_schema(node.op_type, versions.get(node.domain, 1), node.domain)
        if not schema.has_context_dependent_function:
            continue
        inputs = [types[name].SerializeToString() if name else b"" for name in node.input]
        function = onnx.FunctionProto.FromString(
            schema.get_context_dependent_function(node.SerializeToString(), inputs)
        )
        function.domain, function.name = _DEFINITIONS, f"{node.op_type}_{len(model.functions)}"
        for entry in function.opset_import:
            entry.version = versions.get(entry.domain, entry.version)
        node.domain, node.op_type = function.domain, function.name
        model.functions.append(function)
    if not model.functions:
        return False
    model.opset_import.append(onnx.helper.make_opsetid(_DEFINITIONS, 1))
    return True


def _state_defaults(node: NodeProto, versions: Mapping[str, int]) -> None:
    """Write out the attributes left at their defaults, which the inliner forgets."""
    schema = onnx.defs.get_schema(node.op_type, versions.get(node.domain, 1), node.domain)
    stated = {attribute.name for attribute in node.attribute}
    for name, attribute in schema.attributes.items():
        if name not in stated and attribute.default_value.type != AttributeProto.UNDEFINED:
            node.attribute.append(attribute.default_value)


def _has_definition(node: NodeProto, versions: Mapping[str, int]) -> bool:
    try:
        schema = onnx.defs.get_schema(node.op_type, versions.get(node.domain, 1), node.domain)
    except onnx.defs.SchemaError:
        return False
    # onnx's type stubs lack both.
    return bool(getattr(schema, "has_function", False) or getattr(schema, "has_context_dependent_function", False))


def _name_inlined(graph: GraphProto, before: list[tuple[str, list[str]]]) -> None:
    """Name the nodes of an inlined body after the node they replace, which computed the body's last value."""
    owner = {name: node for node, outputs in before for name in outputs if name}
    names = {node.name for node in graph.node if node.name}
    current = ""
    for node in reversed(graph.node):
        current = next((owner[name] for name in node.output if name in owner), current)
        if not node.name:
            node.name = _fresh(f"{current}/{node.op_type}", names)


# --- onnxruntime ------------------------------------------------------------------------------------------------------


def _optimize(model: ModelProto) -> ModelProto:
    """onnxruntime's basic optimisation. A model that it does not take comes back as it is."""
    options = session_options(onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC)
    options.add_session_config_entry("session.disable_aot_function_inlining", "1")
    options.add_session_config_entry("optimization.disable_specified_optimizers", ";".join(_DISABLED_TRANSFORMERS))
    options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", str(MAX_GENERATED_BYTES))
    known = {(node.domain, node.op_type) for node in _every_node(model.graph.node)}
    data = for_onnxruntime(model)
    try:
        with tempfile.TemporaryDirectory(prefix="dlpack-") as folder:
            if shutil.disk_usage(folder).free < 2 * data.ByteSize() + (1 << 20):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            file = Path(folder, "optimized.onnx")
            options.optimized_model_filepath = str(file)
            try:
                onnxruntime.InferenceSession(
                    data.SerializeToString(), options, providers=["CPUExecutionProvider"], enable_fallback=0
                )
                optimized = onnx.load(file)
            except Exception:  # onnxruntime raises many kinds: an operator or a type that it lacks
                return model
    except OSError as error:
        place = tempfile.gettempdir()
        raise UsageError(f"the folder for temporary files, {place}: {error.strerror}; set TMPDIR to another") from None
    for node in _every_node(optimized.graph.node):
        if node.domain == "ai.onnx":
            node.domain = ""
        if (node.domain, node.op_type) not in known and not _standard(node, opset_versions(optimized)):
            return model
    owner = {name: node.name for node in model.graph.node for name in node.output if name}
    names = {node.name for node in optimized.graph.node if node.name}
    for node in optimized.graph.node:
        if not node.name:
            source = node.output[0].removeprefix("InsertedPrecisionFreeCast_")
            node.name = _fresh(f"{owner[source]}/{node.op_type}" if source in owner else node.op_type, names)
    used = {node.domain for node in _every_node(optimized.graph.node)} | {""}
    version = opset_versions(model)
    _replace(optimized.opset_import, [entry for entry in optimized.opset_import if entry.domain in used])
    set_opset(optimized, version[""])
    optimized.ir_version = model.ir_version
    optimized.graph.name = model.graph.name
    return optimized


def _standard(node: NodeProto, versions: Mapping[str, int]) -> bool:
    try:
        onnx.defs.get_schema(node.op_type, versions.get(node.domain, 1), node.domain)
    except onnx.defs.SchemaError:
        return False
    return True


def _every_node(nodes: Iterable[NodeProto]) -> Iterable[NodeProto]:
    for node in nodes:
        yield node
        for sub in subgraphs(node):
            yield from _every_node(sub.node)


def _check_sizes(model: ModelProto, types: Mapping[str, ValueType]) -> None:
    """Refuse values that no memory should be taken for, before anything is computed."""
    places = [(f"input '{value.name}'", value.name) for value in model.graph.input]
    places += [(f"{describe(node)}: its output '{name}'", name) for node in model.graph.node for name in node.output]
    large = []
    for where, name in places:
        kind = types.get(name, ValueType())
        size = math.prod(kind.shape or ()) * TENSOR_BITS.get(kind.elem, 0) // 8
        if len(kind.shape or ()) > MAX_RANK:
            large.append(f"{where} has {len(kind.shape or ())} dimensions")
        elif size > MAX_MODEL_BYTES:
            large.append(f"{where} has the shape {list(kind.shape or ())}, {size} bytes")
    if large:
        raise UnsupportedError(f"values of more than 2 GiB or {MAX_RANK} dimensions are not supported:", tuple(large))


# --- folding ----------------------------------------------------------------------------------------------------------


def _constants_to_initializers(graph: GraphProto) -> None:
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
        _replace(graph.node, kept)


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

    def __init__(self, model: ModelProto) -> None:
        self.model = model
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

    def run(self) -> bool:
        kept: list[NodeProto] = []
        for node in self.graph.node:
            for index, name in enumerate(node.input):
                if name in self.alias:
                    node.input[index] = self.alias[name]
            kept.extend(self.visit(node))
        if self.changed:
            self.graph.initializer.extend(self.new.values())
            _replace(self.graph.node, kept)
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
        if values is None:
            return [node]
        self.changed = True
        for name, value in values.items():
            value.name = name
            self.new[name] = value
        return []

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
        names = {
            name: _fresh(f"{node.name}/{name}", self.taken)
            for name in (*(tensor.name for tensor in graph.initializer), *(out for n in graph.node for out in n.output))
            if name
        }
        body = []
        for tensor in graph.initializer:
            copy = TensorProto()
            copy.CopyFrom(tensor)
            copy.name = names[tensor.name]
            self.new[copy.name] = copy
        for index, inner in enumerate(graph.node):
            copied = NodeProto()
            copied.CopyFrom(inner)
            _rename(copied, names)
            copied.name = f"{node.name}/{inner.name or f'{inner.op_type}_{index}'}"
            body.append(copied)
        for value, name in zip(graph.output, node.output, strict=False):
            if name:
                source = names.get(value.name, value.name)
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
        if op in ("ConstantOfShape", "Range"):
            made = _generate(node, [to_numpy(inputs[name]) for name in node.input if name])
            return None if made is None else {outputs[0]: onnx.numpy_helper.from_array(made)}
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
        except Exception:  # the reference evaluator raises many kinds: leave the node to the compiler
            return None
        return tensors


def _generate(node: NodeProto, inputs: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any] | None:
    """ConstantOfShape or Range, whose few numbers may ask for any amount of memory; None if it is too much."""
    if node.op_type == "ConstantOfShape":
        shape = tuple(int(size) for size in inputs[0].ravel())
        value = next((to_numpy(attribute.t) for attribute in node.attribute), np.zeros(1, np.float32))
        if len(shape) > MAX_RANK or any(size < 0 for size in shape) or value.size != 1:
            return None
        if math.prod(shape) * value.itemsize > MAX_GENERATED_BYTES:
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


def _rename(node: NodeProto, names: Mapping[str, str]) -> None:
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
            _rename(inner, outer)
        for value in sub.output:
            value.name = outer.get(value.name, value.name)


def _fold(model: ModelProto) -> None:
    """Fold constants and drop copies and dead nodes, until nothing changes."""
    for _ in range(MAX_ROUNDS):
        _drop_dead(model.graph)
        if not _Folder(model).run():
            return


def _drop_dead(graph: GraphProto) -> None:
    """Drop the nodes and weights that no output needs."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if not needed.intersection(node.output):
            continue
        needed.update(name for name in node.input if name)
        for sub in subgraphs(node):
            needed |= free_names(sub)
        if node.op_type in _OPTIONAL_OUTPUTS:
            for index, name in enumerate(node.output):
                if index and name not in needed:
                    node.output[index] = ""
            while not node.output[-1]:
                del node.output[-1]
        kept.append(node)
    if len(kept) < len(graph.node):
        _replace(graph.node, reversed(kept))
    unused = [index for index, tensor in enumerate(graph.initializer) if tensor.name not in needed]
    for index in reversed(unused):
        del graph.initializer[index]


def _finish(model: ModelProto) -> None:
    """Let a node compute every output: Identity where it is constant, the node itself where it was copied."""
    graph = model.graph
    _rename_outputs(graph)
    taken = {name for node in graph.node for name in node.output} | {value.name for value in graph.input}
    taken |= {tensor.name for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    for tensor in graph.initializer:
        if tensor.name not in outputs:
            continue
        name = tensor.name
        tensor.name = _fresh(f"{name}/value", taken)
        for node in graph.node:
            _rename(node, {name: tensor.name})
        graph.node.append(onnx.helper.make_node("Identity", [tensor.name], [name], name=name))
    _drop_dead(graph)


def _rename_outputs(graph: GraphProto) -> None:
    """Where an Identity only names an output, let the node before it compute that output."""
    outputs = {value.name for value in graph.output}
    producers = {name: node for node in graph.node for name in node.output if name}
    inner = {name for node in graph.node for sub in subgraphs(node) for name in free_names(sub)}
    names: dict[str, str] = {}
    kept = []
    for node in graph.node:
        if node.op_type == "Identity" and node.domain == "":
            source = node.input[0]
            if source in producers and source not in outputs and source not in inner and source not in names:
                names[source] = node.output[0]
                continue
        kept.append(node)
    if not names:
        return
    for node in kept:
        for index, name in enumerate(node.input):
            node.input[index] = names.get(name, name)
        for index, name in enumerate(node.output):
            node.output[index] = names.get(name, name)
    _replace(graph.node, kept)
