"""Threads: what one computes alone, several compute together; and nothing is read while another writes it."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import nets
import numpy as np
import onnx
import pytest
from conftest import DIGITS, requires_tool
from emitted_files import STRICT
from onnx import helper
from processes import run, until
from test_loader import exit_status

from dlpack.bundle.loader import load, read_kernels, read_manifest
from dlpack.bundle.timing import bench_bundle
from dlpack.pipeline import Options, build

MOST = 4


def busy_net() -> onnx.ModelProto:
    """A kernel of each rule that is large enough to be shared, one in a loop, and a small one that is not."""
    node = helper.make_node
    pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    return nets.model(
        [
            node("Conv", ["image", "w0"], ["a"], "first", kernel_shape=[5, 5], strides=[2, 2], pads=[2, 2, 2, 2]),
            node("Conv", ["a", "w1"], ["b"], "winograd", **pads),
            node("Relu", ["b"], ["c"], "relu"),
            node("Conv", ["c", "w2"], ["d"], "depthwise", group=64, **pads),
            node("Transpose", ["d"], ["f"], "transposed", perm=[0, 2, 3, 1]),
            node("MatMul", ["f", "w3"], ["g"], "product"),
            node("Softmax", ["g"], ["h"], "rows", axis=-1),
            node("Sin", ["signal"], ["sine"], "pointwise"),
            node("GlobalAveragePool", ["d"], ["pooled"], "pool"),
            node("LSTM", ["words", "w4", "w5"], ["states"], "loop", hidden_size=96),
        ],
        {"image": (1, 3, 121, 90), "signal": (200_001,), "words": (5, 8, 16)},
        {"h": (1, 61, 45, 40), "pooled": (1, 64, 1, 1), "sine": (200_001,), "states": (5, 1, 8, 96)},
        nets._random(
            5, w0=(64, 3, 5, 5), w1=(64, 64, 3, 3), w2=(64, 1, 3, 3), w3=(64, 40), w4=(1, 384, 16), w5=(1, 384, 96)
        ),
    )


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("threads")
    onnx.save(busy_net(), folder / "busy.onnx")
    return build(folder / "busy.onnx", folder / "busy", Options(threads=MOST))


def test_bench_gives_onnxruntime_as_many_threads(busy: Path) -> None:
    """With several threads the calling one's CPU time tells little: latencies are compared, and all threads count."""
    result = bench_bundle(busy, busy.parent / "busy.onnx", rounds=2)
    ours, theirs = result["runs"]
    assert result["ratios"]["onnxruntime"] == ours["median_ms"] / theirs["median_ms"]
    assert result["ratio_of"] == f"latency on {MOST} threads" and "process_time_ns" in result["clock"]


class Library:
    """The C API of a bundle with embedded weights, one predictor of it."""

    def __init__(self, bundle: Path) -> None:
        self.manifest = read_manifest(bundle)
        self.name = self.manifest["name"]
        self.library = ctypes.CDLL(str(bundle / self.manifest["library"]))
        self.handle = ctypes.c_void_p()
        assert self("create", ctypes.byref(self.handle), None, ctypes.c_size_t(0), None, ctypes.c_size_t(0)) == 0

    def __call__(self, function: str, *words: object) -> int:
        return int(getattr(self.library, f"{self.name}_{function}")(*words))

    def outputs(self, seed: int) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        for k, t in enumerate(self.manifest["inputs"]):
            x = rng.standard_normal(t["shape"]).astype(np.float32)
            assert self("set_input", self.handle, k, x.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(x.nbytes)) == 0
        assert self("run", self.handle) == 0
        out = []
        for k, t in enumerate(self.manifest["outputs"]):
            y = np.empty(t["shape"], np.float32)
            assert self("get_output", self.handle, k, y.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(y.nbytes)) == 0
            out.append(y)
        return out


@pytest.fixture
def library(busy: Path) -> Iterator[Library]:
    one = Library(busy)
    yield one
    one("destroy", one.handle)


def same(got: list[np.ndarray], want: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))


def difference(got: list[np.ndarray], want: list[np.ndarray]) -> str:
    """For each output that differs: how many elements, the largest difference, and the places along each axis."""
    texts = []
    for k, (a, b) in enumerate(zip(got, want, strict=True)):
        if len(where := np.argwhere(a != b)):
            places = [f"{len(np.unique(w))} in [{w.min()}, {w.max()}]" for w in where.T]
            texts.append(f"output {k}: {len(where)} elements, by up to {np.abs(a - b).max()}; {', '.join(places)}")
    return "; ".join(texts)


def test_kernels_of_every_rule_are_shared(busy: Path) -> None:
    text = (busy / "busy.cc").read_text()
    shared = [line for line in text.splitlines() if "share_trips(p, " in line]
    rules = {k["schedule"].split()[0] for k in read_kernels(busy)}
    assert rules >= {"Winograd", "register", "rows", "loops"}
    assert len(shared) >= 7
    assert any(line.strip().endswith(", t);") for line in shared), "the product in the loop"
    assert "--threads 4" in text.split("#ifndef")[0]


@pytest.mark.parametrize("threads", [2, 4])
def test_weights_of_a_single_row_are_shared(tmp_path: Path, threads: int) -> None:
    """One row by 784 x 128 has few products, but its weights take long to come from L2; each thread reads its part."""
    node = helper.make_node
    graph = nets.model(
        [node("MatMul", ["x", "w0"], ["a"]), node("Relu", ["a"], ["b"]), node("MatMul", ["b", "w1"], ["y"])],
        {"x": (1, 784)}, {"y": (1, 64)}, nets._random(3, w0=(784, 128), w1=(128, 64)),
    )  # fmt: skip
    onnx.save(graph, tmp_path / "dense.onnx")
    options = Options(target="source", threads=threads, target_options={"machine": "avx512"})
    bundle = build(tmp_path / "dense.onnx", tmp_path / "dense", options)
    text = (bundle / "dense.cc").read_text()
    assert text.count(f"share_trips(p, 0, {threads})") == 1 and text.count("share_trips(p, 1, ") == 0
    assert read_kernels(bundle)[0]["schedule"] == f"register tile 1 x {128 // threads}"


def test_an_lstm_of_one_sample_shares_its_weights(tmp_path: Path) -> None:
    """In each step the product of one state with 640 kB of weights is shared."""
    graph = nets.model(
        [helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=200)],
        {"x": (4, 1, 200)}, {"y": (4, 1, 1, 200)}, nets._random(4, w=(1, 800, 200), r=(1, 800, 200)),
    )  # fmt: skip
    onnx.save(graph, tmp_path / "lstm.onnx")
    bundle = build(tmp_path / "lstm.onnx", tmp_path / "lstm", Options(threads=2))
    lines = (bundle / "lstm.cc").read_text().splitlines()
    assert any("share_trips(p, " in line and line.strip().endswith(", t);") for line in lines)
    one = Library(bundle)
    want = one.outputs(1)
    for count in (1, 2):
        one("set_threads", one.handle, count)
        assert same(one.outputs(1), want)
    one("destroy", one.handle)


def test_any_number_of_threads_computes_the_same(library: Library) -> None:
    """Bit for bit; the number is capped at what the file was made for."""
    library("set_threads", library.handle, 1)
    want = [library.outputs(seed) for seed in range(3)]
    for count in (2, 3, MOST, 1, MOST + 5, 2):
        assert library("set_threads", library.handle, count) == 0
        assert library("threads", library.handle) == min(count, MOST)
        for seed in range(3):
            got, again = library.outputs(seed), library.outputs(seed)
            assert same(got, want[seed]), (
                f"{count} threads, inputs {seed}: {difference(got, want[seed])}; in a second run: "
                f"{difference(again, want[seed]) or 'nothing'}"
            )


def test_wrong_numbers_are_refused(library: Library) -> None:
    assert library("set_threads", library.handle, 0) == 1
    assert library("set_threads", None, 2) == 1
    assert library("threads", None) == 0


def tasks() -> set[str]:
    """The threads of this process by their ids (none where that cannot be told).

    Not their number: an earlier test's thread that was joined stays in /proc for a moment, and may end at any time.
    """
    folder = Path("/proc/self/task")
    return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()


def test_predictors_with_threads_run_side_by_side(busy: Path) -> None:
    """Each has workers of its own, which sleep between runs and end with it."""
    reference = Library(busy)
    reference("set_threads", reference.handle, 1)
    want = reference.outputs(1)
    before = tasks()
    wrong: list[str] = []

    def use(k: int) -> None:
        one = Library(busy)
        one("set_threads", one.handle, 2 + k)
        for _ in range(20):
            if not same(got := one.outputs(1), want):
                wrong.append(f"{2 + k} threads: {difference(got, want)}")
        one("destroy", one.handle)

    users = [threading.Thread(target=use, args=(k,)) for k in range(3)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert not wrong, wrong[:5]
    until(lambda: tasks() <= before, "the end of the threads", 10)
    reference("destroy", reference.handle)


@pytest.mark.skipif(not tasks(), reason="this system does not tell how many threads there are")
def test_a_predictor_that_nobody_has_any_more_ends_its_threads(busy: Path) -> None:
    """They would wake in memory that belongs to others by then."""
    before = tasks()
    predictor = load(busy)
    predictor._function("set_threads")(predictor._handle, MOST)
    assert len(tasks() - before) == MOST - 1
    del predictor
    gc.collect()
    until(lambda: tasks() <= before, "the end of its threads", 10)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_computes_and_ends(busy: Path) -> None:
    """The workers stay behind: there the predictor has one thread, until it is given others."""
    one = Library(busy)
    one("set_threads", one.handle, MOST)
    want = one.outputs(1)

    def work() -> None:
        assert one("threads", one.handle) == 1
        for count in (1, 3):
            assert count == 1 or one("set_threads", one.handle, count) == 0
            assert same(one.outputs(1), want)
            assert one("threads", one.handle) == count
        one("destroy", one.handle)

    time.sleep(0.05)  # the workers are asleep: ending them means waking them
    assert exit_status(work) == 0
    assert exit_status(lambda: one("destroy", one.handle)) == 0
    assert one("threads", one.handle) == MOST
    assert same(one.outputs(1), want)
    one("destroy", one.handle)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64", "aarch64", "arm64"), reason="no such mode")
def test_all_threads_flush_denormals(tmp_path: Path) -> None:
    graph = nets.model(
        [helper.make_node("Div", ["one", "x"], ["y"]), helper.make_node("Sin", ["y"], ["z"])],
        {"x": (1_000_003,)}, {"y": (1_000_003,), "z": (1_000_003,)},
        {"one": np.float32(1)},
    )  # fmt: skip
    onnx.save(graph, tmp_path / "small.onnx")
    bundle = build(tmp_path / "small.onnx", tmp_path / "small", Options(threads=MOST))
    assert "share_trips(p, " in (bundle / "small.cc").read_text()
    x = np.full(1_000_003, 1e38, np.float32) * 2
    with load(bundle) as p:
        assert (p.run({"x": x})["z"] > 0).all()
        p.set_flush_denormals()
        assert (p.run({"x": x})["z"] == 0).all()


def test_threads_do_not_race(busy: Path, tmp_path: Path) -> None:
    """The self-test under ThreadSanitizer."""
    source = busy / "busy.cc"
    program = tmp_path / "selftest"
    flags = ["-std=c++17", "-O1", "-g1", "-fsanitize=thread", "-DBUSY_SELFTEST", *STRICT, "-Wno-psabi"]
    done = run([requires_tool("g++"), *flags, source, "-o", program, "-pthread"])
    assert done.returncode == 0 and not done.stderr, done.stderr
    done = run([program])
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stdout + done.stderr


def test_without_a_system_there_is_one_thread(busy: Path, tmp_path: Path) -> None:
    """-DNAME_FREESTANDING: the same file, compiled without threads and without libc."""
    flags = ["-std=c++17", "-O2", "-DBUSY_FREESTANDING", "-ffreestanding", *STRICT, "-Wno-psabi"]
    done = run([requires_tool("g++"), *flags, "-c", busy / "busy.cc", "-o", tmp_path / "x.o"])
    assert done.returncode == 0 and not done.stderr, done.stderr
    names = run([requires_tool("nm"), "-u", tmp_path / "x.o"]).stdout
    assert "pthread" not in names


@pytest.mark.parametrize("threads", [1, MOST])
def test_a_file_without_threads(tmp_path: Path, threads: int) -> None:
    """Made for one thread, or with kernels that are too small to be shared: no trace of threads in it."""
    bundle = build(DIGITS, tmp_path / "digits", Options(threads=threads))
    text = (bundle / "digits.cc").read_text()
    assert "pthread" not in text and "share_trips" not in text
    one = Library(bundle)
    assert one("threads", one.handle) == 1
    assert one("set_threads", one.handle, 8) == 0
    assert one("threads", one.handle) == 1
    one("destroy", one.handle)
