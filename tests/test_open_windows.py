"""Convolutions along an open dimension: of sounds and texts alone, as pictures of one side, and between attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper
from shape_bundles import close, expected
from test_open_batch import model

import dlpack
from dlpack.graph.trimmed import trimmed
from dlpack.meaning.open_batch import opened_batch
from dlpack.pipeline import Options, build
from dlpack.stages.prepare import clean_graph

node = helper.make_node


def weights(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(sum(shape))
    return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def of_tokens() -> ModelProto:
    """A TextCNN: windows of three widths over embedded tokens, and the largest of each; beside them what networks for
    sounds and series have: strides, pools, causal windows of which the last is read, means and sums."""
    return model(
        [
            node("Gather", ["words", "ids"], ["e"], "embed"),
            node("Transpose", ["e"], ["x"], perm=[0, 2, 1]),
            node("Conv", ["x", "w3", "b"], ["c3"], "three", pads=[1, 1]),
            node("Conv", ["x", "w4"], ["c4"], "four"),
            node("Conv", ["x", "w5"], ["c5"], "five", pads=[2, 2]),
            *(node("Relu", [f"c{k}"], [f"r{k}"]) for k in (3, 4, 5)),
            node("ReduceMax", ["r3"], ["m3"], "most3", axes=[2], keepdims=0),
            node("GlobalMaxPool", ["r4"], ["g4"], "most4"),
            node("Flatten", ["g4"], ["m4"]),
            node("Transpose", ["r5"], ["t5"], perm=[0, 2, 1]),
            node("ReduceMax", ["t5"], ["m5"], "most5", axes=[1], keepdims=0),
            node("Concat", ["m3", "m4", "m5"], ["m"], axis=1),
            node("Gemm", ["m", "wc"], ["classes"], "classes"),
            node("Conv", ["r3", "w9"], ["s0"], "half", strides=[2], pads=[2, 2]),
            node("MaxPool", ["s0"], ["s1"], "pool", kernel_shape=[3], strides=[2], pads=[1, 1]),
            node("Conv", ["s1", "w3s"], ["s"], "quarter", pads=[1, 1]),
            node("GlobalAveragePool", ["s"], ["a0"], "mean"),
            node("Flatten", ["a0"], ["average"]),
            node("ReduceMean", ["s"], ["whole"], "whole", axes=[1, 2], keepdims=0),
            node("Conv", ["r5", "w3s"], ["k0"], "causal", pads=[4, 4], dilations=[2]),
            node("Slice", ["k0", "zero", "minus4", "two"], ["k1"], "chomp"),
            node("Relu", ["k1"], ["k"]),
            node("Gather", ["k", "minus"], ["last"], "last", axis=2),
        ],
        {"ids": ([1, "n"], TensorProto.INT64)},
        ["classes", "average", "whole", "last", "k"],
        words=weights(23, 12), w3=weights(16, 12, 3), w4=weights(16, 12, 4), w5=weights(16, 12, 5), b=weights(16),
        wc=weights(48, 3), w9=weights(16, 16, 5), w3s=weights(16, 16, 3), zero=np.int64([0]), minus4=np.int64([-4]),
        two=np.int64([2]), minus=np.int64(-1),
    )  # fmt: skip


def of_steps() -> ModelProto:
    """A Conformer's parts: attention, and windows by channel, by group, spread ones and single elements between."""
    return model(
        [
            node("Transpose", ["x"], ["xt"], perm=[0, 2, 1]),
            node("MatMul", ["x", "xt"], ["s"], "scores"),
            node("Softmax", ["s"], ["p"], "attention", axis=-1),
            node("MatMul", ["p", "x"], ["a"], "mixed"),
            node("Transpose", ["a"], ["c0"], perm=[0, 2, 1]),
            node("Conv", ["c0", "w1", "b"], ["c1"], "single"),
            node("Conv", ["c1", "wd"], ["c2"], "by_channel", group=16, pads=[2, 2]),
            node("Relu", ["c2"], ["c3"]),
            node("Conv", ["c3", "wg", "b"], ["c4"], "by_group", group=4, pads=[3, 1], dilations=[2]),
            node("Conv", ["c4", "w3"], ["c5"], "causal", pads=[2, 2]),
            node("Slice", ["c5", "zero", "minus2", "two"], ["c6"], "chomp"),
            node("Transpose", ["c6"], ["c"], perm=[0, 2, 1]),
            node("Add", ["c", "a"], ["states"], "states"),
        ],
        {"x": [1, "n", 8]},
        ["states"],
        w1=weights(16, 8, 1), wd=weights(16, 1, 5), wg=weights(16, 4, 3), w3=weights(8, 16, 3), b=weights(16),
        zero=np.int64([0]), minus2=np.int64([-2]), two=np.int64([2]),
    )  # fmt: skip


def compare(path: Path, shape: str, inputs: Mapping[int, Mapping[str, np.ndarray]]) -> str:
    """Builds for `shape` and compares at these sizes; gives the emitted text."""
    (name,) = inputs[next(iter(inputs))]
    (closed,), batch = opened_batch([f"{name}={shape}"])
    first = tuple(map(int, closed.partition("=")[2].split("x")))
    ranges = {"ids": (0, 22)} if name == "ids" else {}
    bundle = build(path, path.parent / "net", Options(shapes={name: first}, batch=batch, ranges=ranges))
    with dlpack.load(bundle) as predictor:
        for given in inputs.values():
            close(predictor.run(given), expected(path, given))
    return (bundle / "net.cc").read_text()


def test_texts_and_sounds(tmp_path: Path) -> None:
    onnx.save(of_tokens(), tmp_path / "net.onnx")
    rng = np.random.default_rng(1)
    sizes = (61, 4, 5, 13, 16, 31, 32, 60)
    text = compare(tmp_path / "net.onnx", "1x4..61", {n: {"ids": rng.integers(0, 23, (1, n))} for n in sizes})
    assert "const int height = 4 + p.set;" in text


def test_windows_between_attention(tmp_path: Path) -> None:
    onnx.save(of_steps(), tmp_path / "net.onnx")
    rng = np.random.default_rng(2)
    sizes = (70, 1, 2, 3, 12, 13, 33, 64, 69)
    text = compare(
        tmp_path / "net.onnx", "1x1..70x8", {n: {"x": rng.standard_normal((1, n, 8)).astype(np.float32)} for n in sizes}
    )
    assert "extent" in text


def test_attention_before_strides(tmp_path: Path) -> None:
    """The number of steps behind the windows is another; tests/test_picture_lengths.py has these in front."""
    made = of_steps()
    del made.graph.node[6:]
    made.graph.node[5].attribute.append(helper.make_attribute("strides", [2]))
    made.graph.node[5].output[0] = "states"
    onnx.save(made, tmp_path / "net.onnx")
    rng = np.random.default_rng(3)
    asked = {n: {"x": rng.standard_normal((1, n, 8)).astype(np.float32)} for n in (70, 2, 3, 13, 64, 65, 69)}
    assert "move_pixels(" in compare(tmp_path / "net.onnx", "1x2..70x8", asked)


def test_what_is_cut_off_is_not_computed() -> None:
    """But where more is cut than pads add, or something else reads it."""

    def pads(slices: tuple[int, int], outputs: list[str]) -> list[int] | None:
        nodes = [
            node("Conv", ["x", "w"], ["c"], "conv", pads=[4, 3], strides=[2]),
            node("Slice", ["c", "starts", "ends", "two"], ["y"], "cut"),
            node("Relu", ["y"], ["z"]),
        ]
        made = model(nodes, {"x": [1, 4, 20]}, outputs, w=weights(4, 4, 3), starts=np.int64([slices[0]]),
                     ends=np.int64([slices[1]]), two=np.int64([2]))  # fmt: skip
        graph = clean_graph(made, {"x": (1, 4, 20)})[1]
        less = trimmed(graph)
        assert [n.op for n in replace(less, nodes=less.nodes[:1]).nodes] == ["Conv"]
        return less.nodes[0].attrs["pads"] if len(less.nodes) < len(graph.nodes) else None

    assert pads((1, -1), ["z"]) == [2, 1] and pads((2, 2**62), ["z"]) == [0, 3]
    assert pads((0, -2), ["z"]) is None and pads((3, 2**62), ["z"]) is None
    assert pads((1, -1), ["z", "c"]) is None
