"""Normalisation over groups of channels as exports write it: all pixels of a group as one dimension, whose extent would
be a product of open ones. Here the pixels stay apart: [N, G, M] becomes [N, G, C / G, H, W]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np

from dlpack.errors import UnsupportedError
from dlpack.graph.ir import Array, Graph, Node, TensorType
from dlpack.graph.picture_node import told
from dlpack.graph.registry import find


def plain_groups(graph: Graph, opened: Mapping[str, object]) -> Graph:
    """The graph without dimensions that are several others of a picture; `opened` are the values that depend on its
    size. Raises UnsupportedError for an operator that needs such a dimension."""
    apart = _Apart(graph)
    nodes = [made for node in graph.nodes for made in apart.nodes_for(node, any(i in opened for i in node.inputs[:1]))]
    types = {name: t for name, t in apart.types.items() if name not in apart.names}
    return replace(graph, nodes=tuple(nodes), constants=apart.constants, types=types)


class _Apart:
    def __init__(self, graph: Graph) -> None:
        self.constants: dict[str, Array] = dict(graph.constants)
        self.types = dict(graph.types)
        self.names: dict[str, str] = {}  # of values with such a dimension, those without

    def nodes_for(self, node: Node, opened: bool) -> list[Node]:
        """What stands for a node of the model."""
        if any(i in self.names for i in node.inputs):
            return [self._inside(node)]
        if node.op != "Reshape" or not opened:
            return [node]
        old, new = self.types[node.inputs[0]].shape, self.types[node.outputs[0]].shape
        rest = old[2:] if len(old) == 5 and old[:2] == new[:2] else (old[1] // max(1, new[1]), *old[2:])
        if len(new) != 3 or len(old) not in (4, 5) or old[0] != new[0] or prod((new[1], *rest)) != prod(old[1:]):
            return [node]
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

    def _inside(self, node: Node) -> Node:
        """A node of values with such a dimension."""
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
            raise UnsupportedError(told(node, "works along all pixels as one dimension, whose size is open"))
        inputs = tuple(self.names.get(i) or self._broadcast(i, len(whole), node) for i in node.inputs)
        shape = np.broadcast_shapes(*(self.types[i].shape for i in inputs if i))
        return replace(node, inputs=inputs, outputs=(self._apart(out, shape),))

    def _broadcast(self, name: str, rank: int, node: Node) -> str:
        """Another operand of a pointwise operator, which has no such dimension."""
        shape = self.types[name].shape if name else ()
        if prod(shape) == 1 or not name:
            return name
        if name not in self.constants or len(shape) != 3 or shape[2] != 1:
            raise UnsupportedError(told(node, "has an operand for all pixels as one dimension, whose size is open"))
        made = f"{name}/apart"
        self.constants[made] = self.constants[name].reshape(*shape[:2], *[1] * (rank - 2))
        self.types[made] = TensorType(self.types[name].dtype, self.constants[made].shape)
        return made
