"""GroupQueryAttention, in which several heads of the queries share one of the keys and values, with the cache that
onnxruntime's model builder gives to language models.

Lengths are static: `total_sequence_length` is a constant, and the caches have their full length. How much of a cache
is filled, `seqlens_k`, may be known only at run time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dlpack.model.contrib_attention import heads_of, real, rotate, together
from dlpack.model.contrib_node import Call, contrib

_LOWEST = float(np.finfo(np.float32).min)
_INTS = np.int64


@dataclass(frozen=True)
class _Sizes:
    """`cache` is the length of the past keys (0: none), `total` that of the present ones, at least that of the text."""

    batch: int
    heads: int
    kv_heads: int
    length: int
    size: int
    cache: int
    total: int
    prompt: bool

    @property
    def group(self) -> int:
        return self.heads // self.kv_heads


def _sizes(call: Call) -> _Sizes:
    heads, kv_heads = call.attr("num_heads", 0), call.attr("kv_num_heads", 0)
    batch, length, hidden = call.shape(0)
    given = call.constant(6)
    if given is None:
        call.refuse(
            "its input 'total_sequence_length' is not constant, and decides the length of the cache; "
            "give it with --value, or compute it from the shape of an input"
        )
        raise AssertionError("refused")
    total = int(given.reshape(()))
    cache = call.shape(3)[2] if call.has(3) else 0
    size = hidden // heads if call.has(1) else hidden // (heads + 2 * kv_heads)
    return _Sizes(batch, heads, kv_heads, length, size, cache, max(cache, total), total == length)


def _queries_keys_values(call: Call, s: _Sizes) -> list[str]:
    """[batch, heads, S, size] each, the keys and values with their own number of heads."""
    if call.has(1):
        parts = [call.input(n) for n in range(3)]
    else:
        ends = [n * s.size for n in (0, s.heads, s.heads + s.kv_heads, s.heads + 2 * s.kv_heads)]
        parts = [call.slice(call.input(0), 2, ends[n], ends[n + 1]) for n in range(3)]
    return [
        heads_of(call, part, s.batch, s.length, n, s.size)
        for part, n in zip(parts, (s.heads, s.kv_heads, s.kv_heads), strict=True)
    ]


def _before(call: Call, s: _Sizes) -> str:
    """How many keys of the past count, [batch, 1]: those before the last `length` ones."""
    if s.prompt:
        return call.array(np.zeros((s.batch, 1), _INTS))
    known = call.reshape(call.add("Cast", call.input(5), to=7), s.batch, 1)
    return call.add("Add", known, call.array(1 - s.length, _INTS))


def _turned(call: Call, q: str, k: str, before: str, s: _Sizes) -> list[str]:
    """Queries and keys with rotary embedding at their positions."""
    angles = call.shape(7)[1]
    if call.has(9) and not s.prompt:
        positions = call.input(9)
    else:
        steps = call.array(np.arange(s.length).reshape(1, -1), _INTS)
        start = call.reshape(call.slice(call.reshape(call.input(9), -1), 0, 0, 1), 1, 1) if call.has(9) else before
        positions = call.add("Add", start, steps)
        if call.has(9):
            positions = call.add("Add", positions, call.array(np.zeros((s.batch, 1), _INTS)))
    cos, sin = (
        call.reshape(call.add("Gather", call.input(n), positions, axis=0), s.batch, 1, s.length, angles) for n in (7, 8)
    )
    interleaved = bool(call.attr("rotary_interleaved", 0))
    return [
        rotate(call, x, cos, sin, (s.batch, n, s.length, s.size), 2 * angles, interleaved)
        for x, n in ((q, s.heads), (k, s.kv_heads))
    ]


def _present(call: Call, past: int, new: str, before: str, s: _Sizes) -> str:
    """The first `before` of the past, the new ones and zeros, `total` in all."""
    if s.prompt:
        return _padded(call, new, s)
    parts = [call.input(past), new]
    # An index into past + new + one row of zeros, for every row of the result.
    parts.append(call.array(np.zeros((s.batch, s.kv_heads, 1, s.size), np.float32)))
    rows = call.add("Concat", *parts, axis=2)
    at = call.array(np.arange(s.total).reshape(1, -1), _INTS)
    since = call.add("Sub", at, before)
    later = call.add("Add", since, call.array(s.cache, _INTS))
    inside = call.add("Less", since, call.array(s.length, _INTS))
    later = call.add("Where", inside, later, call.array(s.cache + s.length, _INTS))
    index = call.add("Where", call.add("Less", since, call.array(0, _INTS)), at, later)
    return call.add("Concat", *(_row(call, rows, index, n, s) for n in range(s.batch)), axis=0)


def _row(call: Call, rows: str, index: str, n: int, s: _Sizes) -> str:
    if s.batch > 1:
        rows, index = call.slice(rows, 0, n, n + 1), call.slice(index, 0, n, n + 1)
    return call.add("Gather", rows, call.reshape(index, s.total), axis=2)


def _padded(call: Call, new: str, s: _Sizes) -> str:
    if s.total == s.length:
        return new
    zeros = np.zeros((s.batch, s.kv_heads, s.total - s.length, s.size), np.float32)
    return call.add("Concat", new, call.array(zeros), axis=2)


def _seen(call: Call, before: str, s: _Sizes) -> str:
    """Which keys a query sees: booleans, [batch, 1, 1, S, total]."""
    keys = call.array(np.arange(s.total).reshape(1, 1, 1, 1, -1), _INTS)
    start = call.reshape(before, s.batch, 1, 1, 1, 1)
    if not call.attr("causal", 1):
        return call.add("Less", keys, call.add("Add", start, call.array(s.length, _INTS)))
    last = call.add("Add", start, call.array(np.arange(s.length).reshape(1, 1, 1, -1, 1), _INTS))
    seen = call.add("Less", keys, call.add("Add", last, call.array(1, _INTS)))
    window = call.attr("local_window_size", -1)
    if window < 1:
        return seen
    return call.add("And", seen, call.add("Greater", keys, call.add("Sub", last, call.array(window, _INTS))))


def _probabilities(call: Call, x: str, s: _Sizes) -> str:
    """Softmax of [batch, kv heads, group, S, total], with a sink in the denominator where there is one."""
    if call.has(11):
        sink = call.reshape(call.input(11), 1, s.kv_heads, s.group, 1, 1)
        zeros = np.zeros((s.batch, 1, 1, s.length, 1), np.float32)
        x = call.add("Concat", x, call.add("Add", sink, call.array(zeros)), axis=4)
    elif call.attr("smooth_softmax", 0) == 1:
        zeros = np.zeros((s.batch, s.kv_heads, s.group, s.length, 1), np.float32)
        x = call.add("Concat", x, call.array(zeros), axis=4)
    else:
        return call.add("Softmax", x, axis=4)
    return call.slice(call.add("Softmax", x, axis=4), 4, 0, s.total)


def _added_bias(call: Call, x: str, s: _Sizes) -> str:
    """`x` with the bias of the scores, whose last dimension may be shorter than the cache."""
    if not call.has(10):
        return x
    batch, heads, length, total = call.shape(10)
    groups = (s.kv_heads, s.group) if heads > 1 else (1, 1)
    bias = call.reshape(call.input(10), batch, *groups, length, total)
    if total < s.total:
        rest = np.zeros((batch, *groups, length, s.total - total), np.float32)
        bias = call.add("Concat", bias, call.array(rest), axis=4)
    return call.add("Add", x, bias)


@contrib("GroupQueryAttention")
def group_query_attention(call: Call) -> None:
    """softmax(scale q k' + bias) v over the keys that a query sees; the new keys and values are put into the cache."""
    call.require_opset(13)
    call.refuse_attributes(
        sliding_window_cache=0, k_quant_type="NONE", v_quant_type="NONE", kv_cache_bit_width=0, qk_output=0
    )
    call.refuse_inputs(12, 13, 14, 15, 16)
    s = _sizes(call)
    before = _before(call, s)
    q, k, v = _queries_keys_values(call, s)
    if call.attr("do_rotary", 0):
        q, k = _turned(call, q, k, before, s)
    k, v = (_present(call, 3 + n, x, before, s) for n, x in enumerate((k, v)))
    call.give(1, k)
    call.give(2, v)
    grouped = call.reshape(q, s.batch, s.kv_heads, s.group, s.length, s.size)
    k, v = (call.reshape(x, s.batch, s.kv_heads, 1, s.total, s.size) for x in (k, v))
    scale = real(call, call.attr("scale", 0.0) or 1 / math.sqrt(s.size))
    x = call.add("MatMul", call.add("Mul", grouped, scale), call.transpose(k, 0, 1, 2, 4, 3))
    if cap := call.attr("softcap", 0.0):
        x = call.add("Mul", call.add("Tanh", call.add("Div", x, real(call, cap))), real(call, cap))
    x = call.add("Where", _seen(call, before, s), _added_bias(call, x, s), real(call, _LOWEST))
    y = call.reshape(call.add("MatMul", _probabilities(call, x, s), v), s.batch, s.heads, s.length, s.size)
    call.give(0, together(call, y, s.batch, s.length, s.heads, s.size))
