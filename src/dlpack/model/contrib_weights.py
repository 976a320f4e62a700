"""MatMulNBits: a product whose weights have few bits. They are constant and become the numbers that they stand for."""

from __future__ import annotations

import numpy as np

from dlpack.model.contrib_node import Array, Call, contrib


def _unpack(packed: Array, bits: int) -> Array:
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
    return np.asarray(_unpack(given.reshape(columns, -1), bits)[:, :blocks].astype(np.float32))


@contrib("MatMulNBits")
def matmul_n_bits(call: Call) -> None:
    """A B + bias, where B[k, n] = (integer - zero point) * scale, both of the block of k in column n."""
    call.refuse_attributes(weight_prepacked=0)
    bits, block = call.attr("bits", 4), call.attr("block_size", 32)
    rows, columns = call.attr("K", 0), call.attr("N", 0)
    if bits not in (2, 4, 8):
        call.refuse(f"weights of {bits} bits are not supported")
    blocks = -(-rows // block)
    integers = _unpack(call.weight(1, "B").view(np.uint8).reshape(columns, -1), bits)[:, :rows]
    groups = call.weight(4, "g_idx") if call.has(4) else np.arange(rows) // block
    scales = call.weight(2, "scales").reshape(columns, blocks).astype(np.float32)
    numbers = (integers - _zeros(call, bits, columns, blocks)[:, groups]) * scales[:, groups]
    y = call.add("MatMul", call.input(0), call.array(numbers.T, call.dtype(0)))
    call.give(0, call.add("Add", y, call.input(5)) if call.has(5) else y)
