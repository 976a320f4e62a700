"""Models that read well and cannot be computed: operands that do not fit, values without elements, metadata."""

from __future__ import annotations

import sys
from pathlib import Path

import nets
import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper
from processes import run

import dlpack
from dlpack.errors import DlpackError
from dlpack.pipeline import build

node = helper.make_node


def bytes_of(elem: int) -> ModelProto:
    """A Sigmoid over 4 elements of this type."""
    proto = nets.model([node("Sigmoid", ["x"], ["y"])], {"x": (4,)}, {"y": (4,)})
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = elem
    return proto


def conv(weights: tuple[int, ...], x: tuple[int, ...], **attributes: object) -> ModelProto:
    y = (x[0], weights[0], *(["a"] * (len(x) - 2)))
    return nets.model(
        [node("Conv", ["x", "w"], ["c"], **attributes), node("Relu", ["c"], ["y"])],
        {"x": x},
        {"y": y},
        {"w": np.ones(weights, np.float32)},
    )


def pool(**attributes: object) -> ModelProto:
    return nets.model([node("MaxPool", ["x"], ["y"], **attributes)], {"x": (1, 2, 6, 6)}, {"y": (1, 2, "h", "w")})


def grid_sample() -> ModelProto:
    """Over an image of bytes, which ONNX allows."""
    proto = nets.model(
        [node("GridSample", ["x", "grid"], ["y"], mode="nearest")],
        {"x": (1, 1, 3, 4), "grid": (1, 2, 2, 2)},
        {"y": (1, 1, 2, 2)},
    )
    for value in (proto.graph.input[0], proto.graph.output[0]):
        value.type.tensor_type.elem_type = TensorProto.UINT8
    return proto


DAMAGED = {
    "bytes": (grid_sample(), "GridSample of uint8"),
    "type": (bytes_of(TensorProto.INT8), "Sigmoid"),
    "channels": (conv((3, 4, 3, 3), (1, 5, 8, 8)), "channels"),
    "kernel": (conv((3, 5, 7, 1), (1, 5, 8, 8), kernel_shape=[1, 1]), "kernel"),
    "nothing": (conv((16, 16, 3, 3), (1, 16, 0, 12), pads=[1, 1, 1, 1]), "input shape"),
    "rank": (pool(kernel_shape=[2]), "kernel_shape"),
    "strides": (pool(kernel_shape=[2, 2], strides=[2, 2, 2]), "strides"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_operands_that_do_not_fit_are_told(what: str, tmp_path: Path) -> None:
    proto, word = DAMAGED[what]
    onnx.save(proto, tmp_path / "net.onnx")
    with pytest.raises(DlpackError, match=word):
        build(tmp_path / "net.onnx", tmp_path / "net")


@pytest.mark.parametrize("op", ["ReduceMax", "ArgMax"])
def test_keepdims_is_one_or_not(op: str, tmp_path: Path) -> None:
    """As onnxruntime has it: a number that is not 1 drops the dimension."""
    given = {"axis": 1, "keepdims": 65536} if op == "ArgMax" else {"axes": [1], "keepdims": 65536}
    proto = nets.model([node(op, ["x"], ["r"], **given), node("Cast", ["r"], ["y"], to=1)], {"x": (2, 3)}, {"y": (2,)})
    onnx.save(proto, tmp_path / "net.onnx")
    assert dlpack.load(build(tmp_path / "net.onnx", tmp_path / "net")).outputs["y"][1] == (2,)


@pytest.mark.parametrize("call", ["exporters.base.read_bytes(path)", "model.load._read_file(path)"])
def test_reading_takes_as_much_memory_as_the_file_has(call: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    code = (
        "import resource, pathlib, dlpack.exporters.base, dlpack.model.load\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))\n"
        f"path = pathlib.Path({str(tmp_path / 'file')!r})\n"
        f"assert dlpack.{call} == b'abc'"
    )
    run([sys.executable, "-c", code], check=True)
