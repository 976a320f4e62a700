"""The reference: seeded inputs in the model's own ranges, and what onnxruntime computes from them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime

from dlpack.errors import ModelError
from dlpack.graph.ir import Array, Graph

RELATIVE_TOLERANCE = 1e-4
"""Largest accepted error, as a part of the output's largest absolute value."""

_BLOCK = 1 << 20
"""Elements that are worked on at a time, so that little memory is taken beside the arrays themselves."""


def input_ranges(graph: Graph, metadata: Mapping[str, str]) -> tuple[tuple[float, float], ...]:
    """[low, high) for each input: as the metadata key `dlpack.ranges` says (JSON, input name → [low, high]), else what
    the graph tells: indices stay within the dimension they index; pictures lie in [0, 1), other floats in [-1, 1)."""
    told = json.loads(metadata.get("dlpack.ranges", "{}"))
    out = []
    for name in graph.inputs:
        t = graph.types[name]
        if name in told:
            low, high = (float(v) for v in told[name])
        elif t.dtype == "bool":
            low, high = 0.0, 2.0
        elif not t.dtype.startswith("float"):
            low, high = 0.0, float(_index_limit(graph, name) or 100)
        elif limit := _index_limit(graph, name):  # indices in floating point, as MXNet has them
            low, high = 0.0, float(limit)
        elif len(t.shape) == 4 and t.shape[1] in (1, 3):
            low, high = 0.0, 1.0
        else:
            low, high = -1.0, 1.0
        out.append((low, high))
    return tuple(out)


_SAME_VALUES = ("Cast", "Clip", "Identity", "Reshape", "Squeeze", "Unsqueeze")


def _index_limit(graph: Graph, name: str) -> int | None:
    """How large an input of indices may be: the smallest dimension that it indexes; None where it indexes nothing."""
    limits = []
    same = {name}
    for node in graph.nodes:
        if node.op in ("Gather", "GatherElements") and node.inputs[1] in same:
            shape = graph.types[node.inputs[0]].shape
            limits.append(shape[node.attrs.get("axis", 0) % len(shape)])
        elif node.inputs and node.inputs[0] in same and node.op in _SAME_VALUES:
            same.update(node.outputs)
    return min(limits, default=None)


def seeded_input(index: int, shape: Sequence[int], dtype: str, low: float, high: float) -> Array:
    """Input number `index`: element i is a hash of (i, index), scaled into [low, high); see runtime_c/selftest.h."""
    n = int(np.prod(shape, dtype=np.int64)) if len(shape) else 1
    made = np.empty(n, dtype)
    for start in range(0, n, _BLOCK):
        x = np.arange(start, min(start + _BLOCK, n), dtype=np.uint32)
        x = x * np.uint32(2654435761) + np.uint32((index * 40503 + 12345) & 0xFFFFFFFF)
        x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
        x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
        x ^= x >> np.uint32(16)
        made[start : start + _BLOCK] = low + x.astype(np.float64) * (1.0 / 4294967296.0) * (high - low)
    return made.reshape(tuple(shape))


# What onnxruntime says of a model whose operands contradict each other. Other refusals are of what it does not have,
# which onnx's evaluator may; but that evaluator also computes what makes no sense.
_CONTRADICTION = re.compile(r"\[(Shape|Type)InferenceError\]|Type '[^']*' of input parameter|INVALID_ARGUMENT")


def run_onnxruntime(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> list[Array]:
    """All outputs, computed by onnxruntime without optimisations, in order. Raises ModelError for a damaged model."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return [np.asarray(o) for o in session.run(None, dict(inputs))]
    except Exception as e:  # noqa: BLE001 - onnxruntime raises its own classes, without a common base
        from onnx.reference import ReferenceEvaluator

        if _CONTRADICTION.search(str(e)):
            raise ModelError(f"onnxruntime refuses this model: {e}; export it again") from e
        try:
            return [np.asarray(o) for o in ReferenceEvaluator(model).run(None, dict(inputs))]
        except Exception as second:  # noqa: BLE001 - the evaluator raises anything
            raise ModelError(f"neither onnxruntime nor onnx can run this model: {e}; {second}") from e


@dataclass(frozen=True)
class OutputError:
    """How far one output is from the reference; `relative` is the error over the reference's largest absolute value."""

    name: str
    absolute: float
    relative: float
    range: float
    passed: bool


def compare(name: str, got: Array, want: Array, tolerance: float = RELATIVE_TOLERANCE) -> OutputError:
    if got.shape != want.shape or got.dtype != want.dtype:
        return OutputError(name, float("inf"), float("inf"), 0.0, False)
    if got.size == 0:
        return OutputError(name, 0.0, 0.0, 0.0, True)
    if not got.dtype.kind == "f":
        wrong = int((got != want).sum())
        return OutputError(
            name, float(wrong), wrong / got.size, float(np.abs(want.astype(np.float64)).max()), not wrong
        )
    worst = span = 0.0
    for start in range(0, got.size, _BLOCK):
        a, b = (x.reshape(-1)[start : start + _BLOCK].astype(np.float64) for x in (got, want))
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        with np.errstate(invalid="ignore"):
            error = np.where(same, 0.0, np.abs(a - b))
        worst = max(worst, float(np.nan_to_num(error, nan=np.inf).max()))
        span = max(span, float(np.abs(b[np.isfinite(b)]).max(initial=0.0)))
    relative = worst / span if span else (0.0 if worst == 0 else float("inf"))
    return OutputError(name, worst, relative, span, relative <= tolerance or worst <= 1e-30)


def model_metadata(model: onnx.ModelProto) -> dict[str, str]:
    return {p.key: p.value for p in model.metadata_props}
