"""A dimension that is open within bounds: `--shape image=1..64x3x224x224`, `--shape ids=1x1..512:int64`.

There is a set of shapes for each of its sizes, and all have the same steps: either with kernels that do any number of
elements, or, if it is a batch, the steps of one sample again and again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dlpack.errors import UsageError

MOST = 1024
"""Each size has an entry in the manifest."""

TRIED = 6
"""How many numbers of samples a build verifies at most, besides 1."""

_OPEN = re.compile(r"(\{)?(\d+)\.\.(\d+)(?(1)\})")
"""A shell may make several words of braces, so they can be left out."""


@dataclass(frozen=True)
class OpenBatch:
    """From `smallest` to `largest` samples; `inputs` has the open dimension of each input that has one."""

    inputs: Mapping[str, int]
    largest: int
    smallest: int = 1

    def shapes(self, one: Mapping[str, tuple[int, ...]], samples: int) -> dict[str, tuple[int, ...]]:
        """The shapes for so many samples, given those for one."""
        return {
            name: tuple(samples if d == self.inputs.get(name) else n for d, n in enumerate(shape))
            for name, shape in one.items()
        }

    def tried(self) -> tuple[int, ...]:
        """The numbers of samples that a build verifies: both bounds, and primes between them, widely apart."""
        primes = [
            n for n in range(max(2, self.smallest), self.largest) if all(n % k for k in range(2, int(n**0.5) + 1))
        ]
        step = max(1, -(-len(primes) // (TRIED - 1)))
        return tuple(sorted({self.smallest, self.largest, *primes[::step]}))

    def __str__(self) -> str:
        return f"{self.smallest}..{self.largest}"


def opened_batch(values: Sequence[str]) -> tuple[tuple[str, ...], OpenBatch | None]:
    """The texts of --shape with an open dimension as 1, and the batch that they open, if they do.

    Raises UsageError for more than one open dimension, and for bounds that cannot be.
    """
    opened: dict[str, int] = {}
    bounds: set[tuple[int, int]] = set()
    closed = []
    for value in values:
        name, _, dims = value.rpartition("=")
        found = [(d, m) for d, text in enumerate(dims.partition(":")[0].split("x")) if (m := _OPEN.fullmatch(text))]
        if len(found) > 1 or name in opened:
            raise UsageError(f"--shape {value}: one dimension of an input may be open; for others use --buckets")
        for d, m in found:
            opened[name] = d
            bounds.add((int(m[2]), int(m[3])))
        closed.append(f"{name}={_OPEN.sub(lambda m: m[2], dims)}" if found else value)
    if not opened:
        return tuple(values), None
    if len(bounds) > 1:
        raise UsageError("--shape opens dimensions with different bounds: an open dimension is the batch of all inputs")
    ((low, high),) = bounds
    if not 1 <= low < high <= MOST:
        raise UsageError(f"--shape with {low}..{high}: the bounds are at least 1 and at most {MOST}, the smaller first")
    return tuple(closed), OpenBatch(opened, high, low)
