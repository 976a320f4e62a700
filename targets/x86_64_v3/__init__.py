"""x86-64-v3: Linux on any x86-64 processor with AVX2 and FMA (Haswell and later)."""

from __future__ import annotations

from dlpack.targets.arithmetic import OPTION as ARITHMETIC
from dlpack.targets.arithmetic import with_bytes
from dlpack.targets.base import Build, Target
from dlpack.targets.cpu.machine import AVX2
from dlpack.targets.toolchains.compiler import Toolchain, missing_compiler
from dlpack.targets.toolchains.host import runs_avx2

BUILDS = (
    Build(lambda: AVX2, "lib{}.so", Toolchain("x86_64-linux-gnu.2.17"), ("-march=x86_64_v3",), runs_here=runs_avx2),
)

TARGET = Target(
    name="x86-64-v3",
    about="Linux, x86-64 with AVX2 and FMA",
    builds=BUILDS,
    select=with_bytes(BUILDS),
    missing=missing_compiler,
    options=(ARITHMETIC,),
)
