"""linux-arm64: 64-bit Arm boards and servers, from glibc 2.23 on; with dot products for integer networks."""

from __future__ import annotations

from dlpack.targets.base import Build, Target
from dlpack.targets.cpu.machine import NEON, NEON_DOTPROD
from dlpack.targets.toolchains.compiler import Toolchain, missing_compiler
from dlpack.targets.toolchains.host import has_dot_products, is_linux_arm64
from dlpack.targets.toolchains.processors import ARM64_MAX, CORTEX_A57

TARGET = Target(
    name="linux-arm64",
    about="Linux on 64-bit Arm",
    builds=(
        Build(
            lambda: NEON_DOTPROD,
            "lib{}.so",
            Toolchain("aarch64-linux-gnu.2.23"),
            for_dots=True,
            runs_here=has_dot_products,
            emulators=(ARM64_MAX,),
        ),
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
