"""Batches of several kinds, scored as they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dlpack.batch.core import Scorer, Where


def score(batches: Iterable[Any], bundle: Where | Scorer, **how: Any) -> Iterator[Any]:
    """Scores batches one after the other, as they come: NumPy tables (mappings of arrays) to such tables, Arrow's
    RecordBatches and Tables to RecordBatches. `how` goes to `Scorer`."""
    scorer = bundle if isinstance(bundle, Scorer) else Scorer(bundle, **how)
    for batch in batches:
        if isinstance(batch, Mapping):
            yield scorer.score(batch)
        else:
            from dlpack.batch.arrow import score_arrow

            yield from score_arrow(scorer, batch)
