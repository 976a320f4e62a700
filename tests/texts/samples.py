"""Texts of twenty languages, emoji and broken UTF-8, from a seed."""

from __future__ import annotations

import json
import random
from pathlib import Path

LANGUAGES = Path(__file__).with_name("languages.txt").read_text(encoding="utf-8").splitlines()

_PIECES = json.loads(Path(__file__).with_name("pieces.json").read_text(encoding="utf-8"))
EMOJI, PARTS = _PIECES["emoji"], _PIECES["parts"]
"""Emoji and other single characters, and pieces of texts and programs."""
BROKEN = (
    b"\xff",
    b"\xc3",
    b"\xe2\x82",
    b"\xf0\x9f\x98",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf5\x80\x80\x80",
    b"\x80\x80",
    b"\xe0\x80\x80",
)


def texts(count: int, seed: int = 0) -> list[bytes]:
    """`count` texts; one in eight is broken."""
    generator = random.Random(seed)
    return [_text(generator, k) for k in range(count)]


def _text(generator: random.Random, number: int) -> bytes:
    pieces: list[bytes] = []
    language = LANGUAGES[number % len(LANGUAGES)]
    for _ in range(generator.randrange(1, 12)):
        kind = generator.random()
        if kind < 0.55:
            begin = generator.randrange(len(language))
            piece = language[begin : begin + generator.randrange(1, 40)]
        elif kind < 0.8:
            piece = generator.choice(PARTS)
        elif kind < 0.92:
            piece = generator.choice(EMOJI)
        else:
            piece = " " + generator.choice(generator.choice(LANGUAGES).split()) + " "
        pieces.append(piece.encode())
    if number % 8 == 7:
        pieces.insert(generator.randrange(len(pieces) + 1), generator.choice(BROKEN))
    return b"".join(pieces)
