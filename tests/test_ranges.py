"""The ranges of seeded inputs: what the model's arithmetic demands of an input, and what the user says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from test_cli import dlpack
from test_verification import model, saved

from dlpack.errors import ModelError, UsageError
from dlpack.options import Options
from dlpack.pipeline import build
from dlpack.stages.prepare import clean_graph
from dlpack.verify import trial
from dlpack.verify.ranges import input_ranges
from dlpack.verify.trial import try_model

TABLE = np.arange(40, dtype=np.float32).reshape(10, 4)
IDS = np.zeros((2, 3), np.int64)


def gathering(nodes: list[Any], constants: dict[str, Any], ids: np.ndarray = IDS) -> onnx.ModelProto:
    """`nodes` make the value `at` of the input `ids`, which indexes a table of ten rows."""
    nodes = [*nodes, ("Gather", ("table", "at"), ("y",), {})]
    return model(nodes, {"ids": ids}, ["y"], {"table": TABLE, **constants})


# What stands between the input and the index, constants, and the range that follows.
ARITHMETIC: dict[str, tuple[list[Any], dict[str, Any], tuple[float, float]]] = {
    "nothing": ([("Identity", ("ids",), ("at",), {})], {}, (0, 10)),
    "a constant less": ([("Sub", ("ids", "c"), ("at",), {})], {"c": np.int64(1)}, (1, 11)),
    "from a constant": ([("Sub", ("c", "ids"), ("at",), {})], {"c": np.int64(12)}, (3, 13)),
    "an offset per field": ([("Add", ("ids", "c"), ("at",), {})], {"c": np.array([0, 2, 6])}, (0, 4)),
    "times": ([("Mul", ("ids", "c"), ("at",), {})], {"c": np.int64(3)}, (0, 10 / 3)),
    "halved": ([("Div", ("ids", "c"), ("at",), {})], {"c": np.int64(2)}, (0, 20)),
    "modulo": ([("Mod", ("ids", "c"), ("at",), {})], {"c": np.int64(10)}, (0, 100)),
    "less another input": (
        [("Sub", ("c", "ids"), ("d",), {}), ("Neg", ("d",), ("at",), {})],
        {"c": np.int64(5)},
        (5, 15),
    ),
    "too large a modulo": ([("Mod", ("ids", "c"), ("at",), {})], {"c": np.int64(50)}, (0, 10)),
    "clipped": ([("Clip", ("ids", "a", "b"), ("at",), {})], {"a": np.int64(0), "b": np.int64(9)}, (0, 100)),
    "below 0 from the end": (
        [
            ("Less", ("ids", "zero"), ("low",), {}),
            ("Add", ("ids", "n"), ("more",), {}),
            ("Where", ("low", "more", "ids"), ("at",), {}),
        ],
        {"zero": np.int64(0), "n": np.int64(10)},
        (0, 10),
    ),
    "moved": (
        [
            ("Slice", ("ids", "one", "three", "one"), ("s",), {}),
            ("Concat", ("s", "s"), ("d",), {"axis": 0}),
            ("Transpose", ("d",), ("t",), {"perm": [1, 0]}),
            ("Unsqueeze", ("t", "one"), ("u",), {}),
            ("Cast", ("u",), ("at",), {"to": onnx.TensorProto.INT32}),
        ],
        {"one": np.array([1]), "three": np.array([3])},
        (0, 10),
    ),
}


@pytest.mark.parametrize("kind", ARITHMETIC)
def test_a_range_follows_from_the_arithmetic_before_the_index(kind: str) -> None:
    nodes, constants, (low, high) = ARITHMETIC[kind]
    proto, graph = clean_graph(gathering(nodes, constants), {})
    assert input_ranges(graph, {}) == ((low, pytest.approx(high)),)
    assert try_model(proto, graph, {}).expected.outputs[0].shape[-1] == 4


X = np.zeros((3, 4, 2), np.float32)
SEQUENCE = np.zeros((5, 2, 3), np.float32)

# Operators that demand something of the integers `i`: node, the other inputs, `i`, constants, and the range of `i`.
OPERATORS: dict[str, tuple[Any, dict[str, Any], np.ndarray, dict[str, Any], tuple[float, float]]] = {
    "GatherND": (("GatherND", ("x", "i"), ("y",), {}), {"x": X}, np.zeros((5, 2), np.int64), {}, (0, 3)),
    "GatherElements": (
        ("GatherElements", ("x", "i"), ("y",), {"axis": 1}), {"x": X}, np.zeros((3, 2, 2), np.int64), {}, (0, 4),
    ),
    "ScatterND": (
        ("ScatterND", ("x", "i", "u"), ("y",), {}), {"x": X, "u": np.zeros((1, 4, 2), np.float32)},
        np.zeros((1, 1), np.int64), {}, (0, 3),
    ),
    "ReverseSequence": (
        ("ReverseSequence", ("x", "i"), ("y",), {}), {"x": SEQUENCE}, np.zeros(2, np.int64), {}, (1, 6),
    ),
    "LSTM": (
        ("LSTM", ("x", "w", "r", "", "i"), ("y",), {"hidden_size": 2}), {"x": SEQUENCE}, np.zeros(2, np.int32),
        {"w": np.ones((1, 8, 3), np.float32), "r": np.ones((1, 8, 2), np.float32)}, (1, 6),
    ),
    "MaxUnpool": (
        ("MaxUnpool", ("x", "i"), ("y",), {"kernel_shape": [2, 2], "strides": [2, 2]}),
        {"x": np.zeros((1, 1, 2, 2), np.float32)}, np.zeros((1, 1, 2, 2), np.int64), {}, (0, 16),
    ),
    "MaxUnpool to a larger shape": (
        ("MaxUnpool", ("x", "i", "s"), ("y",), {"kernel_shape": [2, 2], "strides": [2, 2]}),
        {"x": np.zeros((1, 1, 2, 2), np.float32)}, np.zeros((1, 1, 2, 2), np.int64),
        {"s": np.array([1, 1, 5, 5])}, (0, 16),
    ),
    "RoiAlign": (
        ("RoiAlign", ("x", "r", "i"), ("y",), {}), {"x": np.zeros((2, 1, 8, 8), np.float32)}, np.zeros(3, np.int64),
        {"r": np.ones((3, 4), np.float32)}, (0, 2),
    ),
    "Div": (("Div", ("x", "i"), ("y",), {}), {"x": np.zeros(4, np.int32)}, np.zeros(4, np.int32), {}, (1, 101)),
    "Mod": (("Mod", ("x", "i"), ("y",), {}), {"x": np.zeros(4, np.int32)}, np.zeros(4, np.int32), {}, (1, 101)),
}  # fmt: skip


@pytest.mark.parametrize("kind", OPERATORS)
def test_operators_demand_what_they_can_compute(kind: str) -> None:
    node, others, i, constants, wanted = OPERATORS[kind]
    proto, graph = clean_graph(model([node], {**others, "i": i}, ["y"], constants), {})
    assert input_ranges(graph, {})[graph.inputs.index("i")] == wanted
    try_model(proto, graph, {})


# What stands between an input and a divisor, which may be any number from 1 on.
DIVISORS: dict[str, tuple[list[Any], tuple[tuple[float, float], ...]]] = {
    "a sum": ([("Add", ("i", "j"), ("d",), {})], ((1, 101), (0, 100))),
    "a difference": ([("Sub", ("i", "j"), ("d",), {})], ((101, 201), (0, 100))),
    "a negative": ([("Sub", ("i", "j"), ("n",), {}), ("Neg", ("n",), ("d",), {})], ((0, 100), (100, 200))),
}


@pytest.mark.parametrize("kind", DIVISORS)
def test_a_divisor_of_two_inputs_is_not_zero(kind: str) -> None:
    nodes, wanted = DIVISORS[kind]
    i = np.zeros(40, np.int64)
    nodes = [*nodes, ("Div", ("c", "d"), ("y",), {})]
    proto, graph = clean_graph(model(nodes, {"i": i, "j": i}, ["y"], {"c": np.int64(7)}), {})
    assert input_ranges(graph, {}) == wanted
    try_model(proto, graph, {})


def test_a_row_of_an_input_may_be_an_index() -> None:
    """Edges of a graph: rows of sources and targets, picked by a constant."""
    nodes = [("Gather", ("ids", "c"), ("at",), {})]
    _, graph = clean_graph(gathering(nodes, {"c": np.int64(1)}), {})
    assert input_ranges(graph, {}) == ((0, 10),)


def test_smaller_integers_are_tried_where_the_reference_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """x ^ 3 is no arithmetic that is followed."""
    made = gathering([("Pow", ("ids", "c"), ("at",), {})], {"c": np.int64(3)})
    proto, graph = clean_graph(made, {})
    assert try_model(proto, graph, {}).ranges == ((0, 2),)
    monkeypatch.setattr(trial, "ATTEMPTS", (1.0, 0.5))
    with pytest.raises(ModelError, match=r"The seeded inputs were ids=0:99.*--range INPUT=LOW:HIGH"):
        try_model(proto, graph, {})


def test_what_the_user_says_holds_and_is_recorded(tmp_path: Path) -> None:
    """Both ends belong to a range of integers; a model's metadata has the end beside it."""
    made = gathering([("Pow", ("ids", "c"), ("at",), {})], {"c": np.int64(3)})
    path = saved(made, tmp_path)
    bundle = build(path, tmp_path / "bundle", Options(ranges={"ids": (1, 2)}))
    assert json.loads((bundle / "manifest.json").read_text())["ranges"] == [[1, 3]]
    assert "--range ids=1:2" in next(bundle.glob("*.cc")).read_text()
    _, graph = clean_graph(made, {})
    assert input_ranges(graph, {"dlpack.ranges": '{"ids": [1, 3]}'}) == ((1, 3),)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"x": (0, 1)}, "no input 'x'; it has 'ids'"),
        ({"ids": (3, 2)}, "the input is int64"),
    ],
)
def test_ranges_that_do_not_fit_are_told(said: dict[str, tuple[float, float]], told: str) -> None:
    _, graph = clean_graph(gathering([("Identity", ("ids",), ("at",), {})], {}), {})
    with pytest.raises(UsageError, match=told):
        input_ranges(graph, {}, said)


@pytest.mark.parametrize("text", ["ids", '{"ids": [3, 3]}', '{"ids": 3}', "[]"])
def test_metadata_that_says_nothing_sensible_is_told(text: str) -> None:
    _, graph = clean_graph(gathering([("Identity", ("ids",), ("at",), {})], {}), {})
    with pytest.raises(ModelError, match=r"dlpack\.ranges"):
        input_ranges(graph, {"dlpack.ranges": text})


def test_a_range_that_cannot_be_read_exits_with_2(tmp_path: Path) -> None:
    result = dlpack("build", tmp_path / "net.onnx", "--range", "ids=5", "-o", tmp_path / "bundle")
    assert result.exit_code == 2 and "write it as INPUT=0:30521" in result.output
