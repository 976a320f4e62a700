"""Factors that a loop does not change multiply its sums, where registers hold both."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dlpack.loops.factors import BESIDE, factor_out
from dlpack.loops.index import Linear
from dlpack.loops.ir import Assign, Const, Declare, Expr, For, Kernel, Load, Op, Param, Ref, Stmt

LANES = 4


def op(name: str, a: Expr, b: Expr) -> Expr:
    return Op("float32", LANES, name, (a, b))


def var(name: str, factor: int) -> Linear:
    return Linear.var(name) * factor


WEIGHT = Load("float32", LANES, "w", var("row", LANES), LANES)
SCALE = Load("float32", LANES, "s", var("block", LANES), LANES)
X = Ref("float32", LANES, "x")
ACC = Ref("float32", LANES, "acc")
ZERO = Op("float32", LANES, "splat", (Const("float32", 1, 0.0),))
PARAMS = (Param("w", "float32", False), Param("s", "float32", False), Param("y", "float32", True))


def kernel(term: Expr) -> Kernel:
    sums: Stmt = For("row", 0, 8, 1, (Assign("acc", op("+", ACC, term)),))
    return Kernel(PARAMS, (Declare("acc", "float32", LANES, ZERO), For("block", 0, 3, 1, (sums,))))


@pytest.mark.parametrize("term", [op("*", X, op("*", WEIGHT, SCALE)), op("*", op("*", X, WEIGHT), SCALE)])
def test_a_scale_multiplies_the_sum_of_a_block(term: Expr) -> None:
    body = factor_out(kernel(term), {"w", "s"}, 16).body
    part = Ref("float32", LANES, "part0")
    (_, blocks) = body
    assert isinstance(blocks, For)
    start, rows, end = blocks.body
    assert start == Declare("part0", "float32", LANES, ZERO) and isinstance(rows, For)
    (added,) = rows.body
    assert added in [Assign("part0", op("+", part, op("*", *pair))) for pair in ((X, WEIGHT), (WEIGHT, X))]
    assert end == Assign("acc", op("+", ACC, op("*", part, SCALE)))


@pytest.mark.parametrize(
    ("term", "constants", "registers"),
    [
        (op("*", X, op("*", WEIGHT, SCALE)), {"w"}, 16),  # the scale may be written meanwhile
        (op("*", X, op("*", WEIGHT, SCALE)), {"w", "s"}, 1 + BESIDE),
        (op("*", X, op("*", WEIGHT, replace(SCALE, index=var("row", LANES)))), {"w", "s"}, 16),
        (op("+", X, op("*", WEIGHT, SCALE)), {"w", "s"}, 16),
        (op("*", ACC, op("*", WEIGHT, SCALE)), {"w", "s"}, 16),
    ],
)
def test_other_loops_stay(term: Expr, constants: set[str], registers: int) -> None:
    assert factor_out(kernel(term), constants, registers) == kernel(term)
