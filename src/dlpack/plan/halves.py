"""Weights of 16 bits in the file: those of float32 whose values are float16s or bfloat16s, which they become again when
a predictor is made."""

from __future__ import annotations

import numpy as np

LEAST_BYTES = 4096
"""What a smaller weight would save is not worth a step."""

_BEYOND = 0x1FFF
"""The bits of a float32 that neither a float16 nor a bfloat16 has."""

_FEW = 4096
"""Numbers that are looked at first, since they decide for most weights."""


def stored_type(data: bytes) -> str:
    """The element type in which the float32s `data` are stored, without loss: "float16", "bfloat16" or "float32"."""
    if len(data) < LEAST_BYTES:
        return "float32"
    bits = np.frombuffer(data, np.uint32)
    if (bits[:_FEW] & _BEYOND).any():
        return "float32"
    if not (bits & 0xFFFF).any():
        return "bfloat16"
    with np.errstate(over="ignore"):
        same = bits.view(np.float32).astype(np.float16).astype(np.float32).view(np.uint32)
    return "float16" if np.array_equal(same, bits) else "float32"


def narrowed(data: bytes, dtype: str) -> bytes:
    """The float32s as the `dtype` that `stored_type` has found."""
    if dtype == "bfloat16":
        return (np.frombuffer(data, np.uint32) >> 16).astype(np.uint16).tobytes()
    return np.frombuffer(data, np.float32).astype(np.float16).tobytes()
