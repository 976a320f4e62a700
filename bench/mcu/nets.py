"""The networks of the table, with seeded weights: LeNet, and a DS-CNN that spots keywords, also of integers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper as nh
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static


class _Layers:
    """Nodes in a row, each fed by the one before."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.value = shape, "x"
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.rng = np.random.default_rng(7)

    def add(self, operator: str, *shapes: tuple[int, ...], **attributes: Any) -> _Layers:
        """An operator with weights of these shapes."""
        names = [f"w{len(self.weights) + k}" for k in range(len(shapes))]
        for name, shape in zip(names, shapes, strict=True):
            spread = (2 / max(1, int(np.prod(shape[1:])))) ** 0.5
            self.weights.append(nh.from_array((self.rng.standard_normal(shape) * spread).astype(np.float32), name))
        out = f"v{len(self.nodes)}"
        self.nodes.append(oh.make_node(operator, [self.value, *names], [out], **attributes))
        self.value = out
        return self

    def model(self, outputs: int) -> onnx.ModelProto:
        x = oh.make_tensor_value_info("x", onnx.TensorProto.FLOAT, self.shape)
        y = oh.make_tensor_value_info(self.value, onnx.TensorProto.FLOAT, (1, outputs))
        graph = oh.make_graph(self.nodes, "net", [x], [y], self.weights)
        return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 17)], ir_version=8)


def lenet() -> onnx.ModelProto:
    """LeNet-5 on 28 x 28 pixels: 416,520 multiply-adds."""
    net = _Layers((1, 1, 28, 28))
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    net.add("Conv", (6, 1, 5, 5), (6,), pads=[2] * 4).add("Relu").add("MaxPool", **pool)
    net.add("Conv", (16, 6, 5, 5), (16,)).add("Relu").add("MaxPool", **pool).add("Flatten")
    for rows, columns in ((120, 400), (84, 120), (10, 84)):
        net.add("Gemm", (rows, columns), (rows,), transB=1)
        net.add("Relu" if rows != 10 else "Softmax")
    return net.model(10)


def ds_cnn() -> onnx.ModelProto:
    """The small DS-CNN of "Hello Edge: Keyword Spotting on Microcontrollers" (Zhang and others, 2017, table 9): 49
    frames of 10 coefficients, a convolution, four depthwise and pointwise pairs of 64 channels, 12 words."""
    net = _Layers((1, 1, 49, 10))
    net.add("Conv", (64, 1, 10, 4), (64,), strides=[2, 2], pads=[4, 1, 5, 1]).add("Relu")
    for _ in range(4):
        net.add("Conv", (64, 1, 3, 3), (64,), pads=[1] * 4, group=64).add("Relu")
        net.add("Conv", (64, 64, 1, 1), (64,)).add("Relu")
    net.add("GlobalAveragePool").add("Flatten").add("Gemm", (12, 64), (12,), transB=1).add("Softmax")
    return net.model(12)


class _Frames(CalibrationDataReader):  # type: ignore[misc]
    """Seeded inputs, of whose activations the quantiser takes the ranges."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        rng = np.random.default_rng(3)
        self.rest = [{"x": rng.standard_normal(shape).astype(np.float32)} for _ in range(8)]

    def get_next(self) -> dict[str, Any] | None:
        return self.rest.pop() if self.rest else None


def ds_cnn_int8() -> onnx.ModelProto:
    """The DS-CNN by onnxruntime's static quantiser: signed activations, a scale per channel of the weights."""
    with tempfile.TemporaryDirectory(prefix="dlpack-") as folder:
        wide, narrow = Path(folder, "wide.onnx"), Path(folder, "narrow.onnx")
        onnx.save(ds_cnn(), wide)
        quantize_static(
            wide, narrow, _Frames((1, 1, 49, 10)), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
        return onnx.load(narrow)


NETS = {"LeNet": lenet, "DS-CNN": ds_cnn, "DS-CNN int8": ds_cnn_int8}
