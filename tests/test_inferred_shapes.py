"""Shapes that onnx infers otherwise than onnxruntime computes them: what is computed decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import dlpack
from dlpack.model.infer import infer_types
from dlpack.pipeline import build
from dlpack.stages.prepare import clean_graph
from dlpack.verify.runners import run_onnxruntime


def one_node(op: str, shape: tuple[int, ...], opset: int, constants: dict[str, np.ndarray], *inputs: str, **attrs: Any):
    """A model whose node reads x and the constants; the size of what it computes is then used for a reshape."""
    nodes = [
        helper.make_node(op, ["x", *inputs], ["p"], **attrs),
        helper.make_node("Shape", ["p"], ["s"]),
        helper.make_node("ReduceProd", ["s"], ["n"], keepdims=1),
        helper.make_node("Reshape", ["p", "n"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [onnx.ValueInfoProto(name=name) for name in ("p", "y")],
        [onnx.numpy_helper.from_array(v, n) for n, v in constants.items()],
    )
    for value in graph.output:
        value.type.CopyFrom(helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


WEIGHTS = np.random.default_rng(3).random((2, 3, 3, 3), dtype=np.float32)
FACTORS = np.array([1, 1, 1.4, 1.4], np.float32)
POOL = {"kernel_shape": [3, 3], "strides": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1}
COUNTED = {"kernel_shape": [4, 4], "strides": [4, 4], "pads": [2, 2, 2, 2], "ceil_mode": 1, "count_include_pad": 1}
SAME = {"auto_pad": "SAME_UPPER", "strides": [2, 2], "output_padding": [1, 1]}

# The model, and the shape that onnxruntime computes.
CASES = {
    "MaxPool without padding": (
        one_node("MaxPool", (4, 4, 12, 12), 17, {}, kernel_shape=[1, 1], strides=[2, 2], ceil_mode=1), (4, 4, 6, 6),
    ),
    "MaxPool": (one_node("MaxPool", (1, 2, 6, 5), 14, {}, **POOL), (1, 2, 3, 2)),
    "AveragePool": (one_node("AveragePool", (1, 1, 9, 9), 17, {}, **COUNTED), (1, 1, 3, 3)),
    "Resize": (one_node("Resize", (1, 1, 5, 5), 13, {"f": FACTORS}, "", "f", mode="linear"), (1, 1, 7, 7)),
    "Resize of opset 10": (one_node("Resize", (1, 1, 5, 5), 10, {"f": FACTORS}, "f", mode="nearest"), (1, 1, 7, 7)),
    "Upsample of opset 7": (
        one_node("Upsample", (1, 1, 5, 5), 7, {}, mode="nearest", scales=[1.0, 1.0, 1.4, 1.4]), (1, 1, 7, 7),
    ),
    "ConvTranspose": (one_node("ConvTranspose", (1, 2, 4, 4), 17, {"w": WEIGHTS}, "w", **SAME), (1, 3, 8, 8)),
}  # fmt: skip


@pytest.mark.parametrize("kind", CASES)
def test_what_onnxruntime_computes_decides(kind: str, tmp_path: Path) -> None:
    made, _ = CASES[kind]
    onnx.save(made, tmp_path / "net.onnx")
    bundle = build(tmp_path / "net.onnx", tmp_path / "bundle")
    x = np.random.default_rng(1).random([d.dim_value for d in made.graph.input[0].type.tensor_type.shape.dim])
    x = x.astype(np.float32)
    want = run_onnxruntime(made, {"x": x})
    with dlpack.load(bundle) as predictor:
        got = predictor.run({"x": x})
    for value, array in zip(want, got.values(), strict=True):
        assert value.shape == array.shape
        assert np.allclose(value, array, atol=1e-5)


@pytest.mark.parametrize("kind", CASES)
def test_its_shape_is_known_where_it_is_used(kind: str) -> None:
    made, shape = CASES[kind]
    (seen, _) = run_onnxruntime(made, {"x": np.zeros([d.dim_value for d in _dims(made)], np.float32)})
    assert infer_types(made)["p"].shape == seen.shape
    assert clean_graph(made, {})[1].types["p"].shape == seen.shape
    if kind != "ConvTranspose":
        assert seen.shape == shape


def _dims(made: onnx.ModelProto) -> Any:
    return made.graph.input[0].type.tensor_type.shape.dim


def test_large_operands_are_not_run() -> None:
    """onnx's inference stands for them: no memory is taken to find a shape."""
    made = one_node("MaxPool", (1, 1, 40000, 40000), 17, {}, kernel_shape=[1, 1], strides=[2, 2], ceil_mode=1)
    assert infer_types(made)["p"].shape == (1, 1, 20001, 20001)


@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize(("theta", "size"), [((1, 2, 3), (1, 2, 4, 5)), ((2, 3, 4), (2, 1, 3, 4, 2))])
def test_affine_grids_of_any_batch(theta: tuple[int, ...], size: tuple[int, ...], corners: int, tmp_path: Path) -> None:
    """ONNX's definition of the operator squeezes a batch of one away."""
    graph = helper.make_graph(
        [helper.make_node("AffineGrid", ["t", "s"], ["y"], align_corners=corners)],
        "net",
        [helper.make_tensor_value_info("t", onnx.TensorProto.FLOAT, theta)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.array(size), "s")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(made, tmp_path / "net.onnx")
    t = np.random.default_rng(2).random(theta, dtype=np.float32)
    with dlpack.load(build(tmp_path / "net.onnx", tmp_path / "bundle")) as predictor:
        got = predictor.run({"t": t})["y"]
    assert np.allclose(got, run_onnxruntime(made, {"t": t})[0], atol=1e-6)


def test_a_spectrum_of_a_signal_of_two_dimensions(tmp_path: Path) -> None:
    """A batch of signals of real numbers, without a dimension of size one at the end."""
    constants = {"hop": np.array(4), "w": np.ones(8, np.float32), "length": np.array(8)}
    made = one_node("STFT", (2, 40), 17, constants, "hop", "w", "length")
    onnx.save(made, tmp_path / "net.onnx")
    x = np.random.default_rng(2).random((2, 40), dtype=np.float32)
    with dlpack.load(build(tmp_path / "net.onnx", tmp_path / "bundle")) as predictor:
        got = predictor.run({"x": x})["p"]
    frames = np.lib.stride_tricks.sliding_window_view(x, 8, axis=1)[:, ::4]
    want = np.fft.rfft(frames.astype(np.float64))
    assert np.allclose(got[..., 0] + 1j * got[..., 1], want, atol=1e-5)


def test_float64_has_the_shape_of_float32() -> None:
    """onnxruntime has no kernel of its average pool."""
    made = one_node("AveragePool", (1, 2, 6, 5), 21, {}, **POOL)
    made.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    seen = infer_types(made)["p"]
    assert (seen.elem, seen.shape) == (onnx.TensorProto.DOUBLE, (1, 2, 3, 2))
