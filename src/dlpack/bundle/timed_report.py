"""The report of a bundle with the times of its kernels, beside what the machine allows."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlpack.bundle.ceilings import better, measure
from dlpack.bundle.plan_file import read_plan
from dlpack.bundle.read import read_kernels, read_manifest
from dlpack.bundle.report import write_report
from dlpack.errors import UsageError
from dlpack.targets import get_target


def write_timed_report(bundle: Path, times: Mapping[str, Any]) -> None:
    """Writes report.html again, with `times` as `bench_bundle` gives them.

    The machine's limits are measured for bundles that run in this process; without a compiler the report has none.
    Raises UsageError for a bundle that cannot be read or written.
    """
    manifest = read_manifest(bundle)
    threads = min(int(manifest.get("threads", 1)), os.cpu_count() or 1)
    found = dict(times)
    rounds = (times["shapes"][0] if "shapes" in times else times)["rounds"]
    found["about"] = f"{rounds} rounds, medians"
    if get_target(manifest["target"]).measure is None and (limits := _limits(threads, manifest)):
        found["limits"] = limits
        found["about"] += ", limits of " + ("one core" if threads == 1 else f"{threads} cores")
    try:
        write_report(Path(bundle), manifest, read_kernels(bundle), read_plan(bundle), found)
    except OSError as e:
        raise UsageError(f"cannot write {e.filename or bundle}: {e.strerror or e}") from e


def _limits(threads: int, manifest: Mapping[str, Any]) -> dict[str, float] | None:
    """GFLOP/s of so many cores, and GB/s at which one reads as much as the model has; the better of two samples."""
    size = manifest["weights_bytes"] + manifest["prepared_bytes"] + manifest["arena"]["bytes"]
    with tempfile.TemporaryDirectory(prefix="dlpack-") as folder:
        try:
            one = better(measure(Path(folder)), measure(Path(folder)))
        except (OSError, subprocess.CalledProcessError):
            return None
    return {"gflops": one.gflops * threads, "gbps": one.reading(size)}
