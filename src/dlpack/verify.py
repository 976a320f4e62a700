"""Verification: a bundle's predictor against the reference's outputs; `reference.py` says how near is near enough."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dlpack.errors import UsageError
from dlpack.graph.ir import Array
from dlpack.loader import load, read_manifest
from dlpack.reference import OutputError, Tolerance, compare, reference
from dlpack.shape_sets import reference_names, set_name, sets_of
from dlpack.targets import get_target


def verify_bundle(bundle: Path, model: Path | None = None) -> list[OutputError]:
    """Runs the bundle on its seeded inputs, in each set of shapes, and compares each output.

    The expected outputs are those that onnxruntime gave at build time, or gives now where `model` is named.
    """
    manifest = read_manifest(bundle)
    sets = sets_of(manifest)
    cases = []
    try:
        with np.load(bundle / "reference.npz") as stored:
            for number, s in enumerate(sets):
                names = reference_names("in", len(s["inputs"]), number)
                inputs = {t["name"]: stored[name] for t, name in zip(s["inputs"], names, strict=True)}
                expected = [stored[name] for name in reference_names("out", len(s["outputs"]), number)]
                names = reference_names("tolerance", len(s["outputs"]), number)
                tolerances = [Tolerance(*map(float, stored[n])) if n in stored else None for n in names]
                cases.append((inputs, expected, tolerances, [set_name(s)] if len(sets) > 1 else []))
    except (OSError, KeyError, TypeError, ValueError) as e:
        raise UsageError(f"{bundle} has no readable reference.npz: {e}") from e
    if model is not None:
        from dlpack.graph.clean import clean
        from dlpack.graph.load import load_model

        proto = load_model(model)
        cases = [
            (
                inputs,
                *reference(clean(proto, {n: x.shape for n, x in inputs.items()}), inputs, manifest["ranges"]),
                shape,
            )
            for inputs, _, _, shape in cases
        ]
    run = get_target(manifest["target"]).run
    errors = []
    if run is not None:
        for inputs, expected, tolerances, shape in cases:
            for build, outputs in run(bundle, inputs).items():
                errors += _compare(outputs, expected, tolerances, [build, *shape])
        return errors
    with load(bundle) as predictor:
        for inputs, expected, tolerances, shape in cases:
            errors += _compare(predictor.run(inputs), expected, tolerances, shape)
    return errors


def _compare(
    outputs: Mapping[str, Array], expected: list[Array], tolerances: list[Tolerance | None], where: list[str]
) -> list[OutputError]:
    label = f" ({', '.join(where)})" if where else ""
    pairs = zip(outputs, expected, tolerances, strict=True)
    return [compare(f"{n}{label}", outputs[n], want, tolerance) for n, want, tolerance in pairs]
