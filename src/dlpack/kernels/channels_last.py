"""Which values lie channels-last: those around convolutions."""

from __future__ import annotations

from dlpack.graph import registry
from dlpack.graph.fuse import Group
from dlpack.graph.ir import Graph, Node
from dlpack.kernels.backend import LayoutPreferences


def channels_last_values(graph: Graph, groups: list[Group], prefer: LayoutPreferences) -> set[str]:
    """Values that lie channels-last: all that reach a spatial operator through shape-preserving ones."""
    boss: dict[str, str] = {}

    def find(v: str) -> str:
        while boss.setdefault(v, v) != v:
            boss[v] = boss[boss[v]]
            v = boss[v]
        return v

    nodes = [n for g in groups for n in g.nodes if n.outputs[0] and len(graph.types[n.outputs[0]].shape) > 2]
    for node in nodes:
        operator = registry.find(node)
        if operator is not None and (operator.kind == "pointwise" or operator.layout == "same"):
            shape = graph.types[node.outputs[0]].shape
            for i in _variables(node, graph):
                if graph.types[i].shape == shape or (
                    len(graph.types[i].shape) == len(shape) and operator.layout == "same"
                ):
                    for o in filter(None, node.outputs):
                        boss[find(i)] = find(o)
    matrices = {find(v) for node in nodes if node.op in ("MatMul", "Softmax") for v in (*node.inputs, *node.outputs)}
    spatial: set[str] = set()
    for node in nodes:
        operator = registry.find(node)
        if operator is None or not operator.layout.startswith("spatial") or few_channels(node, graph, prefer):
            continue
        if _mixes_heads(node, graph) and matrices & {find(node.inputs[0]), find(node.outputs[0])}:
            continue
        spatial.update([] if operator.layout == "spatial input" else node.outputs[:1])
        few = graph.types[node.inputs[0]].shape[1] <= prefer.few_channels
        planes = node.op == "Convolution" and few
        spatial.update([] if operator.layout == "spatial output" or planes else node.inputs[:1])
    origins = _origins_of_channels(graph)
    for group in groups:  # what is computed of parts of such values
        parts = [origins[i] for i in group.inputs if i in origins]
        roots = {find(v) for v in spatial}
        if parts and group.anchor is None and all(find(v) in roots for v in parts):
            spatial.add(group.output)
    for node in reversed(nodes):  # what is joined to such a value
        if node.op == "Concat" and find(node.outputs[0]) in {find(v) for v in spatial}:
            spatial.update(_variables(node, graph))
    roots = {find(v) for v in spatial}
    fixed = {*graph.inputs, *(o for g in groups if g.nodes[0].body is not None for o in g.nodes[0].outputs)}
    return {v for v in list(boss) + list(spatial) if find(v) in roots and v not in fixed}


def _variables(node: Node, graph: Graph) -> list[str]:
    return [i for i in node.inputs if i and i not in graph.constants]


MOST_HEADS = 32


def _mixes_heads(node: Node, graph: Graph) -> bool:
    """A convolution of single pixels to few channels, as between attention's heads: matrix products and Softmax, from
    which its input comes or to which its output goes, need rows."""
    x, out = graph.types[node.inputs[0]].shape, graph.types[node.outputs[0]].shape
    return node.op == "Convolution" and node.attrs["group"] == 1 and x[2:] == out[2:] and out[1] <= MOST_HEADS


def _origins_of_channels(graph: Graph) -> dict[str, str]:
    """Values that are some channels of another one, seen through slices and reshapes, and that one."""
    out: dict[str, str] = {}
    for node in graph.nodes:
        if node.op not in ("Slice", "Split", "Reshape") or node.domain:
            continue
        x = graph.types[node.inputs[0]].shape
        for o in filter(None, node.outputs):
            shape = graph.types[o].shape
            if len(shape) > 3 and shape[-2:] == x[-2:] and shape[0] == x[0]:
                out[o] = out.get(node.inputs[0], node.inputs[0])
    return {value: origin for value, origin in out.items() if len(graph.types[value].shape) == 4}


def few_channels(node: Node, graph: Graph, prefer: LayoutPreferences) -> bool:
    """A convolution to few channels fills no vector with them: its vectors run along the rows of pixels."""
    if node.op != "Convolution" or node.attrs["group"] != 1 or node.attrs["strides"][-1] != 1:
        return False
    out = graph.types[node.outputs[0]].shape
    return out[1] <= prefer.few_channels and out[-1] >= prefer.long_row
