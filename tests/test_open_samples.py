"""A batch that is open beside a length or the sides of a picture: `--shape ids={1..5}x{1..40}:int64`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import test_open_pictures as pictures
from exact_memory import Native, check, selftest_with_checks
from onnx import ModelProto, TensorProto, helper
from shape_bundles import close, expected
from test_open_batch import model
from test_shapes_wasm import in_node

import dlpack
from dlpack.errors import UnsupportedError, UsageError
from dlpack.meaning.open_batch import Bounds, opened_batch
from dlpack.meaning.shape_sets import sets_of
from dlpack.pipeline import Options, build

node = helper.make_node
SIZES = ((5, 40), (1, 1), (1, 40), (5, 1), (2, 13), (3, 31), (4, 32), (5, 33), (1, 17), (3, 2))


def weights(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(sum(shape))
    return (rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)


def texts() -> ModelProto:
    """Attention with a mask over embedded tokens, positions counted from the mask and from the length, the mean of the
    tokens that are not masked, the last token, an LSTM in both directions; an input that has the batch alone, and one
    that all share."""
    return model(
        [
            node("Gather", ["words", "ids"], ["e0"], "embed"),
            node("CumSum", ["mask", "row"], ["places"], "running"),
            node("Gather", ["later", "places"], ["e1"], "by_running_sum"),
            node("Add", ["e0", "e1"], ["e2"], "both"),
            node("Unsqueeze", ["topic", "row1"], ["topic1"], "one_topic"),
            node("Mul", ["topic1", "scale"], ["topic2"], "scaled"),
            node("Add", ["e2", "topic2"], ["x"], "embedded"),
            *(node("MatMul", ["x", f"w{k}"], [f"{k}0"], k) for k in "qkv"),
            *(node("Reshape", [f"{k}0", "heads"], [f"{k}1"], f"{k}_heads") for k in "qkv"),
            node("Transpose", ["k1"], ["kt"], "turn_k", perm=[0, 2, 3, 1]),
            *(node("Transpose", [f"{k}1"], [f"{k}t"], f"turn_{k}", perm=[0, 2, 1, 3]) for k in "qv"),
            node("MatMul", ["qt", "kt"], ["products"], "products"),
            node("Unsqueeze", ["mask", "inner"], ["m0"], "heads_mask"),
            node("Cast", ["m0"], ["m1"], "seen", to=TensorProto.FLOAT),
            node("Sub", ["unit", "m1"], ["m2"], "hidden"),
            node("Mul", ["m2", "low"], ["m"], "bias"),
            node("Add", ["products", "m"], ["scores"], "scores"),
            node("Softmax", ["scores"], ["attention"], "softmax", axis=-1),
            node("MatMul", ["attention", "vt"], ["mixed"], "mixed"),
            node("Transpose", ["mixed"], ["back"], "back", perm=[0, 2, 1, 3]),
            node("Reshape", ["back", "together"], ["joined"], "joined"),
            node("Add", ["joined", "x"], ["states"], "states"),
            node("Unsqueeze", ["mask", "last"], ["column"], "column"),
            node("Cast", ["column"], ["counted"], "counted", to=TensorProto.FLOAT),
            node("Mul", ["states", "counted"], ["kept"], "kept"),
            node("ReduceSum", ["kept", "row1"], ["sum"], "sum", keepdims=0),
            node("ReduceSum", ["counted", "row1"], ["count"], "count", keepdims=0),
            node("Div", ["sum", "count"], ["mean"], "mean"),
            node("ReduceMean", ["states"], ["average"], "average", axes=[1], keepdims=0),
            node("Gather", ["states", "minus"], ["end"], "end", axis=1),
            node("Transpose", ["states"], ["steps"], "steps", perm=[1, 0, 2]),
            node("LSTM", ["steps", "wl", "rl"], ["l0"], "lstm", hidden_size=6, direction="bidirectional"),
            node("Transpose", ["l0"], ["l1"], perm=[2, 0, 1, 3]),
            node("Reshape", ["l1", "both_ways"], ["tags"], "tags"),
        ],
        {**{name: (["b", "s"], TensorProto.INT64) for name in ("ids", "mask")}, "topic": ["b", 24], "scale": [1]},
        ["states", "mean", "average", "end", "tags"],
        words=weights(23, 24), later=weights(41, 24), wq=weights(24, 24), wk=weights(24, 24), wv=weights(24, 24),
        wl=weights(2, 24, 24), rl=weights(2, 24, 6), row=np.int64(1), row1=np.int64([1]), unit=np.float32(1),
        low=np.float32(-1e4), inner=np.int64([1, 2]), last=np.int64([2]), minus=np.int64(-1),
        heads=np.int64([0, -1, 3, 8]), together=np.int64([0, -1, 24]), both_ways=np.int64([0, 0, 12]),
    )  # fmt: skip


def question(samples: int, length: int) -> dict[str, np.ndarray]:
    """Of the k-th sample the last part of the tokens is masked, another one in each."""
    rng = np.random.default_rng(100 * samples + length)
    seen = np.maximum(1, length - np.arange(samples) * length // 6)
    return {
        "ids": rng.integers(0, 23, (samples, length)),
        "mask": (np.arange(length) < seen[:, None]).astype(np.int64),
        "topic": rng.standard_normal((samples, 24)).astype(np.float32),
        "scale": np.float32([0.5]),
    }


def options(**more: object) -> Options:
    given = ["ids={1..5}x{1..40}", "mask={1..5}x{1..40}", "topic={1..5}x24", "scale=1"]
    closed, batch = opened_batch(given)
    shapes = {name: tuple(map(int, dims.split("x"))) for name, _, dims in (c.partition("=") for c in closed)}
    return Options(shapes=shapes, batch=batch, ranges={"ids": (0, 22), "mask": (1, 1)}, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("samples") / "net.onnx"
    onnx.save(texts(), path)
    return path


@pytest.fixture(scope="module")
def native(net: Path) -> Path:
    return build(net, net.parent / "native", options(threads=2))


def test_python_takes_any_number_of_texts(net: Path, native: Path) -> None:
    """With what more and longer texts have left in memory."""
    with dlpack.load(native) as predictor:
        for size in SIZES:
            close(predictor.run(question(*size)), expected(net, question(*size)))
        with pytest.raises(ValueError, match=r"ids 6x1.* ids 1x1, .* to ids 5x40"):
            predictor.run(question(6, 1))


def test_working_memory_is_that_of_one_text(net: Path, native: Path) -> None:
    """So that only inputs and outputs depend on how many there are."""
    manifest = json.loads((native / "manifest.json").read_text())
    assert [d["largest"] for d in manifest["open"]["dimensions"]] == [40, 5]
    assert manifest["open"]["inputs"]["topic"] == {"0": {"dimension": 1}}
    assert len(sets_of(manifest)) == 200
    library = Native(native)
    sizes = [library.of_shape("memory_size_for", *size) for size in ((1, 40), (5, 40))]
    outputs = 40 * 24 + 24 + 24 + 24 + 40 * 12
    assert 4 * 4 * outputs < sizes[1] - sizes[0] < 4 * 4 * outputs + 4 * 4096


def test_nothing_is_read_or_written_outside(native: Path, tmp_path: Path) -> None:
    selftest_with_checks(native / "net.cc", tmp_path, SIZES)


def test_c_takes_texts_up_to_its_memory(native: Path) -> None:
    library = Native(native)
    check(library, [(1, 1), (2, 1), (1, 17), (3, 20), (1, 40), (5, 40)], question)


@pytest.mark.parametrize("target", ["linux-arm64", "linux-riscv64"])
def test_other_machines(net: Path, tmp_path: Path, target: str) -> None:
    """A build verifies the corners and sizes between, where the machine can be emulated."""
    build(net, tmp_path / "bundle", options(target=target))


def test_javascript_takes_any_number_of_texts(net: Path, tmp_path: Path) -> None:
    """The input that has the batch alone says how many texts so many tokens are."""
    bundle = build(net, tmp_path / "web", options(target="wasm"))
    cases = [question(*size) for size in ((2, 20), (5, 8), (1, 40), (4, 10))]
    for given, got in zip(cases, in_node(bundle, tmp_path, cases), strict=True):
        close(got, expected(net, given))


@pytest.mark.parametrize("name", ["classifier", "segmenter"])
def test_pictures_of_any_size_in_a_batch(name: str, tmp_path: Path) -> None:
    made = getattr(pictures, name)()
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(made, tmp_path / "net.onnx")
    (closed,), batch = opened_batch(["image={1..3}x3x{16..32/4}x{20..40/4}"])
    first = tuple(map(int, closed.partition("=")[2].split("x")))
    bundle = build(tmp_path / "net.onnx", tmp_path / "net", Options(shapes={"image": first}, batch=batch))
    with dlpack.load(bundle) as predictor:
        for n, height, width in (
            (3, 32, 40),
            (1, 16, 20),
            (3, 16, 40),
            (1, 32, 20),
            (2, 20, 24),
            (3, 28, 36),
            (1, 24, 40),
        ):
            rng = np.random.default_rng(n * height * width)
            given = {"image": rng.standard_normal((n, 3, height, width)).astype(np.float32)}
            close(predictor.run(given), expected(tmp_path / "net.onnx", given))


def test_which_dimension_is_which() -> None:
    """That of the batch comes last, also of inputs that have it alone."""
    _, batch = opened_batch(["a={1..4}x3x{1..9}", "b={1..9}", "c={1..4}", "d=2x{1..9}", "e=7"])
    assert batch is not None and batch.bounds == (Bounds(1, 9), Bounds(1, 4)) and batch.of_samples
    assert batch.dims == {"a": (2, 0), "b": (0, -1), "c": (-1, 0), "d": (1, -1)}
    assert batch.of_one.dims == {"a": (2,), "b": (0,), "d": (1,)}
    assert opened_batch(["a={1..4}x3x{1..9}x{2..5}"])[1].tried()[-1] == 4 * 9 * 4 - 1  # type: ignore[union-attr]
    for wrong in (["a={1..4}x3x{1..9}", "b={1..5}"], ["a=3x{1..4}x{1..4}x{1..4}"]):
        with pytest.raises(UsageError, match=r"the same open dimensions|two dimensions of an input may be open"):
            opened_batch(wrong)


def test_samples_that_depend_on_others_are_named(tmp_path: Path) -> None:
    made = model(
        [
            node("ReduceMean", ["x"], ["m"], "over_all", axes=[0], keepdims=1),
            node("Sub", ["x", "m"], ["d"], "centred"),
            node("Transpose", ["d"], ["t"], perm=[0, 2, 1]),
            node("MatMul", ["d", "t"], ["s"], "scores"),
            node("MatMul", ["s", "d"], ["y"], "mixed"),
        ],
        {"x": ["b", "n", 8]},
        ["y"],
    )
    onnx.save(made, tmp_path / "net.onnx")
    _, batch = opened_batch(["x={1..4}x{1..9}x8"])
    with pytest.raises(
        UnsupportedError, match="no batch of independent samples: ReduceMean 'over_all' reduces over it"
    ):
        build(tmp_path / "net.onnx", tmp_path / "net", Options(shapes={"x": (1, 1, 8)}, batch=batch))
