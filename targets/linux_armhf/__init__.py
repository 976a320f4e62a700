"""linux-armhf: 32-bit Arm boards with NEON and fused multiply-add (Raspberry Pi 2 and later), from glibc 2.23 on or for
musl."""

from __future__ import annotations

from dlpack.targets.base import Build, Target
from dlpack.targets.cpu.machine import NEON32
from dlpack.targets.libc import OPTION, select_libc
from dlpack.targets.toolchains.compiler import Toolchain, missing_compiler
from dlpack.targets.toolchains.host import is_linux_armhf
from dlpack.targets.toolchains.processors import ARM32_FLAGS, CORTEX_A15

BUILDS = (
    Build(
        lambda: NEON32, "lib{}.so", Toolchain("arm-linux-gnueabihf.2.23"), ARM32_FLAGS,
        address_bits=32, runs_here=is_linux_armhf, emulators=(CORTEX_A15,),
    ),
)  # fmt: skip

TARGET = Target(
    name="linux-armhf",
    about="Linux on 32-bit Arm with NEON",
    builds=BUILDS,
    select=select_libc(BUILDS),
    missing=missing_compiler,
    options=(OPTION,),
)
