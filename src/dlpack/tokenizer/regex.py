r"""Regular expressions of tokenizers, as programs for the matcher in runtime_c/tokenizer.h.

What they use of Oniguruma's language: literals, classes with ranges, \s \d \w \p{..} and &&, groups (?:..), (..) and
(?i:..), alternatives, look-ahead, ^ and $, greedy and possessive repetition of one character, and of groups a
few times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from dlpack.errors import UnsupportedError
from dlpack.tokenizer.characters import CATEGORIES, CODES, Codes, categories, of_category, of_ranges, spaces
from dlpack.tokenizer.characters import word_characters as _words

MATCH, SET, POSSESSIVE, SPLIT, JUMP, AHEAD, BEGIN, END = range(8)
"""The instructions: SET and POSSESSIVE set min max; SPLIT where else; JUMP where; AHEAD negated where-after."""

MANY = 0x7FFFFFFF
_LONGEST = 20_000
_MOST_INSTRUCTIONS = 4096


@dataclass
class Patterns:
    """The programs of a tokenizer's patterns, and the sets of characters that they share."""

    program: list[int] = field(default_factory=list)
    sets: list[Codes] = field(default_factory=list)
    retries: int = 1
    _known: dict[bytes, int] = field(default_factory=dict)

    def set_number(self, codes: Codes) -> int:
        key = np.packbits(codes).tobytes()
        if key not in self._known:
            self._known[key] = len(self.sets)
            self.sets.append(codes)
        return self._known[key]

    def add(self, pattern: str) -> int:
        """Where the pattern's program begins. Raises UnsupportedError for what the matcher does not know."""
        begin = len(self.program)
        parser = _Parser(pattern, self)
        least = parser.alternatives()
        if parser.at < len(pattern):
            raise parser.refused(f"'{pattern[parser.at]}'")
        if not least:
            raise parser.refused("a match of nothing")
        self._finish(begin, parser.code)
        return begin

    def literal(self, text: str) -> int:
        """Where the program of a text begins that matches only itself."""
        begin = len(self.program)
        self._finish(begin, [w for c in text for w in (SET, self.set_number(of_ranges((ord(c), ord(c)))), 1, 1)])
        return begin

    def any_of(self, codes: Codes) -> int:
        """Where the program begins that matches one character of a set."""
        begin = len(self.program)
        self._finish(begin, [SET, self.set_number(codes), 1, 1])
        return begin

    def _finish(self, begin: int, code: list[int]) -> None:
        self.program += [*_moved(code, begin), MATCH]
        kinds = [code[at] for at in _starts(code)]
        self.retries = max(self.retries, 1 + sum(kind in (SET, SPLIT) for kind in kinds))

    def set_table(self) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
        """A row of seven words per set: four of bits for ASCII, one of categories that are wholly in it, where its
        other ranges begin and how many there are; then the ranges, two words each."""
        rows: list[list[int]] = []
        ranges: list[tuple[int, int]] = []
        kinds = categories()
        for codes in self.sets:
            ascii_bits = np.packbits(codes[:128], bitorder="little").view("<u4").tolist()
            beyond = codes.copy()
            beyond[:128] = False
            whole = 0
            for number in range(len(CATEGORIES)):
                own = kinds == number
                own[:128] = False
                if own.any() and codes[own].all():
                    whole |= 1 << number
                    beyond &= ~own
            edges = np.flatnonzero(np.diff(np.concatenate(([False], beyond, [False])).astype(np.int8)))
            found = [(int(a), int(b) - 1) for a, b in edges.reshape(-1, 2)]
            rows.append([*ascii_bits, whole, len(ranges), len(found)])
            ranges += found
        head = np.array(rows, np.uint32).reshape(-1)
        return np.concatenate([head, np.array(ranges, np.uint32).reshape(-1)])


_SIZES = {MATCH: 1, SET: 4, POSSESSIVE: 4, SPLIT: 2, JUMP: 2, AHEAD: 3, BEGIN: 1, END: 1}
_TARGETS = {SPLIT: 1, JUMP: 1, AHEAD: 2}


def _starts(code: list[int]) -> list[int]:
    found, at = [], 0
    while at < len(code):
        found.append(at)
        at += _SIZES[code[at]]
    return found


def _moved(code: list[int], by: int) -> list[int]:
    """The code with its jumps for another place."""
    out = list(code)
    for at in _starts(code):
        if code[at] in _TARGETS:
            out[at + _TARGETS[code[at]]] += by
    return out


class _Parser:
    """Reads a pattern from left to right; `code` is the program so far, with places counted from its start."""

    def __init__(self, pattern: str, patterns: Patterns) -> None:
        self.pattern, self.patterns, self.at = pattern, patterns, 0
        self.code: list[int] = []
        self.any_case = False
        self.depth = 0
        if len(pattern) > _LONGEST:
            raise UnsupportedError(f"tokenizer.json: a pattern of {len(pattern):,} characters is too long")

    def refused(self, what: str) -> UnsupportedError:
        return UnsupportedError(
            f"tokenizer.json: the pattern {self.pattern[:200]!r} has {what}, which is not supported"
        )

    def _peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def _next(self) -> str:
        if self.at >= len(self.pattern):
            raise self.refused("no end")
        self.at += 1
        return self.pattern[self.at - 1]

    def _takes(self, text: str) -> bool:
        there = self.pattern.startswith(text, self.at)
        self.at += len(text) if there else 0
        return there

    def alternatives(self) -> int:
        """Reads alternatives; gives the fewest characters that one of them takes."""
        self.depth += 1
        if self.depth > 20:
            raise self.refused("groups in groups in groups")
        outer, branches, least = self.code, [], []
        while True:
            self.code = []
            least.append(self._sequence())
            branches.append(self.code)
            if not self._takes("|"):
                break
        joined = branches[-1]
        for branch in reversed(branches[:-1]):
            after = 2 + len(branch) + 2
            joined = [SPLIT, after, *_moved(branch, 2), JUMP, after + len(joined), *_moved(joined, after)]
        self.code = [*outer, *_moved(joined, len(outer))]
        self.depth -= 1
        if len(self.code) > _MOST_INSTRUCTIONS:
            raise self.refused("more parts than the matcher has room for")
        return min(least)

    def _sequence(self) -> int:
        least = 0
        while self._peek() and self._peek() not in "|)":
            least += self._term()
        return least

    def _term(self) -> int:
        begin = len(self.code)
        if self._takes("^") or self._takes(r"\A"):
            self.code.append(BEGIN)
            return 0
        if self._takes("$") or self._takes(r"\z"):
            self.code.append(END)
            return 0
        if self._takes("("):
            least, ahead = self._group()
            return least if ahead else self._repeated_group(begin, least)
        codes = self._one()
        low, high, possessive = self._times()
        number = self.patterns.set_number(codes)
        self.code += [POSSESSIVE if possessive else SET, number, low, high]
        return low

    def _group(self) -> tuple[int, bool]:
        """The rest of a group: the fewest characters it takes, and whether it only looks ahead."""
        case, ahead = self.any_case, 0
        if self._takes("?i:"):
            self.any_case = True
        elif self._takes("?=") or self._takes("?!"):
            ahead = 1 if self.pattern[self.at - 1] == "=" else 2
        elif not self._takes("?:") and self._peek() == "?":
            raise self.refused(f"'({self.pattern[self.at : self.at + 3]}'")
        if ahead:
            outer, self.code = self.code, []
            self.alternatives()
            at = len(outer)
            body = [*_moved(self.code, at + 3), MATCH]
            self.code = [*outer, AHEAD, ahead - 1, at + 3 + len(body), *body]
            least = 0
        else:
            least = self.alternatives()
        if not self._takes(")"):
            raise self.refused("a group without an end")
        self.any_case = case
        return least, bool(ahead)

    def _repeated_group(self, begin: int, least: int) -> int:
        """The group that began at `begin` as often as what follows says."""
        low, high, possessive = self._times()
        if (low, high, possessive) == (1, 1, False):
            return least
        if possessive or high > 8:
            raise self.refused("a group that is repeated without a small limit")
        body = _moved(self.code[begin:], -begin)
        del self.code[begin:]
        for _ in range(low):
            self.code += _moved(body, len(self.code))
        end = len(self.code) + (high - low) * (len(body) + 2)
        for _ in range(high - low):
            self.code += [SPLIT, end]
            self.code += _moved(body, len(self.code))
        return least * low

    def _times(self) -> tuple[int, int, bool]:
        """How often the term before is repeated, at least and at most, and whether it never gives back."""
        low, high = 1, 1
        counted = False
        if self._takes("?"):
            low, high = 0, 1
        elif self._takes("*"):
            low, high = 0, MANY
        elif self._takes("+"):
            low, high = 1, MANY
        elif self._takes("{"):
            counted = True
            inside = self.pattern[self.at : self.pattern.find("}", self.at)]
            self.at += len(inside) + 1
            first, comma, last = inside.partition(",")
            if not (first or last) or not (first + last).isdecimal() or len(inside) > 9:
                raise self.refused(f"'{{{inside}}}'")
            low = int(first or 0)
            high = low if not comma else int(last) if last else MANY
            if low > high:
                raise self.refused(f"'{{{inside}}}'")
        else:
            return 1, 1, False
        if self._takes("?"):
            raise self.refused("repetition that is not greedy")
        possessive = not counted and self._takes("+")
        if self._peek() and self._peek() in "*+{":
            raise self.refused("repetition of repetition")
        return low, high, possessive

    def _one(self) -> Codes:
        """The characters that the next term matches, one of them."""
        c = self._next()
        if c == ".":
            return ~of_ranges((10, 10))
        if c == "[":
            return self._class()
        if c == "\\":
            return self._escape(False)
        if c in "*+?{":
            raise self.refused(f"'{c}' behind nothing")
        return self._cased(ord(c))

    def _cased(self, code: int, last: int | None = None) -> Codes:
        codes = of_ranges((code, code if last is None else last))
        if self.any_case:
            for c in np.flatnonzero(codes[:128]).tolist():
                other = chr(c).swapcase()
                codes[ord(other)] = True
                codes[{"s": 0x17F, "k": 0x212A}.get(chr(c).lower(), c)] = True
        return codes

    def _class(self) -> Codes:
        """The rest of a class "[...]"."""
        self.depth += 1
        if self.depth > 20:
            raise self.refused("classes in classes in classes")
        negated = self._takes("^")
        codes, both = np.zeros(CODES, np.bool_), np.ones(CODES, np.bool_)
        first = True
        while first or not self._takes("]"):
            if self._takes("&&"):
                both, codes = both & codes, np.zeros(CODES, np.bool_)
                first = False
                continue
            codes = codes | self._member()
            first = False
        self.depth -= 1
        codes = both & codes
        return ~codes if negated else codes

    def _member(self) -> Codes:
        c = self._next()
        if c == "[":
            if self._peek() == ":":
                raise self.refused("a class of POSIX")
            return self._class()
        low = self._code(c)
        if low is None:
            return self._escape(True)
        if self._peek() == "-" and self.pattern[self.at + 1 : self.at + 2] not in ("]", ""):
            self.at += 1
            high = self._code(self._next())
            if high is None or high < low:
                raise self.refused("a range without an end")
            return self._cased(low, high)
        return self._cased(low)

    def _code(self, c: str) -> int | None:
        """The character that `c` and what follows it stand for; None, and nothing read, for an escape of many."""
        if c != "\\":
            return ord(c)
        before = self.at
        kind = self._next()
        if kind in _CONTROLS:
            return _CONTROLS[kind]
        if kind in "xu":
            digits = self.pattern[self.at : self.at + (2 if kind == "x" else 4)]
            if self._takes("{"):
                digits = self.pattern[self.at : self.pattern.find("}", self.at)]
                self.at += 1
            self.at += len(digits)
            try:
                code = int(digits, 16)
            except ValueError:
                code = CODES
            if code >= CODES or not digits:
                raise self.refused(f"'\\{kind}{digits}'")
            return code
        if not kind.isalnum():
            return ord(kind)
        self.at = before
        return None

    def _escape(self, in_class: bool) -> Codes:
        code = None if in_class else self._code("\\")
        if code is not None:
            return self._cased(code)
        kind = self._next()
        if kind.lower() in "pP":
            negated = kind == "P"
            if not self._takes("{"):
                name = self._next()
            else:
                end = self.pattern.find("}", self.at)
                name = self.pattern[self.at : end]
                self.at += len(name) + 1
            negated ^= name.startswith("^")
            codes = self._property(name.removeprefix("^"))
        else:
            codes, negated = self._shorthand(kind)
        return ~codes if negated else codes

    def _shorthand(self, kind: str) -> tuple[Codes, bool]:
        known: dict[str, Callable[[], Codes]] = {"s": spaces, "d": lambda: of_category("Nd"), "w": _words}
        if kind.lower() not in known:
            raise self.refused(f"'\\{kind}'")
        return known[kind.lower()](), kind.isupper()

    def _property(self, name: str) -> Codes:
        try:
            return of_category(name)
        except KeyError:
            pass
        ranges = _SCRIPTS.get(name)
        if ranges is None:
            raise self.refused(f"'\\p{{{name[:40]}}}'")
        return of_ranges(*ranges)


_CONTROLS = {"n": 10, "r": 13, "t": 9, "f": 12, "v": 11, "a": 7, "e": 27, "0": 0}

_SCRIPTS = {
    "Han": (
        (0x2E80, 0x2E99), (0x2E9B, 0x2EF3), (0x2F00, 0x2FD5), (0x3005, 0x3005), (0x3007, 0x3007), (0x3021, 0x3029),
        (0x3038, 0x303B), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFA6D), (0xFA70, 0xFAD9), (0x16FE2, 0x16FE3),
        (0x16FF0, 0x16FF1), (0x20000, 0x2A6DF), (0x2A700, 0x2B739), (0x2B740, 0x2B81D), (0x2B820, 0x2CEA1),
        (0x2CEB0, 0x2EBE0), (0x2EBF0, 0x2EE5D), (0x2F800, 0x2FA1D), (0x30000, 0x3134A), (0x31350, 0x323AF),
    ),
    "Hiragana": (
        (0x3041, 0x3096), (0x309D, 0x309F), (0x1B001, 0x1B11F), (0x1B132, 0x1B132), (0x1B150, 0x1B152),
        (0x1F200, 0x1F200),
    ),
    "Katakana": (
        (0x30A1, 0x30FA), (0x30FD, 0x30FF), (0x31F0, 0x31FF), (0x32D0, 0x32FE), (0x3300, 0x3357), (0xFF66, 0xFF6F),
        (0xFF71, 0xFF9D), (0x1AFF0, 0x1AFF3), (0x1AFF5, 0x1AFFB), (0x1AFFD, 0x1AFFE), (0x1B000, 0x1B000),
        (0x1B120, 0x1B122), (0x1B155, 0x1B155), (0x1B164, 0x1B167),
    ),
    "Hangul": (
        (0x1100, 0x11FF), (0x302E, 0x302F), (0x3131, 0x318E), (0x3200, 0x321E), (0x3260, 0x327E), (0xA960, 0xA97C),
        (0xAC00, 0xD7A3), (0xD7B0, 0xD7C6), (0xD7CB, 0xD7FB), (0xFFA0, 0xFFBE), (0xFFC2, 0xFFC7), (0xFFCA, 0xFFCF),
        (0xFFD2, 0xFFD7), (0xFFDA, 0xFFDC),
    ),
}  # fmt: skip
"""The scripts that patterns of tokenizers name."""
