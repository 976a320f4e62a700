"""Operators of com.microsoft that are ONNX's by another name, or a few of them: compiled, against onnxruntime's own
kernels, or against the definition where onnxruntime has kernels for GPUs only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_contrib_operators import Array, compare, floats, integers, one_node


@pytest.mark.parametrize("upper", [0, 1])
def test_triangle(upper: int) -> None:
    compare(*one_node("Trilu", {"x": floats(2, 4, 5), "k": np.array(1)}, upper=upper))


def test_gather_nd() -> None:
    compare(*one_node("GatherND", {"x": floats(3, 4, 5), "i": integers(6, 2, dtype="int64", low=0, high=2)}))


def test_product_of_16_bits() -> None:
    x, y = integers(3, 4, dtype="int16", low=-90, high=90), integers(4, 5, dtype="int16", low=-90, high=90, seed=1)
    compare(*one_node("MatMulInteger16", {"x": x, "y": y}, "z"), rtol=0, atol=0)


@pytest.mark.parametrize("opset", [16, 20])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_grid_sample(mode: str, opset: int) -> None:
    inputs = {"x": floats(1, 2, 5, 6), "g": floats(1, 3, 4, 2, seed=1)}
    compare(*one_node("GridSample", inputs, version=opset, run_time="x g", mode=mode, align_corners=1))


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_pad(mode: str) -> None:
    value = np.array([1.5], np.float32) if mode == "constant" else None
    compare(*one_node("Pad", {"x": floats(3, 4), "p": np.array([1, 0, 2, 1]), "v": value}, mode=mode))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_expand_dims(axis: int) -> None:
    compare(*one_node("ExpandDims", {"x": floats(3, 4), "a": np.array(axis, np.int32)}))


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean"])
def test_distances(metric: str) -> None:
    compare(*one_node("CDist", {"x": floats(3, 4), "z": floats(5, 4, seed=1)}, run_time="x z", metric=metric))


def sigmoid(x: Array) -> Any:
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def test_fused_for_gpus() -> None:
    x, w, b, skip = floats(2, 3, 8), floats(8, 5, seed=1), floats(5, seed=2), floats(2, 3, 8, seed=3)
    z = (x @ w + b).astype(np.float64)
    gelu = z / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))
    compare(*one_node("GemmFastGelu", {"x": x, "w": w, "b": b}), want=[gelu.astype(np.float32)])
    bias = floats(8, seed=2)
    compare(*one_node("BiasAdd", {"x": x, "b": bias, "s": skip}, run_time="x s"), want=[x + bias + skip])


@pytest.mark.parametrize("inner", [0, 1])
def test_softmax_of_a_sum(inner: int) -> None:
    x = floats(2, 3, 4, 5)
    bias = floats(2, 1, 1, 5, seed=1) if inner else floats(4, 5, seed=1)
    e = np.exp((x + bias).astype(np.float64))
    want = (e / e.sum(-1, keepdims=True)).astype(np.float32)
    compare(*one_node("BiasSoftmax", {"x": x, "b": bias}, axis=3, is_inner_broadcast=inner), want=[want])


@pytest.mark.parametrize(("last", "skip"), [(0, False), (1, False), (1, True)])
@pytest.mark.parametrize("silu", [0, 1])
def test_group_norm(silu: int, last: int, skip: bool) -> None:
    x, added = floats(2, 4, 5, 6), floats(2, 4, 5, 6, seed=3)
    channels = 6 if last else 4
    gamma, beta = floats(channels, seed=1), floats(channels, seed=2)
    total = (x + added if skip else x).astype(np.float64)
    first = np.moveaxis(total, -1, 1) if last else total
    rows = first.reshape(2, 2, -1)
    rows = (rows - rows.mean(-1, keepdims=True)) / np.sqrt(rows.var(-1, keepdims=True) + 1e-5)
    y = rows.reshape(first.shape) * gamma[:, None, None] + beta[:, None, None]
    y = y * sigmoid(y) if silu else y
    y = (np.moveaxis(y, 1, -1) if last else y).astype(np.float32)
    attrs = {"groups": 2, "activation": silu, "channels_last": last, "epsilon": 1e-5}
    inputs = {"x": x, "g": gamma, "b": beta} | ({"s": added} if skip else {})
    want = [y, total.astype(np.float32)] if skip else [y]
    name, outputs = ("SkipGroupNorm", "y sum") if skip else ("GroupNorm", "y")
    compare(*one_node(name, inputs, outputs, run_time="x s", **attrs), want=want)


@pytest.mark.parametrize("given", [False, True])
def test_scaled_silu(given: bool) -> None:
    inputs = {"x": floats(3, 8), "s": np.array(0.7, np.float32)}
    compare(*one_node("ScaledSiLU", inputs if given else {"x": inputs["x"]}, alpha=1.3))


@pytest.mark.parametrize("weight", [False, True])
def test_gated_add(weight: bool) -> None:
    inputs = {"x": floats(2, 3, 8), "y": floats(2, 3, 8, seed=1), "g": floats(2, 3, 5 if weight else 1, seed=2)}
    want = None
    if weight:  # onnxruntime has this for 16-bit floats alone
        w = floats(5, 1, seed=3)
        want = [(inputs["x"] + inputs["y"] * sigmoid(inputs["g"] @ w)).astype(np.float32)]
        inputs["w"] = w
    compare(*one_node("GatedAdd", inputs, "z", run_time="x y g"), want=want)


@pytest.mark.parametrize("together", [False, True])
def test_swiglu(together: bool) -> None:
    gate, up = 2 * floats(3, 8), 2 * floats(3, 8, seed=1)
    g, u = np.minimum(gate, 1.5), np.clip(up, -1.5, 1.5)
    want = (g * sigmoid(1.7 * g) * (u + 1)).astype(np.float32)
    inputs = {"x": np.concatenate((gate, up), 1)} if together else {"x": gate, "u": up}
    attrs = {"limit": 1.5, "activation_alpha": 1.7, "activation_beta": 1.0}
    compare(*one_node("SwiGLU", inputs, run_time="x u", **attrs), want=[want])


@pytest.mark.parametrize("activation", ["silu", "sigmoid"])
def test_gated_rms_norm(activation: str) -> None:
    inputs = {"x": floats(2, 3, 16), "s": floats(8, seed=1), "g": floats(2, 3, 16, seed=2)}
    compare(*one_node("GatedRMSNorm", inputs, run_time="x g", activation=activation, epsilon=1e-4))


@pytest.mark.parametrize("scale", [(), (8,), (2, 8), (16,)])
@pytest.mark.parametrize("flat", [False, True])
def test_branchwise_rms_norm(flat: bool, scale: tuple[int, ...]) -> None:
    inputs = {"x": floats(3, 16) if flat else floats(3, 2, 8)} | ({"s": floats(*scale, seed=1)} if scale else {})
    attrs = {"num_branches": 2} if flat else {}
    compare(*one_node("BranchwiseRMSNorm", inputs, epsilon=1e-4, **attrs))


@pytest.mark.parametrize("n", [8, 12])
def test_fourier_transforms(n: int) -> None:
    """onnxruntime has these for GPUs only: the expected values are numpy's."""
    x = floats(2, 3, n)
    spectrum = np.fft.rfft(x)
    pairs = np.stack((spectrum.real, spectrum.imag), -1).astype(np.float32)
    attrs = {"signal_ndim": 1, "normalized": 0, "onesided": 1}
    compare(*one_node("Rfft", {"x": x}, **attrs), want=[pairs])
    given = floats(2, n // 2 + 1, 2, seed=1)
    want = np.fft.irfft(given[..., 0] + 1j * given[..., 1])
    compare(*one_node("Irfft", {"x": given}, **attrs), want=[want.astype(np.float32)])
