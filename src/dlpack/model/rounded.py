"""Weights rounded to 16 bits, so that the file stores them in half the bytes (`dlpack.plan.halves`)."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
from onnx import numpy_helper

LEAST_BYTES = 4096
"""Smaller weights are stored as float32 (`dlpack.plan.halves`), so nothing is gained by rounding them."""

TYPES = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


def round_weights(model: onnx.ModelProto, dtype: str, opened: bool = False) -> tuple[str, ...]:
    """Rounds the float32 weights of a cleaned model to values of `dtype` ("float16", "bfloat16"), in place, to nearest
    even; they stay float32.

    Small ones stay as they are, and so do those with values that `dtype` cannot hold (float16: beyond 65,504); the
    latter are named in what is returned. Where dimensions are open (`opened`), a table of positions is small in small
    sizes alone, so all are rounded that are at least matrices.
    """
    left = []
    for weight in model.graph.initializer:
        if weight.data_type != onnx.TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(weight)
        if values.nbytes < LEAST_BYTES and not (opened and values.ndim > 1 and values.size > 1):
            continue
        with np.errstate(over="ignore"):
            rounded = values.astype(TYPES[dtype]).astype(np.float32)
        if np.array_equal(np.isfinite(rounded), np.isfinite(values)):
            weight.CopyFrom(numpy_helper.from_array(rounded, weight.name))
        else:
            left.append(weight.name)
    return tuple(left)
