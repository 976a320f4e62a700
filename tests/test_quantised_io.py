"""Quantised inputs and outputs: scale and zero point in the manifest, and what is made of them in C and Python."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import requires_tool
from onnx import TensorProto, helper, numpy_helper
from processes import run
from quantised_nets import COLOURS, HALF, KINDS, Q, built, classifier, model, tensor
from test_export_tflite import _not_compared, model_file  # noqa: F401 - a fixture

import dlpack
from dlpack import exporters
from dlpack.bundle.loader import read_manifest
from dlpack.meaning.detect import detections
from dlpack.meaning.preprocess import from_json
from dlpack.meaning.quantization import Quantization, from_metadata
from dlpack.meaning.task import guess
from dlpack.model.meaning import meanings
from dlpack.model.metadata import describe
from dlpack.model.read import read_graph
from dlpack.pipeline import Options, Progress, build

# --- classes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", KINDS)
def test_a_quantised_classifier(tmp_path: Path, dtype: str) -> None:
    """Probabilities stay what they are, in Python and in C, of a picture and by hand."""
    bundle = built(classifier(dtype), tmp_path, labels=COLOURS, preprocess='{"scale": 0.00392156862745098}')
    kind = KINDS[dtype]
    manifest = read_manifest(bundle)
    assert manifest["outputs"] == [
        {"name": "y", "dtype": dtype, "shape": [3], "quantization": kind.to_json(), "probabilities": True}
    ]
    assert manifest["task"] == {"kind": "classify"}
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[..., 0], picture[..., 1] = 200, 120
    e = np.exp(np.array([200, 120, 0]) / 255)
    with dlpack.load(bundle) as p:
        found = p.classify(picture, 3)
        stored = np.array(p.run({"x": p.preprocess(picture)})["y"])
        real = p.dequantize("y", stored)
        assert real.dtype == np.float32
        np.testing.assert_array_equal(p.quantize("y", real), stored)
        np.testing.assert_array_equal(p.quantize("y", [-1, 2, np.nan]), np.array([0, 255, 0]) + kind.zero_point)
        assert p.dequantize("x", p.preprocess(picture)).dtype == np.float32
        with pytest.raises(ValueError, match="unknown name 'z'"):
            p.dequantize("z", stored)
    assert [c.label for c in found] == list(COLOURS)
    np.testing.assert_allclose([c.probability for c in found], e / e.sum(), atol=1 / 512 + 1e-6)
    np.testing.assert_array_equal([c.probability for c in found], real)
    assert in_c(bundle) == f"{1 / 256:g} {kind.zero_point} 0 0: 0.3320 0.3320"


def in_c(bundle: Path) -> str:
    """What a C program reads: scale and zero point of output and input, the first classes of zeros."""
    (bundle.parent / "main.c").write_text(
        '#include <stdio.h>\n#include "net.h"\nint main(void) {\n'
        "  net_predictor* p = NULL;\n  net_class c[2];\n"
        "  if (net_create(&p, NULL, 0, NULL, 0) || net_run(p) || net_top_k(p, 0, 2, c)) return 1;\n"
        '  printf("%g %d %g %d: %.4f %.4f", net_output(0)->scale, net_output(0)->zero_point, net_input(0)->scale,\n'
        "         net_input(0)->zero_point, c[0].probability, c[1].probability);\n"
        "  net_destroy(p);\n  return 0;\n}\n"
    )
    strict = "-Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wdouble-promotion -Werror -Wno-psabi".split()
    commands = [
        [requires_tool("g++"), "-O1", "-std=c++17", "-march=native", *strict, "-c", bundle / "net.cc", "-o", "net.o"],
        [requires_tool("gcc"), "-std=c99", "-Wall", "-Werror", f"-I{bundle}", "main.c", "net.o", "-o", "main"],
        ["./main"],
    ]
    for command in commands:
        done = run(command, cwd=bundle.parent)
        assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "scale, zero, stored, softmax",
    [
        (1 / 256, 0, [26, 51, 178, 0], False),  # 255 of 256: within half a step of each
        (1 / 256, 0, [128, 128, 128, 128], True),
        (1 / 16, 0, [4, 4, 4, 5], False),
        (1 / 16, 3, [7, 7, 7, 2], True),  # one is negative
        (0.5, 0, [4, 0, 0, 0], True),  # within two of 1, but no probability is 2
    ],
)
def test_scores_are_told_from_probabilities(
    tmp_path: Path, scale: float, zero: int, stored: list[int], softmax: bool
) -> None:
    """Where the graph does not tell, by their sum within what quantising may have done to it."""
    proto = model(
        [("QuantizeLinear", "x s z", "y")],
        {"x": ("float32", [1, 4])},
        {"y": ("uint8", [1, 4])},
        s=np.float32(scale),
        z=np.uint8(zero),
    )
    bundle = built(proto, tmp_path, labels=("a", "b", "c", "d"))
    real = (np.array(stored) - zero) * scale
    want = np.exp(real) / np.exp(real).sum() if softmax else real
    with dlpack.load(bundle) as p:
        np.testing.assert_array_equal(p.run({"x": real[None].astype(np.float32)})["y"], [stored])
        found = sorted(p.top_k(4), key=lambda c: c.index)
    np.testing.assert_allclose([c.probability for c in found], want, rtol=1e-6, atol=1e-7)


def test_sigmoids_are_probabilities_each_of_its_own(tmp_path: Path) -> None:
    proto = model([("Sigmoid", "x", "y")], {"x": ("float32", [1, 3])}, {"y": ("float32", [1, 3])})
    with dlpack.load(built(proto, tmp_path, labels=COLOURS)) as p:
        p.run({"x": np.array([[3, -3, 0]], np.float32)})
        found = p.top_k(3)
    assert [c.label for c in found] == ["red", "blue", "green"]
    np.testing.assert_allclose([c.probability for c in found], 1 / (1 + np.exp([-3.0, 0, 3])), rtol=1e-6)


@pytest.mark.parametrize("name", ["net_full_int8", "net_full_uint8"])
def test_a_classifier_of_tensorflow_lite(tmp_path: Path, name: str) -> None:
    """Its input and output are quantised; the picture's bytes become its integers, almost one to one."""
    path = model_file(name, tmp_path)
    bundle = build(path, tmp_path / "b", Options(preprocess=f'{{"scale": {1 / 255}}}', name="net"))
    manifest = read_manifest(bundle)
    low = -128 if name == "net_full_int8" else 0
    assert manifest["outputs"][0]["quantization"] == {"scale": 1 / 256, "zero_point": low}
    assert manifest["inputs"][0]["quantization"]["zero_point"] == low and manifest["task"] == {"kind": "classify"}
    picture = np.random.default_rng(2).integers(0, 256, (12, 12, 3), np.uint8)
    with dlpack.load(bundle) as p:
        given = p.preprocess(picture)
        found = sorted(p.classify(picture, 99), key=lambda c: c.index)
        output = next(iter(p.outputs))
        real = p.dequantize(output, p.run({next(iter(p.inputs)): given})[output]).ravel()
    scale = manifest["inputs"][0]["quantization"]["scale"]
    np.testing.assert_array_equal(given[0].astype(int) - low, np.rint(picture / 255 / scale).clip(0, 255))
    np.testing.assert_array_equal([c.probability for c in found], real)
    assert abs(sum(real) - 1) < 0.02


@pytest.mark.parametrize("name", ["net_full_int8", "net_full_uint8", "net_full_layer_norm"])
def test_the_exporter_tells_what_the_operators_tell(tmp_path: Path, name: str) -> None:
    proto = exporters.export(model_file(name, tmp_path)).model
    metadata = {p.key: p.value for p in proto.metadata_props}
    graph = read_graph(proto)
    found = meanings(graph, metadata)
    assert found == meanings(graph, {})
    assert {n: m.quantization for n, m in found.items()} == from_metadata(metadata["dlpack.quantization"])


def test_export_and_inspect_know_quantised_outputs(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from dlpack.cli import cli

    nodes = [("Reshape", "x shape", "r"), ("QuantizeLinear", "r s z", "y")]
    proto = model(
        nodes, {"x": ("float32", [1, 3, 8, 8])}, {"y": ("uint8", [1, 32, 6])}, shape=np.array([1, 32, 6]), **HALF
    )
    task = '{"kind": "detect", "format": "rows"}'
    describe(proto, None, "none", task)
    onnx.save(proto, tmp_path / "net.onnx")
    told = CliRunner().invoke(cli, ["inspect", str(tmp_path / "net.onnx"), "--json"])
    assert json.loads(told.output)["outputs"][0]["quantization"] == Q.to_json()
    shown = CliRunner().invoke(cli, ["inspect", str(tmp_path / "net.onnx")])
    assert "zero point" in shown.output and "0.5" in shown.output


# --- pictures ---------------------------------------------------------------------------------------------------------


def mirror(dtype: str, kind: Quantization, shape: Sequence[int]) -> onnx.ModelProto:
    """Gives the picture that went in as real numbers."""
    return model(
        [("Transpose", "x", "t", {"perm": [0, 2, 3, 1]}), ("DequantizeLinear", "t s z", "y")],
        {"x": (dtype, shape)},
        {"y": ("float32", [shape[0], shape[2], shape[3], shape[1]])},
        s=np.float32(kind.scale),
        z=np.array(kind.zero_point, dtype),
    )


@pytest.mark.parametrize(
    "dtype, kind, preprocess",
    [
        ("int8", Quantization(float(np.float32(1 / 255)), -128), '{"scale": 0.00392156862745098}'),
        ("uint8", Quantization(float(np.float32(1 / 127.5)), 127), '{"preset": "tf", "resize": null}'),
        ("int8", Quantization(0.5, 3), '{"mean": [100.25, 120.75, 110], "std": [2, 3, 4], "channels": "BGR"}'),
        ("uint8", Quantization(2.0, 0), "none"),  # half of the bytes are ties
        ("uint8", Quantization(1.0, 0), '{"scale": 0.1, "mean": [0.5]}'),  # some are, where nothing is fused
    ],
)
def test_a_quantised_picture(tmp_path: Path, dtype: str, kind: Quantization, preprocess: str) -> None:
    """In C as in Python: the integers that stand for the preprocessed values."""
    told: list[str] = []
    onnx.save(mirror(dtype, kind, (1, 3, 20, 24)), tmp_path / "net.onnx")
    progress = Progress(warn=told.append)
    bundle = build(tmp_path / "net.onnx", tmp_path / "bundle", Options(preprocess=preprocess), progress)
    assert not told
    manifest = read_manifest(bundle)
    assert manifest["inputs"][0]["quantization"] == manifest["preprocess"]["quantization"] == kind.to_json()
    stored = {k: v for k, v in manifest["preprocess"].items() if k not in ("height", "width", "dtype", "quantization")}
    spec = from_json(stored, manifest["inputs"])
    assert spec.quantization == kind
    draw = np.random.default_rng(3)
    picture = draw.integers(0, 256, (20, 24, 3), np.uint8)
    with dlpack.load(bundle) as p:
        got = p.preprocess(picture)
        np.testing.assert_array_equal(got, spec(picture))
        y = np.array(p.run({"x": got})["y"])
    bytes_ = picture[..., ::-1] if spec.channels == "BGR" else picture
    real = (bytes_ * spec.scale - spec.mean) / spec.std
    low, high = kind.limits(dtype)
    np.testing.assert_allclose(y[0], real.clip(low, high), atol=kind.scale / 2 * 1.001)


def test_preprocessing_that_does_not_fit_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    onnx.save(mirror("uint8", Quantization(1 / 256, 0), (1, 3, 8, 8)), tmp_path / "net.onnx")
    options = Options(preprocess="none", target="source")
    build(tmp_path / "net.onnx", tmp_path / "bundle", options, Progress(warn=told.append))
    assert len(told) == 1 and "produces values from 0 to 255" in told[0] and "represents only 0 to 0.9961" in told[0]


def test_bytes_that_nothing_dequantises_stay_bytes(tmp_path: Path) -> None:
    proto = model(
        [("Cast", "x", "y", {"to": TensorProto.FLOAT})],
        {"x": ("uint8", [1, 3, 8, 8])},
        {"y": ("float32", [1, 3, 8, 8])},
    )
    bundle = built(proto, tmp_path, preprocess="none")
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    assert "quantization" not in read_manifest(bundle)["preprocess"]
    with dlpack.load(bundle) as p:
        np.testing.assert_array_equal(p.preprocess(picture)[0], picture.transpose(2, 0, 1))


def test_guesses_see_real_numbers() -> None:
    draw = np.random.default_rng(1)
    image = [{"name": "image", "dtype": "float32", "shape": [1, 3, 48, 64]}]
    corners, kind = np.sort(draw.random((1, 30, 2, 2)), axis=2).reshape(1, 30, 4), Quantization(1 / 256, -128)
    boxes, scores = kind.quantize(corners, "int8"), kind.quantize(draw.random((1, 30, 2)), "int8")
    task = guess(image, [tensor("s", scores, kind), tensor("b", boxes, kind)], True, [scores, boxes])
    assert task is not None and (task["format"], task["boxes"], task["coordinates"]) == ("corners", "b", "relative")
    assert guess(image, [tensor("s", scores), tensor("b", boxes)], True, [scores, boxes]) is None

    grid = draw.random((1, 8, 6, 6))
    grid[:, 5:] /= grid[:, 5:].sum(1, keepdims=True)
    stored = kind.quantize(grid, "int8")
    task = guess(image, [tensor("g", stored, kind)], True, [stored])
    assert task is not None and task["format"] == "grid"

    made = kind.quantize(draw.random((1, 3, 48, 64)), "int8")
    task = guess(image, [tensor("y", made, kind)], True, [made])
    assert task is not None and (task["kind"], task["range"]) == ("style", [0, 1])


def test_a_quantised_detector(tmp_path: Path) -> None:
    """From the bundle to boxes: corners and scores that are stored as uint8 and int8."""
    proto = model(
        [
            ("ReduceMean", "x", "m"),
            ("Mul", "m nothing", "n"),
            ("Add", "n corners", "b"),
            ("Add", "n shares", "s"),
            ("QuantizeLinear", "b bs bz", "boxes"),
            ("QuantizeLinear", "s ss sz", "scores"),
        ],
        {"x": ("float32", [1, 3, 32, 32])},
        {"boxes": ("uint8", [1, 2, 4]), "scores": ("int8", [1, 2, 3])},
        nothing=np.zeros((1, 1, 1), np.float32),
        corners=np.float32([[[0.25, 0.25, 0.5, 0.5], [0.5, 0, 1, 0.75]]]),
        shares=np.float32([[[0.125, 0.125, 0.75], [0, 0.875, 0.125]]]),
        bs=np.float32(1 / 128),
        bz=np.uint8(20),
        ss=np.float32(1 / 256),
        sz=np.int8(-128),
    )
    proto.graph.node[0].attribute.append(helper.make_attribute("keepdims", 1))
    proto.graph.node.insert(1, helper.make_node("Reshape", ["m", "one"], ["m1"]))
    proto.graph.node[2].input[0] = "m1"
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 1]), "one"))
    task = '{"kind": "detect", "format": "corners", "background": 0}'
    bundle = built(proto, tmp_path, preprocess="none", labels=("none", "cat", "dog"), task=task)
    with dlpack.load(bundle) as p:
        outputs = p.run({"x": p.preprocess(np.zeros((64, 64, 3), np.uint8))})
        found = detections(outputs, p.manifest, 64, 64)
        again = detections({n: p.dequantize(n, v) for n, v in outputs.items()}, p.manifest, 64, 64)
    assert [(d.label, d.score, d.x, d.y, d.width, d.height) for d in found] == [
        ("cat", 0.875, 32, 0, 32, 48),
        ("dog", 0.75, 16, 16, 16, 16),
    ]
    assert again == found
