"""A quantised network of pictures of any size: a DeepLab, with its pyramid of dilated convolutions and a pooled branch,
whose features and scores are enlarged by interpolation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from test_open_pictures import net, options, question, weights

import dlpack
from dlpack.pipeline import build

node = helper.make_node
SIZES = ((17, 33), (48, 64), (17, 64), (48, 33), (24, 40), (31, 37), (41, 53), (47, 61), (32, 48), (33, 49))
"""Corners, primes, and what halves, quarters and tiles divide or do not."""


def deeplab() -> ModelProto:
    """Two strides, an atrous pyramid of three rates and the picture's mean, a decoder that joins what was larger."""
    half_pixel = {"coordinate_transformation_mode": "pytorch_half_pixel"}

    def conv(x: str, y: str, w: str, **how: Any) -> list[onnx.NodeProto]:
        return [node("Conv", [x, w, f"b{w}"], [f"{y}_sum"], f"{y}_conv", **how), node("Relu", [f"{y}_sum"], [y], y)]

    def enlarged(x: str, y: str, channels: int, like: str) -> list[onnx.NodeProto]:
        """To the size of another value."""
        return [
            node("Shape", [like], [f"{y}_sides"], f"{y}_sides", start=2, end=4),
            node("Concat", [f"front{channels}", f"{y}_sides"], [f"{y}_shape"], f"{y}_shape", axis=0),
            node("Resize", [x, "", "", f"{y}_shape"], [y], y, mode="linear", **half_pixel),
        ]

    shapes = {"w0": (16, 3, 3, 3), "w1": (16, 16, 3, 3), "w2": (12, 16, 1, 1), "w3": (12, 16, 3, 3)}
    shapes |= {"w4": (12, 16, 3, 3), "w5": (12, 16, 1, 1), "w6": (12, 48, 1, 1), "w7": (16, 28, 3, 3)}
    values = {name: weights(*shape) for name, shape in shapes.items()}
    biases = {f"b{name}": np.linspace(-0.2, 0.2, shape[0], dtype=np.float32) for name, shape in shapes.items()}
    return net(
        [
            *conv("image", "half", "w0", strides=[2, 2], pads=[1] * 4),
            *conv("half", "quarter", "w1", strides=[2, 2], pads=[1] * 4),
            *conv("quarter", "one", "w2"),
            *conv("quarter", "near", "w3", pads=[2] * 4, dilations=[2, 2]),
            *conv("quarter", "far", "w4", pads=[4] * 4, dilations=[4, 4]),
            node("GlobalAveragePool", ["quarter"], ["mean"], "mean"),
            *conv("mean", "pooled", "w5"),
            *enlarged("pooled", "everywhere", 12, like="quarter"),
            node("Concat", ["one", "near", "far", "everywhere"], ["pyramid"], "pyramid", axis=1),
            *conv("pyramid", "features", "w6"),
            *enlarged("features", "large", 12, like="half"),
            node("Concat", ["large", "half"], ["joined"], "joined", axis=1),
            *conv("joined", "decoded", "w7", pads=[1] * 4),
            node("Conv", ["decoded", "w8"], ["scores"], "classes"),
            *enlarged("scores", "map", 5, like="image"),
        ],
        ["map"], [4],
        **values, **biases, w8=weights(5, 16, 1, 1), front12=np.int64([1, 12]), front5=np.int64([1, 5]),
    )  # fmt: skip


class Pictures(CalibrationDataReader):
    """What the quantiser sees."""

    def __init__(self) -> None:
        self.left: Iterator[dict[str, np.ndarray]] = iter([question(*size) for size in SIZES[:4]])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.left, None)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deeplab")
    onnx.save(deeplab(), folder / "float.onnx")
    quantize_static(
        folder / "float.onnx", folder / "deeplab.onnx", Pictures(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    return folder / "deeplab.onnx"


def test_a_quantised_deeplab(model: Path, tmp_path: Path) -> None:
    """Within a step of its last quantisation of what onnxruntime gives without optimising, at the same sizes; and the
    same classes but where two are as likely."""
    bundle = build(model, tmp_path / "bundle", options("{17..48}x{33..64}", verify=False))
    plain = onnxruntime.SessionOptions()
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, plain, providers=["CPUExecutionProvider"])
    with dlpack.load(bundle) as predictor:
        for size in SIZES:
            (want,) = session.run(["map"], question(*size))
            got = predictor.run(question(*size))["map"]
            step = np.diff(np.unique(want)).min()
            assert got.shape == want.shape == (1, 5, *size)
            assert np.abs(got - want).max() <= 1.01 * step
            assert np.mean(got.argmax(1) == want.argmax(1)) > 0.99
