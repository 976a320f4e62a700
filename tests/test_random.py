"""Random operators: the numbers come from an input `seed`, and are as they should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

import dlpack

COUNT = 4096


def predictor(tmp_path: Path, *nodes: onnx.NodeProto, outputs: str = "y", opset: int = 17) -> Any:
    """Of a model whose input is x, [64, 64]; building verifies it against onnxruntime."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [64, 64])
    results = [onnx.ValueInfoProto(name=name) for name in outputs.split()]
    for result in results:
        result.CopyFrom(helper.make_tensor_value_info(result.name, TensorProto.FLOAT, None))
    model = helper.make_model(
        helper.make_graph(list(nodes), "g", [x], results), ir_version=8, opset_imports=[helper.make_opsetid("", opset)]
    )
    onnx.save(model, tmp_path / "net.onnx")
    return dlpack.load(dlpack.build(tmp_path / "net.onnx", tmp_path / "bundle"))


def test_uniform_and_normal_numbers(tmp_path: Path) -> None:
    net = predictor(
        tmp_path,
        helper.make_node("RandomUniformLike", ["x"], ["u"], low=-1.0, high=3.0),
        helper.make_node("RandomNormal", [], ["n"], shape=[64, 64], mean=2.0, scale=0.5),
        helper.make_node("Add", ["u", "x"], ["a"]),
        helper.make_node("Add", ["n", "x"], ["b"]),
        outputs="a b",
    )
    x = np.zeros((64, 64), np.float32)
    first, again, other = (net.run({"x": x, "seed": np.array([seed])}) for seed in (7, 7, 8))
    assert np.array_equal(net.run({"x": x})["a"], net.run({"x": x, "seed": np.array([0])})["a"])
    for name in "ab":
        assert np.array_equal(first[name], again[name])
        assert np.abs(np.corrcoef(first[name].ravel(), other[name].ravel())[0, 1]) < 0.05
        assert np.abs(np.corrcoef(first[name].ravel()[1:], other[name].ravel()[:-1])[0, 1]) < 0.05
    u, n = first["a"].ravel(), first["b"].ravel()
    assert u.min() >= -1 and u.max() < 3 and len(np.unique(u)) > COUNT - 10
    counts = np.histogram(u, 16, (-1, 3))[0]
    assert ((counts - COUNT / 16) ** 2 / (COUNT / 16)).sum() < 35  # chi squared, 15 degrees: one in 400 is above
    assert abs(n.mean() - 2) < 0.03 and abs(n.std() - 0.5) < 0.02
    assert abs(((n - 2) / 0.5 > 1).mean() - 0.1587) < 0.02
    assert abs(np.corrcoef(u, n)[0, 1]) < 0.05


def test_bernoulli_and_dropout_in_training(tmp_path: Path) -> None:
    """Both draw from the seed, of which a Dropout that states one itself makes the reference's numbers at 0."""
    constants = {"ratio": np.float32(0.25), "yes": np.array(True)}
    given = [
        helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(np.asarray(value)))
        for name, value in constants.items()
    ]
    nodes = [
        helper.make_node("Bernoulli", ["x"], ["y"]),
        helper.make_node("Dropout", ["x", "ratio", "yes"], ["d"]),
        helper.make_node("Dropout", ["x", "ratio", "yes"], ["s"], seed=5),
    ]
    net = predictor(tmp_path, *given, *nodes, outputs="y d s")
    x = np.full((64, 64), 0.3, np.float32)
    run, plain = net.run({"x": x, "seed": np.array([1])}), net.run({"x": x})
    assert set(np.unique(run["y"])) == {0.0, 1.0}
    assert abs(run["y"].mean() - 0.3) < 0.03
    for name in "ds":
        np.testing.assert_allclose(np.unique(run[name]), [0, 0.4], rtol=1e-6)
        assert abs((run[name] == 0).mean() - 0.25) < 0.03
        assert not np.array_equal(run[name], plain[name])
    assert np.array_equal(plain["s"] == 0, np.random.RandomState(5).uniform(size=x.shape) < 0.25)
