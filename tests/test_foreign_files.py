"""Files that are not read: each is called what it is, with what brings its model over."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from dlpack import exporters
from dlpack.errors import ModelError, UsageError
from dlpack.exporters import foreign_pickles
from dlpack.source import read_source


def zipped(**files: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return data.getvalue()


def tarred(*names: str) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    return data.getvalue()


MANIFEST = '{"model": {"serializedFile": "net.pt", "handler": "h.py"}}'
FILES: dict[str, tuple[bytes, str]] = {
    "llama.gguf": (b"GGUF\3\0\0\0", "this is GGUF.*the Hugging Face folder"),
    "net.engine": (b"ftrt" + bytes(60), "a TensorRT engine.*the model that it was made from"),
    "net.ort": (b"\x18\0\0\0ORTM" + bytes(60), "onnxruntime's own format; give the .onnx"),
    "net.pte": (b"\x18\0\0\0ET12" + bytes(60), "an ExecuTorch program"),
    "net.rknn": (b"RKNN" + bytes(60), "an RKNN model"),
    "net.mnn": (bytes(60), "an MNN model"),
    "words.bin": (b"\xba\x16\x4f\x2f\x0c\0\0\0", "a fastText model"),
    "net.mat": (b"MATLAB 5.0 MAT-file", r"exportONNXNetwork\(net, 'net.onnx'\)"),
    "net.dnn": (bytes(60), r"cntk.Function.load\('.*net.dnn'\).save\('net.onnx'"),
    "net.msgpack": (b"\x82\xa6params", "jax2tf.convert"),
    "forest.rds": (b"\x1f\x8b", "an object of R.*xgb.save"),
    "serve.mar": (zipped(**{"MAR-INF/MANIFEST.json": MANIFEST, "net.pt": ""}), "TorchServe; unpack it .*give net.pt"),
    "h2o.zip": (zipped(**{"model.ini": "", "domains/d0.txt": ""}), "onnxmltools.convert_h2o"),
    "net.zip": (zipped(**{"deep/net.onnx": "", "README": ""}), r"unzip .*net.zip\), and give deep/net.onnx"),
    "net.keras": (zipped(**{"config.json": "{}"})[:40], "cut off or damaged"),
    "asr.nemo": (tarred("./model_config.yaml", "./model_weights.ckpt"), r"restore_from\('.*asr.nemo'\)"),
    "net.tar": (tarred("net.tflite"), r"tar xf .*give net.tflite"),
    "net.tar.gz": (gzip.compress(tarred("net.tflite")), "tar xf .*give net.tflite"),
    "cut.tar.gz": (gzip.compress(tarred("net.tflite"))[:30], "a tar archive that is cut off"),
    "net.onnx.gz": (gzip.compress(b"no archive"), "packed by gzip; unpack it"),
    "net.7z": (b"7z\xbc\xaf\x27\x1c", "7z x "),
    "net.onnx": (b"<!DOCTYPE html><html>", "an HTML page, not a model"),
    "net.tflite": (b"\n<html><head>", "an HTML page, not a model"),
    "net.h5": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a server's error message"),
    "net.json": (b'{"message": "Not Found"}', "a server's error message"),
    "library.so": (b"\x7fELF", "compiled code, not a model"),
    "cat.png": (b"\x89PNG\r\n", "a picture, not a model"),
    "paper.pdf": (b"%PDF-1.7", "a PDF document, not a model"),
    "yolo.yaml": (b"nc: 80", "a configuration, without weights"),
    "net.t7": (b"\4\0\0\0", "Lua's Torch"),
}


@pytest.mark.parametrize("name", FILES)
def test_files(name: str, tmp_path: Path) -> None:
    data, words = FILES[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=words):
        read_source(tmp_path / name)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("adapter_config.json", r"AutoPeftModel.from_pretrained\('.*'\).merge_and_unload"),
        ("model_index.json", "optimum-cli export onnx"),
        ("coremldata.bin", "a compiled Core ML model"),
        ("_CHECKPOINT_METADATA", "an Orbax checkpoint"),
        ("metadata/part-00000", "convert_sparkml"),
        ("graph.nnef", "nnef_tools.convert"),
    ],
)
def test_folders(file: str, words: str, tmp_path: Path) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("{}")
    with pytest.raises(UsageError, match=words):
        read_source(tmp_path)


def test_a_folder_of_models_names_them(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="this folder is empty"):
        read_source(tmp_path)
    for name in ("b.onnx", "a.tflite", "notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"give the model's file in it: a\.tflite, b\.onnx$"):
        read_source(tmp_path)


def test_pickles_are_saved_as_their_framework_does(tmp_path: Path) -> None:
    """It is named by the pickle's text: nothing in it is loaded."""
    for module, words in (
        ("lightgbm.sklearn", r"model.booster_.save_model\('model.txt'\)"),
        ("xgboost.sklearn", r"model.save_model\('model.json'\)"),
        ("sklearn.pipeline lightgbm", "skops.io.dump"),
        ("torch.nn", "torch.export.save"),
        ("catboost", "model.cbm"),
        ("mine", "my_model.py:predict"),
    ):
        path = tmp_path / "model.dump"
        path.write_bytes(pickle.dumps(SimpleNamespace(module=module)))
        with pytest.raises(UsageError, match=f"it is not read.*{words}"):
            read_source(path)
        assert foreign_pickles.saving(path.rename(tmp_path / "model.pkl")) != ""


def test_what_is_not_known_is_not_sent_to_the_command_that_refuses_it(tmp_path: Path) -> None:
    (tmp_path / "net.bin").write_bytes(bytes(range(256)))
    for call in (read_source, exporters.export):
        with pytest.raises((ModelError, UsageError)) as e:
            call(tmp_path / "net.bin")
        assert "dlpack export" not in str(e.value) and "accepted" in str(e.value)
