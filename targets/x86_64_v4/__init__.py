"""x86-64-v4: Linux on x86-64 processors with AVX-512."""

from __future__ import annotations

from dlpack.targets.base import Target
from dlpack.targets.cpu.machine import AVX512
from dlpack.targets.toolchains.compiler import missing_compiler
from dlpack.targets.toolchains.host import cpu_features, is_x86

TARGET = Target(
    name="x86-64-v4",
    about="Linux, x86-64 with AVX-512",
    machine=lambda: AVX512,
    library="lib{}.so",
    zig_target="x86_64-linux-gnu.2.17",
    flags=("-march=x86_64_v4",),
    runs_here=lambda: is_x86() and {"avx512f", "avx512vl"} <= cpu_features(),
    missing=missing_compiler,
)
