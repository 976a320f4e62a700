"""Compares the exported model with TensorFlow Lite's interpreter, where it is installed (`worker.py`)."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, helper

from dlpack.errors import ModelError
from dlpack.exporters.builder import Array, Shape
from dlpack.exporters.compare import TOLERANCE, check_same, takes_ties
from dlpack.exporters.process import Results
from dlpack.exporters.tflite.files import TFLiteModel
from dlpack.meaning.quantization import METADATA_KEY

TIMEOUT_S = 120
QUANTIZED_TOLERANCE = 0.1
"""Of an output's largest absolute value: each layer may differ by a unit, and all layers behind it see that."""
_NAME = "TensorFlow Lite"
_CHOICES = frozenset({"ARG_MAX", "ARG_MIN", "TOPK_V2"})
"""Operators that take the largest of values: a unit more makes another one the largest."""
_UNSOUND = frozenset({"BIDIRECTIONAL_SEQUENCE_LSTM", "TFLite_Detection_PostProcess"})
"""The former's kernel (2.21) reads memory that nothing has written: results depend on what ran before in the process.
The latter takes exponentials of random numbers, and boxes of 1e14 overlap as rounding has it."""


def installed() -> bool:
    """Whether there is an interpreter: of ai-edge-litert, else of tensorflow, which takes seconds to start."""
    return any(importlib.util.find_spec(name) is not None for name in ("ai_edge_litert", "tensorflow"))


class Check:
    """The interpreter's results for a file, whose inputs get these shapes. It starts at once, if it is installed."""

    def __init__(self, path: Path, file: TFLiteModel, shapes: Sequence[Shape]) -> None:
        module, more = "dlpack.exporters.tflite.worker", (json.dumps(shapes), str(_knows_nan(file)))
        self._results = Results(module, path, _NAME, TIMEOUT_S, *more) if installed() else None

    def __enter__(self) -> Check:
        return self

    def __exit__(self, *error: object) -> None:
        if self._results is not None:
            self._results.__exit__(*error)

    def compare(self, model: ModelProto, file: TFLiteModel) -> tuple[str, ...]:
        """Raises ModelError if the model computes other values. Returns a warning where it could not be compared."""
        operators = {o.kind for s in file.subgraphs for o in s.operators}
        narrow = any(
            t.quantization is not None and t.dtype in ("int8", "uint8", "int16")
            for s in file.subgraphs
            for t in s.tensors
        )
        if self._results is None or operators & _UNSOUND or (narrow and operators & _CHOICES):
            return ()
        try:
            found = self._results.arrays()
        except ModelError as e:
            return (f"what it computes was not compared with TensorFlow Lite: {e}",)
        if "error" in found:
            return (f"what it computes was not compared with TensorFlow Lite, which refuses it: {found['error']}",)
        compare(model, found, QUANTIZED_TOLERANCE if narrow else TOLERANCE)
        return ()


def _knows_nan(file: TFLiteModel) -> bool:
    """Whether it asks of a value if it is NaN, x != x."""
    operators = [o for s in file.subgraphs for o in s.operators]
    return any(o.kind in ("NOT_EQUAL", "EQUAL") and len(set(o.inputs)) == 1 for o in operators)


def compare(model: ModelProto, found: dict[str, Any], tolerance: float) -> None:
    """`found` is of `worker.run`. States, the last inputs, begin with zeros, or what stands for them."""
    kept = {p.key: p.value for p in model.metadata_props}
    zeros = json.loads(kept.get(METADATA_KEY, "{}"))
    first = {
        v.name: np.full(
            [d.dim_value for d in v.type.tensor_type.shape.dim],
            zeros.get(v.name, {}).get("zero_point", 0),
            helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type),
        )
        for v in model.graph.input
    }
    count = len({k.partition("/")[0] for k in found})
    now: list[Array] = []

    def trials() -> Iterator[dict[str, Array]]:
        for r in range(count):
            given = _values(found, f"{r}/in:")
            if _tied(given) and not takes_ties(model):
                continue
            now[:] = _values(found, f"{r}/out:")
            yield first | dict(zip(first, given, strict=False))

    check_same(model, lambda _: list(now), trials(), _NAME, tolerance)


def _tied(given: Sequence[Array]) -> bool:
    """Whether they are the trial of multiples of a half."""
    floats = [v for v in given if v.dtype.kind == "f"]
    return any(np.any(v) for v in floats) and all(np.array_equal(2 * v, np.rint(2 * v)) for v in floats)


def _values(found: dict[str, Any], prefix: str) -> list[Array]:
    count = sum(k.startswith(prefix) for k in found)
    return [found[f"{prefix}{k}"] for k in range(count)]
