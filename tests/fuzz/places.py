"""Inputs of operators that pick, move or repeat elements: each gives (inputs, attributes) of (rng, element type)."""

from __future__ import annotations

import numpy as np

from fuzz.templates import Attributes, Given
from fuzz.values import Array, Rng, extreme, int64, small


def drawn_places(rng: Rng, shape: tuple[int, ...], n: int) -> Array:
    count = int(np.prod(shape))
    return np.array([rng.randrange(-n, n) for _ in range(count)], np.int64).reshape(shape)


def scatter_elements(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    shape, axis = rng.choice(((5, 7), (3, 4, 5))), rng.choice((0, 1, -1))
    attributes: Attributes = {"axis": axis}
    if dtype in ("float32", "int32", "int64"):
        attributes["reduction"] = rng.choice(("none", "add", "mul", "min", "max"))
    inner = tuple(max(1, n - 1) for n in shape)
    if attributes.get("reduction", "none") == "none":  # no element twice
        index = np.argsort(np.array([rng.random() for _ in range(int(np.prod(inner)))]).reshape(inner), axis)
    else:
        index = drawn_places(rng, inner, shape[axis])
    return [
        small(rng, dtype, shape),
        index.astype(rng.choice(("int64", "int32"))),
        small(rng, dtype, inner),
    ], attributes


def scatter_nd(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    attributes: Attributes = {}
    if dtype in ("float32", "int32"):
        attributes["reduction"] = rng.choice(("none", "add", "mul", "min", "max"))
    rows = rng.sample(range(6), 3) if attributes.get("reduction", "none") == "none" else [0, 2, 2]
    return [small(rng, dtype, (6, 5)), int64(rows).reshape(3, 1), small(rng, dtype, (3, 5))], attributes


def gather_elements(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    shape, axis = rng.choice(((5, 7), (3, 4, 5))), rng.choice((0, 1, -1))
    return [extreme(rng, dtype, shape), drawn_places(rng, shape, shape[axis])], {"axis": axis}


def gather_nd(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    if rng.random() < 0.5:
        return [extreme(rng, dtype, (4, 5, 3)), drawn_places(rng, (6, 2), 4)], {}
    return [extreme(rng, dtype, (2, 5, 3)), drawn_places(rng, (2, 4, 1), 5)], {"batch_dims": 1}


def one_hot(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    ends = small(rng, dtype, (2,))
    index = drawn_places(rng, (3, 4), 5).astype(rng.choice(("int64", "int32")))
    return [index, np.array(5, np.int64), ends], {"axis": rng.choice((-1, 0, 1))}


def reversed_rows(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    return [small(rng, dtype, (5, 3, 2)), int64(rng.randint(1, 5) for _ in range(3))], {}


def split(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    return [extreme(rng, dtype, (3, 10)), int64(rng.choice(((2, 5, 3), (1, 1, 8))))], {"axis": -1}


def cast_like(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    other = rng.choice(("float32", "int32", "float16", "float64"))
    return [small(rng, dtype, (3, 5)), small(rng, other, (1,))], {}


def transposed(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    rank = rng.randint(2, 6)
    shape = tuple(rng.choice((1, 2, 3, 5)) for _ in range(rank))
    return [extreme(rng, dtype, shape)], {"perm": rng.sample(range(rank), rank)}


def sliced(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    shape = tuple(rng.choice((2, 3, 5, 9)) for _ in range(rng.randint(1, 4)))
    axes = rng.sample(range(len(shape)), rng.randint(1, len(shape)))
    starts, ends, steps = [], [], []
    for axis in axes:
        n = shape[axis]
        a, b = sorted(rng.sample(range(n + 1), 2))
        backwards = rng.random() < 0.3
        starts.append(b - 1 if backwards else a)
        ends.append((a - 1 if a else -n - 1) if backwards else rng.choice((b, b - n if b < n else 1 << 40)))
        steps.append(rng.choice((1, 2)) * (-1 if backwards else 1))
    return [extreme(rng, dtype, shape), int64(starts), int64(ends), int64(axes), int64(steps)], {}


def padded(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    mode = rng.choice(("constant", "reflect", "edge", "wrap"))
    pads = [rng.randint(-1 if mode == "constant" else 0, 2) for _ in range(4)]
    value = small(rng, dtype, ()) if mode == "constant" else None
    return [extreme(rng, dtype, (2, 4, 5)), int64(pads), value, int64((1, 2))], {"mode": mode}
