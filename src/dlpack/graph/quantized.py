"""Integer networks: DequantizeLinear, an operator, QuantizeLinear become that operator on integers, rounded once.

A value behind DequantizeLinear is integers times a scale. Convolutions, products, sums and means of such values are
sums of integers times a scale again; they are computed without any rounding error, and QuantizeLinear rounds their
exact product with ``scale / output scale`` (a double, off by 2^-47 at most), halves to even. So each layer is the
correctly rounded value of what its nodes say, on every target, whatever the order of its sums. As in every integer
runtime, a bias with the scale ``input scale * weight scale`` counts in units of that product (ONNX QLinearConv).

Integers up to 2^24 are exact in float32: layers whose sums may be larger are cut into parts along the input channels.
Weights stay 8 bits wide. Machines with dot products of 8-bit integers sum in 32 bits instead, over values that lie in 8
bits (`dots.py`). Everything else stays as ONNX writes it, in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf

import numpy as np

from dlpack.graph.curves import QUANTIZE, Curve, dequantized, followed, quantized_levels
from dlpack.graph.dots import EXACT, MOVES, Dots, only_moves
from dlpack.graph.dynamic import integer_product
from dlpack.graph.early import rounded_early
from dlpack.graph.ir import Array, Graph, Node
from dlpack.graph.parts import cuts_of, sum_of_parts
from dlpack.graph.registry import Builder
from dlpack.graph.rewrite import remove_dead
from dlpack.graph.terms import Centred, Real, Term, Weights, matrix, operands, rounded_to_bytes

LARGEST_SUM = (1 << 31) - 1
NEAR = 1 << 21
"""What is rounded to a byte in float32 has a smaller product: `requantized_byte_` in runtime_c/maths.h."""


def is_quantized(graph: Graph) -> bool:
    return any(n.op in _QUANTIZED and n.domain in ("", "ai.onnx") for n in graph.nodes)


_QUANTIZED = ("DequantizeLinear", "QLinearConv", "QLinearMatMul", "MatMulInteger", "ConvInteger")


def quantized(graph: Graph, dots: str = "", look_up: float = inf, dots_each: bool = False) -> Graph:
    """The graph with its quantised layers computed on integers; a replaced node stays if others need its output.

    `dots`: the type ("uint8" or "int8") of the values whose dot products with int8 the machine computes, if it does.
    `dots_each`: of each channel by itself, too.
    `look_up`: how many instructions on vectors are worth a look-up of each element in a table of 256.
    """
    if not is_quantized(graph):
        return graph
    return _Integers(rounded_early(graph), Dots(dots, dots_each), look_up).run()


class _Integers:
    def __init__(self, graph: Graph, dots: Dots, look_up: float) -> None:
        self.graph, self.dots, self.look_up = graph, dots, look_up
        self.constants, self.types = dict(graph.constants), dict(graph.types)
        self.real: dict[str, Real] = {}
        self.weights: dict[str, Weights] = {}
        self.centred: dict[str, Centred] = {}
        self.curves: dict[str, Curve] = {}  # by float32 value
        self.tables: dict[str, tuple[Curve, Array]] = {}  # by 8-bit value: the curve that was quantised, its levels
        self.nodes: list[Node] = []

    def run(self) -> Graph:
        for node in self.graph.nodes:
            for part in self.written_out(node):
                builder = self.builder(part)
                handler = _HANDLERS.get(part.op) if part.domain in ("", "ai.onnx") else None
                done = handler(self, part, builder) if handler else False
                self.take(builder)
                self.follow(part)
                if not done:
                    self.nodes.append(part)
        graph = replace(self.graph, nodes=tuple(self.nodes), constants=self.constants, types=self.types)
        return rounded_to_bytes(remove_dead(self.dots.stored_once(remove_dead(graph))))

    def follow(self, node: Node) -> None:
        """Keeps what a pointwise operator makes of an 8-bit value of its output's shape."""
        curve = followed(node, self.curves, self.constants) if self.look_up < inf else None
        if curve is not None and self.types[curve.source].shape == self.types[node.outputs[0]].shape:
            self.curves[node.outputs[0]] = curve

    def builder(self, node: Node) -> Builder:
        return Builder(replace(self.graph, constants=self.constants, types=self.types), node)

    def take(self, b: Builder) -> None:
        self.nodes += b.nodes
        self.constants.update(b.constants)
        self.types.update(b.types)

    # --- operators; True where the node is replaced

    def written_out(self, node: Node) -> list[Node]:
        """QLinearConv and QLinearMatMul with constant scales as the nodes that they abbreviate."""
        if node.op not in ("QLinearConv", "QLinearMatMul") or node.domain not in ("", "ai.onnx"):
            return [node]
        x, sx, zx, w, sw, zw, sy, zy = node.inputs[:8]
        if any(v not in self.constants for v in (sx, zx, w, sw, zw, sy, zy)) or self.constants[sx].size > 1:
            return [node]
        b = self.builder(node)
        kind = self.types[w]
        axis = 0 if node.op == "QLinearConv" else len(kind.shape) - 1
        real = [
            b.add("DequantizeLinear", [x, sx, zx], self.types[x].shape, "float32"),
            b.add("DequantizeLinear", [w, sw, zw], kind.shape, "float32", axis=axis),
        ]
        shape = self.types[node.outputs[0]].shape
        if len(node.inputs) > 8 and node.inputs[8]:
            if node.inputs[8] not in self.constants:
                return [node]
            scale = (self.constants[sx] * self.constants[sw]).reshape(-1)
            bias = [node.inputs[8], b.constant(np.broadcast_to(scale, self.types[node.inputs[8]].shape), "scale")]
            real.append(b.add("DequantizeLinear", bias, self.types[node.inputs[8]].shape, "float32", axis=0))
        y = b.add(node.op.removeprefix("QLinear"), real, shape, **dict(node.attrs))
        b.add("QuantizeLinear", [y, sy, zy], shape, self.types[node.outputs[0]].dtype, node.outputs[0])
        made, b.nodes = b.nodes, []
        self.take(b)
        return made

    def dequantize(self, node: Node, b: Builder) -> bool:
        x, scale, zero = self.scaling(node)
        if scale is None or zero is None:
            return False
        constant, t = self.constants.get(x), self.types[x]
        if constant is not None:
            rank = len(t.shape)
            axis = node.attrs.get("axis", 1) % rank if rank else 0
            whole = scale.ndim < 2 and (scale.size == 1 or scale.shape[0] == t.shape[axis])
            if whole and zero.size in (1, scale.size):
                along = [-1 if d == axis else 1 for d in range(rank)] if zero.size > 1 else [1] * rank
                integers = constant.astype(np.int64) - zero.astype(np.int64).reshape(along)
                self.weights[node.outputs[0]] = Weights(integers, scale.astype(np.float64).reshape(-1), axis)
            return False
        if t.dtype not in ("int8", "uint8") or scale.size > 1 or not 0 < float(scale.reshape(-1)[0]) < inf:
            return False
        known, z, info = self.centred.get(x), int(zero.reshape(-1)[0]), np.iinfo(t.dtype)
        if known is None or known.zero != z:
            value = b.add_internal("Centre", [x], t.shape, dtype="float32", zero=z)
            known = self.centred[x] = Centred(value, z, info.min - z, info.max - z)
        unsigned = z - np.iinfo(t.dtype).min
        term = Term(known.value, scale.astype(np.float64).reshape(()), known.low, known.high, unsigned)
        self.real[node.outputs[0]] = Real((term,))
        before, levels = self.tables.get(x, (None, np.arange(info.min, info.max + 1)))
        source = before.source if before else x
        centred = levels.astype(np.float64) - z
        self.curves[node.outputs[0]] = dequantized(source, centred, float(scale.reshape(-1)[0]), before)
        return False

    def scaling(self, node: Node) -> tuple[str, Array | None, Array | None]:
        """Input, scale and zero point of QuantizeLinear or DequantizeLinear; None where they are not constant."""
        x, name = node.inputs[:2]
        zero = self.constants.get(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.zeros(1, np.int32)
        scale = self.constants.get(name)
        return x, scale if scale is not None and scale.dtype == np.float32 and scale.size else None, zero

    def quantize(self, node: Node, b: Builder) -> bool:
        x, scale, zero = self.scaling(node)
        out = node.outputs[0]
        t, real = self.types[out], self.real.get(x)
        if scale is None or zero is None or scale.size > 1 or t.dtype not in ("int8", "uint8"):
            return False
        s, z, info = float(scale.reshape(-1)[0]), int(zero.reshape(-1)[0]), np.iinfo(t.dtype)
        if not 0 < s < inf:
            return False
        if self.look_up_in_table(node, b, scale.reshape(-1)[0], z):
            return True
        if real is None:
            return False
        low, high = (int(np.clip(np.round(v / s), info.min - z, info.max - z)) for v in (real.low, real.high))
        term = real.single
        (first, *more) = real.terms
        if term is not None and float(term.scale) == s and low <= term.low and term.high <= high:
            value = term.value
        elif not (more or first.whole) and first.scale.item() == s and low <= first.low and first.high <= high:
            value = b.add("Round", [first.value], t.shape, "float32")  # many are ties
        else:
            terms = [replace(k, scale=k.scale / s) for k in real.terms]
            reach = max(float(k.bound * np.abs(k.scale).max()) for k in terms)
            small = max(abs(low), abs(high)) <= 512 and (len(terms) == 1 or reach <= 1024)
            inputs, near = operands(b, terms), int(reach < NEAR)
            value = b.add_internal(
                "Requantize", inputs, t.shape, dtype="float32", low=low, high=high, small=int(small), near=near
            )
        b.add_internal("Narrow", [value], t.shape, out, t.dtype, zero=z)
        self.centred[out] = Centred(value, z, low, high)
        return True

    def look_up_in_table(self, node: Node, b: Builder, scale: np.float32, zero: int) -> bool:
        """QuantizeLinear of what operators make of one 8-bit value, where these take longer than a look-up."""
        curve, out = self.curves.get(node.inputs[0]), node.outputs[0]
        if curve is None or curve.exact or curve.operations + QUANTIZE <= self.look_up:
            return False
        levels = quantized_levels(curve, scale, zero, self.types[out].dtype)
        inputs = [curve.source, b.constant(levels, "table")]
        b.add_internal("LookUp", inputs, self.types[out].shape, out, levels.dtype.name)
        self.tables[out] = curve, levels
        return True

    def move(self, node: Node, b: Builder) -> bool:
        """Elements are only moved: adds the same operator on the integers."""
        x, out = node.inputs[0], node.outputs[0]
        if not only_moves(node):
            return False
        shape, known, real = self.types[out].shape, self.centred.get(x), self.real.get(x)
        term = real.single if real else None
        if known is not None:
            value = b.add(node.op, [known.value, *node.inputs[1:]], shape, "float32", None, **dict(node.attrs))
            self.centred[out] = replace(known, value=value)
        elif term is not None:
            value = b.add(node.op, [term.value, *node.inputs[1:]], shape, "float32", None, **dict(node.attrs))
            self.real[out] = Real((replace(term, value=value),))
        elif x in self.weights and node.op == "Transpose":
            w, perm = self.weights[x], node.attrs.get("perm")
            order = list(perm) if perm else list(range(w.integers.ndim))[::-1]
            self.weights[out] = replace(w, integers=w.integers.transpose(order), axis=order.index(w.axis))
        return False

    def split(self, node: Node, b: Builder) -> bool:
        """Each part is a slice."""
        axis, first = node.attrs.get("axis", 0) % len(self.types[node.inputs[0]].shape), 0
        for out in node.outputs:
            last = first + (self.types[out].shape[axis] if out else 0)
            bounds = [b.constant(np.array([v], np.int64), "bound") for v in (first, last, axis)]
            self.move(replace(node, op="Slice", inputs=(node.inputs[0], *bounds), outputs=(out,), attrs={}), b)
            first = last
        return False

    def resize(self, node: Node, b: Builder) -> bool:
        """To the nearest elements, or between two whose weights have few bits, which float32 adds exactly."""
        real, out = self.real.get(node.inputs[0]), node.outputs[0]
        if only_moves(node):
            return self.move(node, b)
        if real is None or (term := real.single) is None or not self.has_short_weights(node):
            return False
        inputs = [term.value, *node.inputs[1:]]
        value = b.add(node.op, inputs, self.types[out].shape, "float32", None, **dict(node.attrs))
        self.real[out] = Real((replace(term, value=value, zero=None, whole=False),))
        return False

    def has_short_weights(self, node: Node) -> bool:
        """Whether a linear Resize puts places at quarters, eighths and so on between two others."""
        attrs, given = node.attrs, self.constants.get(node.inputs[2]) if len(node.inputs) > 2 else None
        sizes = [self.types[v].shape for v in (node.inputs[0], node.outputs[0])]
        factors = np.array([new / old for old, new in zip(*sizes, strict=True)])
        if given is not None and given.size and not np.array_equal(given, factors.astype(given.dtype)):
            return False
        plain = attrs.get("mode") == "linear" and not attrs.get("antialias", 0) and not attrs.get("axes")
        centred = attrs.get("coordinate_transformation_mode", "half_pixel") in ("half_pixel", "pytorch_half_pixel")
        bits = np.abs(np.log2(factors))
        return plain and centred and bool((bits == np.rint(bits)).all()) and float((bits + 1)[bits > 0].sum()) <= 8

    def pad(self, node: Node, b: Builder) -> bool:
        """A pad with the zero point, which is zero."""
        known = self.centred.get(node.inputs[0])
        fill = self.constants.get(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.zeros(1)
        if known is None or node.attrs.get("mode", "constant") != "constant" or len(node.inputs) < 2 or fill is None:
            return False
        if int(fill.reshape(-1)[0]) != known.zero:
            return False
        inputs = [known.value, node.inputs[1], b.constant(np.array(0, np.float32), "zero"), *node.inputs[3:]]
        value = b.add("Pad", inputs, self.types[node.outputs[0]].shape, "float32", None, **dict(node.attrs))
        low, high = min(known.low, 0), max(known.high, 0)
        self.centred[node.outputs[0]] = Centred(value, known.zero, low, high)
        return False

    def concat(self, node: Node, b: Builder) -> bool:
        parts = [self.centred.get(x) for x in node.inputs]
        known = [p for p in parts if p is not None]
        if len(known) < len(parts) or len({p.zero for p in known}) > 1:
            return False
        shape = self.types[node.outputs[0]].shape
        value = b.add("Concat", [p.value for p in known], shape, "float32", None, **dict(node.attrs))
        low, high = min(p.low for p in known), max(p.high for p in known)
        self.centred[node.outputs[0]] = Centred(value, known[0].zero, low, high)
        return False

    def clamp(self, node: Node, _b: Builder) -> bool:
        """Relu and Clip: rounding never reorders, so what is clamped may be rounded first."""
        real = self.real.get(node.inputs[0])
        limits: list[float] = [0.0, inf] if node.op == "Relu" else [-inf, inf]
        for k, name in enumerate(node.inputs[1:3]) if node.op == "Clip" else ():
            constant = self.constants.get(name) if name else np.array(limits[k])
            if constant is None:
                return False
            limits[k] = float(constant.reshape(-1)[0])
        limits = [node.attrs.get(k, v) for k, v in zip(("min", "max"), limits, strict=True)]
        if real is not None and limits[0] <= limits[1]:
            low, high = (min(max(v, limits[0]), limits[1]) for v in (real.low, real.high))
            self.real[node.outputs[0]] = replace(real, low=low, high=high)
        return False

    def add(self, node: Node, b: Builder) -> bool:
        rank = len(self.types[node.outputs[0]].shape)
        sides = [self.real.get(x) for x in node.inputs]
        given = [r.single if r else self.constant_term(x, rank, b) for r, x in zip(sides, node.inputs, strict=True)]
        terms = [t for t in given if t is not None]
        if len(terms) == 2 and any(sides):
            if node.op == "Sub":
                terms[1] = replace(terms[1], scale=-terms[1].scale)
            self.real[node.outputs[0]] = Real(tuple(terms))
        return False

    def constant_term(self, name: str, rank: int, b: Builder) -> Term | None:
        """Constant integers with one scale for all, as in x / 127.5 - 1."""
        w = self.weights.get(name)
        if w is None or w.scale.size > 1 or not w.integers.size or np.abs(w.integers).max() > EXACT:
            return None
        integers = w.integers.reshape((1,) * (rank - w.integers.ndim) + w.integers.shape)
        value = b.constant(integers.astype(np.float32), "integers")
        return Term(value, w.scale.reshape(()), float(integers.min()), float(integers.max()))

    def mul(self, node: Node, b: Builder) -> bool:
        rank = len(self.types[node.outputs[0]].shape)
        sides = [self.real.get(x) for x in node.inputs]
        given = [r.single if r else self.constant_term(x, rank, b) for r, x in zip(sides, node.inputs, strict=True)]
        terms = [t for t in given if t is not None]
        if len(terms) < 2 or not any(sides) or terms[0].bound * terms[1].bound > EXACT:
            return False
        value = b.add("Mul", [t.value for t in terms], self.types[node.outputs[0]].shape)
        ends = [p * q for p in (terms[0].low, terms[0].high) for q in (terms[1].low, terms[1].high)]
        term = Term(value, terms[0].scale * terms[1].scale, min(ends), max(ends))
        self.real[node.outputs[0]] = Real((term,))
        return False

    def mean(self, node: Node, b: Builder) -> bool:
        """ReduceMean and GlobalAveragePool: a sum of integers."""
        real = self.real.get(node.inputs[0])
        term = real.single if real else None
        rank = len(self.types[node.inputs[0]].shape)
        axes = node.attrs.get("axes")
        if node.op == "GlobalAveragePool":
            axes = list(range(2, rank))
        elif len(node.inputs) > 1 and node.inputs[1]:
            constant = self.constants.get(node.inputs[1])
            axes = None if constant is None else [int(a) for a in constant.reshape(-1)]
        if term is None or not axes:
            return False
        count = int(np.prod([self.types[node.inputs[0]].shape[a] for a in axes]))
        if not count or term.bound * count > EXACT:
            return False
        keep, axes = node.attrs.get("keepdims", 1), sorted(a % rank for a in axes)
        value = b.add("ReduceSum", [term.value], self.types[node.outputs[0]].shape, axes=axes, keepdims=keep)
        self.real[node.outputs[0]] = Real((Term(value, term.scale / count, term.low * count, term.high * count),))
        return False

    def average(self, node: Node, b: Builder) -> bool:
        """AveragePool: a convolution of each channel with ones, where all its windows count the same elements.

        A mean of an even number may be a tie that no float scale hits, unless the number is a power of two.
        """
        real, t = self.real.get(node.inputs[0]), self.types[node.inputs[0]]
        kernel = list(node.attrs["kernel_shape"])
        count, padded = int(np.prod(kernel)), any(node.attrs.get("pads") or ())
        uneven = padded and not node.attrs.get("count_include_pad", 0)
        plain = node.attrs.get("auto_pad", "NOTSET") in ("NOTSET", "VALID") and not node.attrs.get("ceil_mode", 0)
        if real is None or not plain or uneven or (count % 2 == 0 and count & (count - 1)):
            return False
        attrs = {k: v for k, v in node.attrs.items() if k in ("kernel_shape", "strides", "pads", "dilations")}
        ones = f"{node.outputs[0]}/ones"
        self.weights[ones] = Weights(np.ones((t.shape[1], 1, *kernel), np.int64), np.array([1 / count]), 0)
        return self.product(
            replace(node, op="Conv", inputs=(node.inputs[0], ones), attrs={**attrs, "group": t.shape[1]}), b
        )

    def product(self, node: Node, b: Builder) -> bool:
        """Conv, Gemm and MatMul with constant weights. What reads their float32 value gets the exact one rounded."""
        real, w = self.real.get(node.inputs[0]), self.weights.get(node.inputs[1])
        x = real.single if real else None
        by_output = None if w is None else matrix(node, w)
        if x is None or by_output is None:
            return False
        integers, scale = by_output.integers, x.scale * by_output.scale
        scale = np.broadcast_to(scale, integers.shape[by_output.axis])
        bias = self.bias(node, scale)
        if bias is None or not integers.size:
            return False
        channel = 1 - by_output.axis  # the dimension of the input's channels
        kernel = tuple(range(2, integers.ndim))
        reach = np.moveaxis(np.abs(integers).sum(axis=kernel), channel, 0) * x.bound  # [input channels, outputs]
        cuts = cuts_of(reach, splits=node.attrs.get("group", 1) == 1 and node.op != "ConvTranspose")
        total = float(reach.sum(axis=0).max()) + (np.abs(bias).max(initial=0) if bias.dtype.kind == "i" else 0)
        shape = self.types[node.outputs[0]].shape
        dotted = x.zero is not None and self.dots.suit(node, integers, shape)
        if (cuts is None and not dotted) or total > LARGEST_SUM:
            return False
        by_window = x.zero is not None and not dotted and self.dots.suit_each(node, integers, total)
        dtype = "int32" if dotted or by_window or total > EXACT else "float32"
        if x.zero is not None and (dotted or by_window):
            value, bias = self.dots.product(node, b, (x.value, x.zero), integers, shape, bias, self.nodes)
            value = value if total > EXACT else b.add("Cast", [value], shape, "float32", to=1)
        elif x.zero is not None and self.dots.reads(node, integers, total):
            value, bias = self.dots.product(
                node, b, (x.value, x.zero), integers, shape, bias, self.nodes, dtype="float32"
            )
        else:
            value = sum_of_parts(node, b, x.value, integers, cuts or [], dtype)
        across = 1 if node.op in ("Conv", "ConvTranspose") else len(shape) - 1
        place = [-1 if d == across else 1 for d in range(len(shape))]
        more = []
        if bias.dtype.kind == "i":
            value = b.add("Add", [value, b.constant(bias.reshape(place).astype(dtype), "bias")], shape)
        elif bias.size:
            more = [Term(b.constant(bias.reshape(place), "bias"), np.ones(()), -inf, inf)]
        terms = (Term(value, scale.reshape(place), -total, total), *more)
        self.real[node.outputs[0]] = Real(terms)
        b.add_internal("Rescale", operands(b, terms), shape, node.outputs[0], "float32")
        return True

    def integers(self, node: Node, b: Builder) -> bool:
        return integer_product(node, b, self.dots)

    def bias(self, node: Node, scale: Array) -> Array | None:
        """Integers in units of `scale`, or real numbers; empty where there is none, None where it is not constant."""
        if len(node.inputs) < 3 or not node.inputs[2]:
            return np.zeros(0, np.float32)
        given, constant = self.weights.get(node.inputs[2]), self.constants.get(node.inputs[2])
        if given is not None and given.integers.size == scale.size:
            same = np.allclose(given.scale, scale, rtol=1e-6, atol=0) or not given.integers.any()
            return given.integers.reshape(-1) if same else None
        return constant if constant is not None and constant.size == scale.size else None


_Handler = Callable[[_Integers, Node, Builder], bool]

_HANDLERS: dict[str, _Handler] = {
    "DequantizeLinear": _Integers.dequantize,
    "QuantizeLinear": _Integers.quantize,
    "Conv": _Integers.product,
    "ConvTranspose": _Integers.product,
    "Gemm": _Integers.product,
    "MatMul": _Integers.product,
    "MatMulInteger": _Integers.integers,
    "ConvInteger": _Integers.integers,
    "Add": _Integers.add,
    "Sub": _Integers.add,
    "Mul": _Integers.mul,
    "Relu": _Integers.clamp,
    "Clip": _Integers.clamp,
    "ReduceMean": _Integers.mean,
    "GlobalAveragePool": _Integers.mean,
    "AveragePool": _Integers.average,
    "Pad": _Integers.pad,
    "Split": _Integers.split,
    "Resize": _Integers.resize,
    "Concat": _Integers.concat,
    **dict.fromkeys(MOVES - {"Resize"}, _Integers.move),
}
