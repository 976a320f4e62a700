"""Models of opset 1 to 6: compiled, with what the operators gave at that time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from test_contrib_operators import Array, compare, floats


def model(nodes: Sequence[onnx.NodeProto], opset: int, weights: dict[str, Array], *shape: int, kind: Any = None) -> Any:
    """Its input is x, its output y."""
    x = floats(*shape)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    output = helper.make_tensor_value_info("y", kind or TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(v, n) for n, v in weights.items()]
    graph = helper.make_graph(nodes, "g", inputs, [output], tensors)
    return helper.make_model(graph, ir_version=3, opset_imports=[helper.make_opsetid("", opset)]), {"x": x}


@pytest.mark.parametrize("opset", [1, 6])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
def test_an_axis_says_where_the_second_operand_belongs(op: str, opset: int) -> None:
    b = floats(3, seed=1) + 2
    made, feeds = model([helper.make_node(op, ["x", "b"], ["y"], axis=1, broadcast=1)], opset, {"b": b}, 2, 3, 4, 5)
    x, b = feeds["x"], b[:, None, None]
    compare(made, feeds, want=[{"Add": x + b, "Sub": x - b, "Mul": x * b, "Div": x / b}[op]])


def test_an_axis_behind_operators_of_the_time() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], consumed_inputs=[0]),
        helper.make_node("Dropout", ["r"], ["d"], is_test=1, ratio=0.4),
        helper.make_node("Greater", ["d", "b"], ["g"], axis=1, broadcast=1),
        helper.make_node("Not", ["g"], ["n"]),
        helper.make_node("Cast", ["n"], ["y"], to="FLOAT"),
    ]
    b = np.abs(floats(3, seed=1))
    made, feeds = model(nodes, 1, {"b": b}, 2, 3, 4, 5)
    compare(made, feeds, want=[(np.maximum(feeds["x"], 0) <= b[:, None, None]).astype(np.float32)])


@pytest.mark.parametrize("op", ["And", "Or", "Xor"])
def test_logic(op: str) -> None:
    nodes = [
        helper.make_node("Greater", ["x", "zero"], ["g"], broadcast=1),
        helper.make_node(op, ["g", "b"], ["y"], broadcast=1, axis=0),
    ]
    b = np.array([True, False])
    made, feeds = model(nodes, 6, {"b": b, "zero": np.zeros(1, np.float32)}, 2, 3, kind=TensorProto.BOOL)
    function = {"And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor}[op]
    compare(made, feeds, want=[function(feeds["x"] > 0, b[:, None])])


def test_slopes_of_channels() -> None:
    slope = floats(3, seed=1)
    made, feeds = model([helper.make_node("PRelu", ["x", "s"], ["y"])], 6, {"s": slope}, 2, 3, 4, 5)
    x = feeds["x"]
    compare(made, feeds, want=[np.where(x < 0, x * slope[:, None, None], x)])


def test_attributes_that_became_inputs() -> None:
    nodes = [
        helper.make_node("Reshape", ["x"], ["r"], shape=[0, 12]),
        helper.make_node("Tile", ["r", "times", "axis"], ["t"]),
        helper.make_node("Split", ["t", "sizes"], ["a", "b"], axis=1),
        helper.make_node("Concat", ["b", "a"], ["y"]),
    ]
    weights: dict[str, Array] = {
        "times": np.array([2.0], np.float32), "axis": np.array([1.0], np.float32),
        "sizes": np.array([5.0, 19.0], np.float32)
    }  # fmt: skip
    made, feeds = model(nodes, 1, weights, 2, 3, 4)
    tiled = np.tile(feeds["x"].reshape(2, 12), (1, 2))
    compare(made, feeds, want=[np.concatenate((tiled[:, 5:], tiled[:, :5]), 1)])


def test_attributes_of_other_names_and_types() -> None:
    nodes = [
        helper.make_node("Pad", ["x"], ["p"], paddings=[0, 0, 1, 1, 0, 0, 0, 2], mode="constant", value=0.5),
        helper.make_node("Upsample", ["p"], ["u"], height_scale=2.0, width_scale=3.0, mode="nearest"),
        helper.make_node("GlobalLpPool", ["u"], ["y"], p=2.0),
    ]
    made, feeds = model(nodes, 1, {}, 1, 2, 3, 3)
    padded = np.pad(feeds["x"], ((0, 0), (0, 0), (1, 0), (1, 2)), constant_values=0.5)
    compare(
        made, feeds, want=[np.sqrt(6 * (padded.astype(np.float64) ** 2).sum((2, 3), keepdims=True)).astype(np.float32)]
    )


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_recurrent(op: str) -> None:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    weights = {"w": floats(1, gates * 4, 3, seed=1), "r": floats(1, gates * 4, 4, seed=2)}
    node = helper.make_node(op, ["x", "w", "r"], ["y"], hidden_size=4, output_sequence=1)
    made, feeds = model([node], 6, weights, 5, 2, 3)
    new = onnx.ModelProto()
    new.CopyFrom(made)
    del new.graph.node[0].attribute[:]
    new.graph.node[0].attribute.append(helper.make_attribute("hidden_size", 4))
    new.opset_import[0].version = 7
    session = onnxruntime.InferenceSession(new.SerializeToString(), providers=["CPUExecutionProvider"])
    compare(made, feeds, want=session.run(None, feeds))
