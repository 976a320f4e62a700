"""Schedule rules for GPUs: a rule takes a kernel's stages and schedules them, or returns None; the first match wins."""

from __future__ import annotations

from collections.abc import Callable

from dlpack.kernels.backend import Layer, LayoutPreferences
from dlpack.kernels.spec import KernelSpec, Scheduled
from dlpack.targets.gpu.attention import attention, fuses
from dlpack.targets.gpu.gemm import gemm
from dlpack.targets.gpu.gemv import gemv
from dlpack.targets.gpu.machine import Gpu
from dlpack.targets.gpu.map import map_rule, stages
from dlpack.targets.gpu.rows import rows
from dlpack.targets.gpu.state import GpuState
from dlpack.targets.gpu.winograd import choose_winograd, winograd
from dlpack.targets.gpu.written import as_written


class GpuBackend:
    """A GPU as `dlpack.kernels.backend.Backend`."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu, self.name = gpu, gpu.name
        # Tiles are read with any strides.
        self.layouts = LayoutPreferences(
            wide_rows=1 << 30, alignment=4, keeps_borders=True, attention=lambda a: fuses(gpu, a)
        )

    def schedule(self, spec: KernelSpec) -> Scheduled:
        for rule in RULES:
            done = rule(GpuState(spec, self.gpu))
            if done is not None:
                return done
        raise AssertionError("the last rule takes every kernel")

    def winograd_tile(self, layer: Layer) -> int:
        return choose_winograd(self.gpu, layer)


RULES: tuple[Callable[[GpuState], Scheduled | None], ...] = (
    as_written,
    winograd,
    attention,
    gemm,
    gemv,
    rows,
    map_rule,
    stages,
)
