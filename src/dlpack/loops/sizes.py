"""Extents that only a run knows: what remains of an open dimension behind windows, strides and enlargements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

EXTENT, SAMPLES = 2, 3
"""The numbers of an open dimension that is none of pictures, and of a batch whose samples are computed one by one."""


@dataclass(frozen=True)
class Size:
    """``times * ((n + plus) // by) + then``, where the open dimension number `axis` has n elements in a run.

    Where all pixels of a picture are one dimension, that is its rows, and there are as many pixels in each as `columns`
    says: such an extent is no longer made another. A text's tokens are so many rows of one.
    """

    axis: int = 0
    plus: int = 0
    by: int = 1
    times: int = 1
    then: int = 0
    columns: Size | int | None = None

    def at(self, n: int) -> int:
        """The extent where the open dimension has `n` elements."""
        return self.times * ((n + self.plus) // self.by) + self.then

    def in_run(self, numbers: Sequence[int] | Mapping[int, int]) -> int:
        """The extent where the open dimensions have so many elements, by their number."""
        columns = self.columns.in_run(numbers) if isinstance(self.columns, Size) else self.columns
        return self.at(numbers[self.axis]) * (1 if columns is None else columns)

    @property
    def order(self) -> tuple[int, ...]:
        """Sizes in one kernel are told apart, and sorted, by this."""
        columns = self.columns.order if isinstance(self.columns, Size) else (self.columns or 0,)
        return self.axis, self.plus, self.by, self.times, self.then, *columns

    def __add__(self, more: int) -> Size:
        if self.times == 1:  # one way to write it, so that equal extents are equal
            return replace(self, plus=self.plus + (self.then + more) * self.by, then=0)
        return replace(self, then=self.then + more)

    def __mul__(self, times: int) -> Size:
        return replace(self, times=self.times * times, then=self.then * times)

    def __floordiv__(self, by: int) -> Size | None:
        """None where that is no such extent."""
        if by == 1:
            return self
        if self.times == 1:
            return replace(self, plus=self.plus + self.then * self.by, by=self.by * by, then=0)
        if self.times % by == 0:
            return replace(self, times=self.times // by, then=0) + self.then // by
        if by % self.times == 0:  # (t * q + c) // (t * b) is (q + c // t) // b
            q = replace(self, times=1, then=0) + self.then // self.times
            return q // (by // self.times)
        return None

    def text(self, *names: str) -> str:
        """As an expression in C, with names for the elements of the open dimensions, by their number."""
        if self.columns not in (None, 1):
            columns = self.columns.text(*names) if isinstance(self.columns, Size) else str(self.columns)
            return " * ".join(f"({x})" if " " in x else x for x in (replace(self, columns=None).text(*names), columns))
        n = names[self.axis]
        inner = f"{n} + {self.plus}" if self.plus > 0 else f"{n} - {-self.plus}" if self.plus else n
        if self.by > 1:
            inner = f"({inner}) / {self.by}" if self.plus else f"{n} / {self.by}"
            inner = f"{inner} * {self.times}" if self.times > 1 else inner
        elif self.times > 1:
            inner = f"({inner}) * {self.times}" if self.plus else f"{n} * {self.times}"
        return f"{inner} + {self.then}" if self.then > 0 else f"{inner} - {-self.then}" if self.then else inner


@dataclass(frozen=True)
class Tiles:
    """The tiles of `side` by `side` pixels that cover a picture, numbered row by row.

    In a run, the picture has `height` by `width` pixels. In kernels as they are scheduled, a row has `wide` tiles, more
    than any picture's.
    """

    side: int
    wide: int
    height: Size | int = 0
    width: Size | int = 0

    @property
    def sizes(self) -> tuple[Size, ...]:
        """What a run must know to number them."""
        return tuple(n for n in (self.height, self.width) if isinstance(n, Size))

    def grid(self, numbers: Sequence[int] | Mapping[int, int]) -> tuple[int, int]:
        """Rows and columns where open dimensions have so many elements, by their number."""
        rows, columns = (
            -(-(n.in_run(numbers) if isinstance(n, Size) else n) // self.side) for n in (self.height, self.width)
        )
        return rows, columns


Tag = tuple[Size, int] | None
"""Of an operand's dimension the extent in a run and by what it is multiplied; None where that is always the same."""
