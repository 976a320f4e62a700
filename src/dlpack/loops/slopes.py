"""A number that is multiplied where it is negative: the larger of it and its part, which is one instruction on Arm."""

from __future__ import annotations

from dataclasses import replace

from dlpack.loops.ir import HALF, Const, Expr, Kernel, Op, map_stmts


def larger_part(kernel: Kernel) -> Kernel:
    """The kernel with ``x > 0 ? x : x * c`` as the larger of ``x`` and ``x * c``, for constants c above 0 and up to 1.

    Both are NaN where x is, and of zeros both are x.
    """
    return replace(kernel, body=map_stmts(kernel.body, lambda s: [s], _larger))


def _larger(e: Expr) -> Expr:
    if not (isinstance(e, Op) and e.op == "select" and e.dtype in ("float32", HALF)):
        return e
    condition, x, part = e.args
    zero, positive = condition.args if isinstance(condition, Op) and condition.op == "<" else (None, None)
    if positive != x or zero is None or _constant(zero) != 0:
        return e
    factors = part.args if isinstance(part, Op) and part.op == "*" else ()
    slope = _constant(factors[1]) if factors and factors[0] == x else None
    return Op(e.dtype, e.lanes, "max", (x, part)) if slope is not None and 0 < slope <= 1 else e


def _constant(e: Expr) -> float | None:
    """Of a constant, or a vector of it, the number."""
    if isinstance(e, Op) and e.op == "splat":
        return _constant(e.args[0])
    return float(e.value) if isinstance(e, Const) else None
