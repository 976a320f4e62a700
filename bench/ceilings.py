"""The machine: its name, how busy it is, and the ceilings of one core (see `dlpack.bundle.ceilings`)."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

from dlpack.bundle.ceilings import Ceilings, better, measure, parse
from dlpack.targets.toolchains.processor import facts_of, this_processor

__all__ = ["Ceilings", "better", "busy_cores", "facts", "machine", "measure", "parse"]

_TELLING_FLAGS = ("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile",
                  "avx_vnni", "asimd", "asimddp", "i8mm", "sve", "bf16")  # fmt: skip


def facts() -> dict[str, str]:
    """What the system says of a processor, by the keys of /proc/cpuinfo."""
    told = {"model name": platform.processor() or platform.machine(), "flags": ""}
    try:
        told |= facts_of(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines())
    except OSError:
        return told
    return told | ({"flags": told["Features"]} if "Features" in told else {})


def machine() -> list[tuple[str, str]]:
    """What the figures were measured on, as rows of a table."""
    told = facts()
    have = told["flags"].split()
    family = [told[key] for key in ("cpu family", "model", "stepping") if key in told]
    name = told["model name"] + (f" (family {', model '.join(family[:2])})" if len(family) > 1 else "")
    return [
        ("CPU", name),
        ("vector units", ", ".join(flag for flag in _TELLING_FLAGS if flag in have) or "unknown"),
        ("cores", str(os.cpu_count())),
        ("caches", str(this_processor().caches) or "unknown"),
        ("system", f"{platform.system()} {platform.release()}, {platform.machine()}"),
        ("Python", platform.python_version()),
    ]


def busy_cores(seconds: float = 2) -> float:
    """How many cores other programs kept busy while this one slept; 0 if the system does not report it."""

    def busy() -> tuple[int, int]:
        ticks = [int(t) for t in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
        return sum(ticks) - ticks[3] - ticks[4], sum(ticks)

    try:
        before, total = busy()
        time.sleep(seconds)
        after, end = busy()
    except (OSError, ValueError, IndexError):
        return 0.0
    return (after - before) / max(1, end - total) * (os.cpu_count() or 1)
