"""A dimension that is open within bounds: one graph of which a run has the first part along that dimension.

The model is read at two sizes. What differs between the graphs must be extents, and integers, that are the size: they
become the extent for which the kernels are made, a little more than the largest size. Then node by node, what is
computed of the first n elements must depend on none behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from dlpack.errors import UnsupportedError
from dlpack.graph.ir import Array, Graph, Node, TensorType
from dlpack.graph.opened_node import OpenNode, told
from dlpack.graph.opened_numbers import Seen, first_part, of_a_run, padded
from dlpack.graph.opened_rules import REPLACED
from dlpack.graph.registry import Builder, find, slice_of
from dlpack.graph.spread import dense_outputs, spread_inputs
from dlpack.loops.sizes import EXTENT, Size

ROWS, COLUMNS = 12, 64
"""The extent is a multiple of a register tile's rows; and where vectors are along it, of so many columns."""


def open_graph(
    some: Graph,
    most: Graph,
    size: int,
    largest: int,
    first: Graph | None = None,
    smallest: int = 1,
    sized: Mapping[str, Sequence[int]] | None = None,
) -> Graph:
    """The graph of any size from `smallest` to `largest`, from those of two sizes: `size` and, `most`, the largest.

    `first`, the model at the smallest size, may have other nodes. `sized`, the open dimension of each input that has
    it: runs count as for pictures. Raises UnsupportedError, which names the node, where that cannot be.
    """
    if [(n.op, n.inputs, n.outputs) for n in some.nodes] != [(n.op, n.inputs, n.outputs) for n in most.nodes]:
        raise UnsupportedError(f"the model computes otherwise with {size} than with {largest}")
    opening = _Opening(size, largest, _extent(some, most, largest))
    types = {name: opening.type(name, some.types[name], t) for name, t in most.types.items()}
    for a, b in zip(some.nodes, most.nodes, strict=True):
        if repr(sorted(a.attrs.items())) != repr(sorted(b.attrs.items())) or a.body is not None:
            raise UnsupportedError(told(b, "depends on the open dimension in another way than by its inputs' sizes"))
    for name in most.outputs if first else ():
        assert first is not None
        shape = tuple(smallest if d == opening.extent else d for d in types[name].shape)
        if first.types[name].shape != shape:
            sizes = (
                f"{_text(first.types[name].shape)} with {smallest} and {_text(most.types[name].shape)} with {largest}"
            )
            raise UnsupportedError(f"the output '{name}' is {sizes}, which does not follow the open dimension")
    constants, varying = opening.constants(some, most)
    graph = replace(most, types=types, constants=constants, open=opening.extent)
    seen = {
        name: [Seen(n, g.constants[name]) for n, g in ((smallest, first), (size, some), (largest, most)) if g and
               name in g.constants and g.constants[name].ndim == most.constants[name].ndim]
        for name in varying
    }  # fmt: skip
    graph = _for_a_run(graph, opening, seen, smallest)
    for node in graph.nodes:
        check_node(node, graph, smallest)
    inner: dict[str, None] = {}
    for name in (*graph.inputs, *graph.outputs):
        shape = graph.types[name].shape
        places = [k for k, d in enumerate(shape) if d == opening.extent]
        if len(places) > 1:
            raise UnsupportedError(f"'{name}' ({_sized(shape, opening.extent)}) has the open dimension more than once")
        if places and prod(shape[: places[0]]) > 1:
            inner[name] = None
    if sized is not None:
        return _counted(graph, sized, smallest)
    graph = spread_inputs(graph, [name for name in graph.inputs if name in inner])
    return dense_outputs(graph, [name for name in graph.outputs if name in inner])


def _for_a_run(graph: Graph, opening: _Opening, seen: Mapping[str, Sequence[Seen]], smallest: int) -> Graph:
    """The graph with nodes made anew that depend on the number of elements of a run; `seen` are the constants that do,
    at some sizes."""
    nodes: list[Node] = []
    constants, types = dict(graph.constants), dict(graph.types)
    made: dict[str, str] = {}
    for node in graph.nodes:
        now = replace(graph, constants=constants, types=types)
        b = Builder(now, node)
        for k, name in enumerate(node.inputs):
            if name in seen and name not in made and is_data(node, k):
                shape = types[name].shape
                found = of_a_run(seen[name], shape, Size(EXTENT), b)
                if found is None:
                    raise UnsupportedError(told(node, f"has a constant, '{name}', computed from the open dimension"))
                made[name] = found
            elif name in seen and not is_data(node, k):
                opening.check(name, seen[name])
        own = replace(node, inputs=tuple(made[i] if i in made and is_data(node, k) else i
                                         for k, i in enumerate(node.inputs)))  # fmt: skip
        types.update(b.types)
        constants.update(b.constants)
        n = OpenNode(own, replace(now, constants=constants, types=types), smallest=smallest)
        again = Builder(n.graph, own)
        done = made_anew(n, again)
        nodes.extend([*b.nodes, *(again.nodes if done else [own])])
        if done:
            constants.update(again.constants)
            types.update(again.types)
    return replace(graph, nodes=tuple(nodes), constants=constants, types=types)


def _counted(graph: Graph, dims: Mapping[str, Sequence[int]], smallest: int) -> Graph:
    """The graph whose runs count as those of pictures."""
    opens = {name: {d: Size(columns=1) for d in own} for name, own in dims.items()}

    def in_run(value: Any) -> Any:
        if isinstance(value, Size) and value.axis == EXTENT:
            return replace(value, axis=0)
        return tuple(map(in_run, value)) if isinstance(value, tuple | list) else value

    nodes = [
        replace(n, attrs={key: in_run(v) for key, v in n.attrs.items()}) if n.op in ("Share", "Count") else n
        for n in graph.nodes
    ]
    return replace(graph, nodes=tuple(nodes), opens=opens, smallest=(smallest,))


def with_lengths(graph: Graph) -> Graph:
    """The graph, of operators that have kernels, with the sizes of all values in their types."""
    return replace(graph, types={
        v: replace(t, sizes=tuple(graph.length if n == graph.open else None for n in t.shape))
        if graph.open in t.shape else t
        for v, t in graph.types.items()
    })  # fmt: skip


def is_data(node: Node, k: int) -> bool:
    """Whether a node reads the elements of an input, rather than that it says what the node does."""
    operator = find(node)
    if operator is not None and operator.kind == "pointwise":
        return k not in operator.constant_inputs
    return k == 0 or node.op in _OF_DATA


_OF_DATA = ("Gather", "GatherElements", "GatherND", "MatMul", "Gemm", "Concat")
"""Operators whose inputs all have elements that they read, besides the pointwise ones."""


def _extent(some: Graph, most: Graph, largest: int) -> int:
    """An extent of which no dimension of the model is a multiple, and at least two tiles."""
    pairs = [(t.shape, some.types[name].shape) for name, t in most.types.items()]
    inner = any(prod(t[:-1]) > 1 and t[-1] != s[-1] for t, s in pairs if len(t) == len(s) > 0)
    reduced = any(n.op in (*_SUMS, "ArgMax", "ArgMin", "ReduceLogSumExp") for n in most.nodes)
    others = {d for t, s in pairs for d, e in zip(t, s, strict=False) if d == e}
    windows = [(w, int(n.attrs.get("group", 1))) for n in most.nodes if n.op == "Conv" for w in
               (most.types[n.inputs[1]].shape,)]  # fmt: skip
    others |= {prod(w[1:]) * times for w, group in windows for times in (1, group)}  # of graph/opened_windows.py
    return padded_extent(largest, others, inner or reduced)


def padded_extent(largest: int, others: Collection[int], columns: bool, apart: Collection[int] = ()) -> int:
    """The extent that kernels are made for: none of the `others` is a multiple, and it is none of those `apart`.
    `columns`: vectors lie along it."""

    def next_of(unit: int) -> int:
        extent = -(-max(largest, 2 * ROWS) // unit) * unit
        while any(d and d % extent == 0 for d in others) or any(extent % d == 0 for d in apart):
            extent += unit
        return extent

    if not columns:
        return next_of(ROWS)
    if any(3 * COLUMNS % d == 0 for d in apart):
        return next_of(COLUMNS)
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

    def constants(self, some: Graph, most: Graph) -> tuple[dict[str, Array], set[str]]:
        """Those of all sizes, and the names of those that are others in each.

        A constant is filled up with zeros along the open dimension; an integer that is the size becomes the extent.
        """
        out, varying = {}, set[str]()
        for name, c in most.constants.items():
            out[name], same = self._constant(name, some.constants[name], c)
            if not same:
                varying.add(name)
        return out, varying

    def _constant(self, name: str, some: Array, most: Array) -> tuple[Array, bool]:
        if some.shape == most.shape:
            differ = some != most
            if not np.any(differ & ~((some != some) & (most != most))):
                return most, True
            sizes = most.dtype.kind in "iu" and np.all(most[differ] == self.largest)
            return (np.where(differ, self.extent, most).astype(most.dtype) if sizes else most), False
        shape = tuple(map(self._dim, [name] * most.ndim, some.shape, most.shape))
        same = np.array_equal(first_part(most, some.shape), some, equal_nan=most.dtype.kind == "f")
        return padded(most, shape), same

    def check(self, name: str, seen: Sequence[Seen]) -> None:
        """Raises UnsupportedError where what says what a node does is no size."""
        some, most = seen[-2].value, seen[-1].value
        differ = some != most if some.shape == most.shape else np.ones((), bool)
        fits = some.shape == most.shape and most.dtype.kind in "iu" and np.all(some[differ] == self.size)
        if not fits or not np.all(most[differ] == self.largest):
            raise UnsupportedError(f"the constant '{name}' is computed from the open dimension")


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _sized(shape: tuple[int, ...], extent: int) -> str:
    return "x".join("n" if d == extent else str(d) for d in shape)


# --- which nodes compute the first elements from the first alone ---------------------------------------------------


def made_anew(n: OpenNode, b: Builder) -> bool:
    """Adds what replaces a node that depends on the number of elements, and says whether it does."""
    rule = REPLACED.get(n.node.op) if n.node.domain in ("", "ai.onnx") else None
    return rule is not None and rule(n, b)


def check_node(node: Node, graph: Graph, smallest: int = 1) -> None:
    """Whether a node computes the first elements of the graph's open dimension, of which a run has `smallest` at the
    least, from the first alone. Raises UnsupportedError, which names it, where it does not."""
    values = [v for v in (*node.inputs, *node.outputs) if v]
    if not any(graph.open in graph.types[v].shape for v in values):
        return
    n = OpenNode(node, graph, smallest=smallest)
    operator = find(node)
    rule = _RULES.get(node.op) if node.domain in ("", "ai.onnx") else None
    if rule is None and not (operator is not None and operator.kind == "pointwise"):
        raise UnsupportedError(told(node, "is no operator that is known to compute an open dimension"))
    if rule is not None and (problem := rule(n)):
        raise UnsupportedError(told(node, f"{problem} the open dimension"))


def _any(_: OpenNode) -> str:
    return ""


def _not_along(default: int) -> Callable[[OpenNode], str]:
    return lambda n: "works along" if n.axis(default) in n.dims(0) else ""


def _normalise(n: OpenNode) -> str:
    return "normalises over" if any(d >= n.axis(-1) for d in n.dims(0)) else ""


def _mean(n: OpenNode) -> str:
    return "averages over" if n.axes() & set(n.dims(0)) else ""


def _softmax(n: OpenNode) -> str:
    return "works along" if n.node.opset < 13 and len(n.dims(0)) > 0 and n.axis(1) != -1 else ""


def _reshape(n: OpenNode) -> str:
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


def _gather(n: OpenNode) -> str:
    """Places that only a run knows count from the first element (graph/opened_rules.py)."""
    places = n.maybe_constant(1)
    return "" if n.axis(0) not in n.dims(0) or places is None or _within(places, n) else "chooses from"


def _gather_nd(n: OpenNode) -> str:
    """Index tuples are for the first dimensions behind those of the batch."""
    places, batch = n.maybe_constant(1), int(n.attr("batch_dims", 0))
    rank, taken = len(n.input_type(0).shape), n.input_type(1).shape[-1]
    along = [d + rank - batch for d in n.dims(0) if batch <= d + rank < batch + taken]
    return "" if places is None or all(_within(places[..., d], n) for d in along) else "chooses from"


def _within(places: Array, n: OpenNode) -> bool:
    """Whether the elements of an index that are there choose among elements that are: none is larger than its own
    place along an open dimension, or all runs have it."""
    own = [
        np.arange(d).reshape([-1 if k == e else 1 for e in range(places.ndim)])
        for k, d in enumerate(places.shape)
        if d == n.graph.open
    ]
    most = np.maximum.reduce(np.broadcast_arrays(*own, np.full(places.shape, n.smallest - 1)))
    return bool(np.all((places >= 0) & (places <= most)))


def _cumulate(n: OpenNode) -> str:
    place = n.maybe_constant(1)
    rank = len(n.input_type(0).shape)
    along = place is None or int(place.reshape(())) % rank - rank in n.dims(0)
    return "begins at the end of" if along and (place is None or n.attr("reverse", 0)) else ""


def _recurrent(n: OpenNode) -> str:
    """The loop ends earlier; samples would be an open dimension of its body."""
    time = -2 if n.attr("layout", 0) else -3
    return "" if n.dims(0) == [time] else "computes samples of"


def _slice(n: OpenNode) -> str:
    old, new = n.input_type(0).shape, n.output_type().shape
    starts, _, axes, steps = slice_of(n)
    for start, axis, step in zip(starts, axes, steps, strict=True):
        there = step == 1 and start >= 0 and start + new[axis] <= n.smallest
        if old[axis] == n.graph.open and not (there or (step == 1 and new[axis] == old[axis])):
            return "cuts"
    return ""


_SUMS = ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare")

_RULES: dict[str, Callable[[OpenNode], str]] = {
    **dict.fromkeys(
        ("MatMul", "Gemm", "Transpose", "Expand", "Identity", "BatchNormalization", "Einsum", *_SUMS), _any
    ),
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze", "Flatten"), _reshape),
    **dict.fromkeys(("Concat", "Split"), _not_along(0)),
    **dict.fromkeys(("ArgMax", "ArgMin"), _not_along(0)),
    **dict.fromkeys(("LpNormalization", "Hardmax", "TopK"), _not_along(-1)),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _normalise),
    "ReduceMean": _mean,
    **dict.fromkeys(("Gather", "GatherElements"), _gather),
    "GatherND": _gather_nd,
    "CumSum": _cumulate,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    "Slice": _slice,
}
