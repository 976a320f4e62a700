"""Dimensions that are open within bounds: `--shape image=1..64x3x224x224`, `--shape ids=1x1..512:int64`,
`--shape image=1x3x64..512x64..512`.

There is a set of shapes for each of their sizes, and all have the same steps: either with kernels that do any number of
elements, or, if it is a batch, the steps of one sample again and again, or both, where a batch is open beside others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from dlpack.errors import UsageError

MOST = 1 << 16
"""The largest size of a dimension."""

MOST_SETS = (1 << 31) - 1
"""How many sets of shapes there may be: an int32_t numbers them."""

TRIED = 6
"""How many sizes a build verifies at most, besides the smallest."""

_OPEN = re.compile(r"(\{)?(\d+)\.\.(\d+)(?:/(\d+))?(?(1)\})")
"""A shell may make several words of braces, so they can be left out."""


@dataclass(frozen=True, order=True)
class Bounds:
    """The sizes of an open dimension: from `smallest` to `largest` in steps of `step`.

    A run counts them in `unit`s: 1, or the step, where the network suits multiples of that alone. In kernels the
    dimension has the number `axis` (`Size`).
    """

    smallest: int
    largest: int
    step: int = 1
    unit: int = 1
    axis: int = 0

    @property
    def sizes(self) -> range:
        return range(self.smallest, self.largest + 1, self.step)

    def tried(self) -> list[int]:
        """The sizes that a build verifies: both bounds, and primes between them, widely apart; or else any."""
        between = [n for n in self.sizes[1:-1] if self.step > 1 or all(n % k for k in range(2, int(n**0.5) + 1))]
        step = max(1, -(-len(between) // (TRIED - 1)))
        return sorted({self.sizes[0], self.sizes[-1], *between[::step]})

    def __str__(self) -> str:
        return f"{self.smallest}..{self.largest}" + (f"/{self.step}" if self.step > 1 else "")


@dataclass(frozen=True)
class OpenBatch:
    """The open dimensions of each input that has some: number k has `bounds[k]`, and is -1 where an input lacks it.

    An outermost dimension that is open beside others comes last: it may be that of a batch.
    """

    dims: Mapping[str, tuple[int, ...]]
    bounds: tuple[Bounds, ...]

    @property
    def inputs(self) -> dict[str, int]:
        """The first open dimension of each input that has one."""
        return {name: dims[0] for name, dims in self.dims.items()}

    @property
    def smallest(self) -> int:
        return self.bounds[0].smallest

    @property
    def largest(self) -> int:
        return self.bounds[0].largest

    @property
    def one(self) -> bool:
        """Whether there is one open dimension, which grows by one from set to set."""
        return len(self.bounds) == 1 and self.bounds[0].step == 1

    @property
    def of_samples(self) -> bool:
        """Whether the last of several open dimensions may be that of a batch."""
        last = {dims[-1] for dims in self.dims.values()}
        return len(self.bounds) > 1 and 0 in last and last <= {0, -1}

    @property
    def of_one(self) -> OpenBatch:
        """What is open of one sample."""
        dims = {name: own[:-1] for name, own in self.dims.items() if max(own[:-1]) >= 0}
        return OpenBatch(dims, self.bounds[:-1])

    @property
    def count(self) -> int:
        """How many sets of shapes there are."""
        return prod(len(b.sizes) for b in self.bounds)

    def sizes(self, number: int) -> tuple[int, ...]:
        """Those of the open dimensions in the set of this number; the last changes from set to set."""
        out: list[int] = []
        for b in reversed(self.bounds):
            number, k = divmod(number, len(b.sizes))
            out.append(b.sizes[k])
        return tuple(reversed(out))

    def shapes(self, one: Mapping[str, tuple[int, ...]], *sizes: int) -> dict[str, tuple[int, ...]]:
        """The shapes for these sizes, given any."""
        out = {}
        for name, shape in one.items():
            new = dict(zip(self.dims.get(name, ()), sizes, strict=False))
            out[name] = tuple(new.get(d, n) for d, n in enumerate(shape))
        return out

    def tried(self) -> list[int]:
        """The numbers of the sets that a build verifies: all corners, and sizes between them."""
        own = [b.tried() for b in self.bounds]
        chosen = set(product(*((sizes[0], sizes[-1]) for sizes in own)))
        for i in range(1, max(map(len, own)) - 1):
            chosen.add(tuple(sizes[((k + 1) * i + k) % len(sizes)] for k, sizes in enumerate(own)))
        return sorted(self._number(sizes) for sizes in chosen)

    def _number(self, sizes: Sequence[int]) -> int:
        number = 0
        for b, n in zip(self.bounds, sizes, strict=True):
            number = number * len(b.sizes) + b.sizes.index(n)
        return number

    def describe(self, name: str, shape: Sequence[int]) -> str:
        """An input's shape as on the command line."""
        own = dict(zip(self.dims.get(name, ()), self.bounds, strict=False))
        return "x".join(str(own.get(d, n)) for d, n in enumerate(shape))


def opened_batch(values: Sequence[str]) -> tuple[tuple[str, ...], OpenBatch | None]:
    """The texts of --shape with an open dimension as its smallest size, and what they open, if anything.

    Raises UsageError for more open dimensions than two and a batch, and for bounds that cannot be.
    """
    found: dict[str, list[tuple[int, Bounds]]] = {}
    closed = []
    for value in values:
        name, _, dims = value.rpartition("=")
        given = [(d, m) for d, text in enumerate(dims.partition(":")[0].split("x")) if (m := _OPEN.fullmatch(text))]
        if len(given) > 2 + (len(given) > 0 and given[0][0] == 0) or name in found:
            raise UsageError(
                f"--shape {value}: two dimensions of an input may be open, and a batch before them; for others use "
                "--buckets"
            )
        if given:
            own = [(d, Bounds(int(m[2]), int(m[3]), int(m[4] or 1))) for d, m in given]
            found[name] = own[1:] + own[:1] if own[0][0] == 0 else own
        closed.append(f"{name}={_OPEN.sub(lambda m: m[2], dims)}" if given else value)
    if not found:
        return tuple(values), None
    bounds = tuple(b for _, b in max(found.values(), key=len))
    opened = {name: _numbered(own, bounds) for name, own in found.items()}
    for b in bounds:
        if not 1 <= b.smallest < b.largest <= MOST:
            raise UsageError(f"--shape with {b}: the bounds are at least 1 and at most {MOST:,}, the smaller first")
        if b.step < 1 or (b.largest - b.smallest) % b.step:
            raise UsageError(f"--shape with {b}: the bounds are a multiple of the step apart")
    batch = OpenBatch(opened, bounds)
    if batch.count > MOST_SETS:
        raise UsageError(
            f"--shape opens {batch.count:,} sizes, and at most {MOST_SETS:,} are possible: give steps, as in 64..512/16"
        )
    return tuple(closed), batch


def _numbered(own: Sequence[tuple[int, Bounds]], bounds: Sequence[Bounds]) -> tuple[int, ...]:
    """The open dimensions of an input in the order of all `bounds`, -1 for those that it lacks.

    Raises UsageError where it has other bounds.
    """
    out = [-1] * len(bounds)
    for d, b in own:
        free = [k for k, other in enumerate(bounds) if out[k] < 0 and other == b]
        if not free:
            raise UsageError("--shape opens dimensions with different bounds: all inputs have the same open dimensions")
        out[free[-1] if d == 0 else free[0]] = d
    return tuple(out)
