"""Who runs an ONNX model for us: onnxruntime, and onnx's reference evaluator where onnxruntime cannot."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime

from dlpack.bundle.texts import objects, rows
from dlpack.errors import ModelError
from dlpack.graph.ir import Array
from dlpack.meaning.cityhash import category_hashes
from dlpack.model.half import with_wide_borders
from dlpack.model.infer import lighten, restore, to_numpy

Runner = Callable[[Mapping[str, Array]], list[Array]]

# What onnxruntime says of a model whose operands contradict each other. Other refusals are of what it does not have,
# which onnx's evaluator may; but that evaluator also computes what makes no sense.
_CONTRADICTION = re.compile(
    r"\[(Shape|Type)InferenceError\]|Type '(?!tensor\((u?int2|float4|float8))[^']*' of input parameter|INVALID_ARGUMENT"
)

# What it says of values that it was given, in a model that is sound.
_VALUES = re.compile(
    r"out of (data )?bounds|out of range|invalid ind(ex|ice)|Index value|sequence_lens|seq_lengths|batch_indices|"
    r"indices must be|by zero|k argument|must be non-negative|Invalid.*Slice",
    re.IGNORECASE,
)


class ValuesRefused(ModelError):
    """The reference runs the model, but not with the values that its inputs were given."""


def run_onnxruntime(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> list[Array]:
    """All outputs, computed by onnxruntime without optimisations, in order.

    Raises ValuesRefused where other values may do, and ModelError for a damaged model.
    """
    return runner(model)(inputs)


def runner(model: onnx.ModelProto, optimised: bool = False) -> Runner:
    """The model in onnxruntime, or in onnx's reference evaluator where onnxruntime cannot run it."""
    session: Any = None
    wide = _with_locale(with_wide_borders(model))
    narrow = [o.type.tensor_type.elem_type == onnx.TensorProto.BFLOAT16 for o in model.graph.output]

    def run(inputs: Mapping[str, Array]) -> list[Array]:
        nonlocal session
        try:
            session = session or _session(wide, optimised)
            wider = {n: x.astype(np.float32) for n, x in inputs.items() if x.dtype == ml_dtypes.bfloat16}
            given = _given(model, inputs) | wider
            outputs = [rows(np.asarray(o)) for o in session.run(None, given)]
            return [o.astype(ml_dtypes.bfloat16) if n else o for n, o in zip(narrow, outputs, strict=True)]
        except Exception as e:
            if session is not None and _VALUES.search(str(e)):
                raise ValuesRefused(f"onnxruntime refuses the inputs' values: {e}") from e
            if _CONTRADICTION.search(str(e)):
                raise ModelError(f"onnxruntime refuses this model: {e}; export it again") from e
            try:
                return evaluated(model, inputs)
            except IndexError as second:
                raise ValuesRefused(f"onnx refuses the inputs' values: {second}") from e
            except Exception as second:  # noqa: BLE001 - the evaluator raises anything
                raise ModelError(f"neither onnxruntime nor onnx can run this model: {e}; {second}") from e

    return run


_HELD = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.INT64,
    onnx.TensorProto.INT32,
    onnx.TensorProto.INT8,
    onnx.TensorProto.UINT8,
)
"""Types of weights that onnxruntime takes as arrays."""


def _session(model: onnx.ModelProto, optimised: bool) -> Any:
    """A session of the model; it takes large weights as arrays, since to write and read them as a file takes long."""
    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    options.log_severity_level = 4  # its errors come as exceptions, which we report
    light, heavy = lighten(model, lambda tensor: tensor.data_type in _HELD)
    place = onnx.StringStringEntryProto(key="location", value="memory")
    restore(
        light,
        [
            onnx.TensorProto(
                name=t.name, data_type=t.data_type, dims=t.dims, data_location="EXTERNAL", external_data=[place]
            )
            for t in heavy
        ],
    )
    arrays = [onnxruntime.OrtValue.ortvalue_from_numpy(to_numpy(t)) for t in heavy]
    if heavy:
        options.add_external_initializers([t.name for t in heavy], arrays)
    return onnxruntime.InferenceSession(light.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _given(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The inputs as a runner takes them: strings as objects, or their hashes where the model takes these."""
    texts = {v.name for v in model.graph.input if v.type.tensor_type.elem_type == onnx.TensorProto.STRING}
    given = {n: objects(x) for n, x in inputs.items()}
    return {n: category_hashes(x) if x.dtype == object and n not in texts else x for n, x in given.items()}


def _with_locale(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the locale that every Linux has, in which letters have the same cases as in en_US."""
    if sys.platform != "linux" or not any(node.op_type == "StringNormalizer" for node in model.graph.node):
        return model
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for node in made.graph.node:
        if node.op_type == "StringNormalizer":
            others = [a for a in node.attribute if a.name != "locale"]
            del node.attribute[:]
            node.attribute.extend([*others, onnx.helper.make_attribute("locale", "C.UTF-8")])
    return made


def evaluated(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> list[Array]:
    """All outputs, computed by onnx's reference evaluator, which raises anything."""
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class DequantizeLinear(OpRun):
        """The evaluator's own begins with opset 19."""

        op_domain = ""

        def _run(self, x: Array, scale: Array, zero: Array | None = None, **attributes: Any) -> tuple[Array]:
            shape = [1] * x.ndim
            if scale.size > 1:
                axis = attributes.get("axis")
                shape[1 if axis is None else axis] = scale.size
            offset = np.zeros(shape, scale.dtype) if zero is None else zero.astype(scale.dtype).reshape(shape)
            return ((x.astype(scale.dtype) - offset) * scale.reshape(shape),)

    old = any(o.domain == "" and o.version < 19 for o in model.opset_import)
    more: list[Any] = [DequantizeLinear] if old else []
    given = _given(model, inputs)
    return [rows(np.asarray(o)) for o in ReferenceEvaluator(model, new_ops=more).run(None, given)]
