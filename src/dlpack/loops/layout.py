"""Where a value's elements lie: an offset and a stride for each logical dimension, as in numpy.

Operators are written over ONNX's logical shapes; the order in memory is only a matter of strides. So a transpose, a
split, a concat's inputs and the inside of a padded buffer are all views, and channels-last is a choice of strides.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from dlpack.loops.index import Linear, Range, floordiv, floormod


@dataclass(frozen=True)
class Block:
    """Packing of one dimension in blocks of `size`: index i lies at ``i // size * outer + i % size * inner``.

    A block has room for `room` elements, so that whole vectors may be read from it.
    """

    size: int
    inner: int
    room: int


@dataclass(frozen=True)
class Layout:
    """`offset` and `strides` in elements; `blocks[d]` where dimension d is packed (weights only)."""

    strides: tuple[int, ...]
    offset: int = 0
    blocks: tuple[tuple[int, Block], ...] = ()

    def address(self, indices: Sequence[Linear], ranges: Mapping[str, Range]) -> Linear:
        out = Linear(self.offset)
        blocks = dict(self.blocks)
        for d, (i, stride) in enumerate(zip(indices, self.strides, strict=True)):
            if d in blocks:
                block = blocks[d]
                out += floordiv(i, block.size, ranges) * stride + floormod(i, block.size, ranges) * block.inner
            else:
                out += i * stride
        return out

    def at(self, index: Sequence[int], steps: Sequence[int] = ()) -> Layout:
        """The layout of the part that begins at `index`, of every ``steps[d]``-th element along dimension d."""
        offset = self.offset + sum(i * s for i, s in zip(index, self.strides, strict=True))
        strides = tuple(s * k for s, k in zip(self.strides, steps, strict=True)) if steps else self.strides
        return replace(self, strides=strides, offset=offset)

    def reach(self, shape: Sequence[int]) -> int:
        """How many elements a tensor of `shape` takes up from address 0 on, with the room of its last blocks."""
        if 0 in shape:
            return 0
        blocks, last = dict(self.blocks), self.offset
        for d, (n, stride) in enumerate(zip(shape, self.strides, strict=True)):
            if d in blocks:
                block = blocks[d]
                last += (n - 1) // block.size * stride + (block.room - 1) * block.inner
            else:
                last += (n - 1) * stride
        return last + 1


def dense(shape: Sequence[int], order: Sequence[int] | None = None) -> Layout:
    """A gapless layout; `order` lists the dimensions from outermost to innermost (default: row-major)."""
    strides = [0] * len(shape)
    step = 1
    for d in reversed(order if order is not None else range(len(shape))):
        strides[d] = step
        step *= shape[d]
    return Layout(tuple(strides))


def channels_last(rank: int) -> tuple[int, ...]:
    """The dimension order N, spatial..., C of an ONNX tensor N, C, spatial..."""
    return (0, *range(2, rank), 1)


def expand(layout: Layout, shape: Sequence[int], full: Sequence[int]) -> Layout:
    """`layout` of a tensor of `shape` seen as broadcast (numpy's rule) to the shape `full`: stride 0 where repeated."""
    lead = len(full) - len(shape)
    strides = [0] * lead + [
        0 if n == 1 and f != 1 else s for n, f, s in zip(shape, full[lead:], layout.strides, strict=True)
    ]
    return Layout(tuple(strides), layout.offset)


def order_of(shape: Sequence[int], layout: Layout) -> tuple[int, ...]:
    """The dimensions from outermost to innermost in memory; those of extent 1 come first."""
    moving = sorted((d for d in range(len(shape)) if shape[d] != 1), key=lambda d: (-layout.strides[d], d))
    return (*(d for d in range(len(shape)) if shape[d] == 1), *moving)


def is_dense(shape: Sequence[int], layout: Layout) -> bool:
    """Whether the elements fill a gapless range in some order of dimensions."""
    full = dense(shape, order_of(shape, layout))
    return not layout.blocks and all(
        n == 1 or a == b for n, a, b in zip(shape, layout.strides, full.strides, strict=True)
    )


def merge_dims(
    shapes: Sequence[int],
    layouts: Sequence[Layout],
    order: Sequence[int],
    open: int = 0,
    opened: Collection[int] = (),
) -> tuple[list[int], list[Layout]]:
    """Fuses dimensions that are adjacent in `order` and contiguous in every layout; one whose extent is a multiple of
    `open`, or which is among those `opened`, of which a run has a part, with none around it.

    Returns the new shape (outermost first) and the layouts over it: the fewest loops that walk all operands.
    """
    dims = [d for d in order if shapes[d] != 1] or [order[-1]] if order else []
    shape: list[int] = []
    strides: list[list[int]] = []
    for d in dims:
        step = [layout.strides[d] for layout in layouts]
        apart = d in opened or (open and shapes[d] % open == 0)
        if shape and not apart and all(outer == s * shapes[d] for outer, s in zip(strides[-1], step, strict=True)):
            shape[-1] *= shapes[d]
            strides[-1] = step
        else:
            shape.append(shapes[d])
            strides.append(step)
    merged = [Layout(tuple(s[k] for s in strides), layout.offset) for k, layout in enumerate(layouts)]
    return shape, merged


def reshape(shape: Sequence[int], layout: Layout, new: Sequence[int]) -> Layout | None:
    """The layout of the same elements under shape `new`, or None where that needs a copy."""
    old = [(n, s) for n, s in zip(shape, layout.strides, strict=True) if n != 1]
    strides = [0] * len(new)
    k, j = 0, 0
    dims = [d for d in range(len(new)) if new[d] != 1]
    while k < len(old):
        # Gather a run of old and new dimensions that hold the same number of elements.
        k1, j1 = k + 1, j + 1
        if j >= len(dims):
            return None
        a, b = old[k][0], new[dims[j]]
        while a != b:
            if a < b:
                if k1 >= len(old):
                    return None
                a *= old[k1][0]
                k1 += 1
            else:
                if j1 >= len(dims):
                    return None
                b *= new[dims[j1]]
                j1 += 1
        if any(old[i][1] != old[i + 1][1] * old[i + 1][0] for i in range(k, k1 - 1)):
            return None
        step = old[k1 - 1][1]
        for d in reversed(dims[j:j1]):
            strides[d] = step
            step *= new[d]
        k, j = k1, j1
    return Layout(tuple(strides), layout.offset)
