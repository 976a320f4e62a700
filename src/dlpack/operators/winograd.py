"""Winograd's convolution in one kernel (see graph/winograd.py): tiles in, 36 matrix products, tiles out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dlpack.operators.elementwise import const
from dlpack.operators.registry import Context, anchor
from dlpack.tir import te, tirx


def _pick(index: Any, values: Sequence[Any]) -> Any:
    """``values[index]``: the loop over the index is unrolled, so that one value remains."""
    out = values[-1]
    for k in reversed(range(len(values) - 1)):
        out = tirx.Select(index == k, values[k], out)
    return out


def _input_rows(d: Sequence[Any]) -> list[Any]:
    """B^T d, written so that the rows share their terms."""
    four, five, two = (const(v, "float32") for v in (4.0, 5.0, 2.0))
    even, odd = d[4] - d[2] * four, d[3] - d[1] * four
    near, far = d[4] - d[2], (d[3] - d[1]) * two
    return [
        d[0] * four - d[2] * five + d[4],
        even + odd,
        even - odd,
        near + far,
        near - far,
        d[1] * four - d[3] * five + d[5],
    ]


def _output_rows(m: Sequence[Any]) -> list[Any]:
    """A^T m, written so that the rows share their terms."""
    two, four, eight = (const(v, "float32") for v in (2.0, 4.0, 8.0))
    near_sum, near_difference = m[1] + m[2], m[1] - m[2]
    far_sum, far_difference = m[3] + m[4], m[3] - m[4]
    return [
        m[0] + near_sum + far_sum,
        near_difference + far_difference * two,
        near_sum + far_sum * four,
        near_difference + far_difference * eight + m[5],
    ]


@anchor("WinogradConvolution", domain="dlpack", layout="spatial")
def winograd_convolution(ctx: Context, x: Any, u: Any) -> list[Any]:
    """x [N, C, 4 rows + 2, 4 columns + 2], u = G w G^T [6, 6, C, O] → A^T [sum over C of (B^T d B) * u] A.

    Tiles are numbered t = row * columns + column. The stages' names are what the schedule knows them by.
    """
    n, c, high, wide = (int(d) for d in x.shape)
    rows, columns, o = (high - 2) // 4, (wide - 2) // 4, int(u.shape[3])
    tiles = rows * columns

    def pixel(b: Any, k: Any, t: Any, dy: Any, dx: Any) -> Any:
        return x(b, k, tirx.floordiv(t, columns) * 4 + dy, tirx.floormod(t, columns) * 4 + dx)

    half = te.compute(
        (6, 6, n, tiles, c),
        lambda i, j, b, t, k: _pick(i, _input_rows([pixel(b, k, t, r, j) for r in range(6)])),
        name="winograd_half_in",
    )
    v = te.compute(
        (6, 6, n, tiles, c),
        lambda i, j, b, t, k: _pick(j, _input_rows([half(i, r, b, t, k) for r in range(6)])),
        name="winograd_in",
    )
    ic = te.reduce_axis((0, c), name="ic")
    m = te.compute(
        (6, 6, n, tiles, o),
        lambda i, j, b, t, k: te.sum(v(i, j, b, t, ic) * u(i, j, ic, k), axis=ic),
        name="winograd_product",
    )
    half_out = te.compute(
        (4, 6, n, tiles, o),
        lambda i, j, b, t, k: _pick(i, _output_rows([m(r, j, b, t, k) for r in range(6)])),
        name="winograd_half_out",
    )

    def at(b: Any, k: Any, y: Any, xx: Any) -> Any:
        t = tirx.floordiv(y, 4) * columns + tirx.floordiv(xx, 4)
        return _pick(tirx.floormod(xx, 4), _output_rows([half_out(tirx.floormod(y, 4), r, b, t, k) for r in range(6)]))

    return [te.compute((n, o, ctx.attr("height"), ctx.attr("width")), at, name="winograd_out")]
