"""Products whose left operand is rounded to 8 bits by blocks (`graph/rounded.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dlpack.graph.registry import Context, anchor, compute
from dlpack.loops.tir import te, tirx
from dlpack.operators.elementwise import call, const, magnitude, round_half_even
from dlpack.operators.reduction import greatest

LARGEST = 127.0
"""The code of a block's largest magnitude."""

SMALLEST = 1e-30
"""Blocks whose magnitudes are all smaller have codes of zero, since 127 / x may pass what float32 holds."""


@compute("RoundBlocks", domain="dlpack", layout="rows")
def round_blocks(ctx: Context, x: Any) -> list[Any]:
    """Of float32 x [..., K] int8 codes [..., K] and, for each `block` of a row, its largest magnitude / 127 [..., K /
    block]; an element is its code times that, halves rounded to even. If there is a third output, it is minus `zero`
    times the sum of a block's codes, int32 [..., K / block].
    """
    shape, block, zero = [int(d) for d in x.shape], ctx.attr("block"), ctx.attr("zero")
    blocks, names = (*shape[:-1], shape[-1] // block), [*_rows(shape[:-1]), "block"]
    one, limit = const(1.0, "float32"), const(LARGEST, "float32")
    r = te.reduce_axis((0, block), name="r")
    peaks = te.compute(
        blocks,
        lambda *i: greatest(magnitude(x(*i[:-1], i[-1] * block + r)), axis=r),
        name="peaks",
        varargs_names=names,
    )
    factors = te.compute(
        blocks,
        lambda *i: tirx.Select(peaks(*i) < const(SMALLEST, one), const(0.0, one), limit / peaks(*i)),
        name="factors",
    )

    def nearest(*i: Any) -> Any:
        y = round_half_even(x(*i) * factors(*i[:-1], i[-1] // block))
        return tirx.min(tirx.max(y, -limit), limit)

    whole = te.compute(tuple(shape), nearest, name="whole")
    codes = te.compute(tuple(shape), lambda *i: whole(*i).astype("int32").astype("int8"), name="codes")
    scales = te.compute(blocks, lambda *i: peaks(*i) / limit, name="scales")
    if len(ctx.node.outputs) < 3:
        return [codes, scales]
    s = te.reduce_axis((0, block), name="s")
    sums = te.compute(blocks, lambda *i: te.sum(whole(*i[:-1], i[-1] * block + s), axis=s), name="sums")
    zeros = te.compute(blocks, lambda *i: (sums(*i) * const(-float(zero), one)).astype("int32"), name="zeros")
    return [codes, scales, zeros]


@anchor("BlockDot", domain="dlpack", layout="rows")
def block_dot(
    ctx: Context, x: Any, x_scales: Any, sums: Any, w: Any, w_scales: Any = None, zeros: Any = None
) -> list[Any]:
    """The sum over blocks of ``(x w + sums zeros) x_scales w_scales``: what RoundBlocks has made of [..., K], by codes
    w [blocks, K / blocks, N] and their scales [blocks, N]; absent scales and zeros [blocks, N] are ones. Scales of type
    int16 are the bits of float16s.
    """
    blocks, rows, columns = (int(d) for d in w.shape)
    lead = [int(d) for d in x.shape[:-1]]
    r, block = te.reduce_axis((0, rows), name="r"), te.reduce_axis((0, blocks), name="block")

    def products(*i: Any) -> Any:
        *m, b, n = i
        return te.sum(x(*m, b * rows + r).astype("int32") * w(b, r, n).astype("int32"), axis=r)

    dots = te.compute((*lead, blocks, columns), products, name="dots", varargs_names=[*_rows(lead), "block", "n"])

    def scaled(*i: Any) -> Any:
        *m, n = i
        total = dots(*m, block, n)
        if sums is not None:
            taken = sums(*m, block)
            total = total + (taken if zeros is None else zeros(block, n).astype("int32") * taken)
        y = total.astype("float32") * x_scales(*m, block)
        if w_scales is not None:
            scale = w_scales(block, n)
            y = y * (scale if str(w_scales.dtype) == "float32" else call("float_of_half_", "float32", scale))
        return te.sum(y, axis=block)

    return [te.compute((*lead, columns), scaled, name="acc", varargs_names=[*_rows(lead), "n"])]


def _rows(lead: Sequence[int]) -> list[str]:
    """Names of the dimensions before a row."""
    return [f"i{d}" for d in range(len(lead))]
