"""ONNX operators, a file per family. Importing this package enters all of them into `graph/registry.py`."""

from __future__ import annotations

from dlpack.graph.registry import names, supported
from dlpack.operators import (  # noqa: F401
    activation,
    attention,
    control_flow,
    convolution,
    elementwise,
    geometry,
    indexing,
    linear_algebra,
    matmul,
    ml_features,
    ml_linear,
    ml_trees,
    movement,
    normalization,
    pictures,
    pooling,
    quantization,
    recurrent,
    reduction,
    resize,
    rounded,
    selection,
    strings,
    text_hash,
    transposed,
    winograd,
    words,
)

__all__ = ["names", "supported"]
