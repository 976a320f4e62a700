"""The second opinion, asked before a build is refused: whether it is onnxruntime's own arithmetic that is off.

onnxruntime's float32 puts the coordinates of some resizes one pixel off, and its kernels are of several qualities. So
where the compiled predictor differs, the model is computed in other ways as well: by onnxruntime with its
optimisations, and by onnx's reference evaluator in float32 and in double. An output is right

- if it agrees with one of them, everywhere, within the usual tolerance; or
- if it is no farther from the double ones than twice what the others are, where that is no more than float32 may make
  of it: `MOST` of the range, or a unit of integers; or `DIGITS` of what is added last, of which little may be left (1 -
  sigmoid(x), the tail of Gelu).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from dlpack.errors import ModelError
from dlpack.graph.ir import Array
from dlpack.verify.doubles import in_double
from dlpack.verify.reference import Expected, Tolerance, compare, element_errors
from dlpack.verify.runners import evaluated, runner

MOST = 1e-3
"""What other ways to compute an output may differ by, as a part of its range, and still count as float32's error."""

DIGITS = 1e-6
"""The same as a part of the largest operand of the sums that the output comes from: a few of float32's last digits."""

_SUMS = frozenset(("Add", "Sub", "Sum", "Gelu", "ReduceMean", "ReduceSum"))
_BETWEEN = frozenset(
    "Identity Transpose Reshape Flatten Squeeze Unsqueeze Slice Split Concat Expand Gather Mul Div Neg Abs Relu".split()
)
"""What may stand between the sums and an output."""

MOST_MACS = 3_000_000_000
"""onnx's evaluator is slow: larger models are asked of onnxruntime alone."""


def second_opinion(
    model: onnx.ModelProto,
    inputs: Mapping[str, Array],
    expected: Expected,
    got: Mapping[int, Array],
    relative: float,
    macs: int = 0,
) -> Expected:
    """What is expected, where other ways to compute the model are on the predictor's side.

    `got`: the outputs, by their place, that differ from what is expected; `macs`: the model's multiply-adds.
    """
    outputs, tolerances = list(expected.outputs), list(expected.tolerances)
    open_, ways = dict(got), [outputs[:]]
    exact: list[Array] | None = None
    for way, values in _ways(model, inputs, macs):
        exact = values if way == "double" else exact
        ways.append(values)
        for k, value in list(open_.items()):
            want = values[k].astype(value.dtype, copy=False)
            if compare("", value, want, tolerances[k], relative).passed:
                outputs[k] = want
                del open_[k]
        if not open_:
            break
    added = _largest_added(model, inputs, list(open_)) if open_ and exact is not None else {}
    for k, value in open_.items() if exact is not None else ():
        assert exact is not None
        allowed = _spread(exact[k], [way[k] for way in ways], value.dtype, added[k])
        want = exact[k].astype(value.dtype, copy=False)
        if allowed is not None and compare("", value, want, allowed, relative).passed:
            outputs[k], tolerances[k] = want, allowed
    return replace(expected, outputs=outputs, tolerances=tolerances)


def _ways(model: onnx.ModelProto, inputs: Mapping[str, Array], macs: int) -> Iterator[tuple[str, list[Array]]]:
    """Other ways to compute the outputs, as far as they can be had."""
    with suppress(ModelError):
        yield "optimised", runner(model, optimised=True)(inputs)
    if macs > MOST_MACS:
        return
    wide = {name: x.astype(np.float64) if x.dtype == np.float32 else x for name, x in inputs.items()}
    for way, given in (("float", inputs), ("double", wide)):
        try:
            yield way, evaluated(in_double(model) if way == "double" else model, given)
        except Exception:  # noqa: BLE001 - the evaluator raises anything; then it has no opinion
            continue


def _largest_added(model: onnx.ModelProto, inputs: Mapping[str, Array], places: list[int]) -> dict[int, float]:
    """Of outputs, by their place, the largest operand of the last sums; 0 where it cannot be had."""
    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output if name}
    operands = {k: _added(graph.output[k].name, producers) for k in places}
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    values |= inputs
    names = list(dict.fromkeys(name for found in operands.values() for name in found if name not in values))
    seen = onnx.ModelProto()
    seen.CopyFrom(model)
    del seen.graph.output[:]
    seen.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    with suppress(ModelError):
        values |= zip(names, runner(seen)(inputs), strict=True) if names else ()
    return {k: max((_span(values[n]) for n in found if n in values), default=0.0) for k, found in operands.items()}


def _added(output: str, producers: Mapping[str, onnx.NodeProto]) -> set[str]:
    """The operands of the last sums that an output comes from."""
    found: set[str] = set()
    waiting, seen = [output], {output}
    while waiting:
        node = producers.get(waiting.pop())
        if node is None or node.domain or node.op_type not in _SUMS | _BETWEEN:
            continue
        if node.op_type in _SUMS:
            found |= {name for name in node.input if name}
            continue
        waiting += [name for name in node.input if name and name not in seen]
        seen |= set(node.input)
    return found


def _span(x: Array) -> float:
    finite = x[np.isfinite(x)] if x.dtype.kind == "f" else x
    return float(np.abs(finite.astype(np.float64)).max(initial=0.0)) if x.dtype.kind in "fiu" else 0.0


def _spread(exact: Array, ways: list[Array], dtype: np.dtype[Any], added: float) -> Tolerance | None:
    """Twice the errors of the other ways; None where they are more than arithmetic makes."""
    if any(way.shape != exact.shape for way in ways) or not exact.size:
        return None
    errors = [element_errors(way, exact) for way in ways]
    largest, mean = max(float(e.max()) for e in errors), max(float(e.mean()) for e in errors)
    if dtype.kind != "f":
        return Tolerance(largest, 2 * mean) if largest <= 1 else None
    if largest > max(MOST * _span(exact), DIGITS * added):
        return None
    digit = float(np.finfo(np.float32).epsneg) * added
    return Tolerance(max(2 * largest, digit), max(2 * mean, digit / 2))
