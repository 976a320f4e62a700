"""Batch scoring in DuckDB: a bundle as a function of SQL, called with some thousand rows at a time."""

from __future__ import annotations

import inspect
from typing import Any

import pyarrow as pa

from dlpack.batch.arrow import to_arrow, to_numpy
from dlpack.batch.core import Scorer, Tensor, Where
from dlpack.errors import UsageError

_TYPES = {
    "float32": "FLOAT", "float64": "DOUBLE", "bool": "BOOLEAN", "int8": "TINYINT", "int16": "SMALLINT",
    "int32": "INTEGER", "int64": "BIGINT", "uint8": "UTINYINT", "uint16": "USMALLINT", "uint32": "UINTEGER",
    "uint64": "UBIGINT",
}  # fmt: skip


def register(connection: Any, name: str, bundle: Where, *, spread: bool = False, **how: Any) -> None:
    """Makes the SQL function `name` of a bundle, with an argument per input: a number, or an array of a row's elements.

    With `spread` the only input's elements are an argument each: `SELECT churn(age, income, visits) FROM customers`.
    With `pictures="picture"` the only argument is a BLOB. NULL numbers become NaN where the input is float, and are an
    error else. The function gives the output, a number or an array, or a struct where there are several; `outputs`
    chooses. `how` goes to `Scorer`. Raises UsageError.
    """
    scorer = Scorer(bundle, **how)
    if scorer.keep:
        raise UsageError("a function of SQL keeps no columns: select them beside it")
    kinds = _arguments(scorer, spread)
    results = {scorer.prefix + n: _sql(n, t) for n, t in scorer.outputs.items()}
    fields = ", ".join(f'"{n.replace(chr(34), chr(34) * 2)}" {kind}' for n, kind in results.items())
    result = next(iter(results.values())) if len(results) == 1 else f"STRUCT({fields})"

    def scored(*columns: Any) -> Any:
        given = {n: to_numpy(n, _array(c)) for n, c in zip(kinds, columns, strict=True)}
        arrays = [to_arrow(x) for x in scorer.compute(list(kinds), given.__getitem__).values()]
        return arrays[0] if len(results) == 1 else pa.StructArray.from_arrays(arrays, names=list(results))

    # DuckDB counts a function's parameters.
    parameters = [inspect.Parameter(f"column_{k}", inspect.Parameter.POSITIONAL_ONLY) for k in range(len(kinds))]
    scored.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    connection.create_function(name, scored, list(kinds.values()), result, type="arrow", null_handling="special")


def _arguments(scorer: Scorer, spread: bool) -> dict[str, str]:
    """The function's arguments: names of columns as `scorer` takes them, and their types in SQL."""
    if scorer.pictures is not None:
        return {scorer.pictures: "BLOB"}
    if not spread:
        return {name: _sql(name, tensor) for name, tensor in scorer.inputs.items()}
    if len(scorer.inputs) != 1:
        raise UsageError(f"spread is for bundles with one input, and this one has {', '.join(scorer.inputs)}")
    ((name, tensor),) = scorer.inputs.items()
    return {f"{name} {k}": _sql(name, Tensor(tensor.dtype, ())) for k in range(tensor.elements)}


def _sql(name: str, tensor: Tensor) -> str:
    if tensor.dtype not in _TYPES:
        raise UsageError(f"DuckDB has no type for {name!r} ({tensor.dtype})")
    return _TYPES[tensor.dtype] + (f"[{tensor.elements}]" if tensor.shape else "")


def _array(column: Any) -> Any:
    """A column as one array."""
    if isinstance(column, pa.ChunkedArray):
        return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
    return column
