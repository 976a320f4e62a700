"""jetson-tx1: NVIDIA's Jetson TX1 and its likes, the four Cortex-A57 cores; Ubuntu 16.04 (glibc 2.23) and later."""

from __future__ import annotations

from dlpack.targets.base import Build, Target
from dlpack.targets.cpu.machine import CORTEX_A57 as MACHINE
from dlpack.targets.toolchains.compiler import Toolchain, missing_compiler
from dlpack.targets.toolchains.host import is_linux_arm64
from dlpack.targets.toolchains.processors import CORTEX_A57

TARGET = Target(
    name="jetson-tx1",
    about="Jetson TX1, its processor cores",
    builds=(
        Build(
            lambda: MACHINE, "lib{}.so", Toolchain("aarch64-linux-gnu.2.23"), ("-mcpu=cortex_a57",),
            runs_here=is_linux_arm64, emulators=(CORTEX_A57,),
        ),
    ),
    missing=missing_compiler,
)  # fmt: skip
