"""Inputs that must be known when compiling: those that decide a shape, and those that decide what code there is."""

from __future__ import annotations

from dlpack.model.infer import SHAPE_INPUTS as _DECIDING_SHAPES

_DECIDING_CODE: dict[str, tuple[int, ...]] = {
    "CumProd": (1,),
    "GRU": (1, 2, 3),
    "LSTM": (1, 2, 3, 7),
    "Loop": (0, 1),
    "MelWeightMatrix": (0, 1, 2, 3, 4),
    "Pad": (1, 2, 3),
    "RNN": (1, 2, 3),
    "SequenceErase": (1,),
    "SequenceInsert": (2,),
    "TopK": (1,),
    "Trilu": (1,),
}

SHAPE_INPUTS: dict[str, tuple[int, ...]] = {**_DECIDING_SHAPES, **_DECIDING_CODE}
"""Operator → indices of those inputs; a test case's values for them are compiled into the program."""
