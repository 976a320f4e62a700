"""Pictures of any size within bounds: one graph at a size a little above the largest, and which extents are functions
of a run's size.

The functions follow from the operators (`with_sizes`), node by node; what would depend on the size in another way is
refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf, prod
from typing import Any

import numpy as np

from dlpack.errors import UnsupportedError
from dlpack.graph.ir import Graph, Node, Sizes, TensorType
from dlpack.graph.registry import Builder, Context, find
from dlpack.graph.rewrite import rewrite
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
    try:
        return _opened(clean, dims, bounds, [1] * len(bounds))
    except UnsupportedError:
        units = [step if low % step == 0 else 1 for low, _, step in bounds]
        if max(units) == 1:
            raise
        return _opened(clean, dims, bounds, units)


def _opened(
    clean: Callable[..., Graph],
    dims: Mapping[str, Sequence[int]],
    bounds: Sequence[tuple[int, int, int]],
    units: Sequence[int],
) -> Graph:
    """The graph of any size that is a multiple of its unit."""
    opens = {name: {d: Size(axis, times=units[axis]) for axis, d in enumerate(own)} for name, own in dims.items()}
    largest = clean(*(high for _, high, _ in bounds))
    found = with_sizes(rewrite(for_any_size(replace(largest, opens=opens))))
    numbers = [_number(found, axis, b[1] // u) for axis, (b, u) in enumerate(zip(bounds, units, strict=True))]
    whole = clean(*(n * u for n, u in zip(numbers, units, strict=True)))
    graph = for_any_size(replace(whole, opens=opens))
    sizes = {v: t.sizes for v, t in with_sizes(rewrite(graph)).types.items()}
    for lower in (True, False):
        other = [b[0] if lower else b[1] - b[2] for b in bounds]
        _compare(clean(*other), whole, sizes, [n // u for n, u in zip(other, units, strict=True)])
    return graph


def _number(graph: Graph, axis: int, largest: int) -> int:
    """The size, in steps, that the graph is made for: where much is computed, rows are a multiple of a tile's."""
    work: dict[Size, int] = {}
    for node in graph.nodes:
        t = graph.types[node.outputs[0]]
        products = prod(graph.types[node.inputs[1]].shape[1:]) if node.op == "Convolution" else 1
        for s in t.sizes:
            if s and s.axis == axis and node.op != "Pad":
                work[s] = work.get(s, 0) + t.size * products

    def cost(n: int) -> float:
        worse = 0.0
        for s, w in work.items():
            rows = s.at(n)
            worse += w * min(more for height, more in TILE_ROWS.items() if rows % height == 0)
            worse += w * (axis == 0 and rows > 2 * WINOGRAD and -(-rows // WINOGRAD) % 2)
        return worse / max(1, sum(work.values())) + 2 * (n - largest) / largest

    return min(range(largest, largest + min(REACH, max(12, largest // 4)) + 1), key=cost)


def _compare(some: Graph, whole: Graph, sizes: Mapping[str, Sizes], numbers: Sequence[int]) -> None:
    """Whether the model at another size is what the functions say."""
    if [(n.op, n.inputs, n.outputs) for n in some.nodes] != [(n.op, n.inputs, n.outputs) for n in whole.nodes]:
        raise UnsupportedError("the model has other nodes in another size")
    resized = {i for n in whole.nodes if n.op in ("Resize", "Upsample") for i in n.inputs[1:]}
    for a, b in zip(some.nodes, whole.nodes, strict=True):
        if repr(sorted(a.attrs.items())) != repr(sorted(b.attrs.items())) or a.body is not None:
            raise UnsupportedError(_of(b, "depends on the open dimension in another way than by its inputs' sizes"))
    for name, c in whole.constants.items():
        if name not in resized and not np.array_equal(c, some.constants[name], equal_nan=c.dtype.kind == "f"):
            raise UnsupportedError(f"the constant '{name}' is computed from the open dimension")
    for name, t in whole.types.items():
        own = sizes.get(name, ()) or (None,) * len(t.shape)
        shape = tuple(n if s is None else s.at(numbers[s.axis]) for n, s in zip(t.shape, own, strict=True))
        if name in sizes and some.types[name].shape != shape:
            raise UnsupportedError(f"'{name}' is {some.types[name]}, and not {_text(shape)}, in another size")
        if 0 in some.types[name].shape:
            raise UnsupportedError(f"'{name}' is empty in the smallest size")


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _of(node: Node, text: str) -> str:
    return f"{node.op} '{(node.sources or (node.name or node.outputs[0],))[0]}' {text}"


# --- what of the model's operators does not depend on the size -----------------------------------------------------


def for_any_size(graph: Graph) -> Graph:
    """The graph with means that count at run time, and pools whose borders are those of all sizes.

    Raises UnsupportedError for operators whose kernels would be others in another size.
    """
    sizes: dict[str, Sizes] = {name: _input_sizes(graph, name) for name in graph.inputs}
    nodes: list[Node] = []
    constants, types = dict(graph.constants), dict(graph.types)
    for node in graph.nodes:
        now = replace(graph, constants=constants, types=types)
        if not any(_is_open(sizes.get(i, ())) for i in node.inputs):
            nodes.append(node)
            continue
        builder = Builder(now, node)
        _any_size(_Node(node, now, sizes), builder)
        constants.update(builder.constants)
        types.update(builder.types)
        own = rewrite(_alone(replace(now, constants=constants, types=types), builder.nodes, node))
        sizes |= {v: t.sizes for v, t in with_sizes(own, sizes).types.items() if v in node.outputs}
        nodes.extend(builder.nodes)
    return replace(graph, nodes=tuple(nodes), constants=constants, types=types)


def _alone(graph: Graph, nodes: Sequence[Node], node: Node) -> Graph:
    """Nodes as a graph of their own."""
    outputs = tuple(o for o in node.outputs if o)
    inputs = tuple(dict.fromkeys(i for i in node.inputs if i and i not in graph.constants))
    return replace(graph, inputs=inputs, outputs=outputs, nodes=tuple(nodes))


def _input_sizes(graph: Graph, name: str) -> Sizes:
    own = graph.opens.get(name, {})
    return tuple(own.get(d) for d in range(len(graph.types[name].shape))) if own else ()


def _is_open(sizes: Sizes) -> bool:
    return any(s is not None for s in sizes)


class _Node(Context):
    """A node, and what is known of its inputs' sizes."""

    def __init__(self, node: Node, graph: Graph, sizes: Mapping[str, Sizes]) -> None:
        super().__init__(node, graph)
        object.__setattr__(self, "known", sizes)

    known: Mapping[str, Sizes]

    def sizes(self, i: int = 0) -> Sizes:
        if not self.has_input(i):
            return ()
        return self.known.get(self.node.inputs[i], ()) or (None,) * len(self.input_type(i).shape)

    def axes(self) -> list[int]:
        """Those of a reduction, in order."""
        rank, axes = len(self.input_type(0).shape), self.attr("axes")
        if axes is None and self.has_input(1):
            axes = self.ints(1, "axes")
        return sorted({int(a) % rank for a in axes}) if axes else list(range(rank))

    def fail(self, text: str) -> UnsupportedError:
        return UnsupportedError(_of(self.node, text))


_AS_THEY_ARE = (
    "Conv", "GlobalMaxPool", "ReduceSum", "ReduceMax", "ReduceMin", "Transpose", "Concat", "BatchNormalization",
    "Identity", "Softmax", "LogSoftmax", "Split", "Slice", "ConvTranspose",
)  # fmt: skip
"""Operators that become the same nodes in every size, besides the pointwise ones."""


def _any_size(n: _Node, b: Builder) -> None:
    """Adds what replaces a node."""
    node = n.node
    operator = find(node)
    if node.op in ("GlobalAveragePool", "ReduceMean") and node.domain in ("", "ai.onnx"):
        _mean(n, b)
        return
    if node.op in ("MaxPool", "AveragePool"):
        _pool(n, b)
        return
    if node.op in ("Resize", "Upsample"):
        _check_resize(n)
    elif node.op in ("Softmax", "LogSoftmax"):
        axis = int(n.attr("axis", -1 if node.opset >= 13 else 1)) % len(n.sizes())
        if n.sizes()[axis] or (node.opset < 13 and _is_open(n.sizes()[axis:])):
            raise n.fail("works along the open dimension")
    elif node.op not in _AS_THEY_ARE and not (operator is not None and operator.kind == "pointwise"):
        raise n.fail("is no operator that is known to compute pictures of any size")
    if node.op in ("Conv", "ConvTranspose"):
        auto, strides = n.attr("auto_pad", "NOTSET"), n.attr("strides") or [1]
        if auto in ("SAME_UPPER", "SAME_LOWER") and max(strides) > 1:
            raise n.fail("pads by the size of the picture (auto_pad)")
    b.raw(node, [b.type_of(o) if o else TensorType("float32", ()) for o in node.outputs])


def _mean(n: _Node, b: Builder) -> None:
    """A sum, and its product with one over the number of elements, which a step of the run computes."""
    t, x, shape = n.output_type(), n.node.inputs[0], n.input_type(0).shape
    if t.dtype != "float32":
        raise n.fail("averages integers over the open dimension")
    spatial = list(range(2, len(shape)))
    axes = spatial if n.node.op == "GlobalAveragePool" else n.axes()
    own = [n.sizes()[a] for a in axes]
    if axes == spatial:
        total = b.add_internal("GlobalSum", [x], [*shape[:2], *[1] * len(spatial)])
        if len(t.shape) == 2:
            total = b.add("Reshape", [total, b.constant(np.array(t.shape, np.int64), "shape")], t.shape)
    else:
        keep = int(n.attr("keepdims", 1))
        total = b.add_internal("ReduceSum", [x], t.shape, axes=tuple(axes), keepdims=keep, of="")
    if not any(own):
        factor = b.constant(np.asarray(1.0 / prod(shape[a] for a in axes), t.dtype), "factor")
    else:
        fixed = prod(shape[a] for a, s in zip(axes, own, strict=True) if s is None)
        factor = b.share([s for s in own if s is not None], fixed, len(t.shape))
    b.add("Mul", [total, factor], t.shape, output=n.node.outputs[0])


def _pool(n: _Node, b: Builder) -> None:
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


def _check_resize(n: _Node) -> None:
    mode = n.attr("coordinate_transformation_mode", "half_pixel")
    if n.attr("mode", "nearest") != "nearest" or mode in ("align_corners", "tf_crop_and_resize"):
        raise n.fail("interpolates between pixels along the open dimension")
    for size, a, b in zip(n.sizes(), n.input_type(0).shape, n.output_type().shape, strict=True):
        if size is not None and b % a:
            raise n.fail("enlarges by no whole number along the open dimension")


# --- for the compiler ----------------------------------------------------------------------------------------------


def with_borders(graph: Graph) -> Graph:
    """The graph, of operators that have kernels, with the sizes of its values, and its open inputs and outputs, which
    are dense, copied from and to values of constant strides."""
    types, renamed = dict(graph.types), {}
    first: list[Node] = []
    for name in graph.inputs:
        if name in graph.opens:
            renamed[name] = f"{name}/spread"
            types[renamed[name]] = types[name]
            first.append(Node("Spread", (name,), (renamed[name],), {}, renamed[name], "dlpack", 1, (name,)))
    nodes = [replace(n, inputs=tuple(renamed.get(i, i) for i in n.inputs)) for n in graph.nodes]
    graph = with_sizes(replace(graph, nodes=(*first, *nodes), types=types))
    types, last = dict(graph.types), list[Node]()
    given: dict[str, str] = {}
    for name in graph.outputs:
        if _is_open(types[name].sizes):
            given[name] = f"{name}/spread"
            types[given[name]] = types[name]
            last.append(Node("Dense", (given[name],), (name,), {}, f"{name}/dense", "dlpack", 1, (name,)))
    nodes = [
        replace(
            n,
            inputs=tuple(given.get(i, i) for i in n.inputs),
            outputs=tuple(given.get(o, o) for o in n.outputs),
        )
        for n in graph.nodes
    ]
    return replace(graph, nodes=(*nodes, *last), types=types)


# --- functions of the size -----------------------------------------------------------------------------------------


def with_sizes(graph: Graph, known: Mapping[str, Sizes] | None = None) -> Graph:
    """The graph, of operators that have kernels, with the sizes of all values in their types.

    `known`: those of its inputs; else they follow from `opens`.
    """
    sizes = {name: (known or {}).get(name, ()) if known else _input_sizes(graph, name) for name in graph.inputs}
    for node in graph.nodes:
        n = _Node(node, graph, sizes)
        if not any(_is_open(n.sizes(k)) for k in range(len(node.inputs))):
            continue
        for o in filter(None, node.outputs):
            sizes[o] = _sizes_of(n)
    types = {v: replace(t, sizes=sizes[v]) if _is_open(sizes.get(v, ())) else t for v, t in graph.types.items()}
    return replace(graph, types=types)


def _sizes_of(n: _Node) -> Sizes:
    node = n.node
    rule = _RULES.get(node.op)
    if rule is not None:
        return rule(n)
    operator = find(node)
    if operator is not None and operator.kind == "pointwise":
        return _broadcast(n)
    raise n.fail("is no operator that is known to compute pictures of any size")


def _window(n: _Node) -> Sizes:
    kernel = n.input_type(1).shape[2:] if n.node.op == "Convolution" else n.attr("kernel")
    out: list[Size | None] = list(n.sizes()[:2])
    for s, k, stride, dilation in zip(n.sizes()[2:], kernel, n.attr("strides"), n.attr("dilations"), strict=True):
        reached = (s + (-(k - 1) * dilation - 1)) // stride if s is not None else None
        if s is not None and reached is None:
            raise n.fail("has a stride that does not divide an enlarged picture")
        out.append(None if reached is None else reached + 1)
    return tuple(out)


def _pad(n: _Node) -> Sizes:
    low, high = n.attr("low"), n.attr("high")
    return tuple(None if s is None else s + (a + b) for s, a, b in zip(n.sizes(), low, high, strict=True))


def _broadcast(n: _Node) -> Sizes:
    shape = n.output_type().shape
    out: list[Size | None] = []
    for d in range(-len(shape), 0):
        own: set[Size | None] = set()
        for k in range(len(n.node.inputs)):
            if n.has_input(k) and len(n.input_type(k).shape) >= -d and n.input_type(k).shape[d] != 1:
                own.add(n.sizes(k)[d])
        if len(own) > 1:
            raise n.fail(_UNEQUAL)
        out.append(next(iter(own), None))
    return tuple(out)


_UNEQUAL = (
    "joins values that have equal sizes only for some sizes of the picture: give its sizes in steps, as in 64..512/16"
)


def _concat(n: _Node) -> Sizes:
    axis = int(n.attr("axis", 0)) % len(n.sizes())
    own = {n.sizes(k) for k in range(len(n.node.inputs))}
    if any(sizes[axis] for sizes in own):
        raise n.fail("joins along the open dimension")
    if len(own) > 1:
        raise n.fail(_UNEQUAL)
    return n.sizes()


def _repeat(n: _Node) -> Sizes:
    axis = n.attr("axis")
    return tuple(s * n.attr("factor") if s is not None and d == axis else s for d, s in enumerate(n.sizes()))


def _interleave(n: _Node) -> Sizes:
    own = {n.sizes(k) for k in range(len(n.node.inputs))}
    if len(own) > 1:
        raise n.fail("has phases of several sizes")
    out = n.output_type().shape
    whole = tuple(s if s is None else s * step for s, step in zip(n.sizes()[2:], n.attr("steps"), strict=True))
    if any(
        s is not None and step * m != o
        for s, step, m, o in zip(n.sizes()[2:], n.attr("steps"), n.input_type(0).shape[2:], out[2:], strict=True)
    ):
        raise n.fail("cuts the phases of the open dimension")
    return (*n.sizes()[:2], *whole)


def _same(n: _Node) -> Sizes:
    return n.sizes()


def _reduced(n: _Node) -> Sizes:
    axes, keep = n.attr("axes"), n.attr("keepdims")
    return tuple(None if d in axes else s for d, s in enumerate(n.sizes()) if keep or d not in axes)


def _transposed(n: _Node) -> Sizes:
    return tuple(n.sizes()[d] for d in n.attr("perm") or range(len(n.sizes()))[::-1])


def _part(n: _Node) -> Sizes:
    """A slice or a part: along other dimensions."""
    old, new = n.input_type(0).shape, n.output_type().shape
    if any(s is not None and a != b for s, a, b in zip(n.sizes(), old, new, strict=True)):
        raise n.fail("cuts the open dimension")
    return n.sizes()


_RULES: dict[str, Callable[[_Node], Sizes]] = {
    **dict.fromkeys(("Convolution", "PoolMax", "PoolSum"), _window),
    "WinogradConvolution": lambda n: tuple(
        s and s + -(n.input_type(1).shape[0] - 1) if d > 1 else s for d, s in enumerate(n.sizes())
    ),
    **dict.fromkeys(("GlobalSum", "GlobalMaxPool"), lambda n: (*n.sizes()[:2], *[None] * len(n.sizes()[2:]))),
    **dict.fromkeys(("ReduceSum", "ReduceMax", "ReduceMin"), _reduced),
    **dict.fromkeys(("Identity", "Copy", "Spread", "Softmax", "LogSoftmax"), _same),
    **dict.fromkeys(("Slice", "Split"), _part),
    "Pad": _pad,
    "Concat": _concat,
    "Repeat": _repeat,
    "Interleave": _interleave,
    "Transpose": _transposed,
}
