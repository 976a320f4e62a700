"""Cleaning a model and reading it into the typed graph."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from dlpack.errors import UnsupportedError, UsageError
from dlpack.graph.ir import TensorType
from dlpack.model import fold
from dlpack.model.clean import clean
from dlpack.model.infer import shape_deciding_inputs
from dlpack.model.load import load_model
from dlpack.model.read import read_graph
from dlpack.model.tensors import tensor_bytes

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def info(name: str, shape: Iterable[int | str | None] | None, elem: int = FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, elem, None if shape is None else list(shape))


def node(op: str, inputs: str, outputs: str, name: str = "", **attributes: Any) -> NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), name=name, **attributes)


def model(
    nodes: Iterable[NodeProto],
    inputs: Iterable[ValueInfoProto] = (info("x", [2, 3]),),
    outputs: Iterable[ValueInfoProto] = (info("y", None),),
    opset: int = 18,
    opsets: Iterable[onnx.OperatorSetIdProto] = (),
    functions: Iterable[onnx.FunctionProto] = (),
    **weights: Any,
) -> ModelProto:
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), tensors)
    imports = [helper.make_opsetid("", opset), *opsets]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=9)


def ops(proto: ModelProto) -> list[str]:
    return [n.op_type for n in proto.graph.node]


def floats(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).random(shape, np.float32)


def run(proto: ModelProto, feeds: dict[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


# --- shapes -----------------------------------------------------------------------------------------------------------


def two_inputs() -> ModelProto:
    return model([node("MatMul", "a b", "y")], [info("a", ["batch", "k"]), info("b", ["k", 4])])


def test_shapes_fix_open_dimensions_and_bind_symbols_everywhere() -> None:
    graph = read_graph(clean(two_inputs(), {"a": (2, 5)}))
    assert graph.types["b"] == TensorType("float32", (5, 4))
    assert graph.types["y"] == TensorType("float32", (2, 4))


def test_open_dimensions_are_all_named_with_the_options_to_write() -> None:
    with pytest.raises(UsageError) as error:
        clean(two_inputs())
    for words in ("'a' [batch, k]: 'batch', 'k'", "'b' [k, 4]: 'k'", "--shape a=1xk --shape b=kx4"):
        assert words in str(error.value)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"c": (1,)}, "no input 'c'; it has 'a', 'b'"),
        ({"a": (1, 2, 3)}, "2 dimensions"),
        ({"b": (3, 5)}, "fixes that input to [k, 4]"),
        ({"a": (2, 5), "b": (6, 4)}, "makes 'k' 6, but --shape a=2x5 makes it 5"),
        ({"a": (0, 5)}, "1 or more"),
        ({"a": (-1, 5)}, "1 or more"),
    ],
)
def test_wrong_shapes_are_usage_errors(shapes: dict[str, tuple[int, ...]], words: str) -> None:
    with pytest.raises(UsageError) as error:
        clean(two_inputs(), shapes)
    assert words in str(error.value)


def test_a_negative_input_dimension_is_open_and_a_zero_one_is_fixed() -> None:
    with pytest.raises(UsageError, match=r"--shape x=1x3"):
        clean(model([node("Relu", "x", "y")], [info("x", [-1, 3])]))
    graph = read_graph(clean(model([node("Relu", "x", "y")], [info("x", [0, 3])])))
    assert graph.types["y"].shape == (0, 3)


def test_stated_inner_shapes_are_not_trusted() -> None:
    proto = model([node("Relu", "x", "a"), node("Exp", "a", "y")], outputs=[info("y", [7, 7])])
    proto.graph.value_info.append(info("a", [9, 9]))
    graph = read_graph(clean(proto))
    assert graph.types["a"].shape == graph.types["y"].shape == (2, 3)


# --- functions and operators ------------------------------------------------------------------------------------------


def test_model_functions_are_inlined_and_their_nodes_named_after_the_call() -> None:
    body = [node("Relu", "a", "r"), node("Exp", "r", "b")]
    function = helper.make_function("mine", "F", ["a"], ["b"], body, [helper.make_opsetid("", 18)])
    proto = model(
        [node("F", "x", "y", "call", domain="mine")], opsets=[helper.make_opsetid("mine", 1)], functions=[function]
    )
    cleaned = clean(proto)
    assert [(n.op_type, n.name) for n in cleaned.graph.node] == [("Relu", "call/Relu"), ("Exp", "call/Exp")]
    assert not cleaned.functions


def test_chosen_operators_become_their_definition_with_their_default_attributes() -> None:
    proto = model([node("ThresholdedRelu", "x", "y", "act")])
    cleaned = clean(proto, inline_ops=lambda op, _: op == "ThresholdedRelu")
    assert "ThresholdedRelu" not in ops(cleaned)
    assert all(n.name.startswith("act/") for n in cleaned.graph.node)
    x = np.array([[-1, 0, 0.5], [1, 1.5, 2]], np.float32)
    np.testing.assert_array_equal(run(cleaned, {"x": x})[0], np.where(x > 1, x, 0))


# --- constants --------------------------------------------------------------------------------------------------------


def test_batch_normalisation_is_folded_into_the_convolution() -> None:
    nodes = [
        node("Conv", "x w", "c", "conv"),
        node("BatchNormalization", "c s b m v", "n", "bn"),
        node("Relu", "n", "y"),
    ]
    weights = {"w": floats(4, 3, 3, 3), **{name: floats(4) for name in "sbmv"}}
    proto = model(nodes, [info("x", [1, 3, 8, 8])], **weights)
    cleaned = clean(proto)
    assert next((n.op_type, n.name) for n in cleaned.graph.node) == ("Conv", "conv")
    assert ops(cleaned) == ["Conv", "Relu"]
    x = floats(1, 3, 8, 8)
    np.testing.assert_allclose(run(cleaned, {"x": x})[0], run(proto, {"x": x})[0], rtol=1e-4, atol=1e-5)


def test_weights_that_are_standardised_by_a_batch_normalisation_in_training_are_folded() -> None:
    """As PyTorch writes them, with outputs that nobody uses, and which the operator has nevertheless."""
    moments = {"one": np.ones(3, np.float32), "zero": np.zeros(3, np.float32)}
    nodes = [
        node("BatchNormalization", "w one zero zero one", "s m v", training_mode=1, momentum=1.0),
        node("Reshape", "s shape", "w1"),
        node("Conv", "x w1", "y"),
    ]
    weights = {"w": floats(1, 3, 8), "shape": np.array([3, 2, 2, 2])}
    given = model(nodes, [info("x", [1, 2, 4, 4])], [info("y", [1, 3, 3, 3])], **weights, **moments)
    cleaned = clean(given)
    assert ops(cleaned) == ["Conv"]
    x = floats(1, 2, 4, 4)
    np.testing.assert_allclose(run(cleaned, {"x": x})[0], run(given, {"x": x})[0], rtol=1e-5, atol=1e-5)


def test_weights_that_are_inputs_too_become_constants() -> None:
    proto = model([node("Add", "x w", "y")], [info("x", [2, 3]), info("w", [3])], w=floats(3))
    graph = read_graph(clean(proto))
    assert graph.inputs == ("x",)
    assert graph.constants["w"].shape == (3,)


def test_shape_arithmetic_is_folded_once_shapes_are_fixed() -> None:
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "n", axis=0),
        node("Unsqueeze", "n zeros", "n1"),
        node("Concat", "n1 rest", "shape", axis=0),
        node("Reshape", "x shape", "y"),
    ]
    constants = {"zero": np.int64(0), "zeros": np.int64([0]), "rest": np.int64([-1])}
    cleaned = clean(model(nodes, [info("x", ["n", 3, 4])], **constants), {"x": (2, 3, 4)})
    assert ops(cleaned) == ["Reshape"]
    assert read_graph(cleaned).types["y"].shape == (2, 12)


def test_an_if_with_a_constant_condition_becomes_its_branch() -> None:
    then = helper.make_graph([node("Exp", "x", "t")], "t", [], [info("t", None)])
    other = helper.make_graph([node("Neg", "x", "e")], "e", [], [info("e", None)])
    nodes = [node("If", "c", "i", "if", then_branch=then, else_branch=other), node("Relu", "i", "y")]
    assert ops(clean(model(nodes, c=np.array(False)))) == ["Neg", "Relu"]


def test_copies_are_dropped_and_names_of_outputs_kept() -> None:
    nodes = [
        node("Identity", "x", "a"),
        node("Dropout", "a", "b"),
        node("Cast", "b", "c", to=FLOAT),
        node("Relu", "c", "d", "relu"),
        node("Identity", "d", "y"),
        node("Exp", "x", "unused"),
    ]
    (only,) = clean(model(nodes)).graph.node
    assert (only.name, list(only.input), list(only.output)) == ("relu", ["x"], ["y"])


def test_every_output_is_computed_by_a_node() -> None:
    outputs = [info("y", None), info("s", None, INT64), info("copy", None)]
    nodes = [node("Relu", "x", "y"), node("Shape", "x", "s"), node("Identity", "x", "copy")]
    graph = read_graph(clean(model(nodes, outputs=outputs)))
    assert graph.outputs == ("y", "s", "copy")
    producers = graph.producers()
    assert [producers[name].op for name in graph.outputs] == ["Relu", "Identity", "Identity"]
    assert graph.constants[producers["s"].inputs[0]].tolist() == [2, 3]


def test_random_operators_depend_on_an_input() -> None:
    """Their numbers are computed from `seed`, so nothing of them is folded."""
    cleaned = clean(model([node("RandomNormal", "", "r", shape=[2, 3]), node("Add", "x r", "y")]))
    assert [value.name for value in cleaned.graph.input] == ["x", "seed"]
    assert "Mod" in ops(cleaned) and ops(cleaned)[-1] == "Add"


@pytest.mark.parametrize("op", ["ConstantOfShape", "Expand", "Tile"])
def test_a_few_bytes_that_ask_for_gigabytes_are_refused(op: str) -> None:
    inputs = "n" if op == "ConstantOfShape" else "one n"
    nodes = [node(op, inputs, "big"), node("ReduceSum", "big", "r"), node("Add", "x r", "y")]
    with pytest.raises(UnsupportedError, match="2 GiB"):
        clean(model(nodes, one=np.float32([1]), n=np.int64([1 << 36])))


def held(proto: ModelProto) -> int:
    return sum(tensor_bytes(tensor) for tensor in proto.graph.initializer)


@pytest.mark.parametrize("op", ["ConstantOfShape", "Expand", "Tile", "Range"])
def test_constants_much_larger_than_the_file_are_left_to_run(op: str) -> None:
    inputs = {"ConstantOfShape": "n", "Range": "zero m one"}.get(op, "one n")
    nodes = [node(op, inputs, "big"), node("Neg", "big", "minus"), node("Mul", "x minus", "y")]
    count = np.float32(100_000_000)
    made = model(nodes, [info("x", [1])], one=np.float32(1) if op == "Range" else np.float32([1]),
                 n=np.int64([count]), zero=np.float32(0), m=count)  # fmt: skip
    cleaned = clean(made)
    assert ops(cleaned) == [op, "Neg", "Mul"] and held(cleaned) < 1000


def test_many_constants_are_folded_as_long_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold, "MAX_FOLDED_BYTES", 4096)
    nodes = [node("ConstantOfShape", "n", "c0")]
    nodes += [node("Add", f"c{k} one", f"c{k + 1}") for k in range(40)]
    nodes += [node("Sum", "x " + " ".join(f"c{k}" for k in range(40)), "y")]
    proto = model(nodes, n=np.int64([2, 3]), one=np.float32([[1], [2]]))
    assert ops(clean(proto))[-1] == "Sum" and held(clean(proto)) <= 8 * 4096
    wide = model([*nodes[:-1], node("Concat", " ".join(f"c{k}" for k in range(40)), "y", axis=0)],
                 n=np.int64([2, 400]), one=np.float32([[1], [2]]))  # fmt: skip
    cleaned = clean(wide)
    assert 0 < held(cleaned) <= 8 * 4096 and len(ops(cleaned)) > 20
    x = {"x": floats(2, 3)}
    np.testing.assert_array_equal(run(cleaned, x)[0], run(wide, x)[0])


def test_a_large_weight_is_transposed_once_and_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold, "MAX_FOLDED_BYTES", 4096)
    nodes = [node("Transpose", "w", "t", perm=[1, 0]), node("MatMul", "x t", "y")]
    assert ops(clean(model(nodes, w=floats(5000, 3)))) == ["MatMul"]


def test_a_huge_input_is_refused_at_once() -> None:
    with pytest.raises(UnsupportedError, match="input 'x'"):
        clean(model([node("Relu", "x", "y")], [info("x", [1 << 50])]))


def test_cleaning_changes_nothing_in_place_and_gives_the_same_bytes_twice() -> None:
    path = Path(onnx.__file__).parent / "backend/test/data/light/light_squeezenet.onnx"
    proto = load_model(path)
    before = proto.SerializeToString(deterministic=True)
    first, second = (clean(proto).SerializeToString(deterministic=True) for _ in range(2))
    assert proto.SerializeToString(deterministic=True) == before
    assert first == second


def test_only_standard_operators_come_out() -> None:
    """onnxruntime would fuse these into operators of its own."""
    nodes = [
        node("DequantizeLinear", "q s z", "w"),
        node("MatMul", "x w", "m"),
        node("Gelu", "m", "g"),
        node("Add", "g x", "y"),
    ]
    weights = {"q": np.ones((3, 3), np.int8), "s": np.float32(0.5), "z": np.int8(0)}
    cleaned = clean(model(nodes, opset=21, **weights))
    assert ops(cleaned) == ["DequantizeLinear", "MatMul", "Gelu", "Add"]
    assert [entry.domain for entry in cleaned.opset_import] == [""]


# --- the graph --------------------------------------------------------------------------------------------------------


def test_attributes_are_plain_values_and_nodes_have_names() -> None:
    nodes = [node("Conv", "x w", "c", auto_pad="SAME_UPPER", strides=[2, 2]), node("LeakyRelu", "c", "y", alpha=0.5)]
    graph = read_graph(clean(model(nodes, [info("x", [1, 3, 8, 8])], w=floats(4, 3, 3, 3))))
    conv, relu = graph.nodes
    assert conv.name == "Conv_0" and conv.sources == ("Conv_0",) and conv.opset == 18 and conv.domain == ""
    assert conv.attrs == {"strides": [2, 2], "pads": [0, 0, 1, 1]}
    assert relu.attrs["alpha"] == 0.5
    assert graph.types["c"] == TensorType("float32", (1, 4, 4, 4))
    assert graph.constants["w"].dtype == np.float32


def test_nodes_of_the_same_name_are_told_apart() -> None:
    graph = read_graph(clean(model([node("Relu", "x", "a", "n"), node("Exp", "a", "y", "n")])))
    assert [(n.name, n.sources) for n in graph.nodes] == [("n", ("n",)), ("n_1", ("n",))]


def test_half_and_bfloat16_stay_at_inputs_and_outputs_alone() -> None:
    inputs = [info("x", [2, 3], TensorProto.BFLOAT16)]
    proto = model([node("Add", "x w", "y")], inputs, [info("y", None, TensorProto.BFLOAT16)])
    proto.graph.initializer.append(helper.make_tensor("w", TensorProto.BFLOAT16, [3], [1.0, 2.0, 3.0]))
    graph = read_graph(clean(proto))
    assert graph.types["y"] == TensorType("bfloat16", (2, 3))
    assert graph.constants["w"].dtype.name == "float32"


def test_all_unsupported_nodes_are_listed_at_once() -> None:
    nodes = [
        node("Frobnicate", "x", "a", "first"),
        node("Relu", "a", "b"),
        node("Magic", "b", "c", "second", domain="com.example"),
        node("NonZero", "x", "z", "third"),
        node("LpNormalization", "z", "d", "fourth"),
        node("MatMul", "d c", "y"),
    ]
    proto = model(nodes, opsets=[helper.make_opsetid("com.example", 1)])
    with pytest.raises(UnsupportedError) as error:
        read_graph(clean(proto))
    for words in ("'first'", "Frobnicate", "'second'", "com.example.Magic", "'fourth'", "only a run knows"):
        assert words in str(error.value)
    assert len(error.value.problems) == 3


def test_what_the_compiler_does_not_support_is_listed() -> None:
    nodes = [node("Det", "x", "a", "det"), node("Relu", "a", "b"), node("Erf", "b", "y", "erf")]
    with pytest.raises(UnsupportedError) as error:
        read_graph(clean(model(nodes, [info("x", [2, 2])])), supports=lambda op, _: op == "Relu")
    assert len(error.value.problems) == 2


def test_a_shape_that_is_an_input_is_refused_and_found() -> None:
    nodes = [node("Add", "n n", "shape"), node("Reshape", "x shape", "y", "reshape")]
    proto = model(nodes, [info("x", [2, 3]), info("n", [1], INT64)])
    with pytest.raises(UnsupportedError, match=r"'reshape'.*dimension 0.*--max n=100"):
        read_graph(clean(proto))
    assert shape_deciding_inputs(proto) == {"n"}


def test_sequences_that_are_not_known_are_refused() -> None:
    nodes = [node("SplitToSequence", "x", "s", "split"), node("SequenceAt", "s k", "y")]
    inputs = [info("x", [2, 3]), info("k", [], INT64)]
    assert ops(clean(model(nodes, inputs))) == ["Split", "Unsqueeze", "Unsqueeze", "Concat", "Gather"]
    unequal = [node("SequenceConstruct", "x one", "s"), nodes[1]]
    with pytest.raises(UnsupportedError, match=r"its output 's' is of the kind sequence"):
        read_graph(clean(model(unequal, inputs, one=np.float32([1]))))
    left = clean(model(nodes, k=np.int64(1)))
    assert ops(left) == ["Split"]


def test_an_optional_tensor_is_there() -> None:
    nodes = [node("OptionalGetElement", "x", "e"), node("Exp", "e", "y"), node("OptionalHasElement", "x", "t")]
    outputs = [info("y", None), info("t", None, TensorProto.BOOL)]
    left = clean(model(nodes, outputs=outputs))
    assert sorted(ops(left)) == ["Exp", "Identity"]
    assert [numpy_helper.to_array(tensor).item() for tensor in left.graph.initializer] == [True]


def test_what_is_put_into_an_optional_comes_out() -> None:
    nodes = [
        node("Optional", "x", "o"), node("OptionalHasElement", "o", "h"), node("Optional", "", "none"),
        node("OptionalHasElement", "none", "t"), node("Not", "t", "n"), node("And", "h n", "c"), node("Exp", "x", "a"),
        node("OptionalGetElement", "o", "b"), node("Where", "c a b", "y"),
    ]  # fmt: skip
    left = clean(model(nodes, outputs=[info("y", None)]))
    assert "Optional" not in "".join(ops(left))


def test_a_shape_that_onnx_infers_wrongly_is_seen_in_a_run() -> None:
    nodes = [helper.make_node("STFT", ["x", "step", "", "length"], ["y"])]
    inputs = [info("x", [1, 128, 1])]
    graph = read_graph(clean(model(nodes, inputs, step=np.int64(8), length=np.int64(16))))
    assert graph.types["y"].shape == (1, 15, 9, 2)


@pytest.mark.parametrize("name", ["densenet121", "inception_v2", "shufflenet", "squeezenet"])
def test_the_light_models_keep_their_operators(name: str) -> None:
    path = Path(onnx.__file__).parent / f"backend/test/data/light/light_{name}.onnx"
    graph = read_graph(clean(load_model(path)))
    left = {n.op for n in graph.nodes} - {
        *("Add", "AveragePool", "BatchNormalization", "Concat", "Conv", "Gemm", "GlobalAveragePool", "LRN", "MaxPool"),
        *("Mul", "Relu", "Reshape", "Softmax", "Sum", "Transpose"),
    }
    assert not left
    assert all(name in graph.types for n in graph.nodes for name in (*n.inputs, *n.outputs) if name)


def test_a_full_temporary_folder_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    with pytest.raises(UsageError, match=r"No space left.*TMPDIR"):
        clean(model([node("Relu", "x", "y")]))
