"""Batch scoring: rows are cut and padded to the bundle's batch, columns become inputs, engines do the same."""

from __future__ import annotations

import io
import os
import pickle
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import optional_module, requires_module
from onnx import TensorProto, helper, numpy_helper
from processes import run

from dlpack.batch import Scorer, score
from dlpack.batch.core import _step
from dlpack.errors import UsageError
from dlpack.pipeline import Options, build

Array = np.ndarray[Any, Any]
WEIGHTS = np.arange(6, dtype=np.float32).reshape(3, 2)


def net() -> onnx.ModelProto:
    """y = x @ w, sum = the sum of x's row; batch open."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    s = helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["n"])
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    total = helper.make_node("ReduceSum", ["x", "a"], ["sum"], keepdims=0)
    weights = [numpy_helper.from_array(WEIGHTS, "w"), numpy_helper.from_array(np.array([1]), "a")]
    graph = helper.make_graph([product, total], "net", [x], [y, s], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The net for batches of 4 and 64, its weights in a file."""
    folder = tmp_path_factory.mktemp("batch")
    onnx.save(net(), folder / "net.onnx")
    options = Options(shapes={"x": (4, 3)}, more_shapes=({"x": (64, 3)},), weights="file")
    return build(folder / "net.onnx", folder / "net", options)


@pytest.fixture(scope="module")
def x() -> Array:
    return np.random.default_rng(0).standard_normal((203, 3)).astype(np.float32)


def check(y: Any, sums: Any, x: Array) -> None:
    np.testing.assert_allclose(np.asarray(y, np.float32).reshape(-1, 2), x @ WEIGHTS, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.asarray(sums, np.float32), x.sum(axis=1), rtol=1e-5, atol=1e-5)


# --- the core, with NumPy alone ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [0, 1, 4, 5, 63, 64, 203])
def test_any_number_of_rows(bundle: Path, x: Array, rows: int) -> None:
    results = Scorer(bundle).score({"x": x[:rows]})
    assert results["y"].shape == (rows, 2) and results["sum"].shape == (rows,)
    check(results["y"], results["sum"], x[:rows])


def test_batches_that_fit_best() -> None:
    """(rows computed, batch): a full one, or one that is more than half used."""
    assert _step((4, 64), 200) == (64, 64) and _step((4, 64), 40) == (40, 64)
    assert _step((4, 64), 20) == (4, 4) and _step((4, 64), 3) == (3, 4) and _step((4, 64), 1) == (1, 4)


def test_rows_of_the_right_type_are_read_in_place(bundle: Path, x: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    from dlpack.bundle.loader import Predictor

    bound: list[Array] = []
    bind = Predictor.bind
    monkeypatch.setattr(Predictor, "bind", lambda self, given: (bound.append(given["x"]), bind(self, given))[1])
    Scorer(bundle).score({"x": x[:128]})
    assert len(bound) == 2 and all(np.shares_memory(part, x) for part in bound)


def test_columns(bundle: Path, x: Array) -> None:
    """By the input's name; all of a table where they are as many; as they are named. Other numbers are converted."""
    a, b, c = x.T
    for table, how in (
        ({"x": x.astype(np.float64)}, {}),
        ({"a": a, "b": b, "c": c}, {}),
        ({"id": np.arange(len(x)), "a": a, "b": b.astype(np.float64), "c": c}, {"keep": ["id"]}),
        ({"c": c, "b": b, "z": a, "a": a}, {"columns": {"x": ["a", "b", "c"]}}),
        ({"rows": list(x)}, {"columns": {"x": "rows"}}),
    ):
        results = Scorer(bundle, **how).score(table)
        check(results["y"], results["sum"], x)
        assert ("id" in results) == ("id" in table)
    (chosen,) = score([{"x": x}], bundle, outputs=["sum"], prefix="net_")
    assert list(chosen) == ["net_sum"]


@pytest.mark.parametrize(
    ("how", "columns", "error"),
    [
        ({"outputs": ["sun"]}, {}, "has no output 'sun'; did you mean 'sum'?"),
        ({"columns": {"z": "a"}}, {}, "has no input 'z'"),
        ({"pictures": "p"}, {}, "takes no pictures"),
        ({"keep": ["sum"]}, {}, "is a column to keep and an output"),
        ({}, {"a": np.zeros(2)}, "no column for the input 'x' \\(3 elements a row\\); the table has a"),
        ({"columns": {"x": "ages"}}, {"age": np.zeros(2)}, "no column 'ages'; did you mean 'age'?"),
        ({"columns": {"x": ["a"]}}, {"a": np.zeros(2)}, "3 elements a row, not 1 columns"),
        ({"keep": ["id"]}, {"x": np.zeros((2, 3))}, "no column 'id' to keep"),
        ({}, {"x": np.zeros((2, 4))}, "column 'x' has \\(4,\\) a row"),
        ({}, {"x": np.array([[1, 2, 3], [1, 2]], object)}, "rows of different sizes"),
        ({}, {"x": np.array([["a", "b", "c"]])}, "column 'x' is <U1, and the input float32"),
        ({}, {"a": np.zeros(2), "b": np.zeros(3), "c": np.zeros(2)}, "column 'b' has the shape"),
    ],
    ids=range(12),
)
def test_what_does_not_fit_is_said(bundle: Path, how: dict[str, Any], columns: dict[str, Any], error: str) -> None:
    with pytest.raises(UsageError, match=error):
        Scorer(bundle, **how).score(columns)


def test_threads_have_handles_of_their_own(bundle: Path, x: Array) -> None:
    scorer = pickle.loads(pickle.dumps(Scorer(bundle)))
    results: list[dict[str, Array]] = []
    threads = [threading.Thread(target=lambda: results.append(scorer.score({"x": x}))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for found in results:
        check(found["y"], found["sum"], x)
    assert len(results) == 4


def test_pictures(tmp_path: Path) -> None:
    """Arrays, and files where Pillow is."""
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, 8, 8])
    means = helper.make_tensor_value_info("means", TensorProto.FLOAT, [1, 3])
    node = helper.make_node("ReduceMean", ["picture"], ["means"], axes=[2, 3], keepdims=0)
    graph = helper.make_graph([node], "means", [picture], [means])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "means.onnx")
    bundle = build(tmp_path / "means.onnx", tmp_path / "means", Options(preprocess="none"))
    rng = np.random.default_rng(3)
    pictures = [rng.integers(0, 255, (20, 16, 3), np.uint8) for _ in range(3)]
    (arrays,) = score([{"p": pictures}], bundle, pictures="p")
    pixels = np.stack([picture.mean((0, 1)) for picture in pictures])
    assert np.abs(arrays["means"] - pixels).max() < 20  # resized by taking the middle
    image = requires_module("PIL.Image")
    files = []
    for picture in pictures:
        image.fromarray(picture).save(buffer := io.BytesIO(), "PNG")
        files.append(buffer.getvalue())
    (encoded,) = score([{"p": files}], bundle, pictures="p")
    assert np.array_equal(arrays["means"], encoded["means"]) and arrays["means"].shape == (3, 3)
    with pytest.raises(UsageError, match="row 0 holds no picture that Pillow can read"):
        list(score([{"p": [b"nothing"]}], bundle, pictures="p"))


def test_the_core_needs_numpy_alone() -> None:
    others = ["tvm", "onnx", "onnxruntime", "click", "pyarrow"]
    code = f"import sys, dlpack.batch; print([m for m in {others} if m in sys.modules])"
    assert run([sys.executable, "-c", code], check=True).stdout.strip() == "[]"


# --- Arrow ------------------------------------------------------------------------------------------------------------


def arrow_columns(x: Array) -> Any:
    pa = requires_module("pyarrow")
    lists = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), 3)
    return pa.RecordBatch.from_arrays([pa.array(np.arange(len(x))), lists], names=["id", "x"])


def test_arrow_batches(bundle: Path, x: Array) -> None:
    """Fixed lists, lists, tensors and columns; slices too."""
    pa = requires_module("pyarrow")
    batch = arrow_columns(x)
    (result,) = score([batch], bundle, keep=["id"])
    assert [str(t) for t in result.schema.types] == ["int64", "fixed_size_list<item: float>[2]", "float"]
    check(result.column("y").flatten(), result.column("sum"), x)
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(x)
    for column in (batch.column("x").cast(pa.list_(pa.float32())), batch.column("x").slice(7, 50), tensors):
        (result,) = score([pa.RecordBatch.from_arrays([column], names=["x"])], bundle)
        check(result.column("y").flatten(), result.column("sum"), x[7:57] if len(column) == 50 else x)
    spread = pa.Table.from_arrays([pa.array(x[:, k].copy()) for k in range(3)], names=list("abc"))
    (result,) = score([spread], bundle)
    check(result.column("y").flatten(), result.column("sum"), x)


def test_arrow_is_not_copied(x: Array) -> None:
    requires_module("pyarrow")
    from dlpack.batch.arrow import to_arrow, to_numpy

    assert np.shares_memory(to_numpy("x", arrow_columns(x).column("x")), x)
    back = to_arrow(x)
    assert np.shares_memory(back.flatten().to_numpy(), x) and back.type.list_size == 3


def test_nulls(bundle: Path) -> None:
    pa = requires_module("pyarrow")
    floats = [pa.array([1.0, None], pa.float32())] * 3
    (result,) = score([pa.RecordBatch.from_arrays(floats, names=list("abc"))], bundle)
    assert result.column("sum").to_numpy()[0] == 3 and np.isnan(result.column("sum").to_numpy()[1])
    ints = [pa.array([1, None])] * 3
    with pytest.raises(UsageError, match="column 'a' has 1 nulls"):
        list(score([pa.RecordBatch.from_arrays(ints, names=list("abc"))], bundle))
    with pytest.raises(UsageError, match="column 'x' has lists of 1 to 2 elements"):
        list(score([pa.RecordBatch.from_arrays([pa.array([[1.0], [1.0, 2.0]])], names=["x"])], bundle))


# --- engines ----------------------------------------------------------------------------------------------------------


def test_duckdb(bundle: Path, x: Array) -> None:
    requires_module("pyarrow")
    duckdb = requires_module("duckdb")
    from dlpack.batch.duckdb import register

    connection = duckdb.connect()
    connection.register("rows", arrow_columns(x))
    register(connection, "net", bundle)
    register(connection, "total", bundle, spread=True, outputs=["sum"])
    found = connection.sql("SELECT net(x), total(x[1], x[2], x[3]) FROM rows ORDER BY id").fetchall()
    check([row["y"] for row, _ in found], [row["sum"] for row, _ in found], x)
    np.testing.assert_allclose([total for _, total in found], x.sum(axis=1), rtol=1e-5, atol=1e-5)
    with pytest.raises(UsageError, match="keeps no columns"):
        register(connection, "kept", bundle, keep=["id"])


def test_dask(bundle: Path, x: Array) -> None:
    requires_module("pyarrow")
    array = requires_module("dask.array")
    from dlpack.batch.dask import score, score_array

    scored = score_array(array.from_array(x, chunks=(50, 2)), bundle, outputs=["y"])
    assert scored.shape == (203, 2)
    np.testing.assert_allclose(scored.compute(), x @ WEIGHTS, rtol=1e-5, atol=1e-5)
    pandas = optional_module("pandas", "it is for Dask's data frames alone")
    frames = optional_module("dask.dataframe", "it needs pandas")
    rows = pandas.DataFrame({"id": np.arange(len(x)), **{name: x[:, k] for k, name in enumerate("abc")}})
    result = score(frames.from_pandas(rows, npartitions=3), bundle, keep=["id"]).compute()
    check(np.stack(result["y"].to_numpy()), result["sum"], x)
    assert list(result["id"]) == list(range(len(x)))


def test_ray(bundle: Path, x: Array) -> None:
    ray = optional_module("ray", "it takes 240 MB")
    optional_module("ray.data", "it needs pandas and pyarrow")
    script = (
        "import sys, ray, numpy as np, pyarrow as pa\n"
        "from dlpack.batch.ray import score\n"
        "ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)\n"
        "x = np.load(sys.argv[2])\n"
        "lists = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), 3)\n"
        "rows = ray.data.from_arrow(pa.table({'id': np.arange(len(x)), 'x': lists}))\n"
        "found = score(rows, sys.argv[1], keep=['id'], workers=2, batch_size=50).to_pandas().sort_values('id')\n"
        "np.savez(sys.argv[3], y=np.stack(found['y']), sum=found['sum'].to_numpy())\n"
    )
    assert ray
    in_a_process(script, bundle, x)


def test_spark(bundle: Path, x: Array) -> None:
    optional_module("pyspark", "it takes 460 MB and Java")
    script = (
        "import sys, numpy as np\n"
        "from pyspark.sql import SparkSession\n"
        "from dlpack.batch import Scorer\n"
        "from dlpack.batch.spark import pandas_mapper, score\n"
        "spark = SparkSession.builder.master('local[2]').config('spark.ui.enabled', 'false').getOrCreate()\n"
        "x = np.load(sys.argv[2])\n"
        "rows = spark.createDataFrame([(k, *map(float, row)) for k, row in enumerate(x)], ['id', 'a', 'b', 'c'])\n"
        "found = score(rows, sys.argv[1], keep=['id']).orderBy('id').collect()\n"
        "mapper = pandas_mapper(Scorer(sys.argv[1], keep=['id']))\n"
        "pandas = rows.mapInPandas(mapper, 'id long, y array<float>, sum float').orderBy('id').collect()\n"
        "assert found == pandas\n"
        "np.savez(sys.argv[3], y=[r.y for r in found], sum=[r.sum for r in found])\n"
    )
    in_a_process(script, bundle, x)


def in_a_process(script: str, bundle: Path, x: Array) -> None:
    """Runs a script over the rows, whose engine starts processes and threads of its own, and checks what it found."""
    given, found = bundle.parent / "x.npy", bundle.parent / "found.npz"
    np.save(given, x)
    found.unlink(missing_ok=True)
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable}
    run([sys.executable, "-W", "ignore", "-c", script, bundle, given, found], env=environment, check=True)
    with np.load(found) as results:
        check(results["y"], results["sum"], x)
