"""Normalisation over groups of channels as exports write it: all pixels of a group as one dimension, whose extent would
be a product of open ones. Here the pixels stay apart: [N, G, M] becomes [N, G, C / G, H, W]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np

from dlpack.graph.ir import Array, Graph, Node, TensorType
from dlpack.graph.registry import find


def plain_groups(graph: Graph, opened: Mapping[str, object]) -> Graph:
    """The graph without dimensions that are several others of a picture, but for those that an operator needs; `opened`
    are the values that depend on its size."""
    needed: set[str] = set()
    while True:
        apart = _Apart(graph, needed)
        try:
            nodes = [
                made
                for node in graph.nodes
                for made in apart.nodes_for(node, any(i in opened for i in node.inputs[:1]))
            ]
        except _NeededError as e:
            needed |= e.reshapes
            continue
        types = {name: t for name, t in apart.types.items() if name not in apart.names}
        return replace(graph, nodes=tuple(nodes), constants=apart.constants, types=types)


class _NeededError(Exception):
    """An operator works along a dimension that these reshapes make."""

    def __init__(self, reshapes: set[str]) -> None:
        self.reshapes = reshapes


class _Apart:
    """`needed`: reshapes, by what they give, that stay."""

    def __init__(self, graph: Graph, needed: set[str]) -> None:
        self.needed = needed
        self.reshapes: dict[str, set[str]] = {}  # of values with such a dimension, those that made it
        self.constants: dict[str, Array] = dict(graph.constants)
        self.types = dict(graph.types)
        self.names: dict[str, str] = {}  # of values with such a dimension, those without

    def nodes_for(self, node: Node, opened: bool) -> list[Node]:
        """What stands for a node of the model."""
        if origins := set[str]().union(*(self.reshapes[i] for i in node.inputs if i in self.names)):
            made = self._inside(node)
            if made is None:
                raise _NeededError(origins)
            if node.outputs[0] in self.names:
                self.reshapes[node.outputs[0]] = origins
            return [made]
        if node.op != "Reshape" or not opened or node.outputs[0] in self.needed:
            return [node]
        old, new = self.types[node.inputs[0]].shape, self.types[node.outputs[0]].shape
        rest = old[2:] if len(old) == 5 and old[:2] == new[:2] else (old[1] // max(1, new[1]), *old[2:])
        if len(new) != 3 or len(old) not in (3, 4, 5) or old[0] != new[0] or prod((new[1], *rest)) != prod(old[1:]):
            return [node]
        self.reshapes[node.outputs[0]] = {node.outputs[0]}
        return [self._reshape(node.inputs[0], self._apart(node.outputs[0], (*new[:2], *rest)), node)]

    def _apart(self, name: str, shape: tuple[int, ...]) -> str:
        self.names[name] = f"{name}/apart"
        self.types[self.names[name]] = TensorType(self.types[name].dtype, shape)
        return self.names[name]

    def _reshape(self, source: str, target: str, node: Node) -> Node:
        shape = f"{target}/shape"
        self.constants[shape] = np.array(self.types[target].shape, np.int64)
        self.types[shape] = TensorType("int64", (len(self.types[target].shape),))
        return replace(node, inputs=(source, shape), outputs=(target,))

    def _inside(self, node: Node) -> Node | None:
        """What stands for a node of values with such a dimension, None where it works along that."""
        out, first = node.outputs[0], self.names.get(node.inputs[0], "")
        operator = find(node)
        if node.op == "Reshape" and first and self.types[out].size == self.types[first].size:
            return self._reshape(first, out, node)
        whole = max((self.types[self.names[i]].shape for i in node.inputs if i in self.names), key=prod)
        if node.op in ("ReduceMean", "ReduceSum", "ReduceMax") and self.types[out].shape in (
            whole[:2],
            (*whole[:2], 1),
        ):
            axes = tuple(range(2, len(whole)))
            keep = len(self.types[out].shape) == 3
            kept = self._apart(out, (*whole[:2], *[1] * len(axes))) if keep else out
            return replace(node, inputs=(first,), outputs=(kept,), attrs={"axes": axes, "keepdims": keep}, opset=11)
        if node.op == "InstanceNormalization":
            return replace(node, inputs=(first, *node.inputs[1:]), outputs=(self._apart(out, whole),))
        if operator is None or operator.kind != "pointwise":
            return None
        inputs = [self.names.get(i) or self._broadcast(i, len(whole)) for i in node.inputs]
        given = tuple(i for i in inputs if i is not None)
        if len(given) < len(inputs):
            return None
        shape = np.broadcast_shapes(*(self.types[i].shape for i in given if i))
        return replace(node, inputs=given, outputs=(self._apart(out, shape),))

    def _broadcast(self, name: str, rank: int) -> str | None:
        """Another operand of a pointwise operator, which has no such dimension; None for one that does not fit."""
        shape = self.types[name].shape if name else ()
        if prod(shape) == 1 or not name:
            return name
        if name not in self.constants or len(shape) != 3 or shape[2] != 1:
            return None
        made = f"{name}/apart"
        self.constants[made] = self.constants[name].reshape(*shape[:2], *[1] * (rank - 2))
        self.types[made] = TensorType(self.types[name].dtype, self.constants[made].shape)
        return made
