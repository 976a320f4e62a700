"""jetson-tx1: NVIDIA's Jetson TX1 and its likes, Ubuntu 16.04 (glibc 2.23) and later: its GPU, or its four Cortex-A57
cores where no driver works.

The TX1's last driver is of CUDA 10.2. Whether it loads a cubin of NVRTC 12 is not known; PTX that it can compile stands
in the file as well, and is taken if it refuses the cubin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dlpack.errors import ToolchainError
from dlpack.targets.base import Build, Target, TargetOption
from dlpack.targets.cpu.machine import CORTEX_A57 as MACHINE
from dlpack.targets.gpu.build import gpu_build
from dlpack.targets.gpu.machine import SM_53
from dlpack.targets.gpu.nvrtc import missing_nvrtc
from dlpack.targets.toolchains.compiler import Toolchain, missing_compiler
from dlpack.targets.toolchains.host import is_linux_arm64
from dlpack.targets.toolchains.processors import CORTEX_A57

_CORES = Build(
    lambda: MACHINE, "lib{}.so", Toolchain("aarch64-linux-gnu.2.23"), ("-mcpu=cortex_a57",),
    runs_here=is_linux_arm64, emulators=(CORTEX_A57,),
)  # fmt: skip
_GPU = replace(
    gpu_build(SM_53, ["sm_53", "compute_53"]),
    library=_CORES.library,
    toolchain=_CORES.toolchain,
    flags=(*_CORES.flags, "-ldl"),
)
_CORES_BESIDE_IT = replace(_CORES, flags=_GPU.flags)


def _select(values: Mapping[str, Any]) -> tuple[Build, ...]:
    if values.get("cores-only"):
        return (_CORES,)
    if problem := _limited():
        raise ToolchainError(f"kernels for the GPU cannot be compiled here: {problem}")
    return (_GPU, _CORES_BESIDE_IT)


def _limited() -> str | None:
    problem = missing_nvrtc()
    return f"install {problem}, or give --cores-only" if problem else None


TARGET = Target(
    name="jetson-tx1",
    about="Jetson TX1: its GPU, and its processor cores where no driver works",
    builds=(_GPU, _CORES_BESIDE_IT),
    missing=missing_compiler,
    limited=_limited,
    options=(TargetOption("cores-only", "No kernels for the GPU, and no dlopen: for static programs."),),
    select=_select,
)
