"""native: this computer, with all that its processor can do."""

from __future__ import annotations

from dlpack.targets.base import Build, Target
from dlpack.targets.toolchains.compiler import missing_compiler
from dlpack.targets.toolchains.host import host_machine, library_name

TARGET = Target(
    name="native",
    about="this computer",
    builds=(Build(host_machine, library_name(), flags=("-march=native",), runs_here=lambda: True),),
    missing=missing_compiler,
)
