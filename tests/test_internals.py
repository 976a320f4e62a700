"""--keep-internals: inner values as further outputs, and what remains of the model's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from mxnet_programs import write_small_model
from onnx import ModelProto, TensorProto, helper

import dlpack
from dlpack.errors import UsageError
from dlpack.exporters import ExportOptions, export
from dlpack.model.internals import keep_internals
from dlpack.pipeline import Options, build


def model() -> ModelProto:
    """x → a (node first) → b → y, a scalar s, a constant c and a sequence."""
    info = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "first"),
        helper.make_node("Exp", ["a"], ["b_output"], "second"),
        helper.make_node("ReduceSum", ["b_output"], ["s"], "sum", keepdims=0),
        helper.make_node("Neg", ["w"], ["c"], "constant"),
        helper.make_node("SequenceConstruct", ["a"], ["all_a"], "list"),
        helper.make_node("Add", ["b_output", "c"], ["d"], "add"),
        helper.make_node("Add", ["d", "s"], ["y"], "last"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [info("x", TensorProto.FLOAT, (2, 3))],
        [info("y", TensorProto.FLOAT, (2, 3))],
        [helper.make_tensor("w", TensorProto.FLOAT, (3,), (1, 2, 3))],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        (["a"], ["a"]),
        (["first"], ["a"]),
        (["b"], ["b_output"]),
        (["b_output", "d", "a"], ["a", "b_output", "d"]),
        (["s", "s", "y", "last"], ["s"]),
        (["c"], ["c"]),
        (["all"], ["a", "b_output", "s", "d"]),
        (["all", "c"], ["a", "b_output", "s", "c", "d"]),
    ],
    ids=" ".join,
)
def test_values_and_nodes_are_named(names: list[str], kept: list[str]) -> None:
    """Behind the model's own outputs, in the model's order; "all" are the tensors that depend on an input."""
    changed = model()
    keep_internals(changed, names)
    assert [value.name for value in changed.graph.output] == ["y", *kept]
    onnx.checker.check_model(changed, full_check=True)


@pytest.mark.parametrize(
    ("name", "text"),
    [("x", "this is an input"), ("sekond", "no inner value and no node of this name; it has second"),
     ("w", "no inner value and no node"), ("all_a", "no inner value"), ("", "no inner value")],
)  # fmt: skip
def test_what_the_model_does_not_have(name: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"--keep-internals {name}: .*{text}"):
        keep_internals(model(), [name])


def test_of_models_from_mxnet_all_layers_are_kept(tmp_path: Path) -> None:
    """Not what a layer's operators compute on the way."""
    symbol, _ = write_small_model(tmp_path)
    proto = export(symbol, None, ExportOptions({"data": (1, 3, 12, 12)})).model
    keep_internals(proto, ["all"])
    assert all(value.name.endswith("_output") for value in proto.graph.output) and len(proto.graph.output) == 6


def test_the_bundle_gives_them(tmp_path: Path) -> None:
    """With the shapes of each set; the task is guessed from the model's own outputs."""
    symbol, _ = write_small_model(tmp_path)
    shapes = [{"data": (1, 3, 12, 12)}, {"data": (2, 3, 20, 16)}]
    labels = tuple("abcdefghij")
    options = Options(shapes=shapes[0], more_shapes=tuple(shapes[1:]), internals=("conv0", "fc1"), labels=labels)
    bundle = build(symbol, tmp_path / "small", options)
    manifest = json.loads((bundle / "manifest.json").read_text())
    without = build(
        symbol, tmp_path / "without", Options(shapes=shapes[0], more_shapes=tuple(shapes[1:]), labels=labels)
    )
    assert manifest.get("task") == json.loads((without / "manifest.json").read_text()).get("task")
    assert "--keep-internals conv0 --keep-internals fc1" in (bundle / "small.cc").read_text()
    with dlpack.load(bundle) as p:
        for shape in (s["data"] for s in shapes):
            found = p.run({"data": np.random.default_rng(1).random(shape, np.float32)})
            assert list(found) == ["softmax_output", "conv0_output", "fc1_output"]
            assert found["conv0_output"].shape == (shape[0], 8, shape[2] - 2, shape[3] - 2)
            e = np.exp(found["fc1_output"] - found["fc1_output"].max(1, keepdims=True))
            np.testing.assert_allclose(e / e.sum(1, keepdims=True), found["softmax_output"], rtol=1e-5)
