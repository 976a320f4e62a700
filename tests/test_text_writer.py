"""A decoder with its tokenizer: text in, text out, in C, Python and JavaScript."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from conftest import requires_tool
from decoders import Decoder
from manifest_schema import problems
from pages import played
from processes import run
from wasm_bundles import node_json

import dlpack
from dlpack.errors import FullError, UsageError
from dlpack.pipeline import Options, build

RECORDED = json.loads(gzip.decompress((Path(__file__).parent / "texts" / "recorded.json.gz").read_bytes()))
TOKENIZER: dict[str, Any] = RECORDED["kinds"]["llama3"]["tokenizer"]
"""BPE of bytes, with a token before each text."""

TOKENS = len(TOKENIZER["model"]["vocab"])
CONTEXT = 48
PROMPT = "All human beings \u732b"
SAMPLING: dict[str, Any] = {"temperature": 1.2, "top_k": 50, "top_p": 0.95, "seed": 7}


def writer_folder(path: Path) -> Path:
    """A decoder as Hugging Face's folders are; the text ends at one of two tokens."""
    onnx.save(
        Decoder(layers=1, width=24, heads=4, kv=2, hidden=20, vocabulary=TOKENS, seed=9).model(), path / "net.onnx"
    )
    (path / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, TOKENS - 1]}))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return writer_folder(tmp_path_factory.mktemp("writer"))


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Path:
    return build(folder / "net.onnx", folder / "native", Options(context=CONTEXT, name="net"))


def test_a_text_is_written_token_by_token(bundle: Path) -> None:
    """What write gives is the text of the tokens that generate gives, whole characters at a time."""
    with dlpack.load(bundle) as net:
        assert not list(problems(net.manifest)) and net.manifest["tokenizer"]["stop"] == [2, TOKENS - 1]
        ids = net.tokenize(PROMPT)
        tokens = net.generate(ids, 20, stop=[2, TOKENS - 1], **SAMPLING)
        parts: list[str] = []
        text = net.write(PROMPT, 20, on_text=parts.append, **SAMPLING)
        assert text == "".join(parts) == "".join(net.pieces(PROMPT, 20, **SAMPLING)) and len(parts) > 3
        assert text.strip() == net.detokenize(tokens).strip()
        assert net.write(PROMPT, 20, on_text=lambda _: True, **SAMPLING) == parts[0]
        third = tokens[3]
        assert (
            net.detokenize(tokens[: tokens.index(third)]).strip()
            == net.write(PROMPT, 20, stop=[third], **SAMPLING).strip()
        )


@pytest.mark.parametrize("kind", ["llama2", "t5", "words"])
def test_prompt_and_what_is_written_are_one_text(kind: str, tmp_path: Path) -> None:
    """Also where the tokenizer writes no space at the beginning of a text."""
    tokenizer = RECORDED["kinds"][kind]["tokenizer"]
    size = len(tokenizer["model"]["vocab"]) + len(tokenizer["added_tokens"])
    onnx.save(Decoder(layers=1, width=24, heads=4, kv=2, hidden=20, vocabulary=size, seed=9).model(), tmp_path / "a")
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with dlpack.load(build(tmp_path / "a", tmp_path / "out", Options(context=CONTEXT, name="net"))) as net:
        ids = net.tokenize("All human beings")
        begun = net.detokenize(ids)
        spaces = 0
        for seed in range(50):
            how: dict[str, Any] = {"temperature": 9.0, "seed": seed}
            whole = net.detokenize([*ids, *net.generate(ids, 3, **how)])
            written = net.write("All human beings", 3, **how)
            assert written == "".join(net.pieces("All human beings", 3, **how))
            if "\ufffd" not in whole:  # of bytes that are no character a whole text makes others
                assert begun + written == whole
            spaces += written.startswith(" ")
            assert written.startswith(" ") is whole.startswith(begun + " ")
        assert spaces


def test_a_text_goes_on_where_it_was(bundle: Path) -> None:
    """Without another first token in its middle."""
    with dlpack.load(bundle) as net:
        net.write(PROMPT, 5)
        length = net.length
        net.write("and", 4, keep=True)
        assert net.length <= length + len(net.tokenize("and", special=False)) + 4
        assert net.tokenize("and")[1:] == net.tokenize("and", special=False)


def test_what_cannot_be_written_is_an_error(bundle: Path, digits: Path) -> None:
    with dlpack.load(bundle) as net:
        with pytest.raises(FullError, match=f"longer than {CONTEXT} tokens") as full:
            net.write(PROMPT, 99, stop=[])
        assert full.value.text == "".join(_until_full(net))
        with pytest.raises(FullError):
            net.write("word " * CONTEXT, 1)
        with pytest.raises(ValueError, match="max_tokens is -1"):
            net.write(PROMPT, -1)
        with pytest.raises(ZeroDivisionError):
            net.write(PROMPT, 3, on_text=lambda _: 1 // 0)
    with pytest.raises(UsageError, match="does not generate text"):
        dlpack.load(digits).write("a")


def _until_full(net: dlpack.Predictor) -> list[str]:
    found: list[str] = []
    with pytest.raises(FullError):
        for piece in net.pieces(PROMPT, 99, stop=[]):
            found.append(piece)
    return found


PROGRAM = r"""
#include <stdio.h>
#include <string.h>
#include "net.h"
static int32_t on_text(void* user, const char* text, size_t bytes) {
  fwrite(text, 1, bytes, stdout);
  return --*(int*)user == 0;
}
int main(void) {
  const char* prompt = PROMPT;
  net_predictor* p = 0;
  net_sampler s = {1.2f, 50, 0.95f, 7};
  char text[4096];
  size_t size = 9;
  int left = 2;
  if (net_create(&p, 0, 0, 0, 0) != NET_OK) return 1;
  if (net_write(p, 0, 1, 9, 0, 0, 0, 0, 0, 0, 0, &size) != NET_BAD_ARGUMENT || size) return 2;
  if (net_write(p, prompt, strlen(prompt), 20, &s, 0, 0, on_text, &left, 0, 0, 0) != NET_OK) return 3;
  s.seed = 7, net_reset(p);
  if (net_write(p, prompt, strlen(prompt), 20, &s, 0, 0, 0, 0, text, 3, &size) != NET_TOO_LONG || size < 4) return 4;
  s.seed = 7, net_reset(p);
  if (net_write(p, prompt, strlen(prompt), 20, &s, 0, 0, 0, 0, text, sizeof text, &size) != NET_OK) return 5;
  printf("|");
  fwrite(text, 1, size, stdout);
  net_destroy(p);
  return 0;
}
"""


def test_a_c_program_writes_the_same(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text(
        PROGRAM.replace("PROMPT", json.dumps(PROMPT, ensure_ascii=False)), encoding="utf-8"
    )
    c, cxx, warnings = requires_tool("gcc"), requires_tool("g++"), ("-Wall", "-Wextra", "-Werror")
    checks = "-fsanitize=address,undefined"
    for command in (
        [cxx, "-std=c++17", "-O1", checks, "-march=native", *warnings, "-c", bundle / "net.cc", "-o", "net.o"],
        [c, "-std=c11", checks, *warnings, f"-I{bundle}", "-c", "main.c", "-o", "main.o"],
        [cxx, checks, "main.o", "net.o", "-o", "main"],
    ):
        done = run(command, cwd=tmp_path, limit_s=180)
        assert done.returncode == 0, done.stderr
    done = run([tmp_path / "main"], cwd=tmp_path)
    assert done.returncode == 0, (done.returncode, done.stderr)
    first, _, whole = done.stdout.partition("|")
    with dlpack.load(bundle) as net:
        pieces = list(net.pieces(PROMPT, 20, **SAMPLING))
    assert whole == "".join(pieces) and first == "".join(pieces[:2])


SCRIPT = """
const { TextWriter } = await import(`file://${process.argv[1]}/node.js`);
const { prompt, sampling } = JSON.parse(process.argv[2]);
const writer = await TextWriter.load(process.argv[1]);
const list = async (pieces) => { const found = []; for await (const t of pieces) found.push(t); return found; };
const options = { temperature: sampling.temperature, topK: sampling.top_k, topP: sampling.top_p, seed: sampling.seed };
console.log(JSON.stringify([await list(writer.write(prompt, { ...options, maxTokens: 20 })), writer.decoder.length]));
"""


@pytest.fixture(scope="module")
def wasm(folder: Path) -> Path:
    return build(folder / "net.onnx", folder / "wasm", Options("wasm", context=CONTEXT, name="net", verify=False))


def test_javascript_writes_the_same(wasm: Path, bundle: Path) -> None:
    argument = json.dumps({"prompt": PROMPT, "sampling": SAMPLING})
    pieces, length = node_json(SCRIPT, wasm, argument)
    with dlpack.load(bundle) as net:
        assert pieces == list(net.pieces(PROMPT, 20, **SAMPLING)) and length == net.length


def test_the_page_writes_the_same(wasm: Path, bundle: Path) -> None:
    """In a worker; stopped, with a prompt that is too long, and until the context is full."""
    fields = {"prompt": PROMPT, "tokens": 20, "temperature": 1.2, "top-k": 50, "top-p": 0.95, "seed": 7}
    seen = played("writing", wasm, *map(json.dumps, (fields, "word " * CONTEXT, "z " * (CONTEXT // 2 - 2))))
    done, stopped, long, full = seen["written"]
    with dlpack.load(bundle) as net:
        assert done["text"] == PROMPT + net.write(PROMPT, 20, **SAMPLING)
        assert done["status"] == "Done." and "tokens per second; prompt of" in done["timing"]
        assert (stopped["status"], stopped["text"]) == ("Stopped.", PROMPT)
        assert f"is too long: the text would get longer than the {CONTEXT} tokens" in long["status"]
        assert full["status"].startswith(f"the text would get longer than the {CONTEXT} tokens"), full
        assert len(full["text"]) > CONTEXT
