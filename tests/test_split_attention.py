"""A block of split attention: its groups by Winograd's algorithm, its products and sums over the splits in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from nets import model
from onnx import helper

import dlpack
from dlpack.bundle.loader import read_kernels

SIDE, CHANNELS = 12, 32


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Those of a block as ResNeSt has it, behind a first convolution. The build compares with onnxruntime."""
    rng, c, folder = np.random.default_rng(0), CHANNELS, tmp_path_factory.mktemp("split")

    def weights(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 0.1).astype(np.float32)

    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["a"]),
        helper.make_node("Conv", ["a", "w1", "b1"], ["c"], pads=[1] * 4, group=2),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Reshape", ["r", "splits"], ["s"]),
        helper.make_node("ReduceSum", ["s", "one"], ["t"], keepdims=0),
        helper.make_node("ReduceMean", ["t"], ["g"], axes=[2, 3]),
        helper.make_node("Conv", ["g", "w2"], ["l"]),
        helper.make_node("Reshape", ["l", "scores"], ["m"]),
        helper.make_node("Softmax", ["m"], ["n"], axis=1),
        helper.make_node("Mul", ["s", "n"], ["p"]),
        helper.make_node("ReduceSum", ["p", "one"], ["q"], keepdims=0),
        helper.make_node("Conv", ["q", "w3"], ["y"]),
    ]
    constants = {
        "w0": weights(c, 8, 1, 1), "b0": weights(c), "w1": weights(2 * c, c // 2, 3, 3), "b1": weights(2 * c),
        "w2": weights(2 * c, c, 1, 1), "w3": weights(8, c, 1, 1), "one": np.array([1]),
        "splits": np.array([1, 2, c, SIDE, SIDE]), "scores": np.array([1, 2, c, 1, 1]),
    }  # fmt: skip
    net = model(nodes, {"x": (1, 8, SIDE, SIDE)}, {"y": (1, 8, SIDE, SIDE)}, constants)
    onnx.save(net, folder / "net.onnx")
    return read_kernels(dlpack.build(folder / "net.onnx", folder / "bundle"))


def test_each_group_is_one_kernel_with_its_bias_and_activation(kernels: list[dict[str, Any]]) -> None:
    groups = [k for k in kernels if k["computes"].startswith("WinogradConvolution")]
    assert {k["computes"].split(":")[0] for k in groups} == {"WinogradConvolution + Add + Relu"}
    assert not [k for k in kernels if k["computes"].startswith(("Relu", "Concat", "Pad"))]


def test_products_are_summed_where_they_are_computed(kernels: list[dict[str, Any]]) -> None:
    computed = [k["computes"].split(":")[0] for k in kernels]
    assert computed.count("Mul + Mul + Add") == 1
    assert computed.count("Add") == 1
    assert computed.count("ReduceSum + Mul") == 1  # the mean of a channel
