"""Loops over pictures of any size within bounds: how many trips they have in a run.

Kernels are made for a picture above the largest, whose strides they keep. A loop along an open dimension of what a
kernel writes ends with the tile in which the last element lies: what it computes beyond is never read, or filled anew
as a border before that. A loop that reduces an open dimension ends exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dlpack.errors import UnsupportedError
from dlpack.loops.expressions import Operand
from dlpack.loops.index import DivMod, Linear
from dlpack.loops.ir import Block, For, Kernel, Load, LoopAxis, Open, Store, expressions, map_stmts, walk
from dlpack.loops.sizes import Size

Tag = tuple[Size, int] | None
"""Of an operand's dimension the extent in a run and by what it is multiplied; None where that is always the same."""


@dataclass(frozen=True)
class _Dim:
    stride: int
    extent: int
    tag: Tag


def sized(
    kernel: Kernel, operands: Sequence[Operand], shapes: Sequence[Any], tags: Sequence[Sequence[Tag]], reduces: bool
) -> Kernel:
    """The kernel with loops that end earlier; `shapes` and `tags` are the operands'. `reduces`: it takes open
    dimensions of its inputs as a whole.

    Raises UnsupportedError where a loop that reduces an open dimension cannot end at any element.
    """
    dims = {
        p.name: _dims(o, shape, own) for p, o, shape, own in zip(kernel.params, operands, shapes, tags, strict=True)
    }
    if not any(d.tag for own in dims.values() for d in own):
        return kernel
    written = {p.name for p in kernel.params if p.written}
    loops = [s for s in walk(kernel.body) if isinstance(s, For)]
    found: dict[str, Open] = {}
    for loop in loops:
        trips = _over_output(loop, {k: v for k, v in dims.items() if k in written})
        if reduces and not trips:
            trips = _over_input(loop, {k: v for k, v in dims.items() if k not in written})
        if trips:
            found[loop.var] = trips
    if reduces:
        ends = {trips.size for trips in found.values()}
        if any(d.tag and d.tag[0] not in ends for own in dims.values() for d in own):
            raise UnsupportedError("reduces the open dimension in parts")
    shared = {found.get(loop.var) for loop in loops if loop.axis is LoopAxis.PARALLEL}
    if len(shared) > 1:
        raise UnsupportedError("has several loops for threads")
    body = map_stmts(
        kernel.body, lambda s: [replace(s, open=found.get(s.var)) if isinstance(s, For) else s], lambda e: e
    )
    return replace(kernel, body=body, open_trips=next(iter(shared), None))


def _dims(operand: Operand, shape: Sequence[Any], tags: Sequence[Tag]) -> list[_Dim]:
    """The dimensions that an address can tell apart, those with the largest strides first."""
    packed = {d for d, _ in operand.layout.blocks}
    dims = [
        _Dim(abs(stride), int(n), tag)
        for d, (n, stride, tag) in enumerate(zip(shape, operand.layout.strides, tags, strict=True))
        if d not in packed and stride and int(n) > 1
    ]
    return sorted(dims, key=lambda d: -d.stride)


def _over_output(loop: For, dims: dict[str, list[_Dim]]) -> Open | None:
    """Of a loop along an open dimension of all that it writes, how many trips it has; None for others."""
    accesses = [(s.buffer, s.index) for s in walk(loop.body) if isinstance(s, Store)]
    along = {move for name, index in accesses for move in _moves(loop, dims.get(name, []), index)}
    if len(along) != 1:
        return None
    ((dim, by),) = along
    if dim.tag is None or not by or loop.begin or loop.step != 1:
        return None
    size, times = dim.tag
    whole = dim.extent <= by * loop.end
    return Open(times, by, size=size, most=0 if whole else loop.end)


def _over_input(loop: For, dims: dict[str, list[_Dim]]) -> Open | None:
    """Of a loop that reduces an open dimension."""
    along = {
        move for name, index in _loads(loop.body) for move in _moves(loop, dims.get(name, []), index) if move[0].tag
    }
    if not along:
        return None
    opens = {Open(d.tag[1], by, size=d.tag[0]) for d, by in along if d.tag and by and d.extent == by * loop.end}
    if len(opens) != len(along) or len(opens) > 1 or not all(o.exact for o in opens) or loop.begin or loop.step != 1:
        raise UnsupportedError("reduces the open dimension in vectors")
    return next(iter(opens))


def _moves(loop: For, dims: Sequence[_Dim], index: Linear) -> Iterator[tuple[_Dim, int]]:
    """Along which of an operand's dimensions a loop goes, and by how many elements: 0 where that is no whole number."""
    for atom, step in index.terms:
        inside = isinstance(atom, DivMod) and atom.form.uses(loop.var)
        if atom != loop.var and not inside:
            continue
        along = next((d for d in dims if d.stride <= abs(step)), None)
        if along is not None:
            by, rest = divmod(step, along.stride)
            yield along, 0 if rest or by < 0 or inside else by


def _loads(body: Block) -> Iterator[tuple[str, Linear]]:
    for e in expressions(body):
        if isinstance(e, Load):
            yield e.buffer, e.index
