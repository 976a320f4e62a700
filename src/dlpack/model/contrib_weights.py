"""Products and tables whose weights have few bits. The weights are constant and become numbers."""

from __future__ import annotations

import numpy as np

from dlpack.model.contrib_node import Array, Call, contrib


def unpack(packed: Array, bits: int) -> Array:
    """Bytes [..., n] as integers [..., n * 8 / bits], the lowest bits first."""
    parts = [(packed >> shift) & ((1 << bits) - 1) for shift in range(0, 8, bits)]
    return np.stack(parts, -1).reshape(*packed.shape[:-1], -1)


def _zeros(call: Call, bits: int, columns: int, blocks: int) -> Array:
    """The zero point of every block of every column, [columns, blocks]."""
    if not call.has(3):
        return np.full((columns, blocks), 1 << (bits - 1), np.float32)
    given = call.weight(3, "zero_points")
    if given.dtype != np.uint8:
        return np.asarray(given.reshape(columns, blocks).astype(np.float32))
    return np.asarray(unpack(given.reshape(columns, -1), bits)[:, :blocks].astype(np.float32))


@contrib("MatMulNBits")
def matmul_n_bits(call: Call) -> None:
    """A B + bias, where B[k, n] = (integer - zero point) * scale, both of the block of k in column n."""
    call.refuse_attributes(weight_prepacked=0)
    bits, block = call.attr("bits", 4), call.attr("block_size", 32)
    rows, columns = call.attr("K", 0), call.attr("N", 0)
    if bits not in (2, 4, 8):
        call.refuse(f"weights of {bits} bits are not supported")
    blocks = -(-rows // block)
    integers = unpack(call.weight(1, "B").view(np.uint8).reshape(columns, -1), bits)
    groups = call.weight(4, "g_idx")[:rows] if call.has(4) else np.arange(rows) // block
    scales = call.weight(2, "scales").reshape(columns, blocks).astype(np.float32)
    zeros = _zeros(call, bits, columns, blocks)
    x, order = call.input(0), np.argsort(groups, kind="stable")
    whole = np.array_equal(groups[order], np.arange(rows) // block)  # each block has its rows, somewhere
    if call.opset < 13 or call.dtype(0) != np.float32 or not whole or (zeros % 1).any():
        numbers = (integers[:, :rows] - zeros[:, groups]) * scales[:, groups]
        w = call.array(numbers.T, call.dtype(0))
    else:
        if not np.array_equal(order, np.arange(rows)):
            x = call.add("Gather", x, call.array(order, np.int64), axis=-1)
            integers[:, :rows] = integers[:, order]
        w = _dequantised(call, integers, scales, zeros.astype(np.uint8), rows)
    y = call.add("MatMul", x, w)
    call.give(0, call.add("Add", y, call.input(5)) if call.has(5) else y)


def _dequantised(call: Call, integers: Array, scales: Array, zeros: Array, rows: int) -> str:
    """The weight [rows, columns] of integers [columns, blocks of rows]: the file keeps these (`graph/packed.py`).

    A block is a row to DequantizeLinear, which has no other blocks before opset 21.
    """
    (columns, whole), block = integers.shape, integers.size // scales.size
    w = call.add("DequantizeLinear", call.array(integers.reshape(-1, block)), call.array(scales.reshape(-1)),
                 call.array(zeros.reshape(-1)), axis=0)  # fmt: skip
    w = call.reshape(w, columns, whole)
    return call.transpose(call.slice(w, 1, 0, rows) if rows < whole else w, 1, 0)


# The sixteen numbers that four bits stand for, of bitsandbytes.
_FP4 = [0, 0.005208333, 0.6666667, 1, 0.33333333, 0.5, 0.16666667, 0.25]
_NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip


@contrib("MatMulBnb4")
def matmul_bnb4(call: Call) -> None:
    """A B', where B [N, K] has four bits a number, the high ones first, and a scale for each block of B as one row."""
    call.refuse_attributes(training_mode=0, transB=1)
    rows, columns, block = call.attr("K", 0), call.attr("N", 0), call.attr("block_size", 64)
    table = np.array(_NF4 if call.attr("quant_type", 1) else [*_FP4, *(-x for x in _FP4)], np.float32)
    packed = call.weight(1, "B").view(np.uint8).reshape(-1)
    integers = np.stack((packed >> 4, packed & 15), -1).reshape(-1)[: rows * columns]
    scales = np.repeat(call.weight(2, "absmax").astype(np.float32).reshape(-1), block)[: rows * columns]
    numbers = (table[integers] * scales).reshape(columns, rows)
    call.give(0, call.add("MatMul", call.input(0), call.array(numbers.T, call.dtype(0))))


@contrib("GatherBlockQuantized")
def gather_block_quantized(call: Call) -> None:
    """Gather in a table of integers that have a scale, and maybe a zero point, per block of an axis."""
    given, scales = call.weight(0, "data"), call.weight(2, "scales").astype(np.float32)
    bits = call.attr("bits", 4) if given.dtype == np.uint8 else 4
    packed = given.dtype == np.uint8
    data = unpack(given, bits) if packed else given
    data = np.asarray(data).astype(np.float32)
    axis, block = call.attr("quantize_axis", 1) % data.ndim, call.attr("block_size", 128)
    zero: Array = np.array(1 << (bits - 1) if packed else 0, np.float32)
    if call.has(3):
        zero = call.weight(3, "zero_points")
        zero = np.asarray(unpack(zero, bits) if packed else zero).astype(np.float32)
        zero = np.take(zero, np.arange(data.shape[axis]) // block, axis)
    numbers = (data - zero) * np.take(scales, np.arange(data.shape[axis]) // block, axis)
    table = call.array(numbers, call.dtype(2))
    call.give(0, call.add("Gather", table, call.input(1), axis=call.attr("gather_axis", 0)))
