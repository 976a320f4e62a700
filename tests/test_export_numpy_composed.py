"""NumPy's functions that are made of others of its functions, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_export_mxnet import run

from dlpack.errors import UnsupportedError
from dlpack.exporters import ExportOptions
from dlpack.exporters.numpy.export import trace
from dlpack.stages.prepare import clean_graph

WELL = np.eye(4) * 6


def whole(x: Any) -> Any:
    return (50 * x).astype(np.int32)


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "ediff1d": lambda x: np.ediff1d(x, to_begin=1.0),
    "cumprod": lambda x: np.cumprod(x, 1) + np.cumprod(x).reshape(4, 4),
    "gradient": lambda x: (*np.gradient(x, 0.5), np.gradient(x, axis=1)),
    "unwrap": lambda x: np.unwrap(5 * x, axis=0),
    "insert": lambda x: (np.insert(x, 1, 5, axis=1), np.insert(x, -1, x[0], axis=0)),
    "apply_along_axis": lambda x: np.apply_along_axis(lambda row: row / np.abs(row).sum(), 0, x),
    "block": lambda x: np.block([[x, x[:, :1]], [x[:1], 7.0 * x[:1, :1]]]),
    "partition": lambda x: np.partition(x, 2, axis=1)[:, 2],
    "nanmedian": lambda x: np.nanmedian(np.where(x > 0, x, np.nan), axis=1, keepdims=True),
    "histogram": lambda x: np.histogram(x, bins=4, range=(-1.0, 1.0))[0],
    "sinc": np.sinc,
    "bitwise": lambda x: (
        whole(x) & 12,
        whole(x) | 5,
        whole(x) ^ whole(-x),
        ~whole(x),
        np.max(whole(x) & 3, axis=1),
        (np.abs(x) * 50).astype(np.uint8) & 6,
        ~(x > 0) | (x < 1),
    ),
    "shifts": lambda x: (
        whole(x) << 3,
        whole(x) >> 2,
        np.left_shift(7, np.abs(whole(x)) % 9),
        whole(x).astype(np.int64) << 62,
        whole(x) >> 31,
        whole(x).astype(np.int64) >> 63,
    ),
    "isin": lambda x: np.isin((2 * x).astype(int), [1, 2], invert=True),
    "allclose": lambda x: (np.allclose(x, x + 1e-9), np.array_equal(x, x.T)),
    "piecewise": lambda x: np.piecewise(x, [x < 0, x > 1], [lambda v: -v, 1.0, 0.5]),
    "choose": lambda x: np.choose((x > 0).astype(int), [x, -2 * x]),
    "linspace": lambda x: np.linspace(x[0], x[1], 5),
    "vander": lambda x: (np.vander(x[0]), np.vander(x[0], 3, increasing=True)),
    "cov": lambda x: (np.cov(x), np.cov(x, rowvar=False, bias=True), np.cov(x[0], x[1])),
    "corrcoef": np.corrcoef,
    "cross": lambda x: np.cross(x[:, :3], x[:, 1:]),
    "matrix_power": lambda x: (np.linalg.matrix_power(x, 3), np.linalg.matrix_power(x + WELL, -2)),
    "inv": lambda x: np.linalg.inv(x + WELL),
    "solve": lambda x: (np.linalg.solve(x + WELL, x), np.linalg.solve(x[::-1] + WELL[::-1], x[0])),
    "cholesky": lambda x: np.linalg.cholesky(x @ x.T + WELL),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    function = FUNCTIONS[name]
    model = trace(function, "f", ExportOptions({"x": (4, 4)})).model
    clean_graph(model, {})
    x = np.random.default_rng(2).normal(size=(4, 4)).astype(np.float32)
    wanted = function(x)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    for got, want in zip(run(model, {"x": x}), wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_all_missing_functions_are_told_at_once() -> None:
    """Those that give several arrays too."""

    def function(x: Any) -> Any:
        u, s, _ = np.linalg.svd(x)
        return np.lexsort((x[0], x[1])) + np.i0(x) + s.sum() + u.sum()

    with pytest.raises(UnsupportedError) as e:
        trace(function, "f", ExportOptions({"x": (4, 4)}))
    assert all(name in str(e.value) for name in ("np.linalg.svd", "np.lexsort", "np.i0"))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: np.unique(x), "np.unique cannot be exported: how long its result is depends on the input's values"),
        (lambda x: np.nonzero(x)[0], r"np.nonzero cannot .*; np.where\(mask, x, 0\)"),
        (lambda x: np.linalg.qr(x)[1], r"np.linalg.qr cannot .*np.linalg.cholesky\(x.T @ x\).T is R"),
    ],
)
def test_a_refusal_says_why_and_what_to_do(function: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        trace(function, "f", ExportOptions({"x": (4, 4)}))
