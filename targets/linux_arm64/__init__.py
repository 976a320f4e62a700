"""linux-arm64: 64-bit Arm boards and servers, from glibc 2.23 on."""

from __future__ import annotations

from dlpack.targets.base import Build, Target
from dlpack.targets.cpu.machine import NEON
from dlpack.targets.toolchains.compiler import Toolchain, missing_compiler
from dlpack.targets.toolchains.host import is_linux_arm64
from dlpack.targets.toolchains.processors import CORTEX_A57

TARGET = Target(
    name="linux-arm64",
    about="Linux on 64-bit Arm",
    builds=(
        Build(
            lambda: NEON,
            "lib{}.so",
            Toolchain("aarch64-linux-gnu.2.23"),
            runs_here=is_linux_arm64,
            emulators=(CORTEX_A57,),
        ),
    ),
    missing=missing_compiler,
)
