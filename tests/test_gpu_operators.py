"""A node test of every operator by kernels of GPUs: their CUDA C runs on this computer (`conformance.gpu`)."""

from __future__ import annotations

from pathlib import Path

import pytest
from conformance.gpu import one_of_each, outcome

PARTS = 8


@pytest.mark.parametrize("part", range(PARTS))
def test_every_operator_runs_on_gpus(part: int, tmp_path: Path) -> None:
    cases = one_of_each()[part::PARTS]
    done = {case.name: outcome(case, tmp_path) for case in cases}
    assert len(cases) > 20
    assert {name: what for name, what in done.items() if what not in ("right", "constant")} == {}
