"""Tokenizers: every kind against what `tokenizers` makes of the same texts, and what is refused.

`script/tokenizers` compares them on 10,000 texts each; here are recorded cases of small tokenizers of every kind.
"""

from __future__ import annotations

import copy
import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from texts.library import TOO_LONG, Library

from dlpack.errors import DlpackError, ModelError, UnsupportedError, UsageError
from dlpack.tokenizer.read import parse_tokenizer, read_tokenizer
from dlpack.tokenizer.regex import Patterns
from dlpack.tokenizer.tables import text_part

RECORDED = json.loads(gzip.decompress((Path(__file__).parent / "texts" / "recorded.json.gz").read_bytes()))
TEXTS = [bytes.fromhex(text) for text in RECORDED["texts"]]
KINDS: dict[str, dict[str, Any]] = RECORDED["kinds"]
TEXT_BYTES = 1000


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    jsons = {name: json.dumps(kind["tokenizer"]) for name, kind in KINDS.items()}
    return Library(tmp_path_factory.mktemp("tokenizers"), jsons, TEXT_BYTES, "-O0")


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_tokenizers(library: Library, kind: str) -> None:
    assert [library.tokenize(kind, text) for text in TEXTS] == KINDS[kind]["ids"]
    assert [library.tokenize(kind, text, special=False) for text in TEXTS] == KINDS[kind]["plain"]


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_those_of_tokenizers(library: Library, kind: str) -> None:
    assert [library.detokenize(kind, ids) for ids in KINDS[kind]["ids"]] == KINDS[kind]["decoded"]
    assert [library.detokenize(kind, ids, True) for ids in KINDS[kind]["ids"]] == KINDS[kind]["all_decoded"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_token_by_token_is_the_text(library: Library, kind: str) -> None:
    for ids, text in zip(KINDS[kind]["ids"], KINDS[kind]["decoded"], strict=True):
        pieces = [library.following(kind, ids[:k], ids[k]) for k in range(len(ids))]  # each is UTF-8, or it raises
        whole = "".join(map(str, [*pieces, library.following(kind, ids, -1)]))
        assert whole == text or "\ufffd" in text  # broken byte tokens are U+FFFD each, or all together


def test_a_character_of_several_tokens_comes_with_its_last_one(library: Library) -> None:
    ids = library.tokenize("gpt2", "😀".encode(), special=False)
    assert isinstance(ids, list) and len(ids) > 1
    assert [library.following("gpt2", ids[:k], ids[k]) for k in range(len(ids))] == [""] * (len(ids) - 1) + ["😀"]
    assert library.following("gpt2", ids[:-1], -1) == "\ufffd"


def test_broken_utf8_counts_as_the_replacement_character(library: Library) -> None:
    broken, replaced = b"a\xe2\x82b\xff\xc0\x80\xed\xa0\x80", "a\ufffdb\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd"
    assert broken.decode(errors="replace") == replaced
    assert library.tokenize("llama2", broken) == library.tokenize("llama2", replaced.encode())


def test_a_text_that_is_too_long_is_refused(library: Library) -> None:
    assert isinstance(library.tokenize("gpt2", b"a" * TEXT_BYTES), list)
    assert (library.tokenize("gpt2", b"a" * (TEXT_BYTES + 1)), library.count) == (TOO_LONG, 0)
    assert (library.tokenize("albert", "ﷺ".encode() * (TEXT_BYTES // 3)), library.count) == (TOO_LONG, 0)


def test_a_result_without_room_says_how_much_it_needs(library: Library) -> None:
    ids = library.tokenize("gpt2", b"Hello, world")
    assert isinstance(ids, list)
    for capacity in (0, len(ids) - 1):
        assert (library.tokenize("gpt2", b"Hello, world", capacity=capacity), library.count) == (TOO_LONG, len(ids))
    assert library.tokenize("gpt2", b"Hello, world", capacity=len(ids)) == ids
    assert (library.detokenize("gpt2", ids, capacity=5), library.count) == (TOO_LONG, 12)


def test_ids_without_a_token_are_left_out(library: Library) -> None:
    ids = library.tokenize("gpt2", b"Hello")
    assert isinstance(ids, list)
    assert library.detokenize("gpt2", [-1, *ids, 1 << 30, 5_000]) == "Hello"


def small(**changes: Any) -> str:
    """A tokenizer.json of a few words, with changes to its keys."""
    told: dict[str, Any] = {
        "added_tokens": [{"id": 0, "content": "[UNK]", "special": True}],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": {"[UNK]": 0, "a": 1, "##b": 2}},
    }
    return json.dumps({**told, **changes})


BPE = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}
MALFORMED = {
    "no JSON": "{",
    "a list": "[]",
    "a list of lists": "[" * 100_000,
    "no model": "{}",
    "a constant of JavaScript": '{"model": NaN}',
    "a model that is a list": small(model=[]),
    "a vocabulary that is empty": small(model={"type": "WordPiece", "unk_token": "a", "vocab": {}}),
    "a negative id": small(model={"type": "WordPiece", "unk_token": "a", "vocab": {"a": -1}}),
    "an id beyond all": small(model={"type": "WordPiece", "unk_token": "a", "vocab": {"a": 1 << 40}}),
    "an id twice": small(model={"type": "WordPiece", "unk_token": "a", "vocab": {"a": 1, "b": 1}}),
    "half of a pair": small(model={"type": "WordPiece", "unk_token": "a", "vocab": {"a": 1, "\ud800": 2}}),
    "a token that is too long": small(model={"type": "WordPiece", "unk_token": "a", "vocab": {"a": 1, "b" * 9000: 2}}),
    "no unknown token": small(model={"type": "WordPiece", "unk_token": "[UNK]", "vocab": {"a": 1}}),
    "a merge of three": small(model={**BPE, "merges": ["a b c"]}),
    "a merge of a token that is none": small(model={**BPE, "merges": [["a", "c"]]}),
    "a merge to a token that is none": small(model={**BPE, "merges": [["b", "a"]]}),
    "scores that are texts": small(model={"type": "Unigram", "unk_id": 0, "vocab": [["a", "b"]]}),
    "infinite scores": small(model={"type": "Unigram", "unk_id": 0, "vocab": [["a", 10**400]]}),
    "an unknown id that is none": small(model={"type": "Unigram", "unk_id": 3, "vocab": [["a", 0]]}),
    "a map that is no base64": small(normalizer={"type": "Precompiled", "precompiled_charsmap": "?"}),
    "a map that is cut": small(normalizer={"type": "Precompiled", "precompiled_charsmap": "////fwAA"}),
    "an added token without an id": small(added_tokens=[{"content": "x"}]),
    "a flag that is a number": small(added_tokens=[{"id": 7, "content": "x", "special": 1}]),
    "a template with another id": small(post_processor={"type": "BertProcessing", "sep": ["a", 9], "cls": ["a", 1]}),
    "truncation to nothing": small(truncation={"max_length": 0}),
    "a wrong direction": small(truncation={"max_length": 5, "direction": "Up"}),
    "a pad that is none": small(padding={"pad_id": 99}),
}
UNKNOWN = {
    "'Wordy'": small(model={"type": "Wordy"}),
    "'UnicodeScripts'": small(pre_tokenizer={"type": "UnicodeScripts"}),
    "'Reverse'": small(normalizer={"type": "Sequence", "normalizers": [{"type": "Reverse"}]}),
    "'CTC'": small(decoder={"type": "CTC"}),
    "'PairProcessing'": small(post_processor={"type": "PairProcessing"}),
    "dropout": small(model={**BPE, "dropout": 0.1}),
    "ByteLevel without": small(pre_tokenizer={"type": "ByteLevel"}),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_an_error(name: str) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        text_part(parse_tokenizer(MALFORMED[name]), 0, TEXT_BYTES, None)


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_is_named(name: str) -> None:
    with pytest.raises(UnsupportedError, match=name):
        parse_tokenizer(UNKNOWN[name])


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_tokenizer(tmp_path / "tokenizer.json")
    (tmp_path / "latin.json").write_bytes(b"\xe9")
    with pytest.raises(ModelError, match="not UTF-8"):
        read_tokenizer(tmp_path / "latin.json")


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each value inside a value, as its container and key; of long containers the first few."""
    pairs = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, inner in pairs[:12]:
        yield value, key
        yield from places(inner)


def test_damaged_files_are_errors_or_tokenizers() -> None:
    generator = random.Random(3)
    wrong = (None, -1, 1 << 70, 0.5, "", "x", "\ud800", [], {}, [[]], True, {"type": "Sequence"}, "(", "[a", "\\p{")
    for name in ("bert", "added", "xlm_roberta", "llama2"):
        for _ in range(40):
            told = copy.deepcopy(KINDS[name]["tokenizer"])
            container, key = generator.choice(list(places(told)))
            container[key] = generator.choice(wrong)
            try:
                parse_tokenizer(json.dumps(told))
            except DlpackError as e:
                assert str(e)


@pytest.mark.parametrize(
    "pattern",
    [
        "(",
        "a{2,1}",
        "[z-a]",
        "a**",
        "(?<=a)b",
        "a*?",
        "(ab)+",
        "\\p{Klingon}",
        "x*",
        "[[:alpha:]]",
        "\\1",
        "a" * 30_000,
    ],
)
def test_patterns_beyond_the_matcher_are_refused(pattern: str) -> None:
    with pytest.raises(UnsupportedError, match=r"tokenizer\.json"):
        Patterns().add(pattern)
