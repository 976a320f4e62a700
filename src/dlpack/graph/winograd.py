"""Winograd's convolution: 3x3 and 5x5 ones with a fraction of the multiplications, where the target says it pays.

F(m x m, r x r) of A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), for r = 3 and
m = 2, 4, 6, and for r = 5 and m = 2, 4: each m x m tile of the output is A^T [(G w G^T) * (B^T d B)] A, where d is the
tile of the input, r - 1 larger; summed over channels, the products are (m + r - 1)^2 matrix products. B depends on
m + r alone. G w G^T is computed when the predictor is made (runtime_c/winograd.h), so that the weights that are stored
and sent stay small; the rest is the operator WinogradConvolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from dlpack.graph.before_joins import before_joins
from dlpack.graph.ir import HALF, Graph, Node
from dlpack.graph.registry import Builder


@dataclass(frozen=True)
class Layer:
    """A convolution with stride 1 and a `window` of 3x3 or 5x5: input channels, output channels and output size, over
    a batch.

    `weights` is its weights' name in the graph. `halves`: it computes in float16. `groups`: it is one of so many, each
    with channels of its own. `tile`: the m that it has if it is Winograd's, where that is known; 0 where it is not.
    `integers`: it multiplies integers of 8 bits, which Winograd's do as ones of 16.
    """

    batch: int
    inputs: int
    outputs: int
    height: int
    width: int
    weights: str = ""
    halves: bool = False
    window: int = 3
    groups: int = 1
    tile: int = 0
    integers: bool = False


MOST_GROUPS = 8
"""A convolution of more groups stays one kernel."""

ChooseTile = Callable[[Layer], int]
"""The m of F(m x m, r x r) for a layer: 2, 4 or, of 3x3, 6; 0 for the direct convolution."""


def winograd(graph: Graph, choose_tile: ChooseTile) -> Graph:
    """Replaces the convolutions for which `choose_tile(layer)` is not 0."""
    producers = graph.producers()
    nodes: list[Node] = []
    replaced: list[Layer] = []
    constants, types, derived = dict(graph.constants), dict(graph.types), dict(graph.derived)
    for node in graph.nodes:
        layer = _layer(node, graph)
        tile = choose_tile(layer) if layer is not None else 0
        if layer is None or not tile:
            nodes.append(node)
            continue
        replaced.append(layer)
        builder = Builder(replace(graph, constants=constants, types=types), node)
        derived.update(_replace(node, layer, tile, producers, builder))
        nodes.extend(builder.nodes)
        constants.update(builder.constants)
        types.update(builder.types)
    # What padded the input of a convolution that pads for itself now may have no reader left.
    read = {*graph.outputs, *(i for node in nodes for i in node.inputs)}
    kept = tuple(n for n in nodes if n.domain != "dlpack" or n.op != "Pad" or n.outputs[0] in read)
    new = replace(graph, nodes=kept, constants=constants, types=types, derived=derived)
    return before_joins(new) if any(layer.groups > 1 for layer in replaced) else new


def _layer(node: Node, graph: Graph) -> Layer | None:
    if node.op != "Convolution" or node.inputs[1] not in graph.constants:
        return None
    out, w = graph.types[node.outputs[0]], graph.types[node.inputs[1]]
    if len(out.shape) != 4:
        return None
    groups, most = node.attrs["group"], 1 if graph.opens else MOST_GROUPS
    plain = node.attrs["strides"] == (1, 1) and node.attrs["dilations"] == (1, 1) and groups <= most
    types = {graph.types[v].dtype for v in (*node.inputs, node.outputs[0])}
    (n, outputs, height, width), halves = out.shape, types == {HALF}
    layer = Layer(n, w.shape[1], outputs // groups, height, width, node.inputs[1], halves, w.shape[2], groups)
    if not plain or w.shape[2:] not in ((3, 3), (5, 5)) or types not in ({"float32"}, {HALF}):
        return replace(layer, integers=True) if plain and _has_integers(node, graph, layer) else None
    return layer


def _has_integers(node: Node, graph: Graph, layer: Layer) -> bool:
    """Whether it multiplies unsigned integers of 8 bits by signed ones, and its sums stay right where 64 times them
    wraps at 32 bits."""
    kinds = [graph.types[v].dtype for v in (*node.inputs, node.outputs[0])]
    if kinds != ["uint8", "int8", "int32"] or layer.window != 3 or layer.groups > 1 or graph.opens:
        return False
    weights = graph.constants[node.inputs[1]].astype(np.int64)
    sums = [255 * np.maximum(sign * weights, 0).sum(axis=(1, 2, 3)).max() for sign in (1, -1)]
    return layer.inputs % 2 == 0 and max(sums) < 1 << 25


def _replace(node: Node, layer: Layer, tile: int, producers: dict[str, Node], b: Builder) -> dict[str, str]:
    """Returns the names of the transformed weights, with those of the weights."""
    x, w = _widened(node, layer, tile, producers, b), node.inputs[1]
    if layer.groups == 1:
        return {_convolution(x, layer, tile, b, node.outputs[0])[1]: w}
    c, o, derived, parts = layer.inputs, layer.outputs, {}, []
    for k in range(layer.groups):
        shape = list(b.type_of(x).shape)
        shape[1] = c
        bounds = [b.constant(np.array([v], np.int64)) for v in (k * c, (k + 1) * c, 1)]
        part, transformed = _convolution(b.add("Slice", [x, *bounds], shape), layer, tile, b)
        derived[transformed] = b.constant(b.graph.constants[w][k * o : (k + 1) * o], f"weights{k}")
        parts.append(part)
    b.add("Concat", parts, b.graph.types[node.outputs[0]].shape, output=node.outputs[0], axis=1)
    return derived


def _widened(node: Node, layer: Layer, tile: int, producers: dict[str, Node], b: Builder) -> str:
    """The input with what whole tiles need."""
    n, c = layer.batch, layer.inputs * layer.groups
    rows, columns = -(-layer.height // tile), -(-layer.width // tile)
    beyond = layer.window - 1
    wide = [n, c, rows * tile + beyond, columns * tile + beyond]
    x = node.inputs[0]
    if b.graph.opens:  # in any size, as many rows and columns as tiles may need more
        wide = [n, c, layer.height + tile + beyond - 1, layer.width + tile + beyond - 1]
    extra = [w - s for w, s in zip(wide, b.type_of(x).shape, strict=True)]
    if any(extra):
        low, fill = (0,) * 4, 0.0
        pad = producers.get(x)
        pads = pad is not None and pad.op == "Pad" and pad.domain == "dlpack"
        if pad is not None and pads and (pad.attrs["fill"] == 0.0 or layer.integers):  # what is beyond is not stored
            x, low, fill = pad.inputs[0], pad.attrs["low"], pad.attrs["fill"]
            extra = [e + h for e, h in zip(extra, pad.attrs["high"], strict=True)]
        x = b.add_internal("Pad", [x], wide, low=low, high=tuple(extra), fill=fill, at_least_zero=False)
    return x


def _convolution(x: str, layer: Layer, tile: int, b: Builder, output: str | None = None) -> tuple[str, str]:
    """The names of what is computed and of the transformed weights."""
    n, c, o = layer.batch, layer.inputs, layer.outputs
    number = np.int16(0) if layer.integers else np.float16(np.nan) if layer.halves else np.float32(np.nan)
    edge = tile + layer.window - 1
    u = b.constant(np.broadcast_to(number, (edge, edge, c, o)), "winograd")
    b.types[u] = replace(b.types[u], dtype="int16" if layer.integers else HALF if layer.halves else "float32")
    y = b.add_internal(
        "WinogradConvolution",
        [x, u],
        [n, o, layer.height, layer.width],
        output=output,
        dtype="int32" if layer.integers else None,
        height=layer.height,
        width=layer.width,
        window=layer.window,
        macs=n * layer.height * layer.width * c * o * layer.window**2,
    )
    return y, u
