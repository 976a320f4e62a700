"""What the report shows, for a model that is not built yet: the network, an estimate of the arena, the weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlpack.errors import ModelError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from dlpack.graph.ir import Graph
    from dlpack.kernels.place import Placement
    from dlpack.source import Source

Shapes = Mapping[str, tuple[int, ...]]


def write_preview(
    page: Path,
    path: Path,
    facts: Mapping[str, Any],
    shapes: Shapes | None = None,
    dtypes: Mapping[str, str] | None = None,
    params: Path | None = None,
    values: Mapping[str, tuple[str, ...]] | None = None,
) -> None:
    """Writes a page about the model or bundle at `path`; `facts` and the rest as for `inspect_path`.

    A model with open shapes, or with operators that are not supported, has no arena and is drawn node by node.
    Raises UsageError for a page that cannot be written.
    """
    from dlpack.exporters.base import main_file

    if main_file(path).is_dir():
        text = _of_bundle(path)
    else:
        from dlpack.source import read_source

        text = _of_model(path, facts, read_source(path, params, shapes, dtypes, values), shapes or {})
    try:
        page.write_text(text, encoding="utf-8")
    except OSError as e:
        raise UsageError(f"cannot write {page}: {e.strerror or e}") from e


def _of_bundle(bundle: Path) -> str:
    from dlpack.bundle.plan_file import read_plan
    from dlpack.bundle.read import read_kernels, read_manifest
    from dlpack.bundle.report import file_sizes, report_html

    return report_html(read_manifest(bundle), read_kernels(bundle), file_sizes(bundle), read_plan(bundle))


def _of_model(path: Path, facts: Mapping[str, Any], source: Source, shapes: Shapes) -> str:
    from dlpack.model.tensors import tensor_bytes
    from dlpack.report.arena import arena_map
    from dlpack.report.network import network_drawing
    from dlpack.report.page import page, table, tensors_table
    from dlpack.report.treemap import treemap
    from dlpack.stages.prepare import clean_graph

    inputs, outputs = ([t["name"] for t in facts[kind]] for kind in ("inputs", "outputs"))
    memory: list[str] = []
    try:
        proto, graph = clean_graph(source.proto, source.open_shapes(shapes))
        graph, placement, blocks = _placed(graph)
        places, steps, size = _arena(placement)
        memory = [
            f"<p class=sub>{size:,} bytes: an estimate for this computer. A build adds the kernels' scratch memory, "
            "and may let a kernel write over what it reads.</p>",
            arena_map(places, steps, size),
        ]
        inputs, outputs = list(graph.inputs), list(graph.outputs)
    except (UsageError, UnsupportedError, ModelError):
        proto, blocks = source.proto, _nodes(source.proto.graph.node)
    rows = [
        (escape(o["operator"]), f"{o['count']:,}", "yes" if o["supported"] else "<span class=bad>no</span>")
        for o in facts["operators"]
    ]
    macs = f", {facts['macs']:,} multiply-adds per run" if "macs" in facts else ""
    weights = [(t.name, tensor_bytes(t)) for t in proto.graph.initializer]
    return page(
        path.name,
        f"{escape(str(facts['source']))}, {escape(facts['opset'])}{macs}; not built",
        [
            ("Inputs and outputs", tensors_table({0: facts})),
            ("Network", [network_drawing(blocks, inputs, outputs, {})]),
            ("Memory", memory),
            ("Weights", [treemap(weights, "The weights, as the model has them")]),
            ("Operators", [table(("operator", "#count", "compiled"), rows)]),
        ],
    )


def _placed(graph: Graph) -> tuple[Graph, Placement, list[dict[str, Any]]]:
    """The graph as it is fused for this computer, where its values lie, and its groups."""
    from dataclasses import asdict

    from dlpack.graph.blocks import blocks_of
    from dlpack.graph.fuse import fuse
    from dlpack.graph.group_norms import group_norms
    from dlpack.graph.idioms import idioms
    from dlpack.graph.parallel import parallel_convolutions
    from dlpack.graph.quantized import quantized
    from dlpack.graph.rewrite import rewrite
    from dlpack.kernels.place import place
    from dlpack.targets import get_target

    build = get_target("native").builds[0]
    layouts = build.backend(build.machine(), 1).layouts
    graph = idioms(rewrite(group_norms(quantized(parallel_convolutions(graph), layouts.dots))))
    groups = fuse(graph)
    placement = place(graph, groups, layouts)
    computed = {n.name: "+".join(m.op for m in g.nodes) for g in placement.groups for n in g.nodes}
    return graph, placement, [asdict(b) for b in blocks_of(graph, groups, computed)]


def _arena(placement: Placement) -> tuple[list[dict[str, Any]], list[str], int]:
    """The places in an arena for the buffers, the names of the steps, the bytes."""
    from dlpack.graph.ir import TensorType
    from dlpack.plan.memory import Item, plan_arena

    lives: dict[str, tuple[int, int]] = {}
    values: dict[str, list[str]] = {}
    for step, group in enumerate(placement.groups):
        for value in (*group.inputs, *group.outputs):
            at = placement.places.get(value)
            if at is not None and placement.buffers[at.buffer].kind == "arena":
                lives[at.buffer] = lives.get(at.buffer, (step, step))[0], step
                values.setdefault(at.buffer, [])
                if value not in values[at.buffer]:
                    values[at.buffer].append(value)

    def nbytes(buffer: str) -> int:
        b = placement.buffers[buffer]
        return b.elements * TensorType(b.dtype, ()).itemsize

    arena = plan_arena([Item(name, nbytes(name), *life) for name, life in lives.items()])
    places = [
        {
            "name": name,
            "offset": offset,
            "bytes": nbytes(name),
            "first": lives[name][0],
            "last": lives[name][1],
            "values": values[name],
            "dtype": placement.buffers[name].dtype,
            "shape": list(placement.buffers[name].shape),
        }
        for name, offset in arena.offsets.items()
    ]
    return places, [" + ".join(n.op for n in g.nodes) for g in placement.groups], arena.size


def _nodes(nodes: Iterable[Any]) -> list[dict[str, Any]]:
    """ONNX nodes as groups of one operator each."""
    return [
        {
            "kernel": n.op_type,
            "operators": [n.op_type],
            "inputs": [i for i in n.input if i],
            "outputs": [o for o in n.output if o],
            "kind": n.name,
        }
        for n in nodes
    ]
