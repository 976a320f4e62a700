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


def test_rows_of_a_picture_with_a_border(tmp_path: Path) -> None:
    """As attention has whose values go through a window, too: one copy without the border, in runs of channels."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["v"]),
        helper.make_node("Conv", ["v", "w1"], ["local"], pads=[1] * 4, group=C),
        helper.make_node("Reshape", ["v", "heads"], ["h"]),
        helper.make_node("Transpose", ["h"], ["t"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["a", "t"], ["y"]),
    ]
    constants = {
        "w0": rng.random((C, 3, 1, 1), np.float32), "w1": rng.random((C, 1, 3, 3), np.float32),
        "heads": np.array([1, 2, C // 2, SIDE * SIDE]),
    }  # fmt: skip
    shapes = {"x": (1, 3, SIDE, SIDE), "a": (1, 2, SIDE * SIDE, SIDE * SIDE)}
    outputs = {"local": (1, C, SIDE, SIDE), "y": (1, 2, SIDE * SIDE, C // 2)}
    onnx.save(model(nodes, shapes, outputs, constants), tmp_path / "net.onnx")
    kernels = read_kernels(dlpack.build(tmp_path / "net.onnx", tmp_path / "bundle"))  # compared with onnxruntime
    before = [k["computes"] for k in kernels if k["computes"].startswith(("Copy", "Reshape"))]
    assert not [c for c in before if c.startswith(f"Copy: float32[1x2x{SIDE * SIDE}")], before
    text = (tmp_path / "bundle" / "net.cc").read_text(encoding="utf-8")
    body = text.split("_reshape(const float* __restrict x, float* __restrict y) {")[1].split("\n}")[0]
    assert "store(y" in body  # whole vectors


def test_tokens_beside_a_picture_lie_as_rows(tmp_path: Path) -> None:
    """As a class token beside pixels that a convolution has computed, joined before they are transposed: the pixels are
    copied in runs of channels, and rows are normalised as rows."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"]),
        helper.make_node("Conv", ["a", "w1"], ["b"], pads=[1] * 4, group=C),
        helper.make_node("Reshape", ["b", "flat"], ["c"]),
        helper.make_node("Concat", ["token", "c"], ["d"], axis=2),
        helper.make_node("Transpose", ["d"], ["e"], perm=[0, 2, 1]),
        helper.make_node("LayerNormalization", ["e", "scale"], ["f"]),
        helper.make_node("MatMul", ["f", "w2"], ["y"]),
    ]
    constants = {
        "w0": rng.random((C, 3, 1, 1), np.float32), "w1": rng.random((C, 1, 3, 3), np.float32),
        "flat": np.array([1, C, SIDE * SIDE]), "scale": np.ones(C, np.float32), "w2": rng.random((C, 16), np.float32),
    }  # fmt: skip
    shapes = {"x": (1, 3, SIDE, SIDE), "token": (1, C, 1)}
    onnx.save(model(nodes, shapes, {"y": (1, SIDE * SIDE + 1, 16)}, constants), tmp_path / "net.onnx")
    kernels = read_kernels(dlpack.build(tmp_path / "net.onnx", tmp_path / "bundle"))  # compared with onnxruntime
    (norm,) = (k for k in kernels if k["computes"].startswith("NormalizeRows"))
    assert norm["schedule"] == "rows"
    text = (tmp_path / "bundle" / "net.cc").read_text(encoding="utf-8")
    (copy,) = (k["name"] for k in kernels if f"[1x{C}x{SIDE * SIDE}]" in k["computes"] and "Copy" in k["computes"])
    assert "store(y" in text.split(f"void {copy}(")[1].split("\n}")[0]  # whole vectors
