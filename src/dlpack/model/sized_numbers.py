"""Whole numbers that only a run knows, as far as they are known at build time: sums of atoms, with bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

UNKNOWN = 1 << 62
"""A bound from here on is none."""


@dataclass(frozen=True)
class Atom:
    """Something that is not taken apart: `op` is "element" (a value's name and a place in it) or an operation on
    Numbers. Two atoms of one key are equal in every run."""

    key: str
    low: int
    high: int
    op: str
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Number:
    """The sum of `constant` and of atoms times factors, in the order of the atoms' keys."""

    constant: int
    terms: tuple[tuple[Atom, int], ...] = ()

    @property
    def known(self) -> bool:
        return not self.terms

    @property
    def key(self) -> str:
        return "+".join([*(f"{factor}*{atom.key}" for atom, factor in self.terms), str(self.constant)])

    @property
    def low(self) -> int:
        return self.constant + sum(f * (a.low if f > 0 else a.high) for a, f in self.terms)

    @property
    def high(self) -> int:
        return self.constant + sum(f * (a.high if f > 0 else a.low) for a, f in self.terms)

    @property
    def bounded(self) -> bool:
        return self.high < UNKNOWN // 2


def whole(value: int) -> Number:
    return Number(int(value))


def element(name: str, index: int, low: int = -UNKNOWN, high: int = UNKNOWN) -> Number:
    """Element `index` of an integer value."""
    return Number(0, ((Atom(f"{name}[{index}]", low, high, "element", (name, index)), 1),))


def add(a: Number, b: Number, factor: int = 1) -> Number:
    """a + factor * b."""
    terms = dict(a.terms)
    for atom, f in b.terms:
        terms[atom] = terms.get(atom, 0) + factor * f
    kept = sorted(((atom, f) for atom, f in terms.items() if f), key=lambda t: t[0].key)
    return Number(a.constant + factor * b.constant, tuple(kept))


def sub(a: Number, b: Number) -> Number:
    return add(a, b, -1)


def _atom(op: str, low: int, high: int, *arguments: Number) -> Number:
    key = f"{op}({','.join(a.key for a in arguments)})"
    low, high = max(low, -UNKNOWN), min(high, UNKNOWN)
    return Number(low) if low == high else Number(0, ((Atom(key, low, high, op, arguments), 1),))


def mul(a: Number, b: Number) -> Number:
    if a.known:
        a, b = b, a
    if b.known:
        return add(whole(0), a, b.constant)
    a, b = sorted((a, b), key=lambda n: n.key)
    corners = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
    return _atom("Mul", min(corners), max(corners), a, b)


def div(a: Number, b: Number) -> Number:
    """a / b, rounded down, for b > 0."""
    if a.key == b.key:
        return whole(1)
    if b.known and b.constant > 0:
        n = b.constant
        if all(f % n == 0 for _, f in a.terms):
            return Number(a.constant // n, tuple((atom, f // n) for atom, f in a.terms))
        return _atom("Div", a.low // n, a.high // n, a, b)
    low, high = max(1, b.low), max(1, b.high)
    corners = [x // y for x in (a.low, a.high) for y in (low, high)]
    factored = _without(a, b)
    return factored if factored is not None else _atom("Div", min(corners), max(corners), a, b)


def _without(a: Number, b: Number) -> Number | None:
    """a / b where a is a multiple of b."""
    if a.constant or b.constant or len(a.terms) != 1:
        return None
    (atom, f) = a.terms[0]
    if len(b.terms) == 1 and b.terms[0][0] == atom and f % b.terms[0][1] == 0:
        return whole(f // b.terms[0][1])
    if atom.op == "Mul" and b.key in (n.key for n in atom.arguments):
        x, y = atom.arguments
        return mul(y if x.key == b.key else x, whole(f))
    return None


def minimum(a: Number, b: Number) -> Number:
    if sub(a, b).high <= 0:
        return a
    if sub(b, a).high <= 0:
        return b
    a, b = sorted((a, b), key=lambda n: n.key)
    return _atom("Min", min(a.low, b.low), min(a.high, b.high), a, b)


def maximum(a: Number, b: Number) -> Number:
    if sub(a, b).low >= 0:
        return a
    if sub(b, a).low >= 0:
        return b
    a, b = sorted((a, b), key=lambda n: n.key)
    return _atom("Max", max(a.low, b.low), max(a.high, b.high), a, b)


def product(numbers: list[Number]) -> Number:
    out = whole(1)
    for n in numbers:
        out = mul(out, n)
    return out


def wrapped(n: Number, size: Number) -> Number:
    """An index into `size` elements, which counts from the end where it is negative."""
    if n.low >= 0:
        return n
    if n.high < 0:
        return add(n, size)
    return _atom("Wrap", min(0, n.low + size.low), max(n.high, size.high - 1), n, size)
