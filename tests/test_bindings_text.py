"""Bindings: in each language that is here a program takes texts apart, writes them and errs. It gives what
`dlpack.load` gives, and each misuse is an error that says what is wrong.

The programs are tests/bindings/text.* and, for embeddings, those below; all share two small bundles.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import onnx
import pytest
from test_bindings import LANGUAGES, PROGRAMS, RUNNERS, check_texts
from test_text_models import TEXT, encoder
from test_text_models import TOKENIZER as WORDS
from test_text_models import options as encoder_options
from test_text_writer import CONTEXT, PROMPT, writer_folder

import dlpack
from dlpack.bindings.api import ALWAYS, CREATE, SET_INPUT, Texts, describe
from dlpack.errors import FullError
from dlpack.pipeline import Options, build

DRAWN = {"temperature": 1.2, "top_k": 50, "top_p": 0.95, "seed": 7}
BYTES = 32_768
"""The longest text, unless --text-bytes says otherwise."""

MISUSES = {"full", "long", "empty", "token", "sampler", "callback"}
"""What every program does wrongly. Some also use a predictor that is closed, or that is writing a text."""


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder of few tokens, with its tokenizer."""
    folder = writer_folder(tmp_path_factory.mktemp("writer"))
    options = Options(context=CONTEXT, name="writer", bindings=LANGUAGES, verify=False)
    return build(folder / "net.onnx", folder / "bundle", options)


def told(text: str) -> str:
    """A text as the programs tell it: its bytes of UTF-8, and their sum."""
    return f"{len(text.encode())} {sum(text.encode())}"


def test_the_texts_are_whole(writer: Path) -> None:
    check_texts(writer)


def test_the_description_has_what_the_bundle_does_with_texts(writer: Path) -> None:
    api = describe(json.loads((writer / "manifest.json").read_text()), "")
    assert api.texts == Texts(bytes=BYTES, context=CONTEXT)
    names = [f.name for f in api.functions if f not in (CREATE, *ALWAYS, SET_INPUT)]
    assert names == [
        "shape",
        "set_shape",
        "input_of",
        "output_of",
        "tokenize",
        "detokenize",
        "rewind",
        "generate",
        "write",
    ]
    header = " ".join((writer / "writer.h").read_text().split())
    for f in api.texts.functions:
        own = ", ".join(f"{kind} {name}".replace("* ", "* ") for name, kind in f.parameters)
        for word in ("predictor", "sampler"):
            own = own.replace(f"{word}* ", f"writer_{word}* ")
        own = own.replace("on_token on_", "writer_on_token on_").replace("on_text on_", "writer_on_text on_")
        assert f"writer_{f.name}({own});" in header, f.name


@pytest.mark.parametrize("language", RUNNERS)
def test_texts(language: str, writer: Path, tmp_path: Path) -> None:
    """Ids, a text from ids, tokens and texts that are written, one that ends early, and one that goes on."""
    run, suffix, _ = RUNNERS[language]
    lines = defaultdict(list)
    for line in run(writer, "writer", PROGRAMS / f"text{suffix}", tmp_path, PROMPT).splitlines():
        key, _, rest = line.strip().partition(" ")
        lines[key].append(rest)
    with dlpack.load(writer) as net:
        ids, pieces = net.tokenize(PROMPT), list(net.pieces(PROMPT, 20, **DRAWN))
        with pytest.raises(FullError) as full:
            net.write(PROMPT, 99, stop=[])
        with pytest.raises(FullError) as full_tokens:
            net.generate(ids, 99)
        wanted = {
            "ids": " ".join(map(str, ids)),
            "back": net.detokenize(ids),
            "plain": str(len(net.tokenize(PROMPT, special=False))),
            "tokens": " ".join(map(str, net.generate(ids, 6, **DRAWN))),
            "text": f"{told(''.join(pieces))} {len(pieces)}",
            "first": told(pieces[0]),
            "written": told(full.value.text),
            "made": str(len(full_tokens.value.tokens)),
        }
        net.write(PROMPT, 5, **DRAWN)
        wanted["kept"] = told(net.write("and", 4, keep=True))
    assert {key: lines[key] for key in wanted} == {key: [value] for key, value in wanted.items()}
    assert lines.get("broken", ["true"]) == ["true"]
    messages = {key.rstrip(":"): value for key, value in lines.items() if key.endswith(":")}
    assert set(messages) >= MISUSES and not any("no error" in told for value in messages.values() for told in value)
    assert f"{CONTEXT} tokens" in messages["full"][0] and f"{BYTES} bytes" in messages["long"][0]
    assert all("empty prompt" in messages[key][0] for key in ("empty", "token", "sampler"))
    assert "of its own" in messages["callback"][0]


EMBEDDED = {
    "csharp": """
        using System;
        class M { static void Main(string[] a) {
          var p = new Sent.Predictor();
          Console.WriteLine(string.Join(" ", p.Embed(a[0])));
          p.Embed(a[1], cut: true);
          try { p.Embed(a[1]); } catch (ArgumentException e) { Console.WriteLine(e.Message); }
        } }""",
    "java": """
        class Main { public static void main(String[] a) {
          dlpack.sent.Predictor p = new dlpack.sent.Predictor();
          for (float number : p.embed(a[0], false)) System.out.print(number + " ");
          p.embed(a[1], true);
          try { p.embed(a[1], false); } catch (IllegalArgumentException e) { System.out.println(e.getMessage()); }
        } }""",
    "lua": """
        local p = require("sent").new()
        print(table.concat(p:embed(arg[1]), " "))
        p:embed(arg[2], true)
        print(select(2, pcall(p.embed, p, arg[2])))""",
    "node": """
        import { Predictor } from 'sent';
        const p = new Predictor();
        const [text, long] = process.argv.slice(2);
        console.log(...p.embed(text));
        p.embed(long, { cut: true });
        try { p.embed(long); } catch (e) { console.log(e.message); }""",
    "python-wheel": """
import sys
import sent

p = sent.Predictor()
print(*p.embed(sys.argv[1]).tolist())
p.embed(sys.argv[2], cut=True)
try:
    p.embed(sys.argv[2])
except ValueError as error:
    print(error)
""",
}


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that embeds texts of at most 16 tokens."""
    folder = tmp_path_factory.mktemp("sent")
    onnx.save(encoder(), folder / "model.onnx")
    (folder / "tokenizer.json").write_text(json.dumps(WORDS), encoding="utf-8")
    options = encoder_options(name="sent", bindings=tuple(EMBEDDED), verify=False)
    return build(folder / "model.onnx", folder / "bundle", options)


@pytest.mark.parametrize("language", EMBEDDED)
def test_embeddings(language: str, sent: Path, tmp_path: Path) -> None:
    run, suffix, _ = RUNNERS[language]
    (tmp_path / "work").mkdir()
    program = tmp_path / f"use{suffix}"
    program.write_text(EMBEDDED[language])
    words = run(sent, "sent", program, tmp_path / "work", TEXT, TEXT * 9).split()
    with dlpack.load(sent) as net:
        assert [float(word) for word in words[:4]] == pytest.approx(net.embed(TEXT).tolist(), rel=1e-5)
    assert "the text has more than the 16 tokens that the model takes" in " ".join(words[4:])
