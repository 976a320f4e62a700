"""Quantised inputs and outputs in JavaScript and in WebAssembly's Python."""

from __future__ import annotations

import json
import sys
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, requires_module, requires_tool
from processes import run
from quantised_nets import COLOURS, KINDS, built, classifier, tensor
from test_task import detector, some_outputs

from dlpack.errors import UsageError
from dlpack.meaning.detect import detections
from dlpack.meaning.preprocess import from_json
from dlpack.meaning.quantization import Quantization
from dlpack.meaning.task import from_json as task_from_json
from dlpack.targets.wasm.runtime import Predictor as Pyodide


def in_node(script: str, given: Any) -> Any:
    """What an ES module prints as JSON; it has `given`, and `web(file)` imports from web/."""
    head = f"""import {{ readFileSync }} from "node:fs";
        const web = (file) => import(`file://{ROOT}/web/${{file}}`);
        const given = JSON.parse(readFileSync(0, "utf8"));
        """
    command = [requires_tool("node"), "--input-type=module", "-e", head + script]
    done = run(command, input=json.dumps(given))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def in_wasm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The int8 classifier for WebAssembly, which also Pyodide's predictor takes."""
    requires_tool("node")
    folder = tmp_path_factory.mktemp("wasm")
    return built(classifier("int8"), folder, target="wasm", labels=COLOURS, preprocess='{"scale": 0.0039}')


def test_a_quantised_classifier_in_javascript(in_wasm: Path) -> None:
    script = """const { Classifier } = await import(`file://${given}/node.js`);
        const c = await Classifier.load(given);
        const data = Uint8Array.from({ length: 192 }, (_, i) => [200, 120, 0][i % 3]);
        const found = await c.classify({ data, width: 8, height: 8 }, { topK: 3 });
        const { y } = await c.predictor.run({ x: new Float32Array(192) });
        const real = c.predictor.dequantize("y", y);
        const again = c.predictor.quantize("y", [...real, -1, 2, 2.5 / 256, NaN]);
        const [{ quantization, probabilities }] = c.predictor.outputs;
        let error = "";
        try { c.predictor.dequantize("z", y); } catch (e) { error = e.message; }
        console.log(JSON.stringify([found, [...y], [...real], [...again], again.constructor.name, quantization,
          probabilities, error, c.predictor.dequantize("x", real) === real]));"""
    found, y, real, again, kind, quantization, probabilities, error, same = in_node(script, str(in_wasm))
    e = np.exp(np.array([200, 120, 0]) * 0.0039)
    assert [c["label"] for c in found] == list(COLOURS)
    np.testing.assert_allclose([c["probability"] for c in found], e / e.sum(), atol=1 / 512 + 1e-6)
    assert y == [-43] * 3 and real == [85 / 256] * 3 and again == [*y, -128, 127, -126, -128] and kind == "Int8Array"
    assert quantization == KINDS["int8"].to_json() and probabilities is True and same
    assert error == 'unknown name "z"; the model has "x", "y"'


def test_scores_in_javascript_are_told_from_probabilities() -> None:
    cases = [([26, 51, 178, 0], 1 / 256), ([128] * 4, 1 / 256), ([4, 4, 4, 5], 1 / 16), ([4, 0, 0, 0], 0.5)]
    script = """const { best } = await web("classifier.js");
        console.log(JSON.stringify(given.map(([stored, step]) =>
          best(stored.map((q) => q * step), null, 1, { step })[0].probability)));"""
    found = in_node(script, cases)
    assert found == pytest.approx([178 / 256, 0.25, 5 / 16, np.exp(2) / (np.exp(2) + 3)])


def test_pictures_are_quantised_in_javascript_as_in_python() -> None:
    draw = np.random.default_rng(6)
    picture = draw.integers(0, 256, (20, 24, 3), np.uint8)
    cases = [
        ("int8", Quantization(float(np.float32(1 / 255)), -128), {"scale": 1 / 255}),
        ("uint8", Quantization(float(np.float32(1 / 127.5)), 127), {"scale": 1 / 127.5, "mean": [1]}),
        ("int16", Quantization(0.001, 5), {"mean": [100.25, 120.75, 110], "std": [2, 3, 4], "channels": "BGR"}),
        ("uint8", Quantization(2.0, 0), {}),
        ("uint8", Quantization(1.0, 0), {"scale": 0.1, "mean": [0.5]}),
    ]
    specs = [
        from_json(told, [{"name": "x", "dtype": t, "shape": [1, 3, 20, 24], "quantization": q.to_json()}])
        for t, q, told in cases
    ]
    script = """const { preprocess } = await web("preprocess.js");
        const image = { data: Uint8Array.from(given.data), width: 24, height: 20 };
        console.log(JSON.stringify(given.specs.map((spec) => Array.from(preprocess(image, spec)))));"""
    found = in_node(script, {"data": picture.ravel().tolist(), "specs": [s.to_json() for s in specs]})
    for spec, got in zip(specs, found, strict=True):
        np.testing.assert_array_equal(np.array(got).reshape(1, 3, 20, 24), spec(picture))


def test_quantised_detectors_in_javascript_as_in_python() -> None:
    """All formats, with what real numbers say: from int16 in steps of 1/1024."""
    draw, kind = np.random.default_rng(20), Quantization(1 / 1024, -7)
    cases = []
    for format_ in ("corners", "anchors", "grid", "rows"):
        task, outputs = some_outputs(format_, draw)
        if format_ == "corners":
            outputs["boxes"] /= 64
            task["coordinates"] = "relative"
        manifest = detector(task, outputs, None)
        real = {n: kind.dequantize(kind.quantize(v, "int16")) for n, v in outputs.items()}
        want = detections(real, manifest, 100, 70)
        stored = {n: kind.quantize(v, "int16") for n, v in outputs.items()}
        manifest["outputs"] = [tensor(n, v, kind) for n, v in stored.items()]
        assert len(want) > 1 and detections(stored, manifest, 100, 70) == want
        cases.append((manifest, stored, want))
    script = """const { Detector } = await web("detector.js");
        const found = [];
        for (const [manifest, outputs] of given) {
          const run = async () => Object.fromEntries(Object.entries(outputs).map(([k, v]) => [k, Int16Array.from(v)]));
          const detector = new Detector({ ...manifest, manifest, run });
          found.push(await detector.detect({ data: new Uint8Array(21000), width: 100, height: 70 }));
        }
        console.log(JSON.stringify(found));"""
    theirs = in_node(script, [(m, {n: v.ravel().tolist() for n, v in s.items()}) for m, s, _ in cases])
    for (_, _, want), found in zip(cases, theirs, strict=True):
        assert [d.index for d in want] == [d["index"] for d in found]
        keys = ("score", "x", "y", "width", "height")
        ours = np.array([[getattr(d, k) for k in keys] for d in want])
        np.testing.assert_allclose([[d[k] for k in keys] for d in found], ours, atol=1e-4)


def test_the_bits_of_float16_are_numbers_in_javascript() -> None:
    """As engines without Float16Array give them."""
    every = np.arange(0, 65536, 7, dtype=np.uint16)
    script = """const { dequantized } = await web("quantization.js");
        const found = dequantized({ dtype: "float16" }, Uint16Array.from(given));
        console.log(JSON.stringify(Array.from(new Uint32Array(found.buffer))));"""
    found = np.array(in_node(script, every.tolist()), np.uint32).view(np.float32)
    np.testing.assert_array_equal(found, every.view(np.float16).astype(np.float32))


def test_a_quantised_picture_comes_out_in_javascript() -> None:
    kind = Quantization(1 / 128, -128)
    stored = np.arange(-128, 64, dtype=np.int8).reshape(1, 3, 8, 8)
    image = {"name": "x", "dtype": "float32", "shape": [1, 3, 8, 8]}
    manifest = {
        "name": "net",
        "inputs": [image],
        "outputs": [tensor("y", stored, kind)],
        "preprocess": from_json({}, [image]).to_json(),
        "task": task_from_json({"kind": "style", "range": [0, 2]}, [image], [tensor("y", stored, kind)]),
    }
    script = """const { Stylizer } = await web("stylizer.js");
        const run = async () => ({ y: Int8Array.from(given.stored) });
        const { data } = await new Stylizer({ ...given.manifest, manifest: given.manifest, run })
          .stylize({ data: new Uint8Array(192), width: 8, height: 8 });
        console.log(JSON.stringify([...data]));"""
    got = in_node(script, {"manifest": manifest, "stored": stored.ravel().tolist()})
    want = kind.dequantize(stored)[0].transpose(1, 2, 0) * 255 / 2
    np.testing.assert_allclose(np.array(got).reshape(8, 8, 4)[..., :3], want, atol=0.501)


def test_a_quantised_writer_in_javascript() -> None:
    """One-hot characters and states that begin with 0 are quantised, scores dequantised."""
    task = {"kind": "text", "input": "c", "output": "y", "states": {"h": "h2"}, "seed": ""}
    kind = Quantization(0.5, 3)
    tensors = [tensor(n, np.zeros((1, 2), np.int8), kind) for n in ("c", "h", "y", "h2")]
    assert task_from_json(task, tensors[:2], tensors[2:])["kind"] == "text"
    other = tensor("h2", np.zeros((1, 2), np.int8), Quantization(0.25, 3))
    with pytest.raises(UsageError, match="differ in scale or zero point"):
        task_from_json(task, tensors[:2], [tensors[2], other])
    script = """const { Writer } = await web("writer.js");
        const seen = [];
        const runSync = (x) => {
          seen.push([[...x.c], [...x.h]]);
          return { y: Int8Array.of(3, 5), h2: Int8Array.of(9, 9) }; // real scores 0 and 1
        };
        const [inputs, outputs] = [given.tensors.slice(0, 2), given.tensors.slice(2)];
        const manifest = { task: given.task, labels: ["a", "b"] };
        let text = "";
        const options = { length: 1, temperature: 1, random: () => 0.26 }; // a has the probability 1 / (1 + e) = 0.27
        const writer = new Writer({ name: "n", manifest, inputs, outputs, runSync });
        for await (const c of writer.write("a", options)) text += c;
        console.log(JSON.stringify([text, seen]));"""
    text, seen = in_node(script, {"tensors": tensors, "task": task})
    assert text == "a" and seen[:2] == [[[5, 3], [3, 3]], [[5, 3], [9, 9]]]


def test_mxnet_js_gets_real_numbers() -> None:
    script = """const { Predictor: Compiled } = await web("predictor.js");
        const { Predictor, ndarray } = await web("mxnet_compat.js");
        const compiled = Object.assign(Object.create(Compiled.prototype), {
          name: "n", inputs: [given.x], outputs: [given.y], runSync: ({ x }) => ({ y: Int8Array.from(x) }) });
        const p = new Predictor({ compiled });
        p.forward();
        const zeros = [...p.output(0).data];
        p.setinput("x", ndarray([0.5, -1, 100], [3]));
        p.forward();
        console.log(JSON.stringify([zeros, [...p.output(0).data]]));"""
    kind = Quantization(0.25, 3)
    given = {n: tensor(n, np.zeros(3, np.int8), kind) for n in ("x", "y")}
    assert in_node(script, given) == [[0, 0, 0], [0.5, -1, 31]]


@pytest.mark.parametrize("numpy", [True, False])
def test_a_quantised_classifier_in_wasmtime(in_wasm: Path, numpy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    requires_module("wasmtime")
    if not numpy:
        monkeypatch.setitem(sys.modules, "numpy", None)
    p = Pyodide(in_wasm)
    x = array("f", [0.0] * 192)
    y = p.run({"x": x})["y"]
    real = p.dequantize("y", y)
    assert y.tolist() == [-43] * 3 and real.tolist() == [85 / 256] * 3
    assert p.quantize("y", real).tolist() == [-43] * 3
    assert p.quantize("y", [-1, 2, 2.5 / 256, float("nan")]).tolist() == [-128, 127, -126, -128]
    assert p.dequantize("y", real) is real and p.quantize("x", [0.5]).tolist() == [0.5] and p._scores() == "y"
    with pytest.raises(ValueError, match="unknown name 'z'"):
        p.dequantize("z", y)
