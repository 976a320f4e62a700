"""Attention as one operator (see graph/attention.py)."""

from __future__ import annotations

from typing import Any

from dlpack.graph.registry import Context, anchor, compute
from dlpack.loops.in_use import PAST
from dlpack.loops.tir import te, tirx
from dlpack.operators.elementwise import call, const


@anchor("FusedAttention", domain="dlpack", layout="rows")
def fused_attention(ctx: Context, q: Any, k: Any, v: Any, mask: Any = None, used: Any = None) -> list[Any]:
    """q [..., S, D], k [..., D, T], v [..., T, W] → softmax(q k * scale + mask) v [..., S, W]; the mask is broadcast.

    A mask of bools chooses: `hidden` takes the place of scores where it is false, or, if it `hides`, where it is true.
    Of the first `past` keys the mask leaves none behind the first `used`, int32[1], so that a schedule may leave these
    out. It knows the kernel by the names of its stages.
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
        said = mask(*(0 if int(extent) == 1 else j for extent, j in zip(mask.shape, own, strict=True)))
        if str(mask.dtype) != "bool":
            return value + said
        hidden = const(ctx.attr("hidden"), "float32")
        return tirx.Select(said, hidden, value) if ctx.attr("hides") else tirx.Select(said, value, hidden)

    past = {PAST: ctx.attr("past")} if used is not None else {}
    weights = te.compute(scores.shape, masked, name="masked", attrs=past)
    t, u, w = (te.reduce_axis((0, keys), name=name) for name in "tuw")
    top = te.compute((*lead, rows), lambda *i: te.max(weights(*i, t), t), name="top")
    powers = te.compute(scores.shape, lambda *i: call("exp_", "float32", weights(*i) - top(*i[:-1])), name="power")
    total = te.compute((*lead, rows), lambda *i: te.sum(powers(*i, u), u), name="total")
    sums = te.compute(
        (*lead, rows, width), lambda *i: te.sum(powers(*i[:-1], w) * v(*i[:-2], w, i[-1]), w), name="sums"
    )
    return [te.compute(sums.shape, lambda *i: sums(*i) / total(*i[:-1]), name="attended")]


@compute("RowsInUse", domain="dlpack", layout="rows")
def rows_in_use(ctx: Context, filled: Any) -> list[Any]:
    """Of [1, rows] integers: how many of the first `past` there are up to the last that is not 0, rounded up to a
    multiple of `at_once`, which divides `past`; int32[1]."""
    past, once = ctx.attr("past"), ctx.attr("at_once")
    r = te.reduce_axis((0, past), name="row")
    end = r // once * once + once
    zero = const(0, "int32")
    return [
        te.compute(
            (1,), lambda _: te.max(tirx.Select(filled(0, r) != const(0, filled.dtype), end, zero), r), name="used"
        )
    ]
