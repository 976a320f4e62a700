"""linux-riscv64: 64-bit RISC-V boards (RV64GC), with kernels for vectors and without, from glibc 2.27 or for musl."""

from __future__ import annotations

from dlpack.targets.base import Build, Target
from dlpack.targets.cpu.machine import RV64, RVV
from dlpack.targets.libc import OPTION, select_libc
from dlpack.targets.toolchains.compiler import Toolchain, missing_compiler
from dlpack.targets.toolchains.host import has_riscv_vectors, is_linux_riscv64
from dlpack.targets.toolchains.processors import RISCV, RISCV_FLAGS, RISCV_V

_TOOLCHAIN = Toolchain("riscv64-linux-gnu.2.27")

BUILDS = (
    Build(lambda: RVV, "lib{}.so", _TOOLCHAIN, RISCV_FLAGS, runs_here=has_riscv_vectors, emulators=(RISCV_V,)),
    Build(lambda: RV64, "lib{}.so", _TOOLCHAIN, RISCV_FLAGS, runs_here=is_linux_riscv64, emulators=(RISCV,)),
)

TARGET = Target(
    name="linux-riscv64",
    about="Linux on 64-bit RISC-V",
    builds=BUILDS,
    select=select_libc(BUILDS),
    missing=missing_compiler,
    options=(OPTION,),
)
