"""A node of a model with an open dimension, and where that is in its inputs (graph/opened.py)."""

from __future__ import annotations

from dataclasses import dataclass, field

from dlpack.errors import UnsupportedError
from dlpack.graph.ir import Node
from dlpack.graph.registry import Context
from dlpack.loops.sizes import EXTENT, Size


@dataclass(frozen=True)
class OpenNode(Context):
    """A node of a graph whose `open` is the extent of its open dimension; a run has `size` of it, `smallest` at the
    least."""

    smallest: int = field(default=1, kw_only=True)
    size: Size = field(default=Size(EXTENT), kw_only=True)

    def dims(self, i: int) -> list[int]:
        """The open dimensions of an input, from the end: -1 is the last."""
        return open_dims(self.input_type(i).shape, self.graph.open) if self.has_input(i) else []

    def axes(self) -> set[int]:
        """Those of a reduction, from the end."""
        given = self.attr("axes")
        if given is None and self.has_input(1):
            given = self.ints(1, "axes")
        rank = len(self.input_type(0).shape)
        return {int(a) % rank - rank for a in (range(rank) if given is None else given)}

    def axis(self, default: int) -> int:
        """That of the attribute, from the end."""
        rank = len(self.input_type(0).shape)
        return int(self.attr("axis", default)) % rank - rank

    def fail(self, text: str) -> UnsupportedError:
        return UnsupportedError(told(self.node, text))


def open_dims(shape: tuple[int, ...], extent: int) -> list[int]:
    """The open dimensions, from the end."""
    return [d - len(shape) for d, n in enumerate(shape) if n == extent]


def told(node: Node, text: str) -> str:
    """What is against a node, with its name."""
    return f"{node.op} '{node.name or node.outputs[0]}' {text}"
