"""What an operator's outputs must be: onnxruntime's word, ONNX's reference's, or the specification's in numpy.

For floats it is onnxruntime's; for integers, which it divides with a trap, and where it has no kernel, the reference's.
Half precision is computed in float32 and rounded once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import helper

from fuzz.values import HALVES, Array


def _truncated(a: Array, b: Array) -> Array:
    """``a / b`` towards zero; 0 where b is 0, and the least integer by -1 is itself."""
    safe = np.where(b == 0, b.dtype.type(1), b)
    quotient = np.where(b == 0, a.dtype.type(0), a - np.fmod(a, safe))
    return (quotient // safe).astype(a.dtype)


def _power(a: Array, n: Array, **_: Any) -> Array:
    """``a ** n`` modulo a power of two."""
    info = np.iinfo(a.dtype)
    flat = [
        (pow(int(x), int(y)) - int(info.min)) % (1 << info.bits) + int(info.min)
        for x, y in zip(*(v.reshape(-1) for v in np.broadcast_arrays(a, n)), strict=True)
    ]
    return np.array(flat, a.dtype).reshape(np.broadcast_shapes(a.shape, n.shape))


def _sum_of_squares(x: Array, axes: Array, keepdims: int) -> Array:
    return np.sum(x * x, axis=tuple(axes.tolist()), keepdims=bool(keepdims), dtype=x.dtype)


def _gemm(a: Array, b: Array, c: Array | int = 0, transA: int = 0, transB: int = 0) -> Array:
    return (a.T if transA else a) @ (b.T if transB else b) + c


INTEGER_MEANING: dict[str, Callable[..., Array]] = {
    "Div": _truncated,
    "Pow": _power,
    "Clip": lambda x, low, high: np.minimum(np.maximum(x, low), high),
    "ReduceSumSquare": _sum_of_squares,
    "Gemm": _gemm,
}
"""Where the reference rounds down or goes by way of floats."""

MEANING: dict[str, Callable[..., Array]] = {
    "Max": lambda *xs: np.maximum.reduce(np.broadcast_arrays(*xs)),
    "GlobalMaxPool": lambda x: x.max(axis=tuple(range(2, x.ndim)), keepdims=True),
    "Mean": lambda *xs: sum(xs) / xs[0].dtype.type(len(xs)),
}
"""Where the reference fails on some shapes, and onnxruntime lacks types."""


def expected(node: onnx.NodeProto, values: Sequence[Array | None], opset: int, other: bool = False) -> list[Array]:
    """The node's outputs; with `other`, the second opinion where there is one.

    Raises what the reference raises if nothing computes the node.
    """
    given = [v for v in values if v is not None]
    if node.op_type in ("LSTM", "GRU", "RNN") and given[0].dtype == np.float64:  # onnxruntime has float32 alone
        narrow = [v.astype(np.float32) if v is not None and v.dtype == np.float64 else v for v in values]
        return [v.astype(np.float64) for v in _computed(node, narrow, opset, other)]
    half = next((v.dtype for v in given if v.dtype.name in HALVES), None)
    if half is None or node.op_type == "CastLike":
        return _computed(node, values, opset, other)
    wide = [v.astype(np.float32) if v is not None and v.dtype.name in HALVES else v for v in values]
    kept = node.op_type in ("Cast", "DequantizeLinear")
    with np.errstate(all="ignore"):
        return [
            v.astype(half) if v.dtype == np.float32 and not kept else v for v in _computed(node, wide, opset, other)
        ]


def _computed(node: onnx.NodeProto, values: Sequence[Array | None], opset: int, other: bool) -> list[Array]:
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    first = next(v for v in values if v is not None)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        meaning = (MEANING | INTEGER_MEANING if first.dtype.kind in "iu" else MEANING).get(node.op_type)
        if meaning is not None and not other:
            return [np.asarray(meaning(*values, **attributes))]
        feed = {n: v for n, v in zip(node.input, values, strict=True) if v is not None}
        if attributes.get("auto_pad", b"").startswith(b"SAME"):
            node = _padded(node, attributes, first.shape[2:])
        graph = helper.make_graph(
            [node], "g", [info(n, v) for n, v in feed.items()], [onnx.ValueInfoProto(name=n) for n in node.output]
        )
        asked = onnx.shape_inference.infer_shapes(model(graph, opset))
        floats = any(v.dtype.kind == "f" for v in feed.values())
        ways = [run_onnxruntime, run_reference] if floats != other else [run_reference, run_onnxruntime]
        for way in ways[:-1]:
            try:
                return way(asked, feed)
            except Exception:  # noqa: BLE001 - it has no kernel for these types
                continue
        return ways[-1](asked, feed)


def _padded(node: onnx.NodeProto, attributes: dict[str, Any], sizes: Sequence[int]) -> onnx.NodeProto:
    """The node with the pads that SAME stands for: where they would be negative, opinions differ; ONNX has no such."""
    low, high = [], []
    ones = [1] * len(sizes)
    windows = zip(attributes["kernel_shape"], attributes.get("dilations", ones), strict=True)
    for size, (k, dilation), step in zip(sizes, windows, attributes.get("strides", ones), strict=True):
        left = size % step or step  # elements from the last window's beginning on
        missing = max(0, dilation * (k - 1) + 1 - left)
        small, large = missing // 2, (missing + 1) // 2
        low.append(small if attributes["auto_pad"] == b"SAME_UPPER" else large)
        high.append(missing - low[-1])
    kept = {name: value for name, value in attributes.items() if name not in ("auto_pad", "ceil_mode")}
    return helper.make_node(node.op_type, node.input, node.output, pads=[*low, *high], **kept)


def info(name: str, value: Array) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def model(graph: onnx.GraphProto, opset: int) -> onnx.ModelProto:
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", opset)])


def run_onnxruntime(asked: onnx.ModelProto, feed: dict[str, Array]) -> list[Array]:
    import onnxruntime

    session = onnxruntime.InferenceSession(asked.SerializeToString(), _quiet())
    return [np.asarray(v) for v in session.run(None, feed)]


def run_reference(asked: onnx.ModelProto, feed: dict[str, Array]) -> list[Array]:
    from onnx.reference import ReferenceEvaluator

    return [np.asarray(v) for v in ReferenceEvaluator(asked).run(None, feed)]


@cache
def _quiet() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return options
