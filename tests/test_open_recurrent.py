"""Recurrent networks along an open dimension: `--shape x=1x{1..40}x6`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper
from shape_bundles import close, expected
from test_open_batch import model

import dlpack
from dlpack.meaning.open_batch import opened_batch
from dlpack.pipeline import Options, build

LARGEST = 40
node = helper.make_node


def network() -> ModelProto:
    """As PyTorch exports them: an LSTM in both directions, a GRU backwards that ends where a text does, an RNN; and
    attention over the steps, which reads what lies behind a run's last."""
    rng = np.random.default_rng(5)

    def weights(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / 3).astype(np.float32)

    return model(
        [
            node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
            node("LSTM", ["steps", "wl", "rl", "bl"], ["l0", "lh", "lc"], "lstm", hidden_size=8,
                 direction="bidirectional"),
            node("Transpose", ["l0"], ["l1"], perm=[0, 2, 1, 3]),
            node("Reshape", ["l1", "flat"], ["l"]),
            node("GRU", ["l", "wg", "rg", "", "length"], ["g0", "gh"], "gru", hidden_size=5, direction="reverse"),
            node("Squeeze", ["g0", "one"], ["g"]),
            node("RNN", ["g", "wr", "rr", "br"], ["r0", "rh"], "rnn", hidden_size=4),
            node("Squeeze", ["r0", "one"], ["r"]),
            node("MatMul", ["r", "score"], ["scores"]),
            node("Softmax", ["scores"], ["shares"], axis=0),
            node("Mul", ["shares", "r"], ["parts"]),
            node("ReduceSum", ["parts", "zero"], ["pooled"], keepdims=0),
            node("Transpose", ["l"], ["all"], perm=[1, 0, 2]),
        ],
        {"x": ([1, "n", 6], TensorProto.FLOAT), "length": ([1], TensorProto.INT32)},
        ["all", "lh", "lc", "gh", "rh", "pooled"],
        wl=weights(2, 32, 6), rl=weights(2, 32, 8), bl=weights(2, 64), wg=weights(1, 15, 16), rg=weights(1, 15, 5),
        wr=weights(1, 4, 5), rr=weights(1, 4, 4), br=weights(1, 8), score=weights(4, 1),
        flat=np.int64([0, 0, -1]), one=np.int64([1]), zero=np.int64([0]),
    )  # fmt: skip


def test_loops_have_as_many_trips_as_a_run_has_steps(tmp_path: Path) -> None:
    """Backwards they begin at a run's last step, whatever a longer run has left behind it."""
    path = tmp_path / "net.onnx"
    onnx.save(network(), path)
    _, batch = opened_batch([f"x=1x{{1..{LARGEST}}}x6"])
    bundle = build(path, tmp_path / "net", Options(shapes={"x": (1, 1, 6)}, batch=batch, ranges={"length": (1, 1)}))
    text = (bundle / "net.cc").read_text()
    assert text.count("t < static_cast<size_t>(extent)") == text.count("t = static_cast<size_t>(extent); t-- > 0") == 2
    with dlpack.load(bundle) as predictor:
        for n in (40, 1, 2, 3, 13, 31, 32, 39):
            x = np.random.default_rng(n).standard_normal((1, n, 6), np.float32)
            asked = {"x": x, "length": np.int32([1 + n // 2])}
            close(predictor.run(asked), expected(path, asked))
