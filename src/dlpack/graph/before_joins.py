"""Pointwise operators before what only moves elements to their places, so that they join the convolutions behind it.

A transposed convolution's parts are put together by Interleave, or by reshapes around a transpose, the groups that
Winograd's algorithm computes by Concat. An activation that follows would be a pass over memory of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from dlpack.graph import registry
from dlpack.graph.ir import Array, Graph, Node, TensorType

_MOVES = ("Reshape", "Transpose")


def before_joins(graph: Graph) -> Graph:
    """The graph in which operators that treat all elements, or all of a channel, alike come before an Interleave or a
    Concat of Winograd's groups; those that treat all elements alike also before reshapes and transposes of what a
    convolution computes."""
    if not any(n.op in ("Interleave", "Convolution", "WinogradConvolution") for n in graph.nodes):
        return graph
    readers = {value: len(nodes) for value, nodes in graph.consumers().items()}
    made: dict[str, Node] = {}
    types, constants = dict(graph.types), dict(graph.constants)
    nodes: dict[str, Node] = {}
    for node in graph.nodes:
        value = _only_input(node, graph)
        single = value is not None and readers.get(value) == 1 and value not in graph.outputs
        join = made.get(value) if single and value is not None else None
        if value is None or join is None:
            new = [node]
        elif _joins_parts(join, made) and _per_channel(node, value, graph):
            new = _over_parts(node, join, value, types, constants)
            del nodes[join.name]
        elif _alike(node, value, graph):
            chain = _moves(join, made, readers, graph)
            new = _over_moves(node, chain, value, types)
            for move in chain if len(new) > 1 else ():
                del nodes[move.name]
        else:
            new = [node]
        for each in new:
            nodes[each.name] = each
            made.update({o: each for o in each.outputs if o})
    return replace(graph, nodes=tuple(nodes.values()), types=types, constants=constants)


def _joins_parts(join: Node, made: Mapping[str, Node]) -> bool:
    """Whether it puts phases of a transposed convolution together, or groups of channels by Winograd's algorithm."""
    if join.op != "Concat" or join.attrs.get("axis") != 1:
        return (join.op, join.domain) == ("Interleave", "dlpack")
    return all(_by_winograd(part, made) for part in join.inputs)


def _by_winograd(value: str, made: Mapping[str, Node]) -> bool:
    node = made.get(value)
    while node is not None and node.op != "WinogradConvolution":
        operator = registry.find(node)
        sources = [made[i] for i in node.inputs if i in made]
        node = sources[0] if operator is not None and operator.kind == "pointwise" and len(sources) == 1 else None
    return node is not None


def _only_input(node: Node, graph: Graph) -> str | None:
    """What a pointwise operator reads apart from constants, once; the output has its shape."""
    operator = registry.find(node)
    if operator is None or operator.kind != "pointwise" or len(node.outputs) != 1:
        return None
    values = [i for i in node.inputs if i and i not in graph.constants]
    if len(values) != 1 or graph.types[values[0]].shape != graph.types[node.outputs[0]].shape:
        return None
    return values[0]


def _alike(node: Node, value: str, graph: Graph) -> bool:
    """Whether it treats all elements alike."""
    return all(i == value or graph.constants[i].size == 1 for i in _elements(node))


def _per_channel(node: Node, value: str, graph: Graph) -> bool:
    """Whether it treats all elements of a channel alike."""
    rank = len(graph.types[value].shape)

    def flat(shape: tuple[int, ...]) -> bool:
        return len(shape) <= rank and all(n == 1 for n in shape[max(0, len(shape) - rank + 2) :])

    return all(i == value or flat(graph.types[i].shape) for i in _elements(node))


def _elements(node: Node) -> list[str]:
    """The inputs that have an element for each of the output's, or one for several: not tables."""
    operator = registry.find(node)
    tables = operator.tables if operator is not None else ()
    return [i for k, i in enumerate(node.inputs) if i and k not in tables]


def _again(node: Node, name: str, x: str, value: str, types: dict[str, TensorType]) -> Node:
    """The operator applied to `x` in place of `value`."""
    types[name] = TensorType(types[node.outputs[0]].dtype, types[x].shape)
    return replace(node, name=name, inputs=tuple(x if i == value else i for i in node.inputs), outputs=(name,))


def _over_parts(
    node: Node, join: Node, value: str, types: dict[str, TensorType], constants: dict[str, Array]
) -> list[Node]:
    out = node.outputs[0]
    parts = [_again(node, f"{out}/phase{k}", x, value, types) for k, x in enumerate(join.inputs)]
    if join.op == "Concat":
        end = 0
        for k, part in enumerate(parts):
            begin, end = end, end + types[part.outputs[0]].shape[1]
            parts[k] = _of_channels(part, begin, end, types, constants)
    return [*parts, replace(join, name=out, inputs=tuple(p.outputs[0] for p in parts), outputs=(out,))]


def _of_channels(node: Node, begin: int, end: int, types: dict[str, TensorType], constants: dict[str, Array]) -> Node:
    """The operator with what constants have of these channels."""
    axis = 1 - len(types[node.outputs[0]].shape)
    inputs, elements = list(node.inputs), _elements(node)
    for k, name in enumerate(node.inputs):
        constant = constants.get(name)
        if name in elements and constant is not None and constant.ndim >= -axis and constant.shape[axis] > 1:
            inputs[k] = f"{name}/{begin}_{end}"
            constants[inputs[k]] = np.take(constant, range(begin, end), axis)
            types[inputs[k]] = TensorType(types[name].dtype, constants[inputs[k]].shape)
    return replace(node, inputs=tuple(inputs))


def _moves(last: Node, made: Mapping[str, Node], readers: Mapping[str, int], graph: Graph) -> list[Node]:
    """The moves that end with `last`, in order, where a convolution (with its bias) comes before them; else none."""
    chain: list[Node] = []
    node: Node | None = last
    while node is not None and node.op in _MOVES and not node.domain:
        chain.insert(0, node)
        x = node.inputs[0]
        node = made.get(x) if readers.get(x) == 1 and x not in graph.outputs else None
    while node is not None and (operator := registry.find(node)) is not None and operator.kind == "pointwise":
        sources = [made[i] for i in node.inputs if i in made]
        node = sources[0] if len(sources) == 1 else None
    return chain if node is not None and node.op == "Convolution" else []


def _over_moves(node: Node, chain: list[Node], value: str, types: dict[str, TensorType]) -> list[Node]:
    """The operator first, then the moves; the operator alone where there are none."""
    if not chain:
        return [node]
    out = node.outputs[0]
    new = [_again(node, f"{out}/first", chain[0].inputs[0], value, types)]
    for k, move in enumerate(chain):
        name = out if move is chain[-1] else f"{out}/move{k}"
        types[name] = TensorType(types[out].dtype, types[move.outputs[0]].shape)
        new.append(replace(move, name=name, inputs=(new[-1].outputs[0], *move.inputs[1:]), outputs=(name,)))
    return new
