"""Group normalisation between convolutions: no value is copied to another order for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import model
from onnx import NodeProto, helper

import dlpack
from dlpack.bundle.loader import read_kernels

C, SIDE, GROUPS = 24, 6, 3
RNG = np.random.default_rng(0)


def weights(*shape: int) -> np.ndarray:
    return RNG.random(shape, np.float32) - np.float32(0.3)


def kernels_of(norm: list[NodeProto], constants: dict[str, np.ndarray], opset: int, tmp_path: Path) -> list[str]:
    """What the kernels compute, where `norm` makes d of a between convolutions."""
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], pads=[1] * 4),
        *norm,
        helper.make_node("Relu", ["d"], ["e"]),
        helper.make_node("Conv", ["e", "w1"], ["y"]),
    ]
    constants |= {"w0": weights(C, 3, 3, 3), "w1": weights(8, C, 1, 1)}
    domains = [n.domain for n in norm if n.domain]
    net = model(nodes, {"x": (2, 3, SIDE, SIDE)}, {"y": (2, 8, SIDE, SIDE)}, constants, domains)
    net.opset_import[0].version = opset
    onnx.save(net, tmp_path / "net.onnx")
    kernels = read_kernels(dlpack.build(tmp_path / "net.onnx", tmp_path / "bundle"))  # compared with onnxruntime
    return [k["computes"].split(":")[0] for k in kernels]


def test_it_is_sums_of_channels(tmp_path: Path) -> None:
    """InstanceNormalization between reshapes, as PyTorch writes it."""
    norm = [
        helper.make_node("Reshape", ["a", "rows"], ["b"]),
        helper.make_node("InstanceNormalization", ["b", "one", "zero"], ["c"], epsilon=1e-3),
        helper.make_node("Reshape", ["c", "back"], ["r"]),
        helper.make_node("Mul", ["r", "gamma"], ["d"]),
    ]
    constants = {
        "gamma": weights(C, 1, 1), "one": np.ones(GROUPS, np.float32), "zero": np.zeros(GROUPS, np.float32),
        "rows": np.array([2, GROUPS, -1]), "back": np.array([2, C, SIDE, SIDE]),
    }  # fmt: skip
    computed = kernels_of(norm, constants, 17, tmp_path)
    assert not [c for c in computed if c.startswith(("Reshape", "Normalize"))]
    assert computed.count("Sub + Mul + Mul + Relu") == 1


@pytest.mark.parametrize(("opset", "factors"), [(18, GROUPS), (21, C)])
def test_so_is_the_operator(opset: int, factors: int, tmp_path: Path) -> None:
    """onnxruntime would put a definition in its place, whose variance cancels."""
    norm = [helper.make_node("GroupNormalization", ["a", "s", "b"], ["d"], num_groups=GROUPS, epsilon=1e-3)]
    computed = kernels_of(norm, {"s": weights(factors), "b": weights(factors)}, opset, tmp_path)
    assert not [c for c in computed if c.startswith(("Reshape", "Normalize"))], computed
    assert computed.count("Sub + Mul + Mul + Add + Relu") == 1


def test_so_is_that_of_onnxruntime(tmp_path: Path) -> None:
    """Whose channels are the last dimension."""
    norm = [
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 2, 3, 1]),
        helper.make_node("GroupNorm", ["b", "s", "t"], ["c"], domain="com.microsoft", groups=GROUPS, activation=1),
        helper.make_node("Transpose", ["c"], ["d"], perm=[0, 3, 1, 2]),
    ]
    computed = kernels_of(norm, {"s": weights(C), "t": weights(C)}, 17, tmp_path)
    assert not [c for c in computed if c.startswith(("Reshape", "Transpose", "Normalize"))], computed
