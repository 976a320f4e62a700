"""TensorFlow Lite's layers of one operator, as old converters wrote them, and functions of today's converter: what
TensorFlow Lite computed is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import skip_or_fail
from recorded import recorded_cases

import dlpack
from dlpack import exporters
from dlpack.errors import DlpackError, ModelError, UnsupportedError
from dlpack.exporters.flatbuffer import FlatFile
from dlpack.exporters.flexbuffer import read_map
from dlpack.exporters.process import Results
from dlpack.exporters.tflite import check, worker
from dlpack.pipeline import build

FIXTURES = [Path(__file__).with_name("fixtures") / f"tflite_{name}.npz" for name in ("layers", "functions")]


@pytest.fixture(autouse=True)
def _not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter, if it is installed, takes seconds to start; what it computes is recorded."""
    monkeypatch.setattr("dlpack.exporters.tflite.check.installed", lambda: False)


def recorded() -> dict[str, dict[str, Any]]:
    layers, functions = map(recorded_cases, FIXTURES)
    return layers | functions


def file_of(name: str, folder: Path) -> Path:
    path = folder / f"{name}.tflite"
    path.write_bytes(recorded()[name]["model"].tobytes())
    return path


def model_of(name: str, folder: Path) -> onnx.ModelProto:
    model = exporters.export(file_of(name, folder)).model
    onnx.checker.check_model(model, full_check=True)
    return model


def outputs_of(name: str, model: onnx.ModelProto) -> list[list[Any]]:
    """The outputs of each recorded run, without states, which go from run to run and begin with zeros."""
    record = recorded()[name]
    session = onnxruntime.InferenceSession(model.SerializeToString())
    sizes = {i.name: i.shape for i in session.get_inputs()}
    states = {n: np.zeros(size, np.float32) for n, size in sizes.items() if f"{n}_next" in outputs(model)}
    data = [n for n in sizes if n not in states]
    found = []
    for r in range(len(record["out:0"])):
        feeds = {n: record[f"in:{k}"][r] for k, n in enumerate(data)}
        results = dict(zip(outputs(model), session.run(None, feeds | states), strict=True))
        states = {n: results.pop(f"{n}_next") for n in states}
        found.append(list(results.values()))
    return found


def outputs(model: onnx.ModelProto) -> list[str]:
    return [v.name for v in model.graph.output]


@pytest.mark.parametrize("name", sorted(n for n in recorded() if not n.startswith("refused")))
def test_computes_what_tensorflow_lite_computes(name: str, tmp_path: Path) -> None:
    record = recorded()[name]
    for r, results in enumerate(outputs_of(name, model_of(name, tmp_path))):
        for k, got in enumerate(results):
            want = record[f"out:{k}"][r]
            assert got.shape == want.shape and got.dtype == want.dtype
            if want.dtype.kind == "f":
                np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-6, err_msg=f"{k}, {r}")
            else:
                np.testing.assert_array_equal(got, want)


def test_equally_quantised_values_are_resized_as_integers(tmp_path: Path) -> None:
    for name in ("resize_int8_Bilinear_10", "resize_int8_NearestNeighbor_01", "resize_uint8_NearestNeighbor_10"):
        assert not {"DequantizeLinear", "QuantizeLinear"} & {n.op_type for n in model_of(name, tmp_path).graph.node}


def test_a_clip_that_the_cells_cannot_reach_is_left_out(tmp_path: Path) -> None:
    """Each step adds at most 1 to a cell: six steps stay within 6, not within 0.6."""
    for name, kind in (("lstm_clip_above", "LSTM"), ("lstm_clip", "Scan")):
        assert {n.op_type for n in model_of(name, tmp_path).graph.node} & {"LSTM", "Scan"} == {kind}


STATES = {
    "svdf": 1,
    "lstm_one_step": 2,
    "lstm_cell": 2,
    "rnn_cell": 1,
    "variable": 1,
    "lstm_clip": 0,
    "rnn_sequence": 0,
}


@pytest.mark.parametrize(("name", "states"), STATES.items())
def test_layers_of_one_step_have_their_states_as_inputs_and_outputs(name: str, states: int, tmp_path: Path) -> None:
    graph = model_of(name, tmp_path).graph
    shapes = [{v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
              for values in (graph.input, graph.output)]  # fmt: skip
    kept = {n: s for n, s in shapes[0].items() if f"{n}_next" in shapes[1]}
    assert len(kept) == states == len(graph.input) - 1 and all(shapes[1][f"{n}_next"] == s for n, s in kept.items())


def test_variable_that_does_not_begin_with_zeros_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError) as e:
        exporters.export(file_of("refused_variable", tmp_path))
    assert any("a variable that begins with other values than zeros" in p for p in e.value.problems)


def test_build_of_a_stream_carries_its_state_from_run_to_run(tmp_path: Path) -> None:
    record = recorded()["svdf"]
    with dlpack.load(build(file_of("svdf", tmp_path), tmp_path / "bundle")) as predictor:
        state = np.zeros((2, 40), np.float32)  # 8 filters, 5 steps
        for given, want in zip(record["in:0"], record["out:0"], strict=True):
            results = predictor.run({"x0": given, "x4": state})
            state = np.array(results["x4_next"])
            np.testing.assert_allclose(np.asarray(results["y0"]), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["resize_int8_Bilinear_10", "lstm_all", "detection_regular", "detection_fast_classes"])
def test_build_equals_tensorflow_lite(name: str, tmp_path: Path) -> None:
    record = recorded()[name]
    with dlpack.load(build(file_of(name, tmp_path), tmp_path / "bundle")) as predictor:
        results = predictor.run({n: record[f"in:{k}"][0] for k, n in enumerate(predictor.inputs)})
        for k, got in enumerate(results.values()):
            np.testing.assert_allclose(np.asarray(got), record[f"out:{k}"][0], rtol=1e-5, atol=2e-6)


# --- files that are damaged -------------------------------------------------------------------------------------------


def options_of(name: str) -> bytes:
    """The bytes of a detection's options."""
    (graph,) = FlatFile(recorded()[name]["model"].tobytes()).root().tables(2)
    return graph.tables(3)[0].vector(5, "u1").tobytes()


def test_options_of_detection() -> None:
    assert read_map(b"") == {}
    assert read_map(options_of("detection_regular")) == {
        "num_classes": 3, "use_regular_nms": True, "max_detections": 10, "max_classes_per_detection": 1,
        "detections_per_class": 5, "nms_score_threshold": pytest.approx(0.3), "nms_iou_threshold": 0.5,
        "y_scale": 10, "x_scale": 10, "h_scale": 5, "w_scale": 5,
    }  # fmt: skip


def test_damaged_options_are_read_or_refused() -> None:
    data = options_of("detection_regular")
    rng = np.random.default_rng(0)
    refused = 0
    for k in range(3000):
        changed = bytearray(data[: rng.integers(1, len(data) + 1)] if k % 3 == 0 else data)
        changed[rng.integers(len(changed))] = rng.integers(256)
        changed[-1 - rng.integers(min(3, len(changed)))] ^= 1 << rng.integers(8) if k % 2 else 0
        try:
            read_map(bytes(changed))
        except ModelError:
            refused += 1
    assert 1000 < refused < 3000


@pytest.mark.parametrize("name", ["sparse_rows", "sparse_blocks", "detection_fast", "svdf", "lstm_all", "variable"])
def test_damaged_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    data = recorded()[name]["model"].tobytes()
    rng, path = np.random.default_rng(1), tmp_path / "net.tflite"
    for _ in range(100):
        changed = bytearray(data)
        changed[rng.integers(8, len(changed))] = rng.choice([0, 1, 4, 127, 128, 255])
        path.write_bytes(changed)
        try:
            exporters.export(path)
        except DlpackError as e:
            assert str(path) in str(e)


# --- the comparison ---------------------------------------------------------------------------------------------------


class Told:
    """In place of the interpreter's process."""

    def __init__(self, found: dict[str, Any] | ModelError) -> None:
        self.found = found

    def arrays(self) -> dict[str, Any]:
        if isinstance(self.found, ModelError):
            raise self.found
        return self.found

    def __exit__(self, *_: object) -> None:
        pass


def compared(monkeypatch: pytest.MonkeyPatch, path: Path, found: Any) -> tuple[str, ...]:
    monkeypatch.setattr(check, "installed", lambda: True)
    monkeypatch.setattr(check, "Results", lambda *_: Told(found))
    return exporters.export(path).warnings


def test_another_result_of_the_interpreter_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = recorded()["lstm_all"]
    path = file_of("lstm_all", tmp_path)
    found = {"0/in:0": record["in:0"][0], "0/out:0": record["out:0"][0]}
    assert compared(monkeypatch, path, found) == ()
    with pytest.raises(ModelError, match="differs from TensorFlow Lite in 'y0'"):
        compared(monkeypatch, path, found | {"0/out:0": found["0/out:0"] + 0.01})


@pytest.mark.parametrize(("found", "told"), [
    (ModelError("TensorFlow Lite ended"), "not compared with TensorFlow Lite: TensorFlow Lite ended"),
    ({"error": np.array("no such version")}, "which refuses it: no such version"),
])  # fmt: skip
def test_what_cannot_be_compared_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Any, told: str
) -> None:
    (warning,) = compared(monkeypatch, file_of("svdf", tmp_path), found)
    assert told in warning


def test_the_interpreter_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    if not any(check.importlib.util.find_spec(n) for n in ("ai_edge_litert", "tensorflow")):
        skip_or_fail("neither ai-edge-litert nor tensorflow is installed")
    with Results(worker.__name__, file_of("svdf", tmp_path), "TensorFlow Lite", 120, "[[2, 3]]", "False") as process:
        found = process.arrays()
    assert {k.partition("/")[0] for k in found} == {"0", "1", "2", "3"} and found["0/out:0"].shape == (2, 4)
    check.compare(model_of("svdf", tmp_path), found, 1e-3)
    with Results(worker.__name__, file_of("svdf", tmp_path), "TensorFlow Lite", 120, "[[2, 4]]", "False") as process:
        assert "error" in process.arrays()
