"""onnxruntime's basic optimisation of a model that is being cleaned."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import onnx
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto

from dlpack.errors import UsageError
from dlpack.model.fold import fresh_name, set_items
from dlpack.model.infer import for_onnxruntime, lighten, restore, session_options, set_opset
from dlpack.model.tensors import MAX_MODEL_BYTES
from dlpack.model.walk import opset_versions, subgraphs

# Transformers of onnxruntime that make operators of its own, that suit only the machine that runs them, or that put
# reshapes and foreign names around a product (MatMulAddFusion).
_DISABLED_TRANSFORMERS = (
    "MatMulAddFusion",
    "Avx2WeightS8ToU8Transformer",
    "QDQS8ToU8Transformer",
    "DQMatMulNBitsFusion",
    "LabelEncoderFusion",
)


def optimize(model: ModelProto, folds: bool) -> ModelProto:
    """onnxruntime's basic optimisation, that of constants if `folds`. A model that it does not take comes back as it
    is.
    """
    options = session_options(onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC)
    options.add_session_config_entry("session.disable_aot_function_inlining", "1")
    disabled = (*_DISABLED_TRANSFORMERS, *(() if folds else ("ConstantFolding",)))
    options.add_session_config_entry("optimization.disable_specified_optimizers", ";".join(disabled))
    options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", str(MAX_MODEL_BYTES))
    known = {(node.domain, node.op_type) for node in _every_node(model.graph.node)}
    light, heavy = lighten(model, _only_multiplied(model))
    data = for_onnxruntime(light)
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
            except Exception:  # noqa: BLE001 - onnxruntime raises many kinds: an operator or a type that it lacks
                return model
    except OSError as error:
        place = tempfile.gettempdir()
        raise UsageError(f"the folder for temporary files, {place}: {error.strerror}; set TMPDIR to another") from None
    optimized = restore(optimized, heavy)
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
            node.name = fresh_name(f"{owner[source]}/{node.op_type}" if source in owner else node.op_type, names)
    used = {node.domain for node in _every_node(optimized.graph.node)} | {""}
    version = opset_versions(model)
    set_items(optimized.opset_import, [entry for entry in optimized.opset_import if entry.domain in used])
    set_opset(optimized, version[""])
    optimized.ir_version = model.ir_version
    optimized.graph.name = model.graph.name
    return optimized


_CHANGES_WEIGHTS = frozenset({"BatchNormalization", "QuantizeLinear", "DequantizeLinear"})
"""Operators beside which onnxruntime computes other weights of products."""


def _only_multiplied(model: ModelProto) -> Callable[[TensorProto], bool]:
    """Says of which weights onnxruntime needs no values: products with what is no constant, and tables of rows."""
    nodes, used, free = list(_every_node(model.graph.node)), set[str](), set[str]()
    constants = {t.name for t in model.graph.initializer}
    for node in nodes:
        variable = {"MatMul": 0, "Gather": 1}.get(node.op_type)
        alone = variable is not None and not node.domain and node.input[variable] not in constants
        used.update(name for k, name in enumerate(node.input) if not alone or k == variable)
        free.update(node.input)
    if any(node.op_type in _CHANGES_WEIGHTS for node in nodes):
        return lambda _: False
    kept = used | {v.name for v in model.graph.output}
    return lambda t: t.data_type == TensorProto.FLOAT and t.name in free and t.name not in kept


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
