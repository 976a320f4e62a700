"""One row of the benchmark: every contestant started on a model, raced, and compared with the reference."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from bench import contest
from bench.ceilings import Ceilings, busy_cores
from bench.contest import INT8_TOLERANCE, TOLERANCE, built_from, largest_error, reference, sha256_of
from bench.int8 import takes_part
from bench.peers import LITERT_INT32, Array
from bench.profile import Initializers, KernelTime, kernel_times, model_cost
from bench.rounds import Timing, WorkerError, summarise
from bench.web.browser import Browser, Page
from bench.web.kept import Stamp, joined, parted
from bench.web.site import HERE, place_of, serve
from bench.web.sizes import Size, code_size

OURS = "ours"
PEERS = {"onnxruntime-web": "onnxruntime-web", "litert": "LiteRT.js"}
"""The peers and their titles."""

TITLES = {OURS: OURS, **PEERS}
PACKAGES = {"onnxruntime-web": "onnxruntime-web", "litert": "@litertjs/core"}
"""The npm package of each peer."""

OURS_TOLERANCE = 1e-4
THREADS = (1, 2)
ROUND_MS = 100.0
"""A round repeats a fast model for about this long: a call into the page costs its process 0.2 to 0.4 ms."""
WARM_UP_MS = 1000.0

Key = tuple[str, int]
"""A contestant and its number of threads."""


@dataclass(frozen=True)
class Setup:
    """`peers`: those that take part; `native`: what converts a model for LiteRT; `loads`: pages that are started
    to time a start; `profile`: also time each of our kernels; `int8`: the models are integer networks; `stamp`: of
    this run."""

    cache: Path
    modules: Path
    chromium: str
    peers: tuple[str, ...]
    native: contest.Setup
    stamp: Stamp | None = None
    rounds: int = 10
    loads: int = 3
    profile: bool = False
    reuse: bool = False
    int8: bool = False


@dataclass(frozen=True)
class Start:
    """Milliseconds: from the first request for code to a runtime that can take a model; from there to one that can
    predict, and the part of it after the weights' last byte; the first prediction."""

    instantiate: float
    load: float
    ready: float
    first: float


@dataclass
class Row:
    """The benchmark's results for one model. `timings` count CPU time, and wall time beside it; `errors` are parts of
    the output's range; `code` and `weights` (bytes) and `starts`, of `loads` pages, are those of one thread. `alone`:
    none of our kernels is worth a second thread. `load`: cores that other programs kept busy."""

    model: str
    flops: float
    timings: dict[Key, Timing] = field(default_factory=dict)
    errors: dict[Key, float] = field(default_factory=dict)
    failed: dict[Key, str] = field(default_factory=dict)
    starts: dict[str, Start] = field(default_factory=dict)
    code: dict[str, Size] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    kernels: list[KernelTime] = field(default_factory=list)
    int8: bool = False
    alone: bool = False
    loads: int = 0
    load: float = 0.0
    stamp: Stamp | None = None

    def told(self) -> dict[str, Any]:
        parts = {key: joined(getattr(self, key)) for key in ("timings", "errors", "failed")}
        return asdict(replace(self, **parts))  # type: ignore[arg-type]

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Row:
        parts: dict[str, Any] = {key: parted(told[key], int) for key in ("timings", "errors", "failed")}
        parts["timings"] = {key: Timing(**timing) for key, timing in parts["timings"].items()}
        parts["starts"] = {name: Start(**start) for name, start in told["starts"].items()}
        parts["code"] = {name: Size(**size) for name, size in told["code"].items()}
        parts["kernels"] = [KernelTime(**kernel) for kernel in told["kernels"]]
        return cls(**{**told, **parts, "stamp": Stamp.of(told["stamp"]) if told["stamp"] else None})

    def agrees(self, key: Key) -> bool:
        return self.errors.get(key, np.inf) <= self.tolerance(key[0])

    def tolerance(self, name: str) -> float:
        if self.int8:
            return INT8_TOLERANCE
        return OURS_TOLERANCE if name == OURS else TOLERANCE

    def time(self, key: Key, wall: bool = False) -> float | None:
        """Milliseconds per call of one that ran and agrees with the reference."""
        timing = self.timings.get(key)
        if timing is None or not self.agrees(key):
            return None
        return timing.wall_ms if wall else timing.median_ms

    def best_peer(self, threads: int, wall: bool = False) -> str | None:
        times = {name: self.time((name, threads), wall) for name in PEERS}
        ran = {name: t for name, t in times.items() if t is not None}
        return min(ran, key=ran.__getitem__, default=None)

    def ratio(self, peer: str | None, threads: int, wall: bool = False) -> float | None:
        """Our time over the peer's; None unless both ran and agree with the reference."""
        if peer is None:
            return None
        mine, its = self.time((OURS, threads), wall), self.time((peer, threads), wall)
        return mine / its if mine is not None and its else None


@dataclass(frozen=True)
class Entry:
    """A contestant's model: its address, its folder of files, what of it is weights in bytes; `alone` as in Row."""

    url: str
    place: Path
    weights: int
    alone: bool = False


def run_model(model: Path, setup: Setup) -> Row:
    """The row of one model. A failing contestant is reported in the row; only a broken model raises WorkerError."""
    row = Row(model.stem, model_cost(model).flops, int8=setup.int8, loads=setup.loads, stamp=setup.stamp)
    row.load = busy_cores()
    entries, inputs = prepare(model, setup, row)
    work = _work(model, setup)
    places = {f"model-{name}": entry.place for name, entry in entries.items()}
    places |= {"bench": HERE, "npm": setup.modules, "site": setup.cache / "web" / "site", "run": work}
    row.weights = {name: entry.weights for name, entry in entries.items()}
    row.alone = OURS in entries and entries[OURS].alone
    expected = reference(model, inputs)
    with serve(places) as address, Browser(setup.chromium, setup.modules) as browser:
        heat = _Heat(model, browser, address, _write_inputs(inputs, work), entries, setup, row)
        for threads in THREADS:
            files = heat.run(threads, expected)
            if threads == 1:
                for name, urls in files.items():
                    loaded = [file for url in urls if (file := place_of(url, places))]
                    row.code[name] = code_size(loaded, setup.cache / "web" / "sizes.json")
    row.load = max(row.load, busy_cores())
    return row


def _work(model: Path, setup: Setup) -> Path:
    folder = (setup.cache / "web" / "runs" / model.stem).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def prepare(model: Path, setup: Setup, row: Row) -> tuple[dict[str, Entry], dict[str, Array]]:
    """Each contestant's form of the model, and the inputs; why a contestant has none is said in the row."""
    entries: dict[str, Entry] = {}

    def enter(name: str, make: Callable[[], Entry]) -> None:
        try:
            entries[name] = make()
        except WorkerError as e:
            row.failed.update({(name, threads): str(e) for threads in THREADS})

    enter(OURS, lambda: build_ours(model, setup))
    inputs = contest.write_inputs(model, entries[OURS].place if OURS in entries else None,
                                  _work(model, setup) / "inputs.npz")  # fmt: skip
    for name in setup.peers:
        if not setup.int8 or takes_part(name, model):
            enter(name, partial(convert, name, model, inputs, setup))
    return entries, inputs


def build_ours(model: Path, setup: Setup) -> Entry:
    """Builds a bundle for wasm and two threads as a user does, or takes the one of this model that is there, if
    `reuse`. Raises WorkerError if the build fails."""
    folder = (setup.cache / "web" / "bundles" / model.stem).resolve()
    if not (setup.reuse and built_from(folder) == sha256_of(model)):
        folder.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "dlpack.cli", "build", str(model), "--target", "wasm", "-o", str(folder)]
        command += ["--threads", str(max(THREADS))]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        if process.returncode:
            lines = (process.stderr.strip() or process.stdout.strip()).splitlines()
            raise WorkerError(f"dlpack build, exit code {process.returncode}: {' '.join(lines[-3:])}")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    alone = "wasm_threads" not in manifest
    return Entry(f"/model-{OURS}/", folder, manifest.get("weights", {}).get("bytes", 0), alone)


def convert(name: str, model: Path, inputs: Mapping[str, Array], setup: Setup) -> Entry:
    """A peer's model. Raises WorkerError where it cannot be converted."""
    if name == "litert":
        narrow = any(value.dtype == np.int64 for value in inputs.values())
        native = LITERT_INT32.name if narrow else "litert"
        if native not in setup.native.pythons:
            raise WorkerError("there is nothing to convert the model with: litert-torch is not installed")
        model = contest.convert(native, model, setup.native)
    return Entry(f"/model-{name}/{model.name}", model.resolve().parent, model.stat().st_size)


def _write_inputs(inputs: Mapping[str, Array], folder: Path) -> list[dict[str, Any]]:
    """Each input as a file of raw bytes in the folder that is served as /run; what the page learns of it."""
    told = []
    for k, (name, value) in enumerate(inputs.items()):
        (folder / str(k)).write_bytes(np.ascontiguousarray(value).tobytes())
        told.append({"name": name, "dtype": value.dtype.name, "shape": list(value.shape), "url": f"/run/{k}"})
    return told


class _Heat:
    """The contestants of one model in one browser; what fails goes into the row, and the others go on."""

    def __init__(
        self, model: Path, browser: Browser, address: str, inputs: list[dict[str, Any]],
        entries: Mapping[str, Entry], setup: Setup, row: Row,
    ) -> None:  # fmt: skip
        self._browser, self._address, self._inputs = browser, address, inputs
        self._entries, self._setup, self._row = entries, setup, row
        self._model, self._opened = model, 0

    def run(self, threads: int, expected: Mapping[str, Array]) -> dict[str, list[str]]:
        """Starts, races and closes the contestants; gives the addresses that each of them loaded."""
        names = list(self._entries)
        files: dict[str, list[str]] = {}
        pages: dict[str, Page] = {}
        starts: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        loads = self._setup.loads if threads == 1 else 1
        for load in range(loads):
            for name in self._live(names, threads):
                with self._told((name, threads)):
                    page, start = self._start(name, threads)
                    starts[name].append(start)
                    files[name] = start["files"]
                    if load == loads - 1:
                        pages[name] = page
                    else:
                        page.close()
        if threads == 1:
            for name in pages:
                medians = (
                    statistics.median(s[k] for s in starts[name]) for k in ("instantiate", "load", "ready", "first")
                )
                self._row.starts[name] = Start(*medians)
        self._race(pages, threads)
        for name in self._live(list(pages), threads):
            with self._told((name, threads)):
                self._row.errors[name, threads] = largest_error(decoded(pages[name].call("outputs")), expected)
                if name == OURS and threads == 1 and self._setup.profile:
                    self._row.kernels = self._profile(pages[name])
        for page in pages.values():
            with contextlib.suppress(WorkerError):
                page.close()
        return files

    def _live(self, names: list[str], threads: int) -> list[str]:
        return [name for name in names if (name, threads) not in self._row.failed]

    @contextlib.contextmanager
    def _told(self, key: Key) -> Iterator[None]:
        try:
            yield
        except WorkerError as e:
            self._row.failed[key] = str(e)

    def _start(self, name: str, threads: int) -> tuple[Page, dict[str, Any]]:
        self._opened += 1
        page = self._browser.open(f"page {self._opened}", f"{self._address}/bench/page.html")
        setup = {"contestant": name, "model": self._entries[name].url, "threads": threads, "inputs": self._inputs}
        try:
            return page, page.call("start", setup)
        except WorkerError:
            with contextlib.suppress(WorkerError):
                page.close()
            raise

    def _race(self, pages: Mapping[str, Page], threads: int) -> None:
        """Rounds in turn, A B C, A B C, ...; the first of each does not count."""
        calls: dict[str, int] = {}
        for name, page in pages.items():
            with self._told((name, threads)):
                calls[name] = max(1, round(ROUND_MS / max(page.call("warmUp", WARM_UP_MS), 1e-4)))
        samples: dict[str, list[dict[str, float]]] = {name: [] for name in calls}
        for number in range(self._setup.rounds + 1):
            for name in self._live(list(samples), threads):
                with self._told((name, threads)):
                    sample = pages[name].round(calls[name])
                    if number:
                        samples[name].append(sample)
        for name in self._live(list(samples), threads):
            self._row.timings[name, threads] = summarise(samples[name], "cpu_ms", calls[name])

    def _profile(self, page: Page) -> list[KernelTime]:
        """Each kernel's time beside that of its multiply-adds at the ceiling, slowest first."""
        times: dict[str, list[float]] = {}
        for name, us in page.call("profile", WARM_UP_MS):
            times.setdefault(name, []).append(us)
        total = sum(map(sum, times.values()))
        rows: list[dict[str, Any]] = [
            {"name": name, "calls": len(us), "us": sum(us), "share": sum(us) / total if total else 0.0}
            for name, us in sorted(times.items(), key=lambda item: -sum(item[1]))
        ]
        from dlpack.bundle.loader import read_kernels, read_manifest

        bundle = self._entries[OURS].place
        weights = Initializers(onnx.load(str(self._model), load_external_data=False))
        ceilings = Ceilings(self._setup.stamp.ceiling if self._setup.stamp else math.inf, {1: math.inf}, 128)
        return kernel_times(rows, read_manifest(bundle), read_kernels(bundle), weights, ceilings)


def decoded(outputs: Mapping[str, Mapping[str, str]]) -> dict[str, Array]:
    """What page.mjs gives as {name: {dtype, base64}}, flat arrays."""
    return {name: np.frombuffer(base64.b64decode(o["base64"]), o["dtype"]) for name, o in outputs.items()}
