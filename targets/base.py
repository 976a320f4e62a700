"""What a target is to the rest of the compiler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dlpack.targets.common.machine import Machine


@dataclass(frozen=True)
class Target:
    """A place where a predictor runs.

    `machine()` describes its core. `library` is the file name pattern of the compiled library ("" for none), `flags`
    are the compiler's for it, `zig_target` what zig calls the platform. `runs_here()` tells whether this computer can
    run it, `missing()` what is missing to build it (None: nothing).
    """

    name: str
    about: str
    machine: Callable[[], Machine]
    library: str = ""
    zig_target: str = ""
    flags: tuple[str, ...] = ()
    runs_here: Callable[[], bool] = lambda: False
    missing: Callable[[], str | None] = lambda: None
    extras: tuple[Callable[[Path, str], None], ...] = field(default=())
