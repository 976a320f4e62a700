"""What the integers of a predictor's quantised inputs and outputs stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dlpack.bundle.arrays import numpy_dtype
from dlpack.graph.ir import Array
from dlpack.meaning.quantization import dequantized, quantization_of


class QuantisedValues:
    """The part of a predictor that converts between real numbers and the integers of its tensors."""

    manifest: dict[str, Any]

    def dequantize(self, name: str, values: Any) -> Array:
        """Converts the integers of a quantised input or output to the real numbers they represent, in float32.

        Values that are not quantised, or already floats, are returned unchanged. Raises ValueError for an unknown name.
        """
        return dequantized(self._tensor(name), np.asarray(values))

    def quantize(self, name: str, values: Any) -> Array:
        """Converts real numbers to the nearest integers of a quantised input or output, with ties to even. For one that
        is not quantised, converts the values to its dtype. Raises ValueError for an unknown name.
        """
        tensor = self._tensor(name)
        if quantization := quantization_of(tensor):
            return quantization.quantize(values, tensor["dtype"])
        return np.asarray(values, numpy_dtype(tensor["dtype"]))

    def _tensor(self, name: str) -> Mapping[str, Any]:
        tensors = {t["name"]: t for t in (*self.manifest["inputs"], *self.manifest["outputs"])}
        if name not in tensors:
            raise ValueError(f"unknown name {name!r}; the model has {', '.join(tensors)}")
        found: Mapping[str, Any] = tensors[name]
        return found
