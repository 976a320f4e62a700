"""What verification accepts, what it refuses, and the user's own data and tolerance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper

from dlpack import pipeline
from dlpack.errors import UsageError, VerificationError
from dlpack.graph.ir import TensorType
from dlpack.options import Options
from dlpack.pipeline import build
from dlpack.stages import prepare
from dlpack.verify.check import verify_bundle
from dlpack.verify.given import read_given
from dlpack.verify.reference import reference
from dlpack.verify.runners import run_onnxruntime


def model(
    nodes: list[Any], inputs: dict[str, Any], outputs: list[str], constants: dict[str, np.ndarray], opset: int = 18
) -> ModelProto:
    """`inputs`: name → array of its shape and type."""
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for n, x in inputs.items()
    ]
    graph = helper.make_graph(
        [helper.make_node(op, list(i), list(o), **attrs) for op, i, o, attrs in nodes],
        "net",
        infos,
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    inferred = onnx.shape_inference.infer_shapes(made)
    return inferred


def saved(made: ModelProto, folder: Path) -> Path:
    onnx.save(made, folder / "net.onnx")
    return folder / "net.onnx"


def manifest(bundle: Path) -> dict[str, Any]:
    return json.loads((bundle / "manifest.json").read_text())


ROW = np.zeros((1, 64), np.float32)


def sure(bias: float = -13.0, last: str = "Sigmoid") -> ModelProto:
    """A product whose sums lie around `bias`, behind Sigmoid: a detector that sees nothing."""
    weights = (np.random.default_rng(1).random((64, 64)) / 16).astype(np.float32)
    nodes = [
        ("MatMul", ("x", "w"), ("p",), {}),
        ("Add", ("p", "b"), ("z",), {}),
        (last, ("z",), ("s",), {}),
        ("Reshape", ("s", "shape"), ("y",), {}),
    ]
    constants = {"w": weights, "b": np.full(64, bias, np.float32), "shape": np.array([8, 8])}
    return model(nodes, {"x": ROW}, ["y"], constants)


def changed(monkeypatch: pytest.MonkeyPatch, made: ModelProto, name: str, change: Callable[[np.ndarray], Any]) -> None:
    """Compiles the model with another constant, as if a kernel were wrong."""
    proto, graph = prepare.clean_graph(made, {})
    constant = graph.constants[name].copy()
    change(constant)
    kind = TensorType(constant.dtype.name, constant.shape)
    wrong = replace(graph, constants={**graph.constants, name: constant}, types={**graph.types, name: kind})
    monkeypatch.setattr(prepare, "clean_graph", lambda p, shapes, maxima=None: (proto, wrong))


# --- confident outputs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [-13.0, -16.0, -40.0])
def test_a_network_that_says_no_is_right(bias: float, tmp_path: Path) -> None:
    """onnxruntime's Sigmoid is off by 2 % at -13; what is expected is computed in double from its input on."""
    bundle = build(saved(sure(bias), tmp_path), tmp_path / "bundle")
    assert all(e["passed"] and e["relative"] < 1e-4 for e in manifest(bundle)["verification"])


def test_the_last_activation_is_expected_in_double() -> None:
    made = sure()
    x = np.linspace(-1, 1, 64, dtype=np.float32)[None]
    weights, bias = (numpy_helper.to_array(t).astype(np.float64) for t in made.graph.initializer[:2])
    want = 1 / (1 + np.exp(-(x.astype(np.float64) @ weights + bias)))
    (got,) = reference(made, {"x": x}, [[-1, 1]]).outputs
    assert np.abs(got.reshape(-1) / want.reshape(-1) - 1).max() < 1e-5
    (float32,) = run_onnxruntime(made, {"x": x})
    assert np.abs(float32.reshape(-1) / want.reshape(-1) - 1).max() > 1e-3
    assert [o.name for o in made.graph.output] == ["y"]


@pytest.mark.parametrize("last", ["Sigmoid", "Softmax"])
def test_what_is_accepted_is_the_error_of_the_last_activations_input(last: str) -> None:
    """Numbers of a range of 1,000 are known to 0.01 in float32, and so a probability to 1 %, not to 1e-4."""
    nodes = [("Mul", ("x", "c"), ("z",), {}), (last, ("z",), ("y",), {})]
    wide = model(nodes, {"x": ROW}, ["y"], {"c": np.float32(1000)})
    x = np.linspace(-0.001, 0.001, 64, dtype=np.float32)[None]
    x[0, 0] = -1
    (tolerance,) = reference(wide, {"x": x}, [[-1, 1]]).tolerances
    assert tolerance is not None and 1e-4 < tolerance.largest < 0.01
    small = model(nodes, {"x": ROW}, ["y"], {"c": np.float32(1)})
    assert reference(small, {"x": ROW + 1}, [[-1, 1]]).tolerances == [None]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("b", lambda b: np.add.at(b, 5, 0.01)),
        ("b", lambda b: np.add.at(b, slice(None), 0.001)),
        ("w", lambda w: np.multiply.at(w, (7, 3), 1.5)),
    ],
)
def test_a_wrong_weight_behind_a_no_is_refused(
    name: str, change: Callable[[np.ndarray], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sure()
    path = saved(made, tmp_path)
    changed(monkeypatch, made, name, change)
    with pytest.raises(VerificationError, match=r"y: relative error .* is accepted"):
        build(path, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("last", ["one minus sigmoid", "gelu", "mean of differences"])
def test_what_little_is_left_of_a_sum_is_known_to_a_digit_of_its_operands(last: str, tmp_path: Path) -> None:
    if last == "gelu":
        nodes = [("Sub", ("x", "c"), ("z",), {}), ("Gelu", ("z",), ("y",), {})]
    elif last == "mean of differences":
        mean = {"axes": [1]}
        nodes = [
            ("ReduceMean", ("x",), ("m",), mean),
            ("Sub", ("x", "m"), ("d",), {}),
            ("ReduceMean", ("d",), ("y",), mean),
        ]
        (error,) = verify_bundle(build(saved(model(nodes, {"x": ROW}, ["y"], {}, 17), tmp_path), tmp_path / "bundle"))
        assert error.passed and error.tolerance < 1e-6
        return
    else:
        nodes = [("Sub", ("x", "c"), ("z",), {}), ("Sigmoid", ("z",), ("s",), {}), ("Add", ("s", "m"), ("y",), {})]
    made = model(nodes, {"x": ROW}, ["y"], {"c": np.float32(5 if last == "gelu" else -12), "m": np.float32(-1)}, 20)
    bundle = build(saved(made, tmp_path), tmp_path / "bundle")
    (error,) = verify_bundle(bundle)
    assert error.passed and error.tolerance < 0.02 * error.range


# --- integer networks that normalise inside -----------------------------------------------------------------------


def normalising(constant_is_integer: bool) -> ModelProto:
    """x / 127.5 - 1 on uint8 with steps of 1 / 127.5: each result lies between two integers."""
    step = np.float32(1 / 127.5)
    nodes: list[Any] = [("DequantizeLinear", ("x", "s", "zx"), ("a",), {})]
    if constant_is_integer:
        nodes.append(("DequantizeLinear", ("c", "half", "zx"), ("b",), {}))
    nodes += [("Sub", ("a", "b"), ("d",), {}), ("QuantizeLinear", ("d", "s", "zy"), ("y",), {})]
    constants = {"s": step, "half": step / 2, "zx": np.uint8(0), "zy": np.int8(0), "c": np.array([255], np.uint8)}
    if not constant_is_integer:
        constants["b"] = np.float32(step * 127.5)
    return model(nodes, {"x": np.zeros((1, 256), np.uint8)}, ["y"], constants)


def test_ties_at_every_pixel_are_rounded_once(tmp_path: Path) -> None:
    """The constant is integers too: the difference is exact, and its ties go to the even integer."""
    import dlpack

    bundle = build(saved(normalising(True), tmp_path), tmp_path / "bundle")
    x = np.arange(256, dtype=np.uint8)[None]
    with dlpack.load(bundle) as predictor:
        got = predictor.run({"x": x})["y"]
    assert got.tolist() == [np.round(x[0] - 127.5).clip(-128, 127).astype(np.int8).tolist()]


def test_ties_in_float32_are_accepted_as_far_as_onnxruntime_has_them(tmp_path: Path) -> None:
    build(saved(normalising(False), tmp_path), tmp_path / "bundle")


# --- the second opinion -------------------------------------------------------------------------------------------


def resizing(dtype: Any, sizes: list[int], shape: tuple[int, ...], **attrs: Any) -> ModelProto:
    nodes = [("Resize", ("x", "", "", "sizes"), ("y",), attrs)]
    return model(nodes, {"x": np.zeros(shape, dtype)}, ["y"], {"sizes": np.array(sizes)})


RESIZES = {
    "nearest": resizing(np.float32, [1, 1, 11, 6], (1, 1, 7, 10), mode="nearest", nearest_mode="floor"),
    "uint8": resizing(np.uint8, [1, 3, 13, 5], (1, 3, 9, 7), mode="linear"),
}


@pytest.mark.parametrize("kind", RESIZES)
def test_resizes_where_onnxruntime_is_one_off_follow_the_specification(kind: str, tmp_path: Path) -> None:
    """The bundle, its self-test and its reference hold what onnx's evaluator says."""
    from onnx.reference import ReferenceEvaluator

    made = RESIZES[kind]
    told: list[str] = []
    bundle = build(saved(made, tmp_path), tmp_path / "bundle", progress=pipeline.Progress(warn=told.append))
    assert any("another way to compute" in text for text in told)
    assert all(e.passed for e in verify_bundle(bundle))
    with np.load(bundle / "reference.npz") as stored:
        (want,) = ReferenceEvaluator(made).run(None, {"x": stored["in_0"]})
        assert np.array_equal(stored["out_0"], want)


def test_a_wrong_pixel_is_refused_in_spite_of_the_second_opinion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = RESIZES["nearest"]
    right = prepare.clean_graph(made, {})[1]
    shifted = resizing(np.float32, [1, 1, 11, 6], (1, 1, 7, 10), mode="nearest", nearest_mode="ceil")
    wrong = prepare.clean_graph(shifted, {})[1]
    assert right.types == wrong.types
    monkeypatch.setattr(prepare, "clean_graph", lambda p, shapes, maxima=None: (made, wrong))
    with pytest.raises(VerificationError, match="all other ways to compute"):
        build(saved(made, tmp_path), tmp_path / "bundle")


# --- the user's data and tolerance --------------------------------------------------------------------------------


def test_inputs_of_the_user_are_verified_and_recorded(tmp_path: Path) -> None:
    path, data = saved(sure(), tmp_path), tmp_path / "mine.npz"
    np.savez(data, x=np.full((1, 64), 3, np.float32))
    bundle = build(path, tmp_path / "bundle", Options(inputs=data))
    made = manifest(bundle)
    assert [e["name"] for e in made["verification"]] == ["y", "y (mine.npz)"]
    assert made["verified_with"] == {"file": "mine.npz", "sha256": hashlib.sha256(data.read_bytes()).hexdigest()}
    assert made["verified_with"]["sha256"] in (bundle / "report.html").read_text()
    errors = verify_bundle(bundle, path, read_given(data))
    assert [(e.name, e.passed) for e in errors] == [("y (mine.npz)", True)]
    with pytest.raises(UsageError, match="--inputs needs the model"):
        verify_bundle(bundle, None, read_given(data))


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"z": ROW}, "no input 'z'; it has 'x'.*the array of the input 'x' is missing"),
        ({"x": ROW.astype(np.float64)}, "'x' is float64, and the input float32"),
        ({"x": ROW[:, :5]}, r"'x' has the shape \[1, 5\], and the input \[1, 64\]"),
    ],
)
def test_inputs_that_do_not_fit_are_told(arrays: dict[str, np.ndarray], told: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(UsageError, match=told):
        build(saved(sure(), tmp_path), tmp_path / "bundle", Options(inputs=tmp_path / "mine.npz"))


def test_a_file_that_is_no_npz_is_told(tmp_path: Path) -> None:
    (tmp_path / "mine.npz").write_bytes(b"no array")
    with pytest.raises(UsageError, match=r"mine\.npz cannot be read"):
        build(saved(sure(), tmp_path), tmp_path / "bundle", Options(inputs=tmp_path / "mine.npz"))


@pytest.mark.parametrize("method", [b"\x63\x00", b"\x08\x00"], ids=["unknown compression", "no compressed data"])
def test_archives_that_python_cannot_read_are_errors(tmp_path: Path, method: bytes) -> None:
    np.savez(tmp_path / "mine.npz", x=np.zeros(3, np.float32))
    data = (tmp_path / "mine.npz").read_bytes()
    stored = b"\x00\x00"  # behind the flags in an entry's head, and in the directory
    head, entry = data.index(b"PK\x03\x04") + 8, data.index(b"PK\x01\x02") + 10
    assert data[head : head + 2] == data[entry : entry + 2] == stored
    data = data[:head] + method + data[head + 2 : entry] + method + data[entry + 2 :]
    (tmp_path / "mine.npz").write_bytes(data)
    with pytest.raises(UsageError, match=r"mine\.npz cannot be read"):
        read_given(tmp_path / "mine.npz")


def test_tolerance_is_accepted_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = sure()
    path = saved(made, tmp_path)
    changed(monkeypatch, made, "b", lambda b: np.add.at(b, slice(None), 0.001))
    bundle = build(path, tmp_path / "bundle", Options(tolerance=0.01))
    assert manifest(bundle)["tolerance"] == 0.01
    assert "accepted is 0.01 of the range" in (bundle / "report.html").read_text()
    assert "--tolerance 0.01" in (bundle / manifest(bundle)["source"]).read_text()
    assert all(e.passed for e in verify_bundle(bundle))
    assert not all(e.passed for e in verify_bundle(bundle, tolerance=1e-4))


def test_zeros_verify_little(tmp_path: Path) -> None:
    """A network that gives zeros for the seeded inputs may be wrong elsewhere: that is said."""
    made = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        net (float[1, 8] x) => (float[1, 8] y) <float two = {2.0}> { z = Sub(x, two) y = Relu(z) }"""
    )
    told: list[str] = []
    build(saved(made, tmp_path), tmp_path / "zero", progress=pipeline.Progress(warn=told.append))
    assert any("little is verified" in line for line in told)
    told.clear()
    options = pipeline.Options(ranges={"x": (-4.0, 4.0)})
    build(saved(made, tmp_path), tmp_path / "right", options, pipeline.Progress(warn=told.append))
    assert not any("little is verified" in line for line in told)


def test_integers_that_are_resized_round_near_ties(tmp_path: Path) -> None:
    """Twice the size by averages of four: many are ties, which float32 and double decide otherwise, a unit apart."""
    nodes = [
        ("DequantizeLinear", ("x", "s", "z"), ("f",), {}),
        ("Resize", ("f", "", "factors"), ("r",), {"mode": "linear"}),
        ("QuantizeLinear", ("r", "s", "z"), ("y",), {}),
    ]
    factors = np.array([1, 1, 2, 2], np.float32)
    constants = {"s": np.float32(0.02), "z": np.int8(3), "factors": factors}
    made = model(nodes, {"x": np.zeros((1, 3, 4, 4), np.int8)}, ["y"], constants, 17)
    assert all(e.passed and e.absolute <= 1 for e in verify_bundle(build(saved(made, tmp_path), tmp_path / "bundle")))
