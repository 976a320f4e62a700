"""The steps that make weights when a predictor is created: of others, or of those that are stored in another form."""

from __future__ import annotations

from dataclasses import dataclass

from dlpack.plan.program import Address, Step


@dataclass(frozen=True)
class WinogradStep(Step):
    """Computes a layer's Winograd weights [edge, edge, inputs, outputs] from the weights [window, window, inputs,
    outputs]; the window is 3 or 5.

    They lie in blocks of `columns` outputs with room for `room`: [edge, edge, outputs / columns, inputs, room]. So do
    those that they are made of, if these are in `blocks`: [outputs / columns, window, window, inputs, room]. Integers
    lie in pairs of inputs: [edge, edge, outputs / columns, inputs / 2, room, 2].
    """

    source: Address
    target: Address
    edge: int
    window: int
    inputs: int
    outputs: int
    columns: int
    room: int
    blocks: bool = False


@dataclass(frozen=True)
class SumStep(Step):
    """Makes `count` float32 weights, each the sum of those of `sources`, with `signs`, at the same place.

    A multiple of `lanes` of them.
    """

    sources: tuple[Address, ...]
    signs: tuple[int, ...]
    target: Address
    count: int
    lanes: int


@dataclass(frozen=True)
class RepackStep(Step):
    """Repacks a weight: from the layout in which another machine's kernels read it to this one's.

    Index i of dimension d lies at ``i // size * outer + i % size * inner`` of each side, in elements of `dtype`.
    """

    source: Address
    target: Address
    extents: tuple[int, ...]
    places: tuple[tuple[PackedDim, PackedDim], ...]
    """Of each dimension, in the source and in the target."""
    read: int
    """Bytes of the source."""
    written: int
    """Bytes of the target, those between the elements included, which become zero."""


@dataclass(frozen=True)
class DequantizeStep(Step):
    """Makes a weight: element i is (table[code i] - table[zero point]) * scale.

    The row-major codes have `bits` bits, the first the lowest of a byte; zero points are codes in bytes. Those and the
    scales are numbered: element i has the one at the sum of ``i[d] // blocks[d] * steps[d]``. There are `count` scales,
    and codes of `read` bytes; the target's `written` bytes include those between the elements, which become zero.
    Unless `pairs` is 0, two elements share a byte of the target: of every two vectors of `pairs`, the first has the low
    four bits of the bytes, the second the high ones.
    """

    source: Address
    table: Address
    scales: Address
    zeros: Address | None
    target: Address
    bits: int
    extents: tuple[int, ...]
    blocks: tuple[int, ...]
    steps: tuple[int, ...]
    places: tuple[PackedDim, ...]
    read: int
    count: int
    written: int
    pairs: int = 0


@dataclass(frozen=True)
class PackedDim:
    """Elements along a dimension: `inner` apart within blocks of `size`, which are `outer` apart."""

    size: int
    outer: int
    inner: int
