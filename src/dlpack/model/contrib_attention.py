"""onnxruntime's attentions: MultiHeadAttention and its kin, as products with a softmax between them.

Queries, keys and values are [batch, heads, length, head size] here; `S` is the length of the queries, `T` that of the
keys, those of the past included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dlpack.model.contrib_node import Call, contrib
from dlpack.model.contrib_quantised import product_of_integers, zero_point

_LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class Sizes:
    """Of an attention: `length` is S, `total` is T; a head of the queries and keys has `size` numbers, one of the
    values `value_size`. The first `past` keys are those of the past.
    """

    batch: int
    heads: int
    length: int
    total: int
    size: int
    value_size: int
    past: int = 0


def real(call: Call, value: float) -> str:
    return call.array(np.float32(value))


def heads_of(call: Call, x: str, batch: int, length: int, heads: int, size: int) -> str:
    """[batch, length, heads * size] as [batch, heads, length, size]."""
    return call.transpose(call.reshape(x, batch, length, heads, size), 0, 2, 1, 3)


def together(call: Call, x: str, batch: int, length: int, heads: int, size: int) -> str:
    """[batch, heads, length, size] as [batch, length, heads * size]."""
    return call.reshape(call.transpose(x, 0, 2, 1, 3), batch, length, heads * size)


def scores(call: Call, q: str, k: str, size: int) -> str:
    """scale q k', the scale being 1 / sqrt(size) unless the attribute says otherwise."""
    scale = call.attr("scale", 0.0) or 1 / math.sqrt(size)
    return call.add("MatMul", call.add("Mul", q, real(call, scale)), call.transpose(k, 0, 1, 3, 2))


def softmax(call: Call, x: str) -> str:
    return call.add("Softmax", x, axis=3)


# --- masks ------------------------------------------------------------------------------------------------------------


def _masked(call: Call, index: int, s: Sizes) -> str:
    """Where the mask hides a key: booleans, [batch, 1, 1 or S, T]."""
    shape, mask = call.shape(index), call.input(index)
    positions = call.array(np.arange(s.total).reshape(1, 1, 1, -1), call.dtype(index))
    if shape == (s.batch,):
        return call.add("Not", call.add("Less", positions, call.reshape(mask, s.batch, 1, 1, 1)))
    if shape == (2 * s.batch,):
        ends, starts = (call.reshape(call.slice(mask, 0, n, n + s.batch), s.batch, 1, 1, 1) for n in (0, s.batch))
        before = call.add("Less", positions, starts)
        return call.add("Or", call.add("Not", call.add("Less", positions, ends)), before)
    if shape == (s.batch, s.total):
        mask = call.reshape(mask, s.batch, 1, 1, s.total)
    elif shape == (s.batch, s.length, s.total):
        mask = call.reshape(mask, s.batch, 1, s.length, s.total)
    else:
        call.refuse(f"its mask of the shape {list(shape)} is not supported")
    return call.add("Not", call.add("Greater", mask, call.array(np.zeros((), call.dtype(index)))))


def mask_of(call: Call, index: int, s: Sizes) -> str:
    """What is added to the scores for the mask, which is the input `index` if there is one, and for the attribute
    `unidirectional`; "" for nothing.
    """
    call.require_opset(10)
    mask = ""
    if call.has(index):
        hidden = real(call, call.attr("mask_filter_value", -10000.0))
        mask = call.add("Where", _masked(call, index, s), hidden, real(call, 0.0))
    if call.attr("unidirectional", 0):
        seen = np.tri(s.length, s.total, s.past, dtype=bool)[None, None]
        seen[..., -1, :] = True  # as in onnxruntime, also where there are more keys
        mask = call.add("Where", call.array(seen), mask or real(call, 0.0), real(call, _LOWEST))
    return mask


def attend(call: Call, q: str, k: str, v: str, mask: tuple[int, int], s: Sizes, seen: str = "") -> tuple[str, str]:
    """softmax(scale q k' + mask + bias) v as [batch, S, heads * value size], and the scores before the softmax.

    `mask` has the indices of the inputs that are the mask and the bias; `seen` tells which keys there are, if not all.
    """
    x = scores(call, q, k, s.size)
    if added := mask_of(call, mask[0], s):
        x = call.add("Add", x, added)
    if call.has(mask[1]):
        x = call.add("Add", x, call.input(mask[1]))
    if seen:
        x = call.add("Where", seen, x, real(call, _LOWEST))
    y = call.add("MatMul", softmax(call, x), v)
    return together(call, y, s.batch, s.length, s.heads, s.value_size), x


# --- with the projection ----------------------------------------------------------------------------------------------


def _split(call: Call, x: str, sizes: tuple[int, int, int]) -> list[str]:
    """The queries, keys and values that lie side by side in the last dimension of three."""
    ends = np.cumsum(sizes).tolist()
    return [call.slice(x, 2, end - size, end) for size, end in zip(sizes, ends, strict=True)]


def _self_attention(call: Call, projected: str, hidden: tuple[int, int, int], mask: tuple[int, int], past: int) -> None:
    """Attention of what the projection gave, [batch, S, sum(hidden)]. `past` is the index of past keys and values."""
    call.refuse_attributes(past_present_share_buffer=0, do_rotary=0)
    heads = call.attr("num_heads", 1)
    batch, length = call.shape(0)[:2]
    before = call.shape(past)[3] if call.has(past) else 0
    s = Sizes(batch, heads, length, before + length, hidden[0] // heads, hidden[2] // heads, before)
    q, k, v = (
        heads_of(call, x, batch, length, heads, size // heads)
        for x, size in zip(_split(call, projected, hidden), hidden, strict=True)
    )
    if before:
        shape = (batch, heads, before, s.size)
        k, v = (
            call.add("Concat", call.reshape(call.slice(call.input(past), 0, n, n + 1), *shape), x, axis=2)
            for n, x in enumerate((k, v))
        )
    if call.wants(1):
        whole = (1, batch, heads, s.total, s.size)
        call.give(1, call.add("Concat", *(call.reshape(x, *whole) for x in (k, v)), axis=0))
    call.give(0, attend(call, q, k, v, mask, s)[0])


@contrib("Attention")
def attention(call: Call) -> None:
    """Of the input's projections, where `weights` holds those to queries, keys and values side by side."""
    columns = call.shape(1)[1]
    hidden = tuple(call.attr("qkv_hidden_sizes", None) or [columns // 3] * 3)
    y = call.add("MatMul", call.input(0), call.input(1))
    if call.has(2):
        y = call.add("Add", y, call.input(2))
    _self_attention(call, y, (hidden[0], hidden[1], hidden[2]), (3, 5), 4)


@contrib("QAttention")
def quantised_attention(call: Call) -> None:
    """Attention whose input and weights are integers."""
    columns = call.shape(1)[1]
    zeros = (zero_point(call, 6, 0), zero_point(call, 7, 1))
    y = product_of_integers(call, call.input(0), 1, zeros, (call.input(3), call.input(4)))
    y = call.add("Add", y, call.input(2))
    _self_attention(call, y, (columns // 3,) * 3, (5, len(call.node.input)), 8)


# --- without it -------------------------------------------------------------------------------------------------------


def _packed(call: Call, index: int, parts: int) -> list[str]:
    """[batch, length, heads, parts, size] as `parts` of [batch, length, heads * size]."""
    batch, length, heads, _, size = call.shape(index)
    return [call.reshape(call.slice(call.input(index), 3, n, n + 1), batch, length, heads * size) for n in range(parts)]


@dataclass(frozen=True)
class _Projected:
    """Queries, keys and values; the last two are [batch, length, hidden], or with `own_heads` as attention wants."""

    q: str
    k: str
    v: str
    kv_length: int
    hidden: tuple[int, int]
    own_heads: bool = False


def _projected(call: Call) -> _Projected:
    length = call.shape(0)[1]
    if not call.has(1):
        *_, heads, _, size = call.shape(0)
        q, k, v = _packed(call, 0, 3)
        return _Projected(q, k, v, length, (heads * size, heads * size))
    hidden = call.shape(0)[2]
    if len(call.shape(1)) == 5:
        k, v = _packed(call, 1, 2)
        return _Projected(call.input(0), k, v, call.shape(1)[1], (hidden, hidden))
    if len(call.shape(1)) == 4:
        heads, kv_length, size = call.shape(2)[1:]
        return _Projected(call.input(0), call.input(1), call.input(2), kv_length, (hidden, heads * size), True)
    return _Projected(call.input(0), call.input(1), call.input(2), call.shape(1)[1], (hidden, call.shape(2)[2]))


def _biased(call: Call, x: str, bias: int, start: int, size: int) -> str:
    return call.add("Add", x, call.slice(call.input(bias), 0, start, start + size)) if call.has(bias) else x


@dataclass(frozen=True)
class _Places:
    """Which input is what."""

    bias: int
    mask: int
    added: int
    past: int


def _attention_of_projections(call: Call, at: _Places) -> None:
    batch, length = call.shape(0)[:2]
    heads = call.attr("num_heads", 1)
    given = _projected(call)
    size, value_size = (n // heads for n in given.hidden)
    past = call.shape(at.past)[2] if call.has(at.past) else 0
    s = Sizes(batch, heads, length, past + given.kv_length, size, value_size, past)
    q = heads_of(call, _biased(call, given.q, at.bias, 0, given.hidden[0]), batch, length, heads, size)
    k, v = given.k, given.v
    if not given.own_heads:
        k = _biased(call, k, at.bias, given.hidden[0], given.hidden[0])
        v = _biased(call, v, at.bias, 2 * given.hidden[0], given.hidden[1])
        k = heads_of(call, k, batch, given.kv_length, heads, size)
        v = heads_of(call, v, batch, given.kv_length, heads, value_size)
    if past:
        k, v = (call.add("Concat", call.input(at.past + n), x, axis=2) for n, x in enumerate((k, v)))
    y, qk = attend(call, q, k, v, (at.mask, at.added), s)
    for index, value in enumerate((y, k, v, qk)):
        call.give(index, value)


@contrib("MultiHeadAttention")
def multi_head_attention(call: Call) -> None:
    """Self and cross attention, with keys and values of the past."""
    call.refuse_inputs(8, 9)
    _attention_of_projections(call, _Places(bias=3, mask=4, added=5, past=6))


@contrib("DecoderMaskedMultiHeadAttention")
def decoder_masked_multi_head_attention(call: Call) -> None:
    """Of one query. Its key and value are put into the past ones at `past_sequence_length`, where they share a buffer;
    later keys are not seen.
    """
    call.refuse_inputs(9)
    if not call.has(1):
        call.refuse("packed queries, keys and values are not supported")
    if not call.attr("past_present_share_buffer", 0) or not call.has(5):
        _attention_of_projections(call, _Places(bias=10, mask=3, added=4, past=5))
        return
    call.require_opset(11)
    batch, _, hidden = call.shape(0)
    _, heads, room, size = call.shape(5)
    value_hidden = call.shape(2)[2]
    place = call.reshape(call.add("Cast", call.input(7), to=7), 1, 1, 1, 1)
    at = call.array(np.arange(room).reshape(1, 1, -1, 1), np.int64)
    q = heads_of(call, _biased(call, call.input(0), 10, 0, hidden), batch, 1, heads, size)
    present = []
    for index, start, width in ((1, hidden, hidden), (2, 2 * hidden, value_hidden)):
        new = heads_of(call, _biased(call, call.input(index), 10, start, width), batch, 1, heads, width // heads)
        present.append(call.add("Where", call.add("Equal", at, place), new, call.input(4 + index)))
        call.give(index, present[-1])
    # A mask and a bias are as long as the keys that there are.
    total = next((call.shape(index)[-1] for index in (3, 4) if call.has(index)), room)
    k, v = (x if total == room else call.slice(x, 2, 0, total) for x in present)
    later = call.add("Greater", call.array(np.arange(total).reshape(1, 1, 1, -1), np.int64), place)
    s = Sizes(batch, heads, 1, total, size, value_hidden // heads)
    y, qk = attend(call, q, k, v, (3, 4), s, call.add("Not", later))
    call.give(0, y)
    call.give(3, qk)


# --- rotary embedding -------------------------------------------------------------------------------------------------


def rotate(call: Call, x: str, cos: str, sin: str, shape: tuple[int, ...], rotary: int, interleaved: bool) -> str:
    """The first `rotary` numbers of each head turned, in pairs, by angles of which `cos` and `sin` are known.

    `x` has four dimensions, its `shape`; `cos` and `sin` broadcast to it, with rotary / 2 in the last dimension.
    """
    half = rotary // 2
    turned = x if rotary == shape[3] else call.slice(x, 3, 0, rotary)
    if interleaved:
        pairs = call.reshape(turned, *shape[:3], half, 2)
        a, b = (call.reshape(call.slice(pairs, 4, n, n + 1), *shape[:3], half) for n in (0, 1))
    else:
        a, b = (call.slice(turned, 3, n, n + half) for n in (0, half))
    left = call.add("Sub", call.add("Mul", a, cos), call.add("Mul", b, sin))
    right = call.add("Add", call.add("Mul", a, sin), call.add("Mul", b, cos))
    if interleaved:
        left, right = (call.reshape(part, *shape[:3], half, 1) for part in (left, right))
        turned = call.reshape(call.add("Concat", left, right, axis=4), *shape[:3], rotary)
    else:
        turned = call.add("Concat", left, right, axis=3)
    return turned if rotary == shape[3] else call.add("Concat", turned, call.slice(x, 3, rotary, shape[3]), axis=3)


@contrib("RotaryEmbedding")
def rotary_embedding(call: Call) -> None:
    """Of [batch, length, heads * size] or [batch, heads, length, size]."""
    call.refuse_attributes(is_packed_batching=0, scale=1.0)
    shape, angles = call.shape(0), call.shape(2)[1]
    rotary = call.attr("rotary_embedding_dim", 0) or 2 * angles
    if len(shape) == 4:
        batch, heads, length, size = shape
        x = call.input(0)
        between = (batch, 1, length, angles)
    else:
        batch, length, hidden = shape
        heads = call.attr("num_heads", 0) or hidden // rotary
        size = hidden // heads
        x = call.reshape(call.input(0), batch, length, heads, size)
        between = (batch, length, 1, angles)
    positions = call.input(1)
    if len(call.shape(1)) == 1:
        steps = call.array(np.tile(np.arange(length), (batch, 1)), call.dtype(1))
        positions = call.add("Add", steps, positions)
    cos, sin = (call.reshape(call.add("Gather", call.input(n), positions, axis=0), *between) for n in (2, 3))
    whole = (batch, heads, length, size) if len(shape) == 4 else (batch, length, heads, size)
    y = rotate(call, x, cos, sin, whole, rotary, bool(call.attr("interleaved", 0)))
    call.give(0, y if len(shape) == 4 else call.reshape(y, *shape))
