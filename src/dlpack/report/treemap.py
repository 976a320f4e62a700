"""Sizes as a treemap: rectangles whose areas are in the ratio of the sizes, squarified."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from dlpack.report.text import label, number

_ENTRIES = 60
"""More sizes than these: the smallest are one rectangle."""


def boxes(sizes: Sequence[float], width: float, height: float) -> list[tuple[float, float, float, float]]:
    """A rectangle (x, y, width, height) for each of the positive sizes, which fall; they fill the area.

    Rows are laid along the shorter side, each as long as its rectangles become more like squares (Bruls, Huizing and
    van Wijk: Squarified Treemaps).
    """
    scale = width * height / (sum(sizes) or 1)
    areas = [s * scale for s in sizes]
    out: list[tuple[float, float, float, float]] = []
    x = y = 0.0
    start = 0
    while start < len(areas):
        side = min(width, height)
        end = start + 1
        while end < len(areas) and _worst(areas[start : end + 1], side) <= _worst(areas[start:end], side):
            end += 1
        row = areas[start:end]
        depth = sum(row) / side if side else 0.0
        along = 0.0
        for area in row:
            length = area / depth if depth else 0.0
            out.append((x, y + along, depth, length) if width >= height else (x + along, y, length, depth))
            along += length
        if width >= height:
            x, width = x + depth, width - depth
        else:
            y, height = y + depth, height - depth
        start = end
    return out


def _worst(row: Sequence[float], side: float) -> float:
    """The largest ratio of sides among the rectangles of a row along `side`."""
    total = sum(row)
    return max(max(side**2 * a / total**2, total**2 / (side**2 * a)) for a in row) if side and total else float("inf")


def treemap(entries: Sequence[tuple[str, int]], what: str) -> str:
    """A figure of (name, bytes); `what` they are is said below, with their sum."""
    largest = sorted((e for e in entries if e[1] > 0), key=lambda e: -e[1])
    total = sum(size for _, size in largest)
    if not total:
        return ""
    if len(largest) > _ENTRIES:
        rest = largest[_ENTRIES - 1 :]
        largest = [*largest[: _ENTRIES - 1], (f"{len(rest)} more", sum(s for _, s in rest))]
        largest.sort(key=lambda e: -e[1])
    cells = []
    for k, ((name, size), box) in enumerate(
        zip(largest, boxes([s for _, s in largest], 100.0 * 2.2, 100.0), strict=True)
    ):
        x, y, w, h = box
        style = f"left:{number(x / 2.2)}%;top:{number(y)}%;width:{number(w / 2.2)}%;height:{number(h)}%"
        text = label(name, size) if w > 8 and h > 3 else ""
        tells = escape(f"{name}: {size:,} bytes, {size / total:.1%}")
        small = "" if text else " bare"
        cells.append(f"<div class='c{k % 6}{small}' data-bytes='{size}' style='{style}' title='{tells}'>{text}</div>")
    said = f"<figcaption>{escape(what)}: {total:,} bytes</figcaption>"
    return f"<figure><div class=treemap>{''.join(cells)}</div>{said}</figure>"
