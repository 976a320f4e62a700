"""Compares the exported model with what the framework itself computes, if it is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto

from dlpack.errors import ModelError
from dlpack.exporters.builder import Array

TOLERANCE = 1e-3
"""Of an output's largest absolute value."""
NARROW_TOLERANCE = 0.05
"""Where the framework computes in half precision, and rounds after every operator."""
ACCEPTED = 0.1
"""The part of an output's whole numbers that may differ: float32 can make another of two near values the largest."""

Inputs = Mapping[str, Array]
Run = Callable[[Inputs], Sequence[Any]]


def trial_inputs(shapes: Mapping[str, tuple[Sequence[int], Any]], most: int = 2) -> Iterator[dict[str, Array]]:
    """Seeded inputs (name → shape, dtype) of both signs: near 0, then large; whole numbers lie in [0, `most`).

    Where there are whole numbers, they are then tried further from 0, and of both signs if the type has them: those
    that are computed with, or categories, may be any. The last are zeros, for models that accept no other indices.
    """
    whole = any(np.dtype(dtype).kind in "iu" for _, dtype in shapes.values())
    for scale, low, high in ((1.0, 0, most), (30.0, 0, most), *([(1.0, 0, 12), (1.0, -12, 13)] * whole), (0.0, 0, 1)):
        rng = np.random.default_rng(0)
        found = {}
        for name, (shape, dtype) in shapes.items():
            kind = np.dtype(dtype)
            values: Array
            if kind.kind == "f":
                values = rng.normal(size=shape) * scale
            else:
                values = rng.integers(low if kind.kind == "i" else 0, high, shape)
            found[name] = np.asarray(values, kind)
        yield found


def check_same(
    model: ModelProto, run: Run, trials: Iterator[dict[str, Array]], framework: str, tolerance: float = TOLERANCE
) -> None:
    """Raises ModelError, with the output's name and the size of the difference, if the model computes something else.

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
        for value, want, info in zip(got, wanted, model.graph.output, strict=False):
            if told := difference(value, want, tolerance):
                raise ModelError(
                    f"the exported model differs from {framework} in '{info.name}', {told}; this is a fault of the "
                    "exporter or of what it builds on, so nothing is built"
                )


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
