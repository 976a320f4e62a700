"""Weights of a .safetensors file in a module that the user's Python makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import requires_module
from hypothesis import given
from hypothesis import strategies as st
from test_export_mxnet import run

from dlpack import exporters
from dlpack.errors import DlpackError, UsageError
from dlpack.exporters import ExportOptions
from dlpack.exporters.pytorch.weights import read_safetensors

requires_module("torch")
NET = """
import torch

def make_model():
    last = torch.nn.Linear(3, 3, bias=False)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), last, last).eval()
"""
_random = np.random.default_rng(0)
WEIGHTS: dict[str, Any] = {
    "0.weight": _random.normal(size=(3, 4)).astype(np.float16), "0.bias": _random.normal(size=3),
    "1.weight": np.ones(3, np.float32), "1.bias": np.zeros(3, np.float32), "1.running_mean": np.ones(3, np.float32),
    "1.running_var": np.full(3, 4, np.float32), "2.weight": _random.normal(size=(3, 3)).astype(np.float32),
}  # fmt: skip
NAMES = {"float16": "F16", "float32": "F32", "float64": "F64"}


def safetensors(arrays: dict[str, Any]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, array in arrays.items():
        place = [len(body), len(body) + array.nbytes]
        header[name] = {"dtype": NAMES[array.dtype.name], "shape": array.shape, "data_offsets": place}
        body += array.tobytes()
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def export(folder: Path, arrays: dict[str, Any]) -> exporters.Exported:
    (folder / "net.py").write_text(NET)
    (folder / "w.safetensors").write_bytes(safetensors(arrays))
    spec = Path(f"{folder}/net.py:make_model")
    return exporters.export(spec, folder / "w.safetensors", ExportOptions({"input": (2, 4)}))


def test_the_module_computes_with_them(tmp_path: Path) -> None:
    x = _random.normal(size=(2, 4)).astype(np.float32)
    y = (x @ WEIGHTS["0.weight"].astype(np.float64).T + WEIGHTS["0.bias"] - 1) / np.sqrt(4 + 1e-5)
    got = run(export(tmp_path, WEIGHTS).model, {"input": x})[0]
    np.testing.assert_allclose(got, y @ WEIGHTS["2.weight"].T @ WEIGHTS["2.weight"].T, rtol=1e-4, atol=1e-5)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"2 of the module's are not there \(0\.bias\), 1 are not of the module \(x\)"):
        export(tmp_path, {**{n: a for n, a in WEIGHTS.items() if n[2:] != "bias"}, "x": np.zeros(2, np.float32)})
    with pytest.raises(UsageError, match=r"'0\.bias' has the shape \[4\], and in the module \[3\]"):
        export(tmp_path, {**WEIGHTS, "0.bias": np.zeros(4)})
    (tmp_path / "f.py").write_text("def double(x):\n    return x * 2\n")
    with pytest.raises(UsageError, match="holds its weights itself"):
        exporters.export(Path(f"{tmp_path}/f.py:double"), tmp_path / "w.safetensors", ExportOptions({"x": (2,)}))
    with pytest.raises(UsageError, match=r"my_net\.py:make_model --params .*w\.safetensors"):
        exporters.export(tmp_path / "w.safetensors")


@given(at=st.integers(0, 1 << 20), new=st.binary(min_size=0, max_size=4))
def test_a_damaged_file_is_refused_or_read(at: int, new: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    data = safetensors(WEIGHTS)
    at %= len(data)
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    path.write_bytes(data[:at] + (new + data[at + len(new) :] if new else b""))
    try:
        found = read_safetensors(path)
    except DlpackError as e:
        assert str(e)
    else:
        assert all(isinstance(v, np.ndarray) for v in found.values())
