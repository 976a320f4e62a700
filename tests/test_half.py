"""16-bit floats: models of float16 and bfloat16 keep these types at inputs and outputs, and compute in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import dlpack
from dlpack.bundle.arrays import numpy_dtype
from dlpack.pipeline import Options, build
from dlpack.targets import get_target


def model(nodes: list[onnx.NodeProto], elem: int, weights: dict[str, np.ndarray], shape: list[int]) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", elem, shape)
    y = helper.make_tensor_value_info("y", elem, None)
    constants = [numpy_helper.from_array(v, n) for n, v in weights.items()]
    graph = helper.make_graph(nodes, "half", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def convolutions() -> onnx.ModelProto:
    rng = np.random.default_rng(4)
    weights = {
        "w": rng.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float16),
        "b": rng.normal(0, 0.3, 8).astype(np.float16),
        "m": rng.normal(0, 0.3, (8, 5)).astype(np.float16),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "m"], ["s"]),
        helper.make_node("Softmax", ["s"], ["y"], axis=-1),
    ]
    return model(nodes, TensorProto.FLOAT16, weights, [1, 3, 9, 7])


@pytest.mark.parametrize("target", ["native", "wasm"])
def test_a_network_of_halves(target: str, tmp_path: Path) -> None:
    onnx.save(convolutions(), tmp_path / "net.onnx")
    bundle = build(tmp_path / "net.onnx", tmp_path / "net", Options(target))
    x = np.random.default_rng(5).uniform(-1, 1, (1, 3, 9, 7)).astype(np.float16)
    run = get_target(target).run
    if run is None:
        with dlpack.load(bundle) as p:
            assert p.inputs["x"] == ("float16", (1, 3, 9, 7)) and p.outputs["y"][0] == "float16"
            outputs = [p.run({"x": x})["y"]]
    else:
        outputs = [found["y"] for found in run(bundle, {"x": x}).values()]
    want = numpy_reference(x.astype(np.float64))
    for y in outputs:
        assert y.dtype == np.float16
        np.testing.assert_allclose(y.astype(np.float64), want, atol=2**-11, rtol=2**-10)


def numpy_reference(x: np.ndarray) -> np.ndarray:
    weights = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in convolutions().graph.initializer}
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    c = np.zeros((1, 8, 9, 7))
    for i in range(3):
        for j in range(3):
            c += np.einsum("oc,nchw->nohw", weights["w"][:, :, i, j], padded[:, :, i : i + 9, j : j + 7])
    pooled = np.maximum(c + weights["b"][:, None, None], 0).mean(axis=(2, 3))
    scores = np.exp(pooled @ weights["m"])
    return np.asarray(scores / scores.sum(axis=-1, keepdims=True))


def test_every_half_is_read_and_written(tmp_path: Path) -> None:
    """All 65,536, denormals, infinities and NaN among them, through float32 and back."""
    onnx.save(model([helper.make_node("Neg", ["x"], ["y"])], TensorProto.FLOAT16, {}, [256, 256]), tmp_path / "n.onnx")
    every = np.arange(65536, dtype=np.uint16).view(np.float16).reshape(256, 256)
    with dlpack.load(build(tmp_path / "n.onnx", tmp_path / "n")) as p:
        y = p.run({"x": every})["y"]
    np.testing.assert_array_equal(y, -every)  # NaN where there is NaN
    finite = ~np.isnan(every)
    np.testing.assert_array_equal(y[finite].view(np.uint16), (-every[finite]).view(np.uint16))  # zeros keep signs


def test_bfloat16_rounds_to_the_nearest(tmp_path: Path) -> None:
    proto = model([helper.make_node("Add", ["x", "w"], ["y"])], TensorProto.BFLOAT16, {}, [4])
    proto.graph.initializer.append(helper.make_tensor("w", TensorProto.BFLOAT16, [4], [1.0, 2.0, 3.0, 0.5]))
    onnx.save(proto, tmp_path / "b.onnx")
    bits = np.array([0x3F80, 0x3F81, 0x4040, 0x7F80], np.uint16)  # 1, 1 + 2^-7, 3, infinity
    with dlpack.load(build(tmp_path / "b.onnx", tmp_path / "b")) as p:
        y = p.run({"x": bits.view(numpy_dtype("bfloat16"))})["y"].view(np.uint16)
    assert y.tolist() == [0x4000, 0x4040, 0x40C0, 0x7F80]  # 2, 3 (of 3.0078: the tie is even), 6, infinity


def test_loops_and_branches_of_halves(tmp_path: Path) -> None:
    """A Loop whose state is float16, and an If with float16 branches on a condition known only at run time."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Mul", ["s", "w"], ["t"])],
        "body",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("s", TensorProto.FLOAT16, [4])],
        [value("on", TensorProto.BOOL, []), value("t", TensorProto.FLOAT16, [4])],
    )
    then = helper.make_graph(
        [helper.make_node("Neg", ["r"], ["a"])], "then", [], [value("a", TensorProto.FLOAT16, [4])]
    )
    other = helper.make_graph([helper.make_node("Add", ["r", "w"], ["b"])], "other", [], [value("b", 10, [4])])
    nodes = [
        helper.make_node("Loop", ["n", "", "x"], ["r"], body=body),
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Greater", ["m", "zero"], ["c"]),
        helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other),
    ]
    w = np.array([0.5, 1.5, 2, -1], np.float16)
    weights = {"w": w, "n": np.array(3), "zero": np.array(0, np.float16)}
    onnx.save(model(nodes, TensorProto.FLOAT16, weights, [4]), tmp_path / "loop.onnx")
    with dlpack.load(build(tmp_path / "loop.onnx", tmp_path / "loop")) as p:
        for x in (np.array([1, 2, 3, 4], np.float16), -np.array([1, 2, 3, 4], np.float16)):
            y = p.run({"x": x})["y"]
            assert y.dtype == np.float16
            np.testing.assert_array_equal(y, -(x * w**3) if x.max() > 0 else x * w**3 + w)


def test_quantised_layers_with_scales_of_16_bits(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    q = rng.integers(-128, 128, (48, 96)).astype(np.int8)
    scale = rng.uniform(0.01, 0.02, 96).astype(np.float16)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"], axis=1),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    proto = model(nodes, TensorProto.FLOAT16, {"q": q, "s": scale}, [2, 48])
    proto.opset_import[0].version = 21
    proto.ir_version = 10
    onnx.save(proto, tmp_path / "q.onnx")
    x = rng.uniform(-1, 1, (2, 48)).astype(np.float16)
    bundle = build(tmp_path / "q.onnx", tmp_path / "q")
    with dlpack.load(bundle) as p:
        y = p.run({"x": x})["y"]
    want = x.astype(np.float64) @ (q * scale.astype(np.float64))
    np.testing.assert_allclose(y.astype(np.float64), want, rtol=2**-10, atol=2**-10 * np.abs(want).max())


def test_doubles_stay_doubles(tmp_path: Path) -> None:
    """From input to output, weights included: float32 would be 1e-8 off."""
    rng = np.random.default_rng(7)
    w = rng.normal(0, 1, (30, 40))
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Sigmoid", ["p"], ["q"]),
        helper.make_node("ReduceMean", ["q"], ["y"], axes=[1]),
    ]
    onnx.save(model(nodes, TensorProto.DOUBLE, {"w": w}, [5, 30]), tmp_path / "d.onnx")
    x = rng.normal(0, 1, (5, 30))
    with dlpack.load(build(tmp_path / "d.onnx", tmp_path / "d")) as p:
        y = p.run({"x": x})["y"]
    want = (1 / (1 + np.exp(-(x @ w)))).mean(axis=1, keepdims=True)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, want, rtol=1e-13)
