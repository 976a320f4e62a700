"""Batch scoring in Ray Data: actors that each have a handle of their own over the same mapped weights."""

from __future__ import annotations

from typing import Any

from ray.data import ActorPoolStrategy

from dlpack.batch.arrow import score_arrow
from dlpack.batch.core import Scorer, Where


class ArrowScorer:
    """What `map_batches(..., batch_format="pyarrow")` calls: Tables in, Tables out. `how` goes to `Scorer`."""

    def __init__(self, bundle: Where, **how: Any) -> None:
        self._scorer = Scorer(bundle, **how)

    def __call__(self, table: Any) -> Any:
        import pyarrow as pa

        return pa.Table.from_batches(list(score_arrow(self._scorer, table)))


def score(dataset: Any, bundle: Where, *, workers: int = 1, batch_size: int | None = 8192, **how: Any) -> Any:
    """The dataset of a dataset's columns in `keep` and the bundle's outputs.

    So many `workers` (actors) score `batch_size` rows at a time; `how` goes to `Scorer`.
    The bundle's folder must be there on each machine.
    """
    return dataset.map_batches(
        ArrowScorer,
        fn_constructor_args=(bundle,),
        fn_constructor_kwargs=how,
        batch_format="pyarrow",
        zero_copy_batch=True,
        batch_size=batch_size,
        compute=ActorPoolStrategy(size=workers),
    )
