"""Sums that start from what is added to them: ``acc = bias`` in place of ``acc = 0`` and ``acc + bias`` at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace

from dlpack.loops.ir import (
    HALF,
    Assign,
    Const,
    Declare,
    Expr,
    For,
    If,
    Kernel,
    Load,
    Op,
    Ref,
    Scope,
    Stmt,
    Store,
    While,
    expressions,
    exprs,
    map_stmts,
    walk,
    walk_expr,
)

FLOATS = ("float32", HALF)


def start_from_addend(kernel: Kernel, constants: Collection[str], dtypes: Collection[str] = FLOATS) -> Kernel:
    """The kernel with every sum of products that a constant is added to started from that.

    `constants` are the names of the parameters that nothing writes while the kernel runs, `dtypes` the sums' types.
    """
    return replace(kernel, body=_block(kernel.body, constants, dtypes))


def _block(stmts: tuple[Stmt, ...], constants: Collection[str], dtypes: Collection[str]) -> tuple[Stmt, ...]:
    out: list[Stmt] = []
    for s in stmts:
        if isinstance(s, For | While | Scope):
            s = replace(s, body=_block(s.body, constants, dtypes))
        elif isinstance(s, If):
            then, otherwise = (_block(b, constants, dtypes) for b in (s.then, s.otherwise))
            s = replace(s, then=then, otherwise=otherwise)
        out.append(s)
    zeros = {s.name for s in out if isinstance(s, Declare) and s.dtype in dtypes and _is_zero(s.value)}
    results = list(expressions(s for s in out if _is_result(s)))
    reads = Counter(e.name for e in results if isinstance(e, Ref))
    addends = {
        name: addend
        for e in results
        for name, addend in _addend(e, constants)
        if name in zeros and reads[name] == 1 and _is_summed_in_loops(out, name)
    }

    def on_expr(e: Expr) -> Expr:
        for name, addend in _addend(e, constants):
            if addends.get(name) == addend:
                return Ref(e.dtype, e.lanes, name)
        return e

    def started(s: Stmt) -> Stmt:
        if isinstance(s, Declare) and s.name in addends:
            return replace(s, value=addends[s.name])
        return s

    if not addends:
        return tuple(out)
    return tuple(t for s in out for t in (map_stmts((s,), lambda r: [r], on_expr) if _is_result(s) else (started(s),)))


def _is_result(s: Stmt) -> bool:
    """Whether it stores what is made of sums, in a block of its own where that has a name."""
    if isinstance(s, Scope):
        return all(isinstance(t, Store) or (isinstance(t, Declare) and t.constant) for t in s.body)
    return isinstance(s, Store)


def _is_zero(e: Expr | None) -> bool:
    """Whether it is a vector of zeros."""
    return isinstance(e, Op) and e.op == "splat" and e.args == (Const(e.dtype, 1, 0),)


def _addend(e: Expr, constants: Collection[str]) -> list[tuple[str, Load]]:
    """Of ``name + constant`` the name and the constant; nothing of another expression."""
    if isinstance(e, Op) and e.op in ("+", "add_") and len(e.args) == 2:
        a, b = e.args
        if isinstance(a, Ref) and isinstance(b, Load) and b.buffer in constants and a.lanes == b.lanes == b.valid:
            return [(a.name, b)]
    return []


def _is_summed_in_loops(stmts: list[Stmt], name: str) -> bool:
    """Whether, but for its result, the variable is used in loops alone, and nothing but added to there."""
    for s in stmts:
        if _is_result(s) or (isinstance(s, Declare) and s.name == name):
            continue
        for t in walk((s,)):
            used = sum(isinstance(e, Ref) and e.name == name for top in exprs(t) for e in walk_expr(top))
            assigned = isinstance(t, Assign) and t.name == name
            adds = isinstance(t, Assign) and assigned and used == 1 and _adds_to(t.value, name)
            if (used or assigned) and not (adds and isinstance(s, For | Scope)):
                return False
    return True


def _adds_to(e: Expr, name: str) -> bool:
    """Whether it is the sum so far plus something, or plus a dot product."""
    sums = e.args if isinstance(e, Op) and e.op == "+" else e.args[:1] if isinstance(e, Op) and e.op == "dot_" else ()
    return any(isinstance(a, Ref) and a.name == name for a in sums)
