"""The sets of shapes of a program with open dimensions, of which there may be millions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import overload

from dlpack.plan.program import ShapeSet


@dataclass(frozen=True)
class OpenSets(Sequence[ShapeSet]):
    """The sets of shapes of a program with open dimensions: so many, each made when it is asked for."""

    size: int
    made: Callable[[int], ShapeSet]

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, number: int) -> ShapeSet: ...

    @overload
    def __getitem__(self, number: slice) -> Sequence[ShapeSet]: ...

    def __getitem__(self, number: int | slice) -> ShapeSet | Sequence[ShapeSet]:
        if isinstance(number, slice):
            return tuple(self.made(k) for k in range(*number.indices(self.size)))
        if not -self.size <= number < self.size:
            raise IndexError(number)
        return self.made(number % self.size)
