"""Files in unsupported formats: what they are, and what brings them over.

In the texts PATH stands for the file's or folder's path, FOLDER for its folder, NAME for its name without suffix.
"""

from __future__ import annotations

import re
from pathlib import Path

from dlpack.exporters.foreign_archives import unpacking
from dlpack.exporters.foreign_pickles import is_pickle, saving

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
_JAX = (
    "weights of JAX, without the network. In the program that made them: tf.saved_model.save of a tf.Module whose "
    "function is jax2tf.convert(apply, enable_xla=False), and give its folder"
)
_GGUF = (
    "a language model for llama.cpp, whose network is not in the file; give the Hugging Face folder that it was made "
    "from (config.json and model.safetensors)"
)


def _made(what: str, place: str) -> str:
    return f"this is {what}, made from another model for {place}; give the model that it was made from"


_POINTER = re.compile(rb"version https://git-lfs")
_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(!doctype html|html)", re.IGNORECASE)
_REFUSAL = re.compile(rb"(?:\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?<Error>|\s*\{\s*\"(message|error|detail)\"\s*:\s*\"")
_IN_PLACE = (
    (_POINTER, "this is a Git LFS pointer, not the model: run `git lfs pull`"),
    (_PAGE, "this is an HTML page, not a model: download the file itself, not the page about it"),
    (_REFUSAL, "this is a server's error message, not a model: download the model again"),
)
"""What stands in a model's place, under its name."""
_BINARY = tuple(
    (re.compile(pattern, re.DOTALL), text)
    for pattern, text in (
        (rb".{8}\{\s*\"", _SAFETENSORS),
        (rb"\s*<\?xml[^>]*>\s*(<!--.*?-->\s*)*<net\s", "this is an OpenVINO network; give the model that it was "
                                                       "converted from"),
        (rb"\s*(<\?xml[^>]*>\s*)?<PMML", "this is PMML; give the model that it was made from, saved with skops or as "
                                         "ONNX"),
        (rb"GGUF|lmgg|tjgg|fmgg", f"this is GGUF, {_GGUF}"),
        (rb"[fp]trt", _made("a TensorRT engine", "one GPU")),
        (rb".{4}ORTM", "this is a model in onnxruntime's own format; give the .onnx file that it was made from"),
        (rb".{4}ET\d\d", _made("an ExecuTorch program", "ExecuTorch")),
        (rb"RKNN", _made("an RKNN model", "Rockchip's processors")),
        (rb"IMOD", _made("an offline model", "Huawei's processors")),
        (rb"\x01HEF", _made("a HEF", "Hailo's processors")),
        (rb"\xba\x16\x4f\x2f", "this is a fastText model, a table of words that nothing writes as ONNX; keep fastText "
                               "for it, or train a scikit-learn Pipeline of TfidfVectorizer and LogisticRegression"),
        (rb"MATLAB 5\.0 MAT-file", "this is a file of MATLAB: exportONNXNetwork(net, 'NAME.onnx') there, and give "
                                   "NAME.onnx"),
        (rb"\x7fELF|MZ|\xfe\xed\xfa|[\xce\xcf]\xfa\xed\xfe|\0asm", "this is compiled code, not a model; a library "
                                                                   "that dlpack built is used by its bundle's folder"),
        (rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF.{4}WEBP", "this is a picture, not a model"),
        (rb"%PDF-", "this is a PDF document, not a model"),
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
    ".mnn": _made("an MNN model", "MNN"),
    ".tmfile": _made("a Tengine model", "Tengine"),
    ".kmodel": _made("a K210 or K230 model", "Kendryte's processors"),
    ".dlc": _made("an SNPE model", "Qualcomm's processors"),
    ".blob": _made("an OpenVINO blob", "Intel's VPUs"),
    ".rknn": _made("an RKNN model", "Rockchip's processors"),
    ".nb": _made("a Paddle Lite model", "Paddle Lite"),
    ".t7": "this is a model of Lua's Torch, which no current program writes as ONNX; make the network in PyTorch, and "
           "load its weights there (torchfile reads them)",
    ".msgpack": f"these are {_JAX}",
    ".dnn": "this is a CNTK model: cntk.Function.load('PATH').save('NAME.onnx', format=cntk.ModelFormat.ONNX), and "
            "give NAME.onnx",
    ".nnef": "this is NNEF's graph: pip install nnef_tools && python -m nnef_tools.convert --input-format nnef "
             "--output-format onnx --input-model FOLDER --output-model NAME.onnx, and give NAME.onnx",
    ".yaml": "this is a configuration, without weights; give the file of the trained model",
    ".yml": "this is a configuration, without weights; give the file of the trained model",
    ".csv": "this is a table, not a model; with a model it is what --inputs is for, as an .npz file",
}  # fmt: skip
_PEFT = (
    "this is an adapter (LoRA), which changes another model: in Python, with peft, "
    "AutoPeftModel.from_pretrained('PATH').merge_and_unload().save_pretrained('merged'), and give the folder merged"
)
_FOLDERS = (
    ("MLmodel", "this is an MLflow model; give the model's own file in its folder data or beside MLmodel"),
    ("Manifest.json", _CORE_ML),
    ("coremldata.bin", "this is a compiled Core ML model; give the .mlpackage or .mlmodel that it was compiled from"),
    ("checkpoint", "these are TensorFlow checkpoints: weights, not the network. Load them in the program that made "
                   "them and save the whole model (tf.saved_model.save)"),
    ("inference.pdmodel", _PADDLE.format("inference.pdmodel", "inference.pdiparams")),
    ("inference.json", _PADDLE.format("inference.json", "inference.pdiparams")),
    ("adapter_config.json", _PEFT),
    ("model_index.json", "this is a pipeline of several models of diffusers: optimum-cli export onnx --model PATH OUT, "
                         "and give the .onnx files in OUT one by one"),
    ("_CHECKPOINT_METADATA", f"this is an Orbax checkpoint: {_JAX}"),
    ("metadata/part-00000", "this is a Spark ML pipeline: in the program that made it, with onnxmltools, "
                            "convert_sparkml(model, 'NAME', [('X', FloatTensorType([None, COLUMNS]))]), saved as "
                            "NAME.onnx"),
    ("graph.nnef", "this is NNEF: pip install nnef_tools && python -m nnef_tools.convert --input-format nnef "
                   "--output-format onnx --input-model PATH --output-model NAME.onnx, and give NAME.onnx"),
)  # fmt: skip


def in_place_of_a_model(start: bytes) -> str | None:
    """What a file that begins with `start` is if it stands where a model should, whatever its name.

    That is a pointer of Git LFS, or what a server answered instead of the file.
    """
    return next((text for pattern, text in _IN_PLACE if pattern.match(start)), None)


def foreign(path: Path, start: bytes) -> str | None:
    """What the file at `path`, which begins with `start`, is, if its format is known but unsupported."""
    if (text := in_place_of_a_model(start) or unpacking(path, start)) is not None:
        return _filled(text, path, path.parent)
    if is_pickle(start):
        return saving(path)
    table = _JSON if start.lstrip()[:1] == b"{" else _BINARY
    text = next((text for pattern, text in table if pattern.match(start.lstrip() if table is _JSON else start)), None)
    return _filled(text or _SUFFIXES.get(path.suffix.lower()), path, path.parent)


def foreign_folder(path: Path) -> str | None:
    """What a folder without a known main file contains; the models in it, if its kind is not known."""
    known = next((text for name, text in _FOLDERS if (path / name).is_file()), None)
    return _filled(known, path, path)


def _filled(text: str | None, path: Path, folder: Path) -> str | None:
    return text and text.replace("PATH", str(path)).replace("FOLDER", str(folder)).replace("NAME", path.stem)
