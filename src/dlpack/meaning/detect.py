"""Turns a detector's outputs into boxes in the picture; web/detector.js follows the same steps.

1. **Decoding.** Quantised outputs are dequantised first. Each candidate has a box, relative to the input's width and
   height, and a score per class.
   - `corners`: `boxes` holds left, top, right, bottom, `relative` or in `pixels` of the input.
   - `anchors`: `boxes` holds offsets (x, y, w, h) to anchors of centre (X, Y) and size (W, H), as in SSD (Liu et al.
     2016): centre X + x * v0 * W, width W * exp(w * v1), v the `variances`; y alike. The anchors are ordered by level,
     row, column and then by the level's `sizes`, at ((column + 1/2) * stride, (row + 1/2) * stride), for
     ceil(side / stride) rows and columns; `clip` cuts X, Y, W and H to 0..1.
   - `grid`: `output` is 1 x (5 + classes) x rows x columns, as FastestDet (dog-qiuqiu) makes it: objectness o, x, y, w,
     h, shares of classes p. Centre (column + tanh(x)) / columns, width sigmoid(w), score o^0.6 * p^0.4; y alike.
   - `rows`: `output` is a row per box: class (-1: none), score, left, top, right, bottom, relative, as MXNet's
     MultiBoxDetection makes them; Caffe's DetectionOutput has the picture's number before that.
2. **Selection.** A candidate gets its most likely class, excluding `background`, if that score reaches `threshold`.
3. **Non-maximum suppression**, per class: in descending order of scores (ties: the earlier candidate first), a box is
   kept unless its intersection over union with a kept one of its class exceeds `iou`; at most `most` are kept.
4. **To the picture.** Preprocessing (stretching, or resizing and cropping the centre) is undone and the box is
   clipped to the picture; empty boxes are dropped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlpack.errors import UsageError
from dlpack.meaning.quantization import dequantized
from dlpack.meaning.shape_sets import sets_of

Array = np.ndarray[Any, Any]
Json = Mapping[str, Any]
Candidates = tuple[Array, Array, Array]
"""Boxes N x 4 (left, top, right, bottom; float64), classes N, scores N."""


@dataclass(frozen=True)
class Detection:
    """A box in the picture: its upper left corner and size in pixels, and its class."""

    index: int
    label: str
    score: float
    x: float
    y: float
    width: float
    height: float


def detections(
    outputs: Mapping[str, Array], manifest: Json, width: int, height: int, shape: int | None = None
) -> list[Detection]:
    """The detections in a picture of this size, highest score first; `manifest` is the bundle's.

    `shape` is the number of the set of shapes that the outputs belong to (`Predictor.shape`); by default the first set
    with the outputs' shapes. Raises UsageError if the bundle is not a detector.
    """
    task, sets = manifest.get("task", {}), sets_of(manifest)
    spec = sets[_set_of(outputs, sets) if shape is None else shape].get("preprocess")
    if task.get("kind") != "detect" or not spec:
        raise UsageError(f"{manifest['name']} is not a detector: build it with --task and --preprocess")
    real = _real(outputs, manifest)
    boxes, classes, scores = _DECODERS[task["format"]](real, task, spec)
    named = (classes >= 0) & (classes != (-1 if task.get("background") is None else task["background"]))
    chosen = np.flatnonzero(named & (scores >= task["threshold"]))
    labels = manifest.get("labels") or ()
    found = []
    for k in suppressed(boxes[chosen], classes[chosen], scores[chosen], task["iou"], task["most"]):
        n = chosen[k]
        index = int(classes[n])
        x, y, right, bottom = in_picture(boxes[n], spec, width, height)
        if right > x and bottom > y:
            label = labels[index] if index < len(labels) else str(index)
            found.append(Detection(index, label, float(scores[n]), x, y, right - x, bottom - y))
    return found


def _real(outputs: Mapping[str, Array], manifest: Json) -> dict[str, Array]:
    """The outputs, with quantised ones dequantised."""
    tensors = {t["name"]: t for t in manifest.get("outputs", ())}
    return {name: dequantized(tensors.get(name, {}), np.asarray(values)) for name, values in outputs.items()}


def _set_of(outputs: Mapping[str, Array], sets: Sequence[Json]) -> int:
    def fits(s: Json) -> bool:
        return all(t["name"] in outputs and list(np.shape(outputs[t["name"]])) == t["shape"] for t in s["outputs"])

    return next((k for k, s in enumerate(sets) if len(sets) > 1 and fits(s)), 0)


def suppressed(boxes: Array, classes: Array, scores: Array, iou: float, most: int) -> list[int]:
    """Non-maximum suppression: the indices of the boxes to keep, highest score first."""
    kept: list[int] = []
    for k in np.argsort(-scores, kind="stable"):
        if len(kept) == most:
            break
        rivals = [j for j in kept if classes[j] == classes[k]]
        if not rivals or float(overlap(boxes[k], boxes[rivals]).max()) <= iou:
            kept.append(int(k))
    return kept


def overlap(box: Array, others: Array) -> Array:
    """Intersection over union of a box with each of the others."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = np.maximum(sides, 0).prod(1)
    areas = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1)
    return np.asarray(np.divide(common, areas - common, out=np.zeros_like(common), where=areas > common))


def in_picture(box: Array, spec: Json, width: int, height: int) -> tuple[float, float, float, float]:
    """left, top, right, bottom in pixels of the picture, of a box relative to the input."""
    corners = []
    for axis, (side, size) in enumerate(((spec["width"], width), (spec["height"], height))):
        short = min(width, height)
        resize = spec.get("resize")
        scaled = (2 * size * resize + short) // (2 * short) if resize else side
        for part in (box[axis], box[axis + 2]):
            corners.append(min(max(((scaled - side) // 2 + float(part) * side) * size / scaled, 0.0), float(size)))
    left, right, top, bottom = corners
    return left, top, right, bottom


def _likeliest(scores: Array, background: int | None) -> tuple[Array, Array]:
    """The most likely class of each row and its score, ignoring the background."""
    scores = scores.astype(np.float64)
    if background is not None:
        scores[:, background] = -math.inf
    classes = scores.argmax(1)
    return classes, scores[np.arange(len(scores)), classes]


def _corners(outputs: Mapping[str, Array], task: Json, spec: Json) -> Candidates:
    boxes = np.asarray(outputs[task["boxes"]])[0].astype(np.float64)
    if task["coordinates"] == "pixels":
        boxes = boxes / [spec["width"], spec["height"], spec["width"], spec["height"]]
    return boxes, *_likeliest(np.asarray(outputs[task["scores"]])[0], task["background"])


def _anchors(outputs: Mapping[str, Array], task: Json, spec: Json) -> Candidates:
    anchors = []
    for level in task["anchors"]:
        stride = level["stride"]
        for row in range(math.ceil(spec["height"] / stride)):
            for column in range(math.ceil(spec["width"] / stride)):
                anchors += [((column + 0.5) * stride, (row + 0.5) * stride, w, h) for w, h in level["sizes"]]
    placed = np.asarray(anchors) / [spec["width"], spec["height"], spec["width"], spec["height"]]
    if task["clip"]:
        placed = placed.clip(0, 1)
    offsets = np.asarray(outputs[task["boxes"]])[0].astype(np.float64)
    v0, v1 = task["variances"]
    centres = placed[:, :2] + offsets[:, :2] * v0 * placed[:, 2:]
    halves = placed[:, 2:] * np.exp(offsets[:, 2:] * v1) / 2
    boxes = np.concatenate([centres - halves, centres + halves], 1)
    return boxes, *_likeliest(np.asarray(outputs[task["scores"]])[0], task["background"])


def _grid(outputs: Mapping[str, Array], task: Json, _spec: Json) -> Candidates:
    output = np.asarray(outputs[task["output"]])[0].astype(np.float64)
    rows, columns = output.shape[1:]
    shift = np.tanh(output[1:3])
    size = 1 / (1 + np.exp(-output[3:5]))
    x = (np.arange(columns)[None, :] + shift[0]) / columns
    y = (np.arange(rows)[:, None] + shift[1]) / rows
    boxes = np.stack([x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2], -1).reshape(-1, 4)
    classes = output[5:].argmax(0).ravel()
    scores = (output[0] ** 0.6 * output[5:].max(0) ** 0.4).ravel()
    return boxes, classes, scores


def _rows(outputs: Mapping[str, Array], task: Json, _spec: Json) -> Candidates:
    output = np.asarray(outputs[task["output"]])
    rows = output.reshape(-1, output.shape[-1])[:, -6:].astype(np.float64)
    return rows[:, 2:], rows[:, 0].astype(np.int64), rows[:, 1]


_DECODERS: dict[str, Callable[[Mapping[str, Array], Json, Json], Candidates]] = {
    "corners": _corners,
    "anchors": _anchors,
    "grid": _grid,
    "rows": _rows,
}
