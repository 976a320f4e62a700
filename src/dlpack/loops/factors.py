"""A factor that a sum's inner loop does not change multiplies its sum, not each of its terms.

Weights of few bits have a scale for each block: ``acc += x * (w * s)`` over the rows of a block becomes a sum of
``x * w`` that starts from zero for each block, and ``acc += sum * s`` after it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from dlpack.loops.ir import (
    Assign,
    Const,
    Declare,
    Expr,
    For,
    Kernel,
    Load,
    Op,
    Prefetch,
    Ref,
    Stmt,
    exprs,
    map_blocks,
    walk_expr,
)

BESIDE = 4
"""Registers that such a loop needs beside its sums."""


def factor_out(kernel: Kernel, constants: Collection[str], registers: int) -> Kernel:
    """The kernel with such factors behind their loops, where `registers` hold both sums.

    `constants` are the names of the parameters that nothing writes while the kernel runs.
    """
    names = iter(range(1 << 30))

    def on_block(stmts: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        out: list[Stmt] = []
        for s in stmts:
            s = map_blocks(s, on_block)
            found = _factors(s, constants) if isinstance(s, For) else {}
            if not isinstance(s, For) or not found or 2 * len(found) + BESIDE > registers:
                out.append(s)
                continue
            parts = {name: f"part{next(names)}" for name in found}
            inside: list[Stmt] = []
            for t in s.body:
                if isinstance(t, Assign):
                    term, _ = found[t.name]
                    part = Ref(term.dtype, term.lanes, parts[t.name])
                    t = Assign(part.name, Op(term.dtype, term.lanes, "+", (part, term)))
                inside.append(t)
            for name, (term, _) in found.items():
                out.append(Declare(parts[name], term.dtype, term.lanes, _zero(term)))
            out.append(replace(s, body=tuple(inside)))
            for name, (term, factor) in found.items():
                acc, part = (Ref(term.dtype, term.lanes, n) for n in (name, parts[name]))
                scaled = Op(term.dtype, term.lanes, "*", (part, factor))
                out.append(Assign(name, Op(term.dtype, term.lanes, "+", (acc, scaled))))
        return tuple(out)

    return replace(kernel, body=on_block(kernel.body))


def _factors(loop: For, constants: Collection[str]) -> dict[str, tuple[Expr, Load]]:
    """By the name of each sum of a loop the term without the factor, and the factor; nothing unless all have one."""
    found: dict[str, tuple[Expr, Load]] = {}
    sums = {s.name for s in loop.body if isinstance(s, Assign)}
    for s in loop.body:
        reads = [e.name for top in exprs(s) for e in walk_expr(top) if isinstance(e, Ref) and e.name in sums]
        if isinstance(s, Declare | Prefetch) and not reads:
            continue
        term = _term(s.value, s.name) if isinstance(s, Assign) and reads == [s.name] else None
        split = _split(term, loop.var, constants) if term is not None else None
        if not isinstance(s, Assign) or s.name in found or split is None:
            return {}
        found[s.name] = split
    return found


def _term(value: Expr, name: str) -> Expr | None:
    """What is added to the sum of that name."""
    if not isinstance(value, Op) or value.op != "+" or value.dtype != "float32" or len(value.args) != 2:
        return None
    for acc, term in (value.args, value.args[::-1]):
        if isinstance(acc, Ref) and acc.name == name:
            return term
    return None


def _split(term: Expr, var: str, constants: Collection[str]) -> tuple[Expr, Load] | None:
    """A product without its factor that is a constant's and does not change with the variable, and that factor."""
    if not isinstance(term, Op) or term.op != "*" or len(term.args) != 2:
        return None
    for factor, rest in (term.args, term.args[::-1]):
        whole = isinstance(factor, Load) and factor.lanes == term.lanes and factor.buffer in constants
        if whole and isinstance(factor, Load) and not factor.index.uses(var):
            return rest, factor
    for inner, other in (term.args, term.args[::-1]):
        split = _split(inner, var, constants)
        if split is not None:
            return replace(term, args=(split[0], other)), split[1]
    return None


def _zero(term: Expr) -> Expr:
    zero = Const(term.dtype, 1, 0.0)
    return zero if term.lanes == 1 else Op(term.dtype, term.lanes, "splat", (zero,))
