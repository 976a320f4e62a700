"""Elements, shapes and pictures in what has the buffer protocol; no numpy is needed."""

from __future__ import annotations

import itertools
import math
import struct
from typing import Any

FORMATS: dict[str, Any] = {
    "bool": "?", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q",
    "uint64": "Q", "float32": "f", "float64": "d",
}  # fmt: skip
"""The element types, and how the buffer protocol calls them."""


def byte_count(dtype: str, shape: tuple[int, ...]) -> int:
    """The bytes that a tensor takes without gaps."""
    return math.prod(shape) * struct.calcsize(FORMATS[dtype])


def dtype_of(view: memoryview[Any]) -> str:
    """The name that numpy gives the elements of a buffer, or its format where it has none (foreign byte order)."""
    form = view.format.lstrip("@=<")
    for letters, name in (("bhilqn", "int"), ("BHILQN", "uint"), ("fd", "float")):
        if len(form) == 1 and form in letters:
            return f"{name}{8 * view.itemsize}"
    return "bool" if form == "?" else f"format {view.format!r}"


def copied(view: memoryview[Any], shape: tuple[int, ...], to: tuple[int, ...]) -> bytearray:
    """What a tensor has in common with one of the shape `to`, as the bytes of the latter; zeros beyond."""
    data, size = view.tobytes(), view.itemsize
    out = bytearray(math.prod(to) * size)
    row = min(shape[-1], to[-1]) * size
    for index in itertools.product(*(range(min(a, b)) for a, b in zip(shape[:-1], to[:-1], strict=True))):
        source = target = 0
        for i, a, b in zip(index, shape, to, strict=False):
            source, target = source * a + i, target * b + i
        source, target = source * shape[-1] * size, target * to[-1] * size
        out[target : target + row] = data[source : source + row]
    return out


def nearest(value: float, low: int, high: int) -> int:
    """The integer nearest to a number, of two the even one, from `low` to `high`; 0 for NaN."""
    if value != value:
        return 0
    return round(value) if low <= value <= high else low if value < low else high


def rgb_bytes(picture: Any) -> tuple[memoryview, int, int]:
    """A picture's bytes R, G, B row by row, its height and its width; see `Predictor.preprocess`."""
    try:
        view = memoryview(picture)
    except TypeError as e:
        raise TypeError(
            f"the picture is a {type(picture).__name__}; give a numpy array or anything with a buffer"
        ) from e
    shape = view.shape or ()
    channels = shape[2] if len(shape) == 3 else 1
    if view.format != "B" or len(shape) not in (2, 3) or channels not in (1, 3, 4) or not view.nbytes:
        raise ValueError(f"a picture is uint8, height x width (x 1, 3 or 4); this is {dtype_of(view)} of {shape}")
    height, width = shape[:2]
    if channels == 3 and view.c_contiguous:
        return view.cast("B"), height, width
    data = view.tobytes()
    if channels == 3:
        return memoryview(bytearray(data)), height, width
    planes = [data[c % channels :: channels] for c in range(3)]
    if channels == 4 and (alpha := data[3::4]).count(255) != len(alpha):  # transparent: over white, rounded
        blend = [bytes((2 * v * a + 510 * (255 - a) + 255) // 510 for v in range(256)) for a in range(256)]
        planes = [bytes(blend[a][v] for v, a in zip(plane, alpha, strict=True)) for plane in planes]
    rgb = bytearray(3 * height * width)
    rgb[0::3], rgb[1::3], rgb[2::3] = planes
    return memoryview(rgb), height, width
