"""Group normalisation between convolutions: no value is copied to another order for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from nets import model
from onnx import helper

import dlpack
from dlpack.bundle.loader import read_kernels

C, SIDE = 24, 6


def test_it_is_sums_of_channels(tmp_path: Path) -> None:
    """InstanceNormalization between reshapes, as PyTorch writes it."""
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return rng.random(shape, np.float32) - np.float32(0.3)

    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], pads=[1] * 4),
        helper.make_node("Reshape", ["a", "rows"], ["b"]),
        helper.make_node("InstanceNormalization", ["b", "one", "zero"], ["c"], epsilon=1e-3),
        helper.make_node("Reshape", ["c", "back"], ["d"]),
        helper.make_node("Mul", ["d", "gamma"], ["e"]),
        helper.make_node("Relu", ["e"], ["f"]),
        helper.make_node("Conv", ["f", "w1"], ["y"]),
    ]
    constants = {
        "w0": weights(C, 3, 3, 3), "w1": weights(8, C, 1, 1), "gamma": weights(C, 1, 1),
        "one": np.ones(3, np.float32), "zero": np.zeros(3, np.float32),
        "rows": np.array([2, 3, -1]), "back": np.array([2, C, SIDE, SIDE]),
    }  # fmt: skip
    net = model(nodes, {"x": (2, 3, SIDE, SIDE)}, {"y": (2, 8, SIDE, SIDE)}, constants)
    onnx.save(net, tmp_path / "net.onnx")
    kernels = read_kernels(dlpack.build(tmp_path / "net.onnx", tmp_path / "bundle"))  # compared with onnxruntime
    computed = [k["computes"].split(":")[0] for k in kernels]
    assert not [c for c in computed if c.startswith(("Reshape", "Normalize"))]
    assert computed.count("Sub + Mul + Mul + Relu") == 1
