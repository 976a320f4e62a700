"""What the system says of this computer's processor: who made it, which it is, what it can do, its caches."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Caches:
    """Bytes of a core's caches of data, as they are reported; 0: not reported."""

    l1: int = 0
    l2: int = 0
    l3: int = 0

    def __str__(self) -> str:
        """For people: `L1 32K, L2 1M, L3 32M`."""
        named = {"L1": self.l1, "L2": self.l2, "L3": self.l3}
        return ", ".join(f"{name} {_short(size)}" for name, size in named.items() if size)


@dataclass(frozen=True)
class Processor:
    """A processor as CPUID and the system describe it; what they leave out is empty.

    `features` as Linux calls them; `implementer` and `parts`: of 64-bit Arm's cores, of which a phone has several
    kinds. `mac`: macOS says it.
    """

    vendor: str = ""
    family: int = 0
    model: int = 0
    stepping: int = 0
    title: str = ""
    features: frozenset[str] = frozenset()
    implementer: str = ""
    parts: tuple[str, ...] = ()
    isa: str = ""
    mac: bool = False
    caches: Caches = Caches()

    @property
    def virtual(self) -> bool:
        """Whether a virtual machine says this, which may report anything."""
        return "hypervisor" in self.features


@cache
def this_processor() -> Processor:
    """This computer's, read once."""
    if sys.platform == "linux":
        return read_linux(Path("/"))
    if sys.platform == "darwin":
        return read_sysctl(_sysctl())
    return read_identifier(platform.processor())


# --- Linux ------------------------------------------------------------------------------------------------------------


def read_linux(root: Path) -> Processor:
    """From /proc and /sys below `root`."""
    try:
        lines = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    facts = facts_of(lines)
    numbers = (_number(facts.get(key, "")) for key in ("cpu family", "model", "stepping"))
    every = [(key.strip(), value.strip()) for key, _, value in (line.partition(":") for line in lines)]
    return Processor(
        facts.get("vendor_id", ""),
        *numbers,
        title=facts.get("model name", ""),
        features=frozenset((facts.get("flags") or facts.get("Features") or "").split()),
        implementer=facts.get("CPU implementer", ""),
        parts=tuple(value for key, value in every if key == "CPU part"),
        isa=facts.get("isa", ""),
        caches=read_caches(root / "sys/devices/system/cpu"),
    )


def facts_of(lines: Iterable[str]) -> dict[str, str]:
    """The last processor's keys and values in /proc/cpuinfo."""
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, colon, value in pairs if colon}


def read_caches(cpus: Path) -> Caches:
    """Of the core with the largest ones: of a processor with cores of several kinds that is the fast one."""
    found = [_caches_of(cpu) for cpu in sorted(cpus.glob("cpu[0-9]*/cache"))]
    return max(found, key=lambda c: (c.l1, c.l2, c.l3), default=Caches())


def _caches_of(folder: Path) -> Caches:
    sizes: dict[int, int] = {}
    for index in sorted(folder.glob("index[0-9]*")):
        try:
            level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        except (OSError, UnicodeDecodeError):
            continue
        if kind in ("Data", "Unified"):
            sizes[_number(level)] = _bytes(size)
    return Caches(*(sizes.get(level, 0) for level in (1, 2, 3)))


# --- others -----------------------------------------------------------------------------------------------------------


def _sysctl() -> dict[str, str]:
    try:
        command = ["/usr/sbin/sysctl", "hw", "machdep.cpu"]
        told = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return facts_of(told.splitlines())


def read_sysctl(told: Mapping[str, str]) -> Processor:
    """From macOS' sysctl: `hw` and `machdep.cpu` by name. Of Apple's cores the fast ones."""

    def size(name: str) -> int:
        return _bytes(told.get(f"hw.perflevel0.{name}", "") or told.get(f"hw.{name}", ""))

    flags = " ".join(told.get(f"machdep.cpu.{key}", "") for key in ("features", "leaf7_features")).lower()
    return Processor(
        told.get("machdep.cpu.vendor", ""),
        *(_number(told.get(f"machdep.cpu.{key}", "")) for key in ("family", "model", "stepping")),
        title=told.get("machdep.cpu.brand_string", ""),
        features=frozenset(flags.replace(".", "_").split()),
        mac=True,
        caches=Caches(size("l1dcachesize"), size("l2cachesize"), size("l3cachesize")),
    )


def read_identifier(text: str) -> Processor:
    """From Windows' words: `Intel64 Family 6 Model 151 Stepping 2, GenuineIntel`."""
    found = re.search(r"Family (\d+) Model (\d+) Stepping (\d+), (\w+)", text)
    return Processor(found[4], *(int(found[k]) for k in (1, 2, 3))) if found else Processor()


# --- numbers ----------------------------------------------------------------------------------------------------------


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"\d{1,9}", text) else 0


def _bytes(text: str) -> int:
    """A size as sysfs writes it, `1024K`, or in bytes; 0 for anything else."""
    found = re.fullmatch(r"(\d{1,12})([KMG]?)", text)
    return int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[found[2]] if found else 0


def _short(size: int) -> str:
    shift, unit = (20, "M") if size >= 1 << 20 else (10, "K")
    return f"{size / (1 << shift):.5g}{unit}"
