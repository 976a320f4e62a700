"""Inputs that become constants (--value), and what is said of models that hang on them or are odd otherwise."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from processes import run
from test_cli import dlpack

from dlpack.bundle.loader import load

# --- inputs that become constants -------------------------------------------------------------------------------------


@pytest.fixture
def by_rate(tmp_path: Path) -> Path:
    """A model that takes four samples at 16 kHz, else two, times a factor."""
    branches = []
    for name, count in (("then", 4), ("else", 2)):
        ends = [onnx.numpy_helper.from_array(np.array([n], np.int64), f"{name}_{n}") for n in (0, count)]
        node = helper.make_node("Slice", ["x", ends[0].name, ends[1].name], [f"{name}_y"])
        kind = helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, None)
        branches.append(helper.make_graph([node], name, [], [kind], ends))
    nodes = [
        helper.make_node("Equal", ["sr", "rate"], ["fast"]),
        helper.make_node("If", ["fast"], ["y0"], then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("Mul", ["y0", "factor"], ["y"]),
    ]
    info = helper.make_tensor_value_info
    inputs = [("x", TensorProto.FLOAT, [8]), ("sr", TensorProto.INT64, []), ("factor", TensorProto.FLOAT, ["n"])]
    graph = helper.make_graph(nodes, "g", [info(*i) for i in inputs], [info("y", TensorProto.FLOAT, None)],
                              [onnx.numpy_helper.from_array(np.array(16000), "rate")])  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "sr.onnx")
    return tmp_path / "sr.onnx"


def test_a_branch_on_an_input_names_the_way_out(tmp_path: Path, by_rate: Path) -> None:
    """Branches of different sizes are computed both; of different types there is no one output."""
    model = onnx.load(by_rate)
    other = next(a.g for a in model.graph.node[1].attribute if a.name == "else_branch").node[0]
    other.op_type = "Shape"
    del other.input[1:]
    onnx.save(model, by_rate)
    result = dlpack("build", by_rate, "-o", tmp_path / "x", "--target", "source", "--shape", "factor=1")
    assert result.exit_code == 3
    assert "its branches give float[4] and int64[1]" in result.stderr and "'sr'" in result.stderr
    assert "--value sr=..." in result.stderr and "--value factor" not in result.stderr


def test_an_input_becomes_a_constant(tmp_path: Path, by_rate: Path) -> None:
    for rate, factors, want in ((16000, "2", [0, 2, 4, 6]), (8000, "3,5", [0, 5])):
        where = tmp_path / str(rate)
        command = ["build", by_rate, "-o", where, "--value", f"sr={rate}", "--value", f"factor={factors}"]
        result = dlpack(*command)
        assert result.exit_code == 0, result.stderr
        assert f"--value sr={rate}" in (where / "sr.cc").read_text().split("#ifndef")[0]
        with load(where) as p:
            assert list(p.inputs) == ["x"]
            assert p.run({"x": np.arange(8, dtype=np.float32)})["y"].tolist() == want
    told = json.loads(dlpack("inspect", by_rate, "--value", "sr=16000", "--value", "factor=1", "--json").stdout)
    assert told["inputs"] == [{"name": "x", "dtype": "float32", "shape": [8]}] and told["outputs"][0]["shape"] == [4]


@pytest.mark.parametrize(
    "values, told",
    [
        (["rate=1"], "the model has no input 'rate'; it has 'x', 'sr', 'factor'"),
        (["sr=fast"], "the input 'sr' is int64"),
        (["sr=1.5"], "the input 'sr' is int64"),
        (["sr=99999999999999999999"], "the input 'sr' is int64"),
        (["sr=1,2"], "the input 'sr' is a scalar, which is not 2 elements"),
        (["x=1,2,3"], "the input 'x' is 8, which is not 3 elements"),
        (["sr"], "write it as INPUT=16000"),
        (["sr=1", "sr=2"], "gives the input 'sr' twice"),
    ],
)
def test_values_that_do_not_fit_are_told(by_rate: Path, tmp_path: Path, values: list[str], told: str) -> None:
    options = [word for value in values for word in ("--value", value)]
    result = dlpack("build", by_rate, "-o", tmp_path / "no", "--target", "source", *options)
    assert result.exit_code == 2 and told in result.stderr
    assert not (tmp_path / "no").exists()


# --- models that are told well ----------------------------------------------------------------------------------------


def test_an_output_that_is_an_input_gets_another_name(tmp_path: Path) -> None:
    kind = helper.make_tensor_value_info
    x, y = (kind(n, TensorProto.FLOAT, [4]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y, x])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "a.onnx")
    result = dlpack("build", tmp_path / "a.onnx", "-o", tmp_path / "bundle")
    assert result.exit_code == 0 and "the output 'x' is the input 'x' itself: it is called 'x_out'" in result.stderr
    with load(tmp_path / "bundle") as predictor:
        outputs = predictor.run({"x": np.float32([-1, 2, -3, 4])})
    assert {name: x.tolist() for name, x in outputs.items()} == {"y": [0, 2, 0, 4], "x_out": [-1, 2, -3, 4]}


def test_onnxruntime_says_nothing_besides_our_error(tmp_path: Path) -> None:
    """Its log goes past Python's streams, to the process's own."""
    weight = onnx.numpy_helper.from_array(np.zeros((2, 4, 3, 3), np.float32), "w")
    kind = helper.make_tensor_value_info
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "g",
                              [kind("x", TensorProto.FLOAT, [1, 3, 2, 2])], [kind("y", TensorProto.FLOAT, None)],
                              [weight])  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "a.onnx")
    command = [sys.executable, "-m", "dlpack.cli", "build", "a.onnx", "-o", "no", "--target", "source"]
    done = run(command, cwd=tmp_path)
    assert done.returncode == 3 and "[E:onnxruntime" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")


def test_the_group_normalization_of_opset_18(tmp_path: Path) -> None:
    """With a scale for each group; ONNX itself has withdrawn it since."""
    kind = helper.make_tensor_value_info
    x = np.random.default_rng(1).standard_normal((2, 6, 3, 3)).astype(np.float32)
    scale, bias = np.array([2, -3], np.float32), np.array([1, 4], np.float32)
    node = helper.make_node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=2, epsilon=1e-3)
    weights = [onnx.numpy_helper.from_array(v, n) for n, v in (("s", scale), ("b", bias))]
    shapes = [kind(n, TensorProto.FLOAT, x.shape) for n in "xy"]
    graph = helper.make_graph([node], "g", shapes[:1], shapes[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "a.onnx")
    result = dlpack("build", tmp_path / "a.onnx", "-o", tmp_path / "a")
    assert result.exit_code == 0, result.stderr
    rows = x.reshape(2, 2, -1).astype(np.float64)
    rows = (rows - rows.mean(-1, keepdims=True)) / np.sqrt(rows.var(-1, keepdims=True) + 1e-3)
    want = rows * scale[:, None] + bias[:, None]
    with load(tmp_path / "a") as p:
        np.testing.assert_allclose(p.run({"x": x})["y"], want.reshape(x.shape), atol=1e-5)
    del node.attribute[:]
    graph = helper.make_graph([node], "g", shapes[:1], shapes[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "b.onnx")
    result = dlpack("build", tmp_path / "b.onnx", "-o", tmp_path / "b")
    assert result.exit_code == 3 and "num_groups" in result.stderr
