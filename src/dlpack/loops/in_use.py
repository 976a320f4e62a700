"""Loops along rows of which a run uses the first ones alone: those of a decoder's cache that have a token.

A schedule marks such a loop. Its trips along the first `rows` end where the rows in use end, a number that the kernel
reads from an operand (int32[1]); behind them it goes on as any loop does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dlpack.loops.index import Linear
from dlpack.loops.ir import Const, Expr, For, Load, Op

IN_USE = "dlpack.in_use"
"""Loop annotation: the number of the operand, `rows`, and how many rows a trip takes, of which these are a multiple."""

ROWS_AT_ONCE = 64
"""Rows in use are counted in so many: vectors and tiles take a part of these, or all."""

PAST = "dlpack.past"
"""Block annotation: how many of the keys are such rows; the only operand int32[1] has how many are in use."""


def trips_of_rows(loop: Any) -> int:
    """How many of a TVM loop's trips are along those rows; 0 where it is not marked."""
    found = loop.annotations.get(IN_USE)
    return int(found[1]) // int(found[2]) if found else 0


def ending(loop: For, by: Any, name_of: Callable[[int], str], together: int = 1) -> For:
    """The loop over these trips, which ends with the rows in use; `by` is TVM's loop, and a trip is `together` ones of
    that."""
    number, _, each = (int(n) for n in by.annotations[IN_USE])
    used: Expr = Load("int32", 1, name_of(number), Linear(0), 1)
    step = each * together
    return replace(loop, until=used if step == 1 else Op("int32", 1, "/", (used, Const("int32", 1, step))))
