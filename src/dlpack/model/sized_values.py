"""Small integer values of which only a run knows the elements, element by element, through the operators on shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from dlpack.model.sized_numbers import Number, add, div, maximum, minimum, mul, sub, whole

Shape = tuple[int, ...]
_Function = Callable[["_Call"], "list[Number] | None"]


@dataclass(frozen=True)
class _Call:
    """A node with the elements and shapes of its inputs and the shape of its output."""

    node: NodeProto
    contents: Sequence[list[Number]]
    shapes: Sequence[Shape]
    result: Shape

    def attribute(self, name: str, default: Any) -> Any:
        return next((helper.get_attribute_value(a) for a in self.node.attribute if a.name == name), default)

    def known(self, first: int) -> bool:
        """Whether the inputs from this one on are."""
        return all(n.known for c in self.contents[first:] for n in c)

    def taken(self, places: Any) -> list[Number]:
        """Elements of the first input."""
        return [self.contents[0][int(i)] for i in np.asarray(places).reshape(-1)]

    def index(self) -> np.ndarray[Any, Any]:
        """The first input with the numbers of its elements in their place."""
        return np.arange(len(self.contents[0])).reshape(self.shapes[0])


def followed(
    node: NodeProto, contents: Sequence[list[Number]], shapes: Sequence[Shape], result: Shape
) -> list[Number] | None:
    """The elements of the node's output, flat, from those of its inputs; None if they are not known."""
    function = _FUNCTIONS.get(node.op_type)
    return function(_Call(node, contents, shapes, result)) if function and contents else None


def _same(c: _Call) -> list[Number]:
    return c.contents[0]


def _pointwise(combine: Callable[[Number, Number], Number]) -> _Function:
    def function(c: _Call) -> list[Number] | None:
        out, shape = c.contents[0], c.shapes[0]
        for other, other_shape in zip(c.contents[1:], c.shapes[1:], strict=True):
            full = np.broadcast_shapes(shape, other_shape)
            a = np.broadcast_to(np.arange(len(out)).reshape(shape), full).reshape(-1)
            b = np.broadcast_to(np.arange(len(other)).reshape(other_shape), full).reshape(-1)
            pairs = [(out[i], other[j]) for i, j in zip(a, b, strict=True)]
            if combine is div and any(y.low <= 0 or x.low < 0 for x, y in pairs):
                return None  # ONNX rounds towards zero
            out, shape = [combine(x, y) for x, y in pairs], full
        return out

    return function


def _negated(c: _Call) -> list[Number]:
    return [sub(whole(0), n) for n in c.contents[0]]


def _clip(c: _Call) -> list[Number] | None:
    """Its limits are inputs, which may be left out, or attributes."""
    limits = [n for n in c.node.input[1:] if n]
    if any(len(part) != 1 for part in c.contents[1:]):
        return None
    given = dict(zip(limits, (part[0] for part in c.contents[1:]), strict=True))
    low, high = ([*(given.get(n) for n in c.node.input[1:]), None, None])[:2]
    out = c.contents[0]
    if low is not None:
        out = [maximum(n, low) for n in out]
    return out if high is None else [minimum(n, high) for n in out]


def _gather(c: _Call) -> list[Number] | None:
    if not c.known(1):
        return None
    places = np.array([n.constant for n in c.contents[1]], np.int64).reshape(c.shapes[1])
    return c.taken(np.take(c.index(), places, axis=c.attribute("axis", 0)))


def _slice(c: _Call) -> list[Number] | None:
    if not c.known(1) or len(c.contents) < 3:
        return None
    starts, ends, *more = ([n.constant for n in part] for part in c.contents[1:])
    axes = more[0] if more else list(range(len(starts)))
    steps = more[1] if len(more) > 1 else [1] * len(starts)
    cut = [slice(None)] * len(c.shapes[0])
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        stop = None if step < 0 and end < -c.shapes[0][axis] else end
        cut[axis] = slice(start, stop, step)
    return c.taken(c.index()[tuple(cut)])


def _concat(c: _Call) -> list[Number] | None:
    flat = [n for part in c.contents for n in part]
    return flat if all(len(shape) == 1 for shape in c.shapes) else None


def _reduction(combine: Callable[[Number, Number], Number]) -> _Function:
    def function(c: _Call) -> list[Number] | None:
        whole_ = c.contents[0] and math.prod(c.result) == 1
        return [reduce(combine, c.contents[0])] if whole_ else None

    return function


_FUNCTIONS: dict[str, _Function] = {
    **dict.fromkeys(("Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Flatten"), _same),
    "Add": _pointwise(add),
    "Sub": _pointwise(sub),
    "Mul": _pointwise(mul),
    "Div": _pointwise(div),
    "Min": _pointwise(minimum),
    "Max": _pointwise(maximum),
    "Clip": _clip,
    "Neg": _negated,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "ReduceMin": _reduction(minimum),
    "ReduceMax": _reduction(maximum),
    "ReduceProd": _reduction(mul),
    "ReduceSum": _reduction(add),
}
