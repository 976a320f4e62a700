"""Several sets of input shapes in one bundle: one copy of the weights, and each set right against onnxruntime.

Over 500 lines because the C++ and JavaScript programs that the tests run stand beside the tests.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nets
import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from conftest import DIGITS, requires_module, requires_tool, skip_or_fail
from onnx import ModelProto, TensorProto, helper, numpy_helper
from processes import run

import dlpack
from dlpack import operators
from dlpack.bundle.loader import read_manifest
from dlpack.cli import cli
from dlpack.errors import UsageError
from dlpack.meaning.shape_sets import Buckets, alternatives
from dlpack.model.clean import clean
from dlpack.model.read import read_graph
from dlpack.pipeline import Options, build
from dlpack.plan.compiler import Compiler
from dlpack.targets.cpu.machine import AVX512, WASM
from dlpack.targets.cpu.schedule import CpuBackend
from dlpack.targets.cpu.tiles import choose_tile
from dlpack.targets.wasm.run import node_command

STRICT = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror", "-Wno-psabi"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g1"]
PICTURES = ((1, 3, 30, 26), (4, 3, 30, 26), (1, 3, 45, 60))


def picture_net() -> ModelProto:
    """Convolutions of open batch and picture size: a stem, two that are worth Winograd, depthwise, 1x1."""
    node = helper.make_node
    pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    return nets.model(
        [
            node("Conv", ["image", "w0", "b0"], ["stem"], "stem", **pads),
            node("Relu", ["stem"], ["r0"], "relu0"),
            node("Conv", ["r0", "w1", "b0"], ["c1"], "heavy0", **pads),
            node("Relu", ["c1"], ["r1"], "relu1"),
            node("Conv", ["r1", "w2"], ["c2"], "heavy1", **pads),
            node("Conv", ["c2", "w3"], ["c3"], "depthwise", group=70, strides=[2, 2], **pads),
            node("Conv", ["c3", "w4"], ["c4"], "pointwise"),
            node("GlobalAveragePool", ["c4"], ["pooled"], "pool"),
            node("Flatten", ["pooled"], ["flat"], "flat"),
            node("MatMul", ["flat", "w5"], ["scores"], "classes"),
        ],
        {"image": ("n", 3, "h", "w")},
        {"scores": ("n", 9), "c4": ("n", 33, "hh", "ww")},
        nets._random(
            7, w0=(64, 3, 3, 3), b0=(64,), w1=(64, 64, 3, 3), w2=(70, 64, 3, 3), w3=(70, 1, 3, 3), w4=(33, 70, 1, 1),
            w5=(33, 9)
        ),
    )  # fmt: skip


def text_net() -> ModelProto:
    """An attention block over tokens with a mask: outputs per token and one for all, the mean of those not masked."""
    width, words = 24, 50
    weights = nets._random(8, table=(words, width), wq=(width, width), wk=(width, width), wv=(width, width))
    weights |= {"one": np.float32(1), "low": np.float32(-1e4), "scale": np.float32(width**-0.5)}
    node = helper.make_node
    axes = [numpy_helper.from_array(np.array([n], np.int64), name) for name, n in (("first", 1), ("last", 2))]
    nodes = [
        node("Gather", ["table", "tokens"], ["x"], "embed"),
        *(node("MatMul", ["x", f"w{k}"], [k], k) for k in "qkv"),
        node("Transpose", ["k"], ["kt"], "turn", perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], ["products"], "products"),
        node("Mul", ["products", "scale"], ["scaled"], "scaled"),
        node("Sub", ["one", "mask"], ["off"], "off"),
        node("Mul", ["off", "low"], ["penalty"], "penalty"),
        node("Unsqueeze", ["penalty", "first"], ["row"], "row"),
        node("Add", ["scaled", "row"], ["masked"], "masked"),
        node("Softmax", ["masked"], ["attention"], "softmax", axis=-1),
        node("MatMul", ["attention", "v"], ["states"], "states"),
        node("Unsqueeze", ["mask", "last"], ["column"], "column"),
        node("Mul", ["states", "column"], ["kept"], "kept"),
        node("ReduceSum", ["kept", "first"], ["sum"], "sum", keepdims=0),
        node("ReduceSum", ["mask", "first"], ["count"], "count"),
        node("Div", ["sum", "count"], ["mean"], "mean"),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "net",
        [info("tokens", TensorProto.INT64, [2, "t"]), info("mask", TensorProto.FLOAT, [2, "t"])],
        [info("states", TensorProto.FLOAT, [2, "t", width]), info("mean", TensorProto.FLOAT, [2, width])],
        [*(numpy_helper.from_array(v, n) for n, v in weights.items()), *axes],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def lstm_net(hidden: int = 20) -> ModelProto:
    """An LSTM in two directions over an open number of steps; its batch is 1."""
    return nets.model(
        [helper.make_node("LSTM", ["x", "w", "r", "b"], ["y"], "lstm", hidden_size=hidden, direction="bidirectional")],
        {"x": ("steps", 1, 12)},
        {"y": ("steps", 2, 1, hidden)},
        nets._random(9, w=(2, 4 * hidden, 12), r=(2, 4 * hidden, hidden), b=(2, 8 * hidden)),
    )


def expected(model: Path, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What onnxruntime computes with the model's dimensions open."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def close(got: Mapping[str, np.ndarray], want: Mapping[str, np.ndarray]) -> None:
    assert got.keys() == want.keys()
    for name, value in want.items():
        assert got[name].shape == value.shape
        np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-4 * np.abs(value).max())


def pictures(shape: tuple[int, ...], seed: int = 0) -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(seed).standard_normal(shape).astype(np.float32)}


def sentences(length: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"tokens": rng.integers(0, 50, (2, length)), "mask": np.ones((2, length), np.float32)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    models = {"pictures": picture_net(), "text": text_net(), "lstm": lstm_net()}
    paths = {name: folder / f"{name}.onnx" for name in models}
    for name, model in models.items():
        onnx.save(model, paths[name])
    return paths


def picture_options(**more: Any) -> Options:
    first, *rest = ({"image": shape} for shape in PICTURES)
    return Options(shapes=first, more_shapes=tuple(rest), **more)


@pytest.fixture(scope="module")
def picture_bundle(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    (folder / "how.json").write_text(json.dumps({"resize": None, "mean": [0.5], "std": [0.25]}))
    options = picture_options(labels=tuple("abcdefghi"), preprocess=str(folder / "how.json"))
    return build(files["pictures"], folder / "pictures", options)


@pytest.fixture(scope="module")
def text_bundle(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = Options(buckets=Buckets("tokens", (4, 8, 16)))
    return build(files["text"], tmp_path_factory.mktemp("shapes") / "text", options)


@pytest.fixture(scope="module")
def wasm_bundles(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("wasm")
    one = build(files["pictures"], folder / "pictures", replace(picture_options(), target="wasm"))
    return one, build(files["text"], folder / "text", Options("wasm", buckets=Buckets("tokens", (4, 8, 16))))


# --- compiling --------------------------------------------------------------------------------------------------------


def compiled(model: ModelProto, sets: Sequence[Mapping[str, tuple[int, ...]]], machine: Any = AVX512) -> Any:
    backend = CpuBackend(machine)
    compiler = Compiler("net", backend.schedule, backend.winograd_tile)
    for shapes in sets:
        cleaned = clean(model, shapes, lambda op, domain: not operators.supported(op, domain))
        compiler.add(read_graph(cleaned, operators.supported))
    return compiler.program()


@pytest.mark.parametrize("machine", [AVX512, WASM], ids=lambda m: m.name)
@pytest.mark.parametrize("name", ["pictures", "text", "lstm"])
def test_the_weights_are_stored_once(name: str, machine: Any) -> None:
    model, sets = {
        "pictures": (picture_net(), [{"image": s} for s in (*PICTURES, (2, 3, 8, 8))]),
        "text": (text_net(), [{"tokens": (2, n)} for n in (1, 5, 64, 256)]),
        "lstm": (lstm_net(40), [{"x": (n, 1, 12)} for n in (1, 3, 64)]),
    }[name]
    for one, *others in (sets, sets[::-1]):
        alone, together = compiled(model, [one], machine), compiled(model, [one, *others], machine)
        assert len(together.weights) <= 1.01 * len(alone.weights)
        assert together.prepared == alone.prepared
        assert [len(v.steps) for v in together.variants][0] == len(alone.steps)
        assert together.arena.size == max(v.arena.size for v in together.variants)


def test_the_first_set_decides_where_winograd_is_used() -> None:
    large, small = {"image": PICTURES[0]}, {"image": (1, 3, 1, 1)}
    assert compiled(picture_net(), [large]).prepared and not compiled(picture_net(), [small]).prepared
    for first, second in ((large, small), (small, large)):
        program = compiled(picture_net(), [first, second])
        used = ["winograd" in "".join(s.kernel for s in v.steps if hasattr(s, "kernel")) for v in program.variants]
        assert used == [first is large] * 2


def test_equal_kernels_are_there_once() -> None:
    shapes = [{"x": (n, 1, 12)} for n in (6, 9)]
    names = [{k.name for k in compiled(lstm_net(), shapes[:n]).kernels} for n in (1, 2)]
    assert names[0] < names[1]
    assert not [n for n in names[1] - names[0] if "_step_" in n]  # the loop's body is the same for all lengths


def test_tiles_keep_to_packed_widths() -> None:
    free = choose_tile(14, 256, 64, AVX512, True, True)
    other = choose_tile(14, 256, 64, AVX512, True, True, widths=(16,))
    assert free.columns != 16 and other.columns == 16
    assert choose_tile(14, 256, 64, AVX512, True, True, widths=(16, free.columns)) == free
    assert choose_tile(14, 256, 64, AVX512, True, True, widths=(7,)) == free


# --- running ----------------------------------------------------------------------------------------------------------


def test_the_inputs_choose_the_shapes(files: dict[str, Path], picture_bundle: Path) -> None:
    predictor = dlpack.load(picture_bundle)
    for seed, k in enumerate((0, 1, 2, 1, 1, 0, 2)):
        inputs = pictures(PICTURES[k], seed)
        close(predictor.run(inputs), expected(files["pictures"], inputs))
        assert predictor.inputs["image"][1] == PICTURES[k]
        assert len(predictor.top_k(3, "scores")) == 3
        assert predictor.run_step(len(predictor.steps) - 1)
        assert not predictor.run_step(len(predictor.steps))


def test_other_shapes_are_refused(picture_bundle: Path) -> None:
    predictor = dlpack.load(picture_bundle)
    with pytest.raises(ValueError, match="image 2x3x30x26; the model takes image 1x3x30x26 or image 4x3x30x26 or"):
        predictor.run(pictures((2, 3, 30, 26)))
    with pytest.raises(ValueError, match="missing"):
        predictor.run({})
    with pytest.raises(ValueError, match="unknown"):
        predictor.run({"picture": np.zeros(3)})
    with pytest.raises(ValueError, match="float64"):
        predictor.run({"image": np.zeros(PICTURES[1])})


def test_the_bundle_tells_of_all_shapes(picture_bundle: Path) -> None:
    manifest = read_manifest(picture_bundle)
    assert [tuple(s["inputs"][0]["shape"]) for s in manifest["shapes"]] == list(PICTURES)
    assert manifest["inputs"] == manifest["shapes"][0]["inputs"]
    assert manifest["arena"] == max((s["arena"] for s in manifest["shapes"]), key=lambda a: a["bytes"])
    assert len(manifest["verification"]) == 6
    report = (picture_bundle / "report.html").read_text()
    source = (picture_bundle / "pictures.cc").read_text()
    shown = CliRunner().invoke(cli, ["inspect", str(picture_bundle)]).output
    for _, _, h, w in PICTURES:
        assert f"{h} x {w}" in report and f"{h} x {w}" in shown and f"x{h}x{w}]" in source[:3000]
    assert "--shape image=4x3x30x26" in source[:3000]
    verified = CliRunner().invoke(cli, ["verify", str(picture_bundle), "--json"])
    assert verified.exit_code == 0 and len(json.loads(verified.output)) == 6


def test_threads_share_the_kernels_of_all_shapes(files: dict[str, Path], tmp_path: Path) -> None:
    bundle = build(files["pictures"], tmp_path / "threads", picture_options(threads=3))
    predictor = dlpack.load(bundle)
    for k, shape in enumerate(PICTURES):
        inputs = pictures(shape, k)
        results = []
        for count in (1, 3):
            predictor._function("set_threads")(predictor._handle, count)
            results.append({name: y.copy() for name, y in predictor.run(inputs).items()})
        close(results[0], expected(files["pictures"], inputs))
        for name, y in results[0].items():
            np.testing.assert_array_equal(y, results[1][name])


def test_a_bundle_of_one_shape_has_no_trace_of_it(digits: Path) -> None:
    text = (digits / "digits.cc").read_text() + (digits / "digits.h").read_text()
    assert "shape_set" not in text and "digits_reshape" not in text and "//@" not in text
    assert "shapes" not in read_manifest(digits)


# --- buckets ----------------------------------------------------------------------------------------------------------


def test_sequences_are_padded_to_the_next_bucket(files: dict[str, Path], text_bundle: Path) -> None:
    predictor = dlpack.load(text_bundle)
    for seed, length in enumerate((1, 3, 4, 5, 8, 9, 16, 2)):
        inputs = sentences(length, seed)
        close(predictor.run(inputs), expected(files["text"], inputs))


def test_buckets_are_told_of(text_bundle: Path) -> None:
    manifest = read_manifest(text_bundle)
    assert manifest["buckets"] == {
        "sizes": [4, 8, 16], "inputs": {"tokens": [1], "mask": [1]}, "outputs": {"states": [1]}
    }  # fmt: skip
    assert "--buckets tokens=4,8,16" in (text_bundle / manifest["source"]).read_text()[:3000]


def test_too_long_or_uneven_sequences_are_refused(text_bundle: Path) -> None:
    predictor = dlpack.load(text_bundle)
    with pytest.raises(ValueError, match="tokens 2x17, mask 2x17; the model takes tokens 2x4, mask 2x4 or tokens 2x8"):
        predictor.run(sentences(17))
    with pytest.raises(ValueError, match="tokens 2x5, mask 2x6"):
        predictor.run({**sentences(5), "mask": sentences(6)["mask"]})
    with pytest.raises(ValueError, match="tokens 2x0"):
        predictor.run(sentences(0))


def test_steps_of_a_recurrent_layer(files: dict[str, Path], tmp_path: Path) -> None:
    """In one direction, padding behind the end changes nothing before it."""
    model = onnx.load(files["lstm"])
    (node,) = model.graph.node
    for a in node.attribute:
        if a.name == "direction":
            a.s = b"forward"
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:1], tensor.name))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    onnx.save(model, tmp_path / "forward.onnx")
    bundle = build(tmp_path / "forward.onnx", tmp_path / "forward", Options(buckets=Buckets("x", (4, 12))))
    predictor = dlpack.load(bundle)
    for length in (1, 4, 7, 12):
        inputs = {"x": np.random.default_rng(length).standard_normal((length, 1, 12)).astype(np.float32)}
        close(predictor.run(inputs), expected(tmp_path / "forward.onnx", inputs))


def test_one_bucket_cuts_what_has_its_symbol(files: dict[str, Path], tmp_path: Path) -> None:
    """A mean of 24 numbers stays whole where the bucket is 24 long, too."""
    bundle = build(files["text"], tmp_path / "text", Options(buckets=Buckets("mask", (24,))))
    assert read_manifest(bundle)["buckets"]["outputs"] == {"states": [1]}
    inputs = sentences(20)
    close(dlpack.load(bundle).run(inputs), expected(files["text"], inputs))


# --- what is asked for ------------------------------------------------------------------------------------------------


def test_repeated_shapes_are_alternatives() -> None:
    assert alternatives([]) == [{}]
    assert alternatives([("a", (1, 2)), ("b", (3,))]) == [{"a": (1, 2), "b": (3,)}]
    assert alternatives([("a", (1,)), ("b", (3,)), ("a", (2,))]) == [{"a": (1,), "b": (3,)}, {"a": (2,), "b": (3,)}]
    with pytest.raises(UsageError, match="3 for 'a', 2 for 'b'"):
        alternatives([("a", (1,)), ("b", (1,)), ("a", (2,)), ("b", (2,)), ("a", (3,))])
    with pytest.raises(UsageError, match="twice"):
        alternatives([("a", (1,)), ("a", (1,))])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--shape", "tokens=2x4", "--shape", "tokens=2x4"], "twice"),
        (["--buckets", "tokens"], "write it as INPUT=16,32,64"),
        (["--buckets", "tokens=4,x"], "write it as INPUT=16,32,64"),
        (["--buckets", "words=4,8"], "no input 'words'; it has tokens, mask"),
        (["--buckets", "tokens=8,4"], "ascending"),
        (["--buckets", "tokens=0,4"], "from 1 on"),
        (["--buckets", "tokens=4,8", "--shape", "tokens=2x4", "--shape", "tokens=2x8"], "one --shape"),
        (["--shape", "tokens=2x4", "--shape", "tokens=2x8", "--shape", "mask=2x4"], "makes 't'"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(
    files: dict[str, Path], tmp_path: Path, arguments: list[str], told: str
) -> None:
    done = CliRunner().invoke(cli, ["build", str(files["text"]), *arguments, "-o", str(tmp_path / "out")])
    assert done.exit_code == 2 and told in done.output, done.output
    assert not (tmp_path / "out").exists()


def test_an_exported_model_is_exported_for_each_shape(tmp_path: Path) -> None:
    """Python code is traced for one shape at a time; its weights are there once all the same."""
    (tmp_path / "code.py").write_text(
        "import numpy as np\n\nW = np.random.default_rng(1).standard_normal((30, 40)).astype(np.float32)\n\n\n"
        "def predict(x):\n    return x @ W\n"
    )
    options = Options(shapes={"x": (1, 30)}, more_shapes=({"x": (5, 30)},))
    bundle = build(f"{tmp_path / 'code.py'}:predict", tmp_path / "out", options)
    assert read_manifest(bundle)["weights_bytes"] <= 1.01 * 30 * 48 * 4
    weights = np.random.default_rng(1).standard_normal((30, 40)).astype(np.float32)
    for rows in (5, 1):
        x = np.random.default_rng(rows).standard_normal((rows, 30)).astype(np.float32)
        (y,) = dlpack.load(bundle).run({"x": x}).values()
        np.testing.assert_allclose(y, x @ weights, rtol=1e-4, atol=1e-4)


def test_a_fixed_input_has_no_buckets(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leaves no dimension of that input open"):
        build(DIGITS, tmp_path / "out", Options(buckets=Buckets("image", (8, 16))))


def test_the_command_line_builds_sets(files: dict[str, Path], tmp_path: Path) -> None:
    words = ["--shape", "image=1x3x8x8", "--shape", "image=2x3x8x8", "--target", "source", "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, ["build", str(files["pictures"]), *words])
    assert done.exit_code == 0, done.output
    assert len(read_manifest(tmp_path / "out")["shapes"]) == 2


# --- the C API --------------------------------------------------------------------------------------------------------

PROGRAM = r"""
#include <stdio.h>
#include <string.h>
#include "pictures.h"
#define CHECK(x) do { if (!(x)) { printf("line %d: %s\n", __LINE__, #x); return 1; } } while (0)
static float picture[3 * 45 * 60];

int main() {
  const int64_t one[] = {1, 3, 30, 26}, four[] = {4, 3, 30, 26}, large[] = {1, 3, 45, 60}, odd[] = {2, 3, 30, 26};
  pictures::Predictor p;
  CHECK(p && pictures_shape_count() == 3 && p.shape() == 0);
  CHECK(pictures_input_of(p.get(), 0)->bytes == pictures_input(0)->bytes && pictures_input_of(p.get(), 1) == nullptr);
  CHECK(pictures_input_of(nullptr, 0) == nullptr && pictures_output_of(p.get(), 2) == nullptr);
  CHECK(pictures_shape(nullptr) == -1 && pictures_step_count_of(p.get()) == pictures_step_count());

  // What does not fit changes nothing: the input bound is still there.
  CHECK(p.bind_input(0, picture, sizeof(float) * 3 * 30 * 26) == PICTURES_OK);
  CHECK(p.reshape(0, odd) == PICTURES_BAD_ARGUMENT && p.reshape(1, one) == PICTURES_BAD_ARGUMENT);
  CHECK(pictures_reshape(p.get(), 0, one, 3) == PICTURES_BAD_ARGUMENT);
  CHECK(pictures_reshape(p.get(), 0, nullptr, 4) == PICTURES_BAD_ARGUMENT);
  CHECK(pictures_reshape(nullptr, 0, one, 4) == PICTURES_BAD_ARGUMENT);
  CHECK(p.set_shape(3) == PICTURES_BAD_ARGUMENT && p.set_shape(-1) == PICTURES_BAD_ARGUMENT);
  CHECK(p.shape() == 0 && pictures_input_data(p.get(), 0) == picture);
  CHECK(p.reshape(0, one) == PICTURES_OK && pictures_input_data(p.get(), 0) == picture);

  // Another shape: nothing is bound, inputs are zeros, and sizes are the new ones.
  CHECK(p.reshape(0, {4, 3, 30, 26}) == PICTURES_OK && p.shape() == 1);
  CHECK(pictures_input_of(p.get(), 0)->shape[0] == 4 && pictures_input(0)->shape[0] == 1);
  const float* own = static_cast<const float*>(pictures_input_data(p.get(), 0));
  CHECK(own != picture);
  for (int i = 0; i < 4 * 3 * 30 * 26; ++i) CHECK(own[i] == 0);
  CHECK(p.set_input(0, picture, sizeof(float) * 3 * 30 * 26) == PICTURES_BAD_ARGUMENT);
  CHECK(p.run() == PICTURES_OK && pictures_output_of(p.get(), 0)->bytes == 4 * 9 * sizeof(float));
  float scores[36];
  CHECK(pictures_get_output(p.get(), 0, scores, 9 * sizeof(float)) == PICTURES_BAD_ARGUMENT);
  CHECK(pictures_get_output(p.get(), 0, scores, sizeof scores) == PICTURES_OK);
  CHECK(memcmp(scores, scores + 9, 9 * sizeof(float)) == 0);

  // The largest fits; predictors that share weights have shapes of their own; steps are those of the shape.
  pictures::Predictor q = p.share();
  CHECK(q && q.shape() == 0 && q.reshape(0, large) == PICTURES_OK && q.shape() == 2 && p.shape() == 1);
  for (size_t i = 0; i < sizeof picture / sizeof *picture; ++i) picture[i] = static_cast<float>(i % 17) * 0.1f;
  CHECK(q.set_input(0, picture, sizeof picture) == PICTURES_OK && q.run() == PICTURES_OK);
  float before[9];
  memcpy(before, q.output<float>(0), sizeof before);
  for (int i = 0; i < pictures_step_count_of(q.get()); ++i) {
    CHECK(pictures_step_name_of(q.get(), i) != nullptr && pictures_run_step(q.get(), i) == PICTURES_OK);
  }
  CHECK(memcmp(before, q.output<float>(0), sizeof before) == 0);
  CHECK(pictures_run_step(q.get(), pictures_step_count_of(q.get())) == PICTURES_BAD_ARGUMENT);
  CHECK(pictures_step_name_of(q.get(), -1) == nullptr && pictures_step_name_of(nullptr, 0) == nullptr);
  pictures_class best[2];
  CHECK(q.reshape(0, four) == PICTURES_OK && q.run() == PICTURES_OK && q.top_k(0, 2, best) == PICTURES_OK);
  puts("good");
  return 0;
}
"""


def compiled_object(bundle: Path, folder: Path, *flags: str) -> Path:
    """The bundle's file under sanitizers, without a warning."""
    command = [requires_tool("g++"), "-std=c++17", "-O1", "-march=native", *STRICT, *SANITIZE, *flags]
    done = run([*command, "-c", *bundle.glob("*.cc"), "-o", folder / "net.o"])
    assert done.returncode == 0 and not done.stderr, done.stderr
    return folder / "net.o"


def run_with(net: Path, folder: Path, program: str, include: Path) -> str:
    """What a program says that is linked with the bundle's object."""
    (folder / "main.cc").write_text(program)
    command = [requires_tool("g++"), "-std=c++17", *STRICT, *SANITIZE, f"-I{include}", "main.cc", net, "-o", "main"]
    done = run(command, cwd=folder)
    assert done.returncode == 0 and not done.stderr, done.stderr
    done = run([folder / "main"])
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def picture_object(picture_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled_object(picture_bundle, tmp_path_factory.mktemp("object"), "-DPICTURES_MXNET_API")


def test_the_c_api_reshapes(picture_bundle: Path, picture_object: Path, tmp_path: Path) -> None:
    assert run_with(picture_object, tmp_path, PROGRAM, picture_bundle) == "good\n"


@pytest.mark.parametrize("name", ["picture_bundle", "text_bundle"])
def test_the_self_test_runs_all_shapes(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    bundle = request.getfixturevalue(name)
    net = compiled_object(bundle, tmp_path, f"-D{read_manifest(bundle)['name'].upper()}_SELFTEST")
    told = run_with(net, tmp_path, "", bundle)
    assert told.count(": ok") == 6 and "WRONG" not in told


def test_several_inputs_keep_their_shapes_where_they_can(tmp_path: Path) -> None:
    """Two inputs of two sizes each: reshaping one leaves the other, its values included."""
    add = (
        helper.make_node("ReduceSum", ["a"], ["sa"], keepdims=0),
        helper.make_node("ReduceSum", ["b"], ["sb"], keepdims=0),
    )
    model = nets.model([*add, helper.make_node("Add", ["sa", "sb"], ["y"])], {"a": ("m",), "b": ("n",)}, {"y": ()})
    onnx.save(model, tmp_path / "two.onnx")
    sets = [{"a": (a,), "b": (b,)} for a in (2, 3) for b in (5, 7)]
    bundle = build(tmp_path / "two.onnx", tmp_path / "two", Options(shapes=sets[0], more_shapes=tuple(sets[1:])))
    predictor = dlpack.load(bundle)
    assert predictor.run({"a": np.ones(3, np.float32), "b": np.ones(7, np.float32)})["y"] == 10
    call, handle = predictor._function, predictor._handle

    def reshape(index: int, size: int) -> int:
        return int(call("reshape")(handle, index, (ctypes.c_int64 * 1)(size), 1))

    b = np.full(7, 2, np.float32)
    assert call("set_input")(handle, 1, ctypes.c_void_p(b.ctypes.data), ctypes.c_size_t(b.nbytes)) == 0
    assert reshape(0, 2) == 0 and call("shape")(handle) == 1
    predictor._use(1)
    predictor.compute()
    assert predictor._output(0, "float32", ()) == 14  # a is zeros, b as it was
    assert reshape(1, 5) == 0 and call("shape")(handle) == 0
    assert reshape(0, 4) != 0 and call("shape")(handle) == 0


MXNET = r"""
#include <stdio.h>
#include <string.h>
typedef unsigned int mx_uint;
typedef float mx_float;
typedef void* PredictorHandle;
extern "C" {
const char* MXGetLastError();
int MXPredCreate(const char*, const void*, int, int, int, mx_uint, const char**, const mx_uint*, const mx_uint*,
                 PredictorHandle*);
int MXPredReshape(mx_uint, const char**, const mx_uint*, const mx_uint*, PredictorHandle, PredictorHandle*);
int MXPredGetOutputShape(PredictorHandle, mx_uint, mx_uint**, mx_uint*);
int MXPredSetInput(PredictorHandle, const char*, const mx_float*, mx_uint);
int MXPredForward(PredictorHandle);
int MXPredPartialForward(PredictorHandle, int, int*);
int MXPredGetOutput(PredictorHandle, mx_uint, mx_float*, mx_uint);
int MXPredFree(PredictorHandle);
}
#define CHECK(x) do { if (!(x)) { printf("line %d: %s: %s\n", __LINE__, #x, MXGetLastError()); return 1; } } while (0)
static float picture[4 * 3 * 30 * 26];

int main() {
  const char* keys[] = {"image"};
  const mx_uint starts[] = {0, 4}, four[] = {4, 3, 30, 26}, large[] = {1, 3, 45, 60}, odd[] = {1, 3, 31, 26};
  PredictorHandle p = nullptr, q = nullptr, r = nullptr;
  mx_uint* shape = nullptr;
  mx_uint rank = 0;
  CHECK(MXPredCreate(nullptr, nullptr, 0, 1, 0, 1, keys, starts, four, &p) == 0);
  CHECK(MXPredGetOutputShape(p, 1, &shape, &rank) == 0 && rank == 4 && shape[0] == 4 && shape[2] == 15);
  for (int i = 0; i < 4 * 3 * 30 * 26; ++i) picture[i] = static_cast<float>(i % (3 * 30 * 26) % 11);
  CHECK(MXPredSetInput(p, "image", picture, 4 * 3 * 30 * 26) == 0 && MXPredForward(p) == 0);
  float scores[36], one[9];
  CHECK(MXPredGetOutput(p, 0, scores, 36) == 0 && memcmp(scores, scores + 27, 9 * sizeof(float)) == 0);
  CHECK(MXPredReshape(1, keys, starts, large, p, &q) == 0);
  CHECK(MXPredGetOutputShape(q, 1, &shape, &rank) == 0 && shape[0] == 1 && shape[2] == 23 && shape[3] == 30);
  CHECK(MXPredGetOutputShape(p, 1, &shape, &rank) == 0 && shape[0] == 4);
  int left = 1;
  for (int i = 0; left != 0; ++i) CHECK(MXPredPartialForward(q, i, &left) == 0);
  CHECK(MXPredReshape(1, keys, starts, odd, p, &r) == -1 && strstr(MXGetLastError(), "1x3x31x26") && r == nullptr);
  CHECK(MXPredCreate(nullptr, nullptr, 0, 1, 0, 1, keys, starts, odd, &r) == -1);
  CHECK(MXPredCreate(nullptr, nullptr, 0, 1, 0, 0, nullptr, nullptr, nullptr, &r) == 0);
  CHECK(MXPredSetInput(r, "image", picture, 3 * 30 * 26) == 0 && MXPredForward(r) == 0);
  CHECK(MXPredGetOutput(r, 0, one, 9) == 0);
  for (int i = 0; i < 9; ++i) CHECK(one[i] - scores[i] < 1e-3f && scores[i] - one[i] < 1e-3f);
  CHECK(MXPredFree(p) == 0 && MXPredFree(q) == 0 && MXPredFree(r) == 0);
  puts("good");
  return 0;
}
"""


def test_mxnets_api_chooses_the_shapes(picture_bundle: Path, picture_object: Path, tmp_path: Path) -> None:
    assert run_with(picture_object, tmp_path, MXNET, picture_bundle) == "good\n"


# --- in JavaScript and in Pyodide's runtime ---------------------------------------------------------------------------

SCRIPT = """
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
const [bundle, cases] = process.argv.slice(2);
const { Predictor, openBundle } = await import(pathToFileURL(`${bundle}/node.js`));
const predictor = await Predictor.load(await openBundle(bundle));
const big = (name) => predictor.inputs.find((t) => t.name === name).dtype === "int64";
const results = [];
for (const inputs of JSON.parse(readFileSync(cases))) {
  const array = (name, x) => (big(name) ? BigInt64Array.from(x.map(BigInt)) : Float32Array.from(x));
  const typed = Object.entries(inputs).map(([name, x]) => [name, array(name, x)]);
  try {
    const outputs = await predictor.run(Object.fromEntries(typed));
    const plain = predictor.runSync(inputs);
    for (const t of predictor.outputs) {
      if (outputs[t.name].join() !== plain[t.name].join()) throw new Error("typed and plain arrays differ");
    }
    results.push(predictor.outputs.map((t) => ({ name: t.name, shape: t.shape, data: Array.from(outputs[t.name]) })));
    predictor.steps.forEach((name, i) => name && predictor.runStep(i));
  } catch (e) {
    results.push(e.message);
  }
}
console.log(JSON.stringify(results));
"""


def in_node(bundle: Path, folder: Path, cases: Sequence[Mapping[str, np.ndarray]]) -> list[Any]:
    if not node_command():
        skip_or_fail("node is not installed")
    (folder / "main.mjs").write_text(SCRIPT)
    (folder / "cases.json").write_text(json.dumps([{n: x.reshape(-1).tolist() for n, x in c.items()} for c in cases]))
    command = [*node_command(), folder / "main.mjs", bundle, folder / "cases.json"]
    done = run(command, limit_s=120)
    assert done.returncode == 0, done.stderr
    return [
        r if isinstance(r, str) else {t["name"]: np.array(t["data"], np.float32).reshape(t["shape"]) for t in r}
        for r in json.loads(done.stdout)
    ]


def test_javascript_chooses_and_pads(files: dict[str, Path], wasm_bundles: tuple[Path, Path], tmp_path: Path) -> None:
    for bundle, name, cases in (
        (wasm_bundles[0], "pictures", [pictures(PICTURES[k], k) for k in (1, 0, 2, 1)]),
        (wasm_bundles[1], "text", [sentences(n, n) for n in (3, 4, 16, 7, 8, 1)]),
    ):
        for inputs, got in zip(cases, in_node(bundle, tmp_path, cases), strict=True):
            close(got, expected(files[name], inputs))


def test_javascript_refuses_other_lengths(wasm_bundles: tuple[Path, Path], tmp_path: Path) -> None:
    (told,) = in_node(wasm_bundles[0], tmp_path, [pictures((2, 3, 30, 26))])
    assert "Float32Array of 2340 (1 x 3 x 30 x 26) or 9360 (4 x 3 x 30 x 26) or 8100" in told
    long, uneven, good = in_node(
        wasm_bundles[1], tmp_path, [sentences(17), {**sentences(5), "mask": sentences(6)["mask"]}, sentences(2)]
    )
    assert 'input "tokens" is BigInt64Array of 34' in long and 'input "tokens"' in uneven and isinstance(good, dict)


def test_pyodides_runtime_chooses_and_pads(files: dict[str, Path], wasm_bundles: tuple[Path, Path]) -> None:
    requires_module("wasmtime")
    from dlpack.targets.wasm.runtime import Predictor

    with Predictor(wasm_bundles[0]) as predictor:
        for k in (2, 0, 1):
            inputs = pictures(PICTURES[k], k)
            close(predictor.run(inputs), expected(files["pictures"], inputs))
            assert predictor.run_step(len(predictor.steps) - 1) and not predictor.run_step(len(predictor.steps))
        with pytest.raises(ValueError, match=r"takes float32 of \(1, 3, 30, 26\) or \(4, 3, 30, 26\)"):
            predictor.run(pictures((2, 3, 30, 26)))
    with Predictor(wasm_bundles[1]) as predictor:
        for length in (3, 16, 8, 5):
            inputs = sentences(length, length)
            close(predictor.run(inputs), expected(files["text"], inputs))
        predictor._numpy = None  # as where numpy is not installed
        inputs = sentences(6, 6)
        got = {name: np.array(memoryview(y)) for name, y in predictor.run(inputs).items()}
        close(got, expected(files["text"], inputs))
