"""Batch scoring: many rows with a native bundle, in plain Python or inside Spark, Ray Data, Dask and DuckDB.

`Scorer` and `score` need NumPy alone, and pyarrow for Arrow's batches; the modules `spark`, `ray`, `dask` and `duckdb`
beside them fit them to an engine and import it.
"""

from dlpack.batch.core import Scorer
from dlpack.batch.stream import score

__all__ = ["Scorer", "score"]
