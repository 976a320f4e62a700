"""Files in unsupported formats: what they are, and the command that brings them over.

In the texts PATH stands for the file's or folder's path, FOLDER for its folder, NAME for its name without suffix.
"""

from __future__ import annotations

import re
from pathlib import Path

_PADDLE = (
    "this is a PaddlePaddle model: pip install paddle2onnx && paddle2onnx --model_dir FOLDER --model_filename {} "
    "--params_filename {} --save_file model.onnx, and give model.onnx"
)
_CORE_ML = "this is a Core ML package without Data/com.apple.CoreML/model.mlmodel; copy or convert it again"
_GRAPH = (
    "this is a TF.js graph model: pip install tfjs-graph-converter && tfjs_graph_converter FOLDER model.pb, and give "
    "model.pb"
)
_HUGGING_FACE = "this is the config.json of a Hugging Face model under another name; give the model's folder"
_SAFETENSORS = (
    "these are safetensors: weights without the network. Give the Python code that makes the network, and them: "
    "my_net.py:make_model --params PATH --shape x=1x3x224x224"
)

_POINTER = b"version https://git-lfs"
_BINARY = tuple(
    (re.compile(pattern, re.DOTALL), text)
    for pattern, text in (
        (_POINTER, "this is a Git LFS pointer, not the model: run `git lfs pull`"),
        (rb".{8}\{\s*\"", _SAFETENSORS),
        (rb"\s*<\?xml[^>]*>\s*(<!--.*?-->\s*)*<net\s", "this is an OpenVINO network; give the model that it was "
                                                       "converted from"),
        (rb"\s*(<\?xml[^>]*>\s*)?<PMML", "this is PMML; give the model that it was made from, saved with skops or as "
                                         "ONNX"),
    )
)  # fmt: skip
_JSON = tuple(
    (re.compile(pattern, re.DOTALL), text)
    for pattern, text in (
        (rb'\{.*"format"\s*:\s*"graph-model"', _GRAPH),
        (rb'\{.*"(model_type|architectures|transformers_version)"', _HUGGING_FACE),
        (rb'\{.*"base_code"\s*:\s*\{.*"magic"\s*:\s*"pir"', _PADDLE.format("NAME.json", "NAME.pdiparams")),
    )
)
_SUFFIXES = {
    ".pdmodel": _PADDLE.format("NAME.pdmodel", "NAME.pdiparams"),
    ".pdiparams": "these are PaddlePaddle's weights; with the .pdmodel beside them: pip install paddle2onnx && "
                  "paddle2onnx --model_dir FOLDER --model_filename NAME.pdmodel --params_filename NAME.pdiparams "
                  "--save_file model.onnx, and give model.onnx",
}  # fmt: skip
_FOLDERS = (
    ("MLmodel", "this is an MLflow model; give the model's own file in its folder data or beside MLmodel"),
    ("Manifest.json", _CORE_ML),
    ("checkpoint", "these are TensorFlow checkpoints: weights, not the network. Load them in the program that made "
                   "them and save the whole model (tf.saved_model.save)"),
    ("inference.pdmodel", _PADDLE.format("inference.pdmodel", "inference.pdiparams")),
    ("inference.json", _PADDLE.format("inference.json", "inference.pdiparams")),
)  # fmt: skip


def is_pointer(start: bytes) -> bool:
    """Whether a file that begins with `start` stands for a model that Git LFS has not fetched, whatever its name."""
    return start.startswith(_POINTER)


def foreign(path: Path, start: bytes) -> str | None:
    """What the file at `path`, which begins with `start`, is, if its format is known but unsupported."""
    table = _JSON if start.lstrip()[:1] == b"{" else _BINARY
    text = next((text for pattern, text in table if pattern.match(start.lstrip() if table is _JSON else start)), None)
    return _filled(text or _SUFFIXES.get(path.suffix), path, path.parent)


def foreign_folder(path: Path) -> str | None:
    """What a folder without a known main file contains."""
    return _filled(next((text for name, text in _FOLDERS if (path / name).is_file()), None), path, path)


def _filled(text: str | None, path: Path, folder: Path) -> str | None:
    return text and text.replace("PATH", str(path)).replace("FOLDER", str(folder)).replace("NAME", path.stem)
