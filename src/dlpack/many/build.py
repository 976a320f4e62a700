"""Builds what a file of models asks for, where it changed, and reports what became of each bundle."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from dlpack.errors import UsageError, did_you_mean
from dlpack.many.clusters import ENGINES
from dlpack.many.contents import Record, host_key
from dlpack.many.jobs import Bundle, read_jobs
from dlpack.many.tasks import Outcome, tasks_of


@dataclass(frozen=True)
class Row:
    """A bundle and what became of it: "built", "unchanged" or "failed", the last with an error and its exit code."""

    bundle: Bundle
    status: str
    seconds: float = 0.0
    error: str = ""
    exit_code: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What became of all bundles, in the order of the file, and the seconds that it took."""

    rows: tuple[Row, ...]
    seconds: float

    def count(self, status: str) -> int:
        return sum(row.status == status for row in self.rows)

    @property
    def exit_code(self) -> int:
        """0, or that of the first bundle that failed."""
        return next((row.exit_code for row in self.rows if row.status == "failed"), 0)


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def build_all(
    path: str | Path,
    *,
    jobs: int = 0,
    engine: str = "processes",
    address: str | None = None,
    only: Iterable[str] = (),
    again: bool = False,
    on_row: Callable[[Row, int, int], None] = lambda *_: None,
) -> Report:
    """Builds the bundles of a file of models (docs/build-all.md).

    `jobs` builds run at a time (0: one per processor, on a cluster as many as it has room for); `only` names models;
    `again` builds what has not changed too. `on_row(row, n, of)` is called as soon as a bundle is the n-th whose fate
    is known. A model that fails does not end the others. Raises UsageError for a file that cannot be read.
    """
    began = time.perf_counter()
    if engine not in ENGINES:
        raise UsageError(f"unknown engine {engine!r}; known are: {', '.join(ENGINES)}{did_you_mean(engine, ENGINES)}")
    found = read_jobs(Path(path), only)
    record = Record(found.output, found.root)
    rows: dict[int, Row] = {}

    def enter(number: int, row: Row) -> None:
        rows[number] = row
        on_row(row, len(rows), len(found.bundles))

    for number, bundle in enumerate(found.bundles):
        if not again and record.is_current(bundle):
            enter(number, Row(bundle, "unchanged"))
    changed = [(number, bundle) for number, bundle in enumerate(found.bundles) if number not in rows]
    if changed:
        record.forget(bundle for _, bundle in changed)
        at_once = jobs or (processors() if engine == "processes" else 0)
        tasks = tasks_of(changed, found.root, at_once or len(changed))
        if engine != "processes":  # another machine has to see the same files
            tasks = [replace(task, files=record.stated(task.bundles[0]), host=host_key()) for task in tasks]
        stated = {number: record.stated(bundle) for number, bundle in changed}
        with closing(ENGINES[engine](tasks, at_once, address)) as outcomes:
            for outcome in outcomes:
                bundle = found.bundles[outcome.number]
                enter(outcome.number, row := _row(bundle, outcome))
                if row.status == "built":
                    record.add(bundle, {**outcome.files, **stated[outcome.number]})
    return Report(tuple(rows[number] for number in sorted(rows)), time.perf_counter() - began)


def _row(bundle: Bundle, outcome: Outcome) -> Row:
    error, code = outcome.error, outcome.exit_code
    if not error and not (bundle.folder / "manifest.json").is_file():
        error, code = f"it was built on another machine, and {bundle.folder} is not there: the output must be shared", 2
    status = "failed" if error else "built"
    return Row(bundle, status, outcome.seconds, error, code, outcome.warnings)
