"""source: the .cc file alone, with vectors of the width that suits this computer; compile it where it shall run."""

from __future__ import annotations

from dlpack.targets.base import Build, Target
from dlpack.targets.toolchains.host import host_machine

TARGET = Target(name="source", about="the .cc file alone", builds=(Build(host_machine),))
