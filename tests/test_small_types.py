"""Element types of a byte and less: float8, float4, and integers of 4 and 2 bits."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from processes import run

import dlpack
from dlpack.pipeline import Options, build
from dlpack.targets import get_target

FLOATS = {
    "float8_e4m3fn": TensorProto.FLOAT8E4M3FN,
    "float8_e4m3fnuz": TensorProto.FLOAT8E4M3FNUZ,
    "float8_e5m2": TensorProto.FLOAT8E5M2,
    "float8_e5m2fnuz": TensorProto.FLOAT8E5M2FNUZ,
    "float4_e2m1fn": TensorProto.FLOAT4E2M1,
}
INTEGERS = {
    "int4": TensorProto.INT4, "uint4": TensorProto.UINT4, "int2": TensorProto.INT2, "uint2": TensorProto.UINT2,
}  # fmt: skip


def cast(name: str, source: int, target: int, n: int, path: Path, **attributes: object) -> dlpack.Predictor:
    """A predictor that casts `n` numbers."""
    x, y = (helper.make_tensor_value_info(v, t, [n]) for v, t in (("x", source), ("y", target)))
    graph = helper.make_graph([helper.make_node("Cast", ["x"], ["y"], to=target, **attributes)], name, [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=13)
    onnx.save(model, path / f"{name}.onnx")
    return dlpack.load(build(path / f"{name}.onnx", path / name))


def numbers(dtype: str) -> np.ndarray:
    """All numbers of the type, what lies between them, ties, and what is beyond them."""
    every = np.arange(16 if "float4" in dtype else 256, dtype=np.uint8).view(getattr(ml_dtypes, dtype))
    exact = np.unique(every.astype(np.float32)[np.isfinite(every.astype(np.float32))])
    middle = (exact[1:] + exact[:-1]) / 2
    near = [np.nextafter(middle, np.float32(side * np.inf)) for side in (-1, 1)]
    top = exact.max() * np.array([1.03, 1.0625, 1.1, 1.125, 1.2, 1.25, 1.5, 2, 1e3, 1e30], np.float32)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30, -1e-42], np.float32)
    return np.concatenate([exact, middle, *near, top, -top, special]).astype(np.float32)


@pytest.mark.parametrize("dtype", FLOATS)
def test_floats_are_rounded_as_ml_dtypes_does(dtype: str, tmp_path: Path) -> None:
    x = numbers(dtype)
    kind = getattr(ml_dtypes, dtype)
    with cast("c", TensorProto.FLOAT, FLOATS[dtype], x.size, tmp_path, saturate=0) as p:
        y = p.run({"x": x})["y"]
        assert y.dtype == kind
    with np.errstate(all="ignore"):
        want = x.astype(kind)
    np.testing.assert_array_equal(y.astype(np.float32), want.astype(np.float32))
    known = ~np.isnan(x)
    np.testing.assert_array_equal(y.view(np.uint8)[known] & 0x7F, want.view(np.uint8)[known] & 0x7F)


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_small_float_is_read(dtype: str, tmp_path: Path) -> None:
    every = np.arange(16 if "float4" in dtype else 256, dtype=np.uint8).view(getattr(ml_dtypes, dtype))
    with cast("c", FLOATS[dtype], TensorProto.FLOAT, every.size, tmp_path) as p:
        np.testing.assert_array_equal(p.run({"x": every})["y"], every.astype(np.float32))
        np.testing.assert_array_equal(p.run({"x": every.view(np.uint8)})["y"], every.astype(np.float32))  # the bits


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_lose_the_bits_above(dtype: str, tmp_path: Path) -> None:
    x = np.array([-129, -20, -9, -8, -2, -1, 0, 1, 3, 7, 8, 15, 16, 200, 1000], np.int32)
    want = x.astype(getattr(ml_dtypes, dtype))
    with cast("c", TensorProto.INT32, INTEGERS[dtype], x.size, tmp_path) as p:
        got = p.run({"x": x})["y"]
        np.testing.assert_array_equal(got.astype(np.int32), want.astype(np.int32))
    with cast("d", INTEGERS[dtype], TensorProto.INT32, x.size, tmp_path) as p:
        np.testing.assert_array_equal(p.run({"x": want})["y"], want.astype(np.int32))


HALVES = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, *HALVES])
def test_the_self_test_knows_the_type(dtype: str, tmp_path: Path) -> None:
    elem = (FLOATS | INTEGERS | HALVES)[dtype]
    for name, (source, target) in {"reads": (elem, TensorProto.FLOAT), "writes": (TensorProto.FLOAT, elem)}.items():
        with cast(name, source, target, 300, tmp_path):
            pass
        file = tmp_path / name / f"{name}.cc"
        flags = ["-O1", "-march=native", "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-D{name.upper()}_SELFTEST"]
        run(["c++", *flags, str(file), "-o", str(tmp_path / f"{name}.out"), "-lpthread"], check=True)
        run([str(tmp_path / f"{name}.out")], check=True)


def test_a_small_float_in_javascript(tmp_path: Path) -> None:
    every = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn)
    with cast("c", TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT, 256, tmp_path):
        pass
    bundle = build(tmp_path / "c.onnx", tmp_path / "js", Options("wasm"))
    runs = get_target("wasm").run
    assert runs is not None
    for found in runs(bundle, {"x": every}).values():
        np.testing.assert_array_equal(found["y"], every.astype(np.float32))
