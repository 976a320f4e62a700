"""The task of a model: its JSON form, guesses, and detections, in Python and in JavaScript."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, requires_tool
from processes import run

from dlpack.errors import UsageError
from dlpack.meaning.detect import Detection, detections, overlap, suppressed
from dlpack.meaning.preprocess import from_json as preprocess_from_json
from dlpack.meaning.preprocess import open_picture
from dlpack.meaning.task import from_json, from_metadata, guess, resolve, task_of

Array = np.ndarray[Any, Any]
EXAMPLES = ROOT / "examples" / "detectors"


def tensor(name: str, *shape: int, dtype: str = "float32") -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": list(shape)}


IMAGE = [tensor("image", 1, 3, 48, 64)]
PAIR = [tensor("scores", 1, 40, 3), tensor("boxes", 1, 40, 4)]

# --- the JSON form ----------------------------------------------------------------------------------------------------


def test_outputs_are_found_by_their_shapes(tmp_path: Path) -> None:
    path = tmp_path / "task.json"
    path.write_text('{"kind": "detect", "format": "corners", "background": 0}')
    task = resolve(str(path), IMAGE, PAIR)
    assert (task["boxes"], task["scores"], task["threshold"], task["coordinates"]) == (
        "boxes", "scores", 0.5, "relative",
    )  # fmt: skip
    assert from_metadata(path.read_text(), IMAGE, PAIR) == task


@pytest.mark.parametrize(
    "value, message",
    [
        ("[]", "not a readable file"),
        ("{", "not JSON"),
        ('{"kind": "dance"}', "not one of classify, detect"),
        ('{"kind": "detect"}', "format None is not one of corners"),
        ('{"kind": "classify", "colour": 1}', "unknown key 'colour'"),
        ('{"kind": "classify", "output": "z"}', "no output 'z'; it has scores, boxes"),
        ('{"kind": "style"}', "no output of shape 1x3xHxW"),
        ('{"kind": "detect", "format": "grid"}', "no output of shape 1xCxHxW"),
        (
            '{"kind": "detect", "format": "corners", "boxes": "scores"}',
            "'scores' is float32 1x40x3; expected float of 1xNx4",
        ),
        ('{"kind": "detect", "format": "corners", "threshold": "x"}', "threshold 'x' is not a number from 0 to 1"),
        ('{"kind": "detect", "format": "corners", "threshold": true}', "is not a number"),
        ('{"kind": "detect", "format": "corners", "background": 3}', "background 3 is not a whole number from 0 to 2"),
        ('{"kind": "detect", "format": "corners", "most": 0}', "most 0"),
        ('{"kind": "detect", "format": "anchors"}', "anchors must be a list"),
        ('{"kind": "detect", "format": "anchors", "anchors": [{"stride": 0, "sizes": []}]}', "stride must be"),
        (
            '{"kind": "detect", "format": "anchors", "anchors": [{"stride": 16, "sizes": [[8, 8]]}]}',
            "12 anchors but 40 boxes",
        ),
        ('{"kind": "text", "input": "image", "output": "scores", "states": []}', "states must be an object"),
        (
            '{"kind": "text", "input": "image", "output": "scores", "states": {"image": "boxes"}}',
            "differ in type or shape",
        ),
    ],
)
def test_what_is_wrong_is_told(value: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve(value, IMAGE, PAIR)


def test_a_task_about_pictures_needs_preprocessing() -> None:
    manifest = {"inputs": IMAGE, "outputs": PAIR}
    told = '{"kind": "detect", "format": "corners"}'
    with pytest.raises(UsageError, match="--preprocess"):
        task_of(None, {"dlpack.task": told}, manifest, [])
    with pytest.raises(UsageError, match="is not a detector"):
        detections({}, {"name": "n", "task": {"kind": "classify"}}, 1, 1)


# --- guesses ----------------------------------------------------------------------------------------------------------


def guessed(outputs: dict[str, Array], inputs: list[dict[str, Any]] = IMAGE, pictures: bool = True) -> Any:
    described = [tensor(name, *v.shape) for name, v in outputs.items()]
    task = guess(inputs, described, pictures, list(outputs.values()))
    return task and (task["kind"], task.get("format"))


def test_guesses(rng: np.random.Generator) -> None:
    corners = np.sort(rng.random((1, 30, 2, 2)), axis=2).reshape(1, 30, 4).astype(np.float32)
    shares = rng.random((1, 30, 2), np.float32)
    assert guessed({"s": shares, "b": corners}) == ("detect", "corners")
    offsets = rng.standard_normal((1, 30, 4)).astype(np.float32)
    assert guessed({"s": shares, "b": offsets}) is None, "offsets to anchors are no boxes"
    assert guessed({"s": shares, "b": corners}, pictures=False) is None
    grid = rng.random((1, 8, 6, 6), np.float32)
    assert guessed({"g": grid}) is None
    grid[:, 5:] /= grid[:, 5:].sum(1, keepdims=True)
    assert guessed({"g": grid}) == ("detect", "grid")
    assert guessed({"rows": rng.random((1, 1, 9, 7), np.float32)}) == ("detect", "rows")
    assert guessed({"y": rng.random((1, 3, 48, 64), np.float32)}) == ("style", None)
    assert guessed({"p": rng.random((1, 10), np.float32), "l": rng.random((1, 10), np.float32)}) == ("classify", None)
    assert guessed({"p": rng.random((1, 10), np.float32)}, [tensor("x", 1, 1, 28, 28)], False) == ("digits", None)
    assert guessed({"p": rng.random((1, 10), np.float32)}, [*IMAGE, tensor("more", 1)]) is None


# --- detections -------------------------------------------------------------------------------------------------------


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


def test_suppression_keeps_the_surest_of_each_class(rng: np.random.Generator) -> None:
    """Against the definition, box by box: kept if and only if no kept and surer box of its class overlaps too much."""
    corner = rng.random((60, 2))
    boxes = np.concatenate([corner, corner + 0.1 + 0.4 * rng.random((60, 2))], 1)
    classes, scores = rng.integers(0, 3, 60), np.round(rng.random(60), 1)  # with ties
    kept = suppressed(boxes, classes, scores, 0.3, 1000)
    assert [scores[k] for k in kept] == sorted((scores[k] for k in kept), reverse=True)
    for n in range(60):
        before = [k for k in kept if (-scores[k], k) < (-scores[n], n) and classes[k] == classes[n]]
        assert (n in kept) == all(overlap(boxes[n], boxes[[k]])[0] <= 0.3 for k in before)
    assert 3 < len(kept) < 60 and suppressed(boxes, classes, scores, 0.3, 3) == kept[:3]
    assert overlap(np.array([0.0, 0, 2, 2]), np.array([[1.0, 1, 3, 3], [5, 5, 6, 6], [0, 0, 2, 2]])) == pytest.approx(
        [1 / 7, 0, 1]
    )


def detector(task: dict[str, Any], outputs: dict[str, Array], resize: int | None) -> dict[str, Any]:
    """A manifest of a detector with an input of 64 x 48."""
    described = [tensor(name, *v.shape) for name, v in outputs.items()]
    return {
        "name": "net",
        "inputs": IMAGE,
        "outputs": described,
        "labels": ["nothing", "cat", "dog"],
        "preprocess": preprocess_from_json({"resize": resize}, IMAGE).to_json(),
        "task": from_json({"kind": "detect", **task}, IMAGE, described),
    }


def some_outputs(format_: str, rng: np.random.Generator) -> tuple[dict[str, Any], dict[str, Array]]:
    """A task of this format and outputs that suit it."""
    if format_ == "rows":
        corner = rng.random((50, 2)) * 1.2 - 0.2
        classes = rng.integers(-1, 3, (50, 1))
        rows = np.concatenate([classes, rng.random((50, 1)), corner, corner + 0.1 + rng.random((50, 2)) / 3], 1)
        return {"format": "rows", "background": 0}, {"found": rows[None].astype(np.float32)}
    if format_ == "grid":
        grid = rng.standard_normal((1, 8, 6, 8)).astype(np.float32)
        grid[:, 0] = rng.random((6, 8))
        grid[:, 5:] = rng.dirichlet([0.3] * 3, (6, 8)).transpose(2, 0, 1)
        return {"format": "grid", "threshold": 0.3}, {"grid": grid}
    levels = [{"stride": 16, "sizes": [[12, 20], [30, 9.5]]}, {"stride": 40, "sizes": [[60, 60]]}]
    count = 3 * 4 * 2 + 2 * 2
    scores = rng.dirichlet([0.5] * 3, (1, count)).astype(np.float32)
    if format_ == "anchors":
        outputs = {"scores": scores, "boxes": rng.standard_normal((1, count, 4)).astype(np.float32)}
        return {"format": "anchors", "anchors": levels, "clip": True, "background": 0, "variances": [0.1, 0.3]}, outputs
    corner = rng.random((1, count, 2)) * 40
    corners = np.concatenate([corner, corner + 4 + 20 * rng.random((1, count, 2))], 2).astype(np.float32)
    return {"format": "corners", "coordinates": "pixels", "background": 0}, {"boxes": corners, "scores": scores}


DETECT = f"""
import {{ readFileSync }} from "node:fs";
const {{ Detector }} = await import("file://{ROOT}/web/detector.js");
const found = [];
for (const {{ manifest, outputs, width, height }} of JSON.parse(readFileSync(0, "utf8"))) {{
  const run = async () => Object.fromEntries(Object.entries(outputs).map(([k, v]) => [k, Float32Array.from(v)]));
  const {{ name, inputs }} = manifest;
  const detector = new Detector({{ name, manifest, inputs, outputs: manifest.outputs, run }});
  found.push(await detector.detect({{ data: new Uint8Array(3 * width * height), width, height }}));
}}
console.log(JSON.stringify(found));
"""


def in_javascript(cases: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    given = [{**c, "outputs": {k: v.ravel().tolist() for k, v in c["outputs"].items()}} for c in cases]
    command = [requires_tool("node"), "--input-type=module", "-e", DETECT]
    done = run(command, input=json.dumps(given))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_python_and_javascript_agree(rng: np.random.Generator) -> None:
    """In every format, stretched and cut out, in wide and in high pictures."""
    cases: list[dict[str, Any]] = []
    for format_ in ("corners", "anchors", "grid", "rows"):
        for resize, width, height in ((None, 100, 70), (70, 37, 90), (64, 301, 200)):
            task, outputs = some_outputs(format_, rng)
            manifest = detector(task, outputs, resize)
            cases.append({"manifest": manifest, "outputs": outputs, "width": width, "height": height})
    for case, theirs in zip(cases, in_javascript(cases), strict=True):
        ours = detections(case["outputs"], case["manifest"], case["width"], case["height"])
        assert len(ours) > 1
        assert [(d.index, d.label) for d in ours] == [(d["index"], d["label"]) for d in theirs]
        assert all(d.label in ("cat", "dog") for d in ours) or case["manifest"]["task"]["format"] == "grid"
        for a, b in zip(ours, theirs, strict=True):
            assert (a.score, a.x, a.y, a.width, a.height) == pytest.approx(
                [b[k] for k in ("score", "x", "y", "width", "height")], abs=1e-4
            )
            assert 0 <= a.x < a.x + a.width <= case["width"] + 1e-9
            assert 0 <= a.y < a.y + a.height <= case["height"] + 1e-9


def test_boxes_lie_where_they_are_in_the_picture() -> None:
    """A box around the middle half of the input, of a picture twice as wide as high."""
    outputs = {"rows": np.array([[[1, 0.9, 0.25, 0.25, 0.75, 0.75]]], np.float32)}
    inputs = [tensor("image", 1, 3, 50, 50)]
    manifest = {
        "name": "net",
        "task": from_json({"kind": "detect", "format": "rows"}, inputs, [tensor("rows", 1, 1, 6)]),
        "preprocess": preprocess_from_json({}, inputs).to_json(),
    }
    assert detections(outputs, manifest, 200, 100) == [Detection(1, "1", pytest.approx(0.9), 50, 25, 100, 50)]
    manifest["preprocess"] = preprocess_from_json({"resize": 50}, inputs).to_json()  # cuts out the middle square
    assert detections(outputs, manifest, 200, 100) == [Detection(1, "1", pytest.approx(0.9), 75, 25, 50, 50)]


# --- real detectors ---------------------------------------------------------------------------------------------------


def look(model: Any, spec: str, task: Any, labels: list[str], picture: Path) -> list[Detection]:
    """What a detector finds, run by onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options)
    (given,) = session.get_inputs()
    inputs = [tensor(given.name, *given.shape)]
    preprocess = preprocess_from_json(json.loads((EXAMPLES / spec).read_text()), inputs)
    image = open_picture(picture)
    values = session.run(None, {given.name: preprocess(image)})
    outputs = {t.name: v for t, v in zip(session.get_outputs(), values, strict=True)}
    described = [tensor(name, *v.shape) for name, v in outputs.items()]
    found = task and from_json(json.loads((EXAMPLES / task).read_text()), inputs, described)
    found = found or guess(inputs, described, True, values)
    manifest = {"name": "n", "task": found, "preprocess": preprocess.to_json(), "labels": labels}
    return detections(outputs, manifest, image.shape[1], image.shape[0])


def corners_of(d: Detection) -> Array:
    return np.array([d.x, d.y, d.x + d.width, d.y + d.height])


def test_both_face_detectors_find_the_face(models_dir: Path) -> None:
    """One tells its boxes, the other offsets to anchors."""
    from dlpack.exporters import export

    faces = (EXAMPLES / "faces.txt").read_text().split()
    picture = models_dir / "images" / "astronaut.png"
    larger = models_dir / "onnx" / "ultraface-rfb-640" / "version-RFB-640.onnx"
    smaller = export(models_dir / "caffe" / "ultraface-rfb-320" / "RFB-320.prototxt").model.SerializeToString()
    (a,) = look(larger, "ultraface.json", None, faces, picture)
    (b,) = look(smaller, "ultraface.json", "ultraface_320.task.json", faces, picture)
    assert (a.label, b.label) == ("face", "face") and min(a.score, b.score) > 0.999
    assert overlap(corners_of(a), corners_of(b)[None])[0] > 0.7
    assert a.x > 150 and a.x + a.width < 300 and a.y > 30 and a.y + a.height < 200


@pytest.mark.parametrize(
    "picture, label",
    [("astronaut.png", "person"), ("chelsea.png", "cat"), ("cat_snow.jpg", "cat"), ("coyote.jpg", "dog")],
)
def test_fastestdet_finds_what_is_there(models_dir: Path, picture: str, label: str) -> None:
    folder = models_dir / "onnx" / "fastestdet"
    names = (folder / "coco.names").read_text().split("\n")
    found = look(folder / "FastestDet.onnx", "fastestdet.json", None, names, models_dir / "images" / picture)
    assert {d.label for d in found} == {label} and found[0].score > 0.75
    assert found[0].width * found[0].height > 0.4 * np.prod(open_picture(models_dir / "images" / picture).shape[:2])
