"""The attentions of com.microsoft: compiled, against onnxruntime's own kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from test_contrib_operators import Array, compare, floats, integers, one_node, refusal, scale, zero

BATCH, LENGTH, HEADS, SIZE = 2, 4, 3, 8
HIDDEN = HEADS * SIZE


# --- Attention, with the projection -----------------------------------------------------------------------------------

MASKS: dict[str, Array | None] = {
    "none": None,
    "ends": np.array([3, 5], np.int32),
    "ends and starts": np.array([5, 4, 1, 2], np.int32),
    "of keys": np.array([[1, 1, 1, 0, 0, 1], [1, 1, 1, 1, 0, 0]], np.int32),
    "of queries": integers(2, LENGTH, 6, dtype="int32", low=0, high=1, seed=9),
    "of everything": np.zeros((2, 6), np.int32),
}


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("past", [0, 2])
@pytest.mark.parametrize("mask", MASKS)
def test_attention(mask: str, past: int, causal: int) -> None:
    given = MASKS[mask]
    if given is not None and given.shape[-1] == 6:
        given = np.ascontiguousarray(given[..., 2 - past :])
    inputs = {
        "x": floats(BATCH, LENGTH, 10),
        "w": floats(10, 3 * HIDDEN, seed=1),
        "b": floats(3 * HIDDEN, seed=2),
        "m": given,
        "p": floats(2, BATCH, HEADS, past, SIZE, seed=3) if past else None,
        "a": floats(BATCH, HEADS, LENGTH, LENGTH + past, seed=4) if mask == "ends" and not past else None,
    }
    outputs = "y present" if past else "y"
    compare(*one_node("Attention", inputs, outputs, run_time="x m p", num_heads=HEADS, unidirectional=causal))


def test_attention_with_values_of_another_size_and_a_scale() -> None:
    inputs = {"x": floats(1, LENGTH, 10), "w": floats(10, 2 * HIDDEN + 6, seed=1), "b": floats(2 * HIDDEN + 6, seed=2)}
    sizes = {"qkv_hidden_sizes": [HIDDEN, HIDDEN, 6], "num_heads": HEADS, "scale": 0.3}
    compare(*one_node("Attention", inputs, **sizes))


@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("past", [0, 2])
def test_quantised_attention(past: int, channels: bool) -> None:
    n = 3 * HIDDEN
    inputs = {
        "x": integers(BATCH, LENGTH, 10), "w": integers(10, n, dtype="int8", seed=1), "b": floats(n, seed=2),
        "xs": scale(0.01), "ws": np.linspace(0.01, 0.02, n, dtype=np.float32) if channels else scale(0.02),
        "m": np.array([3, 4], np.int32) + np.int32(past), "xz": zero(120, "uint8"),
        "wz": np.zeros(n, np.int8) if channels else zero(3, "int8"),
        "p": floats(2, BATCH, HEADS, past, SIZE, seed=3) if past else None,
    }  # fmt: skip
    attrs = {"num_heads": HEADS, "unidirectional": 1 if past else 0}
    compare(*one_node("QAttention", inputs, "y present" if past else "y", run_time="x m p", **attrs))


# --- MultiHeadAttention -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("given", ["", "bias", "bias mask", "bias past", "past mask added", "added", "rows"])
def test_multi_head_attention(given: str, causal: int) -> None:
    past, kv = (2 if "past" in given else 0), LENGTH
    width = SIZE if past else 6
    total = past + kv
    inputs = {
        "x": floats(BATCH, LENGTH, HIDDEN), "k": floats(BATCH, kv, HIDDEN, seed=1), 
        "v": floats(BATCH, kv, HEADS * width, seed=2),
        "b": floats(2 * HIDDEN + HEADS * width, seed=3) if "bias" in given else None,
        "m": integers(BATCH, total, dtype="int32", low=0, high=1, seed=4) if "mask" in given
        else integers(BATCH, LENGTH, total, dtype="int32", low=0, high=1, seed=4) if "rows" in given else None,
        "a": floats(1, HEADS, LENGTH, total, seed=5) if "added" in given else None,
        "pk": floats(BATCH, HEADS, past, SIZE, seed=6) if past else None,
        "pv": floats(BATCH, HEADS, past, width, seed=7) if past else None,
    }  # fmt: skip
    outputs = "y pk_ pv_ qk" if past else "y"
    attrs = {"num_heads": HEADS, "unidirectional": causal}
    model, feeds = one_node("MultiHeadAttention", inputs, outputs, run_time="x k v m a pk pv", **attrs)
    if past:
        model.graph.output[3].CopyFrom(onnx.helper.make_tensor_value_info("qk", onnx.TensorProto.FLOAT, None))
    compare(model, feeds)


@pytest.mark.parametrize("bias", [False, True])
def test_cross_attention(bias: bool) -> None:
    """Keys and values have another length, here also as an encoder leaves them in a cache, with heads of their own.

    A causal one counts queries and keys from the first; onnxruntime's last query sees all keys.
    """
    attrs = {"num_heads": HEADS, "unidirectional": int(bias)}
    inputs = {
        "x": floats(BATCH, LENGTH, HIDDEN), "k": floats(BATCH, 7, HIDDEN, seed=1), 
        "v": floats(BATCH, 7, HIDDEN, seed=2),
        "b": floats(3 * HIDDEN, seed=3) if bias else None, "m": np.array([5, 7], np.int32),
    }  # fmt: skip
    compare(*one_node("MultiHeadAttention", inputs, run_time="x k v m", **attrs))
    inputs |= {"k": floats(BATCH, HEADS, 7, SIZE, seed=1), "v": floats(BATCH, HEADS, 7, SIZE, seed=2), "m": None}
    compare(*one_node("MultiHeadAttention", inputs, run_time="x k v", **attrs))


def test_packed_queries_keys_and_values() -> None:
    """onnxruntime has these for GPUs only: the expected values are those of the parts."""
    x, kv = floats(BATCH, LENGTH, HEADS, 3, SIZE), floats(BATCH, 7, HEADS, 2, SIZE, seed=1)
    q, k, v = (x[:, :, :, n].reshape(BATCH, LENGTH, HIDDEN) for n in range(3))
    compare(
        *one_node("MultiHeadAttention", {"x": x}, num_heads=HEADS),
        want=[_attention(q, k, v)],
    )
    k, v = (kv[:, :, :, n].reshape(BATCH, 7, HIDDEN) for n in range(2))
    compare(
        *one_node("MultiHeadAttention", {"x": q, "k": kv}, run_time="x k", num_heads=HEADS),
        want=[_attention(q, k, v)],
    )


def _attention(q: Array, k: Array, v: Array) -> Array:
    q, k, v = (x.astype(np.float64).reshape(BATCH, -1, HEADS, SIZE).transpose(0, 2, 1, 3) for x in (q, k, v))
    e = np.exp(q @ k.transpose(0, 1, 3, 2) / np.sqrt(SIZE))
    y = (e / e.sum(-1, keepdims=True)) @ v
    return y.transpose(0, 2, 1, 3).reshape(BATCH, -1, HIDDEN).astype(np.float32)


@pytest.mark.parametrize("filled", [0, 3])
@pytest.mark.parametrize("given", ["", "mask", "bias added", "bias"])
def test_decoder_attention(given: str, filled: int) -> None:
    room, total = 6, filled + 1
    inputs: dict[str, Array | None] = {
        "x": floats(BATCH, 1, HIDDEN), "k": floats(BATCH, 1, HIDDEN, seed=1), "v": floats(BATCH, 1, HIDDEN, seed=2),
        "m": integers(BATCH, total, dtype="int32", low=0, high=1, seed=4) if "mask" in given else None,
        "a": floats(1, HEADS, 1, total, seed=5) if "added" in given else None,
        "pk": floats(BATCH, HEADS, room, SIZE, seed=6), "pv": floats(BATCH, HEADS, room, SIZE, seed=7),
        "l": np.array([filled], np.int32), "w": None, "c": None,
        "b": floats(3 * HIDDEN, seed=3) if "bias" in given else None,
    }  # fmt: skip
    attrs = {"num_heads": HEADS, "past_present_share_buffer": 1}
    names = "x k v m a pk pv l"
    compare(*one_node("DecoderMaskedMultiHeadAttention", inputs, "y pk_ pv_", run_time=names, **attrs))


def test_decoder_cross_attention() -> None:
    inputs = {
        "x": floats(BATCH, 1, HIDDEN),
        "k": floats(BATCH, HEADS, 5, SIZE, seed=1),
        "v": floats(BATCH, HEADS, 5, SIZE, seed=2),
        "m": integers(BATCH, 5, dtype="int32", low=0, high=1, seed=4),
    }
    compare(*one_node("DecoderMaskedMultiHeadAttention", inputs, run_time="x k v m", num_heads=HEADS))


# --- GroupQueryAttention ----------------------------------------------------------------------------------------------


def group_query(  # noqa: PLR0913
    length: int, known: list[int], cache: int, packed: bool = False, bias: bool = False, heads: int = 4, kv: int = 2,
    rotary: int = 0, positions: Array | None = None, sink: bool = False, total: int | None = None, **attrs: Any,
) -> tuple[Any, dict[str, Array]]:  # fmt: skip
    """`known`: how many keys each row of the batch has in all; `cache`: the length of the past ones."""
    batch, total = len(known), max(known) if total is None else total
    if packed:
        x: dict[str, Array | None] = {"x": floats(batch, length, (heads + 2 * kv) * 32), "k": None, "v": None}
    else:
        x = {
            "x": floats(batch, length, heads * 32),
            "k": floats(batch, length, kv * 32, seed=1),
            "v": floats(batch, length, kv * 32, seed=2),
        }
    angles = np.outer(np.arange(32), 10000.0 ** (-np.arange(0, max(rotary, 2), 2) / max(rotary, 2)))
    inputs = {
        **x,
        "pk": floats(batch, kv, cache, 32, seed=3) if cache else None,
        "pv": floats(batch, kv, cache, 32, seed=4) if cache else None,
        "lengths": np.array(known, np.int32) - np.int32(1),
        "total": np.array(total, np.int32),
        "cos": np.cos(angles).astype(np.float32) if rotary else None,
        "sin": np.sin(angles).astype(np.float32) if rotary else None,
        "pos": positions,
        "a": floats(batch, 1, length, total, seed=5) if bias else None,
        "sink": floats(heads, seed=6) if sink else None,
    }
    attrs = {"num_heads": heads, "kv_num_heads": kv, "do_rotary": int(rotary > 0), **attrs}
    return one_node("GroupQueryAttention", inputs, "y pk_ pv_", run_time="x k v pk pv lengths pos a", **attrs)


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"packed": True, "rotary": 32},
        {"packed": True, "rotary": 16, "rotary_interleaved": 1},
        {"rotary": 32, "local_window_size": 3},
        {"softcap": 2.0, "scale": 0.7},
        {"smooth_softmax": 1},
        {"sink": True},
        {"bias": True, "heads": 6, "kv": 3},
        {"heads": 4, "kv": 1},
    ],
    ids=lambda kind: " ".join(kind) or "plain",
)
@pytest.mark.parametrize(
    ("length", "known", "cache"),
    [(5, [5, 5], 0), (5, [5, 5], 9), (1, [7, 4], 9), (1, [7, 7], 6), (3, [7], 9), (3, [7], 4)],
    ids=["prompt", "prompt with a cache", "one more", "one more, growing", "some more", "some more, growing"],
)
def test_group_query_attention(length: int, known: list[int], cache: int, kind: dict[str, Any]) -> None:
    compare(*group_query(length, known, cache, **kind))


def test_group_query_attention_at_positions() -> None:
    """A prompt begins at the first position; later the positions are those given."""
    compare(*group_query(1, [7, 4], 9, rotary=32, positions=np.array([[5], [2]])))


def test_attention_that_is_not_causal() -> None:
    compare(*group_query(5, [5, 5], 0, causal=0))


def test_a_length_of_the_cache_that_is_not_constant_is_refused() -> None:
    model, feeds = group_query(1, [7, 4], 9)
    total = model.graph.initializer.pop([t.name for t in model.graph.initializer].index("total"))
    model.graph.input.append(_value("total", total.data_type))
    told = refusal(model, feeds | {"total": np.array(7, np.int32)})
    assert "its input 'total_sequence_length' is not constant" in told


def _value(name: str, elem: int) -> Any:
    return onnx.helper.make_tensor_value_info(name, elem, [])


# --- RotaryEmbedding --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("positions", ["offset", "given"])
@pytest.mark.parametrize("part", [False, True])
@pytest.mark.parametrize("rank", [3, 4])
def test_rotary_embedding(rank: int, part: bool, positions: str, interleaved: int) -> None:
    rotary = SIZE // 2 if part else SIZE
    inputs = {
        "x": floats(BATCH, LENGTH, HIDDEN) if rank == 3 else floats(BATCH, HEADS, LENGTH, SIZE),
        "p": np.array([3]) if positions == "offset" else integers(BATCH, LENGTH, dtype="int64", low=0, high=9),
        "c": floats(10, rotary // 2, seed=1),
        "s": floats(10, rotary // 2, seed=2),
    }
    attrs = {"num_heads": HEADS, "rotary_embedding_dim": rotary} if part else {}
    compare(*one_node("RotaryEmbedding", inputs, run_time="x p", interleaved=interleaved, **attrs))
