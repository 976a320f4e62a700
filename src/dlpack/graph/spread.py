"""Inputs and outputs of which a run has a part: they are dense, values have constant strides, and steps of a run copy
the one to the other (`SpreadStep`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from dlpack.graph.ir import Graph, Node


def spread_inputs(graph: Graph, names: Iterable[str]) -> Graph:
    """The graph in which values with constant strides stand for these inputs."""
    renamed = {name: f"{name}/spread" for name in names}
    first = [Node("Spread", (name,), (own,), {}, own, "dlpack", 1, (name,)) for name, own in renamed.items()]
    nodes = [replace(n, inputs=tuple(renamed.get(i, i) for i in n.inputs)) for n in graph.nodes]
    types = {**graph.types, **{own: graph.types[name] for name, own in renamed.items()}}
    return replace(graph, nodes=(*first, *nodes), types=types)


def dense_outputs(graph: Graph, names: Iterable[str]) -> Graph:
    """The graph in which these outputs are copied from values with constant strides."""
    given = {name: f"{name}/spread" for name in names}
    last = [Node("Dense", (own,), (name,), {}, f"{name}/dense", "dlpack", 1, (name,)) for name, own in given.items()]
    nodes = [
        replace(
            n,
            inputs=tuple(given.get(i, i) for i in n.inputs),
            outputs=tuple(given.get(o, o) for o in n.outputs),
        )
        for n in graph.nodes
    ]
    types = {**graph.types, **{own: graph.types[name] for name, own in given.items()}}
    return replace(graph, nodes=(*nodes, *last), types=types)
