"""Batch scoring beside onnxruntime in the same engine.

    python -m bench.batch make FOLDER [CASE]...        the models, the bundles and the rows; needs what exports them
    python -m bench.batch spark|ray FOLDER [CASE]...   the rounds; needs the engine, onnxruntime, dlpack

Cases: `trees` and `columns`, a million rows of 28 numbers (in a column of lists, and in 28 columns) through 100 trees
of 31 leaves; `tensors` and `pictures`, 2,000 pictures through SqueezeNet, as float32 and as JPEG files of 500 x 375.
Both sides get the same Arrow batches in as many workers as the computer has processors, with one thread each, and give
all outputs back. After a run each to warm up, rounds alternate. The times are those of whole runs: with what the engine
itself does, and with starting the workers where it starts them anew.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROUNDS = 5
FEATURES = 28
CORES = len(os.sched_getaffinity(0))
FILES = 8
"""Parquet files of a case, so that each worker reads several."""

MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


@dataclass(frozen=True)
class Case:
    """What is scored: a model's rows, so many to an Arrow batch."""

    model: str
    rows: int
    per_batch: int


CASES = {
    "trees": Case("trees", 1_000_000, 10_000),
    "columns": Case("trees", 1_000_000, 10_000),
    "tensors": Case("squeezenet11", 2_000, 50),
    "pictures": Case("squeezenet11", 2_000, 50),
}


# --- models, bundles, rows --------------------------------------------------------------------------------------------


def make(folder: Path, cases: list[str]) -> None:
    """Writes what is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in cases:
        model = CASES[name].model
        if not (folder / model).exists():
            make_trees(folder) if model == "trees" else make_pictures_model(folder, model)
        if not (folder / f"{name}.parquet").exists():
            write_rows(folder / f"{name}.parquet", name)


def make_trees(folder: Path) -> None:
    import lightgbm

    from dlpack.exporters import export
    from dlpack.exporters.base import write_model
    from dlpack.pipeline import Options, build

    rng = np.random.default_rng(0)
    x = rng.standard_normal((20_000, FEATURES)).astype(np.float32)
    y = x[:, 0] * x[:, 1] + np.sin(x[:, 2]) + 0.1 * rng.standard_normal(len(x))
    params = {"objective": "regression", "num_leaves": 31, "verbose": -1, "num_threads": 1}
    lightgbm.train(params, lightgbm.Dataset(x, y), 100).save_model(folder / "trees.txt")
    model = export(folder / "trees.txt").model
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "rows"
    write_model(model, folder / "trees.onnx")
    build(folder / "trees.txt", folder / "trees", Options(shapes={"X": (1024, FEATURES)}))


def make_pictures_model(folder: Path, model: str) -> None:
    from bench.models import export_zoo
    from dlpack.pipeline import Options, build

    export_zoo(folder, [model])
    build(folder / f"{model}.onnx", folder / model, Options(weights="file", preprocess="imagenet"))


def write_rows(path: Path, name: str) -> None:
    """A folder of Parquet files; all are one file under several names, as nothing depends on what the rows hold."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.mkdir()
    rng = np.random.default_rng(1)
    rows = CASES[name].rows // FILES
    if name == "columns":
        table = pa.table({f"c{k}": rng.standard_normal(rows, dtype=np.float32) for k in range(FEATURES)})
    elif name == "pictures":
        table = pa.table({"x": [_jpeg(rng) for _ in range(rows)]})
    else:
        size = FEATURES if name == "trees" else 3 * 224 * 224
        x = pa.array(rng.standard_normal(rows * size, dtype=np.float32))
        table = pa.table({"x": pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * size, x)})
    pq.write_table(table, path / "0.parquet", compression="none", use_dictionary=False)
    for k in range(1, FILES):
        os.link(path / "0.parquet", path / f"{k}.parquet")


def _jpeg(rng: np.random.Generator) -> bytes:
    """A picture of soft blobs, about as large as a photograph."""
    from PIL import Image

    coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    file = io.BytesIO()
    coarse.resize((500, 375), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


# --- onnxruntime ------------------------------------------------------------------------------------------------------


class ByOnnxruntime:
    """A function from a RecordBatch or Table of a case to a RecordBatch with the model's output, y."""

    def __init__(self, model: str, case: str, lists: bool) -> None:
        self.model, self.case, self.lists = model, case, lists

    def __call__(self, batch: Any) -> Any:
        import onnxruntime
        import pyarrow as pa

        from dlpack.batch.arrow import to_arrow

        # In a module, since each task of Spark gets this function anew, and sessions are to be kept.
        sessions = vars(onnxruntime).setdefault("sessions_of_this_process", {})
        if self.model not in sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            sessions[self.model] = onnxruntime.InferenceSession(self.model, options)
        session = sessions[self.model]
        name = session.get_inputs()[0].name
        y = np.concatenate([session.run(None, {name: x})[0] for x in self._inputs(batch)])
        return pa.RecordBatch.from_arrays([to_arrow(y.reshape(len(y), -1), self.lists)], names=["y"])

    def _inputs(self, batch: Any) -> Iterator[Any]:
        import pyarrow as pa

        if self.case == "columns":
            yield np.column_stack([batch.column(f"c{k}").to_numpy() for k in range(FEATURES)])
            return
        column = batch.column("x")
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        if self.case == "trees":
            yield column.flatten().to_numpy().reshape(-1, FEATURES)
        elif self.case == "tensors":
            yield from column.flatten().to_numpy().reshape(-1, 1, 3, 224, 224)
        else:
            for picture in column:
                yield _prepared(picture.as_buffer())


def _prepared(picture: Any) -> Any:
    """What torchvision's usual transforms make of a picture: the shorter side 256, the middle 224 x 224, normalised."""
    from PIL import Image

    with Image.open(io.BytesIO(picture)) as image:
        image = image.convert("RGB")
        scale = 256 / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
        left, top = (image.width - 224) // 2, (image.height - 224) // 2
        pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32)
    return np.ascontiguousarray(((pixels / 255 - MEAN) / DEVIATION).transpose(2, 0, 1)[None])


# --- the engines ------------------------------------------------------------------------------------------------------


def how(case: str) -> dict[str, Any]:
    """The arguments of dlpack's `score` in each engine."""
    if case == "trees":
        return {"columns": {"X": "x"}}
    return {"pictures": "x"} if case == "pictures" else {}


def spark_sides(folder: Path) -> Iterator[Callable[[str], dict[str, Callable[[], float]]]]:
    from pyspark.sql import SparkSession

    from dlpack.batch import Scorer
    from dlpack.batch import spark as dlpack_spark

    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master(f"local[{CORES}]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.driver.memory", "6g").config("spark.sql.files.maxPartitionBytes", "256m")
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")

    def sides(name: str) -> dict[str, Callable[[], float]]:
        case = CASES[name]
        spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", case.per_batch)
        frame = spark.read.parquet(str(folder / f"{name}.parquet"))
        (output,) = Scorer(folder / case.model).outputs
        other = ByOnnxruntime(str(folder / f"{case.model}.onnx"), name, lists=True)

        def total(frame: Any, column: str) -> float:
            return float(frame.selectExpr(f"sum(array_max(`{column}`))").collect()[0][0])

        return {
            "dlpack": lambda: total(dlpack_spark.score(frame, folder / case.model, **how(name)), output),
            "onnxruntime": lambda: total(
                frame.mapInArrow(lambda batches: (other(b) for b in batches), "y array<float>"), "y"
            ),
        }

    yield sides
    spark.stop()


def ray_sides(folder: Path) -> Iterator[Callable[[str], dict[str, Callable[[], float]]]]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import ray

    from dlpack.batch import ray as dlpack_ray

    ray.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False

    class Actor:
        def __init__(self, other: ByOnnxruntime) -> None:
            self.other = other

        def __call__(self, table: Any) -> Any:
            return pa.Table.from_batches([self.other(table)])

    def sides(name: str) -> dict[str, Callable[[], float]]:
        case = CASES[name]
        data = ray.data.read_parquet(str(folder / f"{name}.parquet")).materialize()
        other = ByOnnxruntime(str(folder / f"{case.model}.onnx"), name, lists=False)

        def total(scored: Any) -> float:
            """The sum of each row's largest number."""
            result = 0.0
            for table in scored.iter_batches(batch_format="pyarrow", batch_size=None):
                column = table.column(0)
                size = column.type.list_size
                result += float(pc.list_flatten(column).to_numpy().reshape(-1, size).max(axis=1).sum(dtype=np.float64))
            return result

        options = {"batch_format": "pyarrow", "batch_size": case.per_batch, "zero_copy_batch": True}
        pool = ray.data.ActorPoolStrategy(size=CORES)
        asked = {"workers": CORES, "batch_size": case.per_batch, **how(name)}
        return {
            "dlpack": lambda: total(dlpack_ray.score(data, folder / case.model, **asked)),
            "onnxruntime": lambda: total(
                data.map_batches(Actor, fn_constructor_args=(other,), compute=pool, **options)
            ),
        }

    yield sides
    ray.shutdown()


# --- rounds -----------------------------------------------------------------------------------------------------------


class Processors:
    """Processor time of this process and all below it, looked at twice a second, as workers end within a round."""

    def __init__(self) -> None:
        self._ticks: dict[tuple[int, str], int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Processors:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def seconds(self) -> float:
        self._look()
        return sum(self._ticks.values()) / os.sysconf("SC_CLK_TCK")

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            self._look()

    def _look(self) -> None:
        fields: dict[int, list[str]] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
        mine, found = {os.getpid()}, 0
        while len(mine) > found:
            found = len(mine)
            mine |= {pid for pid, values in fields.items() if int(values[1]) in mine}
        for pid in mine:
            values = fields[pid]
            self._ticks[pid, values[19]] = int(values[11]) + int(values[12])  # 19: when it began


def alternate(sides: dict[str, Callable[[], float]]) -> dict[str, list[tuple[float, float]]]:
    """Seconds and processor seconds of each round; the sides' results must agree."""
    results = {name: run() for name, run in sides.items()}
    np.testing.assert_allclose(*results.values(), rtol=2e-3)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    with Processors() as processors:
        for number in range(ROUNDS):
            for name, run in sorted(sides.items(), reverse=number % 2 == 1):
                began, used = time.perf_counter(), processors.seconds()
                run()
                times[name].append((time.perf_counter() - began, processors.seconds() - used))
    return times


def main(arguments: list[str]) -> int:
    engines = {"spark": spark_sides, "ray": ray_sides}
    if len(arguments) < 2 or arguments[0] not in ("make", *engines) or set(arguments[2:]) - set(CASES):
        print(__doc__, file=sys.stderr)
        return 2
    folder, cases = Path(arguments[1]).resolve(), arguments[2:] or list(CASES)
    if arguments[0] == "make":
        make(folder, cases)
        return 0
    for sides in engines[arguments[0]](folder):
        for name in cases:
            times = alternate(sides(name))
            ratio = median(o[0] / d[0] for d, o in zip(times["dlpack"], times["onnxruntime"], strict=True))
            for side, rounds in times.items():
                seconds, used = (median(values) for values in zip(*rounds, strict=True))
                told = " ".join(f"{s:.2f}" for s, _ in rounds)
                speed = f"{CASES[name].rows / seconds:,.0f} rows/s"
                print(f"{arguments[0]} {name} {side}: {speed}, processors {used:.1f} s ({told} s)", flush=True)
            print(f"{arguments[0]} {name}: dlpack has {ratio:.2f} of onnxruntime's throughput", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
