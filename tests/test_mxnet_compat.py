"""mxnet.js's API over a bundle: its numbers, its errors, and an old page with one changed line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import processes
import pytest
from conftest import DIGITS, ROOT, requires_tool
from onnx import TensorProto, helper
from pages import result_of_page

from dlpack.pipeline import Options, build
from dlpack.targets.wasm.run import node_command

SPEC = str(ROOT / "examples" / "digits" / "preprocess.json")
OPEN = """
const folder = process.argv[1];
const { Predictor: Ours, openBundle } = await import(`file://${folder}/node.js`);
const mx = await import(`file://${folder}/mxnet_compat.js`);
const model = await mx.loadModel(openBundle(folder));
const told = (f) => { try { f(); return ""; } catch (e) { return e.message; } };
"""


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits example for wasm. Tests must not write in it."""
    return build(DIGITS, tmp_path_factory.mktemp("mxnet") / "digits", Options("wasm", verify=False, preprocess=SPEC))


def in_node(bundle: Path, script: str) -> Any:
    requires_tool("node")
    command = [*node_command(), "--input-type=module", "-e", OPEN + script, str(bundle)]
    done = processes.run(command, limit_s=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_numbers_are_the_predictors(digits: Path) -> None:
    """Two predictors of one model, their calls interleaved, each with an input of its own."""
    got = in_node(
        digits,
        """
        const ours = await Ours.load(folder);
        const images = [3, 5].map((k) => Float32Array.from({ length: 64 }, (_, i) => (i * k) % 17));
        const want = [];
        for (const image of images) want.push([...(await ours.run({ image })).probability]);
        const shapes = { image: [1, 1, 8, 8] };
        const predictors = images.map(() => new mx.Predictor(model, shapes));
        predictors.forEach((p, k) => p.setinput("image", mx.ndarray(images[k], [1, 1, 8, 8])));
        for (const p of predictors) p.forward();
        const outputs = predictors.map((p) => p.output(0));
        const zero = new mx.Predictor(model);
        zero.forward();
        const fromZeros = [...(await ours.run({ image: new Float32Array(64) })).probability];
        predictors[0].destroy();
        predictors[1].forward();
        console.log(JSON.stringify({ want, got: outputs.map((o) => [...o.data]),
          shapes: outputs.map((o) => [...o.shape]),
          types: outputs.map((o) => o.data.constructor.name + o.shape.constructor.name), synset: model.synset,
          zeros: [...zero.output(0).data], fromZeros, again: [...predictors[1].output(0).data] }));""",
    )
    assert got["got"] == got["want"] and got["want"][0] != got["want"][1]
    assert got["again"] == got["want"][1] and got["zeros"] == got["fromZeros"]
    assert got["shapes"] == [[1, 10]] * 2 and got["types"] == ["Float32ArrayUint32Array"] * 2
    assert got["synset"] == list("0123456789")


def test_step_by_step(digits: Path) -> None:
    got = in_node(
        digits,
        """
        const image = mx.ndarray(Float32Array.from({ length: 64 }, (_, i) => (i * 7) % 17), [1, 1, 8, 8]);
        const [whole, steps] = [new mx.Predictor(model), new mx.Predictor(model)];
        for (const p of [whole, steps]) p.setinput("image", image);
        whole.forward();
        const left = [];
        for (let step = 0, nleft = 1; nleft !== 0; ++step) left.push((nleft = steps.partialforward(step)));
        const same = [...steps.output(0).data].every((v, i) => v === whole.output(0).data[i]);
        steps.partialforward(0);
        whole.forward();
        console.log(JSON.stringify({ left, same, mixed: told(() => steps.partialforward(1)) }));""",
    )
    assert got["left"] == list(range(len(got["left"])))[::-1] and len(got["left"]) > 3
    assert got["same"] and "begins with step 0" in got["mixed"]


def test_errors_say_what_to_do(digits: Path) -> None:
    got = in_node(
        digits,
        """
        const p = new mx.Predictor(model, { image: new Uint32Array([1, 1, 8, 8]) });
        const dead = new mx.Predictor(model);
        dead.destroy();
        console.log(JSON.stringify([
          told(() => new mx.Predictor({ symbol: {}, parambase64: "" }, {})),
          told(() => new mx.Predictor(model, { image: [2, 1, 8, 8] })),
          told(() => new mx.Predictor(model, { data: [1, 1, 8, 8] })),
          told(() => p.setinput("image", mx.ndarray([1, 2], [2]))),
          told(() => p.setinput("data", mx.ndarray([1], [1]))),
          told(() => p.output(0)), told(() => p.output(1)), told(() => dead.forward()),
          told(() => mx.ndarray([1], [2, 3])),
          [...mx.base64Decode("AQL/")].join()]));""",
    )
    wanted = [
        "build a bundle from it", 'compiled for "image" of 1 x 1 x 8 x 8, not 2 x 1 x 8 x 8',
        'no input "data"; it has "image"', "takes 64", 'no input "data"', "call forward() first",
        "there is no output 1", "destroyed", "1 values do not make an array of 2 x 3", "1,2,255",
    ]  # fmt: skip
    assert len(got) == len(wanted)
    for text, part in zip(got, wanted, strict=True):
        assert part in text


def test_the_mean_picture(digits: Path, model_files: dict[str, Path], tmp_path: Path) -> None:
    """There where the preprocessing subtracts it and does no more."""
    assert in_node(digits, "console.log(JSON.stringify(model.meanimg ?? null));") is None  # it divides, too
    spec = '{"mean": [10, 20.5, 30]}'
    bundle = build(model_files["conv_net"], tmp_path / "conv", Options("wasm", verify=False, preprocess=spec))
    script = """const { data, shape } = new mx.Predictor(model).meanimg;
        console.log(JSON.stringify([[...data], [...shape]]));"""
    data, shape = in_node(bundle, script)
    assert np.array_equal(np.reshape(data, shape)[:, 4, 5], [10, 20.5, 30]) and len(set(data)) == 3
    assert shape[1:] == json.loads((bundle / "manifest.json").read_text())["inputs"][0]["shape"][2:]


def test_integers_go_through_floats(tmp_path: Path) -> None:
    tensors = [helper.make_tensor_value_info(n, TensorProto.INT64, [3]) for n in ("x", "y")]
    model = helper.make_model(
        helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "net", tensors[:1], tensors[1:]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    onnx.save(model, tmp_path / "twice.onnx")
    bundle = build(tmp_path / "twice.onnx", tmp_path / "twice", Options("wasm", verify=False))
    script = """const p = new mx.Predictor(model, { x: [3] });
        p.setinput("x", mx.ndarray([1.9, -2, 70000], [3]));
        p.forward();
        console.log(JSON.stringify([...p.output(0).data]));"""
    assert in_node(bundle, script) == [2, -4, 140000]


OLD_PAGE = """<!doctype html>
<script>
function getJSON(url, then) { then({ synset: ["not", "this"] }); }
var $ = { getJSON: getJSON };
function Predictor() { throw "mxnet.js"; }
function ndarray() { throw "mxnet.js"; }
function start(done) {
  $.getJSON("model/squeezenet.json", function (model) {
    var pred = new Predictor(model, { image: [1, 1, 8, 8] });
    var data = new Float32Array(64);
    for (var i = 0; i < data.length; ++i) data[i] = (i * 5) % 17;
    pred.setinput("image", ndarray(data, [1, 1, 8, 8]));
    pred.forward();
    var out = pred.output(0);
    var best = 0;
    for (var i = 0; i < out.data.length; ++i) if (out.data[best] < out.data[i]) best = i;
    pred.destroy();
    done([model.synset[best], out.data[best]]);
  });
}
window.result = new Promise(start);
</script>
"""


def test_an_old_page_with_one_changed_line(digits: Path, tmp_path: Path) -> None:
    """The line of web/README.md, in Chromium."""
    told = (ROOT / "web" / "README.md").read_text(encoding="utf-8")
    before, after = (re.search(rf"^(.*\S) +// {w}$", told, re.MULTILINE) for w in ("before", "after"))
    assert before and after and OLD_PAGE.count(before[1]) == 1
    (tmp_path / "squeezenet").symlink_to(digits)
    (tmp_path / "page.html").write_text(OLD_PAGE.replace(before[1], after[1]), encoding="utf-8")
    label, score = result_of_page(tmp_path, "page.html")
    from dlpack.targets.wasm.run import run

    image = ((np.arange(64) * 5) % 17).astype(np.float32).reshape(1, 1, 8, 8)
    want = run(digits, {"image": image})["simd"]["probability"].ravel()
    assert label == str(want.argmax()) and score == pytest.approx(float(want.max()), abs=1e-5)
