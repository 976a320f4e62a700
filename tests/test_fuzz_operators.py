"""A sample of `script/fuzz --operators`: graphs of single operators, at telling values, with the sanitizer on."""

from __future__ import annotations

import pytest
from fuzz import operators

STEP = 39


@pytest.mark.parametrize("machine", ["avx2", "scalar"])
def test_sample(machine: str) -> None:
    numbers = range(0 if machine == "avx2" else STEP // 2, len(operators.PAIRS), STEP)
    assert [r for r in operators.check(0, numbers, machine) if r.outcome != "passed"] == []


def test_integers_with_scalar_constants() -> None:
    """What once gave C++ that did not compile, of every element type."""
    wanted = {"Max", "Min", "Clip", "Mod", "Relu", "Div", "BitwiseNot", "BitShift"}
    kinds = ("int8", "uint16", "uint32")
    numbers = [k for k, (t, dtype) in enumerate(operators.PAIRS) if t.op in wanted and dtype in kinds]
    assert [r for r in operators.check(3, numbers, "avx512") if r.outcome != "passed"] == []
