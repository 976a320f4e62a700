"""Reading ONNX files: what is good is read whole, what is broken or hostile is refused with a clear error."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from dlpack.errors import ModelError, UnsupportedError, UsageError
from dlpack.model.load import load_model
from dlpack.model.tensors import weight_warnings

FLOAT = TensorProto.FLOAT


def graph(
    nodes: Iterable[NodeProto], weights: Iterable[TensorProto] = (), outputs: tuple[str, ...] = ("y",)
) -> GraphProto:
    """A graph with the input x, float [2, 3]."""
    infos = [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs]
    return helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", FLOAT, [2, 3])], infos, list(weights))


def model(nodes: Iterable[NodeProto], weights: Iterable[TensorProto] = (), opset: int = 18, **more: Any) -> ModelProto:
    opsets = [helper.make_opsetid("", opset), *more.pop("opsets", [])]
    return helper.make_model(graph(nodes, weights), opset_imports=opsets, ir_version=9, **more)


def node(op: str, inputs: str, outputs: str, name: str = "", **attributes: Any) -> NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), name=name, **attributes)


def save(proto: ModelProto, folder: Path) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def add_weight(weight: TensorProto) -> ModelProto:
    """x + w."""
    return model([node("Add", "x w", "y", "add")], [weight])


def external(location: str, dims: Iterable[int] = (3,), **entries: int) -> TensorProto:
    """A float weight w whose data is in another file."""
    weight = TensorProto(name="w", data_type=FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        weight.external_data.add(key=key, value=str(value))
    return weight


def refused(path: Path, *words: str, error: type[Exception] = ModelError) -> None:
    """Loading raises `error`, which names the file and says all the words."""
    with pytest.raises(error) as caught:
        load_model(path)
    for word in (str(path), *words):
        assert word in str(caught.value)


# --- the file ---------------------------------------------------------------------------------------------------------


def test_a_good_model_is_read_whole(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.arange(3, dtype=np.float32), "w")
    loaded = load_model(save(add_weight(weight), tmp_path))
    assert [n.op_type for n in loaded.graph.node] == ["Add"]
    assert numpy_helper.to_array(loaded.graph.initializer[0]).tolist() == [0, 1, 2]


def test_a_missing_file_and_a_folder_are_usage_errors(tmp_path: Path) -> None:
    refused(tmp_path / "none.onnx", "no such file", error=UsageError)
    refused(tmp_path, "folder", error=UsageError)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"hello, I am no model", "not an ONNX model"),
        (bytes(range(256)) * 4, "not an ONNX model"),
        (b"PK\x03\x04" + bytes(40), "zip archive"),
        (b"\x20\0\0\0TFL3" + bytes(40), "TensorFlow Lite"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "HTML"),
    ],
)
def test_a_file_that_is_not_onnx_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    refused(path, words)


def test_a_truncated_file_is_refused_at_every_length(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((2, 3), np.float32), "w")
    whole = add_weight(weight).SerializeToString()
    path = tmp_path / "m.onnx"
    for length in range(1, len(whole) - 8):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError):
            load_model(path)
    path.write_bytes(whole[: len(whole) // 2])
    refused(path, "cut off", "'graph'")


# --- external data ----------------------------------------------------------------------------------------------------


def test_external_data_is_read_from_the_model_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w.bin").write_bytes(bytes(8) + np.float32([1, 2, 3]).tobytes())
    loaded = load_model(save(add_weight(external("sub/w.bin", offset=8, length=12)), tmp_path))
    assert numpy_helper.to_array(loaded.graph.initializer[0]).tolist() == [1, 2, 3]
    assert not loaded.graph.initializer[0].external_data


def test_missing_external_data_is_named(tmp_path: Path) -> None:
    refused(save(add_weight(external("weights.bin")), tmp_path), "'w'", "'weights.bin' is missing")


@pytest.mark.parametrize("location", ["../w.bin", "sub/../../w.bin", "..\\w.bin", "/etc/passwd", "C:\\w.bin"])
def test_external_data_outside_the_model_folder_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(12))
    (tmp_path / "model" / "sub").mkdir(parents=True)
    refused(save(add_weight(external(location)), tmp_path / "model"), location, "outside the model's folder")


def test_external_data_through_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(12))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "w.bin").symlink_to(tmp_path / "w.bin")
    refused(save(add_weight(external("w.bin")), tmp_path / "model"), "outside the model's folder", "symbolic link")


def test_external_data_that_is_too_short_or_does_not_fit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(12))
    refused(save(add_weight(external("w.bin", offset=4)), tmp_path), "'w.bin', which has 12")
    refused(save(add_weight(external("w.bin", offset=-4)), tmp_path), "offset -4")
    refused(save(add_weight(external("w.bin", length=8)), tmp_path), "(12 bytes)", "8 bytes")
    refused(save(add_weight(external("w.bin", [1 << 28])), tmp_path), "1073741824 bytes")


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [[1 << 29], [1 << 20, 1 << 20, 1 << 20], [4], [2]])
def test_a_claim_that_the_file_does_not_hold_is_refused(tmp_path: Path, dims: list[int]) -> None:
    weight = TensorProto(name="w", data_type=FLOAT, dims=dims, raw_data=bytes(12))
    refused(save(add_weight(weight), tmp_path), "weight 'w'", f"{math.prod(dims) * 4} bytes")
    weight = TensorProto(name="w", data_type=FLOAT, dims=dims, float_data=[1.0, 2.0, 3.0])
    refused(save(add_weight(weight), tmp_path), "weight 'w'")


def test_a_claim_in_an_attribute_is_checked_too(tmp_path: Path) -> None:
    value = TensorProto(data_type=FLOAT, dims=[1 << 30], raw_data=bytes(4))
    nodes = [node("Constant", "", "c", "big", value=value), node("Add", "x c", "y")]
    refused(save(model(nodes), tmp_path), "'value' of node 'big'")


def test_a_negative_dimension_is_refused(tmp_path: Path) -> None:
    weight = TensorProto(name="w", data_type=FLOAT, dims=[-1, -3], raw_data=bytes(12))
    refused(save(add_weight(weight), tmp_path), "'w'", "negative dimension", "[-1, -3]")


def test_a_zero_size_weight_is_read(tmp_path: Path) -> None:
    weight = TensorProto(name="w", data_type=FLOAT, dims=[0, 3])
    nodes = [node("Concat", "x w", "y", axis=0)]
    assert load_model(save(model(nodes, [weight]), tmp_path)).graph.initializer[0].dims == [0, 3]


def test_nan_and_infinite_weights_are_warned_of(tmp_path: Path) -> None:
    weights = [
        numpy_helper.from_array(np.array([np.nan, 1, np.inf], np.float32), "w"),
        numpy_helper.from_array(np.array([1, 2, np.nan], np.float16), "h"),
        numpy_helper.from_array(np.array([1, 2, 3], np.int64), "i"),
    ]
    loaded = load_model(save(model([node("Add", "x w", "y")], weights), tmp_path))
    for mask in (np.float32(-np.inf), np.triu(np.full((3, 3), -np.inf, np.float32), 1)):
        loaded.graph.initializer.append(numpy_helper.from_array(mask, "mask"))
    assert weight_warnings(loaded) == [
        "weight 'w' has 1 NaN and 1 infinite values of 3",
        "weight 'h' has 1 NaN and 0 infinite values of 3",
    ]


# --- the graph --------------------------------------------------------------------------------------------------------


def test_a_cycle_is_named(tmp_path: Path) -> None:
    nodes = [node("Add", "x b", "a", "first"), node("Relu", "a", "b", "second"), node("Relu", "b", "y", "third")]
    refused(save(model(nodes), tmp_path), "cycle", "'first'", "'second'")


def test_an_input_that_nobody_gives_is_named(tmp_path: Path) -> None:
    refused(save(model([node("Add", "x ghost", "y", "add")]), tmp_path), "'add'", "reads 'ghost'")


def test_duplicate_names_are_refused(tmp_path: Path) -> None:
    relus = [node("Relu", "x", "y", "one"), node("Relu", "x", "y", "two")]
    refused(save(model(relus), tmp_path), "'y' is computed twice", "'one'", "'two'")
    refused(save(model([node("Relu", "x", "x"), node("Relu", "x", "y")]), tmp_path), "'x', which is an input")
    weights = [numpy_helper.from_array(np.ones(3, np.float32), "w")] * 2
    refused(save(model([node("Add", "x w", "y")], weights), tmp_path), "two weights are named 'w'")
    proto = model([node("Relu", "x", "y")])
    proto.graph.input.append(proto.graph.input[0])
    refused(save(proto, tmp_path), "two inputs", "'x'")


def test_an_output_that_nobody_computes_is_named(tmp_path: Path) -> None:
    refused(save(model([node("Relu", "x", "z")]), tmp_path), "output 'y'")


def test_nodes_out_of_order_are_sorted(tmp_path: Path) -> None:
    nodes = [node("Relu", "b", "y"), node("Exp", "a", "b"), node("Neg", "x", "a")]
    loaded = load_model(save(model(nodes), tmp_path))
    assert [n.op_type for n in loaded.graph.node] == ["Neg", "Exp", "Relu"]


def test_nodes_against_the_specification_are_all_listed(tmp_path: Path) -> None:
    nodes = [
        node("Concat", "x x", "a", "no_axis"),
        node("Relu", "a a", "b", "two_inputs"),
        node("Softmax", "b", "y", "odd", axis="one"),
    ]
    refused(save(model(nodes), tmp_path), "'no_axis'", "'two_inputs'", "'odd'")


def test_unknown_operators_are_left_to_later_stages(tmp_path: Path) -> None:
    nodes = [node("Frobnicate", "x", "a"), node("Magic", "a", "y", domain="com.example")]
    proto = model(nodes, opsets=[helper.make_opsetid("com.example", 1)])
    assert len(load_model(save(proto, tmp_path)).graph.node) == 2


def test_deeply_nested_graphs_are_refused(tmp_path: Path) -> None:
    body = helper.make_graph([node("Relu", "x", "y0")], "b", [], [helper.make_tensor_value_info("y0", FLOAT, None)])
    for depth in range(1, 25):
        branches = {"then_branch": body, "else_branch": body} if depth == 1 else {"then_branch": body}
        nodes = [node("If", "c", f"y{depth}", **branches)]
        info = [helper.make_tensor_value_info(f"y{depth}", FLOAT, None)]
        body = helper.make_graph(nodes, "b", [], info)
    condition = numpy_helper.from_array(np.array(True), "c")
    refused(save(model([node("If", "c", "y", then_branch=body)], [condition]), tmp_path), "nested")


# --- functions and versions -------------------------------------------------------------------------------------------


def function(name: str, *nodes: NodeProto) -> onnx.FunctionProto:
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    return helper.make_function("mine", name, ["a"], ["b"], list(nodes), opsets)


def test_a_function_that_calls_itself_is_refused(tmp_path: Path) -> None:
    proto = model(
        [node("F", "x", "y", domain="mine")],
        opsets=[helper.make_opsetid("mine", 1)],
        functions=[
            function("F", node("G", "a", "b", domain="mine")),
            function("G", node("F", "a", "b", domain="mine")),
        ],
    )
    refused(save(proto, tmp_path), "calls itself")


def test_functions_that_blow_up_are_refused(tmp_path: Path) -> None:
    functions = [function("F0", node("Relu", "a", "b"))]
    for depth in range(1, 12):
        names = ["a", *(f"v{i}" for i in range(9)), "b"]
        calls = [node(f"F{depth - 1}", names[i], names[i + 1], domain="mine") for i in range(10)]
        functions.append(function(f"F{depth}", *calls))
    proto = model([node("F11", "x", "y", domain="mine")], opsets=[helper.make_opsetid("mine", 1)], functions=functions)
    refused(save(proto, tmp_path), "1000000 nodes")


def test_an_opset_newer_than_onnx_knows_is_refused(tmp_path: Path) -> None:
    refused(save(model([node("Relu", "x", "y")], opset=999), tmp_path), "opset 999", error=UnsupportedError)


def test_an_old_opset_is_converted(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones(3, np.float32), "w")
    loaded = load_model(save(model([node("Add", "x w", "y", broadcast=1)], [weight], opset=6), tmp_path))
    assert [entry.version for entry in loaded.opset_import] == [7]
    assert not loaded.graph.node[0].attribute


def test_a_model_without_an_opset_is_refused(tmp_path: Path) -> None:
    proto = model([node("Relu", "x", "y")])
    del proto.opset_import[:]
    refused(save(proto, tmp_path), "opset")


def test_what_onnx_and_onnxruntime_crash_on_is_refused(tmp_path: Path) -> None:
    refused(save(model([helper.make_node("Mean", ["x", "", "x"], ["y"])]), tmp_path), "input 1", "absent")
    refused(save(model([node("Split", "x", "y z u", axis=0, num_outputs=2)]), tmp_path), "num_outputs")
    proto = model([node("Softmax", "x", "y", axis=0)])
    proto.graph.node[0].attribute[0].ref_attr_name = "k"
    refused(save(proto, tmp_path), "'axis'", "function")
    proto = model([node("Relu", "x", "y")], opsets=[helper.make_opsetid("ai.onnx.ml", 1 << 32)])
    refused(save(proto, tmp_path), "opset 4294967296", "ai.onnx.ml", error=UnsupportedError)


@pytest.mark.parametrize("text", [b"NAME", b"PLACE"])
def test_a_name_that_is_not_text_is_refused(text: bytes, tmp_path: Path) -> None:
    proto = model([node("Relu", "x", "y", "NAME")])
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "w"))
    onnx.external_data_helper.set_external_data(proto.graph.initializer[0], "PLACE")
    path = save(proto, tmp_path)
    path.write_bytes(path.read_bytes().replace(text, b"\xff\xfe\xfd\xfc\xfb"[: len(text)]))
    refused(path, "UTF-8")
