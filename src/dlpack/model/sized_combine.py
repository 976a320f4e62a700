"""Operators that mix elements of values whose size only a run knows: their padding is masked first."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper

from dlpack.model.sized_moves import from_the_start, moved_range, of_attribute, optional_input, same_size, static_axes
from dlpack.model.sized_numbers import Number, minimum, product, whole
from dlpack.model.sized_work import Refused, Sizing, rule

_NEUTRAL = {"Sum": 0, "L1": 0, "L2": 0, "SumSquare": 0, "LogSum": 0, "Mean": 0, "Prod": 1}


def extreme(s: Sizing, name: str, side: int) -> Any:
    """The largest (side 1) or smallest (-1) number of a value's element type."""
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(s.elem(name)))
    if dtype.kind == "f" or dtype.name == "bfloat16":
        return side * math.inf
    if dtype.kind == "b":
        return side > 0
    return np.iinfo(dtype).max if side > 0 else np.iinfo(dtype).min


@rule("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceMean", "ReduceProd", "ReduceMax",
      "ReduceMin", "ReduceLogSumExp")  # fmt: skip
def reduce_(s: Sizing, node: NodeProto) -> None:
    x, op = node.input[0], node.op_type.removeprefix("Reduce")
    rank = len(s.shape(x))
    axes = of_attribute(node, "axes", None)
    if axes is None and optional_input(node, 1):
        numbers = s.content(node.input[1])
        if not all(n.known for n in numbers):
            raise Refused("its axes are not constant")
        axes = [n.constant for n in numbers]
    if not axes:
        axes = [] if of_attribute(node, "noop_with_empty_axes", 0) else list(range(rank))
    axes = [a % rank for a in axes]
    dims, keep = s.dims(x), of_attribute(node, "keepdims", 1)
    sizes = [whole(1) if d in axes else n for d, n in enumerate(dims) if keep or d not in axes]
    result = {node.output[0]: dict(enumerate(sizes))}
    if not any(a in s.sizes.get(x, {}) for a in axes):
        s.keep(node, result)
        return
    fill = _NEUTRAL.get(op)
    if fill is None:
        fill = extreme(s, x, 1 if op == "Min" else -1)
    made = NodeProto.FromString(node.SerializeToString())
    made.input[0] = s.masked(x, axes, fill)
    if op != "Mean":
        s.keep(made, result)
        return
    made.op_type, made.output[0] = "ReduceSum", s.fresh("sum")
    if s.opset >= 13 and len(made.input) < 2:  # where its axes are an input, not as for the mean an attribute
        del made.attribute[:]
        made.attribute.extend(a for a in node.attribute if a.name != "axes")
        made.input.append(s.constant(axes))
    s.keep(made, {made.output[0]: dict(enumerate(sizes))})
    elem = s.elem(x)
    count = s.emit("Cast", [s.scalar(product([dims[a] for a in axes]))], [1], elem, to=elem)
    shape = s.shape(made.output[0])
    if not shape:
        count = s.emit("Reshape", [count, s.constant([])], [], elem)
    s.emit("Div", [made.output[0], count], shape, elem, node.output[0])
    s.give(result)


@rule("ArgMax", "ArgMin")
def arg_extreme(s: Sizing, node: NodeProto) -> None:
    x = node.input[0]
    dims = s.dims(x)
    axis = of_attribute(node, "axis", 0) % len(dims)
    made = NodeProto.FromString(node.SerializeToString())
    if axis in s.sizes.get(x, {}):
        if of_attribute(node, "select_last_index", 0):
            raise Refused(f"it selects the last extreme along dimension {axis}, whose size only a run knows")
        made.input[0] = s.masked(x, [axis], extreme(s, x, -1 if node.op_type == "ArgMax" else 1))
    keep = of_attribute(node, "keepdims", 1)
    sizes = [whole(1) if d == axis else n for d, n in enumerate(dims) if keep or d != axis]
    s.keep(made, {node.output[0]: dict(enumerate(sizes))})


@rule("Softmax", "LogSoftmax", "Hardmax")
def softmax(s: Sizing, node: NodeProto) -> None:
    x = node.input[0]
    rank = len(s.shape(x))
    axis = of_attribute(node, "axis", 1 if s.opset < 13 else -1) % rank
    made = NodeProto.FromString(node.SerializeToString())
    made.input[0] = s.masked(x, range(axis, rank) if s.opset < 13 else [axis], -math.inf)
    s.keep(made, {node.output[0]: dict(enumerate(s.dims(x)))})


@rule("CumSum", "CumProd")
def cumulative(s: Sizing, node: NodeProto) -> None:
    x = node.input[0]
    axis = s.content(node.input[1])[0]
    if not axis.known:
        raise Refused("its axis is not constant")
    made = NodeProto.FromString(node.SerializeToString())
    if of_attribute(node, "reverse", 0):
        made.input[0] = s.masked(x, [axis.constant % len(s.shape(x))], 0 if node.op_type == "CumSum" else 1)
    s.keep(made, {node.output[0]: dict(enumerate(s.dims(x)))})


@rule("MatMul", "Gemm")
def matmul(s: Sizing, node: NodeProto) -> None:
    a, b = node.input[:2]
    made = NodeProto.FromString(node.SerializeToString())
    x, y = s.dims(a), s.dims(b)
    turned = [of_attribute(node, name, 0) if node.op_type == "Gemm" else 0 for name in ("transA", "transB")]
    inner = [len(x) - 1 - turned[0], max(0, len(y) - 2) + turned[1]]
    if inner[0] in s.sizes.get(a, {}) or inner[1] in s.sizes.get(b, {}):
        same_size([(a, x[inner[0]]), (b, y[inner[1]])], inner[0])
        made.input[0], made.input[1] = s.masked(a, [inner[0]], 0), s.masked(b, [inner[1]], 0)
    lead = []
    deep = max(len(x), len(y)) - 2
    for d in range(deep):
        found = []
        for name, dims in ((a, x), (b, y)):
            k = d - deep + len(dims) - 2
            if k >= 0 and not (dims[k].known and dims[k].constant == 1):
                found.append((name, dims[k]))
        lead.append(same_size(found, d) if found else whole(1))
    sizes = [*lead, *([x[-2 + turned[0]]] if len(x) > 1 else []), *([y[-1 - turned[1]]] if len(y) > 1 else [])]
    if optional_input(node, 2):
        dims = s.dims(node.input[2])
        for k, n in enumerate(reversed(dims), 1):
            if not (n.known and n.constant == 1):
                same_size([(node.output[0], sizes[-k]), (node.input[2], n)], len(sizes) - k)
    s.keep(made, {node.output[0]: dict(enumerate(sizes))})


@rule("Einsum")
def einsum(s: Sizing, node: NodeProto) -> None:
    text = of_attribute(node, "equation", b"").decode().replace(" ", "")
    if "." in text:
        raise Refused("an Einsum with '...' on a value whose size only a run knows")
    left, arrow, right = text.partition("->")
    words = left.split(",")
    letters: dict[str, list[tuple[str, Number]]] = {}
    for name, word in zip(node.input, words, strict=True):
        for letter, n in zip(word, s.dims(name), strict=True):
            letters.setdefault(letter, []).append((name, n))
    sizes = {letter: same_size(found, left.index(letter)) for letter, found in letters.items()}
    if not arrow:
        joined = left.replace(",", "")
        right = "".join(sorted(c for c in set(joined) if joined.count(c) == 1))
    made = NodeProto.FromString(node.SerializeToString())
    for k, (name, word) in enumerate(zip(node.input, words, strict=True)):
        made.input[k] = s.masked(name, [d for d, c in enumerate(word) if c not in right], 0)
    s.keep(made, {node.output[0]: {d: sizes[c] for d, c in enumerate(right)}})


@rule("TopK")
def top_k(s: Sizing, node: NodeProto) -> None:
    """As many as there are at most, in order, of which as many count as a run asks for."""
    x = node.input[0]
    dims = s.dims(x)
    axis = of_attribute(node, "axis", -1) % len(dims)
    if len(node.input) > 1:
        asked = s.content(node.input[1])[0]
    else:
        asked = whole(of_attribute(node, "k", 1))
    count = s.bound(node, minimum(asked, dims[axis]), "elements that it selects")
    made = NodeProto.FromString(node.SerializeToString())
    made.input[0] = s.masked(x, [axis], extreme(s, x, -1 if of_attribute(node, "largest", 1) else 1))
    if len(node.input) > 1:
        made.input[1] = s.constant([count.high])
    sizes = {**dict(enumerate(dims)), axis: count}
    s.keep(made, {name: sizes for name in node.output})


@rule("ScatterElements", "Scatter", "ScatterND")
def scatter(s: Sizing, node: NodeProto) -> None:
    """Updates that are padding go to a place of their own, behind the others, which is cut off."""
    x, places, _ = node.input
    dims, where = s.dims(x), s.dims(places)
    by_place = node.op_type == "ScatterND"
    axis = 0 if by_place else of_attribute(node, "axis", 0) % len(dims)
    indexed = range(s.shape(places)[-1]) if by_place else [axis]
    made = NodeProto.FromString(node.SerializeToString())
    places = from_the_start(s, places, [dims[d] for d in indexed])
    made.input[1] = places
    padded = s.sizes.get(places, {})
    if not padded:
        s.keep(made, {node.output[0]: dict(enumerate(dims))})
        return
    elem, n = s.elem(places), s.shape(x)[axis]
    if by_place:
        static_axes(s, places, [len(where) - 1])
    integer = helper.tensor_dtype_to_np_dtype(elem)
    places = _from_zero(s, places, [s.shape(x)[d] for d in indexed])
    for d, size in padded.items():
        mask = s.inside(size, s.shape(places)[d], d, len(where))
        beyond = np.zeros(len(indexed), np.int64)
        beyond[0] = n
        fill = s.constant(beyond if by_place else n, integer)
        places = s.emit("Where", [mask, places, fill], s.shape(places), elem)
    more = [1 if d == axis else m for d, m in enumerate(s.shape(x))]
    longer = [n + 1 if d == axis else m for d, m in enumerate(s.shape(x))]
    room = s.constant(np.zeros(more), helper.tensor_dtype_to_np_dtype(s.elem(x)))
    made.input[0] = s.emit("Concat", [x, room], longer, s.elem(x), axis=axis)
    made.input[1] = places
    made.output[0] = s.fresh("scattered")
    s.keep(made, {})
    moved_range(s, made.output[0], axis, whole(0), whole(n), 1, node.output[0])
    s.give({node.output[0]: dict(enumerate(dims))})


def _from_zero(s: Sizing, places: str, shape: list[int]) -> str:
    """Places, negative ones counted from the end: the end moves by what is added."""
    elem = s.elem(places)
    integer = helper.tensor_dtype_to_np_dtype(elem)
    negative = s.emit("Less", [places, s.constant(0, integer)], s.shape(places), TensorProto.BOOL)
    back = s.emit("Add", [places, s.constant(shape, integer)], s.shape(places), elem)
    return s.emit("Where", [negative, back, places], s.shape(places), elem)
