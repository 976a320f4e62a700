"""What only steps of a run compute, where there are pictures of any size (graph/pictures.py)."""

from __future__ import annotations

from typing import Any

from dlpack.graph.registry import Context, compute


@compute("Spread", "Dense", "Share", domain="dlpack")
def by_a_step(ctx: Context, *_: Any) -> list[Any]:
    """Dense elements of an input to places with constant strides; those of a value to a dense output; one over the
    number of elements that a mean is of. `plan/assembler.py` makes steps of these."""
    raise AssertionError(f"{ctx.node.op} is no kernel")
