"""Convolutions of one value that are added up become one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from nets import model
from onnx import NodeProto, helper

import dlpack
from dlpack.bundle.loader import read_kernels

C, SIDE = 8, 7


def test_branches_of_a_trained_network_are_one_convolution(tmp_path: Path) -> None:
    """RepVGG's block, a depthwise one of stride 2 as MobileOne has it, and a sum whose windows do not fit."""
    rng = np.random.default_rng(0)
    constants: dict[str, np.ndarray] = {}

    def weights(name: str, *shape: int) -> str:
        constants[name] = rng.random(shape, np.float32) + np.float32(0.5)
        return name

    def normal(x: str, y: str) -> NodeProto:
        return helper.make_node("BatchNormalization", [x, *(weights(f"{y}_{k}", C) for k in "sbmv")], [y])

    def conv(x: str, y: str, groups: int, *kernel: int, **more: object) -> NodeProto:
        operands = [x, weights(f"{y}_w", C, C // groups, *kernel), weights(f"{y}_b", C)]
        return helper.make_node("Conv", operands, [y], group=groups, pads=[k // 2 for k in kernel] * 2, **more)

    def add(a: str, b: str, y: str) -> NodeProto:
        return helper.make_node("Add", [a, b], [y])

    nodes = [
        conv("x", "a", 1, 3, 3), conv("x", "b", 1, 1, 1), normal("x", "c"), add("a", "b", "d"), add("c", "d", "e"),
        helper.make_node("Relu", ["e"], ["f"]),
        conv("f", "g", C, 1, 1, strides=[2, 2]), conv("f", "h", C, 3, 3, strides=[2, 2]), add("g", "h", "i"),
        conv("i", "j", 2, 3, 1), conv("i", "k", 2, 1, 3), add("j", "k", "y"),
    ]  # fmt: skip
    half = (SIDE + 1) // 2
    onnx.save(model(nodes, {"x": (1, C, SIDE, SIDE)}, {"y": (1, C, half, half)}, constants), tmp_path / "net.onnx")
    kernels = read_kernels(dlpack.build(tmp_path / "net.onnx", tmp_path / "bundle"))  # compared with onnxruntime
    convolutions = [k["computes"] for k in kernels if "Convolution" in k["computes"]]
    assert [c.split(":")[0] for c in convolutions[:2]] in (
        ["Convolution + Add + Relu", "Convolution + Add"],
        ["WinogradConvolution + Add + Relu", "Convolution + Add"],
    )
    assert len(convolutions) == 4
