"""Gates: products with a sigmoid, and Mish, are one operator each, and right at the ends of the axis."""

from __future__ import annotations

from pathlib import Path

import nets
import numpy as np
import onnx
import pytest
from onnx import helper

from dlpack.bundle.loader import load, read_kernels
from dlpack.pipeline import build

FAR = [-3e38, -1e9, -200.0, -104.0, -90.0, -88.0, -20.0, -1e-30, 0.0, 1e-30, 19.9, 20.1, 88.0, 90.0, 200.0, 3e38]
X = np.concatenate([FAR, np.linspace(-12, 12, 500 - len(FAR))]).astype(np.float32)


def _operators(bundle: Path) -> set[str]:
    return {op for k in read_kernels(bundle) for op in k["computes"].split(":")[0].split(" + ")}


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _run(tmp_path: Path, nodes: list[onnx.NodeProto], inputs: int, outputs: dict[str, tuple[int, ...]]) -> Path:
    names = ["x", "z"][:inputs]
    onnx.save(nets.model(nodes, {name: X.shape for name in names}, outputs), tmp_path / "gate.onnx")
    return build(tmp_path / "gate.onnx", tmp_path / "b")


@pytest.mark.parametrize("first", [True, False], ids=["on the right", "on the left"])
def test_a_product_with_a_sigmoid_is_one_operator(tmp_path: Path, first: bool) -> None:
    node = helper.make_node
    operands = ["z", "s"] if first else ["s", "z"]
    bundle = _run(tmp_path, [node("Sigmoid", ["x"], ["s"]), node("Mul", operands, ["y"])], 2, {"y": X.shape})
    assert _operators(bundle) == {"TimesSigmoid"}
    z = np.linspace(-2, 3, X.size).astype(np.float32)
    with np.errstate(over="ignore"):
        want = z * _sigmoid(X.astype(np.float64))
    assert np.abs(load(bundle).run({"x": X, "z": z})["y"] - want).max() < 5e-7


def test_silu_of_far_numbers(tmp_path: Path) -> None:
    node = helper.make_node
    bundle = _run(tmp_path, [node("Sigmoid", ["x"], ["s"]), node("Mul", ["x", "s"], ["y"])], 1, {"y": X.shape})
    assert _operators(bundle) == {"TimesSigmoid"}
    with np.errstate(over="ignore"):
        want = X * _sigmoid(X.astype(np.float64))
    got = load(bundle).run({"x": X})["y"]
    assert (np.abs(got - want) <= 1e-6 * np.maximum(1, np.abs(want))).all()


@pytest.mark.parametrize("way", ["an output", "two readers", "squared", "broadcast"])
def test_a_sigmoid_that_others_need_stays(tmp_path: Path, way: str) -> None:
    node = helper.make_node
    nodes = [node("Sigmoid", ["x"], ["s"]), node("Mul", ["x", "s"], ["y"])]
    outputs = {"y": X.shape}
    if way == "an output":
        outputs["s"] = X.shape
    elif way == "two readers":
        nodes += [node("Neg", ["s"], ["n"])]
        outputs["n"] = X.shape
    elif way == "squared":
        nodes[1] = node("Mul", ["s", "s"], ["y"])
    else:
        nodes = [node("ReduceSum", ["x"], ["t"], keepdims=1), node("Sigmoid", ["t"], ["s"]), nodes[1]]
    assert "Sigmoid" in _operators(_run(tmp_path, nodes, 1, outputs))


def test_mish_is_one_operator(tmp_path: Path) -> None:
    node = helper.make_node
    nodes = [node("Softplus", ["x"], ["s"]), node("Tanh", ["s"], ["t"]), node("Mul", ["x", "t"], ["y"])]
    bundle = _run(tmp_path, nodes, 1, {"y": X.shape})
    assert _operators(bundle) == {"Mish"}
    x = X.astype(np.float64)
    want = x * np.tanh(np.logaddexp(0, x))
    got = load(bundle).run({"x": X})["y"]
    assert (np.abs(got - want) <= 1e-6 * np.maximum(1, np.abs(want))).all()
