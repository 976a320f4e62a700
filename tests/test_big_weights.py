"""Weights beside the graph, of more bytes than a protobuf message holds in all: what is shared is bounded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import dlpack
from dlpack.errors import UnsupportedError
from dlpack.model import tensors
from dlpack.model.load import load_model
from dlpack.pipeline import Options, build
from dlpack.stages.compile import REACH

SIDE = 32
BYTES = SIDE * SIDE * 4


def saved(folder: Path, count: int, shared: bool) -> Path:
    """A chain of products whose weights lie in a file, one behind the other or all in the same bytes."""
    rng = np.random.default_rng(0)
    weights = (rng.standard_normal((count, SIDE, SIDE)) / SIDE**0.5).astype(np.float32)
    (folder / "weights.bin").write_bytes(weights[: 1 if shared else count].tobytes())
    parts = []
    for k in range(count):
        part = TensorProto(name=f"w{k}", data_type=TensorProto.FLOAT, dims=(SIDE, SIDE), data_location=1)
        for key, value in (("location", "weights.bin"), ("offset", str(0 if shared else k * BYTES))):
            part.external_data.add(key=key, value=value)
        parts.append(part)
    nodes = [helper.make_node("MatMul", [f"x{k}", f"w{k}"], [f"x{k + 1}"], name=f"product_{k}") for k in range(count)]
    ends = [helper.make_tensor_value_info(f"x{k}", TensorProto.FLOAT, [2, SIDE]) for k in (0, count)]
    graph = helper.make_graph(nodes, "products", ends[:1], ends[1:], parts)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "net.onnx")
    return folder / "net.onnx"


def test_more_bytes_than_a_message_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In several weights; the limit is lowered, since real ones take gigabytes."""
    monkeypatch.setattr(tensors, "MAX_SHARED_BYTES", 2 * BYTES)
    path = saved(tmp_path, 5, shared=False)
    bundle = build(path, tmp_path / "out", Options(name="net"))
    x = np.random.default_rng(1).standard_normal((2, SIDE), np.float32)
    wanted = x
    for weight in np.frombuffer((tmp_path / "weights.bin").read_bytes(), np.float32).reshape(5, SIDE, SIDE):
        wanted = wanted @ weight
    with dlpack.load(bundle) as net:
        np.testing.assert_allclose(net.run({"x0": x})["x5"], wanted, atol=1e-5 * np.abs(wanted).max())


def test_a_small_file_claims_no_large_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many weights of the same bytes."""
    assert len(load_model(saved(tmp_path, 9, shared=True)).graph.initializer) == 9
    monkeypatch.setattr(tensors, "MAX_SHARED_BYTES", 2 * BYTES)
    with pytest.raises(UnsupportedError, match=f"{3 * BYTES:,} bytes of external data, and the files {BYTES:,}"):
        load_model(tmp_path / "net.onnx")
    monkeypatch.setattr(tensors, "MAX_WEIGHT_BYTES", BYTES - 1)
    with pytest.raises(UnsupportedError, match=r"weight 'w0' has the shape \[32, 32\]; more than 2 GiB"):
        load_model(tmp_path / "net.onnx")


def test_what_addresses_do_not_reach_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """WebAssembly's memory has 4 GiB; the limit is lowered."""
    path = saved(tmp_path, 2, shared=False)
    monkeypatch.setitem(REACH, 32, 2 * BYTES)
    with pytest.raises(UnsupportedError, match=r"target wasm: weights of [\d,]+ bytes and .* 32 bits reach"):
        build(path, tmp_path / "wasm", Options("wasm", verify=False))
    assert build(path, tmp_path / "native", Options(verify=False)).is_dir()
