"""ONNX operators, a file per family. Importing this package enters all of them into the registry."""

from __future__ import annotations

from dlpack.operators import (  # noqa: F401
    activation,
    convolution,
    elementwise,
    geometry,
    indexing,
    linear_algebra,
    matmul,
    movement,
    normalization,
    pooling,
    quantization,
    recurrent,
    reduction,
    resize,
    winograd,
)
