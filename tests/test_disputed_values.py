"""Operators whose rarer options onnxruntime computes otherwise than one would guess: compiled, against onnxruntime.

ONNX's node tests have none of these, or expect what onnx's evaluator computes, which is not what runs models.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from conformance.batch import run_cases
from conformance.cases import Case
from conformance.harness import MACHINES
from onnx import helper, numpy_helper

Arrays = dict[str, np.ndarray[Any, Any]]


def one_node(
    op: str, x: Any, weights: Arrays, opset: int, inputs: list[str] | None = None, outputs: int = 1, **attrs: Any
) -> onnx.ModelProto:
    names = [f"y{k}" for k in range(outputs)]
    node = helper.make_node(op, inputs or ["x", *weights], names, **attrs)
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", kind, x.shape)],
        [helper.make_tensor_value_info(name, kind, None) for name in names],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", opset)])


def compiled_differs(model: onnx.ModelProto, x: Any, want: Any = None, rtol: float = 1e-4) -> list[str]:
    """What is wrong with the compiled model's outputs; by default they are expected to be onnxruntime's."""
    if want is None:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        want = session.run(None, {"x": x})
    case = Case("case", model.graph.node[0].op_type, "", model, (((x,), tuple(want)),), rtol, rtol / 10)
    return [result.detail for result in run_cases([case], MACHINES["avx2"], lambda _: None) if result.detail]


def random(*shape: int, seed: int = 0) -> Any:
    return (np.random.default_rng(seed).random(shape) * 2 - 1).astype(np.float32)


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("scale", [0.6, 1.3, 1.7])
def test_align_corners_aligns_them_for_any_scale(mode: str, scale: float) -> None:
    """The exporter's test of this checked scales that give whole sizes; onnx's own test expects no aligned corners."""
    x = random(1, 2, 5, 7)
    scales = np.array([1, 1, scale, scale], np.float32)
    options = {"mode": mode, "coordinate_transformation_mode": "align_corners"}
    assert compiled_differs(one_node("Resize", x, {"s": scales}, 13, ["x", "", "s"], **options), x) == []


@pytest.mark.parametrize("scale", [0.6, 1.3, 1.7])
def test_a_crop_ends_at_the_last_place_for_any_scale(scale: float) -> None:
    """ONNX's tests crop to whole sizes; its evaluator ends beyond the last place, at the size before it is rounded."""
    x = random(1, 2, 5, 7)
    weights = {
        "r": np.array([0, 0, 0.1, 0.2, 1, 1, 0.9, 1.3], np.float32),
        "s": np.array([1, 1, scale, scale], np.float32),
    }
    options = {"coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 3.0}
    for mode in ("nearest", "linear"):
        assert compiled_differs(one_node("Resize", x, weights, 13, mode=mode, **options), x) == []


def _lstm(x: Any, peepholes: bool, **attrs: Any) -> onnx.ModelProto:
    weights = {
        "w": random(2, 20, 3, seed=1),
        "r": random(2, 20, 5, seed=2),
        "b": random(2, 40, seed=3),
        "n": np.array([4, 2], np.int32),
        "h": random(2, 2, 5, seed=4),
        "c": random(2, 2, 5, seed=5),
        **({"p": random(2, 15, seed=6)} if peepholes else {}),
    }
    attrs |= {"direction": "bidirectional", "hidden_size": 5}
    return one_node("LSTM", x, weights, 14, outputs=3, **attrs)


@pytest.mark.parametrize("peepholes", [False, True])
@pytest.mark.parametrize("clip", [0.0, 0.3])
@pytest.mark.parametrize("input_forget", [0, 1])
def test_lstm_couples_and_clips_gates(peepholes: bool, clip: float, input_forget: int) -> None:
    """ONNX's tests of LSTM set neither `clip` nor `input_forget`, and the evaluator ignores both."""
    x = 3 * random(4, 2, 3)
    attrs = {"input_forget": input_forget} | ({"clip": clip} if clip else {})
    assert compiled_differs(_lstm(x, peepholes, **attrs), x) == []


def test_batch_normalization_by_place() -> None:
    """ONNX's tests are of opset 9 and newer, which have no `spatial`."""
    x = random(2, 3, 4)
    weights = {name: np.abs(random(3, 4, seed=k)) for k, name in enumerate("sbmv", 1)}
    assert compiled_differs(one_node("BatchNormalization", x, weights, 7, spatial=0), x) == []


def test_a_mean_fits_where_the_sum_does_not() -> None:
    """ONNX's tests of means are of floats."""
    x = np.array([[2**31 - 1, 2**31 - 1, 1], [5, -6, -6], [-(2**31), -(2**31), -(2**31) + 2]], np.int32)
    assert compiled_differs(one_node("ReduceMean", x, {}, 13, axes=[1], keepdims=0), x) == []


@pytest.mark.parametrize("exponent", [1, 2, 3, 5, 41])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_integer_powers_are_exact_and_wrap(exponent: int, dtype: str) -> None:
    """Exact where the result fits and onnxruntime, which computes in double, is not; beyond it wraps, as products do.

    ONNX's tests compare small integers only.
    """
    info = np.iinfo(dtype)
    values = [3, -3, 2**21 + 1, info.max, info.min, *([2**53 + 1, 2**60 + 1] if dtype == "int64" else [])]
    want = [(v**exponent - info.min) % (1 << info.bits) + info.min for v in values]
    x = np.array(values, dtype)
    model = one_node("Pow", x, {"e": np.array(exponent, dtype)}, 15)
    assert compiled_differs(model, x, [np.array(want, dtype)], 0) == []
