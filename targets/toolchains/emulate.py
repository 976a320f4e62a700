"""Runs NAME.cc on a processor that this computer is not: compiled to a static program, under QEMU's user emulation."""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from dlpack.errors import ToolchainError
from dlpack.meaning.shape_sets import find_set, sets_of
from dlpack.targets.toolchains.compiler import FLAGS, compile_with, program_command

Array = np.ndarray[Any, Any]

TIMEOUT = 1800
"""Seconds that a run may take: emulation is 10 to 50 times slower than the processor."""


@dataclass(frozen=True)
class Emulator:
    """Another processor or system on this computer: `command` runs a static program, which zig compiles for
    `zig_target` with `flags`. `name` is what reports call it by, `package` the Debian package that has the command.
    Without a command this computer runs the program itself, where `suffices()`."""

    name: str
    command: tuple[str, ...]
    zig_target: str
    flags: tuple[str, ...] = ()
    package: str = "qemu-user"
    suffices: Callable[[], bool] = lambda: True

    def missing(self) -> str | None:
        """What is missing to run it, in words; None where nothing is."""
        if not self.command:
            return None if self.suffices() else self.name
        return None if shutil.which(self.command[0]) else f"{self.command[0]} (Debian's package {self.package})"

    def run(self, bundle: Path, inputs: Mapping[str, Array], machine: str) -> dict[str, Array]:
        """The outputs by name of the kernels for a machine. Raises ToolchainError where the program does not compile
        or run."""
        manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
        digest = hashlib.sha256((bundle / manifest["source"]).read_bytes()).hexdigest()
        program = _program(self, bundle, digest)
        number = find_set(manifest, {name: x.shape for name, x in inputs.items()}) or 0
        sets = sets_of(manifest)[number]
        weights = str(bundle / manifest["weights"]["file"]) if "weights" in manifest else "-"
        with tempfile.TemporaryDirectory(prefix="dlpack-run-") as scratch:
            given = [Path(scratch) / f"in{k}" for k in range(len(sets["inputs"]))]
            made = [Path(scratch) / f"out{k}" for k in range(len(sets["outputs"]))]
            for path, t in zip(given, sets["inputs"], strict=True):
                path.write_bytes(np.ascontiguousarray(inputs[t["name"]], t["dtype"]).tobytes())
            command = [*self.command, str(program), weights, str(number), machine, *map(str, [*given, *made])]
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT, check=False
                )
            except (OSError, subprocess.TimeoutExpired) as e:
                raise ToolchainError(f"{self.name} cannot run the bundle: {e}") from e
            if done.returncode:
                reason = "\n".join(done.stderr.strip().splitlines()[-8:]) or f"exit status {done.returncode}"
                raise ToolchainError(f"{self.name} cannot run the bundle: {reason}")
            return {
                t["name"]: np.fromfile(path, t["dtype"]).reshape(t["shape"])
                for path, t in zip(made, sets["outputs"], strict=True)
            }


@cache
def _program(emulator: Emulator, bundle: Path, digest: str) -> Path:  # noqa: ARG001 - the digest is the cache's key
    """The bundle's predictor with drive.cc around it."""
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    scratch = Path(tempfile.mkdtemp(prefix="dlpack-drive-"))
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    program = scratch / "drive"
    with resources.as_file(resources.files(__package__)) as folder:
        name = manifest["name"]
        defines = [
            f"-DNAME={name}",
            f"-D{name.upper()}_FREESTANDING",
            f'-DHEADER="{manifest["header"]}"',
            f"-I{bundle}",
        ]
        defines += ["-DSEVERAL_SHAPES"] if "shapes" in manifest else []
        defines += ["-DSEVERAL_VARIANTS"] if "variants" in manifest else []
        bare = ["-nostdlib", "-fno-stack-protector", "-fno-builtin-strlen"] if "linux" in emulator.zig_target else []
        flags = [*FLAGS, *emulator.flags, *defines, "-static", *bare]
        sources = [bundle / manifest["source"], folder / "drive.cc"]
        compile_with(program_command(sources, program, emulator.zig_target, flags), program)
    return program
