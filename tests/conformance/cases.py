"""The cases: ONNX's node tests, with the inputs frozen that a compiler must know."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto

from dlpack.graph.ir import Array
from dlpack.model.sequences import plain_borders

_CORNERS = "the test's corners do not align; onnxruntime and PyTorch align them, as we do"
INEXACT = {
    **{
        name: "the test expects the rounding errors of numpy's single precision FFT (1.9e-7 where 0 is exact)"
        for name in ("test_dft_inverse", "test_dft_inverse_opset19")
    },
    **{
        f"test_attention_{name}_bf16": "the test rounds after each operator, we round once, as float32 rounded is"
        for name in ("3d_causal", "4d_attn_mask_causal", "4d_causal", "4d_causal_padded_kv", "4d_padded_kv")
    },
    **{
        name: "the test has the random numbers of numpy; ours come from an input, `seed`"
        for name in ("test_bernoulli", "test_bernoulli_double", "test_bernoulli_seed")
    },
    "test_resize_downsample_scales_cubic_align_corners": _CORNERS,
    "test_resize_downsample_scales_linear_align_corners": _CORNERS,
}
"""Tests whose data are less exact than the tolerance, or not what runs models computes; no mistake of ours."""


WAYS = ("run time", "mixed", "constants")
"""How a case gets its inputs: at run time but for those that a compiler must know, all but the first as constants, as
exporters leave them, or all as constants."""


@dataclass(frozen=True)
class Case:
    """A node test. A value of its data sets that is no tensor (a sequence, an absent optional) is kept as it is.

    `way`: one of `WAYS`.
    """

    name: str
    operator: str
    domain: str
    model: ModelProto
    data_sets: tuple[tuple[tuple[Any, ...], tuple[Any, ...]], ...]
    rtol: float
    atol: float
    way: str = WAYS[0]


@dataclass(frozen=True)
class Frozen:
    """A case with some inputs turned into constants: the data sets hold the other inputs, by name.

    `outputs` are the values of those that `expected` names. A sequence's elements are inputs and outputs of their own.
    """

    model: ModelProto
    inputs: tuple[dict[str, Array], ...]
    outputs: tuple[tuple[Any, ...], ...]
    expected: tuple[str, ...]


@cache
def all_cases() -> tuple[Case, ...]:
    """Every node test of the installed onnx, in the order of their names."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        found = load_model_tests(kind="node")
        return tuple(_case(test) for test in sorted(found, key=lambda test: str(test.name)))


def select(expanded: bool = False) -> list[Case]:
    """The node tests; `expanded` adds those of the operators' definitions by other operators."""
    return [case for case in all_cases() if expanded or "_expanded" not in case.name]


def given(case: Case, way: str) -> Case:
    """The case with its inputs given another way, under a name that says so."""
    return case if way == case.way else replace(case, name=f"{case.name} ({way})", way=way)


def find(names: Sequence[str]) -> list[Case]:
    """The cases of these names, whatever their way."""
    known = {case.name: case for case in all_cases()}
    found = []
    for name in names:
        plain, _, way = name.removesuffix(")").partition(" (")
        found.append(given(known[plain], way or WAYS[0]))
    return found


def _case(test: Any) -> Case:
    node = test.model.graph.node[-1]
    data_sets = tuple((tuple(map(_value, a)), tuple(map(_value, b))) for a, b in test.data_sets)
    return Case(test.name, node.op_type, node.domain, test.model, data_sets, float(test.rtol), float(test.atol))


def _value(value: Any) -> Any:
    if isinstance(value, TensorProto):
        return onnx.numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


def freeze(case: Case) -> Frozen:
    """Takes the values of the inputs that decide shapes or code, and of those that the way makes constants, from the
    data, and the shapes of all others. How many elements a sequence has is stated as `--max` does, 0 of an optional
    that is absent."""
    names = [value.name for value in case.model.graph.input]
    given = zip(names, case.data_sets[0][0], strict=True)
    counts = {name: len(value or []) for name, value in given if value is None or isinstance(value, list)}
    model = ModelProto()
    model.CopyFrom(plain_borders(case.model, counts)[0])
    graph = model.graph
    values = [_elements(names, inputs) for inputs, _ in case.data_sets]
    outputs = [_elements([value.name for value in graph.output], outputs) for _, outputs in case.data_sets]
    names = [value.name for value in graph.input]
    wanted = _decisive(model)
    if case.way != WAYS[0]:
        first = next((name for name in names if name not in wanted), "")
        wanted |= {name for name in names if case.way == "constants" or name != first}
    frozen = {name for name in wanted if all(_same(v.get(name), values[0].get(name)) for v in values)}
    kept = []
    for info in graph.input:
        value = values[0][info.name]
        if info.name in frozen and isinstance(value, np.ndarray):
            graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), info.name))
            continue
        if info.type.WhichOneof("value") == "tensor_type" and isinstance(value, np.ndarray):
            shape = info.type.tensor_type.shape
            shape.Clear()
            info.type.tensor_type.shape.SetInParent()
            for size in value.shape:
                shape.dim.add().dim_value = size
        kept.append(onnx.ValueInfoProto.FromString(info.SerializeToString()))
    del graph.input[:]
    graph.input.extend(kept)
    left = [info.name for info in kept]
    inputs = tuple({name: v[name] for name in left} for v in values)
    return Frozen(model, inputs, tuple(tuple(found.values()) for found in outputs), tuple(outputs[0]))


def _elements(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """The values by their names, a sequence's elements by theirs; absent optionals are left out."""
    found: dict[str, Any] = {}
    for name, value in zip(names, values, strict=False):  # a case of our own may have no outputs
        if isinstance(value, list):
            found |= {f"{name}.{k}": np.asarray(element) for k, element in enumerate(value)}
        elif value is not None:
            found[name] = value
    return found


def _decisive(model: ModelProto) -> set[str]:
    from dlpack.operators.shape_inputs import SHAPE_INPUTS

    return {
        node.input[index]
        for node in model.graph.node
        if node.domain == ""
        for index in (SHAPE_INPUTS.get(node.op_type, ()) or _condition(node))
        if index < len(node.input) and node.input[index]
    }


def _condition(node: NodeProto) -> tuple[int, ...]:
    """The condition of an If that decides whether there is an element at all."""
    branches = [a.g for a in node.attribute if node.op_type == "If"]
    kinds = {value.type.WhichOneof("value") for graph in branches for value in graph.output}
    return (0,) if "optional_type" in kinds else ()


def _same(a: Any, b: Any) -> bool:
    return isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and np.array_equal(a, b)
