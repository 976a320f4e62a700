"""linux-arm64: 64-bit Arm boards and servers, from glibc 2.23 on or for musl; for integer networks products of matrices
of 8-bit integers (i8mm) and dot products, where the processor has them; on request arithmetic in float16 likewise."""

from __future__ import annotations

from dlpack.targets.arithmetic import BYTES, HALVES, as_asked
from dlpack.targets.arithmetic import OPTION as ARITHMETIC
from dlpack.targets.base import Build, Target
from dlpack.targets.cpu.machine import NEON, NEON_DOTPROD, NEON_FP16, NEON_I8MM
from dlpack.targets.libc import OPTION as LIBC
from dlpack.targets.libc import select_libc
from dlpack.targets.toolchains.compiler import Toolchain, missing_compiler
from dlpack.targets.toolchains.host import has_dot_products, has_half_arithmetic, has_matrix_products, is_linux_arm64
from dlpack.targets.toolchains.processors import ARM64_MAX, CORTEX_A57, CORTEX_A76

_TOOLCHAIN = Toolchain("aarch64-linux-gnu.2.23")

BUILDS = (
    Build(
        lambda: NEON_I8MM, "lib{}.so", _TOOLCHAIN,
        for_dots=True, runs_here=has_matrix_products, emulators=(ARM64_MAX,),
    ),
    Build(
        lambda: NEON_DOTPROD, "lib{}.so", _TOOLCHAIN,
        for_dots=True, runs_here=has_dot_products, emulators=(CORTEX_A76,),
    ),
    Build(
        lambda: NEON_FP16, "lib{}.so", _TOOLCHAIN,
        halves=True, runs_here=has_half_arithmetic, emulators=(ARM64_MAX,),
    ),
    Build(lambda: NEON, "lib{}.so", _TOOLCHAIN, runs_here=is_linux_arm64, emulators=(CORTEX_A57,)),
)  # fmt: skip

TARGET = Target(
    name="linux-arm64",
    about="Linux on 64-bit Arm",
    builds=BUILDS,
    select=lambda values: as_asked(select_libc(BUILDS)(values), values, HALVES, BYTES),
    missing=missing_compiler,
    options=(LIBC, ARITHMETIC),
)
