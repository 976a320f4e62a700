"""cuda: Linux, x86-64, with an NVIDIA GPU: kernels for it and, where no driver works, for AVX-512 and AVX2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dlpack.errors import UsageError
from dlpack.targets.base import Build, Target, TargetOption
from dlpack.targets.cpu.machine import AVX2, AVX512
from dlpack.targets.gpu.build import archs_of, gpu_builds
from dlpack.targets.gpu.nvrtc import missing_nvrtc
from dlpack.targets.toolchains.compiler import Toolchain, missing_compiler
from dlpack.targets.toolchains.host import runs_avx2

LINUX = Toolchain("x86_64-linux-gnu.2.17")
FLAGS = ("-ldl",)
PROCESSORS = tuple(
    Build(lambda m=m: m, "lib{}.so", LINUX, FLAGS, runs_here=runs_avx2)  # type: ignore[misc]
    for m in (AVX512, AVX2)
)
USUAL = "sm_90"
"""What is compiled for where nothing is said; all other GPUs take PTX."""


def select(values: Mapping[str, Any]) -> tuple[Build, ...]:
    """The builds for the GPUs of --arch, the one for PTX, and the processor's."""
    archs = archs_of(values.get("arch") or USUAL)
    if not archs:
        raise UsageError("--arch names no GPU")
    return (*(replace(b, library="lib{}.so", toolchain=LINUX, flags=FLAGS) for b in gpu_builds(archs)), *PROCESSORS)


TARGET = Target(
    name="cuda",
    about="Linux, x86-64, NVIDIA GPU; AVX-512 or AVX2 where no driver works",
    builds=select({}),
    missing=lambda: missing_nvrtc() or missing_compiler(),
    options=(TargetOption("arch", f"GPUs to compile for: sm_53, sm_62, sm_72, sm_87, sm_90 ... [{USUAL}]", "ARCHS"),),
    select=select,
)
