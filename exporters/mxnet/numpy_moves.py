"""MXNet's mx.np and mx.npx: what moves data, makes constants and multiplies matrices, as in src/operator/numpy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted, Shape
from dlpack.exporters.layers import reshape, slice_axis, split
from dlpack.exporters.mxnet.call import Call, converts
from dlpack.exporters.mxnet.tensor import reshape_codes

# --- shapes -----------------------------------------------------------------------------------------------------------

_CODES = {-1: -1, -2: 0, -4: -2, -5: -3, -6: -4}
"""npx.reshape's codes in the older Reshape's: infer, copy, copy the rest, merge two, split one."""


@converts("_npx_reshape")
def npx_reshape(c: Call) -> str:
    """-3, which leaves out a dimension of 1, has no older code: such dimensions are left out before."""
    x = c.x(0)
    shape, codes = list(c.g.shape(x)), list(c.p.ints("newshape"))
    if c.p.bool("reverse") and -3 in codes:
        raise NotConverted("reverse with the code -3")
    place = k = 0
    kept: list[int] = []
    while k < len(codes):
        code = codes[k]
        if code == -3:
            if shape[place : place + 1] != [1]:
                raise ModelError(
                    f"its shape {tuple(codes)} leaves out a dimension of {list(c.g.shape(x))} that is not 1"
                )
            del shape[place]
        elif code == -6:
            kept += [-4, *codes[k + 1 : k + 3]]
            place, k = place + 1, k + 2
        elif code in _CODES or code >= 0:
            kept.append(_CODES.get(code, code))
            place += len(shape) if code == -4 else 2 if code == -5 else 1
        else:
            raise ModelError(f"its shape {tuple(codes)} holds {code}, which means nothing")
        k += 1
    return reshape(c.g, x, reshape_codes(tuple(shape), tuple(kept), c.p.bool("reverse")))


@converts("_np_moveaxis")
def moveaxis(c: Call) -> str:
    x = c.x(0)
    rank = c.g.rank(x)
    source, target = ([c.norm(a, rank, key) for a in c.p.ints(key)] for key in ("source", "destination"))
    order = [k for k in range(rank) if k not in source]
    for to, a in sorted(zip(target, source, strict=True)):
        order.insert(to, a)
    return c.op_("Transpose", x, perm=order)


@converts("_np_atleast_1d", "_np_atleast_2d", "_np_atleast_3d")
def atleast(c: Call) -> list[str]:
    return [_at_least(c, x, int(c.op[-2])) for x in c.all()]


def _at_least(c: Call, x: str, rank: int) -> str:
    """NumPy's rule: a vector becomes a row, in three dimensions of one column."""
    shape = c.g.shape(x)
    if len(shape) >= rank:
        return x
    if rank == 3 and len(shape) == 2:
        return reshape(c.g, x, (*shape, 1))
    n = shape or (1,)
    return reshape(c.g, x, {1: n, 2: (1, *n), 3: (1, *n, 1)}[rank])


@converts("_npi_concatenate")
def concatenate(c: Call) -> str:
    values = _one_type(c, c.all())
    if "axis" not in c.p and c.p.text("axis") == "None":
        values = [reshape(c.g, v, (math.prod(c.g.shape(v)),)) for v in values]
    return c.op_("Concat", *values, axis=c.axis(c.g.rank(values[0]), 0))


def _one_type(c: Call, values: list[str]) -> list[str]:
    if len({c.g.dtype(v) for v in values}) > 1:
        return [c.cast(v, np.float32) for v in values]
    return values


_JOINS: dict[str, Callable[[Call, str], tuple[str, int]]] = {
    "_npi_vstack": lambda c, x: (_at_least(c, x, 2), 0),
    "_npi_hstack": lambda c, x: (_at_least(c, x, 1), min(1, max(0, c.g.rank(x) - 1))),
    "_npi_dstack": lambda c, x: (_at_least(c, x, 3), 2),
    "_npi_column_stack": lambda c, x: (
        reshape(c.g, x, (c.g.shape(x)[0], 1)) if c.g.rank(x) == 1 else x, 1
    ),
}  # fmt: skip


@converts(*_JOINS)
def join(c: Call) -> str:
    parts = [_JOINS[c.op](c, x) for x in _one_type(c, c.all())]
    return c.op_("Concat", *(x for x, _ in parts), axis=parts[0][1])


@converts("_npi_hsplit", "_npi_dsplit")
def split_along(c: Call) -> list[str]:
    x = c.x(0)
    axis = 2 if c.op == "_npi_dsplit" else min(1, c.g.rank(x) - 1)
    size, sections = c.g.shape(x)[axis], c.p.int("sections", 0)
    if sections > 0:
        return split(c.g, x, axis, [size // sections] * sections)
    bounds = [*c.p.ints("indices"), size]
    return [slice_axis(c.g, x, axis, a, b) for a, b in itertools.pairwise(bounds)]


@converts("_np_roll")
def roll(c: Call) -> str:
    x = c.x(0)
    shape, shifts = c.g.shape(x), c.p.ints("shift")
    if "axis" not in c.p:
        flat = reshape(c.g, x, (math.prod(shape),))
        return reshape(c.g, _rolled(c, flat, 0, sum(shifts)), shape)
    for k, a in enumerate(c.p.ints("axis")):
        x = _rolled(c, x, c.norm(a, len(shape)), shifts[k if len(shifts) > 1 else 0])
    return x


def _rolled(c: Call, x: str, axis: int, shift: int) -> str:
    size = c.g.shape(x)[axis]
    shift %= size
    if not shift:
        return x
    parts = slice_axis(c.g, x, axis, size - shift, size), slice_axis(c.g, x, axis, 0, size - shift)
    return c.op_("Concat", *parts, axis=axis)


@converts("_npi_rot90")
def rot90(c: Call) -> str:
    x, turns = c.x(0), c.p.int("k", 1) % 4
    rank = c.g.rank(x)
    a, b = (c.norm(v, rank, "axes") for v in c.p.ints("axes", (0, 1)))
    order = list(range(rank))
    order[a], order[b] = b, a

    def turned(x: str, axis: int) -> str:
        return slice_axis(c.g, x, axis, -1, -(2**31 - 1), -1)

    if turns == 2:
        return turned(turned(x, a), b)
    if turns == 1:
        return c.op_("Transpose", turned(x, b), perm=order)
    return turned(c.op_("Transpose", x, perm=order), b) if turns == 3 else x


@converts("_npi_broadcast_to")
def broadcast_to(c: Call) -> str:
    """As NumPy; -2 keeps the input's own size."""
    x = c.x(0)
    wanted = c.p.ints("shape")
    have = (1,) * (len(wanted) - c.g.rank(x)) + c.g.shape(x)
    shape = [h if w == -2 else w for w, h in zip(wanted, have, strict=True)]
    if any(not 0 < n < 2**31 for n in shape):
        raise ModelError(f"{list(c.g.shape(x))} cannot be broadcast to {shape}")
    return c.op_("Expand", x, c.g.ints(shape))


@converts("_npi_pad")
def pad(c: Call) -> str:
    x, mode = c.floating(c.x(0)), c.p.text("mode", "constant")
    widths = c.p.ints("pad_width")
    if mode not in ("constant", "edge", "reflect") or len(widths) != 2 * c.g.rank(x):
        raise NotConverted(f"mode={mode[:40]!r} with pad_width={widths}")
    if c.p.text("reflect_type", "even") not in ("even", "None"):
        raise NotConverted("reflect_type='odd'")
    if any(not 0 <= w < 2**31 for w in widths):
        raise ModelError(f"its parameter pad_width={widths} is out of range")
    value = c.g.scalar(c.p.float("constant_values", c.p.float("constant_value", 0.0)))
    return c.op_("Pad", x, c.g.ints(widths[::2] + widths[1::2]), value, mode=mode)


# --- diagonals --------------------------------------------------------------------------------------------------------


def _diagonal(c: Call, x: str, offset: int, a: int, b: int) -> str:
    """The elements (i, i + offset) of dimensions a and b, along a new last one."""
    rank, shape = c.g.rank(x), c.g.shape(x)
    a, b = (c.norm(v, rank) for v in (a, b))
    rest = [k for k in range(rank) if k not in (a, b)]
    rows, columns = shape[a], shape[b]
    count = min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns)
    if count < 1:
        raise ModelError(f"offset={offset} is outside of {list(shape)}")
    first = offset if offset >= 0 else -offset * columns
    flat = reshape(c.g, c.op_("Transpose", x, perm=[*rest, a, b]), [*(shape[k] for k in rest), rows * columns])
    return c.op_("Gather", flat, c.g.ints([first + k * (columns + 1) for k in range(count)]), axis=len(rest))


def _matrix(c: Call, x: str, offset: int) -> str:
    """The square matrix with the vector x on that diagonal."""
    count = c.g.shape(x)[0]
    size = count + abs(offset)
    hit = np.eye(size, k=offset, dtype=bool)
    c.g.claim("a matrix", (size, size))
    places = np.maximum(np.cumsum(hit.reshape(-1)) - 1, 0).reshape(size, size)
    wide = reshape(c.g, c.op_("Gather", x, c.g.ints(places.reshape(-1).tolist()), axis=0), (size, size))
    return c.op_("Where", c.g.constant(hit), wide, c.g.scalar(0, like=x))


@converts("_np_diag", "_np_diagflat")
def diag(c: Call) -> str:
    x, offset = c.x(0), c.p.int("k", 0)
    if c.op == "_np_diagflat" or c.g.rank(x) < 2:
        return _matrix(c, reshape(c.g, x, (math.prod(c.g.shape(x)),)), offset)
    return _diagonal(c, x, offset, 0, 1)


@converts("_np_diagonal", "_np_trace")
def diagonal(c: Call) -> str:
    y = _diagonal(c, c.x(0), c.p.int("offset", 0), c.p.int("axis1", 0), c.p.int("axis2", 1))
    return c.op_("ReduceSum", y, c.g.ints([-1]), keepdims=0) if c.op == "_np_trace" else y


@converts("_npi_tril", "_npi_triu")
def triangle(c: Call) -> str:
    x = c.x(0)
    shape = c.g.shape(x)[-2:]
    c.g.claim("a mask", shape)
    full = np.ones(shape if len(shape) == 2 else shape * 2, bool)
    mask = (np.tril if c.op == "_npi_tril" else np.triu)(full, c.p.int("k", 0))
    return c.op_("Where", c.g.constant(mask), x, c.g.scalar(0, like=x))


# --- constants --------------------------------------------------------------------------------------------------------


def _made(c: Call, values: Callable[[], Any], shape: Shape) -> str:
    c.g.claim("a constant", shape, np.float64)
    return c.g.constant(np.asarray(values()).astype(c.p.dtype("dtype")))


@converts("_npi_eye", "_npi_identity")
def eye(c: Call) -> str:
    rows = c.p.ints("shape")[0] if c.op == "_npi_identity" else c.p.int("N")
    columns = c.p.int("M", rows)
    return _made(c, lambda: np.eye(rows, columns, c.p.int("k", 0)), (rows, columns))


@converts("_linspace", "_npi_linspace", "_npi_logspace")
def spaced(c: Call) -> str:
    count, ends = c.p.int("num"), c.p.bool("endpoint", True)
    start, stop = c.number("start"), c.number("stop")

    def values() -> Any:
        line = np.linspace(start, stop, count, ends)
        return c.p.float("base", 10.0) ** line if c.op == "_npi_logspace" else line

    return _made(c, values, (count,))


@converts("_npi_hanning", "_npi_hamming", "_npi_blackman")
def window(c: Call) -> str:
    count = c.p.int("M")
    return _made(c, lambda: getattr(np, c.op.removeprefix("_npi_"))(count), (count,))


@converts("_npi_indices")
def indices(c: Call) -> str:
    sizes = c.p.ints("dimensions")
    c.g.claim("a grid", (len(sizes), *sizes), np.int64)
    return c.g.constant(np.indices(sizes).astype(c.p.dtype("dtype", np.int32)))


@converts("_npi_full_like")
def full_like(c: Call) -> str:
    x = c.x(0)
    return c.g.filled(c.g.shape(x), c.p.float("fill_value"), c.p.dtype("dtype", c.g.dtype(x)))


# --- products ---------------------------------------------------------------------------------------------------------


def _contracted(c: Call, a: str, b: str, left: list[int], right: list[int]) -> str:
    """Summed over dimensions `left` of a and `right` of b; the others of a come first."""
    sizes, others = c.g.shape(a), c.g.shape(b)
    rows, columns = ([k for k in range(len(s)) if k not in at] for s, at in ((sizes, left), (others, right)))
    if [sizes[k] for k in left] != [others[k] for k in right]:
        raise ModelError(f"the shapes {list(sizes)} and {list(others)} do not fit")
    inner = math.prod(sizes[k] for k in left)
    first = reshape(c.g, c.op_("Transpose", a, perm=[*rows, *left]), (math.prod(sizes[k] for k in rows), inner))
    second = reshape(
        c.g, c.op_("Transpose", b, perm=[*right, *columns]), (inner, math.prod(others[k] for k in columns))
    )
    y = c.op_("MatMul", first, second)
    return reshape(c.g, y, [*(sizes[k] for k in rows), *(others[k] for k in columns)])


@converts("_npi_tensordot", "_npi_tensordot_int_axes")
def tensordot(c: Call) -> str:
    a, b = c.floating(c.x(0)), c.floating(c.x(1))
    if c.op == "_npi_tensordot":
        left = [c.norm(v, c.g.rank(a)) for v in c.p.ints("a_axes_summed")]
        right = [c.norm(v, c.g.rank(b)) for v in c.p.ints("b_axes_summed")]
    else:
        count = c.p.int("axes")
        left, right = list(range(c.g.rank(a) - count, c.g.rank(a))), list(range(count))
    return _contracted(c, a, b, left, right)


@converts("_np_dot")
def dot(c: Call) -> str:
    """NumPy's: the last dimension of the first with the last but one of the second."""
    a, b = c.floating(c.x(0)), c.floating(c.x(1))
    if not c.g.rank(a) or not c.g.rank(b):
        return c.op_("Mul", a, b)
    return _contracted(c, a, b, [c.g.rank(a) - 1], [max(0, c.g.rank(b) - 2)])


@converts("_npi_matmul")
def matmul(c: Call) -> str:
    return c.op_("MatMul", c.floating(c.x(0)), c.floating(c.x(1)))


@converts("_npi_einsum")
def einsum(c: Call) -> str:
    return c.op_("Einsum", *(c.floating(x) for x in c.all()), equation=c.p.text("subscripts"))


@converts("_linalg_det", "_npi_det")
def determinant(c: Call) -> str:
    return c.op_("Det", c.floating(c.x(0)))
