"""Weights of 8 bits and fewer that kernels read as bytes: where a token at a time is read, reading weights is the work.

A product with weights [K, N], whose scales are shared by blocks of rows, becomes BlockMatMul of bytes
[K / block, block, N] and scales [K / block, N].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from dlpack.graph.ir import Array, Graph, TensorType
from dlpack.graph.packed import Packed

_SHORTEST = 16
"""Rows of a block below which a scale for each is more to read than it saves."""


def read_as_bytes(graph: Graph, packed: Mapping[str, Packed]) -> tuple[Graph, Mapping[str, Packed]]:
    """The graph with such products, and how to store its weights."""
    constants, types, stored = dict(graph.constants), dict(graph.types), dict(packed)
    made = set()
    for name, readers in graph.consumers().items():
        products = all(n.op == "MatMul" and not n.domain and n.inputs[1] == name != n.inputs[0] for n in readers)
        found = _in_blocks(packed[name]) if name in packed and products else None
        if found is None:
            continue
        made.add(name)
        codes, scales = found
        constants |= {f"{name}/bytes": codes.values().astype(np.int8), f"{name}/scales": scales}
        types |= {
            n: TensorType(constants[n].dtype.name, constants[n].shape) for n in (f"{name}/bytes", f"{name}/scales")
        }
        if codes.bits < 8:  # those of 8 are stored as they are
            stored[f"{name}/bytes"] = codes
        del constants[name], stored[name]
    nodes = []
    for node in graph.nodes:
        if node.op == "MatMul" and not node.domain and node.inputs[1] in made:
            x, w = node.inputs
            macs = graph.types[node.outputs[0]].size * graph.types[x].shape[-1]
            operands, attrs = (x, f"{w}/bytes", f"{w}/scales"), {"macs": macs}
            node = replace(node, op="BlockMatMul", domain="dlpack", inputs=operands, attrs=attrs)
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes), constants=constants, types=types), stored


def _in_blocks(packed: Packed) -> tuple[Packed, Array] | None:
    """The bytes of a weight [rows, columns] as [blocks, rows of a block, columns], of scale 1, and the scales; None
    where kernels are to read float32."""
    if packed.codes.ndim != 2 or packed.blocks[1] != 1:
        return None
    rows, columns = packed.codes.shape
    block = packed.blocks[0] if packed.steps[0] else rows
    numbers = packed.table
    if block < _SHORTEST or rows % block or not (numbers == np.round(numbers)).all():
        return None
    low, high = float(numbers.min()), float(numbers.max())
    if packed.zeros is not None:
        low, high = low - high, high - low
    if low < -128 or high > 127:
        return None
    places = np.arange(rows // block)[:, None] * packed.steps[0] + np.arange(columns) * packed.steps[1]
    shape, steps = (rows // block, block, columns), (packed.steps[0], 0, packed.steps[1])
    ones, steps = (np.ones(1, np.float32), (0, 0, 0)) if packed.zeros is None else (np.ones_like(packed.scales), steps)
    codes = Packed(packed.bits, packed.codes.reshape(shape), numbers, ones, packed.zeros, (1, 1, 1), steps)
    return codes, np.ascontiguousarray(packed.scales[places])
