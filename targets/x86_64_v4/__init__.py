"""x86-64-v4: Linux on x86-64 processors with AVX-512."""

from __future__ import annotations

from dlpack.targets.arithmetic import OPTION as ARITHMETIC
from dlpack.targets.arithmetic import with_bytes
from dlpack.targets.base import Build, Target
from dlpack.targets.cpu.machine import AVX512
from dlpack.targets.toolchains.compiler import Toolchain, missing_compiler
from dlpack.targets.toolchains.host import runs_avx512

BUILDS = (
    Build(lambda: AVX512, "lib{}.so", Toolchain("x86_64-linux-gnu.2.17"), ("-march=x86_64_v4",), runs_here=runs_avx512),
)

TARGET = Target(
    name="x86-64-v4",
    about="Linux, x86-64 with AVX-512",
    builds=BUILDS,
    select=with_bytes(BUILDS),
    missing=missing_compiler,
    options=(ARITHMETIC,),
)
