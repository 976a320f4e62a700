"""A classifier's classes, in Python and in the C API."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass


@dataclass(frozen=True)
class Class:
    """One class: its index in the output, its label (the index as text if the model has no labels), its probability."""

    index: int
    label: str
    probability: float


class CClass(ctypes.Structure):
    """NAME_class of NAME.h."""

    _fields_ = (("index", ctypes.c_int32), ("probability", ctypes.c_float), ("label", ctypes.c_char_p))
