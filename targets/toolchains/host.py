"""What this computer is: its processor's vector units, and the compiler's flags for them."""

from __future__ import annotations

import platform
import re
import sys
from dataclasses import replace

from dlpack.targets.cpu.cores import VENDORS, as_core, core_of
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
    SSE4,
    Machine,
)
from dlpack.targets.toolchains.processor import Caches, Processor, this_processor

# Arm's part number, as Linux reports it → the core's name and description. Similar cores share one.
_ARM_CORES = {
    "0xd03": ("Cortex-A53", CORTEX_A53),
    "0xd04": ("Cortex-A35", CORTEX_A53),
    "0xd05": ("Cortex-A55", CORTEX_A53),
    "0xd07": ("Cortex-A57", CORTEX_A57),
    "0xd08": ("Cortex-A72", CORTEX_A72),
    "0xd09": ("Cortex-A73", CORTEX_A72),
    "0xd0b": ("Cortex-A76", CORTEX_A76),
    "0xd0c": ("Neoverse N1", CORTEX_A76),
    "0xd0d": ("Cortex-A77", CORTEX_A76),
    "0xd40": ("Neoverse V1", CORTEX_X1),
    "0xd41": ("Cortex-A78", CORTEX_A76),
    "0xd44": ("Cortex-X1", CORTEX_X1),
}


def cpu_features() -> frozenset[str]:
    """The processor's feature names as Linux lists them; empty where they are unknown."""
    return this_processor().features


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
    return is_linux_riscv64() and re.match(r"rv64[a-uw-z]*v", this_processor().isa) is not None


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


# --- the description of this computer's processor ---------------------------------------------------------------------


def host_machine() -> Machine:
    """The description of the processor that runs this: always the same on one computer."""
    return described(this_processor(), platform.machine().lower())


def described(processor: Processor, architecture: str) -> Machine:
    """The description of a processor of this architecture, as `platform.machine` calls it."""
    if architecture in ("x86_64", "amd64"):
        return _x86(processor)
    if architecture in ("aarch64", "arm64"):
        return _arm(processor)
    return NEON32 if architecture.startswith("arm") else SCALAR


def _x86(processor: Processor) -> Machine:
    generic = _vectors(processor)
    core = core_of(processor.vendor, processor.family, processor.model, processor.stepping, processor.title)
    machine = as_core(generic, core) if core else generic
    vendor = VENDORS.get(processor.vendor, re.sub(r"\W+", "", processor.vendor)) or "x86-64"
    hidden = core is None or machine is generic
    numbers = f"family {processor.family} model {processor.model}" if processor.family else "of an unknown kind"
    name = f"{vendor} {core.name}" if core and not hidden else f"{vendor} {numbers}"
    return _with_caches(machine, processor, name)


def _vectors(processor: Processor) -> Machine:
    """The generic description of what a processor's vectors can do."""
    features = processor.features
    if {"avx512f", "avx512dq", "avx512bw", "avx512vl"} <= features:
        return AVX512VNNI if "avx512_vnni" in features else AVX512
    if {"avx2", "fma", "avx_vnni"} <= features:
        return AVXVNNI
    if {"avx2", "fma"} <= features or (processor.mac and not features):
        return AVX2
    return SSE4 if "sse4_1" in features else SCALAR


def _arm(processor: Processor) -> Machine:
    """Of a phone's several kinds of cores the fastest; a core that is not known is any."""
    if processor.mac:
        return _with_caches(APPLE, processor, re.sub(r"[^ -~]", "", processor.title) or "Apple")
    known = [_ARM_CORES[part] for part in processor.parts if part in _ARM_CORES and processor.implementer == ARM]
    name, core = max(known, key=lambda c: (c[1].fma_ports, not c[1].in_order, c[1].l2), default=("", NEON))
    core = replace(core, dot="sdot") if "asimddp" in processor.features else core
    return _with_caches(core, processor, f"Arm {name}" if name else "64-bit Arm")


ARM = "0x41"
"""The implementer of cores that are Arm's own."""


def _with_caches(machine: Machine, processor: Processor, name: str) -> Machine:
    """The description with the processor's own caches, and what it says it is.

    A virtual machine may report other caches than the core has (QEMU: 4 MiB of level 2, by default), and cores beside
    its own share the third. So it keeps those of the description, and is believed a third of 32 MiB at most. Sizes that
    no processor has are not believed at all.
    """
    told = processor.caches
    own = not processor.virtual
    l1 = told.l1 if own and told.l1 in LEVEL_1 else machine.l1
    l2 = told.l2 if own and told.l2 in LEVEL_2 and told.l2 >= 2 * l1 else machine.l2
    l3 = told.l3 if told.l3 in LEVEL_3 else machine.l3
    l3 = max(l2, l3 if own else min(l3, SHARED_LEVEL_3))
    return replace(machine, l1=l1, l2=l2, l3=l3, about=f"{name}, {Caches(l1, l2, l3)}")


LEVEL_1, LEVEL_2, LEVEL_3 = range(8 << 10, (256 << 10) + 1), range(64 << 10, (64 << 20) + 1), range(1 << 20, 1 << 31)
"""Bytes that a cache may have."""

SHARED_LEVEL_3 = 32 << 20


def library_name() -> str:
    return {"darwin": "lib{}.dylib", "win32": "{}.dll"}.get(sys.platform, "lib{}.so")
