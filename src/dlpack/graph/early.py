"""QuantizeLinear before Concat: what only joins values is done on integers of 8 bits, not on floats that they become.

Quantisers give the parts of a Concat scales of their own, so that they are dequantised, joined and quantised again.
Each element is rounded by itself, so the parts may be rounded first: the kernels that compute them do, and the joined
value takes a quarter of the memory.
"""

from __future__ import annotations

from dataclasses import replace

from dlpack.graph.ir import Graph, Node, TensorType


def rounded_early(graph: Graph) -> Graph:
    """The graph with QuantizeLinear before Concat, where it alone reads the joined value, and has one scale."""
    consumers, producers = graph.consumers(), graph.producers()
    types = dict(graph.types)
    moved: dict[str, list[Node]] = {}  # the Concat's output → what stands in its place
    gone: set[str] = set()
    for node in graph.nodes:
        concat = producers.get(node.inputs[0]) if node.op == "QuantizeLinear" and node.inputs else None
        if concat is None or concat.op != "Concat" or not _may_move(graph, node, concat, consumers):
            continue
        if not any(x in producers and producers[x].op == "DequantizeLinear" for x in concat.inputs):
            continue
        out = node.outputs[0]
        parts = []
        for number, part in enumerate(concat.inputs):
            name = f"{out}/part{number}"
            types[name] = TensorType(types[out].dtype, types[part].shape)
            parts.append(replace(node, inputs=(part, *node.inputs[1:]), outputs=(name,), name=f"{node.name}/{number}"))
        sources = tuple(dict.fromkeys((*concat.sources, *node.sources)))
        joined = replace(concat, inputs=tuple(p.outputs[0] for p in parts), outputs=(out,), sources=sources)
        moved[concat.outputs[0]] = [*parts, joined]
        gone.add(out)
    if not moved:
        return graph
    nodes = [new for n in graph.nodes if n.outputs[0] not in gone for new in moved.get(n.outputs[0], [n])]
    return replace(graph, nodes=tuple(nodes), types=types)


def _may_move(graph: Graph, quantize: Node, concat: Node, consumers: dict[str, list[Node]]) -> bool:
    """Whether the Concat's value is read by the QuantizeLinear alone, whose one scale and zero point are constants."""
    value = concat.outputs[0]
    scaling = [graph.constants.get(name) for name in quantize.inputs[1:] if name]
    known = all(constant is not None and constant.size == 1 for constant in scaling)
    return value not in graph.outputs and len(consumers[value]) == 1 and known
