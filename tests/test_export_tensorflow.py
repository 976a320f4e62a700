"""The TensorFlow exporter: Keras files, SavedModels and frozen graphs against TensorFlow, and what it refuses."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import types
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import processes
import pytest
from conftest import skip_or_fail
from tensorflow_worker import warm_worker

from dlpack import exporters
from dlpack.errors import DlpackError, ModelError, ToolchainError, UnsupportedError, UsageError
from dlpack.exporters import ExportOptions
from dlpack.exporters.tensorflow import lookup
from dlpack.exporters.tensorflow.keras import check_config
from dlpack.exporters.tensorflow.layers import write_h5

MAKE = Path(__file__).with_name("fixtures") / "make_keras.py"


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of models that make_keras.py writes."""
    for module in ("tensorflow", "tf2onnx"):
        if importlib.util.find_spec(module) is None:
            skip_or_fail(f"{module} is not installed")
    folder = tmp_path_factory.mktemp("keras")
    done = processes.run([sys.executable, str(MAKE), str(folder)])
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    with warm_worker(tmp_path_factory.mktemp("worker")) as run:
        yield run


OWN_PROCESS = ("test_build_equals_keras", "test_reading", "test_layer_that_asks", "test_missing", "test_export_leaves")
"""Tests with the exporter's own process: of the whole way, and of what becomes of that process."""


@pytest.fixture(autouse=True)
def _in_the_warm_worker(
    request: pytest.FixtureRequest, worker: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Conversions, unless the test is of OWN_PROCESS, run in processes that need not import TensorFlow."""
    if not request.node.name.startswith(OWN_PROCESS):
        there = types.SimpleNamespace(run=worker, TimeoutExpired=subprocess.TimeoutExpired)
        monkeypatch.setattr("dlpack.exporters.tensorflow.export.subprocess", there)


def recorded(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    with np.load(folder / "expected.npz") as file:
        found = {k.partition("/")[2]: file[k] for k in file.files if k.startswith(f"{name}/")}
    return ({k[3:]: v for k, v in found.items() if k.startswith("in:")},
            {k[4:]: v for k, v in found.items() if k.startswith("out:")})  # fmt: skip


def run(model: onnx.ModelProto, inputs: dict[str, Any]) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs), strict=True))


CASES = [
    ("cnn.keras", "cnn"),
    ("cnn.h5", "cnn"),
    ("rnn.keras", "rnn"),
    ("masked.keras", "masked"),
    ("grouped.keras", "grouped"),  # gelu is made of erfc; a grouped convolution is a function marked for XLA
    ("dropped.keras", "dropped"),
    ("stateful.keras", "stateful"),
    ("sizes.keras", "sizes"),  # as many pixels as TensorFlow has, and its kernels
    ("code_inside", "code_inside"),  # a Lambda and a layer of its own, as our message advises to save them
    ("alike", "alike"),
    ("old", "old"),
]


@pytest.mark.parametrize(("file", "name"), CASES)
def test_computes_what_tensorflow_computes(file: str, name: str, models: Path) -> None:
    inputs, outputs = recorded(models, name)
    model = exporters.export(models / file, options=ExportOptions({k: v.shape for k, v in inputs.items()})).model
    onnx.checker.check_model(model, full_check=True)
    got = run(model, inputs)
    assert set(got) == set(outputs) and {i.name for i in model.graph.input} == set(inputs)
    for key, want in outputs.items():
        np.testing.assert_allclose(got[key], want, rtol=1e-4, atol=2e-5 * np.abs(want).max(), err_msg=key)


def test_half_precision_becomes_float32(models: Path) -> None:
    """TensorFlow rounds to 11 bits after every layer."""
    inputs, outputs = recorded(models, "half")
    model = exporters.export(models / "half.keras", options=ExportOptions({"signal": (3, 6, 4)})).model
    assert {v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)} == {1}
    want = outputs["score"]
    np.testing.assert_allclose(run(model, inputs)["score"], want, atol=0.01 * np.abs(want).max())


def test_saved_model_of_keras(models: Path) -> None:
    """Its output has the signature's name; its weights count as the second file."""
    inputs, outputs = recorded(models, "cnn")
    exported = exporters.export(models / "cnn", options=ExportOptions({"picture": (3, 12, 12, 3)}))
    (got,) = run(exported.model, inputs).values()
    np.testing.assert_allclose(got, outputs["probability"], rtol=1e-4, atol=1e-5)
    assert exported.params is not None and exported.params.name == "variables.data-00000-of-00001"


def test_frozen_graph(models: Path) -> None:
    inputs, outputs = recorded(models, "alike")
    model = exporters.export(models / "frozen.pb", options=ExportOptions({"x": (5, 3)})).model
    got = sorted(run(model, inputs).values(), key=lambda v: v.ndim)
    np.testing.assert_array_equal(got[0], outputs["best"])
    np.testing.assert_allclose(got[1], outputs["scores"], rtol=1e-4, atol=1e-5)


def test_recurrent_layers_are_onnx_operators(models: Path) -> None:
    model = exporters.export(models / "rnn.keras", options=ExportOptions({"steps": (1, 9, 4)})).model
    kinds = [n.op_type for n in model.graph.node]
    assert (kinds.count("LSTM"), kinds.count("GRU"), kinds.count("RNN"), kinds.count("Loop")) == (2, 3, 1, 0)


def test_build_equals_keras(models: Path, tmp_path: Path) -> None:
    import dlpack
    from dlpack.pipeline import Options, build

    inputs, outputs = recorded(models, "rnn")
    bundle = build(models / "rnn.keras", tmp_path / "rnn", Options(shapes={"steps": (3, 9, 4)}))
    got = np.asarray(dlpack.load(bundle).run(inputs)["score"])
    np.testing.assert_allclose(got, outputs["score"], rtol=1e-4, atol=2e-5 * np.abs(outputs["score"]).max())


@pytest.mark.parametrize(("file", "name", "shape"), [("small.keras", "x", [1, 3]), ("alike", "x", [1, 3])])
def test_a_batch_that_is_left_open_is_one_and_that_is_said(
    file: str, name: str, shape: list[int], models: Path
) -> None:
    found = exporters.export(models / file)
    (value,) = found.model.graph.input
    assert [d.dim_value for d in value.type.tensor_type.shape.dim] == shape
    assert found.warnings == (f"the batch of the input '{name}', [?, 3], is taken as 1; --shape gives another size",)


@pytest.mark.parametrize(
    ("file", "shapes", "error", "words"),
    [
        ("cnn.keras", {"image": (1, 12, 12, 3)}, UsageError, "its inputs are: picture"),
        ("cnn.keras", {"picture": (1, 9, 9, 3)}, UsageError, r"does not fit the input 'picture', which is \[\?, 12"),
        ("lambda.keras", {}, UnsupportedError, "layer 'twice': a Lambda layer"),
        ("lambda.h5", {}, UnsupportedError, "layer 'twice': a Lambda layer"),
        ("cnn.weights.h5", {}, UsageError, r"holds weights, not the network.*model.save\('model.keras'\)"),
        ("python", {}, UnsupportedError, "EagerPyFunc runs Python code"),
        ("writes", {}, UnsupportedError, "WriteFile runs Python code or reads files"),
        ("rnn", {"steps": (1, 9, 4)}, UnsupportedError, "give the model's .keras or .h5 file"),
        ("constant.pb", {}, UnsupportedError, "output 'always' does not depend on an input"),
        ("checkpoint.index", {}, UsageError, "this is a checkpoint: it holds weights"),
        ("cnn/variables/variables.index", {}, UsageError, "give its folder"),
        ("cnn/variables", {}, UsageError, "this is a folder; give the model's file in it"),
    ],
)  # fmt: skip
def test_what_is_refused(file: str, shapes: Any, error: type[DlpackError], words: str, models: Path) -> None:
    with pytest.raises(error, match=words):
        exporters.export(models / file, options=ExportOptions(shapes))
    assert not (models / "written").exists()


def test_damaged_files_end_in_an_error(models: Path, tmp_path: Path) -> None:
    data = (models / "cnn.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match=r"cut\.h5"):
        exporters.export(tmp_path / "cut.h5")
    shutil.copytree(models / "alike", tmp_path / "alike")
    graph = (tmp_path / "alike" / "saved_model.pb").read_bytes()
    (tmp_path / "alike" / "saved_model.pb").write_bytes(graph[:-40])
    with pytest.raises(ModelError, match="damaged or cut off"):
        exporters.export(tmp_path / "alike")


def test_reading_that_does_not_end_ends_the_process(tmp_path: Path) -> None:
    (tmp_path / "net.h5").write_bytes(bytes(1000))
    code = (
        "from pathlib import Path; from dlpack.exporters.tensorflow import keras; keras.READ_S = 0.2\n"
        f"with keras.limited_time(Path({str(tmp_path / 'net.h5')!r})): pass\n"
        "print('sound', flush=True)\n"
        f"with keras.limited_time(Path({str(tmp_path / 'net.h5')!r})):\n"
        "    while True: pass"
    )
    done = processes.run([sys.executable, "-c", code], limit_s=60)
    assert (done.returncode, done.stdout) == (-signal.SIGVTALRM, "sound\n"), done.stderr


def test_layer_that_asks_for_too_much_memory_ends_in_an_error(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "huge.keras"
    with zipfile.ZipFile(models / "cnn.keras") as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, data.replace(b'"units": 4', b'"units": 4000000000') if name == "config.json" else data)
    with pytest.raises(ModelError):
        exporters.export(path, options=ExportOptions({"picture": (1, 12, 12, 3)}))


def test_class_of_the_user_is_refused_by_name() -> None:
    layer = {"class_name": "Mine", "module": "shop.layers", "config": {"name": "till"}}
    with pytest.raises(UnsupportedError, match=r"layer 'till': the class Mine of shop\.layers"):
        check_config({"class_name": "Sequential", "module": "keras", "config": {"layers": [layer]}})
    layer = {"class_name": "Mine", "module": None, "registered_name": "shop>Mine", "config": {"name": "till"}}
    with pytest.raises(UnsupportedError, match="layer 'till': the class Mine of shop"):
        check_config({"class_name": "Sequential", "module": "keras", "config": {"layers": [layer]}})
    check_config({"class_name": "Sequential", "module": "keras.models", "config": {"layers": []}})


def test_layers_of_words_are_refused_with_the_way_out() -> None:
    told = r"get_layer\('words'\)\.output(.|\n)*layer 'words' \(StringLookup\)"
    with pytest.raises(UnsupportedError, match=told) as e:
        lookup.check([("StringLookup", "keras.layers", "words"), ("Dense", "keras.layers", "dense")])
    assert e.value.problems == ("layer 'words' (StringLookup): takes words",)


def tfjs(folder: Path, parts: dict[str, Any]) -> Path:
    """A network of one Dense layer as TF.js saves it: its input is stated in that layer."""
    layer = {"name": "out", "units": 2, "activation": "relu", "use_bias": True, "batch_input_shape": [None, 3]}
    layers = [{"class_name": "Dense", "config": layer}]
    topology = {"class_name": "Sequential", "config": {"name": "net", "layers": layers}}
    packed = {"dtype": "uint8", "scale": 0.5, "min": -2.0}
    weights = [{"name": "out/kernel", "shape": [3, 2], "dtype": "float32", "quantization": packed},
               {"name": "out/bias", "shape": [2], "dtype": "float32"}]  # fmt: skip
    data = np.arange(6, dtype=np.uint8).tobytes() + np.array([0.25, -1], "<f4").tobytes()
    (folder / "a.bin").write_bytes(data[:5])
    (folder / "b.bin").write_bytes(data[5:])
    manifest = [{"paths": ["a.bin", "b.bin"], "weights": weights}]
    described = {"format": "layers-model", "modelTopology": topology, "weightsManifest": manifest}
    (folder / "model.json").write_text(json.dumps(described | parts))
    return folder


def test_tfjs_layers_model(tmp_path: Path) -> None:
    exported = exporters.export(tfjs(tmp_path, {}))
    x = np.array([[1, -2, 3]], np.float32)
    (got,) = run(exported.model, {"input": x}).values()
    want = np.maximum(x @ (np.arange(6).reshape(3, 2) * 0.5 - 2) + [0.25, -1], 0)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert exported.params is not None and exported.params.name == "a.bin"


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"weightsManifest": [{"paths": ["../a.bin"], "weights": []}]}, "does not lie in its folder"),
        ({"weightsManifest": [{"paths": ["a.bin"], "weights": []}]}, "do not fit model.json"),
        ({"weightsManifest": None}, "weightsManifest is missing"),
        ({"modelTopology": {"class_name": "Sequential", "config": {"layers": [{"class_name": "Sequential",
          "config": {"name": "inner"}}]}}}, "a model as its layer 'inner'"),
    ],
)  # fmt: skip
def test_tfjs_files_that_cannot_be_read_say_why(parts: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(DlpackError, match=words):
        write_h5(tfjs(tmp_path, parts) / "model.json", tmp_path)


def test_missing_framework_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "tensorflow" else find(name, *a))
    with pytest.raises(ToolchainError, match=r"pip install 'dlpack-aot\[tensorflow\]'"):
        exporters.export(path)


def test_export_leaves_no_file_behind(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = sorted(os.listdir(models))
    exporters.export(models / "cnn.keras", options=ExportOptions({"picture": (1, 12, 12, 3)}))
    assert not list(tmp_path.rglob("*")) and sorted(os.listdir(models)) == before
