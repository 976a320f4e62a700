"""Processors under emulation, on which libraries for other computers are verified."""

from __future__ import annotations

from collections.abc import Callable

from dlpack.targets.toolchains.emulate import Emulator
from dlpack.targets.toolchains.host import runs_avx2

CORTEX_A57 = Emulator("QEMU's Cortex-A57", ("qemu-aarch64", "-cpu", "cortex-a57"), "aarch64-linux-none")
"""Armv8.0, as in a Jetson TX1."""

CORTEX_A53 = Emulator("QEMU's Cortex-A53", ("qemu-aarch64", "-cpu", "cortex-a53"), "aarch64-linux-none")
"""Armv8.0, as in a Raspberry Pi 3."""

CORTEX_A76 = Emulator("QEMU's Cortex-A76", ("qemu-aarch64", "-cpu", "cortex-a76"), "aarch64-linux-none")
"""Armv8.2 with dot products, as in a Raspberry Pi 5."""

ARM64_MAX = Emulator("QEMU's 64-bit Arm", ("qemu-aarch64", "-cpu", "max"), "aarch64-linux-none")
"""All that QEMU has: fp16, dot products, i8mm."""

ARM32_FLAGS = ("-mcpu=cortex_a15+neon",)
"""zig's spelling of 32-bit Arm with NEON and fused multiply-add."""

WINE = Emulator(
    "Wine", ("wine",), "x86_64-windows-gnu", ("-march=x86_64_v3",), package="wine", suffices=runs_avx2
)  # fmt: skip
"""Windows's functions on this computer's processor."""

RISCV_FLAGS = ("-mcpu=generic_rv64+m+a+f+d+c", "-mabi=lp64d")
"""zig's spelling of RV64GC, which Linux distributions are compiled for."""

RISCV = Emulator("QEMU's RV64", ("qemu-riscv64",), "riscv64-linux-none", RISCV_FLAGS)

RISCV_V = Emulator(
    "QEMU's RV64 with vectors", ("qemu-riscv64", "-cpu", "rv64,v=true,vlen=128,vext_spec=v1.0"),
    "riscv64-linux-none", (*RISCV_FLAGS, "-DHARDWARE=1<<21"),
)  # fmt: skip
"""QEMU does not tell of vectors before version 8."""

CORTEX_A15 = Emulator("QEMU's Cortex-A15", ("qemu-arm", "-cpu", "cortex-a15"), "arm-linux-eabihf", ARM32_FLAGS)

NEON_FLAGS = ("-mcpu=generic+v7a+neon",)
"""The same without fused multiply-add."""

CORTEX_A9 = Emulator("QEMU's Cortex-A9", ("qemu-arm", "-cpu", "cortex-a9"), "arm-linux-eabihf", NEON_FLAGS)
"""ARMv7-A with NEON: what Android promises of a 32-bit processor."""


def host_processor(level: str, suffices: Callable[[], bool]) -> Emulator:
    """This computer, as an x86-64 processor of that level; `suffices()`: whether it is one."""
    flags = (f"-march={level.replace('-', '_')}",)
    return Emulator(f"this computer as {level}", (), "x86_64-linux-none", flags, suffices=suffices)
