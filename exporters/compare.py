"""Compares the exported model with what the framework itself computes, if it is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from onnx import ModelProto

from dlpack.errors import ModelError
from dlpack.exporters.builder import Array, with_bodies

TOLERANCE = 1e-3
"""Of an output's largest absolute value."""
NARROW_TOLERANCE = 0.05
"""Where the framework computes in half precision, and rounds after every operator."""
ACCEPTED = 0.1
"""The part of an output's whole numbers that may differ: float32 can make another of two near values the largest."""

Inputs = Mapping[str, Array]
Run = Callable[[Inputs], Sequence[Any]]


def trial_inputs(
    shapes: Mapping[str, tuple[Sequence[int], Any]], most: int = 2, ties: bool = False, missing: bool = False
) -> Iterator[dict[str, Array]]:
    """Seeded inputs (name → shape, dtype) of both signs: near 0, then large; whole numbers lie in [0, `most`).

    With `ties` then multiples of a half, of which many are equal, to each other or to a limit; with `missing` then
    numbers of which every fifth is NaN. Where there are whole numbers, they are tried further from 0, and of both signs
    if the type has them: those that are computed with, or categories, may be any. The last are zeros, for models that
    accept no other indices.
    """
    whole = any(np.dtype(dtype).kind in "iu" for _, dtype in shapes.values())
    for scale, low, high in ((1.0, 0, most), (30.0, 0, most)):
        yield _drawn(shapes, partial(_normal, scale=scale), low, high)
    if ties:
        yield _drawn(shapes, lambda rng, shape: rng.integers(-3, 4, shape) / 2, 0, most)
    if missing:
        yield _drawn(shapes, _with_gaps, 0, most)
    for low, high in ((0, 12), (-12, 13)) if whole else ():
        yield _drawn(shapes, partial(_normal, scale=1.0), low, high)
    yield _drawn(shapes, lambda _, shape: np.zeros(shape), 0, 1)


def _normal(rng: np.random.Generator, shape: Sequence[int], scale: float) -> Any:
    return rng.normal(size=shape) * scale


def _with_gaps(rng: np.random.Generator, shape: Sequence[int]) -> Any:
    values = rng.normal(size=shape)
    return np.where(np.arange(values.size).reshape(values.shape) % 5 == 1, np.nan, values)


def _drawn(
    shapes: Mapping[str, tuple[Sequence[int], Any]],
    number: Callable[[np.random.Generator, Sequence[int]], Any],
    low: int,
    high: int,
) -> dict[str, Array]:
    """An input of each: floating point by `number`, whole numbers in [`low`, `high`), from 0 where there is no sign."""
    rng = np.random.default_rng(0)
    found = {}
    for name, (shape, dtype) in shapes.items():
        kind = np.dtype(dtype)
        values = number(rng, shape) if kind.kind == "f" else rng.integers(low if kind.kind == "i" else 0, high, shape)
        found[name] = np.asarray(values, kind)
    return found


_CHOICES = frozenset({"ArgMax", "ArgMin", "TopK", "NonMaxSuppression", "Unique"})


def takes_ties(model: ModelProto) -> bool:
    """Whether equal values decide nothing that frameworks leave open: which of them is the first, or the largest."""
    nodes = [*with_bodies(model.graph.node), *(n for f in model.functions for n in with_bodies(f.node))]
    places = any(n.op_type == "MaxPool" and len(n.output) > 1 for n in nodes)
    return not {n.op_type for n in nodes} & _CHOICES and not places


def check_same(
    model: ModelProto, run: Run, trials: Iterator[dict[str, Array]], framework: str, tolerance: float = TOLERANCE
) -> int:
    """Raises ModelError, with the output's name and the size of the difference, if the model computes something else.

    Returns how many of the trials both computed.

    `run` gives the framework's outputs in the model's order; inputs that it raises an error for are passed over, and
    the zeros among `trials`, which are last, are taken where it has taken nothing else.
    """
    from dlpack.verify.runners import run_onnxruntime

    taken = 0
    for inputs in trials:
        if taken and not any(np.any(v) for v in inputs.values()):
            continue
        try:
            wanted = [np.asarray(w) for w in run(inputs)]
        except Exception:  # noqa: BLE001 - the framework takes no such values; those of users it takes
            continue
        try:
            got = run_onnxruntime(model, inputs)
        except ModelError:
            if taken:
                continue  # of large values, say
            raise
        taken += 1
        gaps = any(v.dtype.kind == "f" and np.isnan(v).any() for v in inputs.values())
        for value, want, info in zip(got, wanted, model.graph.output, strict=False):
            if gaps and (want.dtype.kind in "iu" or np.isnan(want).any()):
                continue  # it lets NaN through, which operators order in many ways
            if told := difference(value, want, tolerance):
                raise ModelError(
                    f"the exported model differs from {framework} in '{info.name}', {told}; this is a fault of the "
                    "exporter or of what it builds on, so nothing is built"
                )
    return taken


def difference(got: Array, want: Array, tolerance: float = TOLERANCE) -> str:
    """How an output differs, in words; "" if it does not."""
    if got.shape != want.shape:
        return f"which has the shape {list(got.shape)}, not {list(want.shape)}"
    if not got.size:
        return ""
    with np.errstate(invalid="ignore", over="ignore"):
        a, b = np.asarray(got, np.float64), np.asarray(want, np.float32).astype(np.float64)
        if want.dtype.kind in "iub" and want.dtype.itemsize == 1 and want.dtype.kind != "b":
            tolerance = max(tolerance, 1.01 / max(1.0, float(np.abs(b).max())))  # a unit of what is quantised
        elif want.dtype.kind in "iub":
            part = float(np.mean(np.asarray(got) != np.asarray(want)))
            return f"in {part:.0%} of {got.size} whole numbers" if part > ACCEPTED else ""
        finite = np.isfinite(b)
        span = float(np.abs(b[finite]).max()) if finite.any() else 0.0
        error = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    worst = float(np.nan_to_num(error, nan=np.inf).max())
    return f"by up to {worst:.3g} where the largest value is {span:.3g}" if worst > tolerance * span else ""
