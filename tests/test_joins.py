"""What is joined before a convolution is computed where the convolution reads it: nothing is copied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import model
from onnx import helper

import dlpack
from dlpack.bundle.loader import read_kernels

C, SIDE = 32, 6


@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_enlarged_rows_of_a_product(mode: str, tmp_path: Path) -> None:
    """As in a Segformer's decoder: rows of pixels become a picture, which is enlarged and joined to another."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["rows", "w"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 2, 1]),
        helper.make_node("Reshape", ["b", "picture"], ["c"]),
        helper.make_node("Resize", ["c", "", "", "large"], ["d"], mode=mode),
        helper.make_node("Conv", ["x", "w0"], ["e"]),
        helper.make_node("Concat", ["d", "e"], ["f"], axis=1),
        helper.make_node("Conv", ["f", "w1"], ["y"], pads=[1] * 4),
    ]
    constants = {
        "w": rng.random((16, C), np.float32), "picture": np.array([1, C, SIDE, SIDE]),
        "large": np.array([1, C, 2 * SIDE, 2 * SIDE]), "w0": rng.random((C, 3, 1, 1), np.float32),
        "w1": rng.random((C, 2 * C, 3, 3), np.float32),
    }  # fmt: skip
    shapes = {"rows": (1, SIDE * SIDE, 16), "x": (1, 3, 2 * SIDE, 2 * SIDE)}
    onnx.save(model(nodes, shapes, {"y": (1, C, 2 * SIDE, 2 * SIDE)}, constants), tmp_path / "net.onnx")
    kernels = read_kernels(dlpack.build(tmp_path / "net.onnx", tmp_path / "bundle"))  # compared with onnxruntime
    computed = [k["computes"].split(":")[0] for k in kernels]
    assert computed.count("Copy") == 1, computed  # of the result, into the rows that the caller reads
    assert "Pad" not in computed and "Reshape" not in computed
