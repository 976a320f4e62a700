"""Attention in one kernel on processors: found, computed block by block, and left alone where the caches hold it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from dlpack.bundle.loader import read_kernels, read_manifest
from dlpack.kernels.backend import Attention
from dlpack.pipeline import Options, build
from dlpack.targets.cpu.attention import fuses
from dlpack.targets.cpu.machine import AVX2, AVX512, SCALAR, WASM


def model(heads: int, queries: int, keys: int, turned: bool = False) -> ModelProto:
    """Softmax(q k^T / 4 + mask) v for heads of 16 numbers, values of 24, which may be given as columns."""
    shapes = {
        "q": [1, heads, queries, 16],
        "k": [1, heads, keys, 16],
        "v": [1, heads, keys, 24],
        "mask": [1, 1, 1, keys],
    }
    nodes = [
        helper.make_node("Transpose", ["k"], ["t"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["q", "t"], ["products"]),
        helper.make_node("Mul", ["products", "quarter"], ["scaled"]),
        helper.make_node("Add", ["scaled", "mask"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["weights"], axis=-1),
        helper.make_node("MatMul", ["weights", "v"], ["heads"]),
        helper.make_node("Transpose", ["heads"], ["by_query"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["by_query", "shape"], ["y"]),
    ]
    if turned:
        shapes["v"] = [1, heads, 24, keys]
        nodes[5].input[1] = "values"
        nodes.insert(0, helper.make_node("Transpose", ["v"], ["values"], perm=[0, 1, 3, 2]))
    constants = {"quarter": np.float32(0.25), "shape": np.array([1, queries, heads * 24])}
    graph = helper.make_graph(
        nodes,
        "attention",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, n) for n, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_every_machine_computes_attention_in_one_kernel(tmp_path: Path) -> None:
    """131 queries are no whole blocks, 203 keys no whole vectors; two threads share the heads."""
    onnx.save(model(6, 131, 203), tmp_path / "net.onnx")
    machines = ("avx512", "avx2", "neon")
    options = Options(target="source", name="net", threads=2, target_options={"machine": ",".join(machines)})
    bundle = build(tmp_path / "net.onnx", tmp_path / "bundle", options)
    kernels = [k for k in read_kernels(bundle) if k["schedule"].startswith("attention")]
    assert [k["machine"] for k in kernels] == list(machines)
    assert all(e["passed"] for e in read_manifest(bundle)["verification"])


def test_values_in_columns_are_turned_first(tmp_path: Path) -> None:
    """Vectors run along a value's numbers: as columns they would be read one by one."""
    onnx.save(model(6, 131, 203, turned=True), tmp_path / "net.onnx")
    options = Options(target="source", name="net", target_options={"machine": "avx512"})
    bundle = build(tmp_path / "net.onnx", tmp_path / "bundle", options)
    kernels = read_kernels(bundle)
    assert any(k["schedule"].startswith("attention") for k in kernels)
    assert any(k["computes"].endswith("float32[1x6x203x24]") for k in kernels)
    assert all(e["passed"] for e in read_manifest(bundle)["verification"])


def test_scores_that_stay_in_the_cache_are_left_alone() -> None:
    """Scores and their powers of 12 heads take 1.6 MB, those of 2 heads 0.3 MB."""
    assert fuses(Attention(12, 128, 128, 32, 32), AVX512)
    assert not fuses(Attention(2, 128, 128, 64, 64), AVX512)
    assert fuses(Attention(5, 128, 128, 64, 64), AVX2) and not fuses(Attention(5, 128, 128, 64, 64), AVX512)
    assert fuses(Attention(12, 256, 256, 32, 32), WASM) and not fuses(Attention(12, 128, 128, 32, 32), WASM)
    assert not fuses(Attention(12, 128, 128, 32, 32), SCALAR)
