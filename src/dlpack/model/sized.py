"""Models with values whose size only a run knows: as one whose values have their largest size, and the true sizes.

A value's shape becomes the largest; what lies beyond the true size is padding, about which nothing is promised. The
true size is a `Number` for each such dimension, and is computed beside the value. Operators of the kinds that mix
elements are given masks, so that no padding gets into a result. For every output with such a dimension there is one
more output, NAME.shape, with its true shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnx import ModelProto, NodeProto, TensorProto, helper

from dlpack.errors import UnsupportedError, UsageError
from dlpack.model import (  # noqa: F401 - what they enter
    sized_branches,
    sized_combine,
    sized_loops,
    sized_pads,
    sized_rules,
    sized_select,
    sized_strings,
)
from dlpack.model.infer import ValueType
from dlpack.model.sized_work import DOMAIN, Maxima, Sizing, has_rule
from dlpack.model.walk import free_names, graphs, opset_versions, subgraphs

__all__ = ["Sized", "check_maxima", "has_rule", "with_sizes"]


@dataclass(frozen=True)
class Sized:
    """The model with static shapes, the types of all its values, and NAME.shape by the output NAME.

    `limits`: the stated maxima that the data may exceed. If there are any, the output `exceeded` (int64[1]) is 1 in a
    run that exceeds one, else 0.
    """

    model: ModelProto
    types: dict[str, ValueType]
    shapes: dict[str, str]
    limits: dict[str, int]
    exceeded: str


def with_sizes(
    model: ModelProto, known: Mapping[str, ValueType], maxima: Maxima, strings: Mapping[str, int] | None = None
) -> Sized:
    """`known`: the types of values that are static. `maxima`: the largest sizes that the user states, by the name of a
    value or a node. `strings`: outputs that are strings, whose last dimension, their bytes, is none of the model's.

    Raises UnsupportedError with everything that cannot be computed, UsageError for a maximum that nothing has.
    """
    work = Sizing(model, known, dict(maxima))
    for node in model.graph.node:
        work.visit(node)
    if work.problems:
        raise UnsupportedError("the model cannot be compiled:", tuple(dict.fromkeys(work.problems)))
    check_maxima(maxima, model, work.used)
    return _result(work, strings or {})


def check_maxima(maxima: Maxima, model: ModelProto, used: set[str]) -> None:
    """Raises UsageError for a maximum that was of no use."""
    for name in maxima:
        if name not in used:
            names = {n for part in graphs(model.graph) for node in part.node for n in (node.name, *node.output)}
            names |= {value.name for value in model.graph.input}
            what = "has a size that is known, or a bound of its own" if name in names else "is not in the model"
            raise UsageError(f"--max {name}={maxima[name]}: '{name}' {what}")


def _result(s: Sizing, strings: Mapping[str, int]) -> Sized:
    """The model that was written."""
    graph = s.model.graph
    shapes = {}
    outputs = [value.name for value in graph.output]
    for name in outputs:
        if name in s.sizes:
            shapes[name] = _free(s, f"{name}.shape")
            s.node = NodeProto(output=[name], name=f"{name}.shape")
            dims = s.dims(name)[: -1 if name in strings else None]
            s.vector(dims, shapes[name])
            s.types[shapes[name]] = (TensorProto.INT64, (len(dims),))
    exceeded = _exceeded(s) if s.excesses else ""
    more = [*shapes.values(), *([exceeded] if exceeded else [])]
    made = ModelProto(ir_version=s.model.ir_version)
    made.opset_import.extend(s.model.opset_import)
    if DOMAIN not in opset_versions(made):  # bodies are inferred again, where onnx asks for it
        made.opset_import.add(domain=DOMAIN, version=1)
    made.graph.name = graph.name
    made.graph.input.extend(graph.input)
    made.graph.initializer.extend([*graph.initializer, *s.made])
    made.graph.node.extend(s.nodes)
    made.graph.output.extend(helper.make_tensor_value_info(name, *s.types[name]) for name in (*outputs, *more))
    used = {name for node in s.nodes for name in node.output} | {v.name for v in graph.input}
    used |= {tensor.name for tensor in made.graph.initializer}
    types = {n: ValueType(elem, shape) for n, (elem, shape) in s.types.items() if n in used}
    _drop_dead(made, types)
    return Sized(made, types, shapes, s.limits, exceeded)


def _free(s: Sizing, name: str) -> str:
    while name in s.names:
        name += "_"
    return name


def _exceeded(s: Sizing) -> str:
    """The output that says whether a run exceeds a stated maximum."""
    name = _free(s, "exceeded")
    s.node = NodeProto(output=[name], name=name)
    return s.emit("Cast", [s.over()], [1], TensorProto.INT64, name, to=TensorProto.INT64)


def _drop_dead(model: ModelProto, types: dict[str, ValueType]) -> None:
    """Drop what no output needs: sizes that nothing reads."""
    needed = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(name for name in node.input if name)
            for body in subgraphs(node):
                needed |= free_names(body)
            kept.append(NodeProto.FromString(node.SerializeToString()))
            needed.update(name for name in node.output if name)
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))
    needed |= {value.name for value in model.graph.input}
    unused = [k for k, tensor in enumerate(model.graph.initializer) if tensor.name not in needed]
    for k in reversed(unused):
        del model.graph.initializer[k]
    for name in [n for n in types if n not in needed]:
        del types[name]
