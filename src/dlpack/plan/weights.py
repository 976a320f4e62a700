"""How weights are described: where they lie, and what stands for them in the file; how kernels call operators."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from math import gcd, prod

from dlpack.graph.fuse import Group
from dlpack.graph.ir import Array, Graph
from dlpack.graph.packed import Packed
from dlpack.kernels.settled import Weight
from dlpack.loops.layout import order_of
from dlpack.plan.program import Address, Place
from dlpack.plan.weight_steps import DequantizeStep, PackedDim, SumStep


def dequantize_step(
    packed: Packed, weight: Weight, target: Address, nbytes: int, store: Callable[[Array, str], Address]
) -> DequantizeStep:
    """The step that makes `nbytes` bytes of a weight of its codes, which `store` puts into the file."""
    scales = store(packed.scales, "scales")
    zeros = store(packed.zeros, "zero points") if packed.zeros is not None else None
    table = store(packed.table, "numbers")
    codes = packed.stored()
    return DequantizeStep(
        store(codes, "codes"), table, scales, zeros, target, packed.bits, weight.shape, packed.blocks, packed.steps,
        tuple(packed_dims(weight)), codes.nbytes, packed.scales.size, nbytes,
    )  # fmt: skip


def sum_step(parts: Sequence[tuple[Address, int]], target: Address, count: int) -> SumStep:
    """The step that makes `count` weights of others, which lie in the same order, with signs."""
    sources, signs = zip(*parts, strict=True)
    return SumStep(sources, signs, target, count, gcd(count, 16))


def packed_dims(weight: Weight) -> Iterator[PackedDim]:
    """Where the elements along each dimension of a weight lie."""
    blocks = dict(weight.layout.blocks)
    for d, (extent, stride) in enumerate(zip(weight.shape, weight.layout.strides, strict=True)):
        if d in blocks:
            yield PackedDim(blocks[d].size, stride, blocks[d].inner)
        else:
            yield PackedDim(extent, 0, stride)


def place_of(weight: Weight, name: str, offset: int, nbytes: int) -> Place:
    """What lies where a weight is stored."""
    order = order_of(weight.shape, weight.layout)
    blocks = tuple((d, b.size) for d, b in weight.layout.blocks)
    return Place(str(offset), name, offset, nbytes, (name,), weight.dtype, weight.shape, order, blocks)


def macs_of(group: Group, graph: Graph) -> int:
    """Multiply-adds of convolutions and matrix products (ONNX shapes)."""
    node = group.nodes[0]
    if "macs" in node.attrs:
        return int(node.attrs["macs"])
    out = graph.types[node.outputs[0]]
    if node.op == "Convolution":
        return out.size * prod(graph.types[node.inputs[1]].shape[1:])
    if node.op in ("MatMul", "ChosenMatMul"):
        return out.size * graph.types[node.inputs[0]].shape[-1]
    return 0


def operator_word(op: str) -> str:
    """An operator in a kernel's name: as people call it, else its own name in lower case."""
    for name in ("MatMul", "NaN", "QLinear"):
        op = op.replace(name, name.capitalize())
    return _WORDS.get(op) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", op).lower()


_WORDS = {
    "Convolution": "conv", "WinogradConvolution": "winograd_conv", "PRelu": "prelu",
    "PoolMax": "max_pool", "PoolSum": "sum_pool", "GlobalSum": "global_sum", "GlobalMaxPool": "global_max",
}  # fmt: skip
