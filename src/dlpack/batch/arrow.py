"""Arrow's batches → NumPy and back, without a copy where their layouts are the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from dlpack.batch.core import Scorer, Tensor
from dlpack.errors import UsageError, did_you_mean
from dlpack.graph.ir import Array


def score_arrow(scorer: Scorer, table: Any, lists: bool = False) -> Iterator[Any]:
    """Scores a RecordBatch or Table; yields RecordBatches with the columns in `keep` and the outputs, `schema_of`'s.

    An output with several elements a row is a fixed-size list, with `lists` a list of any size.
    """
    for batch in table.to_batches() if isinstance(table, pa.Table) else [table]:
        results = scorer.compute(batch.schema.names, partial(_column, batch))
        kept = [batch.column(name) for name in scorer.keep]
        schema = schema_of(scorer, batch.schema, lists)
        yield pa.RecordBatch.from_arrays([*kept, *(to_arrow(x, lists) for x in results.values())], schema=schema)


def _column(batch: Any, name: str) -> Any:
    return to_numpy(name, batch.column(name))


def schema_of(scorer: Scorer, table: Any, lists: bool = False) -> Any:
    """The schema of the results for tables of a schema. Raises UsageError for a column to keep that is not there."""
    for name in scorer.keep:
        if name not in table.names:
            raise UsageError(f"the table has no column {name!r} to keep{did_you_mean(name, table.names)}")
    kept = [table.field(name) for name in scorer.keep]
    return pa.schema([*kept, *(pa.field(scorer.prefix + n, arrow_type(t, lists)) for n, t in scorer.outputs.items())])


def arrow_type(tensor: Tensor, lists: bool = False) -> Any:
    """The type of an input's or output's column: numbers, or a list with the elements of a row."""
    kind = _element(tensor.dtype)
    if not tensor.shape:
        return kind
    return pa.list_(kind) if lists else pa.list_(kind, tensor.elements)


def _element(dtype: str) -> Any:
    try:
        return pa.from_numpy_dtype(np.dtype(dtype))
    except (TypeError, pa.ArrowNotImplementedError) as e:  # what NumPy does not know, and what Arrow does not
        raise UsageError(f"Arrow has no type for {dtype}: leave that output out of outputs") from e


def to_numpy(name: str, column: Any) -> Any:
    """A column as an array of (rows,), or of (rows, ...) where it holds tensors or lists of one length.

    Numbers without nulls are not copied; nulls among floats become NaN. Pictures, encoded or a struct with the field
    "bytes", become a sequence. Raises UsageError for other nulls and types.
    """
    kind = column.type
    if isinstance(kind, pa.FixedShapeTensorType):
        _refuse_nulls(name, column)
        return column.to_numpy_ndarray()
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return to_numpy(name, column.field("bytes"))
    if pa.types.is_dictionary(kind):
        return to_numpy(name, column.dictionary_decode())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        _refuse_nulls(name, column)
        return _Binaries(column)
    if pa.types.is_fixed_size_list(kind):
        _refuse_nulls(name, column)
        inner = to_numpy(name, column.flatten())
        return inner.reshape(len(column), kind.list_size, *inner.shape[1:])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        _refuse_nulls(name, column)
        return _even_lists(name, column)
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan, np.float32)
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise UsageError(f"column {name!r} is {kind}, not numbers, lists of numbers or pictures")
    if not pa.types.is_floating(kind):
        _refuse_nulls(name, column)
    return column.to_numpy(zero_copy_only=False)


def _even_lists(name: str, column: Any) -> Array:
    offsets = column.offsets.to_numpy()
    sizes = np.unique(np.diff(offsets))
    if len(sizes) > 1:
        raise UsageError(f"column {name!r} has lists of {sizes[0]} to {sizes[-1]} elements: all must have one length")
    inner: Array = to_numpy(name, column.flatten())
    return inner.reshape(len(column), int(sizes[0]) if len(sizes) else 0, *inner.shape[1:])


def _refuse_nulls(name: str, column: Any) -> None:
    if column.null_count:
        raise UsageError(f"column {name!r} has {column.null_count} nulls ({column.type}): fill them first")


class _Binaries(Sequence[Any]):
    """A column of bytes, of which those of a row are looked at where they lie."""

    def __init__(self, column: Any) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[k] for k in range(*at.indices(len(self)))]
        return memoryview(self._column[at].as_buffer())


def to_arrow(x: Array, lists: bool = False) -> Any:
    """An output of (rows, ...) as a column over the same memory."""
    tensor = Tensor(x.dtype.name, x.shape[1:])
    if x.dtype == bool:
        flat = pa.array(x.reshape(-1))
    else:
        flat = pa.Array.from_buffers(_element(x.dtype.name), x.size, [None, pa.py_buffer(x.reshape(-1))])
    if not tensor.shape:
        return flat
    if not lists:
        return pa.FixedSizeListArray.from_arrays(flat, type=arrow_type(tensor))
    offsets = np.arange(len(x) + 1, dtype=np.int32) * np.int32(tensor.elements)
    return pa.ListArray.from_arrays(pa.array(offsets), flat)
