"""Operators along open dimensions, as exports have them, each between two layers: at bounds, primes, odd sizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, helper
from shape_bundles import close, expected
from test_open_batch import model

import dlpack
from dlpack.errors import UnsupportedError
from dlpack.meaning.open_batch import opened_batch
from dlpack.pipeline import Options, build

node = helper.make_node
LENGTHS = (70, 5, 6, 13, 16, 31, 64, 65, 69, 5)
SIDES = ((41, 37), (9, 10), (9, 37), (41, 10), (13, 11), (17, 29), (24, 32), (9, 10))
SHAPE = [node("Shape", ["a"], ["shape"]), node("Gather", ["shape", "one0"], ["n"])]

ALONG: dict[str, list[NodeProto]] = {
    "the largest": [node("TopK", ["a", "three"], ["t", "where"], axis=1), node("Cast", ["where"], ["w"], to=1),
                    node("Add", ["t", "w"], ["u"]), node("ReduceSum", ["u", "one"], ["s"]),
                    node("Add", ["a", "s"], ["b"])],
    "the smallest": [node("TopK", ["a", "three"], ["t", "unused"], axis=1, largest=0),
                     node("ReduceSum", ["t", "one"], ["s"]), node("Add", ["a", "s"], ["b"])],
    "logarithm of a sum": [node("ReduceLogSumExp", ["a"], ["s"], axes=[1], keepdims=1), node("Sub", ["a", "s"], ["b"])],
    "pairs": [node("Einsum", ["a", "a"], ["s"], equation="bic,bjc->bij"), node("Trilu", ["s"], ["t"], upper=0),
              node("Einsum", ["t", "a"], ["b"], equation="bij,bjc->bic")],
    "above": [node("Transpose", ["a"], ["c"], perm=[0, 2, 1]), node("MatMul", ["a", "c"], ["s"]),
              node("Trilu", ["s", "one0"], ["t"]), node("MatMul", ["t", "a"], ["b"])],
    "turned round": [node("Slice", ["a", "minus", "end", "one"], ["k"]),
                     node("Slice", ["a", "zero", "minus", "one"], ["o"]), node("Concat", ["k", "o"], ["r"], axis=1),
                     node("Add", ["a", "r"], ["b"])],
    "differences": [node("Slice", ["a", "one", "end", "one"], ["k"]),
                    node("Slice", ["a", "zero", "minus", "one"], ["o"]), node("Sub", ["k", "o"], ["b"])],
    "each second": [node("Slice", ["a", "zero", "end", "one", "two"], ["b"])],
    "each third behind the first": [node("Slice", ["a", "one", "end", "one", "three"], ["b"])],
    "a token in front": [node("Concat", ["front", "a"], ["b"], axis=1)],
    "a token in front of attention": [
        node("Concat", ["front", "a"], ["c"], axis=1), node("Transpose", ["c"], ["d"], perm=[0, 2, 1]),
        node("MatMul", ["c", "d"], ["s"]), node("Softmax", ["s"], ["p"], axis=2), node("MatMul", ["p", "c"], ["b"])],
    "groups": [node("Transpose", ["a"], ["k"], perm=[0, 2, 1]), node("Reshape", ["k", "grouped"], ["o"]),
               node("InstanceNormalization", ["o", "ones", "zeros"], ["z"]), node("Shape", ["k"], ["size"]),
               node("Reshape", ["z", "size"], ["r"]), node("Transpose", ["r"], ["b"], perm=[0, 2, 1])],
    "twice as long": [node("Transpose", ["a"], ["k"], perm=[0, 2, 1]),
                      node("Resize", ["k", "", "scales"], ["o"], mode="linear"),
                      node("Transpose", ["o"], ["b"], perm=[0, 2, 1])],
    "over their number": [*SHAPE, node("Cast", ["n"], ["f"], to=1), node("ReduceSum", ["a", "one"], ["s"]),
                          node("Div", ["s", "f"], ["m"]), node("Sub", ["a", "m"], ["b"])],
}  # fmt: skip

OVER: dict[str, list[NodeProto]] = {
    "mirrored rows": [node("Slice", ["a", "minus", "least", "two", "minus"], ["r"]), node("Add", ["a", "r"], ["b"])],
    "mirrored columns": [node("Slice", ["a", "minus", "least", "last", "minus"], ["r"]),
                         node("Sub", ["a", "r"], ["b"])],
    "the last rows, of which the larger": [node("Slice", ["a", "minus2", "end", "two"], ["c"]),
                                           node("ReduceMax", ["c"], ["b"], axes=[2])],
    "the last rows": [node("Slice", ["a", "minus2", "end", "two"], ["b"])],
    "each second row and column": [node("Slice", ["a", "starts", "ends", "both", "twos"], ["b"])],
    "a column in front": [node("ReduceMean", ["a"], ["m"], axes=[3], keepdims=1),
                          node("Concat", ["m", "a"], ["c"], axis=3), node("Conv", ["c", "w3"], ["b"], pads=[1] * 4)],
    "over the number of pixels": [
        node("Shape", ["a"], ["high"], start=2, end=3), node("Shape", ["a"], ["wide"], start=3),
        node("Mul", ["high", "wide"], ["hw"]), node("Sub", ["hw", "one"], ["less"]),
        node("Cast", ["less"], ["f"], to=1),
        node("ReduceSum", ["a", "sides"], ["s"]), node("Div", ["s", "f"], ["m"]), node("Sub", ["a", "m"], ["b"])],
    "places": [
        node("Shape", ["a"], ["high"], start=2, end=3), node("Shape", ["a"], ["wide"], start=3),
        node("Squeeze", ["high"], ["h1"]), node("Squeeze", ["wide"], ["w1_"]),
        node("Range", ["zero0", "h1", "one0"], ["h2"]), node("Range", ["zero0", "w1_", "one0"], ["w2_"]),
        node("Cast", ["h2"], ["h3"], to=1), node("Cast", ["w2_"], ["columns"], to=1),
        node("Unsqueeze", ["h3", "one"], ["h4"]), node("Mul", ["h4", "scale"], ["h5"]),
        node("Add", ["h5", "columns"], ["p"]), node("Sin", ["p"], ["q"]), node("Add", ["a", "q"], ["b"])],
}  # fmt: skip


def weights(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(sum(shape))
    return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


CONSTANTS: dict[str, Any] = {
    "zero": np.int64([0]), "one": np.int64([1]), "two": np.int64([2]), "three": np.int64([3]), "many": np.int64([17]), 
    "minus": np.int64([-1]),
    "minus2": np.int64([-2]), "last": np.int64([3]), "end": np.int64([2**62]), "least": np.int64([-(2**62)]),
    "zero0": np.int64(0), "one0": np.int64(1), "front": weights(1, 2, 8),
    "grouped": np.int64([0, 2, -1]), "ones": np.ones(2, np.float32), "zeros": np.zeros(2, np.float32),
    "scales": np.float32([1, 1, 2]), "starts": np.int64([0, 1]), "ends": np.int64([2**62] * 2),
    "both": np.int64([2, 3]), "twos": np.int64([2, 2]), "w3": weights(8, 8, 3, 3), "sides": np.int64([2, 3]),
    "scale": np.float32(0.3),
}  # fmt: skip


def network(nodes: Sequence[NodeProto], first: NodeProto, last: NodeProto, shape: list[Any], **more: Any) -> ModelProto:
    used = {i for n in nodes for i in n.input}
    constants = {k: v for k, v in CONSTANTS.items() if k in used}
    return model([first, *nodes, last], {"x": shape}, ["y"], **constants, **more)


def check(made: ModelProto, dims: str, shapes: Sequence[Sequence[int]], folder: Path) -> None:
    onnx.save(made, folder / "net.onnx")
    (closed,), batch = opened_batch([f"x={dims}"])
    first = tuple(map(int, closed.partition("=")[2].split("x")))
    bundle = build(folder / "net.onnx", folder / "net", Options(shapes={"x": first}, batch=batch))
    with dlpack.load(bundle) as predictor:
        for shape in shapes:
            asked = {"x": np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)}
            close(predictor.run(asked), expected(folder / "net.onnx", asked))


@pytest.mark.parametrize("name", ALONG)
def test_along_a_length(name: str, tmp_path: Path) -> None:
    first, last = node("MatMul", ["x", "w0"], ["a"]), node("MatMul", ["b", "w1"], ["y"])
    made = network(ALONG[name], first, last, [1, "n", 6], w0=weights(6, 8), w1=weights(8, 4))
    check(made, "1x5..70x6", [(1, n, 6) for n in LENGTHS], tmp_path)


@pytest.mark.parametrize("name", OVER)
def test_over_a_picture(name: str, tmp_path: Path) -> None:
    first, last = node("Conv", ["x", "w0"], ["a"], pads=[1] * 4), node("Conv", ["b", "w1"], ["y"])
    made = network(OVER[name], first, last, [1, 3, "h", "w"], w0=weights(8, 3, 3, 3), w1=weights(4, 8, 1, 1))
    check(made, "1x3x9..41x10..37", [(1, 3, *size) for size in SIDES], tmp_path)


def test_an_output_of_all_pairs(tmp_path: Path) -> None:
    """It has the open dimension twice."""
    nodes = [node("Transpose", ["x"], ["t"], perm=[0, 2, 1]), node("MatMul", ["x", "t"], ["y"])]
    check(model(nodes, {"x": [1, "n", 6]}, ["y"]), "1x1..70x6", [(1, n, 6) for n in (70, 1, 2, 13, 64, 65)], tmp_path)


def test_too_many_of_the_largest_are_named(tmp_path: Path) -> None:
    nodes = [node("TopK", ["a", "many"], ["b", "unused"], "chosen", axis=1)]
    first, last = node("MatMul", ["x", "w0"], ["a"]), node("MatMul", ["b", "w1"], ["y"])
    made = network(nodes, first, last, [1, "n", 6], w0=weights(6, 8), w1=weights(8, 4))
    onnx.save(made, tmp_path / "net.onnx")
    _, batch = opened_batch(["x=1x20..70x6"])
    with pytest.raises(UnsupportedError, match="TopK 'chosen' chooses 17 elements, of at most 16"):
        build(tmp_path / "net.onnx", tmp_path / "net", Options(shapes={"x": (1, 20, 6)}, batch=batch))
