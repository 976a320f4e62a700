"""MatMulInteger and ConvInteger, whose zero point only a run knows, with constant weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from dlpack.graph.quantized import quantized
from dlpack.pipeline import Options, build
from dlpack.stages.prepare import clean_graph

MACHINES = ("avx512vnni", "avx2", "neon_dotprod", "neon", "scalar")
RNG = np.random.default_rng(4)

SHAPES = {"x": (1, 10, 7, 8), "rows": (3, 1600)}


def model() -> onnx.ModelProto:
    """A grouped and a plain convolution with borders, and matrix products: of one input, and of weights that are
    unsigned; their zero points are inputs, or absent."""
    weights = {
        "c": RNG.integers(-128, 128, (10, 10, 3, 3), np.int8),
        "g": RNG.integers(100, 150, (12, 5, 3, 2), np.uint8),
        "m": RNG.integers(-128, 128, (1600, 17), np.int8),
    }
    zeros = {"g_zero": np.array(120, np.uint8), "m_zero": RNG.integers(-9, 9, 17, np.int8)}
    weights["m"] = np.clip(weights["m"], -110, 110)
    nodes = [
        helper.make_node("ConvInteger", ["x", "c", "x_zero"], ["conv"], pads=[1, 1, 1, 0], strides=[2, 1]),
        helper.make_node("ConvInteger", ["x", "g", "x_zero", "g_zero"], ["grouped"], group=2, pads=[0, 1, 1, 0]),
        helper.make_node("ConvInteger", ["x", "c"], ["unpadded"]),
        helper.make_node("MatMulInteger", ["rows", "m", "x_zero", "m_zero"], ["product"]),
        helper.make_node("MatMulInteger", ["rows", "m"], ["plain"]),
    ]
    inputs = [helper.make_tensor_value_info(n, onnx.TensorProto.UINT8, s) for n, s in SHAPES.items()]
    inputs.append(helper.make_tensor_value_info("x_zero", onnx.TensorProto.UINT8, []))
    outputs = [helper.make_tensor_value_info(n.output[0], onnx.TensorProto.INT32, None) for n in nodes]
    constants = [numpy_helper.from_array(np.asarray(v), n) for n, v in {**weights, **zeros}.items()]
    graph = helper.make_graph(nodes, "net", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_every_machine_is_exact(tmp_path: Path) -> None:
    """Verification compares 32-bit sums with onnxruntime's."""
    onnx.save(model(), tmp_path / "net.onnx")
    options = Options(target="source", target_options={"machine": ",".join(MACHINES)})
    bundle = build(tmp_path / "net.onnx", tmp_path / "bundle", options)
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["variants"] == list(MACHINES)
    assert all(e["passed"] and e["absolute"] == 0 for e in manifest["verification"])


@pytest.mark.parametrize("operand", ["uint8", "int8"])
def test_machines_with_dot_products_read_8_bits(operand: str) -> None:
    _, graph = clean_graph(model(), {})
    done = quantized(graph, operand)
    products = [n for n in done.nodes if n.op in ("Conv", "MatMul")]
    grouped = [n for n in products if n.attrs.get("group", 1) == 2]
    assert len(products) == 5 and len(grouped) == 1
    assert {done.types[n.inputs[0]].dtype for n in products} == {operand}


def test_other_machines_cut_sums_that_float32_does_not_hold() -> None:
    _, graph = clean_graph(model(), {})
    products = [n for n in quantized(graph).nodes if n.op in ("Conv", "MatMul")]
    assert len([n for n in products if n.op == "MatMul"]) > 2
