"""The builds for GPUs: a machine for each architecture, scheduled for it, and one for all others, as PTX."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dlpack.amalgamate.machines import Code
from dlpack.errors import UsageError
from dlpack.kernels.backend import Backend
from dlpack.plan.program import Program
from dlpack.targets.base import Build
from dlpack.targets.gpu.cuda import CudaPrinter, device_functions
from dlpack.targets.gpu.host import cuda_code
from dlpack.targets.gpu.launch import launch_of
from dlpack.targets.gpu.machine import GENERIC, GPUS, Gpu
from dlpack.targets.gpu.nvrtc import Launch


def archs_of(text: str) -> list[str]:
    """The architectures of an option: names with commas between them. Raises UsageError for what is none."""
    names = [name for name in re.split(r"[,\s]+", text) if name]
    for name in names:
        if not re.fullmatch(r"sm_\d+", name):
            raise UsageError(f"{name!r} is no GPU architecture: write --arch sm_90,sm_87, say")
    return list(dict.fromkeys(names))


def gpu_builds(archs: Sequence[str]) -> list[Build]:
    """For each schedule that one of the architectures has of its own, a build with their cubins; last the one for all
    other GPUs, with the cubins of the rest, and PTX."""
    own = [GPUS[name] for name in archs if name in GPUS]
    rest = [name for name in archs if name not in GPUS]
    return [*(gpu_build(gpu, [gpu.arch]) for gpu in own), gpu_build(GENERIC, [*rest, GENERIC.arch])]


def gpu_build(gpu: Gpu, archs: Sequence[str]) -> Build:
    """A build for a GPU: kernels scheduled for `gpu` and compiled for `archs` (sm_53: a cubin, compute_53: PTX).

    It has no toolchain and library: the target puts it beside the builds for processors, whose library it joins.
    """
    machine = replace(gpu, name=f"cuda_{gpu.name}")
    return Build(lambda: machine, backend=_backend, code=lambda g, program: gpu_code(g, program, archs), opens=False)


def _backend(gpu: Any, threads: int) -> Backend:
    from dlpack.targets.gpu.schedule import GpuBackend  # it loads TVM

    del threads  # a GPU's are its own
    return GpuBackend(gpu)


def text_of(program: Program) -> str:
    """A program's kernels in CUDA C, behind the device functions that they need."""
    printer = CudaPrinter()
    kernels = [printer.kernel(k.kernel, k.name, k.restrict) for k in program.kernels]
    return "\n\n".join([device_functions(printer), *kernels]) + "\n"


def gpu_code(gpu: Gpu, program: Program, archs: Sequence[str]) -> Code:
    """What the emitter prints of a program for a GPU. Raises what `compile_images` does."""
    printer = CudaPrinter()
    for k in program.kernels:
        printer.kernel(k.kernel, k.name, k.restrict)
    launches = []
    for k in program.kernels:
        launch = launch_of(k.kernel)
        launches.append(Launch(k.name, launch.grid, launch.block))
    return cuda_code(program, launches, CudaPrinter, device_functions(printer), archs, gpu.name)
