"""Replaces operators that have a `rewrite` entry by simpler nodes, until none is left."""

from __future__ import annotations

from dataclasses import replace

from dlpack.errors import UnsupportedError
from dlpack.graph import registry
from dlpack.graph.ir import Graph, Node
from dlpack.graph.registry import Builder, Context, NotSupported


def rewrite(graph: Graph) -> Graph:
    """The graph in terms of operators that have kernels; raises one `UnsupportedError` for all that have none."""
    problems = _unsupported_types(graph)
    for _ in range(20):
        graph, changed = _once(graph, problems)
        if problems:
            raise UnsupportedError("this model cannot be compiled:", tuple(dict.fromkeys(problems)))
        if not changed:
            return remove_dead(_without_names(graph))
    raise AssertionError("rewriting does not end")


def _unsupported_types(graph: Graph) -> list[str]:
    problems = []
    for node in graph.nodes:
        problems += [p for v in node.attrs.values() if isinstance(v, Graph) for p in _unsupported_types(v)]
        odd = sorted({graph.types[v].dtype for v in (*node.inputs, *node.outputs) if v} - registry.DTYPES)
        if odd:
            problems.append(f"{describe(node, graph)}: the element type {odd[0]} is not supported")
    return problems


def _once(graph: Graph, problems: list[str]) -> tuple[Graph, bool]:
    nodes: list[Node] = []
    constants, types = dict(graph.constants), dict(graph.types)
    changed = False
    for node in graph.nodes:
        operator = registry.find(node)
        if operator is None:
            problems.append(f"{describe(node, graph)}: operator {node.domain or 'ai.onnx'}::{node.op} is not supported")
            nodes.append(node)
            continue
        if node.body is not None:
            body, inner = _once(node.body, problems)
            changed |= inner
            node = replace(node, body=remove_dead(body))
        if operator.kind != "rewrite":
            nodes.append(node)
            continue
        now = replace(graph, constants=constants, types=types)
        builder = Builder(now, node)
        try:
            done = operator.function(Context(node, now), builder)
        except NotSupported as e:
            problems.append(f"{describe(node, graph)}: {e}")
            nodes.append(node)
            continue
        if done is False:
            raise AssertionError(f"{node.op} declined to be rewritten and has no kernel")
        nodes.extend(builder.nodes)
        constants.update(builder.constants)
        types.update(builder.types)
        missing = [o for o in node.outputs if o and o not in {x for n in builder.nodes for x in n.outputs}]
        constants_made = [o for o in missing if o in builder.constants]
        if set(missing) - set(constants_made) and any(
            o in graph.outputs or any(o in n.inputs for n in graph.nodes) for o in missing if o not in constants_made
        ):
            problems.append(f"{describe(node, graph)}: output {missing[0]!r} is not computed")
        changed = True
    return replace(graph, nodes=tuple(nodes), constants=constants, types=types), changed


def _without_names(graph: Graph) -> Graph:
    """The graph without Identities that only give a computed value another name, as rewrites end with: what computes it
    takes that name, and may then write into what it is joined to."""
    producers = graph.producers()
    kept = {*graph.outputs, *(v for c in graph.caches for v in (c.past, c.present))}
    names: dict[str, str] = {}
    for node in graph.nodes:
        if node.op == "Identity" and not node.domain:
            (x,), (y,) = node.inputs, node.outputs
            alone = x in producers and producers[x].body is None and x not in kept and x not in names
            if alone and x not in names.values() and graph.types[x] == graph.types[y]:
                names[x] = y
    if not names:
        return graph
    nodes = []
    for n in graph.nodes:
        inputs, outputs = (tuple(names.get(v, v) for v in values) for values in (n.inputs, n.outputs))
        if n.op != "Identity" or n.domain or inputs != n.outputs:
            nodes.append(replace(n, inputs=inputs, outputs=outputs))
    return replace(graph, nodes=tuple(nodes))


def remove_dead(graph: Graph) -> Graph:
    """Drops nodes and constants that no output and no cache needs."""
    needed = {*graph.outputs, *(c.present for c in graph.caches)}
    keep: list[Node] = []
    for node in reversed(graph.nodes):
        if any(o in needed for o in node.outputs):
            keep.append(node)
            needed.update(i for i in node.inputs if i)
    constants = {k: v for k, v in graph.constants.items() if k in needed}
    return replace(graph, nodes=tuple(reversed(keep)), constants=constants)


def describe(node: Node, graph: Graph) -> str:
    shapes = ", ".join(str(graph.types[i]) if i in graph.types else "?" for i in node.inputs if i)
    return f"node {(node.sources or (node.name,))[0]!r} {node.op}({shapes})"
