"""SSD's layers: prior boxes and the detections."""

from __future__ import annotations

import math

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted
from dlpack.exporters.caffe.call import Layer, converts
from dlpack.exporters.layers import reshape, slice_axis, split, suppress


@converts("PriorBox")
def prior_box(n: Layer) -> str:
    """(1, 2, places * boxes * 4): the boxes' corners in 0..1, and their variances."""
    p = n.p("prior_box_param")
    h, w = n.shape()[2:]
    small, large = p.floats("min_size"), p.floats("max_size")
    ratios = [1.0]
    for r in p.floats("aspect_ratio"):
        if r <= 0:
            raise ModelError(f"its aspect_ratio {r} must be positive")
        if all(abs(r - k) >= 1e-6 for k in ratios):
            ratios += [r, 1.0 / r] if p.bool("flip", True) else [r]
    if not small or (large and len(large) != len(small)):
        raise ModelError("its min_size is missing, or max_size does not fit it")
    height, width = (p.int(f"img_{k}", p.int("img_size")) for k in "hw")
    if not height or not width:
        height, width = n.shape(1)[2:]
    step_h, step_w = (p.float(f"step_{k}", p.float("step")) for k in "hw")
    if not step_h or not step_w:
        step_h, step_w = height / h, width / w
    sizes = []
    for k, s in enumerate(math.floor(v) for v in small):  # Caffe keeps the sizes as whole numbers
        sizes.append((float(s), float(s)))
        if large:
            sizes.append((math.sqrt(s * math.floor(large[k])),) * 2)
        sizes += [(s * math.sqrt(r), s / math.sqrt(r)) for r in ratios if abs(r - 1.0) >= 1e-6]
    n.g.claim("the prior boxes", (2, h, w, len(sizes), 4), np.float64)
    offset = p.float("offset", 0.5)
    x, y = (np.arange(w) + offset) * step_w, (np.arange(h) + offset) * step_h
    boxes = np.empty((h, w, len(sizes), 4))
    for k, (bw, bh) in enumerate(sizes):
        boxes[:, :, k, 0], boxes[:, :, k, 2] = ((x - bw / 2) / width)[None], ((x + bw / 2) / width)[None]
        boxes[:, :, k, 1], boxes[:, :, k, 3] = ((y - bh / 2) / height)[:, None], ((y + bh / 2) / height)[:, None]
    if p.bool("clip"):
        boxes = boxes.clip(0.0, 1.0)
    variances = p.floats("variance") or [0.1]
    if len(variances) not in (1, 4):
        raise ModelError("its variance needs one or four values")
    spread = np.broadcast_to(np.array(variances * (4 // len(variances))), boxes.shape)
    return n.g.constant(np.stack([boxes.reshape(-1), spread.reshape(-1)])[None].astype(np.float32))


@converts("DetectionOutput")
def detection_output(n: Layer) -> str:
    """(1, 1, images * keep_top_k, 7): image, class, score, xmin, ymin, xmax, ymax, by descending score in each image.

    Caffe's output has as many rows as detections; here the number is fixed, and unused rows are all -1.
    """
    p, nms = n.p("detection_output_param"), n.p("detection_output_param").message("nms_param")
    classes, background = p.int("num_classes"), p.int("background_label_id", 0)
    if not p.bool("share_location", True) or nms.float("eta", 1.0) != 1.0:
        raise NotConverted("share_location: false, or an eta below 1")
    batch = n.shape()[0]
    count = n.shape(2)[2] // 4
    if classes < 2 or (n.shape(1)[1:] != (count * classes,) and math.prod(n.shape(1)[1:]) != count * classes):
        raise ModelError(f"num_classes {classes} and {count} prior boxes do not fit its bottoms")
    boxes = _decode(n, batch, count)
    scores = n.op_("Transpose", reshape(n.g, n.x(1), (batch, count, classes)), perm=[0, 2, 1])
    labels = [k for k in range(classes) if k != background]
    if len(labels) != classes:
        scores = n.op_("Gather", scores, n.g.ints(labels), axis=1)
    rows = batch * len(labels)
    top_k = nms.int("top_k", -1)
    kept = min(top_k, count) if top_k > 0 else count
    scores = reshape(n.g, scores, (rows, count))
    best, places = n.g.op("TopK", scores, n.g.ints([kept]), axis=1, outputs=2)
    valid = n.op_("Greater", best, n.scalar(p.float("confidence_threshold", float(np.finfo(np.float32).min))))
    # each class picks its boxes from its image's: (B, C, K, 4)
    index = reshape(n.g, places, (batch, len(labels) * kept, 1))
    index = n.op_("Expand", index, n.g.ints([batch, len(labels) * kept, 4]))
    picked = n.op_("GatherElements", boxes, index, axis=1)
    alive = suppress(
        n.g, reshape(n.g, picked, (rows, kept, 4)), valid, None, nms.float("nms_threshold", 0.3), at_least=False
    )
    total = len(labels) * kept
    keep = p.int("keep_top_k", -1)
    keep = min(keep, total) if keep > 0 else total
    none = n.scalar(-1.0)
    lowest = n.scalar(float(np.finfo(np.float32).min))
    key = reshape(n.g, n.op_("Where", alive, best, lowest), (batch, total))
    score, order = n.g.op("TopK", key, n.g.ints([keep]), axis=1, outputs=2)
    label = n.g.constant(np.repeat(np.array(labels, np.float32), kept))
    label = reshape(n.g, n.op_("Gather", label, order, axis=0), (batch, keep, 1))
    index = n.op_("Expand", reshape(n.g, order, (batch, keep, 1)), n.g.ints([batch, keep, 4]))
    corners = n.op_("GatherElements", picked, index, axis=1)
    image = n.g.constant(np.repeat(np.arange(batch, dtype=np.float32), keep).reshape(batch, keep, 1))
    table = n.op_("Concat", image, label, reshape(n.g, score, (batch, keep, 1)), corners, axis=2)
    used = reshape(n.g, n.op_("Greater", score, lowest), (batch, keep, 1))
    return reshape(n.g, n.op_("Where", used, table, none), (1, 1, batch * keep, 7))


def _decode(n: Layer, batch: int, count: int) -> str:
    """The boxes' corners (B, P, 4) from offsets and prior boxes."""
    p = n.p("detection_output_param")
    code = p.choice("code_type", ("CORNER", "CENTER_SIZE", "CORNER_SIZE"), first=1)
    offsets = reshape(n.g, n.x(0), (batch, count, 4))
    table = reshape(n.g, n.x(2), (2, count, 4))
    prior = slice_axis(n.g, table, 0, 0, 1)
    if not p.bool("variance_encoded_in_target"):
        offsets = n.op_("Mul", offsets, slice_axis(n.g, table, 0, 1, 2))
    if code == "CORNER":
        return n.op_("Add", prior, offsets)
    low, high = split(n.g, prior, 2, [2, 2])
    size = n.op_("Sub", high, low)
    first, second = split(n.g, offsets, 2, [2, 2])
    if code == "CORNER_SIZE":
        corners = n.op_("Add", low, n.op_("Mul", first, size)), n.op_("Add", high, n.op_("Mul", second, size))
        return n.op_("Concat", *corners, axis=2)
    if code != "CENTER_SIZE":
        raise NotConverted(f"code_type: {code[:20]}")
    middle = n.op_("Add", n.op_("Mul", n.op_("Add", low, high), n.scalar(0.5)), n.op_("Mul", first, size))
    half = n.op_("Mul", n.op_("Mul", n.op_("Exp", second), size), n.scalar(0.5))
    return n.op_("Concat", n.op_("Sub", middle, half), n.op_("Add", middle, half), axis=2)
