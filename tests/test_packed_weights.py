"""Weights that take less room in the file than float32: halves, and the integers behind DequantizeLinear."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import dlpack
from dlpack.graph.packed import Packed
from dlpack.pipeline import Options, build
from dlpack.plan.halves import narrowed, stored_type
from dlpack.targets import get_target

ROWS, COLUMNS, BLOCK = 64, 96, 16


def manifest_of(bundle: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((bundle / "manifest.json").read_text())
    return facts


def product(weight: list[onnx.NodeProto], constants: list[onnx.TensorProto], path: Path, columns: int = 0) -> Path:
    """x times the value "w" that the nodes make; `columns`: then times itself, transposed."""
    nodes = [*weight, helper.make_node("MatMul", ["x", "w"], ["p" if columns else "y"])]
    if columns:
        nodes += [helper.make_node("Transpose", ["w"], ["t"]), helper.make_node("MatMul", ["p", "t"], ["y"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, ROWS])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, ROWS if columns else COLUMNS])
    graph = helper.make_graph(nodes, "packed", [x], [y], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=13), path)
    return path


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_take_half_the_file(dtype: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    w = rng.normal(0, 0.1, (ROWS, COLUMNS)).astype(getattr(ml_dtypes, dtype, dtype)).astype(np.float32)
    w[0, :4] = [0.0, -0.0, 2.0**-24 if dtype == "float16" else 2.0**-130, 1.0]
    file = product([], [numpy_helper.from_array(w, "w")], tmp_path / "h.onnx")
    bundle = build(file, tmp_path / "h", Options(weights="file"))
    manifest = manifest_of(bundle)
    size = (bundle / manifest["weights"]["file"]).stat().st_size
    assert size == manifest["weights_bytes"] < w.nbytes * 0.51
    assert manifest["weights_by_type"] == {dtype: size}
    assert f"{dtype} {size:,}" in (bundle / "report.html").read_text()
    x = rng.normal(0, 1, (3, ROWS)).astype(np.float32)
    with dlpack.load(bundle) as p:
        np.testing.assert_allclose(p.run({"x": x})["y"], x @ w, rtol=1e-5, atol=1e-5)


def test_what_halves_do_not_hold_stays_float32() -> None:
    x = np.full(2048, 0.5, np.float32)
    assert stored_type(x.tobytes()) == "bfloat16"
    for value, kind in ((2049 / 2048, "float32"), (1 + 2**-10, "float16"), (1e6, "float32"), (np.nan, "bfloat16")):
        y = x.copy()
        y[7] = value
        assert stored_type(y.tobytes()) == kind
    assert narrowed(x.tobytes(), "float16") == x.astype(np.float16).tobytes()
    assert stored_type(x[:1000].tobytes()) == "float32"  # too small to be worth a step


TYPES = {
    "int8": (TensorProto.INT8, 8), "uint8": (TensorProto.UINT8, 8), "int4": (TensorProto.INT4, 4),
    "uint4": (TensorProto.UINT4, 4), "int2": (TensorProto.INT2, 2), "uint2": (TensorProto.UINT2, 2),
    "float8_e4m3fn": (TensorProto.FLOAT8E4M3FN, 8), "float8_e5m2fnuz": (TensorProto.FLOAT8E5M2FNUZ, 8),
    "float4_e2m1fn": (TensorProto.FLOAT4E2M1, 4),
}  # fmt: skip


def quantised(dtype: str, scales: str) -> tuple[onnx.NodeProto, list[onnx.TensorProto], np.ndarray, int]:
    """A node that dequantises "q" to "w", its constants, what it makes, and the bits of an element."""
    elem, bits = TYPES[dtype]
    rng = np.random.default_rng(2)
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    shapes = {"tensor": (), "row": (ROWS,), "column": (COLUMNS,), "block": (ROWS // BLOCK, COLUMNS)}
    shape, axis = shapes[scales], {"row": 0, "column": 1, "block": 0}.get(scales, 1)
    integers = "int" in dtype
    low = ml_dtypes.iinfo(kind).min if integers else 0
    high = ml_dtypes.iinfo(kind).max + 1 if integers else 0
    q = rng.integers(low, high, (ROWS, COLUMNS)) if integers else rng.normal(0, 1.5, (ROWS, COLUMNS))
    s = rng.uniform(0.01, 0.02, shape).astype(np.float32)
    z = rng.integers(low, high, shape) if integers else np.zeros(shape)
    constants = [
        helper.make_tensor("q", elem, [ROWS, COLUMNS], q.reshape(-1).astype(kind).astype(np.float32)),
        numpy_helper.from_array(s, "s"),
        helper.make_tensor("z", elem, shape, z.reshape(-1).astype(np.float32)),
    ]
    attributes = {"block_size": BLOCK} if scales == "block" else {}
    node = helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=axis, **attributes)
    if scales == "row":
        s, z = s[:, None], z[:, None]
    elif scales == "block":
        s, z = s.repeat(BLOCK, 0), z.repeat(BLOCK, 0)
    w = (q.astype(kind).astype(np.float32) - z.astype(np.float32)) * s
    return node, constants, w.astype(np.float32), bits


@pytest.mark.parametrize("scales", ["tensor", "row", "column", "block"])
@pytest.mark.parametrize("dtype", ["int8", "int4", "uint2", "float4_e2m1fn"])
def test_quantised_weights_stay_packed(dtype: str, scales: str, tmp_path: Path) -> None:
    node, constants, w, bits = quantised(dtype, scales)
    bundle = build(product([node], constants, tmp_path / "q.onnx"), tmp_path / "q")
    manifest = manifest_of(bundle)
    assert ROWS * COLUMNS * bits // 8 <= manifest["weights_bytes"] <= ROWS * COLUMNS * bits // 8 + 4096
    assert manifest["prepared_bytes"] >= w.nbytes
    x = np.eye(3, ROWS, 5, dtype=np.float32)
    with dlpack.load(bundle) as p:
        np.testing.assert_array_equal(p.run({"x": x})["y"], w[5:8])


@pytest.mark.parametrize("dtype", TYPES)
def test_the_numbers_of_packed_weights(dtype: str, tmp_path: Path) -> None:
    """Exactly those of ONNX's definition, also where a weight is used transposed."""
    node, constants, w, _ = quantised(dtype, "block")
    x = np.eye(3, ROWS, 5, dtype=np.float32)
    with dlpack.load(build(product([node], constants, tmp_path / "q.onnx"), tmp_path / "q")) as p:
        np.testing.assert_array_equal(p.run({"x": x})["y"], w[5:8])
    with dlpack.load(build(product([node], constants, tmp_path / "t.onnx", COLUMNS), tmp_path / "t")) as p:
        np.testing.assert_allclose(p.run({"x": x})["y"], w[5:8] @ w.T, rtol=1e-5, atol=1e-5)


def test_the_weights_of_matmul_n_bits_stay_packed(tmp_path: Path) -> None:
    """Four bits a number and a scale a block, before opset 21 too, with a partial block and rows in another order."""
    rows, columns, block = 200, 96, 32
    rng = np.random.default_rng(3)
    blocks = -(-rows // block)
    packed = rng.integers(0, 256, (columns, blocks, block // 2)).astype(np.uint8)
    scales = rng.uniform(0.01, 0.02, (columns, blocks)).astype(np.float32)
    groups = rng.permutation(np.arange(rows) // block).astype(np.int32)
    constants = [numpy_helper.from_array(a, n) for n, a in (("B", packed), ("s", scales.reshape(-1)), ("g", groups))]
    sizes = {"K": rows, "N": columns, "bits": 4, "block_size": block}
    node = helper.make_node("MatMulNBits", ["x", "B", "s", "", "g"], ["y"], domain="com.microsoft", **sizes)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, rows])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, columns])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph([node], "four", [x], [y], constants)
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "n.onnx")
    bundle = build(tmp_path / "n.onnx", tmp_path / "n", Options(weights="file"))
    manifest = manifest_of(bundle)
    assert manifest["weights_by_type"]["uint8"] == rows * columns // 2
    assert manifest["weights_bytes"] <= packed.nbytes + scales.nbytes + 8 * rows + 256
    q = np.stack((packed & 15, packed >> 4), -1).reshape(columns, -1)[:, :rows].astype(np.float32)
    w = ((q - 8) * scales[:, groups]).T
    with dlpack.load(bundle) as p:
        np.testing.assert_array_equal(p.run({"x": np.eye(3, rows, 5, dtype=np.float32)})["y"], w[5:8])


def test_packed_weights_in_webassembly(tmp_path: Path) -> None:
    node, constants, w, _ = quantised("uint4", "block")
    bundle = build(product([node], constants, tmp_path / "q.onnx"), tmp_path / "q", Options("wasm"))
    runs = get_target("wasm").run
    assert runs is not None
    for found in runs(bundle, {"x": np.eye(3, ROWS, 5, dtype=np.float32)}).values():
        np.testing.assert_array_equal(found["y"], w[5:8])


def test_several_machines_share_packed_weights(tmp_path: Path) -> None:
    """Each widens them in its own layout."""
    node, constants, w, _ = quantised("int4", "column")
    half = numpy_helper.from_array(w.astype(np.float16).astype(np.float32), "v")
    for name, weight, tensors in (
        ("q", [node], constants),
        ("h", [helper.make_node("Identity", ["v"], ["w"])], [half]),
    ):
        bundle = build(product(weight, tensors, tmp_path / f"{name}.onnx"), tmp_path / name, Options("x86-64"))
        manifest = manifest_of(bundle)
        want = w if name == "q" else w.astype(np.float16).astype(np.float32)
        assert manifest["weights_bytes"] <= want.nbytes // 2 + 64
        with dlpack.load(bundle) as p:
            np.testing.assert_array_equal(p.run({"x": np.eye(3, ROWS, 5, dtype=np.float32)})["y"], want[5:8])


def test_codes_are_packed_from_the_lowest_bits() -> None:
    codes = np.array([[1, 2, 3], [0, 3, 1]], np.uint8)
    packed = Packed(2, codes, np.arange(4, dtype=np.float32), np.ones(1, np.float32), None, (1, 1), (0, 0))
    assert packed.stored().tolist() == [0b00111001, 0b0111]
    np.testing.assert_array_equal(packed.values(), codes)


def test_a_recurrent_network_takes_small_quantised_weights(tmp_path: Path) -> None:
    """Constants, as its operator wants them, though too small to be stored packed."""
    rng = np.random.default_rng(1)
    w, r = rng.integers(-128, 128, (1, 16, 8), np.int8), rng.normal(0, 1, (1, 16, 4)).astype(np.float32)
    constants = [numpy_helper.from_array(a, n) for n, a in {"q": w, "s": np.float32(0.01), "r": r}.items()]
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"]),
        helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=4),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 1, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 1, 1, 4])
    graph = helper.make_graph(nodes, "net", [x], [y], constants)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "net.onnx"
    )
    manifest = manifest_of(build(tmp_path / "net.onnx", tmp_path / "bundle"))  # which verifies it
    assert "int8" not in manifest["weights_by_type"]
