"""Fusion groups as people look at them: what each computes, of what, under which name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dlpack.graph.fuse import Group
from dlpack.graph.ir import Graph


@dataclass(frozen=True)
class Block:
    """A fusion group: the kernel that computes it, "" where it has none (a view of what is in memory already).

    `operators` in order, the anchor first; `inputs` and `outputs` are values, without constants; `kind` is the output's
    type, as text. `nbytes` are those of all values that it reads and writes, constants included.
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
            sum(graph.types[v].nbytes for v in dict.fromkeys((*g.inputs, *g.outputs)) if v in graph.types),
        )
        for g in groups
        if g.outputs
    )
