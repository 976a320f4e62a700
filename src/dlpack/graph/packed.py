"""Constant weights behind DequantizeLinear: float32 constants to all that follows, integers and scales in the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np

from dlpack.graph.ir import BITS, HALVES, SMALL_INTEGERS, Array, Graph, Node

LEAST_BYTES = 4096
"""Smaller weights are float32 in the file too."""

TYPES = frozenset(("int8", "uint8", *SMALL_INTEGERS, *(BITS.keys() - HALVES)))


@dataclass(frozen=True)
class Packed:
    """A weight as the file holds it: element i is (number of its code - number of its zero point's) * scale.

    `codes` are uint8, of which the lowest `bits` count, and `zeros`, one for each scale, are codes too. The scale of
    the element at i is the one at the sum of ``i[d] // blocks[d] * steps[d]``. `table` has the numbers of all codes.
    """

    bits: int
    codes: Array
    table: Array
    scales: Array
    zeros: Array | None
    blocks: tuple[int, ...]
    steps: tuple[int, ...]

    def values(self) -> Array:
        """The float32 numbers."""
        index = np.zeros(self.codes.shape, np.int64)
        for d, (block, step) in enumerate(zip(self.blocks, self.steps, strict=True)):
            places = np.arange(self.codes.shape[d]) // block * step
            index += places.reshape([-1 if e == d else 1 for e in range(self.codes.ndim)])
        numbers = self.table[self.codes]
        if self.zeros is not None:
            numbers = numbers - self.table[self.zeros[index]]
        return np.asarray(numbers * self.scales[index], np.float32)

    def transposed(self) -> Packed:
        """The same with its dimensions in reverse."""
        return Packed(
            self.bits, np.ascontiguousarray(self.codes.T), self.table, self.scales, self.zeros, self.blocks[::-1],
            self.steps[::-1],
        )  # fmt: skip

    def stored(self) -> Array:
        """The codes, row-major, those of less than a byte packed: the first in the lowest bits."""
        per_byte = 8 // self.bits
        flat = np.zeros(-(-self.codes.size // per_byte) * per_byte, np.uint8)
        flat[: self.codes.size] = self.codes.reshape(-1)
        shifts = (np.arange(per_byte) * self.bits).astype(np.uint8)
        return np.asarray(np.bitwise_or.reduce(flat.reshape(-1, per_byte) << shifts, axis=1), np.uint8)


def packed_weights(graph: Graph) -> tuple[Graph, Mapping[str, Packed]]:
    """The graph with constants in place of the nodes that dequantise weights, and how to store these, by name; small
    ones are stored as float32."""
    found: dict[str, Packed] = {}
    for node in graph.nodes:
        if node.op == "DequantizeLinear" and node.domain == "" and node.outputs[0] not in graph.outputs:
            packed = _packed(node, graph)
            if packed is not None:
                found[node.outputs[0]] = packed
    for node in graph.nodes:
        if node.inputs and node.inputs[0] in found and node.outputs[0] not in graph.outputs:
            moved = _moved(node, found[node.inputs[0]], graph)
            if moved is not None:
                found[node.outputs[0]] = moved
    nodes = [n for n in graph.nodes if n.outputs[0] not in found]
    read = {name for n in nodes for name in n.inputs}
    found = {name: packed for name, packed in found.items() if name in read}
    made = graph.with_nodes(nodes, {name: packed.values() for name, packed in found.items()})
    return made, {name: packed for name, packed in found.items() if graph.types[name].nbytes >= LEAST_BYTES}


def _moved(node: Node, packed: Packed, graph: Graph) -> Packed | None:
    """What the node makes of a weight [blocks, elements], where that is a weight [columns, rows] of blocks, the first
    rows of it, or its transpose."""
    shape, before = graph.types[node.outputs[0]].shape, packed.codes.shape
    if len(before) != 2 or len(shape) != 2 or node.domain:
        return None
    codes = packed.codes
    if node.op == "Transpose" and tuple(node.attrs.get("perm", (1, 0))) == (1, 0):
        return packed.transposed()
    if node.op == "Reshape" and packed.steps == (1, 0) and shape[1] % before[1] == 0:
        blocks, steps = (1, before[1]), (shape[1] // before[1], 1)
        return replace(packed, codes=codes.reshape(shape), blocks=blocks, steps=steps)
    if node.op == "Slice" and shape[0] == before[0]:
        bounds = [graph.constants.get(name) for name in node.inputs[1:]]
        if all(b is not None and b.size == 1 for b in bounds) and [int(b.item()) for b in bounds if b is not None] in (
            [0, shape[1], 1],
            [0, shape[1], 1, 1],
        ):
            return replace(packed, codes=np.ascontiguousarray(codes[:, : shape[1]]))
    return None


def _packed(node: Node, graph: Graph) -> Packed | None:
    """How to store what the node makes; None where it is to run."""
    x, scale, *zero = [graph.constants.get(name) for name in node.inputs if name]
    kind, made = graph.types[node.inputs[0]].dtype, graph.types[node.outputs[0]]
    if x is None or scale is None or (zero and zero[0] is None):
        return None
    if kind not in TYPES or made.dtype != "float32" or scale.dtype != np.float32:
        return None
    bits = int(kind[-1]) if kind in SMALL_INTEGERS else 4 if kind == "float4_e2m1fn" else 8
    blocks, steps = _places(node, made.shape, scale.shape)
    if not blocks:
        return None
    mask = (1 << bits) - 1
    zeros = None if not zero or zero[0] is None or not zero[0].any() else zero[0].reshape(-1).view(np.uint8) & mask
    if zeros is not None and zeros.size != scale.size:
        return None
    codes = x.view(np.uint8) & mask
    if kind == "uint8":  # before opset 21, integers of fewer bits have no other type
        largest = max(int(codes.max(initial=0)), int(zeros.max(initial=0)) if zeros is not None else 0)
        bits = next(n for n in (2, 4, 8) if largest < 1 << n)
    table = _table(kind, bits)
    if zeros is not None and (zeros == zeros[0]).all() and (kind in SMALL_INTEGERS or kind in ("int8", "uint8")):
        table, zeros = table - table[zeros[0]], None
    return Packed(bits, codes, table, scale.reshape(-1), zeros, blocks, steps)


def _table(kind: str, bits: int) -> Array:
    """The numbers of all codes."""
    codes = np.arange(1 << bits, dtype=np.uint8)
    if kind in SMALL_INTEGERS:
        numbers = codes.astype(np.int32)
        return np.where(numbers >> (bits - 1) & (not kind.startswith("u")), numbers - (1 << bits), numbers).astype(
            np.float32
        )
    return np.asarray(codes.view(getattr(ml_dtypes, kind, kind)).astype(np.float32))


def _places(node: Node, shape: tuple[int, ...], scales: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Along each dimension: how many elements have the same scale, and how far the next one's is; nothing where the
    shapes do not fit."""
    rank = len(shape)
    if int(np.prod(scales, dtype=np.int64)) == 1:
        return (1,) * rank, (0,) * rank
    axis = node.attrs.get("axis", 1)
    axis += rank if axis < 0 else 0
    if axis >= rank:
        return (), ()
    if len(scales) == 1:
        return (1,) * rank, tuple(int(d == axis) for d in range(rank))
    block = node.attrs.get("block_size", 0) or 1
    if scales != tuple(-(-n // block) if d == axis else n for d, n in enumerate(shape)):
        return (), ()
    strides = [1] * rank
    for d in range(rank - 2, -1, -1):
        strides[d] = strides[d + 1] * scales[d + 1]
    return tuple(block if d == axis else 1 for d in range(rank)), tuple(strides)
