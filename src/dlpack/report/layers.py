"""A layered layout of a directed graph: edges point down, neighbours are near, edges bend around the boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

_SWEEPS = 6
_GAP = 16.0
_BETWEEN = 34.0
"""Pixels between boxes of a layer, and between layers."""


@dataclass(frozen=True)
class Box:
    """Where a node is: its upper left corner and its sides, in pixels."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Drawing:
    """Boxes by node; each edge with the points that it goes through, from its source's lower side on."""

    boxes: tuple[Box, ...]
    paths: tuple[tuple[int, int, tuple[tuple[float, float], ...]], ...]
    width: float
    height: float


def layers_of(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The layer of each node: below all that it depends on; what depends on nothing is right above its first reader.

    Nodes are in topological order: edges lead from lower to higher numbers.
    """
    layer = [0] * count
    before: list[list[int]] = [[] for _ in range(count)]
    after: list[list[int]] = [[] for _ in range(count)]
    for a, b in edges:
        before[b].append(a)
        after[a].append(b)
    for n in range(count):
        layer[n] = max((layer[p] + 1 for p in before[n]), default=0)
    for n in range(count):
        if not before[n] and after[n]:
            layer[n] = max(0, min(layer[m] for m in after[n]) - 1)
    return layer


def draw(sizes: Sequence[tuple[float, float]], edges: Sequence[tuple[int, int]]) -> Drawing:
    """Lays out nodes of these sizes (width, height), numbered in topological order."""
    layer = layers_of(len(sizes), edges)
    grid = _Grid(sizes, layer, edges)
    grid.order()
    centres = grid.place()
    tops, heights, y = [], [], 4.0
    for row in grid.rows:
        height = max((grid.height(n) for n in row), default=0.0)
        tops.append(y)
        heights.append(height)
        y += height + _BETWEEN
    left = min((centres[n] - grid.width(n) / 2 for n in centres), default=0.0)
    boxes = tuple(
        Box(centres[n] - left - w / 2 + 4, tops[layer[n]] + (heights[layer[n]] - h) / 2, w, h)
        for n, (w, h) in enumerate(sizes)
    )
    paths = []
    for a, b in edges:
        start, end = boxes[a], boxes[b]
        points = [(start.x + start.width / 2, start.y + start.height)]
        for level in range(layer[a] + 1, layer[b]):
            x = centres[grid.bends[a, level]] - left + 4
            points += [(x, tops[level]), (x, tops[level] + heights[level])]
        points.append((end.x + end.width / 2, end.y))
        paths.append((a, b, tuple(points)))
    right = max((b.x + b.width for b in boxes), default=0.0)
    return Drawing(boxes, tuple(paths), right + 4, max(y - _BETWEEN + 4, 8.0))


class _Grid:
    """The rows of nodes and of the points where edges pass through a row, numbered behind the nodes."""

    def __init__(
        self, sizes: Sequence[tuple[float, float]], layer: Sequence[int], edges: Sequence[tuple[int, int]]
    ) -> None:
        self.sizes = sizes
        self.rows: list[list[int]] = [[] for _ in range(max(layer, default=0) + 1)]
        self.bends: dict[tuple[int, int], int] = {}
        self.above: dict[int, list[int]] = {}
        self.below: dict[int, list[int]] = {}
        for n, level in enumerate(layer):
            self.rows[level].append(n)
        number = len(sizes)
        for a, b in sorted(edges):
            last = a
            for level in range(layer[a] + 1, layer[b]):
                if (a, level) not in self.bends:  # the edges from one node share their way
                    self.bends[a, level] = number
                    self.rows[level].append(number)
                    self._link(last, number)
                    number += 1
                last = self.bends[a, level]
            self._link(last, b)

    def _link(self, upper: int, lower: int) -> None:
        self.below.setdefault(upper, []).append(lower)
        self.above.setdefault(lower, []).append(upper)

    def width(self, n: int) -> float:
        return self.sizes[n][0] if n < len(self.sizes) else 6.0

    def height(self, n: int) -> float:
        return self.sizes[n][1] if n < len(self.sizes) else 0.0

    def order(self) -> None:
        """Sorts each row by the mean place of its neighbours, downwards and upwards in turn."""
        for sweep in range(_SWEEPS):
            down = sweep % 2 == 0
            beside = self.above if down else self.below
            for k in range(1, len(self.rows)):
                row = k if down else len(self.rows) - 1 - k
                fixed = {n: i for i, n in enumerate(self.rows[row - 1 if down else row + 1])}
                now = {n: i for i, n in enumerate(self.rows[row])}
                self.rows[row].sort(key=lambda n: (_mean([fixed[m] for m in beside.get(n, ())], now[n]), now[n]))

    def place(self) -> dict[int, float]:
        """The centre of each node: near the mean of its neighbours, without overlaps in its row."""
        centres: dict[int, float] = {}
        for row in self.rows:
            x = 0.0
            for n in row:
                centres[n] = x + self.width(n) / 2
                x += self.width(n) + _GAP
            for n in row:
                centres[n] -= x / 2
        for sweep in range(_SWEEPS):
            down = sweep % 2 == 0
            beside: Mapping[int, list[int]] = self.above if down else self.below
            for row in self.rows if down else reversed(self.rows):
                wanted = [_mean([centres[m] for m in beside.get(n, ())], centres[n]) for n in row]
                gaps = [(self.width(a) + self.width(b)) / 2 + _GAP for a, b in pairwise(row)]
                for n, x in zip(row, spread(wanted, gaps), strict=True):
                    centres[n] = x
        return centres


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def spread(wanted: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """The places nearest to the wanted ones, by least squares, that are at least so far apart, in the same order."""
    offsets = [0.0]
    for gap in gaps:
        offsets.append(offsets[-1] + gap)
    pools: list[tuple[float, int]] = []  # mean and number of members
    for place, offset in zip(wanted, offsets, strict=False):
        mean, members = place - offset, 1
        while pools and pools[-1][0] > mean:
            other, more = pools.pop()
            mean, members = (mean * members + other * more) / (members + more), members + more
        pools.append((mean, members))
    flat = [mean for mean, members in pools for _ in range(members)]
    return [place + offset for place, offset in zip(flat, offsets, strict=False)]
