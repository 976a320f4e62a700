"""A sample of `script/fuzz --operators`: single operators at telling values, and chains, with the sanitizer on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from fuzz import operators
from fuzz.layers import Layer

STEP = 61


def findings(seed: int, numbers: Sequence[int], machine: str) -> list[tuple[str, str, str]]:
    """What is wrong or refused; neither what opinions differ on nor what nothing else computes."""
    results = operators.check(seed, numbers, machine)
    return [(r.name, r.outcome, r.detail) for r in results if r.outcome not in ("passed", "disputed", "no reference")]


def numbers_of(names: set[str], dtypes: Sequence[str]) -> list[int]:
    return [k for k, (t, dtype) in enumerate(operators.PAIRS) if t.op in names and dtype in dtypes]


@pytest.mark.parametrize("machine", ["avx2", "scalar"])
def test_sample(machine: str) -> None:
    assert findings(0, range(0 if machine == "avx2" else STEP // 2, len(operators.PAIRS), STEP), machine) == []


def test_chains() -> None:
    """Operators that are fused, and views of views."""
    assert findings(0, range(len(operators.PAIRS), len(operators.PAIRS) + 12), "avx2") == []


def test_integers_with_scalar_constants() -> None:
    """What once gave C++ that did not compile, of every element type."""
    wanted = {"Max", "Min", "Clip", "Mod", "Relu", "Div", "BitwiseNot", "BitShift"}
    assert findings(3, numbers_of(wanted, ("int8", "uint16", "uint32")), "avx512") == []


def test_recurrent_networks_of_float64() -> None:
    """GRU, lengths and clipping have constants of their own, which once were float32 whatever the states were."""
    assert findings(1, numbers_of({"LSTM", "GRU", "RNN"}, ("float64",)), "avx2") == []


def test_a_case_is_the_same_in_every_run() -> None:
    a, b = operators.make(5, 700), operators.make(5, 700)
    assert a.model.SerializeToString() == b.model.SerializeToString()


def test_every_layer_has_a_case_with_constants_alone_but_one() -> None:
    """The first operand is usually given at run time; what must be constants never is."""
    for k, (template, _) in enumerate(operators.PAIRS):
        if isinstance(template, Layer) and k % 7 == 0:
            inputs = {i.name for i in operators.make(0, k).model.graph.input}
            assert not {f"x{n}_{i}" for n in range(operators.NODES) for i in template.fixed} & inputs
