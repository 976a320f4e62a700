"""GroupQueryAttention with its cache, as onnxruntime's model builder gives it to decoders, for slots with gaps.

The operator takes a past without gaps, of which it is told the length, and computes positions from that. Here it
becomes products, and the attention mask says which slots of the past have a token: those at its beginning, a slot
being the position of its token. The new tokens follow them, wherever their rows lie. See decision 39.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto
from onnx.helper import tensor_dtype_to_np_dtype

from dlpack.meaning.generation import Generation
from dlpack.model.contrib_attention import rotate
from dlpack.model.contrib_node import DOMAIN, Call
from dlpack.model.walk import opset_versions

_INTS = np.int64
_OP = "GroupQueryAttention"


def in_slots(model: ModelProto, generation: Generation) -> ModelProto:
    """The decoder's export with ONNX's operators in place of GroupQueryAttention; the model itself without any.

    Raises UnsupportedError, which names the node, for one that does more than a bundle's caches allow.
    """
    if not any(n.op_type == _OP and n.domain == DOMAIN for n in model.graph.node):
        return model
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    taken = {name for n in graph.node for name in (n.name, *n.input, *n.output)}
    elems = {v.name: v.type.tensor_type.elem_type for v in graph.input}
    tables = {t.name: tuple(t.dims) for t in graph.initializer}
    nodes: list[Any] = []
    slots: Slots | None = None
    for node in graph.node:
        past = node.input[3] if len(node.input) > 4 else ""
        if node.op_type != _OP or node.domain != DOMAIN or past not in generation.caches:
            nodes.append(node)
            continue
        call = Call(node, {}, {}, opset_versions(model)[""], taken)
        call.require_opset(13)
        slots = slots or Slots(call, generation)
        shared, size = generation.heads[past]
        angles = tables.get(call.optional(7), (0, size // 2))[-1]
        _attention(call, slots, _Heads(call.attr("num_heads", 0), shared, size, 2 * angles), elems[past])
        call.finish()
        nodes += call.nodes
        graph.initializer.extend(call.weights)
    del graph.node[:]
    graph.node.extend(nodes)
    return result


@dataclass(frozen=True)
class _Heads:
    """Of the queries, and of the keys and values, each of `size` numbers, the first `rotary` of which are turned."""

    queries: int
    shared: int
    size: int
    rotary: int


class Slots:
    """Which token each slot has, and each new row; computed once, by the nodes of the first attention.

    `rows`: the positions of the new tokens, [1, S]. `keys`: those of all slots, [1, 1, 1, P + S]. `there`: whether a
    slot has a token, [1, 1, 1, P + S].
    """

    def __init__(self, call: Call, generation: Generation) -> None:
        mask = call.add("Cast", generation.mask, to=7)
        one, zero = call.array(1, _INTS), call.array(0, _INTS)
        past = _size(call, next(iter(generation.caches)), 2)
        self.length = _size(call, generation.tokens, 1)
        axis = call.array([1], _INTS)
        known = call.add("Slice", mask, call.array([0], _INTS), past, axis)
        before = call.add("ReduceSum", known, axis, keepdims=1)
        steps, slots = (
            call.add("Range", zero, call.add("Squeeze", n, call.array([0], _INTS)), one) for n in (self.length, past)
        )
        self.rows = call.add("Add", before, steps)
        slots = call.reshape(slots, 1, -1)
        self.keys = call.reshape(call.add("Concat", slots, self.rows, axis=1), 1, 1, 1, -1)
        self.there = call.add("Greater", call.reshape(mask, 1, 1, 1, -1), zero)
        self._seen: dict[int, str] = {}

    def seen(self, call: Call, window: int) -> str:
        """Which slots a new token attends to, bool[1, 1, S, P + S]. `window`: the last so many; below 1: all."""
        if window not in self._seen:
            rows = call.reshape(self.rows, 1, 1, -1, 1)
            seen = call.add("And", call.add("LessOrEqual", self.keys, rows), self.there)
            if window > 0:
                first = call.add("Sub", rows, call.array(window, _INTS))
                seen = call.add("And", seen, call.add("Greater", self.keys, first))
            self._seen[window] = seen
        return self._seen[window]


def _size(call: Call, value: str, axis: int) -> str:
    """The size of a dimension, int64[1]."""
    return call.add("Gather", call.add("Shape", value), call.array([axis], _INTS), axis=0)


def _attention(call: Call, slots: Slots, heads: _Heads, elem: int) -> None:
    call.refuse_attributes(
        causal=1, sliding_window_cache=0, k_quant_type="NONE", v_quant_type="NONE", kv_cache_bit_width=0, qk_output=0
    )
    call.refuse_inputs(10, 12, 13, 14, 15, 16)
    dtype = tensor_dtype_to_np_dtype(elem)
    q, k, v = _split(call, heads)
    if call.attr("do_rotary", 0):
        q, k = _turned(call, slots, q, k, heads)
    keys, values = (call.add("Concat", call.input(n), new, axis=2) for n, new in ((3, k), (4, v)))
    call.give(1, keys)
    call.give(2, values)
    keys, values = (_repeated(call, x, heads) for x in (keys, values))
    scale = call.array(call.attr("scale", 0.0) or 1 / math.sqrt(heads.size), dtype)
    x = call.add("MatMul", call.add("Mul", q, scale), call.transpose(keys, 0, 1, 3, 2))
    if cap := call.attr("softcap", 0.0):
        limit = call.array(cap, dtype)
        x = call.add("Mul", call.add("Tanh", call.add("Div", x, limit)), limit)
    lowest = call.array(-65504.0 if dtype == np.float16 else -3e38, dtype)
    x = call.add("Where", slots.seen(call, call.attr("local_window_size", -1)), x, lowest)
    y = call.add("MatMul", _probabilities(call, slots, x, heads.queries, dtype), values)
    call.give(0, call.reshape(call.transpose(y, 0, 2, 1, 3), 1, -1, heads.queries * heads.size))


def _split(call: Call, heads: _Heads) -> list[str]:
    """[1, heads, S, size] of the queries, keys and values, which may lie side by side in the first input."""
    counts = (heads.queries, heads.shared, heads.shared)
    if call.has(1):
        parts = [call.input(n) for n in range(3)]
    else:
        parts = call.add_many(3, "Split", call.input(0), call.array([n * heads.size for n in counts], _INTS), axis=2)
    return [
        call.transpose(call.reshape(x, 1, -1, n, heads.size), 0, 2, 1, 3) for x, n in zip(parts, counts, strict=True)
    ]


def _turned(call: Call, slots: Slots, q: str, k: str, heads: _Heads) -> list[str]:
    """Queries and keys with rotary embedding at their positions."""
    positions = call.input(9) if call.has(9) else slots.rows
    axis = call.array([1], _INTS)
    cos, sin = (call.add("Unsqueeze", call.add("Gather", call.input(n), positions, axis=0), axis) for n in (7, 8))
    interleaved = bool(call.attr("rotary_interleaved", 0))
    return [
        rotate(call, x, cos, sin, (1, n, -1, heads.size), heads.rotary, interleaved)
        for x, n in ((q, heads.queries), (k, heads.shared))
    ]


def _repeated(call: Call, x: str, heads: _Heads) -> str:
    """Keys or values with a copy for each head of the queries, as exports have them that lack the operator."""
    if heads.queries == heads.shared:
        return x
    wide = call.add("Unsqueeze", x, call.array([2], _INTS))
    wide = call.add("Expand", wide, call.array([1, 1, heads.queries // heads.shared, 1, 1], _INTS))
    return call.reshape(wide, 1, heads.queries, -1, heads.size)


def _probabilities(call: Call, slots: Slots, x: str, heads: int, dtype: np.dtype[Any]) -> str:
    """Softmax of [1, heads, S, P + S], with a sink in the denominator where there is one."""
    if call.has(11):
        sink = call.reshape(call.input(11), 1, heads, 1, 1)
    elif call.attr("smooth_softmax", 0) == 1:
        sink = call.array(np.zeros((1, heads, 1, 1)), dtype)
    else:
        return call.add("Softmax", x, axis=3)
    shape = call.add("Concat", call.array([1, heads], _INTS), slots.length, call.array([1], _INTS), axis=0)
    x = call.add("Softmax", call.add("Concat", x, call.add("Expand", sink, shape), axis=3), axis=3)
    return call.slice(x, 3, 0, -1)
