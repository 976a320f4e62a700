"""What only steps of a run compute, where there are pictures of any size (graph/pictures.py)."""

from __future__ import annotations

from typing import Any

from dlpack.graph.registry import Context, compute
from dlpack.loops.tir import te


@compute("FollowTaps", domain="dlpack", layout="same")
def follow_taps(ctx: Context, x: Any, places: Any, weights: Any = None) -> list[Any]:
    """``y[i] = sum over t of weights[i, t] * x[places[i, t]]`` along an axis; without weights there is one place each.

    The tables are written for all places that a kernel may compute, so none reads outside.
    """
    axis, count = ctx.attr("axis"), ctx.input_type(1).shape[1]

    def at(*i: Any) -> Any:
        def tap(t: int) -> Any:
            value = x(*i[:axis], places(i[axis], t), *i[axis + 1 :])
            return value if weights is None else weights(i[axis], t) * value

        return sum((tap(t) for t in range(1, count)), tap(0))

    return [te.compute(ctx.output_type().shape, at, name="out")]


@compute("Spread", "Dense", "Share", "Count", "Taps", "JoinPixels", "PartPixels", domain="dlpack")
def by_a_step(ctx: Context, *_: Any) -> list[Any]:
    """Dense elements of an input to places with constant strides; those of a value to a dense output; one over the
    number of elements that a mean is of; a number of elements; tables for `FollowTaps`; all pixels of a picture one
    behind the other, and back. `plan/assembler.py` makes steps of these."""
    raise AssertionError(f"{ctx.node.op} is no kernel")
