"""Regular expressions that match whole strings, as automata over the bytes of UTF-8.

What Python's parser makes of the expression is the syntax tree. Anything that an automaton cannot decide is refused:
references to groups, looking around. The syntax is RE2's, which is onnxruntime's, where the two agree:
classes like `\\d` are ASCII's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import numpy as np

from dlpack.graph.ir import Array

MAX_STATES = 4096
MAX_REPEAT = 1000
_LAST = 0x10FFFF

Ranges = list[tuple[int, int]]
"""Code points, from the first to the last of each range."""

_CLASSES = {
    "CATEGORY_DIGIT": [(0x30, 0x39)],
    "CATEGORY_SPACE": [(9, 10), (12, 13), (32, 32)],
    "CATEGORY_WORD": [(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)],
}


_CHARACTERS = (codes.LITERAL, codes.NOT_LITERAL, codes.ANY, codes.IN)


class NotRegular(Exception):
    """What an automaton does not decide; the text says what it is."""


@dataclass(frozen=True)
class Automaton:
    """Byte b in state s leads to ``steps[s, kinds[b]]``; state 0 is the first, `good` tells which accept."""

    kinds: Array
    steps: Array
    good: Array

    def accepts(self, text: bytes) -> bool:
        """Whether it takes the whole text."""
        state = 0
        for byte in text:
            state = int(self.steps[state, self.kinds[byte]])
        return bool(self.good[state])


def automaton(pattern: str) -> Automaton:
    """That of the expression. Raises NotRegular."""
    nfa = _Nfa()
    first, last = nfa.state(), nfa.state()
    nfa.sequence(_parsed(pattern), first, last)
    return _determined(nfa, first, last)


def runs(pattern: str) -> tuple[Array, int, int]:
    """An expression for runs of characters, such as [a-z]+: which characters (bool [129], the last for all above 127),
    and how many there are at least, and at most (0: any number). Raises NotRegular for another."""
    tree = list(_parsed(pattern))
    shortest, longest = 1, 1
    if len(tree) == 1 and tree[0][0] is codes.MAX_REPEAT:
        shortest, most, inner = tree[0][1]
        longest = 0 if most is codes.MAXREPEAT else int(most)
        tree = list(inner)
    if len(tree) != 1 or shortest < 1 or tree[0][0] not in _CHARACTERS:
        raise NotRegular("tokens other than runs of characters, such as [a-z]+")
    ranges = _ranges(*tree[0])
    takes = np.zeros(129, bool)
    for low, high in ranges:
        takes[low : min(high, 127) + 1] = True
    above = sum(high - max(low, 128) + 1 for low, high in ranges if high >= 128)
    if above not in (0, _LAST - 127):
        raise NotRegular("tokens that take some of the characters beyond ASCII")
    takes[128] = above > 0
    return takes, int(shortest), longest


def _parsed(pattern: str) -> Sequence[Any]:
    try:
        tree = parser.parse(pattern, re.ASCII)
    except (re.error, RecursionError, OverflowError) as error:
        raise NotRegular(f"it is not understood: {error}") from None
    if tree.state.flags & ~(re.ASCII | re.DOTALL):
        raise NotRegular("flags")
    nodes: Sequence[Any] = tree
    return nodes


def _negated(ranges: Ranges) -> Ranges:
    out, start = [], 0
    for low, high in sorted(ranges):
        if low > start:
            out.append((start, low - 1))
        start = max(start, high + 1)
    return [*out, (start, _LAST)] if start <= _LAST else out


def _ranges(op: Any, value: Any) -> Ranges:
    """The characters that a node of one character takes, sorted and apart."""
    if op is codes.LITERAL:
        return [(value, value)]
    if op is codes.NOT_LITERAL:
        return _negated([(value, value)])
    if op is codes.ANY:
        return _negated([(10, 10)])
    if op is not codes.IN:
        raise NotRegular(f"its part {str(op).lower()}")
    found: Ranges = []
    negate = False
    for kind, what in value:
        if kind is codes.NEGATE:
            negate = True
        elif kind is codes.RANGE:
            found.append(what)
        elif kind is codes.CATEGORY:
            name = str(what)
            known = _CLASSES.get(name.replace("_NOT_", "_"))
            if known is None:
                raise NotRegular(name.lower())
            found += _negated(known) if "_NOT_" in name else known
        else:
            found += _ranges(kind, what)
    return _negated(found) if negate else _negated(_negated(found))


class _Nfa:
    """States, and the edges between them: by a range of bytes, or by none, where a place is at an edge or anywhere."""

    def __init__(self) -> None:
        self.free: list[list[tuple[Any, int]]] = []
        self.edges: list[list[tuple[int, int, int]]] = []

    def state(self) -> int:
        if len(self.free) > 20 * MAX_STATES:
            raise NotRegular("an expression of that size")
        self.free.append([])
        self.edges.append([])
        return len(self.free) - 1

    def sequence(self, nodes: Iterable[Any], first: int, last: int) -> None:
        for op, value in nodes:
            after = self.state()
            self.node(op, value, first, after)
            first = after
        self.free[first].append((None, last))

    def node(self, op: Any, value: Any, first: int, last: int) -> None:
        if op is codes.BRANCH:
            for branch in value[1]:
                self.sequence(branch, first, last)
        elif op is codes.SUBPATTERN:
            if value[1] or value[2]:
                raise NotRegular("flags")
            self.sequence(value[3], first, last)
        elif op in (codes.MAX_REPEAT, codes.MIN_REPEAT):
            least, most, nodes = value
            self.repeat(least, most, nodes, first, last)
        elif op is codes.AT:
            self.free[first].append((value, last))
        else:
            for low, high in _ranges(op, value):
                for path in _byte_ranges(low, high):
                    self.path(path, first, last)

    def repeat(self, least: int, most: Any, nodes: Any, first: int, last: int) -> None:
        bounded = most is not codes.MAXREPEAT
        if max(least, most if bounded else 0) > MAX_REPEAT:
            raise NotRegular(f"more than {MAX_REPEAT} times")
        for _ in range(least):
            after = self.state()
            self.sequence(nodes, first, after)
            first = after
        if not bounded:
            around = self.state()
            self.free[first].append((None, around))
            self.sequence(nodes, around, around)
            self.free[around].append((None, last))
            return
        for _ in range(most - least):
            self.free[first].append((None, last))
            after = self.state()
            self.sequence(nodes, first, after)
            first = after
        self.free[first].append((None, last))

    def path(self, ranges: Sequence[tuple[int, int]], first: int, last: int) -> None:
        for low, high in ranges[:-1]:
            after = self.state()
            self.edges[first].append((low, high, after))
            first = after
        self.edges[first].append((*ranges[-1], last))

    def closed(self, states: Iterable[int], before: str, after: str) -> set[int]:
        """They, and what is reached without a byte between bytes of these kinds: "word", "other", "" for none."""
        found, waiting = set(states), list(states)
        while waiting:
            for edge, to in self.free[waiting.pop()]:
                if to not in found and (edge is None or _holds(edge, before, after)):
                    found.add(to)
                    waiting.append(to)
        return found


def _holds(edge: Any, before: str, after: str) -> bool:
    """Whether the place between bytes of these kinds is such an edge."""
    if edge in (codes.AT_BEGINNING, codes.AT_BEGINNING_STRING):
        return not before
    if edge in (codes.AT_END, codes.AT_END_STRING):
        return not after
    return ((before == "word") != (after == "word")) == (edge is codes.AT_BOUNDARY)


def _byte_ranges(low: int, high: int) -> list[list[tuple[int, int]]]:
    """The UTF-8 of a range of code points, as sequences of ranges of bytes."""
    for start, end in ((0, 0x7F), (0x80, 0x7FF), (0x800, 0xFFFF), (0x10000, _LAST)):
        if low <= end < high:
            return [*_byte_ranges(low, end), *_byte_ranges(end + 1, high)]
        if start <= low and high <= end:
            break
    if low < 0xD800 <= high or low <= 0xDFFF < high or 0xD800 <= low <= 0xDFFF:  # surrogates are no characters
        below = _byte_ranges(low, 0xD7FF) if low < 0xD800 else []
        return below + (_byte_ranges(0xE000, high) if high > 0xDFFF else [])
    if high < 0x80:
        return [[(low, high)]]
    for count in (1, 2, 3):  # split until all ranges but the last cover whole runs of continuation bytes
        mask = (1 << 6 * count) - 1
        if low & ~mask != high & ~mask:
            if low & mask:
                return [*_byte_ranges(low, low | mask), *_byte_ranges((low | mask) + 1, high)]
            if high & mask != mask:
                return [*_byte_ranges(low, (high & ~mask) - 1), *_byte_ranges(high & ~mask, high)]
    return [list(zip(chr(low).encode(), chr(high).encode(), strict=True))]


def _determined(nfa: _Nfa, first: int, last: int) -> Automaton:
    """States are those before the edges that the next byte decides, and the kind of the byte before."""
    words = _CLASSES["CATEGORY_WORD"]
    ranges = [(low, high) for edges in nfa.edges for low, high, _ in edges]
    cuts = sorted({0, 256} | {b for low, high in [*ranges, *words] for b in (low, high + 1)})
    kinds = np.zeros(256, np.uint8)
    for k, (low, high) in enumerate(pairwise(cuts)):
        kinds[low:high] = k
    of_byte = ["word" if any(a <= low <= b for a, b in words) else "other" for low in cuts[:-1]]
    begin = (frozenset([first]), "")
    numbers = {begin: 0}
    order, steps, good = [begin], [], []
    for states, before in order:
        row = []
        reached = {after: nfa.closed(states, before, after) for after in ("word", "other", "")}
        good.append(last in reached[""])
        for low, kind in zip(cuts[:-1], of_byte, strict=True):
            to = (frozenset(t for s in reached[kind] for a, b, t in nfa.edges[s] if a <= low <= b), kind)
            if to not in numbers:
                if len(numbers) >= MAX_STATES:
                    raise NotRegular(f"an automaton of more than {MAX_STATES} states")
                numbers[to] = len(order)
                order.append(to)
            row.append(numbers[to])
        steps.append(row)
    return Automaton(kinds, np.array(steps, np.int32), np.array(good))
