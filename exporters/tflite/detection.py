"""TFLite_Detection_PostProcess: boxes from offsets to anchors, non-maximum suppression, the best detections."""

from __future__ import annotations

import math

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.layers import LOWEST, reshape, scan, split
from dlpack.exporters.tflite.call import Call, converts


@converts("TFLite_Detection_PostProcess")
def detection_postprocess(c: Call) -> list[str]:
    """Inputs: offsets (1, N, 4 or more: y, x, h, w), scores (1, N, classes, a background before them or not), anchors
    (N, 4: y, x, h, w). Outputs, M rows by descending score, zeros where there are less detections: corners (1, M, 4:
    top, left, bottom, right), classes and scores (1, M), the number of detections (1).

    The regular suppression is within each class; the fast one is among all boxes by their best score, and then gives
    each box that remains with its `max_classes_per_detection` best classes.
    """
    g, p = c.g, c.p
    most, classes = _count(c, "max_detections"), _count(c, "num_classes")
    count = c.shape(0)[1] if len(c.shape(0)) == 3 else 0
    shape = c.shape(1)
    fits = len(shape) == 3 and shape[:2] == (1, count) and shape[2] in (classes, classes + 1)
    if not fits or c.shape(0)[0] != 1 or c.shape(0)[2] < 4 or c.shape(2) != (count, 4):
        raise ModelError(f"its inputs {list(c.shape(0))}, {list(shape)} and {list(c.shape(2))} do not fit")
    per_box = _count(c, "max_classes_per_detection", 1)
    rows = most * per_box
    g.check_size("its output", np.dtype(np.float32), (1, rows, 4))
    boxes = _decode(c, count)
    scores = reshape(g, c.x(1), (count, shape[2]))
    if shape[2] > classes:
        scores = c.op_("Slice", scores, g.ints([1]), g.ints([classes + 1]), g.ints([1]))
    if p.get("use_regular_nms", False):
        kept = min(_count(c, "detections_per_class", 100), most, count)  # no class gives more than all together
        index, best = _pick(c, boxes, c.op_("Transpose", scores, perm=[1, 0]), kept)
        # class after class, each by descending score; the first of equal scores stays the first
        wanted = min(most, classes * kept)
        best, order = g.op("TopK", reshape(g, best, (classes * kept,)), g.ints([wanted]), axis=0, outputs=2)
        places = c.op_("Gather", reshape(g, index, (classes * kept,)), order, axis=0)
        kind = c.op_("Gather", g.constant(np.repeat(np.arange(classes, dtype=np.float32), kept)), order, axis=0)
        across = 1
    else:
        wanted, across = min(most, count), min(per_box, classes)
        top, labels = g.op("TopK", scores, g.ints([across]), axis=1, outputs=2)
        first = c.op_("Slice", top, g.ints([0]), g.ints([1]), g.ints([1])) if across > 1 else top
        index, best = _pick(c, boxes, reshape(g, first, (1, count)), wanted)
        places, best = reshape(g, index, (wanted,)), reshape(g, best, (wanted,))
        kind = c.cast(c.op_("Gather", labels, places, axis=0), np.float32)
    used = reshape(g, c.op_("Greater", best, g.scalar(LOWEST)), (wanted, 1))
    score = c.op_("Gather", top, places, axis=0) if across > 1 else reshape(g, best, (wanted, 1))
    table = c.op_("Concat", reshape(g, kind, (wanted, across)), score, c.op_("Gather", boxes, places, axis=0), axis=1)
    table = c.op_("Where", used, table, g.scalar(0.0))
    number = c.op_("ReduceSum", c.cast(used, np.float32), g.ints([0, 1]), keepdims=0)
    kind, score, corners = split(g, table, 1, [across, across, 4])
    corners = reshape(g, corners, (wanted, 1, 4))
    if across > 1:
        corners = c.op_("Expand", corners, g.ints([wanted, across, 4]))
    per_row = 1 if p.get("use_regular_nms", False) else per_box
    return [
        _padded(c, corners, (wanted, across, 4), per_row, (1, rows, 4)),
        *(_padded(c, v, (wanted, across), per_row, (1, rows)) for v in (kind, score)),
        reshape(g, number, (1,)),
    ]


def _count(c: Call, name: str, default: int | None = None) -> int:
    value = c.p.get(name, default)
    if not isinstance(value, int) or not 1 <= value < 2**31:
        raise ModelError(f"its {name} is {value}")
    return value


def _number(c: Call, name: str) -> float:
    value = c.p.get(name)
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ModelError(f"its {name} is {value}")
    return float(value)


def _decode(c: Call, count: int) -> str:
    """The corners (N, 4) as top, left, bottom, right, of offsets relative to the anchors' centres and sizes."""
    g = c.g
    scales = [_number(c, f"{k}_scale") for k in "yxhw"]
    if any(s <= 0 for s in scales):
        raise ModelError(f"its scales are {scales}")
    offsets = reshape(g, c.x(0), (count, c.shape(0)[2]))
    if c.shape(0)[2] > 4:  # key points follow
        offsets = c.op_("Slice", offsets, g.ints([0]), g.ints([4]), g.ints([1]))
    offsets = c.op_("Div", offsets, g.constant(np.array(scales, np.float32)))
    place, size = split(g, c.x(2), 1, [2, 2])
    moved, grown = split(g, offsets, 1, [2, 2])
    middle = c.op_("Add", c.op_("Mul", moved, size), place)
    half = c.op_("Mul", c.op_("Mul", c.op_("Exp", grown), size), g.scalar(0.5))
    return c.op_("Concat", c.op_("Sub", middle, half), c.op_("Add", middle, half), axis=1)


def _pick(c: Call, boxes: str, scores: str, most: int) -> tuple[str, str]:
    """Greedy suppression of boxes (N, 4) by `scores` (C, N), each row by itself: the places (C, `most`) of the boxes
    that stay, by descending score, and their scores, LOWEST where no more are.

    Each step of a loop takes the best box left and drops those that overlap it: `most` steps, not one per box.
    """
    g = c.g
    classes, count = g.shape(scores)
    limit = _number(c, "nms_iou_threshold")
    enough = c.op_("GreaterOrEqual", scores, g.scalar(_number(c, "nms_score_threshold")))
    lowest = g.scalar(LOWEST)
    alive = c.op_("Where", enough, scores, lowest)
    top, left, bottom, right = (reshape(g, v, (1, count)) for v in split(g, boxes, 1, [1] * 4))
    area = c.op_("Mul", c.op_("Sub", bottom, top), c.op_("Sub", right, left))
    zero, numbers = g.scalar(0.0), g.constant(np.arange(count, dtype=np.int64)[None])

    def step(states: list[str], _parts: list[str]) -> tuple[list[str], list[str]]:
        (left_over,) = states
        at = c.op_("ArgMax", left_over, axis=1, keepdims=1)
        best = c.op_("ReduceMax", left_over, axes=[1], keepdims=1)
        flat = reshape(g, at, (classes,))
        mine = split(g, c.op_("Gather", boxes, flat, axis=0), 1, [1] * 4)
        sides = [
            c.op_("Max", c.op_("Sub", c.op_("Min", high, mine[k + 2]), c.op_("Max", low, mine[k])), zero)
            for k, (low, high) in enumerate(((top, bottom), (left, right)))
        ]
        both = c.op_("Mul", *sides)
        own = c.op_("Mul", c.op_("Sub", mine[2], mine[0]), c.op_("Sub", mine[3], mine[1]))
        union = c.op_("Sub", c.op_("Add", area, own), both)
        share = c.op_("Div", both, c.op_("Max", union, g.scalar(1e-30)))
        hit = c.op_("Or", c.op_("Greater", share, g.scalar(limit)), c.op_("Equal", numbers, at))
        return [c.op_("Where", hit, lowest, left_over)], [flat, reshape(g, best, (classes,))]

    steps = g.constant(np.arange(most, dtype=np.int64)[:, None])
    _, (index, best) = scan(g, step, [alive], [steps], most)
    return c.op_("Transpose", index, perm=[1, 0]), c.op_("Transpose", best, perm=[1, 0])


def _padded(c: Call, x: str, shape: tuple[int, ...], per_row: int, out: tuple[int, ...]) -> str:
    """(rows, classes, ...) with zeros behind: to `per_row` classes of each row, then to `out`, (1, rows, ...)."""
    g, rest = c.g, shape[2:]
    x = reshape(g, x, shape)
    if shape[1] < per_row:
        x = c.op_("Pad", x, g.ints([0] * (len(shape) + 1) + [per_row - shape[1]] + [0] * len(rest)), g.scalar(0.0))
    x = reshape(g, x, (1, shape[0] * per_row, *rest))
    behind = out[1] - shape[0] * per_row
    if behind:
        x = c.op_("Pad", x, g.ints([0] * (len(out) + 1) + [behind] + [0] * len(rest)), g.scalar(0.0))
    return x
