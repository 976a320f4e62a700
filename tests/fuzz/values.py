"""Values for the fuzzer's operands, drawn from what is telling of an element type."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, Any]
Rng = random.Random
Values = Callable[[Rng, str, tuple[int, ...]], Array]

INTEGERS = tuple(f"{sign}int{bits}" for bits in (8, 16, 32, 64) for sign in ("", "u"))
WIDE = ("int32", "uint32", "int64", "uint64")
FLOATS = ("float32", "float64")
HALVES = ("float16", "bfloat16")
REAL = (*FLOATS, *HALVES)
NUMBERS = (*FLOATS, *INTEGERS)


def extreme(rng: Rng, dtype: str, shape: tuple[int, ...]) -> Array:
    """The ends of the type's range, what lies at zero, what is no number, and numbers between."""
    if dtype == "bool":
        return np.array([rng.random() < 0.5 for _ in range(_size(shape))], bool).reshape(shape)
    if dtype in REAL:
        info = ml_dtypes.finfo(dtype)
        ends = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, np.inf, -np.inf, np.nan, float(info.max), -float(info.max),
                float(info.tiny), float(info.tiny) / 8, -float(info.tiny) / 8, 1e-3, 3.0]  # fmt: skip
        return _drawn(rng, dtype, shape, ends, lambda: rng.uniform(-10, 10))
    whole = np.iinfo(dtype)
    ends = [whole.min, whole.min + 1, whole.max, whole.max - 1, 0, 1, 2, 3, *((-1, -2) if whole.min else ())]
    return _drawn(rng, dtype, shape, ends, lambda: rng.randint(int(whole.min), int(whole.max)))


def moderate(rng: Rng, dtype: str, shape: tuple[int, ...]) -> Array:
    """Numbers that sums in any order agree on; integers are extreme, since their sums are exact."""
    if dtype in REAL:
        return np.array([rng.uniform(-4, 4) for _ in range(_size(shape))], dtype).reshape(shape)
    return extreme(rng, dtype, shape)


def small(rng: Rng, dtype: str, shape: tuple[int, ...]) -> Array:
    """Numbers of one digit, for what is defined only where the result fits."""
    if dtype == "bool":
        return extreme(rng, dtype, shape)
    low = 0 if dtype.startswith("uint") else -9
    values = [rng.randint(low, 9) + (rng.random() if dtype in REAL else 0) for _ in range(_size(shape))]
    return np.array(values, dtype).reshape(shape)


def shifts(rng: Rng, dtype: str, shape: tuple[int, ...]) -> Array:
    return np.array([rng.randrange(np.iinfo(dtype).bits) for _ in range(_size(shape))], dtype).reshape(shape)


def exponents(rng: Rng, dtype: str, shape: tuple[int, ...]) -> Array:
    return np.array([rng.choice((0, 1, 2, 3, 4, 7, 40, 63)) for _ in range(_size(shape))], dtype).reshape(shape)


def distinct(rng: Rng, dtype: str, shape: tuple[int, ...]) -> Array:
    """No two equal, so that an order is certain."""
    info = np.iinfo(dtype) if dtype in INTEGERS else np.iinfo(np.int16)
    low, high = int(info.min), int(info.max)
    ends = {low, high, 0, *(rng.randint(low, high) for _ in range(_size(shape)))}
    while len(ends) < _size(shape):
        ends.add(rng.randint(low, high))
    return np.array(rng.sample(sorted(ends), _size(shape)), dtype).reshape(shape)


def _drawn(rng: Rng, dtype: str, shape: tuple[int, ...], ends: list[Any], other: Callable[[], float | int]) -> Array:
    values = [rng.choice(ends) if rng.random() < 0.6 else other() for _ in range(_size(shape))]
    return np.array(values, dtype).reshape(shape)


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))


def int64(values: Any) -> Array:
    return np.array(list(values), np.int64)
