"""TensorFlow and Keras → ONNX, by tf2onnx: SavedModels, Keras files, frozen graphs, and layers models of TF.js.

TensorFlow is needed (the extra `tensorflow`), but runs in a process of its own: a damaged file that makes it crash is
an error here, and neither its messages nor its memory reach the build. `worker.py` is that process.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import onnx

from dlpack import errors
from dlpack.archives import ZIP_ERRORS
from dlpack.errors import DlpackError, ModelError, ToolchainError, UnsupportedError, UsageError
from dlpack.exporters.base import MAX_WEIGHTS_BYTES, Exported, Exporter, ExportOptions
from dlpack.exporters.tensorflow.layers import is_layers_model, weight_files

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
TIMEOUT_S = 1800
_SAVED_MODEL = "saved_model.pb"
_SHARD = re.compile(r"\.data-\d{5}-of-\d{5}$")


def recognises(path: Path, start: bytes) -> bool:
    if path.name == _SAVED_MODEL or start.startswith(HDF5_MAGIC):
        return True
    return _is_keras_archive(path, start) or _looks_like_graph(path, start) or is_layers_model(start)


def advises(path: Path, start: bytes) -> str | None:
    if path.suffix == ".index" or _SHARD.search(path.name) or start.startswith(b"model_checkpoint_path:"):
        if path.parent.name == "variables" and (path.parent.parent / _SAVED_MODEL).is_file():
            return f"these are a SavedModel's weights; give its folder, {path.parent.parent}"
        return (
            "this is a checkpoint: it holds weights, not the network. Load it in the program that made it and save the "
            "whole model: model.save('model.keras'), or tf.saved_model.save(model, 'folder')"
        )
    if path.suffix == ".meta" and start[:1] == b"\x0a":
        return "this is a graph for training, without weights; save it as a SavedModel (tf.saved_model.save)"
    if path.name in ("keras_metadata.pb", "fingerprint.pb"):
        return f"this is a part of a SavedModel; give its folder, {path.parent}"
    return None


def export(path: Path, params: Path | None, options: ExportOptions) -> Exported:
    if params is not None:
        raise UsageError("these models hold their weights themselves, or in the folder; leave --params out")
    for module, package in (("tensorflow", "tensorflow"), ("tf2onnx", "tf2onnx")):
        if importlib.util.find_spec(module) is None:
            raise ToolchainError(
                f"{package} is not installed, which reads such models: pip install 'dlpack-aot[tensorflow]' (a .tflite "
                "file needs nothing)"
            )
    with tempfile.TemporaryDirectory(prefix="dlpack-") as folder:
        model, warnings = _convert(path.resolve(), options, Path(folder))
    return Exported(model, params=_weights(path), warnings=warnings)


def _convert(path: Path, options: ExportOptions, folder: Path) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Runs the worker, whose answer is `answer.json` and `model.onnx` in `folder`: the model, and warnings."""
    task = {"path": str(path), "shapes": {k: list(v) for k, v in options.shapes.items()}, "folder": str(folder)}
    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": "-1",
        "KERAS_BACKEND": "tensorflow",
        "KERAS_HOME": str(folder),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "TF_USE_LEGACY_KERAS": "0",
    }
    command = [sys.executable, "-m", "dlpack.exporters.tensorflow.worker"]
    try:
        done = subprocess.run(
            command, input=json.dumps(task).encode(), capture_output=True, env=environment, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise UnsupportedError(f"TensorFlow has not converted it in {TIMEOUT_S // 60} minutes") from None
    try:
        answer: dict[str, Any] = json.loads((folder / "answer.json").read_bytes())
    except (OSError, ValueError):
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise ModelError(
            f"TensorFlow ended while it read the file (status {done.returncode}), which may be damaged or too large "
            f"for this machine's memory{': ' if last else ''}{''.join(last)[:300]}"
        ) from None
    if "error" in answer:
        raise _error(answer)
    return onnx.load(folder / "model.onnx"), tuple(answer["warnings"])


def _error(answer: dict[str, Any]) -> DlpackError:
    kind = getattr(errors, answer["error"])
    if kind is UnsupportedError:
        return UnsupportedError(answer["message"], tuple(answer["problems"]))
    error: DlpackError = kind(answer["message"])
    return error


def _weights(path: Path) -> Path | None:
    """The first file of weights beside the model, so that it counts in the digest."""
    if path.suffix == ".json":
        return next(iter(weight_files(path)), None)
    if path.name != _SAVED_MODEL:
        return None
    return next(iter(sorted((path.parent / "variables").glob("variables.data-*"))), None)


def _is_keras_archive(path: Path, start: bytes) -> bool:
    if not start.startswith(b"PK\x03\x04"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {i.filename: i.file_size for i in archive.infolist()}
    except ZIP_ERRORS:
        return False
    if "config.json" not in entries or not entries.keys() & {"model.weights.h5", "metadata.json"}:
        return False
    if sum(entries.values()) > MAX_WEIGHTS_BYTES:
        raise ModelError(f"{path}: unpacked it has {sum(entries.values()):,} bytes, too many to be a model")
    return True


def _looks_like_graph(path: Path, start: bytes) -> bool:
    """Whether it is a GraphDef: a node (field 1), which begins with its name (field 1) and its operator (field 2)."""
    if path.suffix != ".pb" or start[:1] != b"\x0a":
        return False
    k = 2
    while k < min(6, len(start)) and start[k - 1] & 0x80:
        k += 1
    if start[k : k + 1] != b"\x0a" or k + 1 >= len(start):
        return False
    after = k + 2 + start[k + 1]
    return start[after : after + 1] == b"\x12"


EXPORTER = Exporter(
    "TensorFlow",
    "a SavedModel's folder, model.keras, a whole model's .h5, a frozen graph's .pb, TF.js' model.json",
    recognises,
    export,
    advises,
)
