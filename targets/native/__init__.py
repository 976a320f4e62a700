"""native: this computer, with all that its processor can do."""

from __future__ import annotations

from dlpack.targets.arithmetic import OPTION as ARITHMETIC
from dlpack.targets.arithmetic import with_bytes
from dlpack.targets.base import Build, Target
from dlpack.targets.toolchains.compiler import missing_compiler
from dlpack.targets.toolchains.host import host_machine, library_name

BUILDS = (Build(host_machine, library_name(), flags=("-march=native",), runs_here=lambda: True),)

TARGET = Target(
    name="native",
    about="this computer",
    builds=BUILDS,
    select=with_bytes(BUILDS),
    missing=missing_compiler,
    options=(ARITHMETIC,),
)
