"""`dlpack export`, and `dlpack build` of models that are not ONNX."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from test_export_mxnet import MLP, WEIGHTS, X, mlp_result, run, symbol, write_model

import dlpack
from dlpack import exporters
from dlpack.cli import cli
from dlpack.errors import UsageError


@pytest.fixture
def mlp(tmp_path: Path) -> Path:
    return write_model(tmp_path / "source", symbol(MLP), WEIGHTS)


def test_export_writes_one_file(mlp: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "net.onnx"
    out.parent.mkdir()
    result = CliRunner().invoke(cli, ["export", str(mlp), "-o", str(out), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["model"] == str(out)
    assert [p.name for p in out.parent.iterdir()] == ["net.onnx"]
    np.testing.assert_allclose(run(onnx.load(out), {"data": X})[0], mlp_result(), rtol=1e-5)
    again = tmp_path / "out" / "again.onnx"
    CliRunner().invoke(cli, ["export", str(mlp), "-o", str(again), "--shape", "data=1x4"])
    assert again.read_bytes() == out.read_bytes()  # the same input gives the same bytes


def test_export_refuses_what_it_does_not_know(mlp: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("hello")
    missing = str(tmp_path / "none" / "net.onnx")
    for arguments, text in (([str(other)], "accepted are"), ([str(mlp), "-o", missing], "cannot be written")):
        result = CliRunner().invoke(cli, ["export", *arguments])
        assert result.exit_code == 2 and text in result.stderr.replace("\n", " ")


def test_build_takes_a_model_of_another_framework(mlp: Path, tmp_path: Path) -> None:
    params = (mlp.parent / "net-0000.params").rename(tmp_path / "weights.params")
    result = CliRunner().invoke(cli, ["build", str(mlp), "-o", str(tmp_path / "b"), "--params", str(params)])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "b" / "net.cc").exists()  # named without -symbol
    predictor = dlpack.load(tmp_path / "b")
    np.testing.assert_allclose(np.asarray(predictor.run({"data": X})["softmax_output"]), mlp_result(), rtol=1e-5)
    result = CliRunner().invoke(cli, ["build", str(mlp), "-o", str(tmp_path / "c")])
    assert result.exit_code == 2 and "--params" in result.stderr and not (tmp_path / "c").exists()


def test_exporters_are_found_by_themselves() -> None:
    assert {e.name for e in exporters.all_exporters()} >= {"Caffe", "MXNet"}


def inspected(model: object, *arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(cli, ["inspect", str(model), *arguments, "--json"])
    assert result.exit_code == 0, result.output
    facts: dict[str, Any] = json.loads(result.stdout)
    return facts


def test_inspect_shows_what_build_would_take(mlp: Path, tmp_path: Path) -> None:
    """A model of another framework, in two files, and a function: as the ONNX that is made of it."""
    params = (mlp.parent / "net-0000.params").rename(tmp_path / "weights.params")
    facts = inspected(mlp, "--params", str(params), "--shape", "data=3x4")
    assert facts["source"] == "MXNet" and facts["inputs"] == [{"name": "data", "dtype": "float32", "shape": [3, 4]}]
    assert all(row["supported"] for row in facts["operators"]) and facts["macs"] % 3 == 0 and facts["macs"] > 0
    code = tmp_path / "net.py"
    code.write_text("import numpy as np\nW = np.ones((5, 2))\ndef scores(n): return np.tanh(n @ W)\n")
    facts = inspected(f"{code}:scores", "--shape", "n=7x5")
    assert (facts["source"], facts["macs"], facts["weights_bytes"]) == ("NumPy", 7 * 5 * 2, 5 * 2 * 4)
    assert facts["outputs"] == [{"name": "output", "dtype": "float32", "shape": [7, 2]}]
    assert {row["operator"] for row in facts["operators"]} == {"MatMul", "Tanh"}


def test_inspect_says_what_an_exporter_needs(tmp_path: Path) -> None:
    code = tmp_path / "net.py"
    code.write_text("def twice(n): return n * 2\n")
    result = CliRunner().invoke(cli, ["inspect", f"{code}:twice"])
    assert result.exit_code == 2 and "--shape n=" in result.stderr
    result = CliRunner().invoke(cli, ["inspect", f"{code}:once", "--shape", "n=2"])
    assert result.exit_code == 2 and "there is no 'once'" in result.stderr


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b'{"format": "graph-model", "modelTopology": {}}', "tfjs_graph_converter"),
        (b'{"base_code": {"magic": "pir", "version": 1}}', "paddle2onnx --model_dir .* --model_filename model.json"),
        (b'{"architectures": ["BertModel"], "model_type": "bert"}', "give the model's folder"),
        (b'\x40\0\0\0\0\0\0\0{"w":{"dtype":"F32"}}', "safetensors"),
        (b'<?xml version="1.0"?>\n<net name="m" version="11">', "OpenVINO"),
        (b'<?xml version="1.0"?><PMML version="4.4">', "PMML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
    ],
)
def test_files_that_are_not_read_are_called_what_they_are(start: bytes, words: str, tmp_path: Path) -> None:
    """Neither a failed download nor something to give to `dlpack export`, which does not read it either."""
    (tmp_path / "model.bin").write_bytes(start)
    for call in (exporters.export, exporters.find_exporter):
        with pytest.raises(UsageError, match=words):
            call(tmp_path / "model.bin")


@pytest.mark.parametrize("name", ["net.tflite", "net.pt", "net.cfg", "net.onnx", "net.h5"])
def test_a_pointer_of_git_lfs_is_called_one(name: str, tmp_path: Path) -> None:
    """Its name is a model's, so a reader would call it damaged."""
    (tmp_path / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(UsageError, match="git lfs pull"):
        exporters.find_exporter(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("config.json", "a JSON file, but not one of a model"),
        ("MLmodel", "MLflow"),
        ("Manifest.json", "Core ML"),
        ("inference.pdmodel", "paddle2onnx"),
        ("checkpoint", "checkpoints"),
    ],
)
def test_folders_that_are_not_read_are_called_what_they_are(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(UsageError, match=words):
        exporters.export(tmp_path)
