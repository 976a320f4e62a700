"""source: the .cc file alone, for any compiler. It may have kernels for several machines: the compiler chooses by
architecture, and the predictor by what its processor can do."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from dlpack.errors import UsageError, did_you_mean
from dlpack.targets.arithmetic import ARITHMETIC, BYTES, OPTION, as_asked
from dlpack.targets.base import Build, Target, TargetOption
from dlpack.targets.cpu.machine import (
    AVX2,
    AVX512,
    AVX512VNNI,
    AVXVNNI,
    NEON,
    NEON32,
    NEON_DOTPROD,
    NEON_FP16,
    NEON_I8MM,
    SCALAR,
    SSE4,
    WASM,
    Machine,
)
from dlpack.targets.toolchains.emulate import Emulator
from dlpack.targets.toolchains.host import (
    host_machine,
    runs_avx2,
    runs_avx512,
    runs_avx512vnni,
    runs_avxvnni,
    runs_sse4,
)
from dlpack.targets.toolchains.processors import ARM64_MAX, CORTEX_A15, CORTEX_A57, host_processor

MACHINE = "machine"
"""The option that names machines."""


def _fixed(machine: Machine) -> Machine:
    return machine


BUILDS = (
    Build(
        partial(_fixed, AVX512VNNI),
        for_dots=True,
        emulators=(
            Emulator(
                "this computer as x86-64-v4 with VNNI",
                (),
                "x86_64-linux-none",
                ("-march=x86_64_v4+avx512vnni",),
                suffices=runs_avx512vnni,
            ),
        ),
    ),
    Build(partial(_fixed, AVX512), emulators=(host_processor("x86-64-v4", runs_avx512),)),
    Build(
        partial(_fixed, AVXVNNI),
        for_dots=True,
        emulators=(
            Emulator(
                "this computer as x86-64-v3 with VNNI",
                (),
                "x86_64-linux-none",
                ("-march=x86_64_v3+avxvnni",),
                suffices=runs_avxvnni,
            ),
        ),
    ),
    Build(partial(_fixed, AVX2), emulators=(host_processor("x86-64-v3", runs_avx2),)),
    Build(partial(_fixed, SSE4), emulators=(host_processor("x86-64-v2", runs_sse4),)),
    Build(partial(_fixed, NEON_I8MM), for_dots=True, emulators=(ARM64_MAX,)),
    Build(partial(_fixed, NEON_DOTPROD), for_dots=True, emulators=(ARM64_MAX,)),
    Build(partial(_fixed, NEON_FP16), halves=True, emulators=(ARM64_MAX,)),
    Build(partial(_fixed, NEON), emulators=(CORTEX_A57,)),
    Build(partial(_fixed, NEON32), emulators=(CORTEX_A15,)),
    Build(partial(_fixed, WASM)),
    Build(partial(_fixed, SCALAR), emulators=(host_processor("x86-64", lambda: True),)),
)
"""The best of an architecture first."""


def select(values: Mapping[str, Any]) -> tuple[Build, ...]:
    """The builds for the machines named by --machine, this computer's where none is; those in float16 by that alone."""
    given = values.get(MACHINE)
    wanted = [w for w in given.split(",") if w] if given else [host_machine().name]
    known = {build.machine().name: build for build in BUILDS}
    if unknown := [name for name in wanted if name not in known]:
        meant = did_you_mean(unknown[0], known)
        raise UsageError(f"--{MACHINE}: unknown machine {', '.join(unknown)}; known are: {', '.join(known)}{meant}")
    if not wanted:
        raise UsageError(f"--{MACHINE} names no machine; known are: {', '.join(known)}")
    named = tuple(build for name, build in known.items() if name in wanted)
    return named if values.get(ARITHMETIC) in (None, "float32") else as_asked(named, values, BYTES)


TARGET = Target(
    name="source",
    about="the .cc file alone",
    builds=BUILDS,
    select=select,
    options=(
        TargetOption(
            MACHINE,
            f"Machines to write kernels for, of {', '.join(b.machine().name for b in BUILDS)} "
            "[default: this computer's].",
            metavar="NAME,...",
        ),
        OPTION,
    ),
)
