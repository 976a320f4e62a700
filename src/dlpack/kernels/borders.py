"""Borders of values in memory: what they are filled with, and how long rows are with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dlpack.graph.ir import Graph


@dataclass(frozen=True)
class Halo:
    """A border of `low[d]` and `high[d]` elements around dimension d, filled with `fill` before the inside is used."""

    low: tuple[int, ...]
    high: tuple[int, ...]
    fill: float


def wider_rows(graph: Graph, halos: Mapping[str, Halo]) -> dict[tuple[int, ...], int]:
    """By a picture's shape by how much borders make its rows longer. In rows of one length, with or without a border,
    pictures of equal shapes are written and read by the same kernels."""
    wider: dict[tuple[int, ...], int] = {}
    for value, halo in halos.items():
        shape = graph.types[value].shape
        wider[shape] = max(wider.get(shape, 0), halo.low[-1] + halo.high[-1])
    return wider


def nonnegative(graph: Graph) -> set[str]:
    """Values that are never below zero: behind Relu, Sigmoid, Softmax, or a maximum, concat, pooling of such."""
    out: set[str] = set()
    for n in graph.nodes:
        if n.op in ("Relu", "Sigmoid", "Softmax", "Exp", "Abs", "Sqrt"):
            out.update(n.outputs)
        elif n.op == "Clip":
            low = graph.constants.get(n.inputs[1]) if len(n.inputs) > 1 else None
            if low is not None and low.size == 1 and float(low.reshape(-1)[0]) >= 0:
                out.update(n.outputs)
        elif n.op in ("Concat", "Interleave", "MaxPool", "AveragePool", "Pad", "Identity", "Copy") and all(
            i in out for i in n.inputs if i and i not in graph.constants
        ):
            out.update(n.outputs)
    return out
