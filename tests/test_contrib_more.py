"""Operators of com.microsoft on pictures, matrices, words, positions and states, and mixtures of experts: compiled,
against onnxruntime's own kernels, or against the definition where onnxruntime has kernels for GPUs only.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from conformance.batch import run_cases
from conformance.cases import Case
from conformance.harness import MACHINES
from test_contrib_operators import Array, floats, integers, one_node, refusal


def compare_all(*items: Any, atol: float = 1e-5) -> None:
    """`compare` of several models with their feeds, which are compiled together; what stands behind a model are the
    expected values, if they are not onnxruntime's.
    """
    cases = []
    for number, item in enumerate(items):
        (model, feeds), *want = (item,) if isinstance(item[0], onnx.ModelProto) else item
        if not want:
            want = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)
        data = ((tuple(feeds.values()), tuple(want)),)
        cases.append(Case(f"{number}", model.graph.node[0].op_type, "", model, data, 1e-4, atol))
    results = run_cases(cases, MACHINES["avx2"], lambda _: None, flags=("-O0",))
    assert {(r.name, r.operator): r.detail for r in results if r.outcome != "passed"} == {}


def test_pictures() -> None:
    boxes = np.array([[0, 0, 1, 1], [0.2, -0.1, 0.7, 1.2], [0.9, 0.8, 0.1, 0.2]], np.float32)
    items: list[Any] = []
    for mode, sizes in (("bilinear", (3, 4)), ("nearest", (5, 2)), ("bilinear", (1, 1))):
        chosen, size = (np.array(numbers, np.int32) for numbers in ((1, 0, 1), sizes))
        inputs = {"x": floats(2, 3, 6, 7), "b": boxes, "i": chosen, "s": size}
        items.append(one_node("CropAndResize", inputs, run_time="x b i", mode=mode, extrapolation_value=0.5))
    items += [
        one_node("UnfoldTensor", {"x": floats(4, 5, 7)}, dim=axis, size=size, step=step)
        for axis, size, step in ((1, 2, 1), (-1, 3, 2), (0, 2, 3))
    ]
    inputs = {"x": floats(1, 2, 4, 4), "w": floats(2, 3, 3, 3), "p": np.array([1, 0, 0, 1]), "b": floats(3)}
    items.append(one_node("ConvTransposeWithDynamicPads", inputs, strides=[2, 2]))
    compare_all(*items)


def test_convolution_of_channels_last() -> None:
    """The expected values are FusedConv's of the channels first."""
    x, w, b = floats(1, 4, 6, 5), floats(6, 2, 3, 3, seed=1), floats(6, seed=2)
    attrs = {"group": 2, "pads": [1, 1, 1, 1], "kernel_shape": [3, 3], "activation": "Relu"}
    model, feeds = one_node("FusedConv", {"x": x, "w": w, "b": b}, **attrs)
    (want,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)
    want, x = np.moveaxis(want, 1, -1), np.moveaxis(x, 1, -1).copy()
    added = floats(1, 6, 5, 6, seed=3)
    attrs.pop("activation")
    plain = one_node("NhwcConv", {"x": x, "w": w, "b": b}, **attrs)
    fused = one_node("NhwcFusedConv", {"x": x, "w": w, "b": b, "z": 0 * added}, **attrs, activation="Relu")
    model, feeds = one_node("Conv", {"x": np.moveaxis(x, -1, 1).copy(), "w": w, "b": b}, domain="", **attrs)
    (linear,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)
    compare_all((plain, np.moveaxis(linear, 1, -1)), (fused, want))


def test_inverses() -> None:
    x = floats(2, 4, 4)
    x[:, 0, 0] = 0  # which needs a pivot
    compare_all(one_node("Inverse", {"x": x}), one_node("Inverse", {"x": x[0]}, version=13), atol=1e-4)


def test_words_and_tokens() -> None:
    letters = np.array([[1, 2, 3, 0, 0], [2, 0, 0, 0, 0], [1, 1, 2, 3, 4]], np.int32)
    inputs = {"x": letters, "w": floats(6, 1, 3, 4), "b": floats(6), "c": floats(9, 4)}
    items = [one_node("WordConvEmbedding", inputs, version=version) for version in (13, 18)]
    for positive, dtype in enumerate(("int64", "int32")):
        x = integers(7, dtype=dtype)
        items.append(one_node("MurmurHash3", {"x": x}, version=18, positive=positive, seed=42))
    for n, length in ((1, 4), (2, 7), (3, 7), (4, 3)):
        inputs = {"x": integers(3, length, dtype="int64", low=0, high=2), "s": floats(3, 6)}
        items.append(one_node("NGramRepeatBlock", inputs, run_time="x s", ngram_size=n))
    compare_all(*items)


def test_plain_ones() -> None:
    x, y, ids = floats(3, 4, 2), floats(3, 4, 2, seed=1), integers(2, 3, dtype="int64", low=0, high=2)
    product = (x[..., 0] + 1j * x[..., 1]) * (y[..., 0] + 1j * y[..., 1])
    conjugated = (x[..., 0] + 1j * x[..., 1]) * (y[..., 0] - 1j * y[..., 1])
    small, other = integers(3, 4), integers(4, seed=1)
    a, b = np.array(7, np.uint8), np.array(9, np.uint8)
    compare_all(
        one_node("SampleOp", {"x": x}),
        one_node("Unique", {"x": np.array([2, 1, 1, 3, 4, 3], np.float32)}, "y place count"),
        one_node("Range", dict(zip("abc", np.array((2, 9, 3), np.int32), strict=True)), run_time=""),
        (one_node("TorchEmbedding", {"t": x, "x": ids}), x[ids]),
        (one_node("ComplexMul", {"x": x, "z": y}), np.stack((product.real, product.imag), -1)),
        (one_node("ComplexMulConj", {"x": x, "z": y}), np.stack((conjugated.real, conjugated.imag), -1)),
        (
            one_node("MulInteger", {"x": small, "az": a, "b": other, "bz": b}),
            (small.astype(np.int32) - 7) * (other.astype(np.int32) - 9),
        ),
        (one_node("ReduceSumInteger", {"x": small}, axes=[-1], keepdims=0), small.sum(1, dtype=np.uint32)),
        (one_node("BiasDropout", {"x": x, "b": y[0, 0], "r": y}), x + y[0, 0] + y),
    )  # fmt: skip


@pytest.mark.parametrize("layout", [0, 1])
def test_rotary_embedding_of_three_positions(layout: int) -> None:
    items = []
    for part, rank in ((False, 4), (True, 3)):
        half = 6 if part else 8
        inputs = {
            "x": floats(2, 3, 5, 16) if rank == 4 else floats(2, 5, 48),
            "p": integers(3, 2, 5, dtype="int64", low=0, high=9), "c": floats(10, half, seed=1),
            "s": floats(10, half, seed=2),
        }  # fmt: skip
        attrs = {"num_heads": 3, "rotary_embedding_dim": 12} if part else {}
        sections = [half - 4, 2, 2]
        items.append(one_node("MRotaryEmbedding", inputs, run_time="x p", mrope_section=sections, mrope_layout=layout,
                              interleaved=int(part), **attrs))  # fmt: skip
    compare_all(*items)


def test_positions_of_models_for_gpus() -> None:
    """The expected values are from PyTorch's models that these operators are taken from."""
    angles, q, q_rot = floats(2, 5, 8), floats(2, 3, 5, 8, seed=1), floats(2, 3, 5, 8, seed=2)
    turned = q * np.cos(angles)[:, None] + q_rot * np.sin(angles)[:, None]
    inputs = {"x": angles, "q": q, "qr": q_rot, "k": q, "kr": q_rot}
    compare_all((one_node("GemmaRotaryEmbedding", inputs, "y z", run_time="x q qr"), turned, turned))
    table, items = floats(8, 2), []
    for both in (False, True):
        rows = [[table[_bucket(query - key, both)] for key in range(7)] for query in range(6)]
        want = np.array(rows).transpose(2, 0, 1)[None]
        inputs = {"x": table, "q": np.array(6), "k": np.array(7)}
        items.append((one_node("RelativePositionBias", inputs, max_distance=10, is_bidirectional=int(both)), want))
    x, bias, rel = floats(2, 5, 8), floats(8, seed=1), floats(1, 2, 5, 5, seed=2)
    w, b, a = floats(4, 8, seed=3), floats(8, seed=4), floats(1, 2, 1, 1, seed=5)
    gates = (x + bias).reshape(2, 5, 2, 4).transpose(0, 2, 1, 3) @ w + b
    gates = 1 / (1 + np.exp(-gates.reshape(2, 2, 5, 2, 4).sum(-1)))
    want = (gates[..., :1] * (gates[..., 1:] * a - 1) + 2) * rel
    inputs = {"x": x, "b0": bias, "r": rel, "w": w, "b": b, "a": a}
    items.append((one_node("GatedRelativePositionBias", inputs, num_heads=2), want))
    compare_all(*items)


def _bucket(behind: int, both: bool, count: int = 8, longest: int = 10) -> int:
    """T5's: half of the buckets for near distances, the others for ranges that grow; later keys have their own."""
    first = 0
    if both:
        count //= 2
        first, behind = count if behind < 0 else 0, abs(behind)
    near = count // 2
    if behind < near:
        return first + max(behind, 0)
    share = math.log(behind / near) / math.log(longest / near)
    return first + min(count - 1, near + int(share * (count - near)))


# --- states -----------------------------------------------------------------------------------------------------------


def test_causal_convolutions() -> None:
    items = []
    for activation, past, dilation in (("none", False, 1), ("silu", True, 2)):
        inputs = {
            "x": floats(2, 4, 5), "w": floats(4, 1, 3, seed=1), "b": floats(4, seed=2) if past else None,
            "p": floats(2, 4, 2 * dilation, seed=3) if past else None,
        }  # fmt: skip
        attrs = {"activation": activation, "dilation": dilation}
        items.append(one_node("CausalConvWithState", inputs, "y s", run_time="x p", **attrs))
    gate = {"x": floats(2, 3, 4), "d": floats(4), "s": -np.abs(floats(4)), "b": floats(2, 3, 4, seed=1)}
    compare_all(*items, one_node("LinearAttentionGate", gate, "y z", run_time="x b"))


def test_linear_attention() -> None:
    """Of each rule, with as many heads of queries as of values, more and fewer."""
    items = []
    rules = ("linear", "gated", "delta", "gated_delta")
    for number, (rule, (queries, values)) in enumerate(zip(rules, ((2, 2), (4, 2), (2, 4), (2, 2)), strict=True)):
        keys = min(queries, values)
        inputs = {
            "x": floats(2, 3, queries * 4), "k": floats(2, 3, keys * 4, seed=1), "v": floats(2, 3, values * 5, seed=2),
            "p": floats(2, values, 4, 5, seed=3) if number % 2 else None,
            "d": -np.abs(floats(2, 3, values * (4 if number == 3 else 1), seed=4)) if "gated" in rule else None,
            "b": np.abs(floats(2, 3, values, seed=5)) if "delta" in rule else None,
        }  # fmt: skip
        attrs = {"update_rule": rule, "q_num_heads": queries, "kv_num_heads": values}
        items.append(one_node("LinearAttention", inputs, "y s", run_time="x k v p d b", **attrs))
    compare_all(*items)


def test_streams_that_are_mixed() -> None:
    inputs = {"x": floats(2, 3, 4, 8), "b": floats(2, 3, 8, seed=1), "p": floats(2, 3, 4, seed=2)}
    mixed = inputs | {"m": floats(2, 3, 4, 4, seed=3)}
    compare_all(*(one_node("HyperConnectionPostMix", given, run_time="x b") for given in (inputs, mixed)))


# --- mixtures of experts ----------------------------------------------------------------------------------------------

EXPERTS, HIDDEN, INNER, TOKENS = 4, 32, 16, 3


def test_mixtures_of_experts() -> None:
    items = []
    for activation in ("relu", "gelu", "silu", "identity", "swiglu"):
        rows = 2 * INNER if activation == "swiglu" else INNER
        inputs = {
            "x": floats(1, TOKENS, HIDDEN), "r": floats(TOKENS, EXPERTS, seed=1),
            "w1": floats(EXPERTS, rows, HIDDEN, seed=2), "b1": floats(EXPERTS, rows, seed=3),
            "w2": floats(EXPERTS, HIDDEN, INNER, seed=4), "b2": floats(EXPERTS, HIDDEN, seed=5),
        }  # fmt: skip
        attrs: dict[str, Any] = {"activation_type": activation, "k": 2}
        if activation == "swiglu":
            attrs |= {"swiglu_fusion": 1, "swiglu_limit": 0.3, "activation_alpha": 1.7, "activation_beta": 1.0}
        normal = int(activation == "silu")
        items.append(one_node("MoE", inputs, run_time="x r", normalize_routing_weights=normal, **attrs))
    compare_all(*items, atol=1e-4)


def test_mixtures_of_quantised_experts() -> None:
    items = []
    for bits, block, zeros in ((4, 0, False), (4, 16, True), (8, 0, True)):
        rows = 2 * INNER

        def scales(*shape: int, block: int = block, seed: int = 0) -> Array:
            return np.abs(floats(*shape[:2], *([shape[2] // block] if block else []), seed=seed)) / 10

        inputs: dict[str, Array | None] = {
            "x": floats(TOKENS, HIDDEN) / 4, "r": floats(TOKENS, EXPERTS, seed=1),
            "w1": integers(EXPERTS, rows, HIDDEN * bits // 8, seed=2), "s1": scales(EXPERTS, rows, HIDDEN, seed=3),
            "b1": floats(EXPERTS, rows, seed=4),
            "w2": integers(EXPERTS, HIDDEN, INNER * bits // 8, seed=5), "s2": scales(EXPERTS, HIDDEN, INNER, seed=6),
        }  # fmt: skip
        if zeros:
            packed = [(n, -(-k // block * bits // 8)) if block else (n * bits // 8,) for n, k in
                      ((rows, HIDDEN), (HIDDEN, INNER))]  # fmt: skip
            first, second = (integers(EXPERTS, *shape, seed=7) for shape in packed)
            absent = dict.fromkeys(("b2", "w3", "s3", "b3"))
            inputs |= absent | {"z1": first, "z2": second}
        attrs = {"block_size": block} if block else {}
        items.append(one_node("QMoE", inputs, run_time="x r", k=2, activation_type="swiglu", swiglu_fusion=1,
                              expert_weight_bits=bits, **attrs))  # fmt: skip
    compare_all(*items, atol=2e-3)


def test_what_is_not_supported_is_said() -> None:
    inputs = {"x": floats(TOKENS, HIDDEN), "r": floats(TOKENS, EXPERTS), "w": integers(EXPERTS, INNER, HIDDEN)}
    told = refusal(*one_node("QMoE", inputs | {"s": floats(EXPERTS, INNER)}, run_time="x r", quant_type="fp4"))
    assert "node 'node' (QMoE): its quant_type 'fp4' is not supported" in told
    for op, advice in (("BeamSearch", "build the decoder"), ("Conv", "ORT_ENABLE_EXTENDED")):
        domain = {"domain": "com.microsoft.nchwc"} if op == "Conv" else {}
        assert advice in refusal(*one_node(op, {"x": floats(1, 8, 4, 4)}, **domain))
