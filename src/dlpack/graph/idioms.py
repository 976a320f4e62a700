"""Idioms: groups of nodes that are computed better together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dlpack.graph.before_joins import before_joins
from dlpack.graph.few_sums import few_sums
from dlpack.graph.ir import Graph, Node


def idioms(graph: Graph) -> Graph:
    """The graph with every idiom replaced."""
    return before_joins(few_sums(_products(_erf_plus_one(graph))))


def _erf_plus_one(graph: Graph) -> Graph:
    """erf(x) + 1, as GELU has it, becomes ErfPlusOne, which takes fewer operations and is right for far negative x."""
    consumers = graph.consumers()
    erfs = {
        n.outputs[0]: n
        for n in graph.nodes
        if n.op == "Erf" and len(consumers.get(n.outputs[0], ())) == 1 and n.outputs[0] not in graph.outputs
    }
    gone: set[str] = set()
    nodes: list[Node] = []
    for node in graph.nodes:
        erf = next((erfs[v] for v in node.inputs if v in erfs), None) if node.op == "Add" else None
        if erf is not None and graph.types[node.outputs[0]] == graph.types[erf.inputs[0]]:
            other = graph.constants.get(node.inputs[1] if node.inputs[0] == erf.outputs[0] else node.inputs[0])
            if other is not None and other.dtype == np.float32 and (other == 1).all():
                gone.add(erf.outputs[0])
                sources = tuple(dict.fromkeys((*erf.sources, *node.sources)))
                node = replace(node, op="ErfPlusOne", domain="dlpack", inputs=erf.inputs, sources=sources)
        nodes.append(node)
    return replace(graph, nodes=tuple(n for n in nodes if n.outputs[0] not in gone))


def _products(graph: Graph) -> Graph:
    """x / c becomes x * (1 / c) where only ErfPlusOne reads it: a unit in the last place does not matter to that.

    A vector's division takes as long as ten products.
    """
    consumers = graph.consumers()
    nodes: list[Node] = []
    constants, types = dict(graph.constants), dict(graph.types)
    for node in graph.nodes:
        readers = consumers.get(node.outputs[0], [])
        c = graph.constants.get(node.inputs[1]) if node.op == "Div" and readers else None
        smooth = all(n.op == "ErfPlusOne" for n in readers) and node.outputs[0] not in graph.outputs
        if c is not None and smooth and c.dtype == np.float32 and bool((np.abs(c) > 1e-30).all()):
            name = f"{node.outputs[0]}/inverse"
            constants[name], types[name] = np.float32(1) / c, graph.types[node.inputs[1]]
            node = replace(node, op="Mul", inputs=(node.inputs[0], name))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes), constants=constants, types=types)
