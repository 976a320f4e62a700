"""Arithmetic in float16 on request: an option of the targets with kernels for 64-bit Arm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dlpack.errors import UsageError
from dlpack.targets.base import Build, TargetOption

ARITHMETIC = "arithmetic"

OPTION = TargetOption(
    ARITHMETIC,
    "What 64-bit Arm computes with: float32 (default), or float16 where the processor does; needs --weights-type "
    "float16.",
    metavar="float32|float16",
)


def as_asked(builds: tuple[Build, ...], values: Mapping[str, Any]) -> tuple[Build, ...]:
    """The builds that the option asks for: those in float16 only where it says so."""
    wanted = values.get(ARITHMETIC) or "float32"
    if wanted not in ("float32", "float16"):
        raise UsageError(f"--{ARITHMETIC} {wanted}: known are float32 and float16")
    return tuple(b for b in builds if wanted == "float16" or not b.halves)
