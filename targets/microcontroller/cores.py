"""The cores: how compilers call them, and what the schedules see of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dlpack.errors import UsageError
from dlpack.kernels.backend import Backend
from dlpack.targets.base import Build
from dlpack.targets.cpu.machine import SCALAR, Machine
from dlpack.targets.toolchains.emulate import Emulator

CORE = "core"
"""The option that names the core."""


@dataclass(frozen=True)
class Core:
    """A microcontroller's core, called `name` in --core.

    `zig_target` and `zig_flags` are zig's spelling of it; `machine.flags` is GCC's and Clang's. `emulator` verifies the
    library. `arduino` has the folders in which Arduino looks for a precompiled library, each with the float ABI
    ("hard", "softfp"; empty: the core's only one).
    """

    name: str
    about: str
    machine: Machine
    zig_target: str
    zig_flags: tuple[str, ...]
    emulator: Emulator
    arduino: tuple[tuple[str, str], ...] = ()

    def build(self) -> Build:
        return Build(lambda: self.machine, emulators=(self.emulator,), backend=backend)


def backend(machine: Machine, threads: int) -> Backend:
    if threads > 1:
        raise UsageError("a microcontroller's core runs one thread: remove --threads")
    from dlpack.targets.microcontroller.backend import CoreBackend  # it loads TVM

    return CoreBackend(machine)


def core_machine(name: str, registers: int, flags: tuple[str, ...], lanes: int = 1, dot: str = "") -> Machine:
    """A core without caches that matter: weights come from flash at one speed, in order.

    `registers` holds floats: the FPU's, or the integer registers that calls of floating-point functions preserve.
    """
    return replace(SCALAR, name=name, lanes=lanes, registers=registers, dot=dot, flags=flags)


def core_of(cores: tuple[Core, ...], values: Mapping[str, Any]) -> Core:
    """The core that --core names, by default the first. Raises UsageError for an unknown one."""
    wanted = values.get(CORE) or cores[0].name
    for core in cores:
        if core.name == wanted:
            return core
    raise UsageError(f"--{CORE} {wanted}: unknown core; known are: {', '.join(core.name for core in cores)}")
