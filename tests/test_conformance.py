"""ONNX's own node tests: one per operator, as docs/operators.md names it. `script/conformance` runs all of them."""

from __future__ import annotations

import pytest
from conformance import cases, differences, harness, table

pytestmark = pytest.mark.timeout(900)


def test_sample_of_every_operator() -> None:
    wanted = set(table.samples(table.PATH.read_text(encoding="utf-8")))
    chosen = [case for case in cases.select() if case.name in wanted]
    assert len(chosen) > 100
    results = harness.run(chosen, harness.MACHINES["avx2"], jobs=1)
    assert [r for r in results if r.outcome != "passed"] == []


@pytest.mark.parametrize("machine", ["scalar", "neon", "avx512"])
def test_other_vector_widths(machine: str) -> None:
    """Operators whose kernels differ most between widths: tiles, rows of any length, partial vectors."""
    operators = {"Conv", "ConvTranspose", "MatMul", "Gemm", "MaxPool", "AveragePool", "Softmax", "LpPool", "LSTM"}
    wanted = set(table.samples(table.PATH.read_text(encoding="utf-8")))
    chosen = [case for case in cases.select() if case.name in wanted and case.operator in operators]
    results = harness.run(chosen, harness.MACHINES[machine], jobs=1)
    assert [r for r in results if r.outcome != "passed"] == []


@pytest.mark.parametrize("way", cases.WAYS[1:])
def test_small_constants_may_be_weights(way: str) -> None:
    """Operators that are compiled by their definition, of which onnx's inliner must know the operands' types."""
    wanted = (
        "test_rotary_embedding",
        "test_attention_3d_attn_mask",
        "test_affine_grid_2d",
        "test_rms_normalization_2d_axis1",
    )
    results = harness.run(cases.find([f"{name} ({way})" for name in wanted]), harness.MACHINES["avx2"], jobs=1)
    assert [(r.name, r.outcome) for r in results] == [(f"{name} ({way})", "passed") for name in wanted]


def test_table_says_that_most_pass() -> None:
    passed, total = table.totals(table.PATH.read_text(encoding="utf-8"))
    assert total >= 1404
    assert passed >= 900


def test_frozen_inputs_become_constants() -> None:
    case = next(case for case in cases.select() if case.name == "test_reshape_negative_dim")
    frozen = cases.freeze(case)
    assert [value.name for value in frozen.model.graph.input] == ["data"]
    assert [tensor.name for tensor in frozen.model.graph.initializer] == ["shape"]
    assert list(frozen.inputs[0]) == ["data"]


def test_difference_tells_shape_type_and_values() -> None:
    import numpy as np

    want = np.array([1.0, np.nan, 3.0], np.float32)
    assert differences.difference(want.copy(), want, 1e-3, 1e-7) == ""
    assert "float64[3] instead of float32[3]" in differences.difference(want.astype(np.float64), want, 1e-3, 1e-7)
    assert "1 of 3 values, [2] is 4.0 instead of 3.0" in differences.difference(
        np.array([1.0, np.nan, 4.0], np.float32), want, 1e-3, 1e-7
    )
