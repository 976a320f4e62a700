"""Archives: what is in them, and how to unpack it."""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

from dlpack.archives import ZIP_ERRORS

_MAX_NAMES = 10_000
_TAR_MAGIC = slice(257, 262)
_PACKED = (
    (b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"),
)  # fmt: skip
_OTHERS = ((b"7z\xbc\xaf\x27\x1c", "7z x PATH"), (b"Rar!\x1a\x07", "unrar x PATH"))
_MODELS = (".onnx", ".pt2", ".pt", ".tflite", ".keras", ".h5", ".pb", ".skops", ".mlmodel", ".caffemodel", ".cbm",
           ".json", ".safetensors")  # fmt: skip
_R = (
    "this is an object of R. Save the model itself there: xgb.save(model, 'model.json'), lgb.save(model, 'model.txt'), "
    "catboost.save_model(model, 'model.cbm') or save_model(model, 'model.keras')"
)
_NEMO = (
    "this is a NeMo archive: in Python, with nemo_toolkit, nemo.core.ModelPT.restore_from('PATH').export('NAME.onnx'), "
    "and give NAME.onnx"
)


def unpacking(path: Path, start: bytes) -> str | None:
    """What the archive at `path`, which begins with `start`, is and how its model is got out; None for no archive.

    The text has the placeholders PATH and NAME.
    """
    if path.suffix.lower() in (".rds", ".rdata", ".rda"):
        return _R
    if start.startswith(b"PK\x03\x04"):
        return _zip(path)
    if (command := next((c for magic, c in _OTHERS if start.startswith(magic)), None)) is not None:
        return f"this is an archive; unpack it ({command}), and give the model in it"
    packed = next((kind for magic, kind in _PACKED if start.startswith(magic)), None)
    if start[_TAR_MAGIC] == b"ustar" or packed is not None:
        return _tar(path, packed)
    return None


def _zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()[:_MAX_NAMES]
            served = _served(archive, names)
    except ZIP_ERRORS:
        return "this is a zip archive that is cut off or damaged; copy or download it again"
    if served is not None:
        return served
    if "model.ini" in names and any(n.startswith("domains/") for n in names):
        return (
            "this is an H2O MOJO: pip install onnxmltools h2o, and in Python "
            "onnxmltools.utils.save_model(onnxmltools.convert_h2o('PATH'), 'NAME.onnx'); give NAME.onnx"
        )
    if {"configuration.json", "coefficients.bin"} <= set(names):
        return (
            "this is a Deeplearning4j model, which has no way to ONNX; make the network in Keras or PyTorch, and load "
            "its weights there"
        )
    return f"this is a zip archive; unpack it (unzip PATH), and give {_inside(names)}"


def _served(archive: zipfile.ZipFile, names: list[str]) -> str | None:
    """Of TorchServe's archives: the model's file is in the manifest."""
    if "MAR-INF/MANIFEST.json" not in names:
        return None
    try:
        model = json.loads(archive.read("MAR-INF/MANIFEST.json"))["model"]["serializedFile"]
    except (TypeError, KeyError, ValueError):
        model = ""
    given = model if model in names else _inside(names)
    return f"this is an archive of TorchServe; unpack it (unzip PATH), and give {given}"


def _tar(path: Path, packed: str | None) -> str:
    try:
        with tarfile.open(path) as archive:
            names = []
            for entry in archive:
                names.append(entry.name.removeprefix("./"))
                if len(names) == _MAX_NAMES:
                    break
    except (tarfile.TarError, *ZIP_ERRORS):
        return _packed(path, packed)
    if "model_config.yaml" in names:
        return _NEMO
    return f"this is a tar archive; unpack it (tar xf PATH), and give {_inside(names)}"


def _packed(path: Path, packed: str | None) -> str:
    """Of one compressed file, or of a tar archive that is cut off."""
    if packed is None or ".tar" in path.suffixes or path.suffix in (".tgz", ".nemo"):
        return "this is a tar archive that is cut off or damaged; copy or download it again"
    return f"this is a file packed by {packed}; unpack it ({packed} -d PATH), and give what it becomes"


def _inside(names: list[str]) -> str:
    """The one model among the names, else words for it."""
    found = [n for n in names if PurePosixPath(n).suffix.lower() in _MODELS]
    best = min(found, key=lambda n: _MODELS.index(PurePosixPath(n).suffix.lower()), default=None)
    return best if best is not None and len(found) <= 3 else "the model in it"
