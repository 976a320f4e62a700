"""What kernels compute with, on request: float16 on 64-bit Arm, 8-bit products of weights of few bits elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from dlpack.errors import UsageError
from dlpack.targets.base import Build, TargetOption
from dlpack.targets.cpu.machine import Machine

ARITHMETIC = "arithmetic"

OPTION = TargetOption(
    ARITHMETIC,
    "What is computed with: float32 (default); on 64-bit Arm float16 where the processor does, which needs "
    "--weights-type float16; int8: what is multiplied with weights of 8 bits and fewer is rounded to 8 bits.",
    metavar="float32|float16|int8",
)

HALVES, BYTES = "float16", "int8"


def as_asked(builds: tuple[Build, ...], values: Mapping[str, Any], *others: str) -> tuple[Build, ...]:
    """The builds that the option asks for, of a target that knows float32 and these `others`.

    Those in float16 only where it says so; for int8 all others round. Raises UsageError for another arithmetic.
    """
    wanted = values.get(ARITHMETIC) or "float32"
    if wanted not in ("float32", *others):
        *known, last = ("float32", *others)
        raise UsageError(f"--{ARITHMETIC} {wanted}: known are {', '.join(known)} and {last}")
    if wanted == BYTES:
        return tuple(_rounding(b) for b in builds if not b.halves)
    return tuple(b for b in builds if wanted == HALVES or not b.halves)


def with_bytes(builds: tuple[Build, ...]) -> Callable[[Mapping[str, Any]], tuple[Build, ...]]:
    """Chooses among the builds of a target with the option, which knows int8."""
    return lambda values: as_asked(builds, values, BYTES)


def _rounding(build: Build) -> Build:
    """The build with kernels that round; raises UsageError where its machine has none."""
    machine = build.machine()
    if not isinstance(machine, Machine) or not (machine.dot_operand == "uint8" or machine.by_lane):
        raise UsageError(
            f"--{ARITHMETIC} {BYTES}: there are no such kernels for {machine.name}; there are for x86-64 with AVX2 or "
            "more, 64-bit Arm and WebAssembly"
        )
    # Of Arm's instructions that one which has a sum for each lane; without it, it is made of others.
    dot = "sdot" if machine.by_lane else machine.dot
    return replace(build, machine=lambda: replace(machine, rounds=True, dot=dot), rounds=True)
