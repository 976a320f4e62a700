"""Why some of NumPy's functions have no converter, and what to do instead: for the line that refuses them."""

from __future__ import annotations

_SIZE = "how long its result is depends on the input's values"

ABSENT = {
    **dict.fromkeys(
        ("nonzero", "flatnonzero", "argwhere"), f": {_SIZE}; np.where(mask, x, 0) and np.argmax(mask) keep theirs"
    ),
    **dict.fromkeys(("extract", "compress"), f": {_SIZE}; np.where(mask, x, 0) keeps x's length"),
    **dict.fromkeys(
        ("unique", "unique_values", "unique_counts", "unique_inverse", "unique_all", "union1d", "intersect1d",
         "setdiff1d", "setxor1d"),
        f": {_SIZE}; np.sort(x) and np.isin(x, known) keep x's length",
    ),
    **dict.fromkeys(
        ("linalg.svd", "linalg.svdvals", "linalg.eig", "linalg.eigvals", "linalg.eigh", "linalg.eigvalsh",
         "linalg.pinv", "linalg.matrix_rank", "linalg.lstsq", "roots"),
        ": it iterates until its result is good enough, and each library has signs and an order of its own; compute it "
        "outside, or solve normal equations with np.linalg.solve",
    ),
    "linalg.qr": ": the signs of its rows are LAPACK's choice; np.linalg.cholesky(x.T @ x).T is R up to these",
}  # fmt: skip
"""By the public name without np.: what is said behind "cannot be exported"."""
