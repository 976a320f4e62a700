"""wasm: browsers and node. Two builds beside each other, SIMD and relaxed SIMD, and a JavaScript package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dlpack.errors import UsageError
from dlpack.kernels.backend import Backend
from dlpack.targets.arithmetic import ARITHMETIC, BYTES, as_asked
from dlpack.targets.arithmetic import OPTION as ARITHMETIC_OPTION
from dlpack.targets.base import Build, Target, TargetOption
from dlpack.targets.cpu.machine import WASM
from dlpack.targets.gpu.machine import WEBGPU as GPU
from dlpack.targets.toolchains.compiler import missing_compiler
from dlpack.targets.wasm.package import SINGLE_FILE, WEBGPU, package
from dlpack.targets.wasm.run import measure, run, runs_here

SIMD = Build(lambda: WASM, address_bits=32, runs_here=runs_here)


def _gpu(machine: Any, threads: int) -> Backend:
    from dlpack.targets.gpu.schedule import GpuBackend

    del threads  # a GPU's are its own
    return GpuBackend(machine)


def select(values: Mapping[str, Any]) -> tuple[Build, ...]:
    """The processor's build and, with --webgpu, the GPU's, which `package` writes."""
    builds = as_asked((SIMD,), values, BYTES)
    if not values.get(WEBGPU):
        return builds
    if any(b.rounds for b in builds):
        raise UsageError(f"--{ARITHMETIC} {BYTES} and --{WEBGPU} do not go together: its shaders compute in float32")
    return (*builds, Build(lambda: GPU, backend=_gpu, code=None, opens=False))


TARGET = Target(
    name="wasm",
    about="browsers and node",
    builds=(SIMD,),
    select=select,
    missing=missing_compiler,
    separates_weights=True,
    package=package,
    run=run,
    measure=measure,
    options=(
        TargetOption(SINGLE_FILE, "Also write NAME.html: one page with code and weights inside."),
        TargetOption(WEBGPU, "Also write shaders for WebGPU, which pages use where that is faster."),
        ARITHMETIC_OPTION,
    ),
)
