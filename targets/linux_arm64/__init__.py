"""linux-arm64: 64-bit Arm boards and servers, from glibc 2.23 on."""

from __future__ import annotations

import platform
import sys

from dlpack.targets.base import Target
from dlpack.targets.cpu.machine import NEON
from dlpack.targets.toolchains.compiler import missing_compiler

TARGET = Target(
    name="linux-arm64",
    about="Linux on 64-bit Arm",
    machine=lambda: NEON,
    library="lib{}.so",
    zig_target="aarch64-linux-gnu.2.23",
    runs_here=lambda: sys.platform == "linux" and platform.machine().lower() == "aarch64",
    missing=missing_compiler,
)
