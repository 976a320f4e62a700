"""`dlpack build-all`: what a file of models means, what is built and what is not, and what is left at the end."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from conftest import optional_module, requires_module
from onnx import TensorProto, helper, numpy_helper
from processes import hear_interrupts, run, started, until

from dlpack.cli import cli
from dlpack.errors import UsageError
from dlpack.many import build_all
from dlpack.many.clusters import ENGINES
from dlpack.many.contents import RECORD, Record, digest_of
from dlpack.many.jobs import Jobs, read_jobs
from dlpack.many.keys import OPTIONS
from dlpack.many.pool import Worker
from dlpack.many.tasks import Outcome, tasks_of


def small_net() -> onnx.ModelProto:
    weights = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(3, 2), "w")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "net", [x], [y], [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def jobs_of(folder: Path, text: str, only: tuple[str, ...] = ()) -> Jobs:
    (folder / "models.toml").write_text(text, encoding="utf-8")
    return read_jobs(folder / "models.toml", only)


def dlpack(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="dlpack")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


# --- the file ---------------------------------------------------------------------------------------------------------

MODELS = """
output = "out"
targets = ["native", "wasm"]

[options]
weights = "file"
single-file-html = true

[variants.plain]
[variants.web]
targets = ["wasm"]
threads = 4

[models.net]
file = "a/net.onnx"
shape = { x = [[1, 3], [64, 3]], ids = "1x16:int64" }
labels = ["cat", "dog"]

[models.one-bucket]
file = "nets.py:make"
variants = ["plain"]
targets = ["native"]
buckets = { ids = [16, 32] }
value = { rate = 16000, flag = true }
range = { ids = [0, 30521] }
max = { boxes = 100 }
weights = "embed"
params = "w.bin"

[models.own.variants]
fast = { optimize = "speed" }
small = { optimize = "size", tolerance = 0.01 }

[models.own]
file = "own.onnx"
targets = ["native"]
"""


def test_models_times_variants_times_targets(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, MODELS)
    assert [b.label for b in jobs.bundles] == [
        "net/plain/native",
        "net/plain/wasm",
        "net/web/wasm",
        "one-bucket/plain/native",
        "own/fast/native",
        "own/small/native",
    ]
    plain, page, web, bucket, _, small = jobs.bundles
    assert plain.source == tmp_path / "a" / "net.onnx"
    assert plain.folder == tmp_path / "out" / "net" / "plain" / "native"
    assert plain.options.shapes == {"x": (1, 3), "ids": (1, 16)}
    assert plain.options.more_shapes == ({"x": (64, 3), "ids": (1, 16)},)
    assert plain.options.dtypes == {"ids": "int64"} and plain.options.labels == ("cat", "dog")
    assert not plain.options.target_options and page.options.target_options == {"single-file-html": True}
    assert (plain.options.threads, web.options.threads, web.options.weights) == (1, 4, "file")
    assert bucket.source == tmp_path / "nets.py:make" and bucket.options.name == "one_bucket"
    assert bucket.options.weights == "embed" and bucket.options.params == tmp_path / "w.bin"
    assert str(bucket.options.buckets) == "--buckets ids=16,32"
    assert bucket.options.values == {"rate": ("16000",), "flag": ("true",)}
    assert bucket.options.ranges == {"ids": (0, 30521)} and bucket.options.maxima == {"boxes": 100}
    assert small.options.optimize == "size" and small.options.tolerance == 0.01
    assert [b.model for b in jobs_of(tmp_path, MODELS, ("own",)).bundles] == ["own", "own"]


def test_every_option_of_a_build_is_a_key() -> None:
    build = cli.commands["build"]
    names = {o.lstrip("-") for p in click.Command.get_params(build, click.Context(build)) for o in p.opts[-1:]}
    not_of_a_bundle = {"model", "target", "output", "quiet", "verbose", "json", "help"}
    assert names - not_of_a_bundle == OPTIONS.keys()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("x = 1", "x: unknown key"),
        ("model = 1", "model: unknown key; did you mean 'models'?"),
        ("", "there are no models"),
        ("[models.a]", "models.a: it has no file"),
        (
            "[[models]]\nfile = 'a'",
            r"models: a list of tables is not expected here: write [models.NAME], not [[models]]",
        ),
        ("[models.a]\nfile = 3", "models.a.file: a text in quotes is expected here, not 3"),
        ("[models.a]\nfile = 'a'\noptimise = 'size'", "models.a.optimise: unknown key; did you mean 'optimize'?"),
        ("[models.a]\nfile = 'a'\noptimize = 'sise'", "models.a.optimize: 'sise' is none of speed, size; did you"),
        ("[models.a]\nfile = 'a'\ntargets = ['natve']", "models.a.targets: unknown target 'natve'"),
        (
            "[models.a]\nfile = 'a'\nvariants = ['x']\n[variants.xy]",
            "unknown variant 'x'; did you mean 'xy'?",
        ),
        ("[models.a]\nfile = 'a'\nshape = { x = '1y3' }", "models.a.shape.x: '1y3' is no shape"),
        ("[models.a]\nfile = 'a'\nshape = { x = '1x3:int65' }", "models.a.shape.x: the element type must be one of"),
        ("[models.a]\nfile = 'a'\nthreads = true", "models.a.threads: a whole number from 1 is expected here"),
        ("[models.a]\nfile = 'a'\nbuckets = { x = [1], y = [2] }", "models.a.buckets: one input has buckets"),
        ("[models.a]\nfile = 'a'\nrange = { x = [1] }", "models.a.range.x: write the lowest and the highest value"),
        ("[models.a]\nfile = 'a'\nlabels = 'none.txt'", "models.a.labels: the labels file"),
        ("[models.a]\nfile = 'a'\nsingle-file-html = true", "models.a.single-file-html: this is an option of"),
        ("[models.'a/b']\nfile = 'a'", "models.a/b: a name is letters"),
        (
            "[models.a]\nfile = 'a'\n[options]\nwheights = 'file'",
            "options.wheights: unknown key; did you mean",
        ),
        ("[models", "is not TOML"),
    ],
    ids=lambda v: v[:30].replace("\n", " ") if "=" in v or "[" in v else "",
)
def test_an_error_names_the_key(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(UsageError) as e:
        jobs_of(tmp_path, text)
    assert str(tmp_path / "models.toml") in str(e.value) and error in str(e.value)


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model 'nett'; did you mean 'net'"):
        jobs_of(tmp_path, MODELS, ("nett",))


def test_targets_of_a_model_are_one_task_unless_a_process_would_idle(tmp_path: Path) -> None:
    bundles = list(enumerate(jobs_of(tmp_path, MODELS).bundles))
    sizes = [len(task.bundles) for task in tasks_of(bundles, tmp_path, 2)]
    assert sorted(sizes) == [1, 1, 1, 1, 2]
    assert len(tasks_of(bundles, tmp_path, 8)) == 6
    assert sorted(n for task in tasks_of(bundles, tmp_path, 2) for n in task.numbers) == list(range(6))


# --- what is built ----------------------------------------------------------------------------------------------------

JOB = """
targets = ["source"]
[models.net]
file = "net.onnx"
shape = { x = [4, 3] }
[models.net.variants.plain]
[models.net.variants.small]
optimize = "size"
[models.code]
file = "code_net.py:net"
shape = { x = [4, 3] }
[models.broken]
file = "broken.onnx"
[models.dies]
file = "dies.py:net"
targets = ["source", "native"]
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """A job with a model that is no model and one that ends its process: its folder, and what the command printed."""
    folder = tmp_path_factory.mktemp("many")
    onnx.save(small_net(), folder / "net.onnx")
    (folder / "broken.onnx").write_text("no model", encoding="utf-8")
    (folder / "code_net.py").write_text("import numpy as np\nfrom factor import F\ndef net(x):\n    return x * F\n")
    (folder / "factor.py").write_text("F = 3\n", encoding="utf-8")
    (folder / "dies.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n", encoding="utf-8")
    (folder / "models.toml").write_text(JOB, encoding="utf-8")
    command = [sys.executable, "-m", "dlpack", "build-all", folder / "models.toml", "--jobs", "2", "--json"]
    done = run(command, cwd=folder.parent)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[-1].pop("seconds") > 0
    assert lines.pop() == {"built": 3, "unchanged": 0, "failed": 3, "exit_code": 3}
    assert done.returncode == 3  # of the broken one, which comes first
    yield folder, lines


def test_a_model_that_fails_stops_no_other(built: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, lines = built
    found = {line["bundle"].removeprefix(str(folder / "build") + "/"): line for line in lines}
    assert {name for name, line in found.items() if line["status"] == "built"} == {
        "net/plain/source",
        "net/small/source",
        "code/source",
    }
    assert "ONNX" in found["broken/source"]["error"] and found["broken/source"]["exit_code"] == 3
    for target in ("source", "native"):
        assert "SIGKILL" in found[f"dies/{target}"]["error"] and found[f"dies/{target}"]["exit_code"] == 4
    manifest = json.loads((folder / "build/net/small/source/manifest.json").read_text(encoding="utf-8"))
    assert manifest["name"] == "net" and manifest["target"] == "source"
    assert not [p for p in (folder / "build").rglob(".*")]


def test_the_second_time_only_what_failed_is_built(
    built: tuple[Path, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = built
    asked: list[str] = []

    def none(tasks: Any, *_: Any) -> Iterator[Any]:
        asked.extend(b.label for task in tasks for b in task.bundles)
        return (o for o in ())

    monkeypatch.setitem(ENGINES, "processes", none)
    build_all(folder / "models.toml")
    assert sorted(asked) == ["broken/source", "dies/native", "dies/source"]
    shown = dlpack("build-all", folder / "models.toml", "--only", "net", "--only", "code")
    assert shown.exit_code == 0 and "0 built, 3 unchanged, 0 failed" in shown.output
    assert "net/small/source  unchanged" in " ".join(shown.output.split(" ")).replace("\n", " ")
    asked.clear()
    build_all(folder / "models.toml", only=["net"], again=True)
    assert asked == ["net/plain/source", "net/small/source"]


def test_what_has_changed_is_built_again(built: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> None:
    """A model, a module that its code imports, an option, a bundle's files; not the time of a file."""
    folder, _ = built
    plain, _, code, *_ = jobs_of(tmp_path, JOB).bundles
    plain, code = (
        replace(b, source=folder / b.source.name, folder=folder / "build" / b.folder.relative_to(tmp_path / "build"))
        for b in (plain, code)
    )

    def current(bundle: Any) -> bool:
        return Record(folder / "build", folder).is_current(bundle)

    assert current(plain) and current(code)
    os.utime(folder / "net.onnx", (1, 1))
    assert current(plain)
    assert not current(replace(plain, options=replace(plain.options, threads=2)))
    for path, bundle in (
        (folder / "net.onnx", plain),
        (folder / "factor.py", code),
        (plain.folder / "manifest.json", plain),
        (folder / "build" / RECORD, code),
    ):
        before = path.read_bytes()
        path.write_bytes(before + b" " if path.name != RECORD else b"{}")
        assert not current(bundle)
        path.write_bytes(before)
        assert current(bundle)
    (source,) = plain.folder.glob("*.cc")
    moved = source.rename(tmp_path / source.name)
    assert not current(plain)
    moved.rename(source)


def test_a_copy_elsewhere_is_up_to_date(built: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> None:
    """As a cache of continuous integration restores it."""
    copy = tmp_path / "elsewhere"
    shutil.copytree(built[0], copy)
    report = build_all(copy / "models.toml", only=["net", "code"])
    assert report.count("unchanged") == 3


def test_a_folder_has_a_digest(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "a").write_text("1", encoding="utf-8")
    first = digest_of(tmp_path / "m")
    (tmp_path / "m" / "b").write_text("", encoding="utf-8")
    assert first != digest_of(tmp_path / "m") and digest_of(tmp_path / "none") == ""


def test_an_interrupt_leaves_no_half_bundle(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(100)\n", encoding="utf-8")
    (tmp_path / "models.toml").write_text('[models.slow]\nfile = "slow.py:net"\ntargets = ["source"]', encoding="utf-8")
    command = [sys.executable, "-m", "dlpack", "build-all", str(tmp_path / "models.toml"), "--json"]
    with started(command, stdout=-1, cwd=tmp_path, preexec_fn=hear_interrupts) as process:
        until(lambda: [*tmp_path.glob("build/slow/.source-*")], "the build begins")
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in json.loads(said)["error"]
    assert not (tmp_path / "build").exists() or not [*(tmp_path / "build").rglob("*")]


def test_a_worker_that_ends_after_its_last_answer_is_not_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = jobs_of(tmp_path, '[models.a]\nfile = "a.onnx"\ntargets = ["source"]')
    (task,) = tasks_of([*enumerate(jobs.bundles)], tmp_path, 1)
    told = pickle.dumps(Outcome(task.numbers[0], 1.0))
    process = SimpleNamespace(stdin=io.BytesIO(), stdout=io.BytesIO(told))
    worker = Worker(tmp_path)
    monkeypatch.setattr(worker, "_started", lambda: process)
    with worker._said:
        assert [outcome.error for outcome in worker.run(task)] == [""]


# --- several machines -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["ray", "dask"])
def test_engines_build_the_same(
    built: tuple[Path, list[dict[str, Any]]], engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a cluster of this computer: bundles with the same bytes, and the failure of another model."""
    if engine == "ray":
        optional_module("ray", "it takes 240 MB")
    else:
        requires_module("distributed")
    folder, _ = built
    manifest = folder / "build/net/plain/source/manifest.json"
    before = manifest.read_bytes()
    job = ["--only", "net", "--only", "broken", "--again", "--engine", engine, "--jobs", "2"]
    done = run([sys.executable, "-W", "ignore", "-m", "dlpack", "build-all", folder / "models.toml", *job])
    assert done.returncode == 3 and "2 built, 0 unchanged, 1 failed" in done.stdout, done.stderr
    assert manifest.read_bytes() == before


def test_an_engine_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "models.toml").write_text('[models.a]\nfile = "a.onnx"', encoding="utf-8")
    done = dlpack("build-all", tmp_path / "models.toml", "--engine", "ray")
    assert done.exit_code == 4 and "pip install 'dlpack-aot[ray]'" in done.output
