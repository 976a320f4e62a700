"""What this computer is: its processor's vector units, and the compiler's flags for them."""

from __future__ import annotations

import platform
import re
import sys
from dataclasses import replace
from pathlib import Path

from dlpack.targets.cpu.machine import (
    APPLE,
    AVX2,
    AVX512,
    AVX512VNNI,
    AVXVNNI,
    CORTEX_A53,
    CORTEX_A57,
    CORTEX_A72,
    CORTEX_A76,
    CORTEX_X1,
    NEON,
    NEON32,
    SCALAR,
    Machine,
)

# Arm's part number, as Linux reports it → the core. Similar cores stand beside the one that is described.
_ARM_CORES = {
    "0xd03": CORTEX_A53,
    "0xd04": CORTEX_A53,  # A35
    "0xd05": CORTEX_A53,  # A55
    "0xd07": CORTEX_A57,
    "0xd08": CORTEX_A72,
    "0xd09": CORTEX_A72,  # A73
    "0xd0b": CORTEX_A76,
    "0xd0c": CORTEX_A76,  # Neoverse N1
    "0xd0d": CORTEX_A76,  # A77
    "0xd40": CORTEX_X1,  # Neoverse V1
    "0xd41": CORTEX_A76,  # A78
    "0xd44": CORTEX_X1,
}


def cpu_features() -> frozenset[str]:
    """The processor's feature names as Linux lists them; empty where they are unknown."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("flags", "Features")):
                return frozenset(line.split(":", 1)[1].split())
    except OSError:
        pass
    return frozenset()


def arm_core() -> Machine:
    """The description of this computer's 64-bit Arm core: of a phone's several kinds the fastest; else any core's."""
    if sys.platform == "darwin":
        return APPLE
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return NEON
    arms = re.findall(r"^CPU implementer\s*: 0x41$", text, re.M)
    parts = re.findall(r"^CPU part\s*: (0x[0-9a-f]+)$", text, re.M)
    known = [_ARM_CORES[part] for part in parts if part in _ARM_CORES] if arms else []
    best = max(known, key=lambda core: (core.fma_ports, not core.in_order, core.l2), default=NEON)
    return replace(best, dot="sdot") if has_dot_products() else best


def is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


def is_linux_arm64() -> bool:
    return sys.platform == "linux" and platform.machine().lower() == "aarch64"


def has_dot_products() -> bool:
    """Whether this computer is a 64-bit Arm with dot products, on Linux."""
    return is_linux_arm64() and "asimddp" in cpu_features()


def has_matrix_products() -> bool:
    """Whether this computer is a 64-bit Arm with products of matrices of 8-bit integers (i8mm), on Linux."""
    return has_dot_products() and "i8mm" in cpu_features()


def has_half_arithmetic() -> bool:
    """Whether this computer is a 64-bit Arm with arithmetic in float16 on vectors, on Linux."""
    return is_linux_arm64() and "asimdhp" in cpu_features()


def is_linux_riscv64() -> bool:
    return sys.platform == "linux" and platform.machine().lower() == "riscv64"


def has_riscv_vectors() -> bool:
    """Whether this computer is a 64-bit RISC-V with the vector extension, on Linux."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return is_linux_riscv64() and re.search(r"^isa\s*: rv64[a-uw-z]*v", text, re.M) is not None


def is_linux_armhf() -> bool:
    return sys.platform == "linux" and platform.machine().lower().startswith("armv7")


def is_windows_x64() -> bool:
    return sys.platform == "win32" and is_x86()


def is_macos_arm64() -> bool:
    return sys.platform == "darwin" and platform.machine().lower() == "arm64"


def runs_sse4() -> bool:
    """Whether this computer runs programs for x86-64 with SSE4.1 on Linux."""
    return sys.platform == "linux" and is_x86() and "sse4_1" in cpu_features()


def runs_avx2() -> bool:
    """Whether this computer runs libraries for x86-64-v3 on Linux."""
    return sys.platform == "linux" and is_x86() and {"avx2", "fma"} <= cpu_features()


def runs_avx512() -> bool:
    """Whether this computer runs libraries for x86-64-v4 on Linux."""
    return sys.platform == "linux" and is_x86() and {"avx512f", "avx512vl"} <= cpu_features()


def runs_avxvnni() -> bool:
    """Whether this computer runs AVX2 and its dot products on Linux."""
    return runs_avx2() and "avx_vnni" in cpu_features()


def runs_avx512vnni() -> bool:
    """Whether this computer runs AVX-512 and its dot products on Linux."""
    return runs_avx512() and "avx512_vnni" in cpu_features()


def host_machine() -> Machine:
    """The description of the processor that runs this."""
    arch = platform.machine().lower()
    if is_x86():
        features = cpu_features()
        if {"avx512f", "avx512dq", "avx512bw", "avx512vl"} <= features:
            return AVX512VNNI if "avx512_vnni" in features else AVX512
        if {"avx2", "fma", "avx_vnni"} <= features:
            return AVXVNNI
        return AVX2 if {"avx2", "fma"} <= features or sys.platform == "darwin" else SCALAR
    if arch in ("aarch64", "arm64"):
        return arm_core()
    return NEON32 if arch.startswith("arm") else SCALAR


def library_name() -> str:
    return {"darwin": "lib{}.dylib", "win32": "{}.dll"}.get(sys.platform, "lib{}.so")
