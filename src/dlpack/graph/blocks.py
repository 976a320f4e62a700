"""Fusion groups as people look at them: what each computes, of what, under which name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dlpack.graph.fuse import Group
from dlpack.graph.ir import Graph

_CHOOSING = frozenset({"Gather", "GatherElements", "GatherND"})
"""Operators that read of their first input only what they return."""


@dataclass(frozen=True)
class Block:
    """A fusion group: the kernel that computes it, "" where it has none (a view of what is in memory already).

    `operators` in order, the anchor first; `inputs` and `outputs` are values, without constants; `kind` is the output's
    type, as text. `nbytes` are those of all values that it reads and writes, constants included; of a table the
    elements that are looked up.
    """

    kernel: str
    operators: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    kind: str
    nbytes: int


def blocks_of(graph: Graph, groups: Sequence[Group], kernels: Mapping[str, str]) -> tuple[Block, ...]:
    """The groups of a graph, in order; `kernels`: by a node's name, the kernel that computes it."""
    return tuple(
        Block(
            next((kernels[n.name] for n in g.nodes if n.name in kernels), ""),
            tuple(n.op for n in g.nodes),
            tuple(i for i in g.inputs if i not in graph.constants),
            g.outputs,
            str(graph.types[g.output]),
            sum(_moved(graph, g, v) for v in dict.fromkeys((*g.inputs, *g.outputs)) if v in graph.types),
        )
        for g in groups
        if g.outputs
    )


def _moved(graph: Graph, group: Group, value: str) -> int:
    """The bytes of a value that a group reads or writes."""
    whole = graph.types[value].nbytes
    readers = [n for n in group.nodes if value in n.inputs]
    if not readers or not all(n.op in _CHOOSING and value not in n.inputs[1:] for n in readers):
        return whole
    return min(whole, sum(graph.types[n.outputs[0]].nbytes for n in readers))
