"""Operators that are made anew where they depend on the number of elements that a run has of an open dimension: means,
what counts from the end, and where the extremes are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from dlpack.graph.ir import Array, Node, TensorType
from dlpack.graph.opened_node import OpenNode
from dlpack.graph.opened_numbers import affine
from dlpack.graph.opened_windows import convolution
from dlpack.graph.registry import Builder, slice_of


def _mean(n: OpenNode, b: Builder) -> bool:
    """A sum, times one over the number of elements."""
    counted = sorted(n.axes() & set(n.dims(0)))
    if not counted or n.input_type(0).dtype != "float32":
        return False
    t, shape = n.output_type(), n.input_type(0).shape
    total = _reduced("ReduceSum", n, b, n.node.inputs[0], sorted(n.axes()), int(n.attr("keepdims", 1)), t)
    fixed = prod(shape[d] for d in n.axes() if d not in counted)
    share = b.share([n.size] * len(counted), fixed, len(t.shape))
    b.add("Mul", [total, share], t.shape, output=n.node.outputs[0])
    return True


def _reduced(op: str, n: OpenNode, b: Builder, x: str, axes: list[int], keepdims: int, t: TensorType) -> str:
    """A reduction of ONNX's, whose axes are an input."""
    total, given = b.fresh(op.lower()), b.constant(np.array(axes, np.int64), "axes")
    b.raw(Node(op, (x, given), (total,), {"keepdims": keepdims}, total, "", 18, n.node.sources), [t])
    return total


# --- places that count from the end ----------------------------------------------------------------------------------


def _from_the_start(n: OpenNode, b: Builder, which: Array) -> str | None:
    """An index (input 1) as one that counts from the first element alone; None where it does so already.

    `which`, 1 or 0, says of its last dimension (or of all) whether it goes along the open dimension.
    """
    places, t = n.maybe_constant(1), n.input_type(1)
    if places is None:
        back = b.add("Less", [n.node.inputs[1], b.constant(np.zeros((), t.dtype), "zero")], t.shape, "bool")
        more = b.count(n.size, 0, t.dtype)
        if not which.all():
            more = b.add("Mul", [more, b.constant(which.astype(t.dtype), "which")], which.shape)
        moved = b.add("Add", [n.node.inputs[1], more], t.shape)
        return b.add("Where", [back, moved, n.node.inputs[1]], t.shape, t.dtype)
    back_there = (places < 0) & (which == 1)
    if not back_there.any():
        return None
    if places[back_there].min() < -n.smallest:
        raise n.fail(f"chooses from before the first of {n.smallest} elements of the open dimension")
    return affine(places, back_there.astype(places.dtype), n.size, b)


def _gather(n: OpenNode, b: Builder) -> bool:
    if n.axis(0) not in n.dims(0):
        return False
    return _with_places(n, b, _from_the_start(n, b, np.array(1)))


def _gather_nd(n: OpenNode, b: Builder) -> bool:
    """Index tuples are for the first dimensions behind those of the batch."""
    batch = int(n.attr("batch_dims", 0))
    rank, taken = len(n.input_type(0).shape), n.input_type(1).shape[-1]
    which = np.array([batch + d - rank in n.dims(0) for d in range(taken)], np.int64)
    return bool(which.any()) and _with_places(n, b, _from_the_start(n, b, which))


def _with_places(n: OpenNode, b: Builder, places: str | None) -> bool:
    if places is None:
        return False
    b.add(n.node.op, [n.node.inputs[0], places], n.output_type().shape, output=n.node.outputs[0], **n.node.attrs)
    return True


def _slice(n: OpenNode, b: Builder) -> bool:
    """The last elements, or all in reversed order, are chosen by their places."""
    old, new = n.input_type(0).shape, n.output_type().shape
    starts, ends, axes, steps = slice_of(n)
    rank = len(old)
    for start, axis, step in zip(starts, axes, steps, strict=True):
        count = new[axis]
        if axis - rank not in n.dims(0):
            continue
        if step == -1 and count == old[axis] and (start == -1 or start >= count - 1):
            places = affine(-1 - np.arange(count, dtype=np.int64), np.ones(1, np.int64), n.size, b)
        elif step == 1 and count != old[axis] and start < 0:
            if -start > n.smallest:
                raise n.fail(f"cuts off the last {-start} elements, and a run may have {n.smallest}")
            base = start + np.arange(count, dtype=np.int64)
            places = affine(base, np.ones(count if count == 1 else 1, np.int64), n.size, b)
        else:
            continue
        own = [count if d == axis else m for d, m in enumerate(old)]
        rest = [k for k, a in enumerate(axes) if a != axis]
        chosen = b.add("Gather", [n.node.inputs[0], places], own, output=None if rest else n.node.outputs[0], axis=axis)
        if rest:
            columns = [np.array([v[k] for k in rest], np.int64) for v in (starts, ends, axes, steps)]
            given = [b.constant(c, "part") for c in columns]
            part = Node("Slice", (chosen, *given), n.node.outputs, {}, n.node.name, "", 13, n.node.sources)
            b.raw(part, [n.output_type()])
        return True
    return False


# --- along the dimension ---------------------------------------------------------------------------------------------


def _arg_extreme(n: OpenNode, b: Builder) -> bool:
    """The first place, or the last, of those whose element is the extreme."""
    axis = n.axis(0)
    if axis not in n.dims(0):
        return False
    x, t, shape = n.node.inputs[0], n.output_type(), n.input_type(0).shape
    last, kept = bool(n.attr("select_last_index", 0)), _kept(shape, axis)
    op = "ReduceMax" if n.node.op == "ArgMax" else "ReduceMin"
    extreme = _reduced(op, n, b, x, [axis], 1, TensorType(n.input_type(0).dtype, kept))
    there = b.add("Equal", [x, extreme], shape, "bool")
    inside = _place(n, b, there, axis, last, int(n.attr("keepdims", 1)), t.shape)
    b.add("Cast", [inside], t.shape, t.dtype, n.node.outputs[0])
    return True


def _kept(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    """A shape with one element along an axis, which counts from the end."""
    return tuple(1 if d - len(shape) == axis else m for d, m in enumerate(shape))


def _row(shape: Sequence[int], axis: int, b: Builder) -> str:
    """The places along an axis."""
    own = [-1 if d - len(shape) == axis else 1 for d in range(len(shape))]
    return b.constant(np.arange(shape[axis], dtype=np.int32).reshape(own), "places")


def _place(n: OpenNode, b: Builder, there: str, axis: int, last: bool, keepdims: int, out: tuple[int, ...]) -> str:
    """The first place along an axis, or the last, of the elements that are `there`; one that a run has if none is."""
    shape = b.type_of(there).shape
    missed = b.constant(np.array(-1 if last else shape[axis], np.int32), "missed")
    places = b.add("Where", [there, _row(shape, axis, b), missed], shape, "int32")
    op, t = "ReduceMax" if last else "ReduceMin", TensorType("int32", out)
    chosen = _reduced(op, n, b, places, [axis], keepdims, t)
    bound = b.constant(np.array(0, np.int32), "zero") if last else b.count(n.size + -1, 0, "int32")
    return b.add("Max" if last else "Min", [chosen, bound], out)  # NaN equals no extreme


def _softmax(n: OpenNode, b: Builder) -> bool:
    """Along the dimension where it is not the innermost: transposed, and back."""
    axis, rank = n.axis(-1), len(n.input_type(0).shape)
    if n.node.opset < 13 or axis not in n.dims(0) or axis == -1:
        return False
    perm = [*(d for d in range(rank) if d != rank + axis), rank + axis]
    shape = n.input_type(0).shape
    turned = [shape[d] for d in perm]
    y = b.add(n.node.op, [b.add("Transpose", [n.node.inputs[0]], turned, perm=perm)], turned, axis=-1)
    b.add("Transpose", [y], shape, output=n.node.outputs[0], perm=[perm.index(d) for d in range(rank)])
    return True


def _log_sum_exp(n: OpenNode, b: Builder) -> bool:
    """With the maximum taken out, the logarithm of a sum."""
    if not n.axes() & set(n.dims(0)) or n.input_type(0).dtype != "float32":
        return False
    x, t, shape, axes = n.node.inputs[0], n.output_type(), n.input_type(0).shape, sorted(n.axes())
    kept = TensorType(t.dtype, tuple(1 if d - len(shape) in axes else m for d, m in enumerate(shape)))
    most = _reduced("ReduceMax", n, b, x, axes, 1, kept)
    parts = b.add("Exp", [b.add("Sub", [x, most], shape)], shape)
    total = b.add("Log", [_reduced("ReduceSum", n, b, parts, axes, 1, kept)], kept.shape)
    whole = b.add("Add", [total, most], kept.shape)
    b.add("Reshape", [whole, b.constant(np.array(t.shape, np.int64), "shape")], t.shape, output=n.node.outputs[0])
    return True


def _triangle(n: OpenNode, b: Builder) -> bool:
    """What a constant mask keeps, which begins alike in all sizes."""
    k = n.maybe_constant(1) if n.has_input(1) else np.zeros((), np.int64)
    t = n.output_type()
    if k is None or not n.dims(0):
        return False
    below = np.tri(*t.shape[-2:], int(k.reshape(())) - int(n.attr("upper", 1)), dtype=bool)
    mask = b.constant(~below if n.attr("upper", 1) else below, "mask")
    zero = b.constant(np.zeros((), t.dtype), "zero")
    b.add("Where", [mask, n.node.inputs[0], zero], t.shape, t.dtype, n.node.outputs[0])
    return True


MOST_CHOSEN = 16
"""Up to so many of the largest elements are found one after the other."""


def _top_k(n: OpenNode, b: Builder) -> bool:
    """The extreme, then that of the others, and so on."""
    axis = n.axis(-1)
    if axis not in n.dims(0):
        return False
    count, t = int(n.attr("k") or n.ints(1, "k")[0]), n.input_type(0)
    if count > min(MOST_CHOSEN, n.smallest):
        most = f"at most {MOST_CHOSEN} of" if n.smallest >= MOST_CHOSEN else f"{n.smallest} at the least along"
        raise n.fail(f"chooses {count} elements, of {most}")
    largest, kept = bool(n.attr("largest", 1)), _kept(t.shape, axis)
    if t.dtype.startswith("float"):
        worst = -np.inf if largest else np.inf
    else:
        worst = np.iinfo(t.dtype).min if largest else np.iinfo(t.dtype).max
    lowest = b.constant(np.array(worst, t.dtype), "lowest")
    rest, taken = n.node.inputs[0], ""
    values, places = [], []
    for _ in range(count):
        extreme = _reduced("ReduceMax" if largest else "ReduceMin", n, b, rest, [axis], 1, TensorType(t.dtype, kept))
        there = b.add("Equal", [rest, extreme], t.shape, "bool")
        if taken:  # elements that are the lowest themselves
            free = b.add("Not", [taken], t.shape, "bool")
            there = b.add("And", [there, free], t.shape, "bool")
        place = _place(n, b, there, axis, False, 1, kept)
        here = b.add("Equal", [_row(t.shape, axis, b), place], t.shape, "bool")
        taken = b.add("Or", [taken, here], t.shape, "bool") if taken else here
        rest = b.add("Where", [here, lowest, rest], t.shape, t.dtype)
        values.append(extreme)
        places.append(b.add("Cast", [place], kept, "int64"))
    for k, parts in enumerate((values, places)):
        for name in filter(None, n.node.outputs[k : k + 1]):
            out = n.graph.types[name]
            b.add("Concat", parts, out.shape, out.dtype, name, axis=axis)
    return True


def _backwards(n: OpenNode, b: Builder) -> bool:
    """A running sum from the end is the whole sum less that of what comes before."""
    place, rank = n.maybe_constant(1), len(n.input_type(0).shape)
    if place is None or not n.attr("reverse", 0) or (axis := int(place.reshape(())) % rank - rank) not in n.dims(0):
        return False
    x, t = n.node.inputs[0], n.output_type()
    kept = _kept(t.shape, axis)
    total = _reduced("ReduceSum", n, b, x, [axis], 1, TensorType(t.dtype, kept))
    attrs: dict[str, Any] = {"exclusive": 1 - int(n.attr("exclusive", 0))}
    before = b.add("CumSum", [x, n.node.inputs[1]], t.shape, **attrs)
    b.add("Sub", [total, before], t.shape, output=n.node.outputs[0])
    return True


REPLACED: Mapping[str, Callable[[OpenNode, Builder], bool]] = {
    "ReduceMean": _mean,
    **dict.fromkeys(("Gather", "GatherElements"), _gather),
    "GatherND": _gather_nd,
    "Slice": _slice,
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg_extreme),
    "TopK": _top_k,
    "Trilu": _triangle,
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    "ReduceLogSumExp": _log_sum_exp,
    "CumSum": _backwards,
    "Conv": convolution,
}
"""By operator, what adds the nodes that replace it, and says whether it did."""
