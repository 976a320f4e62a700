"""Several sets of input shapes in one bundle: one copy of the weights, and each set right against onnxruntime."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from conftest import DIGITS
from onnx import ModelProto, numpy_helper
from shape_bundles import (
    PICTURES,
    close,
    expected,
    lstm_net,
    picture_net,
    picture_options,
    pictures,
    sentences,
    text_net,
)

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
from dlpack.plan.program import CallStep
from dlpack.targets.cpu.machine import AVX512, WASM
from dlpack.targets.cpu.schedule import CpuBackend
from dlpack.targets.cpu.tiles import choose_tile

# --- compiling --------------------------------------------------------------------------------------------------------


def compiled(model: ModelProto, sets: Sequence[Mapping[str, tuple[int, ...]]], machine: Any = AVX512) -> Any:
    backend = CpuBackend(machine)
    compiler = Compiler("net", backend)
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
        assert len(together.shape_sets[0].steps) == len(alone.steps)
        assert together.arena.size == max(s.arena.size for s in together.shape_sets)


def test_the_first_set_decides_where_winograd_is_used() -> None:
    large, small = {"image": PICTURES[0]}, {"image": (1, 3, 1, 1)}
    assert compiled(picture_net(), [large]).prepared and not compiled(picture_net(), [small]).prepared
    for first, second in ((large, small), (small, large)):
        program = compiled(picture_net(), [first, second])
        calls = [[step for step in s.steps if isinstance(step, CallStep)] for s in program.shape_sets]
        used = [any("winograd" in call.kernel for call in of_set) for of_set in calls]
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


def test_the_inputs_choose_the_shapes(shape_files: dict[str, Path], picture_bundle: Path) -> None:
    predictor = dlpack.load(picture_bundle)
    for seed, k in enumerate((0, 1, 2, 1, 1, 0, 2)):
        inputs = pictures(PICTURES[k], seed)
        close(predictor.run(inputs), expected(shape_files["pictures"], inputs))
        assert predictor.inputs["image"][1] == PICTURES[k]
        assert len(predictor.top_k(3, "scores")) == 3
        assert predictor.run_step(len(predictor.steps) - 1)
        assert not predictor.run_step(len(predictor.steps))


def test_other_shapes_are_refused(picture_bundle: Path) -> None:
    predictor = dlpack.load(picture_bundle)
    with pytest.raises(ValueError, match="image 2x3x30x26; the model expects image 1x3x30x26 or image 4x3x30x26 or"):
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


def test_threads_share_the_kernels_of_all_shapes(shape_files: dict[str, Path], tmp_path: Path) -> None:
    bundle = build(shape_files["pictures"], tmp_path / "threads", picture_options(threads=3))
    predictor = dlpack.load(bundle)
    for k, shape in enumerate(PICTURES):
        inputs = pictures(shape, k)
        results = []
        for count in (1, 3):
            predictor._function("set_threads")(predictor._handle, count)
            results.append({name: y.copy() for name, y in predictor.run(inputs).items()})
        close(results[0], expected(shape_files["pictures"], inputs))
        for name, y in results[0].items():
            np.testing.assert_array_equal(y, results[1][name])


def test_a_bundle_of_one_shape_has_no_trace_of_it(digits: Path) -> None:
    text = (digits / "digits.cc").read_text() + (digits / "digits.h").read_text()
    assert "shape_set" not in text and "digits_reshape" not in text and "//@" not in text
    assert "shapes" not in read_manifest(digits)


# --- buckets ----------------------------------------------------------------------------------------------------------


def test_sequences_are_padded_to_the_next_bucket(shape_files: dict[str, Path], text_bundle: Path) -> None:
    predictor = dlpack.load(text_bundle)
    for seed, length in enumerate((1, 3, 4, 5, 8, 9, 16, 2)):
        inputs = sentences(length, seed)
        close(predictor.run(inputs), expected(shape_files["text"], inputs))


def test_buckets_are_told_of(text_bundle: Path) -> None:
    manifest = read_manifest(text_bundle)
    assert manifest["buckets"] == {
        "sizes": [4, 8, 16], "inputs": {"tokens": [1], "mask": [1]}, "outputs": {"states": [1]}
    }  # fmt: skip
    assert "--buckets tokens=4,8,16" in (text_bundle / manifest["source"]).read_text()[:3000]


def test_too_long_or_uneven_sequences_are_refused(text_bundle: Path) -> None:
    predictor = dlpack.load(text_bundle)
    with pytest.raises(
        ValueError, match="tokens 2x17, mask 2x17; the model expects tokens 2x4, mask 2x4 or tokens 2x8"
    ):
        predictor.run(sentences(17))
    with pytest.raises(ValueError, match="tokens 2x5, mask 2x6"):
        predictor.run({**sentences(5), "mask": sentences(6)["mask"]})
    with pytest.raises(ValueError, match="tokens 2x0"):
        predictor.run(sentences(0))


def test_steps_of_a_recurrent_layer(shape_files: dict[str, Path], tmp_path: Path) -> None:
    """In one direction, padding behind the end changes nothing before it."""
    model = onnx.load(shape_files["lstm"])
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


def test_one_bucket_cuts_what_has_its_symbol(shape_files: dict[str, Path], tmp_path: Path) -> None:
    """A mean of 24 numbers stays whole where the bucket is 24 long, too."""
    bundle = build(shape_files["text"], tmp_path / "text", Options(buckets=Buckets("mask", (24,))))
    assert read_manifest(bundle)["buckets"]["outputs"] == {"states": [1]}
    inputs = sentences(20)
    close(dlpack.load(bundle).run(inputs), expected(shape_files["text"], inputs))


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
        (["--buckets", "tokens=0,4"], "at least 1"),
        (["--buckets", "tokens=4,8", "--shape", "tokens=2x4", "--shape", "tokens=2x8"], "one --shape"),
        (["--shape", "tokens=2x4", "--shape", "tokens=2x8", "--shape", "mask=2x4"], "makes 't'"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(
    shape_files: dict[str, Path], tmp_path: Path, arguments: list[str], told: str
) -> None:
    done = CliRunner().invoke(cli, ["build", str(shape_files["text"]), *arguments, "-o", str(tmp_path / "out")])
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
    with pytest.raises(UsageError, match="no open dimension"):
        build(DIGITS, tmp_path / "out", Options(buckets=Buckets("image", (8, 16))))


def test_the_command_line_builds_sets(shape_files: dict[str, Path], tmp_path: Path) -> None:
    words = ["--shape", "image=1x3x8x8", "--shape", "image=2x3x8x8", "--target", "source", "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, ["build", str(shape_files["pictures"]), *words])
    assert done.exit_code == 0, done.output
    assert len(read_manifest(tmp_path / "out")["shapes"]) == 2
