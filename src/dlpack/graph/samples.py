"""Whether the samples of a batch are independent: then a run of any number of them is so many runs of one.

The graph is one of `MARKER` samples, a number that no ordinary dimension is a multiple of. From the inputs on, each
value either depends on no sample, or has one dimension, the outermost part of which is the sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from dlpack.errors import UnsupportedError
from dlpack.graph.ir import Graph
from dlpack.graph.registry import Context, NotSupported, find

MARKER = 13
"""How many samples the graph has that is examined."""


class _Mixed(Exception):
    """A node computes a sample from others; the text says how."""


@dataclass(frozen=True)
class _Node(Context):
    """A node; `at` has the dimension of the samples in each input that depends on them, by the input's number."""

    at: Mapping[int, int]

    def shape(self, i: int = 0) -> tuple[int, ...]:
        return self.input_type(i).shape

    def axis(self, default: int, i: int = 0) -> int:
        return int(self.attr("axis", default)) % max(1, len(self.shape(i)))

    def axes(self, i: int) -> list[int] | None:
        """Axes in an attribute, or in constant input `i`; None where there are none."""
        given = self.attr("axes")
        if given is None and self.has_input(i):
            given = self.ints(i, "axes")
        return None if given is None else [int(a) % len(self.shape()) for a in given]

    def only(self, *allowed: int) -> int:
        """The dimension of input 0, the only one but for those `allowed` that may depend on the samples."""
        if 0 not in self.at or self.at.keys() - {0, *allowed}:
            raise _Mixed("takes its weights or sizes from the samples")
        return self.at[0]

    def same_for_all(self, i: int, d: int) -> bool:
        """Whether input i, which depends on no sample, has nothing along dimension d that differs."""
        if d < 0 or self.shape(i)[d] == 1:
            return True
        value = self.maybe_constant(i)
        return value is not None and bool(np.all(value == np.take(value, [0], axis=d)))


def sample_dimensions(graph: Graph, inputs: Mapping[str, int]) -> dict[str, int]:
    """The dimension of the samples in each output that depends on them, given that in `inputs`; all dimensions before
    one of these have extent 1.

    Raises UnsupportedError, which names the node, where a sample's result depends on other samples.
    """
    where = dict(inputs)
    for node in graph.nodes:
        seen = _Node(node, graph, {i: where[x] for i, x in enumerate(node.inputs) if x in where})
        if not seen.at:
            continue
        try:
            found = _dimensions(seen)
            where.update({y: d for y, d in zip(node.outputs, found, strict=False) if y})
        except (_Mixed, NotSupported) as e:
            raise UnsupportedError(
                f"the open dimension is no batch of independent samples: {node.op} '{node.name or node.outputs[0]}' {e}"
            ) from e
    out = {name: where[name] for name in graph.outputs if name in where}
    for name, d in {**inputs, **out}.items():
        shape = graph.types[name].shape
        if prod(shape[:d]) != 1 or shape[d] % MARKER:
            raise UnsupportedError(f"the samples do not lie one after the other in '{name}' ({shape})")
    return out


def _dimensions(n: _Node) -> list[int]:
    """Of each output of a node."""
    operator = find(n.node)
    rules = _ML_RULES if n.node.domain == "ai.onnx.ml" else _RULES if n.node.domain in ("", "ai.onnx") else {}
    rule = rules.get(n.node.op)
    if rule is None and operator is not None and operator.kind == "pointwise":
        rule = _pointwise
    if rule is None:
        raise _Mixed("is no operator whose samples are known to be independent")
    found = rule(n)
    return found if isinstance(found, list) else [found] * len(n.node.outputs)


# --- rules: from the dimensions of the inputs to that of all outputs, or to a list of them --------------------------


def _pointwise(n: _Node) -> int:
    return _broadcast(n, range(len(n.node.inputs)), len(n.output_type().shape))


def _broadcast(n: _Node, inputs: range, rank: int) -> int:
    """By numpy's rule."""
    inputs_ = [i for i in inputs if n.has_input(i)]
    positions = {rank - len(n.shape(i)) + n.at[i] for i in inputs_ if i in n.at}
    if len(positions) != 1:
        raise _Mixed("combines samples along different dimensions")
    (p,) = positions
    if not all(n.same_for_all(i, p - rank + len(n.shape(i))) for i in inputs_ if i not in n.at):
        raise _Mixed("treats the samples differently")
    return p


def _first(n: _Node) -> int:
    """Operators over [samples, channels, ...]."""
    if n.only() != 0:
        raise _Mixed("takes the dimension for channels or pixels")
    if n.attr("training_mode", 0):
        raise _Mixed("normalises over all samples")
    return 0


def _along_axis(n: _Node) -> int:
    """Operators along one axis; before opset 13 a softmax is over all from there on."""
    d, old = n.only(1), n.node.op in _SOFTMAX and n.node.opset < 13
    axis = n.axis(1 if old else -1)
    if d == axis or (old and d > axis):
        raise _Mixed("works along it")
    return d


def _layer_norm(n: _Node) -> int:
    d = n.only()
    if d >= n.axis(-1):
        raise _Mixed("normalises over it")
    return d


def _without(n: _Node, axes: list[int]) -> int:
    """What a reduction over these axes leaves."""
    d = n.only()
    if d in axes:
        raise _Mixed("reduces over it")
    return d if n.attr("keepdims", 1) else d - sum(a < d for a in axes)


def _reduce(n: _Node) -> int:
    axes = n.axes(1)
    if not axes and n.attr("noop_with_empty_axes", 0):
        return n.only()
    return _without(n, axes or list(range(len(n.shape()))))


def _transpose(n: _Node) -> int:
    order = list(n.attr("perm") or reversed(range(len(n.shape()))))
    return order.index(n.only())


def _reshape(n: _Node) -> int:
    d = n.only()
    old, new = n.shape(), n.output_type().shape
    before = prod(old[:d])
    fits = [k for k, size in enumerate(new) if prod(new[:k]) == before and size % MARKER == 0 and size]
    if not fits or old[d] % MARKER:
        raise _Mixed("puts elements of different samples together")
    return fits[0]


def _concat(n: _Node) -> int:
    d = _broadcast(n, range(len(n.node.inputs)), len(n.shape()))
    if d == n.axis(0):
        raise _Mixed("joins along it")
    return d


def _split(n: _Node) -> int:
    d = n.only()
    if d == n.axis(0):
        raise _Mixed("splits it")
    return d


def _slice(n: _Node) -> int:
    d = n.only()
    axes = n.axes(3)
    if d in (range(len(n.shape())) if axes is None else axes):
        raise _Mixed("cuts it")
    return d


def _pad(n: _Node) -> int:
    d, rank = n.only(), len(n.shape())
    pads = n.attr("pads") or n.ints(1, "pads")
    axes = n.axes(3) or list(range(rank))
    if d in axes and (pads[axes.index(d)] or pads[axes.index(d) + len(axes)]):
        raise _Mixed("pads it")
    return d


def _kept(n: _Node) -> int:
    """Operators that may change sizes, but not that of the samples' dimension."""
    d = n.only()
    if n.output_type().shape[d] != n.shape()[d]:
        raise _Mixed("changes its size")
    return d


def _expand(n: _Node) -> int:
    d = n.only() + len(n.output_type().shape) - len(n.shape())
    if n.output_type().shape[d] != n.shape()[n.at[0]]:
        raise _Mixed("repeats it")
    return d


def _gather(n: _Node) -> int:
    axis = n.axis(0)
    if 1 not in n.at:
        d = n.only()
        if d == axis:
            return axis + _own_places(n, d)
        return d if d < axis else d - 1 + len(n.shape(1))
    if 0 in n.at:
        raise _Mixed("takes elements of each sample at places that depend on it")
    return axis + n.at[1]


def _own_places(n: _Node, d: int) -> int:
    """The dimension of the samples in an index (input 1) into all elements of all of them, [samples * elements]."""
    places, elements = n.maybe_constant(1), n.shape()[d] // MARKER
    for p in range(places.ndim if places is not None else 0):
        assert places is not None
        first = np.take(places, [0], axis=p)
        if places.shape[p] != MARKER or first.size == 0 or first.min() < 0 or first.max() >= elements:
            continue
        numbers = np.arange(MARKER).reshape([-1 if k == p else 1 for k in range(places.ndim)])
        if np.array_equal(places, first + numbers * elements):
            return p
    raise _Mixed("chooses among the samples")


def _gather_elements(n: _Node) -> int:
    """Elements of each sample, at places that may be its own."""
    rank = len(n.shape())
    d = next(iter(n.at.values()))
    if d == n.axis(0):
        raise _Mixed("chooses among the samples")
    if n.shape(0)[d] != n.shape(1)[d]:
        raise _Mixed("takes elements of some samples")
    return _broadcast(n, range(2), rank)


def _gather_nd(n: _Node) -> int:
    """Elements at tuples of places, of which one may be the number of the sample."""
    d, batch, last = n.only(1), int(n.attr("batch_dims", 0)), n.shape(1)[-1]
    places = n.maybe_constant(1)
    if d < batch:
        if n.at.get(1, d) != d or not (1 in n.at or n.same_for_all(1, d)):
            raise _Mixed("treats the samples differently")
        return d
    if d >= batch + last and 1 not in n.at:
        return d + len(n.shape(1)) - 1 - batch - last
    if places is None:
        raise _Mixed("takes elements of each sample at places that only a run knows")
    own = places[..., d - batch]
    for p in range(batch, own.ndim):
        along = np.arange(own.shape[p]).reshape([-1 if k == p else 1 for k in range(own.ndim)])
        rest = np.delete(places, d - batch, -1)
        if own.shape[p] == n.shape()[d] and np.all(own == along) and np.all(rest == np.take(rest, [0], axis=p)):
            return p
    raise _Mixed("chooses among the samples")


def _cumulate(n: _Node) -> int:
    d = n.only()
    if d == int(n.ints(1, "axis")[0]) % len(n.shape()):
        raise _Mixed("sums along it")
    return d


def _rows_of_features(n: _Node) -> int:
    """Operators of ai.onnx.ml over [samples, features]."""
    given = [i for i in range(len(n.node.inputs)) if n.has_input(i)]
    if any(n.at.get(i) != 0 or len(n.shape(i)) != 2 for i in given):
        raise _Mixed("does not have a sample in each row of each input")
    return 0


def _extract(n: _Node) -> int:
    """ArrayFeatureExtractor: elements along the last dimension of input 0, at the places that input 1 lists."""
    if 1 in n.at:
        if 0 in n.at or prod(n.shape(1)[: n.at[1]]) != 1:
            raise _Mixed("takes elements of each sample at places that depend on it")
        return len(n.output_type().shape) - 1
    if n.only() == len(n.shape()) - 1:
        raise _Mixed("chooses among the samples")
    return n.at[0]


def _matmul(n: _Node) -> int:
    ranks = len(n.shape(0)), len(n.shape(1))
    rank = len(n.output_type().shape)
    if min(ranks) < 2 or n.at.keys() - {0, 1}:
        raise _Mixed("multiplies single vectors")
    if n.at.get(0) == ranks[0] - 1 or n.at.get(1) == ranks[1] - 2:
        raise _Mixed("sums over it")
    places = {i: rank - ranks[i] + d for i, d in n.at.items()}
    if len(set(places.values())) != 1:
        raise _Mixed("multiplies each sample by each")
    place = next(iter(places.values()))
    if place >= rank - 2:
        if len(places) == 2:
            raise _Mixed("multiplies each sample by each")
        return place
    return _broadcast(n, range(2), rank)


def _gemm(n: _Node) -> int:
    if n.only(2) != (1 if n.attr("transA", 0) else 0):
        raise _Mixed("sums over it")
    if n.has_input(2):
        rank = len(n.shape(2))
        if not (n.at[2] == rank - 2 if 2 in n.at else n.same_for_all(2, rank - 2)):
            raise _Mixed("treats the samples differently")
    return 0


def _recurrent(n: _Node) -> list[int]:
    states = [i for i in (5, 6) if n.has_input(i)]
    if n.attr("layout", 0) or n.only(4, *states) != 1 or n.at.get(4, 0) != 0:
        raise _Mixed("takes it for time steps")
    if not all(n.at[i] == 1 if i in n.at else n.same_for_all(i, 1) for i in states):
        raise _Mixed("treats the samples differently")
    return [2, 1, 1]


_SOFTMAX = ("Softmax", "LogSoftmax", "Hardmax")

_RULES: dict[str, Callable[[_Node], int | list[int]]] = {
    **dict.fromkeys(_SOFTMAX, _along_axis),
    **dict.fromkeys(
        (
            "Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool",
            "GlobalLpPool", "BatchNormalization", "InstanceNormalization", "GroupNormalization", "LRN", "DepthToSpace",
            "SpaceToDepth", "ConvInteger", "QLinearConv",
        ),
        _first,
    ),
    **dict.fromkeys(
        ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum",
         "ReduceLogSumExp", "ReduceSumSquare"),
        _reduce,
    ),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    **dict.fromkeys(("Resize", "Upsample", "QuantizeLinear", "DequantizeLinear"), _kept),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    **dict.fromkeys(("ArgMax", "ArgMin"), lambda n: _without(n, [n.axis(0)])),
    "TopK": _along_axis,
    "LpNormalization": _along_axis,
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _layer_norm,
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Pad": _pad,
    "Expand": _expand,
    "Tile": _kept,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "CumSum": _cumulate,
    "MatMul": _matmul,
    "Gemm": _gemm,
}  # fmt: skip
_ML_RULES: dict[str, Callable[[_Node], int | list[int]]] = {
    **dict.fromkeys(
        ("Scaler", "Normalizer", "Imputer", "FeatureVectorizer", "LinearRegressor", "LinearClassifier", "SVMRegressor",
         "SVMClassifier", "TreeEnsemble", "TreeEnsembleRegressor", "TreeEnsembleClassifier"),
        _rows_of_features,
    ),
    **dict.fromkeys(("Binarizer", "LabelEncoder", "OneHotEncoder"), lambda n: n.only()),
    "ArrayFeatureExtractor": _extract,
}  # fmt: skip
