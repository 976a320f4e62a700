"""Quantisation: the integers q of an input or output represent the real numbers (q - zero_point) * scale.

The manifest has it as `quantization` of the input or output, {"scale": ..., "zero_point": ...}, one for the whole
tensor, as ONNX's QuantizeLinear and TensorFlow Lite define it. `web/quantization.js` does the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dlpack.errors import UsageError
from dlpack.meaning.metadata import key_words, read_key

Array = np.ndarray[Any, Any]

METADATA_KEY = "dlpack.quantization"
"""Of a model: JSON {input or output: {"scale": ..., "zero_point": ...}}, if the graph alone does not show it."""


_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Quantization:
    """A positive `scale`, representable in float32, and the integer that represents 0."""

    scale: float
    zero_point: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def dequantize(self, values: Array) -> Array:
        """The real numbers, in float32."""
        real: Array = ((values.astype(np.float64) - self.zero_point) * self.scale).astype(np.float32)
        return real

    def quantize(self, values: Array, dtype: str) -> Array:
        """The integers nearest to real numbers, ties to even, clamped to the range of `dtype`."""
        limits = np.iinfo(dtype)
        whole = np.rint(np.asarray(values, np.float64) / self.scale) + self.zero_point
        integers: Array = np.clip(np.nan_to_num(whole, nan=self.zero_point), limits.min, limits.max).astype(dtype)
        return integers

    def limits(self, dtype: str) -> tuple[float, float]:
        """The smallest and the largest real number that `dtype` can represent."""
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        return (low - self.zero_point) * self.scale, (high - self.zero_point) * self.scale


@dataclass(frozen=True)
class Meaning:
    """The meaning of an input or output; `probabilities`: each element is a probability, whatever their sum."""

    quantization: Quantization | None = None
    probabilities: bool = False


def quantization_of(tensor: Mapping[str, Any]) -> Quantization | None:
    """The quantisation of an input or output in a manifest; None if it is not quantised."""
    q = tensor.get("quantization")
    return Quantization(q["scale"], q["zero_point"]) if q else None


def dequantized(tensor: Mapping[str, Any], values: Array) -> Array:
    """The real numbers of an input or output; values that are not quantised or already real are unchanged."""
    quantization = quantization_of(tensor)
    return quantization.dequantize(values) if quantization and values.dtype.kind in "iu" else values


def is_real(tensor: Mapping[str, Any]) -> bool:
    """Whether an input or output holds real numbers, as floats or quantised."""
    return bool(tensor["dtype"].startswith("float") or tensor.get("quantization"))


def from_metadata(text: str) -> dict[str, Quantization]:
    """The quantisation in the model's metadata key `dlpack.quantization`, by input or output. Raises UsageError."""
    where = key_words(METADATA_KEY)
    found = read_key(text, METADATA_KEY)
    good = isinstance(found, dict) and all(
        isinstance(q, dict)
        and set(q) == {"scale", "zero_point"}
        and type(q["scale"]) in (int, float)
        and _SMALLEST <= q["scale"] <= _LARGEST
        and type(q["zero_point"]) is int
        and -(1 << 31) <= q["zero_point"] < 1 << 31
        for q in found.values()
    )
    if not good:
        raise UsageError(f'{where} must be an object {{name: {{"scale": above 0, "zero_point": integer}}}}')
    return {name: Quantization(float(np.float32(q["scale"])), q["zero_point"]) for name, q in found.items()}
