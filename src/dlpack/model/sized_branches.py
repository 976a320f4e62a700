"""If where its branches give values of different sizes, or sizes that only a run knows: both are computed (`sized.py`).

That is what a build makes of every If (`operators/control_flow.py`).
"""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper

from dlpack.model.fold import rename_values
from dlpack.model.sized_numbers import Number, element, sub, whole
from dlpack.model.sized_work import Refused, Sizing, rule


@rule("If")
def branches(s: Sizing, node: NodeProto) -> None:
    parts = {a.name: a.g for a in node.attribute}
    told = len(s.problems)
    flag = s.emit("Reshape", [node.input[0], s.constant([1])], [1], TensorProto.BOOL)
    taken = element(flag, 0, 0, 1)
    first = _written(s, node, parts["then_branch"], "then", taken)
    second = _written(s, node, parts["else_branch"], "else", sub(whole(1), taken))
    s.node = node
    if len(s.problems) > told:  # its outputs are not known, and the reason is told
        s.refused.update(node.output)
        return
    for k, (a, b) in enumerate(zip(first, second, strict=True)):
        if s.elem(a) != s.elem(b) or len(s.shape(a)) != len(s.shape(b)):
            kinds = (f"{TensorProto.DataType.Name(s.elem(n)).lower()}{list(s.shape(n))}" for n in (a, b))
            raise Refused(f"its branches give {' and '.join(kinds)} for output {k}; give them the same type")
        if node.output[k]:
            _chosen(s, node.input[0], a, b, node.output[k])


def _written(s: Sizing, node: NodeProto, graph: GraphProto, branch: str, taken: Number) -> list[str]:
    """Writes the nodes of a branch; gives the names of its outputs. `taken`: whether a run takes it."""
    names: dict[str, str] = {}

    def renamed(name: str) -> str:
        s.node = node
        names[name] = s.fresh(f"{branch}/{name}")
        s.renamed(name, names[name])
        return names[name]

    for tensor in graph.initializer:
        copy = TensorProto.FromString(tensor.SerializeToString())
        copy.name = renamed(tensor.name)
        s.constants[copy.name] = copy
        s.made.append(copy)
        s.types[copy.name] = (copy.data_type, tuple(copy.dims))
    s.guards.append(taken)
    for inner in graph.node:
        for name in inner.output:
            if name:
                renamed(name)
        copied = NodeProto.FromString(inner.SerializeToString())
        rename_values(copied, names)
        copied.name = f"{node.name}/{branch}/{inner.name}"
        s.renamed(inner.name, copied.name)
        s.visit(copied)
    s.guards.pop()
    return [names.get(value.name, value.name) for value in graph.output]


def _chosen(s: Sizing, condition: str, a: str, b: str, output: str) -> None:
    """a where the condition holds, else b."""
    rank, elem = len(s.shape(a)), s.elem(a)
    flag = s.emit("Reshape", [condition, s.constant([1])], [1], TensorProto.BOOL)
    sizes: dict[int, Number] = {}
    for d, (x, y) in enumerate(zip(s.dims(a), s.dims(b), strict=True)):
        if x.key == y.key:
            sizes[d] = x
            continue
        size = s.emit("Where", [flag, s.scalar(x), s.scalar(y)], [1], TensorProto.INT64)
        sizes[d] = element(size, 0, min(x.low, y.low), max(x.high, y.high))
    shape = [sizes[d].high for d in range(rank)]
    values = [_extended(s, value, shape) for value in (a, b)]
    where = s.emit("Reshape", [flag, s.constant([1] * rank)], [1] * rank, TensorProto.BOOL)
    s.emit("Where", [where, *values], shape, elem, output)
    s.give({output: sizes})


def _extended(s: Sizing, x: str, shape: list[int]) -> str:
    """x with padding up to a shape: its last elements again, or zeros where it has none."""
    if 0 in s.shape(x) and 0 not in shape:
        return s.constant(np.zeros(shape), helper.tensor_dtype_to_np_dtype(s.elem(x)))
    for d, n in enumerate(shape):
        old = s.shape(x)
        if old[d] != n:
            places = s.constant(np.minimum(np.arange(n), max(0, old[d] - 1)))
            x = s.emit("Gather", [x, places], [n if k == d else m for k, m in enumerate(old)], s.elem(x), axis=d)
    return x
