"""Attention as one operator (see graph/attention.py)."""

from __future__ import annotations

from typing import Any

from dlpack.graph.registry import Context, anchor
from dlpack.loops.tir import te
from dlpack.operators.elementwise import call, const


@anchor("FusedAttention", domain="dlpack", layout="rows")
def fused_attention(ctx: Context, q: Any, k: Any, v: Any, mask: Any = None) -> list[Any]:
    """q [..., S, D], k [..., D, T], v [..., T, W] → softmax(q k * scale + mask) v [..., S, W]; the mask is broadcast.

    The schedule knows the kernel by the names of its stages.
    """
    *lead, rows, size = (int(n) for n in q.shape)
    keys, width = int(k.shape[-1]), int(v.shape[-1])
    n = te.reduce_axis((0, size), name="n")
    scores = te.compute((*lead, rows, keys), lambda *i: te.sum(q(*i[:-1], n) * k(*i[:-2], n, i[-1]), n), name="scores")

    def masked(*i: Any) -> Any:
        value = scores(*i) * const(ctx.attr("scale"), "float32")
        if mask is None:
            return value
        own = i[len(i) - len(mask.shape) :]
        return value + mask(*(0 if int(extent) == 1 else j for extent, j in zip(mask.shape, own, strict=True)))

    weights = te.compute(scores.shape, masked, name="masked")
    t, u, w = (te.reduce_axis((0, keys), name=name) for name in "tuw")
    top = te.compute((*lead, rows), lambda *i: te.max(weights(*i, t), t), name="top")
    powers = te.compute(scores.shape, lambda *i: call("exp_", "float32", weights(*i) - top(*i[:-1])), name="power")
    total = te.compute((*lead, rows), lambda *i: te.sum(powers(*i, u), u), name="total")
    sums = te.compute(
        (*lead, rows, width), lambda *i: te.sum(powers(*i[:-1], w) * v(*i[:-2], w, i[-1]), w), name="sums"
    )
    return [te.compute(sums.shape, lambda *i: sums(*i) / total(*i[:-1]), name="attended")]
