"""Batch scoring in Dask: each partition of a DataFrame, or each block of rows of an array, is scored as one."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from dlpack.batch.arrow import schema_of, score_arrow
from dlpack.batch.core import Scorer, Where
from dlpack.bundle.arrays import numpy_dtype
from dlpack.errors import UsageError
from dlpack.graph.ir import Array


def score(frame: Any, bundle: Where, **how: Any) -> Any:
    """The Dask DataFrame of a DataFrame's columns in `keep` and the bundle's outputs; `how` goes to `Scorer`.

    Outputs with several elements a row are lists in Arrow's memory (`pandas.ArrowDtype`). The bundle's folder must be
    there on each machine.
    """
    scorer = Scorer(bundle, **how)
    scorer.needed(list(frame.columns))
    schema = schema_of(scorer, pa.Schema.from_pandas(frame._meta, preserve_index=False))
    return frame.map_partitions(_partition, scorer, meta=_pandas(schema.empty_table()))


def _partition(frame: Any, scorer: Scorer) -> Any:
    batch = pa.RecordBatch.from_pandas(frame, preserve_index=False)
    scored = _pandas(pa.Table.from_batches(list(score_arrow(scorer, batch))))
    scored.index = frame.index
    return scored


def _pandas(table: Any) -> Any:
    import pandas

    return table.to_pandas(types_mapper=pandas.ArrowDtype)


def score_array(x: Any, bundle: Where, **how: Any) -> Any:
    """An output for the rows of a Dask array of (rows, ...), whose blocks are whole rows. `how` goes to `Scorer`,
    and chooses the output where there are several."""
    scorer = Scorer(bundle, **how)
    if len(scorer.inputs) != 1 or len(scorer.outputs) != 1:
        raise UsageError("an array is scored with one input and one output: choose it in outputs")
    (output,) = scorer.outputs.values()
    rows = x.rechunk(dict.fromkeys(range(1, x.ndim), -1))
    return rows.map_blocks(
        _block,
        scorer,
        dtype=numpy_dtype(output.dtype),
        chunks=(rows.chunks[0], *((n,) for n in output.shape)),
        drop_axis=list(range(1, x.ndim)),
        new_axis=list(range(1, 1 + len(output.shape))) or None,
    )


def _block(rows: Array, scorer: Scorer) -> Array:
    (name,) = scorer.inputs
    (output,) = scorer.compute([name], lambda _: rows).values()
    return output
