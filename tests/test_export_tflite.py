"""The TensorFlow Lite exporter: operators and networks against what TensorFlow Lite computed, and files it refuses."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from recorded import recorded_cases

from dlpack import exporters
from dlpack.errors import DlpackError, ModelError, UnsupportedError, UsageError
from dlpack.exporters import ExportOptions
from dlpack.exporters.tflite.call import CONVERTERS
from dlpack.exporters.tflite.files import read_model
from dlpack.exporters.tflite.schema import CUSTOM_OPERATORS, OPERATORS, REASONS


@pytest.fixture(autouse=True)
def _not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter, if it is installed, takes seconds to start; what it computes is recorded."""
    monkeypatch.setattr("dlpack.exporters.tflite.check.installed", lambda: False)


FIXTURE = Path(__file__).with_name("fixtures") / "tflite_operators.npz"
# A file of float weights gives what TensorFlow Lite gives. With 8-bit weights alone (dynamic range) TensorFlow Lite
# rounds the activations too, which ONNX's operators do not; 16-bit activations are rounded after every layer. Of 8-bit
# networks a unit of the output's scale, 1/256 behind a softmax, may differ: ties are rounded otherwise.
TOLERANCE = {"net_dynamic_range": 0.02, "net_int16_activations": 1e-3}
UNIT = {"net_full_float32": 1 / 256}


def recorded() -> dict[str, dict[str, Any]]:
    return recorded_cases(FIXTURE)


def model_file(name: str, folder: Path) -> Path:
    path = folder / f"{name}.tflite"
    path.write_bytes(recorded()[name]["model"].tobytes())
    return path


def run(model: onnx.ModelProto, inputs: list[Any]) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return list(session.run(None, {i.name: x for i, x in zip(session.get_inputs(), inputs, strict=True)}))


@pytest.mark.parametrize("name", sorted(recorded()))
def test_computes_what_tensorflow_lite_computes(name: str, tmp_path: Path) -> None:
    record = recorded()[name]
    model = exporters.export(model_file(name, tmp_path)).model
    onnx.checker.check_model(model, full_check=True)
    count = {kind: sum(k.startswith(kind) for k in record) for kind in ("in:", "out:")}
    for r in range(len(record["out:0"])):
        outputs = run(model, [record[f"in:{k}"][r] for k in range(count["in:"])])
        for k, (got, want) in enumerate(
            zip(outputs, [record[f"out:{k}"][r] for k in range(count["out:"])], strict=True)
        ):
            assert got.shape == want.shape and got.dtype == want.dtype
            if want.dtype in (np.int8, np.uint8):
                assert np.abs(got.astype(int) - want.astype(int)).max() <= 1, (k, r)
            else:
                span = float(np.abs(want).max()) or 1.0
                np.testing.assert_allclose(
                    got, want, rtol=1e-4, atol=UNIT.get(name, TOLERANCE.get(name, 1e-5) * span), err_msg=f"{k}, {r}"
                )


def test_recorded_networks_depend_on_their_inputs() -> None:
    """A network whose output never changes would pass every comparison."""
    networks = [r for name, r in recorded().items() if name.startswith("net_")]
    assert len(networks) >= 8
    for record in networks:
        outputs = record["out:0"].astype(np.float64)
        assert len(outputs) > 1 and np.ptp(outputs, axis=0).max() > 0.05 * np.abs(outputs).max()


def test_every_converter_is_an_operator_of_the_schema() -> None:
    assert set(CONVERTERS) <= {*OPERATORS.values(), *CUSTOM_OPERATORS}


def test_quantised_network_keeps_its_types_and_tells_its_range(tmp_path: Path) -> None:
    model = exporters.export(model_file("net_full_int8", tmp_path)).model
    assert [v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)] == [3, 3]
    assert {p.key: p.value for p in model.metadata_props}["dlpack.ranges"] == '{"picture": [-128, 128]}'
    kinds = {n.op_type for n in model.graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv"} <= kinds
    weights = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4]
    assert len(weights) >= 3  # they stay 8 bits wide


def test_input_keeps_its_layout_and_its_name_of_the_signature(tmp_path: Path) -> None:
    model = exporters.export(model_file("net_float", tmp_path)).model
    (value,) = model.graph.input
    assert (value.name, [d.dim_value for d in value.type.tensor_type.shape.dim]) == ("picture", [1, 12, 12, 3])


def test_batch_that_the_file_leaves_open_is_set_by_shape(tmp_path: Path) -> None:
    record = recorded()["net_float"]
    path = model_file("net_float", tmp_path)
    assert exporters.export(path).warnings == (
        "the batch of the input 'picture' is taken as 1; --shape gives another size",)  # fmt: skip
    model = exporters.export(path, options=ExportOptions({"picture": (3, 12, 12, 3)})).model
    (outputs,) = run(model, [record["in:0"][:3, 0]])
    np.testing.assert_allclose(outputs, record["out:0"][:3, 0], atol=1e-5)
    with pytest.raises(UsageError, match=r"does not fit the input, which is \[\?, 12, 12, 3\]"):
        exporters.export(path, options=ExportOptions({"picture": (1, 24, 24, 3)}))
    with pytest.raises(UsageError, match="its inputs are: picture"):
        exporters.export(path, options=ExportOptions({"image": (1, 12, 12, 3)}))


def test_neighbouring_transposes_are_left_out(tmp_path: Path) -> None:
    kinds = [n.op_type for n in exporters.export(model_file("net_float", tmp_path)).model.graph.node]
    assert ["Conv", "Clip", "Transpose"] not in [kinds[k : k + 3] for k in range(3, 6)]
    assert kinds.count("Transpose") < 2 * (kinds.count("Conv") + kinds.count("AveragePool") + kinds.count("MaxPool"))


def test_labels_of_the_metadata_are_taken(tmp_path: Path) -> None:
    path = model_file("net_float", tmp_path)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("labels.txt", "ant\nbee\ncat\ndog\nelk\n")
    path.write_bytes(path.read_bytes() + archive.getvalue())
    assert exporters.export(path).labels == ("ant", "bee", "cat", "dog", "elk")


def test_build_of_a_quantised_network_equals_tensorflow_lite(tmp_path: Path) -> None:
    import dlpack
    from dlpack.pipeline import build

    record = recorded()["net_full_int8"]
    bundle = build(model_file("net_full_int8", tmp_path), tmp_path / "bundle")
    predictor = dlpack.load(bundle)
    for given, want in zip(record["in:0"], record["out:0"], strict=True):
        (got,) = (np.asarray(v) for v in predictor.run({"picture": given}).values())
        assert np.abs(got.astype(int) - want.astype(int)).max() <= 1


# --- files that are refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", (0.1, 0.5, 0.9))
def test_file_cut_off(cut: float, tmp_path: Path) -> None:
    data = recorded()["net_float"]["model"].tobytes()
    path = tmp_path / "net.tflite"
    path.write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(DlpackError, match=r"net\.tflite"):
        exporters.export(path)


def test_other_file_under_this_name(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(b"\x1c\0\0\0ABCD" + bytes(64))
    with pytest.raises(UsageError, match="bytes 4 to 8 are not TFL3"):
        exporters.export(path)


def test_params_are_not_wanted(tmp_path: Path) -> None:
    path = model_file("relu", tmp_path)
    with pytest.raises(UsageError, match="leave --params out"):
        exporters.export(path, path)


def test_operators_that_are_not_supported_are_all_told(tmp_path: Path) -> None:
    """ABS (101) is made UNIQUE (103), which is not converted."""
    data = bytearray(recorded()["abs"]["model"].tobytes())
    assert read_model(bytes(data)).subgraphs[0].operators[0].kind == "ABS"
    code = OPERATOR_CODES["ABS"]
    at = [k for k in range(len(data) - 4) if data[k] == code or struct.unpack_from("<i", data, k)[0] == code]
    for k in at:
        changed = bytearray(data)
        changed[k] = OPERATOR_CODES["UNIQUE"]
        path = tmp_path / "net.tflite"
        path.write_bytes(changed)
        try:
            exporters.export(path)
        except UnsupportedError as e:
            assert e.problems == (f"'PartitionedCall:0': UNIQUE is not supported: {REASONS['UNIQUE']}",)
            return
        except ModelError:
            continue
    pytest.fail("no byte was the operator's code")


OPERATOR_CODES = {name: code for code, name in OPERATORS.items()}


@pytest.mark.parametrize("op", ["FLOOR_DIV", "FLOOR_MOD"])
def test_floors_where_the_quotient_is_close_to_a_whole_number(op: str, tmp_path: Path) -> None:
    """6 / 0.1f is just below 60, which float32 rounds it to; TensorFlow Lite 2.21 gives 59, rest 0.09999991."""
    model = exporters.export(model_file(op.lower(), tmp_path)).model  # of x1 and x0
    pairs = [(6, 0.1), (-6, 0.1), (1, 0.1), (1, 1 / 3), (-5.5, 0.7), (4, 1 / 3)]
    want = {"FLOOR_DIV": [59, -60, 9, 2, -8, 11],
            "FLOOR_MOD": [0.09999991, 8.9406967e-08, 0.09999999, 0.3333333, 0.09999991, 0.33333322]}[op]  # fmt: skip
    a, b = (np.resize(np.float32(v), (3, 5)) for v in zip(*pairs, strict=True))
    (got,) = run(model, [b, a])
    np.testing.assert_allclose(got.reshape(-1)[:6], want, rtol=1e-5)
