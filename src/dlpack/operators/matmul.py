"""Matrix products: MatMul, Gemm."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlpack.graph.registry import Builder, Context, anchor, rewrite
from dlpack.loops.tir import te
from dlpack.operators.elementwise import sum_over, times
from dlpack.operators.indexing import wrapped


@anchor("MatMul", layout="rows")
def matmul(ctx: Context, a: Any, b: Any) -> list[Any]:
    """numpy.matmul: a [..., M, K], b [..., K, N] → [..., M, N], batch dimensions broadcast, of the output's type."""
    sa, sb = [int(d) for d in a.shape], [int(d) for d in b.shape]
    one_row, one_column = len(sa) == 1, len(sb) == 1
    full_a, full_b = ([1, *sa] if one_row else sa), ([*sb, 1] if one_column else sb)
    batch = np.broadcast_shapes(tuple(full_a[:-2]), tuple(full_b[:-2]))
    dtype = ctx.output_type().dtype
    k = te.reduce_axis((0, full_a[-1]), name="k")

    def operand(shape: list[int], lead: tuple[Any, ...]) -> tuple[Any, ...]:
        own = lead[len(lead) - (len(shape) - 2) :] if len(shape) > 2 else ()
        return tuple(0 if n == 1 else i for n, i in zip(shape[:-2], own, strict=True))

    def at(*i: Any) -> Any:
        rest = list(i)
        n = 0 if one_column else rest.pop()
        m = 0 if one_row else rest.pop()
        lead = tuple(rest)
        left = a(k) if one_row else a(*operand(full_a, lead), m, k)
        right = b(k) if one_column else b(*operand(full_b, lead), k, n)
        return sum_over(times(left.astype(dtype), right.astype(dtype)), axis=k)

    shape = [*batch, *([] if one_row else [full_a[-2]]), *([] if one_column else [full_b[-1]])]
    return [te.compute(tuple(shape), at, name="acc")]


@anchor("BlockMatMul", domain="dlpack", layout="rows")
def block_matmul(ctx: Context, a: Any, codes: Any, scales: Any) -> list[Any]:
    """a [..., K] times float32 weights [K, N], which are bytes [blocks, K / blocks, N] times scales [blocks, N]."""
    blocks, rows, columns = (int(d) for d in codes.shape)
    block, row = te.reduce_axis((0, blocks), name="block"), te.reduce_axis((0, rows), name="row")

    def at(*i: Any) -> Any:
        *lead, n = i
        weight = codes(block, row, n).astype("float32") * scales(block, n)
        return sum_over(a(*lead, block * rows + row) * weight, axis=[block, row])

    return [te.compute((*(int(d) for d in a.shape[:-1]), columns), at, name="acc")]


@anchor("ChosenMatMul", domain="dlpack", layout="rows")
def chosen_matmul(ctx: Context, a: Any, table: Any, places: Any) -> list[Any]:
    """a [S, M, K] times those matrices of a table [E, K, N] that `places` [S] names → [S, M, N]."""
    entries, size, columns = (int(n) for n in table.shape)
    k = te.reduce_axis((0, size), name="k")

    def at(s: Any, m: Any, n: Any) -> Any:
        return sum_over(times(a(s, m, k), table(wrapped(places(s), entries), k, n)), axis=k)

    return [te.compute((*(int(n) for n in a.shape[:2]), columns), at, name="acc")]


@rewrite("Gemm")
def gemm(ctx: Context, b: Builder) -> None:
    """Gemm → MatMul of (transposed) operands, factors, and the addition of C."""
    a, w = ctx.node.inputs[0], ctx.node.inputs[1]
    alpha, beta = ctx.attr("alpha", 1.0), ctx.attr("beta", 1.0)
    t = ctx.output_type()
    if ctx.attr("transA", 0):
        a = b.add("Transpose", [a], b.type_of(a).shape[::-1], perm=[1, 0])
    if ctx.attr("transB", 0):
        constant = ctx.maybe_constant(1)
        if constant is not None:
            w = b.constant(np.ascontiguousarray(constant.T), "weight")
        else:
            w = b.add("Transpose", [w], b.type_of(w).shape[::-1], perm=[1, 0])
    bias = ctx.has_input(2) and beta != 0.0
    last = ctx.node.outputs[0]
    y = b.add("MatMul", [a, w], t.shape, output=last if alpha == 1.0 and not bias else None)
    if alpha != 1.0:
        factor = b.constant(np.asarray(alpha, t.dtype), "alpha")
        y = b.add("Mul", [y, factor], t.shape, output=last if not bias else None)
    if bias:
        c = ctx.node.inputs[2]
        if beta != 1.0:
            c = b.add("Mul", [c, b.constant(np.asarray(beta, t.dtype), "beta")], b.type_of(c).shape)
        b.add("Add", [y, c], t.shape, output=last)
