"""What operators do with values whose size only a run knows (`sized.py`), those that mix no padding into results."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from onnx import NodeProto, TensorProto, helper

from dlpack.model.infer import to_numpy
from dlpack.model.sized_moves import (
    from_the_start,
    joined,
    like_shape,
    moved_range,
    of_attribute,
    optional_input,
    range_size,
    reform,
    repeated,
    same_size,
    slice_range,
    static_axes,
)
from dlpack.model.sized_numbers import Number, add, minimum, product, whole
from dlpack.model.sized_work import Refused, Sizing, rule

# --- element by element -----------------------------------------------------------------------------------------------


@rule(
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitShift", "BitwiseAnd", "BitwiseNot",
    "BitwiseOr", "BitwiseXor", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos", "Cosh", "Div", "Dropout", "Elu",
    "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity",
    "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg",
    "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh",
    "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu", "Where", "Xor",
)  # fmt: skip
def pointwise(s: Sizing, node: NodeProto) -> None:
    names = [n for n in node.input if n]
    rank = max(len(s.shape(n)) for n in names)
    sizes = {}
    for d in range(rank):
        found: list[tuple[str, Number]] = []
        for n in names:
            dims = s.dims(n)
            k = d - rank + len(dims)
            if k >= 0 and not (dims[k].known and dims[k].constant == 1):
                found.append((n, dims[k]))
        if found:
            sizes[d] = same_size(found, d)
    s.keep(node, {name: sizes for name in node.output})


@rule("QuantizeLinear", "DequantizeLinear", "Trilu", "LayerNormalization", "RMSNormalization", "LpNormalization",
      "MeanVarianceNormalization", "LRN")  # fmt: skip
def rowwise(s: Sizing, node: NodeProto) -> None:
    """Nothing is mixed along the first dimensions; where a dimension is normalised, its size must be known."""
    x = node.input[0]
    rank = len(s.shape(x))
    axes: Sequence[int] = ()
    if node.op_type in ("LayerNormalization", "RMSNormalization"):
        axes = range(of_attribute(node, "axis", -1) % rank, rank)
    elif node.op_type == "LpNormalization":
        axes = [of_attribute(node, "axis", -1) % rank]
    elif node.op_type == "MeanVarianceNormalization":
        axes = of_attribute(node, "axes", [0, 2, 3])
    elif node.op_type == "LRN":
        axes = [1]
    elif node.op_type in ("QuantizeLinear", "DequantizeLinear") and s.shape(node.input[1]):
        axes = [of_attribute(node, "axis", 1) % rank] if math.prod(s.shape(node.input[1])) > 1 else ()
    static_axes(s, x, axes)
    sizes = dict(enumerate(s.dims(x)))
    s.keep(node, {name: sizes for name in node.output[:1]})


@rule(
    "Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool",
    "BatchNormalization", "InstanceNormalization", "GroupNormalization", "DepthToSpace", "SpaceToDepth", "GridSample",
)  # fmt: skip
def batchwise(s: Sizing, node: NodeProto) -> None:
    """Pictures of which only a run knows how many there are."""
    x = node.input[0]
    static_axes(s, x, range(1, len(s.shape(x))))
    for other in node.input[1:]:
        if other in s.sizes and node.op_type != "GridSample":
            raise Refused(f"its input '{other}' has a size that only a run knows")
    found = [(n, s.dims(n)[0]) for n in node.input if n in s.sizes]
    if node.op_type == "GridSample":
        found = [(n, s.dims(n)[0]) for n in node.input]
        static_axes(s, node.input[1], range(1, len(s.shape(node.input[1]))))
    s.keep(node, {name: {0: same_size(found, 0)} for name in node.output[:1]})


@rule("RoiAlign", "MaxRoiPool")
def roi_align(s: Sizing, node: NodeProto) -> None:
    static_axes(s, node.input[0], range(len(s.shape(node.input[0]))))
    found = [(n, s.dims(n)[0]) for n in node.input[1:]]
    s.keep(node, {node.output[0]: {0: same_size(found, 0)}})


# --- shapes -----------------------------------------------------------------------------------------------------------


@rule("Shape")
def shape_of(s: Sizing, node: NodeProto) -> None:
    dims = s.dims(node.input[0])[of_attribute(node, "start", 0) : of_attribute(node, "end", None)]
    s.vector(dims, node.output[0])
    s.numbers[node.output[0]] = dims


@rule("Size")
def size_of(s: Sizing, node: NodeProto) -> None:
    n = product(s.dims(node.input[0]))
    s.emit("Reshape", [s.scalar(n), s.constant([])], [], TensorProto.INT64, node.output[0])
    s.numbers[node.output[0]] = [n]


@rule("Reshape")
def reshape(s: Sizing, node: NodeProto) -> None:
    x = node.input[0]
    given, wanted = s.dims(x), list(s.content(node.input[1]))
    zero = not of_attribute(node, "allowzero", 0)
    for d, n in enumerate(wanted):
        if n.known and n.constant == 0 and zero and d < len(given):
            wanted[d] = given[d]
    reform(s, x, like_shape(wanted, product(given), s, node), node.output[0])


@rule("Flatten")
def flatten(s: Sizing, node: NodeProto) -> None:
    dims = s.dims(node.input[0])
    axis = of_attribute(node, "axis", 1)
    axis += len(dims) if axis < 0 else 0
    reform(s, node.input[0], [product(dims[:axis]), product(dims[axis:])], node.output[0])


@rule("Squeeze")
def squeeze(s: Sizing, node: NodeProto) -> None:
    dims = s.dims(node.input[0])
    axes = _axes(s, node)
    if axes is None:
        raise Refused("it has no axes, so that its output's rank depends on the data; state them")
    gone = {a % len(dims) for a in axes}
    for d in gone:
        if not dims[d].known:
            raise Refused(f"it drops dimension {d}, whose size only a run knows; select its first element instead")
    reform(s, node.input[0], [n for d, n in enumerate(dims) if d not in gone], node.output[0])


@rule("Unsqueeze")
def unsqueeze(s: Sizing, node: NodeProto) -> None:
    dims = s.dims(node.input[0])
    axes = _axes(s, node) or []
    rank = len(dims) + len(axes)
    new = {a % rank for a in axes}
    rest = iter(dims)
    reform(s, node.input[0], [whole(1) if d in new else next(rest) for d in range(rank)], node.output[0])


def _axes(s: Sizing, node: NodeProto) -> list[int] | None:
    """Axes as an attribute (old opsets) or as an input."""
    axes = of_attribute(node, "axes", None)
    if axes is not None or not optional_input(node, 1):
        return axes if axes is None else list(axes)
    numbers = s.content(node.input[1])
    if not all(n.known for n in numbers):
        raise Refused("its axes are not constant")
    return [n.constant for n in numbers]


@rule("Transpose")
def transpose(s: Sizing, node: NodeProto) -> None:
    dims = s.dims(node.input[0])
    perm = of_attribute(node, "perm", list(range(len(dims)))[::-1])
    s.keep(node, {node.output[0]: {d: dims[p] for d, p in enumerate(perm)}})


@rule("Expand")
def expand(s: Sizing, node: NodeProto) -> None:
    x, wanted = node.input[0], s.content(node.input[1])
    dims = s.dims(x)
    rank = max(len(dims), len(wanted))
    full = [whole(1)] * (rank - len(dims)) + dims
    target = [whole(1)] * (rank - len(wanted)) + list(wanted)
    sizes = []
    for d, (a, b) in enumerate(zip(full, target, strict=True)):
        found = [(name, n) for name, n in ((x, a), (node.input[1], b)) if not (n.known and n.constant == 1)]
        sizes.append(s.bound(node, same_size(found, d), f"size of dimension {d}") if found else whole(1))
    largest = [n.high for n in sizes]
    s.emit("Expand", [x, s.constant(largest)], largest, s.elem(x), node.output[0])
    s.give({node.output[0]: dict(enumerate(sizes))})


@rule("ConstantOfShape")
def constant_of_shape(s: Sizing, node: NodeProto) -> None:
    sizes = [s.bound(node, n, f"size of dimension {d}") for d, n in enumerate(s.content(node.input[0]))]
    value = of_attribute(node, "value", None)
    array = np.zeros(1, np.float32) if value is None else to_numpy(value)
    filled = s.constant(array.reshape(-1)[0], array.dtype)
    largest = [n.high for n in sizes]
    s.emit("Expand", [filled, s.constant(largest)], largest, s.elem(filled), node.output[0])
    s.give({node.output[0]: dict(enumerate(sizes))})


@rule("Range")
def range_(s: Sizing, node: NodeProto) -> None:
    first, _, step = node.input
    elem = s.elem(first)
    size = range_size(s, node)
    n = size.high
    places = s.constant(np.arange(n), helper.tensor_dtype_to_np_dtype(elem))
    steps = s.emit("Mul", [places, s.emit("Reshape", [step, s.constant([1])], [1])], [n], elem)
    s.emit("Add", [steps, s.emit("Reshape", [first, s.constant([1])], [1])], [n], elem, node.output[0])
    s.give({node.output[0]: {0: size}})


@rule("EyeLike")
def eye_like(s: Sizing, node: NodeProto) -> None:
    s.keep(node, {node.output[0]: dict(enumerate(s.dims(node.input[0])))})


# --- parts ------------------------------------------------------------------------------------------------------------


@rule("Slice")
def slice_(s: Sizing, node: NodeProto) -> None:
    x = node.input[0]
    if len(node.input) == 1:
        starts, ends = (list(map(whole, of_attribute(node, a, []))) for a in ("starts", "ends"))
        axes = of_attribute(node, "axes", list(range(len(starts))))
        steps = [1] * len(starts)
    else:
        starts, ends = s.content(node.input[1]), s.content(node.input[2])
        axes, steps = list(range(len(starts))), [1] * len(starts)
        for place, into in ((3, axes), (4, steps)):
            if optional_input(node, place):
                numbers = s.content(node.input[place])
                if not all(n.known for n in numbers):
                    raise Refused(f"its {'axes' if place == 3 else 'steps'} are not constant")
                into[:] = [n.constant for n in numbers]
    ranges = []
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        axis %= len(s.shape(x))
        ranges.append((axis, *slice_range(s.dims(x)[axis], start, end, step), step))
    for k, (axis, begin, count, step) in enumerate(ranges):
        last = k == len(ranges) - 1
        x = moved_range(s, x, axis, begin, s.bound(node, count, "slice"), step, node.output[0] if last else "")


@rule("Split")
def split(s: Sizing, node: NodeProto) -> None:
    x = node.input[0]
    axis = of_attribute(node, "axis", 0) % len(s.shape(x))
    dims = s.dims(x)
    sizes = [whole(n) for n in of_attribute(node, "split", [])]
    if optional_input(node, 1):
        sizes = list(s.content(node.input[1]))
    if dims[axis].known and all(n.known for n in sizes):
        kept = {d: n for d, n in enumerate(dims) if d != axis}
        s.keep(node, {name: kept for name in node.output})
        return
    if not sizes:
        raise Refused(f"it splits dimension {axis}, whose size only a run knows, into equal parts; use Slice")
    begin = whole(0)
    for name, size in zip(node.output, sizes, strict=True):
        moved_range(s, x, axis, begin, s.bound(node, minimum(size, dims[axis]), "part"), 1, name)
        begin = add(begin, size)


@rule("Concat")
def concat(s: Sizing, node: NodeProto) -> None:
    joined(s, node)


@rule("Tile")
def tile(s: Sizing, node: NodeProto) -> None:
    x = node.input[0]
    repeats = s.content(node.input[1])
    changed = [d for d, n in enumerate(repeats) if not (n.known and n.constant == 1)]
    if not changed:
        s.emit("Identity", [x], s.shape(x), output=node.output[0])
        s.give({node.output[0]: s.sizes.get(x, {})})
    for k, d in enumerate(changed):
        x = repeated(s, node, x, d, repeats[d], node.output[0] if k == len(changed) - 1 else "")


@rule("Gather", "GatherElements", "GatherND")
def gather(s: Sizing, node: NodeProto) -> None:
    x, places = node.input
    dims, where = s.dims(x), s.dims(places)
    made = NodeProto.FromString(node.SerializeToString())
    if node.op_type == "GatherND":
        batch = of_attribute(node, "batch_dims", 0)
        depth = s.shape(places)[-1]
        made.input[1] = from_the_start(s, places, dims[batch : batch + depth])
        sizes = [*where[:-1], *dims[batch + depth :]]
        sizes[:batch] = [same_size([(x, dims[d]), (places, where[d])], d) for d in range(batch)]
    else:
        axis = of_attribute(node, "axis", 0) % len(dims)
        made.input[1] = from_the_start(s, places, [dims[axis]])
        sizes = where if node.op_type == "GatherElements" else [*dims[:axis], *where, *dims[axis + 1 :]]
    s.keep(made, {node.output[0]: dict(enumerate(sizes))})


@rule("OneHot")
def one_hot(s: Sizing, node: NodeProto) -> None:
    places = node.input[0]
    depth = s.bound(node, s.content(node.input[1])[0], "depth")
    dims = s.dims(places)
    axis = of_attribute(node, "axis", -1)
    axis += len(dims) + 1 if axis < 0 else 0
    sizes = [*dims[:axis], depth, *dims[axis:]]
    made = NodeProto.FromString(node.SerializeToString())
    made.input[0], made.input[1] = from_the_start(s, places, [depth]), s.constant([depth.high])
    s.keep(made, {node.output[0]: dict(enumerate(sizes))})
