"""Pictures in the target wasm: prepared in JavaScript as in Python, and classified."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, requires_module, requires_tool
from wasm_bundles import OPEN, manifest_of, node_json

from dlpack.errors import UsageError
from dlpack.meaning.preprocess import PRESETS, Preprocess, from_json, open_picture, resolve
from dlpack.pipeline import Options, build
from dlpack.targets.wasm.run import run_in_node

INPUT = [{"name": "x", "dtype": "float32", "shape": [1, 3, 24, 32]}]

PREPROCESS = """import { readFileSync } from "node:fs";
    const { preprocess } = await import(`file://${process.argv[1]}`);
    const jobs = JSON.parse(readFileSync(process.argv[2], "utf8"));
    console.log(JSON.stringify(jobs.map(({ image, spec }) => {
      const data = Uint8ClampedArray.from(Buffer.from(image.data, "base64"));
      return Array.from(preprocess({ ...image, data }, spec));
    })));"""


def in_script(jobs: list[tuple[np.ndarray, Preprocess]], tmp_path: Path) -> list[np.ndarray]:
    """What web/preprocess.js makes of pictures."""
    import base64

    file = tmp_path / "jobs.json"
    file.write_text(
        json.dumps(
            [
                {
                    "image": {
                        "data": base64.b64encode(np.ascontiguousarray(p).tobytes()).decode(),
                        "height": p.shape[0],
                        "width": p.shape[1],
                    },
                    "spec": s.to_json(),
                }
                for p, s in jobs
            ]
        )
    )
    return [np.array(x) for x in node_json(PREPROCESS, ROOT / "web" / "preprocess.js", file)]


def test_pictures_are_prepared_as_in_python(tmp_path: Path) -> None:
    """All presets, channels, layouts and types; larger, smaller, odd and tiny pictures: within one level of 255."""
    draw = np.random.default_rng(5)
    shapes = [(24, 32), (48, 64), (97, 131), (300, 41), (7, 5), (1, 1), (25, 200)]
    inputs = {
        "nchw": {"name": "x", "dtype": "float32", "shape": [1, 3, 24, 32]},
        "nhwc": {"name": "x", "dtype": "float32", "shape": [1, 20, 20, 3]},
        "gray": {"name": "x", "dtype": "float32", "shape": [1, 1, 28, 28]},
        "bytes": {"name": "x", "dtype": "uint8", "shape": [1, 3, 24, 32]},
    }
    specs = [from_json(PRESETS["none"], [t]) for t in inputs.values()]
    specs += [from_json({**PRESETS[n], "resize": 36}, [inputs["nchw"]]) for n in ("imagenet", "caffe", "tf")]
    specs += [from_json({"channels": "BGR", "resize": 20, "mean": [1, 2, 3], "std": [4, 5, 6]}, [inputs["nhwc"]])]
    jobs = []
    for k, spec in enumerate(specs):
        for i, (h, w) in enumerate(shapes):
            channels = (3, 4, 1)[(i + k) % 3]
            jobs.append((draw.integers(0, 256, (h, w, channels), np.uint8), spec))
    for (picture, spec), got in zip(jobs, in_script(jobs, tmp_path), strict=True):
        want = spec(picture)
        level = spec.scale / np.min(np.abs(spec.std)) if spec.dtype == "float32" else 1.0
        assert got.size == want.size
        np.testing.assert_allclose(got.reshape(want.shape), want, rtol=0, atol=1.001 * level)


def test_a_picture_of_another_origin_is_told() -> None:
    """Browsers draw it, but do not give its pixels."""
    script = """
        globalThis.OffscreenCanvas = class {
          getContext() {
            return { drawImage() {}, getImageData() { throw new DOMException("tainted", "SecurityError"); } };
          }
        };
        const { pixelsOf } = await import(`file://${process.argv[1]}`);
        try { pixelsOf({ width: 2, height: 2 }); } catch (e) { console.log(JSON.stringify(e.message)); }"""
    assert node_json(script, ROOT / "web" / "preprocess.js").startswith(
        "the picture is of another origin: load it with "
    )


def test_resizing_is_pils(tmp_path: Path) -> None:
    """Python's side against Pillow and torchvision's arithmetic of sizes."""
    Image = requires_module("PIL.Image")
    draw = np.random.default_rng(6)
    spec = from_json({"resize": 40}, INPUT)
    for h, w in [(80, 100), (131, 97), (40, 40), (33, 57), (41, 300)]:
        picture = draw.integers(0, 256, (h, w, 3), np.uint8)
        short = min(h, w)
        new_w, new_h = int(w * 40 / short + 0.5), int(h * 40 / short + 0.5)
        resized = np.asarray(Image.fromarray(picture).resize((new_w, new_h), Image.Resampling.BILINEAR))
        top, left = (new_h - 24) // 2, (new_w - 32) // 2
        want = resized[top : top + 24, left : left + 32].transpose(2, 0, 1)[None]
        assert np.abs(spec(picture) - want).max() <= 1


def test_a_preprocess_option_is_checked(tmp_path: Path) -> None:
    (spec,) = resolve("imagenet", [[{"name": "data", "dtype": "float32", "shape": [1, 3, 224, 224]}]])
    assert spec and (spec.input, spec.resize, spec.layout, spec.channels) == ("data", 256, "NCHW", "RGB")
    file = tmp_path / "p.json"
    file.write_text('{"preset": "tf", "resize": null}')
    (spec,) = resolve(str(file), [INPUT])
    assert spec and spec.resize is None and spec.scale == 1 / 127.5
    for text, message in [
        ("imagnet", "neither a preset"),
        ("[1]", "neither a preset"),
        ("{", "not JSON"),
        ('{"channels": "GRAY"}', "do not match"),
        ('{"channels": "HSV"}', "do not match"),
        ('{"resize": 20}', "at least 32"),
        ('{"std": [0]}', "not 0"),
        ('{"mean": [1, 2]}', "1 or 3"),
        ('{"mean": 1}', "lists of numbers"),
        ('{"colour": "RGB"}', "unknown key 'colour'"),
        ('{"preset": "torch"}', "unknown preset"),
        ('{"input": "y"}', "no input y"),
        ('{"layout": "CHW"}', "must be NCHW or NHWC"),
    ]:
        with pytest.raises(UsageError, match=re.escape(message)):
            resolve(text, [INPUT])


def test_the_classifier_classifies(digits_wasm: Path) -> None:
    """Ten held-out digits, as pictures."""
    rows = np.loadtxt(ROOT / "examples" / "digits" / "held_out.csv", delimiter=",", dtype=np.float32)
    script = (
        OPEN
        + """
        const classifier = await Classifier.load(process.argv[1]);
        const out = [];
        for (const pixels of JSON.parse(process.argv[2])) {
          const data = Uint8ClampedArray.from(pixels, (v) => Math.round((v * 255) / 16));
          out.push(await classifier.classify({ data, width: 8, height: 8 }, { topK: 2 }));
        }
        console.log(JSON.stringify(out));"""
    )
    answers = node_json(script, digits_wasm, json.dumps(rows[:, 1:].tolist()))
    right = sum(a[0]["label"] == str(int(row[0])) for a, row in zip(answers, rows, strict=True))
    assert right >= 9
    assert all(len(a) == 2 and a[0]["probability"] >= a[1]["probability"] for a in answers)


def test_a_real_photograph_is_recognised(models_dir: Path, tmp_path: Path) -> None:
    requires_module("PIL")
    requires_tool("node")
    model = models_dir / "onnx" / "squeezenet1.1" / "squeezenet1.1.onnx"
    labels = tuple((models_dir / "labels" / "synset.txt").read_text(encoding="utf-8").split("\n")[:1000])
    bundle = build(model, tmp_path / "s", Options("wasm", labels=labels, preprocess="imagenet"))
    manifest = manifest_of(bundle)
    spec = from_json(manifest["preprocess"], manifest["inputs"])
    for picture, label, probability in [("chelsea.png", "Egyptian cat", 0.50), ("coyote.jpg", "coyote", 0.62)]:
        inputs = {spec.input: spec(open_picture(models_dir / "images" / picture))}
        outputs, _ = run_in_node(bundle, manifest, "simd", inputs)
        scores = next(iter(outputs.values())).ravel()
        assert label in labels[int(scores.argmax())]
        assert scores.max() == pytest.approx(probability, abs=0.01)
    assert manifest["wasm"]["simd"]["bytes"] + manifest["script_bytes"] <= 80_000
