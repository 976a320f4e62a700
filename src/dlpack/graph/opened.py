"""A dimension that is open within bounds: one graph of which a run has the first part along that dimension.

The model is read at two sizes. What differs between the graphs must be extents, and integers, that are the size: they
become the extent for which the kernels are made, a little more than the largest size. Then node by node, what is
computed of the first n elements must depend on none behind them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

import numpy as np

from dlpack.errors import UnsupportedError
from dlpack.graph.ir import Array, Graph, Node, TensorType
from dlpack.graph.registry import Builder, Context, find
from dlpack.loops.sizes import EXTENT, Size

ROWS, COLUMNS = 12, 64
"""The extent is a multiple of a register tile's rows; and where vectors are along it, of so many columns."""


def open_graph(some: Graph, most: Graph, size: int, largest: int) -> Graph:
    """The graph of any size up to `largest`, from those of two sizes: `size` and, `most`, the largest.

    Raises UnsupportedError, which names the node, where that cannot be.
    """
    if [(n.op, n.inputs, n.outputs) for n in some.nodes] != [(n.op, n.inputs, n.outputs) for n in most.nodes]:
        raise UnsupportedError(f"the model computes otherwise with {size} than with {largest}")
    opening = _Opening(size, largest, _extent(some, most, largest))
    types = {name: opening.type(name, some.types[name], t) for name, t in most.types.items()}
    constants = {name: opening.constant(name, some.constants[name], c) for name, c in most.constants.items()}
    for a, b in zip(some.nodes, most.nodes, strict=True):
        if repr(sorted(a.attrs.items())) != repr(sorted(b.attrs.items())) or a.body is not None:
            raise UnsupportedError(_of(b, "depends on the open dimension in another way than by its inputs' sizes"))
    graph = _with_counted_means(replace(most, types=types, constants=constants, open=opening.extent))
    for node in graph.nodes:
        _check(node, graph)
    for name in (*graph.inputs, *graph.outputs):
        shape = graph.types[name].shape
        places = [k for k, d in enumerate(shape) if d == opening.extent]
        if places and (len(places) > 1 or prod(shape[: places[0]]) > 1):
            raise UnsupportedError(f"the open dimension of '{name}' ({_sized(shape, opening.extent)}) is not its first")
    return graph


def _with_counted_means(graph: Graph) -> Graph:
    """The graph with means over the open dimension as a sum, times one over the number of elements of a run."""
    nodes: list[Node] = []
    constants, types = dict(graph.constants), dict(graph.types)
    for node in graph.nodes:
        n = _Node(node, graph)
        if node.op != "ReduceMean" or not n.axes() & set(n.dims(0)) or n.input_type(0).dtype != "float32":
            nodes.append(node)
            continue
        b, t, shape = Builder(graph, node), n.output_type(), n.input_type(0).shape
        axes = b.constant(np.array(sorted(n.axes()), np.int64), "axes")
        total = b.fresh("total")
        b.raw(Node("ReduceSum", (node.inputs[0], axes), (total,), {"keepdims": n.attr("keepdims", 1)}, total, "",
                   max(node.opset, 13), node.sources), [t])  # fmt: skip
        counted = sorted(n.axes() & set(n.dims(0)))
        fixed = prod(shape[d] for d in n.axes() if d not in counted)
        share = b.share([Size(EXTENT)] * len(counted), fixed, len(t.shape))
        b.add("Mul", [total, share], t.shape, output=node.outputs[0])
        nodes.extend(b.nodes)
        constants.update(b.constants)
        types.update(b.types)
    return replace(graph, nodes=tuple(nodes), constants=constants, types=types)


def _extent(some: Graph, most: Graph, largest: int) -> int:
    """An extent of which no dimension of the model is a multiple, and at least two tiles."""
    pairs = [(t.shape, some.types[name].shape) for name, t in most.types.items()]
    inner = any(prod(t[:-1]) > 1 and t[-1] != s[-1] for t, s in pairs if len(t) == len(s) > 0)
    reduced = any(n.op in _SUMS for n in most.nodes)
    others = {d for t, s in pairs for d, e in zip(t, s, strict=False) if d == e}

    def next_of(unit: int) -> int:
        extent = -(-max(largest, 2 * ROWS) // unit) * unit
        while any(d and d % extent == 0 for d in others):
            extent += unit
        return extent

    if not (inner or reduced):
        return next_of(ROWS)
    best = next_of(3 * COLUMNS)  # tiles may have 6 and 12 rows, too
    return best if best <= 1.5 * largest else next_of(COLUMNS)


class _Opening:
    def __init__(self, size: int, largest: int, extent: int) -> None:
        self.size, self.largest, self.extent = size, largest, extent

    def type(self, name: str, some: TensorType, most: TensorType) -> TensorType:
        if some.dtype != most.dtype or len(some.shape) != len(most.shape):
            raise UnsupportedError(f"'{name}' is {some} with {self.size} and {most} with {self.largest}")
        return replace(most, shape=tuple(map(self._dim, [name] * len(most.shape), some.shape, most.shape)))

    def _dim(self, name: str, some: int, most: int) -> int:
        if some == most:
            return most
        if (some, most) == (self.size, self.largest):
            return self.extent
        raise UnsupportedError(f"a dimension of '{name}' is {some} with {self.size} and {most} with {self.largest}")

    def constant(self, name: str, some: Array, most: Array) -> Array:
        """Filled up with zeros along the open dimension; an integer that is the size becomes the extent."""
        if some.shape == most.shape:
            differ = some != most
            if not np.any(differ & ~((some != some) & (most != most))):
                return most
            if most.dtype.kind in "iu" and np.all(some[differ] == self.size) and np.all(most[differ] == self.largest):
                return np.where(differ, self.extent, most).astype(most.dtype)
            raise UnsupportedError(f"the constant '{name}' is computed from the open dimension")
        shape = tuple(map(self._dim, [name] * most.ndim, some.shape, most.shape))
        if not np.array_equal(most[tuple(slice(0, n) for n in some.shape)], some, equal_nan=most.dtype.kind == "f"):
            raise UnsupportedError(f"the constant '{name}' is another one with {self.size} than with {self.largest}")
        return np.pad(most, [(0, n - old) for n, old in zip(shape, most.shape, strict=True)])


def _of(node: Node, text: str) -> str:
    return f"{node.op} '{node.name or node.outputs[0]}' {text}"


def _sized(shape: tuple[int, ...], extent: int) -> str:
    return "x".join("n" if d == extent else str(d) for d in shape)


# --- which nodes compute the first elements from the first alone ---------------------------------------------------


class _Node(Context):
    def dims(self, i: int) -> list[int]:
        """The open dimensions of an input, from the end: -1 is the last."""
        return _open_dims(self.input_type(i).shape, self.graph.open) if self.has_input(i) else []

    def axes(self) -> set[int]:
        """Those of a reduction, from the end."""
        given = self.attr("axes")
        if given is None and self.has_input(1):
            given = self.ints(1, "axes")
        rank = len(self.input_type(0).shape)
        return {int(a) % rank - rank for a in (range(rank) if given is None else given)}

    def axis(self, default: int) -> int:
        rank = len(self.input_type(0).shape)
        return int(self.attr("axis", default)) % rank - rank


def _open_dims(shape: tuple[int, ...], extent: int) -> list[int]:
    return [d - len(shape) for d, n in enumerate(shape) if n == extent]


def _check(node: Node, graph: Graph) -> None:
    values = [v for v in (*node.inputs, *node.outputs) if v]
    if not any(graph.open in graph.types[v].shape for v in values):
        return
    n = _Node(node, graph)
    operator = find(node)
    rule = _RULES.get(node.op) if node.domain in ("", "ai.onnx") else None
    if rule is None and not (operator is not None and operator.kind == "pointwise"):
        raise UnsupportedError(_of(node, "is no operator that is known to compute an open dimension"))
    if rule is not None and (problem := rule(n)):
        raise UnsupportedError(_of(node, f"{problem} the open dimension"))


def _any(_: _Node) -> str:
    return ""


def _not_along(default: int) -> Callable[[_Node], str]:
    return lambda n: "works along" if n.axis(default) in n.dims(0) else ""


def _normalise(n: _Node) -> str:
    return "normalises over" if any(d >= n.axis(-1) for d in n.dims(0)) else ""


def _mean(n: _Node) -> str:
    return "averages over" if n.axes() & set(n.dims(0)) else ""


def _softmax(n: _Node) -> str:
    return "works along" if n.node.opset < 13 and len(n.dims(0)) > 0 and n.axis(1) != -1 else ""


def _reshape(n: _Node) -> str:
    """Dimensions around the open one stay apart from it."""
    extent = n.graph.open
    old, new = n.input_type(0).shape, n.output_type().shape

    def sizes(shape: tuple[int, ...]) -> list[int]:
        """Of what lies between open dimensions, and around them."""
        out = [1]
        for d in shape:
            if d == extent:
                out.append(1)
            else:
                out[-1] *= d
        return out

    return "" if sizes(old) == sizes(new) else "mixes other dimensions with"


def _gather(n: _Node) -> str:
    places = n.maybe_constant(1)
    if n.axis(0) not in n.dims(0) or (places is not None and _within(places, n.graph.open)):
        return ""
    return "chooses from"


def _gather_nd(n: _Node) -> str:
    """Index tuples are for the first dimensions behind those of the batch."""
    places, batch = n.maybe_constant(1), int(n.attr("batch_dims", 0))
    rank, taken = len(n.input_type(0).shape), n.input_type(1).shape[-1]
    along = [d + rank - batch for d in n.dims(0) if batch <= d + rank < batch + taken]
    within = places is not None and all(_within(places[..., d], n.graph.open) for d in along)
    return "" if within or not along else "chooses from"


def _within(places: Array, extent: int) -> bool:
    """Whether the elements of an index that are there choose among elements that are: none is larger than its own
    place along an open dimension."""
    own = [
        np.arange(d).reshape([-1 if k == e else 1 for e in range(places.ndim)])
        for k, d in enumerate(places.shape)
        if d == extent
    ]
    most = np.maximum.reduce(np.broadcast_arrays(*own, np.zeros(places.shape, np.int64))) if own else 0
    return bool(np.all((places >= 0) & (places <= most)))


def _cumulate(n: _Node) -> str:
    place = n.maybe_constant(1)
    rank = len(n.input_type(0).shape)
    along = place is None or int(place.reshape(())) % rank - rank in n.dims(0)
    return "begins at the end of" if along and (place is None or n.attr("reverse", 0)) else ""


def _recurrent(n: _Node) -> str:
    """The loop ends earlier; samples would be an open dimension of its body."""
    time = -2 if n.attr("layout", 0) else -3
    return "" if n.dims(0) == [time] else "computes samples of"


def _slice(n: _Node) -> str:
    rank = len(n.input_type(0).shape)
    same = n.input_type(0).shape == n.output_type().shape
    kept = all(n.input_type(0).shape[d] == n.output_type().shape[d] for d in n.dims(0)) and len(n.dims(0)) <= rank
    return "" if same or kept else "cuts"


_SUMS = ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare")

_RULES: dict[str, Callable[[_Node], str]] = {
    **dict.fromkeys(("MatMul", "Gemm", "Transpose", "Expand", "Identity", *_SUMS), _any),
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze", "Flatten"), _reshape),
    **dict.fromkeys(("Concat", "Split"), _not_along(0)),
    **dict.fromkeys(("ArgMax", "ArgMin", "LpNormalization", "Hardmax", "TopK"), _not_along(-1)),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _normalise),
    "ReduceMean": _mean,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "CumSum": _cumulate,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    "GatherElements": lambda n: "chooses from" if n.axis(0) in n.dims(0) else "",
    "Slice": _slice,
}
