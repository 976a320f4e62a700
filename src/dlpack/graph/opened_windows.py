"""Convolutions along an open dimension that keep its size, as products of the rows that each window has: those of
networks that have attention, too, and so are no pictures of one side (graph/pictures.py)."""

from __future__ import annotations

import numpy as np

from dlpack.graph.ir import Array
from dlpack.graph.opened_node import OpenNode
from dlpack.graph.registry import Builder
from dlpack.loops.sizes import EXTENT, Size


def convolution(n: OpenNode, b: Builder) -> bool:
    """Conv of x [1, C, n] with constant weights [M, C / group, k], of stride 1 and as many outputs."""
    t, shape, w = n.output_type(), n.input_type(0).shape, n.maybe_constant(1)
    if len(shape) != 3 or n.dims(0) != [-1] or w is None:
        return False
    window, strides, group = w.shape[2], n.attr("strides") or [1], int(n.attr("group", 1))
    if t.shape[-1] != shape[-1] or list(strides) != [1]:
        raise n.fail("changes the number of elements along the open dimension")
    batch, channels, extent = shape
    outputs, dilation = t.shape[1], int((n.attr("dilations") or [1])[0])
    rows = b.add("Transpose", [n.node.inputs[0]], [batch, extent, channels], perm=[0, 2, 1])
    taps = _taps(b, rows, _low(n, window, dilation), window, dilation)
    by_row = w.transpose(2, 1, 0)  # [k, C / group, M]
    if group == channels == outputs:
        products = b.add("Mul", [taps, b.constant(by_row[:, 0], "weights")], b.type_of(taps).shape)
        y = b.add("ReduceSum", [products, b.constant(np.array([2], np.int64), "axes")], [batch, extent, outputs],
                  keepdims=0)  # fmt: skip
    elif group == 1:
        x = _shaped(b, taps, [batch, extent, window * channels])
        weights = b.constant(by_row.reshape(-1, outputs), "weights")
        y = b.add("MatMul", [x, weights], [batch, extent, outputs])
    else:
        y = _grouped(b, taps, by_row, group)
    if n.has_input(2):
        y = b.add("Add", [y, n.node.inputs[2]], [batch, extent, outputs])
    b.add("Transpose", [y], t.shape, output=n.node.outputs[0], perm=[0, 2, 1])
    return True


def _low(n: OpenNode, window: int, dilation: int) -> int:
    """How many zeros lie before the first element."""
    more, auto = (window - 1) * dilation, n.attr("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        return more // 2 if auto == "SAME_UPPER" else more - more // 2
    return int((n.attr("pads") or [0, 0])[0])


def _taps(b: Builder, rows: str, low: int, window: int, dilation: int) -> str:
    """Of rows [1, n, C] those in the window of each, [1, n, window, C], and zeros outside."""
    batch, extent, channels = b.type_of(rows).shape
    out = [batch, extent, window, channels]
    if window == 1:
        return _shaped(b, rows, out)
    places: Array = np.arange(extent)[:, None] + np.arange(window) * dilation - low
    wanted = b.constant(places.astype(np.int64), "places")
    there = [extent, window]
    inside = b.add("Less", [wanted, b.count(Size(EXTENT), 2)], there, "bool")
    if low:
        inside = b.add("And", [inside, b.constant(places >= 0, "behind_first")], there, "bool")
    last = b.add("Min", [wanted, b.count(Size(EXTENT) + -1, 2)], there)
    chosen = b.add("Gather", [rows, last], out, axis=1)
    zero = b.constant(np.zeros((), b.type_of(rows).dtype), "zero")
    return b.add("Where", [_shaped(b, inside, [extent, window, 1]), chosen, zero], out, b.type_of(rows).dtype)


def _grouped(b: Builder, taps: str, weights: Array, group: int) -> str:
    """A product for each group of channels; the weights are [k, C / group, M]."""
    batch, extent, window, _ = b.type_of(taps).shape
    _, own, outputs = weights.shape
    apart = _shaped(b, taps, [batch, extent, window, group, own])
    apart = b.add("Transpose", [apart], [batch, group, extent, window, own], perm=[0, 3, 1, 2, 4])
    x = _shaped(b, apart, [batch, group, extent, window * own])
    each = weights.reshape(window * own, group, outputs // group).transpose(1, 0, 2)
    y = b.add("MatMul", [x, b.constant(each, "weights")], [batch, group, extent, outputs // group])
    y = b.add("Transpose", [y], [batch, extent, group, outputs // group], perm=[0, 2, 1, 3])
    return _shaped(b, y, [batch, extent, outputs])


def _shaped(b: Builder, x: str, shape: list[int]) -> str:
    if list(b.type_of(x).shape) == shape:
        return x
    return b.add("Reshape", [x, b.constant(np.array(shape, np.int64), "shape")], shape)
