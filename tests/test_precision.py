"""Smaller numbers on request: `--weights-type` and `--quantize`, with what they change."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from nets import model
from onnx import helper, numpy_helper

import dlpack
from dlpack.cli import cli
from dlpack.errors import UnsupportedError, UsageError
from dlpack.graph.early import rounded_early
from dlpack.graph.ir import Graph, Node, TensorType
from dlpack.model.rounded import LEAST_BYTES, round_weights
from dlpack.options import Options
from dlpack.pipeline import build
from dlpack.plan import halves
from dlpack.precision.samples import read_samples
from dlpack.verify.check import verify_bundle

RANDOM = np.random.default_rng(3)
INPUT = {"x": ((1, 3, 16, 16), "float32")}


def squeeze() -> onnx.ModelProto:
    """Two branches that are joined, pooled and classified."""
    weights = {
        "w1": RANDOM.normal(0, 0.2, (16, 3, 3, 3)),
        "w2": RANDOM.normal(0, 0.2, (24, 16, 1, 1)),
        "w3": RANDOM.normal(0, 0.1, (24, 16, 3, 3)),
        "w4": RANDOM.normal(0, 0.2, (10, 48)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"]),
        helper.make_node("Conv", ["b", "w3"], ["d"], pads=[1] * 4),
        helper.make_node("Concat", ["c", "d"], ["e"], axis=1),
        helper.make_node("Relu", ["e"], ["f"]),
        helper.make_node("GlobalAveragePool", ["f"], ["g"]),
        helper.make_node("Flatten", ["g"], ["h"]),
        helper.make_node("Gemm", ["h", "w4"], ["y"], transB=1),
    ]
    typed = {name: values.astype(np.float32) for name, values in weights.items()}
    return model(nodes, {"x": (1, 3, 16, 16)}, {"y": (1, 10)}, typed)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("precision")
    onnx.save(squeeze(), folder / "net.onnx")
    np.savez(folder / "runs.npz", x=RANDOM.random((8, 1, 3, 16, 16), np.float32))
    return folder


def manifest_of(bundle: Path) -> dict:
    return json.loads((bundle / "manifest.json").read_text())


def test_integer_network_is_near_the_float_one_and_says_how_near(files: Path) -> None:
    bundle = build(files / "net.onnx", files / "int8", Options(quantize="int8", calibrate=files / "runs.npz"))
    runs = np.load(files / "runs.npz")["x"]
    session = onnxruntime.InferenceSession(files / "net.onnx", providers=["CPUExecutionProvider"])
    with dlpack.load(bundle) as predictor:
        got = np.concatenate([predictor.run({"x": x})["y"] for x in runs])
    want = np.concatenate([session.run(None, {"x": x})[0] for x in runs])
    span = np.abs(want).max()
    facts = manifest_of(bundle)["precision"]
    assert facts["weights"] == "int8" and facts["samples"] == 8 and facts["origin"] == "runs.npz"
    (change,) = facts["changes"]
    assert 0 < np.abs(got - want).max() < 0.05 * span
    assert change["largest"] == pytest.approx(np.abs(got - want).max() / span, rel=1e-3)
    assert change["rms"] == pytest.approx(np.sqrt(np.mean((got - want) ** 2)) / span, rel=1e-3)
    assert change["same_top"] == np.mean(got.argmax(1) == want.argmax(1))
    assert "Smaller numbers" in (bundle / "report.html").read_text()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_of_sixteen_bits(files: Path, dtype: str) -> None:
    bundle = build(files / "net.onnx", files / dtype, Options(weights_type=dtype))
    facts = manifest_of(bundle)
    assert facts["weights_by_type"][dtype] == 2 * 24 * 16 * 9  # the others are under 4 kB
    assert facts["precision"]["weights"] == dtype
    assert 0 < facts["precision"]["changes"][0]["largest"] < (1e-3 if dtype == "float16" else 1e-2)
    assert facts["verification"][0]["relative"] < 1e-5  # against the rounded model


def test_bundles_are_verified_with_the_model(files: Path) -> None:
    bundle = build(files / "net.onnx", files / "again", Options(weights_type="bfloat16"))
    assert all(e.passed for e in verify_bundle(bundle, files / "net.onnx"))
    quantised = build(files / "net.onnx", files / "int8", Options(quantize="int8", calibrate=files / "runs.npz"))
    with pytest.raises(UsageError, match="made by --quantize"):
        verify_bundle(quantised, files / "net.onnx")
    assert all(e.passed for e in verify_bundle(quantised))


def test_values_beyond_float16_stay(files: Path) -> None:
    net = squeeze()
    large = next(w for w in net.graph.initializer if w.name == "w3")
    large.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(large) * 1e6, "w3"))
    kept = large.SerializeToString()
    assert round_weights(net, "float16") == ("w3",)
    assert next(w for w in net.graph.initializer if w.name == "w3").SerializeToString() == kept
    assert round_weights(net, "bfloat16") == ()
    assert LEAST_BYTES == halves.LEAST_BYTES


def test_parts_of_a_concat_are_rounded_before_it() -> None:
    kind, whole = TensorType("float32", (1, 2)), TensorType("float32", (1, 4))
    nodes = (
        Node("DequantizeLinear", ("a", "s"), ("fa",)),
        Node("DequantizeLinear", ("b", "s"), ("fb",)),
        Node("Concat", ("fa", "fb"), ("joined",), {"axis": 1}),
        Node("QuantizeLinear", ("joined", "s", "z"), ("y",)),
    )
    types = {"a": TensorType("uint8", (1, 2)), "b": TensorType("uint8", (1, 2)), "fa": kind, "fb": kind}
    types |= {"joined": whole, "y": TensorType("uint8", (1, 4)), "s": TensorType("float32", ()), "z": types["a"]}
    constants = {"s": np.array(0.5, np.float32), "z": np.array(3, np.uint8)}
    graph = Graph("g", ("a", "b"), ("y",), nodes, constants, types)
    early = rounded_early(graph)
    assert [n.op for n in early.nodes] == ["DequantizeLinear"] * 2 + ["QuantizeLinear"] * 2 + ["Concat"]
    assert early.types[early.nodes[-1].inputs[0]] == TensorType("uint8", (1, 2))
    later = Graph("g", ("a", "b", "z"), ("y",), nodes, {"s": constants["s"]}, types)
    assert rounded_early(later) is later
    read_twice = Graph("g", ("a", "b"), ("y", "joined"), nodes, constants, types)
    assert rounded_early(read_twice) is read_twice


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options(quantize="int8"), "needs inputs as they will come"),
        (Options(calibrate=Path("runs.npz")), "is for --quantize"),
        (Options(quantize="int8", calibrate=Path("none.npz")), "no such file"),
        (Options(quantize="int8", calibrate=Path("runs.npz"), weights_type="float16"), "remove --weights-type"),
        (Options(quantize="int8", calibrate=Path("runs.npz"), more_shapes=({"x": (1, 3, 8, 8)},)), "one set of shapes"),
    ],
)
def test_options_that_do_not_fit(files: Path, monkeypatch: pytest.MonkeyPatch, options: Options, said: str) -> None:
    monkeypatch.chdir(files)
    with pytest.raises(UsageError, match=said):
        build("net.onnx", "out", options)
    assert not Path("out").exists()


def test_nothing_to_quantise(files: Path, tmp_path: Path) -> None:
    relu = model([helper.make_node("Relu", ["x"], ["y"])], {"x": (1, 3, 16, 16)}, {"y": (1, 3, 16, 16)})
    onnx.save(relu, tmp_path / "relu.onnx")
    with pytest.raises(UnsupportedError, match="int8 gains nothing"):
        build(tmp_path / "relu.onnx", tmp_path / "out", Options(quantize="int8", calibrate=files / "runs.npz"))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"z": np.zeros((1, 3, 16, 16), np.float32)}, "arrays 'z', and the model has the inputs 'x'"),
        ({"x": np.zeros((1, 3, 16, 16))}, "'x' is float64, and the input float32"),
        ({"x": np.zeros((1, 3, 16, 15), np.float32)}, "has the shape"),
        ({"x": np.full((1, 3, 16, 16), np.nan, np.float32)}, "not finite"),
        ({"x": np.zeros((0, 3, 16, 16), np.float32)}, "no run at all"),
    ],
)
def test_calibration_data_that_do_not_fit(tmp_path: Path, arrays: dict, said: str) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(UsageError, match=said):
        read_samples(tmp_path / "bad.npz", INPUT, None)


def test_forms_of_calibration_data(tmp_path: Path) -> None:
    one = RANDOM.random((1, 3, 16, 16), np.float32)
    np.savez(tmp_path / "a.npz", x=one)
    np.savez(tmp_path / "b.npz", x=np.stack([one, one]))
    np.savez(tmp_path / "c.npz", x=np.concatenate([one] * 3))
    runs = read_samples(tmp_path, INPUT, None).runs
    assert len(runs) == 6 and all(np.array_equal(run["x"], one) for run in runs)
    (tmp_path / "picture.png").write_bytes(b"none")
    with pytest.raises(UsageError, match=r"pictures and \.npz files"):
        read_samples(tmp_path, INPUT, None)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "picture.png").rename(tmp_path / "pictures" / "picture.png")
    with pytest.raises(UsageError, match="--preprocess has to say"):
        read_samples(tmp_path / "pictures", INPUT, None)


def test_pictures_calibrate(files: Path, tmp_path: Path) -> None:
    from PIL import Image

    for number in range(2):
        Image.fromarray(RANDOM.integers(0, 256, (20, 24, 3), np.uint8)).save(tmp_path / f"{number}.png")
    words = ["build", str(files / "net.onnx"), "--quantize", "int8", "--calibrate", str(tmp_path)]
    words += ["--preprocess", "none", "--target", "source", "-o", str(tmp_path / "out")]
    run = CliRunner().invoke(cli, words, prog_name="dlpack")
    assert run.exit_code == 0, run.output
    assert manifest_of(tmp_path / "out")["precision"]["samples"] == 2
    assert "--quantize int8" in next((tmp_path / "out").glob("*.cc")).read_text()
