"""Counts of n-grams of integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import dlpack
from dlpack.pipeline import build


def vectorizer(shape: list[int], **attributes: object) -> onnx.ModelProto:
    pool = {"pool_int64s": [2, 3, 5, 4, 5, 6, 7, 8, 2, 2, 3, 2, 2, 2]} | attributes
    given = {
        "min_gram_length": 1, "max_gram_length": 3, "max_skip_count": 2, "ngram_counts": [0, 3, 11],
        "ngram_indexes": [4, 0, 2, 3, 1, 6, 5, 7], "mode": "TF",
    }  # fmt: skip
    node = helper.make_node("TfIdfVectorizer", ["x"], ["y"], **(given | pool))
    x = helper.make_tensor_value_info("x", TensorProto.INT32, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "words", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=8)


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize("shape", [[12], [3, 12]])
def test_n_grams_are_counted_as_onnx_says(mode: str, shape: list[int], tmp_path: Path) -> None:
    weights = {} if mode == "TF" else {"weights": [0.5, 1.5, 2.0, 0.25, 3.0, 0.75, 1.25, 4.0]}
    model = vectorizer(shape, mode=mode, **weights)
    onnx.save(model, tmp_path / "n.onnx")
    x = np.random.default_rng(3).integers(1, 8, shape).astype(np.int32)
    with dlpack.load(build(tmp_path / "n.onnx", tmp_path / "n")) as p:
        y = p.run({"x": x})["y"]
    (want,) = ReferenceEvaluator(model).run(None, {"x": x})
    assert want.any()
    np.testing.assert_array_equal(y, want)
