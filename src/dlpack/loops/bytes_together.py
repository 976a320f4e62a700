"""Integers that are rounded to bytes side by side, narrowed together.

A register of sums becomes a fourth of a register of bytes. Where four of them, or two, lie one behind the other in the
output, one instruction narrows two to 16 bits and one narrows these to 8, both clamping; whether any lane has to be
rounded with more care is asked once for all. A residual sum asks that once for both of its roundings, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dlpack.loops.index import Linear
from dlpack.loops.ir import Block, Const, Expr, Kernel, Op, Stmt, Store, map_blocks

PRODUCT = 3
"""What a product has: an integer, and its scale as the sum of two floats."""


@dataclass(frozen=True)
class _Rounded:
    """What is rounded, and the ends that it is clamped to and what is then added."""

    value: Op
    ends: tuple[Expr, ...]


def bytes_together(kernel: Kernel) -> Kernel:
    """The kernel with four neighbouring stores of such bytes as one, or two where no more are left."""
    return replace(kernel, body=_block(kernel.body))


def _block(stmts: Block) -> Block:
    inner = [map_blocks(s, _block) for s in stmts]
    out: list[Stmt] = []
    while inner:
        run = _run(inner)
        count = 4 if run >= 4 else 2 if run >= 2 else 1
        out.append(_together(inner[:count]))
        del inner[:count]
    return tuple(out)


def _run(stmts: list[Stmt]) -> int:
    """How many of the first statements store whole vectors of such bytes, each behind the one before."""
    first, rounded, count = stmts[0], _rounded(stmts[0]), 0
    if not isinstance(first, Store) or rounded is None:
        return 0
    for s in stmts:
        other = _rounded(s)
        if not isinstance(s, Store) or other is None or (s.buffer, s.valid) != (first.buffer, first.valid):
            break
        behind = s.index - first.index == Linear(count * s.valid)
        if not behind or (other.value.op, other.ends) != (rounded.value.op, rounded.ends):
            break
        count += 1
    return count


def _rounded(s: Stmt) -> _Rounded | None:
    """What a statement that stores a whole vector of bytes has rounded to these."""
    if not isinstance(s, Store) or s.valid != s.value.lanes or s.valid < 2 or s.value.dtype not in ("int8", "uint8"):
        return None
    value: Expr = s.value
    while isinstance(value, Op) and value.op == "cast" and value.dtype != "float32":
        (value,) = value.args
    if isinstance(value, Op) and value.op == "requantized_byte_":
        product, ends = value.args[:PRODUCT], value.args[PRODUCT:]
        return _Rounded(Op("float32", s.valid, "product_of_", product), ends)
    return _rounded_sum(value, s.valid)


def _rounded_sum(value: Expr, lanes: int) -> _Rounded | None:
    """A sum of two products that is rounded, clamped, and moved by the output's zero point."""
    zero: Expr = Const("float32", 1, 0.0)
    if isinstance(value, Op) and value.op == "+":
        value, zero = value.args
    clamped = _clamped(value)
    if clamped is None or len(clamped.value.args) != 2 * PRODUCT or not isinstance(zero, Const | Op):
        return None
    if isinstance(zero, Const):
        zero = Op("float32", lanes, "splat", (zero,))
    first, second = clamped.value.args[:PRODUCT], clamped.value.args[PRODUCT:]
    if first[0].dtype != "float32" or second[0].dtype != "float32" or zero.op != "splat":
        return None
    inner = _clamped(first[0])
    if inner is None and _clamped(second[0]) is not None:
        first, second, inner = second, first, _clamped(second[0])
    if inner is not None and len(inner.value.args) == PRODUCT:
        args = (*inner.value.args, *inner.ends, *first[1:], *second)
        return _Rounded(Op("float32", lanes, "sum_of_rounded_", args), (*clamped.ends, zero))
    return _Rounded(Op("float32", lanes, "sum_of_", (*first, *second)), (*clamped.ends, zero))


def _clamped(value: Expr) -> _Rounded | None:
    """What is rounded, where that is small when it is clamped: runtime_c/maths.h."""
    if isinstance(value, Op) and value.op == "within_":
        rounded, *ends = value.args
        if isinstance(rounded, Op) and rounded.op == "requantized_small_":
            return _Rounded(rounded, tuple(ends))
    return None


def _together(stores: list[Stmt]) -> Stmt:
    """One statement for several; a product alone stays what it is."""
    first, rounded = stores[0], [r for s in stores if (r := _rounded(s)) is not None]
    if not isinstance(first, Store) or not rounded or (len(rounded) == 1 and rounded[0].value.op == "product_of_"):
        return first
    lanes, kind = len(stores) * first.valid, first.value.dtype
    value = Op("uint8", lanes, "requantized_bytes_", (*rounded[0].ends, *(r.value for r in rounded)))
    whole = value if kind == "uint8" else Op(kind, lanes, "reinterpret", (value,))
    return Store(first.buffer, first.index, whole, lanes)
