"""Small random graphs of single operators, compiled and compared: every operator × element type × kind of operand.

Case k of a seed is the same on every machine, and a round of `len(PAIRS)` cases meets every operator with every element
type. A case is a model with a few nodes of one operator, each an output of its own: their inputs are run-time inputs or
constants, full, broadcast or scalar, and their values are telling ones. What they must be, onnxruntime tells for
floats; for integers, which it divides with a trap, and where it has no kernel, it is ONNX's reference, or the
specification's word in numpy where that differs.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NoReturn

import numpy as np
import onnx
from conformance.batch import Result, run_cases
from conformance.cases import Case
from conformance.harness import MACHINES
from onnx import helper

Array = np.ndarray[Any, Any]
Values = Callable[["_Rng", str, tuple[int, ...]], Array]

OPSET = 18
BATCH = 60
"""Cases that are compiled as one file."""

NODES = 4
"""Nodes of a case."""

SANITIZE = ("-fsanitize=undefined", "-fsanitize-trap=undefined")
"""Undefined behaviour ends the process."""

INTEGERS = tuple(f"{sign}int{bits}" for bits in (8, 16, 32, 64) for sign in ("", "u"))
WIDE = ("int32", "uint32", "int64", "uint64")
FLOATS = ("float32", "float64")
NUMBERS = (*FLOATS, *INTEGERS)

SQUARES = ((5, 5), (17, 17), (2, 17, 17))
SHAPES = ((37,), (3, 5, 7), (2, 16), (5, 1, 19), (1,), (2, 3, 4, 5))

_Rng = random.Random


# --- values -----------------------------------------------------------------------------------------------------------


def extreme(rng: _Rng, dtype: str, shape: tuple[int, ...]) -> Array:
    """The ends of the type's range, what lies at zero, what is no number, and numbers between."""
    if dtype == "bool":
        return np.array([rng.random() < 0.5 for _ in range(_size(shape))], bool).reshape(shape)
    if dtype in FLOATS:
        info = np.finfo(dtype)
        ends = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, np.inf, -np.inf, np.nan, float(info.max), float(-info.max),
                float(info.tiny), float(info.tiny) / 8, -float(info.tiny) / 8, 1e-3, 3.0]  # fmt: skip
        return _drawn(rng, dtype, shape, ends, lambda: rng.uniform(-10, 10))
    whole = np.iinfo(dtype)
    ends = [whole.min, whole.min + 1, whole.max, whole.max - 1, 0, 1, 2, 3, *((-1, -2) if whole.min else ())]
    return _drawn(rng, dtype, shape, ends, lambda: rng.randint(int(whole.min), int(whole.max)))


def moderate(rng: _Rng, dtype: str, shape: tuple[int, ...]) -> Array:
    """Numbers that sums in any order agree on; integers are extreme, since their sums are exact."""
    if dtype in FLOATS:
        return np.array([rng.uniform(-4, 4) for _ in range(_size(shape))], dtype).reshape(shape)
    return extreme(rng, dtype, shape)


def small(rng: _Rng, dtype: str, shape: tuple[int, ...]) -> Array:
    """Numbers of one digit, for what is defined only where the result fits."""
    if dtype == "bool":
        return extreme(rng, dtype, shape)
    low = 0 if dtype.startswith("uint") else -9
    values = [rng.randint(low, 9) + (rng.random() if dtype in FLOATS else 0) for _ in range(_size(shape))]
    return np.array(values, dtype).reshape(shape)


def shifts(rng: _Rng, dtype: str, shape: tuple[int, ...]) -> Array:
    return np.array([rng.randrange(np.iinfo(dtype).bits) for _ in range(_size(shape))], dtype).reshape(shape)


def exponents(rng: _Rng, dtype: str, shape: tuple[int, ...]) -> Array:
    return np.array([rng.choice((0, 1, 2, 3, 4, 7, 40, 63)) for _ in range(_size(shape))], dtype).reshape(shape)


def distinct(rng: _Rng, dtype: str, shape: tuple[int, ...]) -> Array:
    """No two equal, so that an order is certain."""
    info = np.iinfo(dtype) if dtype in INTEGERS else np.iinfo(np.int16)
    low, high = int(info.min), int(info.max)
    ends = {low, high, 0, *(rng.randint(low, high) for _ in range(_size(shape)))}
    while len(ends) < _size(shape):
        ends.add(rng.randint(low, high))
    return np.array(rng.sample(sorted(ends), _size(shape)), dtype).reshape(shape)


def _drawn(rng: _Rng, dtype: str, shape: tuple[int, ...], ends: list[Any], other: Callable[[], float | int]) -> Array:
    values = [rng.choice(ends) if rng.random() < 0.6 else other() for _ in range(_size(shape))]
    return np.array(values, dtype).reshape(shape)


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))


# --- operators --------------------------------------------------------------------------------------------------------

Attributes = dict[str, Any]


@dataclass(frozen=True)
class Template:
    """An operator: the values of its operands, attributes to choose from, and what else it is given.

    `more` makes further inputs, which are constants, of (rng, shape of the first operand, attributes).
    """

    op: str
    dtypes: tuple[str, ...]
    operands: tuple[Values, ...] = (extreme,)
    attributes: tuple[Attributes, ...] = ({},)
    more: Callable[[_Rng, tuple[int, ...], Attributes], list[Array]] | None = None
    broadcasts: bool = True
    shapes: tuple[tuple[int, ...], ...] = SHAPES
    outputs: int = 1
    rtol: float = 1e-5
    types: tuple[str | None, ...] = field(default=())
    """The element types of operands that are not of the case's type."""


def _axes(rng: _Rng, shape: tuple[int, ...], _attributes: Attributes) -> list[Array]:
    axes = rng.sample(range(len(shape)), rng.randint(1, len(shape)))
    return [np.array(axes, np.int64)]


def _axis(rng: _Rng, shape: tuple[int, ...], _attributes: Attributes) -> list[Array]:
    return [np.array(rng.randrange(len(shape)), np.int64)]


def _templates() -> Iterator[Template]:
    two = (extreme, extreme)
    for op in ("Add", "Sub", "Mul", "Div", "Min", "Max"):
        yield Template(op, NUMBERS, two)
    yield Template("Max", NUMBERS, (extreme, extreme, extreme))
    yield Template("Sum", FLOATS, (extreme, moderate, extreme))
    yield Template("Mean", FLOATS, (extreme, moderate))
    yield Template("Mod", INTEGERS, two, ({"fmod": 0}, {"fmod": 1}))
    yield Template("Mod", FLOATS, (moderate, moderate), ({"fmod": 1},))
    for types in (None, "int32", "int64", "uint8"):
        yield Template("Pow", ("int32", "int64"), (extreme, exponents), types=(None, types))
    yield Template("Pow", FLOATS, (small, small))
    for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
        yield Template(op, INTEGERS, two)
    yield Template("BitwiseNot", INTEGERS)
    yield Template("BitShift", INTEGERS[1::2], (extreme, shifts), ({"direction": "LEFT"}, {"direction": "RIGHT"}))
    yield Template("PRelu", (*FLOATS, *WIDE), (extreme, moderate), broadcasts=False)
    for op in ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"):
        yield Template(op, NUMBERS, two)
    for op in ("And", "Or", "Xor", "Equal"):
        yield Template(op, ("bool",), two)
    yield Template("Not", ("bool",))
    yield Template("Where", (*NUMBERS, "bool"), (extreme, extreme, extreme), types=("bool",))
    yield Template("Clip", NUMBERS, (extreme, small, small), shapes=((37,), (3, 5, 7)))
    for op in ("Abs", "Sign"):
        yield Template(op, NUMBERS)
    for op in ("Neg", "Relu"):
        yield Template(op, (*FLOATS, *INTEGERS[::2]))
    for op in ("Ceil", "Floor", "Round", "Sqrt", "Exp", "Log", "Tanh", "Sigmoid", "Erf", "Softplus", "Reciprocal",
               "Atan", "Asinh", "IsNaN", "IsInf", "HardSigmoid", "HardSwish", "Softsign"):  # fmt: skip
        yield Template(op, FLOATS)
    for op in ("Sin", "Cos", "Tan", "Sinh", "Cosh", "Acosh", "Atanh", "Asin", "Acos", "Mish"):
        yield Template(op, FLOATS, (moderate,), rtol=1e-4)
    for op, attributes in (("LeakyRelu", {"alpha": 0.1}), ("Elu", {"alpha": 2.0}), ("Selu", {}), ("Celu", {})):
        yield Template(op, FLOATS, (small,), (attributes,))
    yield Template("ThresholdedRelu", FLOATS, (extreme,), ({"alpha": 0.5},))
    yield Template("Shrink", NUMBERS, (small,), ({"lambd": 1.5, "bias": 0.0}, {"lambd": 0.5, "bias": 1.0}))
    kinds = {"float32": 1, "float64": 11, "int8": 3, "uint8": 2, "int16": 5, "uint16": 4, "int32": 6, "uint32": 12,
             "int64": 7, "uint64": 13, "bool": 9}  # fmt: skip
    yield Template("Cast", (*INTEGERS, "bool"), (extreme,), tuple({"to": k} for k in kinds.values()))
    yield Template("Cast", FLOATS, (small,), tuple({"to": k} for t, k in kinds.items() if not t.startswith("u")))
    kept = ({"keepdims": 0}, {"keepdims": 1})
    for op in ("ReduceSum", "ReduceProd", "ReduceSumSquare", "ReduceL1"):
        yield Template(op, (*FLOATS, *WIDE), (moderate,), kept, _axes, rtol=1e-4)
    for op in ("ReduceMax", "ReduceMin"):
        yield Template(op, (*NUMBERS, "bool"), (moderate,), kept, _axes)
    yield Template("ReduceMean", (*FLOATS, *WIDE), (small,), kept, _axes, rtol=1e-4)
    for op in ("ReduceL2", "ReduceLogSumExp"):
        yield Template(op, FLOATS, (moderate,), kept, _axes, rtol=1e-4)
    for op in ("ArgMax", "ArgMin"):
        yield Template(op, NUMBERS, (distinct,), ({"axis": 0}, {"axis": -1}, {"axis": -1, "keepdims": 0}))
    for op in ("Softmax", "LogSoftmax", "Hardmax"):
        yield Template(op, FLOATS, (distinct,), ({"axis": 0}, {"axis": -1}), rtol=1e-4)
    running = tuple({"exclusive": e, "reverse": r} for e in (0, 1) for r in (0, 1))
    yield Template("CumSum", (*FLOATS, *WIDE), (moderate,), running, _axis, rtol=1e-4)
    yield Template("TopK", NUMBERS, (distinct,), ({"largest": 0}, {"largest": 1}), _some, outputs=2)
    everything = (*NUMBERS, "bool")
    yield Template("Identity", everything)
    yield Template("Transpose", everything, attributes=({},))
    yield Template("Flatten", everything)
    yield Template("Concat", everything, (extreme, extreme), ({"axis": 0}, {"axis": -1}), broadcasts=False)
    yield Template("Tile", everything, more=lambda rng, shape, _: [_int64(rng.randint(1, 3) for _ in shape)])
    yield Template("Expand", everything, more=lambda rng, shape, _: [_int64([rng.randint(1, 3), *shape])])
    yield Template("Reshape", everything, more=lambda *_: [_int64([1, -1])])
    yield Template("Unsqueeze", everything, more=lambda rng, shape, _: [_int64([rng.randint(0, len(shape))])])
    yield Template("Gather", everything, (extreme,), ({"axis": 0}, {"axis": -1}), _places)
    yield Template("Slice", everything, more=_slice)
    yield Template("Trilu", everything, attributes=({"upper": 0}, {"upper": 1}), shapes=((2, 16), (3, 5, 7)))
    modes = tuple({"mode": m} for m in ("constant", "reflect", "edge"))
    yield Template("Pad", everything, attributes=modes, more=_pads, shapes=((37,), (3, 5, 7), (2, 16)))
    yield Template("MatMul", (*FLOATS, *WIDE), (moderate, moderate), shapes=SQUARES, broadcasts=False, rtol=1e-4)
    transposed = ({}, {"transA": 1}, {"transB": 1})
    three = (moderate, moderate, moderate)
    yield Template("Gemm", (*FLOATS, *WIDE), three, transposed, shapes=SQUARES[:2], broadcasts=False, rtol=1e-4)
    equations = ({"equation": "ij,jk->ik"}, {"equation": "ij,ij->j"})
    yield Template("Einsum", NUMBERS, three[:2], equations, shapes=SQUARES[:2], broadcasts=False, rtol=1e-4)
    for left in ("int8", "uint8"):
        yield Template("MatMulInteger", ("int8", "uint8"), two, shapes=SQUARES, broadcasts=False, types=(left,))


def _int64(values: Any) -> Array:
    return np.array(list(values), np.int64)


def _some(rng: _Rng, shape: tuple[int, ...], _attributes: Attributes) -> list[Array]:
    return [_int64([rng.randint(1, shape[-1])])]


def _places(rng: _Rng, shape: tuple[int, ...], attributes: Attributes) -> list[Array]:
    n = shape[attributes["axis"]]
    return [_int64(rng.randrange(-n, n) for _ in range(rng.randint(1, 5)))]


def _slice(rng: _Rng, shape: tuple[int, ...], _attributes: Attributes) -> list[Array]:
    axis = rng.randrange(len(shape))
    step = rng.choice((1, 2, -1))
    ends = (0, shape[axis]) if step > 0 else (shape[axis], -shape[axis] - 1)
    return [_int64([ends[0]]), _int64([ends[1]]), _int64([axis]), _int64([step])]


def _pads(rng: _Rng, shape: tuple[int, ...], _attributes: Attributes) -> list[Array]:
    return [_int64(rng.randint(0, min(2, n - 1)) for n in (*shape, *shape))]


PAIRS = [(t, dtype) for t in _templates() for dtype in t.dtypes]
"""Every operator with every element type."""


# --- cases ------------------------------------------------------------------------------------------------------------

KINDS = ("input", "input", "row input", "scalar", "full", "row")
"""How an operand is given: "input" at run time, the others constants; a row is broadcast."""


def make(seed: int, k: int) -> Case:
    """Case k of the seed."""
    template, dtype = PAIRS[k % len(PAIRS)]
    rng = _Rng(f"{seed}/{k}")
    nodes, inputs, constants, outputs = [], {}, [], []
    expected: list[Array] = []
    for number in range(NODES):
        shape = rng.choice(template.shapes)
        attributes = rng.choice(template.attributes)
        names, values = [], []
        for place, draw in enumerate(template.operands):
            other = template.types[place] if place < len(template.types) else None
            kind = rng.choice(KINDS)
            if len(template.operands) == 1 or not template.broadcasts:
                kind = "input" if kind.endswith("input") or len(template.operands) == 1 else "full"
            if template.op == "Clip":  # bounds are scalars
                kind = "input" if place == 0 else "scalar"
            given = {"scalar": (), "row": shape[-1:], "row input": shape[-1:]}.get(kind, shape)
            value = draw(rng, other or dtype, given)
            name = f"x{number}_{place}"
            if kind.endswith("input"):
                inputs[name] = value
            else:
                constants.append((name, value))
            names.append(name)
            values.append(value)
        for place, value in enumerate(template.more(rng, shape, attributes) if template.more else []):
            constants.append((f"c{number}_{place}", value))
            names.append(f"c{number}_{place}")
            values.append(value)
        results = [f"y{number}_{i}" for i in range(template.outputs)]
        node = helper.make_node(template.op, names, results, **attributes)
        nodes.append(node)
        outputs += results
        expected += _expected(node, values)
    graph = helper.make_graph(
        nodes,
        "g",
        [_info(n, v) for n, v in inputs.items()],
        [_info(n, v) for n, v in zip(outputs, expected, strict=True)],
        [onnx.numpy_helper.from_array(v, n) for n, v in constants],
    )
    data = ((tuple(inputs.values()), tuple(expected)),)
    rtol = template.rtol if dtype != "float64" else min(template.rtol, 1e-7)
    return Case(f"{seed}/{k} {template.op} {dtype}", template.op, "", _model(graph), data, rtol, 1e-5)


def _info(name: str, value: Array) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", OPSET)])


# --- what is right ----------------------------------------------------------------------------------------------------


def _truncated(a: Array, b: Array) -> Array:
    """``a / b`` towards zero; 0 where b is 0, and the least integer by -1 is itself."""
    safe = np.where(b == 0, b.dtype.type(1), b)
    quotient = np.where(b == 0, a.dtype.type(0), a - np.fmod(a, safe))
    return (quotient // safe).astype(a.dtype)


def _power(a: Array, n: Array, **_: Any) -> Array:
    """``a ** n`` modulo a power of two."""
    info = np.iinfo(a.dtype)
    flat = [
        (pow(int(x), int(y)) - int(info.min)) % (1 << info.bits) + int(info.min)
        for x, y in zip(*(v.reshape(-1) for v in np.broadcast_arrays(a, n)), strict=True)
    ]
    return np.array(flat, a.dtype).reshape(np.broadcast_shapes(a.shape, n.shape))


def _sum_of_squares(x: Array, axes: Array, keepdims: int) -> Array:
    return np.sum(x * x, axis=tuple(axes.tolist()), keepdims=bool(keepdims), dtype=x.dtype)


def _gemm(a: Array, b: Array, c: Array, transA: int = 0, transB: int = 0) -> Array:
    return (a.T if transA else a) @ (b.T if transB else b) + c


INTEGER_MEANING: dict[str, Callable[..., Array]] = {
    "Div": _truncated,
    "Pow": _power,
    "Clip": lambda x, low, high: np.minimum(np.maximum(x, low), high),
    "ReduceSumSquare": _sum_of_squares,
    "Gemm": _gemm,
}
"""Where the reference rounds down or goes by way of floats."""

MEANING: dict[str, Callable[..., Array]] = {
    "Max": lambda *xs: np.maximum.reduce(np.broadcast_arrays(*xs)),
    "Mean": lambda *xs: sum(xs) / xs[0].dtype.type(len(xs)),
}
"""Where the reference fails on some shapes, and onnxruntime lacks types."""


def _expected(node: onnx.NodeProto, values: list[Array]) -> list[Array]:
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        meaning = (MEANING | INTEGER_MEANING if values[0].dtype.kind in "iu" else MEANING).get(node.op_type)
        if meaning is not None:
            return [np.asarray(meaning(*values, **attributes))]
        graph = helper.make_graph(
            [node], "g", [_info(n, v) for n, v in zip(node.input, values, strict=True)],
            [onnx.ValueInfoProto(name=n) for n in node.output],
        )  # fmt: skip
        model, feed = onnx.shape_inference.infer_shapes(_model(graph)), dict(zip(node.input, values, strict=True))
        if values[0].dtype.kind == "f":
            import onnxruntime

            try:
                session = onnxruntime.InferenceSession(model.SerializeToString(), _quiet())
            except Exception:  # noqa: BLE001 - it has no kernel for these types
                pass
            else:
                return [np.asarray(v) for v in session.run(None, feed)]
        from onnx.reference import ReferenceEvaluator

        return [np.asarray(v) for v in ReferenceEvaluator(model).run(None, feed)]


@cache
def _quiet() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return options


# --- the run ----------------------------------------------------------------------------------------------------------


def fuzz(count: int, seed: int, first: int, machine: str) -> int:
    """Cases `first` to `first + count`, each batch in a process of its own; the number of findings."""
    found, began, k = 0, time.monotonic(), first
    while k < first + count:
        numbers = range(k, min(k + BATCH, first + count))
        for name, outcome, detail in _batch(seed, numbers, machine):
            if outcome != "passed":
                found += 1
                print(f"FOUND {name}: {outcome}: {detail}", flush=True)
        k = numbers.stop
        print(f"operators: {k - first:,} of {count:,}", file=sys.stderr, flush=True)
    seconds = time.monotonic() - began
    print(f"operators: {count:,} cases of {NODES} nodes, {found} findings, {seconds:.0f} s", flush=True)
    return found


def check(seed: int, numbers: Iterator[int] | range, machine: str) -> list[Result]:
    """The results of some cases, compiled as one file."""
    return run_cases([make(seed, k) for k in numbers], MACHINES[machine], lambda _: None, flags=SANITIZE)


def _batch(seed: int, numbers: range, machine: str) -> list[tuple[str, str, str]]:
    """Results, or where the process ended early, that it did so."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(seed, numbers, machine, writer)
    os.close(writer)
    with os.fdopen(reader) as stream:
        lines = [json.loads(line) for line in stream]
    os.waitpid(child, 0)
    if lines and isinstance(lines[-1], list):
        return [tuple(result) for result in lines[-1]]
    return [(lines[-1] if lines else f"{seed}/{numbers.start}", "crash", "the compiler died")]


def _child(seed: int, numbers: range, machine: str, writer: int) -> NoReturn:
    try:
        with os.fdopen(writer, "w", buffering=1) as out:

            def begin(case: Case) -> None:
                print(json.dumps(case.name), file=out)

            cases = [make(seed, k) for k in numbers]
            results = run_cases(cases, MACHINES[machine], begin, flags=SANITIZE)
            print(json.dumps([(r.name, r.outcome, r.detail) for r in results]), file=out)
    finally:
        os._exit(0)
