"""What travels with an ONNX model in its metadata: class names, preprocessing and task, each as JSON text.

The keys are `dlpack.labels`, `dlpack.preprocess` and `dlpack.task`; `dlpack build` takes them where its options do not
say otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from onnx import ModelProto, ValueInfoProto, helper

from dlpack.meaning import preprocess as preprocessing
from dlpack.meaning import task as tasks
from dlpack.meaning.labels import check_labels
from dlpack.model.meaning import tell_quantization


def describe(model: ModelProto, labels: Sequence[str] | None, preprocess: str | None, task: str | None) -> None:
    """Stores what `--labels`, `--preprocess` and `--task` say in the model, in place of what it has there.

    Preprocessing and task are checked against inputs and outputs where their shapes are known. Raises UsageError for
    what is wrong or does not fit.
    """
    inputs, outputs = described_inputs(model, {}), _described(model.graph.output, {})
    if (preprocess or task) and inputs and outputs:
        tell_quantization(model, [*inputs, *outputs])
    if labels:
        _store(model, "dlpack.labels", list(check_labels(labels, "--labels")))
    if preprocess:
        value: Any = preprocessing.read_option(preprocess)
        if inputs:
            preprocessing.from_json(value, inputs)
        _store(model, "dlpack.preprocess", value)
    if task:
        value = tasks.read_option(task)
        if inputs and outputs:
            tasks.from_json(value, inputs, outputs, f"--task {task}")
        _store(model, "dlpack.task", value)


def described_inputs(model: ModelProto, shapes: Mapping[str, Sequence[int]]) -> list[dict[str, Any]]:
    """The model's inputs as a manifest has them, with these shapes by name; none where one is left open."""
    weights = {t.name for t in model.graph.initializer}
    return _described((v for v in model.graph.input if v.name not in weights), shapes)


def _described(values: Iterable[ValueInfoProto], shapes: Mapping[str, Sequence[int]]) -> list[dict[str, Any]]:
    found = []
    for value in values:
        tensor = value.type.tensor_type
        shape = list(shapes.get(value.name) or (d.dim_value for d in tensor.shape.dim))
        if not tensor.elem_type or min(shape, default=1) < 1:
            return []
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
        found.append({"name": value.name, "dtype": dtype, "shape": shape})
    return found


def _store(model: ModelProto, key: str, value: Any) -> None:
    kept = [entry for entry in model.metadata_props if entry.key != key]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    entry = model.metadata_props.add()
    entry.key, entry.value = key, json.dumps(value)
