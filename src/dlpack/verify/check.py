"""Verification: a bundle's predictor against the reference's outputs; `reference.py` says how near is near enough."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dlpack.bundle.folder import check_files
from dlpack.bundle.loader import read_manifest
from dlpack.errors import UsageError
from dlpack.graph.ir import Array
from dlpack.meaning.shape_sets import reference_names, set_name, sets_of
from dlpack.verify.reference import Expected, OutputError, compare, more_inputs, read_expected, reference
from dlpack.verify.run import Run, bundle_runner

Inputs = Mapping[str, Array]


def verify_bundle(bundle: Path, model: Path | None = None) -> list[OutputError]:
    """Runs the bundle on its seeded inputs, in each set of shapes, and compares each output.

    The expected outputs are those that onnxruntime gave at build time, or gives now where `model` is named.
    Raises VerificationError where a file of the bundle is not the one that was built.
    """
    manifest = read_manifest(bundle)
    check_files(bundle, manifest)
    sets = sets_of(manifest)
    cases: list[tuple[Inputs, Expected, list[str]]] = []
    try:
        with np.load(bundle / "reference.npz") as stored:
            for number, s in enumerate(sets):
                names = reference_names("in", len(s["inputs"]), number)
                inputs: Inputs = {t["name"]: stored[name] for t, name in zip(s["inputs"], names, strict=True)}
                expected = read_expected(stored, len(s["outputs"]), number)
                cases.append((inputs, expected, [set_name(s)] if len(sets) > 1 else []))
    except (OSError, KeyError, TypeError, ValueError) as e:
        raise UsageError(f"{bundle} has no readable reference.npz: {e}") from e
    ranges = manifest["ranges"]
    if model is not None:
        from dlpack.model.clean import clean
        from dlpack.model.load import load_model

        proto = load_model(model)
        cases = [
            (inputs, reference(clean(proto, {n: x.shape for n, x in inputs.items()}), inputs, ranges), shape)
            for inputs, _, shape in cases
        ]
    errors = []
    with bundle_runner(bundle, manifest) as run:
        for inputs, expected, shape in cases:
            errors += _compare(run, inputs, expected, ranges, shape)
    return errors


def _compare(
    run: Run,
    inputs: Inputs,
    expected: Expected,
    ranges: list[list[float]],
    shape: list[str],
) -> list[OutputError]:
    """Of each output of each build the worst error over all inputs."""
    worst: dict[str, OutputError] = {}
    given = [inputs, *more_inputs(inputs, ranges)[: len(expected.more)]]
    for x, wanted in zip(given, [expected.outputs, *expected.more], strict=True):
        for build, outputs in run(x).items():
            where = [w for w in (build, *shape) if w]
            label = f" ({', '.join(where)})" if where else ""
            for name, want, tolerance in zip(outputs, wanted, expected.tolerances, strict=True):
                error = compare(f"{name}{label}", outputs[name], want, tolerance)
                before = worst.setdefault(error.name, error)
                if (before.passed, -before.absolute) > (error.passed, -error.absolute):
                    worst[error.name] = error
    return list(worst.values())
