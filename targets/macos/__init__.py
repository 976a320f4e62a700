"""macos: a library for Macs with Apple's processors, macOS 11 and later."""

from __future__ import annotations

from dlpack.targets.base import Build, Target
from dlpack.targets.cpu.machine import APPLE
from dlpack.targets.toolchains.compiler import Toolchain, missing_compiler
from dlpack.targets.toolchains.host import is_macos_arm64

TARGET = Target(
    name="macos",
    about="macOS on Apple's processors",
    builds=(
        Build(
            lambda: APPLE,
            "lib{}.dylib",
            Toolchain("aarch64-macos.11.0"),
            ("-mcpu=apple_m1",),
            runs_here=is_macos_arm64,
        ),
    ),
    missing=missing_compiler,
)
