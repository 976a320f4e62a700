"""Movement of values whose size only a run knows: by gathers at places that are computed (`sized_rules.py`)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper

from dlpack.model.sized_numbers import Number, add, div, element, maximum, minimum, mul, product, sub, whole, wrapped
from dlpack.model.sized_work import Refused, Sizing

MAX_PLACES = 1 << 24
"""Elements of a value that is moved by computed places."""


def of_attribute(node: NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def optional_input(node: NodeProto, place: int) -> bool:
    return place < len(node.input) and node.input[place] != ""


def static_axes(s: Sizing, name: str, axes: Iterable[int]) -> None:
    """Raises Refused where the size of one of these dimensions is not known."""
    for axis in axes:
        if axis in s.sizes.get(name, {}):
            raise Refused(
                f"it mixes the elements along dimension {axis} of '{name}', whose size only a run knows (at most "
                f"{s.sizes[name][axis].high}); compute it behind the model, on an output"
            )


def same_size(found: Sequence[tuple[str, Number]], axis: int) -> Number:
    """The one size that these values have along a dimension. Raises Refused where they may differ."""
    first, size = found[0]
    for name, other in found[1:]:
        if other.key != size.key:
            raise Refused(
                f"its inputs '{first}' and '{name}' may have different sizes along dimension {axis} of the output, as "
                "far as is known here"
            )
    return size


def like_shape(wanted: Sequence[Number], total: Number, s: Sizing, node: NodeProto) -> list[Number]:
    """The shape that Reshape is asked for, -1 replaced."""
    out = list(wanted)
    holes = [d for d, n in enumerate(out) if n.known and n.constant == -1]
    for d in holes:
        out[d] = div(total, product([n for k, n in enumerate(out) if k != d]))
    return [n if n.known else s.bound(node, n, f"size of dimension {d}") for d, n in enumerate(out)]


def reform(s: Sizing, x: str, dims: Sequence[Number], output: str = "") -> str:
    """x in another shape of as many elements."""
    shape = [n.high for n in dims]
    if _in_place(s.dims(x), dims) and math.prod(shape) == math.prod(s.shape(x)):
        out = s.emit("Reshape", [x, s.constant(shape)], shape, output=output)
    else:
        out = _repacked(s, x, dims, output)
    s.give({out: dict(enumerate(dims))})
    if x in s.numbers and out not in s.sizes:
        s.numbers[out] = s.numbers[x]
    return out


def _in_place(old: Sequence[Number], new: Sequence[Number]) -> bool:
    """Whether elements stay where they are in memory on the largest sizes: the dimensions fall into groups of as many
    elements on both sides, in which only the first may have a size that is not known."""
    i = j = 0
    while i < len(old) or j < len(new):
        a, b = whole(1), whole(1)
        while True:
            if i < len(old) and (a.high <= b.high or j == len(new)):
                if not (old[i].known or a.key == "1"):
                    return False
                a, i = mul(a, old[i]), i + 1
            elif j < len(new):
                if not (new[j].known or b.key == "1"):
                    return False
                b, j = mul(b, new[j]), j + 1
            else:
                return False
            if a.key == b.key:
                break
    return True


def _repacked(s: Sizing, x: str, dims: Sequence[Number], output: str) -> str:
    """The elements in order, without the padding between them."""
    shape, old = [n.high for n in dims], s.dims(x)
    count = math.prod(shape)
    if max(count, math.prod(s.shape(x))) > MAX_PLACES:
        raise Refused(f"it moves up to {count} elements to places that only a run knows; {MAX_PLACES} are supported")
    # Which element of the true order each place of the new shape is, and where that one lies.
    order = _flat(s, [_along(s, shape, d) for d in range(len(shape))], dims)
    places: list[str] = []
    rest = order
    for n in reversed(old):
        by = s.scalar(maximum(n, whole(1)))
        places.append(s.emit("Mod", [rest, by], s.shape(rest)))
        rest = s.emit("Div", [rest, by], s.shape(rest))
    where = _flat(s, places[::-1], [whole(n) for n in s.shape(x)])
    return _taken(s, x, where, shape, output)


def _along(s: Sizing, shape: Sequence[int], axis: int) -> str:
    """The index along an axis, for each place of a shape; broadcasts."""
    return s.constant(np.arange(shape[axis]).reshape([-1 if d == axis else 1 for d in range(len(shape))]))


def _flat(s: Sizing, places: Sequence[str], dims: Sequence[Number]) -> str:
    """The row-major number of a place in a shape."""
    total = ""
    for place, n in zip(places, dims, strict=True):
        if total:
            shape = np.broadcast_shapes(s.shape(total), s.shape(place))
            total = s.emit("Mul", [total, s.scalar(n)], s.shape(total))
            total = s.emit("Add", [total, place], shape)
        else:
            total = place
    return total or s.constant(0)


def _taken(s: Sizing, x: str, where: str, shape: Sequence[int], output: str) -> str:
    """The elements of x, flat, at these places, in a shape."""
    count = math.prod(s.shape(x))
    flat_x = s.emit("Reshape", [x, s.constant([count])], [count], s.elem(x))
    taken = s.emit("Gather", [flat_x, where], s.shape(where), s.elem(x), axis=0)
    return s.emit("Reshape", [taken, s.constant(list(shape))], shape, s.elem(x), output)


def flat(s: Sizing, x: str) -> str:
    """All elements of x in a vector."""
    return x if len(s.shape(x)) == 1 else reform(s, x, [product(s.dims(x))])


def from_the_start(s: Sizing, places: str, sizes: Sequence[Number]) -> str:
    """Places in dimensions of these sizes, negative ones counted from the true end. Of several sizes, the last
    dimension of the places tells which."""
    if all(n.known for n in sizes):
        return places
    array = s.array(places)
    if array is not None and (array >= 0).all():
        return places
    if places in s.numbers and all(n.low >= 0 for n in s.numbers[places]):
        return places
    shape, elem = s.shape(places), s.elem(places)
    size = s.vector(sizes)
    if elem != TensorProto.INT64:
        size = s.emit("Cast", [size], [len(sizes)], elem, to=elem)
    zero = s.constant(0, helper.tensor_dtype_to_np_dtype(elem))
    negative = s.emit("Less", [places, zero], shape, TensorProto.BOOL)
    out = s.emit("Where", [negative, s.emit("Add", [places, size], shape, elem), places], shape, elem)
    s.give({out: s.sizes.get(places, {})})
    return out


# --- ranges -----------------------------------------------------------------------------------------------------------


def range_size(s: Sizing, node: NodeProto) -> Number:
    """How many elements Range makes."""
    first, limit, step = node.input
    if s.elem(first) in (TensorProto.INT64, TensorProto.INT32):
        a, b, by = (s.content(n)[0] for n in (first, limit, step))
        if by.known and by.constant != 0:
            length = sub(b, a) if by.constant > 0 else sub(a, b)
            width = abs(by.constant)
            return s.bound(node, div(add(length, whole(width - 1)), whole(width)), "numbers in its range")
    elem = s.elem(first)
    length_ = s.emit("Sub", [limit, first], [], elem)
    if elem in (TensorProto.INT64, TensorProto.INT32):
        elem = TensorProto.DOUBLE
        length_ = s.emit("Cast", [length_], [], elem, to=elem)
        step = s.emit("Cast", [step], [], elem, to=elem)
    steps = s.emit("Ceil", [s.emit("Div", [length_, step], [], elem)], [], elem)
    count = s.emit("Cast", [steps], [], TensorProto.INT64, to=TensorProto.INT64)
    return s.bound(node, element(count, 0), "numbers in its range")


def slice_range(size: Number, start: Number, end: Number, step: int) -> tuple[Number, Number]:
    """Where a slice begins, and how many elements it has."""
    if step > 0:
        begin = minimum(maximum(wrapped(start, size), whole(0)), size)
        stop = minimum(maximum(wrapped(end, size), whole(0)), size)
        count = div(add(sub(stop, begin), whole(step - 1)), whole(step))
    else:
        begin = minimum(maximum(wrapped(start, size), whole(0)), sub(size, whole(1)))
        stop = minimum(maximum(wrapped(end, size), whole(-1)), sub(size, whole(1)))
        count = div(add(sub(begin, stop), whole(-step - 1)), whole(-step))
    asked = sub(end, start)
    if step > 0 and asked.known:
        count = minimum(count, whole(max(0, -(-asked.constant // step))))
    return begin, maximum(count, whole(0))


def moved_range(s: Sizing, x: str, axis: int, begin: Number, count: Number, step: int, output: str = "") -> str:
    """x at `count` places along an axis, from `begin` on."""
    shape = list(s.shape(x))
    shape[axis] = count.high
    places = s.constant(np.arange(count.high) * step)
    if begin.known:
        places = s.constant(np.maximum(np.arange(count.high) * step + begin.constant, 0))
    else:
        places = s.emit("Add", [places, s.scalar(begin)], [count.high])
        places = s.emit("Max", [places, s.constant([0])], [count.high])
    out = s.emit("Gather", [x, places], shape, s.elem(x), output, axis=axis)
    s.give({out: {**s.sizes.get(x, {}), axis: count}})
    if count.known:
        s.sizes.get(out, {}).pop(axis, None)
    return out


def joined(s: Sizing, node: NodeProto) -> None:
    """Concat: without the padding between the parts."""
    names = list(node.input)
    rank = len(s.shape(names[0]))
    axis = of_attribute(node, "axis", 0) % rank
    sizes: dict[int, Number] = {}
    for d in range(rank):
        if d != axis:
            sizes[d] = same_size([(n, s.dims(n)[d]) for n in names], d)
    parts = [s.dims(n)[axis] for n in names]
    total = whole(0)
    for n in parts:
        total = add(total, n)
    sizes[axis] = total
    if all(n.known for n in parts[:-1]):  # the padding is at the end already
        s.keep(node, {node.output[0]: sizes})
        return
    shape = [n.high for n in (sizes[d] for d in range(rank))]
    everything = s.emit("Concat", names, shape, s.elem(names[0]), axis=axis)
    n = total.high
    index = s.constant(np.arange(n))
    places, before, begin = index, whole(0), 0
    for k, size in enumerate(parts):
        if k:  # from `before` on it is this part, which lies at `begin`
            here = s.emit("Less", [index, s.scalar(before)], [n], TensorProto.BOOL)
            moved = s.emit("Add", [index, s.scalar(sub(whole(begin), before))], [n])
            places = s.emit("Where", [here, places, moved], [n], TensorProto.INT64)
        before, begin = add(before, size), begin + size.high
    places = s.emit("Min", [places, s.constant([max(0, n - 1)])], [n])
    s.emit("Gather", [everything, places], shape, s.elem(names[0]), node.output[0], axis=axis)
    s.give({node.output[0]: sizes})


def repeated(s: Sizing, node: NodeProto, x: str, axis: int, times: Number, output: str) -> str:
    """x several times along an axis."""
    size = s.dims(x)[axis]
    total = s.bound(node, mul(size, maximum(times, whole(0))), f"size of dimension {axis}")
    shape = list(s.shape(x))
    shape[axis] = total.high
    index = s.constant(np.arange(total.high))
    places = s.emit("Mod", [index, s.scalar(maximum(size, whole(1)))], [total.high])
    out = s.emit("Gather", [x, places], shape, s.elem(x), output, axis=axis)
    sizes = {d: n for d, n in s.sizes.get(x, {}).items() if d != axis}
    s.give({out: {**sizes, axis: total}})
    return out
