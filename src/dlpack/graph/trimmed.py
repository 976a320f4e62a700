"""Convolutions of which a part is cut off at once, as causal ones are exported: they compute no more than is kept."""

from __future__ import annotations

from dataclasses import replace

from dlpack.graph.ir import Graph, Node
from dlpack.graph.registry import Context, slice_of
from dlpack.graph.rewrite import remove_dead


def trimmed(graph: Graph) -> Graph:
    """The graph in which a Conv that only a Slice reads has less pads, where the Slice cuts what they are for."""
    producers, consumers = graph.producers(), graph.consumers()
    instead: dict[str, Node] = {}  # by what the convolutions give
    cut: set[str] = set()
    for node in graph.nodes:
        conv = producers.get(node.inputs[0]) if node.op == "Slice" else None
        if conv is None or conv.op != "Conv" or len(consumers[node.inputs[0]]) > 1 or node.inputs[0] in graph.outputs:
            continue
        if pads := _pads(Context(node, graph), Context(conv, graph)):
            instead[conv.outputs[0]] = replace(conv, outputs=node.outputs, attrs={**conv.attrs, "pads": pads})
            cut.add(node.outputs[0])
    nodes = [instead.get(n.outputs[0], n) for n in graph.nodes if n.outputs[0] not in cut]
    types = {name: t for name, t in graph.types.items() if name not in instead}
    return remove_dead(replace(graph, nodes=tuple(nodes), types=types)) if instead else graph


def _pads(cut: Context, conv: Context) -> list[int] | None:
    """What remains of a convolution's pads; None where more is cut than these add."""
    old, new = cut.input_type(0).shape, cut.output_type().shape
    rank = len(old) - 2
    if conv.attr("auto_pad", "NOTSET") != "NOTSET" or any(cut.maybe_constant(k) is None for k in range(1, 5)
                                                          if cut.has_input(k)):  # fmt: skip
        return None
    pads, strides = list(conv.attr("pads") or [0] * (2 * rank)), conv.attr("strides") or [1] * rank
    for start, _, axis, step in zip(*slice_of(cut), strict=True):
        if old[axis] == new[axis]:
            continue
        if axis < 2 or step != 1 or start < 0:
            return None
        pads[axis - 2] -= start * strides[axis - 2]
        pads[rank + axis - 2] -= (old[axis] - new[axis] - start) * strides[axis - 2]
    return pads if min(pads) >= 0 else None
