"""examples/drone: in every format of boxes its detections are those of Python."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from detectors import FORMATS, PREPROCESS, anything
from drone import Array, compiled, run, tracks

import dlpack
from dlpack.meaning.detect import Detection, detections
from dlpack.pipeline import Options, build


@pytest.fixture(scope="module")
def debug(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for one bundle's program after the other, in which the parts that know no bundle are compiled once."""
    return tmp_path_factory.mktemp("debug")


@pytest.mark.parametrize("name", FORMATS)
def test_boxes_are_those_of_python(name: str, debug: Path, tmp_path: Path) -> None:
    """Of one picture the tracker has nothing to smooth: the program prints the detections of `meaning/detect.py`.

    The pictures are larger than the input, in one direction and in the other, or have its size; the middle of them is
    cut out, or not.
    """
    rng = np.random.default_rng(4)
    outputs, task = FORMATS[name]
    told = {"kind": "detect", "format": "corners" if name == "pixels" else name, **task}
    preprocess = {"scale": 1 / 128, "mean": [1.0]} | PREPROCESS.get(name, {})
    labels = ("a", "b", "c") if name == "corners" else ()
    options = Options(task=json.dumps(told), preprocess=json.dumps(preprocess), labels=labels, name=f"any_{name}")
    bundle = build(anything(rng, tmp_path, outputs), tmp_path / "bundle", options)
    program = compiled(bundle, debug, "-DCMAKE_BUILD_TYPE=Debug")
    most = 0
    with dlpack.load(bundle) as predictor:
        threshold = str(predictor.manifest["task"]["threshold"])
        for k, (height, width) in enumerate([(40, 31), (24, 70), (8, 8), (200, 300), (31, 40), (77, 66)]):
            picture = rng.integers(0, 256, (height, width, 3), np.uint8)
            path = tmp_path / f"{k}.ppm"
            path.write_bytes(b"P6 %d %d 255\n" % (width, height) + picture.tobytes())
            run(program, path, "--low", threshold, "--boxes", tmp_path / "boxes.txt")
            found = detections(
                predictor.run({"picture": predictor.preprocess(picture)}), predictor.manifest, width, height
            )
            compare(list(tracks(tmp_path / "boxes.txt")), found)
            most = max(most, len(found))
    assert most > 1


def compare(got: list[tuple[int, int, Array]], want: list[Detection]) -> None:
    """Ids are given in the order of scores; boxes are at least a pixel wide once they are tracked."""
    assert [(frame, number) for frame, number, _ in got] == [(1, k + 1) for k in range(len(want))]
    for (_, _, numbers), d in zip(got, want, strict=True):
        width, height = max(d.width, 1), max(d.height, 1)
        left, top = d.x + (d.width - width) / 2, d.y + (d.height - height) / 2
        np.testing.assert_allclose(numbers, [left, top, width, height, d.score], rtol=1e-4, atol=0.011)
