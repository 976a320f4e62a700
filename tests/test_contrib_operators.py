"""Operators of com.microsoft: compiled, against onnxruntime's own kernels, options and optional inputs included."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from conformance.batch import run_cases
from conformance.cases import Case
from conformance.harness import MACHINES
from onnx import helper, numpy_helper

Array = np.ndarray[Any, Any]
MICROSOFT = "com.microsoft"


def floats(*shape: int, seed: int = 0) -> Array:
    return (np.random.default_rng(seed).random(shape) * 2 - 1).astype(np.float32)


def integers(
    *shape: int, dtype: str = "uint8", seed: int = 0, low: int | None = None, high: int | None = None
) -> Array:
    info = np.iinfo(dtype)
    low, high = info.min if low is None else low, info.max if high is None else high
    return np.random.default_rng(seed).integers(low, high, shape, endpoint=True).astype(dtype)


def one_node(
    op: str,
    inputs: Mapping[str, Array | None],
    outputs: str = "y",
    version: int = 17,
    run_time: str = "x",
    domain: str = MICROSOFT,
    **attrs: Any,
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A model of one node and its feeds; `run_time` names the inputs that are no weights, None is an absent input.

    `outputs` names the outputs; "-" stands for one that is left out.
    """
    given = {name: value for name, value in inputs.items() if value is not None}
    names = [name if value is not None else "" for name, value in inputs.items()]
    results = ["" if name == "-" else name for name in outputs.split()]
    node = helper.make_node(op, names, results, name="node", domain=domain, **attrs)
    feeds = {name: value for name, value in given.items() if name in run_time.split()}
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in feeds.items()],
        [onnx.ValueInfoProto(name=name) for name in results if name],
        [numpy_helper.from_array(value, name) for name, value in given.items() if name not in feeds],
    )
    opsets = [helper.make_opsetid("", version), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, ir_version=8, opset_imports=opsets), feeds


def compare(
    model: onnx.ModelProto,
    feeds: Mapping[str, Array],
    want: Any = None,
    rtol: float = 1e-4,
    atol: float = 1e-5,
) -> None:
    """Fails unless the compiled model's outputs are onnxruntime's, also with all inputs as constants."""
    if want is None:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        want = session.run(None, dict(feeds))
    case = Case("case", model.graph.node[0].op_type, "", model, ((tuple(feeds.values()), tuple(want)),), rtol, atol)
    cases = [case, replace(case, name="constants", way="constants")]
    assert [result.detail for result in run_cases(cases, MACHINES["avx2"], lambda _: None, flags=("-O0",))] == ["", ""]


def refusal(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> str:
    case = Case("case", "", "", model, ((tuple(feeds.values()), ()),), 0, 0)
    (result,) = run_cases([case], MACHINES["avx2"], lambda _: None)
    assert result.outcome == "unsupported", result.detail
    return result.detail


# --- activations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [11, 20])
@pytest.mark.parametrize("op", ["Gelu", "QuickGelu", "FastGelu", "BiasGelu", "FastGelu with bias"])
def test_gelu(op: str, opset: int) -> None:
    name, _, bias = op.partition(" ")
    inputs: dict[str, Array | None] = {"x": 3 * floats(2, 5, 8)}
    if bias or name == "BiasGelu":
        inputs["b"] = floats(8, seed=1)
    compare(*one_node(name, inputs, version=opset))


def test_quick_gelu_of_another_slope() -> None:
    compare(*one_node("QuickGelu", {"x": floats(4, 8)}, alpha=0.7))


def test_bias_split_gelu() -> None:
    """onnxruntime has it for GPUs only: the expected values are from its definition."""
    x, b = floats(2, 3, 8), floats(8, seed=1)
    left, right = np.split((x + b).astype(np.float64), 2, -1)
    erf = np.vectorize(math.erf)
    want = left * right / 2 * (1 + erf(right / np.sqrt(2)))
    compare(*one_node("BiasSplitGelu", {"x": x, "b": b}), want=[want.astype(np.float32)])


# --- convolutions and products ----------------------------------------------------------------------------------------

ACTIVATIONS: list[dict[str, Any]] = [
    {},
    {"activation": "Relu"},
    {"activation": "Tanh"},
    {"activation": "Sigmoid"},
    {"activation": "LeakyRelu", "activation_params": [0.3]},
    {"activation": "Clip", "activation_params": [-0.2, 0.4]},
    {"activation": "HardSigmoid", "activation_params": [0.3, 0.4]},
]


@pytest.mark.parametrize(
    ("attrs", "added"),
    [(a, False) for a in ACTIVATIONS]
    + [(a, True) for a in ACTIVATIONS if a.get("activation") in (None, "Relu")],  # onnxruntime adds before no other
    ids=lambda v: v.get("activation", "none") if isinstance(v, dict) else str(v),
)
def test_fused_conv(attrs: dict[str, Any], added: bool) -> None:
    inputs = {"x": floats(1, 4, 9, 9), "w": floats(6, 2, 3, 3, seed=1), "b": floats(6, seed=2)}
    if added:
        inputs["z"] = floats(1, 6, 5, 5, seed=3)
    attrs = attrs | {"group": 2, "strides": [2, 2], "pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    compare(*one_node("FusedConv", inputs, run_time="x z", **attrs))


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu", "Tanh"])
def test_fused_gemm(activation: str) -> None:
    inputs = {"x": floats(5, 7), "w": floats(6, 5, seed=1), "c": floats(6, seed=2)}
    inputs["w"] = floats(6, 5, seed=1)
    attrs: dict[str, Any] = {"activation": activation, "transA": 1, "transB": 1, "alpha": 0.5, "beta": 0.25}
    if activation == "LeakyRelu":
        attrs["activation_alpha"] = 0.3
    compare(*one_node("FusedGemm", inputs, **attrs))


@pytest.mark.parametrize("trans", [{}, {"transA": 1}, {"transB": 1}, {"transA": 1, "transB": 1, "alpha": 0.3}])
def test_fused_matmul(trans: dict[str, Any]) -> None:
    a = floats(2, 3, *((6, 4) if trans.get("transA") else (4, 6)))
    b = floats(2, 3, *((5, 6) if trans.get("transB") else (6, 5)), seed=1)
    compare(*one_node("FusedMatMul", {"x": a, "y": b}, "z", run_time="x y", **trans))


@pytest.mark.parametrize("trans", [0, 1])
def test_fused_matmul_with_the_batch_inside(trans: int) -> None:
    attrs = {"transBatchA": 1, "transBatchB": 1, "transA": trans, "transB": trans}
    a, b = floats(4, 2, *((3, 6), (6, 3))[trans]), floats(4, 2, *((6, 5), (5, 6))[trans], seed=1)
    a, b = np.moveaxis(a, 2, 0).copy(), np.moveaxis(b, 2, 0).copy()
    compare(*one_node("FusedMatMul", {"x": a, "y": b}, "z", run_time="x y", **attrs))


def test_max_pool_of_channels_last() -> None:
    attrs = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    compare(*one_node("NhwcMaxPool", {"x": integers(1, 9, 9, 4, dtype="uint8")}, **attrs), rtol=0, atol=0)


def test_an_unknown_activation_is_refused() -> None:
    inputs = {"x": floats(1, 4, 9, 9), "w": floats(6, 4, 3, 3, seed=1)}
    told = refusal(*one_node("FusedConv", inputs, activation="Sinh"))
    assert "node 'node' (FusedConv): its activation 'Sinh' is not supported" in told


# --- normalisation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [11, 17, 18])
@pytest.mark.parametrize("given", ["beta bias", "beta", "bias", ""])
def test_skip_layer_normalization(given: str, opset: int) -> None:
    rest = {name: floats(8, seed=k) if name in given else None for k, name in enumerate(("beta", "bias"), 3)}
    inputs = {"x": floats(2, 3, 8), "s": floats(2, 3, 8, seed=1), "gamma": floats(8, seed=2), **rest}
    compare(*one_node("SkipLayerNormalization", inputs, "y - - sum", opset, "x s", epsilon=1e-5))


@pytest.mark.parametrize("skip", [(1, 3, 8), (3, 8)])
@pytest.mark.parametrize("op", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
def test_skip_that_all_rows_share(op: str, skip: tuple[int, ...]) -> None:
    inputs = {"x": floats(2, 3, 8), "s": floats(*skip, seed=1), "gamma": floats(8, seed=2)}
    compare(*one_node(op, inputs, run_time="x s"))


@pytest.mark.parametrize("bias", [False, True])
def test_skip_simplified_layer_normalization(bias: bool) -> None:
    inputs = {"x": floats(2, 3, 8), "s": floats(2, 3, 8, seed=1), "gamma": floats(8, seed=2)}
    inputs |= {"bias": floats(8, seed=3)} if bias else {}
    compare(*one_node("SkipSimplifiedLayerNormalization", inputs, "y - - sum", run_time="x s", epsilon=1e-6))


def test_layer_normalizations_that_onnx_did_not_have() -> None:
    inputs = {"x": floats(2, 3, 8), "gamma": floats(8, seed=2), "beta": floats(8, seed=3)}
    compare(*one_node("LayerNormalization", inputs, version=13, domain="", axis=-1))
    del inputs["beta"]
    compare(*one_node("SimplifiedLayerNormalization", inputs, version=13, domain="", axis=-1, epsilon=1e-6))


@pytest.mark.parametrize("given", ["segments mask", "segments", "mask", "positions", ""])
def test_embed_layer_normalization(given: str) -> None:
    batch, length, hidden = 2, 5, 8
    inputs = {
        "x": integers(batch, length, dtype="int32", low=0, high=10),
        "s": integers(batch, length, dtype="int32", low=0, high=1, seed=1) if "segments" in given else None,
        "word": floats(11, hidden, seed=2),
        "position": floats(7, hidden, seed=3),
        "segment": floats(2, hidden, seed=4) if "segments" in given else None,
        "gamma": floats(hidden, seed=5),
        "beta": floats(hidden, seed=6),
        "m": np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32) if "mask" in given else None,
        "p": integers(batch, length, dtype="int32", low=0, high=6, seed=7) if "positions" in given else None,
    }
    compare(*one_node("EmbedLayerNormalization", inputs, "y mask_index sum", run_time="x s m p"))


# --- quantised --------------------------------------------------------------------------------------------------------


def scale(value: float) -> Array:
    return np.array(value, np.float32)


def zero(value: int, dtype: str) -> Array:
    return np.array(value, dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("shape", [(1, 4, 5, 5), (4, 1, 1), ()])
def test_two_quantised_operands(op: str, dtype: str, shape: tuple[int, ...]) -> None:
    shift = 0 if dtype == "uint8" else -128
    inputs = {
        "x": integers(1, 4, 5, 5, dtype=dtype), "as": scale(0.02), "az": zero(120 + shift, dtype),
        "z": integers(*shape, dtype=dtype, seed=1), "bs": scale(0.03), "bz": zero(130 + shift, dtype),
        "cs": scale(0.04), "cz": zero(128 + shift, dtype),
    }  # fmt: skip
    compare(*one_node(op, inputs, run_time="x z"), rtol=0, atol=1)


ONE_OPERAND: list[tuple[str, dict[str, Any]]] = [
    ("QLinearSigmoid", {}),
    ("QLinearLeakyRelu", {"alpha": 0.2}),
    ("QLinearGlobalAveragePool", {}),
    ("QLinearGlobalAveragePool", {"channels_last": 1}),
    ("QLinearAveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ("QLinearAveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    ("QLinearAveragePool", {"kernel_shape": [2, 2], "channels_last": 1, "strides": [2, 2]}),
    ("QLinearSoftmax", {"axis": -1, "opset": 13}),
    ("QLinearSoftmax", {"axis": 1, "opset": 13}),
    ("QLinearSoftmax", {"axis": 2, "opset": 12}),
]


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("op, attrs", ONE_OPERAND)
def test_one_quantised_operand(op: str, attrs: dict[str, Any], dtype: str) -> None:
    shift = 0 if dtype == "uint8" else -128
    ys = 1 / 256 if op in ("QLinearSigmoid", "QLinearSoftmax") else 0.025
    yz = shift if op in ("QLinearSigmoid", "QLinearSoftmax") else 100 + shift
    inputs = {
        "x": integers(1, 4, 6, 6, dtype=dtype), "xs": scale(0.02), "xz": zero(120 + shift, dtype),
        "ys": scale(ys), "yz": zero(yz, dtype),
    }  # fmt: skip
    compare(*one_node(op, inputs, **attrs), rtol=0, atol=1)


def test_absent_zero_points_are_zero() -> None:
    """onnxruntime 1.32 aborts on this; the expected values are from the definition."""
    x = integers(4, 6)
    inputs = {"x": x, "xs": scale(0.02), "xz": None, "ys": scale(0.03)}
    want = np.round(x * np.float64(0.02) / 0.03).astype(np.uint8)
    compare(*one_node("QLinearLeakyRelu", inputs, alpha=0.1), want=[want], rtol=0, atol=1)


@pytest.mark.parametrize("last", [0, 1])
def test_quantised_convolution(last: int) -> None:
    """com.microsoft's has channels_last."""
    x = integers(1, 9, 9, 4) if last else integers(1, 4, 9, 9)
    inputs = {
        "x": x, "xs": scale(0.02), "xz": zero(120, "uint8"),
        "w": integers(6, 4, 3, 3, dtype="int8", seed=1), "ws": scale(0.01), "wz": zero(0, "int8"),
        "ys": scale(0.05), "yz": zero(128, "uint8"), "b": integers(6, dtype="int32", low=-500, high=500, seed=2),
    }  # fmt: skip
    attrs = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2], "channels_last": last}
    compare(*one_node("QLinearConv", inputs, **attrs), rtol=0, atol=1)


def test_quantised_where() -> None:
    inputs = {
        "c": integers(2, 3, 4, dtype="int8", low=0, high=1).astype(bool),
        "x": integers(2, 3, 4), "as": scale(0.02), "az": zero(3, "uint8"),
        "z": integers(3, 1, seed=1), "bs": scale(0.04), "bz": zero(128, "uint8"),
        "ys": scale(0.03), "yz": zero(7, "uint8"),
    }  # fmt: skip
    compare(*one_node("QLinearWhere", inputs, run_time="c x z"), rtol=0, atol=1)


@pytest.mark.parametrize("keep", [0, 1])
def test_quantised_mean(keep: int) -> None:
    """onnxruntime has no kernel for it: the expected values are from the definition."""
    x = integers(2, 3, 4)
    inputs = {"x": x, "xs": scale(0.02), "xz": zero(120, "uint8"), "ys": scale(0.01), "yz": zero(100, "uint8")}
    mean = ((x - 120.0) * 0.02).mean((0, 2), keepdims=bool(keep))
    want = np.clip(np.round(mean / 0.01) + 100, 0, 255).astype(np.uint8)
    compare(*one_node("QLinearReduceMean", inputs, axes=[0, -1], keepdims=keep), want=[want], rtol=0, atol=1)


def test_quantised_concat() -> None:
    inputs = {
        "ys": scale(0.03), "yz": zero(7, "uint8"),
        "x": integers(2, 3, 4), "as": scale(0.02), "az": zero(0, "uint8"),
        "z": integers(2, 5, 4, seed=1), "bs": scale(0.04), "bz": zero(128, "uint8"),
    }  # fmt: skip
    compare(*one_node("QLinearConcat", inputs, run_time="x z", axis=1), rtol=0, atol=1)


@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("trans", [0, 1])
@pytest.mark.parametrize("quantised", [True, False])
def test_quantised_gemm(quantised: bool, trans: int, channels: bool) -> None:
    n = 6
    inputs = {
        "x": integers(3, 8), "as": scale(0.02), "az": zero(120, "uint8"),
        "b": integers(*((n, 8) if trans else (8, n)), dtype="int8", seed=1),
        "bs": (0.01 + 0.01 * np.arange(n)).astype(np.float32) if channels else scale(0.03),
        "bz": np.zeros(n, np.int8) if channels else zero(0, "int8"),
        "c": integers(n, dtype="int32", seed=2, low=-500, high=500),
        **({"ys": scale(0.1), "yz": zero(128, "uint8")} if quantised else {}),
    }  # fmt: skip
    tolerance = {"rtol": 0, "atol": 1} if quantised else {"rtol": 1e-4, "atol": 1e-4}
    compare(*one_node("QGemm", inputs, transB=trans), **tolerance)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("channels", [False, True])
def test_dynamically_quantised_matmul(channels: bool, bias: bool) -> None:
    n = 6
    inputs = {
        "x": floats(3, 8),
        "b": integers(8, n, dtype="int8", seed=1),
        "bs": (0.01 + 0.01 * np.arange(n)).astype(np.float32) if channels else scale(0.03),
        "bz": integers(n, dtype="int8", seed=4, low=-3, high=3) if channels else zero(3, "int8"),
        "bias": floats(n, seed=3) if bias else None,
    }
    compare(*one_node("DynamicQuantizeMatMul", inputs))


def test_matmul_of_integers_to_floats() -> None:
    inputs = {
        "x": integers(3, 8), "b": integers(8, 6, dtype="int8", seed=1), "as": scale(0.02), "bs": scale(0.03),
        "az": zero(120, "uint8"), "bz": zero(2, "int8"), "bias": floats(6),
    }  # fmt: skip
    compare(*one_node("MatMulIntegerToFloat", inputs))


def test_the_same_as_in_onnx() -> None:
    """Operators that onnxruntime's tools write in its own domain, though ONNX has them."""
    inputs = {"x": floats(3, 8), "s": scale(0.01), "z": zero(120, "uint8")}
    compare(*one_node("QuantizeLinear", inputs), rtol=0, atol=1)
    compare(*one_node("DequantizeLinear", inputs | {"x": integers(3, 8)}))
    compare(*one_node("TransposeMatMul", {"x": floats(4, 3), "z": floats(4, 5, seed=1)}, transA=1, alpha=0.5))


# --- weights of few bits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "block", "zeros"),
    [(4, b, z) for b in (16, 32) for z in ("none", "packed", "floats")]
    + [(2, 16, "none"), (2, 32, "packed")]
    + [(8, 32, "none"), (8, 32, "packed")],  # onnxruntime has no kernel for 8 bits with zero points that are floats
)
def test_matmul_of_few_bits(bits: int, block: int, zeros: str) -> None:
    k, n = 72, 6
    blocks = -(-k // block)
    inputs = {
        "x": floats(2, 3, k),
        "b": integers(n, blocks, block * bits // 8, seed=1),
        "s": np.abs(floats(n * blocks, seed=2)) / 10,
        "z": {
            "none": None,
            "packed": integers(n * -(-blocks * bits // 8), seed=3),
            "floats": 8 + floats(n * blocks, seed=3),
        }[zeros],
    }
    compare(*one_node("MatMulNBits", inputs, K=k, N=n, bits=bits, block_size=block), atol=1e-4)


@pytest.mark.parametrize("zeros", [False, True])
def test_matmul_of_few_bits_with_rows_of_other_blocks(zeros: bool) -> None:
    """g_idx tells the block of each row. onnxruntime 1.32 ignores zero points beside it: here, they count."""
    inputs = {"x": floats(3, 64), "b": integers(6, 4, 8), "s": floats(24, seed=1),
              "z": integers(12, seed=3) if zeros else None,
              "g": integers(64, dtype="int32", low=0, high=3, seed=4)}  # fmt: skip
    want = None
    if zeros:
        (q, z), g = (
            (np.stack((x & 15, x >> 4), -1).reshape(6, -1).astype(int) for x in (inputs["b"], inputs["z"])),
            inputs["g"],
        )
        want = [(inputs["x"] @ ((q - z[:, g]) * inputs["s"].reshape(6, 4)[:, g]).T).astype(np.float32)]
    compare(*one_node("MatMulNBits", inputs, K=64, N=6, bits=4, block_size=16), want=want, atol=1e-4)


@pytest.mark.parametrize("kind", [0, 1])
def test_matmul_of_four_bits_that_are_floats(kind: int) -> None:
    inputs = {"x": floats(3, 64), "b": integers(64 * 6 // 2), "s": floats(24, seed=1)}
    compare(*one_node("MatMulBnb4", inputs, K=64, N=6, block_size=16, quant_type=kind), atol=1e-4)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_gather_in_a_table_of_few_bits(bits: int, zeros: bool) -> None:
    inputs = {
        "t": integers(9, 64 * bits // 8), "x": integers(2, 3, dtype="int64", low=0, high=8), "s": floats(9, 4, seed=1),
        "z": integers(9, -(-4 * bits // 8), seed=2) if zeros else None,
    }  # fmt: skip
    attrs = {"bits": bits, "block_size": 16, "quantize_axis": 1, "gather_axis": 0}
    compare(*one_node("GatherBlockQuantized", inputs, **attrs))


def test_matmul_of_few_bits_with_bias() -> None:
    inputs = {"x": floats(3, 32), "b": integers(6, 2, 8), "s": floats(12, seed=1), "z": None, "g": None,
              "bias": floats(6, seed=2)}  # fmt: skip
    compare(*one_node("MatMulNBits", inputs, K=32, N=6, bits=4, block_size=16), atol=1e-4)


def test_weights_of_few_bits_have_to_be_constant() -> None:
    inputs = {"x": floats(3, 32), "b": integers(6, 2, 8), "s": floats(12, seed=1)}
    told = refusal(*one_node("MatMulNBits", inputs, run_time="x b", K=32, N=6, bits=4, block_size=16))
    assert "node 'node' (MatMulNBits): its input 'B' is not constant" in told


# --- recurrent --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("given", ["bias states", "channels", ""])
def test_dynamically_quantised_lstm(given: str, direction: str) -> None:
    # A state at the edge between two integers may fall to either side.
    d, steps, batch, n, h = (2 if direction == "bidirectional" else 1), 5, 2, 6, 4
    channels = (d, 4 * h) if "channels" in given else (d,)
    states = "states" in given
    inputs = {
        "x": floats(steps, batch, n),
        "w": integers(d, n, 4 * h, dtype="int8", seed=1), "r": integers(d, h, 4 * h, dtype="int8", seed=2),
        "b": floats(d, 8 * h, seed=3) if "bias" in given else None, "l": None,
        "h": floats(d, batch, h, seed=4) if states else None, "c": floats(d, batch, h, seed=5) if states else None,
        "p": None,
        "ws": np.abs(floats(*channels, seed=6)) / 100, "wz": np.zeros(channels, np.int8),
        "rs": np.abs(floats(*channels, seed=7)) / 100, "rz": np.zeros(channels, np.int8),
    }  # fmt: skip
    attrs = {"direction": direction, "hidden_size": h}
    compare(*one_node("DynamicQuantizeLSTM", inputs, "y y_h y_c", run_time="x h c", **attrs), atol=2e-3)


@pytest.mark.parametrize("mask", [False, True])
def test_embed_layer_normalization_of_integers(mask: bool) -> None:
    batch, length, hidden = 2, 5, 8
    parts = ("word", "position", "segment", "gamma", "beta")
    shapes = [(11, hidden), (7, hidden), (2, hidden), (hidden,), (hidden,)]
    inputs = {
        "x": integers(batch, length, dtype="int32", low=0, high=10),
        "s": integers(batch, length, dtype="int32", low=0, high=1, seed=1),
        **{name: integers(*shape, seed=k) for k, (name, shape) in enumerate(zip(parts, shapes, strict=True), 2)},
        "m": np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32) if mask else None,
        **{f"{name}_scale": scale(0.01 + 0.002 * k) for k, name in enumerate(parts)},
        **{f"{name}_zero": zero(120 + k, "uint8") for k, name in enumerate(parts)},
    }
    compare(*one_node("QEmbedLayerNormalization", inputs, "y mask_index", run_time="x s m"))
