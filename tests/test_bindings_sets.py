"""Bindings: in each language that is here a program chooses sizes and threads, and finds boxes in a picture. It gives
what `dlpack.load` gives, and each misuse is an error that says what is wrong.

The programs are tests/bindings/found.*; all share one bundle.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import nets
import numpy as np
import onnx
import pytest
from conftest import optional_tool
from onnx import helper, numpy_helper
from processes import run
from test_bindings import LANGUAGES, PROGRAMS, RUNNERS, check_texts

import dlpack
from dlpack.meaning.detect import detections
from dlpack.meaning.open_batch import opened_batch
from dlpack.pipeline import Options, build

PICTURE = np.random.default_rng(4).integers(0, 256, (5, 7, 3), dtype=np.uint8)
ROWS = [[0, 1, 0.5, 0.1, 0.2, 0.5, 0.6], [0, 2, 0.7, 0.3, 0.1, 0.9, 0.8], [0, 1, 0.1, 0.0, 0.0, 1.0, 1.0]]
"""An image's number, class, score and corners, to which a tenth of the picture's mean is added; the third is unsure."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector for pictures of 10,201 sizes, which no text lists. It also gives twice its input, and what is worth
    two threads."""
    folder = tmp_path_factory.mktemp("found")
    nodes = [
        helper.make_node("Add", ["image", "image"], ["twice"]),
        helper.make_node("GlobalAveragePool", ["image"], ["colours"]),
        helper.make_node("ReduceMean", ["colours"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["mean", "weight"], ["moved"]),
        helper.make_node("Add", ["moved", "rows"], ["boxes"]),
        helper.make_node("Expand", ["mean", "width"], ["wide"]),
        helper.make_node("Exp", ["wide"], ["much"]),
    ]
    outputs = {"twice": (1, 3, "h", "w"), "boxes": (1, 1, 3, 7), "much": (1, 1, 1, 200_001)}
    model = nets.model(nodes, {"image": (1, 3, "h", "w")}, outputs)
    tensors = {"rows": np.array([[ROWS]], np.float32), "weight": np.array([0, 0, *5 * [0.1]], np.float32)}
    tensors["width"] = np.array([1, 1, 1, 200_001])
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in tensors.items())
    onnx.save(model, folder / "found.onnx")
    task = {"kind": "detect", "format": "rows", "output": "boxes", "threshold": 0.4, "most": 5}
    (closed,), batch = opened_batch(["image=1x3x6..206/2x6..206/2"])
    options = Options(
        shapes={"image": tuple(map(int, closed.partition("=")[2].split("x")))}, batch=batch, threads=2,
        task=json.dumps(task), preprocess='{"scale": 0.01}', labels=("none", "猫", "dog"), bindings=LANGUAGES,
        verify=False,
    )  # fmt: skip
    return build(folder / "found.onnx", folder / "bundle", options)


WRONG = {"bounds", "step", "length", "picture", "shape", "threads"}
MISUSES = {language: WRONG | (set() if language in ("rust", "swift") else {"closed"}) for language in RUNNERS}
"""What the programs do wrongly; a predictor of Rust and Swift cannot be used when it is closed."""


def test_the_texts_are_whole(found: Path) -> None:
    check_texts(found)


def test_swift_finds_boxes_in_images(found: Path, tmp_path: Path) -> None:
    """Detector.swift, for which CoreGraphics has to be there, passes the compiler with a stub of that."""
    swiftc = optional_tool("swiftc", "it takes 3.1 GB; script/toolchains swift does")
    stubs = PROGRAMS / "coregraphics.swift"
    run([swiftc, "-emit-module", "-module-name", "CoreGraphics", "-parse-as-library", stubs], cwd=tmp_path, check=True)
    sources = found / "bindings" / "swift" / "Sources"
    files = sorted((sources / "Found").glob("*.swift"))
    assert [f.name for f in files] == ["Detector.swift", "Predictor.swift"]
    headers = sources / "Cfound" / "include"
    run([swiftc, "-typecheck", "-warnings-as-errors", "-I", headers, "-I", tmp_path, *files], check=True)


@pytest.mark.parametrize("language", RUNNERS)
def test_sizes_threads_and_boxes(language: str, found: Path, tmp_path: Path) -> None:
    use, suffix, _ = RUNNERS[language]
    PICTURE.tofile(tmp_path / "picture.bin")
    (tmp_path / "work").mkdir()
    program = PROGRAMS / f"found{suffix}"
    told = defaultdict(list)
    for line in use(found, "found", program, tmp_path / "work", str(tmp_path / "picture.bin")).splitlines():
        key, *rest = line.split()
        told[key.rstrip(":")].append(rest)
    assert [[float(n) for n in line] for line in told["set"]] == [[102, 192, 3], [0, 108, 5]]
    with dlpack.load(found) as p:
        p.set_shape(0)
        wanted = detections(p.run({"image": p.preprocess(PICTURE)}), p.manifest, 7, 5)
    assert [(int(i), label) for i, label, *_ in told["found"]] == [(d.index, d.label) for d in wanted] and wanted
    for (_, _, *numbers), d in zip(told["found"], wanted, strict=True):
        np.testing.assert_allclose([float(n) for n in numbers], [d.score, d.x, d.y, d.width, d.height], rtol=1e-5)
    assert told["sure"] == [["0"]]
    for misuse in MISUSES[language]:
        assert told[misuse] and all(message != ["no", "error"] for message in told[misuse]), misuse
    if language != "python-wheel":
        for misuse in ("bounds", "step"):
            assert all("1x3x6..206/2x6..206/2" in " ".join(m) for m in told[misuse]), misuse
    assert all("closed" in " ".join(m) or "disposed" in " ".join(m).lower() for m in told["closed"])
    assert all("108" in " ".join(m) or "6, 6" in " ".join(m) for m in told["length"])
