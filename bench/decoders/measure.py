"""Builds the decoders' bundles and files, and times the engines in rounds: A B C, A B C, ..."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import ceilings
from bench.ceilings import Ceilings
from bench.decoders.contestants import CONTESTANTS, OURS, OURS_IN_BYTES
from bench.decoders.model import FORMS, Sizes, make_folder
from bench.decoders.results import Row
from bench.rounds import ROOT, WorkerError, ask_once, clock, in_turn


@dataclass(frozen=True)
class Setup:
    """`pythons`: of the engines that take part; `cache`: for models and bundles."""

    cache: Path
    sizes: Sizes
    pythons: Mapping[str, str]
    rounds: int
    reuse: bool


def probe(peer_python: str) -> tuple[dict[str, str], dict[str, str]]:
    """The versions of the engines that are installed, and why the others do not take part."""
    known, missing = {OURS: "", OURS_IN_BYTES: ""}, {}
    for name, contestant in CONTESTANTS.items():
        if contestant.host:
            continue
        try:
            known[name] = str(ask_once([peer_python, "-m", "bench.decoders.worker", name])["version"])
        except WorkerError:
            missing[name] = f"not installed: pip install {contestant.package}"
    return known, missing


def prepare(form: str, setup: Setup) -> Path:
    """The folder of a form of weights, with every engine's files; raises WorkerError where they cannot be made."""
    folder = setup.cache / "decoders" / form
    model = make_folder(setup.sizes, form, folder)
    file = folder / "model.gguf"
    if "llamacpp" in setup.pythons and (not file.is_file() or file.stat().st_mtime < model.stat().st_mtime):
        _run([setup.pythons["llamacpp"], "-m", "bench.decoders.model", str(folder), form])
    for bundle, *more in [("native",), *([("native-int8", "--arithmetic", "int8")] if FORMS[form] else [])]:
        if not (setup.reuse and (folder / bundle / "manifest.json").is_file()):
            build(model, folder / bundle, "native", setup.sizes, *more)
    return folder


def build(model: Path, bundle: Path, target: str, sizes: Sizes, *more: str) -> None:
    """Our bundle, for two threads at most; `more` are further options."""
    command = [sys.executable, "-m", "dlpack.cli", "build", str(model), "-o", str(bundle), "--target", target]
    _run([*command, "--context", str(sizes.context), "--threads", "2", *more])


def _run(command: Sequence[str]) -> None:
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if process.returncode:
        lines = (process.stderr.strip() or process.stdout.strip() or "no message").splitlines()
        raise WorkerError(f"exit code {process.returncode}: {' '.join(lines[-3:])}")


def race(form: str, threads: int, folder: Path, setup: Setup) -> list[Row]:
    """Times the engines with one form of weights, a process each; one that is not in turn is stopped."""
    commands = {
        name: [python, "-m", "bench.decoders.worker", name, str(folder), str(threads)]
        for name, python in setup.pythons.items()
    }
    told = in_turn(commands, setup.rounds, threads=threads)
    failed, ends, key = told.failed, told.ends, clock(threads)
    ours = _scores(folder, OURS, threads) if OURS in ends else None
    rows = []
    for name in setup.pythons:
        if name in failed:
            rows.append(Row(name, form, threads, failed=failed[name]))
            continue
        error = None if ours is None else difference(_scores(folder, name, threads), ours)
        same = None if ours is None else agreeing(ends[name]["tokens"], ends[OURS]["tokens"])
        times = summarised([{what: t[key] for what, t in s["times"].items()} for s in told.rounds[name]])
        rows.append(Row(name, form, threads, times, error, same, ends[name]["peak_bytes"]))
    return rows


def summarised(samples: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """The median and the fastest of each measurement."""
    return {what: (statistics.median(s[what] for s in samples), min(s[what] for s in samples)) for what in samples[0]}


def _scores(folder: Path, engine: str, threads: int) -> Any:
    return np.load(folder / f"scores-{engine}-{threads}.npy")


def difference(scores: Any, ours: Any) -> float:
    """The largest difference from our scores, by the largest of them."""
    return float(np.abs(scores - ours).max() / np.abs(ours).max())


def agreeing(tokens: Sequence[int], ours: Sequence[int]) -> int:
    """How many tokens are ours, from the first on."""
    return next((k for k, (a, b) in enumerate(zip(tokens, ours, strict=False)) if a != b), len(ours))


def bandwidth(cache: Path, threads: Sequence[int]) -> tuple[Ceilings, dict[int, float]]:
    """The ceilings of one core, and GB/s from memory by threads: the sum of programs that read at the same time."""
    one = ceilings.measure(cache)
    rates = {}
    for count in threads:
        program = [str(cache / "ceilings")]
        readers = [subprocess.Popen(program, stdout=subprocess.PIPE, text=True) for _ in range(count)]
        rates[count] = sum(ceilings.parse(reader.communicate()[0]).memory for reader in readers)
    rates[1] = max(one.memory, rates.get(1, 0))
    return one, rates


def told(sizes: Sizes) -> dict[str, int]:
    """A decoder's sizes as a page tells them."""
    return json.loads(json.dumps(asdict(sizes))) | {"parameters": sizes.parameters()}
