"""Everything that a machine with a GPU is asked for, what matters most first; each row is kept as it comes."""

from __future__ import annotations

import json
import os
import platform
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dlpack
from bench.gpu.kernels import calibration

SANITIZED = ("lenet5", "mlp", "lstm", "bert_2x128")
TOOLS = ("memcheck", "racecheck")
PATIENCE_S = 90.0
"""How long a row may take."""

Row = dict[str, Any]
Tell = Callable[[str], None]


def machine() -> dict[str, str]:
    """The GPU, its driver, and the processor, in words."""
    told = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
    query = ["nvidia-smi", "--query-gpu=name,driver_version,clocks.max.sm", "--format=csv,noheader"]
    try:
        line = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()[0]
        told |= dict(zip(("gpu", "driver", "clock"), (part.strip() for part in line.split(",")), strict=True))
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        told["gpu"] = "unknown: nvidia-smi does not run"
    return told


def rows_of(
    kind: str, paths: Sequence[Path], end: float, around: Sequence[str] = (), patience: float = PATIENCE_S
) -> Iterator[tuple[Path, Row]]:
    """A row for each path, computed by processes of `worker.py`, the next one where one dies or says nothing for
    `patience` seconds. None begins after `end` (of time.monotonic). `around`: the command that workers run under."""
    left = list(paths)
    while left:
        if time.monotonic() > end:
            yield from ((path, {"problem": "not measured: the time was up"}) for path in left)
            return
        command = [*around, sys.executable, "-m", "bench.gpu.worker", kind, *map(str, left)]
        with tempfile.TemporaryFile() as errors, _started(command, errors) as process:
            lines = _lines_of(process)
            while left and time.monotonic() < end:
                wait = min(patience, max(1.0, end - time.monotonic()))
                try:
                    line = lines.get(timeout=wait)
                except queue.Empty:
                    yield left.pop(0), {"problem": f"no result within {wait:.0f} s"}
                    break
                if line is None:
                    process.wait()
                    if process.returncode != _LOST:
                        errors.seek(0)
                        last = errors.read()[-400:].decode(errors="replace")
                        yield left.pop(0), {"problem": f"the process ended with {process.returncode}: {last}"}
                    break
                yield left.pop(0), json.loads(line)
            process.kill()


_LOST = 3
"""What a worker ends with after a row that says why."""


def _started(command: Sequence[str], errors: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)


def _lines_of(process: subprocess.Popen[str]) -> queue.Queue[str | None]:
    """The lines with rows that a process prints, as they come; None at its end."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):  # peers talk, and so do tools around them
                lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    return lines


def sanitized(bundle: Path, tool: str, end: float) -> str:
    """What compute-sanitizer says of one run: "" where it finds nothing."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        return "compute-sanitizer is not installed"
    with tempfile.NamedTemporaryFile("r") as log:
        around = [program, "--tool", tool, "--log-file", log.name]
        ((_, row),) = rows_of("once", [bundle], end, around)
        said = [line for line in log.read().splitlines() if line.strip(" =")]
    clean = any("ERROR SUMMARY: 0 errors" in line or "0 hazards" in line for line in said)
    if clean and "problem" not in row:
        return ""
    return "\n".join([*said[-6:], *([row["problem"]] if "problem" in row else [])])


def measure_all(folder: Path, minutes: float, tell: Tell, keep: Callable[[Mapping[str, Any]], None]) -> Row:
    """What `folder` has: bundles, files of tests and of kernels. `keep` gets what is known after each row."""
    end = time.monotonic() + 60 * minutes
    bundles = sorted(path.parent for path in folder.glob("*/manifest.json"))
    rows: dict[str, Row] = {bundle.name: {} for bundle in bundles}
    cases: dict[str, Row] = {}
    kernels: dict[str, Row] = {}
    found: Row = {"machine": machine(), "dlpack": dlpack.__version__, "rows": rows, "cases": cases, "kernels": kernels}

    def take(kind: str, paths: Sequence[Path], put: Callable[[Path, Row], None]) -> None:
        for path, row in rows_of(kind, paths, end):
            put(path, row)
            if kind != "cases" or not row.get("right"):
                brief = {key: value for key, value in row.items() if key != "kernels"}
                tell(f"{path.stem if path.is_file() else path.name}: {kind} {json.dumps(brief)}")
            keep(found)

    take("bundles", bundles, lambda path, row: rows[path.name].update({"right": False, **row}))
    take("cases", sorted(folder.glob("cases/*.npz")), lambda p, row: cases.update({p.stem: {"right": False, **row}}))
    take("kernels", sorted(folder.glob("kernels/*.npz")), lambda path, row: kernels.update({path.stem: row}))
    found["calibration"] = calibration(list(kernels.values()))
    take("pytorch", bundles, lambda path, row: rows[path.name].update(pytorch=row))
    for bundle in bundles:
        for tool in TOOLS if bundle.name in SANITIZED else ():
            if time.monotonic() < end:
                rows[bundle.name][tool] = sanitized(bundle, tool, end)
                tell(f"{bundle.name}: {tool} {rows[bundle.name][tool] or 'finds nothing'}")
                keep(found)
    take("onnxruntime", bundles, lambda path, row: rows[path.name].update(onnxruntime=row))
    take("compiled", bundles, lambda path, row: rows[path.name].update(compiled=row))
    found["summary"] = summary(found)
    keep(found)
    return found


def summary(found: Mapping[str, Any]) -> Row:
    """How many bundles and tests are right, what is wrong, and of the rows with a peer the time over the best peer's
    from memory of the GPU at batch 1: the geometric mean, and the rows above 1."""
    from math import exp, log

    rows, cases = found["rows"], found["cases"]
    ratios = {}
    for name, row in rows.items():
        peers = [t for t in (row.get("pytorch", {}).get("graph_s"), row.get("compiled", {}).get("s")) if t]
        if peers and row.get("device_s") and not name.endswith("_8"):
            ratios[name] = row["device_s"] / min(peers)
    mean = exp(sum(map(log, ratios.values())) / len(ratios)) if ratios else None
    return {
        "right": sum(row["right"] for row in rows.values()),
        "wrong": sorted(name for name, row in rows.items() if not row["right"]),
        "cases_right": sum(row["right"] for row in cases.values()),
        "cases_wrong": sorted(name for name, row in cases.items() if not row["right"]),
        "over_best_peer": {name: round(ratio, 3) for name, ratio in ratios.items()},
        "geometric_mean": mean and round(mean, 3),
    }
