"""A batch that is open within bounds: `--shape image={1..23}x3x9x8`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from conftest import requires_tool
from emitted_files import STRICT
from emitted_files import run as run_cleanly
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from processes import run
from shape_bundles import close, expected
from test_shapes_wasm import in_node

import dlpack
from dlpack.cli import cli
from dlpack.errors import UnsupportedError, UsageError
from dlpack.graph.samples import MARKER, sample_dimensions
from dlpack.meaning.open_batch import Bounds, OpenBatch, opened_batch
from dlpack.meaning.shape_sets import sets_of, tried_sets
from dlpack.pipeline import Options, build
from dlpack.stages.prepare import clean_graph

LARGEST = 23
node = helper.make_node


def model(nodes: Sequence[NodeProto], inputs: dict[str, Any], outputs: Sequence[str], **weights: Any) -> ModelProto:
    """A model of inputs by name: a shape of float32, or (shape, type)."""
    rows = [(n, s if isinstance(s, tuple) else (s, TensorProto.FLOAT)) for n, s in inputs.items()]
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info(n, kind, shape) for n, (shape, kind) in rows],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def whole_net() -> ModelProto:
    """A picture's convolutions, attention over tokens with a class token and shapes computed at run time, and a GRU:
    outputs per sample, per token, and one that does not depend on the samples; an input that all samples share."""
    rng = np.random.default_rng(5)

    def weights(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)

    return model(
        [
            node("Conv", ["image", "w0"], ["c0"], "stem", pads=[1, 1, 1, 1]),
            node("Relu", ["c0"], ["r0"], "relu"),
            node("MaxPool", ["r0"], ["p0"], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
            node("Flatten", ["p0"], ["flat"], "flatten"),
            node("Gemm", ["flat", "w1", "b1"], ["picture"], "dense", transB=1),
            node("Mul", ["picture", "gain"], ["scores"], "gain"),
            node("Shape", ["ids"], ["sizes"], "sizes"),
            node("Gather", ["sizes", "zero"], ["count"], "count"),
            node("Gather", ["table", "ids"], ["words"], "embed"),
            node("Concat", ["count", "one", "width"], ["first"], "first", axis=0),
            node("Expand", ["token", "first"], ["tokens"], "token"),
            node("Concat", ["tokens", "words"], ["x"], "join", axis=1),
            node("LayerNormalization", ["x", "scale"], ["n"], "norm"),
            *(node("MatMul", ["n", f"w{k}"], [f"{k}0"], k) for k in "qkv"),
            node("Concat", ["count", "minus", "two", "half"], ["split"], "split", axis=0),
            *(node("Reshape", [f"{k}0", "split"], [f"{k}1"], f"heads_{k}") for k in "qkv"),
            *(node("Transpose", [f"{k}1"], [f"{k}2"], f"turn_{k}", perm=[0, 2, 1, 3]) for k in "qv"),
            node("Transpose", ["k1"], ["k2"], "turn_k", perm=[0, 2, 3, 1]),
            node("MatMul", ["q2", "k2"], ["products"], "products"),
            node("Softmax", ["products"], ["attention"], "softmax", axis=-1),
            node("MatMul", ["attention", "v2"], ["mixed"], "mixed"),
            node("Transpose", ["mixed"], ["back"], "back", perm=[0, 2, 1, 3]),
            node("Concat", ["count", "minus", "width"], ["joined"], "joined", axis=0),
            node("Reshape", ["back", "joined"], ["states"], "states"),
            node("Transpose", ["states"], ["steps"], "steps", perm=[1, 0, 2]),
            node("GRU", ["steps", "wg", "rg"], ["", "last"], "gru", hidden_size=5),
            node("Squeeze", ["last", "zero"], ["end"], "end"),
            node("Add", ["gain", "b1"], ["bias"], "bias"),
        ],
        {
            "image": ["n", 3, 9, 8],
            "ids": (["n", 4], TensorProto.INT64),
            "gain": [7],
        },
        ["scores", "states", "end", "bias"],
        w0=weights(6, 3, 3, 3), w1=weights(7, 120), b1=weights(7), table=weights(11, 8), token=weights(1, 1, 8),
        scale=weights(8), wq=weights(8, 8), wk=weights(8, 8), wv=weights(8, 8), wg=weights(1, 15, 8),
        rg=weights(1, 15, 5), zero=np.int64([0]), one=np.int64([1]), two=np.int64([2]), half=np.int64([4]),
        minus=np.int64([-1]), width=np.int64([8]),
    )  # fmt: skip


def options(**more: Any) -> Options:
    _, batch = opened_batch([f"image={{1..{LARGEST}}}x3x9x8", f"ids=1..{LARGEST}x4"])
    shapes = {"image": (1, 3, 9, 8), "ids": (1, 4)}
    return Options(shapes=shapes, batch=batch, ranges={"ids": (0, 10)}, **more)


def question(samples: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(samples)
    return {
        "image": rng.standard_normal((samples, 3, 9, 8)).astype(np.float32),
        "ids": rng.integers(0, 11, (samples, 4)),
        "gain": rng.standard_normal(7).astype(np.float32),
    }


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("open") / "net.onnx"
    onnx.save(whole_net(), path)
    return path


@pytest.fixture(scope="module")
def native(net: Path) -> Path:
    return build(net, net.parent / "native", options())


def test_python_takes_any_number_of_samples(net: Path, native: Path) -> None:
    """Each of them; one too many is an error that says what fits."""
    predictor = dlpack.load(native)
    steps = len(predictor.steps)
    for samples in [LARGEST, *range(1, LARGEST)]:
        close(predictor.run(question(samples)), expected(net, question(samples)))
        assert len(predictor.steps) == samples * steps
        assert predictor.steps == predictor.steps[:steps] * samples
    with pytest.raises(ValueError, match=r"image 24x3x9x8.* image 1x3x9x8, .* to image 23x3x9x8"):
        predictor.run(question(LARGEST + 1))


def test_the_manifest_has_a_rule_and_reference_the_tried_sizes(native: Path) -> None:
    manifest = dlpack.load(native).manifest
    assert [s["inputs"][0]["shape"][0] for s in sets_of(manifest)] == list(range(1, LARGEST + 1))
    assert [s["outputs"][3]["shape"] for s in sets_of(manifest)] == [[7]] * LARGEST
    tried = [s["inputs"][0]["shape"][0] for s in tried_sets(manifest)]
    assert tried == OpenBatch({}, (Bounds(1, LARGEST),)).bounds[0].tried() == [1, 2, 5, 11, 17, 23]
    assert "shapes" not in manifest and manifest["open"] == {
        "dimensions": [{"smallest": 1, "largest": LARGEST, "step": 1}],
        "inputs": {name: {"0": {"dimension": 0}} for name in ("image", "ids")},
        "outputs": {name: {"0": {"dimension": 0}} for name in ("scores", "states", "end")},
        "macs": LARGEST * manifest["macs"],
    }
    with np.load(native / "reference.npz") as stored:
        assert [stored[f"in_0_{k}" if k else "in_0"].shape[0] for k in range(len(tried))] == tried


PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "net.h"
#define CHECK(x) do { if (!(x)) { printf("line %d: %s\n", __LINE__, #x); return 1; } } while (0)
static int count = 0;
extern "C" {
void* __real_malloc(size_t);
void* __wrap_malloc(size_t n);
void* __wrap_malloc(size_t n) { return ++count, __real_malloc(n); }
}
static float image[23 * 216], gain[7], all[23 * 7];
static int64_t ids[23 * 4];

int main() {
  for (size_t i = 0; i < sizeof image / sizeof *image; ++i) image[i] = static_cast<float>(i * 37 % 101) / 50.0f - 1.0f;
  for (int i = 0; i < 23 * 4; ++i) ids[i] = i * 7 % 11;
  for (int i = 0; i < 7; ++i) gain[i] = static_cast<float>(i) - 3.5f;
  for (int32_t v = 0; v < net_variant_count(); ++v) {
    net::Predictor p;
    CHECK(p && net_shape_count() == 23 && p.shape() == 0);
    if (net_set_variant(p.get(), v) != NET_OK) continue;
    const int32_t each = net_step_count_of(p.get());
    CHECK(net_set_threads(p.get(), 2) == NET_OK && each > 0);
    count = 0;
    for (int64_t n = 23; n > 0; n -= 2) {
      const int64_t pictures[] = {n, 3, 9, 8}, rows[] = {n, 4};
      CHECK(p.reshape(0, pictures) == NET_OK && p.reshape(1, rows) == NET_OK && p.shape() == n - 1);
      CHECK(net_input_of(p.get(), 0)->bytes == sizeof(float) * 216 * static_cast<size_t>(n));
      CHECK(net_output_of(p.get(), 0)->shape[0] == n && net_output_of(p.get(), 3)->shape[0] == 7);
      CHECK(p.set_input(0, image, net_input_of(p.get(), 0)->bytes) == NET_OK);
      CHECK(p.bind_input(1, ids, net_input_of(p.get(), 1)->bytes) == NET_OK);
      CHECK(p.set_input(2, gain, sizeof gain) == NET_OK && p.run() == NET_OK);
      const size_t bytes = net_output_of(p.get(), 0)->bytes;
      if (n == 23) memcpy(all, p.output<float>(0), bytes);
      CHECK(memcmp(all, p.output<float>(0), bytes) == 0);  // a sample's scores do not depend on how many there are
      const int32_t steps = each * static_cast<int32_t>(n);
      CHECK(net_step_count_of(p.get()) == steps && net_step_name_of(p.get(), steps) == nullptr);
      memset(const_cast<float*>(p.output<float>(0)), 0, bytes);
      for (int32_t k = 0; k < steps; ++k) {
        CHECK(strcmp(net_step_name_of(p.get(), k), net_step_name_of(p.get(), k % each)) == 0);
        CHECK(net_run_step(p.get(), k) == NET_OK);
      }
      CHECK(net_run_step(p.get(), steps) == NET_BAD_ARGUMENT);
      CHECK(memcmp(all, p.output<float>(0), bytes) == 0);
    }
    const int64_t none[] = {0, 3, 9, 8}, many[] = {24, 3, 9, 8};
    CHECK(p.reshape(0, none) == NET_BAD_ARGUMENT && p.reshape(0, many) == NET_BAD_ARGUMENT && p.shape() == 0);
    CHECK(count == 0);
  }
  return 0;
}
"""


def test_c_reshapes_without_allocating(net: Path, tmp_path: Path) -> None:
    """With kernels for two machines and two threads, under sanitizers; the self-test runs the tried sizes."""
    bundle = build(net, tmp_path / "b", options(target="source", threads=2, target_options={"machine": "avx2,sse4"}))
    (tmp_path / "main.cc").write_text(PROGRAM)
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror", "-Wno-psabi", "-pthread"]
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-Wl,--wrap=malloc"]
    for extra, sources in (([*sanitize], ["main.cc", "b/net.cc"]), (["-DNET_SELFTEST"], ["b/net.cc"])):
        command = [requires_tool("g++"), *flags, *extra, "-I", bundle, *sources, "-o", "program"]
        done = run(command, cwd=tmp_path, limit_s=120)
        assert done.returncode == 0, done.stderr
        done = run([tmp_path / "program"], limit_s=60)
        assert done.returncode == 0, done.stdout + done.stderr


def test_kernels_that_threads_share_compile_without_warnings(tmp_path: Path) -> None:
    """A kernel whose rows are all shared goes by its part of them, and has no use for how many a run has."""
    rng = np.random.default_rng(3)
    nodes = [node("MatMul", ["x", "w"], ["y"]), node("Relu", ["y"], ["z"]), node("Softmax", ["z"], ["out"])]
    dense = model(nodes, {"x": ["n", 64]}, ["out"], w=rng.standard_normal((64, 48)).astype(np.float32))
    onnx.save(dense, tmp_path / "net.onnx")
    asked = Options(
        target="source",
        shapes={"x": (1, 64)},
        batch=opened_batch(["x={1..64}x64"])[1],
        threads=2,
        target_options={"machine": "avx2,scalar"},
        verify=False,
    )
    bundle = build(tmp_path / "net.onnx", tmp_path / "b", asked)
    assert "/*extent*/" in (bundle / "net.cc").read_text()
    run_cleanly(requires_tool("g++"), "-std=c++17", "-fsyntax-only", *STRICT, "-Wno-psabi", bundle / "net.cc")


def test_javascript_chooses_by_the_inputs(net: Path, tmp_path: Path) -> None:
    bundle = build(net, tmp_path / "wasm", options(target="wasm"))
    sizes = (1, 23, 7, 2)
    *found, wrong = in_node(bundle, tmp_path, [question(n) for n in (*sizes, 24)])
    for samples, outputs in zip(sizes, found, strict=True):
        close(outputs, expected(net, question(samples)))
    assert isinstance(wrong, str)


def examined(nodes: Sequence[NodeProto], **weights: Any) -> None:
    """Examines a network over x [n, 4, 6]."""
    proto = model(nodes, {"x": ["n", 4, 6]}, [nodes[-1].output[0]], **weights)
    sample_dimensions(clean_graph(proto, {"x": (MARKER, 4, 6)})[1], {"x": 0})


RAMP = np.arange(MARKER * 4 * 6, dtype=np.float32).reshape(MARKER, 4, 6)
ALIKE = np.repeat(RAMP[:1], MARKER, axis=0)


@pytest.mark.parametrize(
    ("nodes", "weights", "why"),
    [
        ([node("ReduceMean", ["x"], ["y"], "mean", axes=[0, 2])], {}, "ReduceMean 'mean' reduces over it"),
        ([node("ReduceMax", ["x"], ["y"], "most")], {}, "reduces over it"),
        ([node("Softmax", ["x"], ["y"], "soft", axis=0)], {}, "Softmax 'soft' works along it"),
        ([node("CumSum", ["x", "a"], ["y"], "sum")], {"a": np.int64(0)}, "CumSum 'sum'"),
        ([node("Reshape", ["x", "s"], ["y"], "mix")], {"s": np.int64([4, -1])}, "elements of different samples"),
        ([node("Add", ["x", "r"], ["y"], "add")], {"r": RAMP}, "Add 'add' treats the samples differently"),
        ([node("Concat", ["x", "x"], ["y"], "join", axis=0)], {}, "Concat 'join' joins along it"),
        ([node("Gather", ["x", "i"], ["y"], "pick")], {"i": np.int64([0, 1])}, "chooses among the samples"),
        ([node("Slice", ["x", "a", "b"], ["y"], "cut")], {"a": np.int64([1]), "b": np.int64([9])}, "cuts it"),
        (
            [
                node("Transpose", ["x"], ["rows"], perm=[1, 0, 2]),
                node("Transpose", ["x"], ["columns"], perm=[1, 2, 0]),
                node("MatMul", ["rows", "columns"], ["y"], "gram"),
            ],
            {},
            "MatMul 'gram' multiplies each sample by each",
        ),
        (
            [node("Transpose", ["x"], ["t"], perm=[1, 2, 0]), node("MatMul", ["t", "w"], ["y"], "sum")],
            {"w": np.ones((MARKER, 2), np.float32)},
            "MatMul 'sum' sums over it",
        ),
        (
            [node("Flatten", ["x"], ["f"]), node("Transpose", ["f"], ["t"]), node("MatMul", ["f", "t"], ["y"], "all")],
            {},
            "multiplies each sample by each",
        ),
        ([node("Transpose", ["x"], ["y"], "turn")], {}, "do not lie one after the other in 'y'"),
        ([node("Conv", ["t", "w"], ["y"], "conv")], {"w": RAMP[:5, :, :1]}, ""),
        ([node("NonZero", ["x"], ["z"]), node("Cast", ["z"], ["y"], to=1)], {}, "is no operator whose samples"),
    ],
)  # fmt: skip
def test_what_mixes_samples_is_refused(nodes: list[NodeProto], weights: dict[str, Any], why: str) -> None:
    if not why:  # the samples become channels
        nodes = [node("Transpose", ["x"], ["t"], perm=[1, 0, 2]), *nodes]
        weights, why = {"w": np.ones((5, MARKER, 1), np.float32)}, "Conv 'conv' takes the dimension for channels"
    with pytest.raises(UnsupportedError, match=why):
        examined(nodes, **weights)


@pytest.mark.parametrize(
    ("nodes", "weights"),
    [
        ([node("Add", ["x", "r"], ["y"], "add")], {"r": ALIKE}),
        ([node("Reshape", ["x", "s"], ["y"])], {"s": np.int64([-1, 2, 2, 6])}),
        ([node("Reshape", ["x", "s"], ["y"])], {"s": np.int64([-1, 6])}),
        ([node("Unsqueeze", ["x", "a"], ["y"])], {"a": np.int64([0, 2])}),
        ([node("Softmax", ["x"], ["y"], axis=1)], {}),
        ([node("Slice", ["x", "a", "b", "c"], ["y"])],
         {"a": np.int64([1]), "b": np.int64([9]), "c": np.int64([-1])}),
        ([node("Split", ["x"], ["y", "z"], axis=1)], {}),
        ([node("Pad", ["x", "p"], ["y"])], {"p": np.int64([0, 1, 0, 0, 0, 2])}),
    ],
)  # fmt: skip
def test_what_keeps_samples_apart(nodes: list[NodeProto], weights: dict[str, Any]) -> None:
    examined(nodes, **weights)


@pytest.mark.parametrize(
    ("shapes", "why"),
    [
        (["x={0..8}x3"], "0..8: the bounds are at least 1 and at most 65,536"),
        (["x={3..2}x3"], "the smaller first"),
        (["x={1..1}x3"], "the smaller first"),
        (["x={1..65537}x3"], "at most 65,536"),
        (
            ["x=3x{1..8}x{1..8}x{1..8}"],
            "two dimensions of an input may be open, and a batch before them; for others use",
        ),
        (["x={1..65536}x3x{1..65535}"], "4,294,901,760 sizes, and at most 2,147,483,647 are possible: give steps"),
        (["x={1..8}x3", "y={1..9}x3"], "different bounds"),
        (["x={1..8}x3", "x={1..8}x4"], "two dimensions of an input"),
    ],
)
def test_bounds_that_cannot_be(shapes: list[str], why: str) -> None:
    with pytest.raises(UsageError, match=why.replace("{", r"\{")):
        opened_batch(shapes)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"target": "cuda"}, "kernels for GPUs do not go together yet"),
        ({"target": "jetson-tx1"}, "kernels for GPUs do not go together yet"),
        ({"mxnet_api": True}, "MXNet's API do not go"),
        ({"more_shapes": ({"x": (2, 4)},)}, "several sets of shapes do not go"),
    ],
)
def test_what_does_not_go_together_is_refused(net: Path, tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        build(net, tmp_path / "b", options(**changes))


def test_words_that_a_shell_made_of_braces_are_told(net: Path) -> None:
    done = CliRunner().invoke(cli, ["build", str(net), "--shape", *(f"ids={n}x4:int64" for n in range(1, 9))])
    assert done.exit_code == 2 and "made 8 words of the bounds in braces: write --shape ids=1x1..512" in done.output


def test_a_sequence_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """From the command line: nothing is left behind."""
    nodes = [node("Transpose", ["x"], ["t"], perm=[0, 2, 1]), node("MatMul", ["x", "t"], ["y"], "scores")]
    onnx.save(model(nodes, {"x": ["n", "t", 6]}, ["y"]), tmp_path / "net.onnx")
    command = ["build", str(tmp_path / "net.onnx"), "--shape", "x=1x{1..9}x6", "-o", str(tmp_path / "b")]
    done = CliRunner().invoke(cli, command, prog_name="dlpack", env={"COLUMNS": "400"})
    assert done.exit_code == 3 and not (tmp_path / "b").exists()
    assert "--shape x=1x1..9x6" in done.output and "'scores' multiplies each sample by each" in done.output
    assert "--buckets" in done.output


def test_people_see_the_smallest_and_the_largest(native: Path) -> None:
    """In the report and of `dlpack inspect`."""
    done = CliRunner().invoke(cli, ["inspect", str(native)], prog_name="dlpack")
    for text in (done.output, (native / "report.html").read_text(encoding="utf-8")):
        assert "1 x 3 x 9 x 8" in text and "23 x 3 x 9 x 8" in text and "22 x 3 x 9 x 8" not in text
