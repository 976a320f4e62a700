"""`script/models`: builds architectures of today in every way that they come, and writes docs/models.md.

Results are kept in build/models/results.json, so that a run may take some of them and a later one others.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import re
import sys
import time
from typing import Any

from architectures import table
from architectures.work import WAYS, catalogue
from architectures.worker import HERE, Worker

STORE = HERE.parent / "build" / "models" / "results.json"


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
    timed = ["--time"] if options.time else []
    worker = Worker("architectures.work", STORE.parent / "log.txt", options.seconds, *timed)
    began = time.monotonic()
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
        result = worker.ask(f"{name} {way}")
        if "failed" in result:
            result = {"outcome": "broken", "message": result["failed"]}
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
