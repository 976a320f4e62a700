"""Pictures of any size within bounds: one graph at a size a little above the largest, and which extents are functions
of a run's size.

The functions follow from the operators (`with_sizes`), node by node; what would depend on the size in another way is
refused by name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf, prod
from typing import Any

import numpy as np

from dlpack.errors import UnsupportedError
from dlpack.graph.ir import Graph, Node, Sizes, TensorType
from dlpack.graph.opened import with_lengths
from dlpack.graph.picture_constants import constants_of_a_run, varies
from dlpack.graph.picture_groups import plain_groups
from dlpack.graph.picture_node import PictureNode, Witness, is_open, told
from dlpack.graph.picture_rules import REPLACED, average, enlarged
from dlpack.graph.picture_sizes import input_sizes, with_sizes
from dlpack.graph.picture_tokens import Tokens
from dlpack.graph.registry import Builder, find
from dlpack.graph.rewrite import rewrite
from dlpack.graph.spread import dense_outputs, spread_inputs
from dlpack.loops.sizes import Size

TILE_ROWS = {12: 0.0, 8: 0.0, 6: 0.5, 4: 1.0, 3: 2.0, 2: 3.0, 1: 5.0}
"""Heights of register tiles, of which the rows of a picture should be a multiple, and how much worse they are."""

WINOGRAD = 4
"""Rows of a tile of Winograd's convolution, of which two are computed together."""

REACH = 192
"""By how much the graph's size may be above the largest."""


def open_pictures(
    clean: Callable[..., Graph], dims: Mapping[str, Sequence[int]], bounds: Sequence[tuple[int, int, int]]
) -> Graph:
    """The graph whose kernels do pictures of any size; `clean` gives that of a size.

    `dims` has the open dimensions of each input, `bounds` the smallest and largest size of each, and the step from one
    to the next. Raises UnsupportedError, which names the node, where that cannot be.
    """
    steps = [step if low % step == 0 else 1 for low, _, step in bounds]
    ways = [([1] * len(bounds), False), *([(steps, False)] if max(steps) > 1 else [])]
    ways += [(units, True) for units, _ in ways if len(bounds) == 1]
    for units, joined in ways[:-1]:
        with contextlib.suppress(UnsupportedError):
            return _opened(clean, dims, bounds, units, joined)
    return _opened(clean, dims, bounds, *ways[-1])


def _opened(
    clean: Callable[..., Graph],
    dims: Mapping[str, Sequence[int]],
    bounds: Sequence[tuple[int, int, int]],
    units: Sequence[int],
    joined: bool,
) -> Graph:
    """The graph of any size that is a multiple of its unit; `joined` as for `for_any_size`."""
    opens = {
        name: {d: Size(axis, times=units[axis]) for axis, d in enumerate(own) if d >= 0} for name, own in dims.items()
    }
    largest = clean(*(high for _, high, _ in bounds))
    others: list[Witness] = []
    problem: UnsupportedError | None = None
    for other in _other_sizes(largest, bounds):
        try:
            some = clean(*other)
        except UnsupportedError as e:
            problem = e  # what is found below says it better
            continue
        others.append(Witness(some, tuple(n // u for n, u in zip(other, units, strict=True))))
    own = Witness(largest, tuple(b[1] // u for b, u in zip(bounds, units, strict=True)))
    found = with_sizes(rewrite(for_any_size(replace(largest, opens=opens), (own, *others), joined)))
    if problem:
        raise problem
    numbers = [_number(found, axis, b[1] // u) for axis, (b, u) in enumerate(zip(bounds, units, strict=True))]
    whole = clean(*(n * u for n, u in zip(numbers, units, strict=True)))
    graph = for_any_size(replace(whole, opens=opens), (Witness(whole, tuple(numbers)), own, *others), joined)
    sizes = {v: t.sizes for v, t in with_sizes(rewrite(graph)).types.items()}
    for w in others:
        _compare(w.graph, whole, graph, sizes, w.numbers)
    return replace(graph, smallest=tuple(b[0] // u for b, u in zip(bounds, units, strict=True)))


def _other_sizes(graph: Graph, bounds: Sequence[tuple[int, int, int]]) -> list[tuple[int, ...]]:
    """Sizes at which the model is compared with the functions; more where functions are found by what they give.

    Height and width differ in some, so that one is not taken for the other where their bounds are the same.
    """
    found = [tuple(low for low, _, _ in bounds), tuple(high - step for _, high, step in bounds)]
    if len(bounds) > 1:
        found.append((bounds[0][1], *(low for low, _, _ in bounds[1:])))
    if any(n.op in ("Resize", "Upsample", "Expand") for n in graph.nodes):
        for k in range(len(_APART)):
            steps = [_APART[(k + axis) % len(_APART)] for axis in range(len(bounds))]
            found.append(tuple(min(low + k * step, high) for k, (low, high, step) in zip(steps, bounds, strict=True)))
    return list(dict.fromkeys(found))


_APART = (1, 2, 3, 5, 7, 12)
"""Steps above the smallest size at which functions with different divisors differ."""


def _number(graph: Graph, axis: int, largest: int) -> int:
    """The size, in steps, that the graph is made for: where much is computed, rows are a multiple of a tile's."""
    work: dict[Size, int] = {}
    for node in graph.nodes:
        t = graph.types[node.outputs[0]]
        products = prod(graph.types[node.inputs[1]].shape[1:]) if node.op == "Convolution" else 1
        for s in t.sizes:
            if s and s.axis == axis and s.columns is None and node.op != "Pad":
                work[s] = work.get(s, 0) + t.size * products

    def cost(n: int) -> float:
        worse = 0.0
        for s, w in work.items():
            rows = s.at(n)
            worse += w * min(more for height, more in TILE_ROWS.items() if rows % height == 0)
            worse += w * (axis == 0 and rows > 2 * WINOGRAD and -(-rows // WINOGRAD) % 2)
        return worse / max(1, sum(work.values())) + 2 * (n - largest) / largest

    return min(range(largest, largest + min(REACH, max(12, largest // 4)) + 1), key=cost)


def _compare(some: Graph, whole: Graph, graph: Graph, sizes: Mapping[str, Sizes], numbers: Sequence[int]) -> None:
    """Whether the model at another size is what the functions say, and no constant that the graph of any size still has
    is another there."""
    if [(n.op, n.inputs, n.outputs) for n in some.nodes] != [(n.op, n.inputs, n.outputs) for n in whole.nodes]:
        raise UnsupportedError("the model has other nodes in another size")
    resized = {i for n in whole.nodes if n.op in ("Resize", "Upsample", "Reshape", "Expand") for i in n.inputs[1:]}
    for a, b in zip(some.nodes, whole.nodes, strict=True):
        if repr(sorted(a.attrs.items())) != repr(sorted(b.attrs.items())) or a.body is not None:
            raise UnsupportedError(told(b, "depends on the open dimension in another way than by its inputs' sizes"))
    read = {i for n in graph.nodes for i in n.inputs}
    for name, c in whole.constants.items():
        if name in resized or name not in read or graph.types[name].sizes:
            continue
        if not np.array_equal(c, some.constants[name], equal_nan=c.dtype.kind == "f"):
            raise UnsupportedError(f"the constant '{name}' is computed from the open dimension")
    made = {o for n in graph.nodes for o in n.outputs}
    for name, t in whole.types.items():
        if name not in read and name not in made:
            continue
        own = sizes.get(name, ()) or (None,) * len(t.shape)
        shape = tuple(n if s is None else s.in_run(numbers) for n, s in zip(t.shape, own, strict=True))
        if name in sizes and some.types[name].shape != shape:
            raise UnsupportedError(f"'{name}' is {some.types[name]}, and not {_text(shape)}, in another size")
        if 0 in some.types[name].shape:
            raise UnsupportedError(f"'{name}' is empty in the smallest size")


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


# --- what of the model's operators does not depend on the size -----------------------------------------------------


def for_any_size(graph: Graph, witnesses: Sequence[Witness], joined: bool) -> Graph:
    """The graph with means that count at run time, and pools whose borders are those of all sizes.

    `witnesses`: the model at some sizes, this graph first, which say what sizes of Resize follow from. `joined`: pixels
    may become one dimension by a step of the run also where rows have a fixed width.
    Raises UnsupportedError for operators whose kernels would be others in another size.
    """
    sizes: dict[str, Sizes] = {name: input_sizes(graph, name) for name in graph.inputs}
    graph = plain_groups(graph, _open_values(graph))
    tokens = Tokens(graph.types, witnesses, joined)
    nodes: list[Node] = []
    constants, types = dict(graph.constants), dict(graph.types)
    for node in graph.nodes:
        now = replace(graph, constants=constants, types=types)
        opened = any(is_open(sizes.get(i, ())) for i in node.inputs)
        if not opened and not enlarged(node, witnesses) and not varies(node, witnesses):
            nodes.append(node)
            continue
        builder, known = _in_a_form(node, now, sizes, witnesses, tokens)
        constants.update(builder.constants)
        types.update(builder.types)
        sizes |= known
        nodes.extend(builder.nodes)
    return replace(graph, nodes=tuple(nodes), constants=constants, types=types)


def _in_a_form(
    node: Node, now: Graph, sizes: Mapping[str, Sizes], witnesses: Sequence[Witness], tokens: Tokens
) -> tuple[Builder, dict[str, Sizes]]:
    """What stands for a node, and what a run has of its outputs, and of its inputs where these are other values."""
    problem: UnsupportedError | None = None
    for form in tokens.forms(node, sizes):
        types = {**now.types, **{o: tokens.type_of(o, bool(form.as_lengths)) for o in node.outputs if o}}
        builder = Builder(replace(now, types=types), node)
        try:
            own, known = tokens.turn(form, node, sizes, builder)
            graph = replace(now, types={**types, **builder.types})
            n = PictureNode(own, graph, {**sizes, **known}, witnesses)
            tables: dict[str, Sizes] = {}
            if not form.as_lengths:
                own, tables = constants_of_a_run(n, builder)
                builder.types |= {i: replace(builder.type_of(i), sizes=s) for i, s in tables.items()}
                graph = replace(graph, types={**graph.types, **builder.types})
                n = PictureNode(own, graph, {**sizes, **known, **tables}, witnesses)
            if (own.op in _COUNTED and not form.as_lengths) or not tokens.add(n, builder):
                _any_size(n, builder)
            whole = replace(now, types={**types, **builder.types}, constants={**now.constants, **builder.constants})
            made = rewrite(_alone(whole, builder.nodes, node))
            made = with_sizes(made, {**sizes, **known}, tokens.sizes)
        except UnsupportedError as e:
            problem = problem or e
            continue
        tokens.turned = form.turned
        return builder, known | {v: t.sizes for v, t in made.types.items() if v in node.outputs}
    assert problem is not None
    raise problem


def _open_values(graph: Graph) -> dict[str, None]:
    """What depends on an open input."""
    found = dict.fromkeys(name for name in graph.inputs if name in graph.opens)
    for node in graph.nodes:
        if any(i in found for i in node.inputs):
            found |= dict.fromkeys(node.outputs)
    return found


def _alone(graph: Graph, nodes: Sequence[Node], node: Node) -> Graph:
    """Nodes as a graph of their own."""
    outputs = tuple(o for o in node.outputs if o)
    inputs = tuple(dict.fromkeys(i for i in node.inputs if i and i not in graph.constants))
    return replace(graph, inputs=inputs, outputs=outputs, nodes=tuple(nodes))


_AVERAGES = ("GlobalAveragePool", "ReduceMean")
_COUNTED = (*_AVERAGES, "InstanceNormalization", "GroupNormalization")
"""Operators that count elements, for which a step of the run does."""

_AS_THEY_ARE = (
    "Conv", "GlobalMaxPool", "Transpose", "Concat", "BatchNormalization",
    "Identity", "Split", "Slice", "ConvTranspose", "Reshape", "DepthToSpace", "SpaceToDepth",
    "ReduceLogSumExp", "Unsqueeze", "Squeeze", "MatMul", "QuantizeLinear", "DequantizeLinear", "Flatten", "Gemm",
)  # fmt: skip
"""Operators that become the same nodes in every size, besides the pointwise ones."""


def _any_size(n: PictureNode, b: Builder) -> None:
    """Adds what replaces a node."""
    node = n.node
    operator = find(node)
    if node.op in _AVERAGES and node.domain in ("", "ai.onnx"):
        _mean(n, b)
        return
    if node.op in ("MaxPool", "AveragePool"):
        _pool(n, b)
        return
    if node.op in REPLACED and REPLACED[node.op](n, b):
        return
    if node.op not in _AS_THEY_ARE and not (operator is not None and operator.kind == "pointwise"):
        raise n.fail("is no operator that is known to compute pictures of any size")
    if node.op in ("Conv", "ConvTranspose"):
        auto, strides = n.attr("auto_pad", "NOTSET"), n.attr("strides") or [1]
        if auto in ("SAME_UPPER", "SAME_LOWER") and max(strides) > 1:
            raise n.fail("pads by the size of the picture (auto_pad)")
    b.raw(node, [b.type_of(o) if o else TensorType("float32", ()) for o in node.outputs])


def _mean(n: PictureNode, b: Builder) -> None:
    """A sum, and its product with one over the number of elements, which a step of the run computes."""
    t, rank = n.output_type(), len(n.sizes())
    if t.dtype != "float32":
        raise n.fail("averages integers over the open dimension")
    axes = list(range(2, rank)) if n.node.op == "GlobalAveragePool" else n.axes()
    mean = average(b, n.node.inputs[0], axes, n.sizes())
    b.add("Reshape", [mean, b.constant(np.array(t.shape, np.int64), "shape")], t.shape, output=n.node.outputs[0])


def _pool(n: PictureNode, b: Builder) -> None:
    """A pool with all of its pads, of which the last window may not reach the end in some sizes, and with those that
    rounding the size up needs: less than a stride."""
    kernel, pads = tuple(n.attr("kernel_shape")), list(n.attr("pads") or ())
    count = len(kernel)
    pads = pads or [0] * (2 * count)
    strides, dilations = (tuple(n.attr(key) or [1] * count) for key in ("strides", "dilations"))
    up, largest = bool(n.attr("ceil_mode", 0)), n.node.op == "MaxPool"
    if up and (any(pads) or not largest or any(k < s for k, s in zip(kernel, strides, strict=True))):
        raise n.fail("rounds its size up (ceil_mode), which is supported for maxima without pads")
    if any(pads) and not largest and not n.attr("count_include_pad", 0):
        raise n.fail("divides by another number at the border, which the size moves")
    if n.attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or len(n.node.outputs) > 1:
        raise n.fail("pads by the size of the picture, or says where its maxima are")
    x, out, dtype = n.input_type(0).shape, n.output_type().shape, n.input_type(0).dtype
    if dtype != "float32":
        raise n.fail(f"is of {dtype}, and pictures of any size are of float32")
    low, high = (0, 0, *pads[:count]), [0, 0, *pads[count:]]
    for d in range(count if up else 0):
        rest = (out[2 + d] - 1) * strides[d] + (kernel[d] - 1) * dilations[d] + 1 - x[2 + d]
        high[2 + d] = strides[d] - 1 if n.sizes()[2 + d] else max(0, rest)
    padded = n.node.inputs[0]
    if any((*low, *high)):
        shape = [m + a + h for m, a, h in zip(x, low, high, strict=True)]
        fill = -inf if largest else 0.0
        padded = b.add_internal("Pad", [padded], shape, low=low, high=tuple(high), fill=fill, at_least_zero=largest)
    window: dict[str, Any] = {"kernel": kernel, "strides": strides, "dilations": dilations}
    name = n.node.outputs[0]
    pooled = b.add_internal("PoolMax" if largest else "PoolSum", [padded], out, name if largest else None, **window)
    if not largest:
        b.add("Mul", [pooled, b.constant(np.asarray(1 / prod(kernel), np.float32), "factor")], out, output=name)


# --- for the compiler ----------------------------------------------------------------------------------------------


def with_borders(graph: Graph) -> Graph:
    """The graph, of operators that have kernels, with the sizes of its values, and its open inputs and outputs, which
    are dense, copied from and to values of constant strides."""
    graph = spread_inputs(graph, [name for name in graph.inputs if name in graph.opens])
    graph = with_lengths(graph) if graph.open else with_sizes(graph)
    return dense_outputs(graph, [name for name in graph.outputs if is_open(graph.types[name].sizes)])
