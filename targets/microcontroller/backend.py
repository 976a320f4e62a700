"""The backend of microcontrollers: the processor's, short of RAM."""

from __future__ import annotations

from dataclasses import replace

from dlpack.kernels.backend import Layer
from dlpack.targets.cpu.machine import Machine
from dlpack.targets.cpu.schedule import CpuBackend


class CoreBackend(CpuBackend):
    """A microcontroller's core. Weights that are computed or widened would take RAM, which there is least of."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.layouts = replace(self.layouts, widens=False)

    def winograd_tile(self, layer: Layer) -> int:  # noqa: ARG002 - the protocol's
        return 0
