"""The machine: its name, and the measured ceilings of one core that times are held against."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("ceilings.c")

_TELLING_FLAGS = ("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile",
                  "avx_vnni", "asimd", "asimddp", "i8mm", "sve", "bf16")  # fmt: skip


@dataclass(frozen=True)
class Ceilings:
    """Of one core: `gflops` of fused multiply-adds, `gbps`: GB/s of reading by the working set's bytes, and its clock
    in `ghz` (0: not measured)."""

    gflops: float
    gbps: dict[int, float]
    vector_bits: int
    ghz: float = 0

    def reading(self, working_set: int) -> float:
        """GB/s at which data of this size is read again and again: the most that was measured at this size or above,
        for prefetchers do worse on short runs through the same cache."""
        return max((rate for size, rate in self.gbps.items() if size >= working_set), default=self.memory)

    @property
    def memory(self) -> float:
        """GB/s from memory: the largest working set."""
        return self.gbps[max(self.gbps)]

    def roofline_ms(self, flops: float, weights: int, all_weights: int, activations: int, arena: int) -> float:
        """The least time for so many operations on so many bytes.

        Weights come from where all the weights of the model fit, activations from where its arena does: a run goes
        through all of both before it comes back.
        """
        moved = weights / self.reading(all_weights + arena) + activations / self.reading(arena)
        return 1e-6 * max(flops / self.gflops, moved)


def measure(folder: Path) -> Ceilings:
    """Compiles and runs ceilings.c; raises OSError or CalledProcessError where that fails."""
    program = folder / "ceilings"
    command = [sys.executable, "-m", "ziglang", "cc", "-O2", "-march=native", "-ffp-contract=fast"]
    subprocess.run([*command, str(SOURCE), "-o", str(program)], check=True, capture_output=True, text=True)
    told = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    return parse(told)


def parse(text: str) -> Ceilings:
    """Reads what ceilings.c prints."""
    told = json.loads(text)
    rates = {int(size): rate for size, rate in told["gbps"].items()}
    return Ceilings(told["gflops"], rates, told["vector_bits"], told["ghz"])


def better(a: Ceilings, b: Ceilings) -> Ceilings:
    """The higher of two measurements, ceiling by ceiling."""
    rates = {s: max(r, b.gbps[s]) for s, r in a.gbps.items()}
    return Ceilings(max(a.gflops, b.gflops), rates, a.vector_bits, max(a.ghz, b.ghz))


def machine() -> list[tuple[str, str]]:
    """What the figures were measured on, as rows of a table."""
    facts = {"model name": platform.processor() or platform.machine(), "flags": ""}
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = (part.strip() for part in line.partition(":"))
            facts[{"Features": "flags"}.get(key, key)] = value
    except OSError:
        pass
    have = facts["flags"].split()
    family = [facts[key] for key in ("cpu family", "model", "stepping") if key in facts]
    name = facts["model name"] + (f" (family {', model '.join(family[:2])})" if len(family) > 1 else "")
    return [
        ("CPU", name),
        ("vector units", ", ".join(flag for flag in _TELLING_FLAGS if flag in have) or "unknown"),
        ("cores", str(os.cpu_count())),
        ("caches", _caches() or "unknown"),
        ("system", f"{platform.system()} {platform.release()}, {platform.machine()}"),
        ("Python", platform.python_version()),
    ]


def _caches() -> str:
    sizes = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            sizes.append(f"L{level} {size}")
    return ", ".join(sizes)


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
