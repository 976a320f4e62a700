"""NAME_detections: in every format the boxes are those of Python, and wrong calls are a status."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import processes
import pytest
from conftest import DIGITS, requires_tool
from detectors import FORMATS, PREPROCESS, anything
from nets import model
from onnx import TensorProto, helper, numpy_helper

import dlpack
from dlpack.bundle.loader import Predictor
from dlpack.meaning.detect import detections
from dlpack.meaning.preprocess import from_json
from dlpack.pipeline import Options, build

STRICT = "-Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wdouble-promotion -Werror".split()
BAD_ARGUMENT = 1


class Found(ctypes.Structure):
    _fields_ = (
        ("index", ctypes.c_int32), ("score", ctypes.c_float), ("x", ctypes.c_float), ("y", ctypes.c_float),
        ("width", ctypes.c_float), ("height", ctypes.c_float), ("label", ctypes.c_char_p),
    )  # fmt: skip


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A bundle of each format; each is built once."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            outputs, task = FORMATS[name]
            told = {"kind": "detect", "format": "corners" if name == "pixels" else name, **task}
            preprocess = {"scale": 1 / 128, "mean": [1.0]} | PREPROCESS.get(name, {})
            folder = tmp_path_factory.mktemp(name)
            path = anything(np.random.default_rng(5), folder, outputs)
            labels = ("a", "b", "c") if name == "corners" else ()
            options = Options(task=json.dumps(told), preprocess=json.dumps(preprocess), labels=labels, name="found")
            made[name] = build(path, folder / "bundle", options)
        return made[name]

    return get


def look(p: Predictor, width: int, height: int, threshold: float, most: int = 100) -> list[Found]:
    """What the last run found."""
    found, count = (Found * most)(), ctypes.c_int32(-1)
    call = p._library[f"{p.name}_detections"]
    call.argtypes = [
        ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32, ctypes.c_double, ctypes.c_int32, ctypes.c_void_p,
        ctypes.c_void_p,
    ]  # fmt: skip
    assert call(p._handle, width, height, threshold, most, found, ctypes.byref(count)) == 0
    return list(found[: count.value])


@pytest.mark.parametrize("name", FORMATS)
def test_boxes_are_those_of_python(name: str, bundles: Callable[[str], Path]) -> None:
    draw = np.random.default_rng(6)
    with dlpack.load(bundles(name)) as p:
        task = p.manifest["task"]
        for height, width in ((40, 31), (24, 70), (8, 8), (200, 300)):
            picture = draw.integers(0, 256, (height, width, 3), np.uint8)
            outputs = p.run({"picture": p.preprocess(picture)})
            for threshold in (task["threshold"], 0.3):
                want = detections(outputs, {**p.manifest, "task": {**task, "threshold": threshold}}, width, height)
                got = look(p, width, height, threshold)
                assert [d.index for d in got] == [d.index for d in want]
                for d, w in zip(got, want, strict=True):
                    label = None if d.label is None else d.label.decode()
                    assert label == (w.label if "labels" in p.manifest else None)
                    numbers = [d.score, d.x, d.y, d.width, d.height]
                    np.testing.assert_allclose(numbers, [w.score, w.x, w.y, w.width, w.height], rtol=1e-5, atol=1e-5)
                assert [d.index for d in look(p, width, height, threshold, 2)] == [d.index for d in want[:2]]
                assert look(p, width, height, threshold, 0) == []


def test_more_candidates_than_are_kept_in_mind(tmp_path: Path) -> None:
    """All of 1,500 pass the threshold."""
    told = {"kind": "detect", "format": "rows", "output": "found", "threshold": 0.0, "iou": 0.6}
    path = anything(np.random.default_rng(7), tmp_path, {"found": ((1, 1, 1500, 7), "rows")})
    bundle = build(path, tmp_path / "bundle", Options(task=json.dumps(told), preprocess='{"scale": 0.01}'))
    picture = np.random.default_rng(8).integers(0, 256, (8, 8, 3), np.uint8)
    with dlpack.load(bundle) as p:
        want = detections(p.run({"picture": p.preprocess(picture)}), p.manifest, 8, 8)
        got = look(p, 8, 8, 0.0)
    assert len(want) > 10
    assert [(d.index, d.score) for d in got] == [(d.index, np.float32(d.score)) for d in want]


def test_halves(tmp_path: Path) -> None:
    """Pictures become float16, and boxes and scores are float16."""
    shapes = {"boxes": (1, 12, 4), "scores": (1, 12, 3)}
    weights = {"flat_shape": np.array([1, 192], np.int64)}
    nodes = [helper.make_node("Reshape", ["x", "flat_shape"], ["flat"])]
    draw = np.random.default_rng(9)
    for name, shape in shapes.items():
        weights |= {f"{name}_w": draw.normal(0, 0.2, (192, int(np.prod(shape)))).astype(np.float16)}
        weights |= {f"{name}_shape": np.array(shape, np.int64)}
        nodes += [
            helper.make_node("MatMul", ["flat", f"{name}_w"], [f"{name}_m"]),
            helper.make_node("Sigmoid", [f"{name}_m"], [f"{name}_s"]),
            helper.make_node("Reshape", [f"{name}_s", f"{name}_shape"], [name]),
        ]
    proto = model(nodes, {"x": (1, 3, 8, 8)}, shapes)
    proto.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in weights.items())
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(proto, tmp_path / "halves.onnx")
    task = json.dumps({"kind": "detect", "format": "corners", "boxes": "boxes", "scores": "scores", "threshold": 0.1})
    preprocess = json.dumps({"scale": 1 / 64, "mean": [2, 1.9, 2.1]})
    bundle = build(tmp_path / "halves.onnx", tmp_path / "bundle", Options(task=task, preprocess=preprocess))
    picture = draw.integers(0, 256, (20, 30, 3), np.uint8)
    with dlpack.load(bundle) as p:
        given = p.preprocess(picture)
        assert given.dtype == np.float16
        spec = from_json(json.loads(preprocess), p.manifest["inputs"])
        np.testing.assert_array_equal(p.preprocess(picture[:8, :8]), spec(picture[:8, :8]))
        np.testing.assert_allclose(given, spec(picture), rtol=0, atol=1 / 63)  # a byte, where it is resized
        outputs = p.run({"x": given})
        want = detections(outputs, p.manifest, 30, 20)
        got = look(p, 30, 20, 0.1)
        order = np.argsort(-outputs["scores"].ravel(), kind="stable")
        assert [c.index for c in p.top_k(36, "scores")] == order.tolist()
    assert want and [d.index for d in got] == [d.index for d in want]
    np.testing.assert_allclose([d.x for d in got], [d.x for d in want], rtol=1e-3, atol=1e-2)


def test_wrong_calls_are_a_status(bundles: Callable[[str], Path]) -> None:
    with dlpack.load(bundles("corners")) as p:
        found, count = (Found * 4)(), ctypes.c_int32(9)
        call, at = p._library["found_detections"], ctypes.byref(count)
        call.argtypes = [
            ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32, ctypes.c_double, ctypes.c_int32, ctypes.c_void_p,
            ctypes.c_void_p,
        ]  # fmt: skip
        for arguments in (
            (None, 8, 8, 0.5, 4, found, at),
            (p._handle, 0, 8, 0.5, 4, found, at),
            (p._handle, 8, (1 << 20) + 1, 0.5, 4, found, at),
            (p._handle, 8, 8, float("nan"), 4, found, at),
            (p._handle, 8, 8, 0.5, -1, found, at),
            (p._handle, 8, 8, 0.5, 4, None, at),
            (p._handle, 8, 8, 0.5, 4, found, None),
        ):
            count.value = 9
            assert call(*arguments) == BAD_ARGUMENT
            assert count.value == (9 if arguments[-1] is None else 0)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_it_compiles_clean_and_freestanding(
    name: str, compiler: str, bundles: Callable[[str], Path], tmp_path: Path
) -> None:
    for extra in ([], ["-DFOUND_FREESTANDING", "-ffreestanding", "-fno-pic"]):
        words = (requires_tool(compiler), "-std=c++17", "-O1", *STRICT, "-Wno-psabi", *extra, "-c",
                 bundles(name) / "found.cc", "-o", tmp_path / "x.o")  # fmt: skip
        done = processes.run(words)
        assert done.returncode == 0 and done.stderr == "", done.stderr


def test_others_have_no_boxes(bundles: Callable[[str], Path], tmp_path: Path) -> None:
    header = (bundles("corners") / "found.h").read_text()
    assert "#define FOUND_THRESHOLD 0.6" in header and "#define FOUND_MOST_DETECTIONS 100" in header
    assert "_detection" not in (build(DIGITS, tmp_path / "digits") / "digits.h").read_text()
