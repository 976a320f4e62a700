"""A node of a model of pictures of any size, and what is known of its values' sizes (graph/pictures.py)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import gcd

from dlpack.errors import UnsupportedError
from dlpack.graph.ir import Graph, Node, Sizes
from dlpack.graph.registry import Context
from dlpack.loops.sizes import Size


@dataclass(frozen=True)
class Witness:
    """The model at some size: `numbers` are the open dimensions' elements, in units."""

    graph: Graph
    numbers: tuple[int, ...]


class PictureNode(Context):
    """A node, and what is known of its inputs' sizes."""

    known: Mapping[str, Sizes]
    witnesses: Sequence[Witness]

    def __init__(self, node: Node, graph: Graph, sizes: Mapping[str, Sizes], witnesses: Sequence[Witness] = ()) -> None:
        super().__init__(node, graph)
        object.__setattr__(self, "known", sizes)
        object.__setattr__(self, "witnesses", witnesses)

    def sizes(self, i: int = 0) -> Sizes:
        if not self.has_input(i):
            return ()
        return self.known.get(self.node.inputs[i], ()) or (None,) * len(self.input_type(i).shape)

    def axes(self) -> list[int]:
        """Those of a reduction, in order."""
        rank, axes = len(self.input_type(0).shape), self.attr("axes")
        if axes is None and self.has_input(1):
            axes = self.ints(1, "axes")
        return sorted({int(a) % rank for a in axes}) if axes else list(range(rank))

    def alone(self, sizes: Collection[Size]) -> None:
        """Refuses a node whose inputs have extents of all pixels of a picture and others that are open."""
        if any(s.columns is None for s in sizes):
            raise self.fail("computes with all pixels of a picture as one dimension and with another open one")

    def fail(self, text: str) -> UnsupportedError:
        return UnsupportedError(told(self.node, text))


def is_open(sizes: Sizes) -> bool:
    """Whether a value has an open dimension."""
    return any(s is not None for s in sizes)


def differ(found: Sequence[Size], numbers: Sequence[Sequence[int]]) -> bool:
    """Whether sizes that agree at all known ones, of which these are the numbers, do not at one between."""
    for other in found[1:]:
        if other.axis != found[0].axis:
            return True
        own = sorted(at[other.axis] for at in numbers)
        step = gcd(*(n - own[0] for n in own)) or 1
        if any(other.at(n) != found[0].at(n) for n in range(own[0], own[-1] + 1, step)):
            return True
    return False


def told(node: Node, text: str) -> str:
    """What is against a node, with its name."""
    return f"{node.op} '{(node.sources or (node.name or node.outputs[0],))[0]}' {text}"
