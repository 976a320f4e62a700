"""Batch scoring in Spark: a DataFrame's rows go to the workers as Arrow's batches, and each scores with a handle of
its own over the same mapped weights.

dlpack and the bundle have to be on the workers: on a file system that they share, or sent along
(`spark.sparkContext.addFile("build/net", recursive=True)`, bundle `lambda: SparkFiles.get("net")`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

from dlpack.batch.arrow import schema_of, score_arrow
from dlpack.batch.core import Scorer, Where

Mapper = Callable[[Iterator[Any]], Iterator[Any]]


def score(frame: Any, bundle: Where, **how: Any) -> Any:
    """The DataFrame of a DataFrame's columns in `keep` and the bundle's outputs; `how` goes to `Scorer`.

    Outputs with several elements a row are arrays. Raises UsageError for columns that do not fit.
    """
    scorer = Scorer(bundle, **how)
    needed = scorer.needed(frame.columns)
    read = dict.fromkeys([*scorer.keep, *(c for cs in needed.values() for c in ([cs] if isinstance(cs, str) else cs))])
    schema = from_arrow_schema(schema_of(scorer, to_arrow_schema(frame.schema), lists=True))
    return frame.select(*read).mapInArrow(arrow_mapper(scorer), schema)


def arrow_mapper(scorer: Scorer) -> Mapper:
    """A function for `mapInArrow`: RecordBatches in, RecordBatches out."""

    def scored(batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            yield from score_arrow(scorer, batch, lists=True)

    return scored


def pandas_mapper(scorer: Scorer) -> Mapper:
    """A function for `mapInPandas`: DataFrames in, DataFrames out."""
    import pyarrow as pa

    def scored(frames: Iterator[Any]) -> Iterator[Any]:
        for frame in frames:
            for batch in score_arrow(scorer, pa.RecordBatch.from_pandas(frame, preserve_index=False), lists=True):
                yield batch.to_pandas()

    return scored
