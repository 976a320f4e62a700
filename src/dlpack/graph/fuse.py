"""Groups nodes into kernels: an anchor with the pointwise operators behind it, or a chain of pointwise operators."""

from __future__ import annotations

from dataclasses import dataclass

from dlpack.graph import registry
from dlpack.graph.ir import BITS, Graph, Node


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


MAX_NODES = 32
"""Pointwise operators in one kernel; a longer chain would run out of registers and be hard to read."""


def fuse(graph: Graph) -> list[Group]:
    """Groups in execution order. View operators and loops stay groups of one node.

    A pointwise node draws in the groups that compute its inputs when nothing else needs what they compute: a value may
    be read several times, as x in ``x * sigmoid(x)``, as long as all its readers end up in the same kernel.
    A Cast to or from 16-bit floats is a kernel of its own: it computes on bits, and would slow down what it joined.
    """
    consumers = graph.consumers()
    open_groups: dict[int, list[Node]] = {}
    group_of: dict[str, int] = {}
    outputs = {*graph.outputs, *(c.present for c in graph.caches)}
    place = {node.name: number for number, node in enumerate(graph.nodes)}

    def drawn_in(node: Node) -> list[int]:
        shape = graph.types[node.outputs[0]].shape
        taken: list[int] = []
        inside = {node.name}
        anchors = 0
        changed = True
        while changed:
            changed = False
            members = [n for k in taken for n in open_groups[k] if n.name in inside] + [node]
            for value in dict.fromkeys(i for n in members for i in n.inputs if i):
                k = group_of.get(value)
                if k is None or k in taken or value in outputs:
                    continue
                group = open_groups[k]
                kind = registry.find(group[0])
                is_anchor = _is_anchor(group[0])
                if (
                    group[-1].outputs == (value,)
                    and (is_anchor or (kind is not None and kind.kind == "pointwise"))
                    and graph.types[value].shape == shape
                    and not any(graph.types[v].dtype in BITS for v in (*group[0].inputs, value) if v)
                    and all(c.name in inside for c in consumers[value])
                    and not (is_anchor and anchors)
                    and len(members) + len(group) <= MAX_NODES
                ):
                    taken.append(k)
                    inside.update(n.name for n in (group[1:] if is_anchor else group))
                    anchors += is_anchor
                    changed = True
        return taken

    for number, node in enumerate(graph.nodes):
        operator = registry.find(node)
        members = [node]
        alone = any(graph.types[v].dtype in BITS for v in (*node.inputs, *node.outputs) if v)
        if operator is not None and operator.kind == "pointwise" and not alone:
            drawn = [n for k in drawn_in(node) for n in open_groups.pop(k)]
            # An anchor comes first, but what lies behind it may read what another of these groups computes.
            members = sorted([*drawn, node], key=lambda n: -1 if _is_anchor(n) else place[n.name])
        open_groups[number] = members
        for n in members:
            for o in n.outputs:
                if o:
                    group_of[o] = number
    number_of = {n.name: number for number, n in enumerate(graph.nodes)}
    return [_finish([nodes[0], *sorted(nodes[1:], key=lambda n: number_of[n.name])]) for nodes in open_groups.values()]


def _is_anchor(node: Node) -> bool:
    operator = registry.find(node)
    return operator is not None and operator.kind == "anchor"


def _finish(nodes: list[Node]) -> Group:
    """The group of nodes in execution order: groups that were drawn in may use what others of them compute."""
    made = {o for n in nodes for o in n.outputs}
    inputs = tuple(dict.fromkeys(i for n in nodes for i in n.inputs if i and i not in made))
    operator = registry.find(nodes[0])
    anchor = None if operator is not None and operator.kind == "pointwise" else nodes[0]
    outputs = tuple(o for o in nodes[-1].outputs if o)
    return Group(tuple(nodes), anchor, inputs, outputs)
