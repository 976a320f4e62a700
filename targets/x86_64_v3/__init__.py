"""x86-64-v3: Linux on any x86-64 processor with AVX2 and FMA (Haswell and later)."""

from __future__ import annotations

from dlpack.targets.base import Target
from dlpack.targets.cpu.machine import AVX2
from dlpack.targets.toolchains.compiler import missing_compiler
from dlpack.targets.toolchains.host import cpu_features, is_x86

TARGET = Target(
    name="x86-64-v3",
    about="Linux, x86-64 with AVX2 and FMA",
    machine=lambda: AVX2,
    library="lib{}.so",
    zig_target="x86_64-linux-gnu.2.17",
    flags=("-march=x86_64_v3",),
    runs_here=lambda: is_x86() and {"avx2", "fma"} <= cpu_features(),
    missing=missing_compiler,
)
