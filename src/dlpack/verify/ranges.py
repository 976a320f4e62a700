"""The ranges of seeded inputs: what an input's values may be, as far as the model's arithmetic shows.

An index must lie within the dimension that it indexes, a length within the sequence, a divisor must not be 0. Such a
demand on a value is carried back through the arithmetic before it to the inputs. It is half open, [low, high): of
integers, those that are not below `low` and are below `high`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from math import ceil, inf, prod
from typing import Any

import ml_dtypes

from dlpack.errors import ModelError, UsageError, did_you_mean
from dlpack.graph.ir import SMALL_INTEGERS, Array, Graph, Node

Range = tuple[float, float]
Demand = tuple[str, float, float]
"""A value, and what it must be in: [low, high)."""

ATTEMPTS = (1.0, 0.5, 0.2, 0.1, 0.06, 0.04, 0.02, 0.0)
"""What is tried of the span of integer inputs about which nothing was said, where the reference refuses the values."""

_DEFAULT = 100.0
"""Integers of which nothing is known are below this."""


def _limits(dtype: str) -> Any:
    """numpy's `iinfo` of a type of integers, ml_dtypes' included."""
    return ml_dtypes.iinfo(dtype)  # type: ignore[no-untyped-call]


def input_ranges(
    graph: Graph, metadata: Mapping[str, str], said: Mapping[str, Range] | None = None, part: float = 1.0
) -> tuple[Range, ...]:
    """[low, high) for each input.

    As `said` (both ends belong to a range of integers there), else as the metadata key `dlpack.ranges` says (JSON,
    input name → [low, high), else what the graph shows; pictures lie in [0, 1), other floats in [-1, 1). `part` of the
    span of integers of which nothing was said is used, of each at least one.
    Raises UsageError for ranges of inputs that there are not, or that hold nothing, ModelError for such metadata.
    """
    told = _told(graph, metadata, said or {})
    demands = _demands(graph)
    out = []
    for name in graph.inputs:
        t = graph.types[name]
        integer = not t.dtype.startswith(("float", "bfloat")) and t.dtype != "bool"
        if name in graph.words:  # which of its words
            low, high = 0.0, max(1.0, float(int(len(graph.words[name]) * part)))
        elif name in told:
            low, high = told[name]
        elif t.dtype == "bool":
            low, high = 0.0, 2.0
        elif t.dtype in SMALL_INTEGERS:
            info = _limits(t.dtype)
            low, high = float(info.min), info.max + 1.0
        elif name in demands or integer:
            low, high = demands.get(name, (0.0, _DEFAULT))
            low = max(low, high - _DEFAULT if high <= 0 else 0.0)
            high = min(high, low + _DEFAULT) if high == inf else high
            if integer:
                low = float(ceil(low))
                high = max(low + 1.0, low + (high - low) * part)
        elif len(t.shape) == 4 and t.shape[1] in (1, 3):
            low, high = 0.0, 1.0
        else:
            low, high = -1.0, 1.0
        out.append((low, high))
    return tuple(out)


def describe_ranges(graph: Graph, ranges: Sequence[Range]) -> str:
    """The integer inputs and their ranges, as --range has them: ids=0:99 mask=0:1."""
    named = zip(graph.inputs, ranges, strict=True)
    return " ".join(
        f"{name}={ceil(low)}:{ceil(high) - 1}"
        for name, (low, high) in named
        if "int" in graph.types[name].dtype and name not in graph.words
    )


def _told(graph: Graph, metadata: Mapping[str, str], said: Mapping[str, Range]) -> dict[str, Range]:
    """What the user and the model's metadata say, half open."""
    out: dict[str, Range] = {}
    try:
        for name, (low, high) in json.loads(metadata.get("dlpack.ranges", "{}")).items():
            if not float(low) < float(high):
                raise ValueError(f"[{low}, {high}) is empty")
            out[name] = (float(low), float(high))
    except (ValueError, TypeError, AttributeError) as e:
        raise ModelError(f"the model's metadata key dlpack.ranges is not JSON of input -> [low, high): {e}") from e
    for name, (low, high) in said.items():
        if name not in graph.inputs:
            known = ", ".join(f"'{n}'" for n in graph.inputs) or "none"
            wrong = f"--range {name}={low:g}:{high:g}: the model has no input '{name}'"
            raise UsageError(f"{wrong}; it has {known}{did_you_mean(name, graph.inputs)}")
        dtype = graph.types[name].dtype
        if "int" in dtype:
            info = _limits(dtype)
            if not info.min <= low <= high <= info.max:
                raise UsageError(f"--range {name}={low:g}:{high:g}: the input is {dtype}, {info.min} to {info.max}")
            high += 1
        elif not low < high:
            raise UsageError(f"--range {name}={low:g}:{high:g} is empty: LOW must be below HIGH")
        out[name] = (low, high)
    return out


def _demands(graph: Graph) -> dict[str, Range]:
    """What the graph demands of its inputs."""
    producers = graph.producers()
    found: dict[str, Range] = {}
    for node in graph.nodes:
        consumer = _CONSUMERS.get(node.op)
        waiting = list(consumer(graph, node)) if consumer else []
        for _ in range(10 * len(graph.nodes) + 10):  # a value may be read in several ways; not all ways are followed
            if not waiting:
                break
            name, low, high = waiting.pop()
            if name in graph.inputs:
                old = found.get(name, (-inf, inf))
                both = (max(old[0], low), min(old[1], high))
                # i < 0 ? i + n : i demands the contrary of its sides: the one for indices from 0 on holds.
                found[name] = both if both[0] < both[1] else max(old, (low, high))
            elif (producer := producers.get(name)) is not None and producer.op in _BACK:
                waiting += _BACK[producer.op](graph, producer, low, high)
    return found


# --- who demands something of its operands ---------------------------------------------------------------------------

Consumer = Callable[[Graph, Node], list[Demand]]


def _shape(graph: Graph, name: str) -> tuple[int, ...]:
    return graph.types[name].shape


def _operand(node: Node, k: int) -> str:
    return node.inputs[k] if k < len(node.inputs) else ""


def _along_axis(graph: Graph, node: Node) -> list[Demand]:
    shape = _shape(graph, node.inputs[0])
    return [(node.inputs[1], 0, shape[node.attrs.get("axis", 0) % len(shape)])] if shape else []


def _last_axis(graph: Graph, node: Node) -> list[Demand]:
    shape = _shape(graph, node.inputs[0])
    return [(node.inputs[1], 0, shape[-1])] if shape else []


def _tuples(graph: Graph, node: Node) -> list[Demand]:
    """GatherND, ScatterND: tuples of indices into the first dimensions; all are held to the smallest of these."""
    shape, indices = _shape(graph, node.inputs[0]), _shape(graph, node.inputs[1])
    first = node.attrs.get("batch_dims", 0)
    dims = shape[first : first + indices[-1]] if indices else ()
    return [(node.inputs[1], 0, min(dims))] if dims else []


def _tensor_scatter(graph: Graph, node: Node) -> list[Demand]:
    shape, update = _shape(graph, node.inputs[0]), _shape(graph, node.inputs[1])
    axis = node.attrs.get("axis", -2) % len(shape)
    places = shape[axis] if node.attrs.get("mode") == "circular" else shape[axis] - update[axis] + 1
    return [(_operand(node, 2), 0, places)]


def _lengths(graph: Graph, node: Node) -> list[Demand]:
    """sequence_lens of LSTM, GRU and RNN."""
    return [(_operand(node, 4), 1, _shape(graph, node.inputs[0])[node.attrs.get("layout", 0)] + 1)]


def _reversed(graph: Graph, node: Node) -> list[Demand]:
    return [(node.inputs[1], 1, _shape(graph, node.inputs[0])[node.attrs.get("time_axis", 0)] + 1)]


def _roi_align(graph: Graph, node: Node) -> list[Demand]:
    return [(_operand(node, 2), 0, _shape(graph, node.inputs[0])[0])]


def _unpool(graph: Graph, node: Node) -> list[Demand]:
    """Places in the tensor that MaxPool read, without pads, which `output_shape` may enlarge."""
    shape, kernel = _shape(graph, node.inputs[0]), node.attrs["kernel_shape"]
    rank = len(kernel)
    strides, pads = node.attrs.get("strides") or [1] * rank, node.attrs.get("pads") or [0] * (2 * rank)
    sides = zip(shape[2:], strides, kernel, pads[:rank], pads[rank:], strict=True)
    return [(node.inputs[1], 0, prod(shape[:2]) * prod((n - 1) * s + k - a - b for n, s, k, a, b in sides))]


def _one_hot(graph: Graph, node: Node) -> list[Demand]:
    shape = _shape(graph, node.outputs[0])
    return [(node.inputs[0], 0, shape[node.attrs.get("axis", -1) % len(shape)])]


def _positions(graph: Graph, node: Node) -> list[Demand]:
    return [(_operand(node, 3), 0, _shape(graph, node.inputs[1])[0])]


def _divisor(graph: Graph, node: Node) -> list[Demand]:
    return [(node.inputs[1], 1, inf)] if "int" in graph.types[node.inputs[1]].dtype else []


def _shift(graph: Graph, node: Node) -> list[Demand]:
    return [(node.inputs[1], 0, 8 * graph.types[node.inputs[1]].itemsize)]


_CONSUMERS: dict[str, Consumer] = {
    **dict.fromkeys(("Gather", "GatherElements", "ScatterElements", "Scatter"), _along_axis),
    **dict.fromkeys(("GatherND", "ScatterND"), _tuples),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _lengths),
    **dict.fromkeys(("Div", "Mod"), _divisor),
    "ArrayFeatureExtractor": _last_axis,
    "BitShift": _shift,
    "MaxUnpool": _unpool,
    "OneHot": _one_hot,
    "ReverseSequence": _reversed,
    "RoiAlign": _roi_align,
    "RotaryEmbedding": _positions,
    "TensorScatter": _tensor_scatter,
}

# --- what a demand on a node's output demands of its operands --------------------------------------------------------

Back = Callable[[Graph, Node, float, float], list[Demand]]


def _ends(graph: Graph, name: str) -> Range | None:
    """The least and the largest element of a constant."""
    constant: Array | None = graph.constants.get(name)
    return (float(constant.min()), float(constant.max())) if constant is not None and constant.size else None


def _first(graph: Graph, node: Node, low: float, high: float) -> list[Demand]:
    return [(node.inputs[0], low, high)]


def _all(graph: Graph, node: Node, low: float, high: float) -> list[Demand]:
    return [(name, low, high) for name in node.inputs if name]


def _where(graph: Graph, node: Node, low: float, high: float) -> list[Demand]:
    return [(name, low, high) for name in node.inputs[1:3]]


def _half(high: float) -> float:
    return max(ceil(high / 2), 1) if high < inf else inf


def _add(graph: Graph, node: Node, low: float, high: float) -> list[Demand]:
    x, y = node.inputs
    for value, other in ((x, y), (y, x)):
        if ends := _ends(graph, other):
            return [(value, low - ends[0], high - ends[1])]
    half = _half(high)
    return [(x, max(low, 0), half), (y, 0, max(high - half + 1, 1) if high < inf else inf)]


def _sub(graph: Graph, node: Node, low: float, high: float) -> list[Demand]:
    x, y = node.inputs
    if ends := _ends(graph, y):
        return [(x, low + ends[1], high + ends[0])]
    if ends := _ends(graph, x):
        return [(y, ends[1] - high + 1, ends[0] - low + 1)]
    if high == inf:  # x may be as large as it likes, y stays below it
        return [(x, _DEFAULT + low, inf), (y, 0, _DEFAULT)] if low > -inf else []
    if low == -inf:
        return [(x, 0, _DEFAULT), (y, max(_DEFAULT - high, 0), inf)]
    half = _half(high)
    return [(x, half - 1 + max(low, 0), high), (y, 0, half)]


def _neg(graph: Graph, node: Node, low: float, high: float) -> list[Demand]:
    return [(node.inputs[0], 1 - high, 1 - low)]


def _mul(graph: Graph, node: Node, low: float, high: float) -> list[Demand]:
    x, y = node.inputs
    for value, other in ((x, y), (y, x)):
        if ends := _ends(graph, other):
            least, most = ends
            met = most > 0 and (least > 0 if low > 0 else least >= 0)
            return [(value, low / (least if low > 0 else most), high / most)] if met else []
    root = max(high, 1.0) ** 0.5
    return [(x, max(low, 0) ** 0.5, root), (y, max(low, 0) ** 0.5, root)]


def _div(graph: Graph, node: Node, low: float, high: float) -> list[Demand]:
    ends = _ends(graph, node.inputs[1])
    if ends is None:
        return [(node.inputs[0], low, high)]
    return [(node.inputs[0], low * ends[1], high * ends[0])] if ends[0] > 0 else []


def _mod(graph: Graph, node: Node, low: float, high: float) -> list[Demand]:
    ends = _ends(graph, node.inputs[1])
    return [] if ends is not None and 0 < ends[1] <= high and low <= 0 else [(node.inputs[0], low, high)]


def _clip(graph: Graph, node: Node, low: float, high: float) -> list[Demand]:
    least = _ends(graph, _operand(node, 1)) or (node.attrs.get("min", -inf),) * 2
    most = _ends(graph, _operand(node, 2)) or (node.attrs.get("max", inf),) * 2
    below, above = least[0] < low, most[1] >= high
    return [(node.inputs[0], low if below else -inf, high if above else inf)] if below or above else []


def _rounded(graph: Graph, node: Node, low: float, high: float) -> list[Demand]:
    return [(node.inputs[0], low, high - 0.5)]


def _ceiled(graph: Graph, node: Node, low: float, high: float) -> list[Demand]:
    return [(node.inputs[0], low, high - 1)]


def _sum(graph: Graph, node: Node, low: float, high: float) -> list[Demand]:
    """A sum of n values, each the n-th part."""
    x = node.inputs[0]
    before = prod(_shape(graph, x))
    count = (
        max(_shape(graph, x), default=1)
        if node.op == "CumSum"
        else before // max(prod(_shape(graph, node.outputs[0])), 1)
    )
    return [(x, max(low, 0) / max(count, 1), max(high / max(count, 1), 1))]


_BACK: dict[str, Back] = {
    **dict.fromkeys(
        "Cast Identity Reshape Squeeze Unsqueeze Flatten Transpose Expand Slice Split Tile Gather GatherElements "
        "GatherND Floor Abs Relu ReduceMax ReduceMin ReduceMean DepthToSpace SpaceToDepth "
        "Trilu Pad ReverseSequence".split(),
        _first,
    ),
    **dict.fromkeys(("Concat", "Max", "Min"), _all),
    **dict.fromkeys(("ReduceSum", "CumSum"), _sum),
    "Add": _add,
    "Ceil": _ceiled,
    "Clip": _clip,
    "Div": _div,
    "Mod": _mod,
    "Mul": _mul,
    "Neg": _neg,
    "Round": _rounded,
    "Sub": _sub,
    "Where": _where,
}
