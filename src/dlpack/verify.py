"""Verification: a bundle's predictor against onnxruntime's outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dlpack.errors import UsageError
from dlpack.loader import load, read_manifest
from dlpack.reference import OutputError, compare, run_onnxruntime
from dlpack.targets import get_target


def verify_bundle(bundle: Path, model: Path | None = None) -> list[OutputError]:
    """Runs the bundle on its seeded inputs and compares each output.

    The expected outputs are those that onnxruntime gave at build time, or gives now where `model` is named.
    """
    manifest = read_manifest(bundle)
    try:
        with np.load(bundle / "reference.npz") as stored:
            inputs = {t["name"]: stored[f"in_{k}"] for k, t in enumerate(manifest["inputs"])}
            expected = [stored[f"out_{k}"] for k in range(len(manifest["outputs"]))]
    except (OSError, KeyError, ValueError) as e:
        raise UsageError(f"{bundle} has no readable reference.npz: {e}") from e
    if model is not None:
        from dlpack.graph.clean import clean
        from dlpack.graph.load import load_model

        shapes = {t["name"]: tuple(t["shape"]) for t in manifest["inputs"]}
        expected = run_onnxruntime(clean(load_model(model), shapes), inputs)
    run = get_target(manifest["target"]).run
    if run is not None:
        return [
            compare(f"{n} ({build})", outputs[n], want)
            for build, outputs in run(bundle, inputs).items()
            for n, want in zip(outputs, expected, strict=True)
        ]
    with load(bundle) as predictor:
        outputs = predictor.run(inputs)
        return [compare(n, outputs[n], want) for n, want in zip(outputs, expected, strict=True)]
