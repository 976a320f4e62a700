"""The benchmark of decoders: every engine's file has the same numbers, and the page is that of the results kept."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from bench.decoders.measure import agreeing
from bench.decoders.model import BLOCK, Sizes, _as_blocks, _paired, make_onnx, products, quantised, weight_bytes
from bench.decoders.page import PAGE, markdown
from bench.decoders.results import read_all

SMALL = Sizes(layers=1, width=64, heads=2, kv=1, hidden=96, vocabulary=64, context=16)


@pytest.mark.parametrize(("form", "bits"), [("int8", 8), ("int4", 4)])
def test_llama_cpp_and_onnx_have_the_same_weights(form: str, bits: int) -> None:
    name, weights = next(iter(products(SMALL)))
    blocks = _as_blocks(weights, bits).reshape(len(weights), -1, 2 + BLOCK * bits // 8)
    scales = blocks[:, :, :2].copy().view(np.float16)[:, :, 0]
    bytes_ = blocks[:, :, 2:]
    low = bytes_.view(np.int8) if bits == 8 else np.concatenate([bytes_ & 15, bytes_ >> 4], axis=2).astype(np.int8) - 8
    model = make_onnx(SMALL, form)
    held = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    codes = held[f"{name}.codes"]
    if bits == 4:
        codes = np.stack([codes & 15, codes >> 4], axis=3).reshape(*codes.shape[:2], BLOCK)
    np.testing.assert_array_equal(low, codes.astype(np.int16) - (1 << (bits - 1)))
    np.testing.assert_array_equal(scales.astype(np.float32).reshape(-1), held[f"{name}.scales"])
    near = (low * scales[:, :, None].astype(np.float32)).reshape(weights.shape)
    assert np.abs(near - weights).max() <= np.abs(weights).max() / (1 << (bits - 1))
    total = sum(t.nbytes for key, t in held.items() if key.endswith((".codes", ".scales")))
    assert total == weight_bytes(form, SMALL)


def test_scales_are_16_bits_and_pairs_are_neighbours() -> None:
    _, scales = quantised(np.random.default_rng(1).standard_normal((4, 64), np.float32), 8)
    np.testing.assert_array_equal(scales, scales.astype(np.float16))
    rows = np.arange(8, dtype=np.float32)[:, None]
    assert _paired(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_tokens_agree_up_to_the_first_that_differs() -> None:
    assert [agreeing(t, [1, 2, 3]) for t in ([1, 2, 3], [1, 5, 3], [4, 2, 3])] == [3, 1, 0]


def test_the_page_is_what_was_kept() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown(read_all())
