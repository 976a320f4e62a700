"""What MXNet 2 writes otherwise than 1.9: names in another space, and operators that are new there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted
from dlpack.exporters.layers import along, reshape
from dlpack.exporters.mxnet.call import CONVERTERS, Call, converts
from dlpack.exporters.mxnet.numpy_math import scalar_and_value, under

for _old in [name for name in CONVERTERS if name.startswith("_np_")]:
    _new = f"_npi_{_old.removeprefix('_np_')}"
    if _new not in CONVERTERS:
        converts(_new)(under(_old))


# --- two operands -----------------------------------------------------------------------------------------------------


def _floor_divide(c: Call, a: str, b: str) -> str:
    if c.g.dtype(a).kind == "f":
        return c.op_("Floor", c.op_("Div", a, b))
    return c.op_("Div", c.op_("Sub", a, c.op_("Mod", a, b)), b)


def _without_nan(kind: str) -> Callable[[Call, str, str], str]:
    """The larger or smaller number; NaN only where both are."""

    def choose(c: Call, a: str, b: str) -> str:
        if c.g.dtype(a).kind != "f":
            return c.op_(kind, a, b)
        other = c.op_("Where", c.op_("IsNaN", b), a, c.op_(kind, a, b))
        return c.op_("Where", c.op_("IsNaN", a), b, other)

    return choose


def _log_add_exp(c: Call, a: str, b: str) -> str:
    a, b = c.floating(a), c.floating(b)
    gap = c.op_("Neg", c.op_("Abs", c.op_("Sub", a, b)))
    return c.op_("Add", c.op_("Max", a, b), c.op_("Softplus", gap))


def _logical(kind: str) -> Callable[[Call, str, str], str]:
    return lambda c, a, b: c.op_(kind, c.cast(a, np.bool_), c.cast(b, np.bool_))


def _bitwise(kind: str) -> Callable[[Call, str, str], str]:
    return lambda c, a, b: c.op_(kind if c.g.dtype(a) == np.bool_ else f"Bitwise{kind}", a, b)


_BINARY: dict[str, Callable[[Call, str, str], str]] = {
    "floor_divide": _floor_divide,
    "fmod": lambda c, a, b: c.op_("Mod", a, b, fmod=1),
    "fmax": _without_nan("Max"),
    "fmin": _without_nan("Min"),
    "logaddexp": _log_add_exp,
    **{f"logical_{kind.lower()}": _logical(kind) for kind in ("And", "Or", "Xor")},
    **{f"bitwise_{kind.lower()}": _bitwise(kind) for kind in ("And", "Or", "Xor")},
}
_TENSORS = {f"_npi_{name}": name for name in _BINARY}
_SCALARS = {f"_npi_{name}_scalar": name for name in _BINARY}
_REVERSED = {f"_npi_r{name}_scalar": name for name in ("floor_divide", "fmod")}


@converts(*_TENSORS)
def binary(c: Call) -> str:
    a, b, _ = c.same(c.x(0), c.x(1))
    return _BINARY[_TENSORS[c.op]](c, a, b)


@converts(*_SCALARS)
def with_scalar(c: Call) -> str:
    return _BINARY[_SCALARS[c.op]](c, *scalar_and_value(c))


@converts(*_REVERSED)
def scalar_with(c: Call) -> str:
    x, value = scalar_and_value(c)
    return _BINARY[_REVERSED[c.op]](c, value, x)


@converts("_npi_bitwise_not")
def bitwise_not(c: Call) -> str:
    x = c.x(0)
    return c.op_("Not" if c.g.dtype(x) == np.bool_ else "BitwiseNot", x)


@converts("_npi_kron")
def kron(c: Call) -> str:
    """Each element of the first times all of the second."""
    a, b, _ = c.same(c.x(0), c.x(1))
    rank = max(c.g.rank(a), c.g.rank(b))
    one, two = ((1,) * (rank - c.g.rank(v)) + c.g.shape(v) for v in (a, b))
    left = reshape(c.g, a, [d for n in one for d in (n, 1)])
    right = reshape(c.g, b, [d for n in two for d in (1, n)])
    return reshape(c.g, c.op_("Mul", left, right), [m * n for m, n in zip(one, two, strict=True)])


# --- one operand ------------------------------------------------------------------------------------------------------


@converts("log_sigmoid")
def log_sigmoid(c: Call) -> str:
    return c.op_("Neg", c.op_("Softplus", c.op_("Neg", c.floating(c.x(0)))))


@converts("mish")
def mish(c: Call) -> str:
    x = c.floating(c.x(0))
    return c.op_("Mul", x, c.op_("Tanh", c.op_("Softplus", x)))


@converts("masked_softmax", "masked_log_softmax")
def masked(c: Call) -> str:
    """Over the elements that the mask has; others are 0, or the logarithm of that."""
    x, mask = c.floating(c.x(0)), c.cast(c.x(1), np.bool_)
    heat = c.p.float("temperature", 1.0)
    if heat != 1.0:
        x = c.op_("Div", x, c.g.scalar(heat))
    logarithm = c.op == "masked_log_softmax"
    low = c.g.scalar(float(np.finfo(np.float32).min))
    y = c.op_("LogSoftmax" if logarithm else "Softmax", c.op_("Where", mask, x, low), axis=c.axis(c.g.rank(x), -1))
    return c.op_("Where", mask, y, c.g.scalar(-np.inf if logarithm else 0.0))


@converts("_npi_repeats")
def repeats(c: Call) -> str:
    """Each element as often as its number says, or all as often."""
    x, counts = c.x(0), list(c.p.ints("repeats"))
    if "axis" not in c.p:
        x = reshape(c.g, x, (int(np.prod(c.g.shape(x))),))
    axis = c.axis(c.g.rank(x), 0)
    size = c.g.shape(x)[axis]
    counts = counts * size if len(counts) == 1 else counts
    if len(counts) != size or any(not 0 <= n < 1 << 20 for n in counts):
        raise ModelError(f"its parameter repeats={counts[:8]} does not fit {list(c.g.shape(x))}")
    return c.op_("Gather", x, c.g.ints(np.repeat(np.arange(size), counts).tolist()), axis=axis)


@converts("_npi_delete")
def delete(c: Call) -> str:
    x = c.x(0)
    if "axis" not in c.p or len(c.inputs) > 1:
        raise NotConverted("a deletion of places that are an input, or without an axis")
    axis = c.axis(c.g.rank(x), 0)
    size = c.g.shape(x)[axis]
    if "int_ind" in c.p:
        place = c.norm(c.p.int("int_ind"), size, "obj")
        gone = range(place, place + 1)
    else:
        gone = range(*slice(*(c.p.int(k) if k in c.p else None for k in ("start", "stop", "step"))).indices(size))
    return c.op_("Gather", x, c.g.ints([k for k in range(size) if k not in gone]), axis=axis)


@converts("_npi_tri")
def triangle(c: Call) -> str:
    rows = c.p.int("N")
    columns = c.p.int("M", rows)
    c.g.claim("a triangle", (rows, columns))
    return c.g.constant(np.tri(rows, columns, c.p.int("k", 0)).astype(c.p.dtype("dtype")))


# --- pictures ---------------------------------------------------------------------------------------------------------


@converts("_image_to_tensor")
def to_tensor(c: Call) -> str:
    """From 0..255, channels last, to 0..1, channels first."""
    x = c.floating(c.x(0))
    rank = c.g.rank(x)
    order = [*range(rank - 3), rank - 1, rank - 3, rank - 2]
    return c.op_("Transpose", c.op_("Div", x, c.g.scalar(255.0)), perm=order)


@converts("_image_normalize")
def normalize(c: Call) -> str:
    """By channel: less its mean, divided by its deviation."""
    x = c.floating(c.x(0))
    rank = c.g.rank(x)

    def channel(key: str, default: float) -> str:
        values = [float(v) for v in c.p.items(key)] or [default]
        return along(c.g, c.g.constant(np.array(values, np.float32)), rank, rank - 3)

    return c.op_("Div", c.op_("Sub", x, channel("mean", 0.0)), channel("std", 1.0))
