"""MXNet's detection operators: prior boxes, decoding, non-maximum suppression, region pooling.

Outputs keep their static shapes: as in MXNet, what was suppressed is marked with -1 and stays a row.
"""

from __future__ import annotations

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted
from dlpack.exporters.layers import reshape, slice_axis, split, suppress
from dlpack.exporters.mxnet.call import Call, converts


@converts("_contrib_MultiBoxPrior", "MultiBoxPrior")
def multi_box_prior(c: Call) -> str:
    """Boxes around each place, in 0..1: every size with the first ratio, then the first size with the other ratios."""
    h, w = c.g.shape(c.x(0))[2:]
    sizes, ratios = c.p.floats("sizes", (1.0,)), c.p.floats("ratios", (1.0,))
    steps, offsets = c.p.floats("steps", (-1.0, -1.0)), c.p.floats("offsets", (0.5, 0.5))
    if not sizes or not ratios or len(steps) != 2 or len(offsets) != 2 or any(r <= 0 for r in ratios):
        raise ModelError("its sizes, ratios, steps or offsets are wrong")
    root = [float(np.sqrt(r)) for r in ratios]
    half = [(s * h / w * root[0] / 2, s / root[0] / 2) for s in sizes]
    half += [(sizes[0] * h / w * r / 2, sizes[0] / r / 2) for r in root[1:]]
    c.g.claim("the prior boxes", (h, w, len(half), 4), np.float64)
    y = (np.arange(h) + offsets[0]) * (steps[0] if steps[0] > 0 else 1.0 / h)
    x = (np.arange(w) + offsets[1]) * (steps[1] if steps[1] > 0 else 1.0 / w)
    boxes = np.empty((h, w, len(half), 4))
    for k, (bw, bh) in enumerate(half):
        boxes[:, :, k, 0], boxes[:, :, k, 2] = (x - bw)[None], (x + bw)[None]
        boxes[:, :, k, 1], boxes[:, :, k, 3] = (y - bh)[:, None], (y + bh)[:, None]
    if c.p.bool("clip"):
        boxes = boxes.clip(0.0, 1.0)
    return c.g.constant(boxes.reshape(1, -1, 4).astype(np.float32))


def _rows(c: Call, values: str, places: str) -> str:
    """values (B, N, W) at places (B, K) → (B, K, W)."""
    batch, count = c.g.shape(places)
    width = c.g.shape(values)[2]
    index = c.op_("Expand", reshape(c.g, places, (batch, count, 1)), c.g.ints([batch, count, width]))
    return c.op_("GatherElements", values, index, axis=1)


@converts("_contrib_MultiBoxDetection", "MultiBoxDetection")
def multi_box_detection(c: Call) -> str:
    """(class, score, xmin, ymin, xmax, ymax) by falling score; class -1 is no detection."""
    prob, offsets, anchors = c.x(0), c.x(1), c.x(2)
    batch, classes, count = c.g.shape(prob)
    if c.p.int("background_id", 0) != 0:
        raise NotConverted("background_id other than 0")
    variances = c.p.floats("variances", (0.1, 0.1, 0.2, 0.2))
    if len(variances) != 4:
        raise ModelError("variances needs four numbers")
    front = slice_axis(c.g, prob, 1, 1, classes)
    score = c.op_("ReduceMax", front, axes=[1], keepdims=0)
    label = c.cast(c.op_("ArgMax", front, axis=1, keepdims=0), np.float32)
    valid = c.op_("GreaterOrEqual", score, c.g.scalar(c.p.float("threshold", 0.01)))
    left, top, right, bottom = split(c.g, anchors, 2, [1] * 4)
    dx, dy, dw, dh = split(c.g, reshape(c.g, offsets, (batch, count, 4)), 2, [1] * 4)
    sides = []
    for low, high, d, e, (v, u) in ((left, right, dx, dw, variances[::2]), (top, bottom, dy, dh, variances[1::2])):
        size = c.op_("Sub", high, low)
        middle = c.op_("Mul", c.op_("Add", low, high), c.g.scalar(0.5))
        middle = c.op_("Add", c.op_("Mul", c.op_("Mul", d, c.g.scalar(v)), size), middle)
        half = c.op_("Mul", c.op_("Mul", c.op_("Exp", c.op_("Mul", e, c.g.scalar(u))), size), c.g.scalar(0.5))
        sides.append((c.op_("Sub", middle, half), c.op_("Add", middle, half)))
    boxes = c.op_("Concat", sides[0][0], sides[1][0], sides[0][1], sides[1][1], axis=2)
    if c.p.bool("clip", True):
        boxes = c.op_("Clip", boxes, c.g.scalar(0.0), c.g.scalar(1.0))
    threshold, top_k = c.p.float("nms_threshold", 0.5), c.p.int("nms_topk", -1)
    kept = min(top_k, count) if top_k > 0 else count
    none = c.g.scalar(-1.0)
    key = c.op_("Where", valid, score, none)
    key, places = c.g.op("TopK", key, c.g.ints([kept]), axis=1, outputs=2)
    boxes = _rows(c, boxes, places)
    label = c.op_("GatherElements", label, places, axis=1)
    alive = valid = c.op_("Greater", key, none)
    if 0 < threshold <= 1:
        alive = suppress(c.g, boxes, valid, None if c.p.bool("force_suppress") else label, threshold, at_least=True)
    label = c.op_("Where", alive, label, none)
    columns = [reshape(c.g, v, (batch, kept, 1)) for v in (label, key)]
    rows = c.op_("Concat", *columns, boxes, axis=2)
    rows = c.op_("Where", reshape(c.g, valid, (batch, kept, 1)), rows, none)
    if kept < count:
        rows = c.op_("Pad", rows, c.g.ints([0, 0, 0, 0, count - kept, 0]), none, mode="constant")
    return rows


@converts("_contrib_box_nms", "_contrib_box_non_maximum_suppression")
def box_nms(c: Call) -> str:
    """Rows by falling score, the suppressed ones all -1, behind the kept ones."""
    x = c.floating(c.x(0))
    shape = c.g.shape(x)
    count, width = shape[-2:]
    batch = int(np.prod(shape[:-2]))
    x = reshape(c.g, x, (batch, count, width))
    start, where, label_at = c.p.int("coord_start", 2), c.p.int("score_index", 1), c.p.int("id_index", -1)
    formats = c.p.text("in_format", "corner"), c.p.text("out_format", "corner")
    if start < 0 or start + 4 > width or not 0 <= where < width or label_at >= width:
        raise ModelError(f"its coord_start, score_index or id_index do not fit rows of {width}")
    score = reshape(c.g, slice_axis(c.g, x, 2, where, where + 1), (batch, count))
    valid = c.op_("Greater", score, c.g.scalar(c.p.float("valid_thresh", 0.0)))
    label = None
    if label_at >= 0:
        label = reshape(c.g, slice_axis(c.g, x, 2, label_at, label_at + 1), (batch, count))
        if c.p.int("background_id", -1) >= 0:
            other = c.op_("Equal", label, c.g.scalar(float(c.p.int("background_id"))))
            valid = c.op_("And", valid, c.op_("Not", other))
    lowest = c.g.scalar(float(np.finfo(np.float32).min))
    top_k = c.p.int("topk", -1)
    kept = min(top_k, count) if top_k > 0 else count
    key, places = c.g.op("TopK", c.op_("Where", valid, score, lowest), c.g.ints([kept]), axis=1, outputs=2)
    rows = _rows(c, x, places)
    boxes = slice_axis(c.g, rows, 2, start, start + 4)
    corners = _to_corners(c, boxes) if formats[0] == "center" else boxes
    groups = None
    if label is not None and not c.p.bool("force_suppress"):
        groups = c.op_("GatherElements", label, places, axis=1)
    valid = c.op_("Greater", key, lowest)
    alive = suppress(c.g, corners, valid, groups, c.p.float("overlap_thresh", 0.5), at_least=False)
    if formats[0] != formats[1]:
        new = corners if formats[1] == "corner" else _to_centers(c, boxes)
        parts = [(0, start), (start + 4, width)]
        sides = [slice_axis(c.g, rows, 2, a, b) if b > a else None for a, b in parts]
        rows = c.op_("Concat", *[v for v in (sides[0], new, sides[1]) if v is not None], axis=2)
    none = c.g.scalar(-1.0)
    rows = c.op_("Where", reshape(c.g, alive, (batch, kept, 1)), rows, none)
    order = c.op_("Where", alive, key, lowest)  # the kept rows first
    rows = _rows(c, rows, c.g.op("TopK", order, c.g.ints([kept]), axis=1, outputs=2)[1])
    if kept < count:
        rows = c.op_("Pad", rows, c.g.ints([0, 0, 0, 0, count - kept, 0]), none, mode="constant")
    return reshape(c.g, rows, shape)


@converts("_contrib_box_decode")
def box_decode(c: Call) -> str:
    """Corners (B, N, 4) of offsets from anchors, (1 or B, N, 4) as corners or as centres and sizes (`format`)."""
    offsets, anchors = c.x(0), c.x(1)
    if c.p.text("format", "center") == "corner":
        anchors = _to_centers(c, anchors)
    middle, size = split(c.g, anchors, 2, [2, 2])
    first, second = split(c.g, offsets, 2, [2, 2])
    spread = [c.g.constant(np.array([c.p.float(f"std{k}", 1.0), c.p.float(f"std{k + 1}", 1.0)], np.float32))
              for k in (0, 2)]  # fmt: skip
    middle = c.op_("Add", c.op_("Mul", c.op_("Mul", first, spread[0]), size), middle)
    grown = c.op_("Mul", second, spread[1])
    clip = c.p.float("clip", -1.0)
    if clip > 0:
        grown = c.op_("Min", grown, c.g.scalar(clip))
    half = c.op_("Mul", c.op_("Mul", c.op_("Exp", grown), size), c.g.scalar(0.5))
    return c.op_("Concat", c.op_("Sub", middle, half), c.op_("Add", middle, half), axis=2)


def _to_corners(c: Call, boxes: str) -> str:
    middle, size = split(c.g, boxes, 2, [2, 2])
    half = c.op_("Mul", size, c.g.scalar(0.5))
    return c.op_("Concat", c.op_("Sub", middle, half), c.op_("Add", middle, half), axis=2)


def _to_centers(c: Call, boxes: str) -> str:
    low, high = split(c.g, boxes, 2, [2, 2])
    middle = c.op_("Mul", c.op_("Add", low, high), c.g.scalar(0.5))
    return c.op_("Concat", middle, c.op_("Sub", high, low), axis=2)


@converts("ROIPooling")
def roi_pooling(c: Call) -> str:
    size = list(c.p.ints("pooled_size"))
    return c.op_("MaxRoiPool", c.floating(c.x(0)), c.x(1), pooled_shape=size, spatial_scale=c.p.float("spatial_scale"))
