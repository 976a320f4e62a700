"""What counts from the end of an open dimension, looks for a place along it, or is computed from its size:
`--shape x=1x{2..70}x6`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper
from shape_bundles import close, expected
from test_open_batch import model

import dlpack
from dlpack.meaning.open_batch import opened_batch
from dlpack.pipeline import Options, build

SMALLEST, LARGEST = 2, 70
node = helper.make_node


def network() -> ModelProto:
    """As classifiers by the last token have it, and decoders with biases by distance: the last elements, by constants
    and by places that a run finds, from both ends; extremes; sums from the end; and numbers made of the size."""
    rng = np.random.default_rng(4)
    nodes = [
        node("Shape", ["ids"], ["sizes"]),
        node("Gather", ["sizes", "one"], ["n"]),
        node("Gather", ["x", "minus"], ["last"], "last", axis=1),
        node("Slice", ["x", "minus2", "end", "one1", "one1"], ["two"], "two"),
        node("Slice", ["x", "zero1", "two1", "one1"], ["front"], "front"),
        node("Slice", ["x", "minus1", "before", "one1", "minus1"], ["turned0"], "turned"),
        node("MatMul", ["turned0", "w"], ["turned"]),
        node("CumSum", ["x", "one"], ["behind0"], "behind", reverse=1, exclusive=1),
        node("MatMul", ["behind0", "w"], ["behind"]),
        node("ArgMax", ["x"], ["best"], "best", axis=1, keepdims=0),
        node("ArgMin", ["ids"], ["least"], "least", axis=1, keepdims=1, select_last_index=1),
        node("GatherElements", ["ids", "least"], ["found"], "found", axis=1),
        node("Sub", ["least", "n"], ["backwards"]),
        node("Unsqueeze", ["backwards", "two1"], ["tuple0"]),
        node("Concat", ["tuple_zero", "tuple0"], ["tuple"], axis=2),
        node("GatherND", ["x", "tuple"], ["there"], "there"),
        node("ReduceProd", ["x"], ["product"], "product", axes=[1], keepdims=0),
        # slopes by the distance from the last element, and by that of each two
        node("Sub", ["one", "n"], ["first"]),
        node("Range", ["first", "one", "one"], ["distances0"]),
        node("Cast", ["distances0"], ["distances"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["distances", "zero1"], ["row"]),
        node("Mul", ["row", "slopes"], ["alibi"], "alibi"),
        node("Range", ["zero", "n", "one"], ["all"]),
        node("Unsqueeze", ["all", "one1"], ["column"]),
        node("Sub", ["all", "column"], ["apart0"]),
        node("Add", ["apart0", "most"], ["apart1"]),
        node("Gather", ["table", "apart1"], ["apart"], "apart"),
        node("Transpose", ["x"], ["xt"], perm=[0, 2, 1]),
        node("MatMul", ["x", "xt"], ["s0"]),
        node("Mul", ["xt", "channels"], ["columns"]),
        node("Add", ["s0", "apart"], ["s1"]),
        node("Unsqueeze", ["alibi", "one1"], ["alibi1"]),
        node("Add", ["s1", "alibi1"], ["s2"]),
        node("Softmax", ["s2"], ["s3"], axis=-1),
        node("MatMul", ["s3", "x"], ["mixed"], "mixed"),
        node("Sub", ["n", "one"], ["n1"]),
        node("Sub", ["n1", "all"], ["down"]),
        node("Gather", ["x", "down"], ["mirror0"], "mirror", axis=1),
        node("MatMul", ["mirror0", "w"], ["mirror"]),
        node("Cast", ["n"], ["count"], to=TensorProto.FLOAT),
        node("Div", ["mixed", "count"], ["scaled"], "scaled"),
    ]
    made = model(
        nodes,
        {"x": ([1, "n", 6], TensorProto.FLOAT), "ids": ([1, "n"], TensorProto.INT64)},
        ["last", "two", "front", "turned", "behind", "best", "found", "there", "product", "scaled", "mirror",
         "columns"],
        w=rng.standard_normal((6, 5)).astype(np.float32), table=rng.standard_normal(2 * LARGEST).astype(np.float32),
        slopes=np.float32([[0.37]]), one=np.int64(1), zero=np.int64(0), minus=np.int64(-1), zero1=np.int64([0]),
        one1=np.int64([1]), two1=np.int64([2]), minus1=np.int64([-1]), minus2=np.int64([-2]), end=np.int64([2**62]),
        before=np.int64([-(2**62)]), tuple_zero=np.int64([[[0]]]), most=np.int64(LARGEST),
        channels=np.arange(6, dtype=np.float32).reshape(6, 1),
    )  # fmt: skip
    for output in made.graph.output:
        if output.name in ("best", "found"):
            output.type.tensor_type.elem_type = TensorProto.INT64
    return made


def question(n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(n)
    x = rng.standard_normal((1, n, 6)).astype(np.float32)
    x[0, n // 3 :: 7, 2] = x.max()  # of equal ones the first
    return {"x": x, "ids": rng.integers(0, 4, (1, n))}


def test_what_depends_on_the_size(tmp_path: Path) -> None:
    """Also behind what a longer run has left."""
    path = tmp_path / "net.onnx"
    onnx.save(network(), path)
    _, batch = opened_batch([f"x=1x{{{SMALLEST}..{LARGEST}}}x6", f"ids=1x{{{SMALLEST}..{LARGEST}}}"])
    shapes = {"x": (1, SMALLEST, 6), "ids": (1, SMALLEST)}
    bundle = build(path, tmp_path / "net", Options(shapes=shapes, batch=batch, ranges={"ids": (0, 4)}))
    text = (bundle / "net.cc").read_text()
    assert "static_cast<int64_t>(extent - 1)" in text
    with dlpack.load(bundle) as predictor:
        for n in (70, 2, 3, 12, 13, 31, 64, 65, 69):
            close(predictor.run(question(n)), expected(path, question(n)))
