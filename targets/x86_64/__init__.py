"""x86-64: Linux on any x86-64 processor with AVX2; kernels for AVX-512 and for AVX2 in one library."""

from __future__ import annotations

from dlpack.targets.arithmetic import OPTION as ARITHMETIC
from dlpack.targets.arithmetic import with_bytes
from dlpack.targets.base import Build, Target
from dlpack.targets.cpu.machine import AVX2, AVX512, AVX512VNNI, AVXVNNI
from dlpack.targets.toolchains.compiler import Toolchain, missing_compiler
from dlpack.targets.toolchains.host import runs_avx2

LINUX = Toolchain("x86_64-linux-gnu.2.17")

BUILDS = tuple(
    Build(lambda m=m: m, "lib{}.so", LINUX, for_dots=m.dot == "vnni", runs_here=runs_avx2)  # type: ignore[misc]
    for m in (AVX512VNNI, AVX512, AVXVNNI, AVX2)
)

TARGET = Target(
    name="x86-64",
    about="Linux, x86-64: AVX-512 or AVX2, as the processor has",
    builds=BUILDS,
    select=with_bytes(BUILDS),
    missing=missing_compiler,
    options=(ARITHMETIC,),
)
