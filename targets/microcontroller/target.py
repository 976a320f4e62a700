"""Makes a target of a family of cores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlpack.targets.base import Build, Manifest, PackageOptions, Target, TargetOption
from dlpack.targets.microcontroller.cores import CORE, Core, core_of
from dlpack.targets.microcontroller.package import ARDUINO, BIND, FLASH, RAM, package_core
from dlpack.targets.toolchains.compiler import missing_compiler

OPTIONS = (
    TargetOption(
        CORE,
        "The core: m4 (default), m0, m7, m33 or m55 for cortex-m; imc (default) or imafc for rv32.",
        metavar="CORE",
    ),
    TargetOption(
        RAM, "RAM for the predictor and its stack, for example 64K; needing more is an error.", metavar="SIZE"
    ),
    TargetOption(FLASH, "Flash for code and weights, for example 256K; needing more is an error.", metavar="SIZE"),
    TargetOption(BIND, "Leave inputs and outputs in the program's own memory: it binds them, nothing is copied."),
    TargetOption(ARDUINO, "Also write an Arduino library."),
)


def microcontroller(name: str, about: str, cores: tuple[Core, ...]) -> Target:
    """The target for a family of cores, the default one first."""

    def select(values: Mapping[str, Any]) -> tuple[Build, ...]:
        return (builds[cores.index(core_of(cores, values))],)

    def package(folder: Path, manifest: Manifest, options: PackageOptions) -> str:
        return package_core(folder, manifest, core_of(cores, options.values), options)

    builds = tuple(core.build() for core in cores)
    return Target(name, about, builds, missing=missing_compiler, options=OPTIONS, select=select, package=package)
