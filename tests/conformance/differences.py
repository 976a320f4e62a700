"""How values differ from those that are expected; apart from the cases, so that what runs them imports no onnx."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dlpack.bundle.texts import decoded


def difference(got: np.ndarray[Any, Any], want: Any, rtol: float, atol: float) -> str:
    """How `got` differs from `want`, in words; "" where it is within ``atol + rtol * |want|`` everywhere."""
    if not isinstance(want, np.ndarray):
        return f"a {type(want).__name__} is expected"
    if got.dtype.kind == "S":
        same = got.shape == want.shape and decoded(got).tolist() == want.tolist()
        return "" if same else f"{decoded(got).tolist()} instead of {want.tolist()}"
    if got.dtype != want.dtype or got.shape != want.shape:
        return f"{got.dtype}{list(got.shape)} instead of {want.dtype}{list(want.shape)}"
    if got.dtype.kind not in "biufc":  # ml_dtypes' own, which numpy does not mix with its floats
        got, want = got.astype(np.float32), want.astype(np.float32)
    if got.dtype.kind == "f":
        got, want = got.astype(np.float64), want.astype(np.float64)
    with np.errstate(all="ignore"):
        wrong = ~np.isclose(got, want, rtol=rtol, atol=atol, equal_nan=got.dtype.kind == "f")
    if not wrong.any():
        return ""
    where = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"{int(wrong.sum())} of {wrong.size} values, [{_commas(where)}] is {got[where]} instead of {want[where]}"


def _commas(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
