"""One side of a picture, behind windows with strides, as a length: attention and recurrent layers along it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from exact_memory import selftest_with_checks
from onnx import ModelProto, NodeProto, TensorProto, helper
from shape_bundles import close, expected
from test_open_batch import model

import dlpack
from dlpack.errors import UnsupportedError
from dlpack.meaning.open_batch import opened_batch
from dlpack.pipeline import Options, build

node = helper.make_node


def weights(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(sum(shape))
    return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def attention(x: str, y: str, mask: str = "") -> list[NodeProto]:
    """Attention of two heads over the rows of x [1, n, 16], added to it."""
    return [
        *(node("MatMul", [x, f"w{k}"], [f"{y}_{k}0"], f"{y}_{k}") for k in "qkv"),
        *(node("Reshape", [f"{y}_{k}0", "heads"], [f"{y}_{k}1"], f"{y}_{k}_heads") for k in "qkv"),
        *(node("Transpose", [f"{y}_{k}1"], [f"{y}_{k}"], f"{y}_{k}_turned", perm=[0, 2, 3, 1] if k == "k"
               else [0, 2, 1, 3]) for k in "qkv"),
        node("MatMul", [f"{y}_q", f"{y}_k"], [f"{y}_s0"], f"{y}_scores"),
        *([node("Add", [f"{y}_s0", mask], [f"{y}_s1"], f"{y}_masked")] if mask else []),
        node("Softmax", [f"{y}_s1" if mask else f"{y}_s0"], [f"{y}_s"], f"{y}_softmax", axis=-1),
        node("MatMul", [f"{y}_s", f"{y}_v"], [f"{y}_o0"], f"{y}_values"),
        node("Transpose", [f"{y}_o0"], [f"{y}_o1"], f"{y}_back", perm=[0, 2, 1, 3]),
        node("Reshape", [f"{y}_o1", "together"], [f"{y}_o"], f"{y}_joined"),
        node("Add", [f"{y}_o", x], [y], f"{y}_added"),
    ]  # fmt: skip


def speech() -> ModelProto:
    """A sound's windows with strides, then a Conformer's blocks: positions and a causal mask that are made of the
    number of steps, attention, windows by channel between, attention again; classes, the last step, a mean, the step
    with the largest value, the steps from the second on."""
    made = model(
        [
            node("Conv", ["sound", "w0"], ["a0"], "front", strides=[3]),
            node("Relu", ["a0"], ["a1"]),
            node("Conv", ["a1", "w1"], ["a2"], "half", strides=[2], pads=[1, 1]),
            node("Transpose", ["a2"], ["a"], "steps_first", perm=[0, 2, 1]),
            node("Shape", ["a"], ["shape"], "shape"),
            node("Gather", ["shape", "one0"], ["n"], "count"),
            node("Range", ["zero0", "n", "one0"], ["all"], "all"),
            node("Cast", ["all"], ["all1"], to=TensorProto.FLOAT),
            node("Unsqueeze", ["all1", "one"], ["column"], "column"),
            node("Mul", ["column", "rates"], ["angles"], "angles"),
            node("Sin", ["angles"], ["places"], "places"),
            node("Add", ["a", "places"], ["b"], "placed"),
            node("Unsqueeze", ["all1", "zero"], ["row"], "row"),
            node("Less", ["column", "row"], ["later"], "later"),
            node("Where", ["later", "low", "none"], ["mask"], "mask"),
            *attention("b", "c", "mask"),
            node("Transpose", ["c"], ["d0"], perm=[0, 2, 1]),
            node("Conv", ["d0", "w2"], ["d1"], "by_channel", group=16, pads=[2, 2]),
            node("Sigmoid", ["d1"], ["d2"]),
            node("Transpose", ["d2"], ["d"], perm=[0, 2, 1]),
            node("Mul", ["c", "d"], ["e0"], "gated"),
            node("LayerNormalization", ["e0", "gain"], ["e"], "norm"),
            *attention("e", "f"),
            node("MatMul", ["f", "wc"], ["scores"], "classes"),
            node("LogSoftmax", ["scores"], ["classes"], axis=-1),
            node("Gather", ["f", "minus"], ["last"], "last", axis=1),
            node("ReduceMean", ["f"], ["mean"], "mean", axes=[1], keepdims=0),
            node("ArgMax", ["f"], ["peak"], "peak", axis=1, keepdims=0),
            node("Slice", ["f", "one", "end", "one"], ["rest"], "rest"),
        ],
        {"sound": [1, 2, "n"]},
        ["classes", "last", "mean", "peak", "rest"],
        w0=weights(16, 2, 5), w1=weights(16, 16, 3), w2=weights(16, 1, 5), wq=weights(16, 16), wk=weights(16, 16),
        wv=weights(16, 16), wc=weights(16, 7), rates=np.float32(np.arange(16) / 9), gain=np.ones(16, np.float32),
        heads=np.int64([0, -1, 2, 8]), together=np.int64([0, -1, 16]), zero=np.int64([0]), one=np.int64([1]),
        zero0=np.int64(0), one0=np.int64(1), low=np.float32(-1e9), none=np.float32(0), minus=np.int64(-1),
        end=np.int64([2**62]),
    )  # fmt: skip
    made.graph.output[3].type.tensor_type.elem_type = TensorProto.INT64
    return made


def words() -> ModelProto:
    """What reads lines of text: a picture of fixed height whose columns an LSTM goes along, in both directions, then
    windows and a GRU."""
    return model(
        [
            node("Conv", ["sound", "w0"], ["a0"], "first", pads=[1] * 4),
            node("Relu", ["a0"], ["a1"]),
            node("MaxPool", ["a1"], ["a2"], "quarter", kernel_shape=[2, 2], strides=[2, 2]),
            node("Conv", ["a2", "w1"], ["a3"], "second", pads=[1] * 4),
            node("MaxPool", ["a3"], ["a4"], "lower", kernel_shape=[4, 1], strides=[4, 1]),
            node("Squeeze", ["a4", "two"], ["a"], "columns"),
            node("Transpose", ["a"], ["steps"], "steps", perm=[2, 0, 1]),
            node("LSTM", ["steps", "wl", "rl"], ["l0"], "lstm", hidden_size=8, direction="bidirectional"),
            node("Transpose", ["l0"], ["l1"], perm=[0, 2, 1, 3]),
            node("Reshape", ["l1", "flat"], ["l"], "both_ways"),
            node("Transpose", ["l"], ["c0"], perm=[1, 2, 0]),
            node("Conv", ["c0", "w2"], ["c1"], "joined", pads=[1, 1], strides=[2]),
            node("Transpose", ["c1"], ["c"], perm=[2, 0, 1]),
            node("GRU", ["c", "wg", "rg"], ["g0", "gh"], "gru", hidden_size=6, direction="reverse"),
            node("Squeeze", ["g0", "one"], ["g"]),
            node("LogSoftmax", ["l"], ["classes"], axis=2),
        ],
        {"sound": [1, 1, 8, "n"]},
        ["classes", "g", "gh"],
        w0=weights(8, 1, 3, 3), w1=weights(16, 8, 3, 3), w2=weights(16, 16, 3), wl=weights(2, 32, 16),
        rl=weights(2, 32, 8), wg=weights(1, 18, 16), rg=weights(1, 18, 6), two=np.int64([2]), one=np.int64([1]),
        flat=np.int64([0, 0, -1]),
    )  # fmt: skip


MODELS: dict[str, tuple[Callable[[], ModelProto], str, tuple[int, ...]]] = {
    "speech": (speech, "1x2x{11..400}", (400, 11, 12, 17, 61, 101, 131, 191, 383, 384, 385, 397, 11)),
    "words": (words, "1x1x8x{4..150}", (150, 4, 5, 7, 13, 64, 65, 127, 128, 149, 4)),
}


def bundle_of(name: str, folder: Path, **more: object) -> Path:
    made, shape, _ = MODELS[name]
    onnx.save(made(), folder / "net.onnx")
    (closed,), batch = opened_batch([f"sound={shape}"])
    first = tuple(map(int, closed.partition("=")[2].split("x")))
    return build(folder / "net.onnx", folder / "net", Options(shapes={"sound": first}, batch=batch, **more))  # type: ignore[arg-type]


def question(name: str, size: int) -> dict[str, np.ndarray]:
    shape = [int(d) if d.isdigit() else size for d in MODELS[name][1].split("x")]
    return {"sound": np.random.default_rng(size).standard_normal(shape).astype(np.float32)}


@pytest.mark.parametrize("name", MODELS)
def test_along_one_side(name: str, tmp_path: Path) -> None:
    """With what a longer one has left in memory."""
    bundle = bundle_of(name, tmp_path, threads=2)
    with dlpack.load(bundle) as predictor:
        for size in MODELS[name][2]:
            close(predictor.run(question(name, size)), expected(tmp_path / "net.onnx", question(name, size)))


@pytest.mark.parametrize("height", [4, 8, 20])
def test_one_row_of_tiles(height: int, tmp_path: Path) -> None:
    """Lines of text whose last convolutions have a single row of tiles, or of pixels: a tile's number is its column."""
    size = [1, 3, height, "n"]
    nodes = [
        node("Conv", ["sound", "w0"], ["a"], "half", pads=[1] * 4, strides=[2, 2]),
        node("Conv", ["a", "w1"], ["b"], "quarter", pads=[1] * 4, strides=[2, 2]),
        node("Conv", ["b", "w2"], ["c"], "third", pads=[1] * 4),
        node("Relu", ["c"], ["d"]),
        node("Conv", ["d", "w2"], ["y"], "last", pads=[1] * 4),
    ]
    made = model(nodes, {"sound": size}, ["y"], w0=weights(16, 3, 3, 3), w1=weights(32, 16, 3, 3),
                 w2=weights(32, 32, 3, 3))  # fmt: skip
    onnx.save(made, tmp_path / "net.onnx")
    (_,), batch = opened_batch([f"sound=1x3x{height}x{{8..90}}"])
    bundle = build(tmp_path / "net.onnx", tmp_path / "net", Options(shapes={"sound": (1, 3, height, 8)}, batch=batch))
    with dlpack.load(bundle) as predictor:
        for width in (8, 9, 17, 61, 90, 13):
            data = {"sound": np.random.default_rng(width).standard_normal((1, 3, height, width)).astype(np.float32)}
            close(predictor.run(data), expected(tmp_path / "net.onnx", data))


@pytest.mark.parametrize("target", ["linux-arm64", "x86-64-v3", "wasm"])
def test_other_machines(target: str, tmp_path: Path) -> None:
    """A build verifies the bounds and lengths between, where the machine can be emulated."""
    bundle_of("speech", tmp_path, target=target)


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_read_or_written_outside(name: str, tmp_path: Path) -> None:
    bundle = bundle_of(name, tmp_path)
    shapes = [question(name, size)["sound"].shape for size in MODELS[name][2][:5]]
    selftest_with_checks(bundle / "net.cc", tmp_path, shapes)


def test_what_still_cannot_be_done_is_named(tmp_path: Path) -> None:
    made = model(
        [
            node("Conv", ["x", "w"], ["a"], "half", strides=[2]),
            node("Hardmax", ["a"], ["y"], "hard", axis=2),
        ],
        {"x": [1, 4, "n"]},
        ["y"],
        w=weights(4, 4, 3),
    )
    onnx.save(made, tmp_path / "net.onnx")
    _, batch = opened_batch(["x=1x4x{5..40}"])
    with pytest.raises(UnsupportedError, match="Hardmax 'hard' is no operator that is known"):
        build(tmp_path / "net.onnx", tmp_path / "net", Options(shapes={"x": (1, 4, 5)}, batch=batch))
