"""Outputs of a network that is sure of itself: what Sigmoid, Softmax and their like make of the numbers before them.

A detector that sees nothing says 1e-6 everywhere. onnxruntime's Sigmoid is a rational function whose error is a part of
1, not of the result: at -13 it is off by 2 %. And float32 gives the numbers before it to a part of *their* range, which
the exponential makes a part of its result times that range. So for such an output

- what is expected is computed in double, from the last activation's input on;
- what is accepted is as much as that input's float32 error (`ARITHMETIC` of its range) makes of it, if this is more
  than the usual part of the output's range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from onnx import ModelProto, NodeProto, ValueInfoProto, helper, numpy_helper

from dlpack.errors import ModelError
from dlpack.graph.ir import Array
from dlpack.verify.doubles import part_in_double
from dlpack.verify.runners import runner

ARITHMETIC = 1e-5
"""The error of a deep network's float32 sums, as a part of the largest: Winograd's at most 2e-5, others' 1e-6."""

_SURE = frozenset(("Sigmoid", "Softmax", "Softplus", "Exp"))
"""Activations that make small numbers of large ones."""

_CHEAP = frozenset(
    "Identity Transpose Reshape Flatten Squeeze Unsqueeze Slice Split Concat Expand Gather Add Sub Mul Div Neg".split()
)
"""What may stand between such an activation and an output."""

Run = Callable[[ModelProto, Mapping[str, Array]], list[Array]]


@dataclass
class _Tail:
    """The last nodes of a model, in order; `cuts`: what they read; `outputs`: those of the model that they compute."""

    nodes: list[NodeProto] = field(default_factory=list)
    cuts: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


def run_with_tail(model: ModelProto, inputs: Mapping[str, Array], run: Run) -> tuple[list[Array], list[float]]:
    """The model's outputs in order, each with what float32 may make of it by its last activations alone (0: nothing).

    `run` computes a model in float32; the outputs behind sure activations are computed in double from its numbers.
    """
    tail = _tail_of(model)
    if not tail.outputs:
        return run(model, inputs), [0.0] * len(model.graph.output)
    names, known = [o.name for o in model.graph.output], set(inputs)
    more = [name for name in tail.cuts if name not in known and name not in names]
    model.graph.output.extend(ValueInfoProto(name=name) for name in more)
    try:
        values = dict(zip((*names, *more), run(model, inputs), strict=True)) | dict(inputs)
    finally:
        del model.graph.output[len(names) :]
    outputs, floors = [values[name] for name in names], [0.0] * len(names)
    try:
        exact, reach = _in_double(model, tail, values, known)
    except ModelError:  # an operator that nobody has in double: the float32 outputs stand
        return outputs, floors
    for name, value, floor in zip(tail.outputs, exact, reach, strict=True):
        k = names.index(name)
        if outputs[k].dtype == np.float32 and outputs[k].shape == value.shape:
            outputs[k], floors[k] = value.astype(np.float32), floor
    return outputs, floors


def _in_double(
    model: ModelProto, tail: _Tail, values: Mapping[str, Array], given: set[str]
) -> tuple[list[Array], list[float]]:
    """The tail's outputs, and how far they move where what it reads moves by float32's error."""
    wide = {name: _wide(values[name]) for name in tail.cuts}
    part = runner(
        part_in_double(model, _precise(tail.nodes), {name: x.dtype for name, x in wide.items()}, tail.outputs)
    )
    exact = part(wide)
    reach = [0.0] * len(exact)
    signs = np.random.default_rng(0)
    for mixed in (False, True):
        step = {
            name: (signs.integers(0, 2, x.shape) * 2 - 1 if mixed else 1) * ARITHMETIC * _span(x)
            for name, x in wide.items()
            if name not in given and x.dtype == np.float64
        }
        for sign in (1, -1):
            moved = part({name: x + sign * step[name] if name in step else x for name, x in wide.items()})
            with np.errstate(invalid="ignore"):
                errors = [np.abs(a - b) for a, b in zip(moved, exact, strict=True)]
            reach = [max(r, float(e[np.isfinite(e)].max(initial=0.0))) for r, e in zip(reach, errors, strict=True)]
    return exact, reach


def _precise(nodes: list[NodeProto]) -> Iterator[NodeProto]:
    """The nodes with Sigmoid by its formula: even in double onnxruntime's own is 0 or off below 1e-12."""
    one = 0
    for node in nodes:
        if node.op_type != "Sigmoid":
            yield node
            continue
        one += 1
        x, y, name = node.input[0], node.output[0], f"dlpack.tail/{one}"
        yield helper.make_node("Constant", [], [f"{name}/one"], value=numpy_helper.from_array(np.array(1.0)))
        yield helper.make_node("Neg", [x], [f"{name}/neg"])
        yield helper.make_node("Exp", [f"{name}/neg"], [f"{name}/exp"])
        yield helper.make_node("Add", [f"{name}/exp", f"{name}/one"], [f"{name}/sum"])
        yield helper.make_node("Div", [f"{name}/one", f"{name}/sum"], [y])


def _wide(x: Array) -> Array:
    return x.astype(np.float64) if x.dtype == np.float32 else x


def _span(x: Array) -> float:
    return float(np.abs(x[np.isfinite(x)]).max(initial=0.0))


def _tail_of(model: ModelProto) -> _Tail:
    """What follows the last activations; empty where no output is behind a sure one."""
    producers = {name: node for node in model.graph.node for name in node.output if name}
    constants = {t.name for t in model.graph.initializer}
    chosen: set[str] = set()
    cuts: dict[str, None] = {}
    outputs = []
    for output in model.graph.output:
        nodes, reads, sure = _behind(output.name, producers, constants)
        if sure:
            outputs.append(output.name)
            chosen |= nodes
            cuts |= reads
    nodes_in_order = [node for node in model.graph.node if not chosen.isdisjoint(node.output)]
    made = {name for node in nodes_in_order for name in node.output}
    return _Tail(nodes_in_order, [name for name in cuts if name not in made], outputs)


def _behind(
    output: str, producers: Mapping[str, NodeProto], constants: set[str]
) -> tuple[set[str], dict[str, None], bool]:
    """What the nodes from the last activations to `output` compute, what they read, and whether one is sure."""
    nodes: set[str] = set()
    reads: dict[str, None] = {}
    sure, waiting = False, [output]
    while waiting:
        name = waiting.pop()
        node = producers.get(name)
        if node is None or node.domain or node.op_type not in _SURE | _CHEAP:
            reads[name] = None
        elif name not in nodes:
            nodes.add(name)
            sure |= node.op_type in _SURE
            inner = [v for v in node.input if v and v not in constants]
            if node.op_type in _SURE:
                reads |= dict.fromkeys(inner)
            else:
                waiting += inner
    return nodes, reads, sure
