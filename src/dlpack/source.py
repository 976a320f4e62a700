"""Reads a model as ONNX, whether it is an ONNX file, another framework's file, or Python code."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlpack.errors import ModelError, UsageError
from dlpack.meaning.labels import labels_from_metadata
from dlpack.meaning.shape_sets import Shapes

_BATCH = re.compile(r"|\?|[bnm]|bs|none|s\d+|unk.*|.*batch.*|.*(dim|axis)_?0", re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """A model as read from its file."""

    proto: Any
    sha256: str
    opset: str
    metadata: dict[str, str]
    labels: tuple[str, ...] | None
    warnings: tuple[str, ...]
    exported: bool = False
    """Whether an exporter made it, for the shapes it was given."""
    outputs: int = 0
    """How many outputs the model itself has; behind them are the inner values that are kept."""

    def open_shapes(self, shapes: Shapes) -> Shapes:
        """The shapes without those of inputs that an exporter left out, since only their shape was needed."""
        if not self.exported:
            return shapes
        inputs = {value.name for value in self.proto.graph.input}
        return {name: shape for name, shape in shapes.items() if name in inputs}


def read_source(
    model: Path,
    params: Path | None = None,
    shapes: Shapes | None = None,
    dtypes: Mapping[str, str] | None = None,
    values: Mapping[str, tuple[str, ...]] | None = None,
    internals: Sequence[str] = (),
) -> Source:
    """The model as ONNX: read from an ONNX file, or exported from another framework's file or from a callable.

    The inputs in `values` are replaced by constants; the inner values in `internals` become outputs.
    """
    from dlpack.exporters import ExportOptions, accepted, export, find_exporter, is_callable
    from dlpack.exporters.base import main_file
    from dlpack.model.clean import copy_inputs_given_back
    from dlpack.model.load import load_model
    from dlpack.model.tensors import weight_warnings

    model = main_file(model)
    options = ExportOptions(shapes or {}, dtypes or {})
    parts = [model]
    warnings: tuple[str, ...] = ()
    made = is_callable(model) or ((model.is_file() or model.is_dir()) and find_exporter(model) is not None)
    if is_callable(model):
        proto, parts = export(model, params, options).model, [params] if params else []
    elif made:
        exported = export(model, params, options)
        proto, warnings = exported.model, exported.warnings
        parts += [exported.params] if exported.params else []
    elif params is not None:
        raise UsageError(f"--params applies only to models stored in two files, and {model} is a single file")
    else:
        try:
            proto = load_model(model)
        except ModelError as e:
            raise e if model.suffix == ".onnx" else ModelError(f"{e}; accepted formats: {accepted()}") from e
    opset = ", ".join(f"{o.domain or 'ai.onnx'} opset {o.version}" for o in proto.opset_import)
    metadata = {p.key: p.value for p in proto.metadata_props}
    labels = labels_from_metadata(metadata["dlpack.labels"]) if "dlpack.labels" in metadata else None
    digest = _digest(parts) or hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()
    if values:
        from dlpack.model.values import fix_values

        fix_values(proto, values)
    renamed = copy_inputs_given_back(proto)
    warnings += tuple(f"the output '{x}' is the input '{x}' itself: it is called '{y}'" for x, y in renamed.items())
    outputs = len(proto.graph.output)
    if internals:
        from dlpack.model.internals import keep_internals

        keep_internals(proto, internals)
    return Source(proto, digest, opset, metadata, labels, (*warnings, *weight_warnings(proto)), made, outputs)


def _digest(files: Sequence[Path]) -> str:
    """The SHA-256 of the files, one behind the other; "" where there is nothing in them."""
    found, there = hashlib.sha256(), False
    for file in files:
        with open(file, "rb") as data:
            while part := data.read(1 << 22):
                found.update(part)
                there = True
    return found.hexdigest() if there else ""


def _open(value: Any) -> list[int]:
    """The open dimensions of an input."""
    dims = value.type.tensor_type.shape.dim
    return [k for k, d in enumerate(dims) if not d.HasField("dim_value") or d.dim_value < 0]


def close_batch(proto: Any, shapes: Shapes, bucketed: str = "") -> tuple[str, ...]:
    """Makes the first dimension of each input 1 where it alone is open and is a batch, in place, and says so.

    Nothing is changed where another dimension is open, unless the input `bucketed` has one of those, for which there
    are buckets; or where `shapes` gives the size.
    """
    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = [v for v in proto.graph.input if v.name not in constants and v.type.WhichOneof("value") == "tensor_type"]
    found, names = [], set()
    if any(value.name == bucketed and _open(value) == [0] for value in inputs):
        return ()
    for value in inputs:
        tensor, opened = value.type.tensor_type, _open(value)
        if not tensor.HasField("shape") or (opened not in ([], [0]) and not bucketed):
            return ()
        if 0 in opened:
            found.append(value)
            names.add(tensor.shape.dim[0].dim_param)
    batch = len(names) == 1 and _BATCH.fullmatch(next(iter(names)))
    if not batch or any(v.name in shapes for v in found) or all(len(v.type.tensor_type.shape.dim) < 2 for v in found):
        return ()
    for value in found:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    told = ", ".join(f"'{v.name}'" for v in found)
    return (f"the batch of the input {told} is taken as 1; --shape gives another size",)
