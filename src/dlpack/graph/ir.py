"""The graph IR: ONNX nodes with static types, ONNX names kept.

A `Graph` is what every stage before lowering reads. Values are named by strings; each has a `TensorType`.
Passes take a graph and return the next; nothing is changed in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dlpack.loops.ir import HALF as HALF
from dlpack.loops.sizes import EXTENT, Size

Array = np.ndarray[Any, Any]


HALVES = {"float16": "uint16", "bfloat16": "uint16"}
"""Values have these element types at the model's borders, never in between."""

BITS = {
    **HALVES,
    **{f"float8_{kind}": "uint8" for kind in ("e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz", "e8m0fnu")},
    "float4_e2m1fn": "uint8",
}
"""The element types that kernels see as their bits, each element in bytes of its own."""

SMALL_INTEGERS = {"int4": "int8", "uint4": "uint8", "int2": "int8", "uint2": "uint8"}
"""The integers below a byte, as ml_dtypes calls them, and those that kernels see in their place."""

STORED = {**BITS, **SMALL_INTEGERS}
"""The element types that are others to kernels, and in memory."""


Sizes = tuple[Size | None, ...]
"""Of each dimension what its extent is in a run, or None where that is always the same."""


@dataclass(frozen=True)
class TensorType:
    """Element type (a numpy name such as "float32") and static shape of a value.

    Where dimensions are open, the shape is the one that kernels are made for, and `sizes` say what a run has of it.
    """

    dtype: str
    shape: tuple[int, ...]
    sizes: Sizes = ()

    @property
    def size(self) -> int:
        """Number of elements."""
        n = 1
        for d in self.shape:
            n *= d
        return n

    @property
    def itemsize(self) -> int:
        return int(np.dtype(STORED.get(self.dtype, self.dtype)).itemsize)

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    def __str__(self) -> str:
        return f"{self.dtype}[{'x'.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Node:
    """One operator. `sources` names the ONNX nodes it was made from; "" in `inputs` is an absent optional input.

    `body` is the loop body of the internal operator "Scan" (see `operators/recurrent.py`), else None.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    domain: str = ""
    opset: int = 0
    sources: tuple[str, ...] = ()
    body: Graph | None = None


@dataclass(frozen=True)
class Cache:
    """Rows that stay in the predictor between runs: a decoder's keys or values, of the tokens that it has read.

    `past` and the value `present` are both [1, heads, rows, size]; `present` is `past` with the rows of a run behind
    it, and both lie in one buffer, which has `room` rows. `past` is no input of the graph, `present` no output.
    One value that is both is written by one set of shapes and read by others. `turned`: whether rows lie as columns, as
    keys are read; None: as this graph reads them.
    """

    past: str
    present: str
    room: int
    turned: bool | None = None


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order, `types` for every value, `constants` for the values known at build time.

    `derived` names constants that the predictor computes from another when it is made, and that one: Winograd's
    weights, up to seven times as large as what they come from. Their elements in `constants` are not there (NaN).
    `sums` names others, which are sums of constants of the same shape, with signs: Strassen's weights.
    `sizes` names outputs whose size only a run knows, and the output with the true shape of each; their own type has
    the largest. These further outputs come last. `exceeded`, if there is such a one, is the very last: int64[1], not
    0 in a run whose data exceeds one of `limits`, maxima that the user has stated.
    `strings` has the bytes of each element of inputs and outputs that are strings, which are the last dimension of
    their types here; `words` some values of such inputs.
    `open` is the extent of the dimensions of which a run has some part, from their beginning; see `graph/opened.py`.
    `opens` has the open dimensions of inputs that are pictures, and what a run has of them; see `graph/pictures.py`.
    With both, kernels are those of a length, and runs count as for pictures.
    `smallest` is what a run has of these at the least, by their number.
    `caches` are those of a decoder; `filled` is then the input, [1, rows], that says which of their rows have a token
    (not 0), those of a run among them; "": none does.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    types: Mapping[str, TensorType]
    derived: Mapping[str, str] = field(default_factory=dict)
    sums: Mapping[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    sizes: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    exceeded: str = ""
    strings: Mapping[str, int] = field(default_factory=dict)
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    open: int = 0
    opens: Mapping[str, Mapping[int, Size]] = field(default_factory=dict)
    smallest: tuple[int, ...] = ()
    caches: tuple[Cache, ...] = ()
    filled: str = ""

    def with_nodes(
        self,
        nodes: Iterable[Node],
        constants: Mapping[str, Array] | None = None,
        types: Mapping[str, TensorType] | None = None,
    ) -> Graph:
        """The graph with other nodes, and with constants and types added."""
        return replace(
            self,
            nodes=tuple(nodes),
            constants={**self.constants, **(constants or {})},
            types={**self.types, **(types or {})},
        )

    def border(self, name: str) -> TensorType:
        """The type of an input or output as its user sees it: strings are elements, "S64" of 64 bytes each."""
        t, width = self.types[name], self.strings.get(name)
        return t if width is None else TensorType(f"S{width}", t.shape[:-1])

    @property
    def length(self) -> Size:
        """What a run has of the dimensions that are `open`."""
        return Size(columns=1) if self.opens else Size(EXTENT)

    def consumers(self) -> dict[str, list[Node]]:
        """Value name → the nodes that read it, once each, in order."""
        out: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                if name:
                    out.setdefault(name, []).append(node)
        return out

    def producers(self) -> dict[str, Node]:
        return {name: node for node in self.nodes for name in node.outputs if name}
