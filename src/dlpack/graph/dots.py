"""Products of 8-bit integers summed in 32 bits, for machines that compute four at once (VNNI, Arm's dot product).

Such a machine multiplies weights of int8 by values that lie in memory as uint8 or int8. A quantised value holds the
integers ``q - zero point``; it is stored as ``q - zero point + shift``, with the shift that makes it fit, so the sum is
too large by shift times the sum of the weights, a constant that the bias takes off. The border of a convolution is
filled with the shift. Sums wrap, so only their results must fit 32 bits.

Convolutions of each channel by itself read 8 bits too, and sum in float32, or by dot products of a window's rows. Of a
picture's few planes the four neighbours are those of a row. Where a value is stored in 8 bits, operators on float32
read it from there too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dlpack.graph import registry
from dlpack.graph.ir import Array, Graph, Node, TensorType
from dlpack.graph.registry import Builder
from dlpack.graph.rewrite import remove_dead

FEWEST = 5
"""Channels of input and of output from which on a product is one of dots: fewer fill neither them nor vectors."""

FEWEST_EACH = 16
"""Channels from which on windows of each are products of dots: as many as are rounded to a register of bytes."""

STEPS = 4
"""Neighbours in memory that one dot product takes, on most machines."""

EXACT = 1 << 24
"""Integers up to here, and their sums, are exact in float32."""

_VIEWS = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Slice", "Expand")
MOVES = frozenset((*_VIEWS, "Tile", "MaxPool", "DepthToSpace", "SpaceToDepth", "Resize"))
"""Operators whose output may hold only elements of input 0 (the padding of MaxPool is never the largest)."""


def only_moves(node: Node) -> bool:
    """Whether the output holds only elements of input 0."""
    if node.op not in MOVES or node.domain or len([o for o in node.outputs if o]) != 1:
        return False
    nearest = node.attrs.get("mode", "nearest") == "nearest"
    crops = node.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    return node.op != "Resize" or (nearest and not crops and node.opset >= 11)


@dataclass
class Dots:
    """`operand`: the type of the values that the machine multiplies by int8, empty where it has no such instruction;
    `each`: whether its products may be those of one channel and a window of its pixels."""

    operand: str
    each: bool = False
    stored: dict[tuple[str, int], str] = field(default_factory=dict)
    """By value and its unsigned zero point: the same integers in 8 bits."""

    def suit(self, node: Node, integers: Array, shape: Sequence[int]) -> bool:
        """Whether a Conv or MatMul (Gemm) with these weights, [outputs, inputs, ...] or [inputs, outputs], is computed
        by dot products."""
        group = int(node.attrs.get("group", 1))
        inputs, outputs = integers.shape[1::-1] if node.op == "Conv" else integers.shape[:2]
        fits = integers.min() >= -128 and integers.max() <= 127
        deep = inputs >= FEWEST or (group == 1 and _along_rows(node, integers) and integers.shape[-1] > 2)
        return bool(self.operand) and bool(fits) and deep and outputs // group >= FEWEST and len(shape) > 1

    def reads(self, node: Node, integers: Array, total: float) -> bool:
        """Whether a convolution with a window for each channel reads its input in 8 bits, and sums in float32.

        Its sums are exact then, for all that 8 bits may hold; `total` bounds those of the values less their zero point.
        """
        small = integers.min() >= -128 and integers.max() <= 127
        more = 255 * float(np.abs(integers).sum(axis=tuple(range(1, integers.ndim))).max())
        each = node.op == "Conv" and integers.shape[1] == 1 and int(node.attrs.get("group", 1)) > 1
        return bool(self.operand) and each and bool(small) and total + more <= EXACT

    def suit_each(self, node: Node, integers: Array, total: float) -> bool:
        """Whether a convolution with a window for each channel is computed by dot products of the window's rows."""
        rows = integers.ndim == 4 and integers.shape[-1] > 1 and integers.shape[0] >= FEWEST_EACH
        alone = integers.shape[0] == int(node.attrs.get("group", 1))
        return self.each and rows and alone and self.reads(node, integers, total)

    def shift(self, zero: int) -> int:
        return zero if self.operand == "uint8" else zero - 128

    def product(
        self, node: Node, b: Builder, x: tuple[str, int], integers: Array, shape: Sequence[int], bias: Array,
        before: Sequence[Node], dtype: str = "int32",
    ) -> tuple[str, Array]:  # fmt: skip
        """The sum of products and of an integer bias in `dtype`, int32 or float32, and what is left of the bias.

        `x`: the value and its unsigned zero point; `before`: the nodes so far.
        """
        value, shift = self.narrowed(*x, b, {o: n for n in before for o in n.outputs}), self.shift(x[1])
        conv, transposed = node.op == "Conv", node.op == "ConvTranspose"
        if dtype == "int32" and int(node.attrs.get("group", 1)) == 1 and _along_rows(node, integers):
            node, integers = _whole_steps(node, integers)
        weights = b.constant(np.ascontiguousarray(integers.astype(np.int8)), "weights")
        attrs = {**node.attrs, "fill": shift} if conv or transposed else {}
        y = b.add(node.op if conv or transposed else "MatMul", [value, weights], shape, dtype, **attrs)
        if transposed:  # its outputs sum different parts of the weights, and take `fill` off themselves
            more = np.zeros(shape[1], np.int64)
        else:
            more = -shift * integers.sum(axis=tuple(range(1, integers.ndim)) if conv else 0)
        if bias.dtype.kind == "i":
            more, bias = more + bias, np.zeros(0, np.float32)
        if np.any(more):
            across = 1 if conv or transposed else len(shape) - 1
            place = [-1 if d == across else 1 for d in range(len(shape))]
            wrapped = (more & 0xFFFFFFFF).astype(np.uint32).view(np.int32) if dtype == "int32" else more.astype(dtype)
            y = b.add("Add", [y, b.constant(wrapped.reshape(place), "bias")], shape)
        return y, bias

    def narrowed(self, value: str, zero: int, b: Builder, producers: dict[str, Node]) -> str:
        """The 8-bit form of a value; of one that only has elements of others, made of their 8-bit forms."""
        if (value, zero) in self.stored:
            return self.stored[value, zero]
        node, shape = producers.get(value), b.type_of(value).shape
        if node is not None and only_moves(node):
            x = self.narrowed(node.inputs[0], zero, b, producers)
            made = b.add(node.op, [x, *node.inputs[1:]], shape, self.operand, None, **dict(node.attrs))
        elif node is not None and node.op == "Concat" and not node.domain:
            xs = [self.narrowed(x, zero, b, producers) for x in node.inputs]
            made = b.add("Concat", xs, shape, self.operand, None, **dict(node.attrs))
        elif node is not None and node.op == "Pad" and not node.domain:
            x = self.narrowed(node.inputs[0], zero, b, producers)
            fill = b.constant(np.array(self.shift(zero), self.operand), "fill")
            made = b.add("Pad", [x, node.inputs[1], fill, *node.inputs[3:]], shape, self.operand, **dict(node.attrs))
        elif node is not None and node.op == "Centre" and self.is_stored(node, zero, b):
            made = node.inputs[0]
        else:
            made = b.add_internal("Narrow", [value], shape, dtype=self.operand, zero=self.shift(zero))
        self.stored[value, zero] = made
        return made

    def is_stored(self, centre: Node, zero: int, b: Builder) -> bool:
        """Whether a node takes the zero point off what is the 8-bit form already."""
        return b.type_of(centre.inputs[0]).dtype == self.operand and centre.attrs["zero"] == self.shift(zero)

    def stored_once(self, graph: Graph) -> Graph:
        """The graph in which what is stored in 8 bits is read from there, and sums go to their rounding as they are."""
        if not self.stored:
            return graph
        wide = {n.outputs[0]: n.inputs[0] for n in graph.nodes if n.op == "Cast" and _is_exact(n, graph)}
        narrow = {n.inputs[0]: n for n in graph.nodes if n.op == "Narrow" and n.outputs[0] in self.stored.values()}
        producers, types = graph.producers(), dict(graph.types)
        moved = {
            value: (made, self.shift(zero))
            for (value, zero), made in self.stored.items()
            if made in producers and producers[made].op in (MOVES | {"Concat", "Pad"}) and value in producers
        }
        shared: dict[str, str] = {}
        present: set[str] = set()
        nodes: list[Node] = []
        done: set[str] = set()

        def read(value: str, node: Node) -> str:
            """The value from its 8-bit form; pointwise operators do that on their own."""
            source = narrow.get(value)
            if source is node or (value in producers and producers[value].op == "Centre"):
                return value
            if source is not None:
                stored, shift = source.outputs[0], source.attrs["zero"]
            elif value in moved and moved[value][0] in present:
                stored, shift = moved[value]
            else:
                return value
            kind = registry.find(node)
            alone = kind is not None and kind.kind == "pointwise"
            name = f"{node.outputs[0]}/{value}" if alone else shared.get(value, f"{value}/wide")
            if alone or value not in shared:
                b = Builder(graph, producers[value])
                b.add_internal("Centre", [stored], types[value].shape, name, "float32", zero=shift)
                nodes.extend(b.nodes)
                types[name] = types[value]
                shared.update({} if alone else {value: name})
            return name

        for node in graph.nodes:
            if node.name in done:
                continue
            if node.op in ("Requantize", "Rescale"):
                node = replace(node, inputs=tuple(wide.get(i, i) for i in node.inputs))
            nodes.append(replace(node, inputs=tuple(read(i, node) for i in node.inputs)))
            present.update(node.outputs)
            for value in node.outputs:
                if value in narrow:  # at once, since others read it
                    nodes.append(narrow[value])
                    done.add(narrow[value].name)
        return remove_dead(replace(graph, nodes=tuple(nodes), types=types))


def _along_rows(node: Node, integers: Array) -> bool:
    """Whether a convolution reads few planes, so that the steps of its dot products are neighbours in a row."""
    plain = node.attrs.get("auto_pad", "NOTSET") == "NOTSET" and set(node.attrs.get("dilations", (1,))) == {1}
    return node.op == "Conv" and plain and integers.shape[1] < FEWEST


def _whole_steps(node: Node, integers: Array) -> tuple[Node, Array]:
    """The convolution with a window as wide as whole dot products: zeros at its right, over a border as much wider."""
    more = -integers.shape[-1] % STEPS
    spatial = integers.ndim - 2
    pads = list(node.attrs.get("pads") or [0] * (2 * spatial))
    pads[-1] += more
    wide = np.pad(integers, [(0, 0)] * (integers.ndim - 1) + [(0, more)])
    return replace(node, attrs={**node.attrs, "pads": pads, "kernel_shape": list(wide.shape[2:])}), wide


def _is_exact(cast: Node, graph: Graph) -> bool:
    """Whether it makes float32 of a sum in int32."""
    kinds = TensorType("int32", graph.types[cast.outputs[0]].shape), graph.types[cast.outputs[0]].dtype
    return (graph.types[cast.inputs[0]], kinds[1]) == (kinds[0], "float32")
