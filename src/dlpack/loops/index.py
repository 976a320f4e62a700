"""Integer index arithmetic: linear forms over loop variables, with floor division and modulo that simplify.

Every address in an emitted kernel is one `Linear`. Keeping indices linear is what lets the lowering see
strides (is this load contiguous in the vector loop?) and fold constants when a loop is unrolled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Range = tuple[int, int]


@dataclass(frozen=True)
class DivMod:
    """The atom ``form // divisor`` (op "/") or ``form % divisor`` (op "%"), both rounding to minus infinity."""

    op: str
    form: Linear
    divisor: int


Atom = str | DivMod


@dataclass(frozen=True)
class Linear:
    """``const + sum(coefficient * atom)``; terms are sorted and have no zero coefficient."""

    const: int = 0
    terms: tuple[tuple[Atom, int], ...] = ()

    @staticmethod
    def var(name: Atom) -> Linear:
        return Linear(0, ((name, 1),))

    def __add__(self, other: Linear | int) -> Linear:
        if isinstance(other, int):
            return Linear(self.const + other, self.terms)
        if not other.terms:
            return Linear(self.const + other.const, self.terms)
        merged = dict(self.terms)
        for atom, coefficient in other.terms:
            merged[atom] = merged.get(atom, 0) + coefficient
        return Linear(self.const + other.const, _sorted(merged))

    def __sub__(self, other: Linear | int) -> Linear:
        return self + (other * -1)

    def __mul__(self, factor: int) -> Linear:
        if factor == 0:
            return Linear()
        return Linear(self.const * factor, tuple((a, c * factor) for a, c in self.terms))

    @property
    def is_const(self) -> bool:
        return not self.terms

    def coefficient(self, name: str) -> int | None:
        """The coefficient of variable `name`; None where it also occurs inside a division or modulo."""
        found = 0
        for atom, coefficient in self.terms:
            if atom == name:
                found = coefficient
            elif isinstance(atom, DivMod) and atom.form.uses(name):
                return None
        return found

    def uses(self, name: str) -> bool:
        return any(a == name or (isinstance(a, DivMod) and a.form.uses(name)) for a, _ in self.terms)

    def variables(self) -> set[str]:
        out: set[str] = set()
        for atom, _ in self.terms:
            out |= {atom} if isinstance(atom, str) else atom.form.variables()
        return out

    def bounds(self, ranges: Mapping[str, Range]) -> Range:
        """The smallest and largest value, given inclusive `ranges` of the variables."""
        low = high = self.const
        for atom, c in self.terms:
            a, b = _atom_bounds(atom, ranges)
            low += min(a * c, b * c)
            high += max(a * c, b * c)
        return low, high

    def substitute(self, values: Mapping[str, Linear], ranges: Mapping[str, Range]) -> Linear:
        out = Linear(self.const)
        for atom, c in self.terms:
            if isinstance(atom, str):
                out += values.get(atom, Linear.var(atom)) * c
            else:
                inner = atom.form.substitute(values, ranges)
                out += (floordiv if atom.op == "/" else floormod)(inner, atom.divisor, ranges) * c
        return out


def floordiv(form: Linear, divisor: int, ranges: Mapping[str, Range]) -> Linear:
    """``form // divisor``, with every multiple of the divisor taken out; what is left to divide is not negative."""
    if divisor == 1:
        return form
    whole = Linear(form.const // divisor, tuple((a, c // divisor) for a, c in form.terms if c % divisor == 0))
    rest, low, high = _remainder(form, divisor, ranges)
    shift = -(low // divisor)
    if low // divisor == high // divisor:
        return whole - shift
    return whole + Linear.var(DivMod("/", rest + shift * divisor, divisor)) - shift


def floormod(form: Linear, divisor: int, ranges: Mapping[str, Range]) -> Linear:
    """``form % divisor``, with every multiple of the divisor dropped; what is left to divide is not negative."""
    rest, low, high = _remainder(form, divisor, ranges)
    shift = -(low // divisor)
    if low // divisor == high // divisor:
        return rest + shift * divisor
    return Linear.var(DivMod("%", rest + shift * divisor, divisor))


def _remainder(form: Linear, divisor: int, ranges: Mapping[str, Range]) -> tuple[Linear, int, int]:
    """The form without multiples of the divisor, and its bounds."""
    rest = Linear(form.const % divisor, tuple((a, c) for a, c in form.terms if c % divisor))
    return rest, *rest.bounds(ranges)


def merge_divmod(form: Linear) -> Linear:
    """Folds ``k*d*(a // d) + k*(a % d)`` back into ``k*a``, and ``k*d*((a % e) // d) + k*(a % d)`` into ``k*(a % e)``
    where d divides e: what fusing loops over contiguous rows leaves."""
    for rest, c in form.terms:
        if not isinstance(rest, DivMod) or rest.op != "%":
            continue
        for twin, factor in form.terms:
            pair = isinstance(twin, DivMod) and (twin.op, twin.divisor) == ("/", rest.divisor)
            if isinstance(twin, DivMod) and pair and factor == c * rest.divisor and _remains(rest, twin.form):
                return merge_divmod(form - Linear.var(rest) * c - Linear.var(twin) * factor + twin.form * c)
    return form


def _remains(rest: DivMod, form: Linear) -> bool:
    """Whether `form` has the remainder `rest`: it is what that divides, or the remainder of this by a multiple."""
    if form == rest.form:
        return True
    if form.const or len(form.terms) != 1:
        return False
    ((inner, c),) = form.terms
    if not isinstance(inner, DivMod) or (inner.op, c) != ("%", 1) or inner.divisor % rest.divisor:
        return False
    apart = inner.form - rest.form
    return not any(n % rest.divisor for n in (apart.const, *(n for _, n in apart.terms)))


def _sorted(terms: Mapping[Atom, int]) -> tuple[tuple[Atom, int], ...]:
    return tuple(sorted(((a, c) for a, c in terms.items() if c), key=lambda t: str(t[0])))


def _atom_bounds(atom: Atom, ranges: Mapping[str, Range]) -> Range:
    if isinstance(atom, str):
        return ranges.get(atom, (-(1 << 40), 1 << 40))
    low, high = atom.form.bounds(ranges)
    if atom.op == "/":
        return low // atom.divisor, high // atom.divisor
    return (low, high) if low >= 0 and high < atom.divisor else (0, atom.divisor - 1)


def arithmetic(operator: str, a: Linear, b: Linear, ranges: Mapping[str, Range]) -> Linear | None:
    """Of "Add", "Sub", "Mul", "FloorDiv" and "FloorMod" the result, where that is a linear form; else None."""
    if operator == "Add":
        return a + b
    if operator == "Sub":
        return a - b
    if operator == "Mul":
        return a * b.const if b.is_const else b * a.const if a.is_const else None
    if b.is_const and b.const > 0:
        return (floordiv if operator == "FloorDiv" else floormod)(a, b.const, ranges)
    return None
