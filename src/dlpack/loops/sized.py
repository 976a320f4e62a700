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
from dlpack.loops.ir import Block, For, Kernel, Load, LoopAxis, Open, Scope, Stmt, Store, expressions, map_blocks, walk
from dlpack.loops.numbered import numbered
from dlpack.loops.sizes import Tag


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
    picture = next(k for k, o in enumerate(operands) if o.written)
    shape, own = (int(n) for n in shapes[picture]), [tag and tag[0] for tag in tags[picture]]
    kernel = numbered(kernel, operands, tuple(shape), own)
    loops = [s for s in walk(kernel.body) if isinstance(s, For)]
    found: dict[int, Open] = {}  # by the loop itself: several may have variables of the same name
    for loop in loops:
        if loop.open:
            found[id(loop)] = loop.open
            continue
        trips = _over_output(loop, {k: v for k, v in dims.items() if k in written})
        if reduces and not trips:
            trips = _over_input(loop, {k: v for k, v in dims.items() if k not in written})
        if trips:
            found[id(loop)] = trips
    if reduces:
        ends = {trips.size for trips in found.values()}
        kept = {d.tag[0] for name in written for d in dims[name] if d.tag}
        if any(d.tag and d.tag[0] not in ends | kept for own in dims.values() for d in own):
            raise UnsupportedError("reduces the open dimension in parts")
    shared = {found.get(id(loop)) for loop in loops if loop.axis is LoopAxis.PARALLEL}
    if len(shared) > 1:
        raise UnsupportedError("has several loops for threads")
    body = _ended(kernel.body, found, {k: v for k, v in dims.items() if k in written})
    return replace(kernel, body=body, open_trips=next(iter(shared), None))


def _ended(body: Block, found: dict[int, Open], dims: dict[str, list[_Dim]]) -> Block:
    """Statements with loops that end earlier. What lies behind a loop over whole tiles, for the elements that fill no
    tile, is left out where there are none."""
    out: list[Stmt] = []
    for s in body:
        before = out[-1] if out else None
        ends = found.get(id(s))
        s = map_blocks(s, lambda block: _ended(block, found, dims))
        if isinstance(s, For):
            s = replace(s, open=ends)
        elif isinstance(s, Scope) and isinstance(before, For) and before.open and _follows(s, before, dims):
            o = before.open
            rest = Open(o.times, 1, less=before.end * o.by, size=o.size, most=1)
            s = For(f"{before.var}_rest", 0, 1, 1, s.body, open=rest)
        out.append(s)
    return tuple(out)


def _follows(s: Scope, loop: For, dims: dict[str, list[_Dim]]) -> bool:
    """Whether statements write the elements behind those of the whole tiles of a loop, and nothing else."""
    assert loop.open is not None
    first = next((t for t in walk(loop.body) if isinstance(t, Store) and t.buffer in dims), None)
    if not loop.open.most or first is None:
        return False
    along = next((d for d, _ in _moves(loop, dims[first.buffer], first.index)), None)
    stores = [t for t in walk(s.body) if isinstance(t, Store) and t.buffer in dims]
    begin = loop.end * loop.open.by
    return bool(stores) and all(
        along in dims[t.buffer] and t.index.const // along.stride % along.extent >= begin for t in stores if along
    )


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
    if dim.extent <= by * loop.end:
        return Open(times, by, size=size)
    moved = [index for name, index in accesses if dim in dims.get(name, []) and index.uses(loop.var)]
    if any(_within(index, by, dim) >= by for index in moved):
        return None  # within a tile
    return Open(times, by, size=size, most=loop.end)


def _within(index: Linear, by: int, dim: _Dim) -> int:
    """At which element of a dimension an access begins besides what a loop adds in steps of `by`, and others in
    smaller ones: beyond the dimension where others add larger ones."""
    for atom, step in index.terms:
        if isinstance(atom, DivMod) or dim.stride * by < abs(step) < dim.stride * dim.extent:
            return dim.extent
    return index.const // dim.stride % dim.extent


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


def merged_tags(
    full: Sequence[int], tags: Sequence[Tag], order: Sequence[int], merged: Sequence[int]
) -> tuple[Tag, ...]:
    """What a run has of dimensions that became `merged`: an open one is the outermost of those in it."""
    out: list[Tag] = []
    dims = [d for d in order if full[d] != 1]
    for n in merged:
        size, tag = 1, None
        while size < n:
            d = dims.pop(0)
            if tags[d]:
                tag = tags[d]
            elif tag:
                tag = tag[0], tag[1] * full[d]
            size *= full[d]
        out.append(tag)
    return tuple(out)
