"""What a target is to the rest of the compiler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dlpack.targets.cpu.machine import Machine

Array = np.ndarray[Any, Any]
Manifest = dict[str, Any]


@dataclass(frozen=True)
class TargetOption:
    """An option of `dlpack build` that only the targets have that declare it.

    `name` as on the command line, without the dashes. It is a flag, unless `metavar` names the value that it takes.
    """

    name: str
    help: str
    metavar: str = ""


@dataclass(frozen=True)
class PackageOptions:
    """What a target's packaging gets from the command line: the compiler, and the target's own options by name."""

    cc: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """A place where a predictor runs.

    `machine()` describes its core. A target makes either a shared library, which `library` (file name pattern),
    `flags` (the compiler's) and `zig_target` describe; or what its own `package(folder, manifest, options)` compiles
    and writes, which enters it into the manifest and returns a line for the log; or neither: the .cc alone.
    `downloads_weights`: the weights come over a network, so they stay out of the .cc whatever their size.
    `options`: those of `dlpack build` that are this target's alone; `package` is told their values.

    `missing()` is what is missing to build it (None: nothing), `runs_here()` whether this computer can run it.
    `run(bundle, inputs)` gives the outputs by name, for each build in the bundle, where it is not a library for
    `dlpack.load`; `measure(bundle, inputs, rounds)` gives for each build the milliseconds of the `runs`, the `cpu`
    time of each, and the `steps` of a run as (name, median).
    """

    name: str
    about: str
    machine: Callable[[], Machine]
    library: str = ""
    zig_target: str = ""
    flags: tuple[str, ...] = ()
    runs_here: Callable[[], bool] = lambda: False
    missing: Callable[[], str | None] = lambda: None
    options: tuple[TargetOption, ...] = ()
    downloads_weights: bool = False
    package: Callable[[Path, Manifest, PackageOptions], str] | None = None
    run: Callable[[Path, Mapping[str, Array]], dict[str, dict[str, Array]]] | None = None
    measure: Callable[[Path, Mapping[str, Array], int], dict[str, dict[str, Any]]] | None = None
