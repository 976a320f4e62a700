"""One row of the benchmark: builds our bundle, converts for the peers, races them, compares what they compute."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from bench.kinds import NATIVE, V3, Kind
from bench.peers import CONTESTANTS, OURS, PEERS, Array
from bench.profile import Cost, KernelTime, model_cost
from bench.rounds import ROOT, Timing, WorkerError, ask_once, race, worker_command

TOLERANCE = 5e-3
"""Largest error of a peer, as a part of the output's largest value, that still counts as the same function: MNN's
transforms and GELU are out by up to 2e-3, and what is wrong is wrong by more. (Ours must reach 1e-4 to be built.)"""

INT8_TOLERANCE = 0.05
"""The same of integer networks: runtimes round after each layer, and not all at the same places."""


@dataclass(frozen=True)
class Setup:
    """`pythons`: the interpreter of each contestant that takes part; `known`: its versions and the runtime's bytes."""

    cache: Path
    pythons: Mapping[str, str]
    known: Mapping[str, dict[str, Any]]
    rounds: int = 30
    kind: Kind = NATIVE
    reuse: bool = False


@dataclass(frozen=True)
class Bundle:
    """Our build: seconds of `dlpack build`, the model's part of the compiler's cache being empty; and bytes."""

    build_s: float
    library: int
    weights: int
    arena: int
    lower_bound: int


@dataclass
class Row:
    """The benchmark's results for one model. By contestant: `timings`, peak `memory` in bytes, `errors`, why it
    `failed`, and `loads`: milliseconds of CPU time from the model's file to a session with bound inputs. `file`: bytes
    of the ONNX file; `base`: of our process before the model is loaded."""

    model: str
    cost: Cost
    file: int = 0
    base: int = 0
    bundle: Bundle | None = None
    timings: dict[str, Timing] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    kernels: list[KernelTime] = field(default_factory=list)
    loads: dict[str, float] = field(default_factory=dict)
    tolerance: float = TOLERANCE

    def agrees(self, name: str) -> bool:
        return self.errors.get(name, np.inf) <= self.tolerance

    def best_peer(self) -> str | None:
        """The fastest peer that computes the model."""
        fit = [name for name in PEERS if name in self.timings and self.agrees(name)]
        return min(fit, key=lambda name: self.timings[name].median_ms, default=None)

    def ratio(self, peer: str | None) -> float | None:
        """Our median over the peer's; None unless both ran and agree with the reference."""
        if peer is None or not all(name in self.timings and self.agrees(name) for name in (OURS.name, peer)):
            return None
        return self.timings[OURS.name].median_ms / self.timings[peer].median_ms


def probe(names: list[str], peer_python: str) -> tuple[dict[str, str], dict[str, dict[str, Any]], dict[str, str]]:
    """Which contestants are installed: their interpreters and versions, and why the others are not."""
    pythons, known, missing = {}, {}, {}
    for name in names:
        python = sys.executable if CONTESTANTS[name].host else peer_python
        try:
            known[name] = ask_once(worker_command(python, "probe", name))
            pythons[name] = python
        except WorkerError as e:
            missing[name] = str(e)
    return pythons, known, missing


def run_model(model: Path, setup: Setup) -> Row:
    """The row of one model. A failing contestant is reported in the row; only a broken model raises."""
    row = Row(model.stem, model_cost(model), model.stat().st_size)
    row.tolerance = INT8_TOLERANCE if setup.kind.int8 else TOLERANCE
    files, row.bundle, row.failed = prepare(model, setup)
    work = setup.cache / "runs" / model.stem
    work.mkdir(parents=True, exist_ok=True)
    inputs = write_inputs(model, files.get(OURS.name), work / "inputs.npz")
    threads = setup.kind.threads
    arguments = {n: (str(f), str(work / "inputs.npz"), str(work / f"{n}.npz"), str(threads)) for n, f in files.items()}
    commands = {n: [*_limits(n, setup), *worker_command(setup.pythons[n], "run", n, *a)] for n, a in arguments.items()}
    result = race(commands, setup.rounds, threads=threads)
    row.failed |= result.failed
    row.timings = result.timings
    row.loads = {name: end["load_ms"] for name, end in result.ends.items()}
    row.memory = {name: end["peak_bytes"] for name, end in result.ends.items()}
    row.base = result.ends.get(OURS.name, {}).get("base_bytes", 0)
    expected = reference(model, inputs)
    for name in result.timings:
        row.errors[name] = largest_error(_stored(work / f"{name}.npz"), expected)
    return row


def prepare(model: Path, setup: Setup) -> tuple[dict[str, Path], Bundle | None, dict[str, str]]:
    """Each contestant's form of the model, our build, and why contestants have none."""
    files: dict[str, Path] = {}
    failed: dict[str, str] = {}
    bundle = None
    for name in setup.pythons:
        try:
            if name == OURS.name:
                bundle = build_ours(model, setup)
                files[name] = bundle_folder(model, setup)
            else:
                files[name] = convert(name, model, setup)
                _limits(name, setup)
        except WorkerError as e:
            failed[name] = str(e)
    return files, bundle, failed


def _limits(name: str, setup: Setup) -> list[str]:
    """What a peer's command begins with, so that it keeps to the machine of the table."""
    if setup.kind.machine != V3 or name == OURS.name:
        return []
    folder = (setup.cache / "limited" / name).resolve()
    told, package = folder / "limited.json", CONTESTANTS[name].packages[0]
    state = {"package": package, "version": setup.known[name]["versions"][package]}
    if not told.is_file() or json.loads(told.read_text(encoding="utf-8")) != state:
        shutil.rmtree(folder, ignore_errors=True)
        command = [setup.pythons[name], "-m", "bench.limited", str(folder), package]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        told.write_text(json.dumps(state) + "\n", encoding="utf-8")
    return ["env", f"PYTHONPATH={folder}"]


def bundle_folder(model: Path, setup: Setup) -> Path:
    kind = setup.kind
    machine = f"-{kind.machine}" if kind.machine != "native" else ""
    threads = f"-{kind.threads}-threads" if kind.threads > 1 else ""
    return (setup.cache / "bundles" / f"{model.stem}{machine}{threads}").resolve()


def build_ours(model: Path, setup: Setup) -> Bundle:
    """Builds the bundle as a user does, or takes the one of this model that is there, if `reuse`. Raises WorkerError if
    the build fails."""
    folder = bundle_folder(model, setup)
    told = folder.with_name(f"{folder.name}.json")
    if not (setup.reuse and told.is_file() and built_from(folder) == sha256_of(model)):
        target, threads = setup.kind.machine, setup.kind.threads
        command = [sys.executable, "-m", "dlpack.cli", "build", str(model), "--target", target, "-o", str(folder)]
        command += ["--threads", str(threads)] if threads > 1 else []
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="dlpack-bench-") as fresh:
            environment = dict(os.environ, ZIG_LOCAL_CACHE_DIR=fresh)
            began = time.perf_counter()
            process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            took = time.perf_counter() - began
        if process.returncode:
            lines = (process.stderr.strip() or process.stdout.strip()).splitlines()
            raise WorkerError(f"dlpack build, exit code {process.returncode}: {' '.join(lines[-3:])}")
        told.write_text(json.dumps({"build_s": took}) + "\n", encoding="utf-8")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    side = manifest.get("weights", {}).get("bytes", 0)
    return Bundle(
        json.loads(told.read_text(encoding="utf-8"))["build_s"],
        (folder / manifest["library"]).stat().st_size,
        side,
        manifest["arena"]["bytes"],
        manifest["arena"]["lower_bound"],
    )


def built_from(folder: Path) -> str | None:
    """The SHA-256 of the bundle's model; None where there is no bundle."""
    manifest = folder / "manifest.json"
    return str(json.loads(manifest.read_text(encoding="utf-8"))["model_sha256"]) if manifest.is_file() else None


def sha256_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def convert(name: str, model: Path, setup: Setup) -> Path:
    """The model in the peer's format, kept in the cache as long as the model and the peer's versions stay the same."""
    if not shutil.which(setup.pythons[name]):
        raise WorkerError(f"{setup.pythons[name]} is no program")
    folder = (setup.cache / "peers" / name / model.stem).resolve()
    told = folder / "converted.json"
    state = {"model": sha256_of(model), "versions": setup.known[name]["versions"]}
    if told.is_file():
        before = json.loads(told.read_text(encoding="utf-8"))
        if before["state"] == state:
            return Path(before["file"])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    made = ask_once(worker_command(setup.pythons[name], "convert", name, str(model.resolve()), str(folder)))["file"]
    told.write_text(json.dumps({"state": state, "file": made}) + "\n", encoding="utf-8")
    return Path(made)


def write_inputs(model: Path, bundle: Path | None, file: Path) -> dict[str, Array]:
    """The model's inputs in its order: from NAME.npz beside it (`in_NAME`), else those our bundle was verified on."""
    graph = onnx.load(str(model), load_external_data=False).graph
    weights = {t.name for t in graph.initializer}
    names = [v.name for v in graph.input if v.name not in weights]
    beside = model.with_suffix(".npz")
    if beside.is_file():
        stored = _stored(beside, "in_")
        inputs = {name: stored[name] for name in names}
    elif bundle is not None:
        with np.load(bundle / "reference.npz") as kept:
            inputs = {name: kept[f"in_{k}"] for k, name in enumerate(names)}
    else:
        raise WorkerError(f"there are no inputs for {model.stem}: put them into {beside.name} beside it, as in_NAME")
    np.savez(file, **{f"in_{name}": value for name, value in inputs.items()})  # type: ignore[arg-type]
    return inputs


def reference(model: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """What onnxruntime computes without optimisations."""
    from dlpack.verify.reference import run_onnxruntime

    proto = onnx.load(str(model))
    return dict(zip([v.name for v in proto.graph.output], run_onnxruntime(proto, inputs), strict=True))


def largest_error(got: Mapping[str, Array], expected: Mapping[str, Array]) -> float:
    """The largest error over all outputs, as a part of each output's largest value. Outputs go by name, or by position
    where a peer has names of its own; peers without a batch dimension leave ones out of the shape."""
    from dlpack.verify.reference import compare

    if len(got) != len(expected):
        return float("inf")
    if set(got) == set(expected):
        got = {name: got[name] for name in expected}
    worst = 0.0
    for value, (name, want) in zip(got.values(), expected.items(), strict=True):
        if value.size != want.size:
            return float("inf")
        worst = max(worst, compare(name, value.reshape(want.shape).astype(want.dtype), want).relative)
    return worst


def _stored(file: Path, prefix: str = "out_") -> dict[str, Array]:
    with np.load(file) as arrays:
        return {key.removeprefix(prefix): arrays[key] for key in arrays.files if key.startswith(prefix)}
