"""What Unicode says of characters, as small tables: categories, decompositions, compositions, lower case."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

CODES = 0x110000
"""How many code points there are."""

CATEGORIES = (
    "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po",
    "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co", "Cn",
)  # fmt: skip
"""General categories in the order of their numbers; runtime_c/tokenizer.h knows these numbers."""

Codes = npt.NDArray[np.bool_]
"""A set of characters: whether each code point is in it."""


@cache
def categories() -> npt.NDArray[np.uint8]:
    """The number of each code point's category."""
    numbers = {name: k for k, name in enumerate(CATEGORIES)}
    return np.fromiter((numbers[unicodedata.category(chr(c))] for c in range(CODES)), np.uint8, CODES)


def of_category(name: str) -> Codes:
    """The characters of a category "Lu", or of a group of them, "L". Raises KeyError for neither."""
    chosen = [k for k, category in enumerate(CATEGORIES) if category.startswith(name)]
    if not chosen or len(name) > 2:
        raise KeyError(name)
    return np.isin(categories(), chosen)


def of_ranges(*ranges: tuple[int, int]) -> Codes:
    """The characters from and to these code points, both included."""
    found = np.zeros(CODES, np.bool_)
    for low, high in ranges:
        found[low : high + 1] = True
    return found


@cache
def spaces() -> Codes:
    """White_Space."""
    return of_category("Z") | of_ranges((9, 13), (0x85, 0x85))


_CIRCLED = ((0x24B6, 0x24E9), (0x1F130, 0x1F149), (0x1F150, 0x1F169), (0x1F170, 0x1F189))
"""Symbols that are alphabetic."""


@cache
def word_characters() -> Codes:
    r"""\w as Unicode's report on regular expressions has it."""
    kinds = [of_category(name) for name in ("L", "M", "Nd", "Nl", "Pc")]
    found: Codes = np.logical_or.reduce([*kinds, of_ranges((0x200C, 0x200D), *_CIRCLED)])
    return found


_JOINED = ((0x200C, 0x200D), (0xE33, 0xE33), (0xEB3, 0xEB3), (0xFF9E, 0xFF9F), (0x1F3FB, 0x1F3FF), (0xE0020, 0xE007F))
_APART = (
    (0x102B, 0x102C), (0x1038, 0x1038), (0x1062, 0x1064), (0x1067, 0x106D), (0x1083, 0x1083), (0x1087, 0x108C),
    (0x108F, 0x108F), (0x109A, 0x109C), (0x1A61, 0x1A61), (0x1A63, 0x1A64), (0xAA7B, 0xAA7B), (0xAA7D, 0xAA7D),
    (0x11720, 0x11721),
)  # fmt: skip
_BEFORE = (
    (0x600, 0x605), (0x6DD, 0x6DD), (0x70F, 0x70F), (0x890, 0x891), (0x8E2, 0x8E2), (0xD4E, 0xD4E), (0x110BD, 0x110BD),
    (0x110CD, 0x110CD), (0x111C2, 0x111C3), (0x1193F, 0x1193F), (0x11941, 0x11941), (0x11A3A, 0x11A3A),
    (0x11A84, 0x11A89), (0x11D46, 0x11D46),
)  # fmt: skip


def _clusters() -> npt.NDArray[np.uint8]:
    """How characters join: 0 alone, 1 to the one before, 2 never, 3 to the one behind."""
    joined = (of_category("M") & ~of_ranges(*_APART)) | of_ranges(*_JOINED)
    apart = np.logical_or.reduce([of_category(name) for name in ("Cc", "Cf", "Zl", "Zp")]) & ~joined
    before = of_ranges(*_BEFORE)
    return np.where(before, 3, np.where(joined, 1, np.where(apart, 2, 0))).astype(np.uint8)


def category_runs(clusters: bool) -> npt.NDArray[np.uint32]:
    """Runs of code points of one category: where each begins times 256, plus the category, plus 32 times how its
    characters join if that is asked for."""
    values = categories() + (32 * _clusters() if clusters else 0)
    begins = np.flatnonzero(np.diff(values, prepend=255))
    return ((begins << 8) | values[begins]).astype(np.uint32)


Pairs = Mapping[int, Sequence[int]]


@cache
def decompositions(compatible: bool) -> Pairs:
    """What NFD, or NFKD, makes of a code point, but for Hangul's syllables."""
    form = "NFKD" if compatible else "NFD"
    found: dict[int, Sequence[int]] = {}
    for c in range(CODES):
        text = chr(c)
        if c >= 0xA0 and not 0xAC00 <= c < 0xD7A4 and (made := unicodedata.normalize(form, text)) != text:  # type: ignore[arg-type]
            found[c] = tuple(map(ord, made))
    return found


@cache
def lower_cases() -> Pairs:
    """The lower case of single characters."""
    found = {c: tuple(map(ord, chr(c).lower())) for c in range(CODES) if not 0xD800 <= c < 0xE000}
    return {c: to for c, to in found.items() if to != (c,)}


def combining_runs() -> npt.NDArray[np.uint32]:
    """Runs of one combining class: where each begins times 256, plus the class."""
    values = np.fromiter((unicodedata.combining(chr(c)) for c in range(CODES)), np.uint32, CODES)
    begins = np.flatnonzero(np.diff(values, prepend=255))
    return ((begins << 8) | values[begins]).astype(np.uint32)


def compositions() -> npt.NDArray[np.uint32]:
    """Rows (first, second, both) in order: which pairs NFC makes one character of."""
    rows = []
    for c in range(CODES):
        told = unicodedata.decomposition(chr(c))
        parts = [int(x, 16) for x in told.split()] if "<" not in told else []
        if len(parts) == 2 and unicodedata.normalize("NFC", chr(c)) == chr(c):
            rows.append((*parts, c))
    return np.array(sorted(rows), np.uint32)
