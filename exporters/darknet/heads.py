"""Darknet's detection layers, decoded: corners relative to the picture, and a score for each class.

A place of the grid at (column, row) has a box for each anchor (W, H): centre ((column + x) / columns,
(row + y) / rows), width W * exp(w), height alike, and the scores objectness times class, as get_yolo_detections and
get_region_detections compute them.
"""

from __future__ import annotations

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import Array, NotConverted
from dlpack.exporters.darknet.call import Layer, converts
from dlpack.exporters.layers import reshape, split


@converts("yolo")
def yolo(n: Layer) -> str:
    if (what := n.p.refuse("counters_per_class_only", "embedding_layer")) is not None:
        raise NotConverted(what)
    number = n.p.int("num", 1)
    mask = n.p.ints("mask") or list(range(max(0, min(number, 64))))
    pairs = _pairs(n, n.p.floats("anchors"))
    if not mask or not all(0 <= m < len(pairs) for m in mask):
        raise ModelError(f"its mask {mask} does not fit {len(pairs)} anchors")
    height, width = n.net[2:]
    sizes = pairs[mask] / np.array([width, height])
    scaled = bool(n.p.int("new_coords"))
    return _decoded(n, sizes, n.p.int("classes", 20), n.p.float("scale_x_y", 1.0), scaled, softmax=False)


@converts("region")
def region(n: Layer) -> str:
    if (what := n.p.refuse("tree", "background", "map")) is not None:
        raise NotConverted(what)
    if n.p.int("coords", 4) != 4:
        raise NotConverted(f"coords={n.p.int('coords')}")
    number, pairs = n.p.int("num", 1), _pairs(n, n.p.floats("anchors"))
    if not 1 <= number <= len(pairs):
        raise ModelError(f"its num {number} does not fit {len(pairs)} anchors")
    sizes = pairs[:number] / np.array(n.picture()[:1:-1])  # in places of the grid
    return _decoded(n, sizes, n.p.int("classes", 20), 1.0, False, softmax=bool(n.p.int("softmax")))


def _pairs(n: Layer, values: list[float]) -> Array:
    if not values or len(values) % 2 or not np.isfinite(values).all():
        raise ModelError(f"its anchors are {len(values)} numbers, not pairs")
    n.picture()
    return np.array(values).reshape(-1, 2)


def _decoded(n: Layer, sizes: Array, classes: int, scale: float, scaled: bool, softmax: bool) -> str:
    """Adds the boxes (B, N, 4) and scores (B, N, classes) to the heads; returns the layer's input."""
    batch, channels, rows, columns = n.picture()
    count = len(sizes)
    if not 1 <= classes <= 1 << 16 or channels != count * (5 + classes):
        raise ModelError(f"{count} anchors of {classes} classes need {count * (5 + classes)} channels, not {channels}")
    places = rows * columns
    n.g.claim("the anchors", (count, places, 4), np.float64)
    x = reshape(n.g, n.x, (batch, count, 5 + classes, places))
    x = n.op_("Transpose", x, perm=[0, 1, 3, 2])  # B, anchors, places, numbers
    middle, size, sure, chosen = split(n.g, x, 3, [2, 2, 1, classes])
    if not scaled:
        middle, sure = n.op_("Sigmoid", middle), n.op_("Sigmoid", sure)
        chosen = n.op_("Softmax", chosen, axis=3) if softmax else n.op_("Sigmoid", chosen)
        size = n.op_("Exp", size)
    else:  # the convolution before has a logistic activation
        size = n.op_("Mul", n.op_("Mul", size, size), n.g.scalar(4.0))
    if scale != 1.0:
        middle = n.op_("Sub", n.op_("Mul", middle, n.g.scalar(scale)), n.g.scalar((scale - 1.0) / 2))
    row, column = np.divmod(np.arange(places), columns)
    grid = np.stack([column, row], 1)[None, None]  # 1, 1, places, 2
    middle = n.op_("Add", middle, n.g.constant(grid.astype(np.float32)))
    middle = n.op_("Mul", middle, n.g.constant(np.array([1.0 / columns, 1.0 / rows], np.float32)))
    half = n.op_("Mul", size, n.g.constant((sizes / 2).astype(np.float32)[None, :, None]))
    corners = n.op_("Concat", n.op_("Sub", middle, half), n.op_("Add", middle, half), axis=3)
    boxes = reshape(n.g, corners, (batch, count * places, 4))
    scores = reshape(n.g, n.op_("Mul", sure, chosen), (batch, count * places, classes))
    n.heads.append((boxes, scores))
    return n.x
