"""What the extents of a graph's values are in a run, where there are pictures of any size: node by node, from those of
the inputs (graph/pictures.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from dlpack.graph.ir import Graph, Sizes
from dlpack.graph.picture_node import PictureNode, is_open
from dlpack.graph.picture_rules import reshaped
from dlpack.graph.registry import find, slice_of
from dlpack.loops.sizes import Size


def input_sizes(graph: Graph, name: str) -> Sizes:
    """What a run has of the dimensions of an input."""
    own = graph.opens.get(name, {})
    return tuple(own.get(d) for d in range(len(graph.types[name].shape))) if own else ()


def with_sizes(
    graph: Graph, known: Mapping[str, Sizes] | None = None, tokens: Mapping[int, Size] | None = None
) -> Graph:
    """The graph, of operators that have kernels, with the sizes of all values in their types.

    `known`: those of its inputs; else they follow from `opens`. `tokens`: what a run has of dimensions that are all
    pixels of a picture, or one side as a length, by their extent; more follow from nodes.
    """
    extents = dict(tokens or {})
    sizes = {name: (known or {}).get(name, ()) if known else input_sizes(graph, name) for name in graph.inputs}
    sizes |= {name: t.sizes for name in graph.constants if (t := graph.types.get(name)) and t.sizes}
    for node in graph.nodes:
        n = PictureNode(node, graph, sizes)
        if node.op == "Taps" and node.domain == "dlpack":
            sizes |= {o: (node.attrs["to"], None) for o in node.outputs}
            continue
        opens = (node.attrs.get("to"), *(s for k in range(len(node.inputs)) for s in n.sizes(k)))
        if not is_open(opens):
            continue
        if node.op == "JoinPixels":
            extents[n.output_type().shape[node.attrs["axis"]]] = node.attrs["size"]
        if any(isinstance(s, Size) and s.columns == 1 for s in opens) and node.op != "PartPixels":
            own = (*node.outputs, *(i for i in node.inputs if i in graph.constants))
            sizes |= {v: tuple(map(extents.get, graph.types[v].shape)) for v in own if v}
            continue
        for o in filter(None, node.outputs):
            sizes[o] = _sizes_of(n)
    types = {v: replace(t, sizes=sizes[v]) if is_open(sizes.get(v, ())) else t for v, t in graph.types.items()}
    return replace(graph, types=types)


def _sizes_of(n: PictureNode) -> Sizes:
    node = n.node
    found = {s for k in range(len(node.inputs)) for s in n.sizes(k) if s is not None}
    tokens = any(s.columns is not None for s in found)
    if tokens:
        n.alone(found)
    rule = (_TOKEN_RULES if tokens else _RULES).get(node.op)
    if rule is not None:
        return rule(n)
    operator = find(node)
    if operator is not None and operator.kind == "pointwise":
        return _broadcast(n)
    raise n.fail("is no operator that is known to compute pictures of any size")


def _window(n: PictureNode) -> Sizes:
    kernel = n.input_type(1).shape[2:] if n.node.op == "Convolution" else n.attr("kernel")
    out: list[Size | None] = list(n.sizes()[:2])
    for s, k, stride, dilation in zip(n.sizes()[2:], kernel, n.attr("strides"), n.attr("dilations"), strict=True):
        reached = (s + (-(k - 1) * dilation - 1)) // stride if s is not None else None
        if s is not None and reached is None:
            raise n.fail("has a stride that does not divide an enlarged picture")
        out.append(None if reached is None else reached + 1)
    return tuple(out)


def _pad(n: PictureNode) -> Sizes:
    low, high = n.attr("low"), n.attr("high")
    return tuple(None if s is None else s + (a + b) for s, a, b in zip(n.sizes(), low, high, strict=True))


def _broadcast(n: PictureNode) -> Sizes:
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


def _concat(n: PictureNode) -> Sizes:
    axis, *before, last = int(n.attr("axis", 0)) % len(n.sizes()), *(n.sizes(k) for k in range(len(n.node.inputs)))
    if any(sizes[axis] for sizes in before):
        raise n.fail("joins along the open dimension, which may come last")
    if len({(*sizes[:axis], *sizes[axis + 1 :]) for sizes in (*before, last)}) > 1:
        raise n.fail(_UNEQUAL)
    first = sum(n.input_type(k).shape[axis] for k in range(len(before)))
    return tuple(s + first if s is not None and d == axis else s for d, s in enumerate(last))


def _repeat(n: PictureNode) -> Sizes:
    axis = n.attr("axis")
    return tuple(s * n.attr("factor") if s is not None and d == axis else s for d, s in enumerate(n.sizes()))


def _interleave(n: PictureNode) -> Sizes:
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


def _same(n: PictureNode) -> Sizes:
    return n.sizes()


def _reduced(n: PictureNode) -> Sizes:
    axes, keep = n.attr("axes") or [int(n.attr("axis", 0)) % len(n.sizes())], n.attr("keepdims", 1)
    return tuple(None if d in axes else s for d, s in enumerate(n.sizes()) if keep or d not in axes)


def _product(n: PictureNode) -> Sizes:
    """Of channels, which come last, by the same matrix for all pixels."""
    if n.sizes()[-1] or is_open(n.sizes(1)) or len(n.input_type(1).shape) != 2:
        raise n.fail("sums over the open dimension, or has a matrix that depends on it (as attention over pixels has)")
    return (*n.sizes()[:-1], None)


def _token_product(n: PictureNode) -> Sizes:
    """Of matrices with a row or a column for each pixel."""
    out = n.output_type().shape
    batch: list[Size | None] = [None] * (len(out) - 2)
    for k in range(2):
        own = n.sizes(k)[:-2]
        batch[len(batch) - len(own) :] = [a or b for a, b in zip(own, batch[len(batch) - len(own) :], strict=True)]
    left, right = n.sizes(0), n.sizes(1)
    if left[-1] != right[-2]:
        raise n.fail("sums over all pixels of a picture and a dimension that is not open")
    return (*batch, left[-2], right[-1])


def _joined(n: PictureNode) -> Sizes:
    d = n.attr("axis")
    return (*n.sizes()[:d], n.attr("size"), *n.sizes()[d + len(n.attr("sides")) :])


def _parted(n: PictureNode) -> Sizes:
    d = n.attr("axis")
    sides = (s if isinstance(s, Size) else None for s in n.attr("sides"))
    return (*n.sizes()[:d], *sides, *n.sizes()[d + 1 :])


def _sum_of_powers(n: PictureNode) -> Sizes:
    if any(n.sizes()[a] for a in n.attr("axes")):
        raise n.fail("sums powers over the open dimension")
    return _reduced(n)


def _transposed(n: PictureNode) -> Sizes:
    return tuple(n.sizes()[d] for d in n.attr("perm") or range(len(n.sizes()))[::-1])


def _part(n: PictureNode) -> Sizes:
    """A slice or a part: along other dimensions, or without the first elements, or the last ones, of an open one."""
    old, new = n.input_type(0).shape, n.output_type().shape
    out = list(n.sizes())
    cut = {d for d, (s, a, b) in enumerate(zip(out, old, new, strict=True)) if s is not None and a != b}
    if cut and n.node.op != "Slice":
        raise n.fail("divides the open dimension")
    for start, end, axis, step in zip(*slice_of(n), strict=True) if n.node.op == "Slice" else ():
        size = out[axis]
        if size is not None and (axis in cut or step != 1):
            own = size + (new[axis] - old[axis]) if step == 1 else (size + (step - 1 - start)) // max(step, 1)
            if step < 1 or start < 0 or 0 <= end < old[axis] or own is None:
                raise n.fail("cuts the open dimension, but for its first or its last elements, or each so many")
            out[axis] = own
    return tuple(out)


def _chosen(n: PictureNode) -> Sizes:
    """Rows of a table, at places that are a picture's or a text's."""
    axis = int(n.attr("axis", 0)) % len(n.sizes())
    return (*n.sizes()[:axis], *n.sizes(1), *n.sizes()[axis + 1 :])


_RULES: dict[str, Callable[[PictureNode], Sizes]] = {
    **dict.fromkeys(("Convolution", "PoolMax", "PoolSum"), _window),
    "WinogradConvolution": lambda n: tuple(
        s and s + -(n.input_type(1).shape[0] - 1) if d > 1 else s for d, s in enumerate(n.sizes())
    ),
    **dict.fromkeys(("GlobalSum", "GlobalMaxPool"), lambda n: (*n.sizes()[:2], *[None] * len(n.sizes()[2:]))),
    **dict.fromkeys(("ReduceSum", "ReduceMax", "ReduceMin", "ArgMax", "ArgMin"), _reduced),
    **dict.fromkeys(("Identity", "Copy", "Spread", "Softmax", "LogSoftmax"), _same),
    **dict.fromkeys(("Slice", "Split"), _part),
    "Pad": _pad,
    **dict.fromkeys(("Reshape", "Unsqueeze", "Squeeze"), reshaped),
    "NormalizeRows": _same,
    "LogSumExp": _sum_of_powers,
    "MatMul": _product,
    "Gather": _chosen,
    "Concat": _concat,
    "FollowTaps": lambda n: tuple(n.attr("to") if d == n.attr("axis") else s for d, s in enumerate(n.sizes())),
    "Repeat": _repeat,
    "Interleave": _interleave,
    "Transpose": _transposed,
    "JoinPixels": _joined,
}

_TOKEN_RULES: dict[str, Callable[[PictureNode], Sizes]] = {
    **dict.fromkeys(("ReduceSum", "ReduceMax", "ReduceMin", "LogSumExp"), _reduced),
    **dict.fromkeys(("Identity", "Copy", "Softmax", "LogSoftmax", "NormalizeRows"), _same),
    **dict.fromkeys(("Slice", "Split"), _part),
    **dict.fromkeys(("Reshape", "Unsqueeze", "Squeeze", "Flatten"), reshaped),
    **{op: _RULES[op] for op in ("GlobalSum", "GlobalMaxPool", "Transpose", "Concat", "ArgMax", "ArgMin")},
    "Expand": _broadcast,
    "MatMul": _token_product,
    "PartPixels": _parted,
}
"""Those for values that have all pixels of a picture as one dimension."""
