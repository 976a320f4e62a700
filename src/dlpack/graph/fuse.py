"""Groups nodes into kernels: an anchor with the pointwise operators behind it, or a chain of pointwise operators."""

from __future__ import annotations

from dataclasses import dataclass

from dlpack.graph.ir import Graph, Node
from dlpack.operators import registry


@dataclass(frozen=True)
class Group:
    """Nodes that become one kernel, in order; `anchor` is the first when it is no pointwise operator.

    `inputs` are the values read from outside, constants included; `output` is the value of the last node, and
    `outputs` all values that the group computes for others.
    """

    nodes: tuple[Node, ...]
    anchor: Node | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def output(self) -> str:
        return self.outputs[0]

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(s for n in self.nodes for s in n.sources))


def fuse(graph: Graph) -> list[Group]:
    """Groups in execution order. View operators and loops ("Scan") stay groups of one node."""
    consumers = graph.consumers()
    open_groups: list[list[Node] | None] = []
    group_of: dict[str, int] = {}

    def joins(node: Node, value: str) -> bool:
        k = group_of.get(value)
        if k is None or open_groups[k] is None:
            return False
        last = open_groups[k][-1]  # type: ignore[index]
        first = open_groups[k][0]  # type: ignore[index]
        kind = registry.find(first)
        return (
            len(last.outputs) == 1
            and last.outputs[0] == value
            and value not in graph.outputs
            and len(consumers[value]) == 1
            and graph.types[value].shape == graph.types[node.outputs[0]].shape
            and kind is not None
            and kind.kind in ("pointwise", "anchor")
            and not (kind.kind == "pointwise" and len(open_groups[k]) >= 24)  # type: ignore[arg-type]
        )

    for node in graph.nodes:
        operator = registry.find(node)
        if operator is not None and operator.kind == "pointwise":
            candidates = [group_of[i] for i in node.inputs if i and joins(node, i)]
            if candidates:
                best = max(candidates, key=lambda k: (_weight(open_groups[k]), k))
                group = open_groups[best]
                assert group is not None
                open_groups[best] = None
                open_groups.append([*group, node])
                for o in node.outputs:
                    group_of[o] = len(open_groups) - 1
                continue
        open_groups.append([node])
        for o in node.outputs:
            if o:
                group_of[o] = len(open_groups) - 1
    return [_finish(nodes) for nodes in open_groups if nodes is not None]


def _weight(nodes: list[Node] | None) -> int:
    operator = registry.find(nodes[0]) if nodes else None
    return 1 if operator is not None and operator.kind == "anchor" else 0


def _finish(nodes: list[Node]) -> Group:
    made = {o for n in nodes for o in n.outputs}
    inputs = tuple(dict.fromkeys(i for n in nodes for i in n.inputs if i and i not in made))
    operator = registry.find(nodes[0])
    anchor = None if operator is not None and operator.kind == "pointwise" else nodes[0]
    outputs = tuple(o for o in nodes[-1].outputs if o)
    return Group(tuple(nodes), anchor, inputs, outputs)
