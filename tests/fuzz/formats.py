"""The formats: for each, small sound models and how their files are damaged.

A format is a function (folder, rng) → (the model's file, the shapes that `--shape` gives); it writes into the folder.
"""

from __future__ import annotations

import atexit
import base64
import io
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import nets
import numpy as np
import onnx
import test_control_flow
from caffe_layers import CASES, B, W, caffemodel
from conformance.cases import freeze, select
from conftest import DIGITS
from test_export_caffe import NET
from test_export_coreml import package as coreml_package
from test_export_coreml import recorded as coreml_recorded
from test_export_darknet import recorded as darknet_recorded
from test_export_mxnet import params_bytes, recorded
from test_export_ncnn import recorded as ncnn_recorded
from test_export_tflite import recorded as tflite_recorded

from fuzz.mutate import (
    mutate_binary,
    mutate_bytes,
    mutate_json,
    mutate_message,
    mutate_text,
    mutate_zip,
)

Shapes = dict[str, tuple[int, ...]]
Made = tuple[Path, Shapes]


# --- ONNX -------------------------------------------------------------------------------------------------------------


def _mutate_model(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.2:
        return mutate_bytes(data, rng)
    model = onnx.ModelProto.FromString(data)
    mutate_message(model, rng)
    return model.SerializeToString()


@cache
def _node_models() -> list[bytes]:
    """The models of ONNX's own node tests: every operator."""
    return [data for case in select() if len(data := freeze(case).model.SerializeToString()) < 20_000]


@cache
def _nets() -> list[bytes]:
    made = [nets.conv_net(), nets.attention_net(), nets.wide_net(), nets.winograd_net()]
    return [DIGITS.read_bytes(), *(m.SerializeToString() for m in made)]


def onnx_net(folder: Path, rng: random.Random) -> Made:
    """Nets of several layers; a third with their weights in a file of their own."""
    data, file = rng.choice(_nets()), folder / "net.onnx"
    if rng.random() < 0.33:
        onnx.save(onnx.ModelProto.FromString(data), file, save_as_external_data=True, location="w", size_threshold=64)
        data = file.read_bytes()
        if rng.random() < 0.1:
            (folder / "w").write_bytes(mutate_binary((folder / "w").read_bytes(), rng))
    file.write_bytes(_mutate_model(data, rng))
    return file, {}


def onnx_operator(folder: Path, rng: random.Random) -> Made:
    (folder / "net.onnx").write_bytes(_mutate_model(rng.choice(_node_models()), rng))
    return folder / "net.onnx", {}


@cache
def _control_flow() -> list[bytes]:
    flows = test_control_flow
    texts = [(t, 18) for part in (flows.SCAN, flows.LOOP, flows.IF, flows.UNROLLED) for t in part.values()]
    texts += [(t, 8) for t in flows.OLD_SCAN.values()]
    return [flows.parse(text, opset).SerializeToString() for text, opset in texts]


def onnx_control(folder: Path, rng: random.Random) -> Made:
    """Loop, Scan, If and sequences."""
    (folder / "net.onnx").write_bytes(_mutate_model(rng.choice(_control_flow()), rng))
    return folder / "net.onnx", {}


# --- MXNet ------------------------------------------------------------------------------------------------------------


def mxnet_symbol(folder: Path, rng: random.Random) -> Made:
    record = recorded()[rng.choice(sorted(recorded()))]
    arrays = {k: v for k, v in record.items() if k[:4] in ("arg:", "aux:")}
    (folder / "net-symbol.json").write_text(mutate_text(str(record["symbol"]), rng))
    (folder / "net.params").write_bytes(params_bytes(arrays))
    return folder / "net-symbol.json", {k[3:]: v.shape for k, v in record.items() if k.startswith("in:")}


def mxnet_params(folder: Path, rng: random.Random) -> Made:
    record = recorded()[rng.choice(("conv", "batchnorm", "rnn_lstm_1", "embedding", "deconv_bias"))]
    arrays = {k: v for k, v in record.items() if k[:4] in ("arg:", "aux:")}
    (folder / "net-symbol.json").write_text(str(record["symbol"]))
    (folder / "net.params").write_bytes(mutate_bytes(params_bytes(arrays, rng.randrange(4)), rng))
    return folder / "net-symbol.json", {k[3:]: v.shape for k, v in record.items() if k.startswith("in:")}


def mxnetjs(folder: Path, rng: random.Random) -> Made:
    record = recorded()["conv"]
    params = params_bytes({k: v for k, v in record.items() if k.startswith("arg:")})
    mean = params_bytes({"mean": np.ones((3, 9, 8), np.float32)})
    part = rng.randrange(4)
    document: dict[str, Any] = {
        "symbol": json.loads(str(record["symbol"])),
        "synset": ["a", "b"],
        "parambase64": base64.b64encode(mutate_bytes(params, rng) if part == 0 else params).decode(),
        "meanimgbase64": base64.b64encode(mutate_bytes(mean, rng) if part == 1 else mean).decode(),
    }
    text = json.dumps(document)
    path = folder / "model.json"
    path.write_text(mutate_json(text, rng) if part >= 2 else text)
    return path, {"x": (2, 3, 9, 8)} if rng.random() < 0.5 else {}


# --- Caffe, TFLite ----------------------------------------------------------------------------------------------------


def caffe_prototxt(folder: Path, rng: random.Random) -> Made:
    text, inputs, blobs, _ = CASES[rng.choice(sorted(CASES))]
    names = "abc"[: len(inputs)]
    net = "".join(
        f'input: "{n}" input_shape {{ {" ".join(f"dim: {d}" for d in x.shape)} }} '
        for n, x in zip(names, inputs, strict=True)
    )
    net += f'layer {{ name: "layer" {" ".join(f"bottom: {n!r}" for n in names)} top: "z" {text} }}'
    (folder / "net.prototxt").write_text(mutate_text(net, rng))
    (folder / "net.caffemodel").write_bytes(caffemodel({"layer": blobs}))
    return folder / "net.prototxt", {}


def caffe_weights(folder: Path, rng: random.Random) -> Made:
    (folder / "net.prototxt").write_text(NET)
    data = caffemodel({"conv": [W, B]}, old=rng.random() < 0.5, double=rng.random() < 0.3)
    (folder / "net.caffemodel").write_bytes(mutate_bytes(data, rng))
    return folder / "net.prototxt", {}


def tflite(folder: Path, rng: random.Random) -> Made:
    data = tflite_recorded()[rng.choice(sorted(tflite_recorded()))]["model"].tobytes()
    if rng.random() < 0.5:  # one number somewhere: offsets, counts, shapes and options lie all over the file
        place = 4 * rng.randrange(2, len(data) // 4)
        number = rng.choice((0, 1, 2, 3, 7, 255, 65536, 2**31 - 1, 2**31, 2**32 - 1, rng.randrange(2**32)))
        data = data[:place] + number.to_bytes(4, "little") + data[place + 4 :]
    else:
        data = data[:8] + mutate_bytes(data[8:], rng)
    (folder / "net.tflite").write_bytes(data)
    return folder / "net.tflite", {}


# --- Darknet, ncnn, Core ML -------------------------------------------------------------------------------------------


def darknet(folder: Path, rng: random.Random) -> Made:
    record = darknet_recorded()[rng.choice(sorted(darknet_recorded()))]
    text, weights = str(record["cfg"]), record["weights"].tobytes()
    in_text = rng.random() < 0.7
    (folder / "net.cfg").write_text(mutate_text(text, rng) if in_text else text)
    (folder / "net.weights").write_bytes(weights if in_text else mutate_bytes(weights, rng))
    return folder / "net.cfg", {}


def ncnn(folder: Path, rng: random.Random) -> Made:
    record = ncnn_recorded()[rng.choice(sorted(ncnn_recorded()))]
    text, weights = str(record["param"]), record["bin"].tobytes()
    in_text = rng.random() < 0.7 or not weights
    (folder / "net.param").write_text(mutate_text(text, rng) if in_text else text)
    (folder / "net.bin").write_bytes(weights if in_text else mutate_bytes(weights, rng))
    return folder / "net.param", {}


def coreml(folder: Path, rng: random.Random) -> Made:
    path = coreml_package(folder, rng.choice(sorted(set(coreml_recorded()) - {"weights"})))
    inside = path / "Data" / "com.apple.CoreML"
    weights = inside / "weights" / "weight.bin"
    file = weights if weights.is_file() and rng.random() < 0.2 else inside / "model.mlmodel"
    data = file.read_bytes()
    file.write_bytes(mutate_bytes(data, rng) if rng.random() < 0.5 else mutate_binary(data, rng))
    return path, {}


# --- PyTorch ----------------------------------------------------------------------------------------------------------


@cache
def _pytorch() -> dict[str, list[tuple[bytes, str]]]:
    """Small nets as TorchScript, scripted and traced, and as torch.export archives; with their inputs' names."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)

    class Branches(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(4, 3))
            self.steps = 2

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            y = x
            for k in range(self.steps):
                y = torch.relu(y + float(k)) if k % 2 == 0 else y * x
            parts = torch.cat([y, x.transpose(0, 1)[:, :1].reshape(1, -1).expand(2, -1)], dim=1)
            return y @ self.weight, torch.softmax(parts[:, 1:4].flatten(), dim=0)

    mlp = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.ReLU())
    cnn = torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 2, 2)), torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.GELU(),
        torch.nn.AvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(2, 2),
    )  # fmt: skip
    x = torch.ones(2, 4)
    files: dict[str, list[tuple[bytes, str]]] = {"script": [], "program": []}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        for net, name in ((mlp.eval(), "input"), (cnn.eval(), "input"), (Branches().eval(), "x")):
            script, trace, program = io.BytesIO(), io.BytesIO(), io.BytesIO()
            torch.jit.save(torch.jit.script(net), script)
            torch.jit.save(torch.jit.trace(net, (x,)), trace)
            torch.export.save(torch.export.export(net, (x,)), program)
            files["script"] += [(script.getvalue(), name), (trace.getvalue(), name)]
            files["program"].append((program.getvalue(), name))
    return files


def _pytorch_record(rng: random.Random) -> Callable[[str, bytes], bytes | None]:
    def change(name: str, record: bytes) -> bytes | None:
        if name.endswith(".debug_pkl"):
            return None
        if name.endswith(".py"):
            return mutate_text(record.decode(), rng).encode()
        if name.endswith(".json"):
            return mutate_json(record.decode(), rng).encode()
        return mutate_binary(record, rng) if name.endswith(".pkl") or rng.random() < 0.1 else None

    return change


def torchscript(folder: Path, rng: random.Random) -> Made:
    data, name = rng.choice(_pytorch()["script"])
    (folder / "net.pt").write_bytes(mutate_zip(data, rng, _pytorch_record(rng)))
    return folder / "net.pt", {name: (2, 4)}


def torch_export(folder: Path, rng: random.Random) -> Made:
    data, _ = rng.choice(_pytorch()["program"])
    (folder / "net.pt2").write_bytes(mutate_zip(data, rng, _pytorch_record(rng)))
    return folder / "net.pt2", {}


# --- TensorFlow -------------------------------------------------------------------------------------------------------


@cache
def _tensorflow() -> Path:
    """The folder of models that make_keras.py writes."""
    folder = Path(tempfile.mkdtemp(prefix="dlpack-fuzz-"))
    atexit.register(shutil.rmtree, folder, True)
    script = Path(__file__).parent.parent / "fixtures" / "make_keras.py"
    done = subprocess.run([sys.executable, str(script), str(folder)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return folder


_SHAPES: dict[str, Shapes] = {
    "small": {"x": (1, 3)},
    "cnn": {"picture": (1, 12, 12, 3)},
    "masked": {"words": (1, 6)},
    "alike": {"x": (1, 3)},
    "old": {"x": (1, 3)},
}


def _hdf5(data: bytes, rng: random.Random) -> bytes:
    """HDF5 files have their structure and the network's description anywhere."""
    if rng.random() < 0.5:
        return mutate_binary(data, rng)
    begin = data.find(b'{"class_name"')
    if begin < 0 or rng.random() < 0.3:
        place = rng.randrange(0, len(data), 512)
        return data[:place] + mutate_binary(data[place : place + 512], rng) + data[place + 512 :]
    end = begin + json.JSONDecoder().raw_decode(data[begin:].decode("latin-1"))[1]
    made = mutate_json(data[begin:end].decode("latin-1"), rng).encode()[: end - begin]
    return data[:begin] + made.ljust(end - begin) + data[end:]


def keras_archive(folder: Path, rng: random.Random) -> Made:
    name = rng.choice((*["small"] * 8, "cnn", "masked"))
    data = (_tensorflow() / f"{name}.keras").read_bytes()

    def change(entry: str, record: bytes) -> bytes | None:
        if entry.endswith(".json"):
            return mutate_json(record.decode(), rng).encode()
        return _hdf5(record, rng) if rng.random() < 0.6 else None

    (folder / "net.keras").write_bytes(mutate_zip(data, rng, change))
    return folder / "net.keras", _SHAPES[name]


def keras_hdf5(folder: Path, rng: random.Random) -> Made:
    name = rng.choice((*["small"] * 8, "cnn"))
    (folder / "net.h5").write_bytes(_hdf5((_tensorflow() / f"{name}.h5").read_bytes(), rng))
    return folder / "net.h5", _SHAPES[name]


def saved_model(folder: Path, rng: random.Random) -> Made:
    name = rng.choice((*["alike"] * 8, *["old"] * 4, "cnn"))
    shutil.copytree(_tensorflow() / name, folder / "net")
    files = sorted(f for f in (folder / "net").rglob("*") if f.is_file() and f.name != "fingerprint.pb")
    graph = folder / "net" / "saved_model.pb"
    chosen = graph if rng.random() < 0.7 else rng.choice(files)
    data = chosen.read_bytes()
    if chosen == graph and rng.random() < 0.7:
        from tensorflow.core.protobuf import saved_model_pb2

        chosen.write_bytes(_mutate_parsed(saved_model_pb2.SavedModel(), data, rng))
    else:
        chosen.write_bytes(mutate_binary(data, rng))
    return folder / "net", _SHAPES[name]


def frozen_graph(folder: Path, rng: random.Random) -> Made:
    data = (_tensorflow() / "frozen.pb").read_bytes()
    if rng.random() < 0.7:
        from tensorflow.core.framework import graph_pb2

        data = _mutate_parsed(graph_pb2.GraphDef(), data, rng)
    else:
        data = mutate_binary(data, rng)
    (folder / "net.pb").write_bytes(data)
    return folder / "net.pb", {"x": (1, 3)}


def _mutate_parsed(message: Any, data: bytes, rng: random.Random) -> bytes:
    message.ParseFromString(data)
    mutate_message(message, rng)
    made: bytes = message.SerializeToString()
    return made


# --- scikit-learn -----------------------------------------------------------------------------------------------------


@cache
def _skops() -> list[bytes]:
    import skops.io
    from sklearn.base import clone
    from test_export_sklearn import ESTIMATORS

    files = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for estimator, x, y, _ in ESTIMATORS.values():
            data = skops.io.dumps(clone(estimator).fit(x[:60], None if y is None else y[:60]))
            if len(data) < 100_000:
                files.append(_numbered(data))
    return files


def _numbered(data: bytes) -> bytes:
    """The archive with its objects numbered from 1, in place of their addresses, which change from run to run."""
    numbers: dict[str, str] = {}

    def number(text: str) -> str:
        return re.sub(r"\b\d{9,}\b", lambda m: numbers.setdefault(m[0], str(len(numbers) + 1)), text)

    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        schema = number(old.read("schema.json").decode())
        for name in sorted(old.namelist(), key=number):
            new.writestr(zipfile.ZipInfo(number(name)), schema if name == "schema.json" else old.read(name))
    return out.getvalue()


def skops_file(folder: Path, rng: random.Random) -> Made:
    def change(name: str, record: bytes) -> bytes | None:
        if name == "schema.json":
            return mutate_json(record.decode(), rng).encode()
        return mutate_binary(record, rng) if rng.random() < 0.1 else None

    (folder / "net.skops").write_bytes(mutate_zip(rng.choice(_skops()), rng, change))
    return folder / "net.skops", {}


FORMATS: dict[str, Callable[[Path, random.Random], Made]] = {
    f.__name__: f
    for f in (
        onnx_net, onnx_operator, onnx_control, mxnet_symbol, mxnet_params, mxnetjs, caffe_prototxt, caffe_weights,
        tflite, darknet, ncnn, coreml, torchscript, torch_export, keras_archive, keras_hdf5, saved_model,
        frozen_graph, skops_file,
    )
}  # fmt: skip
MODULES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("torchscript", "torch_export"), ("torch", "onnxscript")),
    **dict.fromkeys(("keras_archive", "keras_hdf5", "saved_model", "frozen_graph"), ("tensorflow", "keras", "tf2onnx")),
    "skops_file": ("sklearn", "skl2onnx", "skops"),
}
"""What must be installed for a format's mutations."""
