"""TensorFlow Lite's layers of one operator, as old converters wrote them: what TensorFlow Lite computed is recorded."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from dlpack import exporters
from dlpack.errors import DlpackError, ModelError
from dlpack.exporters.flexbuffer import read_map

FIXTURE = Path(__file__).with_name("fixtures") / "tflite_layers.npz"


@pytest.fixture(autouse=True)
def _not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter takes seconds to start; its results are recorded."""


@cache
def recorded() -> dict[str, dict[str, Any]]:
    cases: dict[str, dict[str, Any]] = {}
    with np.load(FIXTURE) as file:
        for key in file.files:
            name, _, rest = key.partition("/")
            cases.setdefault(name, {})[rest] = file[key]
    return cases


def model_of(name: str, folder: Path) -> onnx.ModelProto:
    path = folder / f"{name}.tflite"
    path.write_bytes(recorded()[name]["model"].tobytes())
    model = exporters.export(path).model
    onnx.checker.check_model(model, full_check=True)
    return model


def outputs_of(name: str, model: onnx.ModelProto) -> list[list[Any]]:
    """The outputs of each recorded run, without states, which go from run to run and begin with zeros."""
    record = recorded()[name]
    session = onnxruntime.InferenceSession(model.SerializeToString())
    sizes = {i.name: i.shape for i in session.get_inputs()}
    states = {v.name: np.zeros(sizes[v.name], np.float32) for v in session.get_inputs() if f"{v.name}_next" in outputs(model)}
    data = [v.name for v in session.get_inputs() if v.name not in states]
    found = []
    for r in range(len(record["out:0"])):
        feeds = {n: record[f"in:{k}"][r] for k, n in enumerate(data)}
        results = dict(zip(outputs(model), session.run(None, feeds | states), strict=True))
        states = {n: results.pop(f"{n}_next") for n in states}
        found.append(list(results.values()))
    return found


def outputs(model: onnx.ModelProto) -> list[str]:
    return [v.name for v in model.graph.output]


@pytest.mark.parametrize("name", sorted(recorded()))
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
