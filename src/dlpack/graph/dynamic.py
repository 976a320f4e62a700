"""Products of integers whose zero point only a run knows: MatMulInteger and ConvInteger behind DynamicQuantizeLinear.

With ``w`` the constant weights less their zero point, the sum of ``(x - zero) w`` is that of ``x w``, which machines
with dot products compute from 8 bits, less `zero` times the sum of ``w``. A border is filled with `zero`, which counts
as nothing. Other machines compute in float32, in parts where the sum may pass what that holds.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dlpack.graph.dots import Dots
from dlpack.graph.ir import Array, Node
from dlpack.graph.parts import cuts_of, sum_of_parts
from dlpack.graph.registry import Builder

REACH = 255
"""The most that an 8-bit integer and its zero point differ by."""


def integer_product(node: Node, b: Builder, dots: Dots) -> bool:
    """Adds the nodes that compute it; False, and none, where its weights are no constant or it is not of this kind."""
    conv = node.op == "ConvInteger"
    x, w = node.inputs[:2]
    x_zero, w_zero = (node.inputs[k] if len(node.inputs) > k else "" for k in (2, 3))
    integers = _centred(b, w, w_zero, conv)
    t = b.type_of(x)
    if integers is None or (x_zero and b.type_of(x_zero).size != 1) or x in b.graph.constants:
        return False
    if len(t.shape) < 2 or node.attrs.get("auto_pad", "NOTSET") != "NOTSET":
        return False
    shape = b.type_of(node.outputs[0]).shape
    plain = replace(node, op="Conv" if conv else "MatMul")
    zero = b.add("Cast", [x_zero], b.type_of(x_zero).shape, "int32", to=6) if x_zero else ""
    if dots.suit(plain, integers, shape):
        _of_bytes(plain, b, dots, (x, x_zero, zero), integers)
        return True
    across = (0, *range(2, integers.ndim)) if conv else (1,)
    reach = np.abs(integers).sum(axis=across[1:] or None) if conv else np.abs(integers)
    reach = (reach.T if conv else reach) * REACH
    cuts = cuts_of(reach, splits=node.attrs.get("group", 1) == 1)
    if cuts is None:
        b.nodes.clear()
        return False
    value = b.add("Cast", [x], t.shape, "int32", to=6)
    value = b.add("Sub", [value, _scalar(b, zero)], t.shape) if zero else value
    value = b.add("Cast", [value], t.shape, "float32", to=1)
    total = sum_of_parts(plain, b, value, integers, cuts, "int32")
    b.nodes[-1] = replace(b.nodes[-1], outputs=node.outputs)
    del b.types[total]
    return True


def _of_bytes(node: Node, b: Builder, dots: Dots, given: tuple[str, str, str], integers: Array) -> None:
    """By dot products of what lies in 8 bits; `given` is x, its zero point, and that in int32, if it has one."""
    x, x_zero, zero = given
    t, conv, attrs = b.type_of(x), node.op == "Conv", dict(node.attrs)
    shape = b.type_of(node.outputs[0]).shape
    pads = list(attrs.get("pads") or [])
    if any(pads):
        n = len(pads) // 2
        ends = b.constant(np.array([0, 0, *pads[:n], 0, 0, *pads[n:]], np.int64), "pads")
        wide = [*t.shape[:2], *(d + p + q for d, p, q in zip(t.shape[2:], pads[:n], pads[n:], strict=True))]
        fill = b.add("Reshape", [x_zero, b.constant(np.zeros(0, np.int64), "shape")], []) if x_zero else ""
        x = b.add("Pad", [x, ends, fill] if fill else [x, ends], wide)
        t, attrs["pads"] = b.type_of(x), [0] * len(pads)
    shift = 0
    if t.dtype != dots.operand:
        shift = 128 if dots.operand == "uint8" else -128
        centre = b.add_internal("Centre", [x], t.shape, dtype="float32", zero=-shift)
        x = b.add_internal("Narrow", [centre], t.shape, dtype=dots.operand, zero=0)
    weights = b.constant(np.ascontiguousarray(integers.astype(np.int8)), "weights")
    last = not zero and not shift
    y = b.add(node.op, [x, weights], shape, "int32", node.outputs[0] if last else None, **attrs)
    if last:
        return
    place = [-1 if d == (1 if conv else len(shape) - 1) else 1 for d in range(len(shape))]
    sums = integers.sum(axis=tuple(range(1, integers.ndim)) if conv else 0).reshape(place)
    more = b.constant((-sums).astype(np.int32), "sums")
    if zero:
        known = _scalar(b, zero)
        if shift:
            known = b.add("Add", [known, b.constant(np.array([shift], np.int32), "shift")], [1])
        more = b.add("Mul", [more, known], sums.shape)
    else:
        more = b.constant((-shift * sums).astype(np.int32), "sums")
    b.add("Add", [y, more], shape, output=node.outputs[0])


def _scalar(b: Builder, zero: str) -> str:
    """The zero point as one element of a dimension of its own."""
    return zero if len(b.type_of(zero).shape) == 1 else b.add("Reshape", [zero, b.constant(np.ones(1, np.int64))], [1])


def _centred(b: Builder, w: str, w_zero: str, conv: bool) -> Array | None:
    """Constant weights less their zero point, of one for all or one per output."""
    constant, zero = b.graph.constants.get(w), b.graph.constants.get(w_zero) if w_zero else np.zeros(1, np.int64)
    if constant is None or zero is None or not constant.size or (not conv and constant.ndim != 2):
        return None
    outputs = constant.shape[0] if conv else constant.shape[1]
    if zero.size not in (1, outputs):
        return None
    place = [-1, *[1] * (constant.ndim - 1)] if conv else [1, -1]
    return constant.astype(np.int64) - zero.astype(np.int64).reshape(place)
