"""Decoders of a tokenizer.json: what each token is as text, at the beginning and later."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from dlpack.tokenizer.spec import Decoder, Node, unsupported, wrong
from dlpack.tokenizer.steps import byte_characters, prepend_scheme


@dataclass(frozen=True)
class _Piece:
    """A token on its way to text, as the first of a text and as a later one; a `byte` of a character is neither."""

    first: str
    later: str
    byte: int | None = None

    def each(self, change: Callable[[str], str]) -> _Piece:
        return replace(self, first=change(self.first), later=change(self.later))


_Change = Callable[[_Piece], _Piece]


@dataclass
class _Chain:
    changes: list[_Change]
    sink: str = "plain"
    fused: bool = False
    mark: str = ""
    first_unmarked: bool = False
    spaced: bool = False
    strip: tuple[str, int] = ("", 0)


def read_decoder(node: Node | None, tokens: Sequence[str | None]) -> Decoder:
    """The decoder for these tokens, by id. Raises UnsupportedError for a kind that is not known."""
    chain = _Chain([])
    if node is None:
        chain.spaced = True
        chain.changes.append(lambda p: _Piece(p.first, " " + p.later))
    else:
        parts = node.nodes("decoders") if node.kind == "Sequence" else [node]
        if len(parts) > 32:
            raise wrong(f"the decoder has {len(parts)} steps")
        for part in parts:
            _add(part, chain)
    odd, bytes_of = {}, {}
    kind = "spaced" if chain.spaced else "marked" if chain.mark else "raw"
    for number, token in enumerate(tokens):
        if token is None:
            continue
        piece = _Piece(token, token)
        for change in chain.changes:
            piece = change(piece)
        if piece.byte is not None:
            bytes_of[number] = piece.byte
            continue
        made = _bytes(piece.first, chain.sink), _bytes(piece.later, chain.sink)
        if made != _expected(token, kind, chain):
            odd[number] = made
    return Decoder(kind, chain.mark, chain.first_unmarked, odd, bytes_of, chain.sink, chain.strip)


_BYTES = {character: byte for byte, character in enumerate(byte_characters())}


def raw_bytes(token: str) -> bytes:
    """The bytes that a token of a byte-level tokenizer stands for; those of its text where it is none."""
    if all(c in _BYTES for c in token):
        return bytes(_BYTES[c] for c in token)
    return token.encode()


def _bytes(text: str, sink: str) -> bytes:
    return raw_bytes(text) if sink == "lossy" else text.encode()


def _expected(token: str, kind: str, chain: _Chain) -> tuple[bytes, bytes]:
    """What the emitted file makes of a token that is not odd: of its string, by the general rule."""
    first = later = token
    if kind == "marked":
        later = token.replace(chain.mark, " ")
        first = token.replace(chain.mark, "") if chain.first_unmarked else later
    elif kind == "spaced":
        later = token.removeprefix(chain.mark) if chain.mark and token.startswith(chain.mark) else " " + token
    return _bytes(first, chain.sink), _bytes(later, chain.sink)


def _add(node: Node, chain: _Chain) -> None:
    readers: Mapping[str, Callable[[Node, _Chain], None]] = {
        "ByteLevel": _byte_level, "WordPiece": _word_piece, "Metaspace": _metaspace, "ByteFallback": _byte_fallback,
        "Fuse": _fuse, "Strip": _strip, "Replace": _replace,
    }  # fmt: skip
    if node.kind not in readers:
        raise unsupported(f"the decoder {node.kind[:40]!r}")
    if chain.fused and node.kind not in ("Strip", "Fuse"):
        raise unsupported(f"the decoder {node.kind} behind one that joins the tokens")
    readers[node.kind](node, chain)


def _byte_level(_: Node, chain: _Chain) -> None:
    chain.sink, chain.fused = "lossy", True


def _fuse(_: Node, chain: _Chain) -> None:
    chain.fused = True


def _word_piece(node: Node, chain: _Chain) -> None:
    mark = node.get("prefix", str, "##")
    clean = _cleaned if node.get("cleanup", bool, True) else str

    def change(p: _Piece) -> _Piece:
        joined = bool(mark) and p.later.startswith(mark)
        later = p.later.removeprefix(mark) if joined else " " + p.later
        return replace(p, first=clean(p.first), later=clean(later))

    chain.spaced, chain.mark = True, mark
    chain.changes.append(change)


def _cleaned(text: str) -> str:
    """Without the spaces before punctuation and endings, as Hugging Face's `cleanup` has it."""
    for before, after in (
        (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
        (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
    ):  # fmt: skip
        text = text.replace(before, after)
    return text


def _metaspace(node: Node, chain: _Chain) -> None:
    mark = node.get("replacement", str, "\u2581")
    if len(mark) != 1:
        raise wrong(f"'replacement' of {node.where} is {mark[:40]!r}, not one character")
    chain.mark, chain.first_unmarked = mark, prepend_scheme(node) != "never"
    first = "" if chain.first_unmarked else " "
    chain.changes.append(lambda p: replace(p, first=p.first.replace(mark, first), later=p.later.replace(mark, " ")))


def _byte_fallback(_: Node, chain: _Chain) -> None:
    def change(p: _Piece) -> _Piece:
        found = re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", p.later)
        return replace(p, byte=int(found[1], 16)) if found else p

    chain.sink = "runs"
    chain.changes.append(change)


def _strip(node: Node, chain: _Chain) -> None:
    content, start, stop = node.get("content", str), node.number("start", 0, 64, 0), node.number("stop", 0, 64, 0)
    if len(content) != 1:
        raise wrong(f"'content' of {node.where} is {content[:40]!r}, not one character")
    if chain.fused:
        if stop or chain.strip[1]:
            raise unsupported("the decoder Strip at the end of a text, or twice,")
        chain.strip = (content, start)
        return

    def change(text: str) -> str:
        left = 0
        while left < start and text[left : left + 1] == content:
            left += 1
        right = len(text)
        while len(text) - right < stop and right > left and text[right - 1] == content:
            right -= 1
        return text[left:right]

    chain.changes.append(lambda p: p.each(change))


def _replace(node: Node, chain: _Chain) -> None:
    pattern, content = node.get("pattern", dict), node.get("content", str)
    text = pattern.get("String")
    if not isinstance(text, str) or not text:
        raise unsupported(f"the decoder Replace with the pattern {str(pattern)[:80]}")
    if len(text) == 1 and content == " " and not chain.mark:
        chain.mark = text
    chain.changes.append(lambda p: p.each(lambda t: t.replace(text, content)))
