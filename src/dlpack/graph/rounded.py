"""Products with weights of 8 bits and fewer as sums of 8-bit products, on request: what they multiply is rounded.

A product x W, whose weights [K, N] share scales by blocks of rows, becomes two nodes. RoundBlocks makes int8 codes of
each block of a row of x, from -127 to 127, and a scale, the block's largest magnitude / 127; all products that read x
in the same blocks share it. BlockDot sums the products of codes in each block, and multiplies every sum by both scales.

Weights are stored as machines multiply them by signed numbers: from 0 on where the other operand is unsigned (x86,
WebAssembly), from -128 on else. What that and zero points add is their zero times the sum of a block's codes, which
RoundBlocks knows: it is taken off each sum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from dlpack.graph.ir import Array, Graph, Node, TensorType
from dlpack.graph.packed import Packed
from dlpack.graph.rewrite import remove_dead

WITHOUT_BLOCKS = (128, 64, 32, 16)
"""In blocks of how many elements x is rounded where a column of weights has one scale: the first that divides K."""

SHORTEST, LONGEST = 16, 512
"""Rows of a block: with fewer, scales are most of the work; sums of more may pass 32 bits in a kernel's zero."""


@dataclass(frozen=True)
class _Weight:
    """A weight [K, N] as kernels read it.

    `codes` are integers [blocks, rows of a block, N] of scale 1, and `zeros`, of their type, what counts as 0 in each
    block of a column, [blocks, N]; None: `zero` in all of them. `scales` are float32 [blocks, N], the bits of float16s
    as int16 where these hold them, or float32 [N] where a column has but one.
    """

    codes: Packed
    zero: int
    zeros: Array | None
    scales: Array


def rounded(graph: Graph, packed: Callable[[str], Packed | None], operand: str) -> tuple[Graph, Mapping[str, Packed]]:
    """The graph with such products, and how to store their weights.

    `packed` gives how a constant is stored that has few bits, and `operand` the type ("uint8", "int8") that the machine
    multiplies int8 by.
    """
    weights: dict[str, _Weight | None] = {}
    stored: dict[str, Packed] = {}
    made: dict[tuple[str, int, int], tuple[str, ...]] = {}
    nodes: list[Node] = []
    constants, types = dict[str, Array](), dict[str, TensorType]()
    for node in graph.nodes:
        if not _is_product(node, graph):
            nodes.append(node)
            continue
        x, w = node.inputs
        if w not in weights:
            how = packed(w)
            weights[w] = weight = None if how is None else _weight(how, operand)
            if weight is not None:
                parts = {"codes": weight.codes.values().astype(operand), "scales": weight.scales}
                parts |= {} if weight.zeros is None else {"zeros": weight.zeros}
                constants |= {f"{w}/{part}": value for part, value in parts.items()}
                stored |= {f"{w}/codes": weight.codes} if weight.codes.bits < 8 else {}
        weight = weights[w]
        if weight is None:
            nodes.append(node)
            continue
        block, zero = weight.codes.codes.shape[1], 1 if weight.zeros is not None else weight.zero
        if (x, block, zero) not in made:
            outputs, own = _rounding(x, block, zero, graph.types[x].shape)
            attrs = {"block": block, "zero": zero}
            nodes.append(Node("RoundBlocks", (x,), outputs, attrs, outputs[0], "dlpack", 1, node.sources))
            made[x, block, zero] = outputs
            types |= own
        nodes += _products(node, (made[x, block, zero], weight), graph, types)
    types |= {name: TensorType(c.dtype.name, c.shape) for name, c in constants.items()}
    return remove_dead(graph.with_nodes(nodes, constants, types)), stored


def rounded_sources(graph: Graph) -> dict[str, int]:
    """The ONNX nodes whose products have become BlockDot, each with the elements of a block that is rounded."""
    dots = [n for n in graph.nodes if n.op == "BlockDot"]
    return {source: graph.constants[n.inputs[3]].shape[1] for n in dots for source in n.sources}


def _is_product(node: Node, graph: Graph) -> bool:
    """Whether it is a product of a value of floats and a constant matrix."""
    if node.op != "MatMul" or node.domain:
        return False
    x, w = node.inputs
    constant = w in graph.constants and x not in graph.constants
    return constant and len(graph.types[w].shape) == 2 and graph.types[x].dtype == "float32"


def _rounding(x: str, block: int, zero: int, shape: tuple[int, ...]) -> tuple[tuple[str, ...], dict[str, TensorType]]:
    """The values that a value x of that shape is rounded to, and their types: codes, scales, and, where a zero is to be
    taken off, minus that times the sums of codes."""
    blocks = (*shape[:-1], shape[-1] // block)
    found = {
        f"{x}/codes{block}_{zero}": TensorType("int8", shape),
        f"{x}/scales{block}_{zero}": TensorType("float32", blocks),
    }
    found |= {f"{x}/zeros{block}_{zero}": TensorType("int32", blocks)} if zero else {}
    return tuple(found), found


def _products(
    node: Node, operands: tuple[tuple[str, ...], _Weight], graph: Graph, types: dict[str, TensorType]
) -> list[Node]:
    """What computes a product of what is rounded and a weight; enters the types of new values."""
    (codes, scales, *sums), weight = operands
    (y,), w, t = node.outputs, node.inputs[1], graph.types[node.outputs[0]]
    whole = weight.scales.ndim == 1
    given = (codes, scales, *(sums or [""]), f"{w}/codes", "" if whole else f"{w}/scales")
    given += ("",) if weight.zeros is None else (f"{w}/zeros",)
    attrs = {"macs": t.size * graph.types[node.inputs[0]].shape[-1]}
    out = f"{y}/sums" if whole else y
    product = replace(node, op="BlockDot", domain="dlpack", inputs=given, outputs=(out,), attrs=attrs)
    if not whole:
        return [product]
    types[out] = t
    return [replace(product, name=out), replace(node, op="Mul", inputs=(out, f"{w}/scales"), attrs={})]


def _weight(packed: Packed, operand: str) -> _Weight | None:
    """The weight as sums of 8-bit products need it; None where they cannot be made of it."""
    if packed.codes.ndim != 2 or packed.blocks[1] != 1:
        return None
    (rows, columns), numbers = packed.codes.shape, packed.table
    block = packed.blocks[0] if packed.steps[0] else next((n for n in WITHOUT_BLOCKS if rows % n == 0), 0)
    if block % SHORTEST or not SHORTEST <= block <= LONGEST or rows % block or not (numbers == np.round(numbers)).all():
        return None
    low, high = int(numbers.min()), int(numbers.max())
    if high - low > 255:
        return None
    base = low if operand == "uint8" else low + 128 if low < -128 or high > 127 else 0
    steps = packed.steps
    blocks = np.arange(rows // packed.blocks[0] if steps[0] else 1)
    places = blocks[:, None] * steps[0] + np.arange(columns) * steps[1]
    zeros = None if packed.zeros is None else (numbers[packed.zeros[places]] - base).astype(operand)
    if zeros is not None and len(blocks) == 1:
        zeros = np.repeat(zeros, rows // block, axis=0)
    shape = (rows // block, block, columns)
    one = np.ones(1, np.float32)
    codes = Packed(packed.bits, packed.codes.reshape(shape), numbers - base, one, None, (1, 1, 1), (0, 0, 0))
    scales = np.ascontiguousarray(packed.scales[places])
    return _Weight(codes, -base, zeros, _in_16_bits(scales) if steps[0] else scales[0])


def _in_16_bits(scales: Array) -> Array:
    """The scales as the bits of float16s, in int16, where all are such numbers: with float32's a token reads a tenth
    more."""
    with np.errstate(over="ignore"):
        halves = scales.astype(np.float16)
    return halves.view(np.int16) if np.array_equal(halves.astype(np.float32), scales) else scales
