"""TensorFlow Lite's NON_MAX_SUPPRESSION_V4 and V5: as many places as may be selected, zeros behind those that are."""

from __future__ import annotations

import numpy as np

from dlpack.errors import ModelError
from dlpack.exporters.builder import NotConverted
from dlpack.exporters.layers import LOWEST, reshape, scan, split
from dlpack.exporters.tflite.call import Call, converts


@converts("NON_MAX_SUPPRESSION_V4")
def suppression(c: Call) -> list[str]:
    """Outputs: the places (M, int32), and how many there are (int32)."""
    places, _, count = _select(c, 0.0)
    return [places, count]


@converts("NON_MAX_SUPPRESSION_V5")
def soft_suppression(c: Call) -> list[str]:
    """Outputs: the places (M, int32), their scores (M), and how many there are (int32).

    With a sigma a box lowers the scores of those that overlap it, by exp(-share² / (2 sigma)).
    """
    sigma = _number(c, 5, "a sigma")
    if sigma < 0:
        raise ModelError(f"its sigma is {sigma}")
    return list(_select(c, sigma))


def _number(c: Call, i: int, what: str) -> float:
    value = c.known(i, what).reshape(-1)
    if value.size != 1 or np.isnan(value[0]):
        raise ModelError(f"{what} of it is no number")
    return float(np.clip(value[0], LOWEST, -LOWEST))


def _select(c: Call, sigma: float) -> tuple[str, str, str]:
    """Inputs: boxes (N, 4: two opposite corners, y before x), scores (N), M, the share from which a box is dropped,
    the score that is too low. Each step of a loop takes the best box left and drops those that overlap it, or lowers
    their scores. The box itself is one of them, so that, as in TensorFlow Lite, one without an area stays."""
    g = c.g
    count = c.shape(1)[0] if len(c.shape(1)) == 1 else 0
    if c.shape(0) != (count, 4):
        raise ModelError(f"its inputs {list(c.shape(0))} and {list(c.shape(1))} do not fit")
    most = c.ints(2, "a largest number of boxes")[0]
    if not 1 <= most <= 1 << 20:
        raise NotConverted(f"a selection of {most} boxes")
    limit, least = _number(c, 3, "a limit of overlap"), g.scalar(_number(c, 4, "a limit of scores"))
    one, other = split(g, c.x(0), 1, [2, 2])
    low, high = c.op_("Min", one, other), c.op_("Max", one, other)
    size = c.op_("Sub", high, low)
    area = c.op_("ReduceProd", size, axes=[1], keepdims=0)
    zero, nothing = g.scalar(0.0), g.scalar(LOWEST)

    def step(states: list[str], _parts: list[str]) -> tuple[list[str], list[str]]:
        (scores,) = states
        at = c.op_("ArgMax", scores, axis=0, keepdims=1)
        best = c.op_("ReduceMax", scores, axes=[0], keepdims=1)
        mine = [c.op_("Gather", v, at, axis=0) for v in (low, high, area)]
        sides = c.op_("Sub", c.op_("Min", high, mine[1]), c.op_("Max", low, mine[0]))
        both = c.op_("ReduceProd", c.op_("Max", sides, zero), axes=[1], keepdims=0)
        union = c.op_("Sub", c.op_("Add", area, mine[2]), both)
        flat = c.op_("LessOrEqual", c.op_("Min", area, mine[2]), zero)  # a box without an area overlaps none
        share = c.op_("Where", flat, zero, c.op_("Div", both, union))
        gone = c.op_("GreaterOrEqual", share, g.scalar(limit))
        if sigma:
            factor = c.op_("Exp", c.op_("Mul", c.op_("Mul", share, share), g.scalar(-0.5 / sigma)))
            scores = c.op_("Mul", scores, factor)
            gone = c.op_("Or", gone, c.op_("LessOrEqual", scores, least))
        return [c.op_("Where", gone, nothing, scores)], [at, best]

    first = c.op_("Where", c.op_("Greater", c.x(1), least), c.x(1), nothing)
    steps = min(most, count)
    _, (places, best) = scan(g, step, [first], [g.constant(np.arange(steps, dtype=np.int64)[:, None])], steps)
    found = c.op_("Greater", reshape(g, best, (steps,)), nothing)
    places = c.op_("Where", found, reshape(g, places, (steps,)), g.scalar_int(0))
    best = c.op_("Where", found, reshape(g, best, (steps,)), zero)
    number = c.op_("ReduceSum", c.cast(found, np.int32), g.ints([0]), keepdims=0)
    if most > steps:
        places = c.op_("Pad", places, g.ints([0, most - steps]), g.scalar_int(0))
        best = c.op_("Pad", best, g.ints([0, most - steps]), zero)
    return c.cast(places, np.int32), best, number
