"""The second opinion, asked before a build is refused: whether it is onnxruntime's own arithmetic that is off.

onnxruntime's float32 puts the coordinates of some resizes one pixel off, and its kernels are of several qualities. So
where the compiled predictor differs, the model is computed in other ways as well: by onnxruntime with its
optimisations, and by onnx's reference evaluator in float32 and in double. An output is right

- if it agrees with one of them, everywhere, within the usual tolerance; or
- if it is no farther from the double ones than twice what the others are, where that is no more than float32 may make
  of it: `MOST` of the range, or a unit of integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from dlpack.errors import ModelError
from dlpack.graph.ir import Array
from dlpack.verify.doubles import in_double
from dlpack.verify.reference import Expected, Tolerance, compare, element_errors
from dlpack.verify.runners import evaluated, runner

MOST = 1e-3
"""What other ways to compute an output may differ by, as a part of its range, and still count as float32's error."""

MOST_MACS = 3_000_000_000
"""onnx's evaluator is slow: larger models are asked of onnxruntime alone."""


def second_opinion(
    model: onnx.ModelProto,
    inputs: Mapping[str, Array],
    expected: Expected,
    got: Mapping[int, Array],
    relative: float,
    macs: int = 0,
) -> Expected:
    """What is expected, where other ways to compute the model are on the predictor's side.

    `got`: the outputs, by their place, that differ from what is expected; `macs`: the model's multiply-adds.
    """
    outputs, tolerances = list(expected.outputs), list(expected.tolerances)
    open_, ways = dict(got), [outputs[:]]
    exact: list[Array] | None = None
    for way, values in _ways(model, inputs, macs):
        exact = values if way == "double" else exact
        ways.append(values)
        for k, value in list(open_.items()):
            want = values[k].astype(value.dtype, copy=False)
            if compare("", value, want, tolerances[k], relative).passed:
                outputs[k] = want
                del open_[k]
        if not open_:
            break
    for k, value in open_.items() if exact is not None else ():
        assert exact is not None
        allowed = _spread(exact[k], [way[k] for way in ways], value.dtype)
        want = exact[k].astype(value.dtype, copy=False)
        if allowed is not None and compare("", value, want, allowed, relative).passed:
            outputs[k], tolerances[k] = want, allowed
    return replace(expected, outputs=outputs, tolerances=tolerances)


def _ways(model: onnx.ModelProto, inputs: Mapping[str, Array], macs: int) -> Iterator[tuple[str, list[Array]]]:
    """Other ways to compute the outputs, as far as they can be had."""
    with suppress(ModelError):
        yield "optimised", runner(model, optimised=True)(inputs)
    if macs > MOST_MACS:
        return
    wide = {name: x.astype(np.float64) if x.dtype == np.float32 else x for name, x in inputs.items()}
    for way, given in (("float", inputs), ("double", wide)):
        try:
            yield way, evaluated(in_double(model) if way == "double" else model, given)
        except Exception:  # noqa: BLE001 - the evaluator raises anything; then it has no opinion
            continue


def _spread(exact: Array, ways: list[Array], dtype: np.dtype[Any]) -> Tolerance | None:
    """Twice the errors of the other ways; None where they are more than arithmetic makes."""
    if any(way.shape != exact.shape for way in ways) or not exact.size:
        return None
    errors = [element_errors(way, exact) for way in ways]
    largest, mean = max(float(e.max()) for e in errors), max(float(e.mean()) for e in errors)
    finite = exact[np.isfinite(exact)] if exact.dtype.kind == "f" else exact
    span = float(np.abs(finite.astype(np.float64)).max(initial=0.0))
    if dtype.kind != "f":
        return Tolerance(largest, 2 * mean) if largest <= 1 else None
    return Tolerance(2 * largest, 2 * mean) if largest <= MOST * span else None
