"""What `quantized.py` knows of values: integers times a scale, and sums of such."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from dlpack.graph.dots import EXACT
from dlpack.graph.ir import Array, Graph, Node
from dlpack.graph.registry import Builder
from dlpack.graph.rewrite import remove_dead


@dataclass(frozen=True)
class Term:
    """``integers in value * scale``: float32 or int32 integers from `low` to `high`; a scale per place or for all.

    Where they come from 8 bits, `zero` is what makes them 0 to 255. If not `whole`, they are exact multiples of a power
    of two below one.
    """

    value: str
    scale: Array
    low: float
    high: float
    zero: int | None = None
    whole: bool = True

    @property
    def bound(self) -> float:
        return max(abs(self.low), abs(self.high))


@dataclass(frozen=True)
class Real:
    """A float32 value of the graph as it is without rounding: the sum of its terms, clamped."""

    terms: tuple[Term, ...]
    low: float = -inf
    high: float = inf

    @property
    def single(self) -> Term | None:
        """Its term, where it is one unclamped term of float32 integers with one scale for all."""
        term = self.terms[0]
        whole = len(self.terms) == 1 and (self.low, self.high) == (-inf, inf)
        if not whole or not term.whole or term.scale.size > 1 or term.bound > EXACT:
            return None
        return replace(term, scale=term.scale.reshape(()))


@dataclass(frozen=True)
class Weights:
    """Constant integers (zero point taken off) times a scale, one or one per place along `axis`."""

    integers: Array
    scale: Array
    axis: int


@dataclass(frozen=True)
class Centred:
    """What an 8-bit value is less its zero point, as float32 integers."""

    value: str
    zero: int
    low: int
    high: int


def rounded_to_bytes(graph: Graph) -> Graph:
    """The graph with Requantize and Narrow as one operator, where one small product is read in 8 bits alone."""
    producers, consumers = graph.producers(), graph.consumers()
    nodes: list[Node] = []
    for node in graph.nodes:
        before = producers.get(node.inputs[0]) if node.op == "Narrow" else None
        alone = before is not None and len(consumers[node.inputs[0]]) == 1 and node.inputs[0] not in graph.outputs
        single = before is not None and before.op == "Requantize" and len(before.inputs) == 3 and before.attrs["near"]
        if before is not None and alone and single:
            attrs = {"low": before.attrs["low"], "high": before.attrs["high"], "zero": node.attrs["zero"]}
            sources = tuple(dict.fromkeys((*before.sources, *node.sources)))
            node = replace(node, op="RequantizeByte", inputs=before.inputs, attrs=attrs, sources=sources)
        nodes.append(node)
    return remove_dead(replace(graph, nodes=tuple(nodes)))


def matrix(node: Node, w: Weights) -> Weights | None:
    """Weights [outputs, inputs, kernel...] of Conv, [inputs, outputs, kernel...] of ConvTranspose, [inputs, outputs] of
    a product; `axis` is that of the outputs."""
    plain = node.attrs.get("alpha", 1.0) == node.attrs.get("beta", 1.0) == 1.0 and not node.attrs.get("transA", 0)
    if not plain or (node.op not in ("Conv", "ConvTranspose") and w.integers.ndim != 2):
        return None
    if node.op == "ConvTranspose" and node.attrs.get("group", 1) != 1:
        return None
    if node.attrs.get("transB", 0):
        w = replace(w, integers=w.integers.T, axis=1 - w.axis)
    outputs = 0 if node.op == "Conv" else 1
    return replace(w, axis=outputs) if w.scale.size == 1 or w.axis == outputs else None


def operands(b: Builder, terms: Sequence[Term]) -> list[str]:
    """Each term's integers and its scale as the sum of two floats, which hold 48 of its bits."""
    out = []
    for term in terms:
        scale = term.scale if term.scale.ndim else term.scale.reshape(1)
        high = scale.astype(np.float32)
        low = (scale - high.astype(np.float64)).astype(np.float32)
        out += [term.value, b.constant(high, "scale"), b.constant(low, "scale_rest")]
    return out
