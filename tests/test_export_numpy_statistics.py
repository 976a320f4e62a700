"""The NumPy exporter: statistics, tables, and functions that pass over NaN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_export_numpy import check

POINTS, LEVELS = np.array([-1.0, 0, 0.5, 2]), np.array([3.0, 1, 4, 1])

# Each takes x [3, 6] of float32.
STATISTICS: dict[str, Callable[[Any], Any]] = {
    "interp": lambda x: (np.interp(x, POINTS, LEVELS), np.interp(x, POINTS, LEVELS, left=-9, right=9)),
    "percentile": lambda x: (np.percentile(x, [10, 50, 95], axis=1), np.percentile(x, 30)),
    "quantile": lambda x: np.quantile(x, 0.3, axis=(0, 1), keepdims=True),
    "methods": lambda x: [
        np.quantile(x, 0.37, axis=1, method=m)
        for m in ("hazen", "lower", "higher", "midpoint", "nearest", "weibull", "median_unbiased")
    ],
    "median": lambda x: (np.median(x, axis=1), np.median(x, axis=0, keepdims=True)),
    "digitize": lambda x: [np.digitize(x, b, right=r) for b in (POINTS, POINTS[::-1]) for r in (False, True)],
    "digitize its bins": lambda x: [
        np.digitize(np.round(2 * x) / 2, b, right=r) for b in (POINTS, POINTS[::-1]) for r in (False, True)
    ],
    "searchsorted": lambda x: [np.searchsorted(POINTS, x, side=s) for s in ("left", "right")],
    "bincount": lambda x: np.bincount(np.argmax(x, axis=0), minlength=3),
    "polyval": lambda x: (np.polyval([2.0, -1, 3], x), np.polynomial.polynomial.polyval(x, [2.0, -1, 3])),
    "trapezoid": lambda x: np.trapezoid(x, dx=0.5),
}
# And some of it NaN.
WITHOUT_NAN: dict[str, Callable[[Any], Any]] = {
    "sums": lambda x: (np.nansum(x, axis=1), np.nanmean(x), np.nancumsum(x, axis=1)),
    "spread": lambda x: (np.nanstd(x, axis=1), np.nanvar(x, axis=1, ddof=1, keepdims=True)),
    "extremes": lambda x: (np.nanmax(x, axis=0), np.nanmin(x), np.nanargmax(x, axis=1)),
}


@pytest.mark.parametrize("name", [*STATISTICS, *WITHOUT_NAN])
def test_statistics_and_tables(name: str) -> None:
    x = np.random.default_rng(3).normal(size=(3, 6)).astype(np.float32)
    if name in WITHOUT_NAN:
        x[0, 2] = x[1, 0] = np.nan
    check((STATISTICS | WITHOUT_NAN)[name], {"x": x})
