"""Files in unsupported formats: what they are, and what to use instead."""

from __future__ import annotations

import re
from pathlib import Path

_FORMATS: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), text)
    for pattern, text in (
        (rb"version https://git-lfs", "this is a Git LFS pointer, not the model: run `git lfs pull`"),
        (rb".{8}\{\s*\"", "these are safetensors: weights without the network. Make the network in Python, load them "
                          "into it, and give a function that returns it: my_code.py:make_model --shape x=1x3x224x224"),
        (rb"7767517\s", "this is an ncnn network; give the model that it was converted from"),
        (rb"\s*(#[^\n]*\n\s*)*\[net(work)?\]", "this is a Darknet network; convert it to ONNX or PyTorch first"),
        (rb"\s*<\?xml[^>]*>\s*(<!--.*?-->\s*)*<net\s", "this is an OpenVINO network; give the model that it was "
                                                       "converted from"),
        (rb"\s*(<\?xml[^>]*>\s*)?<PMML", "this is PMML; give the model that it was made from, saved with skops or as "
                                         "ONNX"),
    )
)  # fmt: skip
_FOLDERS = (
    ("MLmodel", "this is an MLflow model; give the model's own file in its folder data or beside MLmodel"),
    ("Manifest.json", "this is a Core ML package; give the model that it was converted from"),
    ("checkpoint", "these are TensorFlow checkpoints: weights, not the network. Load them in the program that made "
                   "them and save the whole model (tf.saved_model.save)"),
    ("config.json", "this is a Hugging Face model: weights, and the network's name. Export it with optimum-cli export "
                    "onnx --model FOLDER OUT, and give OUT/model.onnx"),
)  # fmt: skip


def foreign(start: bytes) -> str | None:
    """What a file that begins with `start` is, if its format is known but unsupported."""
    if start.startswith(b"{"):
        return None
    return next((text for pattern, text in _FORMATS if pattern.match(start)), None)


def foreign_folder(path: Path) -> str | None:
    """What a folder without a known main file contains."""
    return next((text for name, text in _FOLDERS if (path / name).is_file()), None)
