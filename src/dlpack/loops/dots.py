"""Dot products of 8-bit integers, four or 16, or of two of 16 bits: the innermost loop of a product, over channels that
are neighbours in memory.

In a vector loop over outputs, ``acc += x[k] * w[k]`` for four k is one operation: ``dot_(acc, four of x, four of w for
each lane)`` (runtime_c/vectors.h). Outside of one it is the same for a single sum. Where x moves with the lane too, as
in windows of each channel by itself, each lane has a four of its own: ``dot_each_(acc, x[0], x[1], x[2], x[3], w)``.
"""

from __future__ import annotations

from typing import Any

from dlpack.loops.expressions import ExpressionLowering, NotVectorisable, dtype_of, operands_of, splat
from dlpack.loops.index import Linear
from dlpack.loops.ir import Block, Const, Expr, Load, Op, Store

DOT = "dlpack.dot"
"""Loop annotation: the loop's trips are products of 8-bit integers, summed in 32 bits; their constants are padded."""

UNSIGNED_DOT, NIBBLE_DOT = "unsigned_dot_", "nibble_dot_"
"""The same operation with weights that are unsigned, or from 0 to 15, and signed numbers beside them."""

PAIR_DOT = "pair_dot_"
"""That of two integers of 16 bits."""


def dot(lowering: ExpressionLowering, loop: Any) -> Block:
    """The statement for a loop so annotated. Where a guard cuts the loop, only those of x are read that are inside.

    Raises NotVectorisable where it is no dot product.
    """
    lane, step, four = lowering.lane, lowering.fresh("step"), int(loop.extent)
    lowering.ranges[step] = (0, four - 1)
    lowering.env[loop.loop_var] = Linear.var(step)
    try:
        body, steps, valid = loop.body, four, lowering.valid
        while type(body).__name__ == "IfThenElse":
            steps = min(steps, _inside(lowering, body.condition, step, four))
            valid, body = min(valid, _lanes(lowering, body.condition)), body.then_case
        if steps <= 0:
            return ()
        index = lowering.address(lowering.buffers[body.buffer], body.indices)
        factors = [_factor(lowering, e) for e in _loads(body.value) if dtype_of(e) in ("int8", "uint8", "int16")]
        x, w = sorted(factors, key=lambda f: f[0] in lowering.operands and lowering.operands[f[0]].padded)
        along = [(f[1].coefficient(step), f[1].coefficient(lane) if lane else 0) for f in (x, w)]
        apart = along[0][0]
        each = lane is not None and apart is not None and along[0][1] == 1
        if not isinstance(index, Linear) or along[1] != (1, four if lane else 0) or (along[0] != (1, 0) and not each):
            raise NotVectorisable
        if lane and (index.coefficient(lane) != 1 or (each and valid < 1)):
            raise NotVectorisable
        if w[2] != "int8" and (each or not lane):
            raise NotVectorisable
        if w[2] == "int16" and (x[2], four) != ("int16", 2):
            raise NotVectorisable
    finally:
        lowering.names.discard(step)
        del lowering.env[loop.loop_var]
    index, width = index - Linear.var(lane) if lane else index, lowering.width
    start = w[1] - Linear.var(step) - (Linear.var(lane) * four if lane else 0)
    weights = Load(w[2], four * width, w[0], start, four * width)
    name = lowering.buffers[body.buffer]
    old: Expr = Load("int32", width, name, index, width)
    if each and lane is not None and apart is not None:
        first = x[1] - Linear.var(step) * apart - Linear.var(lane)
        pixels: list[Expr] = [Load(x[2], width, x[0], first + k * apart, valid) for k in range(steps)]
        pixels += [splat(Const(x[2], 1, 0), width)] * (four - steps)
        return (Store(name, index, Op("int32", width, "dot_each_", (old, *pixels, weights)), width),)
    inputs = Load(x[2], four, x[0], x[1] - Linear.var(step), steps)
    op = {"int8": "dot_", "uint8": UNSIGNED_DOT, "int16": PAIR_DOT}[w[2]]
    return (Store(name, index, Op("int32", width, op, (old, inputs, weights)), width),)


def _inside(lowering: ExpressionLowering, condition: Any, step: str, four: int) -> int:
    """How many of the steps a guard admits. Lanes beyond an edge meet weights of zero, which fill their block up,
    and nothing stores them: a guard on the lane alone admits all steps."""
    if type(condition).__name__ == "Call" and str(condition.op.name).endswith("likely"):
        return _inside(lowering, condition.args[0], step, four)
    if type(condition).__name__ == "And":
        return min(_inside(lowering, c, step, four) for c in (condition.a, condition.b))
    known = lowering.known(condition)
    if known is not None:
        return four if known else 0
    forms = lowering.comparison(condition)
    if forms is None or len(forms) != 1:
        raise NotVectorisable
    if lowering.lane and forms[0].coefficient(lowering.lane) and not forms[0].coefficient(step):
        return four
    room = forms[0] + Linear.var(step)
    if not room.is_const:
        raise NotVectorisable
    return room.const + 1


def _lanes(lowering: ExpressionLowering, condition: Any) -> int:
    """How many of the lanes a guard admits, of which x is read where each lane has its own; none if that is unknown."""
    if type(condition).__name__ == "Call" and str(condition.op.name).endswith("likely"):
        return _lanes(lowering, condition.args[0])
    if type(condition).__name__ == "And":
        return min(_lanes(lowering, c) for c in (condition.a, condition.b))
    forms = lowering.comparison(condition) or ()
    if not lowering.lane or lowering.known(condition) or not any(f.coefficient(lowering.lane) for f in forms):
        return lowering.width
    room = forms[0] + Linear.var(lowering.lane)
    return room.const + 1 if len(forms) == 1 and room.is_const else 0


def _factor(lowering: ExpressionLowering, e: Any) -> tuple[str, Linear, str]:
    """The buffer of a load, its address and its type."""
    name = lowering.buffers[e.source]
    index = lowering.address(name, e.indices)
    if not isinstance(index, Linear):
        raise NotVectorisable
    return name, index, dtype_of(e)


def _loads(e: Any) -> list[Any]:
    if type(e).__name__ == "TensorLoad":
        return [e]
    return [load for operand in operands_of(e) for load in _loads(operand)]
