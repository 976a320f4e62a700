"""Prefetches of packed weights, which a schedule asks for by annotations of its loops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dlpack.loops.expressions import Operand
from dlpack.loops.index import Linear
from dlpack.loops.ir import Block, Load, Prefetch, Stmt, expressions

PREFETCH = "dlpack.prefetch"
"""Loop annotation: how many elements ahead to prefetch the packed weights that the loop reads."""

PREFETCH_STEP = "dlpack.prefetch_step"
"""Annotation of the same loop: how many elements of them each trip prefetches, where they are not those that so many
trips later read, but a part of a later block: `PREFETCH_TRIP` says which."""

PREFETCH_TRIP = "dlpack.prefetch_trip"
"""Annotation of loops around: by how many elements each trip moves on what is prefetched inside."""

LINE = 64
"""Bytes of a cache line."""


def prefetches(
    body: Block, var: str, annotations: Mapping[str, Any], moved: Linear, operands: Mapping[str, Operand]
) -> list[Stmt]:
    """The prefetches of a trip of the loop over `var`, whose `annotations` ask for them, `moved` on by loops around."""
    distance = int(annotations[PREFETCH])
    loads = {e for e in expressions(body) if isinstance(e, Load) and e.lanes > 1 and e.buffer in operands}
    streamed = {e for e in loads if operands[e.buffer].padded and e.index.uses(var)}
    ordered = sorted(streamed, key=lambda e: (e.buffer, e.index.const))
    if PREFETCH_STEP in annotations:
        return _of_a_later_block(ordered, var, distance, int(annotations[PREFETCH_STEP]), moved)
    out = list[Stmt]()
    for e in ordered:
        narrow = e.dtype in ("int8", "uint8") and e.lanes < LINE
        if not narrow or e.index.const % LINE == 0:
            out.append(Prefetch(e.buffer, e.index + (4 * distance if narrow else distance)))
    return list(dict.fromkeys(out))


def _of_a_later_block(loads: list[Load], var: str, distance: int, step: int, moved: Linear) -> list[Stmt]:
    """The first `step` elements that are `distance` and `moved` ahead of the block that `loads` are from, in trip 0, in
    trip 1 those behind them, and so on."""
    first = {e.buffer: e for e in reversed(loads)}
    out = list[Stmt]()
    for e in first.values():
        each = e.index.coefficient(var)
        assert each is not None
        start = e.index + Linear.var(var) * (step - each) + moved + distance
        elements = LINE // max(1, _SIZES.get(e.dtype, 4))
        out += [Prefetch(e.buffer, start + k) for k in range(0, step, elements)]
    return out


_SIZES = {"int8": 1, "uint8": 1, "float16": 2}
