"""TensorFlow Lite's Fourier transform of real numbers. A complex value here has a last dimension of its two parts."""

from __future__ import annotations

import numpy as np

from dlpack.exporters.builder import NotConverted
from dlpack.exporters.layers import reshape
from dlpack.exporters.tflite.call import Call, converts

COMPLEX = "type 8"
TAKES_COMPLEX = ("RFFT2D", "COMPLEX_ABS", "REAL", "IMAG", "RESHAPE")
_MAX_LENGTH = 8192
"""The transform is a product with a matrix of so many rows."""


@converts("RFFT2D")
def rfft(c: Call) -> str:
    """Along the last dimension, [..., 1, n] to [..., 1, n // 2 + 1]: what tf.signal.rfft and tf.signal.stft make."""
    rows, n = c.ints(1, "a length")
    have = c.shape(0)
    if rows != 1 or have[-2] != 1:
        raise NotConverted("a transform along two dimensions")
    if not 1 <= n <= _MAX_LENGTH:
        raise NotConverted(f"a transform of {n} numbers")
    x, g = c.x(0), c.g
    if have[-1] > n:
        x = c.op_("Slice", x, g.ints([0]), g.ints([n]), g.ints([-1]))
    angles = 2 * np.pi * np.outer(np.arange(min(n, have[-1])), np.arange(n // 2 + 1)) / n
    parts = [
        reshape(g, c.op_("MatMul", x, g.constant(part.astype(np.float32))), (*have[:-1], n // 2 + 1, 1))
        for part in (np.cos(angles), -np.sin(angles))
    ]
    return c.op_("Concat", *parts, axis=-1)


@converts("REAL", "IMAG")
def part(c: Call) -> str:
    return c.op_("Gather", c.x(0), c.g.scalar_int(int(c.op == "IMAG")), axis=-1)


@converts("COMPLEX_ABS")
def complex_abs(c: Call) -> str:
    x = c.x(0)
    total = c.op_("ReduceSum", c.op_("Mul", x, x), c.g.ints([c.g.rank(x) - 1]), keepdims=0)
    return c.op_("Sqrt", total)
