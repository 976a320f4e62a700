"""The network as a layered drawing: a box per fusion group with its operators, and edges for the values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

from dlpack.report.layers import Box, draw
from dlpack.report.text import number, shortened, title

LIMIT = 1200
"""So many groups at most are drawn."""
_OPERATORS = 5
_BAND = 420.0
"""A drawing is cut into bands of so many pixels, between which paper may end."""
_WIDTH, _LINE = 186.0, 15.0
_HEAVY = frozenset(
    {"Convolution", "Conv", "MatMul", "Gemm", "ConvTranspose", "Scan", "WinogradConvolution", "LSTM", "GRU"}
)


def network_drawing(
    blocks: Sequence[Mapping[str, Any]], inputs: Sequence[str], outputs: Sequence[str], shares: Mapping[str, float]
) -> str:
    """The drawing; `shares`: by kernel, its part of the work, or of the time, as a bar at the box's foot."""
    left_out = len(blocks) - LIMIT
    blocks = blocks[:LIMIT]
    made = {v: len(inputs) + k for k, b in enumerate(blocks) for v in b["outputs"]}
    made |= {v: k for k, v in enumerate(inputs)}
    nodes = [*({"end": v} for v in inputs), *blocks, *({"end": v} for v in outputs)]
    ends = len(inputs) + len(blocks)
    edges = [(made[v], len(inputs) + k, v) for k, b in enumerate(blocks) for v in b["inputs"] if v in made]
    edges += [(made[v], ends + k, v) for k, v in enumerate(outputs) if v in made]
    edges = [e for e in edges if e[0] < e[1]]
    kinds = {v: b["kind"] for b in blocks for v in b["outputs"][:1]}
    drawing = draw([_size(n) for n in nodes], list(dict.fromkeys((a, b) for a, b, _ in edges)))
    names: dict[tuple[int, int], list[str]] = {}
    for a, b, v in edges:
        names.setdefault((a, b), []).append(f"{v}: {kinds[v]}" if v in kinds else v)
    parts = [
        (points[0][1], points[-1][1], f"<path d='{_curve(points)}'>{title(chr(10).join(names[a, b]))}</path>")
        for a, b, points in drawing.paths
    ]
    parts += [(box.y, box.y + box.height, _box(n, box, shares)) for n, box in zip(nodes, drawing.boxes, strict=True)]
    cuts = [0.0, *_cuts(drawing.boxes), drawing.height]
    bands = [
        _band(drawing.width, a, b, "".join(text for top, foot, text in parts if top < b and foot > a))
        for a, b in pairwise(cuts)
    ]
    first = drawing.boxes[0] if drawing.boxes else Box(0, 0, 0, 0)
    more = f" The last {left_out:,} groups are not drawn." if left_out > 0 else ""
    return (
        f"<figure class=long><div class=scroll><i style='left:{number(first.x + first.width / 2)}px'></i>"
        f"<div role='img' aria-label='the network in {len(blocks)} groups'>{''.join(bands)}</div></div>"
        "<figcaption>A box is a group of operators that one kernel computes; a dashed one is a view, which computes "
        f"nothing. The bar at its foot is its share.{more}</figcaption></figure>"
    )


def _cuts(boxes: Sequence[Box]) -> list[float]:
    """Heights between layers where the drawing is cut."""
    layers: list[tuple[float, float]] = []
    for box in sorted(boxes, key=lambda b: b.y):
        foot = box.y + box.height
        if layers and box.y <= layers[-1][1]:
            layers[-1] = layers[-1][0], max(layers[-1][1], foot)
        else:
            layers.append((box.y, foot))
    cuts = [0.0]
    for (_, end), (start, foot) in pairwise(layers):
        if foot - cuts[-1] > _BAND:
            cuts.append(float(round((end + start) / 2)))
    return cuts[1:]


def _band(width: float, top: float, foot: float, inner: str) -> str:
    """The drawing between two heights, as a picture of its own."""
    w, h = number(width), number(foot - top)
    return f"<svg class=network viewBox='0 {number(top)} {w} {h}' width='{w}' height='{h}'>{inner}</svg>"


def _size(node: Mapping[str, Any]) -> tuple[float, float]:
    if "end" in node:
        return _WIDTH * 0.8, _LINE + 8
    return _WIDTH, _LINE * (min(len(node["operators"]), _OPERATORS) + 1) + 12


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """A path through the points, vertical in each."""
    x, y = points[0]
    d = [f"M{number(x)} {number(y)}"]
    for u, v in points[1:]:
        if u == x:
            d.append(f"V{number(v)}")
        else:
            middle = number((y + v) / 2)
            d.append(f"C{number(x)} {middle} {number(u)} {middle} {number(u)} {number(v)}")
        x, y = u, v
    return "".join(d)


def _box(node: Mapping[str, Any], at: Box, shares: Mapping[str, float]) -> str:
    x, y, w, h = (number(v) for v in (at.x, at.y, at.width, at.height))
    frame = f"<rect class=frame x='{x}' y='{y}' width='{w}' height='{h}' rx='5'/>"
    left = number(at.x + 9)
    if "end" in node:
        name = escape(shortened(node["end"], 22))
        return (
            f"<g class='block end'>{title(node['end'])}{frame}"
            f"<text x='{left}' y='{number(at.y + _LINE)}'>{name}</text></g>"
        )
    operators = list(node["operators"])
    shown = operators if len(operators) <= _OPERATORS else [*operators[: _OPERATORS - 1], f"{len(operators) - 4} more"]
    lines = [
        f"<text{' class=first' if k == 0 else ''} x='{left}' y='{number(at.y + _LINE * (k + 1))}'>"
        f"{'' if k == 0 else '+ '}{escape(shortened(op, 24))}</text>"
        for k, op in enumerate(shown)
    ]
    foot = number(at.y + _LINE * (len(shown) + 1))
    lines.append(f"<text class=small x='{left}' y='{foot}'>{escape(shortened(node['kind'], 30))}</text>")
    share = shares.get(node["kernel"], 0.0)
    if share:
        width = number(max(1.0, share * (at.width - 10)))
        lines.append(
            f"<rect class=share x='{number(at.x + 5)}' y='{number(at.y + at.height - 5)}' width='{width}' height='3'/>"
        )
    heavy = operators[0] in _HEAVY
    kind = "heavy" if heavy else "light" if node["kernel"] else "view"
    tells = [node["kernel"] or " + ".join(operators), node["kind"], f"computes {', '.join(node['outputs'])}"]
    tells += [f"{share:.1%}"] if share else []
    return f"<g class='block {kind}'>{title(chr(10).join(tells))}{frame}{''.join(lines)}</g>"
