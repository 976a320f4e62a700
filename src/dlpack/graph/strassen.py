"""Strassen's algorithm: products of halved matrices, seven in place of eight, where the target says it pays.

In the form of S. Winograd ("On multiplication of 2 x 2 matrices", 1971): with A and B in quarters,

    S1 = A21 + A22, S2 = S1 - A11, S3 = A11 - A21, S4 = A12 - S2
    T1 = B12 - B11, T2 = B22 - T1, T3 = B22 - B12, T4 = B21 - T2
    U2 = A11 B11 + S2 T2, U3 = U2 + S3 T3
    C11 = A11 B11 + A12 B21    C12 = U2 + S1 T1 + S4 B22
    C21 = U3 + A22 T4          C22 = U3 + S1 T1

B is weights: of a MatMul, or of a convolution of single pixels. Its sums are computed when the predictor is made
(`Graph.sums`). All the rest is operators that there are: slices, which are views, sums, products that a sum follows,
and the quarters of the result, each of which is computed where it belongs. What follows the product as one kernel
(`graph/fuse.py`) is computed with each quarter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from dlpack.graph import registry
from dlpack.graph.fuse import Group, fuse
from dlpack.graph.ir import Graph, Node, TensorType
from dlpack.graph.registry import Builder


@dataclass(frozen=True)
class Product:
    """`rows` x `depth` times `depth` x `columns`; half of the rows are `half`, more than that where they are odd."""

    rows: int
    depth: int
    columns: int
    half: int


Bounds = Mapping[int, tuple[int, int]]
"""Of some dimensions, where a part begins and ends."""


def strassen(graph: Graph, pays: Callable[[Product], bool] | None, is_plain: Callable[[str], bool]) -> Graph:
    """Replaces the products for which `pays` holds; `is_plain`: whether weights are stored as they are, in float32."""
    if pays is None or graph.open or graph.opens or graph.caches:
        return graph
    consumers = graph.consumers()
    new = _Quarters(graph)
    for group in fuse(graph):
        shape = _shape(group, graph)
        weights = group.nodes[0].inputs[1] if shape else ""
        if shape and len(consumers[weights]) == 1 and is_plain(weights) and pays(shape.product):
            new.replace(group, shape)
        else:
            new.nodes += group.nodes
    return new.graph() if new.sums else graph


@dataclass(frozen=True)
class _Shape:
    """A product that may be computed so: along which dimension its rows are halved, how long that is, and which one is
    that of the columns, of the input also that of the depth. `merged`: the pixels are to be one dimension first."""

    product: Product
    rows: int
    extent: int
    columns: int
    merged: bool


def _shape(group: Group, graph: Graph) -> _Shape | None:
    node = group.nodes[0]
    if node is not group.anchor or len(node.inputs) < 2 or not all(_is_plain(n, graph) for n in group.nodes):
        return None
    x, w = node.inputs[:2]
    if x in graph.constants or w not in graph.constants or w in graph.derived:
        return None
    shape, out = graph.types[x].shape, graph.types[node.outputs[0]].shape
    if (node.op, node.domain) == ("MatMul", "") and len(shape) > 1 and graph.constants[w].ndim == 2:
        columns, merged = len(shape) - 1, False
        dims = range(columns)
    elif (node.op, node.domain) == ("Convolution", "dlpack") and len(shape) == 4 and _is_of_pixels(node, graph):
        columns, merged = 1, shape[0] == 1 and shape[2] % 2 == 1
        dims = range(2, 4) if shape[0] == 1 else range(1)
    else:
        return None
    depth, rows = shape[columns], prod(out) // out[columns]
    along = 2 if merged else next((d for d in dims if shape[d] > 1), -1)
    extent = shape[2] * shape[3] if merged else shape[along] if along >= 0 else 1
    if extent < 2 or depth % 2 or out[columns] % 2 or (merged and not _merges(group, graph)):
        return None
    product = Product(rows, depth, out[columns], rows // extent * -(-extent // 2))
    return _Shape(product, along, extent, columns, merged)


def _merges(group: Group, graph: Graph) -> bool:
    """Whether all operands behind a product have all pixels, or one for all of them."""
    out = graph.types[group.output].shape
    operands = {i for n in group.nodes[1:] for k, i in enumerate(n.inputs) if i and not _is_fixed(n, k)}
    shapes = [graph.types[i].shape for i in operands]
    return all((1, 1, *shape)[-2:] == (1, 1) or shape[2:] == out[2:] for shape in shapes)


def _is_plain(node: Node, graph: Graph) -> bool:
    """An operator on float32 that gives one value, without tables."""
    operator = registry.find(node)
    assert operator is not None
    types = {graph.types[v].dtype for k, v in enumerate((*node.inputs, *node.outputs)) if v and not _is_fixed(node, k)}
    return types == {"float32"} and len(node.outputs) == 1 and not operator.tables


def _is_fixed(node: Node, k: int) -> bool:
    """Whether an input is known when the kernel is built, and no operand of it."""
    operator = registry.find(node)
    return operator is not None and k < len(node.inputs) and k in operator.constant_inputs


def _is_of_pixels(node: Node, graph: Graph) -> bool:
    ones = (*graph.types[node.inputs[1]].shape[2:], *node.attrs["strides"], node.attrs["group"])
    return all(n == 1 for n in ones)


_SUMS_OF_WEIGHTS = {
    "T1": {(0, 1): 1, (0, 0): -1},
    "T2": {(1, 1): 1, (0, 1): -1, (0, 0): 1},
    "T3": {(1, 1): 1, (0, 1): -1},
    "T4": {(1, 0): 1, (1, 1): -1, (0, 1): 1, (0, 0): -1},
}
"""Of quarters by their row and column, the signs with which they are added."""


class _Quarters:
    """A graph in the making, whose products are replaced."""

    def __init__(self, graph: Graph) -> None:
        self.old = graph
        self.nodes: list[Node] = []
        self.constants, self.types = dict(graph.constants), dict(graph.types)
        self.sums: dict[str, tuple[tuple[str, int], ...]] = {}
        self._inputs: dict[tuple[str, int, int], dict[str, str]] = {}  # what products of one value share

    def graph(self) -> Graph:
        return replace(
            self.old, nodes=tuple(self.nodes), constants=self.constants, types=self.types,
            sums={**self.old.sums, **self.sums},
        )  # fmt: skip

    def replace(self, group: Group, shape: _Shape) -> None:
        node, out = group.nodes[0], group.output
        b = Builder(replace(self.old, constants=self.constants, types=self.types), node)
        key = node.inputs[0], shape.rows, shape.columns
        if key not in self._inputs:
            self._inputs[key] = _inputs(b, node.inputs[0], shape)
        parts = _products(b, node, shape, self._inputs[key], self._weights(b, node))
        pieces, rows = _Pieces(b, group, shape), list[str]()
        for i, bounds in enumerate(_halves(shape.extent, apart=True)):
            columns = [pieces.finished(parts[f"C{i + 1}{j + 1}"], bounds, j) for j in range(2)]
            dims = [bounds[1] - bounds[0] if d == shape.rows else n for d, n in enumerate(pieces.shape)]
            rows.append(b.add("Concat", columns, dims, axis=shape.columns))
        whole = b.add("Concat", rows, pieces.shape, output=None if shape.merged else out, axis=shape.rows)
        if shape.merged:
            _reshaped(b, whole, self.old.types[out].shape, out)
        self.nodes += b.nodes
        self.constants |= b.constants
        self.types |= b.types

    def _weights(self, b: Builder, node: Node) -> dict[str, str]:
        """The quarters of the weights, B11 to B22, and their sums, T1 to T4."""
        array = self.constants[node.inputs[1]]
        depth, columns = (1, 0) if node.op == "Convolution" else (0, 1)
        half = {d: array.shape[d] // 2 for d in (depth, columns)}

        def quarter(i: int, j: int) -> str:
            part = [slice(None)] * array.ndim
            for d, k in ((depth, i), (columns, j)):
                part[d] = slice(k * half[d], (k + 1) * half[d])
            return b.constant(np.ascontiguousarray(array[tuple(part)]), f"weights{i + 1}{j + 1}")

        quarters = {(i, j): quarter(i, j) for i in range(2) for j in range(2)}
        named = {f"B{i + 1}{j + 1}": name for (i, j), name in quarters.items()}
        for name, signs in _SUMS_OF_WEIGHTS.items():
            shape = b.types[quarters[0, 0]].shape
            named[name] = b.constant(np.broadcast_to(np.float32(np.nan), shape), f"weights_{name.lower()}")
            self.sums[named[name]] = tuple((quarters[at], sign) for at, sign in signs.items())
        return named


def _part(b: Builder, value: str, bounds: Bounds) -> str:
    """The part of a value within `bounds`."""
    shape = list(b.type_of(value).shape)
    cut = {d: (begin, end) for d, (begin, end) in sorted(bounds.items()) if (begin, end) != (0, shape[d])}
    if not cut:
        return value
    for d, (begin, end) in cut.items():
        shape[d] = end - begin
    given = [[begin for begin, _ in cut.values()], [end for _, end in cut.values()], list(cut)]
    return b.add("Slice", [value, *(b.constant(np.array(numbers, np.int64)) for numbers in given)], shape)


def _reshaped(b: Builder, value: str, shape: tuple[int, ...], output: str | None = None) -> str:
    return b.add("Reshape", [value, b.constant(np.array(shape, np.int64))], shape, output=output)


def _merged(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of pictures, with all pixels in one dimension."""
    return (*shape[:2], prod(shape[2:]), 1)


def _halves(extent: int, apart: bool = False) -> tuple[tuple[int, int], tuple[int, int]]:
    """The bounds of two halves, which share the one in the middle of an odd number, if not `apart`."""
    half = -(-extent // 2)
    return (0, half), (half if apart else extent - half, extent)


def _inputs(b: Builder, x: str, shape: _Shape) -> dict[str, str]:
    """The quarters of the input, A11 to A22, and their sums, S1 to S4."""
    x = _reshaped(b, x, _merged(b.type_of(x).shape)) if shape.merged else x
    rows, depth = _halves(shape.extent), _halves(shape.product.depth)
    a = {
        f"A{i + 1}{j + 1}": _part(b, x, {shape.rows: rows[i], shape.columns: depth[j]})
        for i in range(2) for j in range(2)
    }  # fmt: skip
    half = b.type_of(a["A11"]).shape
    a["S1"] = b.add("Add", [a["A21"], a["A22"]], half)
    a["S2"] = b.add("Sub", [a["S1"], a["A11"]], half)
    a["S3"] = b.add("Sub", [a["A11"], a["A21"]], half)
    a["S4"] = b.add("Sub", [a["A12"], a["S2"]], half)
    return a


def _products(b: Builder, node: Node, shape: _Shape, a: Mapping[str, str], w: Mapping[str, str]) -> dict[str, str]:
    """The quarters of the product, C11 to C22; the lower ones without the row that the halves share."""
    product = shape.product
    each, rest = divmod(product.rows * product.depth * product.columns, 7)

    def times(left: str, right: str, more: int = 0) -> str:
        out = list(b.type_of(left).shape)
        out[shape.columns] = product.columns // 2
        value = b.add(node.op, [left, right], out, **{**node.attrs, "macs": each + more})
        b.nodes[-1] = replace(b.nodes[-1], domain=node.domain)
        return value

    def plus(left: str, right: str) -> str:
        return b.add("Add", [left, right], b.type_of(left).shape)

    half = -(-shape.extent // 2)

    def lower(value: str) -> str:
        return _part(b, value, {shape.rows: (2 * half - shape.extent, half)})

    p1, p5 = times(a["A11"], w["B11"]), times(a["S1"], w["T1"])
    u2 = plus(times(a["S2"], w["T2"]), p1)
    u3 = lower(plus(times(a["S3"], w["T3"]), u2))
    return {
        "C11": plus(times(a["A12"], w["B21"]), p1),
        "C12": plus(plus(times(a["S4"], w["B22"], rest), u2), p5),
        # With the same rows as the others, so that its weights lie in the same blocks.
        "C21": plus(lower(times(a["A22"], w["T4"])), u3),
        "C22": plus(u3, lower(p5)),
    }


class _Pieces:
    """What follows a product in its kernel, for each quarter of the result."""

    def __init__(self, b: Builder, group: Group, shape: _Shape) -> None:
        self.b, self.group, self.columns, self.rows, self.merged = b, group, shape.columns, shape.rows, shape.merged
        whole = b.type_of(group.output).shape
        self.shape = _merged(whole) if shape.merged else whole

    def finished(self, value: str, rows: tuple[int, int], columns: int) -> str:
        """The part of the group's output in these `rows` and this half of the `columns`, of that of the product."""
        half = self.shape[self.columns] // 2
        bounds = {self.rows: rows, self.columns: (columns * half, (columns + 1) * half)}
        now = {self.group.nodes[0].outputs[0]: value}
        shape = self.b.type_of(value).shape
        for node in self.group.nodes[1:]:
            inputs = [
                now[v] if v in now else v if not v or _is_fixed(node, k) else self._piece(v, bounds)
                for k, v in enumerate(node.inputs)
            ]
            name = self.b.fresh(node.op.lower())
            self.b.raw(replace(node, name=name, inputs=tuple(inputs), outputs=(name,)), (TensorType("float32", shape),))
            now[node.outputs[0]] = name
        return now[self.group.output]

    def _piece(self, value: str, bounds: Bounds) -> str:
        """What another operand, which may be broadcast, has of a quarter."""
        own = self.b.type_of(value).shape
        lead = len(self.shape) - len(own)
        merged = _merged(own) if self.merged and len(own) == 4 else own
        cut = {d - lead: part for d, part in bounds.items() if d >= lead and merged[d - lead] > 1}
        constant = self.b.graph.constants.get(value)
        if constant is None:
            return _part(self.b, value if merged == own else _reshaped(self.b, value, merged), cut)
        places = tuple(slice(*cut[d]) if d in cut else slice(None) for d in range(len(own)))
        return self.b.constant(np.ascontiguousarray(constant.reshape(merged)[places]))
