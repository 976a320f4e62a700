"""Pictures in a bundle of several shapes: each set has an input of its own size, and some take no picture."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import nets
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from conftest import requires_module, requires_tool, skip_or_fail
from onnx import helper
from processes import run

import dlpack
from dlpack.bundle.loader import read_manifest
from dlpack.bundle.timing import bench_bundle
from dlpack.cli import cli
from dlpack.errors import UnsupportedError, UsageError
from dlpack.meaning.detect import Detection, detections
from dlpack.meaning.preprocess import Preprocess, for_sets
from dlpack.pipeline import Options, Progress, build
from dlpack.targets.wasm.run import node_command

SETS = ((3, 3, 20, 16), (1, 3, 20, 16), (1, 3, 28, 40))
HOW = {"resize": 25, "channels": "BGR", "mean": [3.0], "std": [0.5]}
SIZES = {1: (20, 16, 25), 2: (28, 40, 43)}  # by set: height, width, and resize in proportion to the shorter side
PICTURE = np.random.default_rng(3).integers(0, 256, (37, 52, 3), np.uint8)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mean of each channel as scores, and the input itself where it is positive."""
    node = helper.make_node
    nodes = [
        node("Relu", ["image"], ["copy"]),
        node("GlobalAveragePool", ["copy"], ["pooled"]),
        node("Flatten", ["pooled"], ["scores"]),
    ]
    inputs = {"image": ("n", 3, "h", "w")}
    path = tmp_path_factory.mktemp("net") / "zoom.onnx"
    onnx.save(nets.model(nodes, inputs, {"scores": ("n", 3), "copy": ("n", 3, "h", "w")}, {}), path)
    return path


def bundle(net: Path, folder: Path, target: str) -> Path:
    first, *more = ({"image": shape} for shape in SETS)
    labels = ("blue", "green", "red")
    how = json.dumps(HOW)
    return build(net, folder / target, Options(target, "", first, labels, more_shapes=tuple(more), preprocess=how))


@pytest.fixture(scope="module")
def native(net: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle(net, tmp_path_factory.mktemp("zoom"), "native")


@pytest.fixture(scope="module")
def wasm(net: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle(net, tmp_path_factory.mktemp("zoom"), "wasm")


def wanted(number: int) -> Any:
    """The input of a set for PICTURE, by the definition."""
    height, width, resize = SIZES[number]
    return Preprocess("image", height, width, resize, "BGR", 1.0, (3.0,), (0.5,))(PICTURE)


def same(got: Any, number: int) -> None:
    """Equal to `wanted` but for a level of the picture's 256, where the definition's float64 falls on a half."""
    want = wanted(number)
    assert got.shape == want.shape and np.abs(got - want).max() <= 1 / 0.5 and (got == want).mean() > 0.9


def best(number: int) -> str:
    means = np.maximum(wanted(number), 0).mean((0, 2, 3))
    return ("blue", "green", "red")[int(means.argmax())]


def test_the_manifest_has_each_sets_preprocessing(native: Path) -> None:
    manifest = read_manifest(native)
    assert "preprocess" not in manifest["shapes"][0]
    for number, (height, width, resize) in SIZES.items():
        spec = manifest["shapes"][number]["preprocess"]
        assert (spec["height"], spec["width"], spec["resize"]) == (height, width, resize)
    assert manifest["preprocess"] == manifest["shapes"][1]["preprocess"]


def test_python_prepares_a_picture_for_the_set_it_has(native: Path) -> None:
    with dlpack.load(native) as predictor:
        assert predictor.shape == 0
        same(predictor.preprocess(PICTURE), 1)  # the first that takes one
        assert predictor.shape == 1
        predictor.set_shape(2)
        same(predictor.preprocess(PICTURE), 2)
        assert predictor.classify(PICTURE, 1)[0].label == best(2) and predictor.shape == 2
        predictor.run({"image": np.zeros(SETS[1], np.float32)})
        same(predictor.preprocess(PICTURE), 1)
        for number in (-1, 3):
            with pytest.raises(ValueError, match="has 3 sets"):
                predictor.set_shape(number)


PROGRAM = r"""
#include <stdio.h>
#include "zoom.h"
static unsigned char rgb[37 * 52 * 3];

int main(int argc, char** argv) {
  const int64_t shapes[2][4] = {{1, 3, 20, 16}, {1, 3, 28, 40}};
  zoom_predictor* p = NULL;
  zoom_class found;
  FILE* file = fopen(argv[argc - 1], "rb");
  if (file == NULL || fread(rgb, 1, sizeof rgb, file) != sizeof rgb || fclose(file) != 0) return 1;
  if (zoom_create(&p, NULL, 0, NULL, 0) != ZOOM_OK) return 2;
  if (zoom_preprocess_rgb(p, rgb, 52, 37, 156) != ZOOM_BAD_ARGUMENT) return 3;
  for (int k = 0; k < 2; ++k) {
    if (zoom_reshape(p, 0, shapes[k], 4) != ZOOM_OK) return 4;
    if (zoom_preprocess_rgb(p, rgb, 52, 37, 156) != ZOOM_OK) return 5;
    const float* input = (const float*)zoom_input_data(p, 0);
    for (int64_t i = 0; i < 3 * shapes[k][2] * shapes[k][3]; ++i) printf("%.9g ", (double)input[i]);
    if (zoom_run(p) != ZOOM_OK || zoom_top_k(p, 0, 1, &found) != ZOOM_OK) return 6;
    printf("%s\n", zoom_label(found.index));
  }
  if (zoom_set_shape(p, 0) != ZOOM_OK || zoom_preprocess_rgb(p, rgb, 52, 37, 156) != ZOOM_BAD_ARGUMENT) return 7;
  zoom_destroy(p);
  return 0;
}
"""


def test_c_prepares_a_picture_for_the_set_it_has(native: Path, tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text(PROGRAM)
    (tmp_path / "rgb").write_bytes(PICTURE.tobytes())
    flags = ["-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g1"]
    for command in (
        [
            requires_tool("g++"),
            "-std=c++17",
            "-O1",
            "-march=native",
            "-fno-exceptions",
            *flags,
            "-Wno-psabi",
            "-c",
            native / "zoom.cc",
        ],
        [requires_tool("gcc"), "-std=c11", *flags, f"-I{native}", "main.c", "zoom.o", "-o", "main"],
    ):
        done = run(command, cwd=tmp_path)
        assert done.returncode == 0 and not done.stderr, done.stderr
    done = run([tmp_path / "main", tmp_path / "rgb"])
    assert done.returncode == 0 and not done.stderr, f"{done.returncode}: {done.stderr}"
    for number, line in zip(SIZES, done.stdout.splitlines(), strict=True):
        *values, label = line.split()
        same(np.float32(values).reshape(SETS[number]), number)
        assert label == best(number)


SCRIPT = """
import { pathToFileURL } from "node:url";
import { readFileSync } from "node:fs";
const [bundle, rgb] = process.argv.slice(2);
const { Classifier, openBundle } = await import(pathToFileURL(`${bundle}/node.js`));
const classifier = await Classifier.load(await openBundle(bundle));
const image = { data: new Uint8Array(readFileSync(rgb)), width: 52, height: 37 };
const { predictor } = classifier;
const out = [];
for (const options of [{}, { shape: 2 }, {}, { shape: 1 }]) {
  const [{ label }] = await classifier.classify(image, options);
  out.push({ number: predictor.shape, label, copy: Array.from(predictor.outputValues().copy) });
}
predictor.setShape(0);
await classifier.classify(image);
out.push(predictor.shape);
for (const shape of [0, 3]) out.push(await classifier.classify(image, { shape }).catch((e) => e.message));
console.log(JSON.stringify(out));
"""


def test_javascript_prepares_a_picture_for_the_set_it_has(wasm: Path, tmp_path: Path) -> None:
    if not node_command():
        skip_or_fail("node is not installed")
    (tmp_path / "main.mjs").write_text(SCRIPT)
    (tmp_path / "rgb").write_bytes(PICTURE.tobytes())
    command = [*node_command(), tmp_path / "main.mjs", wasm, tmp_path / "rgb"]
    done = run(command, limit_s=60)
    assert done.returncode == 0, done.stderr
    *shown, first, batch, unknown = json.loads(done.stdout)
    assert [entry["number"] for entry in shown] == [1, 2, 2, 1]
    for entry in shown:
        want = np.maximum(wanted(entry["number"]), 0).ravel()
        assert np.abs(np.float32(entry["copy"]) - want).max() <= 1 / 0.5  # a level of the picture's 256
        assert entry["label"] == best(entry["number"])
    assert first == 1
    assert batch == "zoom takes no picture in its shapes number 0" and "number 3" in unknown


def test_pyodides_runtime_prepares_a_picture_for_the_set_it_has(net: Path, tmp_path: Path) -> None:
    requires_module("wasmtime")
    from dlpack.targets.wasm.runtime import Predictor

    (wheel,) = bundle(net, tmp_path, "pyodide").glob("*-any.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "wheel")
    with Predictor(tmp_path / "wheel" / "zoom") as predictor:
        for number in (1, 2):
            predictor.set_shape(number)
            same(predictor.preprocess(PICTURE), number)
        predictor.set_shape(0)
        assert predictor.preprocess(PICTURE).shape == SETS[1] and predictor.shape == 1
        with pytest.raises(ValueError, match="it has 3"):
            predictor.set_shape(3)


def test_every_set_is_timed(net: Path, native: Path, wasm: Path) -> None:
    done = CliRunner().invoke(cli, ["bench", str(native), "--vs", "onnxruntime", "--model", str(net), "--rounds", "2"])
    assert done.exit_code == 0, done.output
    told = [done.output.index(f"image {'x'.join(map(str, shape))}") for shape in SETS]
    assert told == sorted(told) and done.output.count("ratio to onnxruntime") == 3
    bundles = [native] + ([wasm] if node_command() else [])
    for where in bundles:
        results = bench_bundle(where, rounds=2)["shapes"]
        assert [r["inputs"] for r in results] == [f"image {'x'.join(map(str, shape))}" for shape in SETS]
        assert all(row["minimum_ms"] > 0 for r in results for row in r["runs"])
        assert len({row["us"] for r in results for row in r["kernels"]}) > 1


def inputs(*shape: int) -> list[dict[str, Any]]:
    return [{"name": "image", "dtype": "float32", "shape": list(shape)}]


def test_a_preset_is_the_same_in_every_set() -> None:
    sets = [inputs(*shape) for shape in ((1, 3, 100, 110), (2, 3, 9, 9), (1, 3, 320, 320), (1, 3, 30, 40))]
    assert [p and p.resize for p in for_sets({"resize": "8/7"}, sets)] == [114, None, 365, 40]
    assert for_sets({}, [inputs(2, 8, 8, 3), inputs(1, 8, 9, 3)])[1] == Preprocess("image", 8, 9, layout="NHWC")


def test_a_resize_that_fits_no_other_set_is_refused() -> None:
    with pytest.raises(UsageError, match=r"resize 20 must be null or at least 60.*20 x 60"):
        for_sets({"resize": 20}, [inputs(1, 3, 20, 20), inputs(1, 3, 20, 60)])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"preprocess": '{"mean": [1, 2]}'}, "mean.* mean must be 1 or 3"),
        ({"preprocess": "{"}, "not JSON"),
        ({"task": "{"}, "not JSON"),
        ({"labels": ("a\0b",)}, "label 0 contains a NUL"),
    ],
)
def test_wrong_options_are_refused_before_compiling(net: Path, tmp_path: Path, options: Any, text: str) -> None:
    stages: list[str] = []
    with pytest.raises(UsageError, match=text):
        build(net, tmp_path / "x", Options("source", "", {"image": SETS[1]}, **options), Progress(stages.append))
    assert stages == ["read"] and not (tmp_path / "x").exists()


def test_an_error_tells_the_shapes_that_it_is_of(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    weights = nets._random(1, w=(4, 2))
    onnx.save(nets.model([node], {"x": ("n", "m")}, {"y": ("n", 2)}, weights), tmp_path / "net.onnx")
    options = Options("source", "", {"x": (1, 4)}, more_shapes=({"x": (1, 5)},))
    with pytest.raises(UnsupportedError, match="with --shape x=1x5: "):
        build(tmp_path / "net.onnx", tmp_path / "x", options)


def test_detections_are_of_the_set_that_made_them() -> None:
    def described(side: int) -> dict[str, Any]:
        outputs = [{"name": "boxes", "shape": [1, side, 4]}, {"name": "scores", "shape": [1, side, 1]}]
        return {"inputs": inputs(1, 3, side, side), "outputs": outputs, "preprocess": {"height": side, "width": side}}

    names = {"boxes": "boxes", "scores": "scores"}
    how = {"threshold": 0.5, "iou": 0.5, "most": 9, "coordinates": "pixels", "background": None}
    task = {"kind": "detect", "format": "corners", **names, **how}
    manifest = {"name": "n", "task": task, **described(10), "shapes": [described(10), described(20)]}
    boxes, scores = np.zeros((1, 20, 4), np.float32), np.zeros((1, 20, 1), np.float32)
    boxes[0, 4], scores[0, 4] = (5, 10, 15, 20), 0.75
    found = [Detection(0, "0", 0.75, 25.0, 50.0, 50.0, 50.0)]
    outputs = {"boxes": boxes, "scores": scores}
    assert detections(outputs, manifest, 100, 100) == found == detections(outputs, manifest, 100, 100, shape=1)
