"""onnxruntime's operators on positions: rotary embeddings of pictures, biases by distance, repeated tokens."""

from __future__ import annotations

import numpy as np
import onnx

from dlpack.model.contrib_attention import rotate
from dlpack.model.contrib_node import Call, contrib, number


@contrib("MRotaryEmbedding")
def rotary_embedding_of_three(call: Call) -> None:
    """RotaryEmbedding, each angle of which is that of a time, a row or a column, [3, batch, length]."""
    call.refuse_attributes(is_packed_batching=0, scale=1.0)
    shape, angles = call.shape(0), call.shape(2)[1]
    rotary = call.attr("rotary_embedding_dim", 0) or 2 * angles
    _, rows, columns = sections = call.attr("mrope_section", [angles, 0, 0])
    if call.attr("mrope_layout", 0):
        which = np.zeros(angles, np.int64)
        which[1 : 3 * rows : 3] = 1
        which[2 : 3 * columns : 3] = 2
    else:
        which = np.repeat(np.arange(3), sections)
    if len(shape) == 4:
        batch, heads, length, size = shape
        between = (batch, 1, length, angles)
    else:
        batch, length, hidden = shape
        heads = call.attr("num_heads", 0) or hidden // rotary
        size = hidden // heads
        between = (batch, length, 1, angles)
    whole = (batch, heads, length, size) if len(shape) == 4 else (batch, length, heads, size)

    def chosen(table: int) -> str:
        every = call.add("Gather", call.input(table), call.input(1), axis=0)
        times, *others = (call.reshape(call.slice(every, 0, n, n + 1), *between) for n in range(3))
        for n, other in enumerate(others, 1):
            times = call.add("Where", call.array(which == n), other, times)
        return times

    x = call.reshape(call.input(0), *whole)
    y = rotate(call, x, chosen(2), chosen(3), whole, rotary, bool(call.attr("interleaved", 0)))
    call.give(0, call.reshape(y, *shape))


@contrib("GemmaRotaryEmbedding")
def rotary_embedding_of_angles(call: Call) -> None:
    """q cos + q_rot sin and k cos + k_rot sin, of the angles [batch, length, size]."""
    batch, length, size = call.shape(0)
    elem = onnx.helper.np_dtype_to_tensor_dtype(call.dtype(1))
    cos, sin = (
        call.reshape(call.add("Cast", call.add(op, call.input(0)), to=elem), batch, 1, length, size)
        for op in ("Cos", "Sin")
    )
    for output, index in enumerate((1, 3)):
        parts = (call.add("Mul", call.input(index + k), factor) for k, factor in enumerate((cos, sin)))
        call.give(output, call.add("Add", *parts))


@contrib("RelativePositionBias")
def relative_position_bias(call: Call) -> None:
    """The row of a table for the distance of query and key: near distances have one each, far ones share some."""
    buckets = call.shape(0)[0]
    queries, keys = (int(call.weight(k, name).reshape(())) for k, name in ((1, "query_length"), (2, "key_length")))
    distance = np.arange(keys)[None] - np.arange(queries)[:, None]
    bucket = np.zeros(distance.shape, np.int64)
    if call.attr("is_bidirectional", 0):
        buckets //= 2
        bucket += np.where(distance > 0, buckets, 0)
        distance = np.abs(distance)
    else:
        distance = np.maximum(-distance, 0)
    near = buckets // 2
    share = np.log(np.maximum(distance, 1) / near) / np.log(call.attr("max_distance", 128) / near)
    far = np.minimum(near + (share * (buckets - near)).astype(np.int64), buckets - 1)
    bucket += np.where(distance < near, distance, far)
    rows = call.add("Gather", call.input(0), call.array(bucket), axis=0)
    call.give(0, call.reshape(call.transpose(rows, 2, 0, 1), 1, call.shape(0)[1], queries, keys))


@contrib("GatedRelativePositionBias")
def gated_relative_position_bias(call: Call) -> None:
    """The bias times u (r a - 1) + 2, u and r being gates that each query computes."""
    call.refuse_inputs(6)
    batch, length, hidden = call.shape(0)
    heads, width = call.attr("num_heads", 1), call.shape(3)[1]
    q = call.reshape(call.add("Add", call.input(0), call.input(1)), batch, length, heads, hidden // heads)
    y = call.add("MatMul", call.transpose(q, 0, 2, 1, 3), call.input(3))
    y = call.reshape(call.add("Add", y, call.input(4)), batch, heads, length, 2, width // 2)
    gates = call.add("Sigmoid", call.reshape(call.sum(y, 4), batch, heads, length, 2))
    u, r = (call.slice(gates, 3, n, n + 1) for n in (0, 1))
    inner = call.add("Sub", call.add("Mul", r, call.input(5)), number(call, 1))
    call.give(0, call.add("Mul", call.add("Add", call.add("Mul", u, inner), number(call, 2)), call.input(2)))


@contrib("NGramRepeatBlock")
def no_repeated_ngram(call: Call) -> None:
    """Scores of tokens that would repeat a run of `ngram_size` tokens become minus infinity."""
    call.require_opset(11)
    (batch, length), (_, words) = call.shape(0), call.shape(1)
    n = call.attr("ngram_size", 1)
    count = length - n + 1  # runs that there are
    if count <= 0:
        call.give(0, call.add("Identity", call.input(1)))
        return
    token = call.slice(call.input(0), 1, n - 1, length)
    for k in range(n - 1):
        same = call.add(
            "Equal", call.slice(call.input(0), 1, k, k + count), call.slice(call.input(0), 1, count + k, count + k + 1)
        )
        token = call.add("Where", same, token, call.array(words, np.int64))
    banned = call.add(
        "ScatterElements",
        call.array(np.zeros((batch, words + 1), np.float32)),
        token,
        call.array(np.ones((batch, count), np.float32)),
        axis=1,
    )
    hit = call.add("Greater", call.slice(banned, 1, 0, words), call.array(np.float32(0)))
    call.give(0, call.add("Where", hit, call.array(-np.inf, call.dtype(1)), call.input(1)))
