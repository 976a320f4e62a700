"""The models of a tokenizer.json: BPE, WordPiece, WordLevel and Unigram."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dlpack.tokenizer.spec import Bpe, Node, Unigram, WordPiece, unsupported, wrong

MOST_TOKENS = 1 << 21
LONGEST_TOKEN = 1 << 12
"""Bytes of a token."""
_LONGEST_WORD = 1 << 20


def read_model(node: Node) -> Bpe | WordPiece | Unigram:
    """The model. Raises ModelError for what is malformed, UnsupportedError for a kind that is not known."""
    kind = node.get("type", str, "") or _guessed(node)
    readers: Mapping[str, Any] = {
        "BPE": _bpe, "WordPiece": _word_piece, "WordLevel": _word_level, "Unigram": _unigram
    }  # fmt: skip
    if kind not in readers:
        raise unsupported(f"a model of type {kind[:40]!r}")
    model: Bpe | WordPiece | Unigram = readers[kind](node)
    return model


def _guessed(node: Node) -> str:
    """The type of files from before 0.11 that do not tell it."""
    if isinstance(node.value.get("vocab"), list):
        return "Unigram"
    return (
        "BPE" if "merges" in node.value else "WordPiece" if "continuing_subword_prefix" in node.value else "WordLevel"
    )


def _ids(node: Node) -> dict[str, int]:
    found: dict[str, int] = node.get("vocab", dict)
    if not 0 < len(found) <= MOST_TOKENS:
        raise wrong(f"the vocabulary has {len(found):,} tokens, and 1 to {MOST_TOKENS:,} are possible")
    for token, number in found.items():
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < MOST_TOKENS:
            raise wrong(f"the id of the token {token[:40]!r} is {str(number)[:40]}")
        check_token(token)
    if len(set(found.values())) < len(found):
        raise wrong("two tokens of the vocabulary have one id")
    return found


def check_token(token: Any) -> None:
    """Raises ModelError for what is no token: no text, no UTF-8, too long."""
    if not isinstance(token, str):
        raise wrong(f"the token {str(token)[:40]} is no text")
    try:
        size = len(token.encode())
    except UnicodeEncodeError:
        raise wrong("a token has half of a surrogate pair") from None
    if size > LONGEST_TOKEN:
        raise wrong(f"a token has {size:,} bytes, and {LONGEST_TOKEN:,} are possible")


def _unknown(node: Node, ids: Mapping[str, int], needed: bool) -> int:
    token = node.get("unk_token", str, None)
    if not token and not needed:
        return -1
    if token not in ids:
        raise wrong(f"the unknown token {str(token)[:40]!r} is not in the vocabulary")
    return ids[token]


def _bpe(node: Node) -> Bpe:
    if node.get("dropout", (int, float), 0):
        raise unsupported("BPE with dropout, which tokenizes at random,")
    ids = _ids(node)
    prefix = node.get("continuing_subword_prefix", str, "")
    merges = []
    for k, pair in enumerate(node.get("merges", list)):
        parts = pair.split(" ") if isinstance(pair, str) else pair
        if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
            raise wrong(f"the {k}th merge is {str(pair)[:40]!r}, not a pair of tokens")
        left, right = parts
        both = left + right.removeprefix(prefix) if prefix else left + right
        missing = [token for token in (left, right, both) if token not in ids]
        if missing:
            raise wrong(f"the {k}th merge is of or to {missing[0][:40]!r}, which is not in the vocabulary")
        merges.append((ids[left], ids[right], ids[both]))
    return Bpe(
        ids,
        merges,
        _unknown(node, ids, False),
        node.get("fuse_unk", bool, False),
        node.get("byte_fallback", bool, False),
        node.get("ignore_merges", bool, False),
        prefix,
        node.get("end_of_word_suffix", str, ""),
    )


def _word_piece(node: Node) -> WordPiece:
    ids = _ids(node)
    longest = node.number("max_input_chars_per_word", 1, _LONGEST_WORD, 100)
    return WordPiece(ids, _unknown(node, ids, True), node.get("continuing_subword_prefix", str, "##"), longest)


def _word_level(node: Node) -> WordPiece:
    ids = _ids(node)
    return WordPiece(ids, _unknown(node, ids, True), "", _LONGEST_WORD, whole=True)


def _unigram(node: Node) -> Unigram:
    rows = node.get("vocab", list)
    if not 0 < len(rows) <= MOST_TOKENS:
        raise wrong(f"the vocabulary has {len(rows):,} tokens, and 1 to {MOST_TOKENS:,} are possible")
    scores, ids = [], {}
    for k, row in enumerate(rows):
        if (
            not isinstance(row, list)
            or len(row) != 2
            or isinstance(row[1], bool)
            or not isinstance(row[1], int | float)
        ):
            raise wrong(f"the {k}th token is {str(row)[:40]}, not a pair of a token and its score")
        check_token(row[0])
        try:
            score = float(row[1])
        except OverflowError:
            score = math.inf
        if not math.isfinite(score):
            raise wrong(f"the score of the token {row[0][:40]!r} is {score}")
        ids[row[0]] = k
        scores.append(score)
    unknown = node.get("unk_id", int, None)
    if unknown is None or not 0 <= unknown < len(rows):
        raise wrong("a Unigram model needs an unknown token: 'unk_id' is not one of its ids")
    return Unigram(ids, scores, unknown, node.get("byte_fallback", bool, False))
