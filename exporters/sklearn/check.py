"""Compares skl2onnx's model with scikit-learn's own predictions, which run in a separate process (`worker.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from dlpack.errors import UnsupportedError
from dlpack.exporters.process import Results
from dlpack.exporters.sklearn.worker import GROUPS

TIMEOUT_S = 300
TOLERANCE = 1e-3
"""Of an output's largest absolute value."""
ACCEPTED = 0.1
"""The part of the rows that may differ: in float32 a value can fall on the other side of a threshold."""
_ROWS_OF = {"near": "", "missing": ", of rows with missing values (NaN)", "far": ", of rows far outside of the data"}


class Check(Results):
    """scikit-learn's predictions; whether a file can be loaded without a crash."""

    def __init__(self, path: Path) -> None:
        super().__init__("dlpack.exporters.sklearn.worker", path, "scikit-learn", TIMEOUT_S)

    def predictions(self) -> dict[str, Any]:
        """The worker's arrays; a group has only `x` if scikit-learn accepts none of its rows."""
        return self.arrays()


def compare(model: ModelProto, found: dict[str, Any], classes: tuple[str, ...] | None, what: str) -> None:
    """Raises UnsupportedError if the model computes other values than scikit-learn, or does not run.

    `found` is of `Check.predictions`, `classes` are the names whose index the model gives for a label that is text.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    free = ModelProto.FromString(model.SerializeToString())
    for value in free.graph.input:
        value.type.tensor_type.shape.dim[0].ClearField("dim_value")
    for value in free.graph.output:
        value.type.tensor_type.ClearField("shape")
    for name in GROUPS:
        group = {key.removeprefix(f"{name}/"): v for key, v in found.items() if key.startswith(f"{name}/")}
        if name != GROUPS[0] and len(group) < 2:
            continue
        try:
            session = onnxruntime.InferenceSession(
                free.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            feeds = {"X": group["x"], "text": found.get(f"text/{name}")}
            outputs = session.run(None, {value.name: feeds[value.name] for value in free.graph.input})
        except Exception as e:  # onnxruntime raises many kinds
            raise UnsupportedError(f"what skl2onnx makes of this {what} does not run: {str(e)[:300]}") from e
        for value, got in zip(free.graph.output, outputs, strict=True):
            if name == "far" and got.dtype.kind in "iu":
                continue  # scores that differ may be equal in float32 there, and labels depend on their order
            if told := _difference(got, group, classes):
                raise UnsupportedError(
                    f"what skl2onnx makes of this {what} differs from scikit-learn in '{value.name}', {told}"
                    f"{_ROWS_OF[name]}; build it of other parts, or leave out the options that are not its defaults"
                )


def _difference(got: Any, group: dict[str, Any], classes: tuple[str, ...] | None) -> str:
    """How an output differs from the closest method, in words; "" if it does not."""
    rows = len(group["x"])
    if len(group) > 1 and rows not in got.shape[:2]:  # the outputs of several come first in some
        return f"which has the shape {list(got.shape)} for {rows} rows"
    parts = [_differing(got, want) for want in _references(group, got, classes)]
    if not parts or min(parts)[0] <= ACCEPTED:
        return ""
    part, error, span = min(parts)
    return f"for {part:.0%} of {rows} rows, by up to {error:.3g} where the largest value is {span:.3g}"


def _references(found: dict[str, Any], got: Any, classes: tuple[str, ...] | None) -> Iterator[Any]:
    """What the output may be, as an array of rows: skl2onnx's names do not say."""
    for key, want in found.items():
        if key == "x" or (got.dtype.kind in "iu") != (key == "by:predict" and want.dtype.kind not in "f"):
            continue
        if want.dtype.kind in "US":
            order = {name: k for k, name in enumerate(classes or ())}
            want = np.array([order.get(str(v), -1) for v in want.reshape(-1)])
        if want.dtype.kind == "f" and want.ndim == 1 and got.size == 2 * want.size:
            want = np.stack([-want, want], axis=1)  # a score for each of two classes
        if want.size == got.size and len(want) == len(got):
            yield want


def _differing(got: Any, want: Any) -> tuple[float, float, float]:
    """The part of the rows that differ, the largest error, and the largest absolute value."""
    with np.errstate(invalid="ignore", over="ignore"):
        a, b = (np.asarray(v, np.float32).astype(np.float64).reshape(len(got), -1) for v in (got, want))
        finite = np.isfinite(b)
        span = float(np.abs(b[finite]).max()) if finite.any() else 0.0
        error = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    error = np.nan_to_num(error, nan=np.inf)
    far = (error > TOLERANCE * span).any(axis=1)
    return float(far.mean()) if far.size else 0.0, float(error.max(initial=0.0)), span
