"""Layers that several frameworks define in the same way, as ONNX operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted, OnnxBuilder

LOWEST = float(np.finfo(np.float32).min)


def pool_size(size: int, kernel: int, stride: int, before: int, after: int, ceil: bool) -> int:
    """How many windows fit; with `ceil` the last may extend beyond the padding."""
    room = size + before + after - kernel
    return (-(-room // stride) if ceil else room // stride) + 1


def pool(
    g: OnnxBuilder,
    x: str,
    kind: str,
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int],
    out: Sequence[int],
    count_pad: bool = True,
) -> str:
    """Pooling ("max", "avg" or "sum") over the dimensions behind the second, with `out` windows in each.

    `pad` stands on both sides. An average counts the padding (`count_pad`), but no place beyond it, as Caffe and MXNet
    do: a last window that extends beyond the padding is divided by the number of elements inside.
    """
    sizes = g.shape(x)[2:]
    if len(sizes) not in (1, 2, 3) or any(v <= 0 for v in (*kernel, *stride, *out)) or any(v < 0 for v in pad):
        raise NotConverted(f"pooling with kernel {list(kernel)}, stride {list(stride)} over {list(sizes)}")
    if any(k > 2**20 or p >= k for k, p in zip(kernel, pad, strict=True)):
        raise NotConverted(f"pooling with the kernel {list(kernel)} and the padding {list(pad)}")
    wanted, out = list(out), [min(o, -(-(n + p) // s)) for o, n, p, s in zip(out, sizes, pad, stride, strict=True)]
    empty = [w - o for w, o in zip(wanted, out, strict=True)]  # windows that begin behind the input
    if any(empty):
        y = pool(g, x, kind, kernel, stride, pad, out, count_pad)
        before = [0] * (2 + len(sizes))
        fill = g.scalar(LOWEST if kind == "max" else 0.0)
        return str(g.op("Pad", y, g.ints([*before, 0, 0, *empty]), fill, mode="constant"))
    after = [max(0, (o - 1) * s + k - n - p) for o, s, k, n, p in zip(out, stride, kernel, sizes, pad, strict=True)]
    padded = [*pad, *after]
    window: dict[str, Any] = {"kernel_shape": list(kernel), "strides": list(stride), "pads": padded}
    if kind == "max":
        return str(g.op("MaxPool", x, **window))
    y = str(g.op("AveragePool", x, count_include_pad=int(count_pad or kind == "sum"), **window))
    area = float(np.prod([float(k) for k in kernel]))
    if kind == "sum":
        return str(g.op("Mul", y, g.scalar(area)))
    if not count_pad:
        return y
    g.claim("the windows' sizes", out, np.float64)
    counts = np.ones((), np.float64)
    for o, s, k, n, p in zip(out, stride, kernel, sizes, pad, strict=True):
        start = np.arange(o, dtype=np.int64) * s - p
        counts = np.multiply.outer(counts, np.minimum(start + k, n + p) - start)
    if (counts == area).all():
        return y
    factor = (area / np.maximum(counts, 1)).astype(np.float32)
    return str(g.op("Mul", y, g.constant(factor[None, None])))


def check_channels(g: OnnxBuilder, x: str, w: str, groups: int, transposed: bool = False) -> None:
    """Raises ModelError unless a weight (O, I/groups, ...), or transposed (I, O/groups, ...), fits `x`."""
    have, shape = g.shape(x), g.shape(w)
    if len(have) != len(shape) or len(shape) < 3:
        raise ModelError(f"its weight has the shape {list(shape)}, which does not fit the input {list(have)}")
    wanted = shape[0] if transposed else shape[1] * groups
    if groups < 1 or shape[0] % groups or have[1] != wanted:
        raise ModelError(
            f"its weight {list(shape)} with {groups} groups needs {wanted} channels; the input is {list(have)}"
        )


def reshape(g: OnnxBuilder, x: str, shape: Sequence[int]) -> str:
    """`x` reshaped to a static shape; a constant is reshaped at once, and no node is added if nothing changes."""
    if tuple(shape) == g.shape(x):
        return x
    constant = g.value(x)
    if constant is not None:
        return g.constant(constant.reshape(tuple(shape)))
    return str(g.op("Reshape", x, g.ints(list(shape))))


def slice_axis(g: OnnxBuilder, x: str, axis: int, begin: int, end: int, step: int = 1) -> str:
    """x[..., begin:end:step, ...] along one axis."""
    return str(g.op("Slice", x, g.ints([begin]), g.ints([end]), g.ints([axis]), g.ints([step])))


def split(g: OnnxBuilder, x: str, axis: int, sizes: Sequence[int]) -> list[str]:
    """Splits `x` into pieces of the given sizes along one axis."""
    if len(sizes) == 1:
        return [x]
    return list(g.op("Split", x, g.ints(list(sizes)), outputs=len(sizes), axis=axis))


def along(g: OnnxBuilder, values: str, rank: int, axis: int) -> str:
    """`values` shaped so that it broadcasts over a value of `rank` dimensions, starting at `axis`."""
    shape = g.shape(values)
    return reshape(g, values, (*shape, *([1] * (rank - axis - len(shape)))))


def suppress(
    g: OnnxBuilder, boxes: str, valid: str, groups: str | None, threshold: float, at_least: bool, plus: float = 0.0
) -> str:
    """Greedy non-maximum suppression of boxes sorted by descending score, exact and with static shapes.

    `boxes` is (B, K, 4) as xmin, ymin, xmax, ymax; `valid` (B, K) bool; `groups` (B, K) float keeps boxes of different
    groups apart, None compares all. A kept box removes every later valid one whose overlap is `at_least` (or above)
    the threshold. Returns (B, K) bool. One Scan over the K boxes: each step holds one row of overlaps.
    """
    batch, count = g.shape(boxes)[:2]
    g.claim("the boxes", (count, 2), np.int64)
    inner = g.unique("suppress")  # no name inside may be one of the graph around it
    outside = {boxes, valid, groups}

    def node(kind: str, inputs: list[str], outputs: list[str], **attrs: Any) -> NodeProto:
        known = [n if n in outside else f"{inner}/{n}" for n in inputs]
        return helper.make_node(kind, known, [f"{inner}/{n}" for n in outputs], **attrs)

    x1, y1, x2, y2 = split(g, boxes, 2, [1, 1, 1, 1])
    rows = [reshape(g, v, (batch, count)) for v in (x1, y1, x2, y2)]
    zero, extra = g.scalar(0.0), g.scalar(plus)
    limit = g.scalar(threshold)
    sides = [g.op("Add", g.op("Sub", rows[2 + k], rows[k]), extra) for k in (0, 1)]
    area = g.op("Mul", g.op("Max", sides[0], zero), g.op("Max", sides[1], zero))
    tiny, places = g.scalar(1e-30), g.constant(np.arange(count, dtype=np.int64))
    outside |= {*rows, area, zero, extra, limit, tiny, places}
    body, at = [], {}
    for name, value in zip(("x1", "y1", "x2", "y2", "area"), (*rows, area), strict=True):
        body.append(node("Gather", [value, "i"], [f"s_{name}"], axis=1))
        at[name] = value
    body += [
        node("Max", [at["x1"], "s_x1"], ["left"]), node("Max", [at["y1"], "s_y1"], ["top"]),
        node("Min", [at["x2"], "s_x2"], ["right"]), node("Min", [at["y2"], "s_y2"], ["bottom"]),
        node("Sub", ["right", "left"], ["w0"]), node("Sub", ["bottom", "top"], ["h0"]),
        node("Add", ["w0", extra], ["w1"]), node("Add", ["h0", extra], ["h1"]),
        node("Max", ["w1", zero], ["w"]), node("Max", ["h1", zero], ["h"]), node("Mul", ["w", "h"], ["both"]),
        node("Add", [at["area"], "s_area"], ["sum"]), node("Sub", ["sum", "both"], ["union0"]),
        node("Max", ["union0", tiny], ["union"]), node("Div", ["both", "union"], ["overlap"]),
        node("GreaterOrEqual" if at_least else "Greater", ["overlap", limit], ["near"]),
        node("Gather", ["alive", "i"], ["mine"], axis=1), node("And", ["near", "mine"], ["hit0"]),
        node("Greater", [places, "i"], ["later"]),
        node("And", ["hit0", "later"], ["hit1"]),
    ]  # fmt: skip
    hit = "hit1"
    if groups is not None:
        body += [
            node("Gather", [groups, "i"], ["group"], axis=1),
            node("Equal", [groups, "group"], ["same"]),
            node("And", ["hit1", "same"], ["hit2"]),
        ]
        hit = "hit2"
    body += [node("Not", [hit], ["missed"]), node("And", ["alive", "missed"], ["alive_next"])]
    graph = helper.make_graph(
        body,
        "suppress",
        [
            helper.make_tensor_value_info(f"{inner}/alive", TensorProto.BOOL, [batch, count]),
            helper.make_tensor_value_info(f"{inner}/i", TensorProto.INT64, [1]),
        ],
        [helper.make_tensor_value_info(f"{inner}/alive_next", TensorProto.BOOL, [batch, count])],
    )
    steps = g.constant(np.arange(count, dtype=np.int64)[:, None])
    kept = g.op("Scan", valid, steps, types=[(np.bool_, (batch, count))], body=graph, num_scan_inputs=1)
    return str(kept)
