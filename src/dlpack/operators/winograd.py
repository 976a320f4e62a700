"""The tile transforms of Winograd's convolution (see graph/winograd.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dlpack.operators.elementwise import const
from dlpack.operators.registry import Context, anchor, compute
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


@compute("WinogradInput", domain="dlpack", layout="spatial input")
def winograd_input(ctx: Context, x: Any) -> list[Any]:
    """x [N, C, 4 rows + 2, 4 columns + 2] → B^T d B of each 6x6 tile, [6, 6, N, rows, columns, C]."""
    n, c = int(x.shape[0]), int(x.shape[1])
    shape = (6, 6, n, ctx.attr("rows"), ctx.attr("columns"), c)
    half = te.compute(
        shape,
        lambda i, j, b, r, s, k: _pick(i, _input_rows([x(b, k, r * 4 + t, s * 4 + j) for t in range(6)])),
        name="half",
        attrs={"dlpack.tile_axes": 2},
    )
    return [
        te.compute(
            shape,
            lambda i, j, b, r, s, k: _pick(j, _input_rows([half(i, t, b, r, s, k) for t in range(6)])),
            name="out",
            attrs={"dlpack.tile_axes": 2},
        )
    ]


@anchor("WinogradOutput", domain="dlpack", layout="spatial output")
def winograd_output(ctx: Context, m: Any) -> list[Any]:
    """m [6, 6, N, rows, columns, O] → A^T m A, the tiles put together: [N, O, height, width]."""
    _, _, n, rows, columns, o = (int(d) for d in m.shape)
    half = te.compute(
        (4, 6, n, rows, columns, o),
        lambda i, j, b, r, s, k: _pick(i, _output_rows([m(t, j, b, r, s, k) for t in range(6)])),
        name="half",
        attrs={"dlpack.tile_axes": 2},
    )

    def at(b: Any, k: Any, y: Any, x: Any) -> Any:
        r, i, s, j = tirx.floordiv(y, 4), tirx.floormod(y, 4), tirx.floordiv(x, 4), tirx.floormod(x, 4)
        return _pick(j, _output_rows([half(i, t, b, r, s, k) for t in range(6)]))

    return [te.compute((n, o, ctx.attr("height"), ctx.attr("width")), at, name="out", attrs={"dlpack.tile": 4})]
