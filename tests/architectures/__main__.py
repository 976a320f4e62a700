"""`script/models`: builds architectures of today in every way that they come, and writes docs/models.md.

Results are kept in build/models/results.json, so that a run may take some of them and a later one others.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from architectures import table
from architectures.work import WAYS, catalogue

HERE = Path(__file__).resolve().parent.parent
STORE = HERE.parent / "build" / "models" / "results.json"


class Worker:
    """A process that builds; it is started when it is needed, and again after its end."""

    def __init__(self, timed: bool, seconds: int) -> None:
        self.command = [sys.executable, "-m", "architectures.work", *(["--time"] if timed else [])]
        self.seconds = seconds
        self.process: subprocess.Popen[str] | None = None
        self.done = 0

    def build(self, name: str, way: str) -> dict[str, Any]:
        if self.process is None:
            log = open(STORE.parent / "log.txt", "a", encoding="utf-8")  # noqa: SIM115 - the process's
            self.process = subprocess.Popen(
                self.command, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
            log.close()
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{name} {way}\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], self.seconds)[0]:
            self.close()
            return {"outcome": "broken", "message": f"took more than {self.seconds} s"}
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.process = None
            return {"outcome": "broken", "message": f"the process ended with {code}"}
        self.done += 1
        if self.done % 80 == 0:  # what libraries keep adds up
            self.close()
        return dict(json.loads(line))

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def main() -> int:
    options = _options()
    names = [name for name in catalogue() if re.search(options.only, name)]
    if options.list:
        print("\n".join(names))
        return 0
    STORE.parent.mkdir(parents=True, exist_ok=True)
    if options.earlier:
        _write({name: {way: r | {"earlier": True} for way, r in ways.items()} for name, ways in _read().items()})
        return 0
    ways = options.way or list(WAYS)
    worker, began, count = Worker(options.time, options.seconds), time.monotonic(), 0
    jobs = [(name, way) for name in names for way in ways]
    if options.table:
        jobs = []
    for name, way in jobs:
        keras = catalogue()[name].family == "keras"
        known = _read().get(name, {}).get(way)
        if (keras and way in ("script", "export")) or (known and not _again(known, options.again)):
            continue
        if time.monotonic() - began > options.minutes * 60:
            break
        started = time.monotonic()
        result = worker.build(name, way)
        count += 1
        _note(name, way, result)
        told = result.get("message") or f"{result['error']:.1e}"
        print(f"{name} {way}: {result['outcome']}: {told} ({time.monotonic() - started:.0f} s)", flush=True)
    worker.close()
    results = _read()
    if not options.only or options.table:
        table.PATH.write_text(table.render(results, list(catalogue().values())), encoding="utf-8")
    return int(any(r["outcome"] in ("wrong", "broken") for ways_ in results.values() for r in ways_.values()))


def _note(name: str, way: str, result: dict[str, Any]) -> None:
    """Adds a result to the file, which another run may write too."""
    with open(STORE.with_suffix(".lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        results = _read()
        results.setdefault(name, {})[way] = result
        _write(results)


def _again(known: dict[str, Any], again: str) -> bool:
    failed = again == "failed" and known["outcome"] != "right"
    return again == "all" or failed or (again == "earlier" and "earlier" in known)


def _read() -> dict[str, Any]:
    return dict(json.loads(STORE.read_text(encoding="utf-8"))) if STORE.is_file() else {}


def _write(results: dict[str, Any]) -> None:
    STORE.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/models", description=__doc__)
    parser.add_argument("--only", metavar="REGEX", default="", help="only those whose name holds this")
    parser.add_argument("--way", choices=WAYS, action="append", help="only in this way; repeatable")
    parser.add_argument("--again", choices=("no", "failed", "earlier", "all"), default="no", help="what to do again")
    parser.add_argument("--earlier", action="store_true", help="mark what is known as of earlier code, and end")
    parser.add_argument("--time", action="store_true", help="compare the CPU time with onnxruntime's")
    parser.add_argument("--minutes", type=float, default=600, help="begin no other build after this")
    parser.add_argument("--seconds", type=int, default=300, help="what a build may take")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    parser.add_argument("--table", action="store_true", help="build nothing, write the page of what is known")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
