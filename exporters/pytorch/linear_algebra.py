"""Linear systems as plain operators: torch.onnx has none of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dlpack.errors import UnsupportedError
from dlpack.exporters.pytorch.framework import import_torch

MAX_ROWS = 32
"""Elimination is unrolled: some 15 operators for each row."""


def _check(a: Any, what: str) -> int:
    rows = int(a.shape[-1])
    if rows > MAX_ROWS:
        raise UnsupportedError(
            f"{what} of a matrix of {rows} rows; {MAX_ROWS} are accepted, since every row is a step. A matrix that "
            "does not depend on the input can be computed before, and stored as a buffer"
        )
    return rows


def solution(a: Any, b: Any, what: str) -> Any:
    """x with a @ x = b, for a [..., n, n] and b [..., n, m]: Gauss and Jordan's elimination with row pivots."""
    torch, n = import_torch(), _check(a, what)
    batch = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    work = torch.cat([a.expand(*batch, n, n), b.expand(*batch, n, b.shape[-1])], -1)
    rows = torch.arange(n)
    for k in range(n):
        best = work[..., k:, k].abs().argmax(-1, keepdim=True) + k
        order = torch.where(rows == k, best, torch.where(rows == best, torch.full_like(rows, k), rows))
        work = work.gather(-2, order.unsqueeze(-1).expand(work.shape))
        pivot = work[..., k : k + 1, :] / work[..., k : k + 1, k : k + 1]
        rest = work - work[..., :, k : k + 1] * pivot
        work = torch.where((rows == k).unsqueeze(-1), pivot, rest)
    return work[..., n:]


def inverse(a: Any, *, check_errors: bool = False) -> Any:  # noqa: ARG001 - the schema
    """aten::linalg_inv_ex; nothing reports a singular matrix, whose inverse is not finite."""
    torch = import_torch()
    n = a.shape[-1]
    made = solution(a, torch.eye(n, dtype=a.dtype).expand(a.shape), "torch.linalg.inv")
    return made, torch.zeros(a.shape[:-2], dtype=torch.int32)


def inverse_alone(a: Any) -> Any:
    """aten::linalg_inv."""
    return inverse(a)[0]


def solve(a: Any, b: Any, *, left: bool = True, check_errors: bool = False) -> Any:  # noqa: ARG001 - the schema
    """aten::_linalg_solve_ex, without the factors of `a`."""
    torch = import_torch()
    vector = b.dim() == 1 or (b.dim() == a.dim() - 1 and b.shape == a.shape[:-1])
    right = b.unsqueeze(-1) if vector else b
    if left:
        made = solution(a, right, "torch.linalg.solve")
    else:
        made = solution(a.mT, right.mT, "torch.linalg.solve").mT
    made = made.squeeze(-1) if vector else made
    return (
        made,
        a,
        torch.zeros((*a.shape[:-2], a.shape[-1]), dtype=torch.int32),
        torch.zeros(a.shape[:-2], dtype=torch.int32),
    )


def solve_alone(a: Any, b: Any, *, left: bool = True) -> Any:
    """aten::linalg_solve."""
    return solve(a, b, left=left)[0]


def triangular(a: Any, b: Any, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Any:
    """aten::linalg_solve_triangular, which reads one half of `a` alone."""
    torch = import_torch()
    half = a.triu() if upper else a.tril()
    if unitriangular:
        one = torch.eye(a.shape[-1], dtype=a.dtype)
        half = half * (1 - one) + one
    what = "torch.linalg.solve_triangular"
    return solution(half, b, what) if left else solution(half.mT, b.mT, what).mT


def cholesky(a: Any, *, upper: bool = False, check_errors: bool = False) -> Any:  # noqa: ARG001 - the schema
    """aten::linalg_cholesky_ex, a column at a time."""
    torch, n = import_torch(), _check(a, "torch.linalg.cholesky")
    a = a.mT if upper else a
    columns: list[Any] = []
    for k in range(n):
        rest = a[..., :, k]
        if columns:
            before = torch.stack(columns, -1)
            rest = rest - (before * before[..., k : k + 1, :]).sum(-1)
        column = rest / rest[..., k : k + 1].sqrt()
        columns.append(torch.where(torch.arange(n) < k, torch.zeros_like(column), column))
    made = torch.stack(columns, -1)
    return made.mT if upper else made, torch.zeros(a.shape[:-2], dtype=torch.int32)


def cholesky_alone(a: Any, *, upper: bool = False) -> Any:
    """aten::linalg_cholesky."""
    return cholesky(a, upper=upper)[0]


def cholesky_of_old(a: Any, upper: bool = False) -> Any:
    """aten::cholesky."""
    return cholesky(a, upper=upper)[0]


def cholesky_solve(b: Any, factor: Any, upper: bool = False) -> Any:
    torch = import_torch()
    lower = factor.mT if upper else factor
    half = torch.linalg.solve_triangular(lower, b, upper=False)
    return torch.linalg.solve_triangular(lower.mT, half, upper=True)


def triangular_of_old(b: Any, a: Any, upper: bool = True, transpose: bool = False, unitriangular: bool = False) -> Any:
    """aten::triangular_solve: the solution and the matrix."""
    torch = import_torch()
    made = a.mT if transpose else a
    solved = torch.linalg.solve_triangular(made, b, upper=upper != transpose, unitriangular=unitriangular)
    return solved, a.clone()


def slogdet(a: Any) -> Any:
    """aten::_linalg_slogdet, without the factors of `a`."""
    torch = import_torch()
    value = torch.linalg.det(a)
    return value.sign(), value.abs().log(), a.clone(), torch.zeros(a.shape[:-1], dtype=torch.int32)


def slogdet_alone(a: Any) -> Any:
    """aten::linalg_slogdet."""
    return slogdet(a)[:2]


FUNCTIONS: dict[str, tuple[str, Callable[..., Any]]] = {
    "inverse": ("default", inverse_alone),
    "linalg_inv": ("default", inverse_alone),
    "linalg_inv_ex": ("default", inverse),
    "linalg_solve": ("default", solve_alone),
    "_linalg_solve_ex": ("default", solve),
    "linalg_solve_triangular": ("default", triangular),
    "linalg_cholesky": ("default", cholesky_alone),
    "linalg_cholesky_ex": ("default", cholesky),
    "cholesky": ("default", cholesky_of_old),
    "cholesky_solve": ("default", cholesky_solve),
    "triangular_solve": ("default", triangular_of_old),
    "_linalg_slogdet": ("default", slogdet),
    "linalg_slogdet": ("default", slogdet_alone),
    "slogdet": ("default", slogdet_alone),
}
