"""Decoders whose exports count positions from the slots of the past, and what they write with a cache that has gaps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from decoders import Decoder, Grown

import dlpack
from dlpack.bundle.loader import read_manifest
from dlpack.model.rounded import round_weights
from dlpack.options import Options
from dlpack.pipeline import build
from dlpack.verify.check import verify_bundle

NET = Decoder(layers=2, width=16, heads=2, kv=1, hidden=16, vocabulary=31)


@pytest.mark.parametrize(
    "net",
    [
        replace(NET, slots=True),
        replace(NET, window=3),
        replace(NET, window=40),
        replace(NET, slots=True, window=9),
        replace(NET, window=5, table=200),
        replace(NET, window=5, table=64),
        replace(NET, table=64),
    ],
    ids=[
        "no position_ids",
        "window of 3",
        "window longer than some texts",
        "both",
        "window cut out of a table",
        "a table of the context",
        "a causal table of the context",
    ],
)
def test_positions_are_those_of_the_text(net: Decoder, tmp_path: Path) -> None:
    """A window that is longer than the text of the verification is counted by slots in no set of shapes."""
    model = net.model()
    onnx.save(model, tmp_path / "net.onnx")
    bundle = build(tmp_path / "net.onnx", tmp_path / "bundle", Options(context=64))
    text = [int(t) for t in np.random.default_rng(4).integers(0, 31, 60)]
    with dlpack.load(bundle) as predictor:
        grown = Grown(model)
        for a, b in ((0, 1), (1, 8), (8, 41), (41, 42), (42, 60)):
            wanted = grown.read(text[a:b])[-1]
            predictor.append(text[a:b])
            np.testing.assert_allclose(predictor.scores(), wanted, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("window", [0, 5])
def test_weights_of_sixteen_bits(window: int, tmp_path: Path) -> None:
    """The reference of a text is the export with rounded weights; `verify` finds the same without the build."""
    model = replace(NET, width=48, vocabulary=61, window=window).model()
    onnx.save(model, tmp_path / "net.onnx")
    bundle = build(tmp_path / "net.onnx", tmp_path / "bundle", Options(context=24, weights_type="float16"))
    manifest = read_manifest(bundle)
    (change,) = manifest["precision"]["changes"]
    assert manifest["precision"]["weights"] == "float16" and 1e-6 < change["largest"] < 1e-2
    assert all(e.passed for e in verify_bundle(bundle, tmp_path / "net.onnx"))
    round_weights(model, "float16")
    grown, text = Grown(model), [*range(20)]
    with dlpack.load(bundle) as predictor:
        predictor.append(text)
        wanted = grown.read(text)[-1]
        np.testing.assert_allclose(predictor.scores(), wanted, atol=2e-5 * np.abs(wanted).max())
