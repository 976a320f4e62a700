"""A model that reads a text and writes another, its answer, with its tokenizer: in C, Python and JavaScript."""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from answerers import Answerer, small
from conftest import requires_tool
from manifest_schema import problems
from pages import played
from processes import run
from wasm_bundles import node_json

import dlpack
from dlpack.errors import FullError, ModelError, UnsupportedError, UsageError
from dlpack.meaning.answers import from_metadata
from dlpack.pipeline import Options, build
from dlpack.source import read_source
from dlpack.verify.runners import run_onnxruntime

RECORDED = json.loads(gzip.decompress((Path(__file__).parent / "texts" / "recorded.json.gz").read_bytes()))
WORDS: dict[str, Any] = RECORDED["kinds"]["t5"]["tokenizer"]
"""Unigram, with </s> behind each text."""

KINDS = ("t5", "marian", "mbart")
CONTEXT, SOURCE = 24, 40
TEXT = "All human beings are born free"


@pytest.fixture(scope="module")
def model() -> Answerer:
    return small("t5", WORDS)


@pytest.fixture(scope="module")
def folder(model: Answerer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model.save(tmp_path_factory.mktemp("answers") / "t5")


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Path:
    return build(folder, folder.parent / "native", Options(name="net", context=CONTEXT, source=SOURCE))


def texts(vocabulary: int) -> list[list[int]]:
    """Of one token, of lengths at the borders of sets of shapes, and the longest."""
    rng = np.random.default_rng(6)
    return [rng.integers(0, vocabulary, n).tolist() for n in (1, 9, 10, 11, SOURCE)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_is_that_of_numpy(kind: str, tmp_path: Path) -> None:
    """The likeliest tokens for texts of several lengths, one after the other; each begins anew."""
    model = small(kind, WORDS)
    folder = model.save(tmp_path / "in")
    with dlpack.load(build(folder, tmp_path / "out", Options(name="net", context=CONTEXT, source=SOURCE))) as net:
        assert not list(problems(net.manifest))
        assert net.manifest["decoder"]["encoder"]["start"] == list(model.start)
        count, never = CONTEXT - len(model.start), [4] if kind == "marian" else []
        found = []
        for source in texts(model.vocabulary):
            found.append(net.generate(source, count))
            assert found[-1] == model.answer(source, count, never) == list(net.tokens(source, count))
        assert len({tuple(answer) for answer in found}) > 3, "answers depend on the text"


def test_scores_are_those_of_the_text_that_was_read_last(bundle: Path, model: Answerer) -> None:
    """An answer may begin with other tokens, and be written again; the text is read once."""
    first, second = texts(model.vocabulary)[1:3]
    with dlpack.load(bundle) as net:
        for source in (first, second, first):
            net.read(source)
            heard = model.encoded(source)
            for begin in ([0], [7, 3], [0, 5, 6, 2]):
                net.rewind(0)
                net.append(begin)
                found, wanted = net.scores(), model.scores(heard, begin)
                assert found is not None
                np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())
        likeliest = net.generate([], 3, keep=True)
        assert [0, 5, 6, 2, *likeliest] == [0, 5, 6, 2, *_continued(model, heard, [0, 5, 6, 2], 3)]


def _continued(model: Answerer, heard: np.ndarray[Any, Any], text: list[int], count: int) -> list[int]:
    text = list(text)
    for _ in range(count):
        text.append(int(model.scores(heard, text).argmax()))
    return text[-count:]


def test_a_text_is_answered_with_a_text(bundle: Path, model: Answerer) -> None:
    """Whole characters, which are those of the tokens; it ends at the token that config.json names."""
    with dlpack.load(bundle) as net:
        assert net.manifest["tokenizer"]["stop"] == [1] and net.manifest["task"] == {"kind": "generate"}
        ids = net.tokenize(TEXT)
        assert ids[-1] == 1, "the tokenizer ends a text"
        how: dict[str, Any] = {"temperature": 1.1, "top_k": 40, "seed": 3}
        for options in ({}, how):
            tokens = net.generate(ids, 20, stop=[1], **options)
            parts: list[str] = []
            text = net.write(TEXT, 20, on_text=parts.append, **options)
            assert text == "".join(parts) == "".join(net.pieces(TEXT, 20, **options)) == net.detokenize(tokens)
        first = net.generate(ids, 5)
        assert [*first, *net.generate([], 15, keep=True)] == net.generate(ids, 20), "an empty prompt goes on"
        net.generate(ids, 5)
        assert net.write("", 15, keep=True).split() == net.detokenize(net.generate(ids, 20)[5:]).split()


def test_wrong_texts_are_errors(bundle: Path, digits: Path, model: Answerer) -> None:
    with dlpack.load(bundle) as net:
        with pytest.raises(ValueError, match="prompt is empty"):
            net.generate([])
        with pytest.raises(ValueError, match="no tokens to read"):
            net.read([])
        with pytest.raises(ValueError, match=f"the token {model.vocabulary}"):
            net.read([model.vocabulary])
        with pytest.raises(FullError, match=f"has {SOURCE + 1} tokens, and the encoder reads {SOURCE}.*--source"):
            net.generate([3] * (SOURCE + 1))
        with pytest.raises(FullError, match=f"the encoder reads {SOURCE}"):
            net.write("word " * 30)
        with pytest.raises(FullError) as full:
            net.generate([5, 6], 99)
        assert len(full.value.tokens) == CONTEXT, "the last is not read"
        net.reset()
        with pytest.raises(Exception, match=r"(?i)argument"):
            net.append([0])
        assert net.write(b"\xff\xfe broken \xc3", 4) == net.write("\ufffd\ufffd broken \ufffd", 4)
        assert isinstance(net.write("", 4), str), "an empty text is what the tokenizer puts behind it"
    with dlpack.load(digits) as net, pytest.raises(UsageError, match="does not generate text"):
        net.read([1])


PROGRAM = r"""
#include <stdio.h>
#include <string.h>
#include "net.h"
int main(void) {
  const char* prompt = "All human beings are born free";
  net_predictor* p = 0;
  char text[4096];
  size_t size = 9, made = 0;
  int64_t tokens[30], source[NET_SOURCE + 1] = {5, 6, 7};
  if (net_create(&p, 0, 0, 0, 0) != NET_OK) return 1;
  const int64_t start = 0;
  if (net_append(p, &start, 1) != NET_BAD_ARGUMENT) return 2;
  if (net_generate(p, 0, 0, 5, 0, 0, 0, 0, 0, tokens, &made) != NET_BAD_ARGUMENT || made) return 3;
  if (net_read(p, source, NET_SOURCE + 1) != NET_FULL || net_read(p, source, 0) != NET_BAD_ARGUMENT) return 4;
  source[1] = NET_SOURCE_VOCABULARY;
  if (net_read(p, source, 3) != NET_BAD_ARGUMENT) return 5;
  source[1] = 6;
  if (net_read(p, source, 3) != NET_OK || net_length(p) != 1) return 6;
  if (net_generate(p, 0, 0, 4, 0, 0, 0, 0, 0, tokens, &made) != NET_OK || made != 4) return 7;
  for (size_t k = 0; k < made; ++k) printf("%d ", (int)tokens[k]);
  net_sampler s = {1.1f, 40, 1.0f, 3};
  if (net_write(p, prompt, strlen(prompt), 20, &s, 0, 0, 0, 0, text, sizeof text, &size) != NET_OK) return 8;
  printf("|");
  fwrite(text, 1, size, stdout);
  net_destroy(p);
  return 0;
}
"""


@pytest.fixture(scope="module")
def wasm(folder: Path) -> Path:
    options = Options("wasm", name="net", context=CONTEXT, source=SOURCE, verify=False)
    return build(folder, folder.parent / "wasm", options)


def test_c_and_javascript_answer_the_same(bundle: Path, wasm: Path, tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text(PROGRAM)
    command = [requires_tool("gcc"), "-Wall", "-Werror", f"-I{bundle}", "main.c", bundle / "libnet.so", "-o", "main"]
    done = run([*command, f"-Wl,-rpath,{bundle}"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run([tmp_path / "main"], cwd=tmp_path)
    script = """
      const { TextWriter } = await import(`file://${process.argv[1]}/node.js`);
      const writer = await TextWriter.load(process.argv[1]);
      const { decoder } = writer;
      const refused = [];
      for (const tokens of [[], Array(41).fill(3), [1e6]])
        await decoder.generate(tokens).catch((e) => refused.push(e.message));
      const tokens = await decoder.generate([5, 6, 7], { maxTokens: 4 });
      decoder.rewind(0);
      await decoder.append([0]);
      const again = await decoder.generate([], { maxTokens: 4, keep: true });
      let text = "";
      const how = { maxTokens: 20, temperature: 1.1, topK: 40, seed: 3 };
      for await (const piece of writer.write("All human beings are born free", how)) text += piece;
      console.log(JSON.stringify([tokens, again, text, refused]));
    """
    tokens, again, text, refused = node_json(script, wasm)
    with dlpack.load(bundle) as net:
        expected = net.generate([5, 6, 7], 4)
        written = net.write(TEXT, 20, temperature=1.1, top_k=40, seed=3)
    assert tokens == again == expected and text == written
    assert (done.returncode, done.stdout) == (0, " ".join(map(str, expected)) + " |" + written)
    assert [word in said for word, said in zip(("empty", "reads 40", "no token"), refused, strict=True)] == [True] * 3


def test_the_page_answers(wasm: Path, bundle: Path) -> None:
    """The answer alone; and what it says of a text that is too long."""
    seen = played("writing", wasm, *map(json.dumps, ({"prompt": TEXT, "tokens": 20}, "word " * SOURCE)))
    done, _, long = seen["written"]
    with dlpack.load(bundle) as net:
        assert done["text"] == net.write(TEXT, 20)
    assert "prompt of" in done["timing"] and f"the encoder reads {SOURCE}" in long["status"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_of_optimum_is_the_model_of_its_checkpoint(kind: str, tmp_path: Path) -> None:
    """Encoder and decoder in files of their own; a file that was changed is an error."""
    folder = small(kind, WORDS).save(tmp_path / "in")
    whole = read_source(folder)
    (folder / "model.safetensors").unlink()
    with tarfile.open(Path(__file__).parent / "fixtures" / "optimum_answers.tar.xz") as archive:
        for member in archive.getmembers():
            if member.name.startswith(f"{kind}/"):
                member.name = member.name.removeprefix(f"{kind}/")
                archive.extract(member, folder, filter="data")
    found = read_source(folder)
    assert found.metadata == whole.metadata
    scores = [_scores(source.proto) for source in (whole, found)]
    assert np.abs(scores[0]).max() > 1
    np.testing.assert_array_equal(*scores)
    model = onnx.load(folder / "encoder_model.onnx")
    last = model.graph.node[[n.op_type for n in model.graph.node].index("Softmax")]
    last.op_type = "Tanh"
    del last.attribute[:]
    onnx.save(model, folder / "encoder_model.onnx")
    with pytest.raises(ModelError, match=r"the scores of encoder_model\.onnx and its decoder differ"):
        read_source(folder)


def _scores(model: onnx.ModelProto) -> np.ndarray[Any, Any]:
    given: dict[str, Any] = {
        "encoder_input_ids": np.array([[5, 9, 3, 1, 0]]), "encoder_attention_mask": np.array([[1, 1, 1, 1, 0]]),
        "input_ids": np.array([[0, 7, 4]]), "attention_mask": np.ones((1, 3), np.int64),
        "position_ids": np.arange(3)[None],
    }  # fmt: skip
    for value in model.graph.input:
        if value.name.startswith("past"):
            _, heads, _, size = (d.dim_value for d in value.type.tensor_type.shape.dim)
            given[value.name] = np.zeros((1, heads, 0, size), np.float32)
    result: np.ndarray[Any, Any] = run_onnxruntime(model, given)[0]
    return result


def test_folders_that_are_damaged_are_refused(folder: Path, tmp_path: Path) -> None:
    def changed(**values: Any) -> Path:
        where = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        shutil.copytree(folder, where)
        told = json.loads((where / "config.json").read_text()) | values
        (where / "config.json").write_text(json.dumps(told))
        return where

    for path, error, words in (
        (changed(d_model="16"), ModelError, "d_model '16'"),
        (changed(num_layers=3), ModelError, r"encoder\.block\.2\.layer.* is not there"),
        (changed(num_layers=300), ModelError, "more layers than"),
        (changed(relative_attention_max_distance=2), ModelError, "buckets of relative attention"),
        (changed(feed_forward_proj="gated-mish"), UnsupportedError, "the activation 'mish'"),
        (changed(decoder_start_token_id=None, bos_token_id=None), ModelError, "with which token an answer begins"),
        (changed(bad_words_ids=[3]), ModelError, "bad_words_ids is no list"),
    ):
        with pytest.raises(error, match=words):
            read_source(path)
    assert "several tokens" in read_source(changed(bad_words_ids=[[3, 4]])).warnings[0]
    with pytest.raises(UsageError, match="remove --shape"):
        read_source(folder, shapes={"input_ids": (1, 6)})
    for options, words in (
        (Options(source=1), "--source 1: an encoder can read 2 to"),
        (Options(context=1), "--context 1: answers begin with 1 tokens"),
    ):
        with pytest.raises(UsageError, match=words):
            build(folder, tmp_path / "out", options)


def test_a_model_knows_so_many_positions(tmp_path: Path) -> None:
    folder = small("marian", WORDS).save(tmp_path / "in")
    for options, words in (
        (Options(source=49), "--source 49: the model knows texts of 48 tokens"),
        (Options(context=49), "--context 49: the model knows texts of 48 tokens"),
    ):
        with pytest.raises(UsageError, match=words):
            build(folder, tmp_path / "out", options)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("[", "is not JSON"),
        ("[]", "is not a JSON object"),
        ('{"start": []}', "start must have tokens"),
        ('{"start": [1.5]}', "start must have tokens"),
        ('{"start": [1], "suppressed": 3}', "start must have tokens"),
        ('{"start": [1], "source": 1}', "source 1 or context 0"),
        ('{"start": [1, 2], "context": 2}', "context 2"),
    ],
)
def test_metadata_that_make_no_sense_are_refused(told: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        from_metadata({"dlpack.answers": told})
