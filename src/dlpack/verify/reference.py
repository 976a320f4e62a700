"""The reference: seeded inputs in the model's own ranges, what onnxruntime computes from them, how near is near enough.

Integer networks: their quantised layers are computed in double (`exact.py`), as the compiled network computes them on
integers. An output that only integers lead to has to be equal, bit for bit. float32 operators in between (softmax,
hard-swish, sigmoid) may round otherwise, and where such a value is quantised again, a near-tie moves it by a unit:

- quantised outputs right behind them: a unit at the most, in at most 1 % of the elements (or one), or in as many as
  onnxruntime is itself off by a unit;
- outputs behind further layers, which make more of a unit: as far as onnxruntime, with and without its optimisations,
  is itself from the exact reference: the largest error and the largest mean error.

All over four seeded inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from dlpack.bundle.arrays import numpy_dtype, restored
from dlpack.bundle.texts import rows
from dlpack.graph.ir import Array
from dlpack.meaning.shape_sets import reference_names
from dlpack.verify.exact import Certainty, exact, is_quantised
from dlpack.verify.runners import run_onnxruntime, runner
from dlpack.verify.tail import run_with_tail

RELATIVE_TOLERANCE = 1e-4
"""Largest accepted error, as a part of the output's largest absolute value."""

HALVES_TOLERANCE = 1e-2
"""The same of kernels that compute in float16, whose 11 binary digits a sum of products rounds at each step."""

ROUNDED_TOLERANCE = 5e-2
"""The same of kernels that round what they multiply to 8 bits: 12 layers of a decoder are off by 2e-2."""

HALF_DIGIT = {
    "float16": 2.0**-10,
    "bfloat16": 2.0**-7,
    **{f"float8_{kind}": 2.0**-3 for kind in ("e4m3fn", "e4m3fnuz")},
    **{f"float8_{kind}": 2.0**-2 for kind in ("e5m2", "e5m2fnuz")},
    "float4_e2m1fn": 0.5,
    "float8_e8m0fnu": 1.0,
}
"""The last digit of a number of 16 bits or less, as a part of the number."""

_BLOCK = 1 << 20
"""Elements that are worked on at a time, so that little memory is taken beside the arrays themselves."""


def seeded_input(index: int, shape: Sequence[int], dtype: str, low: float, high: float) -> Array:
    """Input number `index`: element i is a hash of (i, index), scaled into [low, high); see runtime_c/selftest.h."""
    n = int(np.prod(shape, dtype=np.int64)) if len(shape) else 1
    made = np.empty(n, numpy_dtype(dtype))
    for start in range(0, n, _BLOCK):
        x = np.arange(start, min(start + _BLOCK, n), dtype=np.uint32)
        x = x * np.uint32(2654435761) + np.uint32((index * 40503 + 12345) & 0xFFFFFFFF)
        x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
        x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
        x ^= x >> np.uint32(16)
        values = low + x.astype(np.float64) * (1.0 / 4294967296.0) * (high - low)
        made[start : start + _BLOCK] = values.astype(np.float32) if dtype in HALF_DIGIT else values
    return made.reshape(tuple(shape))


@dataclass(frozen=True)
class Tolerance:
    """The errors that `compare` accepts of an output's elements, in the output's own units."""

    largest: float
    mean: float


@dataclass(frozen=True)
class Expected:
    """The outputs, in order, and what may be accepted of each (None: the usual).

    `more` has the outputs for further seeded inputs, those of `more_inputs`, or nothing: a quantised output takes few
    values, and many a fault leaves all of them as they are for one input.
    """

    outputs: list[Array]
    tolerances: list[Tolerance | None]
    more: list[list[Array]]


def reference(
    model: onnx.ModelProto,
    inputs: Mapping[str, Array],
    ranges: Sequence[Sequence[float]],
    relative: float = RELATIVE_TOLERANCE,
    more: bool = True,
) -> Expected:
    """What a cleaned model shall compute from these inputs; of a quantised one by default from more inputs.

    `relative`: the usual tolerance, as a part of an output's largest absolute value.
    """
    if not is_quantised(model):
        outputs, floors = run_with_tail(model, inputs, run_onnxruntime)
        tolerances = [
            Tolerance(floor, floor) if floor and floor > relative * _span(want.astype(np.float64)) else None
            for want, floor in zip(outputs, floors, strict=True)
        ]
        return Expected(outputs, _of_halves(outputs, tolerances), [])
    twin = exact(model)
    run = runner(twin.model)
    cases = [inputs, *(more_inputs(inputs, ranges) if more else [])]
    outputs, *others = [run(case) for case in cases]
    names = [v.name for v in model.graph.output]
    drift = [Tolerance(0.0, 0.0)] * len(names)
    if max(twin.certainty.values(), default=Certainty.EXACT) >= Certainty.UNIT:
        drift = _drift(model, cases, [outputs, *others])
    tolerances = [
        _tolerance(want, twin.certainty[name], twin.unit.get(name, 0.0), d, relative)
        for name, want, d in zip(names, outputs, drift, strict=True)
    ]
    return Expected(outputs, _of_halves(outputs, tolerances), others)


def _of_halves(outputs: Sequence[Array], tolerances: Sequence[Tolerance | None]) -> list[Tolerance | None]:
    """The tolerances; that of 16-bit floats is a last digit: near a tie, they are rounded either way."""
    found = list(tolerances)
    for k, (want, known) in enumerate(zip(outputs, tolerances, strict=True)):
        if part := HALF_DIGIT.get(want.dtype.name):
            digit = part * _span(want.astype(np.float64))
            found[k] = Tolerance(max(digit, known.largest if known else 0.0), max(digit, known.mean if known else 0.0))
    return found


def expected_arrays(expected: Expected, number: int) -> dict[str, Array]:
    """It as reference.npz keeps it, for set of shapes `number`: out, tolerance, more1_out ..., an array per output."""
    count = len(expected.outputs)
    arrays = dict(zip(reference_names("out", count, number), expected.outputs, strict=True))
    named = zip(reference_names("tolerance", count, number), expected.tolerances, strict=True)
    arrays |= {name: np.array([t.largest, t.mean]) for name, t in named if t}
    for case, outputs in enumerate(expected.more, 1):
        arrays |= zip(reference_names(f"more{case}_out", count, number), outputs, strict=True)
    return arrays


def read_expected(stored: Mapping[str, Array], count: int, number: int) -> Expected:
    """The reverse; raises KeyError or ValueError where an array is missing or of another kind."""
    tolerances = [
        Tolerance(*map(float, stored[name])) if name in stored else None
        for name in reference_names("tolerance", count, number)
    ]
    more = [reference_names(f"more{case}_out", count, number) for case in range(1, 1 + MORE_INPUTS)]
    return Expected(
        [restored(stored[name]) for name in reference_names("out", count, number)],
        tolerances,
        [[restored(stored[name]) for name in names] for names in more if names and names[0] in stored],
    )


def _tolerance(want: Array, certainty: Certainty, unit: float, drift: Tolerance, relative: float) -> Tolerance | None:
    if certainty <= Certainty.FLOAT or not want.size:
        return None
    if want.dtype in (np.int8, np.uint8):
        unit = 1.0
    largest, mean = unit, unit * max(0.01, 1 / want.size)
    if want.dtype.kind == "f":
        span = _span(want.astype(np.float64))
        largest += span * float(np.finfo(np.float32).eps)  # of two integers times the unit, each rounded to float32
        largest, mean = max(largest, relative * span), max(mean, relative * span)
    if certainty == Certainty.ADRIFT:
        largest = max(largest, drift.largest)
    if certainty == Certainty.ADRIFT or drift.largest <= 1.01 * unit:
        mean = max(mean, 2 * drift.mean)  # a network may be on a tie at every pixel: onnxruntime is off at half of them
    return Tolerance(float(largest), float(mean))


def _drift(
    model: onnx.ModelProto, cases: Sequence[Mapping[str, Array]], expected: Sequence[list[Array]]
) -> list[Tolerance]:
    """For each output the largest and the largest mean error of onnxruntime's own ways to compute it."""
    worst = [Tolerance(0.0, 0.0)] * len(expected[0])
    for way in (runner(model), runner(model, optimised=True)):
        for inputs, outputs in zip(cases, expected, strict=True):
            errors = [element_errors(a, b) for a, b in zip(way(inputs), outputs, strict=True)]
            worst = [
                Tolerance(max(w.largest, float(e.max(initial=0))), max(w.mean, float(e.mean()) if e.size else 0.0))
                for w, e in zip(worst, errors, strict=True)
            ]
    return worst


MORE_INPUTS = 3


def more_inputs(inputs: Mapping[str, Array], ranges: Sequence[Sequence[float]]) -> list[dict[str, Array]]:
    """Further seeded inputs of the same shapes; of number k among n, `seeded_input` number k + n, k + 2 n ...

    Strings change their places.
    """
    return [
        {
            name: np.roll(x, case)
            if x.dtype.kind == "S"
            else seeded_input(k + case * len(inputs), x.shape, x.dtype.name, low, high)
            for k, ((name, x), (low, high)) in enumerate(zip(inputs.items(), ranges, strict=True))
        }
        for case in range(1, 1 + MORE_INPUTS)
    ]


@dataclass(frozen=True)
class OutputError:
    """How far one output is from the reference; `relative` is the error over the reference's largest absolute value."""

    name: str
    absolute: float
    relative: float
    range: float
    passed: bool
    tolerance: float = 0.0
    """The largest error that is accepted, in the output's own units."""
    counts: tuple[int, ...] = ()
    """How many elements are exact, then how many are off by so much of the range, `DECADES`, then how many by more."""


DECADES = tuple(10.0**k for k in range(-9, 1))
"""Upper bounds of errors, as parts of an output's largest absolute value."""


def compare(
    name: str, got: Array, want: Array, tolerance: Tolerance | None = None, relative: float = RELATIVE_TOLERANCE
) -> OutputError:
    """By default integers and strings must be equal, floats within `relative` of the largest."""
    got, want = rows(got), rows(want)
    if got.dtype.kind == want.dtype.kind == "S" and got.shape == want.shape:
        wrong = int((got != want).sum())
        return OutputError(name, float(wrong > 0), float(wrong > 0), float(want.size > 0), not wrong)
    if got.shape != want.shape or got.dtype != want.dtype:
        return OutputError(name, float("inf"), float("inf"), 0.0, False)
    floats = got.dtype.kind == "f" or got.dtype.name in HALF_DIGIT
    if got.size == 0:
        return OutputError(name, 0.0, 0.0, 0.0, True)
    worst = total = span = 0.0
    starts = range(0, got.size, _BLOCK)
    for start in starts:
        span = max(span, _span(want.reshape(-1)[start : start + _BLOCK].astype(np.float64)))
    counts = np.zeros(len(DECADES) + 2, np.int64)
    for start in starts:
        errors = element_errors(*(x.reshape(-1)[start : start + _BLOCK] for x in (got, want)))
        worst, total = max(worst, float(errors.max())), total + float(errors.sum())
        bins = np.where(errors == 0, 0, 1 + np.searchsorted(np.array(DECADES) * span, errors))
        counts += np.bincount(bins, minlength=counts.size)
    usual = max(relative * span, 1e-30) if floats else 0.0
    largest, mean = (
        max(usual, tolerance.largest if tolerance else 0.0),
        max(usual, tolerance.mean if tolerance else 0.0),
    )
    passed = worst <= largest and total / got.size <= mean
    part = worst / span if span else (0.0 if worst == 0 else float("inf"))
    return OutputError(name, worst, part, span, passed, largest, tuple(counts.tolist()))


def element_errors(got: Array, want: Array) -> Array:
    """Absolute errors; of what is equal or NaN in both, zero; of NaN in one, infinity."""
    a, b = got.astype(np.float64), want.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.where(same, 0.0, np.abs(a - b)), nan=np.inf, posinf=np.inf)


def _span(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(np.abs(finite).max()) if finite.size else 0.0
