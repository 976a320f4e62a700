"""Operators of networks: each draws its own shapes and attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fuzz.places import (
    cast_like,
    gather_elements,
    gather_nd,
    one_hot,
    padded,
    reversed_rows,
    scatter_elements,
    scatter_nd,
    sliced,
    split,
    transposed,
)
from fuzz.templates import Attributes, Drawn, Given
from fuzz.values import HALVES, Array, Rng, distinct, extreme, int64, moderate, small

_REAL = ("float32", "float64", *HALVES)
_EVERYTHING = ("float32", "float16", "int8", "uint16", "int32", "int64", "bool")


@dataclass(frozen=True)
class Layer:
    """`make` draws (inputs, attributes) of (rng, element type); those of `fixed` are always constants."""

    op: str
    dtypes: tuple[str, ...]
    make: Callable[[Rng, str], tuple[Given, Attributes]]
    fixed: tuple[int, ...] = ()
    outputs: int = 1
    since: int = 13
    rtol: float = 1e-4
    last: int = 23
    operands: tuple[Any, ...] = field(default=())

    def draw(self, rng: Rng, dtype: str) -> Drawn:
        values, attributes = self.make(rng, dtype)
        at_run_time = [
            value is not None and place not in self.fixed and (place == 0 or rng.random() < 0.5)
            for place, value in enumerate(values)
        ]
        if at_run_time[0] and rng.random() < 0.1 and any(at_run_time[1:]):
            at_run_time[0] = False
        return Drawn(self.op, values, attributes, at_run_time, frozenset(self.fixed), self.outputs)


def layers() -> Iterator[Layer]:
    yield Layer("Conv", _REAL, _conv)
    yield Layer("ConvTranspose", _REAL[:3], _conv_transpose)
    yield Layer("ConvInteger", ("uint8",), _conv_integer, (2, 3))
    yield Layer("QLinearConv", ("uint8", "int8"), _qlinear_conv, (1, 2, 3, 4, 5, 6, 7))
    yield Layer("QLinearMatMul", ("uint8", "int8"), _qlinear_matmul, (1, 2, 4, 5, 6, 7))
    yield Layer("MaxPool", ("float32", "float64", "int8", "uint8", "float16"), _pool)
    yield Layer("AveragePool", _REAL, _average_pool, since=19)
    yield Layer("LpPool", ("float32",), _lp_pool, since=18)
    for op in ("GlobalAveragePool", "GlobalMaxPool"):
        yield Layer(op, _REAL[:3], lambda rng, dtype: ([moderate(rng, dtype, _image(rng))], {}))
    yield Layer("BatchNormalization", _REAL, _batch_norm, since=15)
    yield Layer("InstanceNormalization", ("float32", "float16"), _instance_norm)
    yield Layer("LayerNormalization", _REAL, _layer_norm, since=17)
    yield Layer("RMSNormalization", ("float32", "float16"), _rms_norm, since=23)
    yield Layer("GroupNormalization", ("float32",), _group_norm, since=21)
    yield Layer("LRN", ("float32",), lambda rng, t: ([moderate(rng, t, (1, 7, 3, 5))], {"size": rng.choice((1, 3, 5))}))
    yield Layer("MeanVarianceNormalization", ("float32",), lambda rng, t: ([moderate(rng, t, (2, 3, 5, 4))], {}))
    yield Layer("LpNormalization", ("float32", "float64"), _lp_norm)
    yield Layer("Resize", ("float32", "float64", "float16"), _resize, (1, 2, 3), since=19)
    yield Layer("GridSample", ("float32",), _grid_sample, since=20)
    yield Layer("DepthToSpace", ("float32", "float16", "uint8"), _depth_to_space)
    yield Layer(
        "SpaceToDepth", ("float32", "float16"), lambda rng, t: ([small(rng, t, (2, 3, 6, 4))], {"blocksize": 2})
    )
    yield Layer("ScatterElements", _EVERYTHING, scatter_elements, since=18)
    yield Layer("ScatterND", _EVERYTHING, scatter_nd, since=18)
    yield Layer("GatherElements", _EVERYTHING, gather_elements)
    yield Layer("GatherND", _EVERYTHING, gather_nd)
    yield Layer("OneHot", ("float32", "int64", "int32"), one_hot, (1,))
    yield Layer("ReverseSequence", ("float32", "int32"), reversed_rows)
    yield Layer("Split", _EVERYTHING, split, (1,), outputs=3)
    yield Layer("Squeeze", _EVERYTHING, lambda rng, t: ([extreme(rng, t, (1, 5, 1, 3))], {}))
    yield Layer("QuantizeLinear", ("float32", "float16"), _quantize)
    yield Layer("DequantizeLinear", ("uint8", "int8", "int16", "uint16", "int32"), _dequantize, since=21)
    yield Layer("DynamicQuantizeLinear", ("float32",), lambda rng, t: ([moderate(rng, t, (3, 17))], {}), outputs=3)
    for op in ("LSTM", "GRU", "RNN"):
        yield Layer(
            op, ("float32", "float16", "float64"), lambda rng, t, op=op: _recurrent(rng, t, op), outputs=2, since=14
        )
    yield Layer("Attention", ("float32", "float16"), _attention, since=23, rtol=1e-3)
    yield Layer("RotaryEmbedding", ("float32", "float16"), _rotary, since=23)
    yield Layer("Gelu", _REAL, _gelu, since=20)
    yield Layer("Col2Im", ("float32", "int32"), _col2im, (1, 2), since=18)
    yield Layer("CenterCropPad", _EVERYTHING[:4], _crop, (1,), since=18)
    yield Layer(
        "Det", ("float32", "float64"), lambda rng, t: ([moderate(rng, t, rng.choice(((3, 3), (2, 4, 4), (1, 1))))], {})
    )
    yield Layer("DFT", ("float32",), _dft, since=20)
    yield Layer("SoftmaxCrossEntropyLoss", ("float32",), _loss)
    yield Layer("AffineGrid", ("float32",), _affine_grid, (1,), since=20)
    yield Layer("Dropout", ("float32", "float16"), lambda rng, t: ([extreme(rng, t, (3, 5))], {}))
    yield Layer("CastLike", ("float32", "int32", "float16"), cast_like, since=15)
    yield Layer(
        "Shape", _EVERYTHING, lambda rng, t: ([extreme(rng, t, (2, 3, 5))], {"start": rng.choice((0, 1, -1))}), since=15
    )
    yield Layer("Einsum", ("float32", "float64", "float16", "int32"), _einsum)
    yield Layer("MatMul", (*_REAL, "int32"), _matmul)
    yield Layer("Gemm", (*_REAL, "int32"), _gemm)
    yield Layer(
        "Softmax", _REAL, lambda rng, t: ([small(rng, t, (2, 5, 3, 7))], {"axis": rng.choice((0, 1, 2, 3, -1))})
    )
    yield Layer("Transpose", _EVERYTHING, transposed)
    yield Layer("Slice", _EVERYTHING, sliced, (1, 2, 3, 4))
    yield Layer("Pad", ("float32", "float16", "int32", "bool"), padded, (1, 3), since=19)


# --- convolution, pooling ---------------------------------------------------------------------------------------------


def _image(rng: Rng, channels: int = 0, lowest: int = 1) -> tuple[int, ...]:
    rank = rng.choice((1, 2, 2, 2, 3))
    high = {1: 40, 2: 13, 3: 6}[rank]
    sides = [rng.randint(lowest, max(high, lowest)) for _ in range(rank)]
    return (rng.choice((1, 1, 2)), channels or rng.choice((1, 3, 4, 8, 17)), *sides)


def _window(rng: Rng, shape: tuple[int, ...], padded: bool = True) -> Attributes:
    sides = shape[2:]
    kernel = [rng.randint(1, min(4, n)) for n in sides]
    dilations = [rng.choice((1, 1, 2)) if (k - 1) * 2 + 1 <= n else 1 for k, n in zip(kernel, sides, strict=True)]
    made: Attributes = {"kernel_shape": kernel, "strides": [rng.choice((1, 1, 2, 3)) for _ in sides]}
    if any(d > 1 for d in dilations):
        made["dilations"] = dilations
    way = rng.choice(("pads", "none", "SAME_UPPER", "SAME_LOWER", "VALID"))
    if way == "pads" and padded:
        made["pads"] = [rng.randint(0, max(0, k - 1)) for k in (*kernel, *kernel)]
    elif way not in ("pads", "none"):
        made["auto_pad"] = way
    return made


def _conv(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    groups = rng.choice((1, 1, 1, 2, 4, 0))
    channels = rng.choice((4, 8, 12)) if groups != 1 else rng.choice((1, 3, 5, 8, 17))
    groups = groups or channels  # depthwise
    shape = _image(rng, channels)
    attributes = _window(rng, shape)
    outputs = groups * rng.choice((1, 2, 3)) if groups > 1 else rng.choice((1, 3, 8, 19))
    weight = moderate(rng, dtype, (outputs, channels // groups, *attributes["kernel_shape"]))
    bias = moderate(rng, dtype, (outputs,)) if rng.random() < 0.6 else None
    return [moderate(rng, dtype, shape), weight, bias][: 3 if bias is not None else 2], attributes | {"group": groups}


def _conv_transpose(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    groups = rng.choice((1, 1, 2))
    channels = rng.choice((2, 4, 6))
    shape = _image(rng, channels)
    attributes = _window(rng, shape)
    attributes.pop("auto_pad", None)
    if rng.random() < 0.4:
        attributes["output_padding"] = [rng.randint(0, s - 1) for s in attributes["strides"]]
    weight = moderate(rng, dtype, (channels, rng.choice((1, 3)), *attributes["kernel_shape"]))
    pads = attributes.get("pads", [0] * 2 * (len(shape) - 2))
    rank = len(shape) - 2
    for i in range(rank):  # something has to be left
        full = (shape[2 + i] - 1) * attributes["strides"][i] + 1
        if (
            full + (attributes["kernel_shape"][i] - 1) * attributes.get("dilations", [1] * rank)[i]
            <= pads[i] + pads[i + rank]
        ):
            attributes.pop("pads", None)
    bias = moderate(rng, dtype, (weight.shape[1] * groups,)) if rng.random() < 0.5 else None
    return [moderate(rng, dtype, shape), weight, bias][: 3 if bias is not None else 2], attributes | {"group": groups}


def _conv_integer(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    shape = (1, 3, rng.randint(3, 9), rng.randint(3, 9))
    attributes = _window(rng, shape)
    attributes.pop("auto_pad", None)
    weight = extreme(rng, "uint8", (5, 3, *attributes["kernel_shape"]))
    return [extreme(rng, dtype, shape), weight, _zero(rng, dtype), _zero(rng, "uint8")], attributes


def _zero(rng: Rng, dtype: str) -> Array:
    info = np.iinfo(dtype)
    return np.array(rng.choice((0, rng.randint(int(info.min), int(info.max)))), dtype)


def _scale(rng: Rng) -> Array:
    return np.array(rng.choice((0.01, 0.5, 1.0, 0.037)), np.float32)


def _qlinear_conv(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    shape = (1, 4, rng.randint(3, 9), rng.randint(3, 9))
    attributes = _window(rng, shape)
    attributes.pop("auto_pad", None)
    weight = extreme(rng, "int8" if dtype == "int8" else "uint8", (5, 4, *attributes["kernel_shape"]))
    scales = np.array([rng.uniform(0.01, 0.1) for _ in range(5)], np.float32) if rng.random() < 0.5 else _scale(rng)
    zeros = np.zeros(scales.shape, weight.dtype) if dtype == "int8" else np.full(scales.shape, 121, np.uint8)
    y = np.array(rng.choice((0.5, 3.0, 11.0)), np.float32)
    return [
        extreme(rng, dtype, shape),
        _scale(rng),
        _zero(rng, dtype),
        weight,
        scales,
        zeros,
        y,
        _zero(rng, dtype),
    ], attributes


def _qlinear_matmul(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    n, k, m = rng.randint(1, 9), rng.randint(1, 33), rng.randint(1, 19)
    a, b = extreme(rng, dtype, (n, k)), extreme(rng, dtype, (k, m))
    return [
        a,
        _scale(rng),
        _zero(rng, dtype),
        b,
        _scale(rng),
        _zero(rng, dtype),
        np.array(3.7, np.float32),
        _zero(rng, dtype),
    ], {}


def _pool(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    shape = _image(rng, 0, 2)
    attributes = _window(rng, shape)
    if "auto_pad" not in attributes and rng.random() < 0.4:
        attributes["ceil_mode"] = 1
    if "dilations" in attributes:
        attributes.pop("pads", None)
    draw = distinct if dtype in ("float32", "float64") else extreme if dtype.endswith("int8") else moderate
    return [draw(rng, dtype, shape)], attributes


def _average_pool(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    values, attributes = _pool(rng, dtype)
    attributes.pop("dilations", None)
    return [moderate(rng, dtype, values[0].shape)], attributes | {"count_include_pad": rng.choice((0, 1))}  # type: ignore[union-attr]


def _lp_pool(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    values, attributes = _pool(rng, dtype)
    attributes.pop("ceil_mode", None)
    attributes.pop("dilations", None)
    return [moderate(rng, dtype, values[0].shape)], attributes | {"p": rng.choice((1, 2, 3))}  # type: ignore[union-attr]


# --- normalisation ----------------------------------------------------------------------------------------------------


def _positive(rng: Rng, dtype: str, shape: tuple[int, ...]) -> Array:
    return (np.abs(moderate(rng, "float32", shape)) + 0.1).astype(dtype)


def _batch_norm(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    shape = rng.choice((_image(rng), (3, 5)))
    c = (shape[1],)
    more = [moderate(rng, dtype, c) for _ in range(3)]
    return [moderate(rng, dtype, shape), *more, _positive(rng, dtype, c)], {"epsilon": rng.choice((1e-5, 1e-3))}


def _instance_norm(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    shape = _image(rng, 0, 3)
    return [moderate(rng, dtype, shape), *(moderate(rng, dtype, shape[1:2]) for _ in range(2))], {"epsilon": 1e-2}


def _layer_norm(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    shape, axis = rng.choice(((3, 17), (2, 5, 16), (1, 3, 4, 5))), rng.choice((-1, 1, -2))
    axis = axis if len(shape) > 2 else -1
    values = [moderate(rng, dtype, shape), moderate(rng, dtype, shape[axis:])]
    return values + [moderate(rng, dtype, shape[axis:])] * rng.randint(0, 1), {"axis": axis, "epsilon": 1e-3}


def _rms_norm(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    values, attributes = _layer_norm(rng, dtype)
    return values[:2], attributes


def _group_norm(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    shape = rng.choice(((2, 6, 5, 3), (1, 6, 11), (1, 4, 3, 3)))
    more = [moderate(rng, dtype, shape[1:2]) for _ in range(2)]
    return [moderate(rng, dtype, shape), *more], {"num_groups": 2, "epsilon": 1e-3}


def _lp_norm(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    return [moderate(rng, dtype, (2, 5, 7))], {"axis": rng.choice((0, 1, -1)), "p": rng.choice((1, 2))}


# --- pictures ---------------------------------------------------------------------------------------------------------


def _resize(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    shape = (1, rng.choice((1, 3, 8)), rng.randint(2, 9), rng.randint(2, 9))
    mode = rng.choice(("nearest", "linear", "cubic"))
    attributes: Attributes = {"mode": mode}
    attributes["coordinate_transformation_mode"] = rng.choice(
        ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel")
    )
    if mode == "nearest":
        attributes["nearest_mode"] = rng.choice(("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"))
    if mode == "cubic":
        attributes |= {"cubic_coeff_a": rng.choice((-0.75, -0.5)), "exclude_outside": rng.choice((0, 1))}
    if rng.random() < 0.5:
        sizes = [*shape[:2], *(rng.choice((2 * n, max(1, n // 2), 3 * n, n)) for n in shape[2:])]
        return [moderate(rng, dtype, shape), None, None, int64(sizes)], attributes
    aligned = attributes["coordinate_transformation_mode"] == "align_corners"  # where opinions differ on fractions
    factors = (2.0, 3.0) if aligned else (2.0, 0.5, 1.5, 3.0)
    scales = np.array([1, 1, *(rng.choice(factors) for _ in range(2))], np.float32)
    return [moderate(rng, dtype, shape), None, scales], attributes


def _grid_sample(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    n, h, w = rng.choice((1, 2)), rng.randint(2, 6), rng.randint(2, 6)
    x = moderate(rng, dtype, (n, 3, rng.randint(2, 7), rng.randint(2, 7)))
    grid = (moderate(rng, dtype, (n, h, w, 2)) * 0.37).astype(dtype)
    mode = rng.choice(("linear", "cubic", "linear"))
    padding = rng.choice(("zeros", "border", "reflection"))
    return [x, grid], {"mode": mode, "padding_mode": padding, "align_corners": rng.choice((0, 1))}


def _depth_to_space(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    return [extreme(rng, dtype, (2, 12, 3, 5))], {"blocksize": 2, "mode": rng.choice(("DCR", "CRD"))}


def _affine_grid(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    return [moderate(rng, dtype, (2, 2, 3)), int64((2, 1, 4, 5))], {"align_corners": rng.choice((0, 1))}


def _col2im(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    return [small(rng, dtype, (1, 10, 12)), int64((4, 5)), int64((1, 5))] if rng.random() < 0 else [
        small(rng, dtype, (1, 12, 12)), int64((4, 5)), int64((2, 2))], {}  # fmt: skip


def _crop(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    return [extreme(rng, dtype, (5, 8, 3)), int64((rng.randint(1, 9), rng.randint(1, 11)))], {"axes": [0, 1]}


# --- integers, recurrence, attention ----------------------------------------------------------------------------------


def _quantize(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    kind = rng.choice(("uint8", "int8", "uint8", "int8"))
    x = (moderate(rng, "float32", (3, 5, 4)) * 40).astype(dtype)
    if rng.random() < 0.5:
        return [x, np.array(0.5, dtype), _zero(rng, kind)], {}
    return [x, np.array([0.5, 0.25, 1, 2, 0.125], dtype), np.array([_zero(rng, kind) for _ in range(5)])], {"axis": 1}


def _dequantize(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    zero = np.zeros(5, dtype) if dtype == "int32" else np.array([_zero(rng, dtype) for _ in range(5)])
    scales = np.array([rng.uniform(0.01, 2) for _ in range(5)], np.float32)
    if rng.random() < 0.5:
        return [extreme(rng, dtype, (3, 5, 4)), scales, zero], {"axis": 1}
    return [extreme(rng, dtype, (3, 5, 4)), scales[0], zero[0]], {}


def _recurrent(rng: Rng, dtype: str, op: str) -> tuple[Given, Attributes]:
    steps, n, i, h = rng.randint(1, 5), rng.choice((1, 2, 3)), rng.choice((1, 4, 7)), rng.choice((1, 3, 8))
    way = rng.choice(("forward", "reverse", "bidirectional"))
    d, g = 2 if way == "bidirectional" else 1, {"LSTM": 4, "GRU": 3, "RNN": 1}[op]

    def part(*shape: int) -> Array:
        return (moderate(rng, "float32", shape) * 0.3).astype(dtype)

    values: Given = [part(steps, n, i), part(d, g * h, i), part(d, g * h, h)]
    attributes: Attributes = {"hidden_size": h, "direction": way}
    values.append(part(d, 2 * g * h) if rng.random() < 0.7 else None)
    values.append(np.array([rng.randint(1, steps) for _ in range(n)], np.int32) if rng.random() < 0.3 else None)
    values.append(part(d, n, h) if rng.random() < 0.5 else None)
    if op == "LSTM":
        values.append(part(d, n, h) if rng.random() < 0.5 else None)
        values.append(part(d, 3 * h) if rng.random() < 0.3 else None)
    if op == "GRU":
        attributes["linear_before_reset"] = rng.choice((0, 1))
    if rng.random() < 0.2:
        attributes["clip"] = 0.5
    while values[-1] is None:
        values.pop()
    return values, attributes


def _attention(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    n, heads, kv, q, k, d = 1, 4, rng.choice((4, 2)), rng.randint(1, 5), rng.randint(1, 7), rng.choice((4, 8))
    values: Given = [moderate(rng, dtype, (n, heads, q, d)), *(moderate(rng, dtype, (n, kv, k, d)) for _ in range(2))]
    attributes: Attributes = {"is_causal": rng.choice((0, 1))}
    if rng.random() < 0.4:
        attributes["softcap"] = 2.0
    if rng.random() < 0.4:
        values.append(moderate(rng, dtype, (q, k)))
    return values, attributes


def _rotary(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    caches = [moderate(rng, dtype, (9, 4)) for _ in range(2)]
    ids = int64(rng.randrange(9) for _ in range(5)).reshape(1, 5)
    return [moderate(rng, dtype, (1, 3, 5, 8)), *caches, ids], {"interleaved": rng.choice((0, 1))}


def _gelu(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    return [moderate(rng, dtype, (3, 17))], {"approximate": rng.choice(("none", "tanh"))}


def _dft(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    x = moderate(rng, dtype, (2, rng.choice((4, 5, 8)), rng.choice((1, 2))))
    inverse = int(x.shape[2] == 2 and rng.random() < 0.5)
    return [x], {"onesided": int(x.shape[2] == 1 and rng.random() < 0.5), "inverse": inverse}


def _loss(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    labels = int64(rng.randrange(5) for _ in range(3))
    return [moderate(rng, dtype, (3, 5)), labels], {"reduction": rng.choice(("mean", "sum", "none"))}


# --- products ---------------------------------------------------------------------------------------------------------


def _einsum(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    sizes = {"b": 2, "i": rng.choice((1, 3, 7)), "j": rng.choice((1, 5, 16)), "k": rng.choice((2, 9)), "h": 3}
    equation = rng.choice(("bij,bjk->bik", "bhij,bhkj->bhik", "ij,kj->ik", "bij,k->bijk", "bij->bji", "ij->i", "i,i->",
                           "bihk,bjhk->bhij", "bij,jk->bik"))  # fmt: skip
    terms = equation.split("->")[0].split(",")
    return [small(rng, dtype, tuple(sizes[c] for c in term)) for term in terms], {"equation": equation}


def _matmul(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    n, k, m = rng.choice((1, 2, 7, 16, 33)), rng.choice((1, 3, 8, 31)), rng.choice((1, 5, 16, 40))
    a, b = rng.choice((((n, k), (k, m)), ((k,), (k, m)), ((n, k), (k,)), ((2, n, k), (k, m)), ((2, n, k), (2, k, m)),
                       ((3, 1, n, k), (2, k, m)), ((1, 2, n, k), (1, 2, k, m)), ((k,), (k,))))  # fmt: skip
    return [moderate(rng, dtype, a), moderate(rng, dtype, b)], {}


def _gemm(rng: Rng, dtype: str) -> tuple[Given, Attributes]:
    n, k, m = rng.choice((1, 2, 7, 16)), rng.choice((1, 3, 31)), rng.choice((1, 5, 40))
    ta, tb = rng.choice((0, 1)), rng.choice((0, 1))
    a, b = (k, n) if ta else (n, k), (m, k) if tb else (k, m)
    values = [moderate(rng, dtype, a), moderate(rng, dtype, b)]
    if rng.random() < 0.7:
        values.append(moderate(rng, dtype, rng.choice(((n, m), (m,), (1, m), (n, 1), (1,), ()))))
    alphas: Attributes = {} if dtype == "int32" else {"alpha": 0.5, "beta": rng.choice((1.0, 2.0, 0.0))}
    return list(values), {"transA": ta, "transB": tb} | alphas
