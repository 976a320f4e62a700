"""Weights of four bits, two to a byte, which a kernel takes apart in registers.

Of every two vectors of elements the first lie in the low four bits of as many bytes, and the second in the high ones:
one load gives both. Of numbers with a sign, from -8 to 7 in two's complement, it makes floats, or dot products multiply
them, as they do those without one, from 0 to 15.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dlpack.loops.dots import NIBBLE_DOT, UNSIGNED_DOT
from dlpack.loops.index import Linear
from dlpack.loops.ir import (
    Block,
    Declare,
    Expr,
    Gathered,
    Kernel,
    Load,
    LoadTwo,
    Op,
    Pointer,
    Prefetch,
    Ref,
    ScatteredStore,
    Stmt,
    Store,
    children,
    expressions,
    exprs,
    map_blocks,
    map_exprs,
    walk,
)
from dlpack.loops.prefetch import LINE

RANGES = {"int8": (-8, 7), "uint8": (0, 15)}
"""The least and the largest of the bytes of each type that four bits hold."""

_HALVES = {
    "float32": ("low_nibbles_", "high_nibbles_"),
    "int8": ("low_signed_", "high_signed_"),
    "uint8": ("low_bits_", "high_bits_"),
}
"""By what is made of them: the numbers in the low bits of bytes, and those in the high ones."""

_DOTS = {"dot_": "dot_", UNSIGNED_DOT: NIBBLE_DOT}
"""The dot products that take them, and what these become."""


def with_nibbles(kernel: Kernel, number: int, lanes: int) -> Kernel | None:
    """The kernel that reads parameter `number`, which is int8 or uint8, as four bits each, in pairs of vectors of
    `lanes`.

    None where it does not read whole such vectors, or makes anything but float32, or dot products, of them.
    """
    buffer, made = kernel.params[number].name, kernel.params[number].dtype
    dots = any(isinstance(e, Op) and e.op in _DOTS for e in expressions(kernel.body))
    made = made if dots else "float32"
    named = {
        s.name
        for s in walk(kernel.body)
        if isinstance(s, Declare) and isinstance(s.value, Load) and s.value.buffer == buffer
    }
    if not all(_fits(s, buffer, named, lanes) for s in walk(kernel.body)):
        return None

    def value(e: Expr) -> Expr:
        if isinstance(e, Load) and e.buffer == buffer:
            half = e.index.const // lanes % 2
            packed = Load("uint8", lanes, buffer, _halved(e.index - half * lanes), lanes)
            return Op(made, lanes, _HALVES[made][half], (packed,))
        if isinstance(e, Ref) and e.name in named:
            return replace(e, dtype=made)
        if isinstance(e, Op) and e.op == "cast" and e.args[0].dtype == "float32" == e.dtype:
            return e.args[0]
        if isinstance(e, Op) and e.op in _DOTS and taken(e.args[-1]):
            return replace(e, op=_DOTS[e.op])
        return e

    def taken(e: Expr) -> bool:
        """Whether it is a vector of the buffer's numbers."""
        return (isinstance(e, Ref) and e.name in named) or (isinstance(e, Op) and e.op in _HALVES[made])

    def on_block(block: Block) -> Block:
        out: list[Stmt] = []
        asked: list[Linear] = []
        for s in block:
            s = map_exprs(map_blocks(s, on_block), value)
            if isinstance(s, Declare) and s.name in named:
                s = replace(s, dtype=made)
            if isinstance(s, Prefetch) and s.buffer == buffer:
                s = replace(s, index=_halved(s.index))
                if any(0 <= s.index.const - a.const < LINE and (s.index - a).is_const for a in asked):
                    continue
                asked.append(s.index)
            out.append(s)
        return tuple(out)

    params = tuple(replace(p, dtype="uint8") if k == number else p for k, p in enumerate(kernel.params))
    return replace(kernel, params=params, body=on_block(kernel.body))


def _fits(s: Stmt, buffer: str, named: set[str], lanes: int) -> bool:
    """Whether a statement reads of the buffer, and of the vectors `named` by loads of it, only what can be changed."""
    if isinstance(s, Prefetch) and s.buffer == buffer:
        return all(n % 2 == 0 for n in (s.index.const, *(c for _, c in s.index.terms)))
    if isinstance(s, Store | ScatteredStore | Pointer) and s.buffer == buffer:
        return False
    if isinstance(s, LoadTwo) and s.pointer == buffer:
        return False
    for top in exprs(s):
        declared = isinstance(s, Declare) and s.name in named
        for e, served in _within(top, declared):
            if isinstance(e, Gathered) and e.buffer == buffer:
                return False
            if isinstance(e, Ref) and e.name in named and not served:
                return False
            if isinstance(e, Load) and e.buffer == buffer and not (served and _whole(e, lanes)):
                return False
    return True


def _within(e: Expr, served: bool) -> Iterator[tuple[Expr, bool]]:
    """An expression and all below it, each with whether it is made float32, or multiplied in a dot product."""
    yield e, served
    below = isinstance(e, Op) and ((e.op == "cast" and e.dtype == "float32") or e.op in _DOTS)
    for c in children(e):
        yield from _within(c, below)


def _whole(e: Load, lanes: int) -> bool:
    """Whether it loads one of a pair's two vectors, and always the same one."""
    pairs = all(c % (2 * lanes) == 0 for _, c in e.index.terms)
    return e.lanes == e.valid == lanes and e.index.const % lanes == 0 and pairs


def _halved(index: Linear) -> Linear:
    return Linear(index.const // 2, tuple((a, c // 2) for a, c in index.terms))
