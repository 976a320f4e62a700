"""What this computer is: its processor's vector units, and the compiler's flags for them."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from dlpack.targets.cpu.machine import AVX2, AVX512, NEON, NEON32, SCALAR, Machine


def cpu_features() -> frozenset[str]:
    """The processor's feature names as Linux lists them; empty where they cannot be told."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("flags", "Features")):
                return frozenset(line.split(":", 1)[1].split())
    except OSError:
        pass
    return frozenset()


def is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


def is_linux_arm64() -> bool:
    return sys.platform == "linux" and platform.machine().lower() == "aarch64"


def is_linux_armhf() -> bool:
    return sys.platform == "linux" and platform.machine().lower().startswith("armv7")


def is_windows_x64() -> bool:
    return sys.platform == "win32" and is_x86()


def is_macos_arm64() -> bool:
    return sys.platform == "darwin" and platform.machine().lower() == "arm64"


def runs_avx2() -> bool:
    """Whether this computer runs libraries for x86-64-v3 on Linux."""
    return sys.platform == "linux" and is_x86() and {"avx2", "fma"} <= cpu_features()


def runs_avx512() -> bool:
    """Whether this computer runs libraries for x86-64-v4 on Linux."""
    return sys.platform == "linux" and is_x86() and {"avx512f", "avx512vl"} <= cpu_features()


def host_machine() -> Machine:
    """The description of the processor that runs this."""
    arch = platform.machine().lower()
    if is_x86():
        features = cpu_features()
        if {"avx512f", "avx512dq", "avx512bw", "avx512vl"} <= features:
            return AVX512
        return AVX2 if {"avx2", "fma"} <= features or sys.platform == "darwin" else SCALAR
    if arch in ("aarch64", "arm64"):
        return NEON
    return NEON32 if arch.startswith("arm") else SCALAR


def library_name() -> str:
    return {"darwin": "lib{}.dylib", "win32": "{}.dll"}.get(sys.platform, "lib{}.so")
