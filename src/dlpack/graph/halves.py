"""Arithmetic in float16, where a machine has it: which values become such numbers, and who computes with them.

They are of the type "half" here, and "float16" to TVM; a model's own float16 values are bits to kernels. Convolutions,
products, pooling and simple pointwise operators compute in float16, and what only moves elements moves them. All other
operators read them as float32, compute in that, and may write them again where their results are small numbers. So a
cast is part of the kernel that needs it, except in front of a convolution or product that reads float32: that is one
copy. Inputs, outputs, what loops hold, and what may exceed float16's 65,504 (sums over whole pictures, powers,
exponentials) stay float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from dlpack.graph import registry
from dlpack.graph.ir import HALF, Array, Graph, Node, TensorType
from dlpack.graph.registry import Builder

PRODUCTS = frozenset(("Convolution", "WinogradConvolution", "MatMul"))
"""They compute in float16, and so do the operators below where all that they read is of it."""

_POOLS = frozenset(("PoolMax", "PoolSum"))
_SIMPLE = frozenset((
    "Add", "Sub", "Mul", "Neg", "Max", "Min", "Relu", "Clip", "LeakyRelu", "PRelu", "HardSigmoid", "HardSwish",
    "ThresholdedRelu", "Copy",
))  # fmt: skip
_MOVES = frozenset((
    "Concat", "DepthToSpace", "Expand", "Flatten", "Identity", "Interleave", "Pad", "Repeat", "Reshape", "Slice",
    "SpaceToDepth", "Split", "Squeeze", "Transpose", "Unsqueeze",
))  # fmt: skip
_READERS = frozenset((
    "GlobalSum", "GlobalMaxPool", "NormalizeRows", "NormalizeSpatial", "ChannelWindowSum", "LogSumExp", "Softmax",
    "LogSoftmax",
))  # fmt: skip
"""Beside pointwise operators, those that read float16 and compute in float32."""

_SMALL_RESULTS = frozenset((
    "NormalizeRows", "NormalizeSpatial", "Softmax", "LogSoftmax", "Sigmoid", "Tanh", "Erf", "ErfPlusOne", "Gelu",
    "TanhPlusOne", "TimesSigmoid", "Swish", "Mish", "Elu", "Selu", "Celu", "Softsign",
))  # fmt: skip
"""Of these, the ones whose results are no larger than what they read, or than a normalised number."""

LARGEST = 65504.0
LARGEST_WINDOW = 16
"""Elements that one sum of a window may have in float16."""


def halved(graph: Graph) -> Graph:
    """The graph with values and constants of float16 where they serve; nothing where it has no products."""
    if not any(_is_product(node, graph) for node in graph.nodes):
        return graph
    graph = _with_copied_inputs(graph)
    chosen = _chosen(graph)
    types = {**graph.types, **{v: replace(graph.types[v], dtype=HALF) for v in chosen}}
    graph = replace(graph, types=types)
    nodes: list[Node] = []
    constants: dict[str, Array] = {}
    copies: dict[str, str] = {}
    for node in graph.nodes:
        inputs = list(node.inputs)
        product = _is_product(node, graph) and _is_native(node, graph)
        for k, value in enumerate(inputs):
            if value and product and value not in graph.constants and types[value].dtype == "float32":
                if value not in copies:
                    b = Builder(graph, node)
                    copies[value] = b.add_internal("Copy", [value], types[value].shape, f"{value}/half", HALF)
                    types[copies[value]] = b.types[copies[value]]
                    nodes.extend(b.nodes)
                inputs[k] = copies[value]
        node = replace(node, inputs=tuple(inputs))
        if _would_compute(node, graph, types):
            for k, value in enumerate(inputs):
                array = graph.constants.get(value)
                if array is not None and array.dtype == np.float32 and (array.size > 1 or product):
                    inputs[k] = f"{value}/half"
                    constants[inputs[k]] = array.astype(np.float16)
                    types[inputs[k]] = TensorType(HALF, array.shape)
        nodes.append(replace(node, inputs=tuple(inputs)))
    return graph.with_nodes(nodes, constants, types)


def _with_copied_inputs(graph: Graph) -> Graph:
    """The graph with a copy of each input in front of pads, which are borders of the copy then, for what is float16."""
    consumers = graph.consumers()
    copies: dict[str, str] = {}
    nodes: list[Node] = []
    types = dict(graph.types)
    for value in graph.inputs:
        readers = consumers.get(value, [])
        if (
            types[value].dtype == "float32"
            and any(n.op == "Pad" for n in readers)
            and all(_reads(n, graph) for n in readers)
        ):
            b = Builder(graph, readers[0])
            copies[value] = b.add_internal("Copy", [value], types[value].shape, f"{value}/copy")
            nodes.extend(b.nodes)
            types |= b.types
    nodes += [replace(n, inputs=tuple(copies.get(i, i) for i in n.inputs)) for n in graph.nodes]
    return graph.with_nodes(nodes, types=types) if copies else graph


def computes_in_half(node: Node, graph: Graph) -> bool:
    """Whether an operator computes in float16: all that it reads is of it, but for constants of one element."""
    return _would_compute(node, graph, graph.types) and not any(
        graph.types[i].dtype == "float32" and graph.constants[i].size > 1 for i in node.inputs if i in graph.constants
    )


def _would_compute(node: Node, graph: Graph, types: Mapping[str, TensorType]) -> bool:
    """The same, all its constants being of float16."""
    if not (_is_native(node, graph) or node.op in _MOVES):
        return False
    reads = [types[i].dtype for i in node.inputs if i and i not in graph.constants]
    return HALF in reads and "float32" not in reads


def _is_product(node: Node, graph: Graph) -> bool:
    floats = ("float32", HALF)
    return node.op in PRODUCTS and all(graph.types[v].dtype in floats for v in (*node.inputs, *node.outputs) if v)


def _is_native(node: Node, graph: Graph) -> bool:
    """Whether it can compute in float16; not a product of one column, which is one sum after the other."""
    if node.op == "PoolSum":
        return int(np.prod(node.attrs["kernel"])) <= LARGEST_WINDOW
    if node.op == "MatMul" and graph.types[node.outputs[0]].shape[-1:] == (1,):
        return False
    fits = all(np.abs(c[np.isfinite(c)]).max(initial=0) <= LARGEST for c in _float_constants(node, graph))
    return fits and (_is_product(node, graph) or node.op in _POOLS or node.op in _SIMPLE)


def _float_constants(node: Node, graph: Graph) -> Iterator[Array]:
    found = (graph.constants.get(i) for i in node.inputs)
    return (c for c in found if c is not None and c.dtype == np.float32)


def _reads(node: Node, graph: Graph) -> bool:
    """Whether it can read float16."""
    operator = registry.find(node)
    pointwise = operator is not None and operator.kind == "pointwise"
    return pointwise or _is_product(node, graph) or node.op in (_MOVES | _READERS | _POOLS)


def _writes(node: Node, graph: Graph) -> bool:
    """Whether it can write float16."""
    return _is_native(node, graph) or node.op in _MOVES or node.op in _SMALL_RESULTS or node.op == "PoolMax"


def _chosen(graph: Graph) -> set[str]:
    """The values that become float16: all that can, where a neighbour computes in it."""
    producers, consumers = graph.producers(), graph.consumers()
    fixed = {*graph.inputs, *graph.outputs, *graph.constants}

    def can(value: str) -> bool:
        makes = producers.get(value)
        return (
            value not in fixed
            and graph.types[value].dtype == "float32"
            and makes is not None
            and _writes(makes, graph)
            and all(_reads(n, graph) for n in consumers.get(value, []))
        )

    chosen = {v for node in graph.nodes for v in node.outputs if v and can(v)}
    boss: dict[str, str] = {}  # values that only move become float16 together, or not at all

    def find(v: str) -> str:
        while boss.setdefault(v, v) != v:
            v = boss[v]
        return v

    for node in graph.nodes:
        if node.op in _MOVES:
            data = [v for v in (*node.inputs, *node.outputs) if v and v not in graph.constants]
            floats = [v for v in data if graph.types[v].dtype == "float32"]
            for v in floats[1:]:
                boss[find(v)] = find(floats[0])
    left = {find(v) for v in boss if v not in chosen}
    near = {
        find(v)
        for node in graph.nodes
        if node.op not in _MOVES and _is_native(node, graph)
        for v in (*node.inputs, *node.outputs)
        if v
    }
    return {v for v in chosen if find(v) not in left and find(v) in near}
