"""Batch scoring beside onnxruntime in the same engine: `python -m bench.batch spark|ray FOLDER`.

Rows of 28 numbers through 100 trees, and pictures through SqueezeNet where FOLDER/squeezenet.onnx is. Both sides get
the same Arrow batches, in as many workers as the computer has processors, with one thread each. After a run to warm up,
rounds alternate, and the fastest counts.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROUNDS = 3
FEATURES = 28
CORES = len(os.sched_getaffinity(0))


def make_trees(folder: Path) -> None:
    """A LightGBM model as ONNX, and its bundle."""
    import lightgbm

    from dlpack.exporters import export
    from dlpack.exporters.base import write_model
    from dlpack.pipeline import Options, build

    if (folder / "trees").exists():
        return
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20_000, FEATURES)).astype(np.float32)
    y = x[:, 0] * x[:, 1] + np.sin(x[:, 2]) + 0.1 * rng.standard_normal(len(x))
    params = {"objective": "regression", "num_leaves": 31, "verbose": -1, "num_threads": 1}
    lightgbm.train(params, lightgbm.Dataset(x, y), 100).save_model(folder / "trees.txt")
    model = export(folder / "trees.txt").model
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "rows"
    write_model(model, folder / "trees.onnx")
    name = model.graph.input[0].name
    build(folder / "trees.txt", folder / "trees", Options(shapes={name: (1024, FEATURES)}))


def make_squeezenet(folder: Path) -> None:
    from dlpack.pipeline import Options, build

    if not (folder / "squeezenet").exists():
        build(folder / "squeezenet.onnx", folder / "squeezenet", Options(weights="file"))


def by_onnxruntime(model: str, shape: tuple[int, ...], at_once: int) -> Callable[[Any], Any]:
    """A function from a batch with the column x to one with y: `at_once` rows a call, 0 for all."""

    def scored(batch: Any) -> Any:
        import onnxruntime
        import pyarrow as pa

        # In a module, since each task of Spark gets this function anew, and sessions are to be kept.
        sessions = vars(onnxruntime).setdefault("sessions_of_this_process", {})
        if model not in sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            sessions[model] = onnxruntime.InferenceSession(model, options)
        session = sessions[model]
        name = session.get_inputs()[0].name
        column = batch.column("x")
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        x = column.flatten().to_numpy().reshape(-1, *shape)
        step = at_once or len(x)
        y = np.concatenate([session.run(None, {name: x[k : k + step]})[0] for k in range(0, len(x), step)])
        return _scores(y)

    return scored


def by_dlpack(bundle: str) -> Callable[[Any], Any]:
    """The same by the bundle."""
    from dlpack.batch import Scorer

    manifest = Scorer(bundle)
    (name,) = manifest.inputs
    scorer = Scorer(bundle, columns={name: "x"})

    def scored(batch: Any) -> Any:
        from dlpack.batch.arrow import to_numpy

        column = batch.column("x")
        column = column.combine_chunks() if hasattr(column, "combine_chunks") else column
        (y, *_) = scorer.compute(["x"], lambda _: to_numpy("x", column)).values()
        return _scores(y)

    return scored


def _scores(y: Any) -> Any:
    """The largest score of each row, so that both sides send the same little back."""
    import pyarrow as pa

    return pa.RecordBatch.from_arrays([pa.array(y.reshape(len(y), -1).max(axis=1))], names=["y"])


def spark_rounds(parquet: Path, sides: dict[str, Callable[[Any], Any]], rows_per_batch: int) -> dict[str, list[float]]:
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master(f"local[{CORES}]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.driver.memory", "4g")
    spark = builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", rows_per_batch).getOrCreate()
    frame = spark.read.parquet(str(parquet))

    def mapper(function: Callable[[Any], Any]) -> Callable[[Iterator[Any]], Iterator[Any]]:
        return lambda batches: (function(batch) for batch in batches)

    def run(function: Callable[[Any], Any]) -> float:
        return float(frame.mapInArrow(mapper(function), "y float").selectExpr("sum(y)").collect()[0][0])

    times = alternate({name: (lambda f=f: run(f)) for name, f in sides.items()})
    spark.stop()
    return times


def ray_rounds(parquet: Path, sides: dict[str, Callable[[Any], Any]], rows_per_batch: int) -> dict[str, list[float]]:
    import pyarrow as pa
    import ray

    ray.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False)
    data = ray.data.read_parquet(str(parquet)).materialize()

    class Actor:
        def __init__(self, name: str) -> None:
            self.function = sides[name]

        def __call__(self, table: Any) -> Any:
            return pa.Table.from_batches([self.function(table)])

    def run(name: str) -> float:
        pool = ray.data.ActorPoolStrategy(size=CORES)
        how = {"batch_format": "pyarrow", "batch_size": rows_per_batch, "zero_copy_batch": True, "compute": pool}
        return float(data.map_batches(Actor, fn_constructor_args=(name,), **how).sum("y"))

    times = alternate({name: (lambda n=name: run(n)) for name in sides})
    ray.shutdown()
    return times


def alternate(sides: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """The seconds of each round; the sides' results must agree."""
    results = {name: run() for name, run in sides.items()}
    np.testing.assert_allclose(*results.values(), rtol=1e-4)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, run in sides.items():
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
    return times


def write_rows(path: Path, rows: int, shape: tuple[int, ...], files: int) -> None:
    """Parquet files with a column x: lists of float32."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.exists():
        return
    path.mkdir()
    rng = np.random.default_rng(1)
    size = int(np.prod(shape))
    for k in range(files):
        x = pa.array(rng.standard_normal(rows // files * size, dtype=np.float32))
        offsets = pa.array(np.arange(rows // files + 1, dtype=np.int32) * size)
        table = pa.table({"x": pa.ListArray.from_arrays(offsets, x)})
        pq.write_table(table, path / f"{k}.parquet", compression="none", use_dictionary=False)


def main() -> None:
    engine, folder = sys.argv[1], Path(sys.argv[2]).resolve()
    rounds = {"spark": spark_rounds, "ray": ray_rounds}[engine]
    make_trees(folder)
    cases = [("trees", 1_000_000, (FEATURES,), 0, 10_000)]
    if (folder / "squeezenet.onnx").exists():
        make_squeezenet(folder)
        cases.append(("squeezenet", 400, (3, 224, 224), 1, 20))
    for name, rows, shape, at_once, per_batch in cases:
        write_rows(folder / f"{name}.parquet", rows, shape, 2 * CORES)
        sides = {
            "dlpack": by_dlpack(str(folder / name)),
            "onnxruntime": by_onnxruntime(str(folder / f"{name}.onnx"), shape, at_once),
        }
        times = rounds(folder / f"{name}.parquet", sides, per_batch)
        for side, seconds in times.items():
            told = " ".join(f"{s:.2f}" for s in seconds)
            print(f"{engine} {name} {side}: {rows / min(seconds):,.0f} rows/s ({told} s)", flush=True)


if __name__ == "__main__":
    main()
