"""The operator registry: what the files of `operators/` declare about each ONNX operator.

An operator is one function, registered by a decorator that also states how it may be fused:

- `pointwise`: a scalar function, one output element from the elements at the same (broadcast) place;
- `anchor`: te.compute stages around a reduction (convolution, matmul, pooling, softmax ...), whose kernel also
  computes the pointwise operators of the same shape that follow;
- `compute`: any te stages, in a kernel of their own (mainly data movement);
- `rewrite`: replaced by simpler nodes before anything else;
- `view`: in addition to one of the above, describes an output as a view of its input's buffer, so that nothing moves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dlpack.errors import UnsupportedError
from dlpack.graph.ir import STORED, Array, Graph, Node, TensorType
from dlpack.loops.layout import Layout
from dlpack.loops.sizes import Size

DTYPES = frozenset(
    ("bool", "float32", "float64", *STORED, *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
)
"""The element types that kernels are built for."""


class NotSupported(UnsupportedError):
    """Raised by an operator's function; the pipeline adds the node and collects all of them."""


@dataclass(frozen=True)
class Context:
    """What an operator's function can see of its node: attributes, types and constant inputs."""

    node: Node
    graph: Graph

    def attr(self, name: str, default: Any = None) -> Any:
        return self.node.attrs.get(name, default)

    def has_input(self, i: int) -> bool:
        return i < len(self.node.inputs) and self.node.inputs[i] != ""

    def input_type(self, i: int) -> TensorType:
        return self.graph.types[self.node.inputs[i]]

    def output_type(self, i: int = 0) -> TensorType:
        return self.graph.types[self.node.outputs[i]]

    def maybe_constant(self, i: int) -> Array | None:
        """Input i if it is known at build time, else None."""
        return self.graph.constants.get(self.node.inputs[i]) if self.has_input(i) else None

    def constant(self, i: int, what: str) -> Array:
        """Input i, which must be known at build time; `what` names it in the error."""
        value = self.maybe_constant(i)
        if value is None:
            raise NotSupported(f"{self.node.op} needs a constant {what} (input {i})")
        return value

    def ints(self, i: int, what: str) -> list[int]:
        return [int(v) for v in self.constant(i, what).reshape(-1)]


def slice_of(ctx: Context) -> tuple[list[int], list[int], list[int], list[int]]:
    """Starts, ends, axes (from the first dimension) and steps of a Slice: of its attributes, or of its inputs."""
    rank = len(ctx.input_type(0).shape)
    if ctx.attr("starts") is not None:
        starts, ends, axes, steps = list(ctx.attr("starts")), list(ctx.attr("ends")), ctx.attr("axes"), None
    else:
        starts, ends = ctx.ints(1, "starts"), ctx.ints(2, "ends")
        axes = ctx.ints(3, "axes") if ctx.has_input(3) else None
        steps = ctx.ints(4, "steps") if ctx.has_input(4) else None
    axes = list(range(len(starts))) if axes is None else [int(a) % rank for a in axes]
    return starts, ends, axes, steps or [1] * len(starts)


@dataclass
class Operator:
    """One ONNX operator's entry; `kind` is the decorator that made it."""

    name: str
    kind: str
    function: Callable[..., Any]
    domain: str = ""
    view: Callable[[Context, Layout], Sequence[Layout | None]] | None = None
    constant_inputs: tuple[int, ...] = ()
    tables: tuple[int, ...] = ()  # a pointwise operator's inputs of which it reads any element
    layout: str = "any"  # "spatial" (or "spatial input", "spatial output"): best channels-last; "rows": best row-major;
    # "same": inputs of the output's rank lie as the output does; "any": as pointwise operators, when shapes are equal
    flattens: Callable[[Context], bool] | None = None  # whether the spatial dimensions may be taken as one


_OPERATORS: dict[tuple[str, str], Operator] = {}
_VIEWS: dict[tuple[str, str], Callable[[Context, Layout], Sequence[Layout | None]]] = {}

Function = Callable[..., Any]


def _enter(kind: str, names: tuple[str, ...], domain: str, **fields: Any) -> Callable[[Function], Function]:
    def decorate(function: Function) -> Function:
        for name in names:
            if (domain, name) in _OPERATORS:
                raise ValueError(f"operator {name} is registered twice")
            view = _VIEWS.get((domain, name))
            _OPERATORS[domain, name] = Operator(name, kind, function, domain, view, **fields)
        return function

    return decorate


def pointwise(
    *names: str, domain: str = "", constant_inputs: tuple[int, ...] = (), tables: tuple[int, ...] = ()
) -> Callable[[Function], Function]:
    """``f(ctx, *elements) -> element``, over tirx expressions. Inputs in `constant_inputs` are not passed, those in
    `tables` as te tensors."""
    return _enter("pointwise", names, domain, constant_inputs=constant_inputs, tables=tables)


def anchor(
    *names: str,
    domain: str = "",
    constant_inputs: tuple[int, ...] = (),
    layout: str = "any",
    flattens: Callable[[Context], bool] | None = None,
) -> Callable[[Function], Function]:
    """``f(ctx, *tensors) -> list of te tensors``, the first of which may carry a pointwise epilogue."""
    return _enter("anchor", names, domain, constant_inputs=constant_inputs, layout=layout, flattens=flattens)


def compute(
    *names: str, domain: str = "", constant_inputs: tuple[int, ...] = (), layout: str = "any"
) -> Callable[[Function], Function]:
    """``f(ctx, *tensors) -> list of te tensors``, one per output. An absent optional input is passed as None."""
    return _enter("compute", names, domain, constant_inputs=constant_inputs, layout=layout)


def rewrite(*names: str, domain: str = "") -> Callable[[Function], Function]:
    """``f(ctx, builder)`` writes the replacing nodes; returns False to leave the node as it is."""
    return _enter("rewrite", names, domain)


def view(*names: str, domain: str = "") -> Callable[[Function], Function]:
    """``f(ctx, layout of input 0) -> a layout per output``, None for one that needs a copy."""

    def decorate(function: Function) -> Function:
        for name in names:
            _VIEWS[domain, name] = function
            if (domain, name) in _OPERATORS:
                _OPERATORS[domain, name].view = function
        return function

    return decorate


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def find(node: Node) -> Operator | None:
    return _OPERATORS.get((_domain(node.domain), node.op))


def supported(op: str, domain: str = "") -> bool:
    return (_domain(domain), op) in _OPERATORS


def names() -> list[tuple[str, str]]:
    return sorted(_OPERATORS)


FOREIGN_OPSET = 21
"""Of the nodes that replace a node of another domain, whose own version says nothing of ONNX's."""


class Builder:
    """Writes the nodes that replace one node; types of the new values are inferred or given."""

    def __init__(self, graph: Graph, node: Node) -> None:
        self.graph, self.origin = graph, node
        self.nodes: list[Node] = []
        self.constants: dict[str, Array] = {}
        self.types: dict[str, TensorType] = {}
        self._count = 0
        self._opset = FOREIGN_OPSET if node.domain == "ai.onnx.ml" else node.opset

    def type_of(self, name: str) -> TensorType:
        return self.types.get(name) or self.graph.types[name]

    def fresh(self, hint: str) -> str:
        while True:
            self._count += 1
            name = f"{self.origin.outputs[0] or self.origin.name}/{hint}_{self._count}"
            if name not in self.types and name not in self.graph.types:
                return name

    def constant(self, value: Array, hint: str = "const") -> str:
        name = self.fresh(hint)
        self.constants[name] = np.asarray(value)
        self.types[name] = TensorType(self.constants[name].dtype.name, self.constants[name].shape)
        return name

    def add(
        self,
        op: str,
        inputs: Sequence[str],
        shape: Sequence[int],
        dtype: str | None = None,
        output: str | None = None,
        **attrs: Any,
    ) -> str:
        """Adds a node with one output of `shape` and returns its name; `dtype` defaults to that of the first input."""
        out = output or self.fresh(op.lower())
        self.types[out] = TensorType(dtype or self.type_of(inputs[0]).dtype, tuple(int(d) for d in shape))
        self.nodes.append(Node(op, tuple(inputs), (out,), attrs, out, "", self._opset, self.origin.sources))
        return out

    def add_internal(
        self,
        op: str,
        inputs: Sequence[str],
        shape: Sequence[int],
        output: str | None = None,
        dtype: str | None = None,
        **attrs: Any,
    ) -> str:
        """Like `add`, for an operator of our own (domain "dlpack")."""
        out = self.add(op, inputs, shape, dtype, output, **attrs)
        self.nodes[-1] = replace(self.nodes[-1], domain="dlpack")
        return out

    def share(self, sizes: Sequence[Size], fixed: int, rank: int) -> str:
        """One over the number of elements that a run has: the product of `sizes` and `fixed`; a float of that rank."""
        out = self.fresh("share")
        self.types[out] = TensorType("float32", (1,) * rank)
        attrs = {"sizes": tuple(sizes), "fixed": fixed}
        self.nodes.append(Node("Share", (), (out,), attrs, out, "dlpack", 1, self.origin.sources))
        return out

    def count(self, size: Size, rank: int, dtype: str = "int64") -> str:
        """A number of elements that a run has, as one element of that rank."""
        out = self.fresh("count")
        self.types[out] = TensorType(dtype, (1,) * rank)
        self.nodes.append(Node("Count", (), (out,), {"size": size}, out, "dlpack", 1, self.origin.sources))
        return out

    def raw_internal(self, op: str, inputs: Sequence[str], outputs: Sequence[str], attrs: Mapping[str, Any]) -> None:
        """Adds a node of an operator of our own, whose outputs' types are known."""
        names = tuple(outputs)
        self.nodes.append(Node(op, tuple(inputs), names, dict(attrs), names[0], "dlpack", 1, self.origin.sources))

    def raw(self, node: Node, types: Sequence[TensorType]) -> tuple[str, ...]:
        """Adds a node unchanged, with the types of its outputs."""
        self.nodes.append(node)
        self.types.update({n: t for n, t in zip(node.outputs, types, strict=True) if n})
        return node.outputs
