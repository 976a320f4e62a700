"""MXNet's mx.np and mx.npx: each operator against what MXNet 1.9.1 computed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from recorded import recorded_cases
from test_export_mxnet import run, write_model

from dlpack import exporters
from dlpack.errors import ModelError, UnsupportedError
from dlpack.exporters import ExportOptions
from dlpack.exporters.mxnet.files import read_arrays
from dlpack.stages.prepare import clean_graph

CASES = recorded_cases(Path(__file__).with_name("fixtures") / "mxnet_numpy.npz")


@pytest.mark.parametrize("first", ["a-i", "j-r", "s-w", "x-z"])
def test_operators_compute_what_mxnet_computes(first: str, tmp_path: Path) -> None:
    """Values, shapes (a whole sum has no dimensions) and types (comparisons are bool); dlpack takes every graph."""
    for name, record in CASES.items():
        if not first[0] <= name[0] <= first[-1]:
            continue
        inputs = {k[3:]: v for k, v in record.items() if k.startswith("in:")}
        arrays = {k: v for k, v in record.items() if k[:4] in ("arg:", "aux:")}
        path = write_model(tmp_path / name, str(record["symbol"]), arrays)
        model = exporters.export(path, options=ExportOptions({k: v.shape for k, v in inputs.items()})).model
        onnx.checker.check_model(model, full_check=True)
        clean_graph(model, {})
        wanted = [record[f"out:{k}"] for k in range(sum(k.startswith("out:") for k in record))]
        for got, want in zip(run(model, inputs), wanted, strict=True):
            assert got.shape == want.shape and got.dtype == want.dtype, name
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-5, err_msg=name)


STAND_IN = """
import sys, numpy as np
symbol, params, inputs, result = sys.argv[3:]
with np.load(inputs) as file:
    given = dict(file)
np.savez(result, **{k.partition("/")[0] + "/0": SCALE * np.tanh(v) for k, v in given.items()})
"""


def test_the_model_is_compared_with_mxnet_where_a_python_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable names the Python of its environment; here a program stands in for it."""
    nodes = [{"op": "null", "name": "x", "inputs": []}, {"op": "tanh", "name": "y", "inputs": [[0, 0, 0]]}]
    symbol = {"nodes": nodes, "arg_nodes": [0], "heads": [[1, 0, 0]], "attrs": {"mxnet_version": ["int", 10901]}}
    path = write_model(tmp_path, json.dumps(symbol), {"arg:unused": np.zeros(1, np.float32)})
    options = ExportOptions({"x": (2, 3)})
    python = tmp_path / "python"
    for scale, words in (("1", ""), ("1.01", r"differs from MXNet in 'y_output', by up to 0\.0")):
        (tmp_path / "stand_in.py").write_text(STAND_IN.replace("SCALE", scale))
        python.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{tmp_path}/stand_in.py' \"$@\"\n")
        python.chmod(0o755)
        monkeypatch.setenv("DLPACK_MXNET_PYTHON", str(python))
        if words:
            with pytest.raises(ModelError, match=words):
                exporters.export(path, options=options)
        else:
            assert exporters.export(path, options=options).warnings == ()
    monkeypatch.setenv("DLPACK_MXNET_PYTHON", str(tmp_path / "absent"))
    (warning,) = exporters.export(path, options=options).warnings
    assert "was not compared with MXNet" in warning


def test_what_mx_np_has_and_onnx_has_not_is_named(tmp_path: Path) -> None:
    """All of it at once."""
    nodes = [("null", "x", {}, []), ("_npi_solve", "a", {}, [0, 0]), ("_npi_svd", "b", {}, [0])]
    symbol = {
        "nodes": [{"op": o, "name": n, "attrs": p, "inputs": [[k, 0, 0] for k in i]} for o, n, p, i in nodes],
        "arg_nodes": [0],
        "heads": [[1, 0, 0], [2, 0, 0]],
        "attrs": {"mxnet_version": ["int", 10901]},
    }
    path = write_model(tmp_path, json.dumps(symbol), {"arg:unused": np.zeros(1, np.float32)})
    with pytest.raises(UnsupportedError) as e:
        exporters.export(path, options=ExportOptions({"x": (3, 3)}))
    assert "_npi_solve" in str(e.value) and "_npi_svd" in str(e.value)


TWO = Path(__file__).with_name("fixtures") / "mxnet_two.npz"


def test_mxnet_2_writes_numpy_archives_and_other_names(tmp_path: Path) -> None:
    """A network as MXNet 2.0.0b1 exports it: 29 outputs, each as it computed."""
    with np.load(TWO) as file:
        record = dict(file)
    path = tmp_path / "net-symbol.json"
    path.write_text(str(record["symbol"]))
    weights = record["params"].tobytes()
    (tmp_path / "net-0000.params").write_bytes(weights)
    model = exporters.export(path, options=ExportOptions({"data": record["x"].shape})).model
    onnx.checker.check_model(model, full_check=True)
    for k, got in enumerate(run(model, {"data": record["x"]})):
        want = record[f"out:{k}"]
        assert got.shape == want.shape, k
        np.testing.assert_allclose(got.astype(want.dtype), want, rtol=1e-4, atol=2e-5, err_msg=str(k))
    for damaged in (weights[:-30], weights.replace(b"'shape': (4,", b"'shape': (9,")):
        with pytest.raises(ModelError, match="damaged"):
            read_arrays(damaged)
    assert read_arrays(b"PK\x05\x06" + bytes(18)) == {}  # a network without weights
