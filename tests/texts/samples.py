"""Texts of twenty languages, emoji and broken UTF-8, from a seed."""

from __future__ import annotations

import random
from pathlib import Path

LANGUAGES = Path(__file__).with_name("languages.txt").read_text(encoding="utf-8").splitlines()

EMOJI = (
    "😀", "👍🏽", "👩‍👩‍👧‍👦", "🇺🇦🇯🇵", "❤️", "☺", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "1️⃣", "©️", "™", "🫠", "½", "²", "ﬁ", "Å", "A\u030a\u0323", "e\u0301", "\u0301",
    "ế", "각", "\u1100\u1161\u11a8", "İ", "ſ", "K", "ǅ", "\u200b", "\u200d", "\ufeff", "\u00ad", "\u2028", "\u0085", "\u00a0",
    "\u3000", "\u2581", "\u0000", "\u0007", "\u007f", "𝔘𝔫𝔦", "𠮷", "\U000f0000", "\u0378", "\ud7ff", "\ufffd", "\U0010ffff",
)  # fmt: skip
PARTS = (
    " ", "  ", "\n", "\n\n", "\r\n", "\t", " \n ", ".", ",", "!?", "...", "--", "'s", "'S", "n't", "'ll", "\"", "(", ")", "``", "''",
    "123", "1234567", "3.14", "007", "x = y[0];", "<br/>", "http://a.b/c?d=e_f", "#tag", "@me", "snake_case", "CamelCase", "ALLCAPS",
    "<s>", "</s>", "[MASK]", "<mask>", "<|endoftext|>", "[ADDED]", "lower", "Xtok", "<0x41>", "##ing", "▁", "don't", "I'M",
)  # fmt: skip
BROKEN = (b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\x80\x80", b"\xe0\x80\x80")


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
