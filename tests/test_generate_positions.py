"""Decoders whose exports count positions from the slots of the past, and what they write with a cache that has gaps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from decoders import Decoder, Grown

import dlpack
from dlpack.options import Options
from dlpack.pipeline import build

NET = Decoder(layers=2, width=16, heads=2, kv=1, hidden=16, vocabulary=31)


@pytest.mark.parametrize(
    "net",
    [replace(NET, slots=True), replace(NET, window=3), replace(NET, window=40), replace(NET, slots=True, window=9)],
    ids=["no position_ids", "window of 3", "window longer than some texts", "both"],
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
