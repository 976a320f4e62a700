"""The weights of Core ML's neural networks: floats, half floats, and integers of 1 to 8 bits with scales or a table."""

from __future__ import annotations

import math

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import Array, NotConverted, Shape
from dlpack.exporters.coreml.files import DAMAGED, Message


def weights(message: Message, shape: Shape, axis: int = 0) -> Array:
    """WeightParams as float32 of `shape`; a scale per channel runs along `axis`.

    Raises ModelError if they do not have this size, NotConverted for kinds that are not read.
    """
    count = math.prod(shape)
    if not 0 < count < 1 << 31:
        raise ModelError(f"its weights would have the shape {list(shape)}")
    if 40 in message:
        found = _quantised(message, shape, axis)
    elif 2 in message:
        found = message.numbers(2, "<f2")
    elif 31 in message:
        raise NotConverted("weights that ask for a quantised input (int8DynamicQuantize)")
    else:
        found = message.numbers(1, "<f4")
    if found.size != count:
        raise ModelError(f"its weights have {found.size:,} values; {count:,} belong to the shape {list(shape)}")
    return found.astype(np.float32).reshape(shape)


def _quantised(message: Message, shape: Shape, axis: int) -> Array:
    params, count = message.message(40), math.prod(shape)
    bits = params.whole(1)
    if not 1 <= bits <= 8:
        raise NotConverted(f"weights of {bits} bits")
    data = np.concatenate([np.frombuffer(v, np.uint8) for v in message.blobs(30)] or [np.zeros(0, np.uint8)])
    if data.size != -(-count * bits // 8):
        raise ModelError(DAMAGED)
    if bits == 8:
        whole = data.astype(np.int64)
    else:
        each = np.unpackbits(data, count=count * bits).reshape(count, bits)
        whole = each.astype(np.int64) @ (1 << np.arange(bits - 1, -1, -1))
    if 102 in params:
        table = params.message(102).numbers(1, "<f4")
        if table.size != 1 << bits:
            raise ModelError(f"its table has {table.size} values, not {1 << bits}")
        return table[whole]
    linear = params.message(101)
    scale, bias = linear.numbers(1, "<f4"), linear.numbers(2, "<f4")
    bias = bias if bias.size else np.zeros(1, np.float32)
    if any(v.size not in (1, shape[axis]) for v in (scale, bias)):
        raise ModelError(f"its weights have {scale.size} scales and {bias.size} biases for {shape[axis]} channels")
    along = [1] * len(shape)
    along[axis] = -1
    return whole.reshape(shape) * scale.reshape(along) + bias.reshape(along)
