"""The model of which a predictor with stated maxima computes everything: for the reference, in plain ONNX."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from dlpack.model.fold import fresh_name, set_items
from dlpack.model.walk import graphs, opset_versions

_SELECTIONS = {"Compress": 0, "NonMaxSuppression": 0, "NonZero": 1, "Range": 0, "Unique": 0}
"""The axis of the elements that are selected, where no attribute says otherwise."""


def limited(model: ModelProto, maxima: Mapping[str, int]) -> ModelProto:
    """Selections and loops for which a maximum is stated stop there. `model` comes back as it is where none is."""

    def chosen(node: NodeProto) -> bool:
        return node.op_type in (*_SELECTIONS, "Loop") and not maxima.keys().isdisjoint((node.name, *node.output))

    if not any(chosen(node) for part in graphs(model.graph) for node in part.node):
        return model
    made = ModelProto()
    made.CopyFrom(model)
    parts = list(graphs(made.graph))
    taken = {name for part in parts for node in part.node for name in (*node.input, *node.output)}
    taken |= {value.name for part in parts for value in (*part.input, *part.initializer)}
    opset = opset_versions(model).get("", 0)
    for part in reversed(parts):  # inner ones first: those around them are written again with copies of them
        if any(chosen(node) for node in part.node):
            set_items(part.node, _limited(part, maxima, chosen, taken, opset))
    return made


def _limited(
    graph: GraphProto, maxima: Mapping[str, int], chosen: Callable[[NodeProto], bool], taken: set[str], opset: int
) -> list[NodeProto]:
    """The nodes of a graph, with limits; their numbers become weights of it."""
    nodes: list[NodeProto] = []
    for node in graph.node:
        if not chosen(node):
            nodes.append(node)
            continue
        most = min(maxima[n] for n in (node.name, *node.output) if n in maxima)

        def constant(value: int, dtype: type = np.int64, rank: int = 1) -> str:
            name = fresh_name("limit", taken)
            graph.initializer.append(numpy_helper.from_array(np.full([1] * rank, value, dtype), name))
            return name

        if node.op_type == "Loop":
            limit = constant(most, rank=0)
            if node.input[0]:
                given, limit = [node.input[0], limit], fresh_name("trips", taken)
                nodes.append(helper.make_node("Min", given, [limit]))
            node.input[0] = limit
            nodes.append(node)
            continue
        axis = next((a.i for a in node.attribute if a.name == "axis"), _SELECTIONS[node.op_type])
        nodes.append(node)
        for k, name in enumerate(node.output):
            if not name or (node.op_type == "Unique" and k == 2):
                continue
            node.output[k] = fresh_name(f"{name}/all", taken)
            along = axis if k == 0 else 0
            if opset < 10:
                cut = helper.make_node("Slice", [node.output[k]], [name], starts=[0], ends=[most], axes=[along])
                nodes.append(cut)
            else:
                inputs = [node.output[k], *(constant(v) for v in (0, most, along))]
                nodes.append(helper.make_node("Slice", inputs, [name]))
    return [NodeProto.FromString(node.SerializeToString()) for node in nodes]
