"""onnxruntime's operators on pictures and matrices that ONNX has not: crops, windows, transposed pads, inverses."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import GraphProto, TensorProto

from dlpack.model.contrib_body import Body
from dlpack.model.contrib_layers import activation_of
from dlpack.model.contrib_node import Call, contrib, number, product


@contrib("CropAndResize")
def crop_and_resize(call: Call) -> None:
    """Boxes [y1, x1, y2, x2], where 1 is the last pixel, resized with aligned corners; `extrapolation_value` outside.

    They are samples at a grid whose coordinates are -1 at the first pixel and 1 at the last.
    """
    call.require_opset(16)
    count, (_, _, height, width) = call.shape(1)[0], call.shape(0)
    rows, columns = (int(n) for n in call.weight(3, "crop_size"))
    nearest = call.attr("mode", "bilinear").lower() == "nearest"
    axes = [
        _places(call, start, size, steps, nearest) for start, size, steps in ((1, width, columns), (0, height, rows))
    ]
    (x, x_inside), (y, y_inside) = axes
    spread = call.array([count, rows, columns, 1], np.int64)
    x = call.add("Expand", call.reshape(x, count, 1, columns, 1), spread)
    y = call.add("Expand", call.reshape(y, count, rows, 1, 1), spread)
    mode = "nearest" if nearest else "linear" if call.opset >= 20 else "bilinear"
    pictures = call.add("Gather", call.input(0), call.input(2), axis=0)
    crops = call.add("GridSample", pictures, call.add("Concat", x, y, axis=3), mode=mode, align_corners=1)
    inside = call.add("And", call.reshape(x_inside, count, 1, 1, columns), call.reshape(y_inside, count, 1, rows, 1))
    call.give(0, call.add("Where", inside, crops, number(call, call.attr("extrapolation_value", 0.0))))


def _places(call: Call, start: int, size: int, steps: int, nearest: bool) -> tuple[str, str]:
    """The coordinates of the `steps` samples of every box along an axis, and whether they are within the picture."""
    low, high = (call.slice(call.input(1), 1, start + k, start + k + 1) for k in (0, 2))
    ramp = np.linspace(0, 1, steps) if steps > 1 else np.full(1, 0.5)
    last = number(call, size - 1)
    parts = (
        call.add("Mul", end, call.array(weights.astype(call.dtype(0))))
        for end, weights in ((low, 1 - ramp), (high, ramp))
    )
    pixels = call.add("Mul", call.add("Add", *parts), last)
    outside = call.add("Or", call.add("Less", pixels, number(call, 0)), call.add("Greater", pixels, last))
    if nearest:
        pixels = call.add("Floor", call.add("Add", pixels, number(call, 0.5)))
    scaled = call.add("Mul", pixels, number(call, 2 / max(1, size - 1)))
    return call.add("Sub", scaled, number(call, 1)), call.add("Not", outside)


@contrib("UnfoldTensor")
def unfold(call: Call) -> None:
    """Windows of `size` along an axis, `step` apart; their elements are the last dimension."""
    shape = call.shape(0)
    axis, size, step = call.attr("dim", -1) % len(shape), call.attr("size", 1), call.attr("step", 1)
    count = (shape[axis] - size) // step + 1
    places = np.arange(count)[:, None] * step + np.arange(size)
    y = call.add("Gather", call.input(0), call.array(places, np.int64), axis=axis)
    rank = len(shape) + 1
    call.give(0, call.transpose(y, *(d for d in range(rank) if d != axis + 1), axis + 1))


@contrib("ConvTransposeWithDynamicPads")
def transposed_convolution(call: Call) -> None:
    """ConvTranspose, its pads being an input."""
    attrs = call.attributes("auto_pad", "dilations", "group", "kernel_shape", "output_padding", "strides")
    if call.has(2):
        attrs["pads"] = [int(n) for n in call.weight(2, "Pads")]
    operands = [call.input(k) for k in (0, 1, 3) if call.has(k)]
    call.give(0, call.add("ConvTranspose", *operands, **attrs))


@contrib("NhwcConv", "NhwcFusedConv")
def convolution_of_channels_last(call: Call) -> None:
    """activation(conv(X, W) + B + Z); X, Z and the result have their channels last, the weights are ONNX's."""
    rank = len(call.shape(0))
    first, last = (0, rank - 1, *range(1, rank - 1)), (0, *range(2, rank), 1)
    attrs = call.attributes("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    operands = [call.transpose(call.input(0), *first), *(call.input(k) for k in (1, 2) if call.has(k))]
    y = call.add("Conv", *operands, **attrs)
    if call.has(3):
        y = call.add("Add", y, call.transpose(call.input(3), *first))
    call.give(0, call.transpose(activation_of(call, y, list(call.attr("activation_params", []))), *last))


# --- matrices ---------------------------------------------------------------------------------------------------------


@contrib("Inverse")
def inverse(call: Call) -> None:
    """Of the last two dimensions, by Gauss and Jordan with pivots: a step of a loop clears a column."""
    call.require_opset(13)
    shape = call.shape(0)
    count, n = product(shape[:-2]), shape[-1]
    dtype = call.dtype(0)
    unit = np.broadcast_to(np.eye(n, dtype=dtype), (count, n, n))
    both = call.add("Concat", call.reshape(call.input(0), count, n, n), call.array(unit, dtype), axis=2)
    elem = onnx.helper.np_dtype_to_tensor_dtype(dtype)
    body = _clear_column(f"{call.node.name}/column", count, n, elem)
    (done,) = call.add_many(1, "Loop", call.array(n, np.int64), "", both, body=body)
    call.give(0, call.reshape(call.slice(done, 2, n, 2 * n), *shape))


def _clear_column(prefix: str, count: int, n: int, elem: int) -> GraphProto:
    """(k, go on, [A | B]) to (go on, [A | B]), after which column k of A is that of the unit matrix."""
    b = Body(prefix)
    k = b.input("k", TensorProto.INT64, [])
    go_on = b.input("go_on", TensorProto.BOOL, [])
    both = b.input("both", elem, [count, n, 2 * n])
    rows = b.array(np.arange(n).reshape(1, n))
    column = b.add("Gather", both, k, axis=2)
    lowest = b.array(-1, onnx.helper.tensor_dtype_to_np_dtype(elem))
    sizes = b.add("Where", b.add("Less", rows, k), lowest, b.add("Abs", column))
    pivot = b.add("ArgMax", sizes, axis=1, keepdims=1)
    moved = b.add("Where", b.add("Equal", rows, pivot), k, rows)
    order = b.add("Where", b.add("Equal", rows, k), pivot, moved)
    order = b.add("Expand", b.reshape(order, count, n, 1), b.array([count, n, 2 * n]))
    swapped = b.add("GatherElements", both, order, axis=1)
    at = b.reshape(k, 1)
    row = b.add("Gather", swapped, at, axis=1)
    row = b.add("Div", row, b.add("Gather", row, at, axis=2))
    cleared = b.add("Sub", swapped, b.add("Mul", b.add("Gather", swapped, at, axis=2), row))
    here = b.add("Equal", b.array(np.arange(n).reshape(1, n, 1)), k)
    after = b.add("Where", here, row, cleared)
    return b.graph((b.add("Identity", go_on), TensorProto.BOOL, []), (after, elem, [count, n, 2 * n]))
