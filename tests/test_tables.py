"""Chains of pointwise operators on 8-bit values: tables that hold what onnxruntime computes, on every machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, helper, numpy_helper

from dlpack.graph.ir import Graph
from dlpack.graph.quantized import quantized
from dlpack.pipeline import Options, build
from dlpack.stages.prepare import clean_graph
from dlpack.verify.reference import run_onnxruntime

NEAR = {"Sigmoid", "Tanh", "Erf", "Exp", "Softplus", "Mish", "Gelu", "Elu", "Selu", "Celu", "Softsign"}
"""onnxruntime approximates these: a value next to a tie may go to the other side."""

ATTRIBUTES: dict[str, dict[str, Any]] = {
    "LeakyRelu": {"alpha": 0.1},
    "HardSigmoid": {"alpha": 1 / 6},
    "ThresholdedRelu": {"alpha": 0.7},
    "Elu": {"alpha": 1.3},
    "Celu": {"alpha": 0.8},
}

PLAIN = ("HardSwish", "HardSigmoid", "LeakyRelu", "ThresholdedRelu", "Abs", "Neg", "Floor", "Ceil", "Round")


class Net:
    """Of one quantised value; each chain is a quantised output."""

    def __init__(self, dtype: str, shape: list[int], zero: int) -> None:
        self.dtype, self.shape = dtype, shape
        self.nodes: list[Any] = []
        self.weights = {
            "s": np.float32(0.043), "z": np.array(zero, dtype), "t": np.float32(0.029), "u": np.array(zero + 9, dtype),
            "six": np.float32(6), "three": np.float32(3), "nil": np.float32(0),
        }  # fmt: skip
        self.x = self.op("DequantizeLinear", "x", "s", "z")

    def op(self, kind: str, *inputs: str, **attrs: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attrs))
        return name

    def rounded(self, value: str) -> str:
        return self.op("QuantizeLinear", value, "t", "u")

    def again(self, value: str) -> str:
        """The value as it is after rounding."""
        return self.op("DequantizeLinear", self.rounded(value), "t", "u")

    def swish(self, x: str) -> str:
        return self.op("Mul", x, self.again(self.op("Sigmoid", x)))

    def hard_swish(self, x: str) -> str:
        """As MobileNetV3 was exported before ONNX had the operator."""
        y = self.op("Clip", self.op("Add", x, "three"), "nil", "six")
        return self.op("Div", self.op("Mul", x, y), "six")

    def model(self, *outputs: str) -> ModelProto:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", kind, self.shape)],
            [helper.make_tensor_value_info(name, kind, None) for name in outputs],
            [numpy_helper.from_array(np.asarray(v), n) for n, v in self.weights.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def graph_of(model: ModelProto) -> Graph:
    _, graph = clean_graph(model, {})
    return graph


def tables_of(graph: Graph) -> dict[str, np.ndarray]:
    return {n.outputs[0]: graph.constants[n.inputs[1]] for n in graph.nodes if n.op == "LookUp"}


def test_tables_hold_what_onnxruntime_computes() -> None:
    x = np.arange(-128, 128).astype(np.int8)
    net = Net("int8", [256], 3)
    kinds = {net.rounded(net.op(kind, net.x, **ATTRIBUTES.get(kind, {}))): kind for kind in (*PLAIN, *sorted(NEAR))}
    kinds |= {net.rounded(net.swish(net.x)): "Sigmoid", net.rounded(net.hard_swish(net.x)): "Div"}
    model = net.model(*kinds)
    tables = tables_of(quantized(graph_of(model), look_up=0))
    for (name, kind), want in zip(kinds.items(), run_onnxruntime(model, {"x": x}), strict=True):
        wrong = np.abs(tables[name].astype(int) - want)
        assert wrong.max() <= (kind in NEAR) and (wrong > 0).sum() <= 1, kind


def test_a_table_is_read_where_computing_takes_longer() -> None:
    net = Net("uint8", [256], 131)
    names = [net.rounded(net.op("Abs", net.x)), net.rounded(net.op("Tanh", net.x)), net.rounded(net.swish(net.x))]
    graph = graph_of(net.model(*names))
    assert set(tables_of(quantized(graph, look_up=20))) == set(names[1:])
    assert not tables_of(quantized(graph))


def test_vectors_and_scalars_look_up_the_same(tmp_path: Path) -> None:
    """Whole vectors and a rest, of a value that is computed and of one that is read; SiLU takes one look-up."""
    net = Net("uint8", [3, 23], 131)
    twice = net.again(net.op("Mul", net.x, net.x))
    names = [net.rounded(net.swish(net.x)), net.rounded(net.hard_swish(net.x)), net.rounded(net.op("Tanh", twice))]
    onnx.save(net.model(*names), tmp_path / "net.onnx")
    machines = ("avx512vnni", "scalar")
    options = Options(target="source", name="net", target_options={"machine": ",".join(machines)})
    bundle = build(tmp_path / "net.onnx", tmp_path / "bundle", options)
    text = (bundle / "net.cc").read_text()
    assert "looked_up<u8x16>(" in text and "sigmoid_(" not in text
    assert all(e["passed"] for e in json.loads((bundle / "manifest.json").read_text())["verification"])
