"""What frameworks computed, recorded in files of fixtures/: case/what → array."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np


@cache
def recorded_cases(fixture: Path) -> dict[str, dict[str, Any]]:
    """The arrays of each case by their names."""
    cases: dict[str, dict[str, Any]] = {}
    with np.load(fixture) as file:
        for key in file.files:
            name, _, rest = key.partition("/")
            if rest:
                cases.setdefault(name, {})[rest] = file[key]
    return cases
