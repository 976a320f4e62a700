"""A trial run of a model: seeded inputs, and what the reference computes from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlpack.amalgamate.selftest import Sample, SelfTest
from dlpack.bundle.arrays import storable
from dlpack.bundle.texts import is_text, words_of
from dlpack.errors import ModelError
from dlpack.graph.ir import SMALL_INTEGERS, Graph
from dlpack.meaning.shape_sets import reference_names
from dlpack.plan.program import Program
from dlpack.verify.ranges import ATTEMPTS, Range, describe_ranges, input_ranges
from dlpack.verify.reference import (
    HALF_DIGIT,
    RELATIVE_TOLERANCE,
    Expected,
    expected_arrays,
    reference,
    seeded_input,
)
from dlpack.verify.runners import ValuesRefused


@dataclass(frozen=True)
class Trial:
    """Seeded inputs of one set of shapes, the ranges that they are in, and what shall be computed from them."""

    ranges: tuple[tuple[float, float], ...]
    inputs: dict[str, Any]
    expected: Expected
    tolerance: float = RELATIVE_TOLERANCE
    """The usual tolerance, as a part of an output's largest absolute value."""
    words: tuple[tuple[str, ...], ...] = ()
    """Of each input the strings that its seeded numbers stand for, none where it is none of strings."""


def try_model(
    proto: Any,
    graph: Graph,
    metadata: Mapping[str, str],
    tolerance: float = RELATIVE_TOLERANCE,
    said: Mapping[str, Range] | None = None,
) -> Trial:
    """Runs the reference on seeded inputs; on smaller integers where it refuses those that it is given.

    `said`: ranges of inputs, as `--range` has them. Raises ModelError for a model that does not run, or whose outputs
    have other shapes than it seemed, UsageError for ranges that do not fit.
    """
    types = [graph.border(n) for n in graph.inputs]
    kinds = ["float64" if is_text(t.dtype) else t.dtype for t in types]  # a string by its number
    refused: tuple[str, str] | None = None
    for part in ATTEMPTS:
        ranges = input_ranges(graph, metadata, said, part)
        arrays = [seeded_input(k, t.shape, kinds[k], *ranges[k]) for k, t in enumerate(types)]
        given = dict(zip(graph.inputs, arrays, strict=True))
        given |= {n: words_of(given[n], graph.words[n], graph.strings[n]) for n in graph.words}
        try:
            expected = reference(proto, given, ranges, tolerance)
            break
        except ValuesRefused as e:
            refused = refused or (str(e), describe_ranges(graph, ranges))
    else:
        why, tried = refused or ("", "")
        raise ModelError(
            f"{why}\nThe seeded inputs were {tried or 'floats'}, then smaller. Say what the inputs may be: --range "
            "INPUT=LOW:HIGH, or the model's metadata key dlpack.ranges"
        )
    for name, value in zip(graph.outputs, expected.outputs, strict=False):  # true shapes come last
        largest = graph.border(name).shape
        if name in graph.sizes and any(map(int.__gt__, value.shape, largest)):
            raise ModelError(
                f"the output '{name}' has the shape {list(value.shape)} for seeded inputs; {list(largest)} is the "
                "largest: state a larger --max, or other values of the inputs with --range"
            )
        if not _fits(value.shape, largest, name in graph.sizes):
            raise ModelError(
                f"the output '{name}' has the shape {list(value.shape)}, though its operators' attributes and operands "
                f"say {list(largest)}; the file is damaged: export or download it again"
            )
    return Trial(ranges, given, expected, tolerance, tuple(graph.words.get(n, ()) for n in graph.inputs))


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...], sized: bool) -> bool:
    """Whether a value may have this shape; `sized`: `wanted` is the largest."""
    return shape == wanted or (sized and len(shape) == len(wanted) and all(map(int.__le__, shape, wanted)))


def self_test(program: Program, number: int, trial: Trial, least: float = 0.0) -> SelfTest:
    """What the emitted file's self-test checks in the set of shapes of that number: some elements of each output, with
    a tolerance of `least` of its range at the least."""
    shape_set, samples = program.shape_sets[number], []
    own = dict(zip((t.name for t in shape_set.outputs), trial.expected.outputs, strict=False))
    shapes = {t.true_shape: np.array(own[t.name].shape, np.int64) for t in shape_set.outputs if t.true_shape}
    exceeded = [np.zeros([0], np.int64) for t in shape_set.outputs if t.limits]  # the reference does not say it
    wanted = [*trial.expected.outputs, *shapes.values(), *exceeded]
    tolerances = [*trial.expected.tolerances, *(None for _ in (*shapes, *exceeded))]
    for t, want, given in zip(shape_set.outputs, wanted, tolerances, strict=True):
        flat = np.asarray(want).reshape(-1)
        if is_text(t.dtype):
            samples.append(_text_sample(flat, t.shape, want.shape))
            continue
        flat = flat.astype(np.float32) if t.dtype in HALF_DIGIT else flat.astype(SMALL_INTEGERS.get(t.dtype, t.dtype))
        places = np.unique(np.linspace(0, max(0, flat.size - 1), min(64, flat.size)).astype(np.int64))
        finite = flat[np.isfinite(flat)] if flat.dtype.kind == "f" else flat
        span = max(abs(float(finite.max())), abs(float(finite.min()))) if finite.size else 0.0
        usual = span * max(trial.tolerance, least) if flat.dtype.kind == "f" else 0.0
        tolerance = max(usual, given.largest if given else 0.0)
        values = tuple(float(flat[p]) for p in places if p < flat.size)
        if want.shape != t.shape and places.size:  # in the largest shape they lie elsewhere
            places = np.ravel_multi_index(np.unravel_index(places, want.shape), t.shape) if want.size else places[:0]
        samples.append(Sample(tuple(int(p) for p in places) if t.nbytes else (), values[: len(places)], tolerance))
    return SelfTest(trial.ranges, tuple(samples), trial.words, number)


def _text_sample(flat: Any, shape: tuple[int, ...], true_shape: tuple[int, ...]) -> Sample:
    """Some strings of an output."""
    places = np.unique(np.linspace(0, max(0, flat.size - 1), min(16, flat.size)).astype(np.int64))
    there = np.ravel_multi_index(np.unravel_index(places, true_shape), shape) if places.size else places
    return Sample(tuple(int(p) for p in there), (), 0.0, tuple(flat[p].decode() for p in places))


def write_trials(file: Path, trials: Iterable[Trial]) -> None:
    """Writes reference.npz: inputs and expected outputs of every set of shapes."""
    arrays: dict[str, Any] = {}
    for number, t in enumerate(trials):
        arrays |= zip(reference_names("in", len(t.inputs), number), t.inputs.values(), strict=True)
        arrays |= expected_arrays(t.expected, number)
    kept: dict[str, Any] = {name: storable(array) for name, array in arrays.items()}
    np.savez(file, **kept)
