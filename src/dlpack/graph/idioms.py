"""Idioms: groups of nodes that are computed better together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dlpack.graph.before_joins import before_joins
from dlpack.graph.few_sums import few_sums
from dlpack.graph.ir import Graph, Node


def idioms(graph: Graph) -> Graph:
    """The graph with every idiom replaced."""
    return before_joins(few_sums(_gates(_products(_plus_one(graph)))))


_PLUS_ONE = {"Erf": "ErfPlusOne", "Tanh": "TanhPlusOne"}


def _plus_one(graph: Graph) -> Graph:
    """erf(x) + 1 and tanh(x) + 1, as GELU has them, become one operator, which takes fewer operations and is right for
    far negative x."""
    consumers = graph.consumers()
    curves = {
        n.outputs[0]: n
        for n in graph.nodes
        if n.op in _PLUS_ONE and len(consumers.get(n.outputs[0], ())) == 1 and n.outputs[0] not in graph.outputs
    }
    gone: set[str] = set()
    nodes: list[Node] = []
    for node in graph.nodes:
        curve = next((curves[v] for v in node.inputs if v in curves), None) if node.op == "Add" else None
        if curve is not None and graph.types[node.outputs[0]] == graph.types[curve.inputs[0]]:
            other = graph.constants.get(node.inputs[1] if node.inputs[0] == curve.outputs[0] else node.inputs[0])
            if other is not None and other.dtype == np.float32 and (other == 1).all():
                gone.add(curve.outputs[0])
                sources = tuple(dict.fromkeys((*curve.sources, *node.sources)))
                op = _PLUS_ONE[curve.op]
                node = replace(node, op=op, domain="dlpack", inputs=curve.inputs, sources=sources)
        nodes.append(node)
    return replace(graph, nodes=tuple(n for n in nodes if n.outputs[0] not in gone))


def _products(graph: Graph) -> Graph:
    """x / c becomes x * (1 / c) where only such an operator reads it: a unit in the last place does not matter to that.

    A vector's division takes as long as ten products.
    """
    consumers = graph.consumers()
    nodes: list[Node] = []
    constants, types = dict(graph.constants), dict(graph.types)
    for node in graph.nodes:
        readers = consumers.get(node.outputs[0], [])
        c = graph.constants.get(node.inputs[1]) if node.op == "Div" and readers else None
        smooth = all(n.op in _PLUS_ONE.values() for n in readers) and node.outputs[0] not in graph.outputs
        if c is not None and smooth and c.dtype == np.float32 and bool((np.abs(c) > 1e-30).all()):
            name = f"{node.outputs[0]}/inverse"
            constants[name], types[name] = np.float32(1) / c, graph.types[node.inputs[1]]
            node = replace(node, op="Mul", inputs=(node.inputs[0], name))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes), constants=constants, types=types)


def _gates(graph: Graph) -> Graph:
    """x * sigmoid(y), as SiLU and gates have it, becomes TimesSigmoid, and x * tanh(softplus(x)) Mish, which take fewer
    operations than their parts."""
    producers, consumers = graph.producers(), graph.consumers()

    def maker(value: str, op: str, shape: tuple[int, ...]) -> Node | None:
        """What computes a value that is read once, if it is such an operator without broadcasting."""
        node = producers.get(value)
        alone = len(consumers.get(value, ())) == 1 and value not in graph.outputs
        fits = node is not None and (node.op, node.domain) == (op, "") and graph.types[value].shape == shape
        return node if alone and fits else None

    def joined(node: Node, x: str, y: str) -> tuple[Node, ...]:
        """The nodes that the product of x and y makes superfluous, and what replaces it; none: it stays."""
        shape = graph.types[node.outputs[0]].shape
        gate, curve = maker(y, "Sigmoid", shape), maker(y, "Tanh", shape)
        if x != y and gate is not None:
            return gate, _joined(node, (gate,), "TimesSigmoid", "dlpack", (x, gate.inputs[0]))
        inner = maker(curve.inputs[0], "Softplus", shape) if curve is not None else None
        if curve is not None and inner is not None and inner.inputs == (x,):
            return inner, curve, _joined(node, (inner, curve), "Mish", "", (x,))
        return ()

    gone: set[str] = set()
    nodes: list[Node] = []
    for node in graph.nodes:
        if (node.op, node.domain) == ("Mul", "") and graph.types[node.outputs[0]].dtype == "float32":
            x, y = node.inputs
            *parts, node = joined(node, x, y) or joined(node, y, x) or (node,)
            gone.update(n.name for n in parts)
        nodes.append(node)
    return replace(graph, nodes=tuple(n for n in nodes if n.name not in gone))


def _joined(node: Node, parts: tuple[Node, ...], op: str, domain: str, inputs: tuple[str, ...]) -> Node:
    """One node in the place of a last one and of its parts."""
    sources = tuple(dict.fromkeys(s for n in (*parts, node) for s in n.sources))
    return replace(node, op=op, domain=domain, inputs=inputs, sources=sources)
