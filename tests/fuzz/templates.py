"""Operators whose operands are all of one kind: elementwise, reductions, what moves elements, products."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fuzz.values import (
    FLOATS,
    INTEGERS,
    NUMBERS,
    WIDE,
    Array,
    Rng,
    Values,
    distinct,
    exponents,
    extreme,
    int64,
    moderate,
    shifts,
    small,
)

SQUARES = ((5, 5), (17, 17), (2, 17, 17))
SHAPES = ((37,), (3, 5, 7), (2, 16), (5, 1, 19), (1,), (2, 3, 4, 5), (2, 1, 3, 2, 5))

Attributes = dict[str, Any]
Given = list[Array | None]


@dataclass(frozen=True)
class Drawn:
    """A node: its inputs (None: left out), which of them are given at run time, and which must be constants."""

    op: str
    values: list[Array | None]
    attributes: Attributes
    at_run_time: list[bool]
    fixed: frozenset[int] = frozenset()
    outputs: int = 1


KINDS = ("input", "input", "row input", "column input", "more input", "scalar", "full", "row", "column")
"""How an operand is given: "input" at run time, the others constants; all but "input" and "full" are broadcast."""


@dataclass(frozen=True)
class Template:
    """An operator: the values of its operands, attributes to choose from, and what else it is given.

    `more` makes further inputs, which are constants, of (rng, shape of the first operand, attributes).
    """

    op: str
    dtypes: tuple[str, ...]
    operands: tuple[Values, ...] = (extreme,)
    attributes: tuple[Attributes, ...] = ({},)
    more: Callable[[Rng, tuple[int, ...], Attributes], list[Array]] | None = None
    broadcasts: bool = True
    shapes: tuple[tuple[int, ...], ...] = SHAPES
    outputs: int = 1
    rtol: float = 1e-5
    types: tuple[str | None, ...] = field(default=())
    """The element types of operands that are not of the case's type."""

    def draw(self, rng: Rng, dtype: str) -> Drawn:
        attributes = rng.choice(self.attributes)
        shape = rng.choice(self.shapes)
        if self.shapes is SHAPES and not self.more and "axis" not in attributes and self.op != "Flatten":
            shape = rng.choice((*SHAPES, ()))
        values: list[Array | None] = []
        at_run_time = []
        for place, draw in enumerate(self.operands):
            other = self.types[place] if place < len(self.types) else None
            kind = rng.choice(KINDS)
            if len(self.operands) == 1 or not self.broadcasts:
                kind = "input" if kind.endswith("input") or len(self.operands) == 1 else "full"
            if self.op == "Clip":  # bounds are scalars
                kind = "input" if place == 0 else "scalar"
            values.append(draw(rng, other or dtype, _operand_shape(kind, shape)))
            at_run_time.append(kind.endswith("input"))
        more = self.more(rng, shape, attributes) if self.more else []
        fixed = frozenset(range(len(values), len(values) + len(more)))
        return Drawn(self.op, [*values, *more], attributes, at_run_time + [False] * len(more), fixed, self.outputs)


def _operand_shape(kind: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    match kind:
        case "scalar":
            return ()
        case "row" | "row input":
            return shape[-1:]
        case "column" | "column input":
            return (*shape[:-1], 1) if shape else ()
        case "more input":
            return (2, *shape) if len(shape) < 4 else shape
        case _:
            return shape


def _axes(rng: Rng, shape: tuple[int, ...], _attributes: Attributes) -> list[Array]:
    axes = rng.sample(range(len(shape)), rng.randint(1, len(shape)))
    return [np.array(axes, np.int64)]


def _axis(rng: Rng, shape: tuple[int, ...], _attributes: Attributes) -> list[Array]:
    return [np.array(rng.randrange(len(shape)), np.int64)]


def templates() -> Iterator[Template]:
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
    yield Template("Tile", everything, more=lambda rng, shape, _: [int64(rng.randint(1, 3) for _ in shape)])
    yield Template("Expand", everything, more=lambda rng, shape, _: [int64([rng.randint(1, 3), *shape])])
    yield Template("Reshape", everything, more=lambda *_: [int64([1, -1])])
    yield Template("Unsqueeze", everything, more=lambda rng, shape, _: [int64([rng.randint(0, len(shape))])])
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


def _some(rng: Rng, shape: tuple[int, ...], _attributes: Attributes) -> list[Array]:
    return [int64([rng.randint(1, shape[-1])])]


def _places(rng: Rng, shape: tuple[int, ...], attributes: Attributes) -> list[Array]:
    n = shape[attributes["axis"]]
    return [int64(rng.randrange(-n, n) for _ in range(rng.randint(1, 5)))]


def _slice(rng: Rng, shape: tuple[int, ...], _attributes: Attributes) -> list[Array]:
    axis = rng.randrange(len(shape))
    step = rng.choice((1, 2, -1))
    ends = (0, shape[axis]) if step > 0 else (shape[axis], -shape[axis] - 1)
    return [int64([ends[0]]), int64([ends[1]]), int64([axis]), int64([step])]


def _pads(rng: Rng, shape: tuple[int, ...], _attributes: Attributes) -> list[Array]:
    return [int64(rng.randint(0, min(2, n - 1)) for n in (*shape, *shape))]
