"""Decoders as onnxruntime's model builder makes them: GroupQueryAttention, and products that round to 8 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from decoders import Decoder, Grown
from onnx import TensorProto, helper, numpy_helper

import dlpack
from dlpack.errors import UnsupportedError
from dlpack.meaning.generation import BLOCK, Generation, generation_of
from dlpack.model.past_group import in_slots
from dlpack.pipeline import Options, build
from dlpack.verify.check import verify_bundle
from dlpack.verify.decoder import GrowingDecoder, check_slots

CONTEXT, VOCABULARY, SIZE = 40, 37, 16
PROMPT = [int(t) for t in np.random.default_rng(3).integers(0, VOCABULARY, BLOCK + 3)]


def grouped(**attrs: Any) -> onnx.ModelProto:
    net = Decoder(layers=1, width=4 * SIZE, heads=4, kv=2, hidden=20, vocabulary=VOCABULARY, seed=5, grouped=attrs)
    return net.model()


@pytest.mark.parametrize(
    "attrs",
    [{}, {"rotary_interleaved": 1, "softcap": 2.0}, {"smooth_softmax": 1, "scale": 0.7}, {"local_window_size": 2}],
    ids=["packed", "pairs", "sink", "window"],
)
def test_grouped_attention_is_right_with_gaps(attrs: dict[str, Any]) -> None:
    """As onnxruntime's model builder has it: the operator itself takes no gaps."""
    model = grouped(**attrs)
    found = generation_of(model, CONTEXT, {})
    assert found is not None
    check_slots(model, in_slots(model, found), found, VOCABULARY)
    with pytest.raises(UnsupportedError, match="where slots of its past are masked"):
        check_slots(model, model, found, VOCABULARY)


def test_grouped_attention_writes_the_same(tmp_path: Path) -> None:
    model = grouped(local_window_size=9)
    onnx.save(model, tmp_path / "net.onnx")
    predictor = dlpack.load(build(tmp_path / "net.onnx", tmp_path / "bundle", Options(context=CONTEXT)))
    assert all(e.passed for e in verify_bundle(tmp_path / "bundle", tmp_path / "net.onnx"))
    assert predictor.generate(PROMPT, 15) == Grown(model, SIZE).greedy(PROMPT, 15)


def test_grouped_attention_that_is_not_causal_is_refused() -> None:
    model = grouped(causal=0)
    found = generation_of(model, CONTEXT, {})
    assert found is not None
    with pytest.raises(UnsupportedError) as refused:
        in_slots(model, found)
    assert "causal = 0" in refused.value.problems[0] and "group_0" in refused.value.problems[0]


def test_the_reference_does_not_round_what_is_multiplied_with_few_bits() -> None:
    """onnxruntime does with accuracy_level 4, which its model builder writes."""
    sizes: dict[str, Any] = {"K": 64, "N": 32, "bits": 4, "block_size": 32, "accuracy_level": 4}
    rng = np.random.default_rng(1)
    codes, x = rng.integers(0, 16, (32, 64), np.uint8), rng.standard_normal((1, 64), np.float32)
    weights = {"codes": (codes[:, ::2] | codes[:, 1::2] << 4).reshape(32, 2, 16), "scales": np.ones(64, np.float32)}
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMulNBits", ["x", *weights], ["y"], domain="com.microsoft", **sizes)],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 32])],
            [numpy_helper.from_array(value, name) for name, value in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)],
        ir_version=9,
    )
    (y,) = GrowingDecoder(model, Generation("", "", "", "y", {"x": ""}, {})).run({"x": x})
    np.testing.assert_allclose(y, x @ (codes.astype(np.float32) - 8).T, atol=1e-4)
