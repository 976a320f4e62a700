"""Mutates model files and builds them: ``script/fuzz --count 20000 [--format NAME ...]``.

With ``--operators`` small graphs of every operator and element type are compiled and compared instead (`operators.py`),
with ``--interface`` the C API of bundles is called in any order with any arguments (`interface.py`).

Each mutation must end in a clear error or in a verified build: no crash, no other exception, no more than 10 s of CPU
time, no more than 4 GiB, no file outside the output folder. Mutation k of a seed is the same on every machine:
``--seed S --first K --count 1`` repeats it. A line per format says what came of it; findings are printed as they come,
and end in exit code 1.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from fuzz.formats import FORMATS
from fuzz.worker import Plan, State, prepare, work

BATCH = 1000
"""Mutations after which a fresh process goes on, so that what libraries keep does not add up."""

WALL_S = 120.0
"""What a mutation may take by the clock: the limit of CPU time does not see one that waits."""

MEMORY_FOLDER = "/dev/shm" if os.path.isdir("/dev/shm") else None
"""Where files are made: in memory, where that is a folder."""

SLOW = {"torchscript": 0.01, "torch_export": 0.01, "keras_archive": 0.02, "keras_hdf5": 0.02, "saved_model": 0.05,
        "frozen_graph": 0.05}  # fmt: skip
"""The share of mutations that are converted where torch.onnx or tf2onnx takes a tenth of a second or more."""


APART = ("keras_archive", "keras_hdf5", "saved_model", "frozen_graph", "skops_file")
"""Formats that dlpack first reads in a process of its own, whose end is an error; here that is this process."""


@dataclass
class Report:
    outcomes: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, 0)
    largest: tuple[int, int] = (0, 0)


def fuzz(plan: Plan, first: int) -> Report:
    """Mutations `first` to `plan.count` in forked processes, one at a time."""
    prepare(plan.format)
    report, k = Report(), first
    while k < plan.count:
        k = _batch(plan, k, report)
        print(f"{plan.format}: {k:,} of {plan.count:,}", file=sys.stderr, flush=True)
    return report


def _batch(plan: Plan, first: int, report: Report) -> int:
    """Up to `BATCH` mutations in one process; the number of the next."""
    with tempfile.TemporaryDirectory(prefix="dlpack-fuzz-", dir=MEMORY_FOLDER) as folder:
        reader, writer = os.pipe()
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _child(plan, range(first, min(first + BATCH, plan.count)), Path(folder).resolve(), writer)
        os.close(writer)
        current = first
        for line in _lines(reader, child):
            told = json.loads(line)
            current = told.get("begins", current)
            if "number" in told:
                _note(plan, told, report)
                current = told["number"] + 1
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            why = signal.Signals(-status).name if status < 0 else f"exit {status}"
            report.outcomes[why] += 1
            slow = why in ("SIGPROF", "SIGKILL")
            if slow or status > 0 or plan.format not in APART:
                _find(plan, current, report, f"ended by {why}{' (too slow)' if slow else ''}")
            current += 1
        return current


def _child(plan: Plan, numbers: range, folder: Path, writer: int) -> NoReturn:
    status = 1
    try:
        with os.fdopen(writer, "w", buffering=1) as out:
            work(plan, numbers, State(folder, numbers.start), lambda told: print(json.dumps(told), file=out))
        status = 0
    finally:
        os._exit(status)


def _lines(reader: int, child: int) -> Any:
    """What the process tells, line by line; ends it when it is silent for too long."""
    with os.fdopen(reader, "rb", buffering=0) as stream:
        rest = b""
        while True:
            if not select.select([stream], [], [], WALL_S)[0]:
                os.kill(child, signal.SIGKILL)
                return
            data = stream.read(1 << 16)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            yield from lines


def _note(plan: Plan, told: dict[str, Any], report: Report) -> None:
    k = told["number"]
    report.outcomes[told["outcome"]] += 1
    report.slowest = max(report.slowest, (told["seconds"], k))
    report.largest = max(report.largest, (told["peak"], k))
    if told["message"]:
        report.messages[re.sub(r"'[^']*'|\"[^\"]*\"|/\S+|[\d.]+", "#", told["message"])[:200]] += 1
    if told["finding"]:
        _find(plan, k, report, told["finding"])


def _find(plan: Plan, k: int, report: Report, what: str) -> None:
    report.findings.append(what)
    print(f"FOUND {plan.format}, seed {plan.seed}, mutation {k}: {what}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="script/fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1000, help="mutations of each format")
    parser.add_argument("--builds", type=int, help="how many of them are built at most (count / 100)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first mutation")
    parser.add_argument("--share", type=float, help="the share that slow converters get, 0 to 1")
    parser.add_argument("--format", choices=FORMATS, action="append", help="only these formats")
    parser.add_argument("--messages", type=int, default=0, help="show this many of the commonest error messages")
    parser.add_argument("--operators", action="store_true", help="random graphs of operators in place of damaged files")
    parser.add_argument("--machine", default="avx2", help="with --operators: whose vectors the code is written for")
    parser.add_argument("--interface", action="store_true", help="calls of bundles' C API in place of damaged files")
    parser.add_argument("--seconds", type=int, default=60, help="with --interface: how long for each bundle")
    given = parser.parse_args()
    if given.interface:
        from fuzz import interface

        return 1 if interface.fuzz(given.seconds, given.seed) else 0
    if given.operators:
        from fuzz import operators

        return 1 if operators.fuzz(given.count, given.seed, given.first, given.machine) else 0
    found = 0
    for name in given.format or FORMATS:
        began = time.monotonic()
        share = SLOW.get(name, 1.0) if given.share is None else given.share
        builds = max(1, given.count // 100) if given.builds is None else given.builds
        report = fuzz(Plan(name, given.seed, given.first + given.count, builds, share), given.first)
        found += len(report.findings)
        outcomes = ", ".join(f"{word} {n:,}" for word, n in report.outcomes.most_common())
        print(
            f"{name}: {outcomes}; longest {report.slowest[0]:.1f} s ({report.slowest[1]}), largest "
            f"{report.largest[0] >> 20} MiB ({report.largest[1]}), {len(report.findings)} findings, "
            f"{time.monotonic() - began:.0f} s",
            flush=True,
        )
        for text, times in report.messages.most_common(given.messages):
            print(f"  {times} x {text}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
