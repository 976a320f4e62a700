"""Encoded pictures that a model holds: decoded when it is built, by Pillow where that is installed."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

_FORMATS = ("BMP", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""What ONNX's ImageDecoder has to know."""


def decoded(data: bytes, form: str, most: int) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
    """The pixels, uint8 [height, width, channels]; `form` is "RGB", "BGR" or "Grayscale".

    None for what is no such picture, or one of more than `most` bytes.
    """
    try:
        from PIL import Image

        with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
            if picture.width * picture.height * 3 > most:
                return None
            pixels = np.asarray(picture.convert("L" if form == "Grayscale" else "RGB"))
    except Exception:  # noqa: BLE001 - Pillow raises many kinds for a damaged picture, and may be absent
        return None
    if form == "Grayscale":
        return pixels[:, :, None]
    return {"RGB": pixels, "BGR": np.ascontiguousarray(pixels[:, :, ::-1])}.get(form)
