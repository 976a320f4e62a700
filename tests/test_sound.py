"""Samples become a log-mel spectrogram in C, Python and JavaScript, as Whisper's features are."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from manifest_schema import problems
from onnx import TensorProto, helper
from wasm_bundles import node_json

import dlpack
from dlpack.cli import cli
from dlpack.errors import UsageError
from dlpack.meaning.sound import Sound, from_json, read_wav
from dlpack.pipeline import Options, build

OWN = {"rate": 8000, "window": 48, "hop": 20, "low": 100, "high": 3500, "scale": "htk", "values": "log", "floor": 1e-6}
"""Of a model that is no Whisper: 5 mels, 30 frames."""

OF_TRANSFORMERS = {
    80: (
        {(0, 0): 1.120304, (3, 10): 0.172391, (7, 50): -0.597301, (20, 75): -0.516795, (40, 100): 0.556118,
         (62, 149): -0.225235, (79, 150): 0.029418, (79, 2999): -0.597301},
        -0.5846657,
    ),
    128: (
        {(0, 0): 1.044544, (3, 10): -0.097346, (7, 50): -0.546595, (20, 75): -0.546595, (40, 100): -0.546595,
         (62, 149): 0.057752, (79, 150): 0.86522, (79, 2999): -0.546595},
        -0.5356518,
    ),
}  # fmt: skip
"""By number of mels: some values of transformers' `WhisperFeatureExtractor` (with NumPy) for `chirp`, and the mean."""


def chirp() -> np.ndarray[Any, Any]:
    t = np.arange(24000) / 16000
    x = 0.4 * np.sin(2 * np.pi * (200 + 700 * t) * t) + 0.05 * np.cos(2 * np.pi * 3100 * t)
    return x.astype(np.float32)


def save_mean(path: Path, *shape: int) -> Path:
    """A model that gives the mean over an input's last dimension."""
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["mel"], ["y"], axes=[2], keepdims=0)], "mean",
        [tensor("mel", TensorProto.FLOAT, [1, *shape])], [tensor("y", TensorProto.FLOAT, [1, shape[0]])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("whisper")
    return build(save_mean(where / "net.onnx", 80, 3000), where / "net", Options(sound="whisper"))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("own")
    return build(save_mean(where / "net.onnx", 30, 5), where / "net", Options(sound=json.dumps(OWN)))


def test_whisper_s_features_are_those_of_transformers(whisper: Path) -> None:
    with dlpack.load(whisper) as net:
        found = net.preprocess_sound(chirp(), 16000)
        assert net.manifest["sound"]["samples"] == 480_000 and not list(problems(net.manifest))
        np.testing.assert_allclose(net.run({"mel": found})["y"][0], found[0].mean(1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found, Sound("mel", 80, 3000)(chirp()), atol=5e-7)
    for mels, (values, mean) in OF_TRANSFORMERS.items():
        told = found if mels == 80 else Sound("mel", mels, 3000)(chirp())
        assert told.shape == (1, mels, 3000) and told.mean(dtype=np.float64) == pytest.approx(mean, abs=1e-6)
        assert {place: told[0][place] for place in values} == pytest.approx(values, abs=2e-6)


def test_a_model_says_how_it_hears(own: Path) -> None:
    """Another rate, scale and order; the expected values follow the formulas one sum at a time."""
    x = np.random.default_rng(1).uniform(-1, 1, 600)
    padded = np.concatenate([x[24:0:-1], x, x[-2:-26:-1]])
    n, bins = np.arange(48), np.arange(25)
    waves = np.exp(-2j * np.pi * np.outer(bins, n) / 48) * (0.5 - 0.5 * np.cos(2 * np.pi * n / 48))
    power = np.abs(np.stack([waves @ padded[20 * t : 20 * t + 48] for t in range(30)])) ** 2
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (100, 3500))
    corners = [700 * (10 ** ((low + (high - low) * k / 6) / 2595) - 1) for k in range(7)]
    heights = np.array([[np.interp(k * 8000 / 48, corners[m : m + 3], [0, 1, 0]) for k in bins] for m in range(5)])
    expected = np.log(np.maximum(power @ heights.T, 1e-6))
    with dlpack.load(own) as net:
        found = net.preprocess_sound(x.astype(np.float32), 8000)
        np.testing.assert_allclose(found, expected[None], atol=1e-5)
        ints = (x * 32767).astype(np.int16)
        floats = (ints / 32768).astype(np.float32)
        np.testing.assert_array_equal(net.preprocess_sound(ints, 8000), net.preprocess_sound(floats, 8000))


@pytest.mark.parametrize(
    ("samples", "rate", "words"),
    [
        (np.zeros(9, np.float32), 16000, "takes 8000 samples per second, not 16000"),
        (np.zeros(0, np.float32), 8000, "there are no samples"),
        (np.zeros(601, np.float32), 8000, r"601 samples are more than the 600 \(0.075 seconds\)"),
        (np.zeros((2, 9), np.float32), 8000, "one channel"),
        (np.zeros(9, np.int64), 8000, "not int64"),
        (np.array([0, np.nan]), 8000, "finite"),
    ],
)
def test_what_is_no_sound_is_an_error(own: Path, samples: np.ndarray[Any, Any], rate: int, words: str) -> None:
    """Of C as well, which has a status for all of them."""
    with dlpack.load(own) as net:
        with pytest.raises(ValueError, match=words):
            net.preprocess_sound(samples, rate)
        if samples.ndim == 1 and samples.dtype.kind == "f":
            given = samples.astype(np.float32)
            assert net._function("preprocess_sound")(net._handle, given.ctypes.data_as(_POINTER), len(given), rate) == 1


_POINTER = np.ctypeslib.ctypes.c_void_p


def test_a_model_without_sound_says_so(digits: Path) -> None:
    with dlpack.load(digits) as net, pytest.raises(UsageError, match="takes no sound: build it with --sound"):
        net.preprocess_sound(np.zeros(9, np.float32), 8000)


def test_javascript_hears_the_same(own: Path, tmp_path: Path) -> None:
    wasm = build(own.parent / "net.onnx", tmp_path / "wasm", Options("wasm", sound=json.dumps(OWN), verify=False))
    script = """
      const { SoundModel } = await import(`file://${process.argv[1]}/node.js`);
      const model = await SoundModel.load(process.argv[1]);
      const samples = Float32Array.from(JSON.parse(process.argv[2]));
      const refused = [];
      const zeros = (n) => new Float32Array(n);
      for (const [x, rate] of [[samples, 16000], [zeros(0), 8000], [zeros(601), 8000], [[0], 8000]])
        try { model.preprocess(x, rate); } catch (e) { refused.push(e.message); }
      const { y } = await model.run(samples, 8000);
      console.log(JSON.stringify([Array.from(model.preprocess(samples, 8000)), Array.from(y), refused]));
    """
    samples = np.random.default_rng(2).uniform(-1, 1, 333).astype(np.float32)
    found, means, refused = node_json(script, wasm, json.dumps(samples.tolist()))
    with dlpack.load(own) as net:
        expected = net.preprocess_sound(samples, 8000)
    np.testing.assert_allclose(found, expected.reshape(-1), atol=1e-6)
    np.testing.assert_allclose(means, expected[0].mean(1), atol=1e-5)
    words = ("takes 8000 samples per second", "no samples", "601 samples are more than the 600", "Float32Array")
    assert len(refused) == 4 and all(word in text for word, text in zip(words, refused, strict=True))


def test_run_takes_a_wav_file(own: Path, tmp_path: Path) -> None:
    """Of several channels their mean counts, and the samples may have one to four bytes."""
    x = np.random.default_rng(3).uniform(-0.9, 0.9, (500, 2))
    for width in (1, 2, 3, 4):
        whole = np.round(x * (1 << 8 * width - 1)).astype(np.int64)
        data = (whole + 128 if width == 1 else whole).astype("<i8").view(np.uint8).reshape(-1, 8)[:, :width]
        with wave.open(str(tmp_path / f"{width}.wav"), "wb") as file:
            file.setnchannels(2), file.setsampwidth(width), file.setframerate(8000)
            file.writeframes(data.tobytes())
        samples, rate = read_wav(tmp_path / f"{width}.wav")
        np.testing.assert_allclose(samples, (whole / (1 << 8 * width - 1)).mean(1), atol=1e-6)
        assert rate == 8000
    done = CliRunner().invoke(cli, ["run", str(own), "--input", str(tmp_path / "2.wav"), "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout)["outputs"][0]["shape"] == [1, 30]
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    done = CliRunner().invoke(cli, ["run", str(own), "--input", str(tmp_path / "bad.wav")])
    assert done.exit_code == 2 and "not a .wav file" in done.output


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"window": 402}, "window 402 is not a multiple of 4"),
        ({"hop": 0}, "hop 0 is not a whole number"),
        ({"high": 9000}, "do not lie between 0 and half the rate"),
        ({"scale": "bark"}, "scale 'bark'"),
        ({"values": "db"}, "values 'db'"),
        ({"floor": 0}, "floor 0 is not above 0"),
        ({"mels": 7}, "does not have 7 mels"),
        ({"layout": "NCHW"}, "layout 'NCHW'"),
        ({"input": "x"}, "no input x"),
        ({"pitch": 1}, "unknown key 'pitch'"),
        ({"rate": "16k"}, "rate '16k' is not a whole number"),
        ([], "not a JSON object"),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(value: Any, words: str) -> None:
    inputs = [{"name": "mel", "dtype": "float32", "shape": [1, 80, 3000]}]
    with pytest.raises(UsageError, match=words):
        from_json(value, inputs)
