"""Products with matrices that a run chooses from a table: read in place, and right for every place."""

from __future__ import annotations

from pathlib import Path

import nets
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from dlpack.bundle.loader import load, read_kernels
from dlpack.pipeline import build

RNG = np.random.default_rng(7)


def _model(path: Path, table: tuple[int, int, int], rows: int, count: int, turned: bool, seen: bool = False) -> None:
    """x [count, rows, K] times chosen matrices [K, N], or chosen ones [N, K] times x [count, K, 1], and a bias."""
    entries, size, columns = table
    weights = RNG.standard_normal((entries, columns, size) if turned else (entries, size, columns)).astype(np.float32)
    x, y = ((count, size, 1), (count, columns, 1)) if turned else ((count, rows, size), (count, rows, columns))
    node = helper.make_node
    nodes = [
        node("Gather", ["table", "places"], ["chosen"], axis=0),
        node("MatMul", ["chosen", "x"] if turned else ["x", "chosen"], ["product"]),
        node("Add", ["product", "bias"], ["y"]),
    ]
    constants = {"table": weights, "bias": RNG.standard_normal(y[1:]).astype(np.float32)}
    outputs = {"y": y, **({"chosen": (count, *weights.shape[1:])} if seen else {})}
    model = nets.model(nodes, {"x": x, "places": (count,)}, outputs, constants)
    model.graph.input[1].type.tensor_type.elem_type = onnx.TensorProto.INT64
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("table", "rows", "count", "turned"),
    [
        ((4, 24, 160), 1, 6, True),
        ((5, 33, 70), 1, 7, True),  # no whole vectors
        ((3, 40, 64), 1, 4, False),
        ((3, 40, 64), 5, 4, False),
        ((6, 48, 300), 1, 1, True),
        ((2, 7, 5), 3, 3, False),
    ],
)
def test_products_with_chosen_matrices(
    tmp_path: Path, table: tuple[int, int, int], rows: int, count: int, turned: bool
) -> None:
    _model(tmp_path / "chosen.onnx", table, rows, count, turned)
    bundle = build(tmp_path / "chosen.onnx", tmp_path / "b")
    computed = [k["computes"] for k in read_kernels(bundle)]
    assert any("ChosenMatMul" in text for text in computed) and not any("Gather" in text for text in computed)
    model = load(bundle)
    weights = {i.name: numpy_helper.to_array(i) for i in onnx.load(tmp_path / "chosen.onnx").graph.initializer}
    x = RNG.standard_normal((count, *((table[1], 1) if turned else (rows, table[1])))).astype(np.float32)
    for places in (np.arange(count) % table[0], np.full(count, table[0] - 1), -1 - np.arange(count) % table[0]):
        got = model.run({"x": x, "places": places.astype(np.int64)})["y"]
        chosen = weights["table"][places].astype(np.float64)
        want = (chosen @ x if turned else x @ chosen) + weights["bias"]
        assert np.abs(got - want).max() < 1e-4


def test_matrices_that_are_an_output_are_gathered(tmp_path: Path) -> None:
    _model(tmp_path / "chosen.onnx", (3, 16, 32), 1, 4, True, seen=True)
    computed = [k["computes"] for k in read_kernels(build(tmp_path / "chosen.onnx", tmp_path / "b"))]
    assert any(text.startswith("Gather") for text in computed)
