"""`x[mask] = f(x[mask])` as where(mask, f(x), x): the number of elements between depends on the data, the result not.

Selections that stay are written as indexing by the mask, which torch.onnx knows. It works on an exported program, so it
is one for files, TorchScript and modules.
"""

from __future__ import annotations

from typing import Any

from dlpack.exporters.pytorch.framework import import_torch


def without_selections(program: Any) -> Any:
    """The program with each such assignment as a choice by element; the same program if it has none."""
    aten = import_torch().ops.aten
    writes = (aten.index_put.default, aten.index_put_.default)
    select = aten.masked_select.default
    if not any(n.target is select or (n.target in writes and _is_open(n.args[2])) for n in program.graph.nodes):
        return program
    program = program.run_decompositions({})  # as functions that write to nothing
    graph = program.graph
    for node in list(graph.nodes):
        if node.target is aten.index_put.default and _is_open(node.args[2]):
            _choose(graph, node)
        elif node.target is select and node.meta["val"].dim() == 1:
            _index(graph, node)
    for node in reversed(list(graph.nodes)):
        if node.target is aten._assert_scalar.default:  # of sizes, which would keep the selections
            graph.erase_node(node)
    graph.eliminate_dead_code()
    program.graph_module.recompile()
    return program


def _is_open(node: Any) -> bool:
    """Whether the value has a size that depends on the data."""
    value = getattr(node, "meta", {}).get("val")
    return isinstance(value, import_torch().Tensor) and any(not isinstance(n, int) for n in value.shape)


def _index(graph: Any, node: Any) -> None:
    """masked_select(x, mask) as x[mask]."""
    aten = import_torch().ops.aten
    x, mask = node.args
    shape = list(import_torch().broadcast_shapes(x.meta["val"].shape, mask.meta["val"].shape))
    with graph.inserting_before(node):
        x, mask = (
            v if list(v.meta["val"].shape) == shape else _call(graph, aten.expand.default, v, shape) for v in (x, mask)
        )
        picked = graph.call_function(aten.index.Tensor, (x, [mask]))
    picked.meta = dict(node.meta)
    node.replace_all_uses_with(picked)


def _choose(graph: Any, node: Any) -> None:
    aten = import_torch().ops.aten
    x, indices, values = node.args[:3]
    accumulates = node.args[3] if len(node.args) > 3 else node.kwargs.get("accumulate", False)
    given = [k for k, index in enumerate(indices) if index is not None]
    if len(given) != 1 or accumulates or indices[given[0]].meta["val"].dtype != import_torch().bool:
        return
    mask = indices[given[0]]
    behind = x.meta["val"].dim() - given[0] - mask.meta["val"].dim()
    with graph.inserting_before(node):
        whole = _Whole(graph, x, list(indices), mask, behind).value(values)
        if whole is None:
            return
        for _ in range(behind):
            mask = _call(graph, aten.unsqueeze.default, mask, -1)
        chosen = _call(graph, aten.where.self, mask, whole, x)
    node.replace_all_uses_with(chosen)


class _Whole:
    """Values that were computed of selected elements, computed of all elements instead."""

    def __init__(self, graph: Any, x: Any, indices: list[Any], mask: Any, behind: int) -> None:
        self.graph, self.x, self.indices, self.mask, self.behind = graph, x, indices, mask, behind

    def value(self, node: Any) -> Any:
        """The node for all elements, or None where it is more than functions of one element."""
        torch = import_torch()
        aten = torch.ops.aten
        if not _is_open(node):
            value = node.meta.get("val") if hasattr(node, "meta") else None
            alone = not isinstance(value, torch.Tensor) or value.numel() == 1 or value.dim() <= self.behind
            return node if alone else None
        if node.target is aten.index.Tensor:
            source, indices = node.args
            same = len(indices) == len(self.indices) and all(map(_same, indices, self.indices))
            return source if same and self._fits(source) else None
        if node.target is aten.masked_select.default:
            source, mask = node.args
            return source if self.behind == 0 and _same(mask, self.mask) and self._fits(source) else None
        if torch.Tag.pointwise not in getattr(node.target, "tags", ()):
            return None
        args = [self.value(a) if isinstance(a, torch.fx.Node) else a for a in node.args]
        if any(a is None and b is not None for a, b in zip(args, node.args, strict=True)):
            return None
        return _call(self.graph, node.target, *args, **node.kwargs)

    def _fits(self, source: Any) -> bool:
        return bool(source.meta["val"].shape == self.x.meta["val"].shape)


def _same(a: Any, b: Any) -> bool:
    """Whether both are one value: a node, or the same function of the same values."""
    torch = import_torch()
    if a is b:
        return True
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if not isinstance(a, torch.fx.Node) or not isinstance(b, torch.fx.Node):
        return type(a) is type(b) and bool(a == b)
    random = torch.Tag.nondeterministic_seeded in getattr(a.target, "tags", ())
    if a.op != "call_function" or a.target is not b.target or random:
        return False
    return _same(a.args, b.args) and a.kwargs == b.kwargs


def _call(graph: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
    """A new node, with its value's shape and type."""
    torch = import_torch()
    node = graph.call_function(target, args, kwargs)
    given = [a.meta["val"] if isinstance(a, torch.fx.Node) else a for a in args]
    node.meta["val"] = target(*given, **kwargs)
    return node
