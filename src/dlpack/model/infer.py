"""The type and static shape of every value, from ONNX's shape inference and, where that ends, from one run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.reference
import onnxruntime
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto

from dlpack.model.control import Outside, is_control_flow, is_typed, loop_types, outside_of, problem_of
from dlpack.model.infer_ml import DOMAIN as ML_DOMAIN
from dlpack.model.infer_ml import MlNode, take_ml_node
from dlpack.model.infer_windows import DOMAIN as JUDGED_DOMAIN
from dlpack.model.infer_windows import Judged, take_judged
from dlpack.model.tensors import tensor_bytes
from dlpack.model.walk import describe, free_names, opset_versions, subgraphs

# Weights up to this size stay in the model for shape inference: they may be shapes, axes or indices.
SMALL_WEIGHT_BYTES = 4096
MAX_FOLLOWED_VALUES = 1 << 17

# Operators whose output shape depends on their inputs' values.
DATA_DEPENDENT = frozenset(
    ("If", "ImageDecoder", "Loop", "NonMaxSuppression", "NonZero", "Scan", "StringSplit", "Unique")
)

# Inputs whose values (not only their shapes) decide the shape of the output. Those of Squeeze, Unsqueeze, Split, Slice,
# Pad and the reductions were attributes in older opsets, and are then not there.
SHAPE_INPUTS: dict[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "Compress": (1,),
    "ConstantOfShape": (0,),
    "DFT": (1, 2),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "ImageDecoder": (0,),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "STFT": (1, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "SplitToSequence": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
    **{
        f"Reduce{kind}": (1,)
        for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
    },
}


# Operators for which onnx infers a wrong shape: STFT's `onesided`, which is 1 by default.
_MISJUDGED = frozenset(("STFT",))


@dataclass(frozen=True)
class StatedNode:
    """A node of ours, whose attributes say what its outputs are (`strings.py`)."""

    node: NodeProto

    def output_types(self, types: Mapping[str, tuple[int, tuple[int, ...]]]) -> dict[str, tuple[int, tuple[int, ...]]]:
        """Output → its type; nothing where an input's is not known."""
        if any(name and name not in types for name in self.node.input):
            return {}
        said = {a.name: onnx.helper.get_attribute_value(a) for a in self.node.attribute}
        return {name: (said[f"elem{k}"], tuple(said[f"shape{k}"])) for k, name in enumerate(self.node.output)}


STATED_DOMAIN = "dlpack"


@dataclass(frozen=True)
class ValueType:
    """What is known of a value: ONNX element type (0: unknown), shape (None: unknown), `kind` if it is no tensor."""

    elem: int = 0
    shape: tuple[int, ...] | None = None
    kind: str = "tensor"

    @property
    def known(self) -> bool:
        return self.kind == "tensor" and self.elem != 0 and self.shape is not None


def shape_inputs(node: NodeProto, opset: int) -> list[int]:
    """Indices of the node's inputs that must be constant for its output to have a static shape."""
    if node.domain != "":
        return []
    indices = SHAPE_INPUTS.get(node.op_type, ())
    if node.op_type == "Resize":
        indices = (1,) if opset < 11 else (2, 3)
    return [index for index in indices if index < len(node.input) and node.input[index]]


def lighten(
    model: ModelProto, chosen: Callable[[TensorProto], bool] = lambda _: True
) -> tuple[ModelProto, list[TensorProto]]:
    """The model with its large weights as graph inputs, and those weights: cheap to serialise for onnx's C++ passes.

    Only those that are `chosen` become inputs.
    """
    light = ModelProto()
    for field, value in model.ListFields():
        if field.name == "graph":
            continue
        if field.is_repeated:
            getattr(light, field.name).extend(value)
        else:
            setattr(light, field.name, value)
    heavy = []
    for field, value in model.graph.ListFields():
        if field.name == "initializer":
            for tensor in value:
                if tensor_bytes(tensor) <= SMALL_WEIGHT_BYTES or not chosen(tensor):
                    light.graph.initializer.append(tensor)
                else:
                    heavy.append(tensor)
        elif field.is_repeated:
            getattr(light.graph, field.name).extend(value)
        else:
            setattr(light.graph, field.name, value)
    for tensor in heavy:
        light.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return light, heavy


def restore(light: ModelProto, heavy: Iterable[TensorProto]) -> ModelProto:
    """Undo `lighten`, on a model that has passed through other hands since."""
    weights = {tensor.name: tensor for tensor in heavy}
    inputs = [value for value in light.graph.input if value.name not in weights]
    kept = [_copy(value) for value in inputs]
    del light.graph.input[:]
    light.graph.input.extend(kept)
    light.graph.initializer.extend(weights.values())
    return light


def _copy(value: ValueInfoProto) -> ValueInfoProto:
    copy = ValueInfoProto()
    copy.CopyFrom(value)
    return copy


_Taken = MlNode | StatedNode | Judged


def infer_types(model: ModelProto, follow_values: bool = True) -> dict[str, ValueType]:
    """What ONNX's shape inference knows of each value. Shapes that the file states for inner values are not trusted.

    `follow_values`: compute with the values of small shape tensors too.
    """
    light, heavy = lighten(model)
    del light.graph.value_info[:]
    for value in light.graph.output:
        value.ClearField("type")
    _state_loops(light.graph, opset_versions(model).get("", 0))
    constants = {tensor.name: tensor for tensor in light.graph.initializer}
    opset = opset_versions(model).get("", 0)
    taken: list[_Taken] = [take_ml_node(node) for node in light.graph.node if node.domain == ML_DOMAIN]
    taken += [StatedNode(node) for node in light.graph.node if node.domain == STATED_DOMAIN]
    taken += [judged for node in light.graph.node if (judged := take_judged(node, constants, opset))]
    if any(node.domain == JUDGED_DOMAIN for node in light.graph.node):
        light.opset_import.add(
            domain=JUDGED_DOMAIN, version=1
        )  # onnx's inference refuses domains that are not imported
    types = _infer(light, heavy, False)
    while _state_types(light.graph, taken, types):
        types = _infer(light, heavy, False)
    if follow_values:
        # onnx keeps a symbol for each element of each vector, be it a shape or not.
        longest = max((kind.shape[0] for kind in types.values() if kind.shape and len(kind.shape) == 1), default=0)
        if longest <= MAX_FOLLOWED_VALUES:
            types = _infer(light, heavy, True)
    doubtful: set[str] = set()
    for node in model.graph.node:
        if (node.op_type in _MISJUDGED and node.domain == "") or not doubtful.isdisjoint(node.input):
            doubtful.update(filter(None, node.output))
    types.update({name: ValueType(types[name].elem) for name in doubtful if name in types})
    return types


def _state_loops(graph: GraphProto, opset: int) -> None:
    """Tell the types of the loops' outputs, which onnx's inference leaves open."""
    outside = outside_of(graph, opset)
    outputs = {value.name: value for value in graph.output}
    for node in graph.node:
        if node.op_type == "Loop" and node.domain == "":
            for name, kind in zip(node.output, loop_types(node, outside), strict=False):
                if name in outputs:
                    outputs[name].type.CopyFrom(kind)
                elif name:
                    graph.value_info.append(ValueInfoProto(name=name, type=kind))


def _state_types(graph: GraphProto, nodes: Iterable[_Taken], types: Mapping[str, ValueType]) -> bool:
    """Write the types of these nodes' outputs into the graph if the inputs' are known; returns whether any is new."""
    outputs = {value.name: value for value in graph.output}
    known = {name: (kind.elem, kind.shape) for name, kind in types.items() if kind.known and kind.shape is not None}
    new = False
    for node in nodes:
        for name, (elem, shape) in node.output_types(known).items():
            if name not in known:
                value = outputs.get(name) or graph.value_info.add(name=name)
                value.type.CopyFrom(onnx.helper.make_tensor_type_proto(elem, shape))
                known[name] = (elem, shape)
                new = True
    return new


def _infer(light: ModelProto, heavy: Iterable[TensorProto], data_prop: bool) -> dict[str, ValueType]:
    with suppress(Exception):  # raised from C++ for some broken models; what is not inferred is found or refused later
        light = onnx.shape_inference.infer_shapes(light, check_type=False, strict_mode=False, data_prop=data_prop)
    types = {}
    for value in (*light.graph.input, *light.graph.value_info, *light.graph.output):
        types[value.name] = value_type(value.type)
    for tensor in (*light.graph.initializer, *heavy):
        types[tensor.name] = ValueType(tensor.data_type, tuple(tensor.dims))
    return types


def value_type(proto: TypeProto) -> ValueType:
    kind = proto.WhichOneof("value")
    if kind is None:
        return ValueType()
    if kind != "tensor_type":
        return ValueType(kind=kind.removesuffix("_type"))
    tensor = proto.tensor_type
    if not tensor.HasField("shape"):
        return ValueType(tensor.elem_type)
    dims = tensor.shape.dim
    if any(not dim.HasField("dim_value") or dim.dim_value < 0 for dim in dims):
        return ValueType(tensor.elem_type)
    return ValueType(tensor.elem_type, tuple(dim.dim_value for dim in dims))


def dynamic_values(model: ModelProto) -> dict[str, str]:
    """Value → why its shape may change from run to run, for each value that depends on a data-dependent operator."""
    opset = opset_versions(model).get("", 0)
    outside = outside_of(model.graph, opset)
    constants = set(outside.constants)
    why: dict[str, str] = {}
    for node in model.graph.node:
        reason = ""
        if node.op_type in DATA_DEPENDENT and node.domain == "":
            reason = f"{describe(node)}: {_dynamic(node, outside)}"
        for index in shape_inputs(node, opset):
            if node.input[index] not in constants:
                reason = (
                    f"{describe(node)}: the shape of its output depends on its input '{node.input[index]}', "
                    "which is not constant"
                )
        if not reason:
            reason = next((why[name] for name in node.input if name in why), "")
        if reason:
            for name in node.output:
                if name:
                    why[name] = reason
    return why


def _dynamic(node: NodeProto, outside: Outside) -> str:
    if is_control_flow(node) and all(is_typed(body) for body in subgraphs(node)):
        return problem_of(node, outside) or "the shape of its output is not known"
    return "the shape of its output depends on the data"


def shape_deciding_inputs(model: ModelProto) -> set[str]:
    """The graph inputs whose values, not only shapes, decide the shape of a value: they must become constants."""
    inputs = {value.name for value in model.graph.input}
    opset = opset_versions(model).get("", 0)
    deciding: set[str] = set()
    for node in reversed(model.graph.node):
        if node.op_type in ("Shape", "Size") and node.domain == "":
            continue
        deciding.update(node.input[index] for index in shape_inputs(node, opset))
        if not deciding.isdisjoint(node.output):
            deciding.update(filter(None, node.input))
            for sub in subgraphs(node):
                deciding |= free_names(sub)
    return deciding & inputs


def run_types(model: ModelProto, wanted: Iterable[str], types: Mapping[str, ValueType]) -> dict[str, ValueType]:
    """The types of the wanted values, seen in one run on made-up inputs: onnxruntime's, or that of onnx's own evaluator
    where the model is too new. Raises what onnxruntime raises.
    """
    probe = ModelProto()
    probe.CopyFrom(model)
    del probe.graph.value_info[:]
    del probe.graph.output[:]
    names = list(wanted)
    for name in names:
        probe.graph.output.append(ValueInfoProto(name=name))
    feeds = {}
    for value in model.graph.input:
        kind = types[value.name]
        assert kind.shape is not None
        feeds[value.name] = example(kind.elem, kind.shape)
    try:
        session = onnxruntime.InferenceSession(
            for_onnxruntime(probe).SerializeToString(),
            session_options(onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL),
            providers=["CPUExecutionProvider"],
            enable_fallback=0,
        )
        if any(array.dtype == object for array in feeds.values()):  # strings, which OrtValues are not made of
            arrays = session.run(names, feeds)
            return {name: _type_of(array) for name, array in zip(names, arrays, strict=True)}
        results = session.run_with_ort_values(names, _ort_values(feeds))
    except Exception as error:  # noqa: BLE001 - onnxruntime raises many kinds
        try:
            arrays = onnx.reference.ReferenceEvaluator(probe).run(names, feeds)
        except Exception:  # noqa: BLE001 - the evaluator raises anything
            raise error from None
        return {name: _type_of(array) for name, array in zip(names, arrays, strict=True)}
    found = {}
    for name, result in zip(names, results, strict=True):
        if not result.is_tensor():
            found[name] = ValueType(kind="sequence")
        else:
            found[name] = ValueType(result.element_type(), tuple(result.shape()))
    return found


def _type_of(value: Any) -> ValueType:
    if not isinstance(value, np.ndarray | np.generic):
        return ValueType(kind="sequence")
    return ValueType(onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def _ort_values(feeds: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
    return {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in feeds.items()}


def example(elem: int, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """A harmless value of the type: floats in [0, 1), whole numbers 1 (0 could be divided by)."""
    dtype = onnx.helper.tensor_dtype_to_np_dtype(elem)
    if np.issubdtype(dtype, np.floating):
        return np.random.default_rng(0).random(shape, dtype=np.float32).astype(dtype)
    return np.ones(shape, dtype)


def element_type_name(elem: int) -> str | None:
    """The name of an ONNX element type, as numpy or ml_dtypes has it; None for strings and what no operator takes."""
    if elem == TensorProto.STRING:
        return None
    try:
        name = str(onnx.helper.tensor_dtype_to_np_dtype(elem).name)
    except (KeyError, TypeError):
        return None
    return None if name.startswith("float6_") else name


def to_numpy(tensor: TensorProto) -> np.ndarray[Any, Any]:
    """The tensor as a numpy array; bfloat16 as ml_dtypes.bfloat16."""
    array = np.asarray(onnx.numpy_helper.to_array(tensor))
    if tensor.data_type == TensorProto.BFLOAT16 and array.dtype != ml_dtypes.bfloat16:
        array = array.astype(np.float32).astype(ml_dtypes.bfloat16)
    return array


# --- onnxruntime ------------------------------------------------------------------------------------------------------


def session_options(level: Any) -> onnxruntime.SessionOptions:
    """Quiet, single-threaded (the same result every time) options."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions too
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.use_deterministic_compute = True
    options.graph_optimization_level = level
    return options


@functools.cache
def onnxruntime_limits() -> tuple[int, int]:
    """The newest opset and the newest IR version that the installed onnxruntime takes, found by asking it."""

    def accepts(opset: int, ir_version: int) -> bool:
        value = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Relu", ["x"], ["y"])],
            "probe",
            [value("x", TensorProto.FLOAT, [1])],
            [value("y", TensorProto.FLOAT, [1])],
        )
        opsets = [onnx.helper.make_opsetid("", opset)]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
        options = session_options(onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
        try:
            onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
        except Exception:  # noqa: BLE001 - onnxruntime raises many kinds
            return False
        return True

    newest = onnx.defs.onnx_opset_version()
    opset = next((version for version in range(newest, 14, -1) if accepts(version, 8)), 14)
    ir_version = next((version for version in range(onnx.IR_VERSION, 8, -1) if accepts(opset, version)), 8)
    return opset, ir_version


def for_onnxruntime(model: ModelProto) -> ModelProto:
    """The model with an opset and IR version that the installed onnxruntime knows, where that changes nothing.

    onnx is often a release ahead of onnxruntime. The model is returned as it is if nothing has to, or can, be done.
    """
    newest_opset, newest_ir = onnxruntime_limits()
    opset = opset_versions(model).get("", 0)
    lower_opset = opset > newest_opset and all(
        _same_schema(node, opset, newest_opset) for node in _all_nodes(model.graph.node)
    )
    if model.ir_version <= newest_ir and not lower_opset:
        return model
    older = ModelProto()
    older.CopyFrom(model)
    older.ir_version = min(model.ir_version, newest_ir)
    if lower_opset:
        set_opset(older, newest_opset)
    return older


def set_opset(model: ModelProto, version: int) -> None:
    for entry in model.opset_import:
        if entry.domain == "":
            entry.version = version


def _all_nodes(nodes: Iterable[NodeProto]) -> Iterable[NodeProto]:
    for node in nodes:
        yield node
        for sub in subgraphs(node):
            yield from _all_nodes(sub.node)


def _same_schema(node: NodeProto, newer: int, older: int) -> bool:
    if node.domain != "":
        return True
    try:
        return bool(onnx.defs.get_schema(node.op_type, newer, "").since_version <= older)
    except onnx.defs.SchemaError:
        return False
