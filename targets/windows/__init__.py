"""windows: a DLL for 64-bit Windows on processors with AVX2 and FMA."""

from __future__ import annotations

from dlpack.targets.base import Build, Target
from dlpack.targets.cpu.machine import AVX2
from dlpack.targets.toolchains.compiler import Toolchain, missing_compiler
from dlpack.targets.toolchains.host import is_windows_x64
from dlpack.targets.toolchains.processors import WINE

TARGET = Target(
    name="windows",
    about="64-bit Windows, x86-64 with AVX2 and FMA",
    builds=(
        Build(
            lambda: AVX2, "{}.dll", Toolchain("x86_64-windows-gnu"), ("-march=x86_64_v3",),
            runs_here=is_windows_x64, emulators=(WINE,),
        ),
    ),
    missing=missing_compiler,
)  # fmt: skip
