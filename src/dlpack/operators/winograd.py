"""Winograd's convolution in one kernel (see graph/winograd.py): tiles in, matrix products, tiles out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dlpack.graph.registry import Context, anchor
from dlpack.loops.numbered import as_numbered
from dlpack.loops.tir import te, tirx
from dlpack.operators.elementwise import const, minus, plus, sum_over, times

Rows = Callable[[Sequence[Any]], list[Any]]


def _pick(index: Any, values: Sequence[Any]) -> Any:
    """``values[index]``: the loop over the index is unrolled, so that one value remains."""
    out = values[-1]
    for k in reversed(range(len(values) - 1)):
        out = tirx.Select(index == k, values[k], out)
    return out


def _c(value: float) -> Any:
    return const(value, "float32")


# B^T d for each edge of an input's tile, at 0, 1, -1, infinity, then 2, -2, then 1/2, -1/2, and A^T m for each tile
# of the output and each edge, written so that the rows share their terms.


def _input_of_4(d: Sequence[Any]) -> list[Any]:
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[3] - d[1]]


def _output_2_of_4(m: Sequence[Any]) -> list[Any]:
    return [m[0] + (m[1] + m[2]), m[3] + (m[1] - m[2])]


def _input_of_6(d: Sequence[Any]) -> list[Any]:
    even, odd = d[4] - d[2] * _c(4), d[3] - d[1] * _c(4)
    near, far = d[4] - d[2], (d[3] - d[1]) * _c(2)
    return [
        d[0] * _c(4) - d[2] * _c(5) + d[4],
        even + odd,
        even - odd,
        near + far,
        near - far,
        d[1] * _c(4) - d[3] * _c(5) + d[5],
    ]


def _output_of_6(m: Sequence[Any]) -> list[Any]:
    near_sum, near_difference = m[1] + m[2], m[1] - m[2]
    far_sum, far_difference = m[3] + m[4], m[3] - m[4]
    return [
        m[0] + near_sum + far_sum,
        near_difference + far_difference * _c(2),
        near_sum + far_sum * _c(4),
        near_difference + far_difference * _c(8),
    ]


def _input_of_8(d: Sequence[Any]) -> list[Any]:
    one_even, one_odd = d[2] + d[6] - d[4] * _c(4.25), d[1] + d[5] - d[3] * _c(4.25)
    two_even = d[6] + d[2] * _c(0.25) - d[4] * _c(1.25)
    two_odd = d[1] * _c(0.5) - d[3] * _c(2.5) + d[5] * _c(2)
    half_even = d[6] + (d[2] - d[4] * _c(1.25)) * _c(4)
    half_odd = d[1] * _c(2) - d[3] * _c(2.5) + d[5] * _c(0.5)
    return [
        d[0] - d[6] + (d[4] - d[2]) * _c(5.25),
        one_even + one_odd,
        one_even - one_odd,
        two_even + two_odd,
        two_even - two_odd,
        half_even + half_odd,
        half_even - half_odd,
        d[7] - d[1] + (d[3] - d[5]) * _c(5.25),
    ]


def _output_of_8(m: Sequence[Any]) -> list[Any]:
    one_sum, one_difference = m[1] + m[2], m[1] - m[2]
    two_sum, two_difference = m[3] + m[4], m[3] - m[4]
    half_sum, half_difference = m[5] + m[6], m[5] - m[6]
    return [
        m[0] + one_sum + two_sum + half_sum * _c(32),
        one_difference + two_difference * _c(2) + half_difference * _c(16),
        one_sum + two_sum * _c(4) + half_sum * _c(8),
        one_difference + two_difference * _c(8) + half_difference * _c(4),
        one_sum + two_sum * _c(16) + half_sum * _c(2),
        one_difference + two_difference * _c(32) + half_difference,
    ]


# The same of integers for F(4x4, 3x3), with the rows of G as integers: 4, -6, -6, 24, 24 and 1 times what they are. The
# rows of A^T make that good: they are 24, 12, 6 and 6 times theirs, so that a tile is 576 times the output's, or 2 x 2,
# 2 x 4 or 4 x 4 less. Sums wrap, and are right modulo 2^32: a product with the inverse of 9 and a shift divide exactly.


def _integers_in(d: Sequence[Any]) -> list[Any]:
    near, odd = minus(d[4], d[2]), minus(d[3], d[1])
    even_4, odd_4, far = minus(d[4], _times(4, d[2])), minus(d[3], _times(4, d[1])), _times(2, odd)
    return [
        plus(_times(4, minus(d[0], d[2])), near),
        plus(even_4, odd_4),
        minus(even_4, odd_4),
        plus(near, far),
        minus(near, far),
        plus(_times(4, minus(d[1], d[3])), minus(d[5], d[3])),
    ]


def _integers_out(m: Sequence[Any]) -> list[Any]:
    near_sum, near_difference = plus(m[1], m[2]), minus(m[1], m[2])
    far_sum, far_difference = plus(m[3], m[4]), minus(m[3], m[4])
    return [
        plus(plus(_times(6, m[0]), _times(4, near_sum)), far_sum),
        plus(_times(2, near_difference), far_difference),
        plus(near_sum, far_sum),
        plus(plus(near_difference, _times(2, far_difference)), _times(6, m[5])),
    ]


def _times(factor: int, x: Any) -> Any:
    return times(x, const(factor, x))


LESS = (0, 1, 2, 2)
"""By how many bits a row of a tile of integers is scaled less than the first, which is by 24."""

INVERSE_OF_9 = 954437177
"""9 times it is 1 modulo 2^32."""


def _divided(x: Any, row: Any, column: Any) -> Any:
    """A tile's element without its scale, 64 or less times 9."""
    shift = _pick(row, [_pick(column, [const(6 - a - b, x) for b in LESS]) for a in LESS])
    return tirx.shift_right(_times(INVERSE_OF_9, x), shift)


def _first(size: int, rows: Rows) -> Rows:
    """So many rows, the last of which has the value at infinity too."""

    def chosen(m: Sequence[Any]) -> list[Any]:
        *others, last = rows(m)[:size]
        return [*others, last + m[-1]]

    return chosen


_INPUT: dict[int, Rows] = {4: _input_of_4, 6: _input_of_6, 8: _input_of_8}
_OUTPUT: dict[tuple[int, int], Rows] = {
    (2, 4): _output_2_of_4,
    **{(size, 6): _first(size, _output_of_6) for size in (2, 4)},
    **{(size, 8): _first(size, _output_of_8) for size in (4, 6)},
}


@anchor("WinogradConvolution", domain="dlpack", layout="spatial")
def winograd_convolution(ctx: Context, x: Any, u: Any) -> list[Any]:
    """x [N, C, m rows + r - 1, m columns + r - 1], u = G w G^T [m + r - 1, m + r - 1, C, O], r the `window`
    → A^T [sum over C of (B^T d B) * u] A.

    Of integers x has 8 bits, u and what it is multiplied with 16, and the result 32.
    Tiles are numbered t = row * columns + column; where there are pictures of several sizes, as if a row had more of
    them than any picture's (loops/numbered.py). The last stage's name is what the schedule knows the kernel by.
    """
    n, c, high, wide = (int(d) for d in x.shape)
    edge, o = int(u.shape[0]), int(u.shape[3])
    beyond = int(ctx.attr("window")) - 1
    size = edge - beyond
    rows, columns = (high - beyond) // size, (wide - beyond) // size
    if any(ctx.output_type().sizes):
        rows, columns = as_numbered(rows, columns)
    dtype = ctx.output_type().dtype
    integers = dtype == "int32"
    input_rows, output_rows = (_integers_in, _integers_out) if integers else (_INPUT[edge], _OUTPUT[size, edge])

    def pixel(b: Any, k: Any, t: Any, dy: Any, dx: Any) -> Any:
        value = x(b, k, tirx.floordiv(t, columns) * size + dy, tirx.floormod(t, columns) * size + dx)
        return value.astype(dtype) if integers else value

    def factor(value: Any) -> Any:
        return value.astype("int16") if integers else value

    def product(a: Any, b: Any) -> Any:
        return times(a.astype(dtype), b.astype(dtype)) if integers else a * b

    half = te.compute(
        (edge, edge, n, rows * columns, c),
        lambda i, j, b, t, k: _pick(i, input_rows([pixel(b, k, t, r, j) for r in range(edge)])),
        name="half_in",
    )
    v = te.compute(
        (edge, edge, n, rows * columns, c),
        lambda i, j, b, t, k: factor(_pick(j, input_rows([half(i, r, b, t, k) for r in range(edge)]))),
        name="tiles",
    )
    ic = te.reduce_axis((0, c), name="ic")
    m = te.compute(
        (edge, edge, n, rows * columns, o),
        lambda i, j, b, t, k: sum_over(product(v(i, j, b, t, ic), u(i, j, ic, k)), axis=ic),
        name="products",
    )
    half_out = te.compute(
        (size, edge, n, rows * columns, o),
        lambda i, j, b, t, k: _pick(i, output_rows([m(r, j, b, t, k) for r in range(edge)])),
        name="half_out",
    )

    def at(b: Any, k: Any, y: Any, xx: Any) -> Any:
        t = tirx.floordiv(y, size) * columns + tirx.floordiv(xx, size)
        row, column = tirx.floormod(y, size), tirx.floormod(xx, size)
        value = _pick(column, output_rows([half_out(row, r, b, t, k) for r in range(edge)]))
        return _divided(value, row, column) if integers else value

    return [te.compute((n, o, ctx.attr("height"), ctx.attr("width")), at, name="winograd_out")]
