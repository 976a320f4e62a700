"""Processors under emulation, on which libraries for other computers are verified."""

from __future__ import annotations

from collections.abc import Callable

from dlpack.targets.toolchains.emulate import Emulator

CORTEX_A57 = Emulator("QEMU's Cortex-A57", ("qemu-aarch64", "-cpu", "cortex-a57"), "aarch64-linux-none")
"""Armv8.0, as in a Jetson TX1."""

CORTEX_A53 = Emulator("QEMU's Cortex-A53", ("qemu-aarch64", "-cpu", "cortex-a53"), "aarch64-linux-none")
"""Armv8.0, as in a Raspberry Pi 3."""

ARM64_MAX = Emulator("QEMU's 64-bit Arm", ("qemu-aarch64", "-cpu", "max"), "aarch64-linux-none")
"""All that QEMU has: fp16, dot products, i8mm."""

ARM32_FLAGS = ("-mcpu=cortex_a15+neon",)
"""zig's spelling of 32-bit Arm with NEON and fused multiply-add."""

WINE = Emulator("Wine", ("wine64",), "x86_64-windows-gnu", ("-march=x86_64_v3",), package="wine64")

CORTEX_A15 = Emulator("QEMU's Cortex-A15", ("qemu-arm", "-cpu", "cortex-a15"), "arm-linux-eabihf", ARM32_FLAGS)

NEON_FLAGS = ("-mcpu=generic+v7a+neon",)
"""The same without fused multiply-add."""

CORTEX_A9 = Emulator("QEMU's Cortex-A9", ("qemu-arm", "-cpu", "cortex-a9"), "arm-linux-eabihf", NEON_FLAGS)
"""ARMv7-A with NEON: what Android promises of a 32-bit processor."""


def host_processor(level: str, suffices: Callable[[], bool]) -> Emulator:
    """This computer, as an x86-64 processor of that level; `suffices()`: whether it is one."""
    flags = (f"-march={level.replace('-', '_')}",)
    return Emulator(f"this computer as {level}", (), "x86_64-linux-none", flags, suffices=suffices)
