"""`script/models --times`: our CPU time beside onnxruntime's on architectures of today, one thread each.

Every architecture is exported, built for this machine, verified and timed, and its files are deleted. Results are kept
in bench/results/architectures, so that a run goes on where an earlier one ended, and docs/benchmarks-architectures.md
is written from them.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from architectures import times_page
from architectures.sized import catalogue
from architectures.worker import Worker
from bench import ceilings, contest, machines
from bench.peers import OURS
from bench.revision import revision
from bench.rounds import Timing, WorkerError, race, worker_command

SCRATCH = times_page.ROOT / "build" / "models" / "times"
THEIRS = "onnxruntime"
CONTEST_MS = 1000
"""For about this long each of the two computes."""
ROUND_MS = 20
MACS_PER_MS = 3e7
"""A guess from which the number of rounds follows."""
DIFFERENT = 1e-3
"""Part of an output's largest value by which a result may differ from onnxruntime's optimised one."""


def main() -> int:
    options = _options()
    names = [name for name in catalogue() if re.search(options.only, name)]
    if options.list:
        print("\n".join(names))
        return 0
    if not options.page:
        _measure(names, options)
    times_page.write()
    return 0


def _measure(names: list[str], options: argparse.Namespace) -> None:
    SCRATCH.mkdir(parents=True, exist_ok=True)
    title = machines.title_of(ceilings.facts())
    path = times_page.FOLDER / f"{machines.stem_of(title)}.json"
    worker = Worker("architectures.prepare", SCRATCH / "log.txt", options.seconds, lives=20)
    began = time.monotonic()
    try:
        for name in names:
            known = times_page.read(path).get("rows", {}).get(name)
            if known and (options.again == "no" or (options.again == "failed" and "ratio" in known)):
                continue
            if time.monotonic() - began > options.minutes * 60:
                break
            row = _row(name, worker, options)
            times_page.keep(path, title, name, row)
            print(f"{name}: {row.get('ratio', row.get('failed', 'prepared'))}", flush=True)
    finally:
        worker.close()


def _row(name: str, worker: Worker, options: argparse.Namespace) -> dict[str, Any]:
    """What was measured of an architecture, or `failed`: why nothing was."""
    folder = SCRATCH / re.sub(r"\W+", "-", name)
    told: dict[str, Any] = {"family": catalogue()[name].family}
    try:
        ready = folder / "ready.json"
        if not ready.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            built = worker.ask(f"{folder} {name}")
            if "failed" in built:
                return told | built
            ready.write_text(json.dumps(built), encoding="utf-8")
        told |= json.loads(ready.read_text(encoding="utf-8"))
        return told | _times(folder, told["macs"])
    except WorkerError as e:
        return told | {"failed": str(e)}
    finally:
        if not options.files:
            shutil.rmtree(folder, ignore_errors=True)


def _times(folder: Path, macs: int) -> dict[str, Any]:
    """Both in turns, each in a process of its own. Milliseconds of CPU time; the ratio is that of the fastest rounds,
    which other programs disturb the least."""
    model, inputs = folder / "model.onnx", folder / "inputs.npz"
    contest.write_inputs(model, folder / "bundle", inputs)
    load = ceilings.busy_cores(0.5)
    files = {OURS.name: folder / "bundle", THEIRS: model}
    outputs = {name: folder / f"{name}.npz" for name in files}
    commands = {
        name: worker_command(sys.executable, "run", name, str(file), str(inputs), str(outputs[name]), "1")
        for name, file in files.items()
    }
    result = race(commands, int(min(40, max(7, CONTEST_MS / max(ROUND_MS, macs / MACS_PER_MS)))), 120)
    for name, why in result.failed.items():
        raise WorkerError(f"{name}: {why}")
    with np.load(outputs[OURS.name]) as got, np.load(outputs[THEIRS]) as expected:
        error = contest.largest_error(dict(got), dict(expected))
    ours, theirs = result.timings[OURS.name], result.timings[THEIRS]
    if error > DIFFERENT:
        return {"failed": f"differs from onnxruntime by {error:.1e} of the largest value"}
    return {
        "ours": _of(ours), "theirs": _of(theirs), "ratio": round(ours.minimum_ms / theirs.minimum_ms, 3),
        "of_medians": round(ours.median_ms / theirs.median_ms, 3), "error": error, "load": round(load, 1),
        "date": time.strftime("%Y-%m-%d"), "tree": revision(),
    }  # fmt: skip


def _of(timing: Timing) -> float:
    return float(f"{timing.minimum_ms:.4g}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/models --times", description=__doc__)
    parser.add_argument("--only", metavar="REGEX", default="", help="only those whose name holds this")
    parser.add_argument("--again", choices=("no", "failed", "all"), default="no", help="what to do again")
    parser.add_argument("--minutes", type=float, default=600, help="begin no other architecture after this")
    parser.add_argument("--seconds", type=int, default=300, help="what an export and its build may take")
    parser.add_argument("--files", action="store_true", help="keep the files in build/models/times, and use them")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page of what is known")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
