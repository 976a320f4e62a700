"""What quantised inputs and outputs stand for, as the graph and the metadata tell it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from quantised_nets import HALF, U8, Q, Types, X, model

from dlpack.errors import UsageError
from dlpack.meaning.quantization import Meaning, Quantization, from_metadata
from dlpack.model.meaning import meanings, meanings_of_model
from dlpack.model.read import read_graph


@pytest.mark.parametrize(
    "nodes, outputs, want",
    [
        ([("QuantizeLinear", "x s z", "y")], U8, Q),
        ([("QuantizeLinear", "x s", "y")], U8, Quantization(0.5, 0)),
        ([("QuantizeLinear", "x s z", "a"), ("Transpose", "a", "b"), ("Transpose", "b", "y")], U8, Q),
        ([("QuantizeLinear", "x s z", "a"), ("Split", "a", "b y", {"axis": 0})], {"y": ("uint8", [1, 3])}, Q),
        (
            [("QuantizeLinear", "x s z", "a"), ("QuantizeLinear", "x s z", "b"), ("Concat", "a b", "y", {"axis": 0})],
            {"y": ("uint8", [4, 3])},
            Q,
        ),
        (
            [("QuantizeLinear", "x s z", "a"), ("QuantizeLinear", "x s2 z2", "b"), ("Max", "a b", "y")],
            U8,
            None,
        ),
        ([("QuantizeLinear", "x s z", "a"), ("Add", "a a", "y")], U8, None),
        ([("QuantizeLinear", "x s z", "a"), ("DequantizeLinear", "a s z", "y")], {"y": ("float32", [2, 3])}, None),
        ([("Cast", "x", "y", {"to": TensorProto.UINT8})], U8, None),
        ([("QuantizeLinear", "x ss zz", "y", {"axis": 1})], U8, None),
    ],
)
def test_outputs(nodes: list[Any], outputs: Types, want: Quantization | None) -> None:
    proto = model(nodes, X, outputs, **HALF, ss=np.float32([1, 2, 3]), zz=np.uint8([0, 0, 0]))
    assert meanings(read_graph(proto), {})["y"] == Meaning(want)
    assert meanings_of_model(proto, {"y": outputs["y"][0], "x": "float32"})["y"] == Meaning(want)


@pytest.mark.parametrize(
    "nodes, want",
    [
        ([("DequantizeLinear", "x s z", "y")], Q),
        ([("Reshape", "x shape", "a"), ("Slice", "a from to", "b"), ("DequantizeLinear", "b s z", "y")], Q),
        ([("DequantizeLinear", "x s z", "a"), ("DequantizeLinear", "x s2 z2", "b"), ("Add", "a b", "y")], None),
        ([("Cast", "x", "y", {"to": TensorProto.FLOAT})], None),
    ],
)
def test_inputs(nodes: list[Any], want: Quantization | None) -> None:
    constants = {"shape": np.array([6]), "from": np.array([0]), "to": np.array([6])}
    proto = model(
        nodes,
        {"x": ("uint8", [2, 3])},
        {"y": ("float32", ["a", "b"][: 2 - (nodes[0][0] == "Reshape")])},
        **HALF,
        **constants,
    )
    assert meanings(read_graph(proto), {})["x"] == Meaning(want)


def test_an_output_that_holds_an_inputs_elements() -> None:
    nodes = [("DequantizeLinear", "x s z", "r"), ("Transpose", "x", "y")]
    proto = model(nodes, {"x": ("uint8", [2, 3])}, {"r": ("float32", [2, 3]), "y": ("uint8", [3, 2])}, **HALF)
    assert meanings(read_graph(proto), {})["y"] == Meaning(Q)


def test_what_qlinear_operators_say() -> None:
    constants = {"w": np.ones((2, 3, 1, 1), np.int8), "ws": np.float32(0.1), "wz": np.int8(0)}
    proto = model(
        [("QLinearConv", "x s z w ws wz s2 z2", "y")],
        {"x": ("uint8", [1, 3, 4, 4])},
        {"y": ("uint8", [1, 2, 4, 4])},
        **HALF,
        **constants,
    )
    found = meanings(read_graph(proto), {})
    assert found == {"x": Meaning(Q), "y": Meaning(Quantization(0.25, 8))}


@pytest.mark.parametrize(
    "nodes, dtype, want",
    [
        ([("Softmax", "x", "y")], "float32", True),
        ([("Sigmoid", "x", "a"), ("QuantizeLinear", "a s z", "b"), ("Identity", "b", "y")], "uint8", True),
        ([("Softmax", "x", "a"), ("Log", "a", "y")], "float32", False),
        ([("Softmax", "x", "a"), ("Max", "a x", "y")], "float32", False),
        ([("Identity", "x", "y")], "float32", False),
        ([("Softmax", "x", "a"), ("Cast", "a", "y", {"to": TensorProto.UINT8})], "uint8", False),
    ],
)
def test_probabilities(nodes: list[Any], dtype: str, want: bool) -> None:
    found = meanings(read_graph(model(nodes, X, {"y": (dtype, [2, 3])}, **HALF)), {})
    assert found["y"].probabilities is want


def test_the_metadata_goes_first_and_is_checked() -> None:
    graph = read_graph(
        model([("DequantizeLinear", "x s z", "y")], {"x": ("uint8", [3])}, {"y": ("float32", [3])}, **HALF)
    )
    told = json.dumps({"x": {"scale": 0.125, "zero_point": -3}})
    assert meanings(graph, {"dlpack.quantization": told})["x"] == Meaning(Quantization(0.125, -3))
    wrong = ["1", '{"scale": 0, "zero_point": 1}', '{"scale": 1, "zero_point": 0.5}', '{"scale": 1}',
             '{"scale": 1e99, "zero_point": 1}']  # fmt: skip
    for text in ("[]", "{", *(f'{{"x": {q}}}' for q in wrong)):
        with pytest.raises(UsageError, match=r"dlpack\.quantization"):
            from_metadata(text)
