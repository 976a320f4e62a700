"""Pad and Resize where only a run knows the sizes: by gathers at places that are computed (`sized.py`)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import NodeProto, TensorProto, helper

from dlpack.model.sized_moves import of_attribute, optional_input, static_axes
from dlpack.model.sized_numbers import Number, add, element, maximum, sub, whole
from dlpack.model.sized_work import Refused, Sizing, rule

_FLOAT = TensorProto.FLOAT
_NEAREST: dict[str, Callable[[Sizing, str, list[int]], str]] = {
    "floor": lambda s, p, shape: s.emit("Floor", [p], shape, _FLOAT),
    "ceil": lambda s, p, shape: s.emit("Ceil", [p], shape, _FLOAT),
    "round_prefer_floor": lambda s, p, shape: s.emit("Ceil", [_float(s, "Sub", p, 0.5, shape)], shape, _FLOAT),
    "round_prefer_ceil": lambda s, p, shape: s.emit("Floor", [_float(s, "Add", p, 0.5, shape)], shape, _FLOAT),
}


def _float(s: Sizing, op: str, value: str, other: float, shape: list[int]) -> str:
    return s.emit(op, [value, s.constant([other], np.float32)], shape, _FLOAT)


def _along(s: Sizing, vector: str, axis: int, rank: int) -> str:
    """A vector as a value that broadcasts along an axis."""
    (n,) = s.shape(vector)
    shape = [1] * rank
    shape[axis] = n
    return s.emit("Reshape", [vector, s.constant(shape)], shape, s.elem(vector))


def _gathered(s: Sizing, x: str, places: str, axis: int, output: str = "") -> str:
    """x at places along an axis, which are held within its largest size."""
    (n,) = s.shape(places)
    most = max(0, s.shape(x)[axis] - 1)
    places = s.emit("Max", [s.emit("Min", [places, s.constant([most])], [n]), s.constant([0])], [n])
    shape = [n if d == axis else m for d, m in enumerate(s.shape(x))]
    return s.emit("Gather", [x, places], shape, s.elem(x), output, axis=axis)


# --- Pad --------------------------------------------------------------------------------------------------------------


@rule("Pad")
def pad(s: Sizing, node: NodeProto) -> None:
    x = node.input[0]
    dims = s.dims(x)
    rank = len(dims)
    amounts = s.content(node.input[1])
    axes = list(range(rank))
    if optional_input(node, 3):
        given = s.content(node.input[3])
        if not all(n.known for n in given):
            raise Refused("its axes are not constant")
        axes = [n.constant % rank for n in given]
    pairs = [(a, amounts[k], amounts[k + len(axes)]) for k, a in enumerate(axes)]
    changed = [(a, low, high) for a, low, high in pairs if not (low.key == "0" and high.key == "0")]
    if all(low.known and high.known and dims[a].known for a, low, high in changed):
        s.keep(node, {node.output[0]: s.sizes.get(x, {})})
        return
    for k, (axis, before, after) in enumerate(changed):
        x = _padded(s, node, x, (axis, before, after), node.output[0] if k == len(changed) - 1 else "")


def _padded(s: Sizing, node: NodeProto, x: str, amounts: tuple[int, Number, Number], output: str) -> str:
    """x padded along one axis."""
    axis, before, after = amounts
    size, rank = s.dims(x)[axis], len(s.shape(x))
    total = s.bound(node, add(add(size, before), after), f"size of dimension {axis}")
    n = total.high
    mode = of_attribute(node, "mode", b"constant").decode()
    # What a negative amount cuts off is not there to be repeated.
    cut, cut_behind = (maximum(sub(whole(0), amount), whole(0)) for amount in (before, after))
    size = sub(sub(size, cut), cut_behind)
    places = s.emit("Sub", [s.constant(np.arange(n)), s.scalar(maximum(before, whole(0)))], [n])
    last = sub(size, whole(1))
    if mode == "constant":
        low = s.emit("Less", [places, s.constant([0])], [n], TensorProto.BOOL)
        high = s.emit("Less", [s.scalar(last), places], [n], TensorProto.BOOL)
        outside = _along(s, s.emit("Or", [low, high], [n]), axis, rank)
        taken = _gathered(s, x, _moved(s, places, cut), axis)
        if optional_input(node, 2):
            fill = s.emit("Reshape", [node.input[2], s.constant([])], [], s.elem(x))
        else:
            fill = s.constant(0, helper.tensor_dtype_to_np_dtype(s.elem(x)))
        out = s.emit("Where", [outside, fill, taken], s.shape(taken), s.elem(x), output)
    else:
        if mode == "edge":
            places = s.emit("Min", [places, s.scalar(last)], [n])
        elif mode == "wrap":
            places = s.emit("Mod", [places, s.scalar(maximum(size, whole(1)))], [n])
        elif mode == "reflect":  # there and back again
            period = s.scalar(maximum(add(last, last), whole(1)))
            there = s.emit("Mod", [places, period], [n])
            places = s.emit("Min", [there, s.emit("Sub", [period, there], [n])], [n])
        else:
            raise Refused(f"mode {mode!r} by as much as only a run knows is not supported")
        inside = s.emit("Max", [places, s.constant([0])], [n])
        out = _gathered(s, x, _moved(s, inside, cut), axis, output)
    s.give({out: {**{d: m for d, m in s.sizes.get(x, {}).items() if d != axis}, axis: total}})
    return out


def _moved(s: Sizing, places: str, by: Number) -> str:
    return places if by.key == "0" else s.emit("Add", [places, s.scalar(by)], s.shape(places))


# --- Resize -----------------------------------------------------------------------------------------------------------


@rule("Resize", "Upsample")
def resize(s: Sizing, node: NodeProto) -> None:
    x = node.input[0]
    dims = s.dims(x)
    rank = len(dims)
    axes = [a % rank for a in of_attribute(node, "axes", None) or range(rank)]
    old = node.op_type == "Upsample" or s.opset < 11
    place = 1 if old else 2
    if not old and optional_input(node, 3):
        if of_attribute(node, "keep_aspect_ratio_policy", b"stretch") != b"stretch":
            raise Refused("its sizes, which keep the aspect ratio, are known to a run alone; make them constant")
        wanted = dict(zip(axes, s.content(node.input[3]), strict=True))
        factors: dict[int, str] = {}
        changed = [d for d in axes if wanted[d].key != dims[d].key]
    else:
        if not optional_input(node, place):
            raise Refused("its scales are not known")
        given = _scales(s, node.input[place])
        factors = {d: value for d, value in zip(axes, given, strict=True) if _number(s, value) != 1}
        wanted = {d: _size(s, dims[d], value) for d, value in factors.items()}
        changed = list(factors)
    if all(dims[d].known and wanted[d].known for d in changed):
        made = NodeProto.FromString(node.SerializeToString())
        if not factors and changed:
            made.input[3] = s.constant([wanted[d].high for d in axes])
        s.keep(made, {node.output[0]: s.sizes.get(x, {})})
        return
    if of_attribute(node, "antialias", 0):
        static_axes(s, x, changed)
        raise Refused("its sizes are known to a run alone, which antialias does not allow; make them constant")
    for k, d in enumerate(changed):
        total = s.bound(node, wanted[d], f"size of dimension {d}")
        x = _resized(s, node, x, (d, total, factors.get(d, "")), node.output[0] if k == len(changed) - 1 else "")


def _scales(s: Sizing, name: str) -> list[str]:
    """The factors one by one: constants where the model joins these with others."""
    (count,) = s.shape(name)
    producer = next((n for n in s.model.graph.node if name in n.output), None)
    if producer is not None and producer.op_type == "Concat" and name not in s.constants:
        return [one for part in producer.input for one in _scales(s, part)]
    if name in s.constants:
        array = s.array(name)
        assert array is not None
        return [s.constant([v], np.float32) for v in array.tolist()]
    places = (s.constant([k]) for k in range(count))
    return [name if count == 1 else s.emit("Gather", [name, place], [1], _FLOAT, axis=0) for place in places]


def _number(s: Sizing, name: str) -> float | None:
    array = s.array(name)
    return None if array is None else float(array[0])


def _size(s: Sizing, size: Number, factor: str) -> Number:
    """The size that a factor makes of another, rounded down in float32 as onnxruntime does."""
    number = _number(s, factor)
    if number is not None and size.known:
        return whole(int(np.float32(number) * np.float32(size.constant)))
    exact = s.emit("Mul", [_as_float(s, size), factor], [1], _FLOAT)
    found = s.emit("Cast", [s.emit("Floor", [exact], [1], _FLOAT)], [1], TensorProto.INT64, to=TensorProto.INT64)
    most = {} if number is None else {"high": int(np.float32(number) * np.float32(size.high))}
    return element(found, 0, 0, **most)


def _as_float(s: Sizing, number: Number) -> str:
    return s.emit("Cast", [s.scalar(number)], [1], _FLOAT, to=_FLOAT)


def _resized(s: Sizing, node: NodeProto, x: str, to: tuple[int, Number, str], output: str) -> str:
    """x resized along one axis to a size, by a factor where one is given."""
    axis, total, factor = to
    size, n = s.dims(x)[axis], total.high
    mode = of_attribute(node, "mode", b"nearest").decode()
    if mode not in ("nearest", "linear", "cubic") or (mode != "nearest" and s.elem(x) != _FLOAT):
        kind = TensorProto.DataType.Name(s.elem(x)).lower()
        raise Refused(f"mode {mode!r} of {kind} to sizes that only a run knows is not supported")
    last = s.scalar(sub(size, whole(1)))
    position = _positions(s, node, (size, total), factor)
    if mode == "nearest":
        old = node.op_type == "Upsample" or s.opset < 11
        rounding = "floor" if old else of_attribute(node, "nearest_mode", b"round_prefer_floor").decode()
        nearest = s.emit("Cast", [_NEAREST[rounding](s, position, [n])], [n], TensorProto.INT64, to=TensorProto.INT64)
        out = _gathered(s, x, s.emit("Min", [nearest, last], [n]), axis, output)
    else:
        taps = _linear(s, position, last) if mode == "linear" else _cubic(s, node, position, last)
        out = _weighted(s, x, taps, axis, output)
    s.give({out: {**{d: m for d, m in s.sizes.get(x, {}).items() if d != axis}, axis: total}})
    return out


def _weighted(s: Sizing, x: str, taps: list[tuple[str, str]], axis: int, output: str) -> str:
    """The sum of x at places along an axis, times weights: vectors both."""
    out = ""
    for k, (places, weight) in enumerate(taps):
        value = _gathered(s, x, places, axis)
        shape = s.shape(value)
        part = s.emit("Mul", [value, _along(s, weight, axis, len(shape))], shape, _FLOAT)
        out = s.emit("Add", [out, part], shape, _FLOAT, output if k == len(taps) - 1 else "") if out else part
    return out


def _parted(s: Sizing, position: str) -> tuple[str, str]:
    """The whole numbers below positions, int64, and what is left, float32."""
    shape = list(s.shape(position))
    before = s.emit("Floor", [position], shape, _FLOAT)
    share = s.emit("Sub", [position, before], shape, _FLOAT)
    return s.emit("Cast", [before], shape, TensorProto.INT64, to=TensorProto.INT64), share


def _linear(s: Sizing, position: str, last: str) -> list[tuple[str, str]]:
    """The places of both neighbours, and their weights."""
    shape = list(s.shape(position))
    most = s.emit("Cast", [last], [1], _FLOAT, to=_FLOAT)
    first, share = _parted(s, s.emit("Min", [_float(s, "Max", position, 0.0, shape), most], shape, _FLOAT))
    second = s.emit("Min", [s.emit("Add", [first, s.constant([1])], shape), last], shape)
    rest = s.emit("Sub", [s.constant([1.0], np.float32), share], shape, _FLOAT)
    return [(first, rest), (second, share)]


def _cubic(s: Sizing, node: NodeProto, position: str, last: str) -> list[tuple[str, str]]:
    """The places of four neighbours, and the weights that Keys' cubic convolution gives them."""
    shape = list(s.shape(position))
    a = of_attribute(node, "cubic_coeff_a", -0.75)
    first, share = _parted(s, position)
    near, far = (a + 2, -(a + 3), 0.0, 1.0), (a, -5 * a, 8 * a, -4 * a)
    rest = s.emit("Sub", [s.constant([1.0], np.float32), share], shape, _FLOAT)
    distances = ((_float(s, "Add", share, 1.0, shape), far), (share, near), (rest, near),
                 (_float(s, "Add", rest, 1.0, shape), far))  # fmt: skip
    places, weights = [], []
    for k, (distance, coefficients) in enumerate(distances, -1):
        place = s.emit("Add", [first, s.constant([k])], shape)
        weight = _polynomial(s, distance, coefficients)
        held = s.emit("Max", [s.emit("Min", [place, last], shape), s.constant([0])], shape)
        if of_attribute(node, "exclude_outside", 0):
            inside = s.emit("Equal", [place, held], shape, TensorProto.BOOL)
            weight = s.emit("Where", [inside, weight, s.constant([0.0], np.float32)], shape, _FLOAT)
        places.append(held)
        weights.append(weight)
    if of_attribute(node, "exclude_outside", 0):
        total = s.emit("Sum", weights, shape, _FLOAT)
        weights = [s.emit("Div", [weight, total], shape, _FLOAT) for weight in weights]
    return list(zip(places, weights, strict=True))


def _polynomial(s: Sizing, x: str, coefficients: tuple[float, ...]) -> str:
    """Of a vector; the coefficient of the highest power comes first."""
    shape = list(s.shape(x))
    value, *others = coefficients
    y = _float(s, "Mul", x, value, shape)
    for k, other in enumerate(others):
        y = _float(s, "Add", y, other, shape)
        if k < len(others) - 1:
            y = s.emit("Mul", [y, x], shape, _FLOAT)
    return y


def _positions(s: Sizing, node: NodeProto, sizes: tuple[Number, Number], factor: str) -> str:
    """Where each place of the result lies in the operand, in float32 as onnxruntime computes it."""
    size, total = sizes
    n = total.high
    old = node.op_type == "Upsample" or s.opset < 11
    mode = of_attribute(node, "coordinate_transformation_mode", b"asymmetric" if old else b"half_pixel").decode()
    place = s.constant(np.arange(n), np.float32)
    if mode == "align_corners":
        steps = _as_float(s, maximum(sub(total, whole(1)), whole(1)))
        far = s.emit("Mul", [place, _as_float(s, sub(size, whole(1)))], [n], _FLOAT)
        return s.emit("Div", [far, steps], [n], _FLOAT)
    exact = s.emit("Mul", [factor, _as_float(s, size)], [1], _FLOAT) if factor else ""
    factor = factor or s.emit("Div", [_as_float(s, total), _as_float(s, size)], [1], _FLOAT)
    if mode == "asymmetric":
        return s.emit("Div", [place, factor], [n], _FLOAT)
    if mode not in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "tf_half_pixel_for_nn"):
        raise Refused(f"{mode!r} to sizes that only a run knows is not supported")
    middle = s.emit("Div", [_float(s, "Add", place, 0.5, [n]), factor], [n], _FLOAT)
    if mode == "tf_half_pixel_for_nn":
        return middle
    middle = _float(s, "Sub", middle, 0.5, [n])
    if (
        mode == "half_pixel_symmetric" and exact
    ):  # the size that the factor makes is not whole: half of the rest is left
        part = s.emit("Div", [_as_float(s, total), exact], [1], _FLOAT)
        rest = s.emit("Sub", [s.constant([1.0], np.float32), part], [1], _FLOAT)
        half = _float(s, "Mul", _as_float(s, size), 0.5, [1])
        return s.emit("Add", [middle, s.emit("Mul", [half, rest], [1], _FLOAT)], [n], _FLOAT)
    if mode != "pytorch_half_pixel":
        return middle
    several = s.emit("Less", [s.constant([1]), s.scalar(total)], [1], TensorProto.BOOL)
    return s.emit("Where", [several, middle, s.constant([0.0], np.float32)], [n], _FLOAT)
