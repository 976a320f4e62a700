"""Einsum, Det and Fourier transforms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dlpack.graph.registry import Builder, Context, NotSupported, compute, rewrite
from dlpack.loops.tir import te, tirx
from dlpack.operators.elementwise import call, const, dtype_of, sum_over, times
from dlpack.operators.loops import Local, block, loop, nest, sequential, store, when


def _labels(equation: str, ranks: Sequence[int]) -> tuple[list[list[str]], list[str]]:
    """The label of every dimension of every operand and of the output; an ellipsis becomes labels "0", "1" ..."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    widest = max((r - len(t.replace("...", "")) for t, r in zip(terms, ranks, strict=True) if "..." in t), default=0)
    dots = [str(k) for k in range(widest)]

    def expand(term: str, rank: int | None) -> list[str]:
        head, found, tail = term.partition("...")
        if not found:
            return list(head)
        width = widest if rank is None else rank - len(head) - len(tail)
        return [*head, *dots[widest - width :], *tail]

    inputs = [expand(t, r) for t, r in zip(terms, ranks, strict=True)]
    if arrow:
        return inputs, expand(right, None)
    plain = [c for term in inputs for c in term if not c.isdigit()]
    return inputs, [*dots, *sorted(c for c in set(plain) if plain.count(c) == 1)]


@compute("Einsum", layout="rows")
def einsum(ctx: Context, *xs: Any) -> list[Any]:
    """numpy.einsum: the sum over the labels that the output lacks of the operands' product."""
    shapes = [ctx.input_type(k).shape for k in range(len(xs))]
    inputs, output = _labels(ctx.attr("equation"), [len(s) for s in shapes])
    sizes: dict[str, int] = {}
    for labels, shape in zip(inputs, shapes, strict=True):
        for label, n in zip(labels, shape, strict=True):
            sizes[label] = sizes.get(label, 1) if n == 1 else n
    summed = {c: te.reduce_axis((0, sizes[c]), name=f"r_{c}") for c in sizes if c not in output}

    def at(*i: Any) -> Any:
        if not all(sizes[c] for c in summed):
            return const(0, dtype_of(xs[0](*[0] * len(shapes[0]))))
        where = {**dict(zip(output, i, strict=True)), **summed}
        product: Any = None
        for x, labels, shape in zip(xs, inputs, shapes, strict=True):
            factor = x(*(0 if n == 1 else where[c] for c, n in zip(labels, shape, strict=True)))
            product = factor if product is None else times(product, factor)
        return sum_over(product, axis=list(summed.values())) if summed else product

    return [te.compute(ctx.output_type().shape, at, name="out")]


@compute("Det")
def det(ctx: Context, x: Any) -> list[Any]:
    """The determinant by Gaussian elimination with partial pivoting."""
    *batch, n, _ = ctx.input_type(0).shape
    dtype = ctx.output_type().dtype

    def body(ins: Sequence[Any], outs: Sequence[Any]) -> Any:
        (source,), (y,) = ins, outs
        a, pivot, held = Local("a", dtype, n * n), Local("pivot", "int32"), Local("held", dtype)
        value = Local("det", dtype)

        def size(e: Any) -> Any:
            return call("abs_", dtype, e)

        def column(k: Any) -> Any:
            def choose(r: Any) -> Any:
                larger = size(a[r * n + k]) > size(a[pivot[0] * n + k])
                return when(tirx.And(r > k, larger), pivot.set(r))

            def swap(c: Any) -> Any:
                return block(
                    held.set(a[k * n + c]), a.set(a[pivot[0] * n + c], k * n + c), a.set(held[0], pivot[0] * n + c)
                )

            def eliminate(r: Any) -> Any:
                step = loop("c", n, lambda c: a.set(a[r * n + c] - held[0] * a[k * n + c], r * n + c))
                return when(r > k, block(held.set(a[r * n + k] / a[k * n + k]), step))

            nonzero = block(value.set(value[0] * a[k * n + k]), loop("r", n, eliminate))
            return block(
                pivot.set(k),
                loop("r", n, choose),
                when(tirx.NE(pivot[0], k), block(loop("c", n, swap), value.set(tirx.const(0, dtype) - value[0]))),
                when(size(a[k * n + k]) > tirx.const(0, dtype), nonzero, value.set(value[0] * tirx.const(0, dtype))),
            )

        def one(i: list[Any]) -> Any:
            fill = nest((n, n), lambda p: a.set(source[(*i, *p)], p[0] * n + p[1]), "p")
            return block(fill, value.set(tirx.const(1, dtype)), loop("k", n, column), store(y, i, value[0]))

        return block(a.declare, pivot.declare, held.declare, value.declare, nest(batch, one))

    return sequential([x], [(batch, dtype)], body)


# --- Fourier ----------------------------------------------------------------------------------------------------------


def fourier_matrix(n: int, used: int, bins: int, parts: int, inverse: bool) -> np.ndarray[Any, Any]:
    """[used * parts, bins * 2]: a (complex, if `parts` is 2) signal times this is its transform of length `n`."""
    angle = 2 * math.pi * np.outer(np.arange(used), np.arange(bins)) / n
    cos, sin = np.cos(angle), np.sin(angle) if inverse else -np.sin(angle)
    m = np.zeros((used, parts, bins, 2))
    m[:, 0, :, 0], m[:, 0, :, 1] = cos, sin
    if parts == 2:
        m[:, 1, :, 0], m[:, 1, :, 1] = -sin, cos
    return m.reshape(used * parts, bins * 2) / (n if inverse else 1)


def _half_inverse_matrix(n: int, bins: int) -> np.ndarray[Any, Any]:
    """[bins * 2, n]: half a spectrum times this is the real signal of length `n`."""
    angle = 2 * math.pi * np.outer(np.arange(bins), np.arange(n)) / n
    twice = np.array([1.0 if k == 0 or 2 * k == n else 2.0 for k in range(bins)])[:, None]
    return np.stack([twice * np.cos(angle), -twice * np.sin(angle)], axis=1).reshape(bins * 2, n) / n


@rewrite("DFT")
def dft(ctx: Context, b: Builder) -> None:
    """A product with the matrix of the transform."""
    x, t = ctx.node.inputs[0], ctx.output_type()
    shape = ctx.input_type(0).shape
    rank = len(shape)
    if ctx.node.opset < 20:
        axis = ctx.attr("axis", 1)
    else:
        axis = ctx.ints(2, "axis")[0] if ctx.has_input(2) else -2
    axis %= rank
    inverse, onesided = bool(ctx.attr("inverse", 0)), bool(ctx.attr("onesided", 0))
    real = inverse and onesided
    length = shape[axis] if not real else 2 * (shape[axis] - 1)
    if ctx.has_input(1):
        length = ctx.ints(1, "dft_length")[0]
    used = min(shape[axis], length // 2 + 1 if real else length)
    if used != shape[axis]:
        args = [b.constant(np.array([v], np.int64)) for v in (0, used, axis)]
        shape = tuple(used if d == axis else n for d, n in enumerate(shape))
        x = b.add("Slice", [x, *args], shape)
    matrix = (
        _half_inverse_matrix(length, used) if real else fourier_matrix(length, used, t.shape[axis], shape[-1], inverse)
    )
    order = [*(d for d in range(rank) if d != axis and d != rank - 1), axis, rank - 1]
    moved = [shape[p] for p in order]
    x = b.add("Transpose", [x], moved, perm=order)
    rows = [math.prod(moved[:-2]), moved[-2] * moved[-1]]
    x = b.add("Reshape", [x, b.constant(np.array(rows, np.int64))], rows)
    x = b.add("MatMul", [x, b.constant(matrix.astype(t.dtype), "fourier")], [rows[0], matrix.shape[1]])
    result = [t.shape[p] for p in order]
    x = b.add("Reshape", [x, b.constant(np.array(result, np.int64))], result)
    back = [order.index(d) for d in range(rank)]
    b.add("Transpose", [x], t.shape, output=ctx.node.outputs[0], perm=back)


@rewrite("STFT")
def stft(ctx: Context, b: Builder) -> None:
    """Frames of the signal, times the window, times the matrix of the transform."""
    t = ctx.output_type()
    batch, samples = ctx.input_type(0).shape[:2]
    signal, parts = ctx.node.inputs[0], 1
    if len(ctx.input_type(0).shape) == 3:
        parts = ctx.input_type(0).shape[2]
    else:  # a signal of real numbers without a dimension for its parts
        signal = b.add("Reshape", [signal, b.constant(np.array([batch, samples, 1], np.int64))], [batch, samples, 1])
    step = ctx.ints(1, "frame_step")[0]
    if ctx.has_input(3):
        length = ctx.ints(3, "frame_length")[0]
    elif ctx.has_input(2):
        length = ctx.input_type(2).shape[0]
    else:
        raise NotSupported("STFT without window and frame_length")
    frames, bins = t.shape[1], t.shape[2]
    shape = [batch, frames, length, parts]
    x = b.add_internal("Frames", [signal], shape, step=step)
    if ctx.has_input(2):
        window = b.add("Reshape", [ctx.node.inputs[2], b.constant(np.array([length, 1], np.int64))], [length, 1])
        x = b.add("Mul", [x, window], shape)
    rows = [batch * frames, length * parts]
    x = b.add("Reshape", [x, b.constant(np.array(rows, np.int64))], rows)
    matrix = fourier_matrix(length, length, bins, parts, False).astype(t.dtype)
    x = b.add("MatMul", [x, b.constant(matrix, "fourier")], [rows[0], bins * 2])
    b.add("Reshape", [x, b.constant(np.array(t.shape, np.int64))], t.shape, output=ctx.node.outputs[0])


@compute("Frames", domain="dlpack")
def frames(ctx: Context, x: Any) -> list[Any]:
    """Overlapping pieces of a signal, `step` apart."""
    step = ctx.attr("step")
    return [te.compute(ctx.output_type().shape, lambda n, f, k, c: x(n, f * step + k, c), name="out")]
