"""Functions of one 8-bit value, by its 256 values: what a chain of pointwise operators makes of each of them.

Between DequantizeLinear and QuantizeLinear such a chain is a table, whatever its operators are; it may run through
values that are quantised in between, as in ``x * sigmoid(x)``. Values are computed as verification's reference does
(`verify/exact.py`): arithmetic in double, other operators on float32 and rounded to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import erf, inf, pi, sqrt
from typing import Any

import numpy as np

from dlpack.graph.ir import Array, Node

LEVELS = 256


@dataclass(frozen=True)
class Curve:
    """What a value is for each of the 256 values of `source`, from its type's least on, as float64.

    `wide`: it has not been rounded to float32. `operations`: roughly how many instructions on vectors compute it.
    `exact`: it is integers times a scale, which need no table.
    """

    source: str
    values: Array
    wide: bool = True
    operations: int = 0
    exact: bool = True


def dequantized(source: str, integers: Array, scale: float, before: Curve | None = None) -> Curve:
    """DequantizeLinear of `integers`, the levels of `source` less a zero point; `before`: how they were made of it."""
    operations, exact = (before.operations, before.exact) if before else (0, True)
    return Curve(source, integers * scale, operations=operations + DEQUANTIZE, exact=exact)


def quantized_levels(curve: Curve, scale: np.float32, zero: int, dtype: str) -> Array:
    """QuantizeLinear, as integers of `dtype`: the table from the source's levels."""
    info = np.iinfo(dtype)
    real = curve.values / np.float64(scale) if curve.wide else curve.values.astype(np.float32) / scale
    levels = np.rint(real) + zero
    out: Array = np.clip(np.nan_to_num(levels, nan=zero), info.min, info.max).astype(dtype)
    return out


def followed(node: Node, curves: Mapping[str, Curve], constants: Mapping[str, Array]) -> Curve | None:
    """The curve of a node's output: of a pointwise operator whose inputs are curves of one source, and numbers."""
    rule = _OPERATORS.get(node.op) if node.domain in ("", "ai.onnx") and len(node.outputs) == 1 else None
    known = [curves[i] for i in node.inputs if i in curves]
    if rule is None or not known or len({c.source for c in known}) > 1:
        return None
    inputs: list[Array | None] = []
    for name in node.inputs:
        number = constants.get(name)
        if name in curves:
            inputs.append(curves[name].values)
        elif number is not None and number.size == 1 and number.dtype == np.float32:
            inputs.append(number.reshape(()).astype(np.float64))
        elif not name:
            inputs.append(None)
        else:
            return None
    if not rule.wide:
        inputs = [None if x is None else _rounded(x) for x in inputs]
    with np.errstate(all="ignore"):
        values = np.broadcast_to(rule.compute(node.attrs, *inputs), LEVELS)
    if not np.isfinite(values).all():
        return None
    operations = rule.operations + sum({id(c): c.operations for c in known}.values())
    exact = rule.exact and all(c.exact for c in known)
    return Curve(known[0].source, values if rule.wide else _rounded(values), rule.wide, operations, exact)


def _rounded(x: Array) -> Array:
    """The nearest float32 numbers."""
    out: Array = x.astype(np.float32).astype(np.float64)
    return out


DEQUANTIZE, QUANTIZE = 3, 8
"""Instructions on vectors: convert, subtract, multiply; divide, round, add, clamp, convert, store."""

_DIVISION, _FUNCTION = 4, 20


@dataclass(frozen=True)
class _Operator:
    """How to compute an operator from its attributes and inputs; the last three fields are a curve's."""

    compute: Callable[..., Any]
    operations: int
    wide: bool = False
    exact: bool = False


def _clip(attrs: Mapping[str, Any], x: Array, low: Any = None, high: Any = None) -> Array:
    low = attrs.get("min", -inf) if low is None else low
    high = attrs.get("max", inf) if high is None else high
    out: Array = np.minimum(np.maximum(x, low), high)
    return out


def _line(x: Array, slope: float, shift: float) -> Array:
    """slope x + shift, clamped to 0 to 1, each step in float32."""
    y = (x.astype(np.float32) * np.float32(slope)).astype(np.float32) + np.float32(shift)
    out: Array = np.clip(y, np.float32(0), np.float32(1))
    return out


def _sigmoid(x: Array) -> Array:
    out: Array = 0.5 * (1 + np.tanh(0.5 * x))
    return out


def _softplus(x: Array) -> Array:
    out: Array = np.logaddexp(0, x)
    return out


def _erf(x: Array) -> Array:
    return np.array([erf(v) for v in np.broadcast_to(x, LEVELS)])


def _gelu(attrs: Mapping[str, Any], x: Array) -> Array:
    tanh = attrs.get("approximate", "none") in ("tanh", b"tanh")
    inner = np.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)) if tanh else _erf(x * sqrt(0.5))
    out: Array = 0.5 * x * (1 + inner)
    return out


def _below(attrs: Mapping[str, Any], x: Array, alpha: float, gamma: float = 1.0) -> Array:
    """Elu and Selu: an exponential below zero."""
    alpha, gamma = attrs.get("alpha", alpha), attrs.get("gamma", gamma)
    out: Array = gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))
    return out


def _celu(attrs: Mapping[str, Any], x: Array) -> Array:
    alpha = attrs.get("alpha", 1.0)
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha))


def _of_one(function: Callable[[Array], Array], operations: int = _FUNCTION) -> _Operator:
    return _Operator(lambda _attrs, x: function(x), operations)


_OPERATORS = {
    "Add": _Operator(lambda _, x, y: x + y, 1, wide=True),
    "Sub": _Operator(lambda _, x, y: x - y, 1, wide=True),
    "Mul": _Operator(lambda _, x, y: x * y, 1, wide=True),
    "Div": _Operator(lambda _, x, y: x / y, _DIVISION, wide=True),
    "Relu": _Operator(lambda _, x: np.maximum(x, 0), 1, wide=True, exact=True),
    "Clip": _Operator(_clip, 2, wide=True, exact=True),
    "Abs": _of_one(np.abs, 1),
    "Neg": _of_one(np.negative, 1),
    "Floor": _of_one(np.floor, 1),
    "Ceil": _of_one(np.ceil, 1),
    "Round": _of_one(np.rint, 1),
    "Reciprocal": _of_one(np.reciprocal, _DIVISION),
    "Sqrt": _of_one(np.sqrt, _DIVISION),
    "Exp": _of_one(np.exp),
    "Log": _of_one(np.log),
    "Sin": _of_one(np.sin),
    "Cos": _of_one(np.cos),
    "Tanh": _of_one(np.tanh),
    "Erf": _of_one(_erf),
    "Sigmoid": _of_one(_sigmoid),
    "Softplus": _of_one(_softplus),
    "Softsign": _of_one(lambda x: x / (1 + np.abs(x)), 2 + _DIVISION),
    "Mish": _of_one(lambda x: x * np.tanh(_softplus(x)), 3 * _FUNCTION),
    "Gelu": _Operator(_gelu, 2 * _FUNCTION),
    "HardSwish": _of_one(lambda x: x * _line(x, 1 / 6, 0.5), 5),
    "HardSigmoid": _Operator(lambda a, x: _line(x, a.get("alpha", 0.2), a.get("beta", 0.5)), 4),
    "LeakyRelu": _Operator(lambda a, x: np.where(x > 0, x, np.float32(a.get("alpha", 0.01)) * x), 3),
    "PRelu": _Operator(lambda _, x, slope: np.where(x < 0, slope * x, x), 3),
    "ThresholdedRelu": _Operator(lambda a, x: np.where(x > np.float32(a.get("alpha", 1.0)), x, 0.0), 2),
    "Elu": _Operator(lambda a, x: _below(a, x, 1.0), _FUNCTION),
    "Selu": _Operator(lambda a, x: _below(a, x, 1.67326319217681884765625, 1.05070102214813232421875), _FUNCTION),
    "Celu": _Operator(_celu, _FUNCTION),
    "Swish": _Operator(lambda a, x: x * _sigmoid(np.float32(a.get("alpha", 1.0)) * x), _FUNCTION),
}
