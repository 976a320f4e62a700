"""The process in which TensorFlow Lite's interpreter runs a file, for the comparison with the exported model.

``python -m dlpack.exporters.tflite.worker FILE.tflite RESULT.npz SHAPES MISSING``, started by `check.py` alone: SHAPES
is a JSON list of the inputs' shapes, MISSING whether to try NaN (True or False). RESULT.npz gets, of each run R,
``R/in:K`` and ``R/out:K`` in the file's order, or ``error``, the first line of what the interpreter said.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dlpack.exporters.compare import trial_inputs
from dlpack.exporters.process import MEMORY_BYTES, limit

CPU_S, CPU_BYTES_PER_S = 60.0, 1_000_000
"""The CPU time that starting and running may take: seconds, and bytes of the file for each second more."""


def interpreter(path: Path) -> Any:
    """Without delegates: they compute in other ways where they have any for an operator."""
    try:
        from ai_edge_litert import interpreter as lite
    except ImportError:
        from tensorflow import lite
        from tensorflow.lite.python import interpreter as inner

        types = inner.OpResolverType
    else:
        types = lite.OpResolverType
    resolver = types.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return lite.Interpreter(model_path=str(path), num_threads=1, experimental_op_resolver_type=resolver)


def ready(path: Path, shapes: Sequence[Sequence[int]]) -> Any:
    """An interpreter for inputs of these shapes, whose variables have their first values."""
    model = interpreter(path)
    for detail, shape in zip(model.get_input_details(), shapes, strict=True):
        if list(shape) != detail["shape"].tolist():
            model.resize_tensor_input(detail["index"], list(shape))
    model.allocate_tensors()
    return model


def run(path: Path, shapes: Sequence[Sequence[int]], missing: bool = False) -> dict[str, Any]:
    """The runs, with `missing` one of numbers among which are NaN; a run that the interpreter refuses, as for an index
    beyond its table, is left out."""
    details = ready(path, shapes).get_input_details()
    kinds = {str(k): (shape, d["dtype"]) for k, (d, shape) in enumerate(zip(details, shapes, strict=True))}
    found: dict[str, Any] = {}
    rng, runs, failed = np.random.default_rng(1), 0, ""
    for inputs in trial_inputs(kinds, ties=True, missing=missing):
        values = [_whole_range(v, d, rng) for v, d in zip(inputs.values(), details, strict=True)]
        model = ready(path, shapes)
        try:
            _invoke(model, details, values)
        except (RuntimeError, ValueError):
            values = [np.maximum(v, 1) if v.dtype.kind in "iu" else v for v in values]  # divisors, say
            try:
                _invoke(model, details, values)
            except (RuntimeError, ValueError) as e:
                failed = str(e)
                continue
        found |= {f"{runs}/in:{k}": v for k, v in enumerate(values)}
        outputs = [model.get_tensor(d["index"]) for d in model.get_output_details()]
        found |= {f"{runs}/out:{k}": v for k, v in enumerate(outputs)}
        runs += 1
    return found or {"error": _line(failed)}


def _invoke(model: Any, details: Sequence[Any], values: Sequence[Any]) -> None:
    for detail, value in zip(details, values, strict=True):
        model.set_tensor(detail["index"], value)
    model.invoke()


def _whole_range(value: Any, detail: Any, rng: Any) -> Any:
    """Quantised inputs over all that they can hold; in the last run, of zeros, they are real zeros."""
    scale, zero = detail["quantization"]
    if not scale or value.dtype.kind not in "iu":
        return value
    info = np.iinfo(value.dtype)
    if not value.any():
        return np.full_like(value, zero)
    return rng.integers(info.min, info.max + 1, value.shape).astype(value.dtype)


def _line(text: str) -> Any:
    return np.array((text.strip().splitlines() or ["nothing"])[0][:300])


def main(path: Path, result: Path, shapes: str, missing: str) -> None:
    size = path.stat().st_size
    limit(CPU_S + size / CPU_BYTES_PER_S, MEMORY_BYTES + 12 * size)
    os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    warnings.simplefilter("ignore")
    try:
        found = run(path, json.loads(shapes), missing == "True")
    except Exception as e:  # noqa: BLE001 - it raises many kinds
        found = {"error": _line(str(e))}
    np.savez(result, **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
