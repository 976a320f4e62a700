"""What a model file or a bundle contains, found without compiling it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

from dlpack.errors import ModelError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from dlpack.source import Source

Shapes = Mapping[str, tuple[int, ...]]


def inspect_path(
    path: Path,
    shapes: Shapes | None = None,
    dtypes: Mapping[str, str] | None = None,
    params: Path | None = None,
    values: Mapping[str, tuple[str, ...]] | None = None,
) -> dict[str, Any]:
    """The facts about the model or the bundle at `path`, as JSON data.

    A model is anything that `dlpack build` accepts: an ONNX file, another framework's file or folder, or MODULE:NAME;
    the last two are described as the ONNX that their exporter produces for `shapes` and `dtypes`.
    Both have `inputs` and `outputs` (lists of name, dtype, shape, and `quantization` if quantised), `opset`, `macs` and
    `weights_bytes`. A model also has `source` (the framework) and `operators` (operator, count, supported); a bundle
    has `target`, `kernels`, the arena's sizes in bytes, and `shapes` if it has several sets of them (inputs, outputs,
    macs and arena of each). `macs` is missing if input shapes are open.
    Raises UsageError for a path that is neither or lacks what an exporter needs, ModelError for a broken model.
    """
    from dlpack.exporters.base import main_file
    from dlpack.source import read_source

    path = Path(path)
    if main_file(path).is_dir():
        if shapes or params or values:
            raise UsageError(f"{path} is a bundle, whose shapes are fixed: remove --shape, --value and --params")
        return _inspect_bundle(path)
    return _inspect_model(read_source(path, params, shapes, dtypes, values), shapes or {})


# --- bundles ----------------------------------------------------------------------------------------------------------


def _inspect_bundle(path: Path) -> dict[str, Any]:
    from dlpack.bundle.loader import read_kernels, read_manifest

    m = read_manifest(path)
    try:
        more: dict[str, Any] = {key: m[key] for key in ("shapes", "open", "tried") if key in m}
        return {
            "inputs": m["inputs"],
            "outputs": m["outputs"],
            **more,
            "opset": m["opset"],
            "target": m["target"],
            **({"processor": m["processor"]} if "processor" in m else {}),
            "macs": m["macs"],
            "weights_bytes": m["weights_bytes"],
            "arena_bytes": m["arena"]["bytes"],
            "arena_lower_bound": m["arena"]["lower_bound"],
            "arena_naive": m["arena"]["naive"],
            "kernels": len(read_kernels(path)),
        }
    except (KeyError, TypeError) as e:
        raise UsageError(
            f"{path} was not built by this version: its manifest.json lacks {e}; build the bundle again"
        ) from e


# --- models -----------------------------------------------------------------------------------------------------------


def _inspect_model(source: Source, shapes: Shapes) -> dict[str, Any]:
    from dlpack import operators
    from dlpack.model.clean import clean
    from dlpack.model.meaning import tell_quantization

    model = source.proto
    try:
        cleaned = clean(model, source.open_shapes(shapes), lambda op, domain: not operators.supported(op, domain))
    except UsageError:
        if shapes:
            raise
        cleaned = None  # input shapes are open: report what is known without them
    except (UnsupportedError, ModelError):
        cleaned = None
    shown = cleaned or model
    inputs, outputs = [_value(v) for v in _inputs(shown.graph)], _outputs(model, cleaned)
    tell_quantization(shown, [*inputs, *outputs])
    facts: dict[str, Any] = {
        "inputs": inputs,
        "outputs": outputs,
        "operators": _operators(model, cleaned, _compiled),
        "source": source.metadata.get("dlpack.source", "ONNX"),
        "opset": source.opset,
        "weights_bytes": _weights_bytes(shown),
    }
    if cleaned is not None:
        facts["macs"] = model_macs(cleaned)
    return facts


def _compiled(op: str, domain: str) -> bool:
    """Whether an operator compiles, be it as part of a model with sizes that only a run knows."""
    from dlpack import operators
    from dlpack.model.sized import has_rule

    return operators.supported(op, domain) or has_rule(NodeProto(op_type=op, domain=domain))


def _inputs(graph: GraphProto) -> list[ValueInfoProto]:
    weights = {t.name for t in graph.initializer}
    return [v for v in graph.input if v.name not in weights]


def _outputs(model: ModelProto, cleaned: ModelProto | None) -> list[dict[str, Any]]:
    from dlpack.model.infer import element_type_name, infer_types

    outputs = [_value(v) for v in model.graph.output]
    types = infer_types(cleaned) if cleaned is not None else {}
    for value in outputs:
        kind = types.get(value["name"])
        if kind is not None and kind.known:
            value.update(dtype=element_type_name(kind.elem) or value["dtype"], shape=list(kind.shape or ()))
    return outputs


def _value(v: ValueInfoProto) -> dict[str, Any]:
    """Name, dtype and shape; an open dimension is its symbol or "?"."""
    from dlpack.model.infer import element_type_name

    kind = v.type.WhichOneof("value")
    if kind not in ("tensor_type", None):
        return {"name": v.name, "dtype": str(kind).removesuffix("_type"), "shape": []}
    tensor = v.type.tensor_type
    dims: list[int | str] = [
        d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else d.dim_param or "?" for d in tensor.shape.dim
    ]
    names = {number: text.lower() for text, number in onnx.TensorProto.DataType.items()}
    dtype = element_type_name(tensor.elem_type) or names.get(tensor.elem_type, "unknown")
    return {"name": v.name, "dtype": dtype, "shape": dims}


def _weights_bytes(model: ModelProto) -> int:
    from dlpack.model.tensors import tensor_bytes

    return sum(tensor_bytes(t) for t in model.graph.initializer)


def _operators(model: ModelProto, cleaned: ModelProto | None, supported: Any) -> list[dict[str, Any]]:
    """The model's operators. One is supported if it compiles, or if cleaning leaves nothing of it."""
    counts = Counter((n.op_type, n.domain) for n in _all_nodes(model.graph.node))
    left = Counter((n.op_type, n.domain) for n in cleaned.graph.node) if cleaned is not None else None
    rows = []
    for (op, domain), count in counts.items():
        good = supported(op, domain) or (not left[op, domain] if left is not None else op == "Constant")
        rows.append((op, domain, count, bool(good)))
    for (op, domain), count in (left or {}).items():
        if (op, domain) not in counts and not supported(op, domain):
            rows.append((op, domain, count, False))  # came with the definition of another operator
    rows.sort(key=lambda r: (r[3], -r[2], r[0], r[1]))
    return [
        {"operator": f"{domain}.{op}" if domain not in ("", "ai.onnx") else op, "count": count, "supported": good}
        for op, domain, count, good in rows
    ]


def _all_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    from dlpack.model.walk import subgraphs

    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from _all_nodes(graph.node)


# --- multiply-adds ----------------------------------------------------------------------------------------------------


def model_macs(model: ModelProto) -> int:
    """Multiply-adds of a run: convolutions, matrix products and recurrent layers, by their ONNX shapes.

    Nodes whose shapes cannot be inferred, and those in subgraphs, count as none.
    """
    from dlpack.model.infer import infer_types

    shapes = {name: kind.shape for name, kind in infer_types(model).items() if kind.known and kind.shape is not None}
    return sum(_node_macs(n, shapes) for n in model.graph.node)


def _node_macs(node: NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    def shape(names: Sequence[str], index: int) -> tuple[int, ...] | None:
        return shapes.get(names[index]) if index < len(names) else None

    op, x, y = node.op_type, shape(node.input, 0), shape(node.output, 0)
    if op in ("Conv", "ConvInteger", "FusedConv", "QLinearConv"):
        w = shape(node.input, 3 if op == "QLinearConv" else 1)
        return math.prod(y) * math.prod(w[1:]) if w and y else 0
    if op == "ConvTranspose":
        w = shape(node.input, 1)
        return math.prod(x) * math.prod(w[1:]) if w and x else 0
    if op in ("MatMul", "MatMulInteger", "QLinearMatMul"):
        if y is None and x is not None:  # a scalar product, or an operator without shape inference
            return 0
        return math.prod(y or ()) * x[-1] if x else 0
    if op == "Gemm":
        turned = any(a.name == "transA" and a.i for a in node.attribute)
        return math.prod(y) * x[0 if turned else -1] if x and y else 0
    if op in ("LSTM", "GRU", "RNN"):
        w, r = shape(node.input, 1), shape(node.input, 2)
        return math.prod(x[:2]) * (math.prod(w) + math.prod(r)) if x and w and r else 0
    return 0
