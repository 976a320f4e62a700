"""All pixels of a picture of any size as one dimension: attention, softmax and normalisation over whole pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from exact_memory import selftest_with_checks
from onnx import ModelProto, NodeProto, helper
from shape_bundles import close, expected
from test_open_pictures import net, options, question, weights

import dlpack
from dlpack.errors import UnsupportedError
from dlpack.pipeline import build

node = helper.make_node
SIZES = ((3, 4), (13, 11), (3, 11), (13, 4), (7, 9), (8, 8), (13, 5), (5, 7), (11, 11), (4, 4), (12, 10))
"""Corners, primes, and as many pixels as around the 64 and 128 that sums in vectors go up to."""


def attention(x: str, y: str, channels: int, heads: int = 1, few: str = "") -> list[NodeProto]:
    """Self-attention over the pixels of `x`, added to it: as exports of torch write it. Weights are w{q,k,v}. `few`:
    keys and values are of a quarter of the pixels, of that name."""
    each = channels // heads
    nodes = [node("Shape", [x], [f"{y}_shape"], f"{y}_shape")]
    nodes += [node("MaxPool", [x], [few], few, kernel_shape=[2, 2], strides=[2, 2])] if few else []
    for k, perm in (("q", [0, 1, 3, 2]), ("k", None), ("v", [0, 1, 3, 2])):
        flat = f"{y}_{k}"
        nodes += [
            node("Conv", [few if few and k != "q" else x, f"w{k}"], [f"{flat}0"], f"{flat}_conv"),
            node("Reshape", [f"{flat}0", f"flat{each}"], [f"{flat}1" if perm else flat], f"{flat}_flat"),
        ]
        nodes += [node("Transpose", [f"{flat}1"], [flat], f"{flat}_turned", perm=perm)] if perm else []
    return [
        *nodes,
        node("MatMul", [f"{y}_q", f"{y}_k"], [f"{y}_s0"], f"{y}_scores"),
        node("Mul", [f"{y}_s0", "scale"], [f"{y}_s1"], f"{y}_scaled"),
        node("Softmax", [f"{y}_s1"], [f"{y}_s"], f"{y}_softmax", axis=-1),
        node("MatMul", [f"{y}_s", f"{y}_v"], [f"{y}_o0"], f"{y}_values"),
        node("Transpose", [f"{y}_o0"], [f"{y}_o1"], f"{y}_back", perm=[0, 1, 3, 2]),
        node("Reshape", [f"{y}_o1", f"{y}_shape"], [f"{y}_o"], f"{y}_apart"),
        node("Add", [f"{y}_o", x], [y], f"{y}_added"),
    ]


def attentions() -> ModelProto:
    """A convolutional network with self-attention over its pixels, of one head and of four, at two resolutions,
    and of one to the other."""
    return net(
        [
            node("Conv", ["image", "w0"], ["a"], "first", pads=[1] * 4),
            *attention("a", "b", 16),
            node("Conv", ["b", "w1"], ["c"], "half", pads=[1] * 4, strides=[2, 2]),
            node("Relu", ["c"], ["d"], "relu"),
            *attention("d", "e", 16, 4),
            *attention("e", "f", 16, 2, few="fewer"),
            node("Conv", ["f", "w2"], ["map"], "last", pads=[1] * 4),
        ],
        ["map"], [4],
        w0=weights(16, 3, 3, 3), w1=weights(16, 16, 3, 3), w2=weights(4, 16, 3, 3), wq=weights(16, 16, 1, 1),
        wk=weights(16, 16, 1, 1) + np.float32(0.1), wv=weights(16, 16, 1, 1), scale=np.float32(0.5),
        flat16=np.int64([0, 1, 16, -1]), flat8=np.int64([0, 2, 8, -1]), flat4=np.int64([0, 4, 4, -1]),
    )  # fmt: skip


def contexts() -> ModelProto:
    """A softmax over all pixels that weighs them (global context), one whose map is an output, a transformer's block
    between convolutions with a mean over its pixels, and what is joined along channels meanwhile."""
    return net(
        [
            node("Conv", ["image", "w0"], ["a"], "first", pads=[1] * 4),
            node("Conv", ["a", "w1"], ["b"], "key"),
            node("Reshape", ["b", "one"], ["c"], "key_flat"),
            node("Softmax", ["c"], ["d"], "key_softmax", axis=2),
            node("Transpose", ["d"], ["e"], "key_turned", perm=[0, 2, 1]),
            node("Reshape", ["a", "flat"], ["f"], "flat"),
            node("MatMul", ["f", "e"], ["context"], "context"),
            node("Reshape", ["d", "b_shape"], ["where"], "where"),
            node("Shape", ["b"], ["b_shape"], "b_shape"),
            node("Transpose", ["f"], ["g"], "turned", perm=[0, 2, 1]),
            node("LayerNormalization", ["g", "gain", "shift"], ["h"], "rows"),
            node("MatMul", ["h", "w2"], ["i"], "wide"),
            node("Sigmoid", ["i"], ["j"], "gate"),
            node("Mul", ["i", "j"], ["k"], "swish"),
            node("MatMul", ["k", "w3"], ["l"], "narrow"),
            node("Concat", ["g", "l"], ["m"], "joined", axis=2),
            node("ReduceMean", ["m"], ["mean"], "mean", axes=[1], keepdims=0),
            node("ReduceMax", ["m"], ["most"], "most", axes=[1], keepdims=0),
            node("Transpose", ["m"], ["n"], "channels", perm=[0, 2, 1]),
            node("Shape", ["a"], ["sides"], "sides", start=2, end=4),
            node("Concat", ["front", "sides"], ["shape"], "shape", axis=0),
            node("Reshape", ["n", "shape"], ["o"], "apart"),
            node("Conv", ["o", "w4"], ["map"], "last", pads=[1] * 4),
        ],
        ["context", "where", "mean", "most", "k", "map"], [3, 4, 2, 2, 3, 4],
        w0=weights(16, 3, 3, 3), w1=weights(1, 16, 1, 1) * 3, w2=weights(16, 40), w3=weights(40, 16),
        w4=weights(4, 32, 3, 3), one=np.int64([0, 1, -1]), flat=np.int64([0, 16, -1]), front=np.int64([1, 32]),
        gain=np.float32(np.arange(16) / 9), shift=np.ones(16, np.float32),
    )  # fmt: skip


def gates() -> ModelProto:
    """What attention without products has: scales by channel from means and maxima over pixels (CBAM), by pixel from
    means and maxima over channels, by row and by column; and means and deviations of whole pictures."""
    whole = {"axes": [1, 2, 3], "keepdims": 1}
    return net(
        [
            node("Conv", ["image", "w0"], ["a"], "first", pads=[1] * 4),
            node("GlobalAveragePool", ["a"], ["b0"], "mean_of_channels"),
            node("GlobalMaxPool", ["a"], ["b1"], "most_of_channels"),
            node("Conv", ["b0", "w1"], ["b2"], "squeeze0"),
            node("Conv", ["b1", "w1"], ["b3"], "squeeze1"),
            node("Add", ["b2", "b3"], ["b4"], "both"),
            node("Sigmoid", ["b4"], ["b5"], "gate"),
            node("Mul", ["a", "b5"], ["b"], "by_channel"),
            node("ReduceMean", ["b"], ["c0"], "mean_of_pixels", axes=[1], keepdims=1),
            node("ReduceMax", ["b"], ["c1"], "most_of_pixels", axes=[1], keepdims=1),
            node("Concat", ["c0", "c1"], ["c2"], "joined", axis=1),
            node("Conv", ["c2", "w2"], ["c3"], "window", pads=[3] * 4),
            node("Sigmoid", ["c3"], ["c4"], "where"),
            node("Mul", ["b", "c4"], ["c"], "by_pixel"),
            node("ReduceMean", ["c"], ["d0"], "rows", axes=[3], keepdims=1),
            node("ReduceMean", ["c"], ["d1"], "columns", axes=[2], keepdims=1),
            node("Add", ["d0", "d1"], ["d2"], "cross"),
            node("Mul", ["c", "d2"], ["d"], "by_cross"),
            node("LayerNormalization", ["d", "gain", "shift"], ["e"], "whole", axis=1),
            node("ReduceMean", ["e"], ["f0"], "mean", **whole),
            node("Sub", ["e", "f0"], ["f1"], "centred"),
            node("Mul", ["f1", "f1"], ["f2"], "square"),
            node("ReduceMean", ["f2"], ["variance"], "variance", **whole),
            node("ReduceMax", ["f1"], ["peak"], "peak", **whole),
            node("ReduceL2", ["e"], ["length"], "length", axes=[1, 2, 3], keepdims=0),
            node("Conv", ["f1", "w3"], ["map"], "last", pads=[1] * 4),
        ],
        ["variance", "peak", "length", "map"], [4, 4, 1, 4],
        w0=weights(12, 3, 3, 3), w1=weights(12, 12, 1, 1), w2=weights(1, 2, 7, 7), w3=weights(4, 12, 3, 3),
        gain=np.float32(np.arange(12) / 7).reshape(12, 1, 1), shift=np.ones((12, 1, 1), np.float32),
    )  # fmt: skip


MODELS: dict[str, Callable[[], ModelProto]] = {"attentions": attentions, "contexts": contexts, "gates": gates}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dims", ["{3..13}x{4..11}", "{3..13}x11", "13x{4..11}"])
def test_pixels_as_one_dimension(name: str, dims: str, tmp_path: Path) -> None:
    """With what a larger picture has left in memory, and with a side that is always the same."""
    onnx.save(MODELS[name](), tmp_path / "net.onnx")
    bundle = build(tmp_path / "net.onnx", tmp_path / "bundle", options(dims, verify=False))
    with dlpack.load(bundle) as predictor:
        for height, width in SIZES:
            fixed = dims.split("x")
            size = [int(own) if own.isdigit() else n for own, n in zip(fixed, (height, width), strict=True)]
            close(predictor.run(question(*size)), expected(tmp_path / "net.onnx", question(*size)))


@pytest.mark.parametrize("target", ["linux-arm64", "linux-riscv64", "x86-64-v3", "wasm"])
def test_pixels_on_other_machines(target: str, tmp_path: Path) -> None:
    """A build verifies corners and sizes between, where the machine can be emulated."""
    onnx.save(attentions(), tmp_path / "net.onnx")
    build(tmp_path / "net.onnx", tmp_path / "bundle", options("{3..13}x{4..11}", target=target))


def test_nothing_is_read_or_written_outside(tmp_path: Path) -> None:
    """In no more memory than sizes need, with the checks of gcc."""
    onnx.save(attentions(), tmp_path / "net.onnx")
    bundle = build(tmp_path / "net.onnx", tmp_path / "bundle", options("{3..13}x{4..11}"))
    selftest_with_checks(bundle / "net.cc", tmp_path, [(1, 3, *size) for size in ((3, 4), (8, 8), (13, 5), (13, 11))])


WRONG: list[tuple[list[NodeProto], dict[str, Any], Sequence[int], str]] = [
    (
        [node("Reshape", ["a", "flat"], ["b"], "flat"), node("Concat", ["b", "b"], ["y"], "twice", axis=2)],
        {},
        [3],
        "Concat 'twice' works along",
    ),
    (
        [
            node("Reshape", ["a", "flat"], ["b"], "flat"),
            node("ReduceMax", ["b"], ["c"], "most", axes=[1], keepdims=1),
            node("Unsqueeze", ["c", "last"], ["d"], "more"),
            node("ReduceMax", ["a"], ["e"], "rows", axes=[1, 3], keepdims=1),
            node("Transpose", ["e"], ["f"], "turned", perm=[0, 1, 3, 2]),
            node("Add", ["d", "f"], ["y"], "mixed"),
        ],
        {"last": np.int64([3])},
        [4],
        "Add 'mixed' computes with all pixels of a picture as one dimension and with another open one",
    ),
]


@pytest.mark.parametrize(("nodes", "more", "ranks", "why"), WRONG)
def test_what_cannot_be_done_is_named(
    nodes: list[NodeProto], more: dict[str, Any], ranks: Sequence[int], why: str, tmp_path: Path
) -> None:
    first = node("Conv", ["image", "w0"], ["a"], "first", pads=[1] * 4)
    model = net([first, *nodes], ["y"], ranks, w0=weights(8, 3, 3, 3), flat=np.int64([0, 8, -1]), **more)
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(UnsupportedError, match=why):
        build(tmp_path / "net.onnx", tmp_path / "bundle", options("{4..12}x{4..12}", target="source", verify=False))
