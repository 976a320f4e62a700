"""Sequences and optionals whose elements are known, or placed by a run; as inputs and outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper

import dlpack
from dlpack.errors import UsageError
from dlpack.options import Options
from dlpack.verify.runners import run_onnxruntime

INNER = """<ir_version: 8, opset_import: ["" : 18]>
net (float[2,3] x, float[2,3] y, int64 i) =>
    (float[2,3] picked, float[6,3] more, float[2,3] less, bool there, float[2,3] held, int64 count)
<int64 one = {1}>
{
  s = SequenceConstruct (x, y)
  picked = SequenceAt (s, i)
  t = SequenceInsert (s, x, i)
  more = ConcatFromSequence <axis = 0> (t)
  e = SequenceErase (s, i)
  less = ConcatFromSequence <axis = 0> (e)
  o = Optional (y)
  there = OptionalHasElement (o)
  held = OptionalGetElement (o)
  count = SequenceLength (t)
}
"""


def test_a_run_says_which_element(tmp_path: Path) -> None:
    """Of equal shapes; from the end, where the index is negative."""
    model = onnx.parser.parse_model(INNER)
    onnx.save(model, tmp_path / "net.onnx")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    with dlpack.load(dlpack.build(tmp_path / "net.onnx", tmp_path / "net", Options(ranges={"i": (0, 1)}))) as p:
        for place in (0, 1, -1, -2):
            feeds = {"x": x, "y": -x, "i": np.array(place)}
            found = p.run(feeds)
            for (name, got), want in zip(found.items(), run_onnxruntime(model, feeds), strict=True):
                np.testing.assert_array_equal(got, want, err_msg=f"{name}, {place}")


def test_sequences_and_optionals_as_inputs_and_outputs(tmp_path: Path) -> None:
    """The elements are inputs and outputs of their own, of which a sequence's are counted by --max."""
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])
    many = helper.make_sequence_type_proto(tensor)
    nodes = [
        helper.make_node("OptionalGetElement", ["o"], ["x"]), helper.make_node("SequenceInsert", ["s", "x"], ["t"]),
    ]  # fmt: skip
    inputs = [
        helper.make_value_info("s", many),
        helper.make_value_info("o", helper.make_optional_type_proto(tensor)),
    ]
    graph = helper.make_graph(nodes, "net", inputs, [helper.make_value_info("t", many)])
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    with pytest.raises(UsageError, match=r"the input 's' is a sequence: say how many tensors it has with --max s=4"):
        dlpack.build(path, tmp_path / "net")
    feeds = {name: np.full(2, k, np.float32) for k, name in enumerate(("s.0", "s.1", "o"))}
    with dlpack.load(dlpack.build(path, tmp_path / "net", Options(maxima={"s": 2}))) as p:
        found = {name: x.tolist() for name, x in p.run(feeds).items()}
    assert found == {"t.0": [0, 0], "t.1": [1, 1], "t.2": [2, 2]}


BRANCHES = """<ir_version: 8, opset_import: ["" : 18]>
net (bool c, float[2] x, optional(float[2]) o) => (seq(float[2]) y, bool there)
{
  y = If (c) <
    then_branch = first () => (seq(float[2]) a) { n = Neg (x) s = SequenceConstruct (n) a = SequenceInsert (s, x) },
    else_branch = second () => (seq(float[2]) b) { b = SequenceConstruct (x, x) }
  >
  there = OptionalHasElement (o)
}
"""


def test_branches_that_give_sequences_and_an_optional_that_is_absent(tmp_path: Path) -> None:
    """A run decides which branch is taken, where both give as many elements."""
    (tmp_path / "net.onnx").write_bytes(onnx.parser.parse_model(BRANCHES).SerializeToString())
    options = Options(maxima={"o": 0})
    with dlpack.load(dlpack.build(tmp_path / "net.onnx", tmp_path / "net", options)) as p:
        for c in (True, False):
            found = p.run({"c": np.array(c), "x": np.array([1, 2], np.float32)})
            assert {name: y.tolist() for name, y in found.items()} == {
                "y.0": [-1, -2] if c else [1, 2], "y.1": [1, 2], "there": False,
            }  # fmt: skip
    with pytest.raises(UsageError, match=r"--max x=0: 'x' is no sequence and no optional"):
        dlpack.build(tmp_path / "net.onnx", tmp_path / "other", Options(maxima={"x": 0}))
