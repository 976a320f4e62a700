"""A model of speech with its encoder, front end and tokenizer writes what it hears, in C, Python and JavaScript."""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
import wave
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from conftest import requires_tool
from manifest_schema import problems
from pages import played
from processes import run
from wasm_bundles import node_json
from whispers import Whisper

import dlpack
from dlpack.cli import cli
from dlpack.errors import ModelError, UnsupportedError, UsageError
from dlpack.meaning.speech import from_metadata
from dlpack.pipeline import Options, build
from dlpack.source import read_source

RECORDED = json.loads(gzip.decompress((Path(__file__).parent / "texts" / "recorded.json.gz").read_bytes()))
WINDOW = 3200


@pytest.fixture(scope="module")
def whisper() -> Whisper:
    return Whisper(RECORDED["kinds"]["gpt2"]["tokenizer"])


@pytest.fixture(scope="module")
def folder(whisper: Whisper, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whisper.save(tmp_path_factory.mktemp("speech") / "whisper")


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Path:
    return build(folder, folder.parent / "native", Options(name="net"))


def sound(seed: int, count: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    t = np.arange(count) / 16000
    x = 0.3 * np.sin(2 * np.pi * rng.uniform(200, 3000) * t) + 0.05 * rng.standard_normal(count)
    return x.astype(np.float32)


def test_what_is_said_is_written(bundle: Path, whisper: Whisper) -> None:
    """As NumPy computes it, in a language that is given or found out, and translated."""
    with dlpack.load(bundle) as net:
        assert not list(problems(net.manifest)) and net.manifest["task"] == {"kind": "transcribe"}
        texts = set()
        for seed in range(4):
            x = sound(seed, 1500 + 500 * seed)
            for language, task in (("en", "transcribe"), ("de", "translate"), (None, "transcribe")):
                tokens = whisper.transcribed(x, language or whisper.language(x), task)
                found = net.transcribe(x, 16000, language=language, translate=task == "translate")
                assert found == net.detokenize(tokens)
                texts.add(found)
        assert len(texts) > 4, "the texts depend on the sound, the language and the task"
        assert {whisper.language(sound(seed, 1500 + 500 * seed)) for seed in range(4)} == {"en", "de"}


def test_longer_sounds_are_taken_in_windows(bundle: Path, whisper: Whisper) -> None:
    x = sound(9, 2 * WINDOW + 700)
    language = whisper.language(x[:WINDOW])
    with dlpack.load(bundle) as net:
        parts = [net.detokenize(whisper.transcribed(x[at : at + WINDOW], language)) for at in range(0, len(x), WINDOW)]
        pieces: list[str] = []
        assert net.transcribe(x, 16000, on_text=pieces.append) == "".join(parts) == "".join(pieces)
        assert net.transcribe(x, 16000, on_text=lambda _: True) == pieces[0]
        drawn = net.transcribe(x, 16000, temperature=1.5, seed=3)
        assert drawn == net.transcribe(x, 16000, temperature=1.5, seed=3) != "".join(parts)


def test_segments_have_times(bundle: Path, whisper: Whisper, digits: Path) -> None:
    """As transformers' rules have it: of windows that end with a time, with a pair of times, and in the middle."""
    counts = set()
    with dlpack.load(bundle) as net:
        for seed, count in ((6, 12000), (2, 6000), (3, 100)):
            x = sound(seed, count)
            wanted = whisper.timed(x, whisper.language(x[:WINDOW]))
            found = net.segments(x, 16000)
            assert [s.text for s in found] == [net.detokenize(ids) for *_, ids in wanted]
            np.testing.assert_allclose([s[:2] for s in found], [(a, b) for a, b, _ in wanted], atol=1e-9)
            counts.add(len(found))
            assert net.segments(x, 16000, on_segment=lambda _: True) == found[:1]
        assert len(counts) == 3
        with pytest.raises(ZeroDivisionError):
            net.segments(x, 16000, on_segment=lambda _: 1 // 0)
        with pytest.raises(ValueError, match="there are no samples"):
            net.segments(x[:0], 16000)
    with dlpack.load(digits) as net, pytest.raises(UsageError, match="tells no times"):
        net.segments(x, 16000)


def test_the_same_sound_can_be_written_again(bundle: Path, whisper: Whisper) -> None:
    """The encoder's keys and values stay until something else is heard; generate takes the tokens before the text."""
    x = sound(2, 2500)
    with dlpack.load(bundle) as net:
        net.hear(net.preprocess_sound(x, 16000))
        for language in ("en", "de", "en"):
            names = ("<|start|>", f"<|{language}|>", "<|transcribe|>", "<|notimestamps|>")
            found = net.generate([whisper.ids[name] for name in names], 1)
            heard = whisper.encoded(x)
            assert found == [int(whisper.scores(heard, [whisper.ids[name] for name in names]).argmax())]
        with pytest.raises(ValueError, match="features must be float32 of shape"):
            net.hear(np.zeros((1, 6, 3), np.float32))


def test_what_cannot_be_written_is_an_error(bundle: Path, digits: Path) -> None:
    x = sound(1, 100)
    with dlpack.load(bundle) as net:
        for samples, rate, language, words in (
            (x, 8000, None, "takes 16000 samples per second, not 8000"),
            (x[:0], 16000, None, "there are no samples"),
            (x, 16000, "fr", "does not know the language 'fr'; it knows de, en"),
        ):
            with pytest.raises(ValueError, match=words):
                net.transcribe(samples, rate, language=language)
        with pytest.raises(ZeroDivisionError):
            net.transcribe(x, 16000, on_text=lambda _: 1 // 0)
    with dlpack.load(digits) as net:
        with pytest.raises(UsageError, match="does not write speech"):
            net.transcribe(x, 16000)
        with pytest.raises(UsageError, match="does not generate text"):
            net.hear(x)


PROGRAM = r"""
#include <stdio.h>
#include "net.h"
static int32_t show(void* user, double begin, double end, const char* text, size_t bytes) {
  (void)user;
  printf("|%.2f %.2f ", begin, end);
  fwrite(text, 1, bytes, stdout);
  return 0;
}
int main(void) {
  net_predictor* p = 0;
  static float x[7000];
  char text[400];
  size_t size = 9;
  if (fread(x, 4, 7000, stdin) != 7000 || net_create(&p, 0, 0, 0, 0) != NET_OK) return 1;
  if (net_transcribe(p, x, 0, 16000, 0, 0, 0, 0, 0, 0, 0, &size) != NET_BAD_ARGUMENT || size) return 2;
  if (net_transcribe(p, x, 7000, 44100, 0, 0, 0, 0, 0, 0, 0, 0) != NET_BAD_ARGUMENT) return 3;
  if (net_transcribe(p, x, 7000, 16000, "e", 0, 0, 0, 0, 0, 0, 0) != NET_BAD_ARGUMENT) return 4;
  if (net_transcribe(p, x, 7000, 16000, 0, 0, 0, 0, 0, text, 2, &size) != NET_TOO_LONG || size < 3) return 5;
  if (net_transcribe(p, x, 7000, 16000, 0, 0, 0, 0, 0, text, sizeof text, &size) != NET_OK) return 6;
  if (net_hear(p, x, 5) != NET_BAD_ARGUMENT) return 7;
  char part[400];
  if (net_transcribe_timed(p, x, 7000, 16000, 0, 0, 0, 0, 0, 0, 9) != NET_BAD_ARGUMENT) return 8;
  if (net_transcribe_timed(p, x, 7000, 16000, 0, 0, 0, 0, 0, part, 1) != NET_TOO_LONG) return 9;
  fwrite(text, 1, size, stdout);
  if (net_transcribe_timed(p, x, 7000, 16000, 0, 0, 0, show, 0, part, sizeof part) != NET_OK) return 10;
  net_destroy(p);
  return 0;
}
"""


@pytest.fixture(scope="module")
def wasm(folder: Path) -> Path:
    return build(folder, folder.parent / "wasm", Options("wasm", name="net", verify=False))


def write_wav(path: Path, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The samples as 16 bits, as the file has them."""
    ints = (x * 32767).astype(np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(ints.tobytes())
    return ints


def test_c_and_javascript_write_the_same(wasm: Path, bundle: Path, tmp_path: Path) -> None:
    """A C program with the library of the bundle, and the package for pages in node."""
    x = sound(5, 7000)
    (tmp_path / "main.c").write_text(PROGRAM)
    (tmp_path / "x.f32").write_bytes(x.tobytes())
    command = [requires_tool("gcc"), "-Wall", "-Werror", f"-I{bundle}", "main.c", bundle / "libnet.so", "-o", "main"]
    done = run([*command, f"-Wl,-rpath,{bundle}"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run(["sh", "-c", "./main < x.f32"], cwd=tmp_path)
    script = """
      const { Transcriber } = await import(`file://${process.argv[1]}/node.js`);
      const model = await Transcriber.load(process.argv[1]);
      const x = new Float32Array((await import("node:fs")).readFileSync(process.argv[2]).buffer.slice(0));
      const refused = [];
      for (const [rate, options] of [[8000, {}], [16000, { language: "fr" }]])
        await model.write(x, rate, options).catch((e) => refused.push(e.message));
      const texts = [await model.write(x, 16000), await model.write(x, 16000, { language: "de", translate: true })];
      texts.push(await model.write(x, 16000, { temperature: 1.5, seed: 3 }));
      const segments = [];
      for await (const { start, end, text } of model.segments(x, 16000)) segments.push([start, end, text]);
      console.log(JSON.stringify([texts, refused, segments]));
    """
    texts, refused, segments = node_json(script, wasm, tmp_path / "x.f32")
    with dlpack.load(bundle) as net:
        expected = [net.transcribe(x, 16000), net.transcribe(x, 16000, language="de", translate=True)]
        expected.append(net.transcribe(x, 16000, temperature=1.5, seed=3))
        timed = net.segments(x, 16000)
    printed = "".join(f"|{s.start:.2f} {s.end:.2f} {s.text}" for s in timed)
    assert texts == expected and (done.returncode, done.stdout) == (0, expected[0] + printed)
    assert [s[2] for s in segments] == [s.text for s in timed]
    np.testing.assert_allclose([s[:2] for s in segments], [s[:2] for s in timed], atol=1e-9)
    assert "16000 samples per second" in refused[0] and "does not know the language fr" in refused[1]


def test_run_writes_what_a_file_says(bundle: Path, tmp_path: Path) -> None:
    ints = write_wav(tmp_path / "x.wav", sound(5, 4000))
    done = CliRunner().invoke(cli, ["run", str(bundle), "--input", str(tmp_path / "x.wav"), "--json"])
    with dlpack.load(bundle) as net:
        found = net.segments(ints, 16000)
    assert done.exit_code == 0
    told = {"text": "".join(s.text for s in found), "segments": [s._asdict() for s in found]}
    assert json.loads(done.stdout) == told
    lines = CliRunner().invoke(cli, ["run", str(bundle), "--input", str(tmp_path / "x.wav")]).stdout
    assert lines.startswith(f"00:{found[0].start:05.2f} 00:{found[0].end:05.2f}  {found[0].text.strip()}")


def test_the_page_hears(wasm: Path, bundle: Path, tmp_path: Path) -> None:
    """A file, a recording, and what it says where there is no sound or no microphone."""
    ints = write_wav(tmp_path / "x.wav", sound(5, 7000))
    (tmp_path / "text.wav").write_text("no sound")
    seen = played("hearing", wasm, str(tmp_path / "x.wav"), str(tmp_path / "text.wav"))
    with dlpack.load(bundle) as net:
        assert seen["written"] == [s.text for s in net.segments(ints, 16000)]
    assert "0:00.4 of 0:00.4 heard" in seen["timing"] and seen["meter"]
    assert seen["recorded"] != seen["timing"] and "heard" in seen["recorded"]
    assert "no sound that the browser can read" in seen["noSound"]
    assert seen["refused"].startswith("The page may not use the microphone")
    assert seen["insecure"] == [True, "A page records only over https or on localhost. Files work here, too."]


@pytest.mark.parametrize("place", [".", "onnx"])
def test_an_export_of_optimum_is_the_model_of_its_checkpoint(folder: Path, tmp_path: Path, place: str) -> None:
    """Encoder and decoder in files of their own, beside config.json or in a folder of the hub's; changed ones fail."""
    for file in folder.glob("*.json"):
        shutil.copy(file, tmp_path)
    files, decoder = tmp_path / place, "decoder_model.onnx" if place == "." else "decoder_model_merged.onnx"
    with tarfile.open(Path(__file__).parent / "fixtures" / "optimum_whisper.tar.xz") as archive:
        for name in ("encoder_model.onnx", decoder):
            archive.extract(name, files, filter="data")
    found = read_source(tmp_path).proto.SerializeToString(deterministic=True)
    assert found == read_source(folder).proto.SerializeToString(deterministic=True)
    model = onnx.load(files / "encoder_model.onnx")
    names = [node.name for node in model.graph.node]
    model.graph.node[names.index("/layers.0/self_attn/k_proj/MatMul")].name = "MatMul_7"
    onnx.save(model, files / "encoder_model.onnx")
    with pytest.raises(ModelError, match=r"encoder\.layers\.0\.self_attn\.k_proj\.weight is not there.*optimised or"):
        read_source(tmp_path)
    model.graph.node[names.index("/layers.0/self_attn/k_proj/MatMul")].name = "/layers.0/self_attn/k_proj/MatMul"
    model.graph.node[names.index("/layers.0/activation_fn/Erf")].op_type = "Tanh"
    onnx.save(model, files / "encoder_model.onnx")
    with pytest.raises(ModelError, match=r"the scores of encoder_model\.onnx and its decoder differ"):
        read_source(tmp_path)


def test_folders_that_are_no_whisper_s_are_refused(folder: Path, tmp_path: Path) -> None:
    def changed(file: str, **values: Any) -> Path:
        where = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        shutil.copytree(folder, where)
        told = json.loads((where / file).read_text()) | values
        (where / file).write_text(json.dumps(told))
        return where

    for path, error, words in (
        (changed("config.json", d_model="16"), ModelError, "d_model '16'"),
        (changed("config.json", encoder_attention_heads=3), ModelError, "do not fit d_model"),
        (changed("config.json", max_target_positions=13), ModelError, "decoder.embed_positions.weight has the shape"),
        (changed("config.json", decoder_layers=2), ModelError, "decoder.layers.1.self_attn_layer_norm.weight is not"),
        (changed("config.json", activation_function="relu"), UnsupportedError, "the activation 'relu'"),
        (changed("preprocessor_config.json", chunk_length=30), ModelError, "30 seconds are not 20 frames"),
        (
            changed("preprocessor_config.json", hop_length=None),
            ModelError,
            "hop_length, sampling_rate, chunk_length are",
        ),
    ):
        with pytest.raises(error, match=words):
            read_source(path)
    with pytest.raises(UsageError, match="remove --shape"):
        read_source(folder, shapes={"input_features": (1, 6, 20)})
    with pytest.raises(UsageError, match="texts of 16 tokens"):
        build(folder, tmp_path / "out", Options(context=99))


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("[", "is not JSON"),
        ("[]", "is not a JSON object"),
        ('{"start": 1, "ends": [], "context": 9}', "start and ends"),
        ('{"start": 1.5, "ends": [2], "context": 9}', "start and ends"),
        ('{"start": 1, "ends": [2], "context": 2}', "context 2"),
        ('{"start": 1, "ends": [2], "context": 9, "times": 7}', "step 0"),
        ('{"start": 1, "ends": [2], "context": 9, "languages": {"en": 3}}', "no token transcribe"),
        ('{"start": 1, "ends": [2], "context": 9, "transcribe": 4, "languages": {"e\\"n": 3}}', "letters other than"),
    ],
)
def test_metadata_that_make_no_sense_are_refused(told: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        from_metadata({"dlpack.speech": told})
