"""The exact reference of an integer network: its quantised layers in double precision.

float32, in which onnxruntime computes what lies between DequantizeLinear and QuantizeLinear, puts about one value of
100,000 on the other side of a tie; a deep network makes of one such value dozens of units in its output, and
onnxruntime's own optimisation levels differ so. In double nothing but a true tie is a tie, and that goes to the even
integer. onnxruntime runs the result too. It has no convolution of doubles: that is computed on integers in float32,
which is exact below 2^24; each weight w is 16 high + low, so that sums of 8,000 products stay below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from dlpack.graph.ir import Array
from dlpack.model.infer import infer_types

_STARTS = frozenset(("QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"))
_ARITHMETIC = frozenset(("Add", "Sub", "Mul", "Div", "Relu", "Clip", "ReduceMean", "MatMul", "Gemm"))
_VIEWS = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Slice", "Split", "Expand")
_PRODUCTS = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul"))
_MOVES = frozenset((*_VIEWS, "Tile", "MaxPool", "DepthToSpace", "SpaceToDepth"))
_FAITHFUL = _MOVES | {"Concat", "Pad", "Gather"}
"""Operators that round nothing, in whatever type."""

_LIMIT = 1 << 24
_OLDEST = 11  # opset: Round


def is_quantised(model: ModelProto) -> bool:
    return any(node.op_type in _STARTS for node in model.graph.node)


class Certainty(IntEnum):
    """How far a value of the compiled network may be from the exact reference."""

    EXACT = 0  # not at all: integers, and sums of their products
    FLOAT = 1  # by float32's rounding
    UNIT = 2  # by a unit at a near-tie: float32 numbers that were quantised
    ADRIFT = 3  # by what a network made of such a unit


@dataclass(frozen=True)
class Exact:
    """`model` computes the same outputs, as `certainty` says; `unit` is the scale of float ones that are integers."""

    model: ModelProto
    certainty: Mapping[str, Certainty]
    unit: Mapping[str, float]


def exact(model: ModelProto) -> Exact:
    """A cleaned model with its quantised layers in double. What cannot be is left as it is."""
    if next((o.version for o in model.opset_import if not o.domain), 0) < _OLDEST:
        return Exact(model, {v.name: Certainty.ADRIFT for v in model.graph.output}, {})
    return _Doubles(model).run()


@dataclass(frozen=True)
class _Integers:
    """A value in double as integers times a scale."""

    name: str
    scale: Array


class _Doubles:
    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.known: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.double: dict[str, str] = {}  # float32 value → the same in double
        self.integers: dict[str, _Integers] = {}  # outputs of DequantizeLinear
        self.weights: dict[str, tuple[Array, Array, int]] = {}  # constant ones: integers, scale, axis
        self.certainty: dict[str, Certainty] = {}  # EXACT where nothing is said
        self.sums: set[str] = set()  # what QuantizeLinear rounds directly: sums of products of integers, clamped
        self.unit: dict[str, float] = {}
        self.floats = {v.name for v in model.graph.input if v.type.tensor_type.elem_type == TensorProto.FLOAT}
        self.floats |= {name for name, value in self.known.items() if value.dtype == np.float32}
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.types = infer_types(model)
        self.opset = next(o.version for o in model.opset_import if not o.domain)
        self.count = 0

    def run(self) -> Exact:
        for node in self.model.graph.node:
            done = node.domain in ("", "ai.onnx") and self.node(node)
            if not done:
                self.leave(node)
        out = ModelProto()
        out.CopyFrom(self.model)
        del out.graph.node[:]
        out.graph.node.extend(self.nodes)
        out.graph.initializer.extend(self.constants)
        names = [v.name for v in out.graph.output]
        certainty = {n: self.certainty.get(n, Certainty.EXACT) for n in names}
        return Exact(out, certainty, {n: self.unit[n] for n in names if n in self.unit})

    # --- making nodes

    def fresh(self) -> str:
        self.count += 1
        return f"dlpack.exact/{self.count}"

    def op(self, kind: str, *inputs: str, output: str = "", **attrs: Any) -> str:
        output = output or self.fresh()
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attrs))
        return output

    def constant(self, value: Any, dtype: Any = np.float64) -> str:
        name = self.fresh()
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def doubled(self, name: str) -> str:
        if name not in self.double:
            known = self.known.get(name)
            cast = self.constant(known) if known is not None else self.op("Cast", name, to=TensorProto.DOUBLE)
            self.double[name] = cast
        return self.double[name]

    def finish(self, node: NodeProto, value: str, whole: bool = False) -> bool:
        """`value` is the node's output in double; who wants float32 gets it rounded. `whole`: it is a sum of integers'
        products, or holds the elements of one."""
        out = node.output[0]
        self.double[out] = value
        self.op("Cast", value, output=out, to=TensorProto.FLOAT)
        self.floats.add(out)
        if whole:
            self.sums.add(out)
        self.settle(node, whole)
        return True

    def settle(self, node: NodeProto, whole: bool) -> None:
        """The certainty of a node's outputs; a `whole` one rounds nothing of exact inputs."""
        worst = max((self.certainty.get(name, Certainty.EXACT) for name in node.input), default=Certainty.EXACT)
        kind = node.op_type
        if kind in _FAITHFUL:
            given = self.unit.get(node.input[0])
            if given is not None:
                self.unit[node.output[0]] = given
        elif worst >= Certainty.UNIT:
            worst = Certainty.ADRIFT
        elif kind in _STARTS:
            direct = node.input[0] in self.sums or node.input[0] not in self.floats
            worst = Certainty.EXACT if worst == Certainty.EXACT and direct else Certainty.UNIT
        elif not whole:
            worst = Certainty.FLOAT
        self.certainty.update(dict.fromkeys((name for name in node.output if name), worst))

    def leave(self, node: NodeProto) -> None:
        """Keeps the node as it is."""
        self.nodes.append(node)
        floats = any(name in self.floats for name in node.input)
        if floats or node.op_type == "DequantizeLinear":
            self.floats.update(name for name in node.output if name)
        self.settle(node, whole=not floats and node.op_type != "DequantizeLinear")

    # --- operators

    def node(self, node: NodeProto) -> bool:
        """Writes the node in double; False where it cannot be, or has no need to."""
        kind, inputs = node.op_type, list(node.input)
        attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if kind == "DequantizeLinear":
            return self.dequantize(node, attrs.get("axis", 1))
        if kind == "QuantizeLinear":
            return inputs[0] in self.double and self.quantize(node, self.double[inputs[0]], *inputs[1:])
        if kind in _PRODUCTS and inputs[0] in self.integers and inputs[1] in self.weights:
            value = self.product(kind, inputs, attrs)
            return value is not None and self.finish(node, value, whole=True)
        if kind == "QLinearConv" or kind == "QLinearMatMul":
            return self.qlinear(node, attrs)
        return self.other(node, attrs)

    def other(self, node: NodeProto, attrs: dict[str, Any]) -> bool:
        """An operator that has to do with no integers itself."""
        kind, inputs = node.op_type, list(node.input)
        moved = inputs[0] if inputs else ""
        if moved not in self.double:
            moved = next((v for v in inputs if v in self.double and v not in self.known), "")
        if kind in _MOVES and moved and moved == inputs[0]:
            return self.move(node, attrs)
        if not moved or len(node.output) != 1:
            return False
        if kind == "Resize":
            return moved in self.integers and self.resize(node, attrs)
        if kind == "Concat":
            wide = [self.doubled(v) for v in inputs]
            return self.finish(node, self.op(kind, *wide, **attrs), whole=all(v in self.sums for v in inputs))
        if kind == "Clip":
            return self.clip(node, inputs)
        if kind in ("AveragePool", "GlobalAveragePool"):
            return self.pool(node, moved, attrs)
        if kind in _ARITHMETIC:
            values = 1 if kind == "ReduceMean" else len(inputs)
            wide = [self.doubled(v) if v else "" for v in inputs[:values]]
            whole = all(self.is_integers(v) for v in inputs[:values]) and kind in ("Add", "Sub", "Mul")
            whole |= (kind == "ReduceMean" and self.is_short_mean(node)) or (kind == "Relu" and moved in self.sums)
            return self.finish(node, self.op(kind, *wide, *inputs[values:], **attrs), whole)
        return False

    def move(self, node: NodeProto, attrs: dict[str, Any]) -> bool:
        """The same operator on the value in double, and on its integers."""
        x, *rest = node.input
        if any(not name for name in node.output):
            return False

        def moved(value: str) -> list[str]:
            names = [self.fresh() for _ in node.output]
            self.nodes.append(helper.make_node(node.op_type, [value, *rest], names, **attrs))
            return names

        if x in self.integers:
            for out, name in zip(node.output, moved(self.integers[x].name), strict=True):
                self.integers[out] = _Integers(name, self.integers[x].scale)
        for out, name in zip(node.output, moved(self.double[x]), strict=True):
            single = helper.make_node(node.op_type, [x, *rest], [out])
            self.finish(single, name, whole=x in self.integers)
        return True

    def resize(self, node: NodeProto, attrs: dict[str, Any]) -> bool:
        """To the nearest elements, or to sums of two with weights such as 1/4, which float32 computes exactly."""
        x, out = self.integers[node.input[0]], node.output[0]
        mode = attrs.get("mode", b"nearest")
        shapes = [self.types[name].shape or () for name in (node.input[0], out)]
        whole = [max(m, n) / min(m, n) for m, n in zip(*shapes, strict=True) if m and n]
        halves = all(factor in (1, 2, 4, 8) for factor in whole)
        centred = attrs.get("coordinate_transformation_mode", b"half_pixel") in (b"half_pixel", b"pytorch_half_pixel")
        exact = mode == b"nearest" or (mode == b"linear" and halves and centred and not attrs.get("antialias", 0))
        if not exact or attrs.get("coordinate_transformation_mode") == b"tf_crop_and_resize":
            return False
        y = self.op("Resize", self.op("Cast", x.name, to=TensorProto.FLOAT), *node.input[1:], **attrs)
        y = self.op("Cast", y, to=TensorProto.DOUBLE)
        if mode == b"nearest":
            self.integers[out] = _Integers(y, x.scale)
        return self.finish(node, self.op("Mul", y, self.constant(x.scale)), whole=True)

    def is_integers(self, name: str) -> bool:
        """Whether it is integers times one scale, which the compiled network adds and multiplies without rounding."""
        return name in self.integers or (name in self.weights and self.weights[name][1].size == 1)

    def is_short_mean(self, node: NodeProto) -> bool:
        """Whether the integers' sum stays exact in float32 too."""
        shapes = [self.types[name].shape or () for name in (node.input[0], node.output[0])]
        more, fewer = (int(np.prod(shape)) for shape in shapes)
        return node.input[0] in self.integers and more // max(fewer, 1) * 255 <= _LIMIT

    def dequantize(self, node: NodeProto, axis: int) -> bool:
        x, scale = node.input[0], self.known.get(node.input[1])
        has_zero = len(node.input) > 2 and node.input[2] != ""
        zero = self.known.get(node.input[2]) if has_zero else np.zeros((), np.int32)
        if scale is None or zero is None or scale.ndim > 1 or scale.dtype != np.float32:
            return False
        wide, out = scale.astype(np.float64), node.output[0]
        if x in self.known:
            rank = self.known[x].ndim
            along = [-1 if d == axis % max(rank, 1) else 1 for d in range(rank)] if wide.size > 1 else [1] * rank
            integers = self.known[x].astype(np.float64) - np.broadcast_to(zero, wide.shape).reshape(along)
            self.weights[out] = (integers, wide.reshape(-1), axis % max(rank, 1))
            return self.finish(node, self.constant(integers * wide.reshape(along)), whole=True)
        if wide.size > 1 or self.types[x].elem not in (TensorProto.INT8, TensorProto.UINT8):
            return False
        integers = self.op("Cast", x, to=TensorProto.DOUBLE)
        if zero.any():
            integers = self.op("Sub", integers, self.constant(zero.reshape(())))
        self.integers[out] = _Integers(integers, wide.reshape(()))
        self.unit[out] = float(wide.reshape(()))
        self.finish(node, self.op("Mul", integers, self.constant(wide.reshape(()))), whole=True)
        self.certainty[out] = self.certainty.get(x, Certainty.EXACT)
        return True

    def quantize(self, node: NodeProto, value: str, scale: str, zero: str = "") -> bool:
        s, z = self.known.get(scale), self.known.get(zero) if zero else np.zeros((), np.uint8)
        if s is None or z is None or s.size != 1 or z.dtype not in (np.int8, np.uint8):
            return False
        info = np.iinfo(z.dtype)
        y = self.op("Round", self.op("Div", value, self.constant(s.reshape(()))))
        y = self.op("Add", y, self.constant(z.reshape(())))
        y = self.op("Min", self.op("Max", y, self.constant(info.min)), self.constant(info.max))
        self.op("Cast", y, output=node.output[0], to=helper.np_dtype_to_tensor_dtype(z.dtype))
        self.settle(node, whole=True)
        if self.certainty.get(node.input[0]) == Certainty.UNIT and self.unit.get(node.input[0]) == float(s.item()):
            self.certainty[node.output[0]] = Certainty.UNIT  # the same steps, counted from another zero point
        return True

    def clip(self, node: NodeProto, inputs: list[str]) -> bool:
        value = self.double[inputs[0]]
        for kind, bound in zip(("Max", "Min"), inputs[1:], strict=False):
            value = self.op(kind, value, self.doubled(bound)) if bound else value
        bounds = all(v in self.known for v in inputs[1:] if v)
        return self.finish(node, value, whole=inputs[0] in self.sums and bounds)

    def product(self, kind: str, inputs: list[str], attrs: dict[str, Any]) -> str | None:
        """Conv, Gemm or MatMul of integers, times their scales; None where that is not exact."""
        x, (integers, scale, axis) = self.integers[inputs[0]], self.weights[inputs[1]]
        turned = bool(attrs.pop("transB", 0))
        outputs = 0 if kind == "Conv" or turned else 1 if kind == "ConvTranspose" else integers.ndim - 1
        spatial = kind in ("Conv", "ConvTranspose")
        if (scale.size > 1 and axis != outputs) or any(attrs.get(k, v) != v for k, v in _GEMM.items()):
            return None
        place = [1, -1] + [1] * (integers.ndim - 2) if spatial else [-1]
        scale = x.scale * scale
        if kind == "ConvTranspose" and attrs.get("group", 1) > 1:
            return None
        if spatial:
            reach = np.abs(integers).sum(axis=tuple(range(1, integers.ndim))).max(initial=0)
            if attrs.get("group", 1) > 1 and reach * 255 > _LIMIT:
                return None
            total = self.conv(x.name, integers, attrs, kind)
            if total is None:
                return None
        else:
            total = self.op("MatMul", x.name, self.constant(integers.T if turned else integers))
        value = self.op("Mul", total, self.constant(scale.reshape(place if scale.size > 1 else ())))
        if len(inputs) > 2 and inputs[2]:
            bias, known = self.weights.get(inputs[2]), self.known.get(inputs[2])
            if bias is not None and np.allclose(bias[1], scale, rtol=1e-6, atol=0):
                add = bias[0].reshape(-1) * scale  # it counts in units of the product's scale
            elif bias is not None or known is not None:
                add = known.astype(np.float64) if known is not None else bias[0] * bias[1]  # type: ignore[index]
            else:
                return None
            value = self.op("Add", value, self.constant(add.reshape(place if add.ndim == 1 else add.shape)))
        return value

    def pool(self, node: NodeProto, x: str, attrs: dict[str, Any]) -> bool:
        shape = self.types[x].shape or ()
        axes = list(range(2, len(shape)))
        if node.op_type == "AveragePool":
            mean = self.average(self.integers[x], attrs, shape[1]) if x in self.integers else None
            return mean is not None and self.finish(node, mean, whole=True)
        if self.opset >= 18:
            mean = self.op("ReduceMean", self.double[x], self.constant(axes, np.int64))
        else:
            mean = self.op("ReduceMean", self.double[x], axes=axes)
        return self.finish(node, mean, whole=self.is_short_mean(node))

    def average(self, x: _Integers, attrs: dict[str, Any], channels: int) -> str | None:
        """AveragePool whose windows all count as many elements, an odd number or a power of two; None for others."""
        kernel = attrs.pop("kernel_shape")
        count = int(np.prod(kernel))
        borders = any(attrs.get("pads", ())) and not attrs.pop("count_include_pad", 0)
        attrs.pop("count_include_pad", 0)
        moves = attrs.pop("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID") or attrs.pop("ceil_mode", 0)
        if borders or moves or (count % 2 == 0 and count & (count - 1)):
            return None
        total = self.conv(x.name, np.ones((channels, 1, *kernel)), {**attrs, "group": channels})
        return None if total is None else self.op("Mul", total, self.constant(x.scale / count))

    def conv(self, x: str, integers: Array, attrs: dict[str, Any], kind: str = "Conv") -> str | None:
        high = np.floor((integers + 8) / 16)
        parts = (high, integers - 16 * high)
        outputs = 1 if kind == "ConvTranspose" else 0
        summed = tuple(d for d in range(integers.ndim) if d != outputs)
        if max(np.abs(w).sum(axis=summed).max(initial=0) for w in parts) * 255 > _LIMIT:
            return None
        x = self.op("Cast", x, to=TensorProto.FLOAT)
        sums = [
            self.op("Cast", self.op(kind, x, self.constant(w, np.float32), **attrs), to=TensorProto.DOUBLE)
            for w in parts
        ]
        return self.op("Add", self.op("Mul", sums[0], self.constant(16.0)), sums[1])

    def qlinear(self, node: NodeProto, attrs: dict[str, Any]) -> bool:
        """QLinearConv and QLinearMatMul: as the nodes that they abbreviate."""
        x, sx, zx, w, sw, zw, sy, zy = node.input[:8]
        if any(v not in self.known for v in (sx, zx, w, sw, zw, sy, zy)) or self.known[sx].size > 1:
            return False
        kind = node.op_type.removeprefix("QLinear")
        axis = 0 if kind == "Conv" else self.known[w].ndim - 1
        names = [f"dlpack.exact/{node.output[0]}/{k}" for k in "xwb"]
        self.dequantize(helper.make_node("DequantizeLinear", [x, sx, zx], names[:1]), 1)
        self.dequantize(helper.make_node("DequantizeLinear", [w, sw, zw], names[1:2]), axis)
        inputs = names[:2]
        if len(node.input) > 8 and node.input[8]:
            if node.input[8] not in self.known:
                return False
            scale = self.known[sx].astype(np.float64).reshape(-1) * self.known[sw].astype(np.float64).reshape(-1)
            self.weights[names[2]] = (self.known[node.input[8]].astype(np.float64), scale, 0)
            inputs = names
        if inputs[0] not in self.integers or inputs[1] not in self.weights:
            return False
        value = self.product(kind, inputs, attrs)
        if value is None:
            return False
        middle = f"{names[0]}w"
        self.finish(helper.make_node(kind, names[:1], [middle]), value, whole=True)
        return self.quantize(helper.make_node("QuantizeLinear", [middle, sy, zy], list(node.output)), value, sy, zy)


_GEMM = {"alpha": 1.0, "beta": 1.0, "transA": 0}
