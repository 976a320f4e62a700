"""GluonNLP's attention over interleaved projections, as in src/operator/contrib/transformer.cc.

A projection (steps, batch, heads * parts * size) has its parts (query, key and value, or key and value) side by side
for each head. Weights of attention are (batch * heads, queries, keys).
"""

from __future__ import annotations

import math

from dlpack.errors import ModelError
from dlpack.exporters.layers import reshape
from dlpack.exporters.mxnet.call import Call, converts


def _heads(c: Call, x: str, parts: int, part: int) -> str:
    """(batch * heads, steps, size): one of the `parts` of an interleaved projection."""
    heads = c.p.int("heads")
    steps, batch, width = c.g.shape(x)
    if heads < 1 or width % (heads * parts):
        raise ModelError(f"its parameter heads={heads} does not fit a width of {width}")
    size = width // (heads * parts)
    y = reshape(c.g, x, (steps, batch * heads, parts, size))
    y = c.op_("Gather", y, c.g.scalar_int(part), axis=2)
    return c.op_("Transpose", y, perm=[1, 0, 2])


def _scores(c: Call, query: str, key: str) -> str:
    """query · key / sqrt(size)."""
    scale = c.g.scalar(1.0 / math.sqrt(c.g.shape(query)[2]))
    return c.op_("MatMul", c.op_("Mul", query, scale), c.op_("Transpose", key, perm=[0, 2, 1]))


def _joined(c: Call, weights: str, value: str) -> str:
    """(queries, batch, heads * size) from weights and values of each head."""
    heads = c.p.int("heads")
    y = c.op_("Transpose", c.op_("MatMul", weights, value), perm=[1, 0, 2])
    steps, rows, size = c.g.shape(y)
    return reshape(c.g, y, (steps, rows // heads, heads * size))


@converts("_contrib_interleaved_matmul_selfatt_qk")
def self_attention_scores(c: Call) -> str:
    return _scores(c, _heads(c, c.x(0), 3, 0), _heads(c, c.x(0), 3, 1))


@converts("_contrib_interleaved_matmul_selfatt_valatt")
def self_attention_values(c: Call) -> str:
    return _joined(c, c.x(1), _heads(c, c.x(0), 3, 2))


@converts("_contrib_interleaved_matmul_encdec_qk")
def attention_scores(c: Call) -> str:
    return _scores(c, _heads(c, c.x(0), 1, 0), _heads(c, c.x(1), 2, 0))


@converts("_contrib_interleaved_matmul_encdec_valatt")
def attention_values(c: Call) -> str:
    return _joined(c, c.x(1), _heads(c, c.x(0), 2, 1))
