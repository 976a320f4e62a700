"""A model as the user gives it: an ONNX file, another framework's file, or Python code; as ONNX."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlpack.errors import ModelError, UsageError
from dlpack.meaning.labels import labels_from_metadata
from dlpack.meaning.shape_sets import Shapes


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
    """Whether an exporter has made it, for the shapes that it was told."""


def read_source(
    model: Path,
    params: Path | None = None,
    shapes: Shapes | None = None,
    dtypes: Mapping[str, str] | None = None,
    values: Mapping[str, tuple[str, ...]] | None = None,
) -> Source:
    """The model as ONNX: read from an ONNX file, or exported from another framework's file or from a callable.

    The inputs in `values` are constants in it.
    """
    from dlpack.exporters import ExportOptions, accepted, export, find_exporter, is_callable
    from dlpack.exporters.base import main_file
    from dlpack.model.load import load_model
    from dlpack.model.tensors import weight_warnings

    model = main_file(model)
    options = ExportOptions(shapes or {}, dtypes or {})
    parts = [model]
    warnings: tuple[str, ...] = ()
    made = is_callable(model) or ((model.is_file() or model.is_dir()) and find_exporter(model) is not None)
    if is_callable(model):
        proto, parts = export(model, params, options).model, []
    elif made:
        exported = export(model, params, options)
        proto, warnings = exported.model, exported.warnings
        parts += [exported.params] if exported.params else []
    elif params is not None:
        raise UsageError(f"--params is for models in two files, and {model} is not one of them")
    else:
        try:
            proto = load_model(model)
        except ModelError as e:
            raise e if model.suffix == ".onnx" else ModelError(f"{e}; accepted are {accepted()}") from e
    opset = ", ".join(f"{o.domain or 'ai.onnx'} opset {o.version}" for o in proto.opset_import)
    metadata = {p.key: p.value for p in proto.metadata_props}
    labels = labels_from_metadata(metadata["dlpack.labels"]) if "dlpack.labels" in metadata else None
    data = b"".join(part.read_bytes() for part in parts) or proto.SerializeToString(deterministic=True)
    digest = hashlib.sha256(data).hexdigest()
    if values:
        from dlpack.model.values import fix_values

        fix_values(proto, values)
    return Source(proto, digest, opset, metadata, labels, (*warnings, *weight_warnings(proto)), made)
