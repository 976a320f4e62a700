"""examples/char_lstm: the exported model is the LSTM that was trained, and it writes text, in Python and JavaScript."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import ROOT, requires_tool
from processes import run

import dlpack
from dlpack.pipeline import Options, build
from dlpack.targets.wasm.run import node_command

Array = np.ndarray[Any, Any]
FOLDER = ROOT / "examples" / "char_lstm"
SEED = "JULIET:\nU"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"char_lstm_{name}", FOLDER / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def weights(models_dir: Path) -> Path:
    return models_dir / "lstm" / "charRNN_shakespeare"


@pytest.fixture(scope="module")
def model(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("char") / "char_lstm.onnx"
    command = [sys.executable, FOLDER / "export.py", weights, "-o", path]
    done = run(command)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module")
def predictor(model: Path) -> dlpack.Predictor:
    return dlpack.load(build(model, model.parent / "native", Options()))


class Lstm:
    """BasicLSTMCell's definition, from the published arrays, in float64."""

    def __init__(self, folder: Path) -> None:
        entries = json.loads((folder / "manifest.json").read_text())
        self.arrays = {k: np.fromfile(folder / e["filename"], "<f4").reshape(e["shape"]) for k, e in entries.items()}
        self.states = [(np.zeros(128), np.zeros(128)) for _ in range(2)]

    def scores(self, number: int) -> Array:
        def sigmoid(v: Array) -> Array:
            return np.asarray(1 / (1 + np.exp(-v)))

        x = self.arrays["embedding"][number].astype(np.float64)
        for layer, (h, c) in enumerate(self.states):
            cell = f"rnnlm/multi_rnn_cell/cell_{layer}/basic_lstm_cell"
            gates = np.concatenate([x, h]) @ self.arrays[f"{cell}/weights"] + self.arrays[f"{cell}/biases"]
            i, j, f, o = np.split(gates, 4)
            c = c * sigmoid(f + 1.0) + sigmoid(i) * np.tanh(j)
            x = np.tanh(c) * sigmoid(o)
            self.states[layer] = (x, c)
        return x @ self.arrays["rnnlm/softmax_w"] + self.arrays["rnnlm/softmax_b"]


def likeliest(folder: Path, characters: list[str], seed: str, length: int) -> str:
    """The text that follows when each time the likeliest character is taken."""
    net, text = Lstm(folder), ""
    for character in seed:
        scores = net.scores(characters.index(character))
    for _ in range(length):
        text += characters[int(scores.argmax())]
        scores = net.scores(characters.index(text[-1]))
    return text


def test_the_vocabulary(weights: Path, model: Path) -> None:
    """65 characters, once each, with the two that the published file has lost."""
    characters = example("export").read_vocabulary(weights)
    assert len(set(characters)) == len(characters) == 65 and {"u", "U", "\n", " "} <= set(characters)
    numbers = json.loads((weights / "vocab.json").read_text())
    assert all(characters[n] == c for c, n in numbers.items() if len(c) == 1)
    metadata = {p.key: json.loads(p.value) for p in onnx.load(model).metadata_props}
    assert metadata["dlpack.labels"] == characters and metadata["dlpack.task"]["kind"] == "text"


def test_scores_are_those_of_the_definition(predictor: dlpack.Predictor, weights: Path) -> None:
    net, characters = Lstm(weights), predictor.labels or []
    states: dict[str, Any] = {name: np.zeros((1, 1, 128), np.float32) for name in ("h0", "c0", "h1", "c1")}
    for character in "Unquiet soul, what thou!\n\nQUEEN:":
        number = characters.index(character)
        outputs = predictor.run({"character": np.array([number]), **states})
        states = {name: outputs[f"{name}_next"].copy() for name in states}
        np.testing.assert_allclose(outputs["scores"].ravel(), net.scores(number), atol=2e-4)
    for name, want in zip(("h0", "c0", "h1", "c1"), (v for pair in net.states for v in pair), strict=True):
        np.testing.assert_allclose(states[name].ravel(), want, atol=2e-4)


def test_it_writes_text(predictor: dlpack.Predictor, weights: Path) -> None:
    generate = example("generate").generate
    rng = np.random.default_rng(3)
    text = "".join(generate(predictor, SEED, 150, 0.0, rng))
    assert text == likeliest(weights, predictor.labels or [], SEED, 150)
    drawn = "".join(generate(predictor, SEED, 1500, 0.7, rng))
    words = "".join(c if c.isalpha() else " " for c in drawn.lower()).split()
    common = {"the", "and", "to", "of", "i", "you", "my", "a", "that", "in", "is", "not", "thou", "with", "be", "me"}
    assert len(drawn) == 1500 and sum(w in common for w in words) > 0.15 * len(words)
    with pytest.raises(ValueError, match="does not know the character '#'"):
        next(generate(predictor, "#", 1, 1.0, rng))


@pytest.mark.usefixtures("predictor")
def test_the_command_writes(model: Path) -> None:
    command = [sys.executable, FOLDER / "generate.py", model.parent / "native", "--length", "40", "--draw", "1"]
    texts = [run(command, check=True).stdout for _ in range(2)]
    assert texts[0] == texts[1] and texts[0].startswith("ROMEO:\n") and len(texts[0]) == len("ROMEO:\n") + 41


def test_javascript_writes_the_same(predictor: dlpack.Predictor, model: Path) -> None:
    requires_tool("node")
    bundle = build(model, model.parent / "wasm", Options("wasm", verify=False))
    script = """
        const { Writer } = await import(`file://${process.argv[1]}/node.js`);
        const writer = await Writer.load(process.argv[1]);
        const read = async (seed, options) => {
          let text = "";
          for await (const character of writer.write(seed, options)) text += character;
          return text;
        };
        const fail = (seed, options) => read(seed, options).then(() => "", (e) => e.message);
        let state = 1;
        const random = () => (state = (16807 * state) % 2147483647) / 2147483647;
        const control = new AbortController();
        const stopped = [];
        try {
          for await (const character of writer.write("A", { signal: control.signal })) {
            if (stopped.push(character) === 5) control.abort(new Error("enough"));
          }
        } catch (e) { stopped.push(e.message); }
        console.log(JSON.stringify({
          likeliest: await read(process.argv[2], { length: 150, temperature: 0 }),
          drawn: await read("ROMEO:", { length: 300, random }),
          failed: [await fail(""), await fail("#"), await fail("A", { temperature: -1 })],
          stopped,
        }));"""
    command = [*node_command(), "--input-type=module", "-e", script, bundle, SEED]
    done = run(command)
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    rng = np.random.default_rng(0)
    assert got["likeliest"] == "".join(example("generate").generate(predictor, SEED, 150, 0.0, rng))
    assert len(got["drawn"]) == 300 and set(got["drawn"]) <= set(predictor.labels or [])
    assert len(set(got["drawn"])) > 15
    assert [f.split(":")[0] for f in got["failed"]] == [
        "the seed is empty",
        'the model does not know the character "#"',
        "the temperature -1 is not a number from 0 on",
    ]
    assert len(got["stopped"]) == 6 and got["stopped"][-1] == "enough"
